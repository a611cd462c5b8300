"""The scenario in which the ways to the API server and to Asset fail by a random schedule, while tokens are renewed."""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.findings import Finding, Guarantee, at_most, exactly, told
from tests.faults.proxy import Call, Fault, Harm, Proxy, refusal
from tests.faults.stage import Stage, names
from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess

TOKENS: Final = 20
RENEWED_OFTEN: Final = {"lifetime": "10m", "renewBefore": "9m45s"}
LOST: Final = (Harm.CUT_AFTER, Harm.CUT_WITHIN, Harm.CORRUPT)
"""What a token that Asset issued doesn't survive on its way."""

OF_ASSET: Final = (
    refusal(500),
    refusal(503),
    *(Fault(harm) for harm in (Harm.DELAY, Harm.CUT_BEFORE, Harm.CUT_AFTER, Harm.CUT_WITHIN, Harm.CORRUPT)),
)
OF_KUBERNETES: Final = (refusal(429, Retry_After="1"), *OF_ASSET)


@dataclass
class Weather:
    """Episodes of a few seconds, in each of which one thing fails for a share of the calls.

    Attributes:
        episodes: When each ends, what fails in it, and for which share.
        began: When the first began; no harm is done before that, or after the last.
    """

    episodes: list[tuple[float, Fault, float]]
    chance: random.Random
    began: float | None = None

    @classmethod
    def forecast(cls, chance: random.Random, faults: tuple[Fault, ...], seconds: float) -> "Weather":
        """Draw episodes that fill so many seconds."""
        episodes, end = [], 0.0
        while end < seconds:
            end += chance.uniform(2, 6)
            episodes.append((end, chance.choice(faults), chance.choice([0.0, 0.3, 1.0])))
        return cls(episodes, chance)

    def __call__(self, _: Call) -> Fault | None:
        if self.began is None:
            return None
        now = time.monotonic() - self.began
        _, fault, share = next((episode for episode in self.episodes if episode[0] > now), (0, None, 0.0))
        return fault if self.chance.random() < share else None

    def over(self) -> bool:
        return self.began is not None and time.monotonic() - self.began > self.episodes[-1][0]


def network(stage: Stage) -> Iterator[Finding]:
    """Renew all tokens every 15 seconds while calls are cut, delayed, corrupted and refused on both sides."""
    seconds = 30 if stage.short else 300
    chance, wanted = stage.random("network"), names(TOKENS)
    with stage.scene(started=False) as scene, ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-network-")))
        controlplane = stage.controlplane
        kube = stack.enter_context(Proxy(controlplane.server, controlplane.certificate))
        asset = stack.enter_context(Proxy(scene.asset.url))
        arguments = (f"--namespace={scene.shop.namespace}", f"--sandbox-url={asset.url}")
        kubeconfig = kube.kubeconfig(controlplane.kubeconfig, folder)
        stack.enter_context(OperatorProcess(kubeconfig, folder, (*arguments, "--production-url=http://127.0.0.1:9")))
        scene.create(wanted, **RENEWED_OFTEN)
        scene.wait_for_revisions(wanted)
        storms = Weather.forecast(chance, OF_KUBERNETES, seconds), Weather.forecast(chance, OF_ASSET, seconds)
        kube.choose, asset.choose = storms
        for storm in storms:
            storm.began = time.monotonic()
        wait_until(lambda: all(storm.over() for storm in storms), seconds + 60, "the weather clears up")
        harmed, cleared = kube.done.total() + asset.done.total(), time.time()
        before = scene.revisions()
        wait_until(lambda: all(seen > before[name] for name, seen in scene.revisions().items()), 300, "all are renewed")
        took = time.time() - cleared
        scene.observer.stop()
        lost = sum(asset.done[harm] for harm in LOST)
        extra = len(scene.asset.requests) - sum(scene.revisions().values())
        what = f"{seconds} s, {TOKENS} tokens, {harmed} calls harmed, seed {stage.seed}"
        yield at_most(Guarantee.VALID, f"{what}: longest without a valid token", scene.observer.longest_gap(), 0, "s")
        yield at_most(
            Guarantee.BUDGET, f"{what}: requests beyond one a token (bound: those lost on their way)", extra, lost
        )
        yield exactly(Guarantee.BUDGET, f"{what}: 429", scene.asset.count(status=429))
        yield told(Guarantee.BUDGET, f"{what}: renewals meanwhile", sum(before.values()) - TOKENS)
        yield at_most(Guarantee.CAUSE, f"{what}: until all are renewed again", took, 60, "s")
