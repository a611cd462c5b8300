"""Asset may answer anything: nothing but an `AssetError` comes of it, and no message has a word of the body."""

from __future__ import annotations

import codecs
import json
import re
import traceback
from datetime import timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from asset_token_operator.answers import (
    Reply,
    TokenAnswer,
    read_answer,
    read_claims,
    read_reply,
)
from asset_token_operator.errors import AssetError
from asset_token_operator.model import LONGEST_TOKEN
from asset_token_operator.refusals import REFUSALS, REFUSED, STATUSES
from tests.support.builders import a_jwt, a_spec

CANARY = "canary"

texts = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(categories=["Cs", "Cc", "Zs", "Lu"]), max_size=5),
    st.sampled_from([CANARY, f"{CANARY}\n", "Bearer", *REFUSALS]),
)
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, 1e308]))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
claims = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("exp", "iat", "nbf", "jti", "scope", "scp", "sub", "aud", "iss"), json_values)
)
jwts = st.builds(a_jwt, claims | json_values, st.fixed_dictionaries({"alg": texts}, optional={"b64": json_values}))
b64tokens = st.from_regex(re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII), fullmatch=True)
near_answers = st.fixed_dictionaries(
    {"access_token": b64tokens | jwts | json_values},
    optional={
        "token_type": st.sampled_from(["Bearer", "bearer"]) | json_values,
        "expires_in": json_values,
        "scope": json_values,
        "error": st.sampled_from(sorted(REFUSALS)) | json_values,
        "error_description": json_values,
        CANARY: json_values,
    },
)
statuses = st.just(200) | st.sampled_from([201, 302, 400, 401, 403, 408, 422, 429, 500, 503]) | st.integers(100, 599)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """JSON of any kind and in any encoding, whole or damaged, and what is no JSON at all."""
    text = json.dumps(draw(near_answers | json_values), ensure_ascii=draw(st.booleans()))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"]))
    body = text.encode(encoding, errors=draw(st.sampled_from(["replace", "ignore"])))
    cut = draw(st.none() | st.integers(0, len(body)))
    return draw(st.sampled_from([body, body[:cut], codecs.BOM_UTF8 + body])) if cut is not None else body


def sentences(status: int) -> set[str]:
    """All that may ever be said of an answer with that status."""
    named = {
        "environment": "sandbox",
        "secret": "asset-credentials",
        "client_id": "client_id",
        "client_secret": "client_secret",
        "scopes": "ledger:read",
        "resources": "none",
    }
    codes = {f"{status} {code}": sentence for code, (_, sentence) in REFUSALS.items()}
    return {
        f"Asset sandbox failed ({status}); tried again by itself.",
        (
            f"Something in front of Asset sandbox answered instead of its token service ({status}, no content type),"
            " such as a firewall or a page for maintenance; tried again by itself."
        ),
        *(sentence.format(said=status, **named) for _, sentence in STATUSES.values()),
        *(sentence.format(said=said, **named) for said, sentence in codes.items()),
        REFUSED.format(said=status, **named),
        f"Asset sandbox answered {status} instead of 200; tried again by itself.",
        (
            f"Asset sandbox answered with a redirect ({status}), which is not followed with credentials;"
            " check --sandbox-url; tried again by itself."
        ),
        "The answer of Asset sandbox is not a JSON object; tried again by itself.",
        "The answer of Asset sandbox has no access_token; tried again by itself.",
        "The token of Asset sandbox is not a Bearer token; tried again by itself.",
        "The token of Asset sandbox is longer than 16384 characters; tried again by itself.",
        "The token of Asset sandbox has characters that no Authorization header may carry; tried again by itself.",
    }


def read_or_refuse(status: int, body: bytes) -> TokenAnswer | AssetError:
    try:
        return read_answer(Reply(status, body), a_spec())
    except AssetError as error:
        return error


def assert_read_or_refused(status: int, body: bytes) -> None:
    answer = read_or_refuse(status, body)
    if isinstance(answer, AssetError):
        assert str(answer) in sentences(status)
        assert CANARY not in "".join(traceback.format_exception(answer))
        return
    token = answer.access_token.get_secret_value()
    assert status == 200
    assert re.fullmatch(r"[A-Za-z0-9\-._~+/]+=*", token, re.ASCII)
    assert not token.endswith("\n")
    assert len(token) <= LONGEST_TOKEN
    assert answer.scopes is None or list(answer.scopes) == sorted(set(answer.scopes))


@given(status=statuses, body=st.binary())
@example(status=200, body=b"[" * 100_000)
@example(status=200, body=b'{"access_token": "canary", "access_token": ' + b"9" * 5000)
@example(status=400, body=b'{"error": "invalid_client", "error_description": "canary\xff"}')
def test_any_bytes_are_read_or_refused(status: int, body: bytes) -> None:
    assert_read_or_refused(status, body)


@given(status=statuses, body=bodies())
def test_anything_like_json_is_read_or_refused(status: int, body: bytes) -> None:
    assert_read_or_refused(status, body)


@given(answer=near_answers)
def test_anything_like_an_answer_is_read_or_refused(answer: dict[str, Any]) -> None:
    assert_read_or_refused(200, json.dumps(answer).encode())


@given(token=b64tokens | jwts, expires_in=st.none() | st.integers(), scopes=st.lists(texts))
def test_an_answer_in_order_is_always_read(token: str, expires_in: int | None, scopes: list[str]) -> None:
    body = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": expires_in, "scope": scopes})
    answer = read_answer(Reply(200, body.encode()), a_spec())
    assert answer.access_token.get_secret_value() == token
    assert answer.expires_in == expires_in
    assert answer.scopes == tuple(sorted(set(json.loads(body)["scope"])))


@given(said=claims)
def test_claims_are_read_whatever_they_are(said: dict[str, Any]) -> None:
    found = read_claims(a_jwt(said))
    meant = json.loads(json.dumps(said))  # JSON makes one character of two surrogates, and one key of two alike
    assert found is not None
    assert repr(found.exp) == repr(meant.get("exp"))
    assert found.jti is None or found.jti == meant["jti"]
    assert found.issuer is None or found.issuer == meant["iss"]
    assert all(isinstance(audience, str) for audience in found.audience)


@given(token=st.text() | jwts)
def test_reading_claims_never_fails(token: str) -> None:
    read_claims(token)


header_values = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40),
    st.integers().map(str),
    st.sampled_from(["1" + "0" * 400, "9" * 5000, "Fri, 01 May 99999999999999999999 12:00:00 GMT", "1_0", "NaN", "-1"]),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S -0000")),
    st.datetimes().map(lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S +9999")),
)
headers = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("date", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"), header_values
    ),
)


@given(headers=headers)
@example(
    headers={
        "date": "Fri, 01 May 2026 12:00:00 GMT",
        "x-ratelimit-limit": "300",
        "x-ratelimit-remaining": "299",
        "x-ratelimit-reset": "1" + "0" * 400,
    }
)
def test_whatever_the_headers_say_a_wait_is_bounded(headers: dict[str, str]) -> None:
    reply = read_reply(429, headers, b"")
    again = reply.retry_after
    assert again is None or timedelta(seconds=1) <= again <= timedelta(days=1)
    if reply.rate is not None:
        assert 0 <= reply.rate.remaining <= reply.rate.limit
        assert timedelta(seconds=-1) <= reply.rate.resets_in <= timedelta(days=1)
        assert reply.rate.limit <= 10**9
