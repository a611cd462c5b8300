"""What happened, a line each, the same in every run of a seed."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from tests.simulation.asset import CANARY
from tests.simulation.virtual_time import seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

ACTOR: ContextVar[str] = ContextVar("actor", default="simulation")
"""Whose task runs."""

OPERATOR_LOGGER: Final = logging.getLogger("asset_token_operator")


class BrokenInvariantError(AssertionError):
    """The operator did what it promises never to do, or didn't do what it promises."""


class History:
    """The lines, and what the operator logs among them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken: list[str] = []

    def tell(self, actor: str, what: str) -> None:
        """Somebody did something."""
        self.lines.append(f"{_time(seconds())}  {actor:<12}  {what}")

    def accuse(self, what: str) -> None:
        """An invariant is broken: it is told, and kept."""
        self.tell("INVARIANT", what)
        self.broken.append(f"{_time(seconds())}  {what}")

    def guard(self, where: str, text: str) -> None:
        """Nothing secret may be in what others see."""
        if CANARY in text:
            self.accuse(f"a secret is in {where}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Write down what operators log."""
        handler = _Handler(self)
        before = (OPERATOR_LOGGER.level, OPERATOR_LOGGER.propagate)
        OPERATOR_LOGGER.addHandler(handler)
        OPERATOR_LOGGER.setLevel(logging.INFO)
        OPERATOR_LOGGER.propagate = False
        try:
            yield
        finally:
            OPERATOR_LOGGER.removeHandler(handler)
            OPERATOR_LOGGER.setLevel(before[0])
            OPERATOR_LOGGER.propagate = before[1]


class _Handler(logging.Handler):
    """Writes log lines into the history; an error there means that nobody expected it."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        self._history.guard("a log line", f"{text} {record.__dict__}")
        self._history.tell(ACTOR.get(), f"logs: {text}")
        if record.levelno >= logging.ERROR:
            self._history.accuse(f"{ACTOR.get()} logged an error that nobody expected")


def _time(moment: float) -> str:
    minutes, milliseconds = divmod(round(moment * 1000), 60_000)
    hours, minute = divmod(minutes, 60)
    return f"{hours // 24}d {hours % 24:02d}:{minute:02d}:{milliseconds / 1000:06.3f}"
