"""What happens while something between the operator and the API server or Asset fails, one thing at a time."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.conftest import CRDS
from tests.faults.proxy import Call, Fault, Harm, Proxy, refusal
from tests.support.asset_api import AssetApi
from tests.support.cluster import ApiError, Cluster, Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

Start = Callable[..., OperatorProcess]

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def kube_proxy(controlplane: Cluster) -> Iterator[Proxy]:
    """A proxy in front of the API server."""
    if not isinstance(controlplane, ControlPlane):
        pytest.skip("needs a control plane of our own")
    with Proxy(controlplane.server, controlplane.certificate) as proxy:
        yield proxy


@pytest.fixture
def asset_proxy(asset: AssetApi) -> Iterator[Proxy]:
    """A proxy in front of Asset's stand-in."""
    with Proxy(asset.url) as proxy:
        yield proxy


@pytest.fixture
def operator(tmp_path: Path, shop: Shop, kube_proxy: Proxy, asset_proxy: Proxy) -> Iterator[OperatorProcess]:
    """An operator that sees the world through both proxies."""
    kubeconfig = kube_proxy.kubeconfig(shop.cluster.kubeconfig, tmp_path)
    urls = (f"--sandbox-url={asset_proxy.url}", "--production-url=http://127.0.0.1:9")
    trust = f"--ca-file={asset_proxy.certificate}"
    with OperatorProcess(kubeconfig, tmp_path, (f"--namespace={shop.namespace}", *urls, trust)) as process:
        yield process


class Times:
    """Chooses a fault for the first few calls that match."""

    def __init__(self, fault: Fault, times: int, match: Callable[[Call], bool]) -> None:
        self._fault, self._match = fault, match
        self._left = times
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> Fault | None:
        with self._lock:
            if self._left > 0 and self._match(call):
                self._left -= 1
                return self._fault
        return None


def writes_secret(call: Call) -> bool:
    return call.method == "PATCH" and "/secrets/" in call.path


def watches(call: Call) -> bool:
    return call.watch


def anything(call: Call) -> bool:
    return bool(call.path)


def asks_for_token(call: Call) -> bool:
    return call.method == "POST"


@pytest.mark.parametrize(
    ("fault", "times", "match"),
    [
        pytest.param(refusal(410), 4, watches, id="410 Gone on watches"),
        pytest.param(Fault(Harm.GONE), 4, watches, id="watches that begin and say 410"),
        pytest.param(Fault(Harm.CUT_WITHIN), 4, watches, id="watches that are cut in an event"),
        pytest.param(Fault(Harm.CORRUPT), 4, watches, id="watches with corrupt events"),
        pytest.param(refusal(429, Retry_After="1"), 10, anything, id="429 by priority and fairness"),
        pytest.param(refusal(500), 10, anything, id="500 on everything"),
        pytest.param(refusal(503), 3, writes_secret, id="503 on the Secret's write"),
        pytest.param(Fault(Harm.CUT_BEFORE), 3, writes_secret, id="the Secret's write is cut before it arrives"),
        pytest.param(Fault(Harm.CUT_AFTER), 3, writes_secret, id="the answer to the Secret's write is lost"),
        pytest.param(Fault(Harm.CORRUPT), 3, writes_secret, id="the answer to the Secret's write is corrupt"),
        pytest.param(Fault(Harm.DELAY), 10, anything, id="everything is late"),
    ],
)
def test_a_failing_way_to_the_api_server_costs_time_and_no_request(  # noqa: PLR0917 - a row, and fixtures
    shop: Shop,
    asset: AssetApi,
    operator: OperatorProcess,
    kube_proxy: Proxy,
    fault: Fault,
    times: int,
    match: Callable[[Call], bool],
) -> None:
    names = [f"token-{number}" for number in range(5)]
    faults = Times(fault, times, match)
    if match is watches:  # they last for minutes, so it is the first ones that are harmed
        kube_proxy.choose = faults
    shop.put(names[0])
    shop.wait_until_ready(names[0], 60)
    kube_proxy.choose = faults
    for name in names[1:]:
        shop.put(name)
    for name in names:
        shop.wait_until_ready(name, 60)
    shop.kubectl("annotate", "astok", "--all", "auth.getasset.com/renew-requested-at=1")
    for name in names:
        shop.wait_for_revision(name, 2, 60)

    assert len(asset.requests) == 2 * len(names)
    assert kube_proxy.done[fault.harm] >= min(times, 3)
    assert operator.is_running()


def test_a_watch_that_goes_silent_is_noticed(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, kube_proxy: Proxy
) -> None:
    """It ends by the silence of its bookmarks, which takes a minute and a half."""
    kube_proxy.choose = Times(Fault(Harm.SILENCE), 2, watches)
    wait_until(lambda: kube_proxy.done[Harm.SILENCE] == 2, 60, "the watches of AssetTokens and Secrets are silent")
    kube_proxy.choose = lambda _: None
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer", 120)
    assert len(asset.requests) == 1


@pytest.mark.parametrize(
    ("fault", "requests"),
    [
        pytest.param(Fault(Harm.CUT_BEFORE), 1, id="cut before it arrives"),
        pytest.param(Fault(Harm.CUT_AFTER), 3, id="the answer is lost"),
        pytest.param(Fault(Harm.CUT_WITHIN), 3, id="the answer is cut"),
        pytest.param(Fault(Harm.CORRUPT), 3, id="the answer is corrupt"),
        pytest.param(Fault(Harm.DELAY), 1, id="late"),
        pytest.param(refusal(500), 1, id="500"),
        pytest.param(refusal(302, Location="http://127.0.0.1:9/"), 1, id="redirected"),
    ],
)
def test_a_failing_way_to_asset_is_tried_again_until_a_whole_answer_comes(  # noqa: PLR0917 - a row, and fixtures
    shop: Shop, asset: AssetApi, operator: OperatorProcess, asset_proxy: Proxy, fault: Fault, requests: int
) -> None:
    asset_proxy.choose = Times(fault, 2, asks_for_token)
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer", 60)
    assert asset.accepts(shop.data("ledger-writer")["access_token"])
    assert len(asset.requests) == requests
    assert asset_proxy.done[fault.harm] == (1 if fault.harm is Harm.DELAY else 2)


class Etcd:
    """The store behind a control plane, which can be full."""

    def __init__(self, controlplane: ControlPlane) -> None:
        self._url = controlplane.etcd_url
        self._controlplane = controlplane
        self._ballast: list[str] = []

    def fill(self, namespace: str) -> None:
        """Create ballast until nothing can be written any more."""
        path = f"/api/v1/namespaces/{namespace}/configmaps"
        try:
            for number in range(1000):
                body = {"metadata": {"name": f"ballast-{number}"}, "data": {"a": "x" * 900_000}}
                self._controlplane.api.create(path, body)
                self._ballast.append(f"{path}/ballast-{number}")
        except ApiError:
            return
        raise AssertionError("etcd has no quota")

    def make_room(self) -> None:
        """Remove the ballast, compact, defragment and tell etcd that it has room again."""
        for path in self._ballast:
            self._controlplane.api.delete(path)
        revision = self._call("kv/range", {"key": "AA=="})["header"]["revision"]
        self._call("kv/compaction", {"revision": revision, "physical": True})
        self._call("maintenance/defragment", {})
        for alarm in self._call("maintenance/alarm", {"action": "GET"})["alarms"]:
            self._call("maintenance/alarm", {"action": "DEACTIVATE", **alarm})

    def _call(self, what: str, body: dict[str, object]) -> Json:
        answer = httpx.post(f"{self._url}/v3/{what}", json=body, trust_env=False, timeout=30).raise_for_status()
        found: Json = answer.json()
        return found


def test_a_token_that_is_issued_while_etcd_is_full_is_written_when_there_is_room(
    controlplane: Cluster, asset: AssetApi, tmp_path: Path
) -> None:
    if not isinstance(controlplane, ControlPlane):
        pytest.skip("fills etcd, so it needs a control plane of its own")
    with ExitStack() as stack:
        own = stack.enter_context(ControlPlane(etcd_args=["--quota-backend-bytes=33554432"]))
        own.apply_crds(CRDS)
        shop = Shop(own, own.create_namespace(), asset)
        shop.put_credentials()
        urls = (f"--sandbox-url={asset.url}", "--production-url=http://127.0.0.1:9")
        operator = OperatorProcess(own.kubeconfig, tmp_path, (f"--namespace={shop.namespace}", *urls))
        stack.enter_context(operator)
        shop.put("ledger-writer", lifetime="10m", renewBefore="9m30s")
        shop.wait_until_ready("ledger-writer")
        first = shop.data("ledger-writer")["access_token"]
        etcd = Etcd(own)
        etcd.fill(shop.namespace)

        asset.wait_for(lambda requests: len(requests) == 2, timeout=60)
        operator.wait_for_output("Secret not written")
        assert shop.data("ledger-writer")["access_token"] == first
        etcd.make_room()
        wait_until(lambda: shop.data("ledger-writer")["access_token"] != first, 90, "it is written")

        assert len(asset.requests) == 2
        assert shop.data("ledger-writer")["access_token"] == asset.requests[-1].token
