"""What an operator says after its start and at its end, on a real API server."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop


def test_one_line_says_what_is_served_where_and_another_that_it_has_ended(
    shop: Shop, operator_for: Callable[..., OperatorProcess]
) -> None:
    shop.put("ledger-writer")
    operator = operator_for(shop)
    operator.wait_for_output("of the cluster at ")
    host = shop.cluster.server.removeprefix("https://")
    said = rf"serves 1 AssetToken in namespace {shop.namespace} of the cluster at {host}\n"
    assert re.search(rf"asset-token-operator \d+\.\d+\.\d+ {said}", operator.output())

    assert operator.terminate() == 0
    assert operator.output().endswith(": stopped\n")


def test_who_runs_it_locally_hears_of_a_namespace_that_does_not_exist_and_of_the_operator_that_holds_the_lease(
    shop: Shop, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    leader = operator_for(shop, "--leader-elect", f"--lease-namespace={shop.namespace}")
    leader.wait_for_output("leads, as ")
    (tmp_path / "local").mkdir()
    arguments = (f"--namespace={shop.namespace}-not", f"--sandbox-url={shop.asset.url}")
    with OperatorProcess(shop.cluster.kubeconfig, tmp_path / "local", arguments) as local:
        local.wait_for_output(f"namespace {shop.namespace}-not does not exist: create it, or correct --namespace")
        local.wait_for_output(f"Lease {shop.namespace}/asset-token-operator is held by ")
    assert "is held by" not in leader.output()
