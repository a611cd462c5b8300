"""Decides when a token expires. Neither the clock nor `expires_in` is taken at its word.

Asset documents `expires_in` as an absolute unix timestamp in one place and as a duration in another (RFC 6749,
section 5.1, says a duration), and its own example timestamp has already passed. A reader that takes a timestamp for a
duration never renews; one that takes a past timestamp at its word renews for ever. So the JWT's own `exp` wins, and
a number is a duration or a moment by its size: no lifetime is as long as the time since 1970.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import BrokenAnswerError
from asset_token_operator.model import whole_seconds

if TYPE_CHECKING:
    from asset_token_operator.answers import Claims, TokenAnswer

ASSUMED_LIFETIME: Final = timedelta(seconds=3600)
"""The lifetime that Asset documents for a request without `expires_in`."""

DECIMAL: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
LONGEST_LIFETIME: Final = timedelta(days=3650)
"""What lies further ahead is no expiry that anyone meant: milliseconds, or a "never"."""


def read_expiry(answer: TokenAnswer, asked: timedelta | None, issued_at: datetime) -> datetime:
    """When the token of an answer expires, in whole seconds.

    Args:
        answer: What Asset answered.
        asked: The lifetime that was asked for; None where none was.
        issued_at: When it was asked for: no later than it was issued, so an error is on the safe side.

    Raises:
        BrokenAnswerError: The JWT has expired, or `expires_in` is impossible and there is no JWT to say better.
    """
    exp = None if answer.claims is None else _number(answer.claims.exp)
    if exp is not None and math.floor(exp) <= issued_at.timestamp():
        raise BrokenAnswerError("Asset answered with a token that has already expired, by its own exp.")
    claimed = claimed_expiry(answer.claims, issued_at)
    if claimed is not None:
        return claimed
    if answer.expires_in is None:
        return whole_seconds(issued_at + (asked or ASSUMED_LIFETIME))
    seconds = _number(answer.expires_in)
    if seconds is not None and 1 <= seconds <= LONGEST_LIFETIME.total_seconds():
        return whole_seconds(issued_at + timedelta(seconds=seconds))
    if (
        seconds is not None
        and issued_at.timestamp() < math.floor(seconds) <= (issued_at + LONGEST_LIFETIME).timestamp()
    ):
        return whole_seconds(datetime.fromtimestamp(seconds, UTC))
    raise BrokenAnswerError(
        "Asset's expires_in is neither a lifetime nor a moment to come, and the token doesn't say when it expires."
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
