"""Whether an environment's endpoint answers, and which requests fail there on their own account.

It is down when *nothing* gets through. While others are answered, what fails again is that AssetToken's or its
business's own: it keeps a back-off of its own, goes last, and says nothing of the endpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from asset_token_operator.renewal import PROBE_EVERY

if TYPE_CHECKING:
    from datetime import datetime

    from asset_token_operator.account import Business, Place, Rest, Tenant
    from asset_token_operator.model import Key, Urgency

DOWN_AFTER: Final = 3
"""Failures of so many AssetTokens in a row, with no answer in between, mean that the endpoint is down."""

NOTHING_GETS_THROUGH: Final = 10
"""The same for so many failures, whosever."""


@dataclass(slots=True)
class Endpoint:
    """Whether an environment's endpoint answers.

    Attributes:
        failures: How many requests have failed since the latest answer.
        failed: Whose, each with the number of its latest failure.
        failed_tenants: The same of their tenants.
        suspects: Whose requests failed before the latest answer; if they fail again it is their own failure.
        alone: Whose requests fail while others are answered.
        down: Whether it is taken for down.
        probed_at: When it was asked last whether it is up again.
        up_since: When it answered again after failures, on the wall clock.
        rest: What it has asked of all since the latest answer.
    """

    failures: int = 0
    failed: dict[Key, int] = field(default_factory=dict)
    failed_tenants: dict[Tenant, int] = field(default_factory=dict)
    suspects: set[Key] = field(default_factory=set)
    alone: dict[Key, Business] = field(default_factory=dict)
    down: bool = False
    probed_at: datetime | None = None
    up_since: datetime | None = None
    rest: Rest | None = None

    def fail(self, place: Place) -> None:
        """A request failed: its tenant, and in it the AssetToken, is the last to probe again."""
        latest = next(reversed(self.failed_tenants.values()), 0)
        self.failed_tenants.pop(place.tenant, None)  # the latest is the last
        self.failed_tenants[place.tenant] = self.failed[place.key] = latest + 1
        self.failures += 1
        if place.key in self.suspects:
            self.alone[place.key] = place.business()
        if self.failures >= NOTHING_GETS_THROUGH:  # so it is nobody's own
            self.suspects.clear()
            self.alone.clear()

    def goes_down(self) -> bool:
        """Whether it must be taken for down now."""
        return not self.down and len(self.failed.keys() - self.alone.keys()) >= DOWN_AFTER

    def answer(self, place: Place, now: datetime) -> set[Key]:
        """A request was answered, at that moment on the wall clock; those whose failures that ends."""
        released = {key for key, business in self.alone.items() if business == place.business()}
        if place.key in released:
            self.suspects -= released
            for key in released:
                del self.alone[key]
            released.discard(place.key)
        else:
            released = set()
        released |= self.failed.keys() - self.alone.keys() - {place.key}
        self.suspects |= self.failed.keys()
        self.suspects.discard(place.key)
        if self.failed or released:
            self.up_since = now
        self.down, self.failures, self.failed, self.failed_tenants, self.rest = False, 0, {}, {}, None
        return released

    def forget(self, key: Key) -> None:
        """That AssetToken is gone."""
        self.suspects.discard(key)
        self.alone.pop(key, None)

    def turn(self, place: Place) -> tuple[int, int, tuple[Urgency, datetime, Key]]:
        """The order in which probes go: by turns, so that one whose requests always fail is not all that is asked."""
        return (self.failed_tenants.get(place.tenant, 0), self.failed.get(place.key, 0), place.rank())

    def free_at(self, place: Place, now: datetime) -> datetime:
        """When one may ask it: now, or when it is down when the next probe is due."""
        if not self.down or self.probed_at is None:
            return now
        due = self.probed_at + PROBE_EVERY
        return due if self.rest is None else max(due, self.rest.ends_for(place))
