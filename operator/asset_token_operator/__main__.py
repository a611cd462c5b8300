"""The command line: reads the settings and runs the operator."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import Any

import click

from asset_token_operator.config import (
    LOG_FORMATS,
    LOG_LEVELS,
    PRODUCTION_URL,
    SANDBOX_URL,
    ConfigError,
    read_settings,
)
from asset_token_operator.errors import ListenError, OperatorError
from asset_token_operator.logs import configure_logging
from asset_token_operator.model import OPERATOR


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
    "--selector",
    envvar="ASSET_TOKEN_OPERATOR_SELECTOR",
    metavar="SELECTOR",
    help="Serve only AssetTokens with such labels, as kubectl's --selector has them. Default: all.",
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
    help="Work only while holding the Lease, so that several can run.",
)
@click.option(
    "--lease-name",
    envvar="ASSET_TOKEN_OPERATOR_LEASE_NAME",
    default=OPERATOR,
    show_default=True,
    metavar="NAME",
    help="The Lease's name: those that share it share the work, those of another installation have another.",
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
    help="Serve /healthz and /readyz there; :PORT is all addresses, port 0 any free one. Default: nowhere.",
)
@click.option(
    "--metrics-address",
    envvar="ASSET_TOKEN_OPERATOR_METRICS_ADDRESS",
    metavar="HOST:PORT",
    help="Serve /metrics there; :PORT is all addresses, port 0 any free one. Default: nowhere.",
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
    # A container's first process is deaf to what it doesn't handle, and the import is most of a start.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    import uvloop  # noqa: PLC0415

    from asset_token_operator.assembly import serve  # noqa: PLC0415

    try:
        settings = read_settings(**given)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    configure_logging(settings.log_level, settings.log_format)
    try:
        with contextlib.suppress(asyncio.CancelledError):  # SIGTERM
            uvloop.run(serve(settings))
    except (OperatorError, ListenError) as error:
        sys.exit(f"asset-token-operator: {error}")


if __name__ == "__main__":
    main()
