"""Cost over the number of AssetTokens, as SVG that is the same for the same figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.figures import Measurement

PLOTS: Final = {
    "bring-up-seconds": ("bring-up", "all_ready_s", "seconds from the process' start until all are ready"),
    "bring-up-cpu": ("bring-up", "cpu_own_ms", "CPU of the operator itself, ms a token"),
    "bring-up-memory": ("bring-up", "peak_mib", "peak memory while all are issued, MiB"),
    "restart-seconds": ("restart", "idle_s", "seconds from a restart with fresh tokens until idle"),
    "restart-cpu": ("restart", "cpu_own_s", "CPU of a restart with fresh tokens, s"),
    "unrelated-memory": ("unrelated", "peak_mib", "peak memory beside unrelated Secrets, MiB"),
}
"""By the file's name: the scenario, the figure and the title."""

SETTINGS: Final[Any] = {"svg.hashsalt": "asset-token-operator", "svg.fonttype": "path", "font.size": 9}
SIZE: Final = (6.4, 3.6)


def draw(measurements: Sequence[Measurement], folder: Path) -> list[Path]:
    """Write each plot for which there are figures for two numbers of AssetTokens; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _draw(lines, title, folder / f"{name}.svg")
        for name, (scenario, figure, title) in PLOTS.items()
        if (lines := _lines(measurements, scenario, figure))
    ]


def _lines(measurements: Sequence[Measurement], scenario: str, figure: str) -> dict[str, list[tuple[int, float]]]:
    """The points of each line, by its name; none where there would be no line."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for one in sorted(measurements, key=lambda one: one.count):
        if one.scenario == scenario and figure in one.figures:
            name = f"{one.subject}, {one.variant}" if one.variant else one.subject
            lines.setdefault(name, []).append((one.count, one.figures[figure]))
    return {name: points for name, points in lines.items() if len(points) > 1}


def _draw(lines: dict[str, list[tuple[int, float]]], title: str, file: Path) -> Path:
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes: Any = figure.subplots()
        for name, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set(title=title, xlabel="N", xlim=(0, None), ylim=(0, None))
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file
