"""The control plane that other tests trust: does it do what they take for granted?"""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.support.cluster import ApiError, Cluster, KubectlError, WaitTimeoutError, wait_until
from tests.support.component import StartError
from tests.support.controlplane import ControlPlane
from tests.support.gobuild import BuildError, binaries

REPOSITORY = Path(__file__).parents[2]


def test_version_of_the_server_parses(controlplane: Cluster) -> None:
    version = controlplane.api.get("/version")

    assert re.match(r"v\d+\.\d+\.\d+", version["gitVersion"])
    assert version["gitVersion"].startswith(f"v{version['major']}.{version['minor'].rstrip('+')}.")


def test_rbac_denies_a_service_account_without_rights(controlplane: Cluster, namespace: str) -> None:
    kubeconfig = controlplane.kubeconfig_for(namespace, "default")

    with pytest.raises(KubectlError, match=f"system:serviceaccount:{namespace}:default.* cannot list"):
        controlplane.kubectl(f"--kubeconfig={kubeconfig}", "get", "secrets")


def test_garbage_collection_deletes_a_secret_after_its_owner(controlplane: Cluster, namespace: str) -> None:
    api, core = controlplane.api, f"/api/v1/namespaces/{namespace}"
    owner = api.create(f"{core}/configmaps", {"metadata": {"name": "owner"}})
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"]}
    api.create(f"{core}/secrets", {"metadata": {"name": "owned", "ownerReferences": [reference]}})

    api.delete(f"{core}/configmaps/owner")

    wait_until(lambda: api.find(f"{core}/secrets/owned") is None, 30, "the Secret is collected")


def test_audit_log_counts_calls_exactly(audited_controlplane: ControlPlane, namespace: str) -> None:
    api, secrets = audited_controlplane.api, f"/api/v1/namespaces/{namespace}/secrets"
    filler = {"data": {"filler": "A" * 400_000}}  # an answer that long may arrive before the server logs its end
    for number in range(5):
        api.create(secrets, {"metadata": {"name": f"s{number}"}} | filler)
        api.get(f"{secrets}/s{number}")
    with pytest.raises(ApiError, match="already exists"):
        api.create(secrets, {"metadata": {"name": "s0"}})

    calls = [call for call in audited_controlplane.audit(namespace) if call.resource == "secrets"]
    later = [call for call in audited_controlplane.audit(namespace, since=calls[-1].at) if call.resource == "secrets"]

    assert [(call.verb, call.code) for call in calls] == [("create", 201), ("get", 200)] * 5 + [("create", 409)]
    assert {(call.user, call.stage) for call in calls} == {("admin", "ResponseComplete")}
    assert later == calls[-1:]


def test_stopped_api_server_comes_back_with_its_data(audited_controlplane: ControlPlane, namespace: str) -> None:
    audited_controlplane.stop_apiserver()
    try:
        with pytest.raises(httpx.ConnectError):
            audited_controlplane.api.get("/version")
    finally:
        audited_controlplane.start_apiserver()

    assert audited_controlplane.api.get(f"/api/v1/namespaces/{namespace}")["status"] == {"phase": "Active"}
    assert audited_controlplane.audit(namespace)


def test_paused_api_server_answers_when_it_goes_on(audited_controlplane: ControlPlane) -> None:
    answers: list[object] = []
    caller = threading.Thread(target=lambda: answers.append(audited_controlplane.api.get("/version")))
    with audited_controlplane.paused_apiserver():
        caller.start()
        with pytest.raises(WaitTimeoutError, match=r"answered; last seen: \[\]"):
            wait_until(lambda: answers, 0.2, "answered")

    caller.join()
    assert answers


@pytest.mark.usefixtures("audited_controlplane")
def test_start_that_fails_says_why() -> None:
    reason = r"kube-apiserver ended while it was starting(?s:.*)unknown flag: --no-such-flag"
    with pytest.raises(StartError, match=reason):
        ControlPlane(apiserver_args=["--no-such-flag"]).__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl and /proc are Linux's")
@pytest.mark.usefixtures("audited_controlplane")
def test_nothing_survives_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.controlplane"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # which pytest clears, as nobody else will
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline().startswith("export KUBECONFIG=")
            assert len(_processes_in(tmp_path)) == 3
        finally:
            parent.kill()

    wait_until(lambda: not _processes_in(tmp_path), 10, "the components have ended")


def test_incomplete_assets_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "etcd").touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    with pytest.raises(BuildError, match=r"lacks kube-apiserver, kubectl$"):
        binaries()


def _processes_in(folder: Path) -> list[str]:
    """List the processes that name a folder in their arguments."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if str(folder) in path.read_text(errors="replace"):
                found.append(path.parent.name)
    return found
