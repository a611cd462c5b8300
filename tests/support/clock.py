"""A clock that a test moves."""

import asyncio
from datetime import datetime, timedelta

from tests.support.builders import NOW


class ManualClock:
    """Stands still until it is moved; whoever waits on it wakes when their time has come."""

    def __init__(self, start: datetime = NOW) -> None:
        self._now = start
        self._waiting: list[tuple[datetime, asyncio.Event]] = []

    def now(self) -> datetime:
        return self._now

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most until the clock has been moved that far."""
        self._waiting.append((self._now + timedelta(seconds=seconds), event))
        await event.wait()

    async def advance(self, by: timedelta) -> None:
        """Move the clock and let everything run that is due then."""
        await self.set(self._now + by)

    async def set(self, moment: datetime) -> None:
        """Set the clock, also back, and let everything run that is due then."""
        self._now = moment
        due = [event for until, event in self._waiting if until <= moment]
        self._waiting = [(until, event) for until, event in self._waiting if until > moment]
        for event in due:
            event.set()
        await settle()


async def settle() -> None:
    """Let all tasks run until they wait for something."""
    for _ in range(50):
        await asyncio.sleep(0)
