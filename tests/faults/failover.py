"""The scenario in which the leader ends, is killed or frozen, and the standby takes over, again and again."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.faults.findings import Finding, Guarantee, at_most, exactly
from tests.faults.stage import Scene, Stage
from tests.support.asset_rules import RateLimit
from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess

LEASE_SECONDS: Final = 15
FROZEN_SECONDS: Final = 60
TOKEN: Final = "token"
PATIENCE_SECONDS: Final = 60


@dataclass
class Replicas:
    """Two operators with a Lease, and what was asked of them.

    Attributes:
        running: By name, the leader first.
        causes: How often a token was wanted: once for the AssetToken, and once for each renew request.
    """

    scene: Scene
    stack: ExitStack
    running: list[tuple[str, OperatorProcess]] = field(default_factory=list)
    causes: int = 1
    _started: int = 0

    def start(self) -> None:
        """Start one more, and wait until it stands by or leads."""
        self._started += 1
        name = f"replica-{self._started}"
        folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-replica-")))
        process = self.scene.operator.another(folder, "--leader-elect", environment={"POD_ID": name})
        began = time.time()
        self.stack.enter_context(process)
        self.running.append((name, process))
        process.wait_for_output("leads, as " if len(self.running) == 1 else "stands by: ")
        self.scene.stage.wait_until_it_watches(self.scene.shop.namespace, began)

    def take_over(self, end: Callable[[OperatorProcess], object]) -> float:
        """Make the leader end in that way, and want a token at once; gives the seconds until the standby wrote it."""
        _, leader = self.running[0]
        revision = self.scene.revisions()[TOKEN]
        began = time.time()
        end(leader)
        self.renew()
        self.scene.wait_for_revisions([TOKEN], revision + 1, PATIENCE_SECONDS)
        took = self.scene.first_writes([TOKEN], began)[0]
        self.running.append(self.running.pop(0))
        return took

    def replace_last(self) -> None:
        """Let the one that has ended be followed by a new one."""
        self.running.pop()
        self.start()

    def renew(self) -> None:
        """Want a new token."""
        self.causes += 1
        annotations = {"auth.getasset.com/renew-requested-at": str(self.causes)}
        path = self.scene.shop.path(f"assettokens/{TOKEN}")
        self.scene.shop.cluster.api.patch(path, {"metadata": {"annotations": annotations}})


def failover(stage: Stage) -> Iterator[Finding]:
    """The leader ends by SIGTERM, by kill -9, and is frozen for a minute, each time while a token is wanted."""
    runs = 2 if stage.short else 20
    frozen = LEASE_SECONDS + 5 if stage.short else FROZEN_SECONDS
    with stage.scene(rate_limit=RateLimit("off"), started=False) as scene, ExitStack() as stack:
        replicas = Replicas(scene, stack)
        replicas.start()
        replicas.start()
        scene.create([TOKEN])
        scene.wait_for_revisions([TOKEN])
        terminated = [_ended(replicas, OperatorProcess.ask_to_end) for _ in range(runs)]
        killed = [_ended(replicas, OperatorProcess.kill) for _ in range(runs)]
        by_old = sum(_frozen(replicas, frozen) for _ in range(runs))
        doubles = len(scene.asset.requests) - replicas.causes
        what = f"{runs} runs"
        yield at_most(
            Guarantee.LEADER,
            f"{what}, SIGTERM to the leader: longest until the standby's first Secret",
            max(terminated),
            2,
            "s",
        )
        yield at_most(Guarantee.LEADER, f"{what}, kill -9 of the leader: the same", max(killed), LEASE_SECONDS + 2, "s")
        yield exactly(
            Guarantee.LEADER, f"{what}, leader frozen for {frozen} s: writes and requests of the old leader", by_old
        )
        yield exactly(Guarantee.LEADER, f"{replicas.causes} causes in all: requests beyond one each", doubles)


def _ended(replicas: Replicas, end: Callable[[OperatorProcess], object]) -> float:
    took = replicas.take_over(end)
    replicas.replace_last()
    return took


def _frozen(replicas: Replicas, seconds: float) -> int:
    """Freeze the leader and wake it when another leads; what it said that it did after that, and requests too many."""
    name, leader = replicas.running[0]
    thawed = time.monotonic() + seconds
    replicas.take_over(OperatorProcess.pause)
    wait_until(lambda: time.monotonic() > thawed, seconds + 1, "it was frozen long enough")
    said = len(leader.output())
    leader.resume()
    wait_until(lambda: "stands by: " in leader.output()[said:], PATIENCE_SECONDS, f"{name} stands by")
    after = leader.output()[said:]
    return after.count(" s, id ") + after.count("wrote Secret")
