"""The only place that reads a clock, so that everything else can be tested at any time of day."""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


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


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the place

    def elapsed(self) -> timedelta:
        """How long the machine has run, suspended or not."""
        return timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most that long by a clock that stands still while the machine is suspended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait that long, by the same clock."""
        await asyncio.sleep(seconds)
