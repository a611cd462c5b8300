"""The scenario in which the ways to the API server and to Asset fail by a random schedule, while tokens are renewed."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from tests.faults.findings import Finding, Guarantee, at_least, at_most, exactly, told
from tests.faults.proxy import Harm, Proxy
from tests.faults.stage import Scene, Stage, names
from tests.faults.weather import OF_ASSET, OF_KUBERNETES, Episode, Weather
from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess

TOKENS: Final = 20
LIFETIME_SECONDS: Final = 150
DUE_SECONDS: Final = 15
RENEWED_OFTEN: Final = {"lifetime": f"{LIFETIME_SECONDS}s", "renewBefore": f"{LIFETIME_SECONDS - DUE_SECONDS}s"}
"""Tokens that would be seen to expire before the weather is over; with a window of twice the minute in which an
AssetToken makes at most 4 requests, as a shorter one can end while the next request isn't allowed yet."""

LOST: Final = (Harm.CUT_AFTER, Harm.CUT_WITHIN, Harm.CORRUPT)
"""What a token that Asset issued doesn't survive on its way."""


def network(stage: Stage) -> Iterator[Finding]:
    """Renew all tokens every 15 seconds while calls are cut, delayed, corrupted and refused on both sides."""
    seconds = 160 if stage.short else 300
    wanted = names(TOKENS)
    with stage.scene(started=False) as scene, ExitStack() as stack:
        controlplane = stage.controlplane
        kube = stack.enter_context(Proxy(controlplane.server, controlplane.certificate))
        asset = stack.enter_context(Proxy(scene.asset.url))
        stack.enter_context(_operator(stack, scene, kube, asset))
        scene.create(wanted, **RENEWED_OFTEN)
        scene.wait_for_revisions(wanted)
        kube.choose = storm = Weather(stage.random("network/kubernetes"), OF_KUBERNETES, seconds)
        asset.choose = other = Weather(stage.random("network/asset"), OF_ASSET, seconds)
        _let_pass(kube, storm, other)
        harmed, cleared, before = kube.done.total() + asset.done.total(), time.time(), scene.revisions()
        wait_until(lambda: all(seen > before[name] for name, seen in scene.revisions().items()), 300, "all are renewed")
        took = time.time() - cleared
        scene.observer.stop()
        scene.suspend(wanted)
        lost = sum(asset.done[harm] for harm in LOST)
        issued = sum(scene.revisions().values())
        what = f"{seconds} s, {TOKENS} tokens of {LIFETIME_SECONDS} s, {harmed} calls harmed, seed {stage.seed}"
        gap, extra = scene.observer.longest_gap(), len(scene.asset.requests) - issued
        yield at_most(Guarantee.VALID, f"{what}: longest without a valid token", gap, 0, "s")
        yield at_most(Guarantee.BUDGET, f"{what}: requests beyond one a token (bound: tokens lost)", extra, lost)
        yield exactly(Guarantee.BUDGET, f"{what}: 429", scene.asset.count(status=429))
        renewals = sum(before.values()) - TOKENS
        yield at_least(Guarantee.VALID, f"{what}: renewals meanwhile", renewals, TOKENS * seconds // DUE_SECONDS // 4)
        yield told(Guarantee.CAUSE, f"{what}: watches that were silenced or gone", _watches_harmed(kube))
        yield at_most(Guarantee.CAUSE, f"{what}: until all are renewed again", took, 60, "s")


def _operator(stack: ExitStack, scene: Scene, kube: Proxy, asset: Proxy) -> OperatorProcess:
    """An operator, not started, that sees the world through both proxies."""
    folder = scene.stage.log_folder(stack, f"{scene.shop.namespace}-proxied")
    kubeconfig = kube.kubeconfig(scene.stage.controlplane.kubeconfig, folder)
    urls = (f"--sandbox-url={asset.url}", "--production-url=http://127.0.0.1:9", f"--ca-file={asset.certificate}")
    return OperatorProcess(kubeconfig, folder, (f"--namespace={scene.shop.namespace}", *urls))


def _let_pass(kube: Proxy, *storms: Weather) -> None:
    """Let the weather pass, and cut the watches as each episode begins: so they meet what it brings."""
    for storm in storms:
        storm.begin()
    for episode in storms[0].episodes:
        kube.cut_watches()
        _wait_for_end(storms[0], episode)
    wait_until(lambda: not any(storm.episode() for storm in storms), 60, "the weather clears up")


def _wait_for_end(storm: Weather, episode: Episode) -> None:
    wait_until(lambda: storm.episode() != episode, 60, "the next episode")


def _watches_harmed(kube: Proxy) -> int:
    return kube.done[Harm.SILENCE] + kube.done[Harm.GONE]
