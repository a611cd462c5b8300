"""The API server is missing when the operator starts, is restarted, or answers so that its watch ends for good."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.survival.signs import (
    ELECTION,
    END_SECONDS,
    PATIENCE_SECONDS,
    assert_waits_for,
    harm_secret,
    lease,
    wait_until_all_is_served,
    wait_until_repaired,
)
from tests.faults.proxy import Fault, Harm, Proxy, refusal
from tests.support.cluster import Json, lasting, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OBSERVED, OperatorProcess
from tests.support.shop import Shop

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(
    ("kind", "election"),
    [
        pytest.param("refuses", (), id="refuses-connections"),
        pytest.param("refuses", ("--leader-elect",), id="refuses-connections-elected"),
        pytest.param("hangs", (), id="accepts-and-hangs"),
        pytest.param("hangs-behind-tls", (), id="hangs-behind-tls"),
        pytest.param("hangs-behind-tls", ("--leader-elect",), id="hangs-behind-tls-elected"),
        pytest.param("answers-503", (), id="a-load-balancer-without-a-server"),
    ],
)
def test_it_waits_for_an_api_server_that_is_not_there_when_it_starts(
    shop: Shop,
    stoppable: ControlPlane,
    proxy: Proxy,
    request: pytest.FixtureRequest,
    operator_for: Callable[..., OperatorProcess],
    *,
    kind: str,
    election: tuple[str, ...],
) -> None:
    way = "proxied" if kind in {"hangs-behind-tls", "answers-503"} else "kubeconfig"
    kubeconfig = request.getfixturevalue(way)
    operator = operator_for(shop, *OBSERVED, *election, kubeconfig=kubeconfig, started=False)
    shop.create("ledger-writer")
    with _outage(kind, stoppable, proxy):
        operator.start()
        wait_until(lambda: _of_no_lease(operator), PATIENCE_SECONDS, "it says that there is no API server")
        for _ in lasting(5):
            assert_waits_for(operator, "api server")
        assert len(_of_no_lease(operator)) == 1
        assert len(operator.complaints()) == (2 if election else 1)
    shop.wait_until_ready("ledger-writer", 20)
    wait_until_all_is_served(operator, 20)
    assert len(shop.asset.requests) == 1
    assert _complaints_of_others(operator) == []


@pytest.mark.parametrize("election", ELECTION)
def test_sigterm_ends_it_while_there_is_no_api_server_yet(
    shop: Shop,
    stoppable: ControlPlane,
    operator_for: Callable[..., OperatorProcess],
    *,
    election: tuple[str, ...],
) -> None:
    operator = operator_for(shop, *OBSERVED, *election, started=False)
    with _outage("refuses", stoppable):
        operator.start()
        wait_until(operator.complaints, PATIENCE_SECONDS, "it says that there is no API server")
        assert operator.is_running()
        assert operator.terminate(within=END_SECONDS) == 0


def test_three_namespaces_are_followed_again_after_the_api_server_was_restarted(
    shop: Shop, stoppable: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    shops = [shop, *(Shop(stoppable, stoppable.create_namespace(), shop.asset) for _ in range(2))]
    namespaces = [f"--namespace={each.namespace}" for each in shops[1:]]
    operator = operator_for(shop, *OBSERVED, *namespaces, started=False)
    for each in shops[1:]:
        shop.serve_too(each.namespace)
        each.put_credentials()
    operator.start()
    for each in shops:
        each.put("before")
        each.wait_until_ready("before", PATIENCE_SECONDS)
    stoppable.stop_apiserver()
    stoppable.start_apiserver()
    for each in shops:
        each.create("after")
        harm_secret(each, "before")
    for each in shops:
        each.wait_until_ready("after", 20)
        wait_until_repaired(each, "before", 20)
    assert operator.get("/readyz").text == "ok\n"
    assert operator.get("/healthz").status_code == 200
    assert len(shop.asset.requests) == 2 * len(shops)
    for each in shops[1:]:
        stoppable.delete_namespace(each.namespace)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(refusal(410), id="refused-with-410"),
        pytest.param(refusal(404), id="refused-with-404"),
        pytest.param(Fault(Harm.GONE), id="an-error-event"),
        pytest.param(Fault(Harm.CORRUPT), id="corrupt"),
    ],
)
def test_it_goes_on_after_its_watch_of_asset_tokens_broke_for_good(
    shop: Shop,
    proxy: Proxy,
    proxied: Path,
    operator_for: Callable[..., OperatorProcess],
    *,
    fault: Fault,
) -> None:
    operator = operator_for(shop, *OBSERVED, "--leader-elect", kubeconfig=proxied)
    shop.put("before")
    shop.wait_until_ready("before", PATIENCE_SECONDS)

    proxy.choose = lambda call: fault if call.watch and "/assettokens" in call.path else None
    proxy.cut_watches()
    wait_until(lambda: _annotate(shop, "before") and proxy.done[fault.harm] >= 3, 60, "the watch broke three times")
    assert operator.get("/healthz").status_code == 200
    proxy.choose = lambda _: None
    proxy.cut_watches()

    shop.create("after")
    shop.wait_until_ready("after", 20)
    wait_until_all_is_served(operator, 20)
    assert operator.get("/healthz").status_code == 200
    assert len(shop.asset.requests) == 1 + 1
    assert _complaints_of_others(operator) == []
    assert operator.terminate(within=END_SECONDS) == 0
    assert lease(shop)["holderIdentity"] == ""


@contextmanager
def _outage(kind: str, controlplane: ControlPlane, proxy: Proxy | None = None) -> Iterator[None]:
    """The API server isn't there, in one of several ways."""
    if kind == "refuses":
        controlplane.stop_apiserver()
        try:
            yield
        finally:
            controlplane.start_apiserver()
    elif kind == "answers-503" and proxy is not None:
        proxy.choose = lambda _: refusal(503)
        try:
            yield
        finally:
            proxy.choose = lambda _: None
    else:
        with controlplane.paused_apiserver():
            yield


def _of_no_lease(operator: OperatorProcess) -> list[str]:
    return [line for line in operator.complaints() if "Lease" not in line]


def _complaints_of_others(operator: OperatorProcess) -> list[str]:
    """What isn't said in the operator's own words, or as of something that it doesn't expect."""
    return [line for line in operator.complaints() if not line.startswith("WARNING asset_token_operator")]


def _annotate(shop: Shop, name: str) -> Json:
    """Change an AssetToken in a way that means nothing, so that a watch has something to tell."""
    number = shop.token(name)["metadata"]["resourceVersion"]
    return shop.cluster.api.patch(
        shop.path(f"assettokens/{name}"), {"metadata": {"annotations": {"example.com/number": number}}}
    )
