"""Posts Kubernetes events, which nothing waits for: one that can't be posted is lost, and counted."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import KubeError, NotLeadingError
from asset_token_operator.logs import about
from asset_token_operator.reasons import Reason

if TYPE_CHECKING:
    from datetime import datetime

    from asset_token_operator.clock import Clock
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import AssetToken
    from asset_token_operator.ports import EventSink
    from asset_token_operator.transitions import Event

logger = logging.getLogger(__name__)

LONGEST_QUEUE: Final = 10_000
WORKERS: Final = 4

ONLY_HERE: Final = frozenset(
    {Reason.SECRET_CONFLICT, Reason.SCOPES_MISSING, Reason.AUDIENCE_MISMATCH, Reason.DRIFT_REPEATS}
)
"""What nobody logs when it happens, unlike a request or a write that fails."""


class EventPoster:
    """Posts events, a few at once.

    Args:
        kube: The API server.
        clock: The clock.
        instance: The operator's name, as events show it.
        metrics: Told of each that is lost.
    """

    def __init__(self, kube: EventSink, clock: Clock, instance: str, metrics: Metrics) -> None:
        self._kube = kube
        self._clock = clock
        self._instance = instance
        self._metrics = metrics
        self._queue: asyncio.Queue[tuple[AssetToken, Event, datetime]] = asyncio.Queue(LONGEST_QUEUE)

    def post(self, token: AssetToken, event: Event) -> None:
        """Post an event about an AssetToken, soon; what no other line tells is logged, too."""
        if event.reason in ONLY_HERE:
            key = token.key
            logger.warning("%s: %s", key, event.message, extra=about(key, reason=event.reason))
        try:
            self._queue.put_nowait((token, event, self._clock.now()))
        except asyncio.QueueFull:
            self._metrics.lost_event()

    async def run(self) -> None:
        """Post what comes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def flush(self) -> None:
        """Wait until all that was to be posted is."""
        await self._queue.join()

    async def _work(self) -> None:
        while True:
            token, event, at = await self._queue.get()
            try:
                await self._kube.create_event(token, event, at, self._instance)
            except (KubeError, NotLeadingError) as error:
                self._metrics.lost_event()
                logger.debug("%s: event %s not posted: %s", token.key, event.reason, error)
            finally:
                self._queue.task_done()
