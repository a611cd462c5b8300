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
from asset_token_operator.rests import MARGIN, NEVER, PROBE_PATIENCE, Pause, Rest
from asset_token_operator.slots import Queue

if TYPE_CHECKING:
    from asset_token_operator.answers import RateHeaders
    from asset_token_operator.model import Key, Reserves
    from asset_token_operator.slots import Slot, Tenant

DEFAULT_LIMIT: Final = 300
WINDOW: Final = timedelta(seconds=60)
"""As Asset documents it; what its answers show goes before."""

SHORTEST_WINDOW: Final = timedelta(seconds=5)

ROUNDED: Final = 2
"""Seconds by which a reset may be named differently, where it is computed anew for each answer."""

LONGEST_KEPT: Final = timedelta(hours=1)
"""How long the longest window that was seen is believed."""

MOST_SAID: Final = 100
NONE_COUNTED: Final = (0, sys.maxsize)

ALONE: Final = (Urgency.EXPIRING_ALONE, Urgency.MISSING_ALONE, Urgency.RETRY)
SPACED: Final = (Urgency.ROUTINE, *ALONE)
LEAVES_ROOM: Final = (Urgency.OVERDUE, Urgency.ROUTINE, Urgency.RETRY)
"""These leave what the tenant's own applications are expected to spend, besides the reserve."""

RETRIES: Final = 0.1
"""The share of the limit, from 0 to 1, that may go to requests of each of `ALONE`, once half of it is used up."""

TRIALS: Final = 0.05
"""The same for those of `LEAVES_ROOM` that there seems to be no room for, one at a time: each tells what the tenant's
applications have really spent, which may have been all at once."""


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
        heard_at: When it was learned last what is left.
        longest: The longest time to a reset that was named, and when.
        period: How long a window is, where that was seen.
        said: What was left by each answer of this window, the most first; of very many only the latest.
        counted: How many others there were, and the least that they leave.
        ours: How many of our requests count, or may count, in this window.
        sent: When our latest requests were sent, the earliest first.
        others_per_second: How fast the tenant's own applications spend, as far as it can be seen.
        latest: When the latest was sent of those urgencies that are evenly spaced.
        pause: What came of its 429s.
        pauses: How often it has rested after them.
        suspects: What came of 429s since others were answered, the latest last: it may be their own limit.
        own: The same of those whose own it is, as others were answered.
        in_flight: Who has been sent, or has a slot kept, and since when.
        queue: Who waits.
        idle_until: Before that none of these can be served, unless something changes; None where something has.
    """

    limit: int = DEFAULT_LIMIT
    resets_at: datetime | None = None
    epoch: int = 0
    seen: tuple[datetime, datetime] | None = None
    heard_at: datetime = NEVER
    longest: tuple[timedelta, datetime] | None = None
    period: timedelta | None = None
    said: list[int] = field(default_factory=list)
    counted: tuple[int, int] = NONE_COUNTED
    ours: int = 0
    sent: list[datetime] = field(default_factory=list)
    others_per_second: float = 0.0
    latest: dict[Urgency, datetime] = field(default_factory=dict)
    pause: Pause = field(default_factory=Pause)
    pauses: int = 0
    suspects: dict[str | Key, Pause] = field(default_factory=dict)
    own: dict[str | Key, Pause] = field(default_factory=dict)
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
        if self.is_paused(now):
            return self._ends(self.pause.rest, slot, now)
        due = self._due(slot, reserves, now)
        # Where that is far, what said so may be wrong, or hold no more.
        return due if due <= now else self._ends(Rest(self.heard_at, due - self.heard_at), slot, now)

    def _due(self, slot: Slot, reserves: Reserves, now: datetime) -> datetime:
        """When one may be sent by all that Asset has said of the budget."""
        reserve = reserves.of(slot.priority, self.limit)
        spaced = self._spaced(slot.priority, self.limit - reserve, now)
        if self.resets_at is None or self.resets_at <= now:
            self.resets_at = None
            return max(self._one_at_a_time(now), spaced)
        spare, left = self.remaining() - reserve, self.resets_at - now
        if spare < 1:
            return self.resets_at
        if slot.priority in LEAVES_ROOM and spare - math.ceil(self.others_per_second * left.total_seconds()) < 1:
            trial = self.heard_at + self.window() / max(1.0, self.limit * TRIALS)
            return min(self.resets_at, max(trial, self._one_at_a_time(now), spaced))
        return now if slot.priority in ALONE and spare > self.limit / 2 else spaced

    def _ends(self, rest: Rest, slot: Slot, now: datetime) -> datetime:
        """When one may be sent that Asset asks to wait; before that time is over one at a time."""
        ends = rest.ends_for(slot)
        return ends if ends > now else self._one_at_a_time(now)

    def _spaced(self, urgency: Urgency, share: int, now: datetime) -> datetime:
        """When the next one of that urgency is due, of which so many may be sent in a window."""
        latest = self.latest.get(urgency)
        if latest is None:
            return now
        return latest + self.window() / max(1.0, self.limit * RETRIES if urgency in ALONE else share)

    def _one_at_a_time(self, now: datetime) -> datetime:
        """While it isn't known what is left the next one waits for the answer, if that comes soon."""
        return max(self.in_flight.values()) + PROBE_PATIENCE if self.in_flight else now

    def is_paused(self, now: datetime) -> bool:
        """Whether it rests after a 429."""
        return self.pause.is_on(now)

    def own_free_at(self, slot: Slot) -> datetime:
        """When one may be sent whose own 429s may be; a moment that has passed means now."""
        limited = ((place, self.own[one]) for place, one in enumerate(slot.limited()) if one in self.own)
        # Others of its business go first.
        return max((pause.ends_for(slot) + place * PROBE_PATIENCE for place, pause in limited), default=NEVER)

    def in_turn(self) -> list[Slot]:
        """Who waits, in order; while it may be their own limit those who got a 429 go last, the latest of them last."""
        if not self.suspects:
            return list(self.queue.waiting)
        turns = {suspect: turn for turn, suspect in enumerate(self.suspects, 1)}
        return sorted(self.queue.waiting, key=lambda slot: [turns.get(slot.limited()[0], 0), turns.get(slot.key, 0)])

    def send(self, slot: Slot, now: datetime) -> None:
        """One more is sent."""
        self.queue.went(slot)
        self.in_flight[slot.key] = now
        self.sent.append(now)
        half = len(self.sent) // 2
        if self.sent[half] <= now - 2 * self.window():
            del self.sent[:half]
        self.ours += 1
        if slot.priority in SPACED:
            self.latest[slot.priority] = now
        for one in self.own.keys() & slot.limited():
            self.own[one].asked_at = now

    def answered(self, slot: Slot, sent_at: datetime | None) -> None:
        """A request that was sent then was answered, and not by a 429: so the tenant has nothing more to rest from.

        Where others were refused before, it was on their own account.
        """
        if sent_at is None:
            return
        ended = [one for one in slot.limited() if one in self.own and self.own[one].ends_by(sent_at)]
        for one in ended:
            del self.own[one]
        if self.pause.ends_by(sent_at):
            self.own |= {one: pause for one, pause in self.suspects.items() if one not in slot.limited()}
            self.pause, self.suspects = Pause(), {}

    def learn(self, headers: RateHeaders, sent_at: datetime | None, now: datetime) -> None:
        """Believe what an answer says.

        One of an earlier window that comes late says nothing of this one. But where a request that was sent since this
        window was named is told an earlier reset, that one holds: what was named was wrong, or windows are shorter now.
        """
        is_earlier = self.resets_at is not None and headers.reset < self.epoch - headers.fuzz
        if is_earlier:
            is_late = self.seen is None or sent_at is None or sent_at <= self.seen[0]
            if is_late or headers.resets_in <= timedelta() or headers.reset >= self.epoch - ROUNDED:
                return
            self.longest = self.period = self.seen = None
        self.limit, self.heard_at = headers.limit, now
        if self.resets_at is None or is_earlier or headers.reset > self.epoch + headers.fuzz:
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
            self.resets_at, self.heard_at = now + self.window() + MARGIN, now
            self.said, self.counted, self.ours = [self.limit - 1], NONE_COUNTED, 1 + len(self.in_flight)

    def refuse(self, slot: Slot, asked: timedelta | None, sent_at: datetime | None, now: datetime) -> timedelta | None:
        """A 429: what it refuses rests if that is known to be its own, else the tenant.

        Args:
            slot: Who was refused.
            asked: How long it says, if it does.
            sent_at: When the request was sent.
            now: The present moment.

        Returns:
            For how long the tenant rests now, where it didn't already.
        """
        own = self.own.keys() & slot.limited()
        if own:
            for one in {*own, slot.key}:
                self.own.setdefault(one, Pause()).refuse(asked, sent_at, now)
            return None
        was_paused = self.is_paused(now)
        self.pauses += not was_paused
        self.pause.refuse(asked, sent_at, now)
        for one in slot.limited():
            self.suspects[one] = suspect = self.suspects.pop(one, Pause())
            suspect.refuse(asked, sent_at, now)
        self.resets_at = None
        return None if was_paused else self.pause.rest.lasts

    def forget_refusals(self, now: datetime) -> None:
        """Whoever was refused over an hour ago is gone, or would have asked again."""
        for pauses in (self.own, self.suspects):
            for one in [one for one, pause in pauses.items() if pause.rest.ends() + LONGEST_KEPT <= now]:
                del pauses[one]
