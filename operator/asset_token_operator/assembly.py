"""Puts the parts together and runs them until SIGTERM or Ctrl-C.

The order of the end matters: first what is in flight is finished, then the Lease is let go of, and then everything that
watches is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.api_server import ApiServer
from asset_token_operator.asset_client import AssetClient
from asset_token_operator.budget import Budgets
from asset_token_operator.clock import SystemClock
from asset_token_operator.errors import KubeError
from asset_token_operator.handlers import WATCH_SECONDS, build_registry, kopf_settings, watch_cluster
from asset_token_operator.health import Health, serving
from asset_token_operator.issuer import Issuer
from asset_token_operator.kube import KubeClient
from asset_token_operator.leadership import Leadership, forever
from asset_token_operator.metrics import Metrics
from asset_token_operator.reconciler import Caches, Reconciler
from asset_token_operator.reflector import SecretVersions
from asset_token_operator.scheduler import Scheduler
from asset_token_operator.state_metrics import OperatorMetrics, render, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from asset_token_operator.clock import Clock
    from asset_token_operator.config import Settings
    from asset_token_operator.model import Key

WORKERS: Final = 50
KOPF_PATIENCE: Final = timedelta(seconds=2 * WATCH_SECONDS)
"""How long kopf may begin no request before it is taken for stuck."""

FINISH_SECONDS: Final = 20.0
"""At SIGTERM, for what is in flight: a request's 15 s, and the writes after it."""


async def serve(settings: Settings) -> None:
    """Run the operator until it is told to stop.

    Raises:
        OperatorError: The cluster can't be reached, its CRD isn't installed, or a proxy setting is wrong.
        ListenError: An address to listen on can't be had.
    """
    task = asyncio.current_task()
    if task is not None:
        _on_signals(task.cancel)
    clock = SystemClock()
    instance = os.environ.get("POD_ID") or socket.gethostname()
    async with await ApiServer.connect() as api:
        leadership = (
            Leadership(api, _lease_namespace(settings, api), instance, clock) if settings.leader_elect else None
        )
        time_left = forever if leadership is None else leadership.time_left
        kube = KubeClient(api, time_left)
        await kube.require_crd()
        async with AssetClient.connect(settings.endpoints, settings.ca_file, time_left) as asset:
            parts = _assemble(settings, kube, asset, leadership, clock, instance)
            scrape = partial(render, parts.metrics, parts.caches if settings.token_metrics else None)
            async with serving(parts.health, scrape, settings.health_address, settings.metrics_address):
                await _run(parts, settings)


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, wired together."""

    clock: Clock
    kube: KubeClient
    caches: Caches
    metrics: Metrics
    health: Health
    scheduler: Scheduler[Key]
    secrets: SecretVersions
    budgets: Budgets
    issuer: Issuer
    reconciler: Reconciler
    leadership: Leadership | None


def _assemble(  # noqa: PLR0913, PLR0917 - what it is made of
    settings: Settings,
    kube: KubeClient,
    asset: AssetClient,
    leadership: Leadership | None,
    clock: Clock,
    instance: str,
) -> Parts:
    caches, metrics = Caches(), Metrics()
    health = Health(clock, lambda: caches.filled)
    scheduler: Scheduler[Key] = Scheduler(clock, WORKERS, partial(health.beat, "scheduler"))

    def secret_changed(secret: Key) -> None:
        for key in caches.concerned(secret):
            scheduler.wake(key)

    def heard_of_secrets(scope: str) -> None:
        health.beat(f"watch of Secrets in {scope or 'all namespaces'}")

    secrets = SecretVersions(kube, settings.namespaces, secret_changed, clock, heard_of_secrets)
    budgets = Budgets(scheduler.wake, clock, settings.reserves)
    issuer = Issuer(kube, asset, budgets, secrets, clock, metrics)
    reconciler = Reconciler(caches, kube, issuer, secrets, settings.endpoints, clock, instance, metrics)
    leads = scheduler.is_open if leadership is None else leadership.leads
    metrics.registry.register(OperatorMetrics(caches, budgets, issuer, scheduler, leads))
    return Parts(clock, kube, caches, metrics, health, scheduler, secrets, budgets, issuer, reconciler, leadership)


async def _run(parts: Parts, settings: Settings) -> None:
    """Run all parts, until it is time to stop or one of them ends by itself, and end in order."""
    stop = asyncio.Event()
    _on_signals(stop.set)
    # These start before kopf does: when kopf stops, it cancels all tasks that were started after it.
    work = asyncio.gather(
        parts.scheduler.start(parts.reconciler.reconcile),
        parts.secrets.start(),
        asyncio.create_task(parts.budgets.serve()),
        asyncio.create_task(sample(parts.metrics, parts.caches, parts.issuer, parts.clock)),
        asyncio.create_task(parts.health.count()),
        asyncio.create_task(_learn_whether_filled(parts)),
        asyncio.create_task(_lead(parts.leadership, parts.scheduler, stop)),
    )
    watch = asyncio.create_task(_watch(parts, settings, partial(_on_signals, stop.set)))
    stopped = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait((stopped, work, watch), return_when=asyncio.FIRST_COMPLETED)
    for part in ended:
        part.result()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISH_SECONDS):
            await parts.scheduler.close()
    if parts.leadership is not None:
        await parts.leadership.release()
    for part in (work, watch):
        await _cancel(part)


async def _watch(parts: Parts, settings: Settings, take_signals_back: Callable[[], None]) -> None:
    """Watch AssetTokens and their Secrets, once it is known which Secrets there are."""
    await parts.secrets.listed()
    registry = build_registry(parts.kube.api, parts.scheduler.wake, parts.caches)
    how = kopf_settings(partial(parts.health.beat, "watch of AssetTokens", KOPF_PATIENCE))
    await watch_cluster(registry, how, settings.namespaces, take_signals_back)


async def _lead(leadership: Leadership | None, scheduler: Scheduler[Key], stop: asyncio.Event) -> None:
    """Let the scheduler run while this operator leads, or always where there is no election."""
    if leadership is None:
        scheduler.open()
        return
    while not stop.is_set():
        await leadership.acquire()
        scheduler.open()
        await leadership.keep()
        await scheduler.close()


async def _learn_whether_filled(parts: Parts) -> None:
    """Learn that there is nothing that the caches could be filled with: kopf doesn't tell, as it calls no handler."""
    await parts.secrets.listed()
    while not parts.caches.filled:
        with contextlib.suppress(KubeError):
            if not any([await parts.kube.has_asset_tokens(scope) for scope in parts.secrets.scopes()]):
                parts.caches.filled = True
        await parts.clock.sleep(1)


def _on_signals(act: Callable[[], object]) -> None:
    """Do that when asked to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)


async def _cancel(part: asyncio.Future[Any]) -> None:
    part.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await part


def _lease_namespace(settings: Settings, api: ApiServer) -> str:
    """Where the Lease is: where it was said, or where the operator runs, works, or is asked to by the kubeconfig."""
    named = settings.lease_namespace or api.own_namespace() or next(iter(settings.namespaces), None)
    return named or api.context_namespace()
