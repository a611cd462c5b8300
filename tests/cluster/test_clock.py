"""Clocks that differ, and a machine that was suspended."""

from itertools import pairwise

import pytest

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import Behaviour
from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

OFFSETS = [pytest.param(600, id="ahead"), pytest.param(-600, id="behind")]


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_token_is_renewed_in_time_by_assets_clock_and_not_before(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, offset: int
) -> None:
    asset.clock_offset = offset
    shop.put("ledger-writer", lifetime="60s", renewBefore="54s")
    for revision in (1, 2, 3):
        shop.wait_for_revision("ledger-writer", revision)
        assert shop.condition("ledger-writer", "Ready")["status"] == "True"
        assert asset.accepts(shop.data("ledger-writer")["access_token"])
    made = [request.at for request in asset.requests]
    assert all(later - earlier >= 4 for earlier, later in pairwise(made))


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_restart_requests_nothing_whatever_assets_clock_says(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, offset: int
) -> None:
    asset.clock_offset = offset
    shop.put("ledger-writer", lifetime="5m")
    shop.wait_until_ready("ledger-writer")
    operator.kill()
    operator.start()
    shop.wait_until_served("probe")
    assert len(asset.requests) == 1 + 1
    assert shop.condition("ledger-writer", "Ready")["status"] == "True"


def test_an_operator_that_was_suspended_past_the_expiry_renews_at_once(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    asset.behave(Behaviour(lifetime=9), times=1)
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    token = shop.data("ledger-writer")["access_token"]
    operator.pause()
    try:
        wait_until(lambda: not asset.accepts(token), 20, "the token expires")
        assert len(asset.requests) == 1
    finally:
        operator.resume()
    wait_until(lambda: asset.accepts(shop.data("ledger-writer")["access_token"]), 10, "it is renewed")
    shop.wait_for_revision("ledger-writer", 2)
    assert len(asset.requests) == 2
