"""`python -m benchmarks.plugin`: how long `kubectl asset-token` takes, by the clock and in CPU, on a real API server.

Two namespaces: one with a single AssetToken and its Secret, one with very many of three tenants.
"""

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from asset_token_operator.times import format_time
from benchmarks.machine import facts
from tests.support.asset_api import AssetApi
from tests.support.controlplane import ControlPlane
from tests.support.plugin import Plugin
from tests.support.shop import Shop

CRDS: Final = Path(__file__).parents[1] / "crds"
TENANTS: Final = 3
TOKEN: Final = "eyJhbGciOiJub25lIn0.eyJqdGkiOiJ0b2tfMSIsImV4cCI6MTgwMDAwMDAwMH0.c2ln"  # noqa: S105 - nobody's
ONE: Final = ("--help", "status", "status token-0", "inspect token-0", "history token-0", "plan", "status -o json")
MANY: Final = ("status", "plan", "plan -o json")


@click.command()
@click.option("--count", default=5_000, show_default=True, help="How many AssetTokens the second namespace has.")
@click.option("--rounds", default=10, show_default=True, help="Run each so often, after once that isn't counted.")
def main(count: int, rounds: int) -> None:
    """Tell the median and the longest of each command line."""
    click.echo(f"{facts()}\n")
    click.echo("| AssetTokens | `kubectl asset-token` | s | longest | CPU s |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder, ControlPlane(audited=False) as cluster, AssetApi() as asset:
        cluster.apply_crds(CRDS)
        for many, lines in ((1, ONE), (count, MANY)):
            shop = Shop(cluster, cluster.create_namespace("bench"), asset)
            _fill(shop, many)
            plugin = Plugin(Path(folder, str(many)), cluster.kubeconfig, (f"--namespace={shop.namespace}",))
            for line in lines:
                words = line.split()
                run = _help(plugin) if line == "--help" else lambda words=words, plugin=plugin: plugin.piped(*words)
                taken, used = zip(*(_measure(run) for _ in range(rounds + 1)), strict=True)
                click.echo(
                    f"| {many} | `{line}` | {statistics.median(taken[1:]):.2f} | {max(taken[1:]):.2f} |"
                    f" {statistics.median(used[1:]):.2f} |"
                )


def _help(plugin: Plugin) -> Callable[[], object]:
    bare = Plugin(plugin.folder, plugin.kubeconfig)
    return lambda: bare.piped("--help")


def _measure(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and those of CPU."""
    began, used = time.monotonic(), _spent()
    run()
    return time.monotonic() - began, _spent() - used


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _fill(shop: Shop, count: int) -> None:
    """AssetTokens as an operator leaves them, their ages spread over an hour."""
    shop.put_secret("token-0", {"access_token": TOKEN})
    now = datetime.fromtimestamp(int(time.time()), UTC)

    def create(number: int) -> None:
        name = f"token-{number}"
        shop.create(name, credentialsSecretRef={"name": f"tenant-{number % TENANTS}"})
        issued = now - timedelta(seconds=number % 2400)
        times = {"issuanceTime": format_time(issued), "expirationTime": format_time(issued + timedelta(hours=1))}
        status = {"observedGeneration": 1, "revision": 3, **times}
        shop.cluster.api.patch(f"{shop.path(f'assettokens/{name}')}/status", {"status": status})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(count)))


if __name__ == "__main__":
    main()
