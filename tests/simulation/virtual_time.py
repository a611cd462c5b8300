"""Time that costs nothing: an event loop that never sleeps, and the clocks of machines that live in it.

The loop is asyncio's own. Only what it waits with is another: instead of sleeping until the next timer is due, time
jumps there. So all that the operator does with asyncio (tasks, locks, timeouts, task groups) runs as it always does, in
the same order in every run, and an hour takes as long as what happens in it (docs/adr/0010).
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

Result = TypeVar("Result")

BEGINNING: Final = datetime(2026, 5, 1, 12, tzinfo=UTC)
"""What a clock that is right shows when a simulation begins."""

UPTIME: Final = timedelta(days=3, seconds=0.25)
"""How long a machine has run by then: no round number, and nothing that looks like the wall clock."""


RESOLUTION: Final = 1e-6
"""Seconds."""


class DeadlockError(Exception):
    """Nothing is ready and no timer runs, so whatever is still waited for never comes."""


class JumpingSelector(selectors.SelectSelector):
    """Where the loop would sleep, time goes on at once; nobody writes to a socket here.

    Attributes:
        seconds: The time, since the beginning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError(f"{self.seconds:.3f} s: everything waits, and no timer runs")
        self.seconds += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, on a time of its own."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)
        # The loop takes what is due within its clock's resolution for due; one that a float can't show after a month
        # would let it look for ever at a timer whose moment has come.
        self._clock_resolution = RESOLUTION

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._jumping.seconds

    @classmethod
    def closing(cls) -> contextlib.closing[VirtualLoop]:
        """One that is closed when the context is left."""
        return contextlib.closing(cls())


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it to its end in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


def seconds() -> float:
    """The present moment, in seconds since the beginning."""
    return asyncio.get_running_loop().time()


def present() -> datetime:
    """What a clock that is right shows."""
    return BEGINNING + timedelta(seconds=seconds())


class Machine:
    """The machine that an operator runs on, with its clock: it may be wrong, it can be set, and it can be suspended.

    Attributes:
        name: How the history calls it.
        ahead: How far its wall clock is.
    """

    def __init__(self, name: str, ahead: timedelta = timedelta()) -> None:
        self.name = name
        self.ahead = ahead
        self._awake = asyncio.Event()
        self._awake.set()

    def suspend(self) -> None:
        """Nothing that runs on it goes on."""
        self._awake.clear()

    def wake(self) -> None:
        """It goes on; what has come meanwhile is there, and its clocks went on, too."""
        self._awake.set()

    def is_awake(self) -> bool:
        return self._awake.is_set()

    async def awake(self) -> None:
        """Wait until it isn't suspended: all that waits for the world outside comes through here."""
        if not self._awake.is_set():
            await self._awake.wait()

    # The operator's `Clock`.

    def now(self) -> datetime:
        return present() + self.ahead

    def elapsed(self) -> timedelta:
        return UPTIME + timedelta(seconds=seconds())

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        await self.awake()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.awake()
