"""How long to rest because Asset asks to: whoever was refused, its tenant, its business, or all at an endpoint.

It is a module of its own as all of these believe the same, and no further than a token has time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.renewal import longest_rest

if TYPE_CHECKING:
    from asset_token_operator.slots import Slot

NEVER: Final = datetime.min.replace(tzinfo=UTC)
MARGIN: Final = timedelta(seconds=1)
"""Asset names whole seconds, so a reset may come up to one later than it seems."""

PROBE_PATIENCE: Final = timedelta(seconds=2)
"""How long the one request that learns what is left may hang before another is sent beside it."""

FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(seconds=60)
"""How long to rest after a 429 that doesn't say."""


@dataclass(frozen=True, slots=True)
class Rest:
    """How long Asset asks to wait: with a `Retry-After`, a 429, or a reset where nothing is left.

    Attributes:
        since: When it was said.
        lasts: How long it asks for.
    """

    since: datetime
    lasts: timedelta

    def ends(self) -> datetime:
        """When it is over."""
        return self.since + self.lasts

    def ends_for(self, slot: Slot) -> datetime:
        """When one may ask again: nobody waits until its token has expired."""
        return self.since + min(self.lasts, longest_rest(slot.expires_at - self.since))


NO_REST: Final = Rest(NEVER, timedelta())


@dataclass(slots=True)
class Pause:
    """What came of 429s in a row.

    Attributes:
        refusals: How many there were.
        rest: Until when to rest after the latest.
        asked_at: When it was asked again.
    """

    refusals: int = 0
    rest: Rest = NO_REST
    asked_at: datetime = NEVER

    def is_on(self, now: datetime) -> bool:
        """Whether it isn't over yet."""
        return self.rest.ends() > now

    def ends_by(self, sent_at: datetime) -> bool:
        """Whether an answer ends it to what was sent then."""
        return sent_at > self.rest.since

    def refuse(self, asked: timedelta | None, sent_at: datetime | None, now: datetime) -> None:
        """A 429: rest as long as Asset says, or longer each time; those in flight together are one time."""
        is_together = self.is_on(now) and (sent_at is None or sent_at <= self.rest.since)
        self.refusals += not is_together
        unsaid = min(FIRST_PAUSE * float(2 ** min(self.refusals - 1, 8)), LONGEST_PAUSE)
        if asked is not None and self.refusals > 1:  # what was said before was too short
            asked = max(asked, unsaid)
        rest = Rest(now, max(asked or unsaid, MARGIN))
        if not is_together or rest.ends() > self.rest.ends():
            self.rest = rest

    def ends_for(self, slot: Slot) -> datetime:
        """When one of those that are refused may ask again, one at a time."""
        return max(self.asked_at + PROBE_PATIENCE, self.rest.ends_for(slot))
