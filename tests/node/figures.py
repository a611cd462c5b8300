"""What the tests measure, printed at the end of the session."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def percentile(values: Sequence[float], percent: int) -> float:
    """The least of the values that so many percent of them aren't above."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


class Figures:
    """Measured values by name; where one was measured several times, the least and the greatest are told."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[float]] = {}

    def add(self, name: str, value: float, unit: str) -> None:
        self._seen.setdefault((name, unit), []).append(value)

    def add_percentiles(self, name: str, values: Sequence[float], unit: str) -> None:
        """Add what half of the values, and all but a hundredth, aren't above."""
        for percent in (50, 99):
            self.add(f"{name}: p{percent} of {len(values)}", percentile(values, percent), unit)

    @contextmanager
    def seconds(self, name: str) -> Iterator[None]:
        """Measure how long this context takes."""
        began = time.monotonic()
        yield
        self.add(name, time.monotonic() - began, "s")

    def lines(self) -> list[str]:
        """Lines for people."""
        return [f"{self._span(values):>12} {unit:<2}  {name}" for (name, unit), values in self._seen.items()]

    @staticmethod
    def _span(values: list[float]) -> str:
        least, greatest = f"{min(values):.1f}", f"{max(values):.1f}"
        return least if least == greatest else f"{least} to {greatest}"
