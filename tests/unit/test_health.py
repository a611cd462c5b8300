"""What the probes answer, over a real socket, and what they don't fail for."""

import asyncio
import logging
import re
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import httpx
import pytest

from asset_token_operator import health as health_module
from asset_token_operator.config import Address
from asset_token_operator.errors import KubeUnavailableError, ListenError
from asset_token_operator.health import PATIENCE, Health, Scrape, serving
from asset_token_operator.scopes import Scopes
from tests.support.clock import ManualClock, settle

SECOND = timedelta(seconds=1)
SECONDS = int(PATIENCE.total_seconds())
ANY = Address("127.0.0.1", 0)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def health(clock: ManualClock) -> AsyncIterator[Health]:
    health = Health(clock, lambda: True)
    work = asyncio.create_task(health.count())
    await settle()
    yield health
    work.cancel()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "asset_token_operator")
    return caplog


async def pass_seconds(clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        await clock.advance(SECOND)


async def metrics() -> bytes:
    return b"up 1\n"


async def broken() -> bytes:
    raise ValueError("canary-in-an-error")


def addresses(log: pytest.LogCaptureFixture) -> list[str]:
    """Where is served, by the log."""
    return re.findall(r"listens on (\S+) for", log.text)


async def get(address: str, path: str, method: str = "GET") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, f"http://{address}{path}")


class TestHealth:
    async def test_nothing_is_stuck_as_long_as_each_part_is_heard_of(self, health: Health, clock: ManualClock) -> None:
        for _ in range(3):
            health.heartbeat("scheduler")
            await pass_seconds(clock, SECONDS)
            assert health.stuck() == []

    async def test_a_part_that_is_silent_for_longer_is_named_until_it_is_heard_of(
        self, health: Health, clock: ManualClock
    ) -> None:
        health.heartbeat("scheduler")
        await pass_seconds(clock, SECONDS)
        health.heartbeat("watch")
        await pass_seconds(clock, 1)
        assert health.stuck() == ["scheduler"]

        health.heartbeat("scheduler")
        assert health.stuck() == []

    async def test_a_part_may_ask_for_more_patience(self, health: Health, clock: ManualClock) -> None:
        health.heartbeat("watch", 2 * PATIENCE)
        await pass_seconds(clock, 2 * SECONDS)
        assert health.stuck() == []

        await pass_seconds(clock, 1)
        assert health.stuck() == ["watch"]

    async def test_what_has_not_begun_is_not_stuck(self, health: Health, clock: ManualClock) -> None:
        await pass_seconds(clock, 2 * SECONDS)

        assert health.stuck() == []

    async def test_a_suspended_machine_finds_nobody_stuck(self, health: Health, clock: ManualClock) -> None:
        health.heartbeat("scheduler")
        await clock.suspend(timedelta(hours=8))
        await pass_seconds(clock, 1)

        assert health.stuck() == []


class TestServing:
    async def test_all_is_served_at_one_address_which_is_logged(
        self, health: Health, log: pytest.LogCaptureFixture
    ) -> None:
        async with serving(health, metrics, ANY, ANY):
            (address,) = addresses(log)
            answers = [await get(address, path) for path in ("/healthz", "/readyz", "/metrics")]

        assert [(answer.status_code, answer.text) for answer in answers] == [
            (200, "ok\n"),
            (200, "ok\n"),
            (200, "up 1\n"),
        ]
        assert answers[2].headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"

    async def test_each_address_has_its_own_pages(self, health: Health, log: pytest.LogCaptureFixture) -> None:
        async with serving(health, metrics, ANY, Address("localhost", 0)):
            probes, scrapes = addresses(log)[0], addresses(log)[-1]
            assert (await get(probes, "/healthz")).status_code == 200
            assert (await get(probes, "/metrics")).status_code == 404

            assert (await get(scrapes, "/metrics")).status_code == 200
            assert (await get(scrapes, "/healthz")).status_code == 404

    async def test_nothing_is_served_without_an_address(self, health: Health, log: pytest.LogCaptureFixture) -> None:
        async with serving(health, metrics, None, None):
            assert addresses(log) == []

    async def test_what_is_stuck_is_said_with_503(
        self, health: Health, clock: ManualClock, log: pytest.LogCaptureFixture
    ) -> None:
        health.heartbeat("scheduler")
        await pass_seconds(clock, SECONDS + 1)
        async with serving(health, metrics, ANY, None):
            answer = await get(addresses(log)[0], "/healthz")

        assert (answer.status_code, answer.text) == (503, "stuck, so a restart helps: scheduler\n")

    async def test_it_is_ready_when_a_scope_is_served_and_says_what_is_not_followed(
        self, clock: ManualClock, log: pytest.LogCaptureFixture
    ) -> None:
        scopes = Scopes(["shop", "bank"])
        async with serving(Health(clock, scopes.is_ready, scopes.problems), metrics, ANY, None):
            (address,) = addresses(log)

            async def readyz() -> tuple[int, str]:
                answer = await get(address, "/readyz")
                return answer.status_code, answer.text

            assert await readyz() == (
                503,
                (
                    "not ready\n"
                    "namespace shop: being listed; the API server hasn't answered yet\n"
                    "namespace bank: being listed; the API server hasn't answered yet\n"
                ),
            )

            scopes.asset_tokens_lost("bank", KubeUnavailableError("no answer."))
            for know in (scopes.asset_tokens_known, scopes.secrets_known):
                know("shop")
            assert await readyz() == (200, "ok\nnamespace bank: no answer.\n")

            for know in (scopes.asset_tokens_known, scopes.secrets_known):
                know("bank")
            assert await readyz() == (200, "ok\n")

            scopes.secrets_lost("shop", KubeUnavailableError("no answer."))
            assert await readyz() == (200, "ok\nnamespace shop: no answer.\n"), "what is known is served on"

    async def test_one_that_is_ready_and_stuck_is_both(
        self, health: Health, clock: ManualClock, log: pytest.LogCaptureFixture
    ) -> None:
        health.heartbeat("scheduler")
        await pass_seconds(clock, SECONDS + 1)
        async with serving(health, metrics, ANY, None):
            answer = await get(addresses(log)[0], "/readyz")

        assert (answer.status_code, answer.text) == (200, "ok\n")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
    async def test_nothing_can_be_sent(self, health: Health, log: pytest.LogCaptureFixture, method: str) -> None:
        async with serving(health, metrics, ANY, ANY):
            assert (await get(addresses(log)[0], "/metrics", method)).status_code == 405

    async def test_metrics_that_cannot_be_had_say_nothing_of_why_and_the_probes_go_on(
        self, health: Health, log: pytest.LogCaptureFixture
    ) -> None:
        async with serving(health, broken, ANY, ANY):
            (address,) = addresses(log)
            failed = await get(address, "/metrics")
            assert (failed.status_code, failed.text) == (
                500,
                "no metrics: a defect of the operator, whose log says more\n",
            )
            assert (await get(address, "/healthz")).status_code == 200

        assert "no metrics for this scrape: a defect (ValueError); please report it" in log.text
        assert "canary" not in log.text

    async def test_all_that_ask_while_the_metrics_are_made_get_the_same_ones(
        self, health: Health, log: pytest.LogCaptureFixture
    ) -> None:
        begun, gate = list[None](), asyncio.Event()

        async def slow() -> bytes:
            begun.append(None)
            await gate.wait()
            return b"made %d\n" % len(begun)

        async with serving(health, slow, ANY, ANY):
            (address,) = addresses(log)
            async with httpx.AsyncClient(trust_env=False, timeout=0.2) as impatient:
                with pytest.raises(httpx.ReadTimeout):
                    await impatient.get(f"http://{address}/metrics")
            asked = [asyncio.create_task(get(address, "/metrics")) for _ in range(16)]
            assert (await get(address, "/healthz")).status_code == 200
            gate.set()
            assert {(await answer).text for answer in asked} == {"made 1\n"}
            assert (await get(address, "/metrics")).text == "made 2\n", "and no older ones later"

    async def test_metrics_that_cannot_be_had_are_said_once_for_all_that_ask(
        self, health: Health, log: pytest.LogCaptureFixture
    ) -> None:
        gate = asyncio.Event()

        async def slow() -> bytes:
            await gate.wait()
            raise ValueError("canary-in-an-error")

        async with serving(health, slow, ANY, ANY):
            (address,) = addresses(log)
            asked = [asyncio.create_task(get(address, "/metrics")) for _ in range(4)]
            assert (await get(address, "/healthz")).status_code == 200
            gate.set()
            assert {(await answer).status_code for answer in asked} == {500}

        assert log.text.count("no metrics for this scrape: a defect (ValueError); please report it") == 1

    async def test_who_reads_metrics_slowly_holds_next_to_nothing_and_harms_no_scrape(
        self, health: Health, log: pytest.LogCaptureFixture
    ) -> None:
        """The metrics of 20,000 AssetTokens are as large, and an address bears 128 connections."""
        begun, size = list[None](), 10_000_000

        async def large() -> bytes:
            begun.append(None)
            return b"x" * size

        async with serving(health, large, ANY, ANY), AsyncExitStack() as stack:
            (address,) = addresses(log)
            host, _, port = address.rpartition(":")
            tracemalloc.start()
            stack.callback(tracemalloc.stop)
            writers = list[asyncio.StreamWriter]()
            for _ in range(60):
                client = socket.create_connection((host, int(port)))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
                reader, writer = await asyncio.open_connection(sock=client)
                stack.callback(writer.close)
                writers.append(writer)
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
                assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            held, _ = tracemalloc.get_traced_memory()
            assert len(begun) <= 5
            assert held < 8 * size
            assert len((await get(address, "/metrics")).content) == size
            assert (await get(address, "/healthz")).text == "ok\n"

            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0.2)
            made = len(begun)
            await get(address, "/metrics")
            assert len(begun) == made + 1, "nobody reads any more, so they are as of now"

    async def test_metrics_are_made_anew_after_a_while_also_where_many_read_slowly(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health_module, "SHARED_SECONDS", 0.2)
        begun = list[None]()

        async def render() -> bytes:
            begun.append(None)
            return b"made %d\n" % len(begun)

        scrape = Scrape(render)
        scrape.readers = 4
        assert [await scrape.metrics() for _ in range(3)] == [b"made 1\n"] * 3
        await asyncio.sleep(0.25)
        assert await scrape.metrics() == b"made 2\n"

        scrape.readers -= 1
        assert await scrape.metrics() == b"made 3\n", "few read, so they are as of now"

    async def test_that_there_are_metrics_is_told_without_them(
        self, health: Health, log: pytest.LogCaptureFixture
    ) -> None:
        async with serving(health, metrics, ANY, ANY):
            (address,) = addresses(log)
            answer = await get(address, "/metrics", "HEAD")

        assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "5")

    async def test_an_address_in_use_is_said_in_a_sentence(self, health: Health) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(
                ListenError,
                match=rf"^127\.0\.0\.1:{port} can't be listened on: address already in use; choose another\.$",
            ):
                async with serving(health, metrics, Address("127.0.0.1", port), None):
                    raise AssertionError("it must not get here")
