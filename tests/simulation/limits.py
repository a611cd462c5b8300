"""Histories that have names, of limits: whose they are, what is said of them, and who else spends from them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from tests.simulation.asset import Failure
from tests.simulation.stage import CLIENT, MINUTE, Scenario, Stage
from tests.simulation.virtual_time import present, seconds
from tests.support.asset_rules import RateLimit

HOUR: Final = 3600.0
BAD: Final = "biz_bad"


async def a_business_whose_limit_is_used_up(stage: Stage, count: int, headers: dict[str, str]) -> None:
    good = stage.add(3, lifetime="15m")
    await asyncio.sleep(2 * MINUTE)
    stage.asset.failures.append(Failure("429", business=BAD, headers=headers))
    for number in range(count):
        stage.put(f"aaa-{number}", businessId=BAD, lifetime="15m")
    await asyncio.sleep(3 * MINUTE)
    since = seconds()
    new = stage.add(5)
    await asyncio.sleep(HOUR)
    assert max(stage.without_token(name, since) for name in new) <= 62
    assert min(left for name in good for left in stage.world.judge.tokens[name].left[1:]) >= 150
    bad = [at for number in range(count) for at in stage.requests(f"aaa-{number}", since)]
    assert HOUR / 300 - 1 <= len(bad) <= HOUR / 60 + 5
    stage.asset.failures.clear()
    since = seconds()
    await asyncio.sleep(5 * MINUTE + 1)
    assert stage.lacking([f"aaa-{number}" for number in range(count)]) == []


async def two_businesses_whose_limits_are_used_up(stage: Stage) -> None:
    stage.asset.failures += [Failure("429", business="biz_a"), Failure("429", business="biz_b")]
    stage.put("aaa", businessId="biz_a")
    stage.put("aab", businessId="biz_b")
    await asyncio.sleep(3 * MINUTE)
    since = seconds()
    new = stage.add(3, businessId="biz_c")
    await asyncio.sleep(5 * MINUTE)
    assert max(stage.without_token(name, since) for name in new) <= 122


async def a_tenant_whose_applications_take_nearly_all(stage: Stage, spend: int) -> None:
    """With a business that has nothing left besides: who is refused for which of them can't be told apart at once."""
    stage.spending(spend)
    stage.spending(300, business=BAD, client="another tenant")
    names = [*stage.add(10, lifetime="15m"), *stage.add(2, lifetime="15m", businessId="biz_good")]
    stage.add(2, lifetime="15m", businessId=BAD)
    await asyncio.sleep(HOUR)
    assert max(stage.without_token(name, 5 * MINUTE) for name in names) == 0


async def windows_that_become_shorter(stage: Stage, spent: int) -> None:
    """An hour long they are used up by others; then they are a minute long."""
    names = stage.add(10, lifetime="15m")
    await asyncio.sleep(5 * MINUTE)
    stage.asset.spend(CLIENT, spent)
    stage.put(names[0], "now", lifetime="15m")
    await asyncio.sleep(20)
    stage.asset.rule = RateLimit()
    since = seconds()
    (new,) = stage.add()
    await asyncio.sleep(70 * MINUTE)
    assert max(stage.without_token(name, since) for name in names) == 0
    assert stage.without_token(new) <= 302
    assert min(left for name in names for left in stage.world.judge.tokens[name].left[3:]) >= 150


async def windows_that_become_longer(stage: Stage) -> None:
    names = stage.add(10, lifetime="15m")
    await asyncio.sleep(30 * MINUTE)
    stage.asset.rule = replace(stage.asset.rule, window_seconds=3600)
    await asyncio.sleep(4 * HOUR)
    assert max(stage.without_token(name, MINUTE) for name in names) == 0
    assert stage.world.judge.outcomes["429"] == 0


async def a_reset_that_is_wrong(stage: Stage, ahead: int, remaining: int, times: int) -> None:
    names = stage.add(20, lifetime="15m")
    await asyncio.sleep(5 * MINUTE)
    reset = str(int(present().timestamp()) + ahead)
    said = {"x-ratelimit-limit": "300", "x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": reset}
    stage.asset.says = [said] * times
    stage.put(names[0], "now", lifetime="15m")
    await asyncio.sleep(20)
    since = seconds()
    (new,) = stage.add()
    await asyncio.sleep(HOUR)
    assert max(stage.without_token(name, since) for name in names) == 0
    assert stage.without_token(new) <= min(times * 300, ahead) + 2


async def a_clock_that_is_set_while_the_tenant_rests(stage: Stage, hours: int) -> None:
    names = stage.add(3)
    await asyncio.sleep(MINUTE)
    stage.asset.once = [Failure("429", headers={"retry-after": "3600"})]
    await asyncio.sleep(30 * MINUTE)
    stage.put(names[0], "now")
    await asyncio.sleep(10)
    stage.operator.machine.ahead = timedelta(hours=hours)
    await asyncio.sleep(HOUR)
    assert [stage.without_token(name, MINUTE) for name in names] == [0.0] * 3


async def a_business_that_failed_and_is_well_again(stage: Stage, spend: int) -> None:
    """In a tenant whose applications and renewals leave nothing for who goes last; another business fails for ever."""
    stage.spending(spend)
    good = stage.add(40, lifetime="15m")
    stage.put("bad", businessId=BAD, lifetime="30m")
    stage.asset.failures.append(Failure("500", business="biz_worse"))
    worse = stage.add(3, businessId="biz_worse", lifetime="15m")
    await asyncio.sleep(15 * MINUTE)
    await stage.failing(Failure("500", business=BAD), 8 * MINUTE)
    since = seconds()
    await asyncio.sleep(2 * HOUR)
    assert stage.without_token("bad", since) == 0
    assert max(stage.without_token(name, 6 * MINUTE) for name in good) == 0
    assert max(len(stage.requests(name, since)) for name in worse) <= 2 * HOUR / 24
    assert stage.refused == 0


async def a_business_that_was_corrected(stage: Stage) -> None:
    """It asks for a business that is well, in a tenant that leaves nothing for who goes last; then it fails once."""
    (good,) = stage.add(1, lifetime="15m")
    stage.asset.failures.append(Failure("500", business=BAD))
    stage.put("bad", businessId=BAD, lifetime="30m")
    for number in range(20):
        await asyncio.sleep(30)
        stage.put(good, str(number), lifetime="15m")
    stage.put("bad", businessId="biz_good", lifetime="30m")
    await asyncio.sleep(2 * MINUTE)
    stage.spending(235)
    stage.add(40, lifetime="15m")
    await asyncio.sleep(5 * MINUTE)
    stage.asset.once = [Failure("503", name="bad")]
    since = seconds()
    await asyncio.sleep(2 * HOUR)
    assert stage.without_token("bad", since) == 0
    assert min(stage.world.judge.tokens["bad"].left[1:]) >= 300


async def a_business_that_was_asked_to_wait_before_an_outage(stage: Stage) -> None:
    stage.add(lifetime="24h")
    await asyncio.sleep(MINUTE)
    stage.asset.failures.append(Failure("503", business=BAD, headers={"retry-after": "3600"}))
    stage.put("bad", businessId=BAD, lifetime="24h")
    await asyncio.sleep(5)
    names = stage.add(4)
    await stage.failing(Failure("connection refused"), 20)
    await asyncio.sleep(16)
    assert stage.lacking(names) == []


async def applications_that_spend_all_at_once(stage: Stage, spend: int) -> None:
    stage.spending(spend)
    names = stage.add(60, lifetime="15m")
    await asyncio.sleep(HOUR)
    assert min(left for name in names for left in stage.world.judge.tokens[name].left[1:]) >= 150
    assert stage.refused == 0


LIMITS: Final[dict[str, Scenario]] = {
    **{
        f"18 {count} of a business whose limit is used up, Retry-After {said}": Scenario(
            partial(
                a_business_whose_limit_is_used_up,
                count=count,
                headers={} if said == "unsaid" else {"retry-after": said},
            )
        )
        for count in (1, 5)
        for said in ("unsaid", "60")
    },
    "18 two businesses whose limits are used up": Scenario(two_businesses_whose_limits_are_used_up),
    **{
        f"18 applications take {spend} of a tenant and all of a business": Scenario(
            partial(a_tenant_whose_applications_take_nearly_all, spend=spend)
        )
        for spend in (200, 265)
    },
    **{
        f"19 windows become shorter, {spent} are spent": Scenario(
            partial(windows_that_become_shorter, spent=spent),
            RateLimit(per_tenant=560, per_business=560, window_seconds=3600),
        )
        for spent in (520, 540, 560)
    },
    "19 windows become longer": Scenario(windows_that_become_longer),
    **{
        f"19 a reset {ahead} s ahead, {remaining} left, {times} times": Scenario(
            partial(a_reset_that_is_wrong, ahead=ahead, remaining=remaining, times=times)
        )
        for ahead, remaining, times in ((80_000, 299, 1), (80_000, 0, 1), (80_000, 0, 3), (3600, 0, 1), (290, 0, 1))
    },
    **{
        f"20 a clock is set by {hours} h while the tenant rests": Scenario(
            partial(a_clock_that_is_set_while_the_tenant_rests, hours=hours)
        )
        for hours in (-5, 5, 20)
    },
    **{
        f"21 a business is well again, applications spend {spend}": Scenario(
            partial(a_business_that_failed_and_is_well_again, spend=spend)
        )
        for spend in (0, 235, 260)
    },
    "21 a business was corrected": Scenario(a_business_that_was_corrected),
    "22 a Retry-After of one business before an outage": Scenario(a_business_that_was_asked_to_wait_before_an_outage),
    **{
        f"23 applications spend {spend} at once": Scenario(partial(applications_that_spend_all_at_once, spend=spend))
        for spend in (150, 200, 230)
    },
}
