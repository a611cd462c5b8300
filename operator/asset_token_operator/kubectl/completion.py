"""Completes command lines, as kubectl asks a plugin to: by an executable `kubectl_complete-asset_token`.

It gets the words so far, of which the last is to be completed, and answers as Cobra's programs do: a candidate a line,
with a description after a tab, and a last line of a colon and a directive.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from asset_token_operator.kubectl.cluster import core_path, metadata
from asset_token_operator.kubectl.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from asset_token_operator.kubectl.tool import Tool

NO_FILES: Final = 4
DEFAULT: Final = 0
"""Cobra's directives: whether the shell may offer files where there is nothing else."""


def main() -> None:
    """The entry point; whatever goes wrong, nothing is offered, and nothing said."""
    from click.shell_completion import CompletionItem, ShellComplete  # noqa: PLC0415 - the tool itself needs none

    from asset_token_operator.kubectl.cli import cli  # noqa: PLC0415 - it imports its verbs, which import this

    words = sys.argv[1:] or [""]
    shell = ShellComplete(cli, {}, "kubectl asset-token", "_COMPLETE")
    try:
        found: list[CompletionItem] = shell.get_completions(words[:-1], words[-1])
    except Exception:  # noqa: BLE001 - a shell that completes shows no errors
        found = []
    for item in found:
        if item.type == "plain":
            click.echo(f"{item.value}\t{item.help.splitlines()[0]}" if item.help else item.value)
    click.echo(f":{DEFAULT if any(item.type == 'file' for item in found) else NO_FILES}")


def names(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """AssetTokens, by their names."""
    given = context.params.get("names") or ()
    return [
        name
        for name in _names(context, lambda tool: tool.bodies())
        if name.startswith(incomplete) and name not in given
    ]


def namespaces(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Namespaces, by their names."""
    found = _names(context, lambda tool: tool.cluster.all(core_path("namespaces", None)))
    return [name for name in found if name.startswith(incomplete)]


def contexts(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The kubeconfig's contexts."""
    from asset_token_operator.kubeconfig_files import KubeconfigError, paths_of, read  # noqa: PLC0415

    try:
        found = read(paths_of(context.params.get("kubeconfig"))).contexts
    except KubeconfigError:
        return []
    return sorted(name for name in found if name.startswith(incomplete))


def _names(context: click.Context, ask: Callable[[Tool], list[dict[str, Any]]]) -> list[str]:
    from asset_token_operator.kubectl.tool import Tool  # noqa: PLC0415 - it names these functions

    given = context.params
    try:
        found = ask(Tool(given.get("kubeconfig"), given.get("context"), given.get("namespace")))
    except Problem:
        return []
    return sorted(str(metadata(body).get("name")) for body in found)


if __name__ == "__main__":
    main()
