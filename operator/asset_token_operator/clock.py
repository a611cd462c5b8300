"""The only place that reads a clock, so that everything else can be tested at any time of day."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The wall clock, and a way to wait."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most that long."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware, UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the place

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Wait for the event, at most that long by a clock that stands still while the machine is suspended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
