"""What the tests measure, printed at the end of the session."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Figures:
    """Measured values by name; where one was measured several times, the least and the greatest are told."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[float]] = {}

    def add(self, name: str, value: float, unit: str) -> None:
        self._seen.setdefault((name, unit), []).append(value)

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
