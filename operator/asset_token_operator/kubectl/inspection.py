"""`inspect`: what a token says, held against what was asked for. The token itself is only shown with `--reveal`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from asset_token_operator.kubectl import completion
from asset_token_operator.kubectl.cluster import core_path, tokens_path
from asset_token_operator.kubectl.problems import Exit, NotFoundProblem
from asset_token_operator.kubectl.state import read_state
from asset_token_operator.kubectl.tokens import Finding, Sample, from_secret, read_input, report
from asset_token_operator.kubectl.tool import Tool, finish, named, options
from asset_token_operator.kubectl.words import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

FORMATS: Final = ("table", "json", "yaml")
MARKS: Final = {True: ("✓", "green"), False: ("✗", "bold red"), None: (" ", "")}


@click.command()
@click.argument("name", required=False, shell_complete=completion.names)
@click.option(
    "-f", "--filename", metavar="FILE", help="A token, a Secret's manifest or an answer of Asset; - is stdin."
)
@click.option("--reveal", is_flag=True, help="Show the token itself, too.")
@options(lists=False, formats=FORMATS)
def inspect(name: str | None, filename: str | None, reveal: bool, **given: Any) -> None:  # noqa: ANN401, FBT001
    """Hold a Secret's token against its AssetToken's spec: claims, scopes, audience, expiry, keys and owners.

    With -f alone it reads a token without a cluster. Ends with 3 where something doesn't fit.
    """
    tool = Tool(**given)
    if name is None and filename is None:
        raise click.UsageError("Which AssetToken? Give its name, or a file with -f.")
    if name is None:
        body, sample = None, read_input(str(filename))
    else:
        body = tool.cluster.get(tokens_path(tool.place, named(name)))
        sample = read_input(filename) if filename else _stored(tool, read_state(body, tool.now()).secret)
    findings = report(sample, body, tool.now())
    _write(tool, findings, sample, reveal=reveal)
    finish(Exit.TROUBLE if any(finding.fits is False for finding in findings) else Exit.FINE)


def _stored(tool: Tool, secret: str) -> Sample:
    try:
        return from_secret(tool.cluster.get(core_path("secrets", tool.place, secret)))
    except NotFoundProblem:
        raise NotFoundProblem(
            f"There is no Secret {secret!r} yet: kubectl asset-token status says why no token was issued."
        ) from None


def _write(tool: Tool, findings: Sequence[Finding], sample: Sample, *, reveal: bool) -> None:
    revealed = sample.token.get_secret_value() if reveal and sample.token is not None else None
    if tool.for_programs:
        shown = [{"about": found.about, "value": found.value, "fits": found.fits} for found in findings]
        tool.write_data({"findings": shown} | ({} if revealed is None else {"token": revealed}))
        return
    tool.show(_screen(findings))
    if revealed is not None:
        tool.write(clean(revealed))


def _screen(findings: Sequence[Finding]) -> RenderableType:
    from rich.table import Table  # noqa: PLC0415 - who asks for JSON doesn't wait for it
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    shown.add_column(width=1)
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.fits]
        shown.add_row(Text(mark, style=style), finding.about, Text(finding.value, style=style or ""))
    return shown
