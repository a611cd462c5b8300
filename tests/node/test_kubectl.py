"""What of the kubectl plugin needs Pods that run: a look at Asset from one of them, and the operator's metrics."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from asset_token_operator.kubectl.pod_spec import NAME
from tests.node.installation import Release
from tests.support.asset_api import AssetApi
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.machine import ADDRESS
from tests.support.plugin import Plugin
from tests.support.shop import Shop

OTHER: Final = "prod"
GONE_SECONDS: Final = 30


@pytest.fixture
def plugin(shop: Shop, tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "bin", shop.cluster.kubeconfig, (f"--namespace={shop.namespace}",))


@pytest.mark.usefixtures("crds")
def test_the_operators_pods_and_its_metrics_are_seen_from_the_terminal(
    *, controlplane: ControlPlane, releases: Callable[..., Release], asset: AssetApi, shop: Shop, plugin: Plugin
) -> None:
    release = releases(OTHER)
    release.install()
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer", timeout=60)
    namespace = release.pods.namespace
    requests = asset.count()

    place = (f"--operator-namespace={namespace}", f"--lease-name={release.pods.lease}")
    doctor = plugin.screen("doctor", *place, "--no-asset", "--in-cluster", columns=200)
    status = plugin.screen("status", "ledger-writer", place[0], columns=200)

    assert doctor.code == 0, doctor.output
    assert f"✓  Pod, sandbox       {ADDRESS} answers from the Pod" in doctor.output
    assert "✓  Node's clock       the node's and Asset's agree" in doctor.output
    pod = f"/api/v1/namespaces/{namespace}/pods/{NAME}"
    wait_until(lambda: controlplane.api.find(pod) is None, GONE_SECONDS, "the kubelet has ended the Pod")
    assert asset.count() == requests
    assert "requests left this minute, 0 in the queue" in status.output, status.output
