"""Asset's rate limit, the tenants' tokens and their other programs, in simulated time.

Nothing here has a socket, a thread or an event loop: `Budgets.serve` is resumed by hand when what it waits for has come
or its time is up, so minutes of many tokens take milliseconds and are the same in every run.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from asset_token_operator.answers import read_reply
from asset_token_operator.budget import Budgets
from asset_token_operator.model import Environment, Key, Reserves, Urgency
from asset_token_operator.renewal import fraction
from asset_token_operator.slots import Slot, Tenant
from tests.support.asset_rules import Ledger, RateLimit
from tests.support.builders import NOW

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator, Iterator

    from asset_token_operator.answers import Reply
    from tests.support.asset_rules import Budget

Rounding: TypeAlias = Literal["up", "down"]

LATENCY: Final = 0.05
"""Seconds of the way there or back, on the average."""

TENANT: Final = Tenant(Environment.SANDBOX, "a" * 64, "shop/asset-credentials")
OTHER_TENANT: Final = Tenant(Environment.SANDBOX, "b" * 64)


def a_slot(name: str = "a", **changes: object) -> Slot:
    """A slot for a routine renewal of a token that expires in an hour."""
    fields: dict[str, object] = {
        "key": Key("shop", name),
        "tenant": TENANT,
        "business_id": None,
        "urgency": Urgency.ROUTINE,
        "expires_at": NOW + timedelta(hours=1),
    }
    return Slot(**(fields | changes))  # type: ignore[arg-type]


@dataclass
class _Pause:
    """What waits for an event, at most until a moment."""

    event: asyncio.Event
    until: datetime

    def __await__(self) -> Generator[_Pause, None, None]:
        yield self


class SimulatedClock:
    """Shows what the simulation sets, on a wall clock that may be wrong."""

    def __init__(self, start: datetime) -> None:
        self.start = self.moment = start

    def now(self) -> datetime:
        return self.moment

    def elapsed(self) -> timedelta:
        return self.moment - self.start

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        await _Pause(event, self.moment + timedelta(seconds=seconds))

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@dataclass
class Program:
    """Another program of a tenant that spends from the same budget."""

    tenant: Tenant
    sent: int = 0
    refused: int = 0


@dataclass
class Token:
    """One AssetToken that wants a token as soon as it is added, and keeps wanting until it has one.

    Attributes:
        issued_after: Seconds of the simulation until it had one.
    """

    slot: Slot
    requests: int = 0
    issued_after: float | None = None


@dataclass
class Limiter:
    """Counts strictly, as Asset might.

    Attributes:
        rounding: How a moment becomes the whole second in `x-ratelimit-reset`.
        is_silent: Whether answers say nothing of the budget.
    """

    rule: RateLimit = field(default_factory=RateLimit)
    rounding: Rounding = "up"
    is_silent: bool = False
    ledger: Ledger = field(default_factory=Ledger)

    def charge(self, tenant: Tenant, business_id: str | None, at: datetime) -> Budget:
        return self.ledger.charge(self.rule, tenant.client, business_id, at.timestamp())

    def reply(self, tenant: Tenant, business_id: str | None, at: datetime) -> Reply:
        """Answer a token request."""
        budget = self.charge(tenant, business_id, at)
        headers = {"date": format_datetime(at.astimezone(UTC).replace(microsecond=0), usegmt=True)}
        if not self.is_silent:
            reset = math.ceil(budget.reset) if self.rounding == "up" else math.floor(budget.reset)
            headers |= {
                "x-ratelimit-limit": str(budget.limit),
                "x-ratelimit-remaining": str(budget.remaining),
                "x-ratelimit-reset": str(reset),
            }
        return read_reply(200 if budget.allowed else 429, headers, b"")


class Simulation:
    """Tokens that ask `Budgets`, and a limiter that answers.

    Args:
        reserves: What is left to other programs.
        limiter: What counts.
        start: When it begins, in seconds after a full minute.
        seed: What the jitter of the latency comes from.
    """

    def __init__(
        self,
        reserves: Reserves | None = None,
        limiter: Limiter | None = None,
        start: float = 0.0,
        seed: str = "",
        latency: float = LATENCY,
    ) -> None:
        self.limiter = limiter or Limiter()
        self.clock = SimulatedClock(NOW + timedelta(seconds=start))
        self.budgets = Budgets(self._woken, self.clock, reserves or Reserves())
        self.tokens: dict[Key, Token] = {}
        self.refused: defaultdict[Tenant, int] = defaultdict(int)
        self.most_in_flight: defaultdict[Tenant, int] = defaultdict(int)
        self._in_flight: defaultdict[Tenant, int] = defaultdict(int)
        self._start = self.clock.moment
        self._latency = latency
        self._jitters = self._jitter(seed)
        self._events: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = 0
        self._serving = self.budgets.serve().__await__()
        self._pause: _Pause = next(self._serving)

    @staticmethod
    def _jitter(seed: str) -> Iterator[float]:
        number = 0
        while True:
            number += 1
            yield 0.5 + fraction(f"{seed}/{number}")

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return (self.clock.moment - self._start).total_seconds()

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self._numbers += 1
        heapq.heappush(self._events, (self.clock.moment + timedelta(seconds=seconds), self._numbers, action))

    def add(self, slot: Slot, after: float = 0.0) -> Token:
        """Let a token want one, from so many seconds on."""
        token = self.tokens[slot.key] = Token(slot)
        self.later(after, lambda: self._ask(token))
        return token

    def add_program(self, tenant: Tenant, per_minute: int) -> Program:
        """Let another program of the tenant spend evenly."""
        program = Program(tenant)

        def spend() -> None:
            program.sent += 1
            program.refused += not self.limiter.charge(tenant, None, self.clock.moment).allowed
            self.later(60 / per_minute, spend)

        self.later(60 / per_minute, spend)
        return program

    def run(self, seconds: float) -> None:
        """Let that much time pass, or less where all tokens are issued before."""
        until = self.clock.moment + timedelta(seconds=seconds)
        while any(token.issued_after is None for token in self.tokens.values()):
            ends = self.clock.moment if self._pause.event.is_set() else self._pause.until
            if self._events and self._events[0][0] <= ends:
                moment, _, action = heapq.heappop(self._events)
            else:
                moment, action = ends, self._serve
            if moment > until:
                self.clock.moment = until
                return
            self.clock.moment = max(self.clock.moment, moment)
            action()

    def issued(self, tenant: Tenant = TENANT) -> list[float]:
        """When the tenant's tokens were issued, in seconds from the start."""
        found = (token.issued_after for token in self.tokens.values() if token.slot.tenant == tenant)
        return sorted(moment for moment in found if moment is not None)

    def requests(self) -> int:
        return sum(token.requests for token in self.tokens.values())

    def _serve(self) -> None:
        self._pause = next(self._serving)

    def _woken(self, key: Key) -> None:
        token = self.tokens[key]
        self.later(0, lambda: self._ask(token))

    def _ask(self, token: Token) -> None:
        if token.issued_after is None and self.budgets.acquire(token.slot):
            token.requests += 1
            tenant = token.slot.tenant
            self._in_flight[tenant] += 1
            self.most_in_flight[tenant] = max(self.most_in_flight[tenant], self._in_flight[tenant])
            self.later(self._latency * next(self._jitters), lambda: self._arrive(token))

    def _arrive(self, token: Token) -> None:
        reply = self.limiter.reply(token.slot.tenant, token.slot.business_id, self.clock.moment)
        self.later(self._latency * next(self._jitters), lambda: self._answer(token, reply))

    def _answer(self, token: Token, reply: Reply) -> None:
        tenant = token.slot.tenant
        self._in_flight[tenant] -= 1
        if reply.status == 429:
            self.refused[tenant] += 1
            self.later(0, lambda: self._ask(token))
        else:
            token.issued_after = self.seconds
        self.budgets.answered(token.slot, reply)
