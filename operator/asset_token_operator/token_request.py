"""What is sent to Asset for a token, by the operator and by the plugin's trial."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asset_token_operator.model import Credentials, Spec

TOKEN_PATH: Final = "/v0/auth/token"  # noqa: S105 - a path
AROUND: Final = re.compile(r"^[\s\ufeff]+|[\s\ufeff]+$")


def trim_credential(value: str) -> str:
    """A credential without what editors and `echo` leave around it: line breaks, blanks, a byte order mark."""
    return AROUND.sub("", value)


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
