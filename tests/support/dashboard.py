"""The dashboard's panels, by its own queries; `draw` shows them, where matplotlib is (`make bench` has it)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.prometheus import Prometheus, Series

FILE: Final = Path(__file__).parents[2] / "deploy" / "chart" / "files" / "dashboard.json"
STEP: Final = 1.0
INK: Final = "#1f2937"
PAPER: Final = "#ffffff"
GRID: Final = "#d3d9e2"
DARK: Final = f"""<style>
@media (prefers-color-scheme: dark) {{
  [style*="fill: {PAPER}"] {{ fill: #1b1f27 !important }} [style*="fill: {INK}"] {{ fill: #e5e9f0 !important }}
  [style*="stroke: {INK}"] {{ stroke: #a9b6c9 !important }} [style*="stroke: {GRID}"] {{ stroke: #3a4352 !important }}
}}
</style>
"""
SIZE: Final = (10.0, 14.0)
COLUMNS: Final = 24
SETTINGS: Final[Any] = {
    "svg.hashsalt": "asset-token-operator",
    "svg.fonttype": "path",
    "font.size": 8,
    "grid.color": GRID,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
ROOM: Final = 1.35
"""How much higher a panel is than its lines, for the legend."""

UNITS: Final = {"s": "s", "reqpm": "requests a minute"}


class Query(NamedTuple):
    """One of a panel's queries, and how its lines are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """A panel: where it is (x, y, width, height), and what it asks."""

    title: str
    kind: str
    unit: str
    place: tuple[int, int, int, int]
    queries: tuple[Query, ...]


def panels() -> list[Panel]:
    """The dashboard's panels, from its top."""
    found = json.loads(FILE.read_text())["panels"]
    return [
        Panel(
            one["title"],
            one["type"],
            one["fieldConfig"]["defaults"].get("unit", ""),
            (one["gridPos"]["x"], one["gridPos"]["y"], one["gridPos"]["w"], one["gridPos"]["h"]),
            tuple(Query(target["expr"], target["legendFormat"]) for target in one["targets"]),
        )
        for one in found
    ]


def ask(prometheus: Prometheus, panel: Panel, begin: float, end: float) -> dict[Query, list[Series]]:
    """What each of a panel's queries gives: over the time for lines, at its end for a number or a table."""
    if panel.kind == "timeseries":
        return {query: prometheus.over(query.expression, begin, end, STEP) for query in panel.queries}
    return {query: prometheus.now(query.expression) for query in panel.queries}


def called(query: Query, series: Series) -> str:
    """A line's name; what its labels lack shows as the name of the label."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], found[0]), query.legend)


def draw(seen: Mapping[Panel, Mapping[Query, list[Series]]], file: Path) -> None:
    """Draw all panels into one SVG that follows the reader's light or dark."""
    import matplotlib as mpl  # noqa: PLC0415 - only where it is drawn
    from matplotlib.figure import Figure  # noqa: PLC0415

    bottom = max(y + height for _, y, _, height in (panel.place for panel in seen))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE, facecolor=PAPER)
        for panel, results in seen.items():
            x, y, width, height = panel.place
            left, low = x / COLUMNS + 0.045, 1 - (y + height) / bottom + 0.022
            axes: Any = figure.add_axes((left, low, width / COLUMNS - 0.06, height / bottom - 0.045), facecolor=PAPER)
            axes.set_title(panel.title, loc="left", fontsize=6 if panel.kind == "stat" else 9, fontweight="bold")
            _LINES[panel.kind](axes, panel, results)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawn = re.sub(r"(<svg [^>]*>\n)", lambda found: found[1] + DARK, file.read_text(), count=1)
    file.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n")


def _timeseries(axes: Any, panel: Panel, results: Mapping[Query, list[Series]]) -> None:
    begin = min(points[0][0] for every in results.values() for _, points in every)
    for query, every in results.items():
        for series in every:
            times, values = zip(*series.points, strict=True)
            axes.plot([time - begin for time in times], values, linewidth=1.3, label=called(query, series))
    axes.grid(visible=True)
    axes.set_ylim(0, (axes.get_ylim()[1] or 1) * ROOM)
    axes.set_ylabel(UNITS.get(panel.unit, ""))
    axes.legend(fontsize=6.5, framealpha=0, loc="upper left")


def _stat(axes: Any, panel: Panel, results: Mapping[Query, list[Series]]) -> None:
    ((query, every),) = results.items()
    value = every[0].points[-1][1]
    shown = called(query, every[0]) if panel.title == "Version" else f"{value:.0f} {UNITS.get(panel.unit, '')}"
    axes.text(0.5, 0.45, shown, fontsize=17, ha="center", va="center", transform=axes.transAxes)
    axes.set_xticks([])
    axes.set_yticks([])


def _table(axes: Any, panel: Panel, results: Mapping[Query, list[Series]]) -> None:
    ((query, every),) = results.items()
    rows = sorted((series.points[-1][1], called(query, series)) for series in every)
    for number, (value, name) in enumerate(rows[:8]):
        height = 0.9 - 0.11 * number
        axes.text(0.03, height, name, transform=axes.transAxes, va="center")
        axes.text(0.97, height, f"{value:.0f} {panel.unit}", transform=axes.transAxes, va="center", ha="right")
    axes.set_xticks([])
    axes.set_yticks([])


_LINES: Final = {"timeseries": _timeseries, "stat": _stat, "table": _table}
