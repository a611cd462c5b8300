"""A clock that a test moves."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from tests.support.builders import NOW

UPTIME: Final = timedelta(days=3, seconds=0.25)
"""How long the machine has run when a test begins: no round number, and nothing that looks like the wall clock."""


class ManualClock:
    """Stands still until it is moved; whoever waits on it wakes when their time has come."""

    def __init__(self, start: datetime = NOW) -> None:
        self._now = start
        self._elapsed = UPTIME
        self._waited = timedelta()
        self._waiting: list[tuple[timedelta, asyncio.Event]] = []

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> timedelta:
        return self._elapsed

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most until time has gone on that far; that doesn't set the event."""
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def sleep(self, seconds: float) -> None:
        """Wait until time has gone on that far."""
        due = asyncio.Event()
        self._waiting.append((self._waited + timedelta(seconds=seconds), due))
        await due.wait()

    async def advance(self, by: timedelta) -> None:
        """Time goes on; let everything run that is due then."""
        self._waited += by
        due = [event for until, event in self._waiting if until <= self._waited]
        self._waiting = [(until, event) for until, event in self._waiting if until > self._waited]
        await self.suspend(by)
        for event in due:
            event.set()
        await settle()

    async def suspend(self, by: timedelta) -> None:
        """The machine is suspended and wakes: waits stood still meanwhile, but both clocks went on."""
        self._elapsed += by
        await self.set(self._now + by)

    async def set(self, moment: datetime) -> None:
        """Somebody sets the wall clock, also back: no time goes by."""
        self.jump(moment - self._now)
        await settle()

    def jump(self, by: timedelta) -> None:
        """The same, and nothing runs meanwhile."""
        self._now += by


async def settle() -> None:
    """Let all tasks run until they wait for something."""
    for _ in range(50):
        await asyncio.sleep(0)
