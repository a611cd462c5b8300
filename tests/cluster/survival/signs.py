"""By what one sees that an operator waits, and for what, or that it serves a shop."""

from datetime import datetime
from typing import Final

import pytest

from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

WRITES: Final = {"create", "update", "patch", "delete", "deletecollection"}
SOON_SECONDS: Final = 10
"""What the contract calls seconds."""

PATIENCE_SECONDS: Final = 60
"""For what the contract gives no bound, and for a process to start on a busy machine."""

END_SECONDS: Final = 5
ELECTION: Final = [pytest.param((), id="alone"), pytest.param(("--leader-elect",), id="elected")]


def assert_waits_for(operator: OperatorProcess, what: str) -> None:
    """It isn't ready and says for want of what, and it is well."""
    ready = operator.get("/readyz")
    assert ready.status_code == 503
    assert what in ready.text.lower()
    assert operator.get("/healthz").status_code == 200


def wait_until_not_ready(operator: OperatorProcess, timeout: float = SOON_SECONDS) -> None:
    wait_until(lambda: operator.get("/readyz").status_code == 503, timeout, "it says that it isn't ready")


def wait_until_all_is_served(operator: OperatorProcess, timeout: float = SOON_SECONDS) -> None:
    """Wait until it is ready, and has nothing to add."""
    wait_until(lambda: operator.get("/readyz").text == "ok\n", timeout, "it says that it serves all")


def assert_complained_once(operator: OperatorProcess, what: str) -> None:
    """It has complained of that once since its start, of nothing else, and as of something that it expects.

    Where owners are gone for a while the garbage collector may delete a Secret again and again, which it tells, too.
    """
    complaints = [said for said in operator.complaints() if "Something keeps changing or deleting Secret" not in said]
    assert len(complaints) == 1, complaints
    (complaint,) = complaints
    assert complaint.startswith("WARNING asset_token_operator")
    assert what in complaint.lower()


def wait_until_it_listens(operator: OperatorProcess) -> None:
    """Wait until the process has started, which is no part of how fast it serves."""
    wait_until(lambda: operator.get("/healthz").status_code == 200, PATIENCE_SECONDS, "it listens, and is well")


def harm_secret(shop: Shop, name: str) -> None:
    shop.edit_secret(name, {"data": {"authorization": None}})


def wait_until_repaired(shop: Shop, name: str, timeout: float) -> None:
    """Wait until the harm was seen: Secrets are followed, too."""
    wait_until(lambda: "authorization" in shop.data(name), timeout, f"the Secret {name} is repaired")


def user(shop: Shop) -> str:
    """As whom the shop's operator is known to the API server."""
    return f"system:serviceaccount:{shop.namespace}:operator"


def secrets_written(controlplane: ControlPlane, shop: Shop, since: datetime | None = None) -> list[tuple[str, str]]:
    """What the shop's operator has done to Secrets in the shop's namespace: the verb, and the Secret's name."""
    return [
        (event.verb, event.name)
        for event in controlplane.audit(namespace=shop.namespace, since=since)
        if event.user == user(shop) and event.resource == "secrets" and event.verb in WRITES
    ]


def lease(shop: Shop) -> Json:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{shop.namespace}/leases/asset-token-operator"
    spec: Json = (shop.cluster.api.find(path) or {}).get("spec", {})
    return spec
