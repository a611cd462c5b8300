"""A trial request: whether Asset issues a token for an AssetToken, asked once and only when the user says so.

The token is thrown away, and nothing of it or of the credentials is shown.
"""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urlsplit

from pydantic import SecretStr

from asset_token_operator.answers import LONGEST_BODY, read_answer, read_reply
from asset_token_operator.errors import AssetError
from asset_token_operator.kubectl.checkup import Check
from asset_token_operator.kubectl.cluster import core_path, decode, part
from asset_token_operator.kubectl.reach import connect, why
from asset_token_operator.model import Credentials
from asset_token_operator.parsing import SpecError, parse_asset_token
from asset_token_operator.proxies import ProxyError, is_loopback, proxy_for
from asset_token_operator.token_request import TOKEN_PATH, token_form, trim_credential

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asset_token_operator.answers import Reply
    from asset_token_operator.kubectl.cluster import Cluster, Json

ABOUT: Final = "Trial request"


def trial(cluster: Cluster, body: Json, urls: Mapping[str, str]) -> Iterator[Check]:
    """Ask Asset for a token as the operator would. It costs one request of the tenant's budget."""
    try:
        token = parse_asset_token(body)
    except SpecError:
        yield Check(ABOUT, False, "the spec can't be read", "apply this version's crds/")
        return
    data = part(cluster.get(core_path("secrets", *token.credentials_key)), "data")
    keys = (token.spec.credentials.client_id_key, token.spec.credentials.client_secret_key)
    client_id, client_secret = (trim_credential(decode(data.get(key)) or "") for key in keys)
    if not client_id or not client_secret:
        yield Check(ABOUT, False, f"the credentials of {token.key} lack a key", "correct the credentials Secret")
        return
    url = urls[token.spec.environment]
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        yield Check(ABOUT, False, f"credentials are sent by https only, not to {url}", "give an https URL")
        return
    credentials = Credentials(SecretStr(client_id), SecretStr(client_secret))
    try:
        answer = read_answer(_ask(url, token_form(token.spec, credentials)), token.spec)
    except AssetError as error:
        yield Check(ABOUT, False, f"{token.key}: {error}")
    except ProxyError as error:
        yield Check(ABOUT, False, str(error), "correct it")
    except (OSError, http.client.HTTPException) as error:
        yield Check(ABOUT, False, f"Asset can't be reached from here: {why(error)}", "see the lines on Asset")
    else:
        scopes = answer.scopes or (answer.claims.scopes if answer.claims else None) or ()
        yield Check(ABOUT, True, f"Asset issues a token for {token.key}; its scopes: {' '.join(scopes) or 'not said'}")


def _ask(url: str, form: Mapping[str, str | list[str]]) -> Reply:
    connection = connect(url, proxy_for(url))
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    try:
        connection.request("POST", urlsplit(url).path.rstrip("/") + TOKEN_PATH, urlencode(form, doseq=True), headers)
        response = connection.getresponse()
        said = {name.lower(): value for name, value in response.headers.items()}
        return read_reply(response.status, said, response.read(LONGEST_BODY))
    finally:
        connection.close()
