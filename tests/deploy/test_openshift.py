"""In a namespace that gives its Pods their uid, as OpenShift's do, the chart's Pods are taken when it is told so."""

from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.support.cluster import Cluster, Json
from tests.support.controlplane import ControlPlane
from tests.support.helm import Helm
from tests.support.openshift import OpenShift

WORKLOADS = {"Deployment", "Pod"}


@pytest.fixture(scope="module")
def openshift(controlplane: Cluster, restricted: str) -> Iterator[OpenShift]:
    if not isinstance(controlplane, ControlPlane):
        pytest.skip("the existing cluster may have no MutatingAdmissionPolicies")
    accounts = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "asset-token-operator"}}
    controlplane.kubectl("apply", f"--namespace={restricted}", "--filename=-", input=yaml.safe_dump(accounts))
    openshift = OpenShift(controlplane, restricted)
    with openshift:
        yield openshift


def pods(objects: list[Json], namespace: str) -> list[Json]:
    """The Pods that there would be."""
    found = [
        item if item["kind"] == "Pod" else item["spec"]["template"] for item in objects if item["kind"] in WORKLOADS
    ]
    return [{"metadata": {"name": "a", "namespace": namespace}, "spec": pod["spec"]} for pod in found]


def test_pods_that_say_no_uid_are_taken(helm: Helm, openshift: OpenShift, restricted: str) -> None:
    rendered = pods(helm.template({"openshift": True}), restricted)

    assert len(rendered) == 2
    assert all(openshift.takes(pod) for pod in rendered)


def test_pods_that_say_a_uid_are_refused(helm: Helm, openshift: OpenShift, restricted: str) -> None:
    assert not any(openshift.takes(pod) for pod in pods(helm.template(), restricted))


def test_kustomize_has_the_same_in_a_folder(
    kustomized: Callable[[str], list[Json]], openshift: OpenShift, restricted: str
) -> None:
    (pod,) = pods(kustomized("openshift"), restricted)

    assert openshift.takes(pod)
