"""When a workload is restarted for another token, and what is told of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asset_token_operator.assess import Assessment, assess
from asset_token_operator.model import RolloutRestart, Target, WorkloadKind
from asset_token_operator.reasons import Reason
from asset_token_operator.rollouts import (
    Progress,
    Rollout,
    Workload,
    needed_rule,
    next_restart,
    restart_stamp,
    rollouts_restarted,
    wanted_rollout,
    was_done,
)
from asset_token_operator.status import Condition, Status
from asset_token_operator.times import format_time
from tests.support.builders import NOW, a_secret, a_spec, an_asset_token, an_issued_token, observed

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
WORKER = Target(WorkloadKind.DEPLOYMENT, "ledger-worker")
STORE = Target(WorkloadKind.STATEFUL_SET, "ledger-store")
RESTART = RolloutRestart((WORKER,), HOUR)


def a_rollout(**changes: Any) -> Rollout:
    """For a token that is the present one since now, and isn't the first."""
    fields: dict[str, Any] = {"restart": RESTART, "fingerprint": "f", "is_first": False, "since": NOW}
    return Rollout(**(fields | changes))


def a_workload(**changes: Any) -> Workload:
    """A workload that is a day old and was never restarted."""
    fields: dict[str, Any] = {"uid": "1", "version": 1, "created": NOW - 24 * HOUR}
    return Workload(**(fields | changes))


class TestNextRestart:
    @pytest.mark.parametrize(
        ("workload", "rollout", "expected"),
        [
            pytest.param({}, {}, NOW, id="never restarted: at once"),
            pytest.param({}, {"is_first": True}, None, id="the first token"),
            pytest.param({"created": NOW}, {}, NOW, id="created in the second of the token"),
            pytest.param({"created": NOW + SECOND}, {}, None, id="created after the token"),
            pytest.param({"restarted_at": NOW - SECOND}, {}, NOW - SECOND + HOUR, id="restarted before: an hour later"),
            pytest.param({"restarted_at": NOW - 2 * HOUR}, {}, NOW - HOUR, id="restarted long before: at once"),
            pytest.param({"restarted_at": NOW}, {}, None, id="restarted for it"),
            pytest.param({"restarted_at": NOW + HOUR}, {}, None, id="restarted since"),
            pytest.param(
                {"restarted_at": NOW - 2 * HOUR}, {"is_first": True}, NOW - HOUR, id="the first of one that came anew"
            ),
            pytest.param({"restarted_at": NOW + 9999 * HOUR}, {}, NOW, id="a restart in a far future is none"),
        ],
    )
    def test_it_is_when_the_workload_is_older_than_the_token_and_the_interval_is_over(
        self, workload: dict[str, Any], rollout: dict[str, Any], expected: datetime | None
    ) -> None:
        assert next_restart(a_workload(**workload), a_rollout(**rollout), NOW) == expected

    @given(
        since=st.timedeltas(-100 * HOUR, 100 * HOUR),
        before=st.none() | st.timedeltas(-9999 * HOUR, 9999 * HOUR),
        later=st.timedeltas(timedelta(), 1000 * HOUR),
    )
    def test_what_was_restarted_for_a_token_is_not_restarted_for_it_again(
        self, since: timedelta, before: timedelta | None, later: timedelta
    ) -> None:
        rollout = a_rollout(since=(NOW + since).replace(microsecond=0))
        workload = a_workload(restarted_at=None if before is None else NOW + before)
        if next_restart(workload, rollout, NOW) is None:
            return
        restarted = replace(workload, restarted_at=restart_stamp(rollout, NOW))
        assert next_restart(restarted, rollout, NOW + later) is None
        assert next_restart(restarted, rollout, NOW - 23 * HOUR) is None, "also if the clock was set back"

    def test_a_restart_is_noted_in_whole_seconds_and_never_before_the_token(self) -> None:
        assert restart_stamp(a_rollout(), NOW + timedelta(seconds=5.7)) == NOW + 5 * SECOND
        assert restart_stamp(a_rollout(), NOW - MINUTE) == NOW


class TestWanted:
    def holding(self, **changes: Any) -> Assessment:
        owner = an_asset_token(a_spec(rollout_restart=RESTART), **changes.pop("owner", {}))
        token = an_issued_token(owner.spec, **changes)
        return assess(observed(owner, secret=a_secret(owner, token)), NOW)

    def test_nothing_where_nothing_is_asked_for_or_there_is_no_token(self) -> None:
        assert wanted_rollout(assess(observed(secret=a_secret()), NOW)) is None
        assert wanted_rollout(assess(observed(an_asset_token(a_spec(rollout_restart=RESTART))), NOW)) is None

    def test_the_token_is_the_present_one_since_it_was_requested_by_the_api_servers_clock(self) -> None:
        rollout = wanted_rollout(self.holding(skew=5 * MINUTE, revision=7))
        assert rollout is not None
        assert (rollout.since, rollout.is_first, rollout.restart) == (NOW - 5 * MINUTE, False, RESTART)
        first = wanted_rollout(self.holding())
        assert first is not None
        assert first.is_first

    @pytest.mark.parametrize(
        ("interval", "late"), [pytest.param(20 * MINUTE, False, id="fits"), pytest.param(HOUR, True, id="is late")]
    )
    def test_an_interval_that_outlasts_a_token_is_noticed(self, interval: timedelta, *, late: bool) -> None:
        owner = an_asset_token(a_spec(rollout_restart=RolloutRestart((WORKER,), interval)))
        seen = observed(owner, secret=a_secret(owner, an_issued_token(owner.spec)))
        rollout = wanted_rollout(assess(seen, NOW))
        assert rollout is not None
        assert rollout.is_late is late

    @pytest.mark.parametrize(
        ("changes", "done"),
        [
            pytest.param({}, True, id="told of this token and spec"),
            pytest.param({"status": "False"}, False, id="not all"),
            pytest.param({"observed_generation": 1}, False, id="of an earlier spec"),
            pytest.param({"type": "Ready"}, False, id="not told"),
        ],
    )
    def test_the_status_tells_that_all_is_done(self, changes: dict[str, Any], *, done: bool) -> None:
        fields: dict[str, Any] = {"type": "RolloutsRestarted", "status": "True", "observed_generation": 2} | changes
        condition = Condition(**fields, reason="Restarted", message="", last_transition_time=NOW)
        status = Status(conditions=(condition,), revision=7)
        assert was_done(self.holding(revision=7, owner={"generation": 2, "status": status})) is done
        assert not was_done(self.holding(revision=8, owner={"generation": 2, "status": status}))
        assert not was_done(assess(observed(an_asset_token(generation=2, status=status)), NOW))


class TestCondition:
    def test_all_done(self) -> None:
        found = rollouts_restarted(a_rollout(), {WORKER: Progress(), STORE: Progress()})
        assert (found.holds, found.reason) == (True, Reason.RESTARTED)

    def test_not_looked_yet(self) -> None:
        found = rollouts_restarted(a_rollout(), None)
        assert (found.holds, found.reason) == (False, Reason.RESTART_PENDING)

    def test_one_has_to_wait(self) -> None:
        found = rollouts_restarted(a_rollout(), {STORE: Progress(), WORKER: Progress(due=NOW)})
        assert (found.holds, found.reason) == (False, Reason.RESTART_PENDING)
        assert found.message.endswith(f"restarted later: Deployment ledger-worker at {format_time(NOW)}.")

    def test_problems_go_first_and_all_are_told(self) -> None:
        targets = {
            WORKER: Progress(due=NOW),
            STORE: Progress(problem=(Reason.TARGET_NOT_FOUND, "One is missing.")),
            Target(WorkloadKind.DAEMON_SET, "a"): Progress(problem=(Reason.RESTART_FAILED, "One failed.")),
        }
        found = rollouts_restarted(a_rollout(is_late=True), targets)
        assert (found.holds, found.reason) == (False, Reason.TARGET_NOT_FOUND)
        assert found.message == "One is missing. One failed."

    def test_an_interval_that_outlasts_a_token_is_said(self) -> None:
        found = rollouts_restarted(a_rollout(is_late=True), {WORKER: Progress()})
        assert (found.holds, found.reason) == (True, Reason.MIN_INTERVAL_TOO_LONG)

    def test_a_message_is_no_longer_than_others(self) -> None:
        problem = Progress(problem=(Reason.RESTART_FAILED, "x" * 999))
        assert len(rollouts_restarted(a_rollout(), {WORKER: problem, STORE: problem}).message) == 1024


def test_the_rule_names_what_is_needed_and_no_more() -> None:
    assert needed_rule([WORKER]) == "{apiGroups: [apps], resources: [deployments], verbs: [get, patch]}"
    all_kinds = [Target(kind, "a") for kind in WorkloadKind]
    assert needed_rule(all_kinds).endswith("resources: [daemonsets, deployments, statefulsets], verbs: [get, patch]}")
