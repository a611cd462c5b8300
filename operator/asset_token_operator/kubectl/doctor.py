"""`doctor`: whether all is as it should be, from the kubeconfig to the tokens, and what to do where it isn't."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from asset_token_operator.config import PRODUCTION_URL, SANDBOX_URL
from asset_token_operator.kubectl import checkup, completion, in_cluster
from asset_token_operator.kubectl.cluster import part
from asset_token_operator.kubectl.problems import Exit, Problem
from asset_token_operator.kubectl.reach import asset
from asset_token_operator.kubectl.state import TokenState, read_state
from asset_token_operator.kubectl.tool import Tool, finish, options
from asset_token_operator.kubectl.trial import ABOUT, trial
from asset_token_operator.model import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from asset_token_operator.kubectl.checkup import Check
    from asset_token_operator.kubectl.cluster import Json

ENVIRONMENTS: Final = ("sandbox", "production")
FORMATS: Final = ("table", "json", "yaml")
LABEL: Final = len("Clock, production")
MARKS: Final = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("-", "yellow")}


@click.command()
@click.option("--operator-namespace", default=OPERATOR, show_default=True, metavar="NS", help="Where the operator is.")
@click.option("--lease-name", default=OPERATOR, show_default=True, metavar="NAME", help="The operator's Lease.")
@click.option("--sandbox-url", default=SANDBOX_URL, show_default=True, metavar="URL", help="Asset's sandbox.")
@click.option("--production-url", default=PRODUCTION_URL, show_default=True, metavar="URL", help="Asset's production.")
@click.option("--no-asset", is_flag=True, help="Don't look whether Asset can be reached from here.")
@click.option(
    "--in-cluster",
    "from_pod",
    is_flag=True,
    help="Look from a Pod, too: one is made beside the operator, of its image, and deleted at once.",
)
@click.option(
    "--try",
    "tried",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.names,
    help="Request a token for this AssetToken, as the operator would, and throw it away; repeatable.",
)
@options(formats=FORMATS)
def doctor(  # noqa: PLR0913, PLR0917 - one for each option
    operator_namespace: str,
    lease_name: str,
    sandbox_url: str,
    production_url: str,
    no_asset: bool,  # noqa: FBT001
    from_pod: bool,  # noqa: FBT001
    tried: tuple[str, ...],
    **given: Any,  # noqa: ANN401
) -> None:
    """Look whether all is as it should be, and say what to do where it isn't.

    Nothing is changed but with --in-cluster, and nothing requested but with --try.

    Ends with 3 where something isn't. A dash is what can't be told, mostly for want of a right.
    """
    tool = Tool(**given)
    urls = {"sandbox": sandbox_url, "production": production_url}
    place = Place(operator_namespace, lease_name, from_pod)
    checks = _checks(tool, place, {} if no_asset else urls)
    found = []
    for check in chain(checks, _trials(tool, tried, urls)):
        found.append(check)
        if not tool.for_programs:
            _show(tool, check)
    if tool.for_programs:
        tool.write_data({"checks": [_summary(check) for check in found]})
    finish(Exit.TROUBLE if any(check.fine is False for check in found) else Exit.FINE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the operator is.

    Attributes:
        in_cluster: Whether to look from there, too.
    """

    namespace: str
    lease: str
    in_cluster: bool


def _checks(tool: Tool, place: Place, urls: Mapping[str, str]) -> Iterator[Check]:
    try:
        cluster, scope = tool.cluster, tool.scope
    except Problem as problem:
        yield checkup.Check("Kubeconfig", False, str(problem))
        return
    reached = list(checkup.guarded("API server", lambda: checkup.api_server(cluster, tool.now)))
    yield from reached
    if reached[0].fine is False and cluster.date is None:
        return
    yield from checkup.guarded("CRD", lambda: checkup.definitions(cluster))
    yield from checkup.guarded("Rights", lambda: checkup.rights(cluster, scope))
    yield from checkup.guarded("Operator", lambda: checkup.operator(cluster, place.namespace, place.lease, tool.now()))
    bodies: list[Json] = []

    def look() -> Iterator[Check]:
        bodies.extend(tool.bodies())
        yield from checkup.conflicts(bodies, _states(tool, bodies))
        yield from checkup.guarded("Credentials", lambda: checkup.credentials(cluster, bodies))
        yield from checkup.tokens(_states(tool, bodies))

    yield from checkup.guarded("AssetTokens", look)
    used = {str(part(body, "spec").get("environment")) for body in bodies}
    for environment, url in urls.items():
        if environment in used:
            yield from asset(environment, url, tool.now)
    if place.in_cluster:
        yield from checkup.guarded(in_cluster.ABOUT, lambda: _from_pod(tool, place, used))


def _from_pod(tool: Tool, place: Place, used: Collection[str]) -> Iterator[Check]:
    environments = [environment for environment in ENVIRONMENTS if environment in used] or ENVIRONMENTS
    return in_cluster.from_pod(tool.cluster, place.namespace, place.lease, environments, tool.clock)


def _trials(tool: Tool, names: Sequence[str], urls: Mapping[str, str]) -> Iterator[Check]:
    for name in names:

        def ask(name: str = name) -> Iterator[Check]:
            yield from trial(tool.cluster, tool.body(name), urls)

        yield from checkup.guarded(ABOUT, ask)


def _states(tool: Tool, bodies: list[Json]) -> list[TokenState]:
    now = tool.now()
    return [read_state(body, now) for body in bodies]


def _summary(check: Check) -> dict[str, Any]:
    return {"about": check.about, "fine": check.fine, "found": check.found, "whatHelps": check.helps}


def _show(tool: Tool, check: Check) -> None:
    """A line as soon as it is known, so that whoever waits sees for what."""
    from rich.table import Table  # noqa: PLC0415 - who asks for JSON doesn't wait for it
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    shown.add_column(width=1)
    shown.add_column(width=LABEL, no_wrap=True)
    shown.add_column(overflow="fold")
    mark, style = MARKS[check.fine]
    text = Text(check.found)
    if check.helps:
        text += Text(f"\n→ {check.helps}", style="bold")
    shown.add_row(Text(mark, style=style), check.about, text)
    tool.show(shown)
