"""Reads what Asset answers to a token request: bytes in, a `TokenAnswer` or an error out.

It is a module of its own, without a network, because a third party may answer anything: whatever the bytes are,
nothing but an `AssetError` leaves this module, and no byte of the body leaves it in a message.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import jwt
from pydantic import SecretStr

from asset_token_operator.errors import (
    AssetError,
    AssetUnavailableError,
    BrokenAnswerError,
    RateLimitedError,
    RequestRefusedError,
)

LONGEST_TOKEN: Final = 16 * 1024
"""Characters of the longest token that is taken; longer ones fit no HTTP header."""

LONGEST_BODY: Final = 256 * 1024
"""Bytes of an answer that are read."""

B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750, section 2.1: what may stand behind `Bearer`; it has no line break, so none reaches a header."""

REFUSALS: Final = {
    "invalid_client": "the client credentials are not accepted; correct the credentials Secret",
    "invalid_request": "the request is malformed; check spec.businessId, spec.resources and spec.lifetime",
    "invalid_scope": "a scope is unknown or not allowed for these credentials; correct spec.scopes",
    "invalid_target": "a resource is unknown or not allowed; correct spec.resources",
    "unauthorized_client": "these credentials may not request tokens; check them in the Asset Dashboard",
}
"""What the error codes of RFC 6749, section 5.2, and RFC 8707, section 2, mean for the user."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a JWT says of itself. Read, never verified: there is no key for it.

    Attributes:
        exp: `exp` (RFC 7519, section 4.1.4) as it stands there, None where it isn't there.
        jti: `jti`, where it is a string.
        scopes: `scope` (RFC 8693, section 4.2) or `scp`; None where neither is readable.
    """

    exp: object = None
    jti: str | None = None
    scopes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A token, and what the answer says about it.

    Attributes:
        expires_in: `expires_in` as it stands in the answer, None where it isn't there.
        scopes: `scope`, None where it isn't there: then RFC 6749, section 5.1, says that all were granted.
        claims: The JWT's; None where the token is no readable JWT.
    """

    access_token: SecretStr
    expires_in: object
    scopes: tuple[str, ...] | None
    claims: Claims | None


def read_answer(status: int, body: bytes) -> TokenAnswer:
    """Read an answer.

    Raises:
        AssetError: It holds no usable token.
    """
    if status != HTTPStatus.OK:
        raise _failure(status, body)
    answer = _read_object(body)
    if answer is None:
        raise BrokenAnswerError("Asset's answer is not a JSON object.")
    token_type = answer.get("token_type")
    if token_type is not None and (not isinstance(token_type, str) or token_type.lower() != "bearer"):
        raise BrokenAnswerError("Asset answered with a token that is not a Bearer token.")
    token = answer.get("access_token")
    if not isinstance(token, str) or not token.strip():
        raise BrokenAnswerError("Asset's answer has no access_token.")
    if len(token) > LONGEST_TOKEN:
        raise BrokenAnswerError(f"Asset's access_token is longer than {LONGEST_TOKEN} characters.")
    if not B64TOKEN.fullmatch(token):
        raise BrokenAnswerError("Asset's access_token has characters that no Authorization header may carry.")
    return TokenAnswer(
        SecretStr(token), answer.get("expires_in"), _read_scopes(answer.get("scope")), read_claims(token)
    )


def _failure(status: int, body: bytes) -> AssetError:
    """The error that an answer other than 200 means."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RateLimitedError("Asset's rate limit is used up (429).")
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return AssetUnavailableError(f"Asset answered {status}.")
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return BrokenAnswerError(f"Asset answered with a redirect ({status}), which is not followed with credentials.")
    if status < HTTPStatus.BAD_REQUEST:
        return BrokenAnswerError(f"Asset answered {status} instead of 200.")
    code = (_read_object(body) or {}).get("error")
    if isinstance(code, str) and code in REFUSALS:
        return RequestRefusedError(f"Asset refused the request ({status} {code}): {REFUSALS[code]}.")
    return RequestRefusedError(f"Asset refused the request ({status}); check the spec and the credentials Secret.")


def _read_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None where it is anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_claims(token: str) -> Claims | None:
    """Read a JWT's claims without verifying it; None where the token is none."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, RecursionError):
        return None
    jti = claims.get("jti")
    return Claims(
        exp=claims.get("exp"),
        jti=jti if isinstance(jti, str) and jti else None,
        scopes=_read_scopes(claims.get("scope", claims.get("scp"))),
    )


def _read_scopes(value: object) -> tuple[str, ...] | None:
    match value:
        case str():
            return tuple(sorted(set(value.split())))
        case list():
            return tuple(sorted({scope for scope in value if isinstance(scope, str)}))
        case _:
            return None
