"""A token request over a real socket: what Asset receives, and what becomes of everything that it may answer."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import os
import re
import socket
import traceback
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
import uvloop
from pydantic import SecretStr

from asset_token_operator import asset_client
from asset_token_operator.answers import LONGEST_BODY, RateHeaders, read_answer
from asset_token_operator.asset_client import AssetClient
from asset_token_operator.errors import (
    AssetError,
    AssetUnavailableError,
    BrokenAnswerError,
    InvalidClientError,
    InvalidScopeError,
    NotLeadingError,
    RateLimitedError,
    RequestRefusedError,
)
from asset_token_operator.leadership import forever
from asset_token_operator.model import Credentials, Environment, Spec
from tests.support.asset_api import SCOPES, AssetApi
from tests.support.asset_behaviour import (
    FAILURES,
    HANG,
    Behaviour,
    Failure,
    json_reply,
    oauth_error,
    redirect,
    too_many_requests,
)
from tests.support.asset_rules import RateLimit
from tests.support.builders import CREDENTIALS, a_spec
from tests.support.certificates import a_certificate
from tests.support.connect_proxy import Proxy, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from asset_token_operator.answers import TokenAnswer

CLIENT_ID = CREDENTIALS.client_id.get_secret_value()
CLIENT_SECRET = CREDENTIALS.client_secret.get_secret_value()
TOKEN = "canary-access-token"
CANARIES = (CLIENT_SECRET, TOKEN)
ASSET_HOST = "api.sandbox.getasset.com"
SHORT_SECONDS = 0.3
"""In place of the 15 seconds for a request in all, where a test is about their end; a single step keeps them."""

ANSWER = json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600}).encode()
AGAIN = "tried again by itself."
UNREACHABLE = rf"Asset sandbox \([\w.:-]+\) could not be reached: [a-zA-Z ',]+; {AGAIN}"
UNANSWERED = rf"Asset sandbox \([\w.:-]+\) did not answer within \d+ s; {AGAIN}"
IN_FRONT = r"Something in front of Asset sandbox .+ \(200, {}\), such as .+; " + AGAIN
NO_OBJECT = f"The answer of Asset sandbox is not a JSON object; {AGAIN}"
NO_TOKEN = f"The answer of Asset sandbox has no access_token; {AGAIN}"


# ---- the world around the client -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, certificate authority or netrc of whoever runs the tests has a say."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "NETRC"):
            monkeypatch.delenv(name)


@pytest.fixture
def asset() -> Iterator[AssetApi]:
    with AssetApi() as api:
        api.register(CLIENT_ID, CLIENT_SECRET)
        yield api


@asynccontextmanager
async def a_client(
    url: str, time_left: Callable[[], timedelta] = forever, ca_file: Path | None = None
) -> AsyncIterator[AssetClient]:
    """A client of the sandbox at that URL, and of a production that nothing serves."""
    endpoints = {Environment.SANDBOX: url, Environment.PRODUCTION: "http://127.0.0.1:9"}
    async with AssetClient.connect(endpoints, None if ca_file is None else str(ca_file), time_left) as client:
        yield client


@pytest.fixture
async def client(asset: AssetApi) -> AsyncIterator[AssetClient]:
    async with a_client(asset.url) as client:
        yield client


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The records of all loggers, from DEBUG up."""
    caplog.set_level(logging.DEBUG)
    return caplog


@dataclass
class Wire:
    """Answers every request with the same bytes, and keeps what it received, for what the stand-in doesn't tell."""

    answer: bytes
    received: list[bytes] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            self.received.append(head + await reader.readexactly(int(length[1]) if length else 0))
            writer.write(self.answer)
            await writer.drain()

    def headers(self) -> list[dict[str, str]]:
        """The headers of each request, by their names in lower case."""
        heads = [request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:] for request in self.received]
        return [{name.lower(): value for name, _, value in (line.partition(": ") for line in head)} for head in heads]

    def form(self) -> list[tuple[str, str]]:
        """The fields of the only request."""
        (request,) = self.received
        return parse_qsl(request.partition(b"\r\n\r\n")[2].decode(), keep_blank_values=True, strict_parsing=True)


def an_http_answer(body: bytes = ANSWER, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def ask(client: AssetClient, spec: Spec | None = None, credentials: Credentials = CREDENTIALS) -> TokenAnswer:
    """Request a token, and read the answer."""
    return read_answer(await client.request_token(spec or a_spec(), credentials), spec or a_spec())


async def refusal(client: AssetClient) -> AssetError:
    """The error that a request, or reading its answer, ends with."""
    with pytest.raises(AssetError) as caught:
        await ask(client)
    return caught.value


def token_of(answer: TokenAnswer) -> str:
    return answer.access_token.get_secret_value()


def all_said(error: BaseException | None, log: pytest.LogCaptureFixture) -> str:
    """All that an error and those behind it say of themselves, and all that was logged."""
    said = [log.text]
    while error is not None:
        said += [str(error), repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


# ---- what is asked ---------------------------------------------------------------------------------------------------


class TestTheForm:
    async def test_asks_only_for_what_the_spec_says(self, asset: AssetApi, client: AssetClient) -> None:
        await ask(client, a_spec(scopes=()))
        (seen,) = asset.requests
        assert (seen.client_id, seen.business_id, seen.scope, seen.resources, seen.expires_in) == (
            CLIENT_ID,
            None,
            None,
            (),
            None,
        )
        assert asset.violations == []

    async def test_has_all_that_the_spec_says(self, asset: AssetApi, client: AssetClient) -> None:
        resources = ("https://api.sandbox.getasset.com/mcp", "https://example.com/a?b=c&d=e%20f")
        spec = a_spec(
            business_id="biz_GA6EG2qFxA97NZHtxeLPUy",
            scopes=("ledger:create", "ledger:read"),
            resources=resources,
            lifetime=timedelta(minutes=30),
        )
        await ask(client, spec)
        (seen,) = asset.requests
        assert seen.business_id == "biz_GA6EG2qFxA97NZHtxeLPUy"
        assert seen.scope == "ledger:create ledger:read"
        assert seen.resources == resources
        assert seen.expires_in == 1800
        assert asset.violations == []

    async def test_is_sent_field_by_field_as_documented(self) -> None:
        wire = Wire(an_http_answer())
        spec = a_spec(
            business_id="biz_1", scopes=("a", "b"), resources=("https://a.example", "https://b.example"),
            lifetime=timedelta(hours=1),
        )  # fmt: skip
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}") as client:
            await ask(client, spec)
        assert sorted(wire.form()) == [
            ("business_id", "biz_1"),
            ("client_id", CLIENT_ID),
            ("client_secret", CLIENT_SECRET),
            ("expires_in", "3600"),
            ("grant_type", "client_credentials"),
            ("resource", "https://a.example"),
            ("resource", "https://b.example"),
            ("scope", "a b"),
        ]
        assert wire.received[0].startswith(b"POST /v0/auth/token HTTP/1.1\r\n")
        assert wire.headers()[0]["content-type"] == "application/x-www-form-urlencoded"

    @pytest.mark.parametrize(
        "secret",
        [
            pytest.param("a&client_id=other", id="ampersand"),
            pytest.param("a+b %20=c", id="plus-space-percent"),
            pytest.param("pässwörd-密", id="beyond-ascii"),
            pytest.param("a\nb", id="line-break-inside"),
        ],
    )
    async def test_carries_a_client_secret_of_any_characters(
        self, asset: AssetApi, client: AssetClient, secret: str
    ) -> None:
        asset.register("other", secret)
        await ask(client, credentials=Credentials(SecretStr("other"), SecretStr(secret)))
        assert asset.count(client_id="other", status=200) == 1
        assert asset.violations == []

    async def test_goes_to_the_environment_that_the_spec_names(self, asset: AssetApi) -> None:
        with AssetApi(environment="production") as production:
            production.register(CLIENT_ID, CLIENT_SECRET)
            endpoints = {Environment.SANDBOX: asset.url, Environment.PRODUCTION: production.url}
            async with AssetClient.connect(endpoints, None, forever) as client:
                await ask(client, a_spec(environment=Environment.PRODUCTION))
            assert production.count(status=200) == 1
        assert asset.arrived == 0

    async def test_goes_below_the_path_of_the_base_url(self) -> None:
        wire = Wire(an_http_answer())
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}/asset") as client:
            await ask(client)
        assert wire.received[0].startswith(b"POST /asset/v0/auth/token HTTP/1.1\r\n")

    async def test_has_no_authorization_header_from_a_netrc(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setenv("HOME", str(tmp_path))
        wire = Wire(an_http_answer())
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}") as client:
            await ask(client)
        assert "authorization" not in wire.headers()[0]

    async def test_brings_no_cookie_that_another_tenant_was_given(self) -> None:
        wire = Wire(an_http_answer(headers={"set-cookie": "session=of-the-first-tenant; Path=/"}))
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}") as client:
            await ask(client)
            await ask(client, credentials=Credentials(SecretStr("other"), SecretStr("other-secret")))
        assert len(wire.received) == 2
        assert [headers.get("cookie") for headers in wire.headers()] == [None, None]


# ---- what is answered ------------------------------------------------------------------------------------------------


class TestAToken:
    async def test_is_given_as_it_was_issued(self, asset: AssetApi, client: AssetClient) -> None:
        answer = await ask(client)
        (seen,) = asset.requests
        assert token_of(answer) == seen.token
        assert asset.accepts(token_of(answer), scope="ledger:read")
        assert answer.claims
        assert answer.claims.jti == seen.jti
        assert answer.claims.scopes == ("ledger:read",)

    @pytest.mark.parametrize(
        "token", [pytest.param("opaque", id="opaque"), pytest.param("jwt_without_exp", id="jwt-without-exp")]
    )
    async def test_need_not_be_a_jwt_that_says_when_it_expires(
        self, asset: AssetApi, client: AssetClient, token: Any
    ) -> None:
        asset.behave(Behaviour(token=token))
        answer = await ask(client)
        assert asset.accepts(token_of(answer))
        assert answer.claims is None or answer.claims.exp is None

    @pytest.mark.parametrize(
        ("sent", "read"),
        [
            pytest.param("duration", 3600, id="duration"),
            pytest.param("timestamp", 1_800_003_600, id="timestamp"),
            pytest.param("absent", None, id="absent"),
            pytest.param("null", None, id="null"),
            pytest.param("string", "3600", id="string"),
            pytest.param("timestamp_string", "1800003600", id="timestamp-string"),
            pytest.param("past_timestamp", 1_799_996_400, id="past-timestamp"),
            pytest.param("zero", 0, id="zero"),
            pytest.param("negative", -3600, id="negative"),
            pytest.param("absurd", 10**18, id="absurd"),
            pytest.param("contradicts", 36000, id="contradicts"),
        ],
    )
    async def test_comes_with_expires_in_as_it_stands_there(self, sent: str, read: object) -> None:
        with AssetApi(now=lambda: 1_800_000_000) as asset:
            asset.register(CLIENT_ID, CLIENT_SECRET)
            asset.behave(Behaviour(expires_in=sent))
            async with a_client(asset.url) as client:
                assert (await ask(client)).expires_in == read

    async def test_comes_with_an_expires_in_that_is_no_number(self, asset: AssetApi, client: AssetClient) -> None:
        asset.behave(Behaviour(expires_in="nan"))
        expires_in = (await ask(client)).expires_in
        assert isinstance(expires_in, float)
        assert math.isnan(expires_in)

    async def test_comes_with_the_scopes_that_the_answer_names(self, asset: AssetApi, client: AssetClient) -> None:
        asset.behave(Behaviour(granted_scopes=("invoice:create", "ledger:read"), echo_scope=True))
        answer = await ask(client, a_spec(scopes=SCOPES))
        assert answer.scopes == ("invoice:create", "ledger:read")

    async def test_is_taken_without_a_token_type(self, asset: AssetApi, client: AssetClient) -> None:
        asset.behave(Behaviour(token_type=None))
        assert asset.accepts(token_of(await ask(client)))

    @pytest.mark.parametrize(
        ("behaviour", "sentence"),
        [
            pytest.param(
                Behaviour(token="with_newline"),
                f"The token of Asset sandbox has characters that no Authorization header may carry; {AGAIN}",
                id="with-newline",
            ),
            pytest.param(Behaviour(token="blank"), NO_TOKEN, id="blank"),
            pytest.param(Behaviour(token="absent"), NO_TOKEN, id="absent"),
            pytest.param(Behaviour(token="not_a_string"), NO_TOKEN, id="not-a-string"),
            pytest.param(
                Behaviour(token="huge"),
                f"The token of Asset sandbox is longer than 16384 characters; {AGAIN}",
                id="huge",
            ),
            pytest.param(
                Behaviour(token_type="mac"),
                f"The token of Asset sandbox is not a Bearer token; {AGAIN}",
                id="of-another-type",
            ),
        ],
    )
    async def test_that_is_no_use_is_a_broken_answer(
        self, asset: AssetApi, client: AssetClient, behaviour: Behaviour, sentence: str
    ) -> None:
        asset.behave(behaviour)
        error = await refusal(client)
        assert type(error) is BrokenAnswerError
        assert str(error) == sentence

    async def test_is_read_from_an_answer_of_just_the_longest_length(self) -> None:
        frame = json.dumps({"access_token": TOKEN, "x": ""}).encode()
        body = frame.replace(b'""', b'"' + b"x" * (LONGEST_BODY - len(frame)) + b'"')
        assert len(body) == LONGEST_BODY
        async with serving(Wire(an_http_answer(body))) as port, a_client(f"http://127.0.0.1:{port}") as client:
            assert token_of(await ask(client)) == TOKEN
        longer = body.replace(b"xx", b"xxx", 1)
        async with serving(Wire(an_http_answer(longer))) as port, a_client(f"http://127.0.0.1:{port}") as client:
            assert type(await refusal(client)) is BrokenAnswerError


SECRET = "in Secret asset-credentials"
UNAVAILABLE, BROKEN, LIMITED = AssetUnavailableError, BrokenAnswerError, RateLimitedError
MEANINGS: dict[str, tuple[type[AssetError], str]] = {
    "invalid_client": (
        InvalidClientError,
        rf"Asset sandbox refused the credentials {SECRET} \(401 invalid_client\): check client_id and .+\.",
    ),
    "invalid_scope": (
        InvalidScopeError,
        rf"Asset sandbox .+ {SECRET} \(400 invalid_scope\): correct spec\.scopes.+\.",
    ),
    "forbidden": (RequestRefusedError, rf"Asset sandbox forbids the request \(403\): .+ {SECRET} may do\."),
    "not_found": (UNAVAILABLE, rf"There is no token endpoint .+ \(404\): check --sandbox-url; {AGAIN}"),
    "fastapi_422": (RequestRefusedError, r"Asset sandbox found the request malformed \(422\): check spec\..+\."),
    "fastapi_detail": (RequestRefusedError, rf"Asset sandbox refused the request \(400\): check .+ {SECRET}\."),
    "server_error_500": (UNAVAILABLE, rf"Asset sandbox failed \(500\); {AGAIN}"),
    "bad_gateway_html": (UNAVAILABLE, rf"Asset sandbox failed \(502\); {AGAIN}"),
    "unavailable_503": (UNAVAILABLE, rf"Asset sandbox failed \(503\); {AGAIN}"),
    "too_many_requests": (LIMITED, rf"The rate limit of the credentials {SECRET} .+ \(429\), .+; {AGAIN}"),
    "too_many_requests_bare": (LIMITED, rf"The rate limit of the credentials {SECRET} .+ \(429\), .+; {AGAIN}"),
    "redirect": (UNAVAILABLE, rf"Asset sandbox answered with a redirect \(307\), .+; {AGAIN}"),
    "empty_200": (UNAVAILABLE, IN_FRONT.format("application/json")),
    "html_200": (UNAVAILABLE, IN_FRONT.format("text/html")),
    "truncated_json": (BROKEN, NO_OBJECT),
    "json_array": (BROKEN, NO_OBJECT),
    "deeply_nested": (BROKEN, NO_OBJECT),
    "enormous": (BROKEN, NO_OBJECT),
    "hang": (UNAVAILABLE, UNANSWERED),
    "drip": (UNAVAILABLE, UNANSWERED),
    "disconnect": (UNAVAILABLE, UNREACHABLE),
    "truncated_body": (UNAVAILABLE, UNREACHABLE),
}
SLOW = ("hang", "drip")


class TestWhatSurroundsAnAnswer:
    async def test_is_the_apis_clock_and_the_tenants_budget(self) -> None:
        with AssetApi(now=lambda: 1_800_000_000, rate_limit=RateLimit(per_tenant=10)) as asset:
            asset.register(CLIENT_ID, CLIENT_SECRET)
            asset.clock_offset = 3600
            async with a_client(asset.url) as client:
                reply = await client.request_token(a_spec(), CREDENTIALS)
        assert reply.status == 200
        assert reply.date == datetime.fromtimestamp(1_800_003_600, UTC)
        assert reply.rate == RateHeaders(10, 9, 1_800_003_660, timedelta(seconds=60))
        assert reply.retry_after is None

    async def test_comes_with_a_failure_too(self, asset: AssetApi, client: AssetClient) -> None:
        asset.behave(Behaviour(failure=too_many_requests("7")))
        reply = await client.request_token(a_spec(), CREDENTIALS)
        assert (reply.status, reply.retry_after) == (429, timedelta(seconds=7))
        assert reply.rate
        assert reply.rate.remaining == 0

    async def test_may_be_left_out(self) -> None:
        async with serving(Wire(an_http_answer())) as port, a_client(f"http://127.0.0.1:{port}") as client:
            reply = await client.request_token(a_spec(), CREDENTIALS)
        assert (reply.rate, reply.date, reply.retry_after) == (None, None, None)

    @pytest.mark.parametrize(
        "headers",
        [
            pytest.param({"x-ratelimit-reset": "9" * 400}, id="reset-beyond-any-number"),
            pytest.param({"x-ratelimit-reset": "-" + "9" * 400}, id="reset-before-any-number"),
            pytest.param({"x-ratelimit-limit": "9" * 5000}, id="limit-of-5000-digits"),
            pytest.param({"x-ratelimit-remaining": "many"}, id="remaining-is-no-number"),
            pytest.param({"date": "yesterday"}, id="date-is-none"),
            pytest.param({"date": "Fri, 01 May 9999999 12:00:00 +9999"}, id="date-beyond-the-calendar"),
            pytest.param({"retry-after": "soon"}, id="retry-after-is-none"),
        ],
    )
    async def test_spoils_no_token_when_it_makes_no_sense(self, headers: Mapping[str, str]) -> None:
        usual = {
            "date": "Fri, 01 May 2026 12:00:00 GMT",
            "x-ratelimit-limit": "300",
            "x-ratelimit-remaining": "299",
            "x-ratelimit-reset": "1777636860",
        }
        wire = Wire(an_http_answer(headers={**usual, **headers}))
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}") as client:
            assert token_of(await ask(client)) == TOKEN


class TestAFailure:
    def test_of_every_kind_that_the_stand_in_knows_has_a_meaning_here(self) -> None:
        assert set(MEANINGS) == set(FAILURES)

    @pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in MEANINGS])
    async def test_is_told_by_its_class_and_a_sentence_and_spoils_no_later_request(
        self, asset: AssetApi, client: AssetClient, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        asset.behave(Behaviour(failure=FAILURES[name]), times=1)
        kind, sentence = MEANINGS[name]
        with monkeypatch.context() as patch:
            if name in SLOW:
                patch.setattr(asset_client, "TIMEOUT_SECONDS", SHORT_SECONDS)
            async with asyncio.timeout(2):
                error = await refusal(client)
        assert type(error) is kind
        assert re.fullmatch(sentence, str(error))
        assert asset.accepts(token_of(await ask(client)))
        assert asset.redirected == []

    @pytest.mark.parametrize("status", [pytest.param(status, id=str(status)) for status in (301, 302, 303, 307, 308)])
    async def test_by_redirection_is_not_followed(self, asset: AssetApi, client: AssetClient, status: int) -> None:
        asset.behave(Behaviour(failure=redirect(status)))
        assert type(await refusal(client)) is AssetUnavailableError
        assert asset.arrived == 1
        assert asset.redirected == []

    async def test_to_end_is_cut_off_while_bytes_still_arrive(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """No single wait is long here, so that only the time for the whole request can end it."""

        async def dribble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(SHORT_SECONDS / 20)

        async with serving(dribble) as port:
            monkeypatch.setattr(asset_client, "TIMEOUT_SECONDS", SHORT_SECONDS)
            async with a_client(f"http://127.0.0.1:{port}") as client, asyncio.timeout(2):
                error = await refusal(client)
        assert type(error) is AssetUnavailableError
        assert re.fullmatch(UNANSWERED, str(error))

    async def test_to_end_is_cut_off_when_there_is_too_much(self) -> None:
        sent = 0

        async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in count():
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()
                sent += 0x10000

        async with serving(pour) as port, a_client(f"http://127.0.0.1:{port}") as client, asyncio.timeout(2):
            error = await refusal(client)
        assert type(error) is AssetUnavailableError
        assert LONGEST_BODY <= sent < 50 * LONGEST_BODY  # what is beyond lay in the sockets' buffers

    async def test_to_compress_as_asked_is_a_broken_answer(self) -> None:
        """Nothing is unpacked, so that a small answer can't become a huge one."""
        wire = Wire(an_http_answer(b"\x1f\x8b\x08" + bytes(40), headers={"content-encoding": "gzip"}))
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}") as client:
            assert str(await refusal(client)) == NO_OBJECT
        assert wire.headers()[0]["accept-encoding"] == "identity"

    @pytest.mark.parametrize(
        "answer",
        [
            pytest.param(b"not HTTP at all\r\n\r\n", id="not-http"),
            pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", id="length-is-no-number"),
            pytest.param(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000 + b"\r\n\r\n", id="endless-header"),
            pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", id="chunk-without-length"),
            pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="status-of-four-digits"),
        ],
    )
    async def test_to_speak_http_is_told_as_one_to_reach(self, answer: bytes) -> None:
        async with serving(Wire(answer)) as port, a_client(f"http://127.0.0.1:{port}") as client:
            async with asyncio.timeout(2):
                error = await refusal(client)
        assert isinstance(error, AssetUnavailableError)

    async def test_to_connect_is_told(self) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # and doesn't listen
            host = f"127.0.0.1:{bound.getsockname()[1]}"
            async with a_client(f"http://{host}") as client:
                error = await refusal(client)
        assert type(error) is AssetUnavailableError
        assert str(error) == f"Asset sandbox ({host}) could not be reached: connection refused; {AGAIN}"

    async def test_to_find_the_host_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def nowhere(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", nowhere)  # what a resolver says depends on where the tests run
        async with a_client("https://asset.invalid") as client:
            error = await refusal(client)
        assert type(error) is AssetUnavailableError
        assert str(error) == f"Asset sandbox (asset.invalid) could not be reached: its name can't be resolved; {AGAIN}"

    async def test_is_none_when_an_idle_connection_was_closed(self, asset: AssetApi, client: AssetClient) -> None:
        await ask(client)
        await asyncio.to_thread(asset.stop)  # the event loop sees that the connection ends
        await asyncio.to_thread(asset.start)
        await ask(client)
        assert asset.count(status=200) == 2

    async def test_is_not_made_of_a_cancellation(self, asset: AssetApi, client: AssetClient) -> None:
        with asset.held():
            request = asyncio.create_task(ask(client))
            await asyncio.to_thread(asset.wait_for, lambda _: asset.arrived == 1)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        assert asset.accepts(token_of(await ask(client)))


# ---- TLS and proxies -------------------------------------------------------------------------------------------------


class TestTls:
    async def test_with_a_certificate_that_nobody_trusts_is_refused(self, tmp_path: Path) -> None:
        wire, certificate = Wire(an_http_answer()), a_certificate(tmp_path)
        async with serving(wire, certificate.context) as port, a_client(f"https://127.0.0.1:{port}") as client:
            error = await refusal(client)
        assert type(error) is AssetUnavailableError
        assert re.fullmatch(UNREACHABLE, str(error))
        assert wire.received == []

    @pytest.mark.parametrize(
        "flaw",
        [pytest.param({"host": "other.example"}, id="of-another-host"), pytest.param({"expired": True}, id="expired")],
    )
    async def test_with_a_flawed_certificate_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flaw: Any
    ) -> None:
        certificate = a_certificate(tmp_path, **flaw)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        wire = Wire(an_http_answer())
        async with serving(wire, certificate.context) as port, a_client(f"https://127.0.0.1:{port}") as client:
            assert type(await refusal(client)) is AssetUnavailableError
        assert wire.received == []

    async def test_with_a_certificate_of_the_given_authority_is_trusted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate = a_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        wire = Wire(an_http_answer())
        async with serving(wire, certificate.context) as port, a_client(f"https://127.0.0.1:{port}") as client:
            assert token_of(await ask(client)) == TOKEN
        assert len(wire.received) == 1

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            pytest.param(None, "file not found", id="not there"),
            pytest.param("canary", "no certificates in PEM form", id="no certificates"),
        ],
    )
    def test_with_authorities_that_cannot_be_read_is_said_in_a_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, why: str
    ) -> None:
        if text is not None:
            (tmp_path / "ca.crt").write_text(text)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
        with pytest.raises(AssetUnavailableError) as caught:
            AssetClient.connect({Environment.SANDBOX: f"https://{ASSET_HOST}"}, None, forever)
        assert str(caught.value) == f"The CAs can't be read: {why}; check --ca-file, SSL_CERT_FILE and SSL_CERT_DIR."


class TestAProxy:
    @pytest.mark.parametrize(
        "variable",
        [pytest.param(name, id=name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")],
    )
    async def test_of_the_usual_variables_tunnels_and_sees_no_credentials(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        certificate = a_certificate(tmp_path, host=ASSET_HOST)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
        wire = Wire(an_http_answer())
        async with serving(wire, certificate.context) as port:
            proxy = Proxy(port)
            async with serving(proxy) as proxy_port:
                monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy_port}")
                async with a_client(f"https://{ASSET_HOST}") as client:
                    assert token_of(await ask(client)) == TOKEN
        assert len(wire.received) == 1
        (asked,) = proxy.asked
        assert asked.startswith(f"CONNECT {ASSET_HOST}:443 HTTP/1.1\r\n".encode())
        assert CLIENT_SECRET.encode() not in asked

    @pytest.mark.parametrize("exempt", ["127.0.0.0/8,.getasset.com", "*", f"{ASSET_HOST}:443,getasset.com"])
    async def test_is_passed_by_for_a_host_in_no_proxy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exempt: str
    ) -> None:
        certificate = a_certificate(tmp_path, host=ASSET_HOST)
        proxy, real = Proxy(), socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", lambda _, port, *a, **b: real("127.0.0.1", port, *a, **b))
        async with serving(Wire(an_http_answer()), certificate.context) as port, serving(proxy) as proxy_port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy_port}")
            monkeypatch.setenv("NO_PROXY", exempt)
            async with a_client(f"https://{ASSET_HOST}:{port}", ca_file=certificate.path) as client:
                assert token_of(await ask(client)) == TOKEN
        assert proxy.asked == []

    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
    def test_that_is_spoken_to_by_https_may_have_a_certificate_of_the_given_authority(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[Any], None]
    ) -> None:
        """Also a TLS connection in a TLS connection, in the event loop that the operator runs in."""
        theirs, ours = tmp_path / "theirs", tmp_path / "ours"
        theirs.mkdir()
        ours.mkdir()
        asset, other = a_certificate(theirs, host=ASSET_HOST), a_certificate(ours)
        ca_file = tmp_path / "ca.crt"
        ca_file.write_bytes(asset.path.read_bytes() + other.path.read_bytes())

        async def scenario() -> None:
            wire = Wire(an_http_answer())
            async with serving(wire, asset.context) as port:
                proxy = Proxy(port)
                async with serving(proxy, other.context) as proxy_port:
                    monkeypatch.setenv("HTTPS_PROXY", f"https://me:canary%40@127.0.0.1:{proxy_port}")
                    async with a_client(f"https://{ASSET_HOST}", ca_file=ca_file) as client:
                        for _ in range(2):
                            assert token_of(await ask(client)) == TOKEN
            assert len(wire.received) == 2
            (asked,) = proxy.asked
            assert asked.startswith(f"CONNECT {ASSET_HOST}:443 HTTP/1.1\r\n".encode())
            assert f"Basic {base64.b64encode(b'me:canary@').decode()}\r\n".encode() in asked
            assert b"canary" not in asked

        run(scenario())

    async def test_whose_certificate_nobody_trusts_is_asked_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate, proxy = a_certificate(tmp_path), Proxy()
        async with serving(proxy, certificate.context) as proxy_port:
            monkeypatch.setenv("HTTPS_PROXY", f"https://127.0.0.1:{proxy_port}")
            async with a_client(f"https://{ASSET_HOST}") as client:
                error = await refusal(client)
        assert str(error) == (
            f"Asset sandbox ({ASSET_HOST}) could not be reached: its certificate, or that of a proxy on the way, isn't"
            f" trusted; {AGAIN}"
        )
        assert proxy.asked == []

    @pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
    def test_of_another_kind_is_said_in_a_sentence(
        self, monkeypatch: pytest.MonkeyPatch, everything_logged: pytest.LogCaptureFixture, variable: str
    ) -> None:
        monkeypatch.setenv(variable, "socks5h://me:canary@127.0.0.1:1080")
        with pytest.raises(AssetUnavailableError) as caught:
            AssetClient.connect({Environment.SANDBOX: f"https://{ASSET_HOST}"}, None, forever)
        assert str(caught.value) == (
            f"{variable} names a proxy of another kind than http:// and https://, which is not supported; set one"
            " of these."
        )
        assert "canary" not in all_said(caught.value, everything_logged)

    async def test_that_refuses_makes_asset_unreachable_and_its_password_is_not_told(
        self, monkeypatch: pytest.MonkeyPatch, everything_logged: pytest.LogCaptureFixture
    ) -> None:
        proxy = Proxy()
        async with serving(proxy) as proxy_port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://user:canary-proxy@127.0.0.1:{proxy_port}")
            async with a_client(f"https://{ASSET_HOST}") as client:
                error = await refusal(client)
        assert type(error) is AssetUnavailableError
        assert re.fullmatch(UNREACHABLE, str(error))
        assert len(proxy.asked) == 1
        assert "canary" not in all_said(error, everything_logged)

    async def test_gets_no_request_to_loopback_in_the_clear(
        self, asset: AssetApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Plain http is admitted for loopback alone because it doesn't leave the machine."""
        proxy = Proxy()
        async with serving(proxy) as proxy_port:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy_port}")
            async with a_client(asset.url) as client:
                with suppress(AssetError):
                    await ask(client)
        assert proxy.asked == []
        assert asset.count(status=200) == 1


# ---- what nobody gets to see -----------------------------------------------------------------------------------------

ECHO = f"{CLIENT_ID} {CLIENT_SECRET} {TOKEN}"
ECHOES = {
    "error-description": oauth_error(401, "invalid_client", ECHO),
    "error-code": oauth_error(400, ECHO, "x"),
    "error-uri": json_reply(400, {"error": "invalid_request", "error_uri": f"https://a.example/?s={CLIENT_SECRET}"}),
    "fastapi-input": json_reply(422, {"detail": [{"loc": ["body"], "msg": ECHO, "type": ECHO, "input": ECHO}]}),
    "fastapi-detail": json_reply(403, {"detail": ECHO}),
    "not-found": json_reply(404, {"detail": ECHO}),
    "rate-limit": json_reply(429, {"detail": ECHO}),
    "stack-trace": Failure(500, f"<pre>client_secret={CLIENT_SECRET}\n{TOKEN}</pre>".encode()),
    "redirect-body": Failure(302, ECHO.encode(), {"location": "/v0/auth/elsewhere"}),
    "html": Failure(200, f"<p>{ECHO}</p>".encode()),
    "truncated-json": Failure(200, ANSWER[:-1]),
    "array": Failure(200, b"[" + ANSWER + b"]"),
    "no-utf-8": Failure(200, b"\xff" + ANSWER),
    "deep": Failure(200, ANSWER[:-1] + b', "x": ' + b"[" * 100_000),
    "enormous": Failure(200, ANSWER[:-1] + b', "x": "' + b"x" * LONGEST_BODY + b'"}'),
    "line-break-in-token": json_reply(200, {"access_token": TOKEN + "\r\nx: y"}),
    "long-token": json_reply(200, {"access_token": TOKEN * 2000}),
    "token-in-a-list": json_reply(200, {"access_token": [TOKEN]}),
    "token-type": json_reply(200, {"access_token": TOKEN, "token_type": ECHO}),
    "truncated-body": Failure(200, ANSWER, kind="truncate"),
    "disconnect": Failure(kind="disconnect"),
    "hang": Failure(kind="hang"),
    "drip": Failure(200, ANSWER, kind="drip"),
}


class TestNothingLeaks:
    @pytest.mark.parametrize("failure", [pytest.param(failure, id=name) for name, failure in ECHOES.items()])
    async def test_when_an_answer_repeats_what_was_sent(
        self,
        asset: AssetApi,
        client: AssetClient,
        monkeypatch: pytest.MonkeyPatch,
        everything_logged: pytest.LogCaptureFixture,
        failure: Failure,
    ) -> None:
        asset.behave(Behaviour(failure=failure))
        if failure.kind in SLOW:
            monkeypatch.setattr(asset_client, "TIMEOUT_SECONDS", SHORT_SECONDS)
        error = await refusal(client)
        assert asset.arrived == 1
        said = all_said(error, everything_logged)
        assert [canary for canary in CANARIES if canary in said] == []

    @pytest.mark.parametrize(
        ("status", "headers"),
        [
            pytest.param("307 Temporary Redirect", {"location": f"/?client_secret={CLIENT_SECRET}"}, id="location"),
            pytest.param("401 Unauthorized", {"www-authenticate": f'Bearer error="{TOKEN}"'}, id="www-authenticate"),
            pytest.param("200 OK", {"set-cookie": f"session={TOKEN}"}, id="set-cookie"),
            pytest.param("200 OK", {"authorization": f"Bearer {TOKEN}"}, id="authorization"),
            pytest.param(f"400 {CLIENT_SECRET}", {}, id="reason-phrase"),
        ],
    )
    async def test_when_a_header_repeats_what_was_sent(
        self, everything_logged: pytest.LogCaptureFixture, status: str, headers: Mapping[str, str]
    ) -> None:
        wire = Wire(an_http_answer(b"", status, headers))
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}") as client:
            error = await refusal(client)
        assert len(wire.received) == 1
        said = all_said(error, everything_logged)
        assert [canary for canary in CANARIES if canary in said] == []

    async def test_when_nothing_answers(self, everything_logged: pytest.LogCaptureFixture) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            async with a_client(f"http://127.0.0.1:{bound.getsockname()[1]}") as client:
                error = await refusal(client)
        assert "canary" not in all_said(error, everything_logged)

    async def test_when_a_token_is_issued(
        self, asset: AssetApi, client: AssetClient, everything_logged: pytest.LogCaptureFixture
    ) -> None:
        answer = await ask(client)
        assert asset.accepts(token_of(answer))
        shown = f"{everything_logged.text} {answer!r} {answer} {client!r}"
        assert token_of(answer) not in shown
        assert CLIENT_SECRET not in shown
        assert logging.getLogger("httpx").getEffectiveLevel() == logging.WARNING  # it would tell headers


class TestTimeLeft:
    """What the Lease has left bounds a request, and none is sent without."""

    async def test_nothing_is_sent_when_there_is_none(self, asset: AssetApi) -> None:
        def none() -> timedelta:
            raise NotLeadingError

        async with a_client(asset.url, none) as client:
            with pytest.raises(NotLeadingError):
                await ask(client)
        assert asset.arrived == 0

    async def test_nothing_is_sent_when_it_ended_while_connecting(self) -> None:
        """The first byte is what counts: a machine may have been suspended between the question and the send."""
        asked = 0

        def ends() -> timedelta:
            nonlocal asked
            asked += 1
            if asked > 1:
                raise NotLeadingError
            return timedelta(seconds=15)

        wire = Wire(an_http_answer())
        async with serving(wire) as port, a_client(f"http://127.0.0.1:{port}", ends) as client:
            with pytest.raises(NotLeadingError):
                await ask(client)
        assert asked == 2
        assert wire.received == []

    async def test_a_request_takes_no_longer(self, asset: AssetApi) -> None:
        asset.behave(Behaviour(failure=HANG))
        async with a_client(asset.url, lambda: timedelta(seconds=0.2)) as client, asyncio.timeout(5):
            with pytest.raises(AssetUnavailableError, match="within 0 s"):
                await ask(client)
