"""Each of the namespaces that an operator watches stands for itself: one that can't be served holds up no other."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from tests.cluster.survival.signs import (
    PATIENCE_SECONDS,
    SOON_SECONDS,
    assert_complained_once,
    assert_waits_for,
    lease,
    user,
    wait_until_all_is_served,
    wait_until_it_listens,
)
from tests.faults.proxy import Call, Fault, Harm, Proxy, refusal
from tests.support.cluster import Json, lasting, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.metrics import read
from tests.support.operator_process import OBSERVED, OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, CREDENTIALS, Shop

RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
FORBIDDEN: Final = "403 Forbidden"
MANY: Final = 60
LEASE_LASTS: Final = timedelta(seconds=15)

pytestmark = pytest.mark.timeout(240)


class Annex:
    """Another namespace that the shop's operator watches, which can be lost and come back.

    Attributes:
        shop: What is in it.
    """

    def __init__(self, main: Shop, namespace: str) -> None:
        self._main = main
        self.shop = Shop(main.cluster, namespace, main.asset)
        self._role = f"{RBAC}/namespaces/{namespace}/roles/operator"
        self._binding = f"{RBAC}/namespaces/{namespace}/rolebindings/operator"

    def open(self) -> None:
        """Create what isn't there: the namespace with its credentials, and all rights in it."""
        api, path = self.shop.cluster.api, f"/api/v1/namespaces/{self.shop.namespace}"
        if api.find(path) is None:
            api.create("/api/v1/namespaces", {"metadata": {"name": self.shop.namespace}})
        if api.find(self.shop.path(f"secrets/{CREDENTIALS}")) is None:
            self.shop.put_secret(CREDENTIALS, {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET})
        for path in (self._binding, self._role):
            if api.find(path) is not None:
                api.delete(path)
        self._main.serve_too(self.shop.namespace)

    def lose(self, how: str) -> None:
        """Lose all of it, the right to it, or a part of the rights; return when the API server acts accordingly."""
        api = self.shop.cluster.api
        if how == "namespace":
            path = f"/api/v1/namespaces/{self.shop.namespace}"
            api.delete(path)
            wait_until(lambda: api.find(path) is None, 60, "the namespace is gone")
        elif how == "rights":
            api.delete(self._binding)
        else:
            rules = [rule for rule in api.get(self._role)["rules"] if how not in rule["resources"]]
            api.patch(self._role, {"rules": rules})
        self._wait_until_refused("secrets" if how != "assettokens" else how)

    def _wait_until_refused(self, resource: str) -> None:
        """Wait until the API server knows: it learns of new rules with a delay."""
        who = (f"--as={user(self._main)}", f"--namespace={self.shop.namespace}")
        question = ("auth", "can-i", "list", f"{resource}.auth.getasset.com" if "asset" in resource else resource, *who)
        kubectl = self.shop.cluster.kubectl
        wait_until(lambda: kubectl(*question, check=False).strip() == "no", 15, f"it may not list {resource}")


@pytest.fixture
def annex(shop: Shop, kubeconfig: Path) -> Iterator[Annex]:
    annex = Annex(shop, _name(shop, "annex"))
    annex.open()
    yield annex
    if shop.cluster.api.find(f"/api/v1/namespaces/{annex.shop.namespace}") is not None:
        shop.cluster.delete_namespace(annex.shop.namespace)


LOSSES: Final = [
    pytest.param("namespace", id="deleted-with-its-role"),
    pytest.param("rights", id="no-rights"),
    pytest.param("assettokens", id="no-rights-to-asset-tokens"),
    pytest.param("secrets", id="no-rights-to-secrets"),
]
UNSERVED_SECONDS: Final = 5


@pytest.mark.parametrize("how", LOSSES)
def test_a_namespace_that_was_lost_before_a_restart_holds_up_nothing_but_itself(
    shop: Shop, annex: Annex, kubeconfig: Path, operator_for: Callable[..., OperatorProcess], *, how: str
) -> None:
    lost = annex.shop.namespace
    operator = operator_for(shop, *OBSERVED, f"--namespace={lost}", kubeconfig=kubeconfig)
    annex.shop.create("before")
    annex.shop.wait_until_ready("before", PATIENCE_SECONDS)
    operator.kill()
    annex.lose(how)
    shop.create("ledger-writer")
    operator.start()

    wait_until_it_listens(operator)
    shop.wait_until_ready("ledger-writer", SOON_SECONDS)
    _wait_until_said(operator, shop, lost)
    for _ in lasting(UNSERVED_SECONDS):
        _assert_serves_but(operator, shop, lost)
    annex.open()
    _assert_comes_back(operator, shop, annex)
    assert_complained_once(operator, lost)
    assert _says(operator.complaints()[0], FORBIDDEN)


def test_a_namespace_that_does_not_exist_yet_is_served_when_it_comes(
    shop: Shop, operator_for: Callable[..., OperatorProcess]
) -> None:
    annex = Annex(shop, _name(shop, "to-come"))
    operator = operator_for(shop, *OBSERVED, f"--namespace={annex.shop.namespace}")
    shop.create("ledger-writer")
    shop.wait_until_ready("ledger-writer", PATIENCE_SECONDS)
    _wait_until_said(operator, shop, annex.shop.namespace)
    _assert_serves_but(operator, shop, annex.shop.namespace)

    annex.open()
    _assert_comes_back(operator, shop, annex)
    assert_complained_once(operator, annex.shop.namespace)
    shop.cluster.delete_namespace(annex.shop.namespace)


@pytest.mark.parametrize("how", LOSSES[:2])
def test_a_namespace_that_is_lost_while_it_is_served_comes_back(
    shop: Shop,
    annex: Annex,
    proxy: Proxy,
    proxied: Path,
    operator_for: Callable[..., OperatorProcess],
    *,
    how: str,
) -> None:
    lost = annex.shop.namespace
    operator = operator_for(shop, *OBSERVED, f"--namespace={lost}", kubeconfig=proxied)
    for each in (shop, annex.shop):
        each.create("before")
        each.wait_until_ready("before", PATIENCE_SECONDS)
    secret, requests = shop.secret("before"), len(shop.asset.requests)

    annex.lose(how)
    proxy.cut_watches()  # a watch goes on with rights that were there when it began
    _wait_until_said(operator, shop, lost)
    _assert_serves_but(operator, shop, lost)
    shop.create("meanwhile")
    shop.wait_until_ready("meanwhile", SOON_SECONDS)

    annex.open()
    _assert_comes_back(operator, shop, annex)
    assert shop.secret("before") == secret
    assert len(shop.asset.requests) == requests + 2
    told = [line for line in operator.complaints() if lost in line and "/before" not in line]
    assert len(told) == 1
    assert _says(told[0], FORBIDDEN)
    assert operator.terminate() == 0


def test_it_is_not_ready_while_no_namespace_can_be_served(
    shop: Shop, annex: Annex, kubeconfig: Path, operator_for: Callable[..., OperatorProcess]
) -> None:
    main = Annex(shop, shop.namespace)
    flags = (*OBSERVED, f"--namespace={annex.shop.namespace}")
    operator = operator_for(shop, *flags, kubeconfig=kubeconfig, started=False)
    rights = {each: _binding(each.shop) for each in (main, annex)}
    for each in rights:
        each.lose("rights")
    operator.start()
    wait_until(lambda: len(operator.complaints()) == 2, PATIENCE_SECONDS, "it says which it can't serve")
    for _ in lasting(UNSERVED_SECONDS):
        for each in rights:
            assert_waits_for(operator, each.shop.namespace)
    assert _says(operator.get("/readyz").text, FORBIDDEN)

    shop.cluster.api.create(f"{RBAC}/namespaces/{shop.namespace}/rolebindings", rights[main])
    shop.create("ledger-writer")
    shop.wait_until_ready("ledger-writer", 2 * SOON_SECONDS)
    wait_until(lambda: operator.get("/readyz").status_code == 200, SOON_SECONDS, "one is enough")
    _assert_serves_but(operator, shop, annex.shop.namespace)
    assert len(operator.complaints()) == 2


def test_all_namespaces_are_served_when_the_rights_in_them_come(
    shop: Shop, controlplane: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    operator = operator_for(shop, *OBSERVED, everywhere=True)  # with a Role, in place of a ClusterRole
    wait_until(operator.complaints, PATIENCE_SECONDS, "it says that it has no rights")
    for _ in lasting(UNSERVED_SECONDS):
        assert_waits_for(operator, "forbidden")
    assert _followed(operator) == {"": 0}
    rules = controlplane.api.get(f"{RBAC}/namespaces/{shop.namespace}/roles/operator")["rules"]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": shop.namespace}
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": shop.namespace}
    metadata = {"name": shop.namespace}
    controlplane.api.create(f"{RBAC}/clusterroles", {"metadata": metadata, "rules": rules})
    controlplane.api.create(
        f"{RBAC}/clusterrolebindings", {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
    )
    try:
        shop.create("ledger-writer")
        shop.wait_until_ready("ledger-writer", 2 * SOON_SECONDS)
        wait_until_all_is_served(operator)
        assert _followed(operator) == {"": 1}
        assert_complained_once(operator, "forbidden")
    finally:
        for kind in ("clusterrolebindings", "clusterroles"):
            controlplane.api.delete(f"{RBAC}/{kind}/{shop.namespace}")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(refusal(503), "503", id="answers-503"),
        pytest.param(Fault(Harm.CUT_BEFORE), "no answer", id="closes-the-connection"),
        pytest.param(Fault(Harm.SILENCE), "no answer", id="begins-an-answer-and-stops"),
    ],
)
def test_a_namespace_whose_calls_fail_holds_up_nothing_but_itself(
    shop: Shop,
    annex: Annex,
    proxy: Proxy,
    proxied: Path,
    operator_for: Callable[..., OperatorProcess],
    *,
    fault: Fault,
    said: str,
) -> None:
    failing = annex.shop.namespace
    proxy.choose = lambda call: fault if _is_within(call, failing) else None
    for each in (shop, annex.shop):
        each.create("ledger-writer")
    operator = operator_for(shop, *OBSERVED, f"--namespace={failing}", kubeconfig=proxied)

    wait_until_it_listens(operator)
    shop.wait_until_ready("ledger-writer", SOON_SECONDS)
    _wait_until_said(operator, shop, failing, said)
    for _ in lasting(UNSERVED_SECONDS):
        _assert_serves_but(operator, shop, failing)
    proxy.choose = lambda _: None
    annex.shop.wait_until_ready("ledger-writer", 30)  # what hangs has 15 s to answer
    wait_until_all_is_served(operator, 30)
    assert len(shop.asset.requests) == 2
    assert_complained_once(operator, failing)


def test_60_namespaces_are_served_while_the_lease_is_renewed(
    shop: Shop, controlplane: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    annexes = [Annex(shop, _name(shop, f"annex-{number}")) for number in range(MANY - 1)]
    flags = [f"--namespace={each.shop.namespace}" for each in annexes]
    operator = operator_for(shop, *OBSERVED, "--leader-elect", *flags, started=False)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Annex.open, annexes))
    shops = [shop, *(each.shop for each in annexes)]
    for each in shops:
        each.create("ledger-writer")

    operator.start()
    for each in shops:
        each.wait_until_ready("ledger-writer", PATIENCE_SECONDS)
    wait_until_all_is_served(operator)
    assert _followed(operator) == dict.fromkeys((each.namespace for each in shops), 1)
    holder = lease(shop)
    renewed = holder["renewTime"]
    wait_until(lambda: lease(shop)["renewTime"] > renewed, LEASE_LASTS.total_seconds(), "the Lease is renewed")
    assert {name: lease(shop)[name] for name in ("holderIdentity", "leaseTransitions")} == {
        "holderIdentity": holder["holderIdentity"],
        "leaseTransitions": 0,
    }
    assert all(later - earlier < LEASE_LASTS for earlier, later in pairwise(_renewals(controlplane, shop)))
    assert operator.complaints() == []
    assert operator.terminate() == 0
    assert lease(shop)["holderIdentity"] == ""
    for annex in annexes:
        controlplane.delete_namespace(annex.shop.namespace)


def _name(shop: Shop, prefix: str) -> str:
    """A namespace's name that no other test uses, and that the shop's isn't part of."""
    return f"{prefix}-{shop.namespace.partition('-')[2]}"


def _is_within(call: Call, namespace: str) -> bool:
    return f"/namespaces/{namespace}/" in call.path


def _wait_until_said(operator: OperatorProcess, shop: Shop, lost: str, why: str = FORBIDDEN) -> None:
    """Wait until it says that it is ready, but doesn't serve the namespace that is lost, and why, and no other.

    The log says so a little later: what is over in a moment isn't worth a line.
    """

    def said() -> bool:
        ready = operator.get("/readyz")
        return ready.status_code == 200 and _says(ready.text, f"{lost} {why}") and shop.namespace not in ready.text

    wait_until(said, 45, f"it is ready, and says of {lost}: {why}")
    wait_until(lambda: any(lost in line for line in operator.complaints()), 45, f"its log says it of {lost}, too")


def _says(text: str, words: str) -> bool:
    """Whether all these words are said, in whatever order."""
    return all(word in text for word in words.split())


def _assert_serves_but(operator: OperatorProcess, shop: Shop, lost: str) -> None:
    """It is ready and well, and serves the shop but not the one that is lost."""
    ready = operator.get("/readyz")
    assert ready.status_code == 200
    assert lost in ready.text
    assert shop.namespace not in ready.text
    assert operator.get("/healthz").status_code == 200
    assert _followed(operator) == {shop.namespace: 1, lost: 0}


def _assert_comes_back(operator: OperatorProcess, shop: Shop, annex: Annex) -> None:
    """A namespace that is there again is served, without a restart."""
    annex.shop.create("after")
    annex.shop.wait_until_ready("after", 2 * SOON_SECONDS)
    wait_until_all_is_served(operator)
    assert operator.is_running()
    assert _followed(operator) == {shop.namespace: 1, annex.shop.namespace: 1}


def _followed(operator: OperatorProcess) -> dict[str, float]:
    """Which namespaces it serves, by its metrics."""
    start = 'scope_followed{namespace="'
    found = read(operator.get("/metrics").text)
    return {name.removeprefix(start).removesuffix('"}'): value for name, value in found.items() if start in name}


def _binding(shop: Shop) -> Json:
    found = shop.cluster.api.get(f"{RBAC}/namespaces/{shop.namespace}/rolebindings/operator")
    return found | {"metadata": {"name": "operator"}}


def _renewals(controlplane: ControlPlane, shop: Shop) -> list[datetime]:
    """When the Lease was written."""
    events = controlplane.audit(namespace=shop.namespace)
    return [event.at for event in events if event.resource == "leases" and event.verb in {"create", "patch"}]
