"""What goes wrong, drawn from a seed: when, for how long, and for whom.

Each fault tells the judge what trouble it is, so that what follows from it is told apart from what shouldn't be.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from asset_token_operator.model import Environment
from tests.simulation.asset import BROKEN, OUTAGES, REFUSALS, Failure
from tests.simulation.invariants import Trouble
from tests.simulation.virtual_time import seconds

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from tests.simulation.world import Operator, World

    Fault = Callable[["Weather", float], Awaitable[None]]

A_HOUR: Final = 1.5
"""Faults, on the average."""

SHORTEST: Final = 2.0
LONGEST: Final = 2400.0
"""Seconds that a fault lasts; short ones are as frequent as long ones."""

ENDPOINT_RECOVERY: Final = 60.0
BACK_OFF_RECOVERY: Final = 360.0
LONGEST_PROBE: Final = 900.0
FAILOVER: Final = 30.0


class Planned(NamedTuple):
    """A fault to come."""

    at: float
    lasts: float
    name: str


class Weather:
    """Lets things go wrong.

    Args:
        world: Where.
        chance: What is drawn from.
        clients: The tenants.
        businesses: Their customers.
    """

    def __init__(self, world: World, chance: random.Random, clients: list[str], businesses: list[str]) -> None:
        self.world = world
        self.chance = chance
        self.clients = clients
        self.businesses = businesses
        self.drain = world.judge.drain
        self._left: defaultdict[tuple[Environment, str], float] = defaultdict(lambda: 1.0)

    def plan(self, hours: float) -> list[Planned]:
        """What goes wrong in that time, the earliest first. The last hour is fair."""
        until = max(0.0, hours - 1) * 3600
        planned = []
        for _ in range(math.ceil(hours * A_HOUR)):
            lasts = math.exp(self.chance.uniform(math.log(SHORTEST), math.log(LONGEST)))
            planned.append(Planned(self.chance.uniform(0, until), lasts, self.chance.choice(list(FAULTS))))
        return sorted(planned)

    async def blow(self, planned: list[Planned]) -> None:
        """Let it go wrong as it was planned."""
        async with asyncio.TaskGroup() as group:
            for fault in planned:
                await asyncio.sleep(max(0.0, fault.at - seconds()))
                group.create_task(self._blow(fault))

    async def _blow(self, fault: Planned) -> None:
        self.world.history.tell("weather", f"{fault.name} for {fault.lasts:.0f} s")
        await FAULTS[fault.name](self, fault.lasts)
        self.world.history.tell("weather", f"{fault.name} is over")

    @contextmanager
    def trouble(self, trouble: Trouble) -> Iterator[Trouble]:
        """Something is wrong as long as the context is open."""
        self.world.judge.trouble(trouble)
        try:
            yield trouble
        finally:
            trouble.ends = seconds()

    # Asset.

    async def fail(self, failure: Failure, environment: Environment, lasts: float, recovery: float) -> None:
        """Requests fail."""
        asset = self.world.assets[environment]
        said = Trouble(
            failure.how,
            seconds(),
            recovery + self.drain,
            environment=environment,
            client=failure.client,
            business=failure.business,
            name=failure.name,
        )
        token = self.world.judge.tokens.get(failure.name or "")
        if failure.how == "401" and token is not None:
            said.name, said.client = None, token.client
        with self.trouble(said):
            asset.failures.append(failure)
            self.world.history.tell("weather", f"{environment}: {failure}")
            await asyncio.sleep(lasts)
            asset.failures.remove(failure)

    def environment(self) -> Environment:
        return self.chance.choice([Environment.SANDBOX, Environment.SANDBOX, Environment.PRODUCTION])

    async def outage(self, lasts: float) -> None:
        how = self.chance.choice(OUTAGES)
        await self.fail(Failure(how), self.environment(), lasts, ENDPOINT_RECOVERY)

    async def outage_that_says_when(self, lasts: float) -> None:
        headers = {"retry-after": self.chance.choice(["0", "30", "120", "3000", "9999999999", "soon"])}
        await self.fail(Failure("503", headers=headers), self.environment(), lasts, 300 + ENDPOINT_RECOVERY)

    async def refused_client(self, lasts: float) -> None:
        failure = Failure("401", client=self.chance.choice(self.clients))
        await self.fail(failure, self.environment(), lasts, probe_recovery(lasts))

    async def outage_that_ends_with_refusals(self, lasts: float) -> None:
        """Asset is up again before what it knows of its clients is."""
        environment, short = self.environment(), min(lasts, 45.0)
        await self.fail(Failure(self.chance.choice(OUTAGES)), environment, lasts, ENDPOINT_RECOVERY)
        failure = Failure(self.chance.choice(REFUSALS), client=self.chance.choice(self.clients))
        await self.fail(failure, environment, short, probe_recovery(short))

    async def refused_requests(self, lasts: float) -> None:
        """One AssetToken's are refused; a 401 is taken for one of its credentials, whoever else uses them."""
        failure = Failure(self.chance.choice(REFUSALS), name=self._name())
        await self.fail(failure, self.environment(), lasts, probe_recovery(lasts))

    async def broken_answers(self, lasts: float) -> None:
        failure = Failure(self.chance.choice(BROKEN), client=self.chance.choice([None, *self.clients]))
        await self.fail(failure, self.environment(), lasts, BACK_OFF_RECOVERY)

    async def business_fails(self, lasts: float) -> None:
        failure = Failure(self.chance.choice(["500", "404"]), business=self.chance.choice(self.businesses))
        await self.fail(failure, self.environment(), lasts, BACK_OFF_RECOVERY)

    async def too_many_requests(self, lasts: float) -> None:
        headers = {"retry-after": self.chance.choice(["5", "9999999999", "1777657168", "0", ""])}
        failure = Failure("429", client=self.chance.choice(self.clients), headers=headers)
        await self.fail(failure, self.environment(), lasts, 2 * ENDPOINT_RECOVERY)

    async def business_limited(self, lasts: float) -> None:
        """A business's limit is used up, which its tenants can't know at once: others of theirs wait for a pause."""
        headers = {"retry-after": self.chance.choice(["5", "30", ""])}
        failure = Failure("429", business=self.chance.choice(self.businesses), headers=headers)
        environment = self.environment()
        others = Trouble("a business is limited", seconds(), 2 * ENDPOINT_RECOVERY, mild=True, environment=environment)
        with self.trouble(others):
            await self.fail(failure, environment, lasts, 2 * ENDPOINT_RECOVERY)

    async def wrong_reset(self, lasts: float) -> None:
        """A few answers say that nothing, or little, is left for long."""
        environment = self.environment()
        asset = self.world.assets[environment]
        limit = asset.rule.per_tenant
        said = {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(self.chance.choice([0, 0, limit // 10, limit])),
            "x-ratelimit-reset": str(int(asset.clock().timestamp()) + self.chance.choice([290, 3600, 80_000])),
        }
        asset.says = [said] * self.chance.randint(1, 2)
        recovery = 300 + ENDPOINT_RECOVERY + self.drain
        with self.trouble(Trouble("a wrong reset", seconds(), recovery, environment=environment)):
            await asyncio.sleep(min(lasts, 2 * ENDPOINT_RECOVERY))
        asset.says.clear()

    async def other_windows(self, lasts: float) -> None:
        """The limit is counted over other windows, with as many requests a second."""
        environment = self.environment()
        asset = self.world.assets[environment]
        before, window = asset.rule, self.chance.choice([10, 60, 600, 3600])
        limit = max(20, math.ceil(before.per_tenant * window / before.window_seconds))
        for rule in (replace(before, window_seconds=window, per_tenant=limit, per_business=limit), before):
            asset.rule = rule
            self.world.history.tell("weather", f"{environment}: {rule}")
            recovery = 300 + ENDPOINT_RECOVERY + 2 * rule.window_seconds + self.drain
            self.world.judge.trouble(Trouble("windows change", seconds(), recovery, seconds(), environment=environment))
            await asyncio.sleep(lasts if rule is not before else 0)

    @contextmanager
    def _another_program(self, what: str, environment: Environment, client: str) -> Iterator[float]:
        """The share of the budget that it spends: however many there are, they leave some."""
        left = self._left[environment, client]
        share = left * self.chance.uniform(0.1, 0.6)
        recovery = ENDPOINT_RECOVERY + self.drain
        said = Trouble(what, seconds(), recovery, mild=True, environment=environment, client=client)
        self._left[environment, client] -= share
        with self.trouble(said):
            yield share
        self._left[environment, client] += share

    async def bursts(self, lasts: float) -> None:
        """Another program of the tenant spends much of the budget at the beginning of each window."""
        environment, client = self.environment(), self.chance.choice(self.clients)
        asset, ends = self.world.assets[environment], seconds() + lasts
        with self._another_program("bursts", environment, client) as share:
            while seconds() < ends:
                asset.spend(client, math.ceil(asset.rule.per_tenant * share))
                await asyncio.sleep(asset.rule.window_seconds)

    async def other_program(self, lasts: float) -> None:
        """Another program of the tenant spends much of the budget, evenly."""
        environment, client = self.environment(), self.chance.choice(self.clients)
        asset, began, spent = self.world.assets[environment], seconds(), 0
        with self._another_program("another program", environment, client) as share:
            pause = asset.rule.window_seconds / (asset.rule.per_tenant * share)
            while seconds() < began + lasts:
                due = 1 + math.floor((seconds() - began) / pause)
                asset.spend(client, due - spent)
                spent = due
                await asyncio.sleep(max(1.0, pause))

    async def slow(self, lasts: float) -> None:
        asset = self.world.assets[self.environment()]
        asset.latency, before = self.chance.uniform(0.5, 4), asset.latency
        await asyncio.sleep(lasts)
        asset.latency = min(before, 0.05)

    async def asset_clock(self, lasts: float) -> None:
        clocks = self.world.assets[self.environment()].clocks
        match self.chance.choice(["date", "date", "issued_at", "not_before"]):
            case "date":
                clocks.date = timedelta(hours=self.chance.choice([-5, -1, 1, 2]))
            case "issued_at":
                clocks.issued_at = timedelta(minutes=2)
            case _:
                clocks.not_before = timedelta(seconds=self.chance.choice([5, 60]))
        self.world.history.tell("weather", f"{clocks}")
        with self.trouble(Trouble("Asset's clock is wrong", seconds(), ENDPOINT_RECOVERY)):
            await asyncio.sleep(lasts)
        clocks.date, clocks.issued_at, clocks.not_before = timedelta(), timedelta(), None

    # The cluster.

    async def cluster_down(self, lasts: float) -> None:
        self.world.conditions.is_down = True
        with self.trouble(Trouble("the API server is down", seconds(), ENDPOINT_RECOVERY + self.drain)):
            await asyncio.sleep(lasts)
        self.world.conditions.is_down = False

    async def secrets_denied(self, lasts: float) -> None:
        self.world.conditions.denies = True
        with self.trouble(Trouble("Secrets are denied", seconds(), BACK_OFF_RECOVERY)):
            await asyncio.sleep(lasts)
        self.world.conditions.denies = False

    async def slow_webhook(self, lasts: float) -> None:
        self.world.conditions.webhook_seconds = self.chance.choice([1.0, 8.0, 20.0])
        with self.trouble(Trouble("writes of Secrets are slow", seconds(), BACK_OFF_RECOVERY)):
            await asyncio.sleep(lasts)
        self.world.conditions.webhook_seconds = 0.0

    async def late_watches(self, lasts: float) -> None:
        lag = self.chance.uniform(1, 60)
        self.world.conditions.watch_lag = lag
        with self.trouble(Trouble("watches are late", seconds(), 2 * lag + 10)):
            await asyncio.sleep(lasts)
        self.world.conditions.watch_lag = 0.02

    async def broken_watches(self, lasts: float) -> None:
        ends = seconds() + lasts
        self.world.conditions.repeats = self.chance.random() < 0.5
        with self.trouble(Trouble("watches break", seconds(), ENDPOINT_RECOVERY)):
            while seconds() < ends:
                self.world.conditions.breaks += 1
                await asyncio.sleep(self.chance.uniform(1, 60))
        self.world.conditions.repeats = False

    # The operators.

    def operator(self) -> Operator:
        return self.chance.choice(self.world.operators)

    def away(self, what: str, lasts: float) -> Trouble:
        """One operator is away; where there is another, that takes over."""
        recovery = ENDPOINT_RECOVERY + self.drain
        has_other = sum(operator.machine.is_awake() and operator.is_running() for operator in self.world.operators) > 1
        return Trouble(what, seconds(), recovery, seconds() + (FAILOVER if has_other else lasts))

    async def restart(self, lasts: float) -> None:
        operator = self.operator()
        if not operator.is_running():
            return
        self.world.judge.trouble(self.away(f"{operator.name} restarts", lasts))
        await (operator.kill() if self.chance.random() < 0.5 else operator.stop())
        await asyncio.sleep(lasts)
        operator.start()

    async def suspension(self, lasts: float) -> None:
        operator = self.operator()
        self.world.judge.trouble(self.away(f"{operator.name} is suspended", lasts))
        self.world.history.tell(operator.name, "is suspended")
        operator.machine.suspend()
        await asyncio.sleep(lasts)
        self.world.history.tell(operator.name, "wakes up")
        operator.machine.wake()

    async def operator_clock(self, lasts: float) -> None:
        operator = self.operator()
        ahead = timedelta(seconds=self.chance.choice([-7200, -600, -40, 40, 600, 3600]))
        for moment in (ahead, timedelta()):
            operator.machine.ahead = moment
            self.world.judge.forgets(operator.name)
            self.world.history.tell(operator.name, f"its clock is {moment.total_seconds():.0f} s ahead now")
            await asyncio.sleep(lasts if moment else 0)

    def _name(self) -> str:
        return self.chance.choice(sorted(self.world.judge.tokens) or [""])


def probe_recovery(lasted: float) -> float:
    """How long it may take until a refusal that has ended is found to have ended, by who has no token any more."""
    return min(max(60.0, lasted), LONGEST_PROBE) + ENDPOINT_RECOVERY


FAULTS: Final[Mapping[str, Fault]] = {
    "outage": Weather.outage,
    "Retry-After": Weather.outage_that_says_when,
    "outage, then refusals": Weather.outage_that_ends_with_refusals,
    "client refused": Weather.refused_client,
    "requests refused": Weather.refused_requests,
    "broken answers": Weather.broken_answers,
    "business fails": Weather.business_fails,
    "too many requests": Weather.too_many_requests,
    "a business is limited": Weather.business_limited,
    "wrong reset": Weather.wrong_reset,
    "other windows": Weather.other_windows,
    "bursts": Weather.bursts,
    "another program": Weather.other_program,
    "slow Asset": Weather.slow,
    "Asset's clock": Weather.asset_clock,
    "API server down": Weather.cluster_down,
    "Secrets denied": Weather.secrets_denied,
    "slow webhook": Weather.slow_webhook,
    "late watches": Weather.late_watches,
    "broken watches": Weather.broken_watches,
    "restart": Weather.restart,
    "suspension": Weather.suspension,
    "operator's clock": Weather.operator_clock,
}
"""All that can go wrong."""
