"""The HTTP server of probes and metrics: where it listens, and how many connections it bears.

aiohttp serves; it has no bound for connections, and waits for ever for a client that doesn't read. Anybody in the
cluster may connect, and the kubelet's probe must get through all the same: so who comes is let in, and who has been
silent for longest is let go of.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web

from asset_token_operator.causes import cause_of
from asset_token_operator.config import EVERYWHERE, Address
from asset_token_operator.errors import ListenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp.typedefs import Handler

logger = logging.getLogger(__name__)

CONNECTIONS: Final = 128
"""How many there may be at once, at one address."""

SILENCE_SECONDS: Final = 12.0
"""How long one may send no whole request, or read nothing of its answer. Nobody scrapes as often."""

ANSWER_SECONDS: Final = 30.0
"""How long one may read an answer in all. Prometheus gives a scrape up 10 s after it asked."""

NO_SUCH_FAMILY: Final = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})
"""How a kernel says that IPv6, or IPv4, is off."""


@asynccontextmanager
async def listening(address: Address, routes: list[web.RouteDef]) -> AsyncIterator[None]:
    """Serve this there as long as the context is open.

    Raises:
        ListenError: The address can't be listened on.
    """
    connections = Connections()
    app = web.Application(middlewares=[connections.answer])
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    async with AsyncExitStack() as stack:
        listeners = await _listeners(address)
        for listener in listeners:
            stack.callback(listener.close)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        make = partial(_connect, cast("web.Server", runner.server), connections)
        for listener in listeners:
            server = await asyncio.get_running_loop().create_server(make, sock=listener)
            stack.callback(server.close)
            logger.info("listens on %s for %s", _name(listener), " ".join(route.path for route in routes))
        yield


def _connect(aiohttps: web.Server, connections: Connections) -> _Connection:
    return _Connection(aiohttps(), connections)


class Connections:
    """Those that are open at an address, those first of which nothing was heard for longest."""

    def __init__(self) -> None:
        self._open: dict[asyncio.BaseTransport | None, _Connection] = {}

    def add(self, transport: asyncio.BaseTransport, connection: _Connection) -> None:
        """One that was just made. Where there are too many another one ends, rather one that isn't being answered."""
        if len(self._open) >= CONNECTIONS:
            silent = (one for one in self._open.values() if not one.answering)
            next(silent, next(iter(self._open.values()))).end()
        self._open[transport] = connection

    def remove(self, transport: asyncio.BaseTransport) -> None:
        """It ends."""
        self._open.pop(transport, None)

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request; aiohttp writes the answer afterwards."""
        transport = request.transport
        connection = self._open.get(transport)
        if connection is None:  # it has ended meanwhile
            return await handler(request)
        connection.begin_answer()
        try:
            return await handler(request)
        finally:
            if transport in self._open:
                self._open[transport] = self._open.pop(transport)
                connection.end_answer()


class _Connection(asyncio.Protocol):
    """One of them, which hands all that happens on to aiohttp.

    Attributes:
        answering: Whether a request is being answered.
    """

    def __init__(self, handler: web.RequestHandler, connections: Connections) -> None:
        self.answering = False
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread = math.inf
        self._reads = False
        self._until = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(transport, self)
        self._wait()
        self._handler.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._handler.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._reads = True
        self._handler.resume_writing()

    def begin_answer(self) -> None:
        """A request is there, and takes us as long as it takes."""
        self.answering = True
        self._cancel()

    def end_answer(self) -> None:
        """The answer is to be read now, and another request may come."""
        self.answering = False
        self._unread, self._reads = math.inf, False
        self._until = asyncio.get_running_loop().time() + ANSWER_SECONDS
        self._wait()

    def end(self) -> None:
        """End it at once: closing it in order would wait for who doesn't read."""
        transport = self._transport
        self._forget()
        if transport is not None:
            transport.abort()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(min(loop.time() + SILENCE_SECONDS, self._until), self._look)

    def _look(self) -> None:
        """Go on where some of an answer was read, if slowly; nothing else takes so long."""
        unread = 0 if self._transport is None else self._transport.get_write_buffer_size()
        if asyncio.get_running_loop().time() < self._until and (self._reads or 0 < unread < self._unread):
            self._unread, self._reads = unread, False
            self._wait()
        else:
            self.end()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _forget(self) -> None:
        self._cancel()
        if self._transport is not None:
            self._connections.remove(self._transport)
        self._transport = None


async def _listeners(address: Address) -> list[socket.socket]:
    """Sockets that listen there: one for all addresses, or one for each that a name has.

    Raises:
        ListenError: There is none.
    """
    try:
        if address.host == EVERYWHERE:
            return [_everywhere(address.port)]
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return _one_for_each([(family, where) for family, _, _, _, where in found])
    except OSError as error:
        why = cause_of(error, (error.strerror or "an unexpected error").lower())
        raise ListenError(f"{address} can't be listened on: {why}; choose another.") from None
    except UnicodeError:
        raise ListenError(f"{address} can't be listened on: no name that DNS can have; choose another.") from None


def _everywhere(port: int) -> socket.socket:
    """One for IPv6 and IPv4, or for IPv4 alone where the kernel has no IPv6."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in NO_SUCH_FAMILY:
                raise
    return socket.create_server(("", port))


def _one_for_each(wanted: list[tuple[socket.AddressFamily, tuple[Any, ...]]]) -> list[socket.socket]:
    """A name may have an address of a family that the kernel hasn't, such as localhost."""
    with ExitStack() as stack:
        listeners: list[socket.socket] = []
        for family, where in wanted:
            try:
                listeners.append(stack.enter_context(socket.create_server(where, family=family)))
            except OSError as error:
                last = (family, where) == wanted[-1]
                if error.errno not in NO_SUCH_FAMILY or (last and not listeners):
                    raise
        stack.pop_all()
        return listeners


def _name(listener: socket.socket) -> Address:
    host, port, *_ = listener.getsockname()
    return Address(host, port)
