"""`watch`: how AssetTokens fare, followed until interrupted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from asset_token_operator.kubectl import completion
from asset_token_operator.kubectl.problems import Exit, ForbiddenProblem, NotFoundProblem, Problem, UsageProblem
from asset_token_operator.kubectl.state import TokenState, read_state
from asset_token_operator.kubectl.tool import Tool, options
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from asset_token_operator.model import Key

LASTING = (ForbiddenProblem, NotFoundProblem, UsageProblem)


@click.command()
@click.argument("names", nargs=-1, shell_complete=completion.names)
@click.option("--interval", default=2.0, show_default=True, type=click.FloatRange(0.2, 3600), metavar="SECONDS")
@options(formats=("table", "wide"))
def watch(names: tuple[str, ...], interval: float, **given: Any) -> None:  # noqa: ANN401
    """Follow how AssetTokens fare, until interrupted: a screen that is kept up to date; in a pipe a line a change."""
    tool = Tool(**given)
    looks = _looks(tool, names, interval)
    try:
        if tool.console.is_terminal:
            _follow(tool, looks)
        else:
            _tell(tool, looks)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.FINE) from None


def _looks(tool: Tool, names: tuple[str, ...], interval: float) -> Iterator[list[TokenState] | Problem]:
    """How they fare, again and again; a problem that may pass is told, one of the first look ends it."""
    first = True
    while True:
        try:
            if names:
                now = tool.now()
                yield sorted((read_state(body, now) for body in tool.chosen(names)), key=TokenState.rank)
            else:
                yield tool.states()
        except Problem as problem:
            if first or isinstance(problem, LASTING):
                raise
            yield problem
        first = False
        time.sleep(interval)


def _follow(tool: Tool, looks: Iterator[list[TokenState] | Problem]) -> None:
    from rich.console import Group  # noqa: PLC0415 - a pipe needs none of it
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from asset_token_operator.kubectl.screens import table  # noqa: PLC0415

    wide = tool.output == "wide"
    shown = table([], tool.now(), tool.console.width, namespaces=tool.everywhere, wide=wide)
    with Live(console=tool.console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for look in looks:
            said = Text(f"{format_time(tool.now())}, Ctrl-C ends it", style="dim")
            if isinstance(look, Problem):
                said = Text(str(look), style="yellow")
            else:
                shown = table(look, tool.now(), tool.console.width, namespaces=tool.everywhere, wide=wide)
            live.update(Group(shown, said), refresh=True)


def _tell(tool: Tool, looks: Iterator[list[TokenState] | Problem]) -> None:
    known: dict[Key, tuple[str, str, int]] = {}
    for look in looks:
        if isinstance(look, Problem):
            click.echo(str(look), err=True)
            continue
        for state in look:
            now_known = (state.state.value, state.reason, state.revision)
            if known.get(state.key) != now_known:
                known[state.key] = now_known
                tool.write(f"{format_time(tool.now())} {state.key} {state.state} {state.message}".rstrip())
        for key in known.keys() - {state.key for state in look}:
            del known[key]
            tool.write(f"{format_time(tool.now())} {key} deleted")
