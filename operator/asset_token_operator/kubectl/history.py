"""`history` and `events`: what happened to an AssetToken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from asset_token_operator.kubectl import completion
from asset_token_operator.kubectl.cluster import core_path, metadata, part, parts
from asset_token_operator.kubectl.tool import Tool, options
from asset_token_operator.kubectl.words import moment_of, relative
from asset_token_operator.model import KIND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMATS: Final = ("table", "json", "yaml")
HISTORY: Final = ("time", "outcome", "reason", "expirationTime", "message")
STYLES: Final = {"Issued": "green", "Failed": "yellow", "Warning": "yellow"}
EVENTS: Final = ("time", "type", "reason", "count", "message")


@click.command()
@click.argument("name", shell_complete=completion.names)
@options(lists=False, formats=FORMATS)
def history(name: str, **given: Any) -> None:  # noqa: ANN401
    """List the latest requests for a token and how they ended, the latest last."""
    tool = Tool(**given)
    entries = parts(part(tool.body(name), "status"), "history")
    rows = [{field: entry.get(field) for field in HISTORY} for entry in entries]
    _write(tool, rows, HISTORY, "No request has ended yet.")


@click.command()
@click.argument("name", shell_complete=completion.names)
@options(lists=False, formats=FORMATS)
def events(name: str, **given: Any) -> None:  # noqa: ANN401
    """List the events about an AssetToken, the latest last. Kubernetes keeps them for an hour."""
    tool = Tool(**given)
    body = tool.body(name)
    meta = metadata(body)
    fields = f"involvedObject.kind={KIND},involvedObject.name={meta.get('name')},involvedObject.uid={meta.get('uid')}"
    found = tool.cluster.all(core_path("events", tool.place), fields=fields)
    rows = sorted((_event(event) for event in found), key=lambda row: str(row["time"] or ""))
    _write(tool, rows, EVENTS, "No events.")


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    series = part(event, "series")
    time = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return {
        "time": time,
        "type": event.get("type"),
        "reason": event.get("reason"),
        "count": series.get("count") or event.get("count") or 1,
        "message": event.get("message"),
    }


def _write(tool: Tool, rows: Sequence[Mapping[str, Any]], fields: Sequence[str], nothing: str) -> None:
    if tool.for_programs:
        tool.write_data({"items": [dict(row) for row in rows]})
        return
    if not rows:
        click.echo(nothing, err=True)
        return
    from rich.table import Table  # noqa: PLC0415 - who asks for JSON doesn't wait for it
    from rich.text import Text  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="", padding=(0, 2, 0, 0))
    titles = {"time": "WHEN", "expirationTime": "EXPIRES"}
    for field in fields:
        shown.add_column(titles.get(field, field.upper()), no_wrap=field != "message", overflow="fold")
    now = tool.now()
    for row in rows:
        cells = (
            relative(moment_of(row[field]), now) if field in titles else str(row[field] or "-").strip()
            for field in fields
        )
        shown.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in cells))
    tool.show(shown)
