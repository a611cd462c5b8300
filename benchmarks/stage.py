"""What each pass needs, and begins anew: a control plane, the stand-in for Asset's API, and somebody who watches."""

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self, TypedDict, Unpack

import httpx
import yaml

from benchmarks.asset_server import AssetServer
from benchmarks.client import Background, Call, Client
from benchmarks.observer import Observer
from benchmarks.processes import busy_seconds, count_writes, cpu_of, cpu_seconds, memory
from benchmarks.world import OPERATOR, SELECTOR, credentials_calls, namespace_calls, tenant_count, token_calls
from tests.support.audit import AuditEvent
from tests.support.cluster import WaitTimeoutError
from tests.support.component import free_ports
from tests.support.controlplane import ControlPlane
from tests.support.gobuild import Binaries
from tests.support.operator_process import OperatorProcess

ROOT: Final = Path(__file__).parents[1]
ROLES: Final = ROOT / "deploy" / "base" / "rbac.yaml"
RBAC: Final = "/apis/rbac.authorization.k8s.io/v1"
MIB: Final = 2**20

COMPONENTS: Final = {"etcd": "etcd", "kube-apiserver": "apiserver", "kube-controller-manager": "controllers"}
LOOK_SECONDS: Final = 0.2
"""How often is looked whether all is there; when each thing came is known from the watches."""

QUIET_SECONDS: Final = 2.0
QUIET_SHARE: Final = 0.05
SETTLE_SECONDS: Final = 30.0
SETTLED_SHARE: Final = 0.3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What had been used at a moment.

    Attributes:
        at: The moment, in monotonic seconds.
        cpu: In seconds, by process.
        others: CPU that was used by what isn't part of the pass.
        requests: What the stand-in had counted.
    """

    at: float
    cpu: Mapping[str, float]
    others: float
    requests: Mapping[str, int]


class StageOptions(TypedDict, total=False):
    """What is different from pass to pass.

    Attributes:
        spare: For how many more AssetTokens there are credentials.
        one_tenant: Whether all have the same credentials.
        lifetime_cap: The longest lifetime in seconds that the stand-in grants; any, where it isn't given.
        selector: Which labels the Secrets have that are waited for; the operator's, where they aren't given.
        audited: Whether the API server keeps an audit log.
    """

    spare: int
    one_tenant: bool
    lifetime_cap: int
    selector: str
    audited: bool


class Stage:
    """A context manager that starts all of it, and ends all of it.

    Args:
        programs: Of the control plane.
        count: How many AssetTokens are created before anything is measured.
        latency: Seconds until the stand-in answers.
        progress: Told how many of how many are done.
        options: See `StageOptions`.
    """

    controlplane: ControlPlane
    asset: AssetServer
    observer: Observer

    def __init__(
        self,
        programs: Binaries,
        count: int,
        *,
        latency: float,
        progress: Callable[[int, int], object],
        **options: Unpack[StageOptions],
    ) -> None:
        self.count = count
        self.progress = progress
        self._most = count + options.get("spare", 0)
        self._one_tenant = options.get("one_tenant", False)
        self._selector = options.get("selector", SELECTOR)
        self.controlplane = ControlPlane(programs, audited=options.get("audited", False))
        tenants = tenant_count(self._most, one=self._one_tenant)
        self.asset = AssetServer(tenants, latency, options.get("lifetime_cap"))
        self.observer = Observer()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.controlplane)
            self.controlplane.apply_crds(ROOT / "crds")
            stack.enter_context(self.asset)
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-bench-")))
            self._background = stack.enter_context(Background())
            self._client = self.run(Client(self.controlplane.kubeconfig).__aenter__())
            stack.callback(lambda: self.run(self._client.__aexit__()))
            self.each(namespace_calls())
            self.kubeconfig = self._service_account()
            self._watch(stack)
            self.operator = self._operator()
            stack.push(self.operator.__exit__)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def run(self, coroutine: Any) -> Any:  # noqa: ANN401 - gives what the coroutine gives
        """Run something in the client's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._background.loop).result()

    def each(self, calls: Iterable[Call]) -> dict[str, float]:
        """Make all these calls as fast as it goes; gives when each was sent, by its key."""
        sent: dict[str, float] = self.run(self._client.each(calls, lambda done: self.progress(done, self.count)))
        return sent

    @property
    def kubeconfig_of_admin(self) -> Path:
        """An administrator's kubeconfig."""
        return self.controlplane.kubeconfig

    def prepare(self) -> None:
        """Create the credentials."""
        self.each(credentials_calls(self._most, one=self._one_tenant))

    def populate(self) -> None:
        """Create the credentials and the AssetTokens, and wait until the control plane has dealt with them."""
        self.prepare()
        self.each(token_calls(self.count, one=self._one_tenant))
        self.settle()

    # ---- waiting -----------------------------------------------------------------------------------------------------

    def wait(self, reached: Callable[[], int], wanted: int, patience: float) -> None:
        """Wait until so many are reached.

        Raises:
            WaitTimeoutError: They weren't within so many seconds, or the operator has ended.
            Exception: Whatever ended the watches.
        """
        deadline = monotonic() + patience
        while (seen := reached()) < wanted:
            self.progress(seen, wanted)
            if monotonic() > deadline:
                raise WaitTimeoutError(f"only {seen} of {wanted} in {patience:.0f} s")
            if self._watching.done():
                self._watching.result()
            if self.operator.pid is not None and not self.operator.is_running():
                raise WaitTimeoutError(f"the operator ended: {self.operator.output()[-500:]}")
            time.sleep(LOOK_SECONDS)
        self.progress(wanted, wanted)

    def settle(self) -> None:
        """Wait until the control plane does little: what was created before isn't what is measured."""
        deadline = monotonic() + SETTLE_SECONDS
        used = 1.0
        while used > SETTLED_SHARE and monotonic() < deadline:
            before = self._components_cpu()
            time.sleep(1)
            used = self._components_cpu() - before

    def wait_until_ready(self, patience: float) -> float:
        """Wait for the operator's `/readyz`; gives when it came."""
        deadline = monotonic() + patience
        while monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False).is_success:
                    return monotonic()
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise WaitTimeoutError(f"/readyz not within {patience:.0f} s")

    def wait_until_idle(self, patience: float) -> float:
        """Wait until the operator does next to nothing for 2 s; gives when that began."""
        pid = self._operator_pid()
        deadline = monotonic() + patience
        began, used = monotonic(), cpu_seconds(pid)
        while monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            now, total = monotonic(), cpu_seconds(pid)
            if total - used > QUIET_SHARE * QUIET_SECONDS:
                began, used = now, total
            elif now - began >= QUIET_SECONDS:
                return began
        raise WaitTimeoutError(f"the operator isn't idle after {patience:.0f} s")

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def snapshot(self, own: int | None = None) -> Snapshot:
        """What has been used until now.

        Args:
            own: The process that is measured; the operator's where it isn't given.
        """
        pids: dict[str, int | None] = {"own": own or self.operator.pid, "asset": self.asset.pid}
        pids |= {COMPONENTS[name]: pid for name, pid in self.controlplane.pids().items()}
        requests, used = self.asset.counts(), cpu_of(pids)
        ours = sum(used.values()) + sum(os.times()[:4])  # with children that have ended, as the reference
        return Snapshot(monotonic(), used, busy_seconds() - ours, requests)

    @staticmethod
    def costs(before: Snapshot, after: Snapshot, count: int) -> dict[str, float]:
        """What was used between two snapshots, as figures: CPU a token, and token requests."""
        used = {name: after.cpu[name] - before.cpu[name] for name in after.cpu}
        figures = {f"cpu_{name}_ms": 1000 * seconds / count for name, seconds in used.items()} if count else {}
        figures |= {name: after.requests[key] - before.requests[key] for name, key in _REQUESTS.items()}
        others = max(0.0, after.others - before.others) / (after.at - before.at)
        return figures | {"cpu_own_s": used["own"], "others_cores": others}

    def resident(self, pid: int | None = None) -> dict[str, float]:
        """The memory of the operator, or of another, as figures."""
        found = memory(pid or self._operator_pid())
        return {"rss_mib": found.resident / MIB, "peak_mib": found.peak / MIB}

    def idle_cpu(self, seconds: float) -> float:
        """The CPU that the operator uses while nothing happens, in ms a second."""
        before = cpu_seconds(self._operator_pid())
        time.sleep(seconds)
        return 1000 * (cpu_seconds(self._operator_pid()) - before) / seconds

    def api_writes(self) -> int:
        """How many Secrets, AssetTokens and events the API server was asked to create or change; its own count."""
        return count_writes(self.run(_text(self._client, "/metrics")))

    def calls(self, since: float) -> list[AuditEvent]:
        """What the operator asked the API server since then, in unix seconds, by the audit log."""
        events = self.controlplane.audit()
        return [one for one in events if one.user.endswith(f":{OPERATOR}") and one.at.timestamp() >= since]

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _watch(self, stack: ExitStack) -> None:
        started = threading.Event()
        run = self.observer.run(self._client, self._selector, started.set)
        self._watching = asyncio.run_coroutine_threadsafe(run, self._background.loop)
        stack.callback(self._watching.cancel)
        if not started.wait(30):
            raise WaitTimeoutError("the watches didn't start")

    def _operator(self) -> OperatorProcess:
        address = f"127.0.0.1:{free_ports(1)[0]}"
        self.url = f"http://{address}"
        arguments = (f"--sandbox-url={self.asset.url}", "--production-url=http://127.0.0.1:9")
        addresses = (f"--health-address={address}", f"--metrics-address={address}")
        return OperatorProcess(self.kubeconfig, self.folder, (*arguments, *addresses))

    def _service_account(self) -> Path:
        """A kubeconfig with the rights of the shipped role: authorization is part of a call's cost."""
        documents: Sequence[Mapping[str, Any]] = list(yaml.safe_load_all(ROLES.read_text()))
        rules = [rule for document in documents for rule in document.get("rules", ())]
        subject = {"kind": "ServiceAccount", "name": OPERATOR, "namespace": "default"}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": OPERATOR}
        named = {"metadata": {"name": OPERATOR}}
        api = self.controlplane.api
        api.create("/api/v1/namespaces/default/serviceaccounts", named)
        api.create(f"{RBAC}/clusterroles", {**named, "rules": rules})
        api.create(f"{RBAC}/clusterrolebindings", {**named, "roleRef": reference, "subjects": [subject]})
        return self.controlplane.kubeconfig_for("default", OPERATOR)

    def _operator_pid(self) -> int:
        if self.operator.pid is None:
            raise RuntimeError("The operator isn't running")
        return self.operator.pid

    def _components_cpu(self) -> float:
        return sum(map(cpu_seconds, self.controlplane.pids().values()))


_REQUESTS: Final = {"requests": "arrived", "refused": "refused"}


async def _text(client: Client, path: str) -> str:
    async with client.session.get(path) as response:
        return await response.text()
