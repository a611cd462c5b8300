import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from asset_token_operator.metrics import Metrics
from asset_token_operator.scheduler import AFTER_CRASH, Scheduler
from tests.support.builders import NOW
from tests.support.clock import ManualClock, settle

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
WORKERS = 3


class Job:
    """What the scheduler runs: it notes each run and does with a key what a test says."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.runs: list[tuple[str, timedelta]] = []
        self.again: defaultdict[str, list[datetime]] = defaultdict(list)
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.busy: list[str] = []
        self.most_busy = 0

    async def __call__(self, key: str) -> datetime | None:
        self.runs.append((key, self.clock.now() - NOW))
        self.busy.append(key)
        self.most_busy = max(self.most_busy, len(self.busy))
        try:
            if key in self.gates:
                await self.gates[key].wait()
            if key in self.errors:
                raise self.errors.pop(key)
        finally:
            self.busy.remove(key)
        return self.again[key].pop(0) if self.again[key] else None

    def shut(self, *keys: str) -> None:
        """Hold runs of the keys up until they are let through."""
        for key in keys:
            self.gates[key] = asyncio.Event()

    async def let_through(self, *keys: str) -> None:
        for key in keys:
            self.gates.pop(key).set()
        await settle()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def job(clock: ManualClock) -> Job:
    return Job(clock)


@pytest.fixture
async def scheduler(job: Job, clock: ManualClock) -> AsyncIterator[Scheduler[str]]:
    scheduler: Scheduler[str] = Scheduler(clock, WORKERS)
    scheduler.open()
    work = scheduler.start(job)
    await settle()
    yield scheduler
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def test_runs_a_key_when_it_is_due_and_not_before(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    scheduler.wake("a", NOW + 10 * SECOND)

    await clock.advance(9 * SECOND)
    assert job.runs == []
    await clock.advance(SECOND)
    assert job.runs == [("a", 10 * SECOND)]


async def test_runs_a_key_at_once_when_it_is_woken(scheduler: Scheduler[str], job: Job) -> None:
    scheduler.wake("a")
    await settle()

    assert job.runs == [("a", timedelta(0))]


async def test_runs_what_was_woken_before_the_start(job: Job, clock: ManualClock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock, WORKERS)
    scheduler.open()
    scheduler.wake("a")
    work = scheduler.start(job)
    await settle()

    assert job.runs == [("a", timedelta(0))]
    work.cancel()


async def test_runs_a_key_again_when_it_says(scheduler: Scheduler[str], job: Job, clock: ManualClock) -> None:
    job.again["a"] = [NOW + 5 * SECOND, NOW + 7 * SECOND]
    scheduler.wake("a")

    for _ in range(20):
        await clock.advance(SECOND)

    assert job.runs == [("a", 1 * SECOND), ("a", 5 * SECOND), ("a", 7 * SECOND)]


async def test_a_moment_that_has_passed_means_at_once(scheduler: Scheduler[str], job: Job) -> None:
    scheduler.wake("a", NOW - HOUR)
    await settle()

    assert job.runs == [("a", timedelta(0))]


async def test_a_key_that_says_no_moment_is_forgotten(scheduler: Scheduler[str], job: Job, clock: ManualClock) -> None:
    scheduler.wake("a")
    await settle()

    await clock.advance(timedelta(days=1))
    assert len(job.runs) == 1
    scheduler.wake("a")
    await settle()
    assert len(job.runs) == 2


async def test_a_key_runs_only_once_at_a_time(scheduler: Scheduler[str], job: Job, clock: ManualClock) -> None:
    job.shut("a")
    for _ in range(5):
        scheduler.wake("a")
        await settle()
        await clock.advance(SECOND)

    assert job.busy == ["a"]
    assert len(job.runs) == 1


async def test_a_key_that_is_woken_while_it_runs_runs_once_more_afterwards(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    job.shut("a")
    scheduler.wake("a")
    await settle()
    scheduler.wake("a")
    scheduler.wake("a")
    await settle()
    await job.let_through("a")
    await clock.advance(HOUR)

    assert [key for key, _ in job.runs] == ["a", "a"]


async def test_a_wake_during_a_run_wins_over_the_later_moment_that_the_run_says(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    job.again["a"] = [NOW + HOUR, NOW + HOUR]
    job.shut("a")
    scheduler.wake("a")
    await settle()
    scheduler.wake("a")
    await job.let_through("a")

    assert len(job.runs) == 2
    await clock.advance(HOUR)
    assert job.runs[2:] == [("a", HOUR)]


async def test_a_wake_for_later_during_a_run_is_kept(scheduler: Scheduler[str], job: Job, clock: ManualClock) -> None:
    job.shut("a")
    scheduler.wake("a")
    await settle()
    scheduler.wake("a", NOW + 5 * SECOND)
    await clock.advance(10 * SECOND)
    await job.let_through("a")

    assert job.runs == [("a", timedelta(0)), ("a", 10 * SECOND)]


@pytest.mark.parametrize(
    "moments", [pytest.param((5, 60), id="earlier first"), pytest.param((60, 5), id="later first")]
)
async def test_the_earlier_of_two_wakes_wins(
    scheduler: Scheduler[str], job: Job, clock: ManualClock, moments: tuple[int, int]
) -> None:
    for seconds in moments:
        scheduler.wake("a", NOW + seconds * SECOND)
    for _ in range(120):
        await clock.advance(SECOND)

    assert job.runs == [("a", 5 * SECOND)]


async def test_an_earlier_wake_is_seen_while_a_later_one_is_waited_for(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    scheduler.wake("late", NOW + HOUR)
    await settle()
    scheduler.wake("early", NOW + SECOND)
    await settle()
    await clock.advance(SECOND)

    assert job.runs == [("early", SECOND)]


async def test_a_crash_of_one_key_stops_no_other_and_is_tried_again(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    job.errors["bad"] = RuntimeError("boom")
    scheduler.wake("bad")
    scheduler.wake("good")
    await settle()
    assert [key for key, _ in job.runs] == ["bad", "good"]

    await clock.advance(AFTER_CRASH - SECOND)
    assert len(job.runs) == 2
    await clock.advance(SECOND)
    assert job.runs[2:] == [("bad", AFTER_CRASH)]


async def test_each_crash_is_counted(job: Job, clock: ManualClock) -> None:
    metrics = Metrics()
    scheduler: Scheduler[str] = Scheduler(clock, WORKERS, crashed=metrics.reconcile_failed)
    scheduler.open()
    job.errors["bad"] = RuntimeError("boom")
    scheduler.wake("bad")
    scheduler.wake("good")
    work = scheduler.start(job)
    await settle()
    work.cancel()

    assert metrics.registry.get_sample_value("asset_token_operator_reconcile_errors_total") == 1


async def test_more_crashes_than_workers_stop_nothing(scheduler: Scheduler[str], job: Job) -> None:
    for number in range(2 * WORKERS):
        job.errors[f"bad-{number}"] = RuntimeError("boom")
        scheduler.wake(f"bad-{number}")
    scheduler.wake("good")
    await settle()

    assert ("good", timedelta(0)) in job.runs


async def test_the_log_of_a_crash_says_where_but_nothing_of_the_error_text(
    scheduler: Scheduler[str], job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    error = KeyError("canary-secret")
    error.__cause__ = ValueError("canary-cause")
    error.add_note("canary-note")
    job.errors["shop/bad"] = error
    with caplog.at_level(logging.DEBUG):
        scheduler.wake("shop/bad")
        await settle()

    assert "shop/bad: a defect of the operator (KeyError), run again in 30 s; please report it" in caplog.text
    assert "test_scheduler.py" in caplog.text
    assert "canary" not in caplog.text


async def test_no_more_keys_run_at_once_than_there_are_workers(scheduler: Scheduler[str], job: Job) -> None:
    keys = [f"key-{number}" for number in range(10)]
    job.shut(*keys)
    for key in keys:
        scheduler.wake(key)
    await settle()
    assert len(job.busy) == WORKERS

    for key in keys:
        await job.let_through(key)
    assert sorted(key for key, _ in job.runs) == keys
    assert job.most_busy == WORKERS


async def test_a_machine_that_was_suspended_runs_at_once_what_is_due(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    scheduler.wake("soon", NOW + 30 * SECOND)
    scheduler.wake("later", NOW + 10 * HOUR)
    scheduler.wake("tomorrow", NOW + 24 * HOUR)
    await settle()
    await clock.suspend(12 * HOUR)
    await clock.advance(2 * SECOND)

    woken = 12 * HOUR + 2 * SECOND
    assert job.runs == [("soon", woken), ("later", woken)]


async def test_the_clock_is_read_again_within_seconds_of_a_jump(
    scheduler: Scheduler[str], job: Job, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sleep by a clock that stands still during suspension must not be as long as the wait that it is for."""
    sleeps: list[float] = []
    wait = clock.wait

    async def noted(event: asyncio.Event, seconds: float) -> None:
        sleeps.append(seconds)
        await wait(event, seconds)

    monkeypatch.setattr(clock, "wait", noted)
    scheduler.wake("a", NOW + HOUR)
    await settle()
    for _ in range(5):
        await clock.advance(2 * SECOND)

    assert job.runs == []
    assert max(sleeps) <= 2


@pytest.mark.parametrize(
    "by",
    [
        pytest.param(-HOUR, id="back"),
        pytest.param(timedelta(days=-365), id="back a year"),
        pytest.param(-3 * SECOND, id="back a little"),
        pytest.param(3 * SECOND, id="forward a little"),
        pytest.param(HOUR, id="forward"),
    ],
)
async def test_everything_is_looked_at_anew_when_somebody_sets_the_clock(
    scheduler: Scheduler[str], job: Job, clock: ManualClock, by: timedelta, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(2 * WORKERS):
        scheduler.wake(f"key-{number}", NOW + timedelta(days=number + 1))
    await settle()
    await clock.set(NOW + by)
    await clock.advance(2 * SECOND)

    assert sorted(key for key, _ in job.runs) == sorted(f"key-{number}" for number in range(2 * WORKERS))
    assert caplog.text.count(f"this machine's clock was set {'ahead' if by > 0 * SECOND else 'back'} by") == 1

    await clock.advance(24 * HOUR)
    assert len(job.runs) == 2 * WORKERS, "but only once"


@pytest.mark.parametrize("by", [pytest.param(-2 * SECOND, id="back"), pytest.param(2 * SECOND, id="forward")])
async def test_a_clock_that_is_only_disciplined_is_not_one_that_was_set(
    scheduler: Scheduler[str], job: Job, clock: ManualClock, by: timedelta
) -> None:
    scheduler.wake("a", NOW + HOUR)
    await settle()
    for _ in range(5):
        await clock.set(clock.now() + by)
        await clock.advance(2 * SECOND)

    assert job.runs == []


async def test_a_machine_that_was_suspended_is_not_one_whose_clock_was_set(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    scheduler.wake("tomorrow", NOW + 24 * HOUR)
    await settle()
    await clock.suspend(12 * HOUR)
    await clock.advance(2 * SECOND)

    assert job.runs == []


async def test_a_key_that_runs_while_the_clock_is_set_back_runs_when_its_run_says(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    job.again["a"] = [NOW - HOUR + 10 * SECOND]
    job.shut("a")
    scheduler.wake("a")
    await settle()
    await clock.set(NOW - HOUR)
    await clock.advance(2 * SECOND)
    await job.let_through("a")
    assert len(job.runs) == 1

    await clock.advance(8 * SECOND)
    assert job.runs[1:] == [("a", -HOUR + 10 * SECOND)]


async def test_a_clock_that_is_set_back_runs_nothing_twice_and_goes_on(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    scheduler.wake("a", NOW + 10 * SECOND)
    await clock.advance(10 * SECOND)
    await clock.set(NOW - HOUR)
    await clock.advance(2 * SECOND)
    assert len(job.runs) == 1

    scheduler.wake("a")
    await settle()
    assert len(job.runs) == 2


async def test_a_thousand_keys_run_in_the_order_in_which_they_are_due(job: Job, clock: ManualClock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock, 1)
    scheduler.open()
    work = scheduler.start(job)
    for number in range(1000):
        due = number * 7919 % 1000
        scheduler.wake(f"key-{due}", NOW + due * SECOND)
    await clock.advance(HOUR)

    assert [key for key, _ in job.runs] == [f"key-{due}" for due in range(1000)]
    work.cancel()


async def test_cancelling_ends_everything_also_runs_that_wait(job: Job, clock: ManualClock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock, WORKERS)
    scheduler.open()
    work = scheduler.start(job)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    job.shut("a")
    scheduler.wake("a")
    await settle()
    assert job.busy == ["a"]

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert job.busy == []
    assert all(task.done() for task in others)


async def test_nothing_runs_before_it_is_opened_and_then_all_that_is_due(job: Job, clock: ManualClock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock, WORKERS)
    work = scheduler.start(job)
    scheduler.wake("a")
    scheduler.wake("b", NOW + 10 * SECOND)
    await clock.advance(HOUR)
    assert job.runs == []

    scheduler.open()
    await settle()

    assert sorted(job.runs) == [("a", HOUR), ("b", HOUR)]
    work.cancel()


async def test_closing_waits_for_what_runs_and_begins_nothing_more(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    keys = [f"key-{number}" for number in range(WORKERS + 2)]
    job.shut(*keys)
    for key in keys:
        scheduler.wake(key)
    await settle()
    assert job.busy == keys[:WORKERS]

    closing = asyncio.create_task(scheduler.close())
    await settle()
    assert not closing.done()
    await job.let_through(*keys)

    assert closing.done()
    assert len(job.runs) == WORKERS, "those that had no worker yet were left for later"
    scheduler.open()
    await clock.advance(SECOND)
    assert [key for key, _ in job.runs] == keys


async def test_closing_what_runs_nothing_is_done_at_once(scheduler: Scheduler[str]) -> None:
    await scheduler.close()


async def test_a_key_that_is_woken_again_and_again_costs_no_memory(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    """Each run that says "in an hour" leaves that moment behind when the key is woken before."""
    for _ in range(1000):
        for key in "abc":
            job.again[key] = [clock.now() + HOUR]
            scheduler.wake(key)
        await settle()

    assert len(job.runs) == 3000
    assert len(scheduler._heap) < 100  # noqa: SLF001 - memory shows nowhere else
    await clock.advance(HOUR)
    assert len(job.runs) == 3003


async def test_a_key_that_is_woken_for_ever_earlier_moments_costs_no_memory(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    for second in range(1000, 0, -1):
        scheduler.wake("a", NOW + second * SECOND)

    assert len(scheduler._heap) < 100  # noqa: SLF001 - memory shows nowhere else
    await clock.advance(SECOND)
    assert job.runs == [("a", SECOND)]


async def test_a_run_that_waits_long_gives_its_place_to_another(
    scheduler: Scheduler[str], job: Job, clock: ManualClock
) -> None:
    job.shut(*"abc")
    for key in "abcd":
        scheduler.wake(key)
    await settle()
    assert [key for key, _ in job.runs] == ["a", "b", "c"]

    for _ in range(4):
        await clock.advance(SECOND)
    assert [key for key, _ in job.runs] == ["a", "b", "c", "d"]

    await job.let_through(*"abc")
    job.most_busy = 0
    job.shut(*"abcdef")
    for key in "abcdef":
        scheduler.wake(key)
    await settle()
    assert job.most_busy == WORKERS, "no more places than before"
    await job.let_through(*"abc")
    await job.let_through(*"def")


async def test_a_group_that_is_slow_keeps_no_other_from_running(job: Job, clock: ManualClock) -> None:
    scheduler: Scheduler[str] = Scheduler(clock, 50, group_of=lambda key: key[0])
    scheduler.open()
    work = scheduler.start(job)
    slow = [f"a{number}" for number in range(300)]
    job.shut(*slow)
    for key in slow:
        scheduler.wake(key)
    for _ in range(10):
        await clock.advance(SECOND)
    scheduler.wake("b")
    await settle()

    assert job.runs[-1][0] == "b"
    assert len(job.busy) <= 100
    assert scheduler.waiting() >= 200
    closing = asyncio.create_task(scheduler.close())
    await settle()
    for gate in job.gates.values():
        gate.set()
    await closing
    work.cancel()
