"""What is read off the operator's state when it is scraped."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from asset_token_operator.model import AssetToken, Credentials, CredentialsRef, Key, SecretSpec
from asset_token_operator.scheduler import Scheduler
from asset_token_operator.state_metrics import OperatorMetrics, sample
from tests.support.builders import NOW, a_refusal, a_spec, an_asset_token
from tests.support.clock import settle
from tests.support.fakes import World
from tests.support.metrics import scrape as scrape_world

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
TENANT = 'environment="sandbox",tenant="shop/asset-credentials"'
"""The usual client: the first digits of the SHA-256 of `client`."""

LEDGER_WRITER = '{name="ledger-writer",namespace="shop"}'


@pytest.fixture
def world() -> World:
    world = World()
    world.add()
    return world


async def scrape(world: World) -> dict[str, float]:
    return await scrape_world(world, world.caches)


async def test_a_token_that_was_issued_is_ready_and_has_its_times(world: World) -> None:
    world.reconcile()
    world.sync()

    found = await scrape(world)

    assert found[f"token_ready{LEDGER_WRITER}"] == 1
    assert found[f"token_suspended{LEDGER_WRITER}"] == 0
    assert found[f"token_scopes_granted{LEDGER_WRITER}"] == 1
    assert found[f"token_failed_attempts{LEDGER_WRITER}"] == 0
    assert found[f"token_expiration_timestamp_seconds{LEDGER_WRITER}"] == (NOW + HOUR).timestamp()
    renewal = found[f"token_renewal_timestamp_seconds{LEDGER_WRITER}"]
    assert NOW.timestamp() < renewal < (NOW + HOUR).timestamp()


async def test_one_without_a_status_is_not_ready_and_has_no_times(world: World) -> None:
    world.sync()

    found = await scrape(world)

    assert found[f"token_ready{LEDGER_WRITER}"] == 0
    assert f"token_scopes_granted{LEDGER_WRITER}" not in found
    assert f"token_expiration_timestamp_seconds{LEDGER_WRITER}" not in found


async def test_failures_and_suspension_show(world: World) -> None:
    world.asset.faults.fail("request_token", a_refusal(503))
    world.reconcile()
    world.kube.put_token(replace(world.token(), spec=a_spec(suspend=True)))
    world.sync()

    found = await scrape(world)

    assert found[f"token_failed_attempts{LEDGER_WRITER}"] == 1
    assert found[f"token_suspended{LEDGER_WRITER}"] == 1


async def test_one_that_lacks_scopes_shows(world: World) -> None:
    world.asset.scopes = ()
    world.reconcile()
    world.sync()

    assert (await scrape(world))[f"token_scopes_granted{LEDGER_WRITER}"] == 0


async def test_one_that_is_deleted_vanishes(world: World) -> None:
    world.reconcile()
    world.kube.asset_tokens.clear()
    world.sync()

    assert not any("ledger-writer" in series for series in await scrape(world))


async def test_without_series_of_each_there_are_the_others(world: World) -> None:
    world.reconcile()
    world.sync()

    found = await scrape_world(world)

    assert not any(series.startswith("token_ready") for series in found)
    assert found["leader"] == 1


async def test_a_budget_shows_what_asset_said_of_it(world: World) -> None:
    reset = str(int(NOW.timestamp()) + 45)
    world.asset.headers = {"x_ratelimit_limit": "300", "x_ratelimit_remaining": "41", "x_ratelimit_reset": reset}
    world.reconcile()

    found = await scrape(world)

    assert found[f"budget_limit{{{TENANT}}}"] == 300
    assert found[f"budget_remaining{{{TENANT}}}"] == 41
    assert found[f"budget_paused{{{TENANT}}}"] == 0
    assert found[f"budget_pauses_total{{{TENANT}}}"] == 0
    assert found[f"budget_queue_length{{{TENANT}}}"] == 0
    assert found['endpoint_up{environment="sandbox"}'] == 1


async def test_after_the_window_all_is_left_as_far_as_is_known(world: World) -> None:
    world.reconcile()
    world.pass_time(2 * MINUTE)

    found = await scrape(world)

    assert found[f"budget_remaining{{{TENANT}}}"] == found[f"budget_limit{{{TENANT}}}"] == 300


async def test_a_pause_shows_while_it_lasts_and_is_counted(world: World) -> None:
    world.asset.faults.fail("request_token", a_refusal(429, retry_after="30"))
    world.reconcile()

    found = await scrape(world)

    assert found[f"budget_paused{{{TENANT}}}"] == 1
    assert found[f"budget_remaining{{{TENANT}}}"] == 0
    assert found[f"budget_pauses_total{{{TENANT}}}"] == 1


def other(name: str) -> AssetToken:
    return an_asset_token(a_spec(secret=SecretSpec(f"{name}-token")), key=Key("shop", name), uid=name)


async def test_refused_credentials_show_once_until_they_are_corrected(world: World) -> None:
    world.add(other("b"))
    world.add(replace(other("c"), spec=a_spec(credentials=CredentialsRef("others"), secret=SecretSpec("c-token"))))
    world.kube.put_credentials(Credentials(SecretStr("x"), SecretStr("y")), Key("shop", "others"))
    world.asset.faults.fail("request_token", a_refusal(401, "invalid_client"), times=1)
    world.reconcile()
    world.reconcile(other("b"))
    world.reconcile(other("c"))

    found = await scrape(world)
    assert found['credentials_refused{environment="sandbox"}'] == 1
    assert found['credentials_refused{environment="production"}'] == 0

    world.kube.put_credentials(Credentials(SecretStr("client"), SecretStr("corrected")))
    world.reconcile()

    assert (await scrape(world))['credentials_refused{environment="sandbox"}'] == 0


async def test_refused_credentials_show_no_more_when_nobody_uses_them(world: World) -> None:
    world.asset.faults.fail("request_token", a_refusal(401, "invalid_client"))
    world.reconcile()
    world.kube.asset_tokens.clear()
    world.sync()

    assert (await scrape(world))['credentials_refused{environment="sandbox"}'] == 0


async def test_an_endpoint_that_is_down_shows(world: World) -> None:
    world.asset.faults.fail("request_token", a_refusal(503))
    for name in ("a", "b", "c"):
        world.add(other(name))
        world.reconcile(other(name))

    assert (await scrape(world))['endpoint_up{environment="sandbox"}'] == 0


async def test_asset_s_clock_shows_once_it_was_seen(world: World) -> None:
    world.asset.skew = timedelta(seconds=90)
    assert not any(series.startswith("clock_skew") for series in await scrape(world))

    world.reconcile()

    assert (await scrape(world))['clock_skew_seconds{environment="sandbox"}'] == 90


async def test_what_is_due_and_has_not_run_is_counted(world: World) -> None:
    scheduler: Scheduler[Key] = Scheduler(world.clock, 1)
    scheduler.wake(Key("shop", "a"))
    scheduler.wake(Key("shop", "b"), NOW + HOUR)

    metrics = OperatorMetrics(
        world.caches, world.scopes, world.budgets, world.issuer, world.clocks, scheduler, lambda: False
    ).collect()

    values = {metric.name: [sample.value for sample in metric.samples] for metric in metrics}
    assert values["asset_token_operator_queue_length"] == [1]
    assert values["asset_token_operator_leader"] == [0]


class TestSamples:
    @pytest.fixture
    async def sampled(self, world: World) -> AsyncIterator[World]:
        """A world with a token, which is looked at every five seconds."""
        world.reconcile()
        world.sync()
        work = asyncio.create_task(sample(world.metrics, world.caches, world.clocks, world.clock, lambda: True))
        await settle()
        yield world
        work.cancel()

    async def served(self, world: World) -> float:
        return (await scrape(world))["expired_token_served_seconds_total"]

    async def test_no_seconds_are_counted_while_a_token_works(self, sampled: World) -> None:
        await sampled.clock.advance(59 * MINUTE)

        assert await self.served(sampled) == 0

    async def test_seconds_are_counted_from_the_expiry(self, sampled: World) -> None:
        await sampled.clock.advance(HOUR + 2 * SECOND)
        assert await self.served(sampled) == 2

        await sampled.clock.advance(5 * SECOND)
        assert await self.served(sampled) == 7

    async def test_they_stay_when_the_asset_token_is_deleted(self, sampled: World) -> None:
        await sampled.clock.advance(HOUR + 5 * SECOND)
        sampled.kube.asset_tokens.clear()
        sampled.sync()
        await sampled.clock.advance(HOUR)

        assert await self.served(sampled) == 5

    async def test_a_suspended_one_does_not_count(self, sampled: World) -> None:
        sampled.kube.put_token(replace(sampled.token(), spec=a_spec(suspend=True)))
        sampled.sync()
        await sampled.clock.advance(2 * HOUR)

        assert await self.served(sampled) == 0

    async def test_one_whose_secret_is_gone_does_not_count(self, sampled: World) -> None:
        sampled.kube.secrets.clear()
        sampled.sync()
        await sampled.clock.advance(2 * HOUR)

        assert await self.served(sampled) == 0

    async def test_a_standby_counts_none(self, world: World) -> None:
        world.reconcile()
        world.sync()
        work = asyncio.create_task(sample(world.metrics, world.caches, world.clocks, world.clock, lambda: False))
        await settle()
        await world.clock.advance(2 * HOUR)
        work.cancel()

        assert await self.served(world) == 0

    async def test_before_asset_s_first_word_they_are_counted_by_the_api_server_s_clock(self, sampled: World) -> None:
        sampled.restart()
        sampled.sync()
        sampled.clocks.cluster_says(NOW)
        await sampled.clock.set(NOW + 2 * HOUR)
        await sampled.clock.advance(MINUTE)

        assert await self.served(sampled) == 0

    async def test_they_are_counted_by_asset_s_clock(self, sampled: World) -> None:
        await sampled.clock.set(NOW + 3 * HOUR)
        await sampled.clock.advance(MINUTE)

        assert await self.served(sampled) == 0

    async def test_the_event_loop_is_as_late_as_the_clock_says(self, sampled: World) -> None:
        await sampled.clock.advance(5 * SECOND)
        await sampled.clock.advance(5 * SECOND + timedelta(milliseconds=250))

        found = await scrape(sampled)

        assert found["event_loop_lag_seconds_count"] == 2
        assert found["event_loop_lag_seconds_sum"] == 0.25
