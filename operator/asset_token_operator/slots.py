"""Who asks for a slot in a tenant's budget, and in which order those go who wait for one."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeAlias

from asset_token_operator.model import Environment, Key, Urgency

if TYPE_CHECKING:
    from datetime import datetime

Business: TypeAlias = "tuple[Tenant, str | None]"

GUESSED: Final = {Urgency.EXPIRING: Urgency.MISSING, Urgency.EXPIRING_ALONE: Urgency.MISSING_ALONE}
"""What is believed of it: whoever invents credentials can invent a token that expires, too."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose budget it is: an OAuth client in one environment.

    Attributes:
        client: A fingerprint of its client_id, which is shown nowhere, as weak ones could be guessed by it.
        name: A credentials Secret with it, as `namespace/name`: so people, logs and metrics know it.
    """

    environment: Environment
    client: str = field(repr=False)
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.environment}/{self.name}"


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that is asked for, or held.

    Attributes:
        key: The AssetToken.
        expires_at: When its present token expires; of equal urgency the nearest goes first. In a queue it is by the
            clock that can't be set, as is `failed_at`, and before that by the wall clock.
        failed_at: When it failed last, where others are answered: of these what has waited longest goes first.
        credentials: Tells the credentials from others of the same client.
        is_accepted: Whether Asset has issued a token for these credentials since the operator started.
        turn: 0 where it has; else its turn among the namespaces that ask with credentials of which that isn't known.
    """

    key: Key
    tenant: Tenant
    business_id: str | None
    urgency: Urgency
    expires_at: datetime
    failed_at: datetime | None = None
    credentials: str = field(default="", repr=False)
    is_accepted: bool = True
    turn: int = 0

    @property
    def priority(self) -> Urgency:
        """Its urgency, as far as that is believed."""
        return GUESSED.get(self.urgency, self.urgency) if self.turn else self.urgency

    def rank(self) -> tuple[Urgency, int, datetime, Key]:
        """Its order in the tenant's queue."""
        return (self.priority, self.turn, self.failed_at or self.expires_at, self.key)

    def kind(self, now: datetime) -> tuple[Urgency, bool]:
        """Where one has to wait, those of its kind that come after it in the queue have to as well."""
        return self.priority, self.expires_at > now

    def limited(self) -> tuple[str | Key, ...]:
        """What may have a limit of its own besides the tenant's: its business, and itself."""
        return (self.key,) if self.business_id is None else (self.business_id, self.key)

    def whose(self) -> tuple[Urgency, str]:
        """Whose turn it is."""
        return self.priority, self.key.namespace

    def business(self) -> Business:
        """What it shares with others besides the endpoint."""
        return self.tenant, self.business_id


@dataclass(slots=True)
class Queue:
    """Who waits for a slot in a tenant's budget.

    Attributes:
        waiting: They, in order.
    """

    waiting: list[Slot] = field(default_factory=list)
    _turns: dict[tuple[Urgency, str], list[int]] = field(default_factory=dict)
    """Those that a namespace waits with, at each priority, in order."""

    _had: dict[tuple[Urgency, str], int] = field(default_factory=dict)
    """The latest that it had."""

    def with_turn(self, slot: Slot, queued: Slot | None) -> Slot:
        """The slot with a turn of its namespace, as its credentials aren't known to be accepted.

        Start-time fair queueing: the turn after its latest, but none that has passed; who waits keeps its turn. So who
        only knows a tenant's client_id, and asks with many wrong secrets in a namespace of his own, comes before no
        other's first token but once.

        Args:
            slot: What is asked for.
            queued: What it has waited for until now, if it has.
        """
        slot = replace(slot, turn=1)
        if queued is not None and queued.turn and (queued.tenant, queued.whose()) == (slot.tenant, slot.whose()):
            return replace(slot, turn=queued.turn)
        first = bisect.bisect_left(self.waiting, (slot.priority, 1), key=lambda other: (other.priority, other.turn))
        present = next((other.turn for other in self.waiting[first : first + 1] if other.priority is slot.priority), 0)
        if not present:  # nobody waits for a turn
            self._had = {whose: turn for whose, turn in self._had.items() if whose[0] is not slot.priority}
        latest = max(self._had.get(slot.whose(), 0), *self._turns.get(slot.whose(), (0,)))
        return replace(slot, turn=max(present, latest + 1))

    def add(self, slot: Slot) -> None:
        """It waits from now on."""
        bisect.insort(self.waiting, slot, key=Slot.rank)
        if slot.turn:
            bisect.insort(self._turns.setdefault(slot.whose(), []), slot.turn)

    def remove(self, slot: Slot) -> None:
        """It waits no more."""
        del self.waiting[bisect.bisect_left(self.waiting, slot.rank(), key=Slot.rank)]
        if slot.turn:
            turns = self._turns[slot.whose()]
            turns.remove(slot.turn)
            if not turns:
                del self._turns[slot.whose()]

    def went(self, slot: Slot) -> None:
        """It waits no more, if it ever did, and has had its turn."""
        if slot.turn:
            self._had[slot.whose()] = max(slot.turn, self._had.get(slot.whose(), 0))
