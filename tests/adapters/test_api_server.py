"""Connections, logins and authorities that change, over real sockets; what the calls do is in tests/cluster."""

import asyncio
import datetime as dt
import json
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from kubernetes.aio.config import incluster_config

from asset_token_operator import api_server, kubeconfig
from asset_token_operator.api_server import CONNECTIONS, ApiClient
from asset_token_operator.errors import (
    ConflictError,
    KubeError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
)
from asset_token_operator.kube import KubeClient
from asset_token_operator.leadership import forever
from tests.support.api_server import (
    Answer,
    StandIn,
    a_kubeconfig,
    a_login_program,
    an_api_server,
    answering,
    forget_settings,
    issuing,
)
from tests.support.certificates import Certificate, a_certificate

SECRET, LEASE = "/api/v1/namespaces/shop/secrets/a", "/apis/coordination.k8s.io/v1/namespaces/shop/leases/a"
WATCH = "/api/v1/namespaces/shop/secrets"


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder whose `kubeconfig` is the one that is used."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return tmp_path


Begin = Callable[[Answer], Awaitable[tuple[StandIn, ApiClient]]]


@pytest.fixture
async def begin(here: Path) -> AsyncIterator[Begin]:
    """Begins a stand-in, and connects to it."""
    async with AsyncExitStack() as stack:

        async def begin(answer: Answer) -> tuple[StandIn, ApiClient]:
            api = await stack.enter_async_context(an_api_server(answer))
            a_kubeconfig(here, api.url)
            return api, await stack.enter_async_context(await ApiClient.connect())

        yield begin


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each time that it was read how to reach the API server."""
    real, loads = kubeconfig.load, list[None]()

    async def load() -> kubeconfig.Access:
        loads.append(None)
        return await real()

    monkeypatch.setattr(kubeconfig, "load", load)
    return loads


def get(server: ApiClient, path: str = SECRET, **how: Any) -> Awaitable[dict[str, Any]]:
    return server.call("GET", path, dict, **how)


class TestConnections:
    @pytest.fixture
    def gate(self) -> Iterator[asyncio.Event]:
        """Calls that read a Secret are answered when it is set."""
        gate = asyncio.Event()
        yield gate
        gate.set()

    @pytest.fixture
    async def held(self, begin: Begin, gate: asyncio.Event) -> AsyncIterator[tuple[StandIn, ApiClient]]:
        """An API server all whose connections for calls are held by slow answers."""
        all_there = asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if "watch" in request.query:
                response = web.StreamResponse()
                await response.prepare(request)
                await response.write(b'{"type": "BOOKMARK"}\n')
                await gate.wait()
                return response
            if request.path == SECRET:
                if len(api.received) >= CONNECTIONS:
                    all_there.set()
                await gate.wait()
            return web.json_response({"path": request.path})

        api, server = await begin(answer)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(get(server))  # type: ignore[arg-type]  # a coroutine
            await all_there.wait()
            yield api, server
            gate.set()

    async def test_a_call_that_does_not_wait_has_one_while_all_are_in_use(
        self, held: tuple[StandIn, ApiClient]
    ) -> None:
        _, server = held

        assert await get(server, LEASE, waits=False) == {"path": LEASE}

    async def test_a_watch_has_one_while_all_are_in_use(self, held: tuple[StandIn, ApiClient]) -> None:
        _, server = held
        async with aclosing(server.stream(WATCH, dict, {"watch": "true"}, "application/json")) as events:  # type: ignore[type-var]
            assert await anext(events) == {"type": "BOOKMARK"}

    async def test_another_call_waits_until_one_is_free(
        self, held: tuple[StandIn, ApiClient], gate: asyncio.Event
    ) -> None:
        api, server = held
        call = asyncio.ensure_future(get(server, LEASE))
        await get(server, LEASE, waits=False)
        assert not call.done()
        assert len(api.received) == CONNECTIONS + 1

        gate.set()
        assert await call == {"path": LEASE}

    async def test_a_call_that_waits_for_one_when_they_are_replaced_fails_as_ours(
        self, here: Path, begin: Begin, gate: asyncio.Event
    ) -> None:
        """It is cancelled then by whoever closes them, which isn't that it shall end."""
        busy, refuse = asyncio.Semaphore(0), list[None]()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == SECRET:
                busy.release()
                await gate.wait()
            return web.json_response({}, status=401 if refuse else 200)

        api, server = await begin(answer)
        calls = [asyncio.ensure_future(get(server)) for _ in range(CONNECTIONS)]
        for _ in calls:
            await busy.acquire()
        waiting = [asyncio.ensure_future(get(server, LEASE)) for _ in range(10)]
        await get(server, LEASE, waits=False)
        a_kubeconfig(here, api.url, **{"insecure-skip-tls-verify": True})
        refuse.append(None)
        with pytest.raises(KubeUnavailableError):
            await get(server, LEASE, waits=False)
        refuse.clear()
        gate.set()

        results = await asyncio.gather(*calls, *waiting, return_exceptions=True)
        assert [result for result in results if not isinstance(result, dict | KubeError)] == []
        assert any(isinstance(result, KubeError) for result in results[CONNECTIONS:])

    async def test_as_many_watches_as_there_are_namespaces_have_one_each(self, held: tuple[StandIn, ApiClient]) -> None:
        _, server = held
        async with AsyncExitStack() as stack:
            for _ in range(CONNECTIONS + 1):
                watch = server.stream(WATCH, dict, {"watch": "true"}, "application/json")
                await stack.enter_async_context(aclosing(watch))  # type: ignore[type-var]
                assert await anext(watch) == {"type": "BOOKMARK"}
            assert await get(server, LEASE, waits=False) == {"path": LEASE}


@pytest.mark.parametrize("text", ["x" * 1_500_000, "<" * 1_500_000], ids=["plain", "escaped"])
async def test_an_event_as_long_as_an_object_may_be_is_read(begin: Begin, text: str) -> None:
    """The API server writes `<` as `\\u003c`, and checks no length of an owner's name."""
    event = {"type": "ADDED", "object": {"metadata": {"ownerReferences": [{"name": text}]}}}

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=json.dumps(event).replace("<", "\\u003c").encode() + b"\n")

    _, server = await begin(answer)
    seen = [seen async for seen in server.stream(WATCH, dict, {"watch": "true"}, "application/json")]

    assert seen == [event]


async def test_a_line_without_an_end_is_told_as_our_own(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_server, "LARGEST_OBJECT", 100_000)

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"canary" * 10_000)

    _, server = await begin(answer)
    with pytest.raises(KubeUnavailableError) as caught:
        await anext(server.stream(WATCH, dict, {"watch": "true"}, "application/json"))

    assert "canary" not in str(caught.value)


async def test_a_denial_that_goes_on_and_on_is_told_by_its_beginning(begin: Begin) -> None:
    beginning = 'admission webhook "long.example.com" denied the request: ' + 1_000_000 * "canary"
    _, server = await begin(
        answering(403, json.dumps({"metadata": {}, "message": beginning}).replace('": ', '":').encode())
    )

    with pytest.raises(KubeError, match=r"admission webhook long\.example\.com denied it"):
        await get(server)


@pytest.mark.parametrize("status", [302, 403, 502], ids=str)
@pytest.mark.parametrize("watches", [False, True], ids=["call", "watch"])
async def test_a_page_without_an_end_is_read_up_to_a_bound_and_told_in_our_words(
    begin: Begin, status: int, *, watches: bool
) -> None:
    sent = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status, headers={"content-type": "text/html"})
        await response.prepare(request)
        while True:
            await response.write(b"<p>canary" * 10_000)
            sent += 90_000

    _, server = await begin(answer)
    for _ in range(3):
        watch = server.stream(WATCH, dict, {"watch": "true"}, "application/json")
        with pytest.raises(KubeError) as caught:
            await (anext(watch) if watches else get(server))
        assert len(str(caught.value)) < 200
        assert "canary" not in str(caught.value)
        assert str(status) in str(caught.value) or "redirect" in str(caught.value)
    assert sent < 30_000_000, "what the sockets hold, and no more"


PAGES = [
    pytest.param(b"default backend - 404", id="an ingress' page"),
    pytest.param(b"404 page not found\n", id="that of any Go server"),
    pytest.param(b"<html>Please log in</html>", id="HTML"),
    pytest.param(b'{"message":"no Route matched","code":404}', id="a gateway's JSON"),
    pytest.param(b'{"kind":"Secret"}', id="another kind"),
    pytest.param(b"", id="nothing"),
    pytest.param(b'<script>a={"message":"canary"}</script>' + b" " * 300_000, id="a long page"),
]


@pytest.mark.parametrize("status", [403, 404, 409, 422], ids=str)
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("watches", [False, True], ids=["call", "watch"])
async def test_a_refusal_that_is_not_the_api_servers_is_an_outage(
    begin: Begin, status: int, page: bytes, *, watches: bool
) -> None:
    """Nothing is known to be missing, or refused, where an ingress or a load balancer answers."""
    _, server = await begin(answering(status, page))
    watch = server.stream(WATCH, dict, {"watch": "true"}, "application/json")
    with pytest.raises(KubeUnavailableError) as caught:
        await (anext(watch) if watches else get(server))

    what = f"watch {WATCH}" if watches else f"GET {SECRET}"
    assert str(caught.value) == (
        f"{what}: no answer from the API server, but {status} from something else; check the server's address, and what"
        " stands in front of it; tried again by itself."
    )


@pytest.mark.parametrize("length", [1, 1_000_000], ids=["short", "longer than is read"])
@pytest.mark.parametrize(
    ("status", "kind"), [(403, KubeRefusedError), (404, NotFoundError), (409, ConflictError), (422, KubeRefusedError)]
)
async def test_a_refusal_of_the_api_server_is_one(
    begin: Begin, status: int, kind: type[KubeRefusedError], length: int
) -> None:
    said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "x" * length}
    _, server = await begin(answering(status, json.dumps(said, separators=(",", ":")).encode()))
    with pytest.raises(KubeRefusedError) as caught:
        await get(server)

    assert (type(caught.value), caught.value.status) == (kind, status)


@pytest.mark.parametrize("page", PAGES)
async def test_whether_there_is_a_crd_is_the_api_servers_to_say(begin: Begin, page: bytes) -> None:
    _, server = await begin(answering(404, page))
    with pytest.raises(KubeUnavailableError):
        await KubeClient(server, forever).serves_asset_tokens()


async def test_that_there_is_no_crd_the_api_server_says_in_plain_text(begin: Begin) -> None:
    own = {"Audit-Id": "7098fde0-5a78-4339-bfce-b807de2c9286", "Content-Type": "text/plain; charset=utf-8"}
    _, server = await begin(answering(404, b"404 page not found\n", own))

    assert not await KubeClient(server, forever).serves_asset_tokens()


async def test_an_answer_with_a_number_that_is_out_of_range_makes_no_sense(begin: Begin) -> None:
    _, server = await begin(answering(200, b'{"seconds": 1e300}'))
    with pytest.raises(KubeUnavailableError, match=r"the API server's answer makes no sense; tried again by itself\.$"):
        await server.call("GET", SECRET, lambda answer: dt.timedelta(seconds=answer["seconds"]))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("🚀", id="beyond the basic plane"),
        pytest.param("a\x7f\x85\u2028\u2029\ufeff\uffff", id="what YAML doesn't read as it is"),
        pytest.param('\\u0041 "quoted"', id="backslashes"),
        pytest.param("\ud800", id="half a surrogate pair"),
    ],
)
async def test_what_is_sent_says_the_same_as_json_and_as_yaml(begin: Begin, text: str) -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({})

    api, server = await begin(answer)
    await server.call("PATCH", SECRET, dict, body={text: text})

    ((_, _, body),) = api.received
    assert json.loads(body) == {text: text}
    if text != "\ud800":  # the YAML of Python refuses it, and that of the API server too
        assert yaml.safe_load(body) == {text: text}


class TestLogin:
    async def test_a_token_that_is_not_accepted_any_more_is_read_anew_and_the_call_made_again(
        self, here: Path, begin: Begin
    ) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers["authorization"] == "Bearer canary-kube-token-2":
                return web.json_response({"is": "fine"})
            a_kubeconfig(here, api.url, {"token": "canary-kube-token-2"})
            return web.json_response({}, status=401)

        api, server = await begin(answer)
        before = server.fingerprint()

        assert await get(server) == {"is": "fine"}
        assert await get(server) == {"is": "fine"}
        assert [headers["authorization"][-1] for headers in api.headers] == ["n", "2", "2"]
        assert server.fingerprint() == before

    async def test_what_was_to_be_written_is_sent_again_with_the_token_that_is_read_anew(
        self, here: Path, begin: Begin
    ) -> None:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.headers["authorization"] == "Bearer canary-kube-token-2":
                return web.json_response({})
            a_kubeconfig(here, api.url, {"token": "canary-kube-token-2"})
            return web.json_response({}, status=401)

        api, server = await begin(answer)
        await server.call("PATCH", SECRET, dict, body={"a": "🚀"}, query={"force": "true"})

        assert [body for _, _, body in api.received] == ['{"a": "🚀"}'] * 2

    async def test_a_token_that_is_never_accepted_is_read_anew_once_a_call(
        self, begin: Begin, loads: list[None]
    ) -> None:
        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({}, status=401)

        api, server = await begin(answer)
        loads.clear()
        with pytest.raises(KubeUnavailableError, match="answered 401"):
            await get(server)

        assert len(api.received) == 2
        assert len(loads) == 1

    async def test_a_client_certificate_that_a_plugin_renews_is_used_once_the_former_is_refused(
        self, here: Path
    ) -> None:
        server, mine = a_certificate(here / "server"), [a_certificate(here / name, host="me.example") for name in "ab"]
        server.context.verify_mode = ssl.CERT_REQUIRED
        for one in mine:
            server.context.load_verify_locations(one.path)
        plugin, status = here / "plugin", {"expirationTimestamp": "2020-01-01T00:00:00Z"}

        def give(one: Certificate) -> None:
            given = {"clientCertificateData": one.path.read_text(), "clientKeyData": one.key_path.read_text()}
            said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status | given}
            plugin.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\n")
            plugin.chmod(0o700)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            assert request.transport is not None
            peer = request.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
            is_first = peer == mine[0].x509.public_bytes(serialization.Encoding.DER)
            return web.json_response({}, status=401 if is_first else 200)

        give(mine[0])
        async with an_api_server(answer, server.context) as api:
            run = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
            a_kubeconfig(here, api.url, {"exec": run}, **{"certificate-authority": str(server.path)})
            async with await ApiClient.connect() as client:
                give(mine[1])
                assert await get(client) == {}

    async def test_a_login_that_fails_once_is_made_again(self, here: Path) -> None:
        """The API server takes who says nothing for `system:anonymous`, and refuses with a 403, not with a 401."""
        good = {"Bearer canary-1"}

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            said = request.headers.get("Authorization")
            return web.json_response({}, status=403 if said is None else 200 if said in good else 401)

        async with an_api_server(answer) as api:
            a_kubeconfig(here, api.url, a_login_program(here / "login", issuing(token="canary-1")))
            async with await ApiClient.connect() as client:
                assert await get(client) == {}
                good.clear()
                a_login_program(here / "login", "exit 1")
                with pytest.raises(KubeUnavailableError, match="answered 401"):
                    await get(client)
                good.add("Bearer canary-2")
                a_login_program(here / "login", issuing(token="canary-2"))
                assert await get(client) == {}

    @pytest.fixture
    async def slow(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ApiClient, Path, Path]]:
        """A login that tells the first path its process' number, and ends once something is written to the second."""
        monkeypatch.setattr(api_server, "TIMEOUT_SECONDS", 0.5)
        begun, end = here / "begun", here / "end"
        os.mkfifo(begun)
        os.mkfifo(end)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({}, status=200 if request.headers["Authorization"] == "Bearer canary-2" else 401)

        async with an_api_server(answer) as api:
            a_kubeconfig(here, api.url, a_login_program(here / "login", issuing(token="canary-1")))
            async with await ApiClient.connect() as client:
                script = f"echo $$ >{begun}; echo >>{here}/runs; cat {end} >/dev/null"
                a_login_program(here / "login", f"{script}\n{issuing(token='canary-2')}")
                yield client, begun, end

    async def test_a_login_may_take_longer_than_a_call_and_is_one_for_all_that_wait(
        self, here: Path, slow: tuple[ApiClient, Path, Path]
    ) -> None:
        client, begun, end = slow
        calls = [asyncio.ensure_future(get(client)) for _ in range(3)]
        await asyncio.to_thread(begun.read_text)
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, KubeUnavailableError)
        last = asyncio.ensure_future(get(client))
        await asyncio.to_thread(end.write_text, "")

        assert await last == {}
        assert (here / "runs").read_text() == "\n"

    async def test_a_login_that_is_under_way_ends_with_the_client(self, slow: tuple[ApiClient, Path, Path]) -> None:
        client, begun, _ = slow
        call = asyncio.ensure_future(get(client))
        process = int(await asyncio.to_thread(begun.read_text))
        await client.__aexit__()

        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
        with pytest.raises(KubeUnavailableError):
            await call

    async def test_a_context_that_is_chosen_meanwhile_gets_nothing(self, here: Path, begin: Begin) -> None:
        """As by `kubectl config use-context`: the call, with its token, would go to another cluster."""
        statuses = iter((401, 200))

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({}, status=next(statuses))

        api, server = await begin(answer)
        async with an_api_server(answering(200)) as other:
            path = here / "kubeconfig"
            config = json.loads(path.read_text())
            config["clusters"].append({"name": "other", "cluster": {"server": other.url}})
            config["contexts"].append({"name": "other", "context": {"cluster": "other", "user": "me"}})
            path.write_text(json.dumps(config | {"current-context": "other"}))
            assert await server.call("PATCH", SECRET, dict, body={"data": "canary"}) == {}

        assert len(api.received) == 2
        assert other.received == []

    async def test_a_call_that_was_refused_is_not_made_again_elsewhere(self, here: Path, begin: Begin) -> None:
        _, server = await begin(answering(401))
        async with an_api_server(answering(200)) as other:
            a_kubeconfig(here, other.url)
            with pytest.raises(KubeUnavailableError, match="answered 401"):
                await server.call("PATCH", SECRET, dict, body={"data": "canary"})
            assert other.received == []

            assert await get(server) == {}
            assert len(other.received) == 1

    async def test_a_kubeconfig_that_cannot_be_read_just_now_is_no_other_error(self, here: Path, begin: Begin) -> None:
        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            (here / "kubeconfig").write_text("")
            return web.json_response({}, status=401)

        _, server = await begin(answer)
        with pytest.raises(KubeUnavailableError, match="answered 401"):
            await get(server)

    async def test_a_service_accounts_token_that_is_empty_just_now_is_told_as_ours(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = here / "token"
        token.write_text("canary-kube-token")
        at_once = SimpleNamespace(datetime=dt.datetime, timedelta=lambda **_: dt.timedelta())
        monkeypatch.setattr(incluster_config, "datetime", at_once)  # it reads the token anew once a minute
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(a_certificate(here).path))
        monkeypatch.delenv("KUBECONFIG")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
        async with await ApiClient.connect() as server:
            token.write_text("")
            with pytest.raises(KubeUnavailableError):
                await get(server)


class TestAnAuthorityThatIsReplaced:
    @pytest.fixture
    async def distrusted(self, here: Path) -> AsyncIterator[tuple[StandIn, ApiClient, Callable[[], None]]]:
        """An API server whose authority isn't the one that the kubeconfig names, until the last item is called."""
        theirs, ours = here / "theirs", here / "ours"
        theirs.mkdir()
        ours.mkdir()
        certificate, authority = a_certificate(theirs), a_certificate(ours).path

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({"is": "fine"})

        async with an_api_server(answer, certificate.context) as api:
            a_kubeconfig(here, api.url, **{"certificate-authority": str(authority)})
            async with await ApiClient.connect() as server:

                def replace() -> None:
                    authority.write_bytes(certificate.path.read_bytes())

                yield api, server, replace

    async def test_is_read_anew_when_no_connection_can_be_had(
        self,
        distrusted: tuple[StandIn, ApiClient, Callable[[], None]],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "asset_token_operator")
        monkeypatch.setattr(api_server, "LOOK_EVERY_SECONDS", 0)
        _, server, replace = distrusted
        before = server.fingerprint()
        with pytest.raises(KubeUnavailableError, match="its certificate"):
            await get(server)
        assert server.fingerprint() == before
        assert caplog.records == []

        replace()
        with pytest.raises(KubeUnavailableError, match="its certificate"):
            await get(server)
        assert await get(server) == {"is": "fine"}
        assert await get(server, waits=False) == {"is": "fine"}
        assert server.fingerprint() != before
        assert [record.getMessage() for record in caplog.records] == [
            "the API server is reached another way now: its address, CA or our certificate changed"
        ]

    async def test_is_looked_for_at_most_every_ten_seconds(
        self,
        distrusted: tuple[StandIn, ApiClient, Callable[[], None]],
        monkeypatch: pytest.MonkeyPatch,
        loads: list[None],
    ) -> None:
        _, server, _ = distrusted
        now = 1000.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        for now, expected in ((1000.0, 1), (1001.0, 1), (1009.9, 1), (1010.0, 2), (1019.0, 2)):  # noqa: B007 - the clock's
            with pytest.raises(KubeUnavailableError):
                await get(server)
            assert len(loads) == expected

    async def test_is_found_by_a_watch_too(
        self, distrusted: tuple[StandIn, ApiClient, Callable[[], None]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_server, "LOOK_EVERY_SECONDS", 0)
        _, server, replace = distrusted
        replace()
        with pytest.raises(KubeUnavailableError):
            await anext(server.stream(WATCH, dict, {"watch": "true"}, "application/json"))

        assert await get(server) == {"is": "fine"}

    async def test_calls_that_are_made_while_sessions_are_replaced_fail_as_ours_or_not_at_all(
        self, here: Path, begin: Begin
    ) -> None:
        """Any other error would end the operator."""

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return web.json_response({}, status=401 if changes and request.query.get("n") == "0" else 200)

        changes: list[None] = []
        api, server = await begin(answer)
        await asyncio.gather(*(get(server) for _ in range(20)))
        changes.append(None)
        a_kubeconfig(here, api.url, **{"insecure-skip-tls-verify": True})

        async def later(turns: int) -> object:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await get(server, query={"n": str(turns)}, waits=turns % 2 == 0)

        results = await asyncio.gather(*(later(turns) for turns in range(150)), return_exceptions=True)

        assert [result for result in results if not isinstance(result, dict | KubeError)] == []
        assert await get(server) == {}
