"""What kopf is allowed to do, and what it tells of what it does and sees."""

import asyncio
import gc
import io
import itertools
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import pytest
from aiohttp import web

from asset_token_operator import handlers
from asset_token_operator.handlers import KopfThread, kopf_settings
from asset_token_operator.logs import configure_logging
from asset_token_operator.model import AssetToken, Key
from asset_token_operator.parsing import parse_asset_token
from tests.support.api_server import Answer, a_kubeconfig, an_api_server, answering, forget_settings
from tests.support.clock import settle
from tests.support.loggers import loggers_of_its_own

WRITER = Key("shop", "ledger-writer")
ALL = "/apis/auth.getasset.com/v1alpha1/assettokens"
SHOP = "/apis/auth.getasset.com/v1alpha1/namespaces/shop/assettokens"


class Observed:
    """An observer that notes what it is told, in which thread, and for which scopes requests are made."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.scopes: list[str | None] = []
        self.threads: set[int] = set()
        self._news = asyncio.Event()

    def _note(self, *what: Any) -> None:
        self.told.append(what)
        self.threads.add(threading.get_ident())
        self._news.set()

    async def hears(self, what: tuple[Any, ...], times: int = 1) -> None:
        """Wait until it was told that so often."""
        async with asyncio.timeout(10):
            while self.told.count(what) < times:
                self._news.clear()
                await self._news.wait()

    def asked(self, scope: str | None = None) -> None:
        self.scopes.append(scope)
        self._note("asked")

    def watching(self, scope: str, *, listed: bool) -> None:
        self._note("watching", scope, listed)

    def refused(self, scope: str, status: int) -> None:
        self._note("refused", scope, status)

    def unreachable(self, scope: str, error: str) -> None:
        self._note("unreachable", scope, error)

    def saw(self, token: AssetToken) -> None:
        self._note("saw", token)

    def saw_deleted(self, key: Key, version: int) -> None:
        self._note("saw_deleted", key, version)

    def saw_unreadable(self, key: Key, version: int, error: str) -> None:
        self._note("saw_unreadable", key, version, error)

    def news(self) -> list[tuple[Any, ...]]:
        """What it was told since it was asked last, besides that requests are made."""
        told, self.told = [what for what in self.told if what != ("asked",)], []
        return told


@pytest.fixture
def observer() -> Observed:
    return Observed()


@pytest.fixture
async def thread(observer: Observed) -> KopfThread:
    return KopfThread([], observer, asyncio.get_running_loop())


def registry_of(thread: KopfThread) -> Any:
    """Untyped, as kopf shows what was registered nowhere."""
    return thread._registry()  # noqa: SLF001 - kopf calls what is in there, and nobody else can


def handlers_of(registry: Any, kind: str) -> list[Any]:
    handlers: Iterable[Any] = getattr(registry, kind).get_all_handlers()
    return list(handlers)


def a_body(**changes: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": "ledger-writer",
            "uid": "uid-of-ledger-writer",
            "generation": 1,
            "creationTimestamp": "2026-05-01T12:00:00Z",
            "resourceVersion": "7",
        },
        "spec": {"environment": "sandbox", "credentialsSecretRef": {"name": "asset-credentials"}},
        **changes,
    }


# What is registered, and the settings


async def test_registers_nothing_but_one_low_level_handler_and_the_login(thread: KopfThread) -> None:
    """No timers or daemons (a finalizer), no create, update, resume or delete handlers (an annotation), no indices."""
    registry = registry_of(thread)

    (watching,) = handlers_of(registry, "_watching")
    assert (watching.selector.group, watching.selector.version) == ("auth.getasset.com", "v1alpha1")
    assert watching.selector.any_name == "assettokens"
    (activity,) = handlers_of(registry, "_activities")
    assert activity.activity.value == "authentication"
    for kind in ("_indexing", "_spawning", "_changing", "_webhooks"):
        assert handlers_of(registry, kind) == []


def test_kopf_posts_and_scans_nothing_and_writes_nothing() -> None:
    settings = kopf_settings()

    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.admission.server is None
    assert settings.admission.managed is None


def test_kopf_asks_the_api_server_for_what_is_selected() -> None:
    asset_tokens = kopf.Resource("auth.getasset.com", "v1alpha1", "assettokens")

    def selectors(given: str | None) -> list[str]:
        return list(kopf_settings(given).watching.label_selectors.collect(asset_tokens))

    assert selectors("team=ledger") == ["team=ledger"]
    assert selectors(None) == []


def test_kopf_compares_nothing_and_keeps_nothing_of_an_object() -> None:
    storage = kopf_settings().persistence.diffbase_storage
    body = kopf.Body({"spec": {"a": 1}})
    patch = kopf.Patch()
    storage.store(body=body, patch=patch, essence=kopf.BodyEssence({}))

    assert storage.build(body=body) == {}
    assert storage.fetch(body=body) is None
    assert patch == {}


def test_kopf_does_not_kill_the_process() -> None:
    """It would with SIGKILL, ten minutes after it was stopped, and nothing of ours ends then."""
    assert kopf_settings().process.ultimate_exiting_timeout is None


def test_kopf_pages_its_lists_and_ends_each_watch_in_time() -> None:
    settings = kopf_settings()

    assert settings.watching.server_timeout == 300
    assert settings.watching.inactivity_timeout is not None, "else a watch that fell silent is waited for"
    assert settings.watching.inactivity_timeout <= 90
    assert settings.watching.chunk_size == 100
    assert not settings.watching.label_selectors, "all AssetTokens are ours"


def test_each_run_of_kopf_has_settings_of_its_own() -> None:
    """kopf writes into them."""
    assert kopf_settings() is not kopf_settings()


def test_kopf_never_gives_the_api_server_up_and_asks_it_every_two_seconds() -> None:
    backoffs = kopf_settings().networking.error_backoffs
    assert isinstance(backoffs, Iterable)

    assert list(itertools.islice(backoffs, 100)) == [0.5, 1.0] + [2.0] * 98
    assert next(iter(backoffs)) == 0.5, "each call begins anew"


# What it sees


See = Callable[[str | None, dict[str, Any]], Any]


@pytest.fixture
def see(thread: KopfThread) -> See:
    """Calls the handler as kopf does."""

    async def see(kind: str | None, body: dict[str, Any]) -> None:
        (handler,) = handlers_of(registry_of(thread), "_watching")
        assert await handler.fn(type=kind, event={"type": kind, "object": body}, body=body) is None
        await settle()

    return see


@pytest.mark.parametrize(
    "kind",
    [pytest.param(None, id="listed"), pytest.param("ADDED", id="created"), pytest.param("MODIFIED", id="changed")],
)
async def test_an_asset_token_is_told_as_it_is(observer: Observed, see: See, kind: str | None) -> None:
    await see(kind, a_body())

    assert observer.told == [("saw", parse_asset_token(a_body()))]


@pytest.mark.parametrize(
    "body", [pytest.param(a_body(), id="readable"), pytest.param(a_body(spec={}), id="unreadable")]
)
async def test_a_deletion_is_told_whatever_the_object_is_like(
    observer: Observed, see: See, body: dict[str, Any]
) -> None:
    await see("DELETED", body)

    assert observer.told == [("saw_deleted", Key("shop", "ledger-writer"), 7)]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        pytest.param({"spec": {"environment": "staging"}}, "credentialsSecretRef is missing", id="a field is missing"),
        pytest.param({"spec": {}}, "credentialsSecretRef is missing", id="no fields"),
        pytest.param({"spec": None}, "a field has a value of another kind", id="no spec"),
        pytest.param(
            {"spec": a_body()["spec"] | {"environment": "staging"}},
            "'staging' is not a valid Environment",
            id="unknown environment",
        ),
        pytest.param(
            {"spec": a_body()["spec"] | {"lifetime": "soon"}},
            "'soon' is not a duration such as 1h30m or 90s",
            id="unreadable duration",
        ),
    ],
)
async def test_an_asset_token_that_cannot_be_read_is_told_with_the_reason(
    observer: Observed, see: See, changes: dict[str, Any], error: str
) -> None:
    await see("ADDED", a_body(**changes))

    assert observer.told == [("saw_unreadable", WRITER, 7, error)]


# What it asks


Serve = Callable[[Answer], AbstractAsyncContextManager[str]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Begins a stand-in for an API server, which `KUBECONFIG` names then."""
    forget_settings(monkeypatch)

    @asynccontextmanager
    async def begin(answer: Answer) -> AsyncIterator[str]:
        async with an_api_server(answer) as api:
            monkeypatch.setenv("KUBECONFIG", str(a_kubeconfig(tmp_path, api.url)))
            yield api.url

    return begin


async def log_in(thread: KopfThread) -> kopf.AiohttpSession:
    (handler,) = handlers_of(registry_of(thread), "_activities")
    info = await handler.fn()
    assert isinstance(info, kopf.AiohttpSession)
    return info


async def test_logs_in_as_the_operator_does(thread: KopfThread, serve: Serve) -> None:
    received: list[str | None] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        received.append(request.headers.get("authorization"))
        return web.json_response({})

    async with serve(answer) as url:
        info = await log_in(thread)
        async with info.aiohttp_session as session, session.get(f"{url}/version"):
            pass
        assert info.server == url
    assert received == ["Bearer canary-kube-token"]


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        pytest.param(ALL, "", id="all namespaces"),
        pytest.param(SHOP, "shop", id="one namespace"),
        pytest.param(f"/k8s/clusters/c-1{SHOP}", "shop", id="behind a path"),
    ],
)
async def test_a_watch_is_told_and_whether_it_was_listed_before(
    thread: KopfThread, observer: Observed, serve: Serve, path: str, scope: str
) -> None:
    async with serve(answering(200)) as url, (await log_in(thread)).aiohttp_session as session:

        async def get(query: str) -> None:
            async with session.get(f"{url}{path}?{query}"):
                await settle()

        await get("limit=100")
        await get("limit=100&continue=x")
        assert observer.told.count(("asked",)) == 2
        assert observer.news() == [], "it watches nothing yet"

        await get("watch=true")
        assert observer.news() == [("watching", scope, True)]
        await get("watch=true")
        assert observer.news() == [("watching", scope, False)]
        await get("limit=100")
        await get("watch=true")
        assert observer.news() == [("watching", scope, True)]


async def test_each_scope_is_listed_by_itself(thread: KopfThread, observer: Observed, serve: Serve) -> None:
    async with serve(answering(200)) as url, (await log_in(thread)).aiohttp_session as session:
        for path in (SHOP, f"{ALL}?watch=true", f"{SHOP}?watch=true"):
            async with session.get(url + path):
                await settle()

    assert observer.news() == [("watching", "", False), ("watching", "shop", True)]
    assert observer.scopes == ["shop", "", "shop"]


@pytest.mark.parametrize("query", ["limit=100", "watch=true"], ids=["list", "watch"])
@pytest.mark.parametrize("status", [401, 403, 404, 410, 429, 500], ids=str)
async def test_what_is_refused_is_told_with_its_status(
    thread: KopfThread, observer: Observed, serve: Serve, query: str, status: int
) -> None:
    async with serve(answering(status)) as url:
        info = await log_in(thread)
        async with info.aiohttp_session as session, session.get(f"{url}{SHOP}?{query}"):
            await settle()

    assert observer.news() == [("refused", "shop", status)]


async def test_a_list_that_was_refused_is_still_to_be_made_good(
    thread: KopfThread, observer: Observed, serve: Serve
) -> None:
    statuses = iter((500, 200, 403, 200))

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response({}, status=next(statuses))

    async with serve(answer) as url, (await log_in(thread)).aiohttp_session as session:
        for query in ("limit=1", "limit=1", "watch=true", "watch=true"):
            async with session.get(f"{url}{ALL}?{query}"):
                await settle()

    assert observer.news() == [("refused", "", 500), ("refused", "", 403), ("watching", "", True)]


async def test_an_api_server_that_does_not_answer_is_told_with_its_address_and_the_errors_cause(
    thread: KopfThread, observer: Observed, serve: Serve
) -> None:
    async def cut(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serve(cut) as url, (await log_in(thread)).aiohttp_session as session:
        with suppress(aiohttp.ClientError):
            await session.get(f"{url}{SHOP}?watch=true")
        await settle()

    ((what, scope, error),) = observer.news()
    assert (what, scope) == ("unreachable", "shop")
    where = url.removeprefix("http://")
    assert error == f"{where}: it closed the connection without answering", "nothing else of it is told"


async def test_that_nothing_else_is_answered_is_told_to_nobody(
    thread: KopfThread, observer: Observed, serve: Serve
) -> None:
    async def cut(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serve(cut) as url, (await log_in(thread)).aiohttp_session as session:
        with suppress(aiohttp.ClientError):
            await session.get(f"{url}/version")
        await settle()

    assert observer.news() == []


@pytest.mark.parametrize("status", [200, 404], ids=["answered", "refused"])
@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/apis/auth.getasset.com/v1alpha1", id="discovery"),
        pytest.param(f"{ALL}/ledger-writer", id="a path below"),
        pytest.param("/api/v1/namespaces/shop/secrets", id="another resource"),
        pytest.param("/apis/auth.getasset.com/v1alpha1/namespaces/a/b/assettokens", id="no namespace"),
    ],
)
async def test_what_is_no_list_of_asset_tokens_is_a_sign_of_life_and_nothing_else(
    thread: KopfThread, observer: Observed, serve: Serve, path: str, status: int
) -> None:
    async with serve(answering(status)) as url:
        info = await log_in(thread)
        async with info.aiohttp_session as session, session.get(f"{url}{path}?watch=true"):
            await settle()

    assert observer.told == [("asked",)]
    assert observer.scopes == [None]


# How often it asks


def a_cluster_of_ours(watched: bytes) -> Answer:
    """An API server that has no AssetToken and ends each watch at once, having said that."""
    name, group = "auth.getasset.com", {"groupVersion": "auth.getasset.com/v1alpha1", "version": "v1alpha1"}
    resource = {"name": "assettokens", "singularName": "assettoken", "kind": "AssetToken", "namespaced": True}
    resource |= {"verbs": ["list", "watch", "patch"], "shortNames": [], "categories": []}
    answers: dict[str, Any] = {
        "/api": {"versions": ["v1"]},
        "/api/v1": {"groupVersion": "v1", "resources": [{**resource, "name": "namespaces", "kind": "Namespace"}]},
        "/apis": {"groups": [{"name": name, "versions": [group], "preferredVersion": group}]},
        f"/apis/{name}/v1alpha1": {"groupVersion": group["groupVersion"], "resources": [resource]},
        ALL: {"kind": "AssetTokenList", "metadata": {"resourceVersion": "10"}, "items": []},
    }

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if "watch" in request.query:
            return web.Response(body=watched)
        return web.json_response(answers.get(request.path, {}))

    return answer


@pytest.mark.parametrize(
    ("watched", "listed"),
    [
        pytest.param(b"", False, id="in order"),
        pytest.param(b'{"type":"ERROR","object":{"kind":"Status","code":410}}\n', True, id="with 410"),
    ],
)
async def test_watches_that_end_as_they_begin_are_no_hot_loop(
    monkeypatch: pytest.MonkeyPatch,
    thread: KopfThread,
    observer: Observed,
    serve: Serve,
    *,
    watched: bytes,
    listed: bool,
) -> None:
    monkeypatch.setattr(handlers, "AGAIN_SECONDS", 0.3)
    async with serve(a_cluster_of_ours(watched)):
        thread.start()
        await observer.hears(("watching", "", True))
        began = asyncio.get_running_loop().time()
        await observer.hears(("watching", "", listed), 4 if listed else 3)
        thread.stop()
        await end_of(thread)

    assert asyncio.get_running_loop().time() - began > 0.8


# What it logs of what it was answered

PAGE = b"<html>canary-in-a-page" + b"x" * 100_000
LONG = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "canary-in-a-status" * 10_000}


Log = Callable[[], str]


@pytest.fixture(params=["debug", "info"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    """What was logged, at a level."""
    with loggers_of_its_own():
        configure_logging(request.param, "text")
        (handler,) = logging.root.handlers
        assert isinstance(handler, logging.StreamHandler)
        handler.setStream(io.StringIO())

        def logged() -> str:
            gc.collect()  # asyncio tells of an error that nobody asked for when its task is thrown away
            return str(handler.stream.getvalue())

        yield logged


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(503, PAGE, id="a load balancer's page"),
        pytest.param(403, PAGE, id="a firewall's page"),
        pytest.param(200, PAGE, id="a portal's page"),
        pytest.param(407, PAGE, id="a proxy's page"),
        pytest.param(403, LONG, id="a refusal"),
        pytest.param(500, {**LONG, "code": 500}, id="a failure"),
        pytest.param(429, {**LONG, "code": 429}, id="too many requests"),
        pytest.param(200, LONG, id="a status for an answer"),
    ],
)
async def test_of_what_it_was_answered_nothing_is_logged(
    thread: KopfThread, observer: Observed, serve: Serve, log: Log, *, status: int, body: bytes | dict[str, Any]
) -> None:
    page = isinstance(body, bytes)
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with serve(answering(status, said, {"content-type": "text/html" if page else "application/json"})):
        thread.start()
        await observer.hears(("asked",), 2)
        thread.stop()
        await end_of(thread)

    told = log()
    assert "canary" not in told
    assert max(map(len, told.splitlines()), default=0) < 1000


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"type": "ERROR", "object": {**LONG, "code": 500}}, id="an error"),
        pytest.param({"type": "CANARY", "object": LONG}, id="of an unheard-of type"),
        pytest.param({"type": "ADDED", "object": {"metadata": {"name": "canary-in-a-status"}}}, id="no object"),
    ],
)
async def test_of_what_is_in_a_watch_nothing_is_logged(
    thread: KopfThread, observer: Observed, serve: Serve, log: Log, event: dict[str, Any]
) -> None:
    version = {"version": "v1alpha1"}
    group = {"name": "auth.getasset.com", "versions": [version], "preferredVersion": version}

    async def answer(request: web.BaseRequest) -> web.Response:
        if not request.path.endswith("assettokens"):
            kind = ("namespaces", "Namespace") if request.path == "/api/v1" else ("assettokens", "AssetToken")
            found = {"name": kind[0], "singularName": "", "kind": kind[1], "namespaced": kind[1] == "AssetToken"}
            resources = [{**found, "verbs": ["list", "watch", "patch"]}]
            return web.json_response({"versions": ["v1"], "groups": [group], "resources": resources})
        if "watch" in request.query:
            return web.Response(body=json.dumps(event).encode() + b"\n")
        return web.json_response({"items": [], "metadata": {"resourceVersion": "1"}})

    async with serve(answer):
        thread.start()
        await observer.hears(("watching", "", True))
        await asyncio.sleep(0.5)
        thread.stop()
        await end_of(thread)

    told = log()
    assert "canary" not in told.lower()
    assert max(map(len, told.splitlines()), default=0) < 1000


# Its thread


class FakeOperator:
    """Stands in for `kopf.spawn_tasks`: what it begins runs until it is cancelled, or raises.

    Attributes:
        given: What it was called with.
        failure: What it raises at once.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, Any] = {}
        self.failure: Exception | None = None
        self.runs = threading.Event()
        monkeypatch.setattr(kopf, "spawn_tasks", self._spawn)

    async def _spawn(self, **given: Any) -> list[asyncio.Task[None]]:
        self.given = given
        return [asyncio.create_task(self._run())]

    async def _run(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.runs.set()
        await asyncio.Event().wait()

    async def begun(self) -> None:
        """Wait until it runs."""
        await asyncio.to_thread(self.runs.wait, 10)


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> FakeOperator:
    return FakeOperator(monkeypatch)


async def end_of(thread: KopfThread) -> None:
    async with asyncio.timeout(10):
        await thread.ended.wait()


@pytest.mark.parametrize(
    ("namespaces", "clusterwide"), [([], True), (["shop", "bank"], False)], ids=["all namespaces", "two namespaces"]
)
async def test_kopf_watches_what_it_was_told_without_peering_until_it_is_stopped(
    observer: Observed, operator: FakeOperator, namespaces: Sequence[str], *, clusterwide: bool
) -> None:
    thread = KopfThread(namespaces, observer, asyncio.get_running_loop(), "team=ledger")
    thread.start()
    await operator.begun()
    assert not thread.ended.is_set()

    thread.stop()
    await end_of(thread)
    assert operator.given["standalone"] is True
    assert operator.given["clusterwide"] is clusterwide
    assert list(operator.given["namespaces"]) == list(namespaces)
    assert list(operator.given["settings"].watching.label_selectors.values()) == ["team=ledger"]


async def test_stopping_it_twice_or_after_its_end_does_no_harm(thread: KopfThread, operator: FakeOperator) -> None:
    thread.start()
    await operator.begun()
    thread.stop()
    thread.stop()
    await end_of(thread)
    thread.stop()


async def test_stopping_it_after_it_ended_by_itself_does_no_harm(thread: KopfThread, operator: FakeOperator) -> None:
    """Whoever begins it anew does so."""
    operator.failure = ValueError("boom")
    thread.start()
    await end_of(thread)
    thread.stop()


async def test_a_stop_that_comes_before_kopf_runs_ends_it_too(thread: KopfThread, operator: FakeOperator) -> None:
    """A thread takes its time to start."""
    thread.stop()
    thread.start()

    await end_of(thread)


async def test_what_kopf_stumbles_over_ends_it_and_is_said_without_its_words(
    thread: KopfThread, operator: FakeOperator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    operator.failure = ValueError("canary-in-an-error")
    thread.start()
    await end_of(thread)

    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.INFO,
        "the watch of AssetTokens broke (an unexpected error) and is begun anew",
    )
    assert record.exc_info is None
    assert "canary" not in caplog.text


async def see_one(registry: Any) -> None:
    """Kopf sees one AssetToken."""
    (handler,) = handlers_of(registry, "_watching")
    await handler.fn(event={"type": "ADDED", "object": a_body()})


def spawning(run: Callable[[Any], Coroutine[Any, Any, None]]) -> Callable[..., Any]:
    """Stands in for `kopf.spawn_tasks`, and ends when that has run."""

    async def spawn(*, registry: Any, **_: object) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(run(registry))]

    return spawn


async def test_the_observer_is_told_in_its_own_thread(
    thread: KopfThread, observer: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kopf, "spawn_tasks", spawning(see_one))
    thread.start()
    await end_of(thread)

    assert observer.news() == [("saw", parse_asset_token(a_body()))]
    assert observer.threads == {threading.get_ident()}


def test_an_observer_whose_loop_has_ended_does_no_harm(observer: Observed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is gone before its daemon thread is."""
    ended: list[bool] = []

    async def see(registry: Any) -> None:
        await see_one(registry)
        ended.append(True)

    monkeypatch.setattr(kopf, "spawn_tasks", spawning(see))
    loop = asyncio.new_event_loop()
    loop.close()
    before = set(threading.enumerate())
    KopfThread([], observer, loop).start()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)

    assert ended == [True]
    assert observer.told == []


async def test_its_thread_does_not_keep_the_process_alive(thread: KopfThread, operator: FakeOperator) -> None:
    before = set(threading.enumerate())
    thread.start()
    await operator.begun()

    assert all(other.daemon for other in set(threading.enumerate()) - before if other.name == "kopf")
    thread.stop()
    await end_of(thread)
