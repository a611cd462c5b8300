"""What is seen on the terminal: how far it is, and the tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.figures import Measurement
from benchmarks.results import tables


class Terminal:
    """Tells a person how far it is."""

    def __init__(self) -> None:
        self.console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self.console)
        self._now = self._progress.add_task("", total=None, visible=False)

    def say(self, text: str) -> None:
        """Tell a line."""
        self._progress.console.print(text, markup=False, highlight=False)

    def done(self, done: int, total: int) -> None:
        """Tell how many of how many are done in the present pass."""
        self._progress.update(self._now, completed=done, total=max(total, done, 1), visible=True)

    @contextmanager
    def passes(self, names: Sequence[str]) -> Iterator[Iterator[str]]:
        """Show a bar while passes go on; each is begun when it is taken from the iterator."""
        overall = self._progress.add_task("all passes", total=len(names))

        def begin() -> Iterator[str]:
            for name in names:
                self._progress.reset(self._now, description=name, total=None)
                yield name
                self._progress.advance(overall)

        with self._progress:
            yield begin()

    def show(self, measurements: Sequence[Measurement]) -> None:
        """Print a table for each scenario."""
        for title, rows in tables(measurements):
            shown = Table(title=title, title_justify="left")
            for number, heading in enumerate(rows[0]):
                shown.add_column(heading, justify="right" if number else "left", overflow="fold")
            for row in rows[1:]:
                shown.add_row(*row)
            self.console.print(shown)
