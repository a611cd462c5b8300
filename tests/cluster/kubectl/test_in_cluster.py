"""`kubectl asset-token doctor --in-cluster` on a real API server: a Pod looks, and is gone afterwards, come what may.

A kubelet's place is taken by one that runs the Pod's program here; on a real node it is in tests/node/test_kubectl.py.
"""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml

from asset_token_operator.kubectl.pod_spec import NAME, pod
from tests.support.asset_api import AssetApi
from tests.support.cluster import Json, wait_until
from tests.support.kubelet import Kubelet
from tests.support.plugin import Plugin
from tests.support.shop import Shop

BASE: Final = Path(__file__).parents[3] / "deploy" / "base"
IMPATIENT: Final = "from asset_token_operator.kubectl import in_cluster\nin_cluster.LIFE_SECONDS = 1"


@pytest.fixture
def deployed(shop: Shop) -> Callable[..., Json]:
    """Installs the shipped Deployment in the shop's namespace, which enforces Pod security `restricted`."""

    def deploy(*arguments: str) -> Json:
        api = shop.cluster.api
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        api.patch(f"/api/v1/namespaces/{shop.namespace}", {"metadata": {"labels": labels}})
        api.create(shop.path("serviceaccounts"), {"metadata": {"name": "asset-token-operator"}})
        body = yaml.safe_load((BASE / "deployment.yaml").read_text())
        body["metadata"]["namespace"] = shop.namespace
        body["spec"]["replicas"] = 0
        body["spec"]["template"]["spec"]["containers"][0]["args"] += arguments
        return api.create(f"/apis/apps/v1/namespaces/{shop.namespace}/deployments", body)

    return deploy


@pytest.fixture
def doctor(shop: Shop) -> tuple[str, ...]:
    return ("doctor", f"--operator-namespace={shop.namespace}", "--no-asset", "--in-cluster")


@pytest.fixture
def kubelet(shop: Shop, tmp_path: Path) -> Kubelet:
    return Kubelet(shop, NAME, tmp_path)


def is_gone(shop: Shop) -> bool:
    return shop.cluster.api.find(shop.path(f"pods/{NAME}")) is None


def test_asset_is_reached_from_a_pod(
    *,
    shop: Shop,
    asset: AssetApi,
    deployed: Callable[..., Json],
    kubelet: Kubelet,
    plugin: Plugin,
    doctor: tuple[str, ...],
) -> None:
    deployment = deployed(f"--sandbox-url={asset.url}")
    shop.create("ledger")
    with kubelet:
        shown = plugin.screen(*doctor, columns=200)
    assert "✓  Pod, sandbox       127.0.0.1 answers from the Pod\n" in shown.output
    assert "✓  Node's clock       the node's and Asset's agree\n" in shown.output
    assert "production" not in shown.output  # no AssetToken asks for it
    (ran,) = kubelet.ran
    assert ran["metadata"]["ownerReferences"][0]["uid"] == deployment["metadata"]["uid"]
    assert "canary" not in json.dumps(ran)
    assert is_gone(shop)
    assert asset.count() == 0


def test_what_keeps_the_pod_from_asset_is_said(
    shop: Shop, deployed: Callable[..., Json], kubelet: Kubelet, plugin: Plugin, doctor: tuple[str, ...]
) -> None:
    deployed("--sandbox-url=http://127.0.0.1:9", "--production-url=https://no-such-name.invalid")
    with kubelet:
        shown = plugin.screen(*doctor, columns=200)
    assert shown.code == 3
    assert "✗  Pod, sandbox       127.0.0.1 can't be reached from the Pod: the connection is refused" in shown.output
    assert "→ check the NetworkPolicy, the firewall, and the operator's HTTPS_PROXY and NO_PROXY" in shown.output
    assert "✗  Pod, production    no-such-name.invalid can't be reached from the Pod: " in shown.output


def test_a_pod_that_nobody_runs_is_given_up_and_deleted(
    shop: Shop, deployed: Callable[..., Json], plugin: Plugin, doctor: tuple[str, ...], tmp_path: Path
) -> None:
    deployed()
    impatient = Plugin(tmp_path / "bin", plugin.kubeconfig, plugin.arguments, prelude=IMPATIENT)
    shown = impatient.screen(*doctor, columns=200)
    said = f"✗  Pod                The Pod {NAME} gave no result within 1 s: no node has taken it up."
    assert (shown.code, said in shown.output) == (3, True), shown.output
    assert is_gone(shop)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_doctor_that_is_told_to_end_deletes_its_pod_first(
    shop: Shop, deployed: Callable[..., Json], plugin: Plugin, doctor: tuple[str, ...], sent: signal.Signals
) -> None:
    deployed()
    with plugin.started(*doctor) as process:
        wait_until(lambda: not is_gone(shop), 20, "the Pod is there")
        process.send_signal(sent)
        assert process.wait(20) == 130
    assert is_gone(shop)


def test_what_a_killed_doctor_left_is_removed_by_the_next(
    *,
    shop: Shop,
    asset: AssetApi,
    deployed: Callable[..., Json],
    kubelet: Kubelet,
    plugin: Plugin,
    doctor: tuple[str, ...],
) -> None:
    left = pod(deployed(f"--sandbox-url={asset.url}"), ["sandbox"])
    shop.create("ledger")
    shop.cluster.api.create(shop.path("pods"), left)
    at_work = plugin.screen(*doctor, columns=200)
    assert f"The Pod {shop.namespace}/{NAME} is there already: another doctor is at work" in at_work.output
    assert not is_gone(shop)
    shop.cluster.api.patch(shop.path(f"pods/{NAME}/status"), {"status": {"phase": "Failed"}})
    with kubelet:
        assert "✓  Pod, sandbox " in plugin.screen(*doctor, columns=200).output
    assert is_gone(shop)


def test_an_older_image_is_said(
    shop: Shop, deployed: Callable[..., Json], plugin: Plugin, doctor: tuple[str, ...], tmp_path: Path
) -> None:
    deployed()
    older = "from asset_token_operator.kubectl import pod_spec\npod_spec.PROGRAM = 'asset_token_operator.kubectl.older'"
    with Kubelet(shop, NAME, tmp_path):
        shown = Plugin(tmp_path / "bin", plugin.kubeconfig, plugin.arguments, prelude=older).screen(
            *doctor, columns=200
        )
    assert "✗  Pod                The operator's image is older than this plugin, and can't look: upgrade it." in (
        shown.output
    )


def test_without_the_rights_they_are_named_and_no_pod_is_made(
    shop: Shop, deployed: Callable[..., Json], viewer: Plugin, doctor: tuple[str, ...]
) -> None:
    deployed()
    shown = viewer.screen(*doctor, columns=200)
    assert (
        f"-  Pod                you may not create pods, delete pods in the namespace {shop.namespace}, which"
        " --in-cluster needs"
    ) in shown.output
    assert is_gone(shop)


def test_an_operator_that_is_elsewhere_is_said(shop: Shop, plugin: Plugin, doctor: tuple[str, ...]) -> None:
    shown = plugin.screen(*doctor, columns=200)
    said = f"There is no Deployment of the operator in the namespace {shop.namespace}: name its place with"
    assert (shown.code, said in shown.output) == (3, True)
