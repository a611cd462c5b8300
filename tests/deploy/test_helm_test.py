"""What the Pod of `helm test` finds right and wrong, with the operator's rights on a real API server."""

import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.support.cluster import ApiError, Cluster, Json
from tests.support.helm import CHART, Helm

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("operator_works", CHART / "files" / "operator_works.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lease(controlplane: Cluster, crds: None, namespace: str) -> str:
    """The path of a Lease that an operator holds."""
    spec = {"holderIdentity": "operator-1", "renewTime": "2026-05-01T12:00:00.000000Z"}
    controlplane.api.create(LEASES.format(namespace), {"metadata": {"name": "asset-token-operator"}, "spec": spec})
    return f"{LEASES.format(namespace)}/asset-token-operator"


@pytest.fixture
def change(controlplane: Cluster, lease: str) -> Callable[..., Callable[[float], object]]:
    """Makes something that changes the Lease when it is called."""

    def make(**spec: str) -> Callable[[float], object]:
        return lambda _: controlplane.api.patch(lease, {"spec": spec})

    return make


def test_all_is_well_while_the_lease_is_renewed(
    check: ModuleType, controlplane: Cluster, lease: str, change: Callable[..., Callable[[float], object]]
) -> None:
    renew = change(renewTime="2026-05-01T12:00:02.000000Z")

    assert check.find_problem(controlplane.api.get, lease, renew) == ""


def test_lease_that_nobody_renews_is_a_problem(check: ModuleType, controlplane: Cluster, lease: str) -> None:
    problem = check.find_problem(controlplane.api.get, lease, lambda _: None)

    assert problem == "operator-1 holds the Lease and doesn't renew it."


def test_lease_that_nobody_holds_is_a_problem(
    check: ModuleType, controlplane: Cluster, lease: str, change: Callable[..., Callable[[float], object]]
) -> None:
    change(holderIdentity="")(0)

    assert check.find_problem(controlplane.api.get, lease) == "No operator holds the Lease."


def test_api_server_without_asset_tokens_is_a_problem(check: ModuleType) -> None:
    def get(path: str) -> Json:
        return {"resources": []}

    assert check.find_problem(get, "/lease") == "The API server doesn't serve AssetTokens."


def test_refusal_and_silence_are_problems(check: ModuleType) -> None:
    def refuse(path: str) -> Json:
        raise check.urllib.error.HTTPError(path, 403, "Forbidden", None, None)

    def be_silent(path: str) -> Json:
        raise ConnectionRefusedError("refused")

    assert check.find_problem(refuse, "/lease") == f"GET {check.CRD} answered 403."
    assert check.find_problem(be_silent, "/lease") == "The API server can't be reached: refused"


def test_operators_own_rights_are_enough_for_it(
    check: ModuleType, controlplane: Cluster, helm: Helm, namespace: str
) -> None:
    wanted = {"ServiceAccount", "Role", "RoleBinding"}
    objects = helm.template({"watchNamespaces": [namespace]}, namespace=namespace)
    access: list[Any] = [item for item in objects if item["kind"] in wanted]
    controlplane.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(access))
    kubeconfig = controlplane.kubeconfig_for(namespace, "asset-token-operator")
    lease = check.LEASE.format(namespace)

    def may(verb: str, path: str) -> bool:
        answer = controlplane.kubectl(f"--kubeconfig={kubeconfig}", "auth", "can-i", verb, path, check=False)
        return answer.strip() == "yes"

    assert may("get", check.CRD)
    assert may("get", "leases.coordination.k8s.io/asset-token-operator")
    assert not may("get", "leases.coordination.k8s.io/another")
    with pytest.raises(ApiError):
        controlplane.api.get(lease)
