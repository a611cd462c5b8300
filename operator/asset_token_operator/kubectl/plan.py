"""`plan`: the coming requests as a picture, held against each tenant's budget."""

from __future__ import annotations

import sys
from datetime import timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from asset_token_operator.account import DEFAULT_LIMIT
from asset_token_operator.kubectl.cluster import core_path, decode, metadata, part
from asset_token_operator.kubectl.forecast import Load, by_tenant, forecast, horizon
from asset_token_operator.kubectl.problems import Exit, Problem, UsageProblem, cause
from asset_token_operator.kubectl.tool import Tool, finish, options
from asset_token_operator.kubectl.words import duration
from asset_token_operator.model import KIND, AssetToken, Key, Reserves, digest
from asset_token_operator.parsing import SpecError, parse_asset_token
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType
    from rich.text import Text

FORMATS: Final = ("table", "json", "yaml")
STEPS: Final = " ▁▂▃▄▅▆▇█"
LABEL: Final = 2
WIDEST: Final = 120
NARROWEST: Final = 20
RESERVE: Final = 20
FIRST_RESERVE: Final = 10
LIMITS: Final = click.IntRange(1, 10**6)
SHARE: Final = click.IntRange(0, 90)


@click.command()
@click.option("-f", "--filename", "filenames", multiple=True, metavar="FILE", help="More AssetTokens; - is stdin.")
@click.option(
    "--times", default=1, show_default=True, type=click.IntRange(1, 100_000), help="Take FILEs so many times."
)
@click.option("--hours", default=6, show_default=True, type=click.IntRange(1, 168), help="How far to look.")
@click.option("--limit", default=DEFAULT_LIMIT, show_default=True, type=LIMITS, help="A tenant's requests a minute.")
@click.option("--renewal-reserve", default=RESERVE, show_default=True, type=SHARE, help="The operator's, in percent.")
@click.option(
    "--issue-reserve", default=FIRST_RESERVE, show_default=True, type=SHARE, help="The same for first issues."
)
@click.option("--by-client", is_flag=True, help="Read the credentials, to tell which namespaces share a tenant.")
@click.option("--offline", is_flag=True, help="Only the FILEs, without a cluster.")
@options(formats=FORMATS)
def plan(  # noqa: PLR0913, PLR0917 - one for each option
    filenames: tuple[str, ...],
    times: int,
    hours: int,
    limit: int,
    renewal_reserve: int,
    issue_reserve: int,
    by_client: bool,  # noqa: FBT001
    offline: bool,  # noqa: FBT001
    **given: Any,  # noqa: ANN401
) -> None:
    """Show the coming renewals, and whether each tenant's budget leaves room for them and for those in FILEs.

    The namespaces' credentials count as a tenant each, unless --by-client. Ends with 3 where something doesn't fit.
    """
    tool = Tool(**given)
    if offline and not filenames:
        raise UsageProblem("--offline looks at files only: give some with -f.")
    now = tool.now()
    bodies = [] if offline else tool.bodies()
    added = [body for filename in filenames for body in _manifests(filename)]
    namespace = tool.namespace or ("default" if offline else tool.cluster.namespace)
    for turn in range(times):
        bodies += [_as_new(body, f"{number}/{turn}", namespace, now) for number, body in enumerate(added)]
    tokens = list(_tokens(bodies))
    clients = _clients(tool, tokens) if by_client else {}
    tenants = by_tenant((clients.get(_credentials(token)) or _tenant(token), token) for token in tokens)
    minutes = horizon(chain.from_iterable(tenants.values()), hours * 60)
    loads = forecast(tenants, now, minutes, limit, Reserves(renewal_reserve / 100, issue_reserve / 100))
    _write(tool, loads, minutes, now, unread=len(bodies) - len(tokens))
    finish(Exit.FINE if all(load.fits for load in loads) else Exit.TROUBLE)


def _credentials(token: AssetToken) -> tuple[Key, str]:
    """Where a token's client_id is."""
    return token.credentials_key, token.spec.credentials.client_id_key


def _tenant(token: AssetToken) -> str:
    return f"{token.spec.environment} {token.credentials_key}"


def _tokens(bodies: Sequence[Mapping[str, Any]]) -> Iterator[AssetToken]:
    for body in bodies:
        try:
            yield parse_asset_token(body)
        except SpecError:
            continue


def _clients(tool: Tool, tokens: Sequence[AssetToken]) -> dict[tuple[Key, str], str]:
    """The tenants, as metrics name them, by the credentials' Secret and key."""
    found: dict[tuple[Key, str], str] = {}
    for token in tokens:
        key, name = _credentials(token)
        if (key, name) in found:
            continue
        data = part(tool.cluster.get(core_path("secrets", *key)), "data")
        client_id = (decode(data.get(name)) or "").strip("\ufeff \t\r\n")
        if client_id:
            found[key, name] = f"{token.spec.environment} {digest(client_id)[:8]}"
    return found


def _manifests(filename: str) -> list[dict[str, Any]]:
    """The AssetTokens in a file."""
    import yaml  # noqa: PLC0415 - most plans have none

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = sys.stdin.read() if filename == "-" else Path(filename).read_text(encoding="utf-8")
        documents = list(yaml.load_all(text, loader))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise Problem(f"{filename} can't be read ({cause(error, 'it makes no sense')}): check the file.") from None
    lists = [document.get("items") or [document] for document in documents if isinstance(document, dict)]
    found = [body for items in lists for body in items if isinstance(body, dict) and body.get("kind") == KIND]
    if not found:
        raise Problem(f"{filename} holds no AssetToken: give a file that does.")
    return found


def _as_new(body: Mapping[str, Any], number: str, namespace: str, now: datetime) -> dict[str, Any]:
    """A manifest as if it had been created now."""
    meta = metadata(body)
    created = {"uid": f"plan/{number}", "generation": 1, "creationTimestamp": format_time(now), "resourceVersion": "0"}
    placed = {"namespace": meta.get("namespace", namespace), "name": meta.get("name", "")}
    return {"metadata": placed | created, "spec": body.get("spec")}


def _write(tool: Tool, loads: Sequence[Load], minutes: int, now: datetime, unread: int) -> None:
    if tool.for_programs:
        tool.write_data({"from": format_time(now), "minutes": minutes, "tenants": [_summary(load) for load in loads]})
        return
    if not loads:
        click.echo("No AssetTokens, so nothing will be requested.", err=True)
    if unread:
        click.echo(f"{unread} AssetTokens can't be read, and are left out: their CRD is of another version.", err=True)
    width = min(WIDEST, max(NARROWEST, (tool.console.width if tool.console.is_terminal else WIDEST) - LABEL - 8))
    for load in loads:
        tool.show(*picture(load, width))


def _summary(load: Load) -> dict[str, Any]:
    return {
        "tenant": load.tenant,
        "assetTokens": load.tokens,
        "new": load.new,
        "requests": sum(load.wanted),
        "peakPerMinute": load.peak,
        "budgetPerMinute": load.capacity,
        "longestWaitMinutes": load.longest_wait,
        "fits": load.fits,
        "verdict": load.verdict(),
    }


def picture(load: Load, width: int) -> list[RenderableType]:
    """A tenant's coming requests: a line of bars, as high as the busiest minute in each, and what it means."""
    from rich.text import Text  # noqa: PLC0415 - who asks for JSON doesn't wait for it

    minutes = len(load.wanted)
    lasts = duration(timedelta(minutes=minutes))
    width = min(width, minutes)
    edges = [minutes * column // width for column in range(width + 1)]
    peaks = [max(load.wanted[start:end], default=0) for start, end in pairwise(edges)]
    new = f" ({load.new} new)" if load.new else ""
    requests = sum(load.wanted)
    style = "green" if load.fits else "bold red"
    return [
        Text(load.tenant, style="bold"),
        Text(f"  {load.tokens} AssetTokens{new}, {requests} requests in {lasts}"),
        Text("  ") + _bars(peaks, max(load.capacity, load.peak), load.capacity) + Text(f" {load.peak}/min"),
        Text("  now" + f"+{lasts}".rjust(width - 3), style="dim"),
        Text.assemble("  peak ", f"{load.peak} of {load.capacity} a minute: ", (load.verdict(), style)),
        "",
    ]


def _bars(peaks: Sequence[int], top: int, capacity: int) -> Text:
    from rich.text import Text  # noqa: PLC0415

    shown = Text()
    for peak in peaks:
        step = -(-peak * (len(STEPS) - 1) // max(top, 1))
        shown.append(STEPS[step], "red" if peak > capacity else "cyan")
    return shown
