"""Where the server of probes and metrics listens, and whom it bears, over real sockets."""

import asyncio
import errno
import itertools
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import web

from asset_token_operator import http_server
from asset_token_operator.config import EVERYWHERE, Address
from asset_token_operator.errors import ListenError
from asset_token_operator.http_server import listening
from asset_token_operator.logs import configure_logging
from tests.support.loggers import loggers_of_its_own

ANY = Address("127.0.0.1", 0)
HAS_IPV6 = socket.has_dualstack_ipv6()
IPV6 = pytest.mark.skipif(not HAS_IPV6, reason="this machine has no IPv6")
LARGE = b"x" * 20_000_000


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    with loggers_of_its_own():
        yield


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "asset_token_operator")
    return caplog


@pytest.fixture
def gate() -> asyncio.Event:
    """`/slow` is answered when it is set."""
    return asyncio.Event()


@pytest.fixture
def routes(gate: asyncio.Event) -> list[web.RouteDef]:
    async def slow(_: web.Request) -> web.Response:
        await gate.wait()
        return web.Response(text="ok\n")

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=LARGE if request.path == "/large" else b"ok\n")

    async def in_pieces(_: web.Request) -> web.Response:
        pieces = (LARGE[at : at + 2**16] for at in range(0, len(LARGE), 2**16))

        async def all_of_them() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return web.Response(body=all_of_them(), headers={"Content-Length": str(len(LARGE))})

    paths = {"/healthz": answer, "/slow": slow, "/large": answer, "/pieces": in_pieces}
    return [web.get(path, handler) for path, handler in paths.items()]


def ports(log: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Where is listened, by the log."""
    return [(host, int(port)) for host, port in re.findall(r"listens on (\S+):(\d+) for", log.text)]


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, text: str) -> None:
        self.writer.write(text.encode())

    async def ask(self, path: str = "/healthz") -> bytes:
        """The first line of the answer."""
        self.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
        return await self.reader.readline()

    async def ended(self) -> bool:
        """Whether the server ends it, within a while."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(2):
                while await self.reader.read(2**16):
                    pass
                return True
        return self.reader.exception() is not None


Connect = Callable[[], Awaitable[Client]]


@pytest.fixture
async def connect(routes: list[web.RouteDef], log: pytest.LogCaptureFixture) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(listening(ANY, routes))
        ((host, port),) = ports(log)

        async def connect() -> Client:
            client = Client(*await asyncio.open_connection(host, port))
            stack.callback(client.writer.close)
            return client

        yield connect


async def answers(host: str, port: int) -> bool:
    reader, writer = await asyncio.open_connection(host, port)
    client = Client(reader, writer)
    try:
        return await client.ask() == b"HTTP/1.1 200 OK\r\n"
    finally:
        writer.close()
        await writer.wait_closed()


class TestWhere:
    @IPV6
    async def test_everywhere_is_both_families_at_one_port(
        self, routes: list[web.RouteDef], log: pytest.LogCaptureFixture
    ) -> None:
        async with listening(Address(EVERYWHERE, 0), routes):
            ((host, port),) = ports(log)
            assert host == "[::]"
            assert await answers("127.0.0.1", port)
            assert await answers("::1", port)

    @pytest.mark.parametrize("fault", ["no-socket", errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT], ids=str)
    async def test_everywhere_is_ipv4_alone_where_ipv6_is_off(
        self,
        routes: list[web.RouteDef],
        log: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        fault: str | int,
    ) -> None:
        real = socket.create_server

        def create(where: Any, *, family: int = socket.AF_INET, **how: Any) -> socket.socket:
            if family == socket.AF_INET6:
                assert isinstance(fault, int), "no such socket can be made"
                raise OSError(fault, os.strerror(fault))
            return real(where, family=family, **how)

        monkeypatch.setattr(socket, "create_server", create)
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: fault != "no-socket")
        async with listening(Address(EVERYWHERE, 0), routes):
            ((host, port),) = ports(log)
            assert host == "0.0.0.0"
            assert await answers("127.0.0.1", port)

    async def test_all_of_ipv4_is_that(self, routes: list[web.RouteDef], log: pytest.LogCaptureFixture) -> None:
        async with listening(Address("0.0.0.0", 0), routes):
            ((host, port),) = ports(log)
            assert host == "0.0.0.0"
            assert await answers("127.0.0.1", port)
            with pytest.raises(OSError, match=r"Connect call failed|Cannot assign|not supported"):
                await answers("::1", port)

    @IPV6
    async def test_an_ipv6_address_is_shown_in_brackets(
        self, routes: list[web.RouteDef], log: pytest.LogCaptureFixture
    ) -> None:
        async with listening(Address("::1", 0), routes):
            ((host, port),) = ports(log)
            assert host == "[::1]"
            assert await answers("::1", port)

    async def test_a_name_is_all_of_its_addresses_that_the_kernel_has(
        self, routes: list[web.RouteDef], log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = socket.getaddrinfo

        def addresses(host: str, port: int, *given: Any, **named: Any) -> list[Any]:
            found = [real(one, port, *given, **named) for one in ("203.0.113.1", "127.0.0.1", "127.0.0.2")]
            return list(itertools.chain(*found)) if host == "here.example" else real(host, port, *given, **named)

        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        async with listening(Address("here.example", 0), routes):
            assert [host for host, _ in ports(log)] == ["127.0.0.1", "127.0.0.2"]
            assert all([await answers(*where) for where in ports(log)])

    @pytest.mark.parametrize(
        ("host", "why"),
        [
            pytest.param("203.0.113.1", "no address of this machine", id="an address"),
            pytest.param("name.invalid", "its name can't be resolved", id="a name"),
        ],
    )
    async def test_what_is_not_here_is_said_in_a_sentence(
        self, routes: list[web.RouteDef], monkeypatch: pytest.MonkeyPatch, host: str, why: str
    ) -> None:
        def nowhere(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        if host == "name.invalid":
            monkeypatch.setattr(socket, "getaddrinfo", nowhere)
        with pytest.raises(ListenError, match=rf"^{host}:1 can't be listened on: {why}; choose another\.$"):
            async with listening(Address(host, 1), routes):
                raise AssertionError("it must not get here")

    @pytest.mark.parametrize("host", ["my..host", "a" * 64], ids=["empty label", "long label"])
    async def test_what_is_no_name_is_said_in_a_sentence(self, routes: list[web.RouteDef], host: str) -> None:
        with pytest.raises(ListenError, match=rf"^{host}:1 can't be listened on: no name that DNS can have;"):
            async with listening(Address(host, 1), routes):
                raise AssertionError("it must not get here")

    async def test_a_port_in_use_is_said_in_a_sentence(
        self, routes: list[web.RouteDef], log: pytest.LogCaptureFixture
    ) -> None:
        async with listening(Address(EVERYWHERE, 0), routes):
            ((_, port),) = ports(log)
            with pytest.raises(ListenError) as caught:
                async with listening(Address(EVERYWHERE, port), routes):
                    raise AssertionError("it must not get here")

        assert str(caught.value) == f"[::]:{port} can't be listened on: address already in use; choose another."


class TestConnections:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_server, "CONNECTIONS", 4)

    @asynccontextmanager
    async def full(self, connect: Connect, sent: str) -> AsyncIterator[list[Client]]:
        clients = [await connect() for _ in range(4)]
        for client in clients:
            client.send(sent)
        await asyncio.sleep(0.05)
        yield clients

    @pytest.mark.parametrize(
        "sent",
        [
            pytest.param("", id="nothing sent"),
            pytest.param("GET /healthz HTTP/1.1\r\nHost: he", id="half of a request"),
            pytest.param("GET /large HTTP/1.1\r\nHost: here\r\n\r\n", id="an answer that isn't read"),
            pytest.param("POST /healthz HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\n", id="no body"),
        ],
    )
    async def test_who_comes_when_all_are_taken_is_answered_and_the_oldest_ends(
        self, connect: Connect, sent: str
    ) -> None:
        async with self.full(connect, sent) as clients:
            assert await (await connect()).ask() == b"HTTP/1.1 200 OK\r\n"
            assert await clients[0].ended()

    async def test_it_is_rather_an_idle_one_than_one_that_is_being_answered(
        self, connect: Connect, gate: asyncio.Event
    ) -> None:
        waiting = [await connect() for _ in range(3)]
        lines = [asyncio.create_task(client.ask("/slow")) for client in waiting]
        idle = await connect()
        await idle.ask()
        assert await (await connect()).ask() == b"HTTP/1.1 200 OK\r\n"
        assert await idle.ended()

        gate.set()
        assert {await line for line in lines} == {b"HTTP/1.1 200 OK\r\n"}

    async def test_it_is_one_that_is_being_answered_where_all_are(self, connect: Connect) -> None:
        waiting = [await connect() for _ in range(4)]
        lines = [asyncio.create_task(client.ask("/slow")) for client in waiting]
        await asyncio.sleep(0.05)
        assert await (await connect()).ask() == b"HTTP/1.1 200 OK\r\n"

        with suppress(ConnectionError):
            assert await lines[0] == b""
        assert not any(line.done() for line in lines[1:])
        for line in lines[1:]:
            line.cancel()

    async def test_one_that_was_answered_lately_is_the_last_to_go(self, connect: Connect) -> None:
        async with self.full(connect, "") as clients:
            await clients[0].ask()
            await (await connect()).ask()
            assert await clients[1].ended()
            assert await clients[0].ask() != b""

    async def test_hundreds_at_once_leave_no_more_than_there_may_be(self, connect: Connect) -> None:
        clients = await asyncio.gather(*(connect() for _ in range(300)))
        for client in clients:
            client.send("GET /he")
        assert await (await connect()).ask() == b"HTTP/1.1 200 OK\r\n"
        ends = [asyncio.create_task(client.ended()) for client in clients]
        await asyncio.sleep(0.5)

        assert sum(not end.done() for end in ends) <= 3
        for end in ends:
            end.cancel()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("\x16\x03\x01\x02", id="TLS"),
        pytest.param("canary\r\n\r\n", id="no HTTP"),
        pytest.param("GET / HTTP/1.1\r\nHost: here\r\nno header canary\r\n\r\n", id="no header"),
        pytest.param(f"GET /{'canary' * 9000} HTTP/1.1\r\n\r\n", id="a path that is too long"),
    ],
)
async def test_nonsense_is_answered_and_costs_no_line_in_the_log(
    connect: Connect, capsys: pytest.CaptureFixture[str], sent: str
) -> None:
    configure_logging("info", "text")
    client = await connect()
    client.send(sent)

    assert b" 400 " in await client.reader.readline()
    assert await client.ended()
    assert await (await connect()).ask() == b"HTTP/1.1 200 OK\r\n"
    assert capsys.readouterr().err == ""


class TestSilence:
    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_server, "SILENCE_SECONDS", 0.2)

    @pytest.mark.parametrize(
        "sent", ["", "GET /healthz HTTP/1.1\r\nHost: he", "GET / HT"], ids=["none", "half", "a bit"]
    )
    async def test_who_sends_no_request_is_let_go_of(self, connect: Connect, sent: str) -> None:
        client = await connect()
        client.send(sent)

        assert await client.ended()

    async def test_who_sends_one_bit_by_bit_is_let_go_of(self, connect: Connect) -> None:
        client = await connect()
        drip = asyncio.create_task(self.drip(client))
        try:
            assert await client.ended()
        finally:
            drip.cancel()

    async def drip(self, client: Client) -> None:
        for letter in "GET /healthz HTTP/1.1\r\nHost: " + "h" * 1000:
            client.send(letter)
            await asyncio.sleep(0.02)

    async def test_who_does_not_ask_again_is_let_go_of(self, connect: Connect) -> None:
        client = await connect()
        await client.ask()

        assert await client.ended()

    @pytest.mark.parametrize("path", ["/large", "/pieces"])
    async def test_who_does_not_read_the_answer_is_let_go_of(self, connect: Connect, path: str) -> None:
        client = await connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
        await asyncio.sleep(1)
        read = 0
        with suppress(ConnectionError):
            while data := await client.reader.read(2**20):
                read += len(data)

        assert read < len(LARGE)

    @pytest.mark.parametrize("path", ["/large", "/pieces"])
    async def test_who_reads_the_answer_slowly_gets_all_of_it(self, connect: Connect, path: str) -> None:
        client = await connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert f"Content-Length: {len(LARGE)}\r\n".encode() in head
        read = 0
        while read < len(LARGE):
            read += len(await client.reader.readexactly(min(2**20, len(LARGE) - read)))
            await asyncio.sleep(0.05)

    @pytest.mark.parametrize("path", ["/large", "/pieces"])
    async def test_who_reads_the_answer_more_slowly_than_all_of_it_may_take_is_let_go_of(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.5)
        client = await connect()
        client.send(f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
        began, read = asyncio.get_running_loop().time(), 0
        with suppress(ConnectionError):
            while data := await client.reader.read(2**18):
                read += len(data)
                await asyncio.sleep(0.05)

        assert read < len(LARGE)
        assert asyncio.get_running_loop().time() - began < 3

    async def test_who_asks_again_has_as_long_again(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http_server, "ANSWER_SECONDS", 0.3)
        client = await connect()
        for _ in range(10):
            assert await client.ask() == b"HTTP/1.1 200 OK\r\n"
            await client.reader.readuntil(b"ok\n")
            await asyncio.sleep(0.05)

    async def test_who_waits_for_an_answer_that_takes_long_gets_it(self, connect: Connect, gate: asyncio.Event) -> None:
        client = await connect()
        line = asyncio.create_task(client.ask("/slow"))
        await asyncio.sleep(0.6)
        gate.set()

        assert await line == b"HTTP/1.1 200 OK\r\n"
