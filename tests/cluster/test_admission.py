"""What stands before a write in the API server: webhooks that are slow, and whatever refuses it."""

import time
from collections.abc import Callable
from pathlib import Path

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import Behaviour
from tests.support.cluster import Json, wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop
from tests.support.webhook import Webhook

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/asset-token-operator"


def lease(shop: Shop) -> Json:
    spec: Json = (shop.cluster.api.find(LEASES.format(shop.namespace)) or {}).get("spec", {})
    return spec


def test_a_write_is_made_that_the_api_server_needs_20_s_for(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    """Two webhooks hang, and the API server ignores each after 10 s."""
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=("a.example.com", "b.example.com"), seconds=600):
        began = time.monotonic()
        shop.put("ledger-writer")
        shop.wait_until_ready("ledger-writer", 32)

    assert time.monotonic() - began >= 20
    assert len(asset.requests) == 1
    assert "not written" not in operator.output()


def test_a_webhook_that_hangs_in_one_namespace_holds_up_no_other(
    shop: Shop, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    other = Shop(shop.cluster, shop.cluster.create_namespace(), shop.asset)
    other.put_credentials()
    operator_for(shop, f"--namespace={other.namespace}")
    shop.serve_too(other.namespace)
    with Webhook(shop.cluster, shop.namespace, tmp_path, seconds=600, timeout=20) as webhook:
        for number in range(120):
            shop.create(f"a{number}")
        wait_until(lambda: webhook.asked >= 50, 20, "as many hang as there are places")
        other.put("ledger-writer")
        other.wait_until_ready("ledger-writer", 6)


def test_what_is_in_flight_at_sigterm_is_written_however_long_that_takes(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    """A request that takes its time, and then a webhook that does: the Lease is kept until then."""
    operator = operator_for(shop, "--leader-elect")
    wait_until(lambda: lease(shop).get("holderIdentity"), 15, "it leads")
    asset.behave(Behaviour(latency=8))
    with Webhook(shop.cluster, shop.namespace, tmp_path, seconds=600, timeout=18):
        shop.put("ledger-writer")
        wait_until(lambda: asset.arrived, 15, "the request has arrived")
        operator.ask_to_end()
        time.sleep(20)
        assert lease(shop)["holderIdentity"] != ""
        assert operator.terminate(within=30) == 0

    assert asset.accepts(shop.data("ledger-writer")["access_token"])
    assert shop.condition("ledger-writer", "Ready")["status"] == "True"
    assert len(asset.requests) == 1
    assert lease(shop)["holderIdentity"] == ""


def test_hundreds_of_slow_writes_cost_no_lease(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = operator_for(shop, "--leader-elect")
    wait_until(lambda: lease(shop).get("holderIdentity"), 15, "it leads")
    with Webhook(shop.cluster, shop.namespace, tmp_path, seconds=12, timeout=15) as webhook:
        for number in range(120):
            shop.create(f"a{number}")
        wait_until(lambda: webhook.asked >= 120, 60, "all have come round")
    wait_until(lambda: all(token["status"].get("revision") for token in shop.tokens()), 20, "all are issued")

    assert lease(shop)["leaseTransitions"] == 0
    assert len(asset.requests) == 120
    assert "does not lead any more" not in operator.output()
