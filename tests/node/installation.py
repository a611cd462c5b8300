"""The operator, installed on the node in either way, and what an administrator sees of it."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.asset_api import AssetApi
from tests.support.certificates import Certificate
from tests.support.cluster import Cluster, Json, wait_until
from tests.support.helm import CHART, RELEASE, ROOT, Helm
from tests.support.image import REPOSITORY, Image

RESTRICTED: Final = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
SELECTOR: Final = "app.kubernetes.io/name=asset-token-operator,app.kubernetes.io/component=operator"
CA: Final = "asset-ca"
ROLLOUT_SECONDS: Final = 120


class Pods:
    """The operator's Pods in a namespace.

    Args:
        cluster: Where they are.
        namespace: In which namespace.
        name: The Deployment's.
        selector: By which labels they are found.

    Attributes:
        lease: The Lease's name, the Deployment's where nothing else was said.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str = RELEASE, selector: str = SELECTOR) -> None:
        self._cluster = cluster
        self._name = self.lease = name
        self._selector = selector
        self.namespace = namespace

    def all(self) -> list[Json]:
        found: list[Json] = json.loads(self.kubectl("get", "pods", f"--selector={self._selector}", "--output=json"))[
            "items"
        ]
        return found

    def names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.all()}

    def restarts(self) -> int:
        """How often a container was started again."""
        return sum(status["restartCount"] for pod in self.all() for status in pod["status"]["containerStatuses"])

    def leader(self) -> str:
        """The Pod that holds the Lease; empty while there is none."""
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/{self.lease}"
        holder: str = (self._cluster.api.find(lease) or {}).get("spec", {}).get("holderIdentity") or ""
        return next((name for name in self.names() if holder.startswith(name)), "")

    def wait_for_others(self, before: set[str]) -> None:
        """Wait until none of these Pods is left, all that shall run are ready, and one of them leads."""
        wait_until(lambda: not before & self.names(), ROLLOUT_SECONDS, "the old Pods are gone")
        self.kubectl("rollout", "status", f"deployment/{self._name}", f"--timeout={ROLLOUT_SECONDS}s")
        wait_until(self.leader, ROLLOUT_SECONDS, "a Pod leads")

    def explained(self) -> str:
        """What an administrator would look at."""
        return self.kubectl("describe", "pods") + self.kubectl("logs", f"--selector={self._selector}", "--tail=40")

    def kubectl(self, *arguments: str) -> str:
        return self._cluster.kubectl(f"--namespace={self.namespace}", *arguments)


class Release:
    """A release of the chart; nothing is there before `install`."""

    def __init__(
        self,
        helm: Helm,
        cluster: Cluster,
        namespace: str,
        image: Image,
        asset: AssetApi,
        *,
        name: str = RELEASE,
    ) -> None:
        self._helm = helm
        self._cluster = cluster
        self._namespace = namespace
        self.name = name
        objects = name if name == RELEASE else f"{name}-{RELEASE}"
        self.pods = Pods(cluster, namespace, objects, f"{SELECTOR},app.kubernetes.io/instance={name}")
        self.values: dict[str, Any] = {
            "image": {"repository": REPOSITORY, "tag": image.tag},
            "sandboxUrl": asset.url,
            "caBundle": {"configMapName": CA},
            "networkPolicy": {"asset": {"ports": [int(asset.url.rpartition(":")[2])]}},
        }

    def install(self, chart: Path = CHART, **values: Any) -> None:
        """Install it, take the CRD up that an earlier release left, and wait for its Pods."""
        self.values |= values
        self.helm("install", self.name, str(chart), "--take-ownership", "--wait", values=self.values)
        wait_until(self.pods.leader, ROLLOUT_SECONDS, "a Pod leads")

    def upgrade(self, **values: Any) -> None:
        """Upgrade it to other values, and wait for its Pods."""
        self.values |= values
        self.helm("upgrade", self.name, str(CHART), "--wait", values=self.values)

    def reuse(self) -> None:
        """Upgrade it with the values that it had, and none of those that are new."""
        self.helm("upgrade", self.name, str(CHART), "--reuse-values", "--force-conflicts", "--wait")

    def test(self) -> str:
        """Run `helm test`, and give what it says."""
        return self.helm("test", self.name)

    def uninstall(self) -> None:
        """Uninstall it, if it is there, and wait for its end."""
        self.helm("uninstall", self.name, "--ignore-not-found", "--wait")

    def helm(self, *arguments: str, values: Json | None = None) -> str:
        place = f"--namespace={self._namespace}"
        said, _ = self._helm.run(*arguments, place, values=values, kubeconfig=self._cluster.kubeconfig)
        return said


def put_authority(cluster: Cluster, namespace: str, certificate: Certificate) -> None:
    """Make the ConfigMap with the stand-in API's authority."""
    body = {"metadata": {"name": CA}, "data": {"ca.crt": certificate.path.read_text()}}
    cluster.api.create(f"/api/v1/namespaces/{namespace}/configmaps", body)


def overlay(folder: Path, image: Image, asset: AssetApi) -> Path:
    """Write a kustomize overlay of deploy/base, as a user would, with another image and the stand-in's URL."""
    shutil.copytree(ROOT / "deploy" / "base", folder / "base")
    repository, _, tag = image.name.rpartition(":")
    container = "/spec/template/spec/containers/0"
    patch = [
        {"op": "add", "path": f"{container}/args/-", "value": f"--sandbox-url={asset.url}"},
        {"op": "add", "path": f"{container}/args/-", "value": "--ca-file=/etc/asset/ca.crt"},
        {"op": "add", "path": f"{container}/volumeMounts", "value": [{"name": "ca", "mountPath": "/etc/asset"}]},
        {"op": "add", "path": "/spec/template/spec/volumes", "value": [{"name": "ca", "configMap": {"name": CA}}]},
    ]
    kustomization = {
        "resources": ["base"],
        "images": [{"name": "asset-token-operator", "newName": repository, "newTag": tag}],
        "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(patch)}],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return folder
