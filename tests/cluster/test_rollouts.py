"""Workloads on a real API server: restarted once for another token, and named where they can't be."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import yaml

from asset_token_operator.times import parse_time
from tests.cluster.test_rbac import used
from tests.support.asset_api import AssetApi
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

COMPONENT: Final = Path(__file__).parents[2] / "deploy" / "rollout-restart" / "kustomization.yaml"
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "restart.yaml"
RESTARTED_AT: Final = "auth.getasset.com/restarted-at"
KINDS: Final = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


def shipped_rule() -> Json:
    """The rule that the kustomize component adds."""
    (patch,) = yaml.safe_load(COMPONENT.read_text())["patches"]
    (operation,) = yaml.safe_load(patch["patch"])
    rule: Json = operation["value"]
    return rule


def allow(shop: Shop, rule: Json) -> None:
    """Add a rule to the operator's role."""
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{shop.namespace}/roles/operator"
    shop.cluster.api.patch(path, {"rules": [*shop.cluster.api.get(path)["rules"], rule]})


def workload(kind: str, name: str = "worker") -> Json:
    labels = {"app": f"{name}-{kind.lower()}"}
    container = {"name": "main", "image": "registry.invalid/worker:1", "env": [{"name": "A", "value": "b"}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec: Json = {"selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def find(shop: Shop, kind: str, name: str = "worker") -> Json:
    return shop.cluster.api.get(f"/apis/apps/v1/namespaces/{shop.namespace}/{KINDS[kind]}/{name}")


def restarted_at(shop: Shop, kind: str, name: str = "worker") -> str | None:
    annotations = find(shop, kind, name)["spec"]["template"]["metadata"].get("annotations", {})
    moment: str | None = annotations.get(RESTARTED_AT)
    return moment


def restarting(*kinds: str, interval: str = "1s") -> Json:
    return {"targets": [{"kind": kind, "name": "worker"} for kind in kinds], "minInterval": interval}


def renew(shop: Shop, revision: int) -> None:
    """Ask for another token and wait for it."""
    shop.kubectl("annotate", "astok/ledger-writer", f"auth.getasset.com/renew-requested-at={revision}", "--overwrite")
    shop.wait_for_revision("ledger-writer", revision)


def told(shop: Shop, reason: str, timeout: float = 15) -> Json:
    status = "True" if reason in ("Restarted", "MinIntervalTooLong") else "False"
    return shop.wait_for_condition("ledger-writer", "RolloutsRestarted", status, reason, timeout)


def test_each_kind_is_restarted_for_another_token_and_nothing_else_of_it_changes(
    audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    allow(shop, shipped_rule())
    shop.apply(*(workload(kind) for kind in KINDS))
    before = {kind: find(shop, kind)["spec"] for kind in KINDS}
    shop.put("ledger-writer", rolloutRestart=restarting(*KINDS))
    told(shop, "Restarted")
    assert {kind: restarted_at(shop, kind) for kind in KINDS} == dict.fromkeys(KINDS), (
        "the first token restarts nothing"
    )

    renew(shop, 2)
    told(shop, "Restarted")
    for kind in KINDS:
        spec = find(shop, kind)["spec"]
        annotations = spec["template"]["metadata"].pop("annotations")
        assert annotations.keys() - {"deprecated.daemonset.template.generation"} == {RESTARTED_AT}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", annotations[RESTARTED_AT])
        assert spec == before[kind]
        assert find(shop, kind)["metadata"]["generation"] == 2
    rights = {(verb, plural, "") for plural in KINDS.values() for verb in ("get", "patch")}
    assert {right for right in used(audited_controlplane, shop) if right[1] in KINDS.values()} == rights
    rule = shipped_rule()
    assert {(verb, resource, "") for verb in rule["verbs"] for resource in rule["resources"]} == rights

    operator.terminate()
    operator.start()
    shop.wait_until_served("probe")
    assert {find(shop, kind)["metadata"]["generation"] for kind in KINDS} == {2}, "a start restarts nothing"
    assert len(asset.requests) == 2 + 1


def test_the_example_is_restarted_when_its_token_is_renewed(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    allow(shop, shipped_rule())
    shop.kubectl("apply", f"--filename={EXAMPLE}")
    shop.wait_for_condition("ledger-worker", "RolloutsRestarted", "True", "Restarted")
    shop.kubectl("annotate", "astok/ledger-worker", "auth.getasset.com/renew-requested-at=1")
    wait_until(lambda: restarted_at(shop, "Deployment", "ledger-worker"), 15, "the worker is restarted")
    worker = find(shop, "Deployment", "ledger-worker")
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    keys = [variable["valueFrom"]["secretKeyRef"] for variable in container["env"]]
    data = shop.data("ledger-worker-token")
    assert [(key["name"], key["key"] in data) for key in keys] == [("ledger-worker-token", True)] * 2


def test_a_lost_status_restarts_nothing_at_a_start(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    allow(shop, shipped_rule())
    shop.apply(workload("Deployment"))
    shop.put("ledger-writer", rolloutRestart=restarting("Deployment"))
    told(shop, "Restarted")
    renew(shop, 2)
    told(shop, "Restarted")
    operator.terminate()
    path = f"/apis/auth.getasset.com/v1alpha1/namespaces/{shop.namespace}/assettokens/ledger-writer/status"
    shop.cluster.api.patch(path, [{"op": "remove", "path": "/status"}], "application/json-patch+json")
    operator.start()
    told(shop, "Restarted", 30)
    shop.wait_until_served("probe")
    assert find(shop, "Deployment")["metadata"]["generation"] == 2


def test_a_right_that_is_missing_is_named_and_the_rule_that_is_said_is_enough(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.apply(workload("Deployment"))
    shop.put("ledger-writer", rolloutRestart=restarting("Deployment"))
    condition = told(shop, "RestartForbidden")
    assert shop.condition("ledger-writer", "Ready")["status"] == "True"
    renew(shop, 2)
    assert asset.accepts(shop.data("ledger-writer")["access_token"])
    (rule,) = re.findall(r"\{apiGroups.*?\}", condition["message"])
    allow(shop, yaml.safe_load(rule))
    told(shop, "Restarted", 60)
    assert restarted_at(shop, "Deployment") is not None


def test_a_workload_that_is_missing_is_named_and_the_others_are_restarted(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    allow(shop, shipped_rule())
    shop.apply(workload("Deployment"))
    shop.put("ledger-writer", rolloutRestart=restarting("StatefulSet", "Deployment"))
    told(shop, "TargetNotFound")
    renew(shop, 2)
    wait_until(lambda: restarted_at(shop, "Deployment"), 15, "the one that is there is restarted")
    condition = told(shop, "TargetNotFound")
    assert condition["message"] == (
        f"StatefulSet worker does not exist in namespace {shop.namespace}: create it, or correct"
        " spec.rolloutRestart.targets."
    )
    issued = parse_time(shop.token("ledger-writer")["status"]["issuanceTime"])
    wait_until(lambda: datetime.now(UTC) >= issued + timedelta(seconds=2), 15, "the token's second is over")
    shop.apply(workload("StatefulSet"))
    told(shop, "Restarted", 60)
    assert restarted_at(shop, "StatefulSet") is None, "it began with the token"


def test_a_token_that_changes_within_the_interval_is_made_up_for_when_it_ends(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    allow(shop, shipped_rule())
    shop.apply(workload("Deployment"))
    shop.put("ledger-writer", rolloutRestart=restarting("Deployment", interval="30s"))
    told(shop, "Restarted")
    renew(shop, 2)
    first = wait_until(lambda: restarted_at(shop, "Deployment"), 15, "it is restarted")
    renew(shop, 3)
    told(shop, "RestartPending")
    told(shop, "Restarted", 60)
    second = restarted_at(shop, "Deployment")
    assert second is not None
    assert 30 <= (datetime.fromisoformat(second) - datetime.fromisoformat(first)).total_seconds() <= 45


def test_who_takes_over_restarts_nothing(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    first = operator_for(shop, "--leader-elect", f"--lease-namespace={shop.namespace}")
    allow(shop, shipped_rule())
    shop.apply(workload("Deployment"))
    shop.put("ledger-writer", rolloutRestart=restarting("Deployment"))
    told(shop, "Restarted")
    folder = tmp_path / "second"
    folder.mkdir()
    with first.another(folder, environment={"POD_ID": "second"}) as second:
        renew(shop, 2)
        told(shop, "Restarted")
        second.wait_for_output("stands by")
        first.terminate()
        shop.wait_until_served("probe")
        assert find(shop, "Deployment")["metadata"]["generation"] == 2
        renew(shop, 3)
        wait_until(lambda: find(shop, "Deployment")["metadata"]["generation"] == 3, 15, "the next token restarts it")
