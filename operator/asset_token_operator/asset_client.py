"""Asset's token endpoint. The only importer of httpx.

Credentials are sent in the form's body, over verified TLS, to the configured endpoint and nowhere else: redirects are
not followed. An answer is read up to a limit, within a time for the whole request, so neither an endless body nor one
that drips can hold a worker.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, Self

import httpx

from asset_token_operator.answers import LONGEST_BODY, Reply, read_reply
from asset_token_operator.errors import AssetUnavailableError, BrokenAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from asset_token_operator.model import Credentials, Environment, Spec

TIMEOUT_SECONDS: Final = 15.0
"""For a request in all, from connecting to the answer's last byte."""

TOKEN_PATH: Final = "/v0/auth/token"  # noqa: S105 - a path
CONNECTIONS: Final = 100


@dataclass(frozen=True, slots=True)
class AssetClient:
    """Requests tokens. Open it with `async with`.

    Attributes:
        endpoints: The base URLs.
        time_left: How long a request may take at most; raises NotLeadingError where none may be sent.
    """

    endpoints: Mapping[Environment, str]
    http: httpx.AsyncClient
    time_left: Callable[[], timedelta]

    @classmethod
    def connect(
        cls, endpoints: Mapping[Environment, str], ca_file: str | None, time_left: Callable[[], timedelta]
    ) -> Self:
        """A client for these base URLs; proxies come from the usual variables, and other CAs too.

        Args:
            endpoints: The base URLs.
            ca_file: Certificates of more CAs, PEM.
            time_left: See above.

        Raises:
            AssetUnavailableError: The variables can't be used.
        """
        for name in ("httpx", "httpcore"):
            # Their debugging tells the answers' headers, where a server may put anything.
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            trusted = httpx.create_ssl_context()
            if ca_file is not None:
                trusted.load_verify_locations(ca_file)
            http = httpx.AsyncClient(
                verify=trusted,
                follow_redirects=False,
                timeout=TIMEOUT_SECONDS,
                limits=httpx.Limits(max_connections=CONNECTIONS),
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none of one tenant's for the next one
                mounts={"http://": None},  # plain http is for loopback only: through a proxy it would leave it
            )
        except (OSError, ValueError, httpx.InvalidURL) as error:
            raise AssetUnavailableError(
                f"The proxy or CA variables can't be used ({type(error).__name__}); check HTTPS_PROXY, ALL_PROXY,"
                " SSL_CERT_FILE and SSL_CERT_DIR."
            ) from None
        return cls(endpoints, http, time_left)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def request_token(self, spec: Spec, credentials: Credentials) -> Reply:
        """Request a token as the spec wants it.

        Raises:
            AssetUnavailableError: There was no answer.
            BrokenAnswerError: It had no end.
            NotLeadingError: None may be sent now.
        """
        url = self.endpoints[spec.environment] + TOKEN_PATH
        seconds = min(TIMEOUT_SECONDS, self.time_left().total_seconds())
        try:
            async with asyncio.timeout(seconds):
                return await self._post(url, token_form(spec, credentials))
        except TimeoutError:
            raise AssetUnavailableError(f"Asset did not answer within {seconds:.0f} s.") from None
        except (httpx.TransportError, httpx.InvalidURL, UnicodeError) as error:
            raise AssetUnavailableError(f"Asset could not be reached ({type(error).__name__}).") from None

    async def _post(self, url: str, form: Mapping[str, str | list[str]]) -> Reply:
        body = bytearray()
        async with self.http.stream("POST", url, data=form, extensions={"trace": self._look_once_more}) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > LONGEST_BODY:
                    raise BrokenAnswerError(f"Asset's answer is longer than {LONGEST_BODY} bytes.")
        return read_reply(response.status_code, response.headers, bytes(body))

    async def _look_once_more(self, event: str, _: object) -> None:
        """A connection may have taken long, or the machine was suspended: ask again just before the first byte."""
        if event == "http11.send_request_headers.started":
            self.time_left()


def token_form(spec: Spec, credentials: Credentials) -> dict[str, str | list[str]]:
    """The form of a token request (RFC 6749, section 4.4.2, and RFC 8707, section 2)."""
    form: dict[str, str | list[str]] = {
        "grant_type": "client_credentials",
        "client_id": credentials.client_id.get_secret_value(),
        "client_secret": credentials.client_secret.get_secret_value(),
    }
    if spec.business_id is not None:
        form["business_id"] = spec.business_id
    if spec.scopes:
        form["scope"] = " ".join(spec.scopes)
    if spec.lifetime is not None:
        form["expires_in"] = str(int(spec.lifetime.total_seconds()))
    if spec.resources:
        form["resource"] = list(spec.resources)
    return form
