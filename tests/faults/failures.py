"""Scenarios in which something fails: Asset's endpoint, the credentials, some requests, another tenant's budget."""

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

from tests.faults.findings import Finding, Guarantee, at_most, exactly, told
from tests.faults.stage import Scene, Stage, every, names, percentile
from tests.support.asset_behaviour import HANG, Behaviour
from tests.support.cluster import wait_until
from tests.support.shop import CLIENT_ID

TOKENS: Final = 100
PROBE_EVERY_SECONDS: Final = 4
FIRST_FEW: Final = 5
HANDFUL: Final = 5


class ClosedDoor:
    """A listener that takes the place of a stopped API: counts who connects, and closes; a context manager."""

    def __init__(self, port: int) -> None:
        self.knocks: list[float] = []
        self._socket = socket.create_server(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._run, name="closed-door")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                visitor, _ = self._socket.accept()
            except OSError:
                return
            self.knocks.append(time.time())
            visitor.close()


@contextmanager
def endpoint_down(scene: Scene) -> Iterator[ClosedDoor]:
    """Stop Asset's API, and count who asks for it meanwhile."""
    port = int(scene.asset.url.rpartition(":")[2])
    scene.asset.stop()
    with ClosedDoor(port) as door:
        yield door
    scene.asset.start()


def outage(stage: Stage) -> Iterator[Finding]:
    """The endpoint is down while all tokens fall due, and comes back less than a minute before they end."""
    seconds = 30 if stage.short else 600
    wanted = names(TOKENS)
    with stage.scene() as scene:
        scene.create(wanted, lifetime=f"{seconds + 60}s", renewBefore=f"{seconds + 40}s")
        scene.wait_for_revisions(wanted)
        with endpoint_down(scene) as door:
            time.sleep(seconds)
            early = [name for name, revision in scene.revisions().items() if revision > 1]
        back = time.time()
        overdue = [name for name in wanted if name not in early]
        scene.wait_for_revisions(overdue, revision=2)
        took = scene.first_writes(overdue, back)
        scene.observer.stop()
        what = f"{seconds} s down, {len(overdue)} renewals due"
        yield at_most(Guarantee.CAUSE, f"{what}: first renewal after the return", took[0], 5, "s")
        yield at_most(Guarantee.CAUSE, f"{what}: all renewed after the return", took[-1], 15, "s")
        yield at_most(
            Guarantee.CAUSE, f"{what}: requests meanwhile", len(door.knocks), seconds // PROBE_EVERY_SECONDS + FIRST_FEW
        )
        yield at_most(Guarantee.VALID, f"{what}: longest without a valid token", scene.observer.longest_gap(), 0, "s")


def wrong_credentials(stage: Stage) -> Iterator[Finding]:
    """The credentials are wrong for all of the tenant's AssetTokens, and are corrected."""
    seconds = 10 if stage.short else 300
    wanted = names(TOKENS)
    with stage.scene(secret="not-the-secret") as scene:
        scene.create(wanted)
        time.sleep(seconds)
        refused = scene.asset.arrived
        corrected = time.time()
        scene.put_credentials()
        scene.wait_for_revisions(wanted)
        took = scene.first_writes(wanted, corrected)
        what = f"wrong for {seconds} s, {TOKENS} tokens"
        yield at_most(Guarantee.CAUSE, f"{what}: all written after the correction", took[-1], 5, "s")
        yield at_most(Guarantee.CAUSE, f"{what}: requests meanwhile", refused, HANDFUL)


def hangs(stage: Stage) -> Iterator[Finding]:
    """The endpoint never answers for one business in ten."""
    quiet, undisturbed = _issue_businesses(stage, hanging=0), TOKENS - TOKENS // 10
    disturbed = _issue_businesses(stage, hanging=TOKENS // 10)
    what = f"{undisturbed} of {TOKENS} businesses"
    yield told(Guarantee.CAUSE, f"{what}, nothing hangs: all issued", quiet, "s")
    yield at_most(Guarantee.CAUSE, f"{what}, the other {TOKENS // 10} hang: all issued", disturbed, quiet + 5, "s")


def _issue_businesses(stage: Stage, hanging: int) -> float:
    """Seconds until nine businesses in ten are served; those that hang come first, in the middle and last."""
    wanted = names(TOKENS, "business")
    others = [name for name in wanted if not name.endswith("5")]
    with stage.scene() as scene:
        for name in wanted:
            if hanging and name not in others:
                scene.asset.behave(Behaviour(failure=HANG), business_id=name)
        began = time.time()
        scene.create_all([scene.shop.manifest(name, businessId=name) for name in wanted])
        scene.wait_for_revisions(others)
        return scene.first_writes(others, began)[-1]


def peer(stage: Stage) -> Iterator[Finding]:
    """One tenant's budget is used up and its AssetTokens meet 429, while a peer's are issued."""
    with stage.scene() as scene:
        quiet = percentile(_peer_latencies(scene, "quiet") + _peer_latencies(scene, "quiet-again"), 99)
        scene.asset.spend(CLIENT_ID, 10_000)
        with every(0.1, lambda: scene.asset.spend(CLIENT_ID, 50)):
            scene.create(names(TOKENS, "storm"))
            wait_until(lambda: scene.asset.count(client_id=CLIENT_ID, status=429), 60, "the first tenant's storm")
            stormy = percentile(_peer_latencies(scene, "stormy"), 99)
        refused = {client: scene.asset.count(client_id=client, status=429) for client in (CLIENT_ID, "stormy")}
        yield told(Guarantee.BUDGET, f"{TOKENS} tokens of a peer, quiet: p99 from creation to Secret", quiet, "s")
        yield at_most(Guarantee.BUDGET, "the same while another tenant is refused: p99", stormy, 2 * quiet, "s")
        yield exactly(
            Guarantee.BUDGET, f"429 of the peer (of the other tenant: {refused[CLIENT_ID]})", refused["stormy"]
        )


def _peer_latencies(scene: Scene, peer: str) -> list[float]:
    """The seconds from each AssetToken's creation to its Secret, for a tenant of that name, whose budget is known."""
    scene.asset.register(peer, "the-secret-of-the-peer")
    scene.put_credentials("the-secret-of-the-peer", peer, peer)
    reference = {"name": peer}
    scene.create([f"{peer}-first"], credentialsSecretRef=reference)
    scene.wait_for_revisions([f"{peer}-first"])
    created = scene.create(names(TOKENS, peer), credentialsSecretRef=reference)
    scene.wait_for_revisions(list(created))
    written = scene.writes(min(created.values()))
    return [min(written.get(name, [math.inf])) - sent for name, sent in created.items()]
