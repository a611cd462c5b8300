"""What every scenario needs: a control plane, and on it scenes with a shop, an operator and an observer of its own."""

import math
import os
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.faults.observer import OURS, Observer
from tests.support.asset_api import AssetApi
from tests.support.asset_rules import RateLimit
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, CREDENTIALS, Shop

KEEP_LOGS: Final = "ASSET_TOKEN_FAULTS_LOGS"
"""A variable that names a folder to which the operators' logs go; else they are removed with their scene."""

REVISION: Final = "auth.getasset.com/revision"
CREATORS: Final = 8
PATIENCE_SECONDS: Final = 300
QUIET_SECONDS: Final = 3


@dataclass
class Scene:
    """A shop, its operator and an observer, and a stand-in that issues the shop's tokens.

    Attributes:
        operator: Already started, unless the scene was made without.
    """

    shop: Shop
    asset: AssetApi
    operator: OperatorProcess
    observer: Observer
    stage: "Stage"

    def create(self, names: Sequence[str], **spec: Any) -> dict[str, float]:
        """Create AssetTokens, as fast as the API server lets us; gives when each was sent, in unix seconds."""
        return self.create_all([self.shop.manifest(name, **spec) for name in names])

    def create_all(self, manifests: Sequence[Json]) -> dict[str, float]:
        """The same for AssetTokens that differ."""
        path = self.shop.path("assettokens")

        def create(manifest: Json) -> tuple[str, float]:
            sent = time.time()
            self.shop.cluster.api.create(path, manifest)
            return manifest["metadata"]["name"], sent

        with ThreadPoolExecutor(CREATORS) as pool:
            return dict(pool.map(create, manifests))

    def secrets(self) -> dict[str, Json]:
        """The operator's Secrets, by name."""
        items = self.shop.cluster.api.get(self.shop.path(f"secrets?{OURS}"))["items"]
        return {item["metadata"]["name"]: item for item in items}

    def revisions(self) -> dict[str, int]:
        """Which revision of its token each Secret holds."""
        return {name: int(secret["metadata"]["annotations"][REVISION]) for name, secret in self.secrets().items()}

    def wait_for_revisions(self, names: Sequence[str], revision: int = 1, timeout: float = PATIENCE_SECONDS) -> None:
        """Wait until the Secrets of all these hold that revision, or a later one."""

        def reached() -> bool:
            seen = self.revisions()
            return all(seen.get(name, 0) >= revision for name in names)

        wait_until(reached, timeout, f"revision {revision} of {len(names)} tokens")

    def suspend(self, names: Sequence[str]) -> None:
        """Suspend these, and wait until what was under way has ended: no request and no new revision for a while."""
        for name in names:
            self.shop.patch(name, {"suspend": True})
        before = None
        while before != (before := (self.asset.arrived, sum(self.revisions().values()))):
            time.sleep(QUIET_SECONDS)

    def writes(self, since: float = 0) -> dict[str, list[float]]:
        """When each Secret was written by the operator, by the API server's audit log, in unix seconds."""
        found = defaultdict(list)
        for event in self.stage.audit(self.shop.namespace, since):
            written = event.resource == "secrets" and event.verb == "patch" and event.code in (200, 201)
            if written and event.name != CREDENTIALS:
                found[event.name].append(event.at.timestamp())
        return found

    def first_writes(self, names: Sequence[str], since: float) -> list[float]:
        """After how many seconds each was first written since then; infinity where it wasn't."""
        writes = self.writes(since)
        return sorted(min(writes.get(name, [math.inf])) - since for name in names)

    def put_credentials(
        self, client_secret: str = CLIENT_SECRET, client_id: str = CLIENT_ID, name: str = CREDENTIALS
    ) -> None:
        """Create or change a credentials Secret, without the half second that kubectl takes."""
        data = {"client_id": client_id, "client_secret": client_secret}
        if self.shop.secret(name) is None:
            body = {"metadata": {"name": name}, "stringData": data}
            self.shop.cluster.api.create(self.shop.path("secrets"), body)
        else:
            self.shop.cluster.api.patch(self.shop.path(f"secrets/{name}"), {"stringData": data})


class Stage:
    """Makes scenes on a control plane whose CRDs are applied.

    Attributes:
        controlplane: The control plane.
        short: Whether the scenarios shall be short enough for CI.
        seed: Of all that is random.
    """

    def __init__(self, controlplane: ControlPlane, *, short: bool, seed: int) -> None:
        self.controlplane = controlplane
        self._audit_lock = threading.Lock()
        self.short = short
        self.seed = seed

    def random(self, name: str) -> random.Random:
        """A source of random numbers of the scenario's own, so that others don't change its sequence."""
        return random.Random(f"{self.seed}/{name}")

    def audit(self, namespace: str, since: float) -> list[Any]:
        """What the API server was asked in that namespace since then."""
        with self._audit_lock:
            return self.controlplane.audit(namespace, datetime.fromtimestamp(since).astimezone())

    @contextmanager
    def scene(
        self,
        *arguments: str,
        rate_limit: RateLimit | None = None,
        secret: str = CLIENT_SECRET,
        started: bool = True,
        log_level: str = "",
    ) -> Iterator[Scene]:
        """Open a scene; all that was started is ended with it.

        Args:
            arguments: More of the operator's.
            rate_limit: The stand-in's, for every tenant; the API's own by default.
            secret: The client secret in the shop's credentials.
            started: Whether the operator runs already, and watches.
            log_level: The operator's; as usual, or all where logs are kept, by default.
        """
        with ExitStack() as stack:
            asset = stack.enter_context(AssetApi(rate_limit=rate_limit))
            asset.register(CLIENT_ID, CLIENT_SECRET)
            namespace = self.controlplane.create_namespace("fault")
            stack.callback(self.controlplane.delete_namespace, namespace)
            shop = Shop(self.controlplane, namespace, asset)
            operator = OperatorProcess(
                self.controlplane.kubeconfig,
                self.log_folder(stack, namespace),
                (
                    f"--namespace={namespace}",
                    f"--sandbox-url={asset.url}",
                    "--production-url=http://127.0.0.1:9",
                    f"--log-level={log_level or ('debug' if KEEP_LOGS in os.environ else 'info')}",
                    *arguments,
                ),
            )
            scene = Scene(shop, asset, operator, Observer(shop), self)
            scene.put_credentials(secret)
            if started:
                began = time.time()
                stack.enter_context(operator)
                self.wait_until_it_watches(namespace, began)
            stack.enter_context(scene.observer)
            yield scene

    def wait_until_it_watches(self, namespace: str, since: float) -> None:
        """Wait until an operator that was started then sees AssetTokens: its start is not what is measured."""

        def watches() -> bool:
            events = self.audit(namespace, since)
            return any(event.verb == "watch" and event.resource == "assettokens" for event in events)

        wait_until(watches, PATIENCE_SECONDS, "the operator watches AssetTokens")

    def log_folder(self, stack: ExitStack, name: str) -> Path:
        """A folder for what an operator says, which goes with the stack unless logs are kept."""
        if KEEP_LOGS in os.environ:
            folder = Path(os.environ[KEEP_LOGS]) / name
            folder.mkdir(parents=True)
            return folder
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-fault-")))


@contextmanager
def every(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Act so often, evenly, in a thread, as long as the context is open."""
    ended = threading.Event()

    def run() -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, due - time.monotonic())):
            act()
            due += seconds

    thread = threading.Thread(target=run, name="every")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def names(count: int, prefix: str = "token") -> list[str]:
    """So many names."""
    return [f"{prefix}-{number:03}" for number in range(count)]


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of all are not above (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)] if ranked else math.inf
