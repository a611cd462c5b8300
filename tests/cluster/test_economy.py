"""What the operator costs: API writes and token requests, counted by the API server and by the stand-in."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.support.asset_api import AssetApi, Recorded
from tests.support.asset_behaviour import Behaviour
from tests.support.asset_rules import RateLimit
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, Shop

TOKENS = 200
IDLE_SECONDS = 60
WRITES = {"create", "update", "patch", "delete", "deletecollection"}

pytestmark = pytest.mark.timeout(600)


class Books:
    """What the operator of a shop has written and requested since the books were opened."""

    def __init__(self, controlplane: ControlPlane, shop: Shop) -> None:
        self._controlplane = controlplane
        self._shop = shop
        self.open()

    def open(self) -> None:
        self._since = datetime.now(UTC)
        self._requests = len(self._shop.asset.requests)

    def writes(self) -> Counter[str]:
        """The operator's writes by what was written."""
        user = f"system:serviceaccount:{self._shop.namespace}:operator"
        return Counter(
            f"{event.resource}/{event.subresource}".rstrip("/")
            for event in self._controlplane.audit(namespace=self._shop.namespace, since=self._since)
            if event.user == user and event.verb in WRITES
        )

    def wait_for_events(self, count: int) -> None:
        """Wait until so many were posted: nothing else waits for them."""
        wait_until(lambda: self.writes()["events"] >= count, 60, f"{count} events are posted")

    def reads(self) -> int:
        """How many Secrets the operator has read whole."""
        user = f"system:serviceaccount:{self._shop.namespace}:operator"
        events = self._controlplane.audit(namespace=self._shop.namespace, since=self._since)
        return sum(event.user == user and (event.verb, event.resource) == ("get", "secrets") for event in events)

    def requests(self) -> list[Recorded]:
        return self._shop.asset.requests[self._requests :]


@pytest.fixture(scope="module")
def _asset() -> Iterator[AssetApi]:
    with AssetApi(rate_limit=RateLimit(mode="off")) as api:
        api.register(CLIENT_ID, CLIENT_SECRET)
        yield api


@pytest.fixture
def asset(_asset: AssetApi) -> AssetApi:
    """No limit: what is counted here is not how fast."""
    return _asset


def test_200_tokens_cost_two_writes_each_then_nothing_not_even_at_a_restart(
    audited_controlplane: ControlPlane, shop: Shop, operator_for: Callable[..., OperatorProcess]
) -> None:
    operator = operator_for(shop)
    books = Books(audited_controlplane, shop)
    shop.apply(*(shop.manifest(f"token-{number}") for number in range(TOKENS)))
    _wait_until_all_ready(shop)
    books.wait_for_events(TOKENS)
    assert books.writes() == {"secrets": TOKENS, "assettokens/status": TOKENS, "events": TOKENS}
    assert len(books.requests()) == TOKENS
    assert books.reads() == TOKENS + 1, "of the credentials, too"

    books.open()
    time.sleep(IDLE_SECONDS)  # the idle minute is what is measured
    assert books.writes() == {}
    assert books.requests() == []

    operator.kill()
    operator.start()
    _wait_until_served(shop, "after-restart")
    books.wait_for_events(1)
    assert books.writes() == {"secrets": 1, "assettokens/status": 1, "events": 1}
    assert len(books.requests()) == 1
    assert books.reads() == 1 + 1, "those of the one that is new"

    operator.kill()
    for token in shop.tokens():
        path = shop.path(f"assettokens/{token['metadata']['name']}/status")
        shop.cluster.api.patch(path, {"status": None})
    books.open()
    operator.start()
    _wait_until_all_ready(shop)
    _wait_until_served(shop, "after-wipe")
    books.wait_for_events(1)
    assert books.writes() == {"secrets": 1, "assettokens/status": TOKENS + 2, "events": 1}
    assert len(books.requests()) == 1

    operator.kill()
    for token in shop.tokens():  # as an operator left it that knew no such hint
        path = shop.path(f"assettokens/{token['metadata']['name']}/status")
        shop.cluster.api.patch(path, {"status": {"syncedHash": None}})
    books.open()
    operator.start()
    _wait_until_served(shop, "after-upgrade")
    wait_until(lambda: books.reads() >= TOKENS + 2, 60, "each Secret is read once")
    books.wait_for_events(1)
    assert books.writes() == {"secrets": 1, "assettokens/status": 1, "events": 1}
    assert len(books.requests()) == 1


def test_an_expires_in_that_has_passed_is_never_a_hot_loop(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess]
) -> None:
    asset.behave(Behaviour(expires_in="past_timestamp", token="opaque"))
    operator_for(shop)
    books = len(asset.requests)
    shop.put("ledger-writer")
    issuing = shop.wait_for_condition("ledger-writer", "Issuing", "True", "BrokenAnswer")
    assert "expires_in is neither a lifetime nor a moment to come" in issuing["message"]
    time.sleep(IDLE_SECONDS)  # the first minute is what is measured
    made = [request.at for request in asset.requests[books:]]
    assert 1 < sum(at <= made[0] + IDLE_SECONDS for at in made) <= 4
    assert shop.condition("ledger-writer", "Ready")["status"] == "False"
    assert shop.secret("ledger-writer") is None
    asset.behave_normally()


def _wait_until_all_ready(shop: Shop) -> None:
    def waiting() -> list[str]:
        return [token["metadata"]["name"] for token in shop.tokens() if "revision" not in token["status"]]

    wait_until(lambda: not waiting(), 120, "all are ready")


def _wait_until_served(shop: Shop, name: str) -> None:
    """Once this one is ready, the operator has seen all that were there when it started."""
    shop.put(name)
    shop.wait_until_ready(name, timeout=60)
