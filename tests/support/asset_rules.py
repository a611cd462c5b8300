"""The rules that the stand-in for Asset's API keeps: what a token request may say, what a token is, what may be spent.

A module of its own because none of it needs a server or a clock. Nothing here is safe for threads: the server locks.
"""

from __future__ import annotations

import math
import re
import secrets
import sys
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.asset_behaviour import (
    ABSENT,
    INVALID_CLIENT,
    INVALID_SCOPE,
    Behaviour,
    Reply,
    fastapi_error,
    json_reply,
    oauth_error,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

Claims: TypeAlias = dict[str, object]
LimitMode: TypeAlias = Literal["off", "fixed", "sliding"]
RetryAfter: TypeAlias = Literal["absent", "seconds", "date"]
Verdict: TypeAlias = Literal["valid", "unknown", "revoked", "not valid yet", "expired", "other audience", "lacks scope"]

_DEFAULT_LIFETIME: Final = 3600
_SCOPE_TOKEN: Final = r"[!#-\[\]-~]+"
_FIELDS: Final[dict[str, tuple[str, int, str]]] = {  # what a value matches; else the status, and RFC 6749's error code
    "client_id": (r"(?s:.+)", 422, ""),
    "client_secret": (r"(?s:.+)", 422, ""),
    "grant_type": (r"client_credentials", 400, "unsupported_grant_type"),
    "business_id": (r"[A-Za-z0-9_-]{1,128}", 422, ""),
    "scope": (rf"{_SCOPE_TOKEN}(?: {_SCOPE_TOKEN})*", 400, "invalid_scope"),
    "expires_in": (r"0*[1-9][0-9]{0,9}", 422, ""),
    "resource": (r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?\[\]@!$&'()*+,;=%-]+", 400, "invalid_target"),
}
_REQUIRED: Final = ("client_id", "client_secret")
_B64TOKEN: Final = r"[A-Za-z0-9._~+/-]+=*"  # RFC 6750, section 2.1
_NO_TOKEN: Final[dict[str, object]] = {"absent": ABSENT, "blank": " ", "not_a_string": 12345}

# ---------------------------------------------------------------------------------------------------------------------
# Requests


class RefusedError(Exception):
    """A request that gets no token; with a violation, when it broke the API's rules."""

    def __init__(self, reply: Reply, violation: str | None = None) -> None:
        super().__init__(violation)
        self.reply = reply
        self.violation = violation


class TokenForm:
    """The fields of a token request, however wrong they are."""

    def __init__(self, fields: Sequence[tuple[str, str]], refusal: RefusedError | None = None) -> None:
        self._fields = fields
        self._refusal = refusal

    @classmethod
    async def read(cls, request: web.BaseRequest) -> Self:
        """Read a request; what is wrong with it is kept for `check`."""
        if request.content_type != "application/x-www-form-urlencoded":
            unsupported = json_reply(415, {"detail": "Unsupported Media Type"})
            return cls((), RefusedError(unsupported, f"content type {request.content_type}, not a form"))
        try:
            body = (await request.read()).decode("ascii")
            fields = parse_qsl(body, keep_blank_values=True, strict_parsing=True, errors="strict")
        except ValueError:
            return cls((), RefusedError(fastapi_error(422, "body", "Unreadable form"), "unreadable form"))
        if request.query_string:
            return cls(fields, _unwanted("query"))
        if "authorization" in request.headers:
            return cls(fields, _unwanted("authorization"))
        return cls(fields)

    def all(self, name: str) -> tuple[str, ...]:
        return tuple(value for key, value in self._fields if key == name)

    def one(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def expires_in(self) -> int | None:
        asked = self.one("expires_in")
        return int(asked) if asked and re.fullmatch(_FIELDS["expires_in"][0], asked) else None

    def check(self) -> None:
        """Raise RefusedError for the first of the API's rules that the request breaks; it never says a value."""
        if self._refusal:
            raise self._refusal
        counted = Counter(name for name, _ in self._fields)
        for name, times in counted.items():
            if name not in _FIELDS:
                raise _unwanted(name)
            if times > 1 and name != "resource":
                raise RefusedError(fastapi_error(422, name, "Given more than once"), f"repeated: {name}")
        for name in _REQUIRED:
            if name not in counted:
                raise RefusedError(fastapi_error(422, name, "Field required"), f"missing: {name}")
        for name, value in self._fields:
            pattern, status, error = _FIELDS[name]
            if not re.fullmatch(pattern, value):
                message = f"{name} has a wrong syntax"
                reply = oauth_error(status, error, message) if error else fastapi_error(status, name, message)
                raise RefusedError(reply, f"syntax: {name}")


def _unwanted(name: str) -> RefusedError:
    return RefusedError(fastapi_error(422, name, "Extra inputs are not permitted"), f"unknown: {name}")


@dataclass(frozen=True)
class Client:
    """A tenant's credentials and what they may have."""

    secret: str = field(repr=False)
    scopes: tuple[str, ...]


def authorize(client: Client | None, form: TokenForm) -> Sequence[str]:
    """Give the scopes that are asked for, or all, when none are.

    Raises:
        RefusedError: The credentials are wrong, or may not have them.
    """
    if client is None or client.secret != form.one("client_secret"):
        raise RefusedError(INVALID_CLIENT)
    asked = (form.one("scope") or " ".join(client.scopes)).split()
    if not set(asked) <= set(client.scopes):
        raise RefusedError(INVALID_SCOPE)
    return asked


# ---------------------------------------------------------------------------------------------------------------------
# Tokens


@dataclass(frozen=True)
class Issued:
    """An answer to a token request, and what is remembered of a token in it."""

    reply: Reply
    jti: str | None = None
    token: str | None = field(default=None, repr=False)


class Issuer:
    """Issues tokens, and judges them as a resource server would.

    Attributes:
        host: The API's own name: the tokens' `iss` and, unless a resource is asked for, their `aud`.
        lifetime_cap: The most seconds granted, or None.
    """

    def __init__(self, host: str, lifetime_cap: int | None) -> None:
        self.host = host
        self.lifetime_cap = lifetime_cap
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._numbers = count(1)
        self._issued: dict[str, Claims] = {}
        self._revoked: set[str] = set()

    def issue(self, form: TokenForm, scopes: Sequence[str], behaviour: Behaviour, now: int) -> Issued:
        """Answer a request that kept every rule."""
        lifetime = min(form.expires_in or _DEFAULT_LIFETIME, self.lifetime_cap or sys.maxsize)
        lifetime = lifetime if behaviour.lifetime is None else behaviour.lifetime
        scopes = scopes if behaviour.granted_scopes is None else behaviour.granted_scopes
        issued_at = now - lifetime - 60 if behaviour.token == "expired_jwt" else now
        claims: Claims = {
            "iss": behaviour.issuer or self.host,
            "aud": self._audience(form, behaviour),
            "iat": issued_at,
            "nbf": issued_at + behaviour.not_before_delay,
            "exp": issued_at + lifetime,
            "jti": f"token-{next(self._numbers)}",
            "scope": " ".join(scopes),
            "client_id": form.one("client_id"),
            "business_id": form.one("business_id"),
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        sent = self._token(claims, behaviour)
        fields = {
            "access_token": sent,
            "token_type": behaviour.token_type or ABSENT,
            "expires_in": behaviour.said_expiry(lifetime, now),
            "scope": claims["scope"] if behaviour.echo_scope else ABSENT,
        }
        body = {name: value for name, value in fields.items() if value is not ABSENT}
        reply = json_reply(200, body, behaviour.headers)
        if not isinstance(sent, str) or not sent.strip():
            return Issued(reply)
        self._issued[sent.strip()] = claims
        return Issued(reply, str(claims["jti"]), sent)

    def claims(self, token: str) -> Claims | None:
        """Read a token that was issued here, JWT or opaque; None when it wasn't, or its signature is wrong.

        What a JWT leaves out, such as its expiry, is known nevertheless.
        """
        known = self._issued.get(token)
        if token.count(".") != 2:
            return known
        try:
            signed: Claims = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["ES256"],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return None
        return {**(known or {}), **signed}

    def revoke(self, token: str) -> None:
        """Refuse a token from now on, though it hasn't expired."""
        self._revoked.add(token)

    def judge(self, token: str, *, scope: str | None, audience: str | None, at: float) -> Verdict:
        """Say whether the audience would take the token at that moment for all of those scopes, or why not."""
        claims = self.claims(token) if re.fullmatch(_B64TOKEN, token) else None
        if claims is None:
            return "unknown"
        named = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        objections: dict[Verdict, bool] = {
            "revoked": token in self._revoked,
            "not valid yet": at < int(str(claims["nbf"])),
            "expired": at >= int(str(claims["exp"])),
            "other audience": (audience or self.host) not in named,
            "lacks scope": not set((scope or "").split()) <= set(str(claims["scope"]).split()),
        }
        return next((verdict for verdict, holds in objections.items() if holds), "valid")

    def _audience(self, form: TokenForm, behaviour: Behaviour) -> str | list[str]:
        audience = behaviour.audience or form.all("resource") or self.host
        if isinstance(audience, str):
            return audience
        return audience[0] if len(audience) == 1 else list(audience)

    def _token(self, claims: Claims, behaviour: Behaviour) -> object:
        if behaviour.token in _NO_TOKEN:
            return _NO_TOKEN[behaviour.token]
        if behaviour.token == "opaque":
            return secrets.token_urlsafe(32)
        if behaviour.token == "jwt_without_exp":
            claims = {name: value for name, value in claims.items() if name != "exp"}
        elif behaviour.token == "huge":
            claims = {**claims, "padding": "x" * 20_000}
        signed = jwt.encode(claims, self._key, algorithm="ES256")
        return signed + "\n" if behaviour.token == "with_newline" else signed


# ---------------------------------------------------------------------------------------------------------------------
# Rate limits


@dataclass(frozen=True)
class RateLimit:
    """The limit of every tenant and of every business, and how it is counted.

    Attributes:
        mode: `fixed` counts from one multiple of the window to the next, `sliding` over the last window; `off` counts
            nothing and always shows a full budget.
        retry_after: Whether a 429 has a `Retry-After`, and in which of its two forms.
        phase: A moment at which a fixed window begins.
    """

    mode: LimitMode = "fixed"
    per_tenant: int = 300
    per_business: int = 300
    window_seconds: int = 60
    retry_after: RetryAfter = "absent"
    phase: float = 0

    def counts_until(self, at: float) -> float:
        """Say when a request made at that moment stops counting."""
        start = at if self.mode == "sliding" else at - (at - self.phase) % self.window_seconds
        return start + self.window_seconds

    def said_retry_after(self, budget: Budget, now: float, clock_offset: float) -> str | None:
        """Give a 429's `Retry-After`, or None for none."""
        match self.retry_after:
            case "absent":
                return None
            case "seconds":
                return str(math.ceil(budget.reset - now))
            case "date":
                return formatdate(math.ceil(budget.reset + clock_offset), usegmt=True)


@dataclass(frozen=True)
class Budget:
    """What is left of the tightest budget a request was charged to.

    Attributes:
        reset: When something of it comes back: the window's end, or the oldest counted request leaving it.
    """

    allowed: bool
    limit: int
    remaining: int
    reset: float


class Ledger:
    """Who has spent what, and when."""

    def __init__(self) -> None:
        self._spent: defaultdict[str, deque[float]] = defaultdict(deque)

    def charge(self, rule: RateLimit, client_id: str, business_id: str | None, now: float) -> Budget:
        """Charge one request to its tenant and its business, or to neither when one of them has nothing left."""
        accounts = {f"tenant {client_id}": rule.per_tenant}
        if business_id is not None:
            accounts[f"business {business_id}"] = rule.per_business
        if rule.mode == "off":
            limit = min(accounts.values())
            return Budget(allowed=True, limit=limit, remaining=limit, reset=rule.counts_until(now))
        for account in accounts:
            self._forget(rule, account, now)
        allowed = all(len(self._spent[account]) < limit for account, limit in accounts.items())
        if allowed:
            for account in accounts:
                self._spent[account].append(now)
        tightest = min(accounts, key=lambda account: accounts[account] - len(self._spent[account]))
        oldest = next(iter(self._spent[tightest]), now)
        remaining = max(0, accounts[tightest] - len(self._spent[tightest]))
        return Budget(allowed, accounts[tightest], remaining, rule.counts_until(oldest))

    def _forget(self, rule: RateLimit, account: str, now: float) -> None:
        spent = self._spent[account]
        while spent and rule.counts_until(spent[0]) <= now:
            spent.popleft()
