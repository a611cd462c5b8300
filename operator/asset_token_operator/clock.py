"""The only place that reads a clock, so that everything else can be tested at any time of day."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio


class Clock(Protocol):
    """The wall clock, one that can't be set, and a way to wait."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""

    def elapsed(self) -> timedelta:
        """How long the machine has run, suspended or not: it goes on evenly whatever the wall clock is set to."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most that long."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""


BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Goes on while the machine is suspended; on macOS the second does."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the place

    def elapsed(self) -> timedelta:
        """How long the machine has run, suspended or not."""
        return timedelta(seconds=time.clock_gettime(BOOT_CLOCK))

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most that long by a clock that stands still while the machine is suspended."""
        import asyncio  # noqa: PLC0415 - the kubectl plugin only asks for the time, and would wait for the import

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait that long, by the same clock."""
        import asyncio  # noqa: PLC0415 - as above

        await asyncio.sleep(seconds)
