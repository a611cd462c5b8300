"""Whether the operator is alive and ready, and what its HTTP server tells.

`/healthz` fails for what a restart mends: a part that hasn't come round for minutes. That Asset or the API server
doesn't answer is no such thing: the parts go on trying. An event loop that is stuck can't answer at all, which the
kubelet takes for a failure. Time is counted in seconds in which the event loop ran, so that a machine that was
suspended finds nobody stuck. `/readyz` is true when one scope is served at least, for a standby too, and names those
that can't be followed.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.payload import Payload
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from asset_token_operator.http_server import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from aiohttp.abc import AbstractStreamWriter

    from asset_token_operator.clock import Clock
    from asset_token_operator.config import Address

logger = logging.getLogger(__name__)

PIECE: Final = 2**16
"""Bytes of the metrics that are copied at once for who reads them."""

FEW_READERS: Final = 4
SHARED_SECONDS: Final = 5.0
"""Where so many read already, who asks gets metrics up to so old: whatever is still being read is held."""

PATIENCE: Final = timedelta(minutes=5)
"""For a part that doesn't say otherwise: a watch is silent for a minute, and for longer while all is listed anew."""


@dataclass(slots=True)
class Health:
    """When each part was last seen alive.

    Attributes:
        clock: Only waited on.
        is_ready: Whether any scope is served.
        problems: A line for each that can't be followed.
    """

    clock: Clock
    is_ready: Callable[[], bool]
    problems: Callable[[], Iterable[str]] = tuple
    _seconds: int = 0
    _until: dict[str, float] = field(default_factory=dict)

    async def count(self) -> None:
        """Count the seconds, until cancelled."""
        while True:
            await self.clock.sleep(1)
            self._seconds += 1

    def heartbeat(self, part: str, patience: timedelta = PATIENCE) -> None:
        """The part is alive, and may be silent for so long from now on."""
        self._until[part] = self._seconds + patience.total_seconds()

    def stuck(self) -> list[str]:
        """The parts that have been silent for too long."""
        return [part for part, until in self._until.items() if self._seconds > until]


@asynccontextmanager
async def serving(
    health: Health,
    render: Callable[[], Awaitable[bytes]],
    health_address: Address | None,
    metrics_address: Address | None,
) -> AsyncIterator[None]:
    """Serve both as long as the context is open, on one listener where the addresses are the same.

    Args:
        health: What the probes tell.
        render: Makes what a scrape gets.
        health_address: Where the probes are; None for nowhere.
        metrics_address: The same for the metrics.

    Raises:
        ListenError: An address can't be listened on.
    """
    wanted: dict[Address, list[web.RouteDef]] = {}
    if health_address is not None:
        wanted.setdefault(health_address, []).extend(_health_routes(health))
    if metrics_address is not None:
        wanted.setdefault(metrics_address, []).append(_metrics_route(render))
    async with AsyncExitStack() as stack:
        for address, routes in wanted.items():
            await stack.enter_async_context(listening(address, routes))
        yield


def _health_routes(health: Health) -> list[web.RouteDef]:
    async def healthz(_: web.Request) -> web.Response:
        stuck = health.stuck()
        return (
            web.Response(status=503, text=f"stuck, so a restart helps: {', '.join(stuck)}\n")
            if stuck
            else web.Response(text="ok\n")
        )

    async def readyz(_: web.Request) -> web.Response:
        ready = health.is_ready()
        lines = ["ok" if ready else "not ready", *health.problems()]
        return web.Response(status=200 if ready else 503, text="".join(f"{line}\n" for line in lines))

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


def _metrics_route(render: Callable[[], Awaitable[bytes]]) -> web.RouteDef:
    scrape = Scrape(render)

    async def metrics(_: web.Request) -> web.Response:
        body = await scrape.metrics()
        if body is None:
            return web.Response(status=500, text="no metrics: a defect of the operator, whose log says more\n")
        return web.Response(body=Reading(body, scrape), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return web.get("/metrics", metrics)


class Scrape:
    """Makes what a scrape gets, once for all that ask meanwhile: for many AssetTokens it is a second's work.

    It is tens of megabytes then, and anybody may ask, and read as slowly as the server lets them (`http_server.py`). So
    who reads holds one piece of its own, and of the metrics no more are held than were made within that time.

    Args:
        render: Makes it.

    Attributes:
        readers: How many read metrics now.
    """

    def __init__(self, render: Callable[[], Awaitable[bytes]]) -> None:
        self._render = render
        self._running: asyncio.Task[bytes | None] | None = None
        self._made = -math.inf
        self.readers = 0

    async def metrics(self) -> bytes | None:
        """All metrics; None where there are none to be had."""
        shared = self.readers >= FEW_READERS and asyncio.get_running_loop().time() < self._made + SHARED_SECONDS
        if self._running is None or (self._running.done() and not shared):
            self._running = asyncio.create_task(self._try_to_render())
        return await asyncio.shield(self._running)  # who goes away ends it for nobody else

    async def _try_to_render(self) -> bytes | None:
        try:
            self._made = asyncio.get_running_loop().time()
            return await self._render()
        except Exception as error:  # noqa: BLE001 - a defect of theirs must cost a scrape and nothing else
            # Its text isn't told, as it may quote what it stumbled over.
            logger.error("no metrics for this scrape: a defect (%s); please report it", type(error).__name__)  # noqa: TRY400
            return None


class Reading(Payload):
    """Metrics that one reads: the next piece is copied when the last one was read, and all who read share the rest.

    Args:
        body: The metrics.
        scrape: Where they are from.
    """

    def __init__(self, body: bytes, scrape: Scrape) -> None:
        super().__init__(body)
        self._size = len(body)
        self._scrape = scrape

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Let them be read, until the end or until whoever reads goes away."""
        self._scrape.readers += 1
        try:
            for at in range(0, len(self._value), PIECE):
                await writer.write(self._value[at : at + PIECE])
        finally:
            self._scrape.readers -= 1
            self._value = b""  # what has failed is thrown away late, with all that it holds

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The same as text, which nobody asks for."""
        return str(self._value, encoding, errors)
