"""What the pages tell of the figures that `make bench` wrote into docs/performance.md."""

import re
from pathlib import Path
from typing import Final, TypeAlias

from website.pages import ROOT

PERFORMANCE: Final = ROOT / "docs" / "performance.md"
SIZES: Final = re.compile(r"(<!-- sizes -->\n).*?(<!-- end of sizes -->)", re.DOTALL)
ROWS: Final = {
    "RSS MiB": "{:.0f} MiB",
    "/readyz s": "{:.1f} s",
    "own CPU s": "{:.1f} s",
    "token requests": "{:.0f}",
}
HEAD: Final = (
    "| AssetTokens | memory | a restart: until ready | CPU of a restart | token requests of a restart |\n"
    "| ---: | ---: | ---: | ---: | ---: |\n"
)

Table: TypeAlias = dict[str, dict[str, float]]
"""By column, by row."""


def with_sizes(text: str, performance: Path = PERFORMANCE) -> str:
    """A page with what a start takes, by how many AssetTokens there are."""
    return SIZES.sub(lambda found: f"{found[1]}{HEAD}{_rows(performance.read_text())}{found[2]}", text)


def _rows(text: str) -> str:
    columns = {"none": table(text, "base")[""]}
    columns |= {name.removeprefix("N = "): rows for name, rows in table(text, "restart").items()}
    return "".join(
        f"| {name} | {' | '.join(form.format(rows[row]) for row, form in ROWS.items())} |\n"
        for name, rows in columns.items()
    )


def table(text: str, scenario: str) -> Table:
    """A scenario's figures; what is no number is left out."""
    (section,) = re.findall(rf"^### `{scenario}`\n\n(.*?)\n(?:\n|\Z)", text, re.MULTILINE | re.DOTALL)
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()]
    found: Table = {name: {} for name in head[1:]}
    for row, *cells in rows:
        for name, cell in zip(head[1:], cells, strict=True):
            if re.fullmatch(r"[\d,.]+", cell):
                found[name][row] = float(cell.replace(",", ""))
    return found
