"""kopf, which watches AssetTokens, and tells what it sees. The only importer of kopf.

It runs in a thread of its own, with an event loop of its own, as its documentation proposes for an operator that is
more than kopf: when it ends, at an answer that it can't bear, it cancels all that its loop does, and so nothing of
ours; it takes no signals; and while it reads a list of many thousands the Lease is renewed.

Only its low-level handler is used: its timers and daemons put a finalizer on every object, its create and update
handlers an annotation, and its indices cost the square of the number of objects (docs/adr/0008).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import threading
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Protocol

import kopf
import uvloop

from asset_token_operator import kubeconfig
from asset_token_operator.causes import cause_of
from asset_token_operator.model import GROUP, PLURAL, VERSION, Key
from asset_token_operator.parsing import SpecError, parse_asset_token

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import aiohttp

    from asset_token_operator.model import AssetToken

logger = logging.getLogger(__name__)

WATCH_SECONDS: Final = 300
"""How long one watch request lasts, so that one that went silent ends."""

PAGE: Final = 100
"""AssetTokens a page of a list: kopf holds a task and a queue for each until it has come round."""

IDLE_SECONDS: Final = 0.2
"""How long kopf keeps the task and the queue of an AssetToken that nothing happens to any more."""

CONNECT_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 30.0
"""For a page of a list; kopf's own five minutes are how late it would be after a connection that nobody answers."""

AGAIN_SECONDS: Final = 1.0
"""After a login that failed, or an error in kopf, whose own delays go up to a minute, and to ten; and from one watch of
a scope to the next: where each ends as it begins, kopf begins thousands a second."""

COLLECTION: Final = re.compile(rf"(?:/.*)?/apis/{re.escape(GROUP)}/{VERSION}(?:/namespaces/([^/]+))?/{PLURAL}")


class Observer(Protocol):
    """Who is told what kopf does and sees, in its own event loop."""

    def asked(self, scope: str | None = None) -> None:
        """A request is about to be sent, for a scope's AssetTokens unless it is for what all of them need."""

    def watching(self, scope: str, *, listed: bool) -> None:
        """The AssetTokens of a scope are watched; before that they may have been listed."""

    def refused(self, scope: str, status: int) -> None:
        """The API server refused to list or watch a scope's AssetTokens."""

    def unreachable(self, scope: str, error: str) -> None:
        """The API server couldn't be reached: where, and why."""

    def saw(self, token: AssetToken) -> None:
        """An AssetToken is there, in that state."""

    def saw_deleted(self, key: Key, version: int) -> None:
        """An AssetToken was deleted."""

    def saw_unreadable(self, key: Key, version: int, error: str) -> None:
        """An AssetToken is there that can't be read."""


class Backoffs:
    """Seconds between two tries to reach the API server.

    kopf's own give up after a minute, which ends it, and grow to 21 s, which is how late it would be after an outage.
    """

    def __iter__(self) -> Iterator[float]:
        """For one call."""
        return itertools.chain((0.5, 1.0), itertools.repeat(2.0))


class NoEssence(kopf.DiffBaseStorage):
    """What an object was like when its handlers succeeded last: no handler of ours asks, so nothing is compared."""

    def build(self, **_: object) -> Any:  # noqa: ANN401 - kopf's own type isn't public
        """Nothing is an object's essence."""
        return {}

    def fetch(self, **_: object) -> None:
        """Nothing was kept."""

    def store(self, **_: object) -> None:
        """Nothing is kept."""


def kopf_settings(selector: str | None = None) -> kopf.OperatorSettings:
    """How kopf shall behave: watch what is ours, write nothing, need no more rights than that, and not end us."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.networking.error_backoffs = Backoffs()
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.process.ultimate_exiting_timeout = None  # it would kill the process ten minutes after kopf's end
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.queueing.error_delays = [AGAIN_SECONDS]
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.reconnect_backoff = AGAIN_SECONDS
    settings.watching.chunk_size = PAGE
    settings.persistence.diffbase_storage = NoEssence()
    if selector is not None:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = selector
    return settings


class KopfThread:
    """One run of kopf. It can't be started twice.

    Args:
        namespaces: What it watches; none means all.
        observer: Told what it does and sees.
        loop: The observer's event loop.
        selector: Which AssetTokens it watches, by their labels; None for all. The API server tells of one that no
            longer fits as of one that was deleted.
    """

    def __init__(
        self,
        namespaces: Sequence[str],
        observer: Observer,
        loop: asyncio.AbstractEventLoop,
        selector: str | None = None,
    ) -> None:
        self._namespaces = namespaces
        self._selector = selector
        self._observer = observer
        self._loop = loop
        self._listing: set[str] = set()
        self._watched: dict[str, float] = {}
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._stopped = False
        self._session: aiohttp.ClientSession | None = None
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)
        self.ended = asyncio.Event()
        """Set, in the observer's event loop, when it has ended."""

    def start(self) -> None:
        """Start it."""
        self._thread.start()

    def stop(self) -> None:
        """Let it end, soon; it tells nothing more but that."""
        self._stopped = True
        if self._stop is not None:
            loop, event = self._stop
            with contextlib.suppress(RuntimeError):  # it has ended, and its loop
                loop.call_soon_threadsafe(event.set)

    def _run(self) -> None:
        try:
            uvloop.run(self._watch())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it stumbled over; its text may quote that
            logger.info("the watch of AssetTokens broke (%s) and is begun anew", cause_of(error))
        finally:
            self._tell(self.ended.set)

    async def _watch(self) -> None:
        stop = asyncio.Event()
        self._stop = (asyncio.get_running_loop(), stop)
        if self._stopped:  # before it was there to be told
            return
        tasks = await kopf.spawn_tasks(
            registry=self._registry(),
            settings=kopf_settings(self._selector),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
        )
        try:
            # All that runs in this loop is kopf's, and is cancelled when it ends. kopf's own way to end waits 5 s.
            ended, _ = await asyncio.wait({*tasks, asyncio.ensure_future(stop.wait())}, return_when="FIRST_COMPLETED")
            for task in ended:
                task.result()
        finally:
            if self._session is not None:
                await self._session.close()

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, backoff=AGAIN_SECONDS)
        async def login(**_: object) -> kopf.AiohttpSession:
            if self._session is not None:  # it was refused, and kopf would ask again as fast as it can
                await asyncio.sleep(AGAIN_SECONDS)
            access = await kubeconfig.load()
            self._session = access.session(0, await access.headers(), self._listen)
            return kopf.AiohttpSession(server=access.server, aiohttp_session=self._session)

        @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
        async def asset_token_changed(event: Mapping[str, Any], **_: object) -> None:
            self._see(event["object"], deleted=event["type"] == "DELETED")

        return registry

    def _see(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        metadata = body["metadata"]
        key, version = Key(metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])
        if deleted:
            self._tell(self._observer.saw_deleted, key, version)
            return
        try:
            self._tell(self._observer.saw, parse_asset_token(body))
        except SpecError as error:
            self._tell(self._observer.saw_unreadable, key, version, str(error))

    def _listen(self, traces: aiohttp.TraceConfig) -> None:
        """Hear of each request that kopf makes."""

        async def started(_: object, __: object, request: aiohttp.TraceRequestStartParams) -> None:
            scope = _scope(request.url.path)
            self._tell(self._observer.asked, scope)
            if scope is not None and "watch" not in request.url.query:
                self._listing.add(scope)
            elif scope is not None:
                now = asyncio.get_running_loop().time()
                at = self._watched[scope] = max(now, self._watched.get(scope, 0) + AGAIN_SECONDS)
                await asyncio.sleep(at - now)

        async def answered(_: object, __: object, request: aiohttp.TraceRequestEndParams) -> None:
            scope = _scope(request.url.path)
            if scope is None:
                return
            if request.response.status != HTTPStatus.OK:
                self._tell(self._observer.refused, scope, request.response.status)
            elif "watch" in request.url.query:
                self._tell(self._observer.watching, scope, listed=scope in self._listing)
                self._listing.discard(scope)

        async def failed(_: object, __: object, request: aiohttp.TraceRequestExceptionParams) -> None:
            scope = _scope(request.url.path)
            if scope is not None and not isinstance(request.exception, asyncio.CancelledError):
                why = cause_of(request.exception, "the connection broke")
                self._tell(self._observer.unreachable, scope, f"{request.url.host}:{request.url.port}: {why}")

        traces.on_request_start.append(started)
        traces.on_request_end.append(answered)
        traces.on_request_exception.append(failed)

    def _tell(self, what: Any, *given: object, **named: object) -> None:  # noqa: ANN401 - a method of the observer
        if self._stopped and what != self.ended.set:
            return
        with contextlib.suppress(RuntimeError):  # the operator has ended, and its loop
            self._loop.call_soon_threadsafe(partial(what, *given, **named))


def _scope(path: str) -> str | None:
    """Of which namespace's AssetTokens a request is; empty for all, None for a request of something else."""
    match = COLLECTION.fullmatch(path)
    return None if match is None else match[1] or ""
