"""When to renew a token, and how soon to try again after a failure.

Everything is computed from moments and from the object's UID, so a restart computes the same. Jitter comes from a
digest and not from a random number for the same reason.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.model import digest, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asset_token_operator.model import IssuedToken, Spec

FIRST_RETRY: Final = timedelta(seconds=5)
LONGEST_RETRY: Final = timedelta(minutes=5)
SHORTEST_RETRY: Final = timedelta(seconds=1)


def renewal_time(token: IssuedToken, spec: Spec) -> datetime:
    """When the token shall be renewed, in whole seconds.

    A third of the lifetime before it expires, unless the spec says how long before. A `renewBefore` that the real
    lifetime doesn't leave room for would renew at once and for ever, so then the third is used too.
    """
    before = wanted_renew_before(token, spec)
    if not renew_before_fits(token, spec):
        before = token.lifetime / 3
    return whole_seconds(token.expires_at - before)


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


def back_off(failures: int, seed: str) -> timedelta:
    """How long to wait after the `failures`-th failure in a row: full jitter over 5 s·2ⁿ, from 1 s to 5 min.

    Args:
        failures: How many there were, from 1.
        seed: Names the object, so that many that failed together don't try again together.
    """
    ceiling = min(FIRST_RETRY * float(2 ** min(failures - 1, 16)), LONGEST_RETRY)
    fraction = int(digest(f"{seed}/{failures}")[:8], 16) / 0xFFFFFFFF
    return max(ceiling * fraction, SHORTEST_RETRY)


def earliest_next(times: Sequence[datetime], most: int, window: timedelta) -> datetime | None:
    """When one more is allowed, if at most `most` may fall into any `window`; None where it is allowed already."""
    return times[-most] + window if len(times) >= most else None
