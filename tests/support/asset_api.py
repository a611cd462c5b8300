"""A stand-in for Asset's token API: a real HTTP server that tests and demos start, steer and question.

It keeps the API's documented rules and fails a client that breaks one; it knows nothing of the operator. It runs in a
thread with an event loop of its own, so that synchronous and asynchronous tests use it alike, and every method may be
called from any thread. In an asynchronous test, wait with `await asyncio.to_thread(api.wait_for, …)`.

As a program, from the repository's root: `python -m tests.support.asset_api --client-id ID --client-secret SECRET`.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from aiohttp import web

from tests.support.asset_behaviour import (
    DISCONNECT,
    NOT_FOUND,
    RATE_HEADERS,
    REDIRECT_PATH,
    Behaviour,
    Plans,
    Reply,
    json_reply,
    too_many_requests,
)
from tests.support.asset_rules import (
    Budget,
    Claims,
    Client,
    Issued,
    Issuer,
    Ledger,
    RateLimit,
    RefusedError,
    TokenForm,
    Verdict,
    authorize,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Iterator, Sequence
    from types import TracebackType

Environment: TypeAlias = Literal["sandbox", "production"]

HOSTS: Final[dict[Environment, str]] = {
    "sandbox": "https://api.sandbox.getasset.com",
    "production": "https://api.getasset.com",
}
SCOPES: Final = ("ledger:create", "ledger:update", "ledger:read", "invoice:create")
TOKEN_PATH: Final = "/v0/auth/token"
PING_PATH: Final = "/v0/ping"


@dataclass(frozen=True)
class Recorded:
    """A token request, as it was asked and answered.

    Attributes:
        at: When it arrived, by the clock given to the stand-in, without `clock_offset`.
        scope: As asked, like `resources` and `expires_in`.
        status: None when nothing was answered, or the client had gone.
        token: What was sent as the access token, when that was a token at all.
        in_flight: How many token requests of its tenant were being served when it arrived, itself among them.
    """

    at: float
    environment: Environment
    client_id: str | None
    business_id: str | None
    scope: str | None
    resources: tuple[str, ...]
    expires_in: int | None
    status: int | None
    jti: str | None
    token: str | None = field(repr=False)
    in_flight: int


@dataclass(frozen=True)
class Redirected:
    """A request that followed a redirect, and whether it brought credentials along."""

    at: float
    method: str
    credentials: bool


@dataclass(frozen=True)
class Tried:
    """A request that brought a token along, and what the API said to it.

    Attributes:
        at: When it arrived, by the clock given to the stand-in, without `clock_offset`.
        user_agent: What the client called itself.
        jti: None where the token wasn't issued here.
        verdict: What the API thinks of the token; it may refuse a valid one for the rate limit only.
    """

    at: float
    user_agent: str
    jti: str | None
    verdict: Verdict


class AssetApi:
    """The stand-in; a context manager that serves as long as it is open. One instance is one environment.

    Attributes:
        clock_offset: Seconds by which the API's clock is ahead of the one given. Set it at any time.
        rate_limit: Replace it at any time; what was spent before still counts.
    """

    def __init__(
        self,
        *,
        environment: Environment = "sandbox",
        host: str | None = None,
        now: Callable[[], float] = time.time,
        rate_limit: RateLimit | None = None,
        lifetime_cap: int | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        on_request: Callable[[Recorded], None] | None = None,
    ) -> None:
        self.environment = environment
        self.clock_offset: float = 0
        self.rate_limit = rate_limit or RateLimit()
        self._now = now
        self._address = address
        self._port = port
        self._tls = tls
        self._on_request = on_request
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()  # guards everything below
        self._clients: dict[tuple[Environment, str | None], Client] = {}
        self._plans = Plans()
        self._ledger = Ledger()
        self._issuer = Issuer(host or HOSTS[environment], lifetime_cap)
        self._arrived = 0
        self._in_flight: Counter[str | None] = Counter()
        self._requests: list[Recorded] = []
        self._redirected: list[Redirected] = []
        self._tried: list[Tried] = []
        self._violations: list[str] = []

    # ---- running -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, on the same port as before when it was stopped; raises OSError when that is taken."""
        if self._thread:
            raise RuntimeError("The stand-in is running")
        listening: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening)), name="asset-api", daemon=True
        )
        self._thread.start()
        try:
            listening.result()
        except OSError:
            self._thread.join()
            self._thread = None
            raise

    def stop(self) -> None:
        """Close every connection, also those that are never answered; what was recorded and set stays."""
        if self._thread:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
            self._thread = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._address}:{self._port}"

    @property
    def host(self) -> str:
        """The API's own name: the tokens' `iss` and, unless a resource is asked for, their `aud`."""
        return self._issuer.host

    def time(self) -> float:
        """Read the API's own clock, in unix seconds."""
        return self._now() + self.clock_offset

    async def _serve(self, listening: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._address, self._port, ssl_context=self._tls).start()
            self._port = runner.addresses[0][1]
            listening.set_result(None)
            await self._stopping.wait()
            self._released.set()
        except OSError as error:
            listening.set_exception(error)
        finally:
            transports = [connection.transport for connection in server.connections if connection.transport]
            await runner.cleanup()
            for transport in transports:
                transport.abort()  # TLS would wait until the client says goodbye, too
            await asyncio.sleep(0)

    # ---- steering ----------------------------------------------------------------------------------------------------

    def register(
        self,
        client_id: str,
        client_secret: str,
        environment: Environment | None = None,
        scopes: Collection[str] = SCOPES,
    ) -> None:
        """Let a client in, by default to this instance's environment; again, with another secret, to rotate it."""
        with self._changed:
            self._clients[environment or self.environment, client_id] = Client(client_secret, tuple(scopes))

    def behave(
        self,
        behaviour: Behaviour,
        *,
        client_id: str | None = None,
        business_id: str | None = None,
        times: int | None = None,
    ) -> None:
        """Set how requests are answered: all of them, or those of a client, of a business, or of both.

        The narrowest setting wins, a business' before a client's. With `times`, the behaviour holds for that many
        requests and is then used up; such ones queue up, and go before the one without.
        """
        with self._changed:
            self._plans.add(behaviour, client_id, business_id, times)

    def behave_normally(self) -> None:
        """Forget all behaviours that were set."""
        with self._changed:
            self._plans = Plans()

    def revoke(self, token: str) -> None:
        """Refuse a token from now on, though it hasn't expired."""
        with self._changed:
            self._issuer.revoke(token)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep every token request waiting, unanswered, until the context ends."""
        self._loop.call_soon_threadsafe(self._released.clear)
        try:
            yield
        finally:
            with suppress(RuntimeError):  # the loop is closed: the stand-in was stopped in between
                self._loop.call_soon_threadsafe(self._released.set)

    def spend(self, client_id: str, n: int, business_id: str | None = None) -> int:
        """Spend a tenant's budget as another of its programs would; gives how many of the n requests went through."""
        return sum(self._charge(client_id, business_id).allowed for _ in range(n))

    # ---- questions ---------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Recorded]:
        """Every token request that was answered, or won't be, in the order of the answers."""
        with self._changed:
            return list(self._requests)

    @property
    def arrived(self) -> int:
        """How many token requests have come in, answered or not."""
        with self._changed:
            return self._arrived

    @property
    def redirected(self) -> list[Redirected]:
        """Every request that followed a redirect."""
        with self._changed:
            return list(self._redirected)

    @property
    def tried(self) -> list[Tried]:
        """Every request to the API itself, in the order they arrived."""
        with self._changed:
            return list(self._tried)

    @property
    def violations(self) -> list[str]:
        """Every breach of the API's rules, in words that hold no value sent."""
        with self._changed:
            return list(self._violations)

    def count(self, **wanted: object) -> int:
        """Count the recorded requests whose fields have these values."""
        return sum(all(getattr(seen, name) == value for name, value in wanted.items()) for seen in self.requests)

    def wait_for(self, predicate: Callable[[list[Recorded]], bool], timeout: float = 10) -> list[Recorded]:
        """Wait until the requests are as wanted; asked again whenever one arrives or is recorded.

        Raises:
            TimeoutError: They were not, after so many seconds; says what was seen.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: predicate(self.requests), timeout):
                seen = "\n".join(map(repr, self._requests))
                raise TimeoutError(f"Not as wanted after {timeout} s, {self._arrived} requests arrived:\n{seen}")
            return self.requests

    def claims(self, token: str) -> Claims | None:
        """Read a token that this instance issued, JWT or opaque; None when it did not, or the signature is wrong."""
        with self._changed:
            return self._issuer.claims(token)

    def accepts(
        self, token: str, *, scope: str | None = None, audience: str | None = None, at: float | None = None
    ) -> bool:
        """Say whether a resource server would take the token.

        Args:
            token: As it would stand behind `Bearer `.
            scope: Scopes it must have, separated by spaces.
            audience: The resource server; the API itself by default.
            at: When, on the API's clock, which by default is read.
        """
        with self._changed:
            moment = self.time() if at is None else at
            return self._issuer.judge(token, scope=scope, audience=audience, at=moment) == "valid"

    # ---- serving -----------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        routes = {("POST", TOKEN_PATH): self._answer_token, ("GET", PING_PATH): self._answer_ping}
        if request.path == REDIRECT_PATH:
            return await self._answer_redirected(request)
        return await routes.get((request.method, request.path), self._answer_unknown)(request)

    async def _answer_unknown(self, request: web.BaseRequest) -> web.StreamResponse:
        self._blame(f"{request.method} {request.path}")
        known = request.path in (TOKEN_PATH, PING_PATH)
        reply = json_reply(405, {"detail": "Method Not Allowed"}) if known else NOT_FOUND
        return await self._send(request, reply, self._charge("", None))

    async def _answer_ping(self, request: web.BaseRequest) -> web.StreamResponse:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        claims = self._try(request.headers.get("user-agent", ""), token if scheme.lower() == "bearer" else "")
        if claims is None:
            unauthorized = json_reply(401, {"detail": "Unauthorized"}, {"www-authenticate": "Bearer"})
            return await self._send(request, unauthorized, self._charge("", None))
        business_id = claims.get("business_id")
        budget = self._charge(str(claims["client_id"]), str(business_id) if business_id else None)
        reply = json_reply(200, {"ping": "pong"}) if budget.allowed else self._too_many(budget)
        return await self._send(request, reply, budget)

    async def _answer_redirected(self, request: web.BaseRequest) -> web.StreamResponse:
        sent = await request.text() + request.query_string
        credentials = "client_secret" in sent or "authorization" in request.headers
        with self._changed:
            self._redirected.append(Redirected(self._now(), request.method, credentials))
        reply = json_reply(200, {"access_token": "from-elsewhere", "token_type": "Bearer", "expires_in": 3600})
        return await self._send(request, reply, self._charge("", None))

    async def _answer_token(self, request: web.BaseRequest) -> web.StreamResponse:
        at = self._now()
        form = await TokenForm.read(request)
        with self._serving(form) as in_flight:
            budget = self._charge(form.one("client_id") or "", form.one("business_id"))
            answer = Issued(DISCONNECT)  # what it comes to if the client leaves
            try:
                answer = await self._decide(form, budget)
            except RefusedError as refused:
                answer = Issued(refused.reply)
                if refused.violation:
                    self._blame(refused.violation)
            finally:
                self._record(form, answer, at, in_flight)
            return await self._send(request, answer.reply, budget)

    async def _decide(self, form: TokenForm, budget: Budget) -> Issued:
        """Go through the API's rules in order; raises RefusedError at the first that is broken."""
        if not budget.allowed:
            raise RefusedError(self._too_many(budget))
        form.check()
        with self._changed:
            behaviour = self._plans.take(form.one("client_id"), form.one("business_id"))
        if behaviour.latency:
            await self._pause(behaviour.latency)
        await self._released.wait()
        if behaviour.failure:
            raise RefusedError(behaviour.failure)
        with self._changed:
            scopes = authorize(self._clients.get((self.environment, form.one("client_id"))), form)
            return self._issuer.issue(form, scopes, behaviour, int(self.time()))

    # ---- keeping account ---------------------------------------------------------------------------------------------

    @contextmanager
    def _serving(self, form: TokenForm) -> Iterator[int]:
        client_id = form.one("client_id")
        with self._changed:
            self._arrived += 1
            self._in_flight[client_id] += 1
            in_flight = self._in_flight[client_id]
            self._changed.notify_all()
        try:
            yield in_flight
        finally:
            with self._changed:
                self._in_flight[client_id] -= 1

    def _charge(self, client_id: str, business_id: str | None) -> Budget:
        with self._changed:
            return self._ledger.charge(self.rate_limit, client_id, business_id, self._now())

    def _try(self, user_agent: str, token: str) -> Claims | None:
        """Note that a token was tried; its claims where it is valid."""
        with self._changed:
            claims = self._issuer.claims(token)
            verdict = self._issuer.judge(token, scope=None, audience=None, at=self.time())
            jti = None if claims is None else str(claims["jti"])
            self._tried.append(Tried(self._now(), user_agent, jti, verdict))
            return claims if verdict == "valid" else None

    def _blame(self, violation: str) -> None:
        with self._changed:
            self._violations.append(violation)

    def _record(self, form: TokenForm, answer: Issued, at: float, in_flight: int) -> None:
        recorded = Recorded(
            at=at,
            environment=self.environment,
            client_id=form.one("client_id"),
            business_id=form.one("business_id"),
            scope=form.one("scope"),
            resources=form.all("resource"),
            expires_in=form.expires_in,
            status=None if answer.reply.kind in ("hang", "disconnect") else answer.reply.status,
            jti=answer.jti,
            token=answer.token,
            in_flight=in_flight,
        )
        with self._changed:
            self._requests.append(recorded)
            self._changed.notify_all()
        if self._on_request:
            self._on_request(recorded)

    # ---- sending -----------------------------------------------------------------------------------------------------

    async def _pause(self, seconds: float) -> None:
        """Wait, but not for longer than the stand-in runs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _too_many(self, budget: Budget) -> Reply:
        return too_many_requests(self.rate_limit.said_retry_after(budget, self._now(), self.clock_offset))

    def _headers(self, reply: Reply, budget: Budget) -> dict[str, str]:
        reset = math.ceil(budget.reset + self.clock_offset)
        rates = map(str, (budget.limit, budget.remaining, reset))
        headers: dict[str, str | None] = {
            "date": formatdate(self.time(), usegmt=True),
            "content-type": "application/json",
            **dict(zip(RATE_HEADERS, rates, strict=True)),
            **reply.headers,
        }
        return {name: value for name, value in headers.items() if value is not None}

    async def _send(self, request: web.BaseRequest, reply: Reply, budget: Budget) -> web.StreamResponse:
        headers = self._headers(reply, budget)
        if reply.kind == "answer":
            return web.Response(status=reply.status, body=reply.body, headers=headers)
        response = web.StreamResponse(status=reply.status, headers=headers)
        with suppress(ConnectionError):  # the client has gone
            await self._misbehave(request, response, reply)
        if request.transport:
            request.transport.close()
        return response

    async def _misbehave(self, request: web.BaseRequest, response: web.StreamResponse, reply: Reply) -> None:
        """Send what is sent before the connection is closed."""
        if reply.kind == "hang":
            await self._stopping.wait()
        elif reply.kind == "truncate":
            response.content_length = len(reply.body) + 100
            await response.prepare(request)
            await response.write(reply.body)
        elif reply.kind == "drip":
            response.content_length = len(reply.body)
            await response.prepare(request)
            for byte in reply.body:
                await response.write(bytes([byte]))
                await self._pause(1)
                if self._stopping.is_set():
                    return


# ---------------------------------------------------------------------------------------------------------------------
# As a program


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say_request(seen: Recorded) -> None:
    """Say one token request, with neither secret nor token."""
    asked = f"client_id={seen.client_id!r} business_id={seen.business_id!r} scope={seen.scope!r}"
    _say(f"token request: status={seen.status} {asked} expires_in={seen.expires_in} jti={seen.jti}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.asset_api", description="A stand-in for Asset's API")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--environment", choices=sorted(HOSTS), default="sandbox")
    parser.add_argument("--client-id", required=True)
    parser.add_argument("--client-secret", required=True)
    parser.add_argument("--lifetime-cap", type=int, metavar="SECONDS", help="the longest lifetime that is granted")
    options = parser.parse_args(arguments)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before any thread starts, so that all of them leave it to sigwait
    api = AssetApi(
        environment=options.environment,
        port=options.port,
        lifetime_cap=options.lifetime_cap,
        on_request=_say_request,
    )
    api.register(options.client_id, options.client_secret)
    with api:
        _say(f"listening on {api.url}")
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
