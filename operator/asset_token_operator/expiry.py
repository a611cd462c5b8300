"""Decides from when to when a token works. Neither a clock nor `expires_in` is taken at its word.

Asset documents `expires_in` as an absolute unix timestamp in one place and as a duration in another (RFC 6749,
section 5.1, says a duration), and its own example timestamp has already passed. A reader that takes a timestamp for a
duration never renews; one that takes a past timestamp at its word renews for ever. So the JWT's own `exp` wins, and
a number is a duration or a moment by its size: no lifetime is as long as the time since 1970.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import BrokenAnswerError
from asset_token_operator.times import whole_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.answers import Claims, TokenAnswer

ASSUMED_LIFETIME: Final = timedelta(seconds=3600)
"""The lifetime that Asset documents for a request without `expires_in`."""

DECIMAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
LONGEST_LIFETIME: Final = timedelta(days=3650)
"""What lies further ahead is no expiry that anyone meant: milliseconds, or a "never"."""

LATEST_MOMENT: Final = 10**11

SMALLEST_SKEW: Final = timedelta(seconds=2.5)
"""Asset's clock is seen in whole seconds and after the way back: less than this is no difference."""

LARGEST_SKEW: Final = timedelta(days=1)
"""A clock that is further away is some box's between us: a machine whose own was would fail at TLS already."""

HALF_A_SECOND: Final = timedelta(seconds=0.5)
"""Whole seconds are cut off, so on the average a clock is half of one further."""


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a token works.

    Attributes:
        issued_at: When it was requested, on Asset's clock, in whole seconds.
        expires_at: When it stops working, on Asset's clock, in whole seconds.
        not_before: When it starts to work, on Asset's clock, where that is still to come.
        skew: How far Asset's clock is ahead of ours.
        odd: Which of `Date` and `iat` is not believed, as they disagree; None where they don't.
    """

    issued_at: datetime
    expires_at: datetime
    not_before: datetime | None
    skew: timedelta
    odd: str | None = None


def read_validity(  # noqa: PLR0913, PLR0917 - all that tells of it
    answer: TokenAnswer,
    asked: timedelta | None,
    date: datetime | None,
    sent_at: datetime,
    received_at: datetime,
    known: timedelta | None = None,
) -> Validity:
    """From when to when the token of an answer works.

    What it has left when it was requested is the least that anything says: its `exp` by Asset's clock, `exp` - `iat`
    and `expires_in` as a duration. Asset's clock is witnessed by the answer's `Date` and by `iat`. Where they disagree,
    as with a cached answer or a proxy's clock, the one is believed that is nearer to what is known, and of the other
    only what makes the token shorter-lived.

    Args:
        answer: What Asset answered.
        asked: The lifetime that was asked for; None where none was.
        date: The answer's `Date`, where it has one.
        sent_at: When it was asked for, on our clock: no later than it was issued, so an error is on the safe side.
        received_at: When the answer had come.
        known: How far Asset's clock was ahead of ours so far; None where nothing is known of it.

    Raises:
        BrokenAnswerError: The JWT has expired, or `expires_in` is impossible and there is no JWT to say better.
    """
    iat = None if answer.claims is None else _moment(answer.claims.issued_at)
    witnesses = {"Date": known if date is None else _ahead(date, sent_at, received_at)}
    witnesses["iat"] = None if iat is None else _ahead(iat, sent_at, received_at)
    exp = None if answer.claims is None else _moment(answer.claims.exp)
    if exp is not None and date is not None and iat is None and exp <= date:  # it has expired, or `Date` is wrong
        witnesses["our clock"] = known or timedelta()
    skew, odd = _believed(witnesses, known or timedelta())
    issued_at = whole_seconds(sent_at + skew)
    expires_at = read_expiry(answer, asked, issued_at)
    claimed = claimed_expiry(answer.claims, issued_at)
    if claimed is not None:
        doubted = {"Date": date, "iat": iat}.get(odd or "")
        others = (None if doubted is None else claimed - doubted, _lifetime(answer.expires_in))
        least = min((left for left in others if left is not None and left > timedelta()), default=claimed - issued_at)
        if least + (received_at - sent_at) + SMALLEST_SKEW < claimed - issued_at:
            expires_at = whole_seconds(issued_at + least)
    not_before = read_not_before(answer.claims, received_at + skew)
    return Validity(issued_at, expires_at, not_before, skew, odd)


def rounded(ahead: timedelta) -> timedelta:
    """A difference of two clocks that is seen in whole seconds; a little is none."""
    return timedelta() if abs(ahead) < SMALLEST_SKEW else timedelta(seconds=round(ahead.total_seconds()))


def _ahead(moment: datetime, sent_at: datetime, received_at: datetime) -> timedelta | None:
    """How far a clock is ahead that said so in between, in whole seconds that are cut off; None for an absurd one."""
    shown = moment + HALF_A_SECOND
    ahead = shown - min(max(shown, sent_at), max(received_at, sent_at))
    return rounded(ahead) if abs(ahead) < LARGEST_SKEW else None


def _believed(witnesses: Mapping[str, timedelta | None], known: timedelta) -> tuple[timedelta, str | None]:
    """How far Asset's clock is ahead, and which witness isn't believed."""
    said = {name: ahead for name, ahead in witnesses.items() if ahead is not None}
    name = min(said, key=lambda name: abs(said[name] - known), default=None)
    if name is None:
        return known, None
    odd = next((other for other, ahead in said.items() if abs(ahead - said[name]) >= SMALLEST_SKEW), None)
    return said[name], odd


def read_expiry(answer: TokenAnswer, asked: timedelta | None, issued_at: datetime) -> datetime:
    """When the token of an answer expires by its `exp`, or else by `expires_in`, in whole seconds.

    Args:
        answer: What Asset answered.
        asked: The lifetime that was asked for; None where none was.
        issued_at: When it was asked for.

    Raises:
        BrokenAnswerError: The JWT has expired, or `expires_in` is impossible and there is no JWT to say better.
    """
    exp = None if answer.claims is None else _number(answer.claims.exp)
    if exp is not None and math.floor(exp) <= issued_at.timestamp():
        raise BrokenAnswerError(
            "Asset answered with a token that has already expired, by its own exp; tried again by itself."
        )
    claimed = claimed_expiry(answer.claims, issued_at)
    if claimed is not None:
        return claimed
    if answer.expires_in is None:
        return whole_seconds(issued_at + (asked or ASSUMED_LIFETIME))
    lifetime = _lifetime(answer.expires_in)
    if lifetime is not None:
        return whole_seconds(issued_at + lifetime)
    seconds = _number(answer.expires_in)
    if (
        seconds is not None
        and issued_at.timestamp() < math.floor(seconds) <= (issued_at + LONGEST_LIFETIME).timestamp()
    ):
        return whole_seconds(datetime.fromtimestamp(seconds, UTC))
    raise BrokenAnswerError(
        "Asset's expires_in is neither a lifetime nor a moment to come, and the token doesn't say when it expires;"
        " tried again by itself."
    )


def claimed_expiry(claims: Claims | None, issued_at: datetime) -> datetime | None:
    """When a token expires by its own `exp`; None where that can't be read or is no moment that anyone meant."""
    exp = None if claims is None else _number(claims.exp)
    if exp is None or exp > (issued_at + LONGEST_LIFETIME).timestamp() or math.floor(exp) <= issued_at.timestamp():
        return None
    return whole_seconds(datetime.fromtimestamp(exp, UTC))


def read_not_before(claims: Claims | None, now: datetime) -> datetime | None:
    """When a token starts to work, where that is still to come; Asset's clock says `now`."""
    seconds = None if claims is None else _number(claims.not_before)
    if seconds is None or not now.timestamp() < seconds <= (now + LONGEST_LIFETIME).timestamp():
        return None
    return whole_seconds(datetime.fromtimestamp(math.ceil(seconds), UTC))


def _lifetime(expires_in: object) -> timedelta | None:
    """`expires_in` where it is a duration; None where it isn't."""
    seconds = _number(expires_in)
    if seconds is None or not 1 <= seconds <= LONGEST_LIFETIME.total_seconds():
        return None
    return timedelta(seconds=seconds)


def _moment(value: object) -> datetime | None:
    """A moment in unix seconds, if it is one that anyone meant."""
    seconds = _number(value)
    return None if seconds is None or not 0 < seconds < LATEST_MOMENT else datetime.fromtimestamp(seconds, UTC)


def _number(value: object) -> float | None:
    """A finite number, also one in a string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not DECIMAL.fullmatch(value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
