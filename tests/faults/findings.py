"""What a scenario has measured, against its bound, and the table that tells all of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

HEADINGS: Final = ("scenario", "guarantee", "what was measured", "figure", "the bound", "held?")
ANSWERS: Final = {True: "yes", False: "NO", None: ""}


class Guarantee(StrEnum):
    """What a figure is about, in the words of ARCHITECTURE.md's table."""

    VALID = "never without a valid token"
    RESTART = "a restart requests nothing"
    BUDGET = "the tenant's budget"
    LEADER = "a change of leader requests nothing"
    CAUSE = "fixing the cause is enough"
    LEAKS = "nothing leaks"


@dataclass(frozen=True)
class Finding:
    """One figure.

    Attributes:
        guarantee: None where a scenario broke off before it measured anything.
        held: None where the figure has no bound of its own and is only told.
        timed: Whether it is a time that took, which a busy machine makes longer.
    """

    guarantee: Guarantee | None
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


def at_most(guarantee: Guarantee, measured: str, figure: float, bound: float, unit: str = "") -> Finding:
    """A figure that must not be above its bound."""
    said, held, timed = f"≤ {_number(bound, unit)}", figure <= bound, unit == "s" and bound > 0
    return Finding(guarantee, measured, _number(figure, unit), said, held, timed=timed)


def at_least(guarantee: Guarantee, measured: str, figure: int, bound: int) -> Finding:
    """A figure that must not be below its bound."""
    return Finding(guarantee, measured, str(figure), f"≥ {bound}", figure >= bound)


def exactly(guarantee: Guarantee, measured: str, figure: int, bound: int = 0) -> Finding:
    """A figure that must be just that."""
    return Finding(guarantee, measured, str(figure), str(bound), figure == bound)


def told(guarantee: Guarantee, measured: str, figure: float, unit: str = "") -> Finding:
    """A figure that others are compared with."""
    return Finding(guarantee, measured, _number(figure, unit), "", None)


def table(findings: Sequence[Finding]) -> str:
    """All findings, in aligned columns."""
    rows = _rows(findings)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(lines)


def markdown(findings: Sequence[Finding]) -> str:
    """All findings as a table in Markdown."""
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in _rows(findings)]
    lines.insert(1, "|" + " --- |" * len(HEADINGS))
    return "\n".join(lines)


def _rows(findings: Sequence[Finding]) -> list[tuple[str, ...]]:
    return [
        HEADINGS,
        *((f.scenario, f.guarantee or "", f.measured, f.figure, f.bound, ANSWERS[f.held]) for f in findings),
    ]


def _number(value: float, unit: str) -> str:
    text = str(value) if isinstance(value, int) else f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{text} {unit}".rstrip()
