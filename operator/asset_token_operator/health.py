"""Whether the operator is alive and ready, and the HTTP server that tells.

`/healthz` fails for what a restart mends: a part that hasn't come round for minutes. That Asset or the API server
doesn't answer is no such thing: the parts go on trying. An event loop that is stuck can't answer at all, which the
kubelet takes for a failure. `/readyz` is true when the caches are filled, for a standby too.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from asset_token_operator.errors import ListenError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from prometheus_client import CollectorRegistry

    from asset_token_operator.clock import Clock
    from asset_token_operator.config import Address

logger = logging.getLogger(__name__)

PATIENCE: Final = timedelta(minutes=3)
"""For each part: twice the longest silence that is usual, a watch's."""


@dataclass(slots=True)
class Health:
    """When each part was last seen alive.

    Attributes:
        ready: Set when the caches are filled.
    """

    clock: Clock
    ready: asyncio.Event
    _beats: dict[str, timedelta] = field(default_factory=dict)

    def beat(self, part: str) -> None:
        """The part is alive."""
        self._beats[part] = self.clock.elapsed()

    def stuck(self) -> list[str]:
        """The parts that have been silent for too long."""
        now = self.clock.elapsed()
        return [part for part, beat in self._beats.items() if now - beat > PATIENCE]


@asynccontextmanager
async def serving(
    health: Health, registry: CollectorRegistry, health_address: Address | None, metrics_address: Address | None
) -> AsyncIterator[None]:
    """Serve both as long as the context is open, on one listener where the addresses are the same.

    Raises:
        ListenError: An address can't be listened on.
    """
    wanted: dict[Address, list[web.RouteDef]] = {}
    if health_address is not None:
        wanted.setdefault(health_address, []).extend(_health_routes(health))
    if metrics_address is not None:
        wanted.setdefault(metrics_address, []).append(_metrics_route(registry))
    async with AsyncExitStack() as stack:
        for address, routes in wanted.items():
            runner = await _listen(address, routes)
            stack.push_async_callback(runner.cleanup)
        yield


async def _listen(address: Address, routes: list[web.RouteDef]) -> web.AppRunner:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, address.host, address.port).start()
    except OSError as error:
        await runner.cleanup()
        raise ListenError(f"{address} can't be listened on ({error.strerror}); choose another.") from None
    paths = " ".join(route.path for route in routes)
    for bound in runner.addresses:
        logger.info("listens on %s:%s for %s", *bound[:2], paths)
    return runner


def _health_routes(health: Health) -> list[web.RouteDef]:
    async def healthz(_: web.Request) -> web.Response:
        stuck = health.stuck()
        return web.Response(status=503, text=f"stuck: {', '.join(stuck)}\n") if stuck else web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        ready = health.ready.is_set()
        return web.Response(text="ok\n") if ready else web.Response(status=503, text="the caches are being filled\n")

    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


def _metrics_route(registry: CollectorRegistry) -> web.RouteDef:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return web.get("/metrics", metrics)
