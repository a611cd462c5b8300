"""What the Pod of `helm test` finds right and wrong, with the operator's rights on a real API server."""

import base64
import importlib.util
import json
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml

from tests.support.cluster import Cluster, Json, wait_until
from tests.support.component import free_ports
from tests.support.helm import CHART, RELEASE, Helm, container, find
from tests.support.operator_process import OperatorProcess

ACCESS = {"ServiceAccount", "Role", "RoleBinding"}
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
    controlplane.api.create(LEASES.format(namespace), {"metadata": {"name": "tokens"}, "spec": spec})
    return f"{LEASES.format(namespace)}/tokens"


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


def test_where_there_is_no_election_there_is_no_lease_to_look_for(
    check: ModuleType, controlplane: Cluster, crds: None
) -> None:
    assert check.find_problem(controlplane.api.get, "") == ""


def test_refusal_and_silence_are_problems(check: ModuleType) -> None:
    def refuse(path: str) -> Json:
        raise check.urllib.error.HTTPError(path, 403, "Forbidden", None, None)

    def be_silent(path: str) -> Json:
        raise ConnectionRefusedError("refused")

    assert check.find_problem(refuse, "/lease") == f"GET {check.CRD} answered 403."
    assert check.find_problem(be_silent, "/lease") == "The API server can't be reached: refused"


@dataclass(frozen=True, slots=True)
class Installed:
    """What the chart makes for a namespace, with the operator's rights applied."""

    namespace: str
    arguments: list[str]
    test_arguments: list[str]
    kubeconfig: Path


@pytest.fixture
def installed(controlplane: Cluster, crds: None, helm: Helm, namespace: str) -> Installed:
    """By a release of another name than the chart's, so that all that is named by it is tried."""
    objects = helm.template({"watchNamespaces": [namespace]}, "tokens", namespace)
    access: list[Any] = [item for item in objects if item["kind"] in ACCESS]
    controlplane.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(access))
    _, *arguments = container(find(objects, "Deployment", f"tokens-{RELEASE}"))["args"]
    (test,) = find(objects, "Pod", f"tokens-{RELEASE}-test")["spec"]["containers"]
    _, _, _, *test_arguments = test["command"]
    return Installed(namespace, arguments, test_arguments, controlplane.kubeconfig_for(namespace, f"tokens-{RELEASE}"))


def test_operator_with_the_charts_arguments_and_rights_passes(
    check: ModuleType,
    installed: Installed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    be_in_a_pod(check, installed, tmp_path, monkeypatch)
    health, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
    here = {"$(POD_NAMESPACE)": installed.namespace, "=:8081": f"={health}", "=:8080": f"={metrics}"}
    arguments = installed.arguments
    for given, instead in here.items():
        arguments = [argument.replace(given, instead) for argument in arguments]

    with OperatorProcess(installed.kubeconfig, tmp_path, arguments, {"POD_ID": "operator-1"}):
        wait_until(lambda: answers(f"http://{health}/readyz"), 30, "it is ready")
        check.main()
        assert answers(f"http://{health}/healthz")
        assert answers(f"http://{metrics}/metrics")

    assert capsys.readouterr().out == "AssetTokens are served, and an operator is at work.\n"


def be_in_a_pod(check: ModuleType, installed: Installed, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check find what it would find in a Pod."""
    kubeconfig: Json = json.loads(installed.kubeconfig.read_text())
    cluster = kubeconfig["clusters"][0]["cluster"]
    server = urllib.parse.urlsplit(cluster["server"])
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(server.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    (folder / "token").write_text(kubeconfig["users"][0]["user"]["token"])
    (folder / "ca.crt").write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
    (folder / "namespace").write_text(installed.namespace)
    monkeypatch.setattr(check, "ACCOUNT", folder)
    monkeypatch.setattr("sys.argv", ["-c", *installed.test_arguments])


def answers(url: str) -> bool:
    """Whether it answers, and well."""
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
