import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from asset_token_operator import events
from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError, NotLeadingError
from asset_token_operator.events import WORKERS, EventPoster
from asset_token_operator.metrics import Metrics
from asset_token_operator.model import AssetToken
from asset_token_operator.transitions import Event
from tests.support.builders import NOW, an_asset_token
from tests.support.clock import ManualClock, settle

TOKEN = an_asset_token()


class FakeKube:
    """Takes events; a post waits for the gate.

    Attributes:
        posted: Each one's reason, moment and poster, in the order in which they were begun.
        failures: What the next posts fail with.
        most: How many were posted at once.
    """

    def __init__(self) -> None:
        self.posted: list[tuple[str, datetime, str]] = []
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.most = 0
        self._now = 0

    async def create_event(self, token: AssetToken, event: Event, now: datetime, instance: str) -> None:
        assert token is TOKEN
        self.posted.append((event.reason, now, instance))
        self._now += 1
        self.most = max(self.most, self._now)
        await self.gate.wait()
        self._now -= 1
        if self.failures:
            raise self.failures.pop(0)


class Poster:
    """An `EventPoster` that runs."""

    def __init__(self) -> None:
        self.kube, self.clock, self.metrics = FakeKube(), ManualClock(), Metrics()
        self.poster = EventPoster(self.kube, self.clock, "operator-1", self.metrics)

    def post(self, *reasons: str) -> None:
        for reason in reasons:
            self.poster.post(TOKEN, Event("Normal", reason, "A sentence."))

    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.kube.posted]

    def lost(self) -> float:
        value = self.metrics.registry.get_sample_value("asset_token_operator_events_lost_total")
        assert value is not None
        return value


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    poster = Poster()
    work = asyncio.create_task(poster.poster.run())
    yield poster
    work.cancel()


async def test_events_are_posted_with_the_moment_when_they_came_and_whose_they_are(poster: Poster) -> None:
    poster.kube.gate.clear()
    poster.post(*"abcde")
    await settle()
    await poster.clock.advance(timedelta(seconds=30))
    poster.post("later")
    poster.kube.gate.set()
    await poster.poster.flush()

    assert poster.kube.posted == [(reason, NOW, "operator-1") for reason in "abcde"] + [
        ("later", NOW + timedelta(seconds=30), "operator-1")
    ]
    assert poster.lost() == 0


async def test_events_are_begun_in_their_order_a_few_at_once(poster: Poster) -> None:
    reasons = [f"reason{number}" for number in range(100)]
    poster.kube.gate.clear()
    poster.post(*reasons)
    await settle()
    assert poster.reasons() == reasons[:WORKERS]

    poster.kube.gate.set()
    await poster.poster.flush()
    assert poster.reasons() == reasons
    assert poster.kube.most == WORKERS


async def test_posting_waits_for_nothing_and_what_is_too_much_is_lost_and_counted(
    poster: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "LONGEST_QUEUE", 3)
    other = Poster()
    other.post(*"abcde")
    assert other.lost() == 2

    work = asyncio.create_task(other.poster.run())
    await other.poster.flush()
    work.cancel()
    assert other.reasons() == ["a", "b", "c"], "the earliest tell how it began"
    assert poster.lost() == 0


def test_the_queue_is_bounded() -> None:
    """An API server that is away for hours must not cost memory without end."""
    assert events.LONGEST_QUEUE == 10_000


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(KubeUnavailableError("no answer."), id="unreachable"),
        pytest.param(KubeRefusedError("forbidden.", 403), id="forbidden"),
        pytest.param(NotLeadingError(), id="another leads"),
    ],
)
async def test_one_that_cannot_be_posted_is_lost_and_counted_and_the_next_is_posted(
    poster: Poster, error: KubeError | NotLeadingError, caplog: pytest.LogCaptureFixture
) -> None:
    poster.kube.failures = [error]
    poster.post("a", "b")
    await poster.poster.flush()

    assert poster.reasons() == ["a", "b"]
    assert poster.lost() == 1
    assert caplog.text == "", "nobody is to be alarmed"


async def test_flush_waits_for_those_that_are_being_posted(poster: Poster) -> None:
    poster.kube.gate.clear()
    poster.post("a")
    flush = asyncio.create_task(poster.poster.flush())
    await settle()
    assert not flush.done()

    poster.kube.gate.set()
    await settle()
    assert flush.done()


async def test_flush_of_nothing_waits_for_nothing(poster: Poster) -> None:
    async with asyncio.timeout(1):
        await poster.poster.flush()


async def test_an_error_that_nobody_expected_ends_it() -> None:
    """It is a defect: the operator ends and is started anew."""
    poster = Poster()
    poster.kube.failures = [ValueError("boom")]
    work = asyncio.create_task(poster.poster.run())
    poster.post("a")
    with pytest.raises(ExceptionGroup) as caught:
        await work

    assert [str(error) for error in caught.value.exceptions] == ["boom"]


async def test_cancelling_ends_everything() -> None:
    poster = Poster()
    poster.kube.gate.clear()
    before = asyncio.all_tasks()
    work = asyncio.create_task(poster.poster.run())
    poster.post("a")
    await settle()
    work.cancel()
    await settle()

    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("reason", "is_logged"),
    [
        pytest.param("SecretConflict", True, id="conflict"),
        pytest.param("ScopesMissing", True, id="scopes"),
        pytest.param("AudienceMismatch", True, id="audience"),
        pytest.param("DriftRepeats", True, id="drift"),
        pytest.param("InvalidClient", False, id="what the request's own line tells"),
        pytest.param("Issued", False, id="first token"),
    ],
)
async def test_what_no_other_line_tells_is_logged(
    caplog: pytest.LogCaptureFixture, reason: str, *, is_logged: bool
) -> None:
    Poster().poster.post(TOKEN, Event("Warning", reason, "A sentence."))

    assert caplog.messages == (["shop/ledger-writer: A sentence."] if is_logged else [])
