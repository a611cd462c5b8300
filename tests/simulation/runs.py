"""One run: a world, weather and users drawn from a seed, for some hours."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import dataclass
from typing import Final

from tests.simulation import virtual_time
from tests.simulation.users import Users
from tests.simulation.weather import Weather
from tests.simulation.world import Plan, World
from tests.support.asset_rules import LimitMode, RateLimit, RetryAfter

RENEWALS_A_SECOND: Final = 1.7 / 900
"""By an AssetToken whose tokens live for 15 minutes, the shortest there are."""

WINDOWS: Final = (10, 60, 600, 3600)
MODES: Final[tuple[LimitMode, ...]] = ("fixed", "sliding")
RETRY_AFTER: Final[tuple[RetryAfter, ...]] = ("absent", "seconds", "date")


@dataclass(frozen=True)
class Order:
    """Which run is wanted.

    Attributes:
        fewest: AssetTokens at the beginning, at least.
        most: The same, at most.
    """

    seed: int
    hours: float
    fewest: int = 5
    most: int = 20

    def command(self) -> str:
        """How to have it again."""
        counts = f" --fewest {self.fewest} --most {self.most}"
        return f"python -m tests.simulation --seed {self.seed} --hours {self.hours:g}{counts}"


LONG: Final = (
    *(Order(seed, 7 * 24, 200, 200) for seed in range(1001, 1006)),  # first, so that no process is left with one alone
    *(Order(seed, 24, 5, 50) for seed in range(1, 201)),
)
SHORT: Final = tuple(Order(seed, 6, 5, 20) for seed in range(1, 21))


def run(order: Order) -> World:
    """Let it run to its end."""
    return virtual_time.run(_run(order))


def summary(order: Order) -> tuple[Order, str, list[str]]:
    """Run one; what came of it in a line, and which invariants were broken."""
    world = run(order)
    outcomes = ", ".join(f"{count} {what}" for what, count in sorted(world.judge.outcomes.items()))
    gaps = f"{world.judge.explained_gaps:.0f} s without a valid token that something explains"
    return order, f"{outcomes}; {gaps}", world.history.broken


async def _run(order: Order) -> World:
    chance = random.Random(f"{order.seed}/plan")
    count = chance.randint(order.fewest, order.most)
    window = chance.choice(WINDOWS)
    clients = [f"tenant-{number}" for number in range(1, chance.randint(1, 3) + 1)]
    businesses = [f"biz_{number}" for number in range(1, 5)]
    limit = math.ceil(
        max(20, count * max(1.5, 3 * RENEWALS_A_SECOND * window))
    )  # else many wait, and their status tells
    if chance.random() < 0.5:
        limit = max(limit, 5 * window)
    rule = RateLimit(
        mode=chance.choice(MODES),
        per_tenant=limit,
        per_business=limit,
        window_seconds=window,
        retry_after=chance.choice(RETRY_AFTER),
    )
    drain = window * (1 + math.ceil(2 * count / limit))
    world = World(str(order.seed), Plan(1 if chance.random() < 0.6 else 2, rule, drain))
    weather = Weather(world, random.Random(f"{order.seed}/weather"), clients, businesses)
    users = Users(world, random.Random(f"{order.seed}/users"), weather, count)
    world.history.tell("plan", f"{count} AssetTokens, {len(world.operators)} operators, {clients}, {rule}")
    with world.living():
        users.settle()
        for operator in world.operators:
            operator.start()
        until = order.hours * 3600
        for work in (world.judging(), weather.blow(weather.plan(order.hours)), users.live(until - 3600)):
            world.own(asyncio.get_running_loop().create_task(work))
        await asyncio.sleep(until)
        await world.end()
    return world
