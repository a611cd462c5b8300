"""The shipped roles, held against what the API server was asked: nothing too much, and nothing missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.asset_api import AssetApi
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

BASE: Final = Path(__file__).parents[2] / "deploy" / "base"
WATCHED: Final = "rbac.yaml"
OF_THE_LEASE: Final = "leader-election.yaml"

Right = tuple[str, str, str]
"""Verb, resource with its subresource, and a resource's name where the rule has one."""


def granted(file: str) -> set[Right]:
    """What the roles in a shipped manifest allow."""
    documents = yaml.safe_load_all((BASE / file).read_text())
    rules: list[dict[str, Any]] = [rule for document in documents for rule in document.get("rules", ())]
    return {
        (verb, resource, name)
        for rule in rules
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def test_every_right_is_used_and_none_is_missing(
    audited_controlplane: ControlPlane,
    shop: Shop,
    asset: AssetApi,
    operator_for: Callable[..., OperatorProcess],
) -> None:
    """The operator does all that it can do: issues, renews, reports, tells, moves, repairs, takes the Lease."""
    operator = operator_for(shop, "--leader-elect", f"--lease-namespace={shop.namespace}")
    shop.put("ledger-writer", secret={"name": "first"})
    shop.wait_until_ready("ledger-writer")
    shop.put("ledger-writer", secret={"name": "second"})
    wait_until(lambda: shop.secret("second") and not shop.secret("first"), 15, "it has moved")
    shop.kubectl("annotate", "astok/ledger-writer", "auth.getasset.com/renew-requested-at=1")
    shop.wait_for_revision("ledger-writer", 2)
    shop.wait_for_event("Issued")
    shop.kubectl("delete", "secret/second")
    wait_until(lambda: shop.secret("second"), 15, "it is repaired")
    wait_until(lambda: used(audited_controlplane, shop) >= granted(OF_THE_LEASE), 15, "the Lease was renewed")
    assert operator.terminate() == 0

    events = [event for event in audited_controlplane.audit(shop.namespace) if event.user.endswith(":operator")]
    assert [event.request_uri for event in events if event.code in (401, 403)] == []
    asked, allowed = used(audited_controlplane, shop), granted(WATCHED) | granted(OF_THE_LEASE)
    assert (asked - allowed, allowed - asked) == (set(), set())


def used(controlplane: ControlPlane, shop: Shop) -> set[Right]:
    """What the operator asked for, in the words of a rule."""
    named = {(verb, resource) for verb, resource, name in granted(OF_THE_LEASE) if name}
    found = set()
    for event in controlplane.audit(shop.namespace):
        if event.user == f"system:serviceaccount:{shop.namespace}:operator":
            resource = f"{event.resource}/{event.subresource}".rstrip("/")
            found.add((event.verb, resource, event.name if (event.verb, resource) in named else ""))
            if event.verb == "patch" and event.code == 201:  # an apply that creates needs both
                found.add(("create", resource, ""))
    return found


def test_no_rule_has_a_wildcard() -> None:
    for file in BASE.glob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            for rule in document.get("rules", ()) or ():
                assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], file


def test_the_namespaced_install_has_no_cluster_role(controlplane: ControlPlane) -> None:
    rendered = controlplane.kubectl("kustomize", str(BASE.parent / "namespaced"))
    objects = list(yaml.safe_load_all(rendered))
    kinds = {document["kind"] for document in objects}
    assert {"Role", "RoleBinding", "Deployment"} <= kinds
    assert not {kind for kind in kinds if kind.startswith("ClusterRole")}
    base = next(d for d in yaml.safe_load_all((BASE / WATCHED).read_text()) if d["kind"] == "ClusterRole")
    role = next(d for d in objects if d["kind"] == "Role" and d["metadata"]["namespace"] == "shop")
    assert role["rules"] == base["rules"]
