"""What is counted as it happens."""

from datetime import timedelta

import pytest

from asset_token_operator.errors import NotLeadingError
from asset_token_operator.metrics import Metrics
from asset_token_operator.model import SecretSpec
from tests.support.builders import a_refusal, a_spec, an_asset_token
from tests.support.fakes import World
from tests.support.metrics import scrape

SECOND = timedelta(seconds=1)
SANDBOX = 'environment="sandbox"'


@pytest.fixture
def world() -> World:
    world = World()
    world.add()
    return world


async def test_a_request_is_counted_by_its_outcome_and_its_duration(world: World) -> None:
    world.asset.before_request = lambda *_: world.pass_time(2 * SECOND)
    world.asset.faults.fail("request_token", a_refusal(503), times=1)
    world.reconcile()
    world.pass_time(timedelta(minutes=6))
    world.reconcile()

    found = await scrape(world)

    assert found[f'token_requests_total{{{SANDBOX},outcome="AssetUnavailable"}}'] == 1
    assert found[f'token_requests_total{{{SANDBOX},outcome="issued"}}'] == 1
    assert found[f"token_request_duration_seconds_count{{{SANDBOX}}}"] == 2
    assert found[f"token_request_duration_seconds_sum{{{SANDBOX}}}"] == 4


async def test_that_credentials_are_missing_is_no_request(world: World) -> None:
    world.kube.credentials.clear()
    world.reconcile()

    found = await scrape(world)

    assert [value for series, value in found.items() if series.startswith("token_requests_total")] == [0, 0]


async def test_what_was_not_sent_as_another_leads_is_no_request(world: World) -> None:
    world.asset.faults.fail("request_token", NotLeadingError())
    world.reconcile()

    assert not any(value for series, value in (await scrape(world)).items() if series.startswith("token_request"))


async def test_a_renewal_is_counted_with_its_lateness_and_what_was_left(world: World) -> None:
    again = world.reconcile()
    assert again is not None
    world.pass_time(again - world.clock.now() + 3 * SECOND)
    left = timedelta(hours=1) - world.elapsed()
    world.reconcile()

    found = await scrape(world)

    assert found["renewal_lateness_seconds_count"] == 1
    assert found["renewal_lateness_seconds_sum"] == 3
    assert found["renewal_remaining_lifetime_seconds_count"] == 1
    assert found["renewal_remaining_lifetime_seconds_sum"] == left.total_seconds()


async def test_a_token_that_had_expired_left_nothing(world: World) -> None:
    world.reconcile()
    world.pass_time(timedelta(hours=2))
    world.reconcile()

    found = await scrape(world)

    assert found["renewal_remaining_lifetime_seconds_sum"] == 0
    assert found["renewal_lateness_seconds_sum"] > 3600


async def test_a_forced_renewal_was_not_due(world: World) -> None:
    world.reconcile()
    world.pass_time(timedelta(minutes=5))
    world.kube.put_token(an_asset_token(renew_request="now", status=world.token().status))
    world.reconcile()

    found = await scrape(world)

    assert found['token_requests_total{environment="sandbox",outcome="issued"}'] == 2
    assert found["renewal_lateness_seconds_count"] == 0


async def test_what_is_written_with_the_same_token_is_no_renewal(world: World) -> None:
    world.reconcile()
    spec = a_spec(secret=SecretSpec("ledger-writer-token", labels={"team": "ledger"}))
    world.kube.put_token(an_asset_token(spec, status=world.token().status))
    world.reconcile()

    assert (await scrape(world))["renewal_remaining_lifetime_seconds_count"] == 0


async def test_no_series_tells_when_another_began(world: World) -> None:
    world.reconcile()

    assert not any("_created" in series for series in await scrape(world))


def test_each_operator_has_its_own_registry() -> None:
    assert Metrics().registry is not Metrics().registry
