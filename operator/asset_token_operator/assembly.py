"""Puts the parts together and runs them until SIGTERM or Ctrl-C.

The order of the end matters: first what is in flight is finished, then the Lease is let go of, and then everything that
watches is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from asset_token_operator.api_server import WRITE_SECONDS, ApiClient
from asset_token_operator.asset_client import TIMEOUT_SECONDS, AssetClient
from asset_token_operator.asset_clock import AssetClocks
from asset_token_operator.asset_token_watch import AssetTokenWatch
from asset_token_operator.budget import Budgets
from asset_token_operator.caches import Caches
from asset_token_operator.clock import SystemClock
from asset_token_operator.errors import NotLeadingError
from asset_token_operator.events import EventPoster
from asset_token_operator.handlers import WATCH_SECONDS
from asset_token_operator.health import Health, serving
from asset_token_operator.issuer import Issuer
from asset_token_operator.kube import KubeClient
from asset_token_operator.leadership import Leadership, forever
from asset_token_operator.metrics import Metrics
from asset_token_operator.reconciler import Reconciler
from asset_token_operator.reflector import SecretReflector
from asset_token_operator.restarter import Restarter
from asset_token_operator.scheduler import Scheduler
from asset_token_operator.scopes import Scopes, name_of
from asset_token_operator.startup import Announcement, lease_namespace
from asset_token_operator.state_metrics import OperatorMetrics, render, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from asset_token_operator.clock import Clock
    from asset_token_operator.config import Settings
    from asset_token_operator.model import Key

logger = logging.getLogger(__name__)

WORKERS: Final = 50
RESTARTERS: Final = 5
"""How many AssetTokens have their workloads restarted at once."""

WATCH_PATIENCE: Final = timedelta(seconds=2 * WATCH_SECONDS)
"""How long kopf may begin no request before it is taken for stuck."""

FINISH_SECONDS: Final = TIMEOUT_SECONDS + WRITE_SECONDS + 5.0
"""At SIGTERM, for what is in flight: a request to Asset, and the write of its token. It fits into what the Deployment
grants, together with `FLUSH_SECONDS` and the Lease's end."""

FLUSH_SECONDS: Final = 2.0
"""At SIGTERM, for the events that are still to be posted."""


async def serve(settings: Settings) -> None:
    """Run the operator until it is told to stop.

    Raises:
        OperatorError: There is no cluster to connect to, or a proxy setting is wrong.
        ListenError: An address to listen on can't be had.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    instance = os.environ.get("POD_ID") or socket.gethostname()
    clocks = AssetClocks(clock)
    async with await ApiClient.connect(clocks.cluster_says) as api:
        leadership = None
        if settings.leader_elect:
            leadership = Leadership(api, lease_namespace(settings), settings.lease_name, instance, clock)
        time_left = forever if leadership is None else leadership.time_left
        asks = until_stopped(time_left, stop)
        async with AssetClient.connect(settings.endpoints, settings.ca_file, asks) as asset:
            parts = assemble(settings, KubeClient(api, time_left), asset, leadership, clock, clocks, instance)
            scrape = partial(render, parts.metrics, parts.caches if settings.token_metrics else None)
            async with serving(parts.health, scrape, settings.health_address, settings.metrics_address):
                said = Announcement(settings, api, parts.scopes, parts.caches, clock, parts.all_served).make()
                await run(parts, stop, said)
    logger.info("stopped")


def until_stopped(time_left: Callable[[], timedelta], stop: asyncio.Event) -> Callable[[], timedelta]:
    """How long a request to Asset may take: at the end none is begun whose token might not be written any more."""

    def ask() -> timedelta:
        if stop.is_set():
            raise NotLeadingError
        return time_left()

    return ask


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs, wired together."""

    clock: Clock
    caches: Caches
    metrics: Metrics
    health: Health
    scopes: Scopes
    all_served: asyncio.Event
    scheduler: Scheduler[Key]
    restarts: Scheduler[Key]
    restarter: Restarter
    asset_tokens: AssetTokenWatch
    secrets: SecretReflector
    budgets: Budgets
    issuer: Issuer
    events: EventPoster
    reconciler: Reconciler
    leadership: Leadership | None
    clocks: AssetClocks
    leads: Callable[[], bool]


def assemble(  # noqa: PLR0913, PLR0917 - what it is made of
    settings: Settings,
    kube: KubeClient,
    asset: AssetClient,
    leadership: Leadership | None,
    clock: Clock,
    clocks: AssetClocks,
    instance: str,
) -> Parts:
    """Wire the parts together; nothing runs yet.

    Args:
        settings: How the operator runs.
        kube: The API server.
        asset: Asset.
        leadership: Its part in the election; None where there is none.
        clock: The clock.
        clocks: What is known of Asset's.
        instance: The operator's name, as events show it.
    """
    caches, metrics, all_served = Caches(), Metrics(), asyncio.Event()

    def serve_scope(scope: str) -> None:
        if all(scopes.serves(name) for name in scopes.names):
            all_served.set()
        for token in caches.asset_tokens():
            if scopes.of(token.key.namespace) == scope:
                scheduler.wake(token.key)

    def try_again(scope: str) -> None:
        for key in reconciler.held_up(scope):
            scheduler.wake(key)

    scopes = Scopes(settings.namespaces, serve_scope, try_again)
    health = Health(clock, scopes.is_ready, scopes.problems)
    released = partial(health.heartbeat, "scheduler")
    scheduler: Scheduler[Key] = Scheduler(clock, WORKERS, released, lambda key: key.namespace, metrics.reconcile_failed)

    def heard_of_secrets(scope: str) -> None:
        health.heartbeat(f"watch of Secrets in {name_of(scope)}")

    watched = partial(health.heartbeat, "watch of AssetTokens", WATCH_PATIENCE)
    asset_tokens = AssetTokenWatch(kube, caches, scopes, scheduler.wake, clock, watched, settings.selector)
    secrets = SecretReflector(kube, caches, scopes, scheduler.wake, clock, heard_of_secrets)
    budgets = Budgets(scheduler.wake, clock, settings.reserves)
    issuer = Issuer(kube, asset, budgets, caches, clock, clocks, metrics, scheduler.wake)
    events = EventPoster(kube, clock, instance, metrics)
    restarts: Scheduler[Key] = Scheduler(
        clock, RESTARTERS, group_of=lambda key: key.namespace, crashed=metrics.reconcile_failed
    )
    restarter = Restarter(kube, clock, clocks, restarts.wake, scheduler.wake)
    reconciler = Reconciler(
        caches, scopes, kube, issuer, secrets.written, events, settings.endpoints, clock, metrics, restarter
    )
    leads = scheduler.is_open if leadership is None else leadership.leads
    metrics.registry.register(OperatorMetrics(caches, scopes, budgets, issuer, clocks, scheduler, leads))
    return Parts(
        clock,
        caches,
        metrics,
        health,
        scopes,
        all_served,
        scheduler,
        restarts,
        restarter,
        asset_tokens,
        secrets,
        budgets,
        issuer,
        events,
        reconciler,
        leadership,
        clocks,
        leads,
    )


async def run(parts: Parts, stop: asyncio.Event, *others: Coroutine[None, None, None]) -> None:
    """Run all parts, and others, until it is time to stop or one of the parts ends by itself, and end in order."""
    work = asyncio.gather(
        *others,
        parts.scheduler.start(parts.reconciler.reconcile),
        parts.restarts.start(parts.restarter.restart),
        parts.secrets.run(),
        parts.asset_tokens.run(),
        parts.events.run(),
        parts.budgets.serve(),
        parts.issuer.tidy(),
        sample(parts.metrics, parts.caches, parts.clocks, parts.clock, parts.leads),
        parts.health.count(),
        _lead(parts.leadership, (parts.scheduler, parts.restarts), stop),
    )
    stopped = asyncio.create_task(stop.wait())
    ended, _ = await asyncio.wait((stopped, work), return_when=asyncio.FIRST_COMPLETED)
    for part in ended:
        part.result()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISH_SECONDS):
            await _close((parts.scheduler, parts.restarts))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FLUSH_SECONDS):
            await parts.events.flush()
    if parts.leadership is not None:
        await parts.leadership.release()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _lead(leadership: Leadership | None, schedulers: Sequence[Scheduler[Key]], stop: asyncio.Event) -> None:
    """Let the schedulers run while this operator leads, or always where there is no election."""
    if leadership is None:
        _open(schedulers)
        return
    while not stop.is_set():
        await leadership.acquire()
        _open(schedulers)
        await leadership.keep()
        await _close(schedulers)


def _open(schedulers: Sequence[Scheduler[Key]]) -> None:
    for scheduler in schedulers:
        scheduler.open()


async def _close(schedulers: Sequence[Scheduler[Key]]) -> None:
    """Begin nothing more, and finish what runs."""
    await asyncio.gather(*(scheduler.close() for scheduler in schedulers))
