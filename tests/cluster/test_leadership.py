"""Several operators on one API server: one works, and another when that one is gone."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import Behaviour
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

TAKEOVER_SECONDS = 25  # the Lease lasts 15


@pytest.fixture
def replica(
    tmp_path: Path, audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi
) -> Iterator[Callable[[str], OperatorProcess]]:
    """Starts operators that elect a leader; they are ended at the end."""
    with ExitStack() as stack:

        def start(name: str) -> OperatorProcess:
            folder = tmp_path / name
            folder.mkdir()
            arguments = (
                f"--namespace={shop.namespace}",
                f"--sandbox-url={asset.url}",
                "--production-url=http://127.0.0.1:9",
                "--leader-elect",
            )
            process = OperatorProcess(audited_controlplane.kubeconfig, folder, arguments, {"POD_ID": name})
            return stack.enter_context(process)

        yield start


def lease(shop: Shop) -> Json:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{shop.namespace}/leases/asset-token-operator"
    spec: Json = (shop.cluster.api.find(path) or {}).get("spec", {})
    return spec


def wait_for_leader(shop: Shop, name: str) -> None:
    wait_until(lambda: lease(shop).get("holderIdentity", "").startswith(name), TAKEOVER_SECONDS, f"{name} leads")


def renew(shop: Shop, value: int) -> None:
    shop.kubectl("annotate", "astok/ledger-writer", f"auth.getasset.com/renew-requested-at={value}", "--overwrite")


def test_a_standby_takes_over_from_one_that_ends_and_requests_nothing_for_what_is_there(
    shop: Shop, asset: AssetApi, replica: Callable[[str], OperatorProcess]
) -> None:
    first = replica("first")
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    second = replica("second")
    second.wait_for_output("stands by: first")

    assert first.terminate() == 0
    wait_for_leader(shop, "second")
    renew(shop, 1)
    shop.wait_for_revision("ledger-writer", 2)

    assert len(asset.requests) == 2
    assert "leads, as second" in second.output()


def test_a_standby_takes_over_from_one_that_was_killed(
    shop: Shop, asset: AssetApi, replica: Callable[[str], OperatorProcess]
) -> None:
    first = replica("first")
    wait_for_leader(shop, "first")
    replica("second").wait_for_output("stands by: first")
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")

    first.kill()
    renew(shop, 1)
    shop.wait_for_revision("ledger-writer", 2, TAKEOVER_SECONDS)

    assert len(asset.requests) == 2


def test_a_leader_that_was_frozen_while_another_took_over_writes_and_requests_nothing(
    shop: Shop, asset: AssetApi, replica: Callable[[str], OperatorProcess], audited_controlplane: ControlPlane
) -> None:
    first = replica("first")
    wait_for_leader(shop, "first")
    second = replica("second")
    second.wait_for_output("stands by: first")
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    first.pause()
    renew(shop, 1)
    wait_for_leader(shop, "second")
    shop.wait_for_revision("ledger-writer", 2)
    renew(shop, 2)
    shop.wait_for_revision("ledger-writer", 3)
    before = len(asset.requests)

    first.resume()
    first.wait_for_output("stands by: second")
    renew(shop, 3)
    shop.wait_for_revision("ledger-writer", 4)

    assert before == 3
    assert len(asset.requests) == 4
    assert "Renewing" not in first.output()
    writes = [event for event in audited_controlplane.audit(shop.namespace) if event.resource == "leases"]
    assert {event.verb for event in writes} <= {"get", "create", "patch"}


def test_what_is_in_flight_at_sigterm_is_finished_first(
    shop: Shop, asset: AssetApi, replica: Callable[[str], OperatorProcess]
) -> None:
    first = replica("first")
    wait_for_leader(shop, "first")
    asset.behave(Behaviour(latency=2))
    shop.put("ledger-writer")
    wait_until(lambda: asset.arrived, 15, "the request has arrived")

    assert first.terminate() == 0

    token = shop.data("ledger-writer")["access_token"]
    assert asset.accepts(token)
    assert shop.condition("ledger-writer", "Ready")["status"] == "True"
    assert len(asset.requests) == 1
    assert lease(shop)["holderIdentity"] == ""
    assert "canary" not in json.dumps(lease(shop))
