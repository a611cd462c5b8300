"""What `kubectl asset-token plan` forecasts is what the whole operator then does: the requests of each five minutes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from asset_token_operator.kubectl.forecast import Load, forecast
from asset_token_operator.model import Reserves
from asset_token_operator.parsing import parse_asset_token
from tests.simulation.cluster import ASSET_TOKENS
from tests.simulation.stage import MINUTE, Scenario, Stage, play
from tests.simulation.virtual_time import present, seconds
from tests.support.asset_rules import RateLimit

STEP: Final = 5
LIFETIMES: Final = ("15m", "30m", "1h", "2h", "1h")
LIMIT: Final = 30


@dataclass
class Compared:
    """The requests of each five minutes, as forecast and as they were."""

    load: Load
    forecast: Sequence[int]
    made: Sequence[int]

    @property
    def largest_difference(self) -> int:
        return max(abs(planned - made) for planned, made in zip(self.forecast, self.made, strict=True))


async def compare(stage: Stage, minutes: int, limit: int, begin: Callable[[], None] = lambda: None) -> Compared:
    """Forecast from what a user sees now, and wait for what happens."""
    tokens = [parse_asset_token(body) for body in stage.world.cluster.all(ASSET_TOKENS)]
    (load,) = forecast({"tenant": tokens}, present(), minutes, limit, Reserves())
    since = seconds()
    begin()
    await asyncio.sleep(minutes * MINUTE)
    made = Counter(int((at - since) // MINUTE) for at in stage.requests(since=since))
    return Compared(load, _steps(load.sent), _steps([made[minute] for minute in range(minutes)]))


def _steps(minutes: Sequence[int]) -> list[int]:
    return [sum(minutes[start : start + STEP]) for start in range(0, len(minutes), STEP)]


async def tokens_of_all_lifetimes(stage: Stage) -> Compared:
    for lifetime in LIFETIMES:
        stage.add(20, lifetime=lifetime)
    stage.add(5, suspend=True)
    await asyncio.sleep(37 * MINUTE)
    return await compare(stage, 240, RateLimit().per_tenant)


async def many_new_ones(stage: Stage) -> Compared:
    """They are seen all at once, by an operator that was suspended."""
    stage.add(20)
    await asyncio.sleep(30 * MINUTE)
    stage.operator.machine.suspend()
    stage.add(300)
    return await compare(stage, 120, LIMIT, stage.operator.machine.wake)


async def renewals_near_the_limit(stage: Stage) -> Compared:
    stage.add(200, lifetime="15m")
    await asyncio.sleep(45 * MINUTE)
    return await compare(stage, 60, LIMIT)


def compared(act: Callable[[Stage], Awaitable[Compared]], limit: int) -> Compared:
    found: list[Compared] = []

    async def acting(stage: Stage) -> None:
        found.append(await act(stage))

    play(Scenario(acting, RateLimit(per_tenant=limit, per_business=limit)))
    return found[0]


def test_each_renewal_is_made_when_it_was_forecast() -> None:
    found = compared(tokens_of_all_lifetimes, RateLimit().per_tenant)
    assert found.load.verdict() == "fits"
    assert sum(found.made) > 1000
    assert found.forecast == found.made


@pytest.mark.parametrize("act", [many_new_ones, renewals_near_the_limit])
def test_a_queue_is_forecast_to_a_fifteenth_of_the_budget(act: Callable[[Stage], Awaitable[Compared]]) -> None:
    found = compared(act, LIMIT)
    assert found.load.fits
    assert found.load.longest_wait
    assert max(found.made) >= 0.7 * LIMIT * STEP
    assert found.largest_difference <= LIMIT * STEP / 15, (found.forecast, found.made)
