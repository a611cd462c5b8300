"""One tenant's budget: what Asset says of it (`x-ratelimit-*`) is believed, and no more than that is spent.

Until a tenant's first answer, and after each reset, one request goes first to learn what is left.
"""

from __future__ import annotations

import bisect
import math
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.model import Urgency
from asset_token_operator.renewal import longest_rest
from asset_token_operator.slots import Queue

if TYPE_CHECKING:
    from asset_token_operator.answers import RateHeaders
    from asset_token_operator.model import Key, Reserves
    from asset_token_operator.slots import Slot, Tenant

DEFAULT_LIMIT: Final = 300
WINDOW: Final = timedelta(seconds=60)
"""As Asset documents it; what its answers show goes before."""

SHORTEST_WINDOW: Final = timedelta(seconds=5)
MARGIN: Final = timedelta(seconds=1)
"""Asset names whole seconds, so a reset may come up to one later than it seems."""

PROBE_PATIENCE: Final = timedelta(seconds=2)
"""How long the one request that learns what is left may hang before another is sent beside it."""

FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(seconds=60)
"""How long a tenant rests after a 429 that doesn't say."""

LONGEST_KEPT: Final = timedelta(hours=1)
"""How long the longest window that was seen is believed."""

MOST_SAID: Final = 100
NONE_COUNTED: Final = (0, sys.maxsize)

SPACED: Final = (Urgency.ROUTINE, Urgency.RETRY)
RETRIES: Final = 0.1
"""The share of the limit, from 0 to 1, that may go to requests which fail while others are answered, once half of it is
used up."""


@dataclass(frozen=True, slots=True)
class Rest:
    """What a `Retry-After`, or a 429, asks of all.

    Attributes:
        since: When it was said.
        lasts: How long it asks for.
        said_at: When that was, on the wall clock.
    """

    since: datetime
    lasts: timedelta
    said_at: datetime

    def ends(self) -> datetime:
        """When it is over."""
        return self.since + self.lasts

    def ends_for(self, slot: Slot) -> datetime:
        """When one may ask again: nobody waits until its token has expired."""
        return self.since + min(self.lasts, longest_rest(slot.expires_at - self.said_at))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A tenant's budget as metrics show it.

    Attributes:
        remaining: What is left of this window: nothing after a 429, all where it has to be learned first.
        pauses: How often it has paused.
    """

    tenant: Tenant
    limit: int
    remaining: int
    paused: bool
    queued: int
    pauses: int


@dataclass(slots=True)
class Account:
    """What is known of one tenant's budget.

    Attributes:
        resets_at: When the present window ends, on our clock; None where it must be learned first what is left.
        epoch: The same as Asset named it, to tell one window from the next.
        seen: When that was named first, and last.
        longest: The longest time to a reset that was named, and when.
        period: How long a window is, where that was seen.
        said: What was left by each answer of this window, the most first; of very many only the latest.
        counted: How many others there were, and the least that they leave.
        ours: How many of our requests count, or may count, in this window.
        sent: When our latest requests were sent, the earliest first.
        others_per_second: How fast the tenant's own applications spend, as far as it can be seen.
        latest: When the latest was sent of those urgencies that are evenly spaced.
        rest: For how long it rests after a 429.
        refusals: How many 429 there were in a row.
        pauses: How often it has rested after a 429.
        in_flight: Who has been sent, or has a slot kept, and since when.
        queue: Who waits.
        idle_until: Before that none of these can be served, unless something changes; None where something has.
    """

    limit: int = DEFAULT_LIMIT
    resets_at: datetime | None = None
    epoch: int = 0
    seen: tuple[datetime, datetime] | None = None
    longest: tuple[timedelta, datetime] | None = None
    period: timedelta | None = None
    said: list[int] = field(default_factory=list)
    counted: tuple[int, int] = NONE_COUNTED
    ours: int = 0
    sent: list[datetime] = field(default_factory=list)
    others_per_second: float = 0.0
    latest: dict[Urgency, datetime] = field(default_factory=dict)
    rest: Rest | None = None
    refusals: int = 0
    pauses: int = 0
    in_flight: dict[Key, datetime] = field(default_factory=dict)
    queue: Queue = field(default_factory=Queue)
    idle_until: datetime | None = None

    def window(self) -> timedelta:
        """How long a window is, as far as it can be told."""
        if self.period is not None:
            return self.period
        return WINDOW if self.longest is None else max(self.longest[0], WINDOW)

    def remaining(self) -> int:
        """What is left by Asset's word, when all that is in flight has been counted.

        Answers overtake each other: one that says less may be of a later request, or of one that others came before.
        Those that said more were counted earlier, so each answer tells how much all others had spent by then.
        """
        return self._least_of(self.said) - self.ours

    def _least_of(self, said: list[int]) -> int:
        """The least that these answers leave, which are the first that are kept, and those before them."""
        counted, least = self.counted
        return min(least, *(left + 1 + earlier for earlier, left in enumerate(said, counted)))

    def free_at(self, slot: Slot, reserves: Reserves, now: datetime) -> datetime:
        """When one may be sent, as far as can be told now; a moment that has passed means now."""
        if self.rest is not None and self.is_paused(now):
            ends = self.rest.ends_for(slot)
            return ends if ends > now else self._one_at_a_time(now)
        reserve = reserves.of(slot.priority, self.limit)
        spaced = self._spaced(slot.urgency, self.limit - reserve, now)
        if self.resets_at is None or self.resets_at <= now:
            self.resets_at = None
            return max(self._one_at_a_time(now), spaced)
        spare = self.remaining() - reserve
        if slot.urgency >= Urgency.OVERDUE:
            spare -= math.ceil(self.others_per_second * (self.resets_at - now).total_seconds())
        if spare < 1:
            return self.resets_at
        return now if slot.urgency is Urgency.RETRY and spare > self.limit / 2 else spaced

    def _spaced(self, urgency: Urgency, share: int, now: datetime) -> datetime:
        """When the next one of that urgency is due, of which so many may be sent in a window."""
        latest = self.latest.get(urgency)
        if latest is None:
            return now
        return latest + self.window() / max(1.0, self.limit * RETRIES if urgency is Urgency.RETRY else share)

    def _one_at_a_time(self, now: datetime) -> datetime:
        """While it isn't known what is left the next one waits for the answer, if that comes soon."""
        return max(self.in_flight.values()) + PROBE_PATIENCE if self.in_flight else now

    def is_paused(self, now: datetime) -> bool:
        """Whether it rests after a 429."""
        return self.rest is not None and self.rest.ends() > now

    def send(self, slot: Slot, now: datetime) -> None:
        """One more is sent."""
        self.queue.went(slot)
        self.in_flight[slot.key] = now
        self.sent.append(now)
        half = len(self.sent) // 2
        if self.sent[half] <= now - 2 * self.window():
            del self.sent[:half]
        self.ours += 1
        if slot.urgency in SPACED:
            self.latest[slot.urgency] = now

    def answered(self, sent_at: datetime | None) -> None:
        """A request that was sent then was answered, and not by a 429: so there is nothing more to rest from."""
        self.refusals = 0
        if self.rest is not None and sent_at is not None and sent_at > self.rest.since:
            self.rest = None

    def learn(self, headers: RateHeaders, now: datetime) -> None:
        """Believe what an answer says; one of an earlier window that comes late says nothing of this one."""
        if self.resets_at is not None and headers.reset < self.epoch - headers.fuzz:
            return
        self.limit = headers.limit
        if self.resets_at is None or headers.reset > self.epoch + headers.fuzz:
            self._measure(headers, now)
            resets_in = headers.resets_in if headers.resets_in >= timedelta() else self.window()
            self.epoch, self.resets_at = headers.reset, now + resets_in + MARGIN
            self.said, self.counted = [], NONE_COUNTED
            self.ours, self.seen = 1 + len(self.in_flight), (now, now)
        self.seen = (self.seen[0] if self.seen else now, now)
        bisect.insort(self.said, headers.remaining, key=lambda left: -left)
        if len(self.said) > 2 * MOST_SAID:
            self.counted = (self.counted[0] + MOST_SAID, self._least_of(self.said[:MOST_SAID]))
            del self.said[:MOST_SAID]
        window = self.window()
        began = self.resets_at - MARGIN - window
        ours = len(self.sent) - bisect.bisect_left(self.sent, began - MARGIN) - len(self.in_flight)
        others = max(0, self.limit - headers.remaining - max(0, ours))
        self.others_per_second = others / max(window / 12, now - began).total_seconds()

    def _measure(self, headers: RateHeaders, now: datetime) -> None:
        """A window has begun: learn how long they are.

        Two resets are as far apart as a window is long, or a multiple of it; not a multiple, where the answers that
        named them came closer together than half of that.
        """
        if self.longest is None or headers.resets_in >= self.longest[0] or now - self.longest[1] > LONGEST_KEPT:
            self.longest = (headers.resets_in, now)
        if self.period is not None and self.longest[0] > self.period + 2 * MARGIN:
            self.period = None
        if self.seen is None:
            return
        apart = timedelta(seconds=headers.reset - self.epoch)
        is_window = apart >= SHORTEST_WINDOW and self.longest[0] <= apart + 2 * MARGIN
        if is_window and now - self.seen[1] < apart / 2 <= self.seen[1] - self.seen[0]:
            self.period = apart

    def assume(self, now: datetime) -> None:
        """An answer says nothing of the budget: count for ourselves, by the documented limit."""
        if self.resets_at is None:
            self.resets_at = now + self.window() + MARGIN
            self.said, self.counted, self.ours = [self.limit - 1], NONE_COUNTED, 1 + len(self.in_flight)

    def pause(self, asked: timedelta | None, sent_at: datetime | None, now: datetime, wall: datetime) -> timedelta:
        """A 429: rest as long as Asset says, or longer each time; those in flight together are one time.

        Args:
            asked: How long it says, if it does.
            sent_at: When the request was sent.
            now: The present moment.
            wall: The same on the wall clock.

        Returns:
            For how long it rests now.
        """
        was_paused = self.is_paused(now)
        is_together = was_paused and self.rest is not None and (sent_at is None or sent_at <= self.rest.since)
        self.refusals += not is_together
        self.pauses += not was_paused
        unsaid = min(FIRST_PAUSE * float(2 ** min(self.refusals - 1, 8)), LONGEST_PAUSE)
        if asked is not None and self.refusals > 1:  # what was said before was too short
            asked = max(asked, unsaid)
        rest = Rest(now, max(asked or unsaid, MARGIN), wall)
        if self.rest is None or not is_together or rest.ends() > self.rest.ends():
            self.rest = rest
        self.resets_at = None
        return self.rest.ends() - now
