"""What all verbs share: their options, the cluster they speak to, and how they write."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from asset_token_operator.clock import SystemClock
from asset_token_operator.kubectl.cluster import tokens_path
from asset_token_operator.kubectl.completion import contexts, namespaces
from asset_token_operator.kubectl.problems import UsageProblem
from asset_token_operator.kubectl.state import TokenState, read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rich.console import Console, RenderableType

    from asset_token_operator.kubectl.cluster import Cluster, Json

Command = TypeVar("Command", bound="Callable[..., Any]")

FORMATS: Final = ("table", "wide", "json", "yaml", "name")
PIPED_WIDTH: Final = 1000
"""Columns where nobody says how many there are: what is read by programs must not be cut."""


@dataclass
class Tool:
    """The options that all verbs have.

    Attributes:
        namespace: The one asked for; None for the context's.
        everywhere: Whether all namespaces are meant.
        selector: A label selector, or None.
    """

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    everywhere: bool = False
    selector: str | None = None
    output: str = "table"
    clock: SystemClock = field(default_factory=SystemClock)

    @cached_property
    def cluster(self) -> Cluster:
        """The API server.

        Raises:
            Problem: The kubeconfig can't be used.
        """
        from asset_token_operator.kubectl.access import load  # noqa: PLC0415 - completion and help need none
        from asset_token_operator.kubectl.cluster import Cluster  # noqa: PLC0415

        return Cluster(load(self.kubeconfig, self.context))

    @cached_property
    def console(self) -> Console:
        """The terminal; no colours where it is none."""
        from rich.console import Console  # noqa: PLC0415 - scripts that ask for JSON don't wait for it

        console = Console(highlight=False, soft_wrap=False, markup=False, emoji=False)
        return console if console.is_terminal else Console(**PLAIN)

    def now(self) -> datetime:
        """The present moment."""
        return self.clock.now()

    @property
    def scope(self) -> str | None:
        """The namespace that is meant; None for all."""
        if self.everywhere:
            if self.namespace is not None:
                raise UsageProblem("Either -n or -A: a namespace, or all of them.")
            return None
        return self.namespace or self.cluster.namespace

    @property
    def place(self) -> str:
        """The namespace that is meant, where it must be one."""
        scope = self.scope
        if scope is None:
            raise UsageProblem("An AssetToken's name needs its namespace: give -n in place of -A.")
        return scope

    def bodies(self) -> list[Json]:
        """All AssetTokens that the options mean."""
        return self.cluster.all(tokens_path(self.scope), self.selector)

    def states(self) -> list[TokenState]:
        """How they fare, the worst first."""
        now = self.now()
        return sorted((read_state(body, now) for body in self.bodies()), key=TokenState.rank)

    def body(self, name: str) -> Json:
        """One of them, by its name."""
        return self.cluster.get(tokens_path(self.place, named(name)))

    def chosen(self, names: Sequence[str], *, everything: bool = False) -> list[Json]:
        """The AssetTokens that are named or selected; without either, all if that was said."""
        if names and (self.selector or everything):
            raise UsageProblem("Either names, or -l, or --all.")
        if names:
            return [self.body(name) for name in names]
        if not self.selector and not everything:
            raise UsageProblem("Which AssetTokens? Give their names, a label selector (-l) or --all.")
        return self.bodies()

    def write(self, text: str) -> None:
        """Write a line, as it is."""
        click.echo(text)

    def show(self, *screens: RenderableType) -> None:
        """Write screens, without the blanks that fill them up, which a narrow terminal would show as empty lines."""
        with self.console.capture() as captured:
            self.console.print(*screens, sep="\n", crop=False)
        self.write("\n".join(line.rstrip() for line in captured.get().removesuffix("\n").split("\n")))

    def write_data(self, data: object) -> None:
        """Write JSON or YAML, as was asked for."""
        if self.output == "yaml":
            import yaml  # noqa: PLC0415

            self.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip())
        else:
            self.write(json.dumps(data, indent=2, ensure_ascii=False))

    @property
    def for_programs(self) -> bool:
        """Whether JSON or YAML was asked for."""
        return self.output in {"json", "yaml"}


PLAIN: Final[dict[str, Any]] = {
    "highlight": False,
    "markup": False,
    "emoji": False,
    "width": PIPED_WIDTH,
    "color_system": None,
    "no_color": True,
}


def named(name: str) -> str:
    """An AssetToken's name, with or without its kind, as `-o name` writes it."""
    kind, has_kind, rest = name.partition("/")
    if not has_kind:
        return name
    if kind.partition(".")[0] not in {"assettoken", "assettokens", "astok"} or not rest or "/" in rest:
        raise UsageProblem(f"{name!r} is no AssetToken's name: give it alone, such as ledger-writer.")
    return rest


def full_name(key: object) -> str:
    """An AssetToken as `kubectl -o name` writes it."""
    return f"assettoken.auth.getasset.com/{key}"


def options(*, lists: bool = True, formats: Sequence[str] = FORMATS) -> Callable[[Command], Command]:
    """The options that all verbs have.

    Args:
        lists: Whether the verb may mean several AssetTokens.
        formats: How it can write; none where it has only one way.
    """

    def decorate(command: Command) -> Command:
        added = [
            click.option("--kubeconfig", metavar="FILE", help="The kubeconfig to use."),
            click.option("--context", metavar="NAME", shell_complete=contexts, help="The kubeconfig's context to use."),
            click.option(
                "-n",
                "--namespace",
                metavar="NS",
                shell_complete=namespaces,
                help="The namespace. Default: the context's.",
            ),
        ]
        if lists:
            added += [
                click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="All namespaces."),
                click.option("-l", "--selector", metavar="SELECTOR", help="Only those with such labels."),
            ]
        if formats:
            added.append(
                click.option(
                    "-o",
                    "--output",
                    type=click.Choice(formats),
                    default=formats[0],
                    show_default=True,
                    help="How to write it.",
                )
            )
        for option in reversed(added):
            command = option(command)
        return command

    return decorate


def finish(code: int) -> None:
    """End with an exit code, if it isn't 0."""
    if code:
        sys.stdout.flush()
        raise click.exceptions.Exit(code)
