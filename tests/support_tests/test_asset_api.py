"""The stand-in keeps the API's rules, and misbehaves exactly as told."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx
import jwt
import pytest

from tests.support import asset_behaviour as behaviours
from tests.support.asset_api import HOSTS, AssetApi, Recorded
from tests.support.asset_behaviour import FAILURES, Behaviour, Failure
from tests.support.asset_rules import RateLimit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.asset_behaviour import TokenKind

SECRET = "canary-s3cret"
CREDENTIALS = {"client_id": "tenant", "client_secret": SECRET}
NOW = 1_800_000_000.0  # a multiple of 60: a fixed window starts here


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(clock: Clock) -> Iterator[AssetApi]:
    with AssetApi(now=clock) as api:
        api.register("tenant", SECRET)
        yield api


@pytest.fixture
def http(api: AssetApi) -> Iterator[httpx.Client]:
    with connect(api) as client:
        yield client


def connect(api: AssetApi) -> httpx.Client:
    return httpx.Client(base_url=api.url, trust_env=False, verify=False)  # loading certificates would take longest


class Asking:
    """Asks for tokens as a client that keeps the rules does."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def __call__(self, **fields: str | list[str]) -> httpx.Response:
        return self.http.post("/v0/auth/token", data=CREDENTIALS | fields)

    def token(self, **fields: str | list[str]) -> str:
        response = self(**fields)
        assert response.status_code == 200, response.text
        return str(response.json()["access_token"])


@pytest.fixture
def ask(http: httpx.Client) -> Asking:
    return Asking(http)


def read(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_issues_a_jwt_of_an_hour_when_nothing_is_asked(api: AssetApi, ask: Asking) -> None:
    response = ask()
    token = response.json().pop("access_token")
    assert response.json() == {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "typ": "JWT"}
    assert read(token) == {
        "iss": "https://api.sandbox.getasset.com",
        "aud": "https://api.sandbox.getasset.com",
        "iat": NOW,
        "nbf": NOW,
        "exp": NOW + 3600,
        "jti": "token-1",
        "scope": "ledger:create ledger:update ledger:read invoice:create",
        "client_id": "tenant",
    }
    assert api.claims(token) == read(token)
    assert api.violations == []


def test_issues_what_is_asked(ask: Asking) -> None:
    response = ask(
        grant_type="client_credentials",
        business_id="biz_GA6EG2qFxA97NZHtxeLPUy",
        scope="ledger:create ledger:read",
        expires_in="600",
        resource="https://api.sandbox.getasset.com/mcp",
    )
    claims = read(response.json()["access_token"])
    assert response.json()["expires_in"] == 600
    assert claims["exp"] == NOW + 600
    assert claims["business_id"] == "biz_GA6EG2qFxA97NZHtxeLPUy"
    assert claims["scope"] == "ledger:create ledger:read"
    assert claims["aud"] == "https://api.sandbox.getasset.com/mcp"


def test_several_resources_are_a_list_of_audiences(api: AssetApi, ask: Asking) -> None:
    token = ask.token(resource=["https://a.example/x", "urn:example:b"])
    assert read(token)["aud"] == ["https://a.example/x", "urn:example:b"]
    assert api.accepts(token, audience="urn:example:b")
    assert not api.accepts(token)


def test_every_token_has_another_jti(api: AssetApi, ask: Asking) -> None:
    ask()
    ask()
    assert [seen.jti for seen in api.requests] == ["token-1", "token-2"]


def test_production_names_its_own_host(clock: Clock) -> None:
    with AssetApi(environment="production", now=clock) as api, connect(api) as http:
        api.register("tenant", SECRET)
        assert read(Asking(http).token())["iss"] == HOSTS["production"] == api.host


def test_the_host_in_tokens_can_be_chosen(clock: Clock) -> None:
    with (
        AssetApi(host="https://api.example", now=clock) as api,
        connect(api) as http,
    ):
        api.register("tenant", SECRET)
        token = Asking(http).token()
        assert read(token)["aud"] == "https://api.example"
        assert api.accepts(token)


def test_a_lifetime_above_the_cap_is_cut(clock: Clock) -> None:
    with AssetApi(lifetime_cap=60, now=clock) as api, connect(api) as http:
        api.register("tenant", SECRET)
        assert [Asking(http)(expires_in=asked).json()["expires_in"] for asked in ("30", "7200")] == [30, 60]


# ---- credentials -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"client_id": "nobody"}, id="unknown client"),
        pytest.param({"client_secret": "wrong"}, id="wrong secret"),
        pytest.param({"client_secret": SECRET + "\n"}, id="line break after the secret"),
        pytest.param({"client_id": "producer", "client_secret": "p"}, id="registered for the other environment"),
    ],
)
def test_wrong_credentials_are_an_invalid_client(api: AssetApi, ask: Asking, fields: dict[str, str]) -> None:
    api.register("producer", "p", "production")
    response = ask(**fields)
    assert (response.status_code, response.json()["error"]) == (401, "invalid_client")
    assert api.violations == []


def test_a_rotated_secret_replaces_the_old_one(api: AssetApi, ask: Asking) -> None:
    api.register("tenant", "new")
    assert ask().status_code == 401
    assert ask(client_secret="new").status_code == 200


def test_a_scope_that_the_client_may_not_have_is_refused(api: AssetApi, ask: Asking) -> None:
    api.register("tenant", SECRET, scopes=("ledger:read",))
    response = ask(scope="ledger:read invoice:create")
    assert (response.status_code, response.json()["error"]) == (400, "invalid_scope")
    assert read(ask.token())["scope"] == "ledger:read"
    assert api.violations == []


# ---- rules -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "violation"),
    [
        pytest.param({"audience": "x"}, 422, "unknown: audience", id="unknown field"),
        pytest.param({"scope": ["a", "b"]}, 422, "repeated: scope", id="repeated field"),
        pytest.param({"client_id": ""}, 422, "syntax: client_id", id="empty client id"),
        pytest.param({"client_secret": ""}, 422, "syntax: client_secret", id="empty secret"),
        pytest.param({"grant_type": "password"}, 400, "syntax: grant_type", id="other grant type"),
        pytest.param({"business_id": ""}, 422, "syntax: business_id", id="empty business"),
        pytest.param({"business_id": "biz 1"}, 422, "syntax: business_id", id="space in business"),
        pytest.param({"business_id": "b" * 129}, 422, "syntax: business_id", id="long business"),
        pytest.param({"scope": ""}, 400, "syntax: scope", id="empty scope"),
        pytest.param({"scope": "a  b"}, 400, "syntax: scope", id="two spaces in scope"),
        pytest.param({"scope": "a,\\b"}, 400, "syntax: scope", id="backslash in scope"),
        pytest.param({"scope": "a\n"}, 400, "syntax: scope", id="line break in scope"),
        pytest.param({"expires_in": "0"}, 422, "syntax: expires_in", id="no lifetime"),
        pytest.param({"expires_in": "-60"}, 422, "syntax: expires_in", id="negative lifetime"),
        pytest.param({"expires_in": "3600.0"}, 422, "syntax: expires_in", id="fractional lifetime"),
        pytest.param({"expires_in": "1h"}, 422, "syntax: expires_in", id="lifetime with unit"),
        pytest.param({"resource": "https://a.example/#x"}, 400, "syntax: resource", id="resource with fragment"),
        pytest.param({"resource": "/mcp"}, 400, "syntax: resource", id="relative resource"),
        pytest.param({"resource": "https:"}, 400, "syntax: resource", id="scheme alone"),
    ],
)
def test_a_broken_rule_is_refused_and_noted(
    api: AssetApi, ask: Asking, fields: dict[str, str], status: int, violation: str
) -> None:
    assert ask(**fields).status_code == status
    assert api.violations == [violation]
    assert api.requests[0].status == status


@pytest.mark.parametrize("missing", [pytest.param("client_id", id="id"), pytest.param("client_secret", id="secret")])
def test_a_missing_credential_is_refused_and_noted(api: AssetApi, http: httpx.Client, missing: str) -> None:
    response = http.post("/v0/auth/token", data={k: v for k, v in CREDENTIALS.items() if k != missing})
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body", missing])
    assert api.violations == [f"missing: {missing}"]


@pytest.mark.parametrize(
    ("request_parts", "status", "violation"),
    [
        pytest.param({"json": CREDENTIALS}, 415, "content type application/json, not a form", id="json"),
        pytest.param({"files": CREDENTIALS}, 415, "content type multipart/form-data, not a form", id="multipart"),
        pytest.param({"content": b"client_id"}, 422, "unreadable form", id="no pairs"),
        pytest.param({"content": b"client_id=%ff"}, 422, "unreadable form", id="not utf-8"),
        pytest.param({"data": CREDENTIALS, "params": {"x": "y"}}, 422, "unknown: query", id="query"),
        pytest.param({"data": CREDENTIALS, "auth": ("a", "b")}, 422, "unknown: authorization", id="basic"),
    ],
)
def test_anything_but_a_plain_form_is_refused_and_noted(
    api: AssetApi, http: httpx.Client, request_parts: dict[str, Any], status: int, violation: str
) -> None:
    form = {} if status == 415 else {"content-type": "application/x-www-form-urlencoded"}
    assert http.post("/v0/auth/token", headers=form, **request_parts).status_code == status
    assert api.violations == [violation]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/v0/auth/token", 405, id="token with GET"),
        pytest.param("POST", "/auth/token", 404, id="other path"),
        pytest.param("GET", "/.well-known/jwks.json", 404, id="keys"),
    ],
)
def test_another_path_or_method_is_refused_and_noted(
    api: AssetApi, http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    assert response.headers["x-ratelimit-limit"] == "300"
    assert api.violations == [f"{method} {path}"]


# ---- what a resource server says -------------------------------------------------------------------------------------


def test_accepts_a_token_for_its_life_only(api: AssetApi, clock: Clock, ask: Asking) -> None:
    token = ask.token(expires_in="600")
    assert api.accepts(token)
    assert not api.accepts(token, at=NOW - 1)
    assert api.accepts(token, at=NOW + 599.9)
    assert not api.accepts(token, at=NOW + 600)
    clock.now += 600
    assert not api.accepts(token)


def test_accepts_a_token_by_the_skewed_clock(api: AssetApi, ask: Asking) -> None:
    token = ask.token(expires_in="600")
    api.clock_offset = 600
    assert not api.accepts(token)


def test_accepts_only_the_scopes_it_has(api: AssetApi, ask: Asking) -> None:
    token = ask.token(scope="ledger:read ledger:create")
    assert api.accepts(token, scope="ledger:create ledger:read")
    assert not api.accepts(token, scope="ledger:read invoice:create")


def test_accepts_only_what_was_signed_here(api: AssetApi, ask: Asking, clock: Clock) -> None:
    token = ask.token()
    head, payload, signature = token.split(".")
    assert not api.accepts(f"{head}.{payload}x.{signature}")
    assert not api.accepts(jwt.encode(read(token), "k" * 32, algorithm="HS256"))
    assert not api.accepts("opaque")
    assert not api.accepts("")
    assert not AssetApi(now=clock).accepts(token)


@pytest.mark.parametrize("token", [pytest.param("opaque", id="opaque"), pytest.param("jwt_without_exp", id="no exp")])
def test_knows_when_a_token_that_does_not_say_so_expires(api: AssetApi, ask: Asking, token: TokenKind) -> None:
    api.behave(Behaviour(token=token))
    issued = ask.token(expires_in="60", scope="ledger:read")
    assert api.accepts(issued, scope="ledger:read", at=NOW + 59)
    assert not api.accepts(issued, scope="ledger:update", at=NOW + 59)
    assert not api.accepts(issued, at=NOW + 60)


def test_ping_takes_a_good_token_only(clock: Clock, http: httpx.Client, ask: Asking) -> None:
    token = ask.token()
    mcp = ask.token(resource="https://api.sandbox.getasset.com/mcp")
    assert http.get("/v0/ping").status_code == 401
    assert http.get("/v0/ping", headers={"authorization": f"Basic {token}"}).status_code == 401
    assert http.get("/v0/ping", headers=bearer(mcp)).status_code == 401
    assert http.get("/v0/ping", headers=bearer(token)).status_code == 200
    clock.now += 3600
    assert http.get("/v0/ping", headers=bearer(token)).status_code == 401


def test_a_revoked_token_is_refused_and_no_other(api: AssetApi, ask: Asking) -> None:
    revoked, other = ask.token(), ask.token()
    api.revoke(revoked)
    assert not api.accepts(revoked)
    assert api.accepts(other)


def test_notes_who_tried_which_token_and_what_is_wrong_with_it(
    api: AssetApi, clock: Clock, http: httpx.Client, ask: Asking
) -> None:
    def ping(token: str, user_agent: str) -> None:
        http.get("/v0/ping", headers=bearer(token) | {"user-agent": user_agent})

    short, good, mcp = ask.token(expires_in="60"), ask.token(), ask.token(resource=f"{HOSTS['sandbox']}/mcp")
    api.behave(Behaviour(not_before_delay=3000))
    future = ask.token()
    api.revoke(revoked := ask.token())
    clock.now += 60
    for number, token in enumerate((good, short, mcp, future, revoked, "opaque")):
        ping(token, f"pod-{number}")

    assert [(tried.user_agent, tried.jti, tried.verdict) for tried in api.tried] == [
        ("pod-0", "token-2", "valid"),
        ("pod-1", "token-1", "expired"),
        ("pod-2", "token-3", "other audience"),
        ("pod-3", "token-4", "not valid yet"),
        ("pod-4", "token-5", "revoked"),
        ("pod-5", None, "unknown"),
    ]
    assert {tried.at for tried in api.tried} == {NOW + 60}


# ---- the clock -------------------------------------------------------------------------------------------------------


def test_a_skewed_clock_shows_everywhere(api: AssetApi, ask: Asking) -> None:
    api.clock_offset = -90
    response = ask()
    claims = read(response.json()["access_token"])
    assert parsedate_to_datetime(response.headers["date"]).timestamp() == NOW - 90
    assert (claims["iat"], claims["exp"]) == (NOW - 90, NOW - 90 + 3600)
    assert response.headers["x-ratelimit-reset"] == str(int(NOW + 60 - 90))
    assert api.requests[0].at == NOW


# ---- rate limits -----------------------------------------------------------------------------------------------------


def rates(response: httpx.Response) -> tuple[int, ...]:
    return tuple(int(response.headers[name]) for name in behaviours.RATE_HEADERS)


def test_three_hundred_a_minute_by_default(api: AssetApi, ask: Asking) -> None:
    assert rates(ask()) == (300, 299, NOW + 60)
    assert api.spend("tenant", 1000) == 299
    response = ask()
    assert (response.status_code, rates(response)) == (429, (300, 0, NOW + 60))
    assert "retry-after" not in response.headers
    assert api.count(status=429) == 1


def test_a_fixed_window_gives_all_back_at_once(api: AssetApi, clock: Clock, ask: Asking) -> None:
    api.rate_limit = RateLimit("fixed", per_tenant=2)
    clock.now += 59
    assert [ask().status_code for _ in range(3)] == [200, 200, 429]
    clock.now += 1
    assert rates(ask()) == (2, 1, NOW + 120)


def test_a_sliding_window_gives_back_one_by_one(api: AssetApi, clock: Clock, ask: Asking) -> None:
    api.rate_limit = RateLimit("sliding", per_tenant=2)
    assert rates(ask()) == (2, 1, NOW + 60)
    clock.now += 30
    assert rates(ask()) == (2, 0, NOW + 60)
    clock.now += 29
    assert ask().status_code == 429
    clock.now += 1
    assert rates(ask()) == (2, 0, NOW + 90)
    assert ask().status_code == 429


def test_a_switched_off_limit_shows_a_full_budget(api: AssetApi, ask: Asking) -> None:
    api.rate_limit = RateLimit("off", per_tenant=1)
    assert [rates(ask()) for _ in range(3)] == [(1, 1, NOW + 60)] * 3
    assert api.spend("tenant", 10) == 10


def test_a_tenants_limit_is_its_own(api: AssetApi, ask: Asking) -> None:
    api.register("other", "o")
    api.rate_limit = RateLimit(per_tenant=1)
    assert [ask().status_code for _ in range(2)] == [200, 429]
    assert ask(client_id="other", client_secret="o").status_code == 200


def test_a_business_limit_holds_across_tenants(api: AssetApi, ask: Asking) -> None:
    api.register("other", "o")
    api.rate_limit = RateLimit(per_business=2)
    assert rates(ask(business_id="biz_1"))[:2] == (2, 1)
    assert api.spend("other", 5, business_id="biz_1") == 1
    assert rates(ask(business_id="biz_1"))[:2] == (2, 0)
    assert ask(business_id="biz_2").status_code == 200
    assert rates(ask())[:2] == (300, 297)  # a refused request spends nothing


def test_every_path_spends_from_the_same_budget(api: AssetApi, http: httpx.Client, ask: Asking) -> None:
    api.rate_limit = RateLimit(per_tenant=3)
    token = ask.token()
    assert rates(http.get("/v0/ping", headers=bearer(token)))[1] == 1
    assert rates(ask(client_secret="wrong"))[1] == 0
    assert http.get("/v0/ping", headers=bearer(token)).status_code == 429
    assert ask().status_code == 429


def test_ping_spends_the_business_budget(api: AssetApi, http: httpx.Client, ask: Asking) -> None:
    api.rate_limit = RateLimit(per_business=2)
    token = ask.token(business_id="biz_1")
    assert [http.get("/v0/ping", headers=bearer(token)).status_code for _ in range(2)] == [200, 429]


def test_retry_after_in_seconds(api: AssetApi, clock: Clock, ask: Asking) -> None:
    api.rate_limit = RateLimit(per_tenant=0, retry_after="seconds")
    clock.now += 20.5
    assert ask().headers["retry-after"] == "40"


def test_retry_after_as_a_date(api: AssetApi, ask: Asking) -> None:
    api.rate_limit = RateLimit(per_tenant=0, retry_after="date")
    api.clock_offset = 5
    assert parsedate_to_datetime(ask().headers["retry-after"]).timestamp() == NOW + 65


# ---- behaviours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param("duration", 600, id="duration"),
        pytest.param("timestamp", int(NOW) + 600, id="timestamp"),
        pytest.param("string", "600", id="string"),
        pytest.param("timestamp_string", str(int(NOW) + 600), id="timestamp string"),
        pytest.param("past_timestamp", int(NOW) - 3600, id="past timestamp"),
        pytest.param("zero", 0, id="zero"),
        pytest.param("negative", -600, id="negative"),
        pytest.param("absurd", 10**18, id="absurd"),
        pytest.param("contradicts", 6000, id="contradicts"),
        pytest.param("null", None, id="null"),
        pytest.param("soon", "soon", id="literal string"),
        pytest.param(12.5, 12.5, id="literal number"),
        pytest.param([60], [60], id="literal list"),
    ],
)
def test_expires_in_can_say_anything(api: AssetApi, ask: Asking, said: object, expected: object) -> None:
    api.behave(Behaviour(expires_in=said))
    body = ask(expires_in="600").json()
    assert body["expires_in"] == expected
    assert type(body["expires_in"]) is type(expected)
    assert read(body["access_token"])["exp"] == NOW + 600


def test_expires_in_can_be_absent(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(expires_in="absent"))
    assert set(ask().json()) == {"access_token", "token_type"}


def test_expires_in_can_be_not_a_number(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(expires_in="nan"))
    assert '"expires_in": NaN' in ask().text


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        pytest.param("blank", {"access_token": " "}, id="blank"),
        pytest.param("not_a_string", {"access_token": 12345}, id="not a string"),
        pytest.param("absent", {}, id="absent"),
    ],
)
def test_a_response_can_be_without_a_token(
    api: AssetApi, ask: Asking, kind: TokenKind, sent: dict[str, object]
) -> None:
    api.behave(Behaviour(token=kind))
    assert ask().json() == {"token_type": "Bearer", "expires_in": 3600} | sent
    assert (api.requests[0].status, api.requests[0].jti, api.requests[0].token) == (200, None, None)


def test_a_token_can_be_opaque(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(token="opaque"))
    token = ask.token()
    assert "." not in token
    assert api.accepts(token)
    assert (api.claims(token) or {})["client_id"] == "tenant"


def test_a_jwt_can_be_without_exp(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(token="jwt_without_exp"))
    assert "exp" not in read(ask.token())


def test_a_jwt_can_be_expired_already(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(token="expired_jwt"))
    body = ask().json()
    assert read(body["access_token"])["exp"] == NOW - 60
    assert body["expires_in"] == 3600
    assert not api.accepts(body["access_token"])


def test_a_token_can_end_with_a_line_break(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(token="with_newline"))
    token = ask.token()
    assert token.endswith("\n")
    assert not api.accepts(token)
    assert api.accepts(token.strip())


def test_a_token_can_be_huge(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(token="huge"))
    token = ask.token()
    assert len(token) > 16 * 1024
    assert api.accepts(token)


def test_the_api_may_grant_something_else_than_asked(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(lifetime=30, granted_scopes=("ledger:read",), echo_scope=True, not_before_delay=5))
    body = ask(expires_in="600", scope="ledger:create").json()
    claims = read(body["access_token"])
    assert (body["expires_in"], claims["exp"], claims["nbf"]) == (30, NOW + 30, NOW + 5)
    assert body["scope"] == claims["scope"] == "ledger:read"
    assert not api.accepts(body["access_token"])
    assert api.accepts(body["access_token"], at=NOW + 5)


def test_a_token_may_name_the_other_environment(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(issuer=HOSTS["production"], audience=(HOSTS["production"], "https://b.example")))
    claims = read(ask.token(resource="https://a.example"))
    assert claims["iss"] == HOSTS["production"]
    assert claims["aud"] == [HOSTS["production"], "https://b.example"]


@pytest.mark.parametrize(
    ("token_type", "expected"),
    [pytest.param("DPoP", "DPoP", id="another"), pytest.param(None, None, id="absent")],
)
def test_the_token_type_may_be_another(
    api: AssetApi, ask: Asking, token_type: str | None, expected: str | None
) -> None:
    api.behave(Behaviour(token_type=token_type))
    assert ask().json().get("token_type") == expected


def test_headers_of_a_token_response_may_be_replaced(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(headers={"x-ratelimit-limit": "many", "x-ratelimit-reset": None, "content-type": "text/html"}))
    response = ask()
    assert response.headers["x-ratelimit-limit"] == "many"
    assert "x-ratelimit-reset" not in response.headers
    assert response.headers["content-type"] == "text/html"


def test_a_slow_answer_is_still_an_answer(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(latency=0.1))
    before = time.monotonic()
    assert ask().status_code == 200
    assert time.monotonic() - before >= 0.1


def test_a_client_that_leaves_is_recorded_without_a_status(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(latency=60))
    ask.http.timeout = 0.1
    with pytest.raises(httpx.ReadTimeout):
        ask()
    api.wait_for(lambda seen: [one.status for one in seen] == [None])


def test_the_narrowest_behaviour_wins(api: AssetApi, ask: Asking) -> None:
    api.register("other", "o")
    other = {"client_id": "other", "client_secret": "o"}
    api.behave(Behaviour(lifetime=1))
    api.behave(Behaviour(lifetime=2), client_id="tenant")
    api.behave(Behaviour(lifetime=3), business_id="biz_1")
    api.behave(Behaviour(lifetime=4), client_id="tenant", business_id="biz_1")
    assert ask(**other).json()["expires_in"] == 1
    assert ask().json()["expires_in"] == 2
    assert ask(**other, business_id="biz_1").json()["expires_in"] == 3
    assert ask(business_id="biz_1").json()["expires_in"] == 4
    assert ask(business_id="biz_2").json()["expires_in"] == 2
    api.behave_normally()
    assert ask(business_id="biz_1").json()["expires_in"] == 3600


def test_behaviours_for_the_next_requests_queue_up(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(lifetime=9))
    api.behave(Behaviour(failure=behaviours.UNAVAILABLE_503), times=2)
    api.behave(Behaviour(lifetime=1), times=1)
    assert ask(scope="").status_code == 400  # breaks a rule: uses up none
    assert [ask().status_code for _ in range(2)] == [503, 503]
    assert [ask().json()["expires_in"] for _ in range(3)] == [1, 9, 9]


def test_held_requests_wait_together(api: AssetApi, ask: Asking) -> None:
    asking = [threading.Thread(target=ask) for _ in range(2)]
    with api.held():
        for thread in asking:
            thread.start()
        api.wait_for(lambda seen: api.arrived == 2 and not seen)
    for thread in asking:
        thread.join()
    assert sorted(seen.in_flight for seen in api.requests) == [1, 2]
    ask()
    assert api.requests[-1].in_flight == 1


# ---- failures --------------------------------------------------------------------------------------------------------

ANSWERS = {name: failure for name, failure in FAILURES.items() if failure.kind == "answer"}
STATUSES = {
    "invalid_client": 401,
    "invalid_scope": 400,
    "forbidden": 403,
    "not_found": 404,
    "fastapi_422": 422,
    "fastapi_detail": 400,
    "server_error_500": 500,
    "bad_gateway_html": 502,
    "unavailable_503": 503,
    "too_many_requests": 429,
    "too_many_requests_bare": 429,
    "redirect": 307,
    "empty_200": 200,
    "html_200": 200,
    "truncated_json": 200,
    "json_array": 200,
    "deeply_nested": 200,
    "enormous": 200,
}


@pytest.mark.parametrize("name", [pytest.param(name, id=name) for name in ANSWERS])
def test_a_failure_is_answered_as_it_is(api: AssetApi, ask: Asking, name: str) -> None:
    api.behave(Behaviour(failure=FAILURES[name]))
    response = ask()
    assert response.status_code == STATUSES[name]
    assert response.content == FAILURES[name].body
    assert [(seen.status, seen.jti, seen.token) for seen in api.requests] == [(STATUSES[name], None, None)]
    assert api.violations == []


def test_bodies_are_what_their_names_say() -> None:
    assert json.loads(behaviours.INVALID_CLIENT.body)["error"] == "invalid_client"
    assert json.loads(behaviours.INVALID_SCOPE.body)["error"] == "invalid_scope"
    assert set(json.loads(behaviours.FASTAPI_422.body)["detail"][0]) == {"loc", "msg", "type"}
    assert isinstance(json.loads(behaviours.FASTAPI_DETAIL.body)["detail"], str)
    assert isinstance(json.loads(behaviours.JSON_ARRAY.body), list)
    assert behaviours.EMPTY_200.body == b""
    assert len(behaviours.ENORMOUS.body) > 10_000_000
    assert json.loads(behaviours.ENORMOUS.body)["access_token"]
    with pytest.raises(json.JSONDecodeError):
        json.loads(behaviours.TRUNCATED_JSON.body)
    with pytest.raises(RecursionError):
        json.loads(behaviours.DEEPLY_NESTED.body)
    assert len(repr(behaviours.ENORMOUS)) < 200


def test_too_many_requests_may_say_when_or_nothing(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(failure=behaviours.too_many_requests("7")), times=1)
    api.behave(Behaviour(failure=behaviours.TOO_MANY_REQUESTS), times=1)
    api.behave(Behaviour(failure=behaviours.TOO_MANY_REQUESTS_BARE), times=1)
    timed, plain, bare = ask(), ask(), ask()
    assert timed.headers["retry-after"] == "7"
    assert rates(plain) == (300, 0, NOW + 60)
    assert "retry-after" not in plain.headers
    assert not {*behaviours.RATE_HEADERS, "retry-after"} & set(bare.headers)


@pytest.mark.parametrize(
    ("status", "credentials"),
    [
        pytest.param(307, True, id="form sent again"),
        pytest.param(302, False, id="without the form"),
    ],
)
def test_a_followed_redirect_is_noted(api: AssetApi, ask: Asking, status: int, *, credentials: bool) -> None:
    api.behave(Behaviour(failure=behaviours.redirect(status)))
    ask()
    assert api.redirected == []
    ask.http.follow_redirects = True
    assert ask().json()["access_token"] == "from-elsewhere"
    assert [seen.credentials for seen in api.redirected] == [credentials]
    assert not api.accepts("from-elsewhere")


def test_a_hanging_request_is_never_answered(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(failure=behaviours.HANG))
    ask.http.timeout = 0.2
    with pytest.raises(httpx.ReadTimeout):
        ask()
    assert [seen.status for seen in api.requests] == [None]


def test_a_dripping_answer_comes_byte_by_byte(api: AssetApi) -> None:
    api.behave(Behaviour(failure=behaviours.DRIP))
    form = urlencode(CREDENTIALS)
    head = f"POST /v0/auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: {len(form)}\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=0.3) as connection:
        connection.sendall((head + form).encode())
        received = b""
        with suppress(TimeoutError):
            while True:
                received += connection.recv(4096)
    assert received.partition(b"\r\n\r\n")[2] == b"{"


def test_a_disconnect_leaves_no_answer(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(failure=behaviours.DISCONNECT))
    with pytest.raises(httpx.RemoteProtocolError):
        ask()
    assert [seen.status for seen in api.requests] == [None]


def test_a_truncated_body_is_shorter_than_declared(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(failure=behaviours.TRUNCATED_BODY))
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        ask()


def test_a_failure_can_be_made_up(api: AssetApi, ask: Asking) -> None:
    api.behave(Behaviour(failure=Failure(418, b"short and stout", {"date": "no date", "x-teapot": "yes"})))
    response = ask()
    assert (response.status_code, response.text) == (418, "short and stout")
    assert (response.headers["date"], response.headers["x-teapot"]) == ("no date", "yes")


# ---- records ---------------------------------------------------------------------------------------------------------


def test_records_what_was_asked_and_answered(api: AssetApi, ask: Asking) -> None:
    token = ask.token(business_id="biz_1", scope="ledger:read", expires_in="60", resource=["https://a", "https://b"])
    assert api.requests == [
        Recorded(
            at=NOW,
            environment="sandbox",
            client_id="tenant",
            business_id="biz_1",
            scope="ledger:read",
            resources=("https://a", "https://b"),
            expires_in=60,
            status=200,
            jti="token-1",
            token=token,
            in_flight=1,
        )
    ]


def test_counts_by_fields(api: AssetApi, ask: Asking) -> None:
    ask()
    ask(business_id="biz_1")
    ask(client_secret="wrong")
    assert api.count() == 3
    assert api.count(status=200) == 2
    assert api.count(status=200, business_id="biz_1") == 1
    with pytest.raises(AttributeError):
        api.count(stauts=200)


def test_says_neither_secrets_nor_tokens(api: AssetApi, ask: Asking) -> None:
    token = ask.token()
    ask(client_secret=SECRET + "x", scope="")
    with pytest.raises(TimeoutError) as error:
        api.wait_for(lambda _: False, timeout=0)
    said = f"{api.requests} {api.violations} {error.value} {vars(api)}"
    assert SECRET not in said
    assert token not in repr(api.requests)


async def test_waits_for_requests_in_the_making(api: AssetApi) -> None:
    waiting = asyncio.create_task(asyncio.to_thread(api.wait_for, lambda seen: len(seen) == 2))
    async with httpx.AsyncClient(base_url=api.url, trust_env=False) as http:
        answers = await asyncio.gather(*(http.post("/v0/auth/token", data=CREDENTIALS) for _ in range(2)))
    assert [seen.status for seen in await waiting] == [answer.status_code for answer in answers] == [200, 200]


def test_tells_a_listener(clock: Clock) -> None:
    heard: list[Recorded] = []
    with AssetApi(now=clock, on_request=heard.append) as api, connect(api) as http:
        Asking(http)()
        assert heard == api.requests
        assert heard[0].status == 401


# ---- running ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(Behaviour(failure=behaviours.HANG), id="hang"),
        pytest.param(Behaviour(failure=behaviours.DRIP), id="drip"),
        pytest.param(Behaviour(latency=60), id="latency"),
        pytest.param(Behaviour(), id="held"),
    ],
)
def test_stops_at_once_with_a_request_in_flight(clock: Clock, behaviour: Behaviour) -> None:
    threads = set(threading.enumerate())
    api = AssetApi(now=clock)
    api.behave(behaviour)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(httpx.post(f"{api.url}/v0/auth/token", data=CREDENTIALS, trust_env=False, timeout=20))
        except httpx.TransportError as error:
            answers.append(error)

    api.start()
    with ExitStack() as stack:
        if behaviour == Behaviour():
            stack.enter_context(api.held())
        asking = threading.Thread(target=ask)
        asking.start()
        api.wait_for(lambda _: api.arrived == 1)
        before = time.monotonic()
        api.stop()
        assert time.monotonic() - before < 1
        asking.join()
    assert len(answers) == 1
    assert set(threading.enumerate()) == threads


def test_an_idle_connection_does_not_keep_it(clock: Clock) -> None:
    with httpx.Client(trust_env=False) as http:
        with AssetApi(now=clock) as api:
            http.get(f"{api.url}/v0/ping")
            before = time.monotonic()
        assert time.monotonic() - before < 1


def test_returns_on_the_same_port_with_all_it_knew(api: AssetApi, http: httpx.Client, ask: Asking) -> None:
    url, token = api.url, ask.token()
    api.stop()
    api.stop()
    with pytest.raises(httpx.ConnectError):
        ask()
    api.start()
    assert api.url == url
    assert ask().status_code == 200
    assert http.get("/v0/ping", headers=bearer(token)).status_code == 200
    assert api.count(status=200) == 2


def test_starts_only_once(api: AssetApi) -> None:
    with pytest.raises(RuntimeError):
        api.start()


def test_a_taken_port_is_an_error(api: AssetApi) -> None:
    other = AssetApi(port=int(api.url.rsplit(":", 1)[1]))
    with pytest.raises(OSError, match="address already in use"):
        other.start()
    other.stop()


@pytest.mark.parametrize("end", [pytest.param(signal.SIGTERM, id="TERM"), pytest.param(signal.SIGINT, id="INT")])
def test_runs_as_a_program(end: signal.Signals) -> None:
    options = ["--client-id", "tenant", "--client-secret", SECRET, "--lifetime-cap", "60"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.asset_api", "--port", "0", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout
        try:
            listening = program.stdout.readline()
            url = listening.removeprefix("listening on ").strip()
            body = httpx.post(f"{url}/v0/auth/token", data=CREDENTIALS, trust_env=False).json()
        finally:
            program.send_signal(end)
        said, complaints = program.communicate(timeout=5)
    assert listening.startswith("listening on http://127.0.0.1:")
    assert body["expires_in"] == 60
    assert said.startswith("token request: status=200 client_id='tenant'")
    assert said.count("\n") == 1
    assert SECRET not in said
    assert body["access_token"] not in said
    assert (complaints, program.returncode) == ("", 0)
