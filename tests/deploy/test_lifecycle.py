"""The chart is installed, upgraded and uninstalled by helm on a real API server (without a node: no Pod runs)."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.cluster import CRDS_PATH, Cluster, Json
from tests.support.helm import CHART, IMAGE, RELEASE, Helm, HelmError, container

EARLIER = Path(__file__).with_name("earlier")
"""The chart as it was before most of its values, without what its release would look the same with."""

CRD = f"{CRDS_PATH}/assettokens.auth.getasset.com"
ASSET_TOKEN = {
    "apiVersion": "auth.getasset.com/v1alpha1",
    "kind": "AssetToken",
    "metadata": {"name": "ledger-writer"},
    "spec": {"environment": "sandbox", "credentialsSecretRef": {"name": "asset-credentials"}},
}


class Release:
    """A release of the chart in a namespace, which it also serves."""

    def __init__(self, helm: Helm, cluster: Cluster, namespace: str) -> None:
        self._helm = helm
        self._cluster = cluster
        self._namespace = namespace

    def helm(self, *args: str, values: Json | None = None) -> str:
        place = f"--namespace={self._namespace}"
        given = None if values is None else IMAGE | {"watchNamespaces": [self._namespace]} | values
        said, _ = self._helm.run(*args, place, values=given, kubeconfig=self._cluster.kubeconfig)
        return said

    def deployment(self) -> Json:
        """What is in it that somebody has said."""
        path = f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{RELEASE}"
        found = self._cluster.api.get(path)
        return {"metadata": {"labels": found["metadata"]["labels"]}, "spec": found["spec"]}

    def find(self, kind: str, name: str) -> str:
        return self._cluster.kubectl(
            "get", kind, name, "--ignore-not-found", "--output=name", f"--namespace={self._namespace}"
        ).strip()


@pytest.fixture
def release(helm: Helm, audited_controlplane: Cluster, crds: None, namespace: str) -> Iterator[Release]:
    """The chart, installed; it takes the CRD up that is there, as after an uninstall."""
    release = Release(helm, audited_controlplane, namespace)
    release.helm("install", RELEASE, str(CHART), "--take-ownership", values={})
    yield release
    release.helm("uninstall", RELEASE, "--ignore-not-found")


@pytest.fixture
def asset_token(release: Release, controlplane: Cluster, namespace: str) -> str:
    """The UID of an AssetToken."""
    controlplane.kubectl("apply", f"--namespace={namespace}", "--filename=-", input=yaml.safe_dump(ASSET_TOKEN))
    return uid(controlplane, namespace)


def uid(cluster: Cluster, namespace: str) -> str:
    found = cluster.api.get(f"/apis/auth.getasset.com/v1alpha1/namespaces/{namespace}/assettokens/ledger-writer")
    return str(found["metadata"]["uid"])


def test_upgrade_and_uninstall_leave_asset_tokens_alone(
    release: Release, controlplane: Cluster, namespace: str, asset_token: str
) -> None:
    crd = controlplane.api.get(CRD)["metadata"]["uid"]

    release.helm("upgrade", RELEASE, str(CHART), values={"replicas": 3})
    release.helm("rollback", RELEASE, "1")
    release.helm("uninstall", RELEASE)

    assert release.find("deployment", RELEASE) == ""
    assert controlplane.api.get(CRD)["metadata"]["uid"] == crd
    assert uid(controlplane, namespace) == asset_token


def test_chart_that_no_longer_installs_the_crd_leaves_it(
    release: Release, controlplane: Cluster, namespace: str, asset_token: str
) -> None:
    release.helm("upgrade", RELEASE, str(CHART), values={"crds": {"install": False}})

    assert uid(controlplane, namespace) == asset_token


def test_upgrade_upgrades_the_crd(release: Release, controlplane: Cluster) -> None:
    """What an earlier chart lacked is there after the upgrade."""
    columns = controlplane.api.get(CRD)["spec"]["versions"][0]["additionalPrinterColumns"]
    path = "/spec/versions/0/additionalPrinterColumns"
    older = [{"op": "replace", "path": path, "value": columns[:1]}]
    controlplane.api.patch(CRD, list(older), "application/json-patch+json")

    release.helm("upgrade", RELEASE, str(CHART), "--force-conflicts", values={})

    assert controlplane.api.get(CRD)["spec"]["versions"][0]["additionalPrinterColumns"] == columns


def test_commands_of_the_notes_make_what_they_say(
    release: Release, controlplane: Cluster, namespace: str, tmp_path: Path
) -> None:
    """Down to the wait, since no Pod runs here."""
    notes = release.helm("get", "notes", RELEASE)
    (tmp_path / "YOUR_FILE").write_text("canary\n")
    lines = [line[2:] for line in notes.splitlines() if line.startswith("  ")]
    script = "\n".join(line for line in lines if not line.startswith(("helm", "kubectl wait")))
    function = f'kubectl() {{ {shlex.join(controlplane.command())} "$@"; }}'

    subprocess.run(["bash", "-ec", f"{function}\n{script}"], cwd=tmp_path, check=True, timeout=60)

    assert uid(controlplane, namespace)
    secret = controlplane.api.get(f"/api/v1/namespaces/{namespace}/secrets/asset-credentials")
    assert set(secret["data"]) == {"client_id", "client_secret"}


@pytest.mark.parametrize("how", ["--reuse-values", "--reset-then-reuse-values"])
def test_earlier_chart_is_upgraded_with_the_values_that_it_had(
    helm: Helm, audited_controlplane: Cluster, crds: None, namespace: str, how: str
) -> None:
    """With --reuse-values the values that are new don't even have a default."""
    release = Release(helm, audited_controlplane, namespace)
    release.helm("install", RELEASE, str(EARLIER), "--take-ownership", values={"log": {"format": "text"}})

    release.helm("upgrade", RELEASE, str(CHART), how, "--force-conflicts")

    upgraded = release.deployment()
    release.helm("upgrade", RELEASE, str(CHART), values={"log": {"format": "text"}})
    assert upgraded == release.deployment()
    assert "--log-format=text" in container(upgraded)["args"]
    release.helm("uninstall", RELEASE)


def test_another_release_takes_the_crd_up_when_it_is_told_to(release: Release) -> None:
    release.helm("uninstall", RELEASE)

    with pytest.raises(HelmError, match="invalid ownership metadata"):
        release.helm("install", "tokens", str(CHART), values={})
    release.helm("install", "tokens", str(CHART), "--take-ownership", values={})

    assert release.find("deployment", f"tokens-{RELEASE}")
    release.helm("uninstall", "tokens")
