"""What the stand-in for Asset's API can be told to do: behaviours, and failures to give in place of a token.

A module of its own because all of it is plain values: a test can name a behaviour, or parametrise over every failure,
without a server, and the server stays free of the many ways to be wrong.
"""

from __future__ import annotations

import json
from collections import defaultdict, deque
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Selection: TypeAlias = tuple[str | None, str | None]  # a client_id, a business_id; None is any
ReplyKind: TypeAlias = Literal["answer", "hang", "drip", "disconnect", "truncate"]
TokenKind: TypeAlias = Literal[
    "jwt", "opaque", "jwt_without_exp", "expired_jwt", "with_newline", "blank", "absent", "not_a_string", "huge"
]

REDIRECT_PATH: Final = "/v0/auth/elsewhere"
RATE_HEADERS: Final = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
ABSENT: Final = object()
"""Stands for a JSON field that is left out."""

# ---------------------------------------------------------------------------------------------------------------------
# Replies and failures


@dataclass(frozen=True)
class Reply:
    """What goes back over the wire, and how.

    Attributes:
        headers: Laid over the API's own (`date`, `content-type`, `x-ratelimit-…`); None takes one of those away,
            save `date`.
        kind: `answer` sends it as it is; `hang` never answers; `drip` sends a byte a second; `disconnect` closes
            without a byte; `truncate` declares more content than it sends.
    """

    status: int = 200
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    kind: ReplyKind = "answer"


@dataclass(frozen=True)
class Failure(Reply):
    """A reply given in place of a token."""


def json_reply(status: int, body: object, headers: Mapping[str, str | None] | None = None) -> Failure:
    """Build a failure with a JSON body."""
    return Failure(status, json.dumps(body).encode(), headers or {})


def oauth_error(status: int, error: str, description: str) -> Failure:
    """Build an error in the form of RFC 6749, section 5.2."""
    return json_reply(status, {"error": error, "error_description": description})


def fastapi_error(status: int, name: str, message: str) -> Failure:
    """Build an error in the form of FastAPI's request validation."""
    return json_reply(status, {"detail": [{"loc": ["body", name], "msg": message, "type": "value_error"}]})


def redirect(status: int = 307) -> Failure:
    """Build a redirect to a path of the stand-in that notes whether credentials arrive; 307 and 308 resend the form."""
    return Failure(status, headers={"location": REDIRECT_PATH})


def too_many_requests(retry_after: str | None = None) -> Failure:
    """Build a 429 whose headers say that nothing remains, whatever the stand-in counted."""
    headers = {"x-ratelimit-remaining": "0", "retry-after": retry_after}
    return json_reply(429, {"detail": "Rate limit exceeded"}, headers)


_HTML: Final[Mapping[str, str | None]] = {"content-type": "text/html"}
_LOOKS_FINE: Final = b'{"access_token": "looks-fine", "token_type": "Bearer", "expires_in": 3600'

INVALID_CLIENT: Final = oauth_error(401, "invalid_client", "Client authentication failed")
INVALID_SCOPE: Final = oauth_error(400, "invalid_scope", "The requested scope is invalid")
FORBIDDEN: Final = json_reply(403, {"detail": "Forbidden"})
NOT_FOUND: Final = json_reply(404, {"detail": "Not Found"})
FASTAPI_422: Final = fastapi_error(422, "client_id", "Field required")
FASTAPI_DETAIL: Final = json_reply(400, {"detail": "Something is wrong with this request"})
SERVER_ERROR_500: Final = Failure(500, b"Internal Server Error", {"content-type": "text/plain"})
BAD_GATEWAY_HTML: Final = Failure(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", _HTML)
UNAVAILABLE_503: Final = json_reply(503, {"detail": "Service Unavailable"})
TOO_MANY_REQUESTS: Final = too_many_requests()
TOO_MANY_REQUESTS_BARE: Final = json_reply(429, {"detail": "Rate limit exceeded"}, dict.fromkeys(RATE_HEADERS))
REDIRECT: Final = redirect()
EMPTY_200: Final = Failure(200)
HTML_200: Final = Failure(200, b"<html><body>Down for maintenance</body></html>", _HTML)
TRUNCATED_JSON: Final = Failure(200, _LOOKS_FINE)
JSON_ARRAY: Final = Failure(200, b"[" + _LOOKS_FINE + b"}]")
DEEPLY_NESTED: Final = Failure(200, _LOOKS_FINE + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
ENORMOUS: Final = Failure(200, _LOOKS_FINE + b', "x": "' + b"x" * 10_000_000 + b'"}')
HANG: Final = Failure(kind="hang")
DRIP: Final = Failure(200, _LOOKS_FINE + b"}", kind="drip")
DISCONNECT: Final = Failure(kind="disconnect")
TRUNCATED_BODY: Final = Failure(200, _LOOKS_FINE + b"}", kind="truncate")

FAILURES: Final[Mapping[str, Failure]] = {
    "invalid_client": INVALID_CLIENT,
    "invalid_scope": INVALID_SCOPE,
    "forbidden": FORBIDDEN,
    "not_found": NOT_FOUND,
    "fastapi_422": FASTAPI_422,
    "fastapi_detail": FASTAPI_DETAIL,
    "server_error_500": SERVER_ERROR_500,
    "bad_gateway_html": BAD_GATEWAY_HTML,
    "unavailable_503": UNAVAILABLE_503,
    "too_many_requests": TOO_MANY_REQUESTS,
    "too_many_requests_bare": TOO_MANY_REQUESTS_BARE,
    "redirect": REDIRECT,
    "empty_200": EMPTY_200,
    "html_200": HTML_200,
    "truncated_json": TRUNCATED_JSON,
    "json_array": JSON_ARRAY,
    "deeply_nested": DEEPLY_NESTED,
    "enormous": ENORMOUS,
    "hang": HANG,
    "drip": DRIP,
    "disconnect": DISCONNECT,
    "truncated_body": TRUNCATED_BODY,
}
"""Every ready-made failure by name, to parametrise a test with."""

# ---------------------------------------------------------------------------------------------------------------------
# Behaviours


@dataclass(frozen=True)
class Behaviour:
    """How a token request is answered once it has kept the API's rules.

    Attributes:
        expires_in: A name (`duration`, `timestamp`, `absent`, `string`, `timestamp_string`, `past_timestamp`, `zero`,
            `negative`, `nan`, `absurd`, `contradicts`, `null`), or any other value, sent as it is.
        token: The form of `access_token`.
        lifetime: Seconds granted, whatever was asked.
        granted_scopes: Scopes granted, whatever was asked.
        echo_scope: Whether the response has a `scope` field.
        token_type: None leaves the field out.
        not_before_delay: Seconds from `iat` to `nbf`.
        latency: Seconds, of real time, before the answer.
        failure: Given in place of a token, right credentials or not.
        headers: Laid over those of a token response; None takes one away.
    """

    expires_in: object = "duration"
    token: TokenKind = "jwt"
    lifetime: int | None = None
    granted_scopes: tuple[str, ...] | None = None
    echo_scope: bool = False
    issuer: str | None = None
    audience: str | tuple[str, ...] | None = None
    token_type: str | None = "Bearer"
    not_before_delay: int = 0
    latency: float = 0
    failure: Failure | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict, hash=False)

    def said_expiry(self, lifetime: int, now: int) -> object:
        """Give the response's `expires_in` for a token of that lifetime in seconds, or ABSENT."""
        named: dict[object, object] = {
            "duration": lifetime,
            "timestamp": now + lifetime,
            "absent": ABSENT,
            "string": str(lifetime),
            "timestamp_string": str(now + lifetime),
            "past_timestamp": now - 3600,
            "zero": 0,
            "negative": -lifetime,
            "nan": float("nan"),
            "absurd": 10**18,
            "contradicts": 10 * lifetime,
            "null": None,
        }
        return named.get(self.expires_in, self.expires_in) if isinstance(self.expires_in, str) else self.expires_in


class Plans:
    """The behaviours that were set: for each selection of requests, those of the next ones, and the usual one."""

    def __init__(self) -> None:
        self._next: defaultdict[Selection, deque[Behaviour]] = defaultdict(deque)
        self._usual: dict[Selection, Behaviour] = {}

    def add(self, behaviour: Behaviour, client_id: str | None, business_id: str | None, times: int | None) -> None:
        """Set the usual behaviour of a selection, or that of so many of its next requests."""
        if times is None:
            self._usual[client_id, business_id] = behaviour
        else:
            self._next[client_id, business_id].extend(repeat(behaviour, times))

    def take(self, client_id: str | None, business_id: str | None) -> Behaviour:
        """Use up the behaviour of the narrowest selection that a request is in."""
        for selection in ((client_id, business_id), (None, business_id), (client_id, None), (None, None)):
            if self._next[selection]:
                return self._next[selection].popleft()
            if selection in self._usual:
                return self._usual[selection]
        return Behaviour()
