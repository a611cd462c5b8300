"""What is said once after the start: what runs where, and what was probably meant otherwise."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator.caches import Caches
from asset_token_operator.config import Settings
from asset_token_operator.errors import KubeRefusedError, KubeUnavailableError, NotFoundError
from asset_token_operator.model import Key, Reserves
from asset_token_operator.scopes import Scopes
from asset_token_operator.startup import Announcement
from asset_token_operator.times import format_micro_time
from tests.support.api_server import forget_settings
from tests.support.builders import NOW, a_secret, an_asset_token
from tests.support.clock import ManualClock, settle

SETTINGS = Settings(
    namespaces=(),
    selector=None,
    endpoints={},
    reserves=Reserves(),
    ca_file=None,
    leader_elect=False,
    lease_name="asset-token-operator",
    lease_namespace="default",
    health_address=None,
    metrics_address=None,
    token_metrics=True,
    log_level="info",
    log_format="text",
)
LEASES = "/apis/coordination.k8s.io/v1"
OWN_LEASE = f"{LEASES}/namespaces/default/leases/asset-token-operator"
FORBIDDEN = KubeRefusedError("forbidden", 403)
NOT_FOUND = NotFoundError("not found", 404)


@dataclass
class FakeApi:
    """An API server that answers so, and refuses all else."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def host(self) -> str:
        return "10.96.0.1:443"

    async def call(
        self, method: str, path: str, read: Callable[[Any], Any], query: Mapping[str, str] | None = None
    ) -> Any:
        assert method == "GET"
        self.asked.append(path if query is None else f"{path}?{query['fieldSelector']}")
        answer = self.answers.get(path, FORBIDDEN)
        if isinstance(answer, Exception):
            raise answer
        return read(answer)


def a_lease(holder: str = "another_1234", age: timedelta = timedelta(seconds=3)) -> dict[str, Any]:
    renewed = format_micro_time(NOW - age)
    return {
        "metadata": {"namespace": "tokens", "name": "asset-token-operator"},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": renewed},
    }


class Started:
    """An operator that has started, with what is told of that."""

    def __init__(self, *namespaces: str, **settings: Any) -> None:
        self.api = FakeApi()
        self.caches = Caches()
        self.scopes = Scopes(namespaces)
        self.settings = replace(SETTINGS, namespaces=namespaces, **settings)

    def serve(self, *scopes: str) -> None:
        for scope in scopes:
            self.scopes.asset_tokens_known(scope)
            self.scopes.secrets_known(scope)

    async def announce(self) -> None:
        served = asyncio.Event()
        served.set()
        await self.announcement(ManualClock(), served).make()

    def announcement(self, clock: ManualClock, served: asyncio.Event) -> Announcement:
        api: Any = self.api
        return Announcement(self.settings, api, self.scopes, self.caches, clock, served)


@pytest.fixture(autouse=True)
def on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_settings(monkeypatch)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Without the version."""
    version = r"asset-token-operator \d+\.\d+\.\d+"
    return [(record.levelname, re.sub(version, "V", record.getMessage())) for record in log.records]


async def test_one_line_says_what_is_served_where(log: pytest.LogCaptureFixture) -> None:
    started = Started()
    started.serve("")
    for name in ("a", "b"):
        started.caches.saw_asset_token(an_asset_token(key=Key("shop", name), uid=name))

    await started.announce()

    assert said(log) == [("INFO", "V serves 2 AssetTokens in all namespaces of the cluster at 10.96.0.1:443")]


async def test_namespaces_and_labels_are_named(log: pytest.LogCaptureFixture) -> None:
    started = Started("shop", "bank", selector="team=ledger")
    started.serve("shop", "bank")
    started.caches.saw_asset_token(an_asset_token())
    started.caches.saw_secret(a_secret(key=Key("bank", "asset-credentials")))

    await started.announce()

    where = "namespace shop, namespace bank of the cluster at 10.96.0.1:443"
    assert said(log) == [("INFO", f"V serves 1 AssetToken with labels team=ledger in {where}")]


async def test_what_is_not_served_yet_is_named_with_the_reason(log: pytest.LogCaptureFixture) -> None:
    started = Started("shop", "bank")
    started.serve("shop")
    started.caches.saw_asset_token(an_asset_token())
    started.scopes.asset_tokens_lost("bank", KubeUnavailableError("no answer."))
    log.clear()

    await started.announce()

    line = "V serves 1 AssetToken in namespace shop of the cluster at 10.96.0.1:443; not yet namespace bank: no answer"
    assert said(log)[0] == ("INFO", line)


async def test_where_nothing_is_served_yet_the_line_comes_when_something_is(log: pytest.LogCaptureFixture) -> None:
    started, clock = Started(), ManualClock()
    announcing = asyncio.create_task(started.announcement(clock, asyncio.Event()).make())
    await settle()
    await clock.advance(timedelta(seconds=15))
    assert said(log) == [("INFO", "V waits for the cluster at 10.96.0.1:443, and serves nothing yet")]

    started.serve("")
    await clock.advance(timedelta(seconds=15))
    await announcing

    assert said(log)[1] == ("INFO", "V serves 0 AssetTokens in all namespaces of the cluster at 10.96.0.1:443")


async def test_a_namespace_that_does_not_exist_is_named(log: pytest.LogCaptureFixture) -> None:
    started = Started("shop", "shpo", "empty")
    started.serve("shop", "shpo", "empty")
    started.caches.saw_asset_token(an_asset_token())
    started.api.answers = {"/api/v1/namespaces/shpo": NOT_FOUND, "/api/v1/namespaces/empty": {}}

    await started.announce()

    assert said(log)[1:] == [("WARNING", "namespace shpo does not exist: create it, or correct --namespace")]
    assert "/api/v1/namespaces/shop" not in started.api.asked, "something is in it"


async def test_without_the_right_to_look_nothing_is_said_of_a_namespace(log: pytest.LogCaptureFixture) -> None:
    started = Started("shpo")
    started.serve("shpo")

    await started.announce()

    assert len(said(log)) == 1


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param({f"{LEASES}/leases": {"items": [a_lease()]}}, id="anywhere"),
        pytest.param({OWN_LEASE: a_lease()}, id="where the operator's own would be, with no right to look elsewhere"),
    ],
)
async def test_who_runs_locally_without_election_hears_of_another_operator(
    log: pytest.LogCaptureFixture, answers: dict[str, Any]
) -> None:
    started = Started()
    started.serve("")
    started.api.answers = answers

    await started.announce()

    level, line = said(log)[1]
    assert level == "WARNING"
    assert line.startswith("Lease tokens/asset-token-operator is held by another_1234, so another operator serves this")
    assert started.api.asked[0] == f"{LEASES}/leases?metadata.name=asset-token-operator"


@pytest.mark.parametrize(
    "lease",
    [
        pytest.param(a_lease(holder=""), id="let go of"),
        pytest.param(a_lease(age=timedelta(seconds=16)), id="ended"),
        pytest.param({"metadata": {}, "spec": {}}, id="never held"),
    ],
)
async def test_a_lease_that_nobody_holds_is_no_reason_to_warn(
    log: pytest.LogCaptureFixture, lease: dict[str, Any]
) -> None:
    started = Started()
    started.serve("")
    started.api.answers = {f"{LEASES}/leases": {"items": [lease]}}

    await started.announce()

    assert len(said(log)) == 1


async def test_no_lease_is_looked_for_with_election_or_in_a_pod(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    elected, in_a_pod = Started(leader_elect=True), Started()
    for started in (elected, in_a_pod):
        started.serve("")
        started.api.answers = {f"{LEASES}/leases": {"items": [a_lease()]}}

    await elected.announce()
    monkeypatch.setattr("asset_token_operator.startup.own_namespace", lambda: "tokens")
    await in_a_pod.announce()

    assert [level for level, _ in said(log)] == ["INFO", "INFO"]
    assert elected.api.asked == in_a_pod.api.asked == []
