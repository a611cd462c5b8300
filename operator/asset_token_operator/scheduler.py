"""Runs each key when it is due: one run a key at a time, a bounded number of keys at once.

A run that waits long for an answer gives its place to another (`bulkhead.py`). Nothing runs before `open`, and after
`close` nothing more: a standby gathers what is due, and only the leader runs it.

The wake times are wall-clock times, since tokens expire by the wall clock: long sleeps are cut into slices and the
clock is read again after each, so a machine that was suspended, or whose clock was set, runs what is due at once.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import traceback
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from asset_token_operator.bulkhead import Bulkhead
from asset_token_operator.durations import in_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from asset_token_operator.clock import Clock

    K = TypeVar("K", bound=Hashable)
else:
    K = TypeVar("K")

logger = logging.getLogger(__name__)

SLICE: Final = timedelta(seconds=2)
"""The longest wait between two looks at the clock."""

START: Final = datetime(1970, 1, 1, tzinfo=UTC)
JUMP: Final = timedelta(seconds=2)
"""By how much the wall clock must have been set for all wake times to be computed anew."""

FEW: Final = 64
"""So many wake times that hold no more aren't worth clearing away."""

AFTER_CRASH: Final = timedelta(seconds=30)
"""When a key is run again whose run ended with an error that nobody expected."""

DEFECT: Final = "%s: a defect of the operator (%s), run again in %s; please report it with these lines:\n%s"


class Scheduler(Generic[K]):
    """Runs each key that is awake, and again when its run says.

    Args:
        clock: The wall clock.
        workers: How many keys run at once.
        heartbeat: Called every two seconds or more often, as long as keys are released.
        group_of: What a key shares its fate with, such as its namespace: where that is slow the others go on.
        crashed: Called whenever a run ends with an error that nobody expected.
    """

    def __init__(
        self,
        clock: Clock,
        workers: int,
        heartbeat: Callable[[], None] = lambda: None,
        group_of: Callable[[K], Hashable] = lambda _: None,
        crashed: Callable[[], None] = lambda: None,
    ) -> None:
        self._crashed = crashed
        self._clock = clock
        self._workers = workers
        self._heartbeat = heartbeat
        self._due: dict[K, datetime] = {}
        self._heap: list[tuple[datetime, int, K]] = []
        self._pushed = 0
        self._running: set[K] = set()
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._bulkhead: Bulkhead[K] = Bulkhead(group_of)
        self._changed = asyncio.Event()
        self._open = False
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self) -> None:
        """Run what is due, from now on."""
        self._open = True
        self._changed.set()

    def is_open(self) -> bool:
        """Whether what is due is run."""
        return self._open

    async def close(self) -> None:
        """Begin no more runs, and wait until those that were begun have ended."""
        self._open = False
        for key in self._bulkhead.release():
            self._ready.put_nowait(key)
        await self._idle.wait()

    def waiting(self) -> int:
        """How many keys are due and don't run yet."""
        now = self._clock.now()
        queued = self._ready.qsize() + self._bulkhead.holds()
        return queued + sum(at <= now for at in self._due.values())

    def wake(self, key: K, at: datetime | None = None) -> None:
        """Run the key at that moment, or now; an earlier wake that is still to come stays."""
        at = at or self._clock.now()
        if key not in self._due or at < self._due[key]:
            self._due[key] = at
            self._push(key, at)

    def start(self, run: Callable[[K], Awaitable[datetime | None]]) -> asyncio.Future[None]:
        """Start what runs keys while the scheduler is open.

        Args:
            run: Does the work for a key; returns when to do it again, or None for "not before it is woken".

        Returns:
            What ends only with an error, or by being cancelled: that cuts runs off where they wait.
        """
        return asyncio.ensure_future(self._serve(run))

    async def _serve(self, run: Callable[[K], Awaitable[datetime | None]]) -> None:
        async with asyncio.TaskGroup() as group:

            def hire(workers: int) -> None:
                for _ in range(workers):
                    group.create_task(self._work(run))

            hire(self._workers)
            group.create_task(self._dispatch(hire))

    def _push(self, key: K, at: datetime) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (at, self._pushed, key))
        if len(self._heap) > 2 * len(self._due) + FEW:
            self._compact()
        self._changed.set()

    def _compact(self) -> None:
        """Clear away wake times that an earlier one has replaced; else they would stay until they have passed."""
        self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)

    async def _dispatch(self, hire: Callable[[int], None]) -> None:
        offset = self._clock.now() - START - self._clock.elapsed()
        while True:
            self._changed.clear()
            self._heartbeat()
            now = self._clock.now()
            was, offset = offset, now - START - self._clock.elapsed()
            if abs(offset - was) > JUMP:
                by, way = in_words(offset - was), "ahead" if offset > was else "back"
                logger.warning("this machine's clock was set %s by %s; everything is looked at anew", way, by)
                for key in list(self._due):
                    self.wake(key, now)
            self._release(now)
            hire(self._bulkhead.find_slow(self._clock.elapsed()))
            left = self._heap[0][0] - now if self._heap and self._open else SLICE
            await self._clock.wait(self._changed, min(left, SLICE).total_seconds())

    def _release(self, now: datetime) -> None:
        """Hand what is due to the workers; what is running already is left for when its run ends."""
        while self._open and self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at and key not in self._running:
                del self._due[key]
                self._running.add(key)
                self._idle.clear()
                self._ready.put_nowait(key)

    async def _work(self, run: Callable[[K], Awaitable[datetime | None]]) -> None:
        while True:
            key = await self._ready.get()
            if self._open and not self._bulkhead.enter(key, self._clock.elapsed()):
                continue
            again, is_replaced = await self._run_in_place(run, key) if self._open else (self._clock.now(), False)
            self._running.discard(key)
            if not self._running:
                self._idle.set()
            if key in self._due:
                self._push(key, self._due[key])
            if again is not None:
                self.wake(key, again)
            if is_replaced:
                return

    async def _run_in_place(
        self, run: Callable[[K], Awaitable[datetime | None]], key: K
    ) -> tuple[datetime | None, bool]:
        """When to run it again, and whether another has its place already."""
        again = await self._run_safely(run, key)
        is_replaced, following = self._bulkhead.leave(key)
        if following is not None:
            self._ready.put_nowait(following)
        return again, is_replaced

    async def _run_safely(self, run: Callable[[K], Awaitable[datetime | None]], key: K) -> datetime | None:
        try:
            return await run(key)
        except Exception as error:  # noqa: BLE001 - one key's defect must not stop the others
            self._crashed()
            where = "".join(traceback.format_tb(error.__traceback__))
            # Not logger.exception: an unexpected error's text may quote what it stumbled over.
            again = in_words(AFTER_CRASH)
            logger.error(DEFECT, key, type(error).__name__, again, where)  # noqa: TRY400
            return self._clock.now() + AFTER_CRASH
