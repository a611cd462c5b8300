"""The results of a run: kept in a file while it goes on, read again, and told as Markdown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.figures import Measurement, call_rows, compared, medians, table

BEGIN: Final = "<!-- figures: begin -->"
END: Final = "<!-- figures: end -->"
ORDER: Final = (
    "base",
    "apply",
    "bring-up",
    "restart",
    "spec-change",
    "delete",
    "steady",
    "unrelated",
    "large",
    "lookalikes",
)


@dataclass
class Results:
    """Of one run.

    Attributes:
        machine: What it ran on.
        settings: What was asked of it.
        measurements: In the order in which they were made.
    """

    machine: Mapping[str, str]
    settings: Mapping[str, Any]
    measurements: list[Measurement] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Those that were written to a file."""
        said = json.loads(file.read_text())
        return cls(said["machine"], said["settings"], [Measurement(**one) for one in said["measurements"]])

    def write(self, file: Path) -> None:
        """Write all that there is by now; a reader never sees half a file."""
        said = {
            "machine": self.machine,
            "settings": self.settings,
            "measurements": [one.as_json() for one in self.measurements],
        }
        beside = file.with_name(f".{file.name}.new")
        beside.write_text(json.dumps(said, indent=1) + "\n")
        beside.replace(file)

    def told(self) -> list[Measurement]:
        """The medians of what was repeated, beside what it is compared with."""
        return compared(medians(self.measurements))


def tables(measurements: Sequence[Measurement]) -> Iterator[tuple[str, list[list[str]]]]:
    """A title and rows for each scenario; for each N where somebody else was measured beside the operator."""
    for scenario in ORDER:
        of_it = sorted((one for one in measurements if one.scenario == scenario), key=lambda one: one.count)
        side_by_side = any(one.subject != "operator" for one in of_it)
        for _, together in groupby(of_it, key=lambda one: one.count if side_by_side else 0):
            yield scenario, table(list(together))
    if rows := call_rows(measurements):
        yield "calls", rows


def markdown(results: Results) -> str:
    """Facts and tables."""
    facts = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    parts = [f"Measured on: {facts}."]
    for title, rows in tables(results.told()):
        parts += [f"### `{title}`"] if f"### `{title}`" not in parts else []
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(1, "| --- |" + " ---: |" * (len(rows[0]) - 1))
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def between_markers(text: str, new: str) -> str:
    """A document with something new between its markers.

    Raises:
        ValueError: It has no such markers.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{new}\n\n{END}{after}"
