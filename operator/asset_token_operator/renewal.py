"""When to renew a token, and how soon to try again after a failure.

Everything is computed from moments and from the object's UID, so a restart computes the same. Jitter comes from a
digest and not from a random number for the same reason.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.model import digest
from asset_token_operator.times import whole_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from asset_token_operator.model import IssuedToken, Spec

FIRST_RETRY: Final = timedelta(seconds=5)
LONGEST_RETRY: Final = timedelta(minutes=5)
SPREAD: Final = 0.1
"""By how much of the time before its renewal a token may be renewed earlier than asked."""

SHORTEST_RETRY: Final = timedelta(seconds=1)

PROBE_EVERY: Final = timedelta(seconds=4)
"""How often an endpoint that fails is asked at most whether it is up again."""

FIRST_PROBE: Final = timedelta(minutes=1)
LONGEST_PROBE: Final = timedelta(minutes=15)


def renewal_time(token: IssuedToken, spec: Spec, seed: str) -> datetime:
    """When the token shall be renewed, in whole seconds, on Asset's clock.

    A third of the lifetime before it expires, unless the spec says how long before. A `renewBefore` that the real
    lifetime doesn't leave room for would renew at once and for ever, so then the third is used too. Tokens that were
    issued together are spread over the tenth before that moment, so that they aren't all renewed together.
    """
    before = wanted_renew_before(token, spec)
    if not renew_before_fits(token, spec):
        before = token.lifetime / 3
    spread = (token.lifetime - before) * SPREAD * fraction(f"{seed}/{token.revision}")
    return whole_seconds(token.expires_at - before) - timedelta(seconds=int(spread.total_seconds()))


def wanted_renew_before(token: IssuedToken, spec: Spec) -> timedelta:
    """How long before its expiry the spec asks a token to be renewed."""
    if spec.renew_before is not None:
        return spec.renew_before
    if spec.renew_before_percentage is not None:
        return token.lifetime * spec.renew_before_percentage / 100
    return token.lifetime / 3


def renew_before_fits(token: IssuedToken, spec: Spec) -> bool:
    """Whether the real lifetime leaves room for what the spec asks."""
    return wanted_renew_before(token, spec) < token.lifetime


def back_off(failures: int, seed: str, left: timedelta | None = None, longest: timedelta = LONGEST_RETRY) -> timedelta:
    """How long to wait after the `failures`-th failure in a row: full jitter over 5 s·2ⁿ, from 1 s to the longest.

    Args:
        failures: How many there were, from 1.
        seed: Names the object, so that many that failed together don't try again together.
        left: How long the present token still worked when it failed; the nearer its end, the sooner it is tried again.
            Once it has ended there is nothing left to be sooner than.
        longest: The longest wait; where it is shorter than usual the jitter is less, so that nothing is hammered.
    """
    ceiling = min(FIRST_RETRY * float(2 ** min(failures - 1, 16)), longest)
    if left is not None and left > timedelta():
        ceiling = min(ceiling, max(left / 8, FIRST_RETRY))
    least = 0.0 if longest >= LONGEST_RETRY else 0.8
    return max(ceiling * (least + (1 - least) * fraction(f"{seed}/{failures}")), SHORTEST_RETRY)


def probe_wait(failures: int, left: timedelta | None = None) -> timedelta:
    """How long to wait after the `failures`-th refusal in a row, which only a change ends that may not be seen here.

    After 1, 2, 4, 8 and then 15 min; and never longer than a quarter of what a valid token has left, since what was
    refused may be accepted by then, nor once it has expired than it has been.

    Args:
        failures: How many there were, from 1.
        left: How long the present token still worked when it was refused, negative where it had expired; None where
            there was none.
    """
    ladder = min(FIRST_PROBE * float(2 ** min(failures - 1, 16)), LONGEST_PROBE)
    if left is None:
        return ladder
    if left > timedelta():
        return max(min(ladder, left / 4), SHORTEST_RETRY)
    return min(max(-left, FIRST_PROBE), ladder)


def longest_rest(left: timedelta | None) -> timedelta:
    """How long to wait at most though Asset asks for more: a third of what a valid token has left, 5 min without one.

    Args:
        left: How long the present token still worked when it was asked; None where there was none.
    """
    return LONGEST_RETRY if left is None or left <= timedelta() else left / 3


def fraction(seed: str) -> float:
    """A number from 0 to 1 that is always the same for a seed."""
    return int(digest(seed)[:8], 16) / 0xFFFFFFFF


def earliest_next(times: Sequence[datetime], most: int, window: timedelta) -> datetime | None:
    """When one more is allowed, if at most `most` may fall into any `window`; None where it is allowed already."""
    return times[-most] + window if len(times) >= most else None
