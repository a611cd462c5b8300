"""Reads what Asset answers to a token request: bytes in, a `TokenAnswer` or an error out.

It is a module of its own, without a network, because a third party may answer anything: whatever the bytes are,
nothing but an `AssetError` leaves this module, and no byte of the body leaves it in a message.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import jwt
from pydantic import SecretStr

from asset_token_operator.errors import AGAIN, AssetError, AssetUnavailableError, BrokenAnswerError
from asset_token_operator.model import LONGEST_TOKEN
from asset_token_operator.refusals import OTHERWISE, REFUSALS, STATUSES, refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.model import Spec

WINDOW: Final = timedelta(seconds=60)
LATEST_RESET: Final = 10**11
LARGEST_LIMIT: Final = 10**9
LONGEST_WAIT_SECONDS: Final = 86_400
"""What a header says beyond these is nothing that anyone meant: a number of seconds is a moment, in unix seconds."""

DISAGREE: Final = timedelta(seconds=5)
"""Clocks that are further apart are not the same."""

LONGEST_BODY: Final = 256 * 1024
"""Bytes of an answer that are read; one with a token isn't longer."""

B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
"""RFC 6750, section 2.1: what may stand behind `Bearer`; it has no line break, so none reaches a header."""

NOT_SERVED: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT})
"""Besides 5xx: answers that say that the endpoint doesn't work, whatever is in them."""

BARE: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
OWN_WORDS: Final = frozenset({"error", "detail"})
MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,40}/[a-z0-9!#$&^_.+-]{1,40}")


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """What Asset says of a budget: `x-ratelimit-limit`, `-remaining` and `-reset`.

    Attributes:
        reset: When it begins anew, in unix seconds on Asset's clock.
        resets_in: The same, from now; the two clocks' difference is taken out. Negative where a past moment was named.
        fuzz: Seconds by which two answers may name the same moment differently.
    """

    limit: int
    remaining: int
    reset: int
    resets_in: timedelta
    fuzz: int = 0

    def by_clock(self, now: datetime) -> RateHeaders:
        """The same where another clock says `now`, and that it resets much sooner: then `Date` is not to be trusted."""
        resets_in = timedelta(seconds=round(self.reset - now.timestamp()))
        return replace(self, resets_in=resets_in) if timedelta() <= resets_in < self.resets_in - DISAGREE else self


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came.

    Attributes:
        date: What Asset's clock said, in whole seconds.
        media_type: Of the body (RFC 9110, section 8.3.1), where it is said in the usual characters.
        retry_after: `Retry-After` (RFC 9110, section 10.2.3), from when it was said; None where it makes no sense.
    """

    status: int
    body: bytes = field(repr=False)
    rate: RateHeaders | None = None
    date: datetime | None = None
    retry_after: timedelta | None = None
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Claims:
    """What a JWT says of itself. Read, never verified: there is no key for it.

    Attributes:
        exp: `exp` (RFC 7519, section 4.1.4) as it stands there, None where it isn't there.
        not_before: `nbf` (section 4.1.5) likewise.
        issued_at: `iat` (section 4.1.6) likewise.
        jti: `jti`, where it is a string.
        issuer: `iss`, where it is a string.
        audience: `aud`.
        scopes: `scope` (RFC 8693, section 4.2) or `scp`; None where neither is readable.
    """

    exp: object = None
    not_before: object = None
    issued_at: object = None
    jti: str | None = None
    issuer: str | None = None
    audience: tuple[str, ...] = ()
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


def read_reply(status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Read what surrounds an answer; a header that makes no sense is as good as none."""
    date = read_date(headers.get("date"))
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Reply(
        status,
        body,
        _read_rate(headers, date),
        date,
        _read_retry_after(headers.get("retry-after"), date),
        media_type if MEDIA_TYPE.fullmatch(media_type) else None,
    )


def unavailable_for(reply: Reply) -> timedelta | None:
    """How long the service says that it is unavailable (a 503's `Retry-After`); None where it doesn't."""
    return reply.retry_after if reply.status == HTTPStatus.SERVICE_UNAVAILABLE else None


def gets_through(reply: Reply) -> bool:
    """Whether the token service itself answered; else it is the endpoint that doesn't work, whoever asks.

    What redirects a request, answers it with no JSON, or refuses it without an OAuth error or FastAPI's `detail`,
    stands in front of the service: a firewall, or a page for maintenance. A bare 401 is the exception, as services
    answer so too, and 429, which any of them means. JSON that was cut on its way may have held a token, so it is an
    answer.
    """
    if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR or reply.status in NOT_SERVED or _is_redirect(reply):
        return False
    if reply.status in BARE:
        return True
    answer = read_object(reply.body)
    if reply.status < HTTPStatus.BAD_REQUEST:
        return answer is not None or (reply.body != b"" and (reply.media_type or "").endswith("json"))
    return not (answer or {}).keys().isdisjoint(OWN_WORDS)


def _is_redirect(reply: Reply) -> bool:
    return HTTPStatus.MULTIPLE_CHOICES <= reply.status < HTTPStatus.BAD_REQUEST


def _read_rate(headers: Mapping[str, str], date: datetime | None) -> RateHeaders | None:
    try:
        limit, remaining, reset = (int(headers[f"x-ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
    except (KeyError, ValueError):
        return None
    if not 1 <= limit <= LARGEST_LIMIT or remaining < 0 or not 0 <= reset < LATEST_RESET:
        return None
    remaining = min(remaining, limit)
    if date is None:
        return RateHeaders(limit, remaining, reset, WINDOW)
    now = int(date.timestamp())
    if reset <= LONGEST_WAIT_SECONDS:  # so it is from now
        return RateHeaders(limit, remaining, now + reset, timedelta(seconds=reset), fuzz=2)
    left = timedelta(seconds=max(reset - now, -1))
    return RateHeaders(limit, remaining, reset, left if left.total_seconds() <= LONGEST_WAIT_SECONDS else WINDOW)


def _read_retry_after(text: str | None, date: datetime | None) -> timedelta | None:
    """A number that is no delay that anyone meant may be a moment, in unix seconds; a moment needs Asset's clock."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text)
        if seconds > LONGEST_WAIT_SECONDS:
            seconds -= date.timestamp() if date is not None else 0
    else:
        moment = read_date(text)
        if moment is None or date is None:
            return None
        seconds = (moment - date).total_seconds()
    return timedelta(seconds=max(seconds, 1)) if 0 <= seconds <= LONGEST_WAIT_SECONDS else None


def read_date(text: str | None) -> datetime | None:
    """A moment as HTTP writes it (RFC 9110, section 5.6.7); None where there is none, or none that is readable."""
    try:
        moment = None if text is None else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def read_answer(reply: Reply, spec: Spec) -> TokenAnswer:
    """Read an answer.

    Args:
        reply: The answer.
        spec: What was requested.

    Raises:
        AssetError: It holds no usable token.
    """
    if reply.status != HTTPStatus.OK or not gets_through(reply):
        raise _failure(reply, spec)
    answer = read_object(reply.body)
    if answer is None:
        raise BrokenAnswerError(f"The answer of Asset {spec.environment} is not a JSON object; {AGAIN}.")
    token_type = answer.get("token_type")
    if token_type is not None and (not isinstance(token_type, str) or token_type.lower() != "bearer"):
        raise BrokenAnswerError(f"The token of Asset {spec.environment} is not a Bearer token; {AGAIN}.")
    token = answer.get("access_token")
    if not isinstance(token, str) or not token.strip():
        raise BrokenAnswerError(f"The answer of Asset {spec.environment} has no access_token; {AGAIN}.")
    if len(token) > LONGEST_TOKEN:
        raise BrokenAnswerError(
            f"The token of Asset {spec.environment} is longer than {LONGEST_TOKEN} characters; {AGAIN}."
        )
    if not B64TOKEN.fullmatch(token):
        raise BrokenAnswerError(
            f"The token of Asset {spec.environment} has characters that no Authorization header may carry; {AGAIN}."
        )
    return TokenAnswer(
        SecretStr(token), answer.get("expires_in"), _read_scopes(answer.get("scope")), read_claims(token)
    )


def _failure(reply: Reply, spec: Spec) -> AssetError:
    """The error that an answer other than 200 means."""
    status = reply.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        failure = AssetUnavailableError(f"Asset {spec.environment} failed ({status}); {AGAIN}.")
        failure.retry_after = unavailable_for(reply)
        return failure
    if _is_redirect(reply):
        return AssetUnavailableError(
            f"Asset {spec.environment} answered with a redirect ({status}), which is not followed with credentials;"
            f" check --{spec.environment}-url; {AGAIN}."
        )
    if not gets_through(reply) and status not in NOT_SERVED:
        return AssetUnavailableError(
            f"Something in front of Asset {spec.environment} answered instead of its token service ({status},"
            f" {reply.media_type or 'no content type'}), such as a firewall or a page for maintenance; {AGAIN}."
        )
    if status < HTTPStatus.BAD_REQUEST:
        return BrokenAnswerError(f"Asset {spec.environment} answered {status} instead of 200; {AGAIN}.")
    code = (read_object(reply.body) or {}).get("error")
    if isinstance(code, str) and code in REFUSALS and status != HTTPStatus.TOO_MANY_REQUESTS:
        return refusal(REFUSALS[code], f"{status} {code}", spec)
    return refusal(STATUSES.get(status, OTHERWISE), str(status), spec)


def read_object(body: bytes) -> dict[str, Any] | None:
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
    scopes = _read_scopes(claims.get("scope"))
    return Claims(
        exp=claims.get("exp"),
        not_before=claims.get("nbf"),
        issued_at=claims.get("iat"),
        jti=_text(claims.get("jti")),
        issuer=_text(claims.get("iss")),
        audience=_texts(claims.get("aud")),
        scopes=scopes if scopes is not None else _read_scopes(claims.get("scp")),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(text for text in values if isinstance(text, str))


def _read_scopes(value: object) -> tuple[str, ...] | None:
    match value:
        case str():
            return tuple(sorted(set(value.split())))
        case list():
            return tuple(sorted({scope for scope in value if isinstance(scope, str)}))
        case _:
            return None
