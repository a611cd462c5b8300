"""The command line: reads the settings, wires the parts together and runs them until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click
import kopf

from asset_token_operator.api_server import ApiServer
from asset_token_operator.asset_client import AssetClient
from asset_token_operator.budget import Budgets
from asset_token_operator.clock import SystemClock
from asset_token_operator.config import (
    LOG_FORMATS,
    LOG_LEVELS,
    PRODUCTION_URL,
    SANDBOX_URL,
    ConfigError,
    Settings,
    read_settings,
)
from asset_token_operator.errors import KubeError, ListenError, OperatorError
from asset_token_operator.handlers import WATCH_SECONDS, build_registry, kopf_settings
from asset_token_operator.health import Health, serving
from asset_token_operator.issuer import Issuer
from asset_token_operator.kube import KubeClient
from asset_token_operator.leadership import Leadership, forever
from asset_token_operator.logs import configure_logging
from asset_token_operator.metrics import Metrics
from asset_token_operator.reconciler import Caches, Reconciler
from asset_token_operator.reflector import SecretVersions
from asset_token_operator.scheduler import Scheduler
from asset_token_operator.state_metrics import OperatorMetrics, render, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from asset_token_operator.clock import Clock
    from asset_token_operator.model import Key

logger = logging.getLogger("asset_token_operator")

WORKERS: Final = 50
WATCH_AGAIN_SECONDS: Final = 2.0
KOPF_PATIENCE: Final = timedelta(seconds=2 * WATCH_SECONDS)
"""How long kopf may begin no request before it is taken for stuck."""

FINISH_SECONDS: Final = 20.0
"""At SIGTERM, for what is in flight: a request's 15 s, and the writes after it."""


@click.group()
@click.version_option(package_name="asset-token-operator")
def main() -> None:
    """Keeps a valid Asset API token in a Secret for every AssetToken."""


@main.command()
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="ASSET_TOKEN_OPERATOR_NAMESPACE",
    metavar="NS",
    help="Watch only this namespace; repeatable, or separated by spaces in the variable. Default: all.",
)
@click.option(
    "--sandbox-url",
    envvar="ASSET_TOKEN_OPERATOR_SANDBOX_URL",
    default=SANDBOX_URL,
    show_default=True,
    metavar="URL",
    help="Base URL of Asset's sandbox.",
)
@click.option(
    "--production-url",
    envvar="ASSET_TOKEN_OPERATOR_PRODUCTION_URL",
    default=PRODUCTION_URL,
    show_default=True,
    metavar="URL",
    help="Base URL of Asset's production.",
)
@click.option(
    "--renewal-reserve",
    envvar="ASSET_TOKEN_OPERATOR_RENEWAL_RESERVE",
    default=20,
    show_default=True,
    type=click.IntRange(0, 90),
    metavar="PERCENT",
    help="Share of the tenant's rate limit that routine renewals leave to its own applications.",
)
@click.option(
    "--issue-reserve",
    envvar="ASSET_TOKEN_OPERATOR_ISSUE_RESERVE",
    default=10,
    show_default=True,
    type=click.IntRange(0, 90),
    metavar="PERCENT",
    help="The same for first issues and forced renewals; what is about to expire may use all.",
)
@click.option(
    "--ca-file",
    envvar="ASSET_TOKEN_OPERATOR_CA_FILE",
    metavar="FILE",
    help="Certificates (PEM) of more CAs that Asset's certificate or a proxy's may come from.",
)
@click.option(
    "--leader-elect/--no-leader-elect",
    envvar="ASSET_TOKEN_OPERATOR_LEADER_ELECT",
    default=False,
    show_default=True,
    help="Work only while holding the Lease asset-token-operator, so that several can run.",
)
@click.option(
    "--lease-namespace",
    envvar="ASSET_TOKEN_OPERATOR_LEASE_NAMESPACE",
    metavar="NS",
    help="Where the Lease is. Default: the Pod's own, else the first --namespace, else the kubeconfig's.",
)
@click.option(
    "--health-address",
    envvar="ASSET_TOKEN_OPERATOR_HEALTH_ADDRESS",
    metavar="HOST:PORT",
    help="Serve /healthz and /readyz there; port 0: any free one. Default: nowhere.",
)
@click.option(
    "--metrics-address",
    envvar="ASSET_TOKEN_OPERATOR_METRICS_ADDRESS",
    metavar="HOST:PORT",
    help="Serve /metrics there; port 0: any free one. Default: nowhere.",
)
@click.option(
    "--token-metrics/--no-token-metrics",
    envvar="ASSET_TOKEN_OPERATOR_TOKEN_METRICS",
    default=True,
    show_default=True,
    help="Have metrics of each AssetToken; without, for very many of them.",
)
@click.option(
    "--log-format",
    envvar="ASSET_TOKEN_OPERATOR_LOG_FORMAT",
    default="text",
    show_default=True,
    type=click.Choice(LOG_FORMATS),
    help="Lines for people, or one JSON object a line.",
)
@click.option(
    "--log-level",
    envvar="ASSET_TOKEN_OPERATOR_LOG_LEVEL",
    default="info",
    show_default=True,
    type=click.Choice(LOG_LEVELS),
    help="The least severe level that is logged.",
)
def run(**given: Any) -> None:  # noqa: ANN401 - the options above, as they were given
    """Run the operator: in a cluster, or outside of one with KUBECONFIG."""
    try:
        settings = read_settings(**given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    configure_logging(settings.log_level, settings.log_format)
    try:
        with contextlib.suppress(asyncio.CancelledError):  # SIGTERM
            asyncio.run(serve(settings))
    except (OperatorError, ListenError) as error:
        sys.exit(f"asset-token-operator: {error}")


async def serve(settings: Settings) -> None:
    """Run the operator until it is told to stop.

    Raises:
        OperatorError: The cluster can't be reached, its CRD isn't installed, or a proxy setting is wrong.
    """
    task = asyncio.current_task()
    if task is not None:
        on_signals(task.cancel)
    clock = SystemClock()
    instance = os.environ.get("POD_ID") or socket.gethostname()
    async with await ApiServer.connect() as api:
        leadership = Leadership(api, lease_namespace(settings, api), instance, clock) if settings.leader_elect else None
        time_left = forever if leadership is None else leadership.time_left
        kube = KubeClient(api, time_left)
        await kube.require_crd()
        async with AssetClient.connect(settings.endpoints, settings.ca_file, time_left) as asset:
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
            scrape = partial(render, metrics, caches if settings.token_metrics else None)
            stop = asyncio.Event()
            on_signals(stop.set)
            async with serving(health, scrape, settings.health_address, settings.metrics_address):
                # These start before kopf does: when kopf stops, it cancels all tasks that were started after it.
                work = asyncio.gather(
                    scheduler.start(reconciler.reconcile),
                    secrets.start(),
                    asyncio.create_task(budgets.serve()),
                    asyncio.create_task(sample(metrics, caches, issuer, clock)),
                    asyncio.create_task(health.count()),
                    asyncio.create_task(learn_whether_filled(caches, kube, secrets, clock)),
                    asyncio.create_task(lead(leadership, scheduler, stop)),
                )
                watch = asyncio.create_task(
                    watch_cluster(
                        secrets,
                        stop,
                        registry=build_registry(api, scheduler.wake, caches),
                        settings=kopf_settings(partial(health.beat, "watch of AssetTokens", KOPF_PATIENCE)),
                        standalone=True,
                        clusterwide=not settings.namespaces,
                        namespaces=settings.namespaces,
                    )
                )
                await run_until(stop, work, watch)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FINISH_SECONDS):
                        await scheduler.close()
                if leadership is not None:
                    await leadership.release()
                await cancel(work, watch)


async def lead(leadership: Leadership | None, scheduler: Scheduler[Key], stop: asyncio.Event) -> None:
    """Let the scheduler run while this operator leads, or always where there is no election."""
    if leadership is None:
        scheduler.open()
        return
    while not stop.is_set():
        await leadership.acquire()
        scheduler.open()
        await leadership.keep()
        await scheduler.close()


async def learn_whether_filled(caches: Caches, kube: KubeClient, secrets: SecretVersions, clock: Clock) -> None:
    """Learn that there is nothing that the caches could be filled with: kopf doesn't tell, as it calls no handler."""
    await secrets.listed()
    while not caches.filled:
        with contextlib.suppress(KubeError):
            if not any([await kube.has_asset_tokens(scope) for scope in secrets.scopes()]):
                caches.filled = True
        await clock.wait(asyncio.Event(), 1)


async def watch_cluster(secrets: SecretVersions, stop: asyncio.Event, **how: Any) -> None:  # noqa: ANN401 - kopf's
    """Let kopf watch, once it is known which Secrets there are; it ends at some errors, and is then begun anew."""
    await secrets.listed()
    while not stop.is_set():
        others = asyncio.all_tasks()
        tasks = await kopf.spawn_tasks(**how)
        on_signals(stop.set)  # not kopf's own: what is in flight ends first, and kopf last
        try:
            await kopf.run_tasks(tasks, ignored=others)
        except (Exception, asyncio.CancelledError) as error:
            if is_cancelled():
                raise
            logger.warning("the watch of AssetTokens broke (%s) and is begun anew", type(error).__name__)
            await asyncio.sleep(WATCH_AGAIN_SECONDS)
        else:
            return


def is_cancelled() -> bool:
    """Whether the present task itself shall end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def on_signals(act: Callable[[], object]) -> None:
    """Do that when asked to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, act)


async def run_until(stop: asyncio.Event, *parts: asyncio.Future[Any]) -> None:
    """Wait until it is time to stop, or a part ends by itself.

    Raises:
        BaseException: What the part ended with.
    """
    stopped = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait((stopped, *parts), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for part in done:
        part.result()


async def cancel(*parts: asyncio.Future[Any]) -> None:
    """Cancel the parts, and wait until they have ended."""
    for part in parts:
        part.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await part


def lease_namespace(settings: Settings, api: ApiServer) -> str:
    """Where the Lease is: where it was said, or where the operator runs, works, or is asked to by the kubeconfig."""
    named = settings.lease_namespace or api.own_namespace() or next(iter(settings.namespaces), None)
    return named or api.context_namespace()


if __name__ == "__main__":
    main()
