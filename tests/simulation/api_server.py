"""The way from an operator to the API server: how long it takes, and how it fails.

`Connection` has the methods of `ApiServer`, so `KubeClient`, `Leadership` and `SecretReflector` are the operator's own.
`ModelKopf` has those of `KopfThread`, so `AssetTokenWatch` is, too.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asset_token_operator.api_server import WRITE_SECONDS
from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError
from asset_token_operator.model import Key
from asset_token_operator.parsing import parse_asset_token
from tests.simulation.cluster import ASSET_TOKENS, DISCOVERY, SECRETS, Change, Request
from tests.simulation.virtual_time import Machine, present, seconds

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from asset_token_operator.handlers import Observer
    from tests.simulation.cluster import Cluster

T = TypeVar("T")

BOOKMARK_SECONDS: Final = 55.0
WATCH_SECONDS: Final = 300.0
RECONNECT_SECONDS: Final = 0.5
LATE_WRITES: Final = 0.5
"""How many of the writes whose answer is lost are made all the same."""

CONNECTION: ContextVar[Connection] = ContextVar("connection")
"""Of the operator whose task runs."""


@dataclass
class Conditions:
    """How it is with the API server now, for everybody.

    Attributes:
        latency: Seconds for a call, on the average.
        is_down: Whether it can't be reached.
        denies: Whether a webhook denies Secrets.
        webhook_seconds: How long a webhook takes for a Secret; beyond 35 s the answer is lost.
        watch_lag: Seconds by which watches are late.
        breaks: How often all watches were broken.
        repeats: Whether watches tell everything twice.
    """

    latency: float = 0.01
    is_down: bool = False
    denies: bool = False
    webhook_seconds: float = 0.0
    watch_lag: float = 0.02
    breaks: int = 0
    repeats: bool = False


class Connection:
    """How one operator reaches the API server."""

    def __init__(
        self,
        cluster: Cluster,
        conditions: Conditions,
        machine: Machine,
        chance: random.Random,
        heard: Callable[[datetime], None],
    ) -> None:
        self.cluster = cluster
        self._heard = heard
        self.conditions = conditions
        self.machine = machine
        self._chance = chance

    def fingerprint(self) -> str:
        """It is always reached the same way."""
        return "the cluster"

    async def call(
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], T],
        *,
        query: Mapping[str, str] | None = None,  # noqa: ARG002 - as the real one
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",  # noqa: ARG002 - as the real one
        accept: str = "application/json",  # noqa: ARG002 - as the real one
        waits: bool = True,  # noqa: ARG002 - as the real one
        largest: int | None = None,  # noqa: ARG002 - as the real one
    ) -> T:
        """Make a call."""
        await self.travel()
        if path == DISCOVERY:
            return read({"resources": [{"name": ASSET_TOKENS}]})
        request = Request.parse(method, path, body)
        if request.is_write_of_secret():
            await self._pass_webhook(request)
        answer = self.cluster.answer(request)
        date = present().replace(microsecond=0)
        await self.travel()
        self._heard(date)
        return read(answer)

    async def travel(self) -> None:
        """Half of the way to the API server and back.

        Raises:
            KubeUnavailableError: It is down.
        """
        await self.machine.awake()
        await asyncio.sleep(self.conditions.latency * self._chance.uniform(0.25, 0.75))
        await self.machine.awake()
        if self.conditions.is_down:
            raise KubeUnavailableError("no answer from the API server (ClientConnectorError).")

    async def _pass_webhook(self, request: Request) -> None:
        """What stands before each write of a Secret; where nobody waits any more, the write is made or not."""
        takes = self.conditions.webhook_seconds
        await asyncio.sleep(min(takes, WRITE_SECONDS))
        if takes > WRITE_SECONDS:
            if self._chance.random() < LATE_WRITES:
                asyncio.get_running_loop().call_later(takes - WRITE_SECONDS, self._write_late, request)
            raise KubeUnavailableError("no answer from the API server (TimeoutError).")
        if self.conditions.denies:
            raise KubeRefusedError("the API server refused with 403 Forbidden.", 403)

    def _write_late(self, request: Request) -> None:
        with suppress(KubeRefusedError):
            self.cluster.answer(request)

    async def stream(
        self,
        path: str,
        read: Callable[[dict[str, Any]], T],
        query: Mapping[str, str],
        accept: str,  # noqa: ARG002 - as the real one
    ) -> AsyncIterator[T]:
        """The events of a watch of Secrets."""
        await self.travel()
        namespace = Request.parse("GET", path, None).namespace
        async for change in self.changes(SECRETS, namespace, int(query["resourceVersion"])):
            yield read({"type": change.type, "object": change.body})

    async def changes(self, kind: str, namespace: str, since: int) -> AsyncIterator[Change]:
        """What a watch tells, until it ends or breaks.

        Raises:
            KubeUnavailableError: It broke.
            KubeRefusedError: What happened since isn't known any more.
        """
        conditions, breaks, ends = self.conditions, self.conditions.breaks, seconds() + WATCH_SECONDS
        with self._news() as news:
            while seconds() < ends:
                news.clear()
                await self.machine.awake()
                if conditions.is_down or conditions.breaks != breaks:
                    raise KubeUnavailableError("the watch broke (ClientPayloadError).")
                found = self.cluster.changes_since(since)
                if found is None:
                    raise KubeRefusedError("The watch is too old.", 410)
                since = max(since, self.cluster.version)
                for change in found:
                    if change.kind == kind and namespace in ("", change.body["metadata"]["namespace"]):
                        yield change
                        if conditions.repeats:
                            yield change
                try:
                    async with asyncio.timeout(BOOKMARK_SECONDS):
                        await news.wait()
                except TimeoutError:
                    yield Change(since, kind, "BOOKMARK", {"metadata": {"resourceVersion": str(since)}})
                await asyncio.sleep(conditions.watch_lag * self._chance.uniform(0.5, 1.5))

    @contextmanager
    def _news(self) -> Iterator[asyncio.Event]:
        news = asyncio.Event()
        self.cluster.watch(news)
        try:
            yield news
        finally:
            self.cluster.unwatch(news)


class ModelKopf:
    """Tells what kopf would: the list first, then what changes, and all of it again when it has to list anew."""

    def __init__(
        self, namespaces: Sequence[str], observer: Observer, loop: asyncio.AbstractEventLoop, _selector: str | None
    ) -> None:
        self._scopes = tuple(namespaces) or ("",)
        self._observer = observer
        self._loop = loop
        self._connection = CONNECTION.get()
        self._tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()

    def start(self) -> None:
        self._tasks = [self._loop.create_task(self._follow(scope)) for scope in self._scopes]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.ended.set()

    async def _follow(self, scope: str) -> None:
        since = 0
        while True:
            self._observer.asked()
            try:
                was_listed = since == 0
                if was_listed:
                    since = await self._list(scope)
                await self._connection.travel()
                self._observer.watching(scope, listed=was_listed)
                async for change in self._connection.changes(ASSET_TOKENS, scope, since):
                    since = change.version
                    self._see(change)
            except KubeRefusedError:
                since = 0
            except KubeError as error:
                self._observer.unreachable(scope, type(error).__name__)
            await asyncio.sleep(RECONNECT_SECONDS)

    async def _list(self, scope: str) -> int:
        await self._connection.travel()
        version = self._connection.cluster.version
        listed = self._connection.cluster.all(ASSET_TOKENS, scope)
        await self._connection.travel()
        for body in listed:
            self._observer.saw(parse_asset_token(body))
        return version

    def _see(self, change: Change) -> None:
        if change.type == "DELETED":
            metadata = change.body["metadata"]
            self._observer.saw_deleted(Key(metadata["namespace"], metadata["name"]), change.version)
        elif change.type != "BOOKMARK":
            self._observer.saw(parse_asset_token(change.body))
