"""What a scenario has measured, against its bound, and the table that tells all of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

HEADINGS: Final = ("scenario", "what was measured", "figure", "the bound", "held?")


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        held: None where the figure has no bound of its own and is only told.
        timed: Whether it is a time that took, which a busy machine makes longer.
    """

    measured: str
    figure: str
    bound: str
    held: bool | None
    scenario: str = ""
    timed: bool = False

    def of(self, scenario: str) -> "Finding":
        """The same, with the name of the scenario that measured it."""
        return replace(self, scenario=scenario)

    def __str__(self) -> str:
        return f"{self.scenario}: {self.measured}: {self.figure} (bound: {self.bound})"


def at_most(measured: str, figure: float, bound: float, unit: str = "") -> Finding:
    """A figure that must not be above its bound."""
    return Finding(
        measured, _number(figure, unit), f"≤ {_number(bound, unit)}", figure <= bound, timed=unit == "s" and bound > 0
    )


def exactly(measured: str, figure: int, bound: int = 0) -> Finding:
    """A figure that must be just that."""
    return Finding(measured, str(figure), str(bound), figure == bound)


def told(measured: str, figure: float, unit: str = "") -> Finding:
    """A figure that others are compared with."""
    return Finding(measured, _number(figure, unit), "", None)


def table(findings: Sequence[Finding]) -> str:
    """All findings, in aligned columns."""
    answers = {True: "yes", False: "NO", None: ""}
    rows = [HEADINGS, *((f.scenario, f.measured, f.figure, f.bound, answers[f.held]) for f in findings)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(lines)


def _number(value: float, unit: str) -> str:
    text = str(value) if isinstance(value, int) else f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{text} {unit}".rstrip()
