"""The JSON client of tests asks the API server as client-go would."""

import httpx
import pytest

from tests.support.cluster import Api, ApiError


def answering(*answers: httpx.Response) -> Api:
    given = iter(answers)
    return Api(httpx.Client(base_url="https://cluster", transport=httpx.MockTransport(lambda _: next(given))))


def test_what_is_to_be_asked_again_is_asked_again() -> None:
    busy = httpx.Response(429, headers={"Retry-After": "0"}, json={"message": "storage is (re)initializing"})
    assert answering(busy, busy, httpx.Response(200, json={"kind": "List"})).get("/apis") == {"kind": "List"}


def test_a_refusal_that_names_no_time_is_one() -> None:
    with pytest.raises(ApiError, match="GET /apis answered 429: denied by a webhook"):
        answering(httpx.Response(429, json={"message": "denied by a webhook"})).get("/apis")
