"""Found by a review that looked for other forms of what was reported: each says what must hold."""

import asyncio
import random
import time
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from asset_token_operator.account import Account
from asset_token_operator.answers import Claims, RateHeaders
from asset_token_operator.expiry import read_validity
from asset_token_operator.model import AssetToken, Credentials, Environment, Key, Reserves, SecretSpec, Spec, Urgency
from asset_token_operator.slots import Slot, Tenant
from tests.simulation.asset import Failure, TokenRequest
from tests.simulation.scenarios import BAD, HOUR
from tests.simulation.stage import MINUTE, Scenario, Stage, play
from tests.support.asset_rules import RateLimit
from tests.support.builders import NOW, a_refusal, a_reply, a_spec, an_answer, an_asset_token
from tests.support.fakes import World

SECOND = timedelta(seconds=1)
TENANT = Tenant(Environment.SANDBOX, "client")


@pytest.fixture
def world() -> World:
    return World()


def a_token(name: str, **changes: Any) -> AssetToken:
    spec = a_spec(secret=SecretSpec(f"{name}-token"), **changes)
    return an_asset_token(spec, key=Key("shop", name), uid=name)


def a_slot(name: str, urgency: Urgency, expires_at: datetime) -> Slot:
    return Slot(Key("shop", name), TENANT, None, urgency, expires_at)


def renew(world: World, value: str) -> None:
    """Somebody asks for a renewal."""
    world.kube.put_token(replace(world.token(), renew_request=value))


def test_a_clock_that_was_set_back_since_the_endpoint_came_up_makes_no_hot_loop(world: World) -> None:
    world.add()
    world.asset.faults.fail("request_token", a_refusal(503), times=1)
    again = world.reconcile()
    assert again is not None
    world.pass_time(again - world.clock.now())
    world.reconcile()
    assert world.conditions()["Ready"][0] == "True"

    world.clock._now -= timedelta(hours=1)  # noqa: SLF001 - somebody sets the wall clock
    renew(world, "now")
    before = len(world.asset.requests)
    world.asset.faults.fail("request_token", a_refusal(503), times=50)
    world.reconcile()

    assert len(world.asset.requests) - before <= 2


def test_a_jwt_without_iat_is_served_though_date_is_two_hours_ahead() -> None:
    """Our clock and the API server's agree with `exp`, and `expires_in` says an hour: `Date` is the odd one."""
    claims = Claims(exp=int((NOW + timedelta(hours=1)).timestamp()))
    answer = an_answer(expires_in=3600, claims=claims)

    validity = read_validity(answer, None, NOW + timedelta(hours=2), NOW, NOW + SECOND, timedelta())

    assert validity.expires_at - validity.skew == NOW + timedelta(hours=1)


def test_a_date_that_is_behind_makes_no_window_longer(world: World) -> None:
    """A proxy's clock is 5 h behind; the reset, in unix seconds, comes in half a minute."""
    tokens = [a_token("a"), a_token("b")]
    for token in tokens:
        world.add(token)
    world.asset.skew = timedelta(hours=-5)
    reset = int(world.clock.now().timestamp()) + 30
    world.asset.headers = {
        "x-ratelimit-limit": "10",
        "x-ratelimit-remaining": "0",
        "x-ratelimit-reset": str(reset),
    }
    world.reconcile(tokens[0])
    world.reconcile(tokens[1])
    assert len(world.asset.requests) == 1

    world.pass_time(timedelta(minutes=2))
    world.serve()

    assert tokens[1].key in world.woken


def test_one_that_has_expired_and_rests_for_5_minutes_holds_up_no_other_that_rests_for_less(world: World) -> None:
    expired = a_slot("expired", Urgency.EXPIRING, NOW - SECOND)
    expiring = a_slot("expiring", Urgency.EXPIRING, NOW + timedelta(minutes=2))
    assert world.budgets.acquire(expired)
    world.budgets.answered(expired, a_reply(429, {"detail": "Too Many Requests"}, retry_after="3600"))
    assert not world.budgets.acquire(expired)
    assert not world.budgets.acquire(expiring)

    world.pass_time(timedelta(seconds=41))  # a third of what it has left
    world.serve()

    assert world.woken == [expiring.key]


def test_nothing_is_kept_of_asset_tokens_that_failed_and_are_gone(world: World) -> None:
    other = a_slot("other", Urgency.MISSING, NOW)
    for number in range(10):
        gone = a_slot(f"gone-{number}", Urgency.MISSING, NOW)
        assert world.budgets.acquire(gone)
        world.budgets.failed(gone)
        world.budgets.forget(gone.key)
        assert world.budgets.acquire(other)
        world.budgets.answered(other, a_reply(200))

    assert not world.budgets.endpoint(Environment.SANDBOX).suspects


def test_a_401_of_one_business_holds_up_no_other_asset_token_of_the_tenant(world: World) -> None:
    """The credentials have just been accepted for another, so what is refused is the business's own."""

    def refuse(spec: Spec, _: Credentials) -> None:
        world.asset.faults.mend()
        if spec.business_id == BAD:
            world.asset.faults.fail("request_token", a_refusal(401, "invalid_client"), times=1)

    world.asset.before_request = refuse
    bad, good, new = a_token("bad", business_id=BAD), a_token("good"), a_token("new")
    world.add(bad)
    world.add(good)
    for _ in range(2):  # it is refused, another is accepted, it is refused again
        world.reconcile(bad)
        world.pass_time(timedelta(minutes=2))
        world.kube.put_token(replace(world.kube.asset_tokens[good.key], renew_request=str(world.clock.now())))
        world.reconcile(good)
    world.reconcile(bad)

    world.add(new)
    world.reconcile(new)

    assert new.secret_key in world.kube.secrets


def test_what_an_answer_costs_grows_not_with_the_requests_of_its_window() -> None:
    def seconds(requests: int) -> float:
        account, now, began = Account(), NOW, time.process_time()
        for number in range(requests):
            slot = a_slot(str(number), Urgency.MISSING, NOW)
            account.free_at(slot, Reserves(), now)
            account.send(slot, now)
            account.in_flight.pop(slot.key)
            account.learn(RateHeaders(60_000, 60_000 - number - 1, 3600, timedelta(hours=1)), now, now)
            now += timedelta(milliseconds=5)
        return time.process_time() - began

    assert seconds(4000) < 24 * seconds(500)  # 8 times as many; it was 60 times as much


async def _many_of_one_business_fail(stage: Stage, how: str, good: int, bad: int) -> None:
    stage.asset.failures.append(Failure(how, business=BAD))
    names = stage.add(good, lifetime="15m")
    stage.add(bad, lifetime="15m", businessId=BAD)
    await asyncio.sleep(HOUR / 2)
    assert [name for name in names if stage.without_token(name, 2 * MINUTE) > 0] == []


@pytest.mark.parametrize(
    ("how", "good", "bad"), [pytest.param("no answer", 100, 100, id="hangs"), pytest.param("500", 20, 300, id="500")]
)
def test_a_business_with_many_asset_tokens_that_fails_lets_no_other_token_expire(how: str, good: int, bad: int) -> None:
    play(Scenario(partial(_many_of_one_business_fail, how=how, good=good, bad=bad)))


async def _each_second_request_fails(stage: Stage) -> None:
    """By chance, whosever it is."""
    chance, answer = random.Random(1), stage.asset.answer

    def answer_or_fail(request: TokenRequest) -> Any:
        stage.asset.failures[:] = [Failure("503")] if chance.random() < 0.5 else []
        return answer(request)

    stage.asset.answer = answer_or_fail  # type: ignore[method-assign]
    names = [stage.add(lifetime="15m", businessId=f"biz_{number}")[0] for number in range(100)]
    await asyncio.sleep(10 * MINUTE)
    for name in names:
        asked = stage.requests(name)
        assert asked[0] < 3 * MINUTE
        assert max((later - one for one, later in pairwise(asked) if later - one < 6 * MINUTE), default=0) <= 90
    made = [sum(window <= one < window + MINUTE for one in stage.requests()) for window in (0, MINUTE + 1)]
    assert min(made) >= 54, "all but a tenth"


def test_an_endpoint_that_fails_each_second_time_leaves_nobody_waiting_while_the_budget_has_room() -> None:
    """Of 60 requests a minute that there are 20 are made, and some who failed twice have no first token for 11 min."""
    play(Scenario(_each_second_request_fails, RateLimit(per_tenant=60, per_business=60)))


async def _one_business_fails_while_the_others_need_nothing(stage: Stage) -> None:
    stage.add(5, lifetime="1h")
    (bad,) = stage.add(lifetime="15m", businessId=BAD)
    await asyncio.sleep(MINUTE)
    stage.asset.failures.append(Failure("500", business=BAD))
    await asyncio.sleep(20 * MINUTE)
    asked = stage.requests(bad)
    assert max(sum(at <= other < at + MINUTE for other in asked) for at in asked) <= 15


def test_one_that_fails_asks_no_more_often_than_an_endpoint_that_is_down_is_probed() -> None:
    """It was up to 22 times a minute near the end of its token."""
    play(Scenario(_one_business_fails_while_the_others_need_nothing))


async def _clocks_that_are_wrong_alike(stage: Stage) -> None:
    (name,) = stage.add()
    await asyncio.sleep(HOUR / 2)
    await stage.operator.kill()
    stage.operator.machine.ahead = stage.asset.clocks.date = timedelta(hours=-3)
    stage.asset.failures.append(Failure("422"))
    stage.operator.start()
    await asyncio.sleep(HOUR / 2 + MINUTE)
    assert stage.conditions(name)["Ready"] == "False"


def test_a_refusal_s_date_makes_no_token_longer_lived_than_the_secret_and_the_api_server_say() -> None:
    """After a restart on a machine whose clock is behind like that of what stands in front of Asset."""
    play(Scenario(_clocks_that_are_wrong_alike))
