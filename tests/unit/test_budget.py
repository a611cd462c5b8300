"""Who may send now and who is next, request by request; minutes of many tokens are in the properties."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from asset_token_operator.account import Account
from asset_token_operator.budget import Budgets
from asset_token_operator.model import Environment, Key, Reserves, Urgency
from asset_token_operator.slots import Tenant
from tests.support.builders import NOW, a_reply
from tests.support.clock import ManualClock, settle
from tests.support.limiter import OTHER_TENANT, TENANT, a_slot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_mock import MockerFixture

    from asset_token_operator.answers import Reply
    from asset_token_operator.slots import Slot

SECOND = timedelta(seconds=1)
PRODUCTION = Tenant(Environment.PRODUCTION, "a" * 64)


class Tokens:
    """AssetTokens that ask for slots by name, and what Asset answers them."""

    def __init__(self, clock: ManualClock, reserves: Reserves) -> None:
        self.clock = clock
        self.woken: list[str] = []
        self.budgets = Budgets(lambda key: self.woken.append(key.name), clock, reserves)
        self.slots: dict[str, Slot] = {}

    def acquire(self, name: str, urgency: Urgency = Urgency.EXPIRING, **changes: object) -> bool:
        self.slots[name] = a_slot(name, urgency=urgency, **changes)
        return self.budgets.acquire(self.slots[name])

    def reply(self, status: int = 200, left: int | None = None, limit: int = 300, resets_in: int = 45) -> Reply:
        """An answer that says what is left, or nothing of that."""
        now = self.clock.now().replace(microsecond=0)
        if left is None:
            return a_reply(status)
        return a_reply(
            status,
            date=format_datetime(now, usegmt=True),
            x_ratelimit_limit=str(limit),
            x_ratelimit_remaining=str(left),
            x_ratelimit_reset=str(int(now.timestamp()) + resets_in),
        )

    async def answer(self, name: str, left: int | None = None, limit: int = 300, resets_in: int = 45) -> None:
        self.budgets.answered(self.slots[name], self.reply(200, left, limit, resets_in))
        await settle()

    async def refuse(self, name: str, reply: Reply | None = None) -> None:
        """Asset answers 429."""
        self.budgets.answered(self.slots[name], reply or self.reply(429))
        await settle()

    async def fail(self, name: str, retry_after: timedelta | None = None) -> None:
        """There is no answer, or one that says when to ask again."""
        self.budgets.failed(self.slots[name], retry_after)
        await settle()

    async def spend(self, number: int, left: int, limit: int) -> None:
        """So many requests of ours are sent, and the last answer says what is left."""
        for index in range(number):
            assert self.acquire(f"spent-{index}")
            await self.answer(f"spent-{index}", left=left + number - 1 - index, limit=limit)

    def newly_woken(self) -> list[str]:
        woken, self.woken[:] = list(self.woken), []
        return woken


class Guesses:
    """AssetTokens of several namespaces that wait for one tenant's budget."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.slots: dict[str, Slot] = {}

    def ask(self, namespace: str, *names: str, **changes: object) -> None:
        for name in names:
            fields = {"key": Key(namespace, name), "urgency": Urgency.MISSING, "is_accepted": False}
            self.slots[name] = a_slot(name, **(fields | changes))
            assert not self.tokens.budgets.acquire(self.slots[name])

    def account(self) -> Account:
        (account,) = self.tokens.budgets._accounts.values()  # noqa: SLF001 - it is shown nowhere else
        return account

    def waiting(self) -> list[str]:
        return [slot.key.name for slot in self.account().queue.waiting]


@pytest.fixture
async def guesses(tokens: Tokens) -> Guesses:
    """With nothing left in this window."""
    tokens.acquire("sent")
    await tokens.answer("sent", left=0)
    return Guesses(tokens)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def serve(tokens: Tokens) -> AsyncIterator[Tokens]:
    serving = asyncio.create_task(tokens.budgets.serve())
    await settle()
    yield tokens
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


@pytest.fixture
async def tokens(clock: ManualClock) -> AsyncIterator[Tokens]:
    """With the reserves as they are by default."""
    async for served in serve(Tokens(clock, Reserves())):
        yield served


class TestLearningWhatIsLeft:
    async def test_until_the_first_answer_one_is_in_flight(self, tokens: Tokens, clock: ManualClock) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        await clock.advance(1.9 * SECOND)
        assert tokens.woken == []

    async def test_the_first_answer_lets_the_others_go(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        await tokens.answer("a", left=299)
        assert tokens.woken == ["b", "c"]
        assert [tokens.acquire(name) for name in "bcd"] == [True, True, True]

    async def test_a_first_request_that_hangs_gets_one_beside_it_every_two_seconds(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        await clock.advance(2 * SECOND)
        assert tokens.newly_woken() == ["b"]
        await clock.advance(1.9 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(0.1 * SECOND)
        assert tokens.newly_woken() == ["c"]

    async def test_no_more_go_than_are_left(self, tokens: Tokens, clock: ManualClock) -> None:
        for name in "abcde":
            tokens.acquire(name)
        await tokens.answer("a", left=2)
        await clock.advance(40 * SECOND)
        assert tokens.woken == ["b", "c"]

    async def test_those_in_flight_are_taken_off_what_an_answer_says(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=10)
        assert [tokens.acquire(name) for name in "bc"] == [True, True]
        await tokens.answer("b", left=1)
        assert not tokens.acquire("d")

    async def test_answers_that_overtake_each_other_cost_no_place(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=10)
        assert [tokens.acquire(name) for name in "bc"] == [True, True]
        await tokens.answer("c", left=8)
        await tokens.answer("b", left=9)
        assert sum(tokens.acquire(f"d-{index}") for index in range(20)) == 8

    async def test_an_older_answer_that_comes_later_hides_nothing_that_others_spent(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=10)
        assert [tokens.acquire(name) for name in "bc"] == [True, True]
        await tokens.answer("c", left=1)
        await tokens.answer("b", left=9)
        assert [tokens.acquire(name) for name in "de"] == [True, False]

    async def test_a_later_reset_begins_a_new_count(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=1)
        assert tokens.acquire("b")
        await tokens.answer("b", left=200, resets_in=46)
        assert tokens.acquire("c")

    async def test_a_late_answer_of_an_earlier_window_says_nothing_of_this_one(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=1, resets_in=2)
        assert tokens.acquire("slow")
        late = tokens.reply(left=0, resets_in=2)
        await clock.advance(5 * SECOND)
        assert tokens.acquire("b")
        await tokens.answer("b", left=299, resets_in=57)
        tokens.budgets.answered(tokens.slots["slow"], late)
        assert tokens.acquire("c")

    async def test_after_a_reset_one_goes_first(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=0, resets_in=5)
        assert [tokens.acquire(name) for name in "bc"] == [False, False]
        await clock.advance(5.9 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(0.1 * SECOND)
        assert tokens.newly_woken() == ["b"]
        assert tokens.acquire("b")
        await tokens.answer("b", left=299)
        assert tokens.newly_woken() == ["c"]

    async def test_what_was_left_is_worth_nothing_after_a_reset(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=299, resets_in=5)
        await clock.advance(6 * SECOND)
        assert [tokens.acquire(name) for name in "bc"] == [True, False]


class TestWithoutHeaders:
    async def test_the_documented_limit_is_counted(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a")
        assert sum(tokens.acquire(f"b-{index}") for index in range(400)) == 299

    async def test_a_count_ends_a_window_and_a_second_after_the_first_answer(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a")
        for index in range(301):
            tokens.acquire(f"{index:03}")
        for index in range(299):
            await tokens.answer(f"{index:03}")
        await clock.advance(60.9 * SECOND)
        assert tokens.woken == []
        await clock.advance(0.1 * SECOND)
        assert tokens.woken == ["299"]

    async def test_a_limit_that_was_named_once_is_remembered(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=9, limit=10, resets_in=5)
        await clock.advance(6 * SECOND)
        assert tokens.acquire("b")
        await tokens.answer("b")
        assert sum(tokens.acquire(f"c-{index}") for index in range(20)) == 9

    async def test_an_answer_that_says_nothing_changes_nothing(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=2)
        assert tokens.acquire("b")
        await tokens.answer("b")
        assert [tokens.acquire(name) for name in "cd"] == [True, False]


class TestReserves:
    @pytest.mark.parametrize(
        ("urgency", "left", "free"),
        [
            pytest.param(Urgency.ROUTINE, 3, True, id="routine-above-a-fifth"),
            pytest.param(Urgency.ROUTINE, 2, False, id="routine-leaves-a-fifth"),
            pytest.param(Urgency.FORCED, 2, True, id="forced-above-a-tenth"),
            pytest.param(Urgency.FORCED, 1, False, id="forced-leaves-a-tenth"),
            pytest.param(Urgency.MISSING, 2, True, id="first-issue-above-a-tenth"),
            pytest.param(Urgency.MISSING, 1, False, id="first-issue-leaves-a-tenth"),
            pytest.param(Urgency.EXPIRING, 1, True, id="about-to-expire-takes-the-last"),
            pytest.param(Urgency.EXPIRING, 0, False, id="nothing-is-left"),
        ],
    )
    async def test_the_less_urgent_leave_more(self, tokens: Tokens, urgency: Urgency, left: int, *, free: bool) -> None:
        await tokens.spend(10 - left, left=left, limit=10)
        assert tokens.acquire("a", urgency) is free

    async def test_none_means_that_all_may_be_spent(self, clock: ManualClock) -> None:
        tokens = Tokens(clock, Reserves(0, 0))
        await tokens.spend(9, left=1, limit=10)
        assert tokens.acquire("a", Urgency.ROUTINE)

    async def test_what_other_programs_will_spend_until_the_reset_is_left_by_routine_renewals_alone(
        self, tokens: Tokens
    ) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=150, resets_in=30)  # so others spend five a second
        assert [tokens.acquire("b", Urgency.ROUTINE), tokens.acquire("c", Urgency.FORCED)] == [False, True]

    async def test_what_other_programs_have_spent_all_at_once_is_tried_for_by_few(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("first")
        await tokens.answer("first", left=100, resets_in=59)
        for index in range(60):
            assert not tokens.acquire(f"a-{index:02}", Urgency.ROUTINE)
        left = 100
        for second in range(1, 60):
            await clock.advance(SECOND)
            for name in tokens.newly_woken():
                left -= 1
                await tokens.answer(name, left=left, resets_in=59 - second)
            assert 100 - left <= 1 + second / 4 or second > 45
        assert 60 <= left <= 85, "the reserve is left"

    async def test_while_they_spend_all_the_time_few_are_tried(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("first")
        await tokens.answer("first", left=296, resets_in=59)
        for index in range(60):
            tokens.acquire(f"a-{index:02}", Urgency.ROUTINE)
        ours = 1
        for second in range(1, 60):
            await clock.advance(SECOND)
            for name in tokens.newly_woken():
                ours += 1
                await tokens.answer(name, left=300 - ours - 4 * (second + 1), resets_in=59 - second)
        assert ours <= 20, "about a twentieth of the limit"

    async def test_our_own_requests_are_not_taken_for_other_programs(self, tokens: Tokens) -> None:
        await tokens.spend(150, left=150, limit=300)
        assert tokens.acquire("b", Urgency.ROUTINE)

    async def test_what_we_sent_in_an_earlier_window_counts_no_more(self, tokens: Tokens, clock: ManualClock) -> None:
        await tokens.spend(100, left=200, limit=300)
        await clock.advance(150 * SECOND)
        assert tokens.acquire("a")
        await tokens.answer("a", left=150, resets_in=30)
        assert not tokens.acquire("b", Urgency.ROUTINE)


class TestSpacing:
    async def test_routine_renewals_are_evenly_spaced(self, tokens: Tokens, clock: ManualClock) -> None:
        for name in "abc":
            tokens.acquire(name, Urgency.ROUTINE)
        await tokens.answer("a", left=299)
        await clock.advance(0.24 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(0.01 * SECOND)
        assert tokens.newly_woken() == ["b"]
        await clock.advance(0.24 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(0.01 * SECOND)
        assert tokens.newly_woken() == ["c"]

    @pytest.mark.parametrize(
        "urgency",
        [pytest.param(urgency, id=urgency.name.lower()) for urgency in Urgency if urgency < Urgency.ROUTINE],
    )
    async def test_urgent_ones_may_burst_also_past_routine_ones(self, tokens: Tokens, urgency: Urgency) -> None:
        assert tokens.acquire("a", Urgency.ROUTINE)
        await tokens.answer("a", left=299)
        assert not tokens.acquire("b", Urgency.ROUTINE)
        assert all(tokens.acquire(f"c-{index}", urgency) for index in range(100))


class TestOrder:
    async def test_the_most_urgent_go_first_and_of_these_what_expires_first(self, tokens: Tokens) -> None:
        assert tokens.acquire("first")
        late, soon = NOW + timedelta(hours=2), NOW + timedelta(hours=1)
        tokens.acquire("routine", Urgency.ROUTINE, expires_at=NOW)
        tokens.acquire("forced-late", Urgency.FORCED, expires_at=late)
        tokens.acquire("missing", Urgency.MISSING, expires_at=late)
        tokens.acquire("expiring-late", Urgency.EXPIRING, expires_at=late)
        tokens.acquire("forced-soon", Urgency.FORCED, expires_at=soon)
        tokens.acquire("expiring-soon-b", Urgency.EXPIRING, expires_at=soon)
        tokens.acquire("expiring-soon-a", Urgency.EXPIRING, expires_at=soon)
        await tokens.answer("first", left=299)
        assert tokens.woken == [
            "expiring-soon-a",
            "expiring-soon-b",
            "expiring-late",
            "missing",
            "forced-soon",
            "forced-late",
            "routine",
        ]

    async def test_what_one_tenant_is_answered_has_no_other_queue_looked_at(
        self, tokens: Tokens, mocker: MockerFixture
    ) -> None:
        tenants = [replace(TENANT, client=str(number)) for number in range(100)]
        for tenant in tenants:
            for name in ("sent", "waits"):
                tokens.acquire(f"{tenant.client}-{name}", tenant=tenant)
        await settle()
        asked = mocker.spy(Account, "free_at")
        await tokens.answer("7-sent", left=9)
        assert tokens.woken == ["7-waits"]
        assert {call.args[1].tenant.client for call in asked.call_args_list} == {"7"}

    async def test_namespaces_whose_credentials_were_never_accepted_have_their_turns(
        self, guesses: Guesses, clock: ManualClock
    ) -> None:
        guesses.ask("aaa", "a1", "a2", "a3")
        guesses.ask("shop", "s1")
        guesses.ask("aaa", "a2", "a1")  # they look again, and keep their turns
        assert guesses.waiting() == ["a1", "s1", "a2", "a3"]

        await clock.advance(47 * SECOND)
        assert guesses.tokens.newly_woken() == ["a1"]
        guesses.ask("aaa", "a4")
        guesses.ask("tea", "t1")
        guesses.ask("zoo", "known", is_accepted=True)
        assert guesses.waiting() == ["known", "s1", "t1", "a2", "a3", "a4"]

    async def test_who_has_had_a_turn_comes_after_who_waits_for_the_first(
        self, guesses: Guesses, clock: ManualClock
    ) -> None:
        guesses.ask("aaa", "a1")
        guesses.ask("shop", "s1", "s2")
        await clock.advance(47 * SECOND)
        assert guesses.tokens.newly_woken() == ["a1"]
        assert guesses.tokens.budgets.acquire(guesses.slots["a1"])
        guesses.ask("aaa", "a1")
        assert guesses.waiting() == ["s1", "a1", "s2"]

    @pytest.mark.parametrize("how", ["withdrawn", "accepted"])
    async def test_a_turn_that_nothing_was_sent_for_is_given_back(self, guesses: Guesses, how: str) -> None:
        names = [f"s{number}" for number in range(9)]
        guesses.ask("shop", *names)
        for name in names:
            guesses.tokens.budgets.withdraw(Key("shop", name))
            if how == "accepted":
                guesses.ask("shop", name, is_accepted=True)
        guesses.ask("aaa", "a1", "a2")
        guesses.ask("shop", "new")
        assert guesses.waiting()[-3:] == ["a1", "new", "a2"]

    async def test_who_waits_with_credentials_that_are_accepted_now_goes_before_all_others(
        self, guesses: Guesses
    ) -> None:
        guesses.ask("aaa", "a1", "a2")
        guesses.ask("shop", "s1", "s2", credentials="right")
        guesses.tokens.budgets.accept(TENANT, "right")
        assert guesses.waiting() == ["s1", "s2", "a1", "a2"]

    async def test_a_turn_that_is_taken_out_of_order_makes_nobody_wait_longer(self, guesses: Guesses) -> None:
        """As probes of an endpoint that is down may."""
        guesses.ask("aaa", *(f"a{number}" for number in range(9)))
        guesses.account().send(guesses.account().queue.waiting[-1], NOW)
        guesses.tokens.budgets.withdraw(Key("aaa", "a8"))
        guesses.ask("shop", "s1")
        assert guesses.waiting()[:3] == ["a0", "s1", "a1"]

    async def test_a_guess_is_never_about_to_expire(self, guesses: Guesses) -> None:
        guesses.ask("aaa", "forged", urgency=Urgency.EXPIRING)
        guesses.ask("shop", "first", is_accepted=True)
        guesses.ask("tea", "renewed", is_accepted=True, urgency=Urgency.EXPIRING)
        assert guesses.waiting() == ["renewed", "first", "forged"]

    async def test_who_comes_later_waits_behind_the_queue(self, tokens: Tokens, clock: ManualClock) -> None:
        await tokens.spend(9, left=1, limit=10)
        assert not tokens.acquire("a", Urgency.MISSING)
        assert not tokens.acquire("b", Urgency.FORCED)
        await clock.advance(46 * SECOND)
        assert tokens.woken == ["a"]

    async def test_who_is_more_urgent_passes_the_queue(self, tokens: Tokens) -> None:
        await tokens.spend(9, left=1, limit=10)
        assert not tokens.acquire("a", Urgency.MISSING)
        assert tokens.acquire("b", Urgency.EXPIRING)

    async def test_who_asks_again_more_urgently_is_queued_once_in_its_new_order(self, tokens: Tokens) -> None:
        assert tokens.acquire("first")
        for name in "ab":
            assert not tokens.acquire(name, Urgency.FORCED)
        assert not tokens.acquire("b", Urgency.MISSING)
        await tokens.answer("first", left=299)
        assert tokens.woken == ["b", "a"]


class TestRefusals:
    async def test_a_429_pauses_its_tenant_alone(self, tokens: Tokens) -> None:
        assert [tokens.acquire("a"), tokens.acquire("b", tenant=OTHER_TENANT)] == [True, True]
        await tokens.answer("b", left=299)
        await tokens.refuse("a")
        assert [tokens.acquire("c"), tokens.acquire("d", tenant=OTHER_TENANT)] == [False, True]
        assert tokens.acquire("e", tenant=PRODUCTION)

    @pytest.mark.parametrize(
        ("headers", "pause"),
        [
            pytest.param({"retry_after": "7"}, 7, id="retry-after"),
            pytest.param({"retry_after": "Fri, 01 May 2026 12:00:09 GMT"}, 9, id="retry-after-as-a-date"),
            pytest.param({"retry_after": "7", "x_ratelimit_reset": "1777636820"}, 7, id="retry-after-and-reset"),
            pytest.param({"x_ratelimit_reset": "1777636820"}, 21, id="reset-and-a-second"),
            pytest.param({"x_ratelimit_reset": "1777636000"}, 10, id="past-reset"),
            pytest.param({"retry_after": "9999999999"}, 10, id="absurd-retry-after"),
            pytest.param({"retry_after": "Fri, 01 May 2099 12:00:00 GMT"}, 10, id="retry-after-in-another-life"),
            pytest.param({"x_ratelimit_reset": "20"}, 21, id="reset-in-seconds-from-now"),
            pytest.param({"date": "", "retry_after": "Fri, 01 May 2026 12:00:09 GMT"}, 10, id="on-an-unknown-clock"),
            pytest.param({}, 10, id="not-said"),
        ],
    )
    async def test_a_pause_is_as_long_as_asset_says(
        self, tokens: Tokens, clock: ManualClock, headers: dict[str, str], pause: int
    ) -> None:
        if "x_ratelimit_reset" in headers:
            headers = {"x_ratelimit_limit": "300", "x_ratelimit_remaining": "0", **headers}
        assert tokens.acquire("a")
        await tokens.refuse("a", a_reply(429, **{"date": "Fri, 01 May 2026 12:00:00 GMT", **headers}))
        assert not tokens.acquire("a")
        await clock.advance((pause - 0.1) * SECOND)
        assert tokens.woken == []
        await clock.advance(0.1 * SECOND)
        assert tokens.woken == ["a"]

    async def test_unsaid_pauses_grow_until_an_answer(self, tokens: Tokens, clock: ManualClock) -> None:
        for pause in (10, 20, 40, 60, 60):
            assert tokens.acquire("a")
            await tokens.refuse("a")
            await clock.advance((pause - 0.1) * SECOND)
            assert not tokens.acquire("a")
            await clock.advance(0.1 * SECOND)
        assert tokens.acquire("a")
        await tokens.answer("a")
        assert tokens.acquire("a")
        await tokens.refuse("a")
        await clock.advance(10 * SECOND)
        assert tokens.acquire("a")

    async def test_a_pause_that_was_said_too_short_grows_too(self, tokens: Tokens, clock: ManualClock) -> None:
        for pause in (1, 20, 40):
            assert tokens.acquire("a")
            await tokens.refuse("a", a_reply(429, retry_after="1"))
            await clock.advance((pause - 0.1) * SECOND)
            assert not tokens.acquire("a")
            await clock.advance(0.1 * SECOND)

    async def test_those_refused_together_are_refused_once(
        self, tokens: Tokens, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert tokens.acquire("first")
        await tokens.answer("first", left=299)
        assert [tokens.acquire(name) for name in "abcde"] == [True] * 5
        for name in "abcde":
            await tokens.refuse(name)
        assert len(caplog.records) == 1
        assert not tokens.acquire("a")
        await clock.advance(10 * SECOND)
        assert tokens.woken == ["a"]

    async def test_after_a_pause_one_goes_first(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=299)
        assert tokens.acquire("a")
        await tokens.refuse("a")
        assert [tokens.acquire(name) for name in "abc"] == [False, False, False]
        await clock.advance(10 * SECOND)
        assert tokens.woken == ["b"], "who wasn't refused: it may have been the other's own limit"

    async def test_a_pause_is_logged_without_the_client_id(
        self, tokens: Tokens, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert tokens.acquire("a")
        await tokens.refuse("a")
        assert caplog.messages == [
            (
                "Asset sandbox: the rate limit of the credentials in Secret shop/asset-credentials is used up;"
                " they pause for 10 s"
            )
        ]

    async def test_nobody_waits_longer_than_a_third_of_what_is_left_and_then_one_at_a_time(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("first")
        await tokens.refuse("first", a_reply(429, retry_after="3600"))
        for name, left in (("a", 90), ("b", 90), ("c", 900), ("d", -5)):
            assert not tokens.acquire(name, expires_at=NOW + left * SECOND)
        await clock.advance(29 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(SECOND)
        assert tokens.newly_woken() == ["a"]
        assert tokens.acquire("a", expires_at=NOW + 90 * SECOND)
        await tokens.refuse("a", a_reply(429, retry_after="3600"))
        await clock.advance(19 * SECOND)
        assert tokens.newly_woken() == [], "there are 60 s left, so it is asked again after 20"
        await clock.advance(SECOND)
        assert tokens.newly_woken() == ["b"]

    async def test_an_answer_to_what_was_sent_since_ends_a_pause(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("early")
        await tokens.answer("early", left=299)
        assert [tokens.acquire("early"), tokens.acquire("refused")] == [True, True]
        await tokens.refuse("refused", a_reply(429, retry_after="3600"))
        await tokens.answer("early", left=298)
        assert not tokens.acquire("a", expires_at=NOW + 90 * SECOND), "that was sent before"
        await clock.advance(30 * SECOND)
        assert tokens.acquire("a", expires_at=NOW + 90 * SECOND)
        await tokens.answer("a", left=297)
        assert tokens.acquire("b", Urgency.FORCED)

    async def test_one_business_s_limit_pauses_its_tenant_until_another_was_answered(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        bad: dict[str, Any] = {"business_id": "biz_bad", "urgency": Urgency.MISSING}
        assert tokens.acquire("bad", **bad)
        await tokens.refuse("bad")
        assert not any([tokens.acquire("bad", **bad), tokens.acquire("good", Urgency.ROUTINE)])
        await clock.advance(10 * SECOND)
        assert tokens.newly_woken() == ["good"], "however much more urgent what was refused is"
        await tokens.answer("good", left=299)
        await clock.advance(2 * SECOND)
        assert tokens.newly_woken() == ["bad"]
        for pause in (20, 40, 60, 60):
            assert tokens.acquire("bad", **bad)
            await tokens.refuse("bad")
            assert tokens.acquire("new", Urgency.EXPIRING)
            await tokens.answer("new", left=298)
            assert not tokens.acquire("bad", **bad)
            await clock.advance((pause + 1.9) * SECOND)
            assert tokens.newly_woken() == [], "2 s more: others of its business go first"
            await clock.advance(0.1 * SECOND)
            assert tokens.newly_woken() == ["bad"]
        assert tokens.acquire("bad", **bad)
        await clock.advance(SECOND)
        await tokens.answer("bad", left=297)
        assert all(tokens.acquire(name, **bad) for name in ("bad", "bad-2")), "it ends with an answer of its own"

    async def test_those_that_are_refused_on_their_own_account_have_their_turns_and_hold_up_nobody(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        """Two businesses, and an AssetToken without one."""
        businesses = {"a": "biz_a", "b": "biz_b", "c": None, "good": "biz_good"}
        for name in ("a", "b", "c"):
            assert tokens.acquire(name, Urgency.MISSING, business_id=businesses[name])
            await tokens.refuse(name)
            for other in {*businesses} - {"good"}:
                tokens.acquire(other, Urgency.MISSING, business_id=businesses[other])
            await clock.advance(60 * SECOND)
        tokens.acquire("good", Urgency.ROUTINE, business_id="biz_good")
        asked = tokens.newly_woken()
        while "good" not in asked:
            assert tokens.acquire(asked[-1], Urgency.MISSING, business_id=businesses[asked[-1]])
            await tokens.refuse(asked[-1])
            tokens.acquire(asked[-1], Urgency.MISSING, business_id=businesses[asked[-1]])
            await clock.advance(60 * SECOND)
            asked += tokens.newly_woken()
        assert len(asked) <= 5

    async def test_a_limit_that_is_the_tenant_s_is_asked_for_by_each_in_turn(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("a")
        await tokens.refuse("a")
        for name in "abc":
            assert not tokens.acquire(name)
        order = []
        for _ in range(6):
            await clock.advance(60 * SECOND)
            (name,) = tokens.newly_woken()
            order.append(name)
            assert tokens.acquire(name)
            await tokens.refuse(name)
            assert not tokens.acquire(name)
        assert order == ["b", "c", "a", "b", "c", "a"]

    async def test_a_pause_of_its_own_is_as_long_as_asset_says_and_as_bounded(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("bad", business_id="biz_bad")
        await tokens.refuse("bad", a_reply(429, retry_after="3600"))
        assert not tokens.acquire("good", expires_at=NOW + 90 * SECOND)
        assert not tokens.acquire("bad", business_id="biz_bad", expires_at=NOW + 240 * SECOND)
        await clock.advance(30 * SECOND)
        await tokens.answer("good", left=299)
        tokens.newly_woken()
        await clock.advance(51 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(SECOND)
        assert tokens.newly_woken() == ["bad"], "a third of what it had left, and 2 s for others of its business"

    async def test_one_asset_token_s_limit_is_not_its_business_s(self, tokens: Tokens, clock: ManualClock) -> None:
        """All are of one business, and what is refused is the most urgent."""
        everyone: dict[str, Any] = {"business_id": "biz_a"}
        assert tokens.acquire("aaa", Urgency.MISSING, **everyone)
        await tokens.refuse("aaa")
        for name in ("aaa", "b", "c"):
            assert not tokens.acquire(name, Urgency.MISSING if name == "aaa" else Urgency.ROUTINE, **everyone)
        await clock.advance(10 * SECOND)
        assert tokens.newly_woken() == ["b"]
        assert tokens.acquire("b", Urgency.ROUTINE, **everyone)
        await tokens.answer("b", left=299)
        await clock.advance(0.3 * SECOND)
        assert tokens.newly_woken() == ["c"]
        await clock.advance(2 * SECOND)
        assert tokens.newly_woken() == ["aaa"]
        assert tokens.acquire("aaa", Urgency.MISSING, **everyone)
        await tokens.refuse("aaa")
        assert not tokens.acquire("aaa", Urgency.MISSING, **everyone)
        assert tokens.acquire("d", Urgency.EXPIRING, **everyone)

    async def test_where_a_business_s_limit_may_be_used_up_its_asset_tokens_ask_in_turn(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        assert tokens.acquire("aaa", Urgency.MISSING, business_id="biz_a")
        await tokens.refuse("aaa")
        await clock.advance(10 * SECOND)
        assert tokens.acquire("good", Urgency.EXPIRING)
        await clock.advance(SECOND)
        await tokens.answer("good", left=299)
        order = []
        for _ in range(6):
            for name in ("aaa", "b"):
                tokens.acquire(name, Urgency.MISSING, business_id="biz_a")
            await clock.advance(60 * SECOND)
            order += tokens.newly_woken()[:1]
            tokens.acquire(order[-1], Urgency.MISSING, business_id="biz_a")
            await tokens.refuse(order[-1])
            for name in ("aaa", "b"):
                tokens.budgets.withdraw(Key("shop", name))
        assert set(order) == {"aaa", "b"}

    async def test_nothing_is_kept_for_long_of_who_was_refused_and_asks_no_more(
        self, guesses: Guesses, clock: ManualClock
    ) -> None:
        account = guesses.account()
        account.resets_at = None
        assert guesses.tokens.acquire("a", business_id="biz_gone")
        await guesses.tokens.refuse("a")
        guesses.tokens.budgets.forget(Key("shop", "a"))
        guesses.tokens.budgets.keep({TENANT})
        assert account.suspects.keys() == {"biz_gone", Key("shop", "a")}
        await clock.advance(3700 * SECOND)
        guesses.tokens.budgets.keep({TENANT})
        assert not account.suspects

    async def test_a_reset_in_seconds_from_now_is_one_reset_also_where_it_is_rounded(self, tokens: Tokens) -> None:
        def reply(second: int, left: int, reset: int) -> Reply:
            date = format_datetime(NOW + second * SECOND, usegmt=True)
            said = {"x_ratelimit_limit": "10", "x_ratelimit_remaining": str(left), "x_ratelimit_reset": str(reset)}
            return a_reply(200, date=date, **said)

        for name, answer in (("a", reply(0, 5, 45)), ("b", reply(1, 1, 45))):
            assert tokens.acquire(name)
            tokens.budgets.answered(tokens.slots[name], answer)
        assert [tokens.acquire(name) for name in "cd"] == [True, False]


class TestFarResets:
    """What says that nothing is left for long may be wrong, or hold no more."""

    @pytest.fixture
    async def far(self, tokens: Tokens) -> Tokens:
        """Nothing is left for a day."""
        assert tokens.acquire("first")
        await tokens.answer("first", left=0, resets_in=80_000)
        return tokens

    async def test_nobody_waits_longer_than_a_third_of_what_is_left_and_then_one_at_a_time(
        self, far: Tokens, clock: ManualClock
    ) -> None:
        for name, left in (("a", -5), ("b", -4), ("c", 150)):
            assert not far.acquire(name, expires_at=NOW + left * SECOND)
        assert not far.acquire("new", Urgency.MISSING, expires_at=NOW - timedelta(days=9))
        await clock.advance(49 * SECOND)
        assert far.newly_woken() == []
        await clock.advance(SECOND)
        assert far.newly_woken() == ["c"]
        await far.answer("c", left=0, resets_in=79_950)
        await clock.advance(299 * SECOND)
        assert far.newly_woken() == [], "it was told the same"
        await clock.advance(SECOND)
        assert far.newly_woken() == ["a"]
        await clock.advance(2 * SECOND)
        assert far.newly_woken() == ["b"], "none has been answered so far"

    async def test_an_earlier_reset_that_is_told_to_what_was_sent_since_is_believed(
        self, far: Tokens, clock: ManualClock
    ) -> None:
        assert not far.acquire("a")
        assert not any(far.acquire(name, Urgency.ROUTINE) for name in ("b", "c"))
        await clock.advance(1200 * SECOND)
        assert far.newly_woken() == ["a"]
        await far.answer("a", left=0, limit=10, resets_in=30)
        await clock.advance(31 * SECOND)
        assert far.newly_woken() == ["b"]
        await far.answer("b", left=9, limit=10, resets_in=60)
        await clock.advance(60 / 8 * SECOND)
        assert far.newly_woken() == ["c"], "windows are a minute long"

    async def test_but_not_what_is_told_to_what_was_sent_before(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("first")
        await tokens.answer("first", left=299, resets_in=30)
        assert [tokens.acquire(name) for name in ("late", "next")] == [True, True]
        await clock.advance(SECOND)
        await tokens.answer("next", left=0, resets_in=600)
        await tokens.answer("late", left=298, resets_in=29)
        assert not tokens.acquire("a")

    async def test_nor_a_reset_that_has_passed(self, far: Tokens, clock: ManualClock) -> None:
        assert not far.acquire("a", expires_at=NOW + 90 * SECOND)
        await clock.advance(30 * SECOND)
        await far.answer("a", left=299, resets_in=-10)
        assert [far.acquire(name, expires_at=NOW + 90 * SECOND) for name in "bc"] == [True, False]

    @pytest.mark.parametrize("urgency", [Urgency.FORCED, Urgency.OVERDUE, Urgency.ROUTINE, Urgency.RETRY])
    async def test_what_is_not_urgent_waits_as_long_and_each_answer_holds_up_the_next(
        self, far: Tokens, clock: ManualClock, urgency: Urgency
    ) -> None:
        """So those that are due are renewed before they are about to expire, and a reserve is hardly touched."""
        for name in "ab":
            assert not far.acquire(name, urgency, expires_at=NOW + 900 * SECOND)
        await clock.advance(299 * SECOND)
        assert far.newly_woken() == []
        await clock.advance(SECOND)
        assert far.newly_woken() == ["a"]
        await far.answer("a", left=0, resets_in=79_700)
        await clock.advance(199 * SECOND)
        assert far.newly_woken() == []
        await clock.advance(SECOND)
        assert far.newly_woken() == ["b"]


class TestPlaces:
    @pytest.mark.parametrize(
        ("after", "has_it"),
        [pytest.param(29.9, True, id="within-30-s"), pytest.param(30, False, id="after-30-s")],
    )
    async def test_a_place_is_kept_for_who_was_woken(
        self, tokens: Tokens, clock: ManualClock, after: float, *, has_it: bool
    ) -> None:
        assert [tokens.acquire(name) for name in "ab"] == [True, False]
        await tokens.answer("a", left=1)
        assert tokens.woken == ["b"]
        await clock.advance(after * SECOND)
        assert tokens.acquire("b") is has_it

    async def test_a_place_that_expired_is_in_flight_no_more(self, tokens: Tokens, clock: ManualClock) -> None:
        assert [tokens.acquire(name) for name in "ab"] == [True, False]
        await tokens.answer("a", left=299)
        await clock.advance(30 * SECOND)
        assert tokens.acquire("c")
        await tokens.answer("c", left=1, resets_in=60)
        assert tokens.acquire("d")

    async def test_a_place_is_had_once(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "ab"] == [True, False]
        await tokens.answer("a", left=1)
        assert [tokens.acquire("b"), tokens.acquire("b")] == [True, False]

    async def test_a_place_that_is_given_back_lets_the_next_go(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "ab"] == [True, False]
        tokens.budgets.release(tokens.slots["a"])
        await settle()
        assert tokens.woken == ["b"]

    async def test_who_leaves_with_a_place_kept_lets_the_next_go(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        tokens.budgets.release(tokens.slots["a"])
        await settle()
        tokens.budgets.withdraw(Key("shop", "b"))
        await settle()
        assert tokens.woken == ["b", "c"]

    async def test_who_leaves_the_queue_is_not_woken(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        tokens.budgets.withdraw(Key("shop", "b"))
        await tokens.answer("a", left=299)
        assert tokens.woken == ["c"]

    async def test_who_waits_for_nothing_may_leave(self, tokens: Tokens) -> None:
        tokens.budgets.withdraw(Key("shop", "a"))
        assert tokens.acquire("a")

    async def test_a_place_of_another_tenant_is_no_use_and_lets_the_next_go(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        tokens.budgets.release(tokens.slots["a"])
        await settle()
        assert tokens.newly_woken() == ["b"]
        assert tokens.acquire("d", tenant=OTHER_TENANT)
        assert not tokens.acquire("b", tenant=OTHER_TENANT)
        await settle()
        assert tokens.newly_woken() == ["c"]

    async def test_one_tenants_queue_holds_up_no_other(self, tokens: Tokens) -> None:
        assert [tokens.acquire(name) for name in "abc"] == [True, False, False]
        assert tokens.acquire("d", tenant=OTHER_TENANT)
        assert not tokens.acquire("e", tenant=OTHER_TENANT)
        await tokens.answer("d", left=299)
        assert tokens.woken == ["e"]


class TestBusinesses:
    @pytest.fixture
    async def spent(self, tokens: Tokens) -> Tokens:
        """All that one business may spend is spent, but not what the tenant may."""
        for index in range(300):
            assert tokens.acquire(f"spent-{index}", business_id="biz_a")
            await tokens.answer(f"spent-{index}", left=999 - index, limit=1000, resets_in=600)
        return tokens

    async def test_a_business_waits_until_its_window_is_over(self, spent: Tokens, clock: ManualClock) -> None:
        assert not spent.acquire("a", business_id="biz_a")
        await clock.advance(60.9 * SECOND)
        assert spent.woken == []
        await clock.advance(0.1 * SECOND)
        assert spent.woken == ["a"]

    async def test_a_business_that_waits_holds_up_no_other(self, spent: Tokens) -> None:
        assert not spent.acquire("a", business_id="biz_a", expires_at=NOW)
        spent.acquire("b", business_id="biz_b")
        spent.acquire("c")
        await settle()
        assert spent.woken == ["b", "c"]

    async def test_the_same_business_of_another_tenant_has_its_own(self, spent: Tokens) -> None:
        assert spent.acquire("a", business_id="biz_a", tenant=OTHER_TENANT)

    async def test_the_less_urgent_leave_some_to_a_business_too(self, tokens: Tokens) -> None:
        for index in range(270):
            assert tokens.acquire(f"spent-{index}", Urgency.MISSING, business_id="biz_a")
            await tokens.answer(f"spent-{index}", left=999 - index, limit=1000, resets_in=600)
        assert not tokens.acquire("a", Urgency.MISSING, business_id="biz_a")
        assert tokens.acquire("b", Urgency.EXPIRING, business_id="biz_a")


class TestEndpoint:
    @pytest.fixture
    async def down(self, tokens: Tokens) -> Tokens:
        """Three tokens in a row got no answer."""
        for name in "abc":
            assert tokens.acquire(name)
            await tokens.fail(name)
        return tokens

    async def test_it_is_down_after_three_tokens_and_each_looks_again(self, tokens: Tokens) -> None:
        for name in "ab":
            assert tokens.acquire(name)
            await tokens.fail(name)
        assert not tokens.budgets.endpoint(Environment.SANDBOX).down
        assert tokens.woken == []
        assert tokens.acquire("c")
        await tokens.fail("c")
        assert tokens.budgets.endpoint(Environment.SANDBOX).down
        assert sorted(tokens.woken) == ["a", "b", "c"]

    async def test_one_token_that_fails_again_and_again_is_not_the_endpoint(self, tokens: Tokens) -> None:
        for _ in range(5):
            assert tokens.acquire("a")
            await tokens.fail("a")
        assert not tokens.budgets.endpoint(Environment.SANDBOX).down

    @pytest.mark.parametrize(
        "status", [pytest.param(200, id="token"), pytest.param(401, id="refusal"), pytest.param(429, id="rate-limit")]
    )
    async def test_any_answer_in_between_says_that_it_is_up(self, tokens: Tokens, status: int) -> None:
        for name in "ab":
            assert tokens.acquire(name)
            await tokens.fail(name)
        assert tokens.acquire("c")
        tokens.budgets.answered(tokens.slots["c"], a_reply(status, retry_after="1"))
        await tokens.clock.advance(SECOND)
        assert tokens.acquire("d")
        await tokens.fail("d")
        assert not tokens.budgets.endpoint(Environment.SANDBOX).down

    async def test_one_that_is_down_is_asked_by_one_every_four_seconds(self, down: Tokens, clock: ManualClock) -> None:
        down.newly_woken()
        assert not any([down.acquire("a"), down.acquire("b"), down.acquire("c", tenant=OTHER_TENANT)])
        await clock.advance(3.9 * SECOND)
        assert down.newly_woken() == []
        await clock.advance(0.1 * SECOND)
        (first,) = down.newly_woken()
        assert down.acquire(first, tenant=down.slots[first].tenant)
        await down.fail(first)
        await clock.advance(3.9 * SECOND)
        assert down.newly_woken() == []
        await clock.advance(0.1 * SECOND)
        assert len(down.newly_woken()) == 1

    async def test_who_has_not_failed_is_the_next_to_ask(self, down: Tokens, clock: ManualClock) -> None:
        for name in "abc":
            assert not down.acquire(name, expires_at=NOW)
        assert not down.acquire("d", Urgency.ROUTINE, tenant=OTHER_TENANT)
        down.newly_woken()
        await clock.advance(4 * SECOND)
        assert down.newly_woken() == ["d"]

    async def test_tenants_and_their_tokens_ask_in_turn(self, down: Tokens, clock: ManualClock) -> None:
        """One whose requests always fail is not all that is sent, however urgent it is."""
        for name, soon in (("a", 1), ("b", 2), ("c", 3)):
            assert not down.acquire(name, expires_at=NOW + soon * SECOND)
        for name in "de":
            assert not down.acquire(name, Urgency.ROUTINE, tenant=OTHER_TENANT)
        down.newly_woken()
        order = []
        for _ in range(7):
            await clock.advance(4 * SECOND)
            (name,) = down.newly_woken()
            order.append(name)
            slot = down.slots[name]
            assert down.budgets.acquire(slot)
            await down.fail(name)
            down.newly_woken()
            assert not down.budgets.acquire(slot)
        assert order == ["d", "a", "e", "b", "d", "c", "e"]

    async def test_when_it_answers_again_all_that_failed_look_again(self, down: Tokens, clock: ManualClock) -> None:
        down.newly_woken()
        await clock.advance(4 * SECOND)
        assert down.acquire("d")
        assert not down.acquire("e")
        await down.answer("d", left=299)
        endpoint = down.budgets.endpoint(Environment.SANDBOX)
        assert sorted(set(down.woken)) == ["a", "b", "c", "e"], "who waits looks again too: it may be overdue by now"
        assert (endpoint.down, endpoint.up_since) == (False, NOW + 4 * SECOND)

    async def test_another_environments_is_not_down(self, down: Tokens) -> None:
        assert down.acquire("d", tenant=PRODUCTION)

    async def test_it_is_logged_once_that_it_is_down_and_once_that_it_is_up(
        self, tokens: Tokens, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        for name in "abcd":
            assert tokens.acquire(name)
            await tokens.fail(name)
            await clock.advance(4 * SECOND)
        for name in "ef":
            assert tokens.acquire(name)
            await tokens.answer(name, left=200)
        assert caplog.messages == [
            "Asset sandbox doesn't answer; one request every 4 s asks again",
            "Asset sandbox answers again",
        ]


class TestFailingAlone:
    """An endpoint is down when nothing gets through."""

    @pytest.fixture
    async def alone(self, tokens: Tokens) -> Tokens:
        """Three fail for their business, again after another was answered."""
        for _ in range(3):
            for name in "abc":
                tokens.budgets.withdraw(Key("shop", name))
                assert tokens.acquire(name, business_id="biz_bad") or await self._asks_in_turn(tokens, name)
                await tokens.fail(name)
            await tokens.clock.advance(4 * SECOND)
            assert tokens.acquire("good")
            await tokens.answer("good", left=299)
        tokens.newly_woken()
        return tokens

    async def _asks_in_turn(self, tokens: Tokens, name: str) -> bool:
        await tokens.clock.advance(4 * SECOND)
        return tokens.acquire(name, business_id="biz_bad")

    async def test_it_says_nothing_of_the_endpoint(self, alone: Tokens) -> None:
        for name in "abc":
            assert alone.budgets.fails_alone(Environment.SANDBOX, Key("shop", name))
            assert alone.acquire(name, Urgency.RETRY, business_id="biz_bad") or True
            await alone.fail(name)
        assert not alone.budgets.endpoint(Environment.SANDBOX).down

    async def test_answers_of_others_wake_none_of_them(self, alone: Tokens) -> None:
        await alone.fail("a")
        assert alone.acquire("good")
        await alone.answer("good", left=298)
        assert alone.woken == []

    async def test_an_answer_to_one_of_a_business_lets_the_others_of_it_look_again(self, alone: Tokens) -> None:
        assert alone.acquire("a", business_id="biz_bad")
        await alone.answer("a", left=298)
        assert alone.woken == ["b", "c"]
        assert not any(alone.budgets.fails_alone(Environment.SANDBOX, Key("shop", name)) for name in "abc")

    async def test_they_go_last_and_take_a_tenth_of_the_limit_once_half_is_used_up(
        self, alone: Tokens, clock: ManualClock
    ) -> None:
        assert alone.acquire("good")
        await alone.answer("good", left=290)
        assert [alone.acquire(name, Urgency.RETRY) for name in "ab"] == [True, True]
        await alone.spend(100, left=180, limit=300)
        assert not alone.acquire("b", Urgency.RETRY)
        alone.newly_woken()
        await clock.advance(2 * SECOND)
        assert alone.newly_woken() == ["b"]
        assert alone.acquire("b", Urgency.RETRY)

    @pytest.mark.parametrize(
        ("urgency", "left", "goes"),
        [
            pytest.param(Urgency.EXPIRING_ALONE, 1, True, id="about-to-expire-takes-the-last"),
            pytest.param(Urgency.EXPIRING_ALONE, 0, False, id="nothing-is-left"),
            pytest.param(Urgency.MISSING_ALONE, 31, True, id="without-a-token-above-a-tenth"),
            pytest.param(Urgency.MISSING_ALONE, 30, False, id="without-a-token-leaves-a-tenth"),
            pytest.param(Urgency.RETRY, 150, False, id="that-has-time-leaves-what-others-spend"),
        ],
    )
    async def test_who_has_no_valid_token_goes_last_within_what_it_may_use(
        self, alone: Tokens, clock: ManualClock, urgency: Urgency, left: int, *, goes: bool
    ) -> None:
        assert alone.acquire("good")
        await alone.answer("good", left=left, resets_in=50)
        assert not any(alone.acquire(f"routine-{index}", Urgency.ROUTINE) for index in range(3))
        assert not alone.acquire("a", urgency)
        await clock.advance(2 * SECOND)
        assert ("a" in alone.newly_woken()) is goes

    async def test_ten_failures_in_a_row_are_the_endpoint_s_whosever(self, alone: Tokens) -> None:
        for _ in range(10):
            await alone.fail("a")
        assert alone.budgets.fails_alone(Environment.SANDBOX, Key("shop", "a")), "others were answered just now"
        await alone.clock.advance(120 * SECOND)
        await alone.fail("a")
        assert not alone.budgets.fails_alone(Environment.SANDBOX, Key("shop", "a"))

    async def test_one_that_is_gone_is_forgotten(self, alone: Tokens) -> None:
        alone.budgets.forget(Key("shop", "a"))
        endpoint = alone.budgets.endpoint(Environment.SANDBOX)
        assert Key("shop", "a") not in {*endpoint.alone, *endpoint.suspects, *endpoint.businesses}

    @pytest.mark.parametrize("answered", [pytest.param(True, id="answered"), pytest.param(False, id="failed-once")])
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"business_id": "biz_good"}, id="business"),
            pytest.param({"business_id": None}, id="no-business"),
            pytest.param({"business_id": "biz_bad", "tenant": OTHER_TENANT}, id="credentials"),
            pytest.param({"business_id": "biz_bad", "tenant": PRODUCTION}, id="environment"),
        ],
    )
    async def test_what_failed_for_another_business_is_nothing_of_its_own_any_more(
        self, alone: Tokens, changes: dict[str, Any], *, answered: bool
    ) -> None:
        assert alone.acquire("a", **changes)
        await (alone.answer("a", left=298) if answered else alone.fail("a"))
        assert not any(alone.budgets.fails_alone(environment, Key("shop", "a")) for environment in Environment)
        assert alone.budgets.fails_alone(Environment.SANDBOX, Key("shop", "b")), "nothing was heard of that business"

    async def test_one_failure_after_its_business_was_corrected_is_not_its_own(self, tokens: Tokens) -> None:
        for number in range(2):
            assert tokens.acquire("a", business_id="biz_bad")
            await tokens.fail("a")
            assert tokens.acquire("good")
            await tokens.answer("good", left=299 - number)
        assert tokens.acquire("a", business_id="biz_good")
        await tokens.fail("a")
        assert not tokens.budgets.fails_alone(Environment.SANDBOX, Key("shop", "a"))


class TestRetryAfter:
    async def test_an_endpoint_that_is_down_is_let_be_as_long_as_it_asks(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        for name in "abc":
            assert tokens.acquire(name)
            await tokens.fail(name, 120 * SECOND)
        tokens.newly_woken()
        assert not tokens.acquire("long", expires_at=NOW + timedelta(hours=2))
        await clock.advance(119 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(2 * SECOND)
        assert tokens.newly_woken() == ["long"]

    async def test_but_nobody_waits_longer_than_a_third_of_what_is_left(
        self, tokens: Tokens, clock: ManualClock
    ) -> None:
        for name in "abc":
            assert tokens.acquire(name)
            await tokens.fail(name, 3600 * SECOND)
        tokens.newly_woken()
        assert not tokens.acquire("soon", expires_at=NOW + 60 * SECOND)
        assert not tokens.acquire("missing", Urgency.MISSING, expires_at=NOW - timedelta(days=9))
        await clock.advance(20 * SECOND)
        assert tokens.newly_woken() == ["soon"]
        tokens.budgets.withdraw(Key("shop", "soon"))
        await clock.advance(279 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(2 * SECOND)
        assert tokens.newly_woken() == ["missing"]

    async def test_while_others_are_answered_it_is_nobody_else_s(self, tokens: Tokens) -> None:
        assert tokens.acquire("a")
        await tokens.fail("a", 120 * SECOND)
        assert tokens.acquire("b")

    @pytest.mark.parametrize("order", ["bad first", "bad last"])
    async def test_what_one_business_was_asked_is_nobody_else_s_in_an_outage(
        self, tokens: Tokens, clock: ManualClock, order: str
    ) -> None:
        names = [("bad", "biz_bad", 3600 * SECOND), ("a", None, None), ("b", None, None)]
        for name, business, retry_after in names if order == "bad first" else reversed(names):
            assert tokens.acquire(name, business_id=business)
            await tokens.fail(name, retry_after)
        tokens.newly_woken()
        assert not tokens.acquire("c")
        await clock.advance(4 * SECOND)
        assert tokens.newly_woken() == ["c"]

    async def test_however_many_of_one_business_were_asked(self, tokens: Tokens, clock: ManualClock) -> None:
        for name in "abc":
            assert tokens.acquire(name, business_id="biz_bad")
            await tokens.fail(name, 3600 * SECOND)
        tokens.newly_woken()
        assert not tokens.acquire("d", business_id="biz_bad")
        assert not tokens.acquire("e", business_id="biz_good")
        await clock.advance(4 * SECOND)
        assert tokens.newly_woken() == ["e"]

    async def test_what_three_businesses_were_asked_all_are(self, tokens: Tokens, clock: ManualClock) -> None:
        for name in "abc":
            assert tokens.acquire(name, business_id=f"biz_{name}")
            await tokens.fail(name, 120 * SECOND)
        tokens.newly_woken()
        assert not tokens.acquire("d", business_id="biz_d")
        await clock.advance(119 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(SECOND)
        assert tokens.newly_woken() == ["d"]


class TestWallClockSet:
    """Guarantee 8: the clock is not trusted."""

    HOUR_AGO = NOW - timedelta(hours=1)

    async def test_routine_renewals_go_on(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a", Urgency.ROUTINE)
        await tokens.answer("a", left=299)
        await clock.set(self.HOUR_AGO)
        tokens.acquire("b", Urgency.ROUTINE)
        await clock.advance(2 * SECOND)
        assert tokens.woken == ["b"]

    async def test_a_pause_ends(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a")
        await tokens.refuse("a")
        await clock.set(self.HOUR_AGO)
        assert not tokens.acquire("a")
        await clock.advance(10 * SECOND)
        assert tokens.woken == ["a"]

    async def test_a_reset_comes(self, tokens: Tokens, clock: ManualClock) -> None:
        assert tokens.acquire("a")
        await tokens.answer("a", left=0, resets_in=5)
        await clock.set(self.HOUR_AGO)
        assert not tokens.acquire("a")
        await clock.advance(6 * SECOND)
        assert tokens.woken == ["a"]

    @pytest.mark.parametrize("hours", [-5, 5, 20])
    @pytest.mark.parametrize("what", ["rest", "reset", "outage"])
    async def test_nobody_waits_longer_or_asks_sooner(
        self, tokens: Tokens, clock: ManualClock, hours: int, what: str
    ) -> None:
        for name in "abc" if what == "outage" else "a":
            assert tokens.acquire(name)
            if what == "outage":
                await tokens.fail(name, 3600 * SECOND)
            elif what == "rest":
                await tokens.refuse(name, a_reply(429, retry_after="3600"))
            else:
                await tokens.answer(name, left=0, resets_in=3600)
        tokens.newly_woken()
        await clock.set(NOW + timedelta(hours=hours))
        assert not tokens.acquire("d", expires_at=clock.now() + 90 * SECOND)
        await clock.advance(29 * SECOND)
        assert tokens.newly_woken() == []
        await clock.advance(SECOND)
        assert tokens.newly_woken() == ["d"]

    async def test_an_endpoint_that_is_down_is_asked(self, tokens: Tokens, clock: ManualClock) -> None:
        for name in "abc":
            assert tokens.acquire(name)
            await tokens.fail(name)
        tokens.newly_woken()
        await clock.set(self.HOUR_AGO)
        assert not tokens.acquire("a")
        await clock.advance(4 * SECOND)
        assert tokens.woken == ["a"]
