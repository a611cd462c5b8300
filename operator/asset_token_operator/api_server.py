"""The API server over HTTP: calls, and watches.

Plain JSON goes in and out, and the transport is aiohttp's alone, which saves the cost of a client's models (most of a
call's CPU). Each failure becomes one of our errors here, in our own words: what the API server, a webhook or the
kubeconfig's loader says may hold a Secret.

Watches and the Lease never wait for a connection that a call has: what holds a connection for minutes, or must not be
late, has connections of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import aiohttp
from aiohttp.http import HttpProcessingError

from asset_token_operator import kubeconfig
from asset_token_operator.admission import find_denial
from asset_token_operator.answers import read_date, read_object
from asset_token_operator.api_answers import check, read_beginning
from asset_token_operator.causes import cause_of
from asset_token_operator.errors import AGAIN, KubeError, KubeUnavailableError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from datetime import datetime

    from asset_token_operator.kubeconfig import Access

T = TypeVar("T")

logger = logging.getLogger(__name__)

MERGE_PATCH: Final = "application/merge-patch+json"

TIMEOUT_SECONDS: Final = 15.0
"""For a call that only reads, and until a watch begins."""

WRITE_SECONDS: Final = 35.0
"""For one that writes: the API server gives its webhooks 34 s in all. One that is cut off may be made all the same."""

CONNECTIONS: Final = 200
"""For calls, more than there can be at once (`bulkhead.py`). Watches and the Lease have as many as they need."""

ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
"""YAML refuses these as they are, or folds them as line breaks; it knows no surrogates, so all else goes as it is."""

LARGEST_OBJECT: Final = 20 * 2**20
"""Bytes of an answer. The API server takes requests of 3 MiB, and in JSON a byte may become six, as an escape."""

LONGEST_REFUSAL: Final = 2**18
"""Bytes of an answer that is none; a 422 has a cause for each field that it blames."""

SILENCE_SECONDS: Final = 90.0
"""A watch with bookmarks says something every minute, if it is alive."""

LOOK_EVERY_SECONDS: Final = 10.0
"""How often it is looked at most whether the kubeconfig says something else, while no connection can be had."""


class ApiClient:
    """Makes calls, and follows watches. Open it with `async with`."""

    def __init__(self, access: Access, heard: Callable[[datetime], None] = lambda _: None) -> None:
        self._access = access
        self._heard = heard
        self._calls = access.session(CONNECTIONS)
        self._others = access.session(0)
        self._looked_at = 0.0
        self._look: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, heard: Callable[[datetime], None] = lambda _: None) -> Self:
        """Read how to reach the API server; nothing is sent yet.

        Args:
            heard: Called with the `Date` of each answer.

        Raises:
            KubeUnavailableError: It can't be read.
        """
        return cls(await kubeconfig.load(), heard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])
        await self._calls.close()
        await self._others.close()

    def host(self) -> str:
        """The API server's name and port, as people are told of it."""
        return self._access.host

    def fingerprint(self) -> str:
        """Differs where the API server is reached another way than before."""
        return self._access.fingerprint

    async def call(  # noqa: PLR0913 - what a request consists of
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], T],
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        largest: int | None = None,
        waits: bool = True,
    ) -> T:
        """Make a call; every failure leaves as a `KubeError`, none with a body's text.

        Args:
            method: The HTTP method.
            path: The path.
            read: Makes of the answer what the caller wants of it.
            query: The query.
            body: The body, as plain JSON.
            content_type: The body's type.
            accept: The answer's.
            largest: How many bytes the answer may have; None for as many as an object may.
            waits: Whether it may wait for a connection, if all are in use.
        """
        what = f"{method} {path}"
        data = None if body is None else _write_object(body)
        request = {"params": query, "data": data, "headers": {"Accept": accept, "Content-Type": content_type}}
        with _as_kube_errors(what, self._access.host):
            async with asyncio.timeout(TIMEOUT_SECONDS if method == "GET" else WRITE_SECONDS):
                access = self._access
                response, content = await self._exchange(method, path, request, largest, waits=waits)
                if response.status == HTTPStatus.UNAUTHORIZED and find_denial(read_object(content) or {}) is None:
                    if self._access is access:  # else it was, for another that was refused with the same
                        await self._look_anew()
                    if self._access.server == access.server:  # nothing that was meant for it goes elsewhere
                        response, content = await self._exchange(method, path, request, largest, waits=waits)
            answer = read_object(content) or read_beginning(content)
            check(what, response.status, response.headers, answer)
            return read(answer)

    async def stream(
        self, path: str, read: Callable[[dict[str, Any]], T], query: Mapping[str, str], accept: str
    ) -> AsyncIterator[T]:
        """The events of a watch, until it ends or nothing comes for longer than the API server's bookmarks take."""
        what = f"watch {path}"
        with _as_kube_errors(what, self._access.host):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._send("GET", path, {"params": query, "headers": {"Accept": accept}}, waits=False)
                if response.status != HTTPStatus.OK:
                    check(what, response.status, response.headers, read_object(await _read_answer(response)) or {})
            try:
                while line := await _read_line(response):
                    yield read(read_object(line) or {})
            finally:
                _cut(response)

    async def _exchange(
        self, method: str, path: str, request: Mapping[str, Any], largest: int | None, *, waits: bool
    ) -> tuple[aiohttp.ClientResponse, bytes]:
        async with await self._send(method, path, request, waits=waits) as response:
            date = read_date(response.headers.get("Date"))
            if date is not None:
                self._heard(date)
            return response, await _read_answer(response, largest)

    async def _send(self, method: str, path: str, request: Mapping[str, Any], *, waits: bool) -> aiohttp.ClientResponse:
        access, session = self._access, self._calls if waits else self._others
        headers = await access.headers() | request["headers"]
        try:
            # What is sent may hold a Secret, so it goes nowhere else.
            return await session.request(
                method, access.server + path, allow_redirects=False, **{**request, "headers": headers}
            )
        except aiohttp.ClientConnectorError:
            now = asyncio.get_running_loop().time()
            if now >= self._looked_at + LOOK_EVERY_SECONDS:
                self._looked_at = now
                await self._look_anew()
            raise
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            raise aiohttp.ClientConnectionError("the session was replaced while a connection was waited for") from None

    async def _look_anew(self) -> None:
        """Read again how to reach the API server: once for all who wait for it, and longer than a call may wait."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._load_anew())
        await asyncio.wait([self._look])  # which goes on where whoever waits for it ends

    async def _load_anew(self) -> None:
        """Log in, too, where that is how; go on with what was found, if it is something else."""
        try:
            access = await kubeconfig.load()
        except KubeError:  # it is being written, for instance
            return
        is_another = access.fingerprint != self._access.fingerprint
        self._access = access
        if is_another:
            logger.info("the API server is reached another way now: its address, CA or our certificate changed")
            before = (self._calls, self._others)
            self._calls, self._others = access.session(CONNECTIONS), access.session(0)
            for session in before:
                await session.close()


def _is_cancelled() -> bool:
    """Whether the present task itself shall end, and not only something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextlib.contextmanager
def _as_kube_errors(what: str, host: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, RuntimeError, AssertionError) as error:
        # The last two are how aiohttp says that a session was closed, which happens when it is replaced.
        why = cause_of(error, "the connection broke")
        raise KubeUnavailableError(f"{what}: no answer from the API server at {host}: {why}; {AGAIN}.") from None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError):
        raise KubeUnavailableError(f"{what}: the API server's answer makes no sense; {AGAIN}.") from None


def _cut(response: aiohttp.ClientResponse) -> None:
    """End a watch's connection at once: closing it in order would go on in the background, after the loop's end too."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _read_answer(response: aiohttp.ClientResponse, largest: int | None = None) -> bytes:
    """All of it, but of a refusal only what one may have: what stands in front may send a page without an end."""
    is_refusal = response.status >= HTTPStatus.MULTIPLE_CHOICES
    body, largest = bytearray(), LONGEST_REFUSAL if is_refusal else largest or LARGEST_OBJECT
    while len(body) < largest and (more := await response.content.read(largest - len(body))):
        body += more
    if not response.content.at_eof():
        response.close()
        if not is_refusal:
            raise TooLargeError(f"The API server's answer is larger than {largest} bytes; {AGAIN}.")
    return bytes(body)


async def _read_line(response: aiohttp.ClientResponse) -> bytes:
    async with asyncio.timeout(SILENCE_SECONDS):
        line: bytes = await response.content.readline(max_line_length=LARGEST_OBJECT)
        return line


def _write_object(body: Mapping[str, Any]) -> bytes:
    """A JSON object that is the same as YAML, as which the API server reads an apply."""
    text = json.dumps(body, ensure_ascii=False)
    return ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
