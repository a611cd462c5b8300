"""Whether an environment's endpoint answers, and which requests fail there on their own account.

It is down when *nothing* gets through. While others are answered, what fails again is that AssetToken's or its
business's own: it keeps a back-off of its own, goes last, and says nothing of the endpoint.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.renewal import PROBE_EVERY

if TYPE_CHECKING:
    from datetime import datetime

    from asset_token_operator.model import Key, Urgency
    from asset_token_operator.rests import Rest
    from asset_token_operator.slots import Business, Slot, Tenant

DOWN_AFTER: Final = 3
"""Failures of so many AssetTokens in a row, with no answer in between, mean that the endpoint is down; and what so many
businesses in a row are asked to wait for, all are."""

ALONE_AFTER: Final = 2
"""So many failures, each followed by an answer to somebody else, make the next one the AssetToken's own."""

NOTHING_GETS_THROUGH: Final = 10
SILENCE: Final = timedelta(minutes=2)
"""So many failures, and so long without an answer, are nobody's own."""


@dataclass(slots=True)
class Endpoint:
    """Whether an environment's endpoint answers.

    Attributes:
        failures: How many requests have failed since the latest answer.
        failed: Whose.
        businesses: Of what business each is whose requests have failed since it was answered itself.
        turns: When a tenant, a business or an AssetToken failed last, as the how many-th failure.
        suspects: How often requests of AssetTokens had failed when others were answered.
        bad: Businesses of which one AssetToken has to be answered before the others ask again.
        alone: Whose requests fail while others are answered.
        down: Whether it is taken for down.
        probed_at: When it was asked last whether it is up again.
        answered_at: When it answered last.
        ups: How often it has answered again after failures.
        up_since: When it did last, on the wall clock.
        rests: What the latest failures have asked for, by business, since one asked for nothing or was an answer.
    """

    failures: int = 0
    failed: dict[Key, None] = field(default_factory=dict)
    businesses: dict[Key, Business] = field(default_factory=dict)
    turns: dict[Tenant | Business | Key, int] = field(default_factory=dict)
    suspects: Counter[Key] = field(default_factory=Counter)
    bad: set[Business] = field(default_factory=set)
    alone: set[Key] = field(default_factory=set)
    down: bool = False
    probed_at: datetime | None = None
    answered_at: datetime | None = None
    ups: int = 0
    up_since: datetime | None = None
    rests: dict[Business, Rest] = field(default_factory=dict)

    def ask(self, slot: Slot) -> None:
        """One wants to ask: what it failed for where it asks no more, or for another business, is forgotten."""
        if self.businesses.get(slot.key, slot.business()) != slot.business():
            self.forget(slot.key)

    def fail(self, slot: Slot, now: datetime, rest: Rest | None) -> None:
        """A request failed: its tenant, business and AssetToken are the last to probe again."""
        business = slot.business()
        self.failures += 1
        self.failed[slot.key], self.businesses[slot.key] = None, business
        if rest is None:
            self.rests.clear()
        else:
            self.rests[business] = rest
        self.turns |= dict.fromkeys((slot.tenant, business, slot.key), self.failures)
        if self.suspects[slot.key] >= ALONE_AFTER or business in self.bad:
            self.alone.add(slot.key)
        is_silent = self.answered_at is None or now - self.answered_at >= SILENCE
        if self.failures >= NOTHING_GETS_THROUGH and is_silent:  # so it is nobody's own
            self._trust()

    def _trust(self) -> None:
        self.suspects.clear()
        self.bad.clear()
        self.alone.clear()

    def goes_down(self) -> bool:
        """Whether it must be taken for down now."""
        return not self.down and len(self.failed.keys() - self.alone) >= DOWN_AFTER

    def answer(self, slot: Slot, now: datetime, wall: datetime) -> set[Key]:
        """A request was answered; those who may ask again at once.

        Of each business whose requests failed one goes first. Its own answer lets the others go.
        """
        business = slot.business()
        released = self._release(business) if business in self.bad or slot.key in self.alone else set()
        scouts: set[Business] = set()
        for key in self.failed:
            if key in self.alone or key == slot.key:
                continue
            theirs = self.businesses[key]
            if theirs in scouts:
                self.alone.add(key)
                self.bad.add(theirs)
                continue
            if theirs != business:
                scouts.add(theirs)
            released.add(key)
            self.suspects[key] += 1
        if released or self.down:
            self.ups += 1
            self.up_since = wall
        self.suspects.pop(slot.key, None)
        self.businesses.pop(slot.key, None)
        self.alone.discard(slot.key)
        self.down, self.failures, self.failed, self.turns, self.rests = False, 0, {}, {}, {}
        self.answered_at = now
        return released - {slot.key}

    def _release(self, business: Business) -> set[Key]:
        """What fails is not that business's own any more."""
        released = {key for key in self.alone if self.businesses[key] == business}
        self.alone -= released
        for key in released:
            self.suspects.pop(key, None)
        self.bad.discard(business)
        return released

    def forget(self, key: Key) -> None:
        """That AssetToken is gone."""
        self.suspects.pop(key, None)
        self.failed.pop(key, None)
        self.alone.discard(key)
        business = self.businesses.pop(key, None)
        if business is not None and business not in self.businesses.values():
            self.bad.discard(business)

    def turn(self, slot: Slot) -> tuple[int, int, int, tuple[Urgency, int, datetime, Key]]:
        """The order in which probes go: by turns, so that one whose requests always fail is not all that is asked."""
        tenant, business, key = (self.turns.get(one, 0) for one in (slot.tenant, slot.business(), slot.key))
        return (tenant, business, key, slot.rank())

    def free_at(self, slot: Slot, now: datetime) -> datetime:
        """When one may ask it: now, or when it is down when the next probe is due."""
        if not self.down or self.probed_at is None:
            return now
        due, rest = self.probed_at + PROBE_EVERY, self.rests.get(slot.business())
        if rest is None and len(self.rests) >= DOWN_AFTER:
            rest = next(reversed(self.rests.values()))
        return due if rest is None else max(due, rest.ends_for(slot))
