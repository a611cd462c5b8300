"""Histories that have names: what once let a token expire, or a hot loop begin, and what was decided to happen instead.

Each is a function that is given a `Stage`, lets something happen there, and asserts what consumers and Asset see.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Final

from asset_token_operator.model import Key
from tests.simulation.asset import Failure
from tests.simulation.cluster import SECRETS
from tests.simulation.limits import LIMITS
from tests.simulation.stage import CLIENT, MINUTE, Scenario, Stage
from tests.simulation.virtual_time import present, seconds
from tests.simulation.world import NAMESPACE
from tests.support.asset_rules import RateLimit

HOUR: Final = 3600.0
BAD: Final = "biz_bad"


async def one_refusal_at_a_renewal(stage: Stage, how: str, lifetime: str) -> None:
    names = stage.add(5, lifetime=lifetime)
    await asyncio.sleep(MINUTE)
    for _ in range(4):
        stage.asset.once = [Failure(how, name=name) for name in names]
        await asyncio.sleep(HOUR / 2)
    assert [stage.without_token(name, MINUTE) for name in names] == [0.0] * 5


async def rotated_credentials_that_are_refused_for_20_seconds(stage: Stage) -> None:
    (name,) = stage.add()
    await asyncio.sleep(MINUTE)
    await stage.suspended(HOUR - MINUTE - 100)
    stage.rotate(CLIENT, "canary-rotated")
    await stage.failing(Failure("401"), 20)
    await asyncio.sleep(5 * MINUTE)
    assert stage.without_token(name, MINUTE) == 0.0


async def a_probe_that_succeeds_wakes_all(stage: Stage) -> None:
    stage.asset.failures.append(Failure("401"))
    names = stage.add(10)
    await asyncio.sleep(12 * MINUTE)
    asked = len(stage.requests())
    stage.asset.failures.clear()
    for _ in range(18 * 60):
        await asyncio.sleep(1)
        if len(stage.requests()) > asked:
            break
    await asyncio.sleep(5)
    assert stage.lacking(names) == []


async def an_answer_of_something_in_front(stage: Stage, how: str) -> None:
    (name,) = stage.add()
    await asyncio.sleep(MINUTE)
    await stage.suspended(HOUR - 3 * MINUTE)
    await stage.failing(Failure(how), 30)
    assert stage.conditions(name).get("Stalled") is None
    await asyncio.sleep(5 * MINUTE)
    assert stage.without_token(name, MINUTE) == 0.0


async def an_endpoint_that_is_down_past_the_expiry(stage: Stage, count: int, how: str = "503") -> None:
    names = stage.add(count)
    await asyncio.sleep(MINUTE)
    await stage.failing(Failure(how), 80 * MINUTE)
    since = seconds()
    await asyncio.sleep(16)
    assert min(stage.requests(since=since)) <= since + 15
    assert [name for name in names if stage.without_token(name, since) > 16] == []


async def writes_that_fail_for_12_of_15_minutes(stage: Stage, begins: float) -> None:
    names = stage.add(5, lifetime="15m")
    await asyncio.sleep(MINUTE + begins)
    stage.world.conditions.denies = True
    await asyncio.sleep(12 * MINUTE)
    stage.world.conditions.denies = False
    await asyncio.sleep(20 * MINUTE)
    assert [stage.without_token(name, MINUTE) for name in names] == [0.0] * 5


async def retry_after_of_one_asset_token(stage: Stage) -> None:
    (bad, good) = (*stage.add(businessId=BAD), *stage.add())
    await asyncio.sleep(MINUTE)
    since = seconds()
    stage.asset.failures.append(Failure("503", business=BAD, headers={"retry-after": "120"}))
    stage.put(bad, "now", businessId=BAD)
    await asyncio.sleep(10)
    (new,) = stage.add()
    stage.put(good, "now")
    await asyncio.sleep(100)
    assert len(stage.requests(bad, since)) == 1
    assert len(stage.requests(good, since)) == 1
    assert stage.without_token(new) < 5
    await asyncio.sleep(30)
    assert len(stage.requests(bad, since)) == 2


async def retry_after_of_one_that_has_no_token(stage: Stage) -> None:
    stage.asset.failures.append(Failure("503", business=BAD, headers={"retry-after": "3000"}))
    (name,) = stage.add(businessId=BAD)
    await asyncio.sleep(290)
    assert len(stage.requests(name)) == 1
    await asyncio.sleep(20)
    assert len(stage.requests(name)) == 2


async def a_pause_that_nobody_meant(stage: Stage, said: str) -> None:
    stage.add()
    await asyncio.sleep(MINUTE)
    since = seconds()
    stage.asset.is_silent = True
    stage.asset.failures.append(Failure("429", headers={"retry-after": said}))
    (name,) = stage.add()
    await asyncio.sleep(5)
    stage.asset.failures.clear()
    await asyncio.sleep(20)
    assert len(stage.requests(name, since)) == 2
    assert stage.without_token(name) < 20


async def a_reset_that_has_passed(stage: Stage) -> None:
    past = int(present().timestamp()) - 100
    said = {"x-ratelimit-limit": "300", "x-ratelimit-remaining": "0", "x-ratelimit-reset": str(past)}
    stage.asset.failures.append(Failure("429", headers=said))
    (name,) = stage.add()
    await asyncio.sleep(4 * MINUTE)
    asked = stage.requests(name)
    pauses = [after - before for before, after in pairwise(asked)]
    assert [round(pause / 10) * 10 for pause in pauses[:4]] == [10, 20, 40, 60]


async def a_business_that_fails(stage: Stage, how: str) -> None:
    stage.asset.failures.append(Failure(how, business=BAD))
    good = stage.add(5, lifetime="15m")
    bad = stage.add(3, lifetime="15m", businessId=BAD)
    await asyncio.sleep(HOUR)
    (new,) = stage.add(lifetime="15m")
    await asyncio.sleep(HOUR)
    assert [stage.without_token(name, MINUTE) for name in good] == [0.0] * 5
    assert stage.without_token(new) < 15
    assert max(len(stage.requests(name)) for name in bad) <= 2 * HOUR / 12 + 60


async def an_outage_that_ends_for_all_but_one(stage: Stage) -> None:
    good, (bad,) = stage.add(5), stage.add(businessId=BAD)
    await asyncio.sleep(MINUTE)
    stage.asset.failures.append(Failure("500", business=BAD))
    await stage.failing(Failure("503"), 80 * MINUTE)
    since = seconds()
    await asyncio.sleep(16)
    assert stage.lacking(good) == []
    for _ in range(20):
        stage.add()
        await asyncio.sleep(30)
    assert len(stage.requests(bad, since)) <= (seconds() - since) / 12 + 2


async def renew_requests_twice_a_second(stage: Stage) -> None:
    (name,) = stage.add()
    await asyncio.sleep(MINUTE)
    for number in range(240):
        stage.put(name, str(number))
        stage.world.judge.excuse(name, 2)
        await asyncio.sleep(0.5)
    stage.world.judge.needs(name)
    await asyncio.sleep(2 * MINUTE)
    assert stage.world.judge.tokens[name].needs_since is None


async def a_spec_that_flips(stage: Stage) -> None:
    (name,) = stage.add()
    for number in range(240):
        stage.put(name, scopes=[f"ledger:{number % 2}"])
        stage.world.judge.excuse(name, 2)
        await asyncio.sleep(0.5)


async def a_client_id_that_changes(stage: Stage) -> None:
    (name,) = stage.add()
    for number in range(240):
        stage.rotate(f"{CLIENT}-{number}", "canary-secret")
        stage.world.judge.excuse(name, 2)
        await asyncio.sleep(0.5)


async def renewals_near_the_limit(stage: Stage) -> None:
    names = stage.add(60, lifetime="15m")
    await asyncio.sleep(2 * HOUR)
    windows = len(names) / (0.9 * stage.asset.rule.per_tenant - 1) + 1  # first issues leave a tenth
    last_issue = windows * (stage.asset.rule.window_seconds + 1) + MINUTE
    assert [name for name in names if stage.without_token(name, last_issue) > 0] == []
    assert min(left for name in names for left in stage.world.judge.tokens[name].left[1:]) >= MINUTE
    assert stage.world.judge.outcomes["429"] <= 10


async def clocks_that_are_wrong(stage: Stage, **wrong: timedelta) -> None:
    for name, ahead in wrong.items():
        setattr(stage.asset.clocks, name, ahead)
    names = stage.add(3)
    await asyncio.sleep(4 * HOUR)
    assert [stage.without_token(name, 2 * MINUTE) for name in names] == [0.0] * 3
    assert max(len(stage.requests(name)) for name in names) <= 10


async def an_operators_clock_that_is_corrected(stage: Stage) -> None:
    stage.operator.machine.ahead = timedelta(hours=1)
    names = stage.add(3)
    await asyncio.sleep(10 * MINUTE)
    stage.operator.machine.ahead = timedelta()
    await asyncio.sleep(4 * HOUR)
    assert [stage.without_token(name, 2 * MINUTE) for name in names] == [0.0] * 3
    assert max(len(stage.requests(name)) for name in names) <= 10


async def a_webhook_that_lets_writes_through_again(stage: Stage) -> None:
    names = stage.add(10, lifetime="15m")
    await asyncio.sleep(MINUTE)
    stage.world.conditions.denies = True
    await asyncio.sleep(40 * MINUTE)
    stage.world.conditions.denies = False
    await asyncio.sleep(20)
    assert stage.lacking(names) == []


async def a_deployment_whose_token_is_renewed_every_ten_minutes(stage: Stage, disturbs: str) -> None:
    """It is restarted once an hour, however often the operator is restarted, or its status is lost."""
    restart = {"targets": [{"kind": "Deployment", "name": "worker"}], "minInterval": "1h"}
    stage.put_deployment("worker")
    await asyncio.sleep(MINUTE)
    (name,) = stage.add(lifetime="2h", renewBefore="110m", rolloutRestart=restart)
    hours, stamps = 6, set()
    for minute in range(hours * 60):
        await asyncio.sleep(MINUTE)
        stamps.add(stage.restarted_at("worker"))
        if disturbs != "nothing" and minute % 17 == 0:
            await (stage.operator.stop() if minute % 2 else stage.operator.kill())
            if disturbs == "restarts and a lost status":
                stage.world.cluster.lose_status(Key(NAMESPACE, name))
            stage.operator.start()
    restarts = sorted(stamp for stamp in stamps if stamp is not None)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(restarts)]
    assert len(stage.requests(name)) >= hours * 6 - 3
    assert len(restarts) == hours
    assert min(gaps) >= HOUR
    assert max(gaps) <= HOUR + MINUTE, "what came within the hour is made up for when it ends"


async def guesses_for_a_known_client_id(stage: Stage) -> None:
    """Who only knows a client_id makes AssetTokens with wrong secrets elsewhere; then its owner makes his first."""
    for number in range(1000):
        credentials = Key("aaa", f"credentials-{number}")
        stage.world.cluster.put_credentials(credentials, CLIENT, f"canary-guess-{number}")
        spec = {"environment": "sandbox", "credentialsSecretRef": {"name": credentials.name}}
        stage.world.cluster.put_asset_token(Key("aaa", f"guess-{number}"), spec)
    await asyncio.sleep(30)
    names = stage.add(3)
    await asyncio.sleep(MINUTE)
    assert stage.lacking(names) == []
    assert len(stage.requests()) < 1000, "the guesses still wait"


async def one_refusal_that_follows(stage: Stage, what: str, how: str) -> None:
    """What was in the way is over, and the first answer after it is a refusal: it is the first of its row."""
    if what != "an outage from the beginning":
        stage.put("token", lifetime="15m")
        await asyncio.sleep(MINUTE)
    if what == "missing credentials":
        stage.world.cluster.delete(SECRETS, Key(NAMESPACE, CLIENT))
        await asyncio.sleep(HOUR)
        stage.rotate(CLIENT, "canary-fresh")
    elif what == "spec.suspend":
        stage.put("token", lifetime="15m", suspend=True)
        await asyncio.sleep(2 * HOUR)
        stage.put("token", lifetime="15m")
    elif what == "a suspended machine":
        await stage.suspended(3 * HOUR)
    else:
        stage.asset.failures.append(Failure("503"))
        stage.put("token", lifetime="15m")
        await asyncio.sleep(40 * MINUTE)
        stage.asset.failures.clear()
    stage.asset.once = [Failure(how, name="token")]
    since = seconds()
    await asyncio.sleep(20 * MINUTE)
    assert 0 < stage.without_token("token", since) < 2 * MINUTE


async def refusals_of_one_minute_that_come_together(stage: Stage, latency: float) -> None:
    """Twenty requests are in flight when the first is refused: the credentials were refused once."""
    stage.add()
    await asyncio.sleep(MINUTE)
    stage.asset.latency = latency
    stage.world.cluster.put_credentials(Key(NAMESPACE, CLIENT), CLIENT, "canary-rotated")
    names = stage.add(20)
    await asyncio.sleep(MINUTE)
    stage.asset.accepted[CLIENT] = {"canary-rotated"}
    since = seconds()
    await asyncio.sleep(30 * MINUTE)
    assert max(stage.without_token(name, since) for name in names) < 2 * MINUTE + 10


async def refusals_of_one_minute_after_an_outage(stage: Stage) -> None:
    stage.asset.failures.append(Failure("503"))
    names = stage.add(10)
    await asyncio.sleep(20 * MINUTE)
    stage.asset.failures.clear()
    await stage.failing(Failure("401"), 45)
    since = seconds()
    await asyncio.sleep(20 * MINUTE)
    assert max(stage.without_token(name, since) for name in names) < 2 * MINUTE


async def a_probe_that_succeeds_for_one_that_was_refused_often(stage: Stage) -> None:
    """Whose request it was that probed, and how often, makes no difference once the credentials are accepted."""
    stage.asset.failures.append(Failure("401"))
    (often,) = stage.add()
    await asyncio.sleep(12 * MINUTE)
    stage.asset.failures.clear()
    stage.put("another", renew_request="now")
    await asyncio.sleep(5)
    assert stage.lacking([often, "another"]) == []


async def a_probe_of_credentials_that_nobody_answers(stage: Stage) -> None:
    (name,) = stage.add()
    await stage.failing(Failure("401"), 20 * MINUTE)
    stage.asset.once = [Failure("503", name=name)]
    since = seconds()
    for _ in range(16 * 60):
        await asyncio.sleep(1)
        if not stage.asset.once:
            break
    await asyncio.sleep(16)
    assert stage.lacking([name]) == []
    assert stage.without_token(name, since) < 15 * MINUTE


async def a_token_that_works_later_than_it_is_renewed(stage: Stage, not_before: float, spec: dict[str, Any]) -> None:
    stage.asset.clocks.not_before = timedelta(seconds=not_before)
    (name,) = stage.add(**spec)
    await asyncio.sleep(not_before + 10)
    assert stage.lacking([name]) == []
    await asyncio.sleep(2 * HOUR)
    assert len(stage.requests(name)) < 70


def _window(limit: int, window: int) -> RateLimit:
    return RateLimit(per_tenant=limit, per_business=limit, window_seconds=window)


SCENARIOS: Final[dict[str, Scenario]] = {
    **{
        f"1 one {how} at a renewal, {lifetime}": Scenario(partial(one_refusal_at_a_renewal, how=how, lifetime=lifetime))
        for how in ("401", "403", "422")
        for lifetime in ("15m", "30m")
    },
    "2 rotated credentials, refused for 20 s": Scenario(rotated_credentials_that_are_refused_for_20_seconds),
    "3 a probe that succeeds wakes all": Scenario(a_probe_that_succeeds_wakes_all),
    **{
        f"4 something in front answers: {how}": Scenario(partial(an_answer_of_something_in_front, how=how))
        for how in ("403 HTML", "200 HTML", "302")
    },
    **{
        f"5 the endpoint is down past the expiry of {count}": Scenario(
            partial(an_endpoint_that_is_down_past_the_expiry, count=count)
        )
        for count in (1, 2, 3)
    },
    **{
        f"5 something in front answers past the expiry of {count}: {how}": Scenario(
            partial(an_endpoint_that_is_down_past_the_expiry, count=count, how=how)
        )
        for count in (1, 20)
        for how in ("200 HTML", "302")
    },
    "6 writes fail from the beginning": Scenario(partial(writes_that_fail_for_12_of_15_minutes, begins=0.0)),
    "6 writes fail from before the renewal": Scenario(partial(writes_that_fail_for_12_of_15_minutes, begins=MINUTE)),
    "7 Retry-After of one AssetToken": Scenario(retry_after_of_one_asset_token),
    "7 Retry-After of one without a token": Scenario(retry_after_of_one_that_has_no_token),
    **{
        f"8 429 with Retry-After: {said}": Scenario(partial(a_pause_that_nobody_meant, said=said))
        for said in ("9999999999", "Thu, 01 Jan 2099 00:00:00 GMT", "4070908800")
    },
    "9 429 with a reset that has passed": Scenario(a_reset_that_has_passed),
    **{
        f"10 a business that fails with {how}": Scenario(partial(a_business_that_fails, how=how))
        for how in ("500", "404")
    },
    "11 an outage ends for all but one": Scenario(an_outage_that_ends_for_all_but_one),
    "12 renew requests twice a second": Scenario(renew_requests_twice_a_second, judged=True),
    "12 a spec that flips": Scenario(a_spec_that_flips, judged=True),
    "12 a client_id that changes": Scenario(a_client_id_that_changes, judged=True),
    **{
        f"13 {limit} requests in {window} s": Scenario(renewals_near_the_limit, _window(limit, window))
        for limit, window in ((4, 10), (85, 600), (560, 3600))
    },
    "14 Date is 5 h behind": Scenario(partial(clocks_that_are_wrong, date=timedelta(hours=-5))),
    "14 Date is 2 h ahead": Scenario(partial(clocks_that_are_wrong, date=timedelta(hours=2))),
    "14 iat is 2 min ahead": Scenario(partial(clocks_that_are_wrong, issued_at=timedelta(minutes=2))),
    "14 nbf is to come": Scenario(partial(clocks_that_are_wrong, not_before=timedelta(minutes=1))),
    "14 the operator's clock is corrected": Scenario(an_operators_clock_that_is_corrected),
    "15 a webhook lets writes through again": Scenario(a_webhook_that_lets_writes_through_again),
    **{
        f"16 a Deployment restarts once an hour: {disturbs}": Scenario(
            partial(a_deployment_whose_token_is_renewed_every_ten_minutes, disturbs=disturbs)
        )
        for disturbs in ("nothing", "restarts", "restarts and a lost status")
    },
    "17 guesses for a known client_id": Scenario(guesses_for_a_known_client_id),
    **{
        f"18 one {how} after {what}": Scenario(partial(one_refusal_that_follows, what=what, how=how))
        for what in (
            "an outage from the beginning",
            "an outage",
            "spec.suspend",
            "a suspended machine",
            "missing credentials",
        )
        for how in ("401", "403", "422")
    },
    **{
        f"18 refusals together, latency {latency} s": Scenario(
            partial(refusals_of_one_minute_that_come_together, latency=latency)
        )
        for latency in (0.05, 0.3, 2.0)
    },
    "18 refusals of a minute after an outage": Scenario(refusals_of_one_minute_after_an_outage),
    "18 a probe succeeds for another": Scenario(a_probe_that_succeeds_for_one_that_was_refused_often),
    "18 a probe that nobody answers": Scenario(a_probe_of_credentials_that_nobody_answers),
    **{
        f"19 nbf in {not_before:.0f} s, {spec}": Scenario(
            partial(a_token_that_works_later_than_it_is_renewed, not_before=not_before, spec=spec)
        )
        for not_before, spec in (
            (120.0, {"renewBefore": "58m30s"}),
            (660.0, {"renewBefore": "50m"}),
            (660.0, {"lifetime": "15m"}),
        )
    },
    **LIMITS,
}
