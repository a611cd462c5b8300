"""What happens while Kubernetes fails: the API server is gone, hangs or refuses, or a namespace goes away."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from tests.conftest import CRDS, DEPLOY
from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import HANG, Behaviour
from tests.support.cluster import Cluster, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, Shop

WRITES = {"create", "update", "patch", "delete", "deletecollection"}
ROLE = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/operator"
BINDINGS = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def controlplane(controlplane: Cluster) -> Iterator[ControlPlane]:
    """A control plane of this module's own, since its API server is stopped."""
    if not isinstance(controlplane, ControlPlane):
        pytest.skip("stops the API server, so it needs a control plane of its own")
    with ControlPlane() as own:
        yield own


@pytest.fixture(scope="module")
def crds(controlplane: ControlPlane) -> None:
    controlplane.apply_crds(CRDS)


def test_a_token_that_is_issued_while_the_api_server_is_down_is_not_lost(
    shop: Shop, controlplane: ControlPlane, asset: AssetApi, operator: OperatorProcess
) -> None:
    with asset.held():
        shop.put("ledger-writer")
        wait_until(lambda: asset.arrived == 1, 15, "the request arrives")
        controlplane.stop_apiserver()
    issued = asset.wait_for(lambda requests: len(requests) == 1)[0].token
    operator.wait_for_output("Secret not written")
    controlplane.start_apiserver()
    shop.wait_until_ready("ledger-writer", 30)
    assert shop.data("ledger-writer")["access_token"] == issued
    shop.wait_until_served("probe")
    assert len(asset.requests) == 1 + 1


def test_a_hanging_api_server_delays_everything_and_breaks_nothing(
    shop: Shop, controlplane: ControlPlane, asset: AssetApi, operator: OperatorProcess
) -> None:
    asset.behave(Behaviour(lifetime=20), times=1)  # longer than any call is waited for
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    token = shop.data("ledger-writer")["access_token"]
    with controlplane.paused_apiserver():
        wait_until(lambda: not asset.accepts(token), 45, "the token expires")
    assert operator.is_running()
    wait_until(lambda: shop.data("ledger-writer")["access_token"] != token, 30, "it is renewed")
    shop.wait_until_served("probe")
    assert len(asset.requests) == 2 + 1


def test_200_tokens_outlive_a_restart_while_the_api_server_is_down(
    shop: Shop, controlplane: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    with AssetApi() as asset:
        asset.register(CLIENT_ID, CLIENT_SECRET)
        names = [f"token-{number}" for number in range(200)]
        operator = operator_for(shop, f"--sandbox-url={asset.url}")
        shop.apply(*map(shop.manifest, names))
        wait_until(lambda: all("revision" in token["status"] for token in shop.tokens()), 60, "all are ready")
        operator.kill()
        controlplane.stop_apiserver()
        operator.start()
        if not _keeps_running(operator):
            assert "Traceback" not in operator.output()
        controlplane.start_apiserver()
        if not operator.is_running():
            operator.start()  # as the kubelet does
        shop.wait_until_served("probe", 60)
        assert len(asset.requests) == len(names) + 1


def test_rights_that_come_late_are_enough(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.wait_until_served("before")
    operator.kill()
    with _without_rights(shop):
        shop.put("ledger-writer")
        operator.start()
        operator.wait_for_output("can't be followed")
    shop.wait_until_ready("ledger-writer", 30)
    assert operator.is_running()
    assert len(asset.requests) == 2


def test_sigterm_ends_it_while_it_has_no_rights_yet(shop: Shop, operator: OperatorProcess) -> None:
    operator.kill()
    with _without_rights(shop):
        _wait_until_allowed(shop, "no")
        operator.start()
        operator.wait_for_output("can't be followed")
        assert operator.terminate() == 0


def test_rights_that_are_taken_and_given_back_are_enough(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.wait_until_served("before")
    with _without_rights(shop):
        _wait_until_allowed(shop, "no")
        shop.put("ledger-writer")
        operator.wait_for_output("ledger-writer: GET")
    shop.wait_until_ready("ledger-writer", 30)
    assert len(asset.requests) == 2


def test_a_token_that_may_not_be_written_is_kept_until_it_may(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    path = ROLE.format(shop.namespace)
    shop.wait_until_served("before")
    rules = shop.cluster.api.get(path)["rules"]
    weaker = [
        rule | {"verbs": [verb for verb in rule["verbs"] if verb != "patch" or rule["resources"] != ["secrets"]]}
        for rule in rules
    ]
    shop.cluster.api.patch(path, {"rules": weaker})
    _wait_until_allowed(shop, "no")
    shop.put("ledger-writer")
    condition = shop.wait_for_condition("ledger-writer", "Issuing", "True", "ClusterRefused")
    assert "403 Forbidden" in condition["message"]
    shop.cluster.api.patch(path, {"rules": rules})
    shop.wait_until_ready("ledger-writer", 45)
    assert len(asset.requests) == 2
    assert shop.data("ledger-writer")["access_token"] == asset.requests[1].token


def test_an_asset_token_that_changes_all_the_time_is_served_once(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    path, stop = shop.path("assettokens/ledger-writer"), threading.Event()

    def annotate() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            shop.cluster.api.patch(path, {"metadata": {"annotations": {"example.com/number": str(number)}}})

    busy = threading.Thread(target=annotate)
    busy.start()
    try:
        wait_until(lambda: shop.data("ledger-writer"), 15, "the Secret is written")
        for value, revision in (("a", "2"), ("b", "3")):
            change = {"metadata": {"annotations": {"auth.getasset.com/renew-requested-at": value}}}
            shop.cluster.api.patch(path, change)
            _wait_for_revision(shop, revision)
    finally:
        stop.set()
        busy.join()
    shop.wait_for_revision("ledger-writer", 3)
    shop.wait_until_ready("ledger-writer")
    assert shop.token("ledger-writer")["status"]["lastHandledRenewRequest"] == "b"
    shop.wait_until_served("probe")
    assert len(asset.requests) == 3 + 1
    first = [event for event in shop.events("Issued") if event["regarding"]["name"] == "ledger-writer"]
    assert len(first) <= 1


def test_a_namespace_goes_with_all_its_tokens_and_costs_little(
    shop: Shop, controlplane: ControlPlane, asset: AssetApi, operator_for: Callable[..., OperatorProcess]
) -> None:
    leaving = Shop(shop.cluster, shop.cluster.create_namespace(), asset)
    operator = operator_for(shop, f"--namespace={leaving.namespace}")
    shop.serve_too(leaving.namespace)
    leaving.put_credentials()
    names = [f"token-{number}" for number in range(10)]
    leaving.apply(*map(leaving.manifest, names))
    for name in names:
        leaving.wait_until_ready(name, 30)
    requests, since = len(asset.requests), datetime.now(UTC)
    shop.cluster.delete_namespace(leaving.namespace)
    path = f"/api/v1/namespaces/{leaving.namespace}"
    wait_until(lambda: shop.cluster.api.find(path) is None, 60, "the namespace is gone")
    shop.wait_until_served("probe")
    assert operator.is_running()
    assert "unexpected" not in operator.output()
    calls = _calls(controlplane, shop, leaving.namespace, since)
    assert sum(count for (verb, _), count in calls.items() if verb in WRITES) <= 3 * len(names)
    assert sum(calls.values()) <= 10 * len(names)
    assert len(asset.requests) <= requests + 1


def test_sigterm_ends_it_when_the_time_of_a_request_that_hangs_is_over(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    asset.behave(Behaviour(failure=HANG))
    shop.put("ledger-writer")
    wait_until(lambda: asset.arrived == 1, 15, "the request arrives")
    began = time.monotonic()
    assert operator.terminate() == 0
    assert time.monotonic() - began < 25


def test_sigterm_ends_it_within_its_grace_period_while_kubernetes_hangs(
    shop: Shop, controlplane: ControlPlane, asset: AssetApi, operator: OperatorProcess
) -> None:
    granted = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())["terminationGracePeriodSeconds"]
    asset.behave(Behaviour(latency=2))
    shop.put("ledger-writer")
    wait_until(lambda: asset.arrived == 1, 15, "the request arrives")
    with controlplane.paused_apiserver():
        operator.wait_for_output("the first token was issued")
        assert operator.terminate(within=granted) == 0


# The last one: after a long outage the controllers, too, take their time to come back.
def test_after_an_outage_that_outlasts_a_token_all_is_well_within_seconds(
    shop: Shop, controlplane: ControlPlane, asset: AssetApi, operator: OperatorProcess
) -> None:
    asset.behave(Behaviour(lifetime=30), times=1)
    shop.put("short")
    shop.wait_until_ready("short")
    shop.put("long")
    shop.wait_until_ready("long")
    token = shop.data("short")["access_token"]
    controlplane.stop_apiserver()
    wait_until(lambda: not asset.accepts(token), 45, "the token expires")
    controlplane.start_apiserver()
    assert operator.is_running()
    wait_until(lambda: shop.data("short")["access_token"] != token, 20, "it is renewed")
    assert asset.accepts(shop.data("short")["access_token"])
    shop.wait_until_served("probe", 20)
    shop.edit_secret("long", {"data": {"authorization": None}})
    wait_until(lambda: "authorization" in shop.data("long"), 20, "drift is seen")
    assert len(asset.requests) == 2 + 1 + 1


@contextmanager
def _without_rights(shop: Shop) -> Iterator[None]:
    """The operator may do nothing."""
    path = BINDINGS.format(shop.namespace)
    binding = shop.cluster.api.get(f"{path}/operator")
    shop.cluster.api.delete(f"{path}/operator")
    try:
        yield
    finally:
        shop.cluster.api.create(path, binding | {"metadata": {"name": "operator"}})


def _wait_until_allowed(shop: Shop, answer: str) -> None:
    """Wait until the API server knows whether the operator may write Secrets: it learns of new rules with a delay."""
    user = f"system:serviceaccount:{shop.namespace}:operator"

    def look() -> bool:
        question = ("auth", "can-i", "patch", "secrets", f"--as={user}", f"--namespace={shop.namespace}")
        return shop.cluster.kubectl(*question, check=False).strip() == answer

    wait_until(look, 15, f"may write Secrets: {answer}")


def _keeps_running(operator: OperatorProcess) -> bool:
    """Whether it still runs when it has had time to say that there is no API server."""
    deadline = time.monotonic() + 5
    wait_until(lambda: not operator.is_running() or time.monotonic() > deadline, 10, "it ends, or it doesn't")
    return operator.is_running()


def _wait_for_revision(shop: Shop, revision: str) -> None:
    wait_until(lambda: _revision(shop) == revision, 15, f"revision {revision}")


def _revision(shop: Shop) -> str | None:
    annotations: dict[str, Any] = (shop.secret("ledger-writer") or {})["metadata"]["annotations"]
    return annotations.get("auth.getasset.com/revision")


def _calls(controlplane: ControlPlane, shop: Shop, namespace: str, since: datetime) -> Counter[tuple[str, str]]:
    """The operator's calls in a namespace by verb and resource."""
    user = f"system:serviceaccount:{shop.namespace}:operator"
    return Counter(
        (event.verb, event.resource)
        for event in controlplane.audit(namespace=namespace, since=since)
        if event.user == user
    )
