"""How often something was tried, with what success, and so when it may be tried again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import RECOVERIES
from asset_token_operator.reasons import Reason, Recovery
from asset_token_operator.renewal import (
    FIRST_RETRY,
    LONGEST_RETRY,
    PROBE_EVERY,
    back_off,
    earliest_next,
    longest_rest,
    probe_wait,
)

if TYPE_CHECKING:
    from datetime import datetime

    from asset_token_operator.errors import OperatorError

LONGEST_WITHOUT_TOKEN: Final = timedelta(seconds=15)
"""How long an AssetToken that has no valid token waits at most before it tries again what failed."""

LONGEST_ALONE: Final = timedelta(minutes=1)
"""The same where Asset answers others, or answers something broken."""

LONGEST_MESSAGE: Final = 1024
"""Characters of a failure's message that are kept."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The latest attempt's failure.

    Attributes:
        retry_after: How long it was asked to wait, if it was.
        ups: How often the endpoint had answered again after failures by then.
        is_shared: Whether all wait alike that use the same credentials, until these are accepted or probed.
    """

    at: datetime
    reason: Reason
    message: str
    retry_after: timedelta | None = None
    ups: int = 0
    is_shared: bool = False

    @property
    def recovery(self) -> Recovery:
        """What ends it."""
        return RECOVERIES[self.reason]

    @property
    def stalled(self) -> bool:
        """Whether nothing helps until someone changes the spec, the credentials or a Secret."""
        return self.recovery in (Recovery.CHANGE, Recovery.CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often something was tried, and for the latest cause with what success. A new cause starts with no failure.

    Attributes:
        cause: Why it was tried.
        times: When, the latest few, whatever the causes.
        of_cause: How many of these were for this cause.
        failures: How many failed in a row.
        failure: The latest failure; None after a success.
        unlike: How many of these, the first, were of another kind than the latest: refusals, or anything else.
        target: The UID of the Secret that was to be overwritten by the latest.
    """

    cause: str = ""
    times: tuple[datetime, ...] = ()
    failures: int = 0
    failure: Failure | None = None
    target: str | None = None
    of_cause: int = 0
    unlike: int = 0

    def begin(self, cause: str, now: datetime, target: str | None = None) -> Attempts:
        """One more attempt is made; those still to come were before the clock was set back, and count no more."""
        same = self if self.cause == cause else Attempts(cause, self.times)
        times = (*(moment for moment in same.times if moment <= now), now)[-TIMES_KEPT:]
        own = sum(moment <= now for moment in same.times_of_cause()) + 1
        return replace(same, times=times, of_cause=min(own, len(times)), target=target)

    def failed(self, failure: Failure) -> Attempts:
        """The attempt that was begun failed."""
        is_alike = self.failure is None or self.failure.stalled is failure.stalled
        unlike = self.unlike if is_alike else self.failures
        return replace(self, failures=self.failures + 1, failure=failure, unlike=unlike)

    def uncounted(self) -> Attempts:
        """The attempt that was begun counts against no limit."""
        return replace(self, times=self.times[:-1], of_cause=self.of_cause - 1)

    def succeeded(self) -> Attempts:
        """The attempt that was begun succeeded; it still counts against the limit."""
        return replace(self, failures=0, failure=None, unlike=0)

    def retry_at(
        self, now: datetime, seed: str, expires_at: datetime | None = None, *, alone: bool = False
    ) -> datetime | None:
        """When to try again after the latest failure; None where there was none, or something else says when.

        A failure that is still to come was before the clock was set back: nobody knows how long ago.

        Args:
            now: The present moment.
            seed: The AssetToken's UID.
            expires_at: When the present token expires, on our clock; None where there is none.
            alone: Whether the endpoint answers others.
        """
        failure = self.failure
        if failure is None or failure.is_shared or failure.recovery is Recovery.BUDGET or failure.at > now:
            return None
        left = None if expires_at is None else expires_at - failure.at
        row = self.failures - self.unlike  # a refusal that comes after an outage is the first
        if failure.stalled:
            return failure.at + probe_wait(row, left)
        longest = LONGEST_RETRY
        if left is None or left <= timedelta():
            longest = LONGEST_ALONE if alone or failure.reason is Reason.BROKEN_ANSWER else LONGEST_WITHOUT_TOKEN
        wait = back_off(row, seed, left, longest)
        return failure.at + (max(wait, PROBE_EVERY) if failure.recovery is Recovery.ENDPOINT else wait)

    def asked_to_wait_until(self, now: datetime, expires_at: datetime | None) -> datetime | None:
        """Until when the latest failure asks to wait, as far as that is believed; None where it doesn't ask."""
        failure = self.failure
        if failure is None or failure.retry_after is None or failure.at > now:
            return None
        left = None if expires_at is None else expires_at - failure.at
        return failure.at + min(failure.retry_after, longest_rest(left))

    def repair_at(self, now: datetime) -> datetime | None:
        """When to write the same content once more; None where it may be now, as it wasn't needed often lately."""
        lately = [moment for moment in self.times_of_cause() if now - FREE_REPAIRS.window < moment <= now]
        too_many = len(lately) - FREE_REPAIRS.most
        return lately[-1] + FIRST_RETRY * 2.0**too_many if too_many > 0 else None

    def within_limits(self, cause: str, now: datetime) -> datetime:
        """When one more request may be made for the cause by `REQUESTS` and `RETRIES`; now where it may already."""
        own = self.times_of_cause() if self.cause == cause else ()
        limited = ((self.times, REQUESTS), (own, RETRIES))
        moments = (
            earliest_next([moment for moment in times if moment <= now], limit.most, limit.window)
            for times, limit in limited
        )
        return max(moment or now for moment in moments)

    def times_of_cause(self) -> tuple[datetime, ...]:
        """When it was tried for the latest cause."""
        return self.times[len(self.times) - self.of_cause :]


NO_ATTEMPTS: Final = Attempts()


def failure_of(error: OperatorError, now: datetime, ups: int = 0) -> Failure:
    """What an error means for the attempts to come."""
    return Failure(now, error.reason, str(error)[:LONGEST_MESSAGE], error.retry_after, ups)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many attempts in any such window, whatever they end with."""

    most: int
    window: timedelta


REQUESTS: Final = Limit(4, timedelta(seconds=62))
"""At most 4 a minute, whatever the causes, also by a clock other than ours: a token that is lost, broken or expires
again and again, and a spec that flips, never becomes a hot loop against Asset."""

RETRIES: Final = Limit(REQUESTS.most - 1, REQUESTS.window)
"""Of these for one cause: one is left for another, so that a cause that was fixed is acted on at once."""

FREE_REPAIRS: Final = Limit(5, timedelta(minutes=10))
"""So often a Secret is put right at once; what changes it back again then is answered later each time."""

TIMES_KEPT: Final = FREE_REPAIRS.most + 6
