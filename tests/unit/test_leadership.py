"""Who leads, with a Lease in memory and a clock that the tests move."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator.errors import (
    ConflictError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    NotLeadingError,
)
from asset_token_operator.leadership import (
    LEASE_DURATION,
    LONGEST_LEASE,
    MOST_TRANSITIONS,
    ONCE_MORE,
    RENEW_EVERY,
    RETRY_PERIOD,
    SHORTEST_SEND,
    Leadership,
)
from tests.support.clock import ManualClock, settle

SECOND = timedelta(seconds=1)
PATH = "/apis/coordination.k8s.io/v1/namespaces/operators/leases/tokens"

STORABLE = 2**31
"""What numbers of a Lease are below: they are int32."""


class FakeLeases:
    """The one Lease, as the API server keeps it."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.fault: Exception | None = None
        self.hangs = False
        self.loses_answers = False
        self.slow: tuple[ManualClock, float] | None = None
        self.writes: list[Mapping[str, Any]] = []
        self._version = 0

    async def call(
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], Any],
        *,
        body: Mapping[str, Any] | None,
        content_type: str,
        waits: bool,
    ) -> Any:
        assert not waits, "the Lease waits for nobody's connection"
        assert path == (PATH if method != "POST" else PATH.rpartition("/")[0])
        if self.slow is not None:
            await self.slow[0].sleep(self.slow[1])
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        if method != "GET":
            assert content_type == ("application/json" if method == "POST" else "application/merge-patch+json")
            assert method != "POST" or (body or {})["metadata"] == {"namespace": "operators", "name": "tokens"}
            self._write(method, body or {})
        if self.loses_answers:
            await asyncio.Event().wait()
        if self.lease is None:
            raise NotFoundError("404", 404)
        return read(self.lease)

    def _write(self, method: str, body: Mapping[str, Any]) -> None:
        if method == "PATCH" and self.lease is None:
            raise NotFoundError("404", 404)
        conflict = self.lease is not None and (
            method == "POST" or body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]
        )
        if conflict:
            raise ConflictError("409", 409)
        if body["spec"].get("leaseTransitions", 0) >= STORABLE:
            raise KubeRefusedError("400", 400)
        self.writes.append(body["spec"])
        self.put(**body["spec"])

    def put(self, **spec: Any) -> None:
        """Somebody changes it."""
        self._version += 1
        old = self.lease["spec"] if self.lease else {}
        self.lease = {"metadata": {"resourceVersion": str(self._version)}, "spec": old | spec}

    def holder(self) -> str:
        return self.lease["spec"]["holderIdentity"] if self.lease else ""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def leases() -> FakeLeases:
    return FakeLeases()


class CutOff:
    """The way to the Lease of one operator alone, which may be cut."""

    def __init__(self, leases: FakeLeases) -> None:
        self._leases = leases
        self.cut = False

    async def call(self, *given: Any, **named: Any) -> Any:
        if self.cut:
            raise KubeUnavailableError("no answer")
        return await self._leases.call(*given, **named)


class Member:
    """An operator that takes part: acquires the Lease and keeps it, again and again."""

    def __init__(self, leases: FakeLeases | CutOff, clock: ManualClock, name: str) -> None:
        self.leadership = Leadership(leases, "operators", "tokens", name, clock)
        self.terms = 0
        self._task = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            await self.leadership.acquire()
            self.terms += 1
            await self.leadership.keep()

    def leads(self) -> bool:
        return self.leadership.leads()

    def may_send(self) -> bool:
        with contextlib.suppress(NotLeadingError):
            return self.leadership.time_left() > timedelta()
        return False

    async def kill(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@asynccontextmanager
async def a_member(leases: FakeLeases | CutOff, clock: ManualClock, name: str) -> AsyncIterator[Member]:
    member = Member(leases, clock, name)
    await settle()
    yield member
    await member.kill()


async def pass_seconds(clock: ManualClock, seconds: int) -> None:
    for _ in range(seconds):
        await clock.advance(SECOND)


async def test_the_first_creates_the_lease_and_leads_at_once(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as member:
        assert member.leads()
        assert leases.holder().startswith("a_")
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseDurationSeconds"] == 15
        assert leases.lease["spec"]["leaseTransitions"] == 0
        assert member.leadership.time_left() == LEASE_DURATION


async def test_two_of_one_name_are_not_taken_for_each_other(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as first, a_member(leases, clock, "a") as second:
        assert (first.leads(), second.leads()) == (True, False)


async def test_the_leader_renews_and_stays(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await pass_seconds(clock, 120)

        assert (leader.leads(), standby.leads()) == (True, False)
        assert leader.leadership.time_left() >= LEASE_DURATION - RENEW_EVERY
        assert len(leases.writes) == 1 + 120 // 2


async def test_a_standby_takes_over_when_the_lease_has_ended_and_not_before(
    leases: FakeLeases, clock: ManualClock
) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await pass_seconds(clock, 30)
        await leader.kill()

        await pass_seconds(clock, 12)
        assert not standby.leads()
        await pass_seconds(clock, 4)
        assert standby.leads()
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 1


async def test_what_was_released_is_taken_at_the_next_look(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await leader.leadership.release()
        await leader.kill()
        assert not leader.may_send()

        await clock.advance(RETRY_PERIOD)

        assert standby.leads()


async def test_releasing_what_another_holds_changes_nothing(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await standby.leadership.release()

        assert leader.leads()
        assert leases.holder().startswith("a_")


async def test_a_leader_that_was_suspended_sends_nothing_when_it_wakes(leases: FakeLeases, clock: ManualClock) -> None:
    """Its waits stood still and nobody has told it yet: the clock alone says so."""
    async with a_member(leases, clock, "a") as leader:
        await clock.suspend(60 * SECOND)

        assert not leader.may_send()
        assert not leader.leads()


async def test_a_leader_that_was_suspended_sees_who_leads_and_stands_by(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader:
        leases.put(holderIdentity="b", renewTime="later")
        await pass_seconds(clock, 3)
        assert not leader.may_send()

        await pass_seconds(clock, 5)
        assert leader.terms == 1
        leases.put(holderIdentity="")
        await pass_seconds(clock, 1)
        assert leader.terms == 2
        assert leader.may_send()


async def test_the_wall_clock_plays_no_part(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await clock.set(clock.now() + timedelta(days=400))
        await pass_seconds(clock, 20)
        await clock.set(clock.now() - timedelta(days=800))
        await pass_seconds(clock, 20)

        assert (leader.leads(), standby.leads()) == (True, False)


@pytest.mark.parametrize("how", ["unavailable", "refused", "hangs"])
async def test_a_leader_that_cannot_renew_stops_sending_before_the_lease_ends_and_comes_back(
    leases: FakeLeases, clock: ManualClock, how: str
) -> None:
    async with a_member(leases, clock, "a") as leader:
        faults = {"unavailable": KubeUnavailableError("no answer"), "refused": KubeRefusedError("403", 403)}
        leases.fault, leases.hangs = faults.get(how), how == "hangs"
        for second in range(1, 20):
            await clock.advance(SECOND)
            assert leader.may_send() == (second * SECOND <= LEASE_DURATION - SHORTEST_SEND), second

        leases.fault, leases.hangs = None, False
        await pass_seconds(clock, 4)
        assert leader.may_send()
        assert leader.terms == 2


async def test_a_lease_that_somebody_else_labelled_stays_ours(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader:
        leases.put()
        await pass_seconds(clock, 20)

        assert leader.may_send()
        assert leader.terms == 1


async def test_a_lease_that_was_deleted_is_created_again(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader:
        leases.lease = None
        await pass_seconds(clock, 20)

        assert leader.may_send()
        assert leases.holder().startswith("a_")
        assert leader.terms == 1


async def test_of_two_that_see_a_free_lease_one_takes_it(leases: FakeLeases, clock: ManualClock) -> None:
    leases.put(holderIdentity="")
    async with a_member(leases, clock, "a") as first, a_member(leases, clock, "b") as second:
        assert [first.leads(), second.leads()].count(True) == 1


async def test_a_lease_of_an_empty_spec_is_free(leases: FakeLeases, clock: ManualClock) -> None:
    leases.put()
    async with a_member(leases, clock, "a") as member:
        assert member.leads()


async def test_what_is_said_again_and_again_is_logged_once(
    leases: FakeLeases, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    leases.fault = KubeRefusedError("the API server refused with 403 Forbidden.", 403)
    async with a_member(leases, clock, "a"):
        await pass_seconds(clock, 30)

    assert [record.getMessage() for record in caplog.records] == [
        "Lease operators/tokens can't be had: the API server refused with 403 Forbidden."
    ]


async def test_a_call_that_takes_long_keeps_the_lease(leases: FakeLeases, clock: ManualClock) -> None:
    """A webhook on Leases, or an API server that is busy: each call takes 4 s, which is nobody's end."""
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        leases.slow = (clock, 4.0)
        for _ in range(120):
            await clock.advance(SECOND)
            assert (leader.leads(), standby.leads()) == (True, False)

        assert leader.terms == 1


async def test_a_lease_is_had_although_each_call_takes_long(leases: FakeLeases, clock: ManualClock) -> None:
    leases.slow = (clock, 4.0)
    async with a_member(leases, clock, "a") as member:
        await pass_seconds(clock, 9)

        assert member.leads()


async def test_a_connection_that_is_dead_costs_no_lease(leases: FakeLeases, clock: ManualClock) -> None:
    """What was sent on it is never answered, and what is sent on another is."""
    async with a_member(leases, clock, "a") as leader:
        leases.hangs = True
        await clock.advance(RENEW_EVERY)
        leases.hangs = False
        await clock.advance(ONCE_MORE)

        assert leader.leadership.time_left() == LEASE_DURATION - ONCE_MORE
        assert leader.terms == 1


async def test_a_change_whose_answer_is_lost_costs_no_lease(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader:
        leases.loses_answers = True
        await clock.advance(RENEW_EVERY)
        leases.loses_answers = False
        await pass_seconds(clock, 4)

        assert leader.may_send()
        assert leader.terms == 1


async def test_a_standby_respects_a_lease_that_was_deleted_to_its_end(leases: FakeLeases, clock: ManualClock) -> None:
    """Its holder may be cut off from the API server, and not from Asset."""
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await pass_seconds(clock, 3)
        await leader.kill()
        leases.lease = None
        for _ in range(30):
            await clock.advance(SECOND)
            assert not (leader.may_send() and standby.may_send())

        assert standby.may_send()


async def test_a_lease_that_was_let_go_and_deleted_is_taken_at_once(leases: FakeLeases, clock: ManualClock) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await leader.leadership.release()
        await leader.kill()
        await clock.advance(RETRY_PERIOD)
        assert standby.leads()
        await standby.leadership.release()
        await standby.kill()
    async with a_member(leases, clock, "c") as third:
        leases.lease = None
        await clock.advance(RETRY_PERIOD)
        assert third.leads()


# A Lease that somebody edited


EDITED = [
    pytest.param({"leaseDurationSeconds": 1}, id="a second"),
    pytest.param({"leaseDurationSeconds": None}, id="no duration"),
    pytest.param({"leaseDurationSeconds": STORABLE - 1}, id="for 68 years"),
    pytest.param({"renewTime": None, "acquireTime": None, "leaseTransitions": None}, id="never renewed"),
    pytest.param({"renewTime": "9999-12-31T23:59:59.000000Z"}, id="renewed in the future"),
    pytest.param({"strategy": "OldestEmulationVersion", "preferredHolder": "c"}, id="with more fields"),
]


@pytest.mark.parametrize("edit", EDITED)
async def test_a_leader_that_is_cut_off_when_its_lease_is_edited_is_respected_to_its_end(
    leases: FakeLeases, clock: ManualClock, edit: Mapping[str, Any]
) -> None:
    way = CutOff(leases)
    async with a_member(way, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await pass_seconds(clock, 3)
        leases.put(**edit)
        way.cut = True
        for _ in range(int(LONGEST_LEASE / SECOND) + 2):
            await clock.advance(SECOND)
            assert not (leader.leads() and standby.leads())

        assert standby.leads()


@pytest.mark.parametrize("edit", EDITED)
async def test_an_edited_lease_is_put_right_by_its_leader_which_stays(
    leases: FakeLeases, clock: ManualClock, edit: Mapping[str, Any]
) -> None:
    async with a_member(leases, clock, "a") as leader, a_member(leases, clock, "b") as standby:
        await pass_seconds(clock, 3)
        leases.put(**edit)
        for _ in range(20):
            await clock.advance(SECOND)
            assert (leader.leads(), standby.leads()) == (True, False)

        assert leases.lease is not None
        assert leases.lease["spec"]["leaseDurationSeconds"] == 15


@pytest.mark.parametrize("edit", EDITED)
async def test_an_edited_lease_of_nobody_who_runs_is_taken(
    leases: FakeLeases, clock: ManualClock, edit: Mapping[str, Any]
) -> None:
    leases.put(holderIdentity="gone", **edit)
    async with a_member(leases, clock, "a") as member:
        await pass_seconds(clock, int(LONGEST_LEASE / SECOND) + 1)

        assert member.leads()


async def test_a_lease_whose_transitions_can_be_counted_no_further_is_taken(
    leases: FakeLeases, clock: ManualClock
) -> None:
    leases.put(holderIdentity="", leaseTransitions=MOST_TRANSITIONS)
    async with a_member(leases, clock, "a") as member:
        assert member.leads()
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == MOST_TRANSITIONS
