"""A proxy in front of the API server or of Asset that cuts, delays, corrupts, silences or refuses what goes through it.

It speaks TLS with a certificate of its own, on loopback, and passes the caller's credentials on, so who is behind it
still decides on rights.
"""

import asyncio
import json
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final, Self

import aiohttp
from aiohttp import web

from tests.support.certificates import a_certificate

HOP_BY_HOP: Final = frozenset({"host", "connection", "transfer-encoding", "content-length", "content-encoding"})
LATE_SECONDS: Final = 2.0


class Harm(Enum):
    """What is done to a call."""

    REFUSE = auto()  # answered with an error, without asking who is behind
    DELAY = auto()
    CUT_BEFORE = auto()  # closed before anything is passed on
    CUT_AFTER = auto()  # done, and closed before the caller learns of it
    CUT_WITHIN = auto()  # closed in the middle of the answer
    CORRUPT = auto()  # the answer's bytes are altered
    SILENCE = auto()  # an answer that begins and never goes on
    GONE = auto()  # a watch that begins, and says that its version is too old: how an API server says 410


@dataclass(frozen=True)
class Call:
    """A call that comes in."""

    method: str
    path: str
    watch: bool


@dataclass(frozen=True)
class Fault:
    """What is done to it, and with which status and headers it is refused."""

    harm: Harm
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


Choose = Callable[[Call], Fault | None]


def refusal(status: int, **headers: str) -> Fault:
    """An error answer."""
    return Fault(Harm.REFUSE, status, tuple((name.replace("_", "-"), value) for name, value in headers.items()))


class Proxy:
    """Passes calls on to a server; a context manager.

    Args:
        target: The server's base URL.
        authority: The CA's certificate, where the server has one of its own.

    Attributes:
        choose: Says what is done to a call; nothing, at first. It is called in the proxy's thread.
        done: How often what was done.
        url: Where it listens, once the context is open.
        certificate: Its own, which is its authority too.
    """

    def __init__(self, target: str, authority: Path | None = None) -> None:
        self._target = target
        self._tls = ssl.create_default_context(cafile=authority) if authority else True
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy")
        self.choose: Choose = lambda _: None
        self.done: Counter[Harm] = Counter()
        self.url = ""
        self._folder = tempfile.TemporaryDirectory(prefix="asset-token-proxy-")
        own = a_certificate(Path(self._folder.name))
        self.certificate, self._context = own.path, own.context
        self._watches: set[asyncio.Transport] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._folder.cleanup()

    def cut_watches(self) -> None:
        """Close the watches that are open and not silent: they last for minutes, so new ones would be rare."""

        def cut() -> None:
            for transport in tuple(self._watches):
                transport.abort()

        self._loop.call_soon_threadsafe(cut)

    def kubeconfig(self, like: Path, folder: Path) -> Path:
        """A kubeconfig with the same rights, whose server is this proxy."""
        config = json.loads(like.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url, "certificate-authority": str(self.certificate)}
        path = folder / "proxied.kubeconfig"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return path

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._pass_on), handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        timeout = aiohttp.ClientTimeout()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._behind:
            self._ready.set()
            await self._ended.wait()
            await runner.cleanup()

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        call = Call(request.method, request.path_qs, "watch" in request.query)
        if not call.watch or request.transport is None:
            return await self._harm(request, self.choose(call))
        transport = request.transport
        self._watches.add(transport)
        try:
            return await self._harm(request, self.choose(call))
        finally:
            self._watches.discard(transport)

    async def _harm(self, request: web.BaseRequest, fault: Fault | None) -> web.StreamResponse:
        harm = fault.harm if fault else None
        if fault is not None:
            self.done[fault.harm] += 1
            if harm is Harm.REFUSE:
                return _refuse(fault)
        if harm is Harm.DELAY:
            await asyncio.sleep(LATE_SECONDS)
        if harm is Harm.CUT_BEFORE:
            return _cut(request)
        if harm is Harm.GONE:
            return web.json_response({"type": "ERROR", "object": _status(410)})
        return await self._ask(request, harm)

    async def _ask(self, request: web.BaseRequest, harm: Harm | None) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        try:
            async with self._behind.request(
                request.method,
                self._target + request.path_qs,
                headers=headers,
                data=await request.read() or None,
                skip_auto_headers=("Content-Type", "Accept", "Accept-Encoding", "User-Agent"),
                allow_redirects=False,
            ) as answer:
                if harm is Harm.CUT_AFTER:
                    await answer.read()
                    return _cut(request)
                return await self._answer(request, answer, harm)
        except (aiohttp.ClientError, OSError):
            return _cut(request)

    async def _answer(
        self, request: web.BaseRequest, answer: aiohttp.ClientResponse, harm: Harm | None
    ) -> web.StreamResponse:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            if harm is Harm.SILENCE:
                self._watches -= {request.transport}  # the silence is for the caller to notice
                await self._ended.wait()
            if harm is Harm.CUT_WITHIN:
                await response.write(chunk[: len(chunk) // 2])
                return _cut(request, response)
            await response.write(_corrupted(chunk) if harm is Harm.CORRUPT else chunk)
        return response


def _refuse(fault: Fault) -> web.Response:
    return web.json_response(_status(fault.status), status=fault.status, headers=dict(fault.headers))


def _status(code: int) -> dict[str, object]:
    """What an API server says of an error."""
    reasons = {410: "Expired", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "refused by the proxy",
        "reason": reasons.get(code, ""),
        "code": code,
    }


def _cut(request: web.BaseRequest, response: web.StreamResponse | None = None) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


def _corrupted(chunk: bytes) -> bytes:
    """The same with every 40th byte altered, beginning with the tenth."""
    altered = bytearray(chunk)
    for index in range(min(10, len(altered) - 1), len(altered), 40):
        altered[index] ^= 0x55
    return bytes(altered)
