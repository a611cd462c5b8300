"""The command line: reads the settings and runs the operator."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.config import Settings

WRONG: Final = "asset_token_operator.wrong"
"""Where a command's context has what is wrong with its settings."""


class Setting(click.Option):
    """An option that says later what is wrong with its value, together with all others; `--help` names its variable."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*arguments, **attributes | {"show_envvar": True})

    def process_value(self, ctx: click.Context, value: Any) -> Any:  # noqa: ANN401 - click's own
        """The value as it is used; of one that is wrong the default, so that the others can still be checked."""
        try:
            return super().process_value(ctx, value)
        except click.BadParameter as error:
            ctx.meta.setdefault(WRONG, []).append(f"{self.opts[0]}: {self._in_words(value, error.message)}")
            return super().process_value(ctx, self.get_default(ctx))

    def _in_words(self, value: object, otherwise: str) -> str:
        match self.type:
            case click.types.BoolParamType():
                return f"{value!r} is neither true nor false."
            case click.IntRange(min=least, max=most):
                return f"{value!r} is not a whole number from {least} to {most}."
            case _:
                return otherwise


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
    cls=Setting,
)
@click.option(
    "--selector",
    envvar="ASSET_TOKEN_OPERATOR_SELECTOR",
    metavar="SELECTOR",
    help="Serve only AssetTokens with such labels, as kubectl's --selector has them. Default: all.",
    cls=Setting,
)
@click.option(
    "--sandbox-url",
    envvar="ASSET_TOKEN_OPERATOR_SANDBOX_URL",
    default=SANDBOX_URL,
    show_default=True,
    metavar="URL",
    help="Base URL of Asset's sandbox.",
    cls=Setting,
)
@click.option(
    "--production-url",
    envvar="ASSET_TOKEN_OPERATOR_PRODUCTION_URL",
    default=PRODUCTION_URL,
    show_default=True,
    metavar="URL",
    help="Base URL of Asset's production.",
    cls=Setting,
)
@click.option(
    "--renewal-reserve",
    envvar="ASSET_TOKEN_OPERATOR_RENEWAL_RESERVE",
    default=20,
    show_default=True,
    type=click.IntRange(0, 90),
    metavar="PERCENT",
    help="Share of the tenant's rate limit that routine renewals leave to its own applications.",
    cls=Setting,
)
@click.option(
    "--issue-reserve",
    envvar="ASSET_TOKEN_OPERATOR_ISSUE_RESERVE",
    default=10,
    show_default=True,
    type=click.IntRange(0, 90),
    metavar="PERCENT",
    help="The same for first issues and forced renewals; what is about to expire may use all.",
    cls=Setting,
)
@click.option(
    "--ca-file",
    envvar="ASSET_TOKEN_OPERATOR_CA_FILE",
    metavar="FILE",
    help="Certificates (PEM) of more CAs that Asset's certificate or a proxy's may come from.",
    cls=Setting,
)
@click.option(
    "--leader-elect/--no-leader-elect",
    envvar="ASSET_TOKEN_OPERATOR_LEADER_ELECT",
    default=False,
    show_default=True,
    help="Work only while holding the Lease, so that several can run.",
    cls=Setting,
)
@click.option(
    "--lease-name",
    envvar="ASSET_TOKEN_OPERATOR_LEASE_NAME",
    default=OPERATOR,
    show_default=True,
    metavar="NAME",
    help="The Lease's name: those that share it share the work, those of another installation have another.",
    cls=Setting,
)
@click.option(
    "--lease-namespace",
    envvar="ASSET_TOKEN_OPERATOR_LEASE_NAMESPACE",
    metavar="NS",
    help="Where the Lease is. Default: the Pod's own, else the first --namespace, else the kubeconfig's.",
    cls=Setting,
)
@click.option(
    "--health-address",
    envvar="ASSET_TOKEN_OPERATOR_HEALTH_ADDRESS",
    metavar="HOST:PORT",
    help="Serve /healthz and /readyz there; :PORT is all addresses, port 0 any free one. Default: nowhere.",
    cls=Setting,
)
@click.option(
    "--metrics-address",
    envvar="ASSET_TOKEN_OPERATOR_METRICS_ADDRESS",
    metavar="HOST:PORT",
    help="Serve /metrics there; :PORT is all addresses, port 0 any free one. Default: nowhere.",
    cls=Setting,
)
@click.option(
    "--token-metrics/--no-token-metrics",
    envvar="ASSET_TOKEN_OPERATOR_TOKEN_METRICS",
    default=True,
    show_default=True,
    help="Have metrics of each AssetToken; without, for very many of them.",
    cls=Setting,
)
@click.option(
    "--log-format",
    envvar="ASSET_TOKEN_OPERATOR_LOG_FORMAT",
    default="text",
    show_default=True,
    type=click.Choice(LOG_FORMATS, case_sensitive=False),
    help="Lines for people, or one JSON object a line.",
    cls=Setting,
)
@click.option(
    "--log-level",
    envvar="ASSET_TOKEN_OPERATOR_LOG_LEVEL",
    default="info",
    show_default=True,
    type=click.Choice(LOG_LEVELS, case_sensitive=False),
    help="The least severe level that is logged.",
    cls=Setting,
)
@click.pass_context
def run(context: click.Context, /, **given: Any) -> None:  # noqa: ANN401 - the options above, as they were given
    """Run the operator: in a cluster, or outside of one with KUBECONFIG."""
    # A container's first process is deaf to what it doesn't handle, and the import is most of a start.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    import uvloop  # noqa: PLC0415

    from asset_token_operator.assembly import serve  # noqa: PLC0415

    settings = _settings(context.meta.get(WRONG, []), given)
    configure_logging(settings.log_level, settings.log_format)
    try:
        with contextlib.suppress(asyncio.CancelledError):  # SIGTERM
            uvloop.run(serve(settings))
    except (OperatorError, ListenError) as error:
        sys.exit(f"asset-token-operator: {error}")


def _settings(wrong: list[str], given: Mapping[str, Any]) -> Settings:
    """The settings; all that are wrong are told together."""
    try:
        settings = read_settings(**given)
    except ConfigError as error:
        wrong = [*wrong, str(error)]
    if wrong:
        raise click.UsageError("\n".join(wrong))
    return settings


if __name__ == "__main__":
    main()
