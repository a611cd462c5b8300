"""Workloads are restarted once for another token, in virtual time, over restarts and changes of leader."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from asset_token_operator.errors import (
    AdmissionDeniedError,
    ConflictError,
    KubeError,
    KubeRefusedError,
    KubeUnavailableError,
    NotLeadingError,
)
from asset_token_operator.model import RolloutRestart, Target, WorkloadKind
from asset_token_operator.rollouts import Workload
from asset_token_operator.status import NOT_SEEN_YET, ConditionType
from tests.support.builders import NOW, a_spec, an_asset_token
from tests.support.clock import UPTIME
from tests.support.fakes import World, drive

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
WORKER = Target(WorkloadKind.DEPLOYMENT, "ledger-worker")
STORE = Target(WorkloadKind.STATEFUL_SET, "ledger-store")
KEY = an_asset_token().key
PATCH = "restart_workload"
FORBIDDEN = KubeRefusedError("the API server refused with 403 Forbidden.", 403)
DENIED = AdmissionDeniedError("PATCH x: admission webhook policy.example.com denied it.", 403)


class Stage:
    """A shop with a worker that is a day old, and time that passes from one thing that is due to the next."""

    def __init__(self, *targets: Target, interval: timedelta = HOUR, **spec: Any) -> None:
        self.world = World()
        self.due: dict[str, datetime] = {}
        self.world.kube.put_workload(WORKER, Workload("uid", 1, NOW - 24 * HOUR))
        restart = RolloutRestart(targets or (WORKER,), interval)
        self.world.add(an_asset_token(a_spec(rollout_restart=restart, **spec)))

    async def run(self, by: timedelta = timedelta()) -> None:
        """Do what is due until then, at the moment when it is."""
        end = self.world.clock.now() + by
        await self._settle()
        while (again := min(self.due.values(), default=end)) < end:
            self.world.pass_time(again - self.world.clock.now())
            await self._settle()
        self.world.pass_time(end - self.world.clock.now())
        await self._settle()

    async def _settle(self) -> None:
        """Both schedulers do what is due now."""
        world, now = self.world, self.world.clock.now()
        self.due = {name: max(at, now) for name, at in self.due.items()}
        while True:
            again = world.reconcile()
            assert again is not None
            self.due["token"] = again
            if not world.to_restart and self.due.get("restart", again) > now:
                return
            world.to_restart.clear()
            self.due.pop("restart", None)
            at = await world.restarter.restart(KEY)
            if at is not None:
                self.due["restart"] = at

    def another_operator(self) -> Stage:
        """The same shop, seen by an operator of its own."""
        other = Stage()
        other.world = World(clock=self.world.clock, kube=self.world.kube)
        other.world.asset = self.world.asset
        other.restart_operator()
        return other

    def restart_operator(self) -> None:
        self.world.restart()
        self.due.clear()

    async def renew(self) -> None:
        """Somebody asks for another token, and it is served."""
        token = self.world.token()
        self.world.kube.put_token(replace(token, renew_request=str(len(self.world.asset.requests))))
        await self.run()

    @property
    def restarts(self) -> list[datetime]:
        return [stamp for _, stamp in self.world.kube.restarted]

    def told(self) -> tuple[str, str]:
        return self.world.conditions()["RolloutsRestarted"]

    def message(self) -> str:
        found = self.world.token().status.find(ConditionType.ROLLOUTS_RESTARTED)
        assert found is not None
        return found.message


async def test_a_worker_is_restarted_once_an_hour_where_its_token_is_renewed_every_ten_minutes() -> None:
    stage = Stage(lifetime=2 * HOUR, renew_before=110 * MINUTE)
    stage.world.asset.expires_in = 7200
    await stage.run(24 * HOUR)
    assert len(stage.world.asset.requests) > 24 * 6 - 1
    gaps = [later - earlier for earlier, later in pairwise(stage.restarts)]
    assert min(gaps) == HOUR
    assert max(gaps) == HOUR, "it is made up for when the hour ends, and not at the next renewal"
    assert len(stage.restarts) == 24


async def test_restarts_of_the_operator_restart_nothing_more() -> None:
    stage = Stage(lifetime=2 * HOUR, renew_before=110 * MINUTE)
    stage.world.asset.expires_in = 7200
    for minutes in (7, 13, 1, 29, 10, 3) * 20:
        await stage.run(minutes * MINUTE)
        stage.restart_operator()
    gaps = [later - earlier for earlier, later in pairwise(stage.restarts)]
    assert set(gaps) == {HOUR}
    assert len(stage.restarts) == stage.world.elapsed() // HOUR


@pytest.mark.parametrize("status_lost", [False, True], ids=["status", "status lost"])
async def test_a_start_restarts_nothing_and_looks_only_where_the_status_is_lost(*, status_lost: bool) -> None:
    stage = Stage()
    await stage.run()
    await stage.renew()
    assert len(stage.restarts) == 1
    for _ in range(3):
        stage.restart_operator()
        stage.world.pass_time(2 * MINUTE)
        if status_lost:
            stage.world.kube.put_token(replace(stage.world.token(), status=NOT_SEEN_YET))
        stage.world.calls()
        await stage.run()
        assert ("read_workload" in stage.world.calls()) is status_lost
    assert len(stage.restarts) == 1
    assert stage.told() == ("True", "MinIntervalTooLong")


async def test_a_rollback_of_a_workload_is_no_reason_to_restart_it_at_a_start() -> None:
    stage = Stage(interval=MINUTE)
    await stage.run()
    await stage.renew()
    stage.world.kube.put_workload(WORKER, Workload("uid", 1, NOW - 24 * HOUR, NOW - HOUR))
    stage.restart_operator()
    await stage.run(5 * MINUTE)
    assert len(stage.restarts) == 1


async def test_the_first_token_restarts_nothing_and_another_does_at_once() -> None:
    stage = Stage(interval=MINUTE)
    await stage.run(5 * MINUTE)
    assert stage.restarts == []
    assert stage.told() == ("True", "Restarted")
    await stage.renew()
    assert stage.restarts == [NOW + 5 * MINUTE]
    assert stage.told() == ("True", "Restarted")


@pytest.mark.parametrize("ahead", [-SECOND, timedelta(), SECOND], ids=str)
async def test_a_token_that_changes_in_the_second_of_a_restart_is_another_all_the_same(ahead: timedelta) -> None:
    """Also where the API server's clock seems to have gone back meanwhile, since it tells whole seconds only."""
    stage = Stage(interval=2 * SECOND)
    await stage.run()
    await stage.renew()
    stage.world.clocks.cluster_says(stage.world.clock.now() + ahead)
    await stage.renew()
    assert stage.told() == ("False", "RestartPending")
    await stage.run(5 * SECOND)
    assert stage.told() == ("True", "Restarted")
    assert len(stage.restarts) == 2


async def test_a_workload_that_is_younger_than_the_token_is_not_restarted() -> None:
    stage = Stage(interval=MINUTE)
    await stage.run()
    await stage.renew()
    stage.world.kube.put_workload(WORKER, Workload("another", 1, NOW + MINUTE))
    stage.world.kube.put_token(replace(stage.world.token(), status=NOT_SEEN_YET))
    stage.restart_operator()
    await stage.run(2 * MINUTE)
    assert len(stage.restarts) == 1


async def test_what_a_stopped_operator_did_not_restart_any_more_is_made_up_for() -> None:
    stage = Stage(interval=MINUTE)
    await stage.run(5 * MINUTE)
    stage.world.kube.put_token(replace(stage.world.token(), renew_request="1"))
    stage.world.reconcile()
    stage.restart_operator()
    assert stage.restarts == []
    await stage.run()
    assert len(stage.restarts) == 1


async def test_repairs_and_renames_and_templates_restart_nothing() -> None:
    stage = Stage(interval=SECOND)
    await stage.run()
    await stage.renew()
    await stage.run(MINUTE)
    secret = stage.world.secret()
    assert secret is not None
    stage.world.kube.put_secret(replace(secret, labels={}))
    await stage.run(MINUTE)
    token = stage.world.token()
    spec = replace(token.spec, secret=replace(token.spec.secret, name="other", template={".env": "${access_token}"}))
    stage.world.kube.put_token(replace(token, spec=spec, generation=2))
    await stage.run(MINUTE)
    assert stage.world.secret() is not None
    assert len(stage.restarts) == 1


async def test_a_token_that_could_not_be_written_yet_restarts_nothing() -> None:
    stage = Stage(interval=SECOND)
    await stage.run()
    await stage.renew()
    stage.restart_operator()
    stage.world.kube.faults.fail("apply_secret", KubeUnavailableError("no answer from the API server."))
    await stage.run(MINUTE)
    await stage.renew()
    await stage.run(MINUTE)
    assert len(stage.restarts) == 1
    stage.world.kube.faults.mend()
    await stage.run(MINUTE)
    assert len(stage.restarts) == 2


async def test_a_restart_between_the_request_and_the_write_of_a_token_does_not_count() -> None:
    """As where two AssetTokens name one workload."""
    stage = Stage(interval=SECOND)
    await stage.run()
    stage.world.kube.faults.fail("apply_secret", KubeUnavailableError("no answer from the API server."))
    await stage.renew()
    await stage.run(MINUTE)
    by_another = stage.world.clock.now()
    stage.world.kube.put_workload(WORKER, Workload("uid", 1, NOW - 24 * HOUR, by_another))
    await stage.run(MINUTE)
    stage.world.kube.faults.mend()
    await stage.run(MINUTE)
    assert len(stage.restarts) == 1
    assert stage.restarts[0] > by_another


async def test_leaders_that_take_turns_restart_once_for_each_token() -> None:
    first = Stage(interval=MINUTE)
    second = first.another_operator()
    await first.run()
    for leader in (first, second, second, first, second, first, first):
        await leader.run(2 * MINUTE)
        before = len(leader.restarts)
        await leader.renew()
        assert len(leader.restarts) == before + 1
        for other in (first, second):
            await other.run(2 * MINUTE)
        assert len(leader.restarts) == before + 1


@pytest.mark.parametrize("cluster", [-3 * HOUR, timedelta(), 3 * HOUR], ids=str)
@pytest.mark.parametrize("asset", [-20 * HOUR, -10 * MINUTE, 10 * MINUTE, 20 * HOUR], ids=str)
async def test_it_depends_on_no_ones_clock_but_the_api_servers(asset: timedelta, cluster: timedelta) -> None:
    """Asset's clock is another, and so is that of each operator that follows."""
    stage = Stage(interval=MINUTE)
    world = stage.world
    created = NOW + cluster - 24 * HOUR
    world.kube.put_workload(WORKER, Workload("uid", 1, created))

    def hear() -> None:
        """What the API server's and Asset's answers say of their clocks."""
        api_server = NOW + world.clock.elapsed() - UPTIME + cluster
        world.clocks.cluster_says(api_server)
        world.asset.skew = api_server + asset - world.clock.now()

    hear()
    await stage.run()
    for shift in (5 * MINUTE, -7 * MINUTE, MINUTE):
        world.kube.before_restart = hear
        await stage.run(2 * MINUTE)
        await stage.renew()
        stage.restart_operator()
        drive(world.clock.set(world.clock.now() + shift))
        hear()
        world.kube.put_token(replace(world.token(), status=NOT_SEEN_YET))
        await stage.run(2 * MINUTE)
    assert len(stage.restarts) == 3
    assert max(abs(stamp - (NOW + world.clock.elapsed() - UPTIME + cluster)) for stamp in stage.restarts) < 15 * MINUTE


class TestProblems:
    @pytest.mark.parametrize(
        ("method", "error", "reason", "says"),
        [
            pytest.param(
                "read_workload",
                FORBIDDEN,
                "RestartForbidden",
                "lacks the rule {apiGroups: [apps], resources: [deployments], verbs: [get, patch]};",
                id="may not read",
            ),
            pytest.param(PATCH, FORBIDDEN, "RestartForbidden", "rolloutRestart.enabled to true", id="may not restart"),
            pytest.param(PATCH, DENIED, "RestartFailed", "webhook policy.example.com denied it.", id="denied"),
            pytest.param(
                PATCH, KubeUnavailableError("no answer."), "RestartFailed", "tried again by itself", id="no answer"
            ),
            pytest.param(
                PATCH, ConflictError("refused with 409.", 409), "RestartFailed", "refused with 409", id="conflicts"
            ),
        ],
    )
    async def test_it_is_said_and_tried_again_and_holds_up_no_token(
        self, method: str, error: KubeError, reason: str, says: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        stage = Stage(interval=MINUTE)
        await stage.run()
        stage.world.kube.faults.fail(method, error)
        await stage.renew()
        assert stage.told() == ("False", reason)
        assert says in stage.message()
        assert "Deployment ledger-worker" in stage.message()
        assert stage.world.conditions()["Ready"] == ("True", "SecretSynced")
        assert stage.world.token().status.summary == reason
        assert "Stalled" not in stage.world.conditions()
        stage.world.calls()
        await stage.run(30 * MINUTE)
        assert 6 <= stage.world.calls().count("read_workload") <= 60
        assert len([record for record in caplog.records if "ledger-worker" in record.message]) == 1
        stage.world.kube.faults.mend()
        await stage.run(6 * MINUTE)
        assert len(stage.restarts) == 1
        assert stage.told() == ("True", "Restarted")

    async def test_a_missing_workload_is_named_and_the_others_are_restarted(self) -> None:
        stage = Stage(STORE, WORKER, interval=MINUTE)
        await stage.run()
        await stage.renew()
        assert stage.told() == ("False", "TargetNotFound")
        assert stage.message() == (
            "StatefulSet ledger-store does not exist in namespace shop: create it, or correct"
            " spec.rolloutRestart.targets."
        )
        assert len(stage.restarts) == 1
        stage.world.kube.put_workload(STORE, Workload("store", 1, stage.world.clock.now() + SECOND))
        await stage.run(6 * MINUTE)
        assert stage.told() == ("True", "Restarted")
        assert len(stage.restarts) == 1

    async def test_a_workload_that_was_changed_since_it_was_seen_is_looked_at_again(self) -> None:
        stage = Stage(interval=MINUTE)
        await stage.run()
        stage.world.kube.faults.fail(PATCH, ConflictError("refused with 409 Conflict.", 409), times=2)
        await stage.renew()
        assert len(stage.restarts) == 1
        assert stage.told() == ("True", "Restarted")

    async def test_of_two_operators_at_once_one_restarts(self) -> None:
        stage = Stage(interval=MINUTE)
        await stage.run(5 * MINUTE)
        other = Workload("uid", 1, NOW - 24 * HOUR, NOW + 5 * MINUTE)
        stage.world.kube.before_restart = lambda: stage.world.kube.put_workload(WORKER, other)
        await stage.renew()
        assert stage.restarts == []
        assert stage.told() == ("True", "Restarted")

    async def test_who_does_not_lead_any_more_leaves_it_to_the_leader(self) -> None:
        stage = Stage(interval=MINUTE)
        await stage.run()
        stage.world.kube.faults.fail(PATCH, NotLeadingError(), times=1)
        await stage.renew()
        assert stage.restarts == []
        assert stage.told() == ("False", "RestartPending")
        await stage.run(10 * SECOND)
        assert len(stage.restarts) == 1


async def test_pending_restarts_are_said_and_a_change_of_the_spec_is_followed_at_once() -> None:
    stage = Stage(interval=HOUR, renew_before=10 * MINUTE)
    await stage.run()
    await stage.renew()
    await stage.run(MINUTE)
    await stage.renew()
    assert stage.told() == ("False", "RestartPending")
    assert stage.world.token().status.summary == "Ready"
    assert stage.message().endswith("restarted later: Deployment ledger-worker at 2026-05-01T13:00:00Z.")
    token = stage.world.token()
    sooner = replace(token.spec, rollout_restart=RolloutRestart((WORKER,), SECOND))
    stage.world.kube.put_token(replace(token, spec=sooner, generation=2))
    await stage.run()
    assert stage.restarts == [NOW, NOW + MINUTE]
    stage.world.kube.put_token(replace(stage.world.token(), spec=replace(sooner, rollout_restart=None), generation=3))
    await stage.run()
    assert "RolloutsRestarted" not in stage.world.conditions()


async def test_an_asset_token_that_is_gone_restarts_nothing() -> None:
    stage = Stage(interval=HOUR)
    await stage.run()
    await stage.renew()
    await stage.run(MINUTE)
    await stage.renew()
    assert stage.told() == ("False", "RestartPending")
    del stage.world.kube.asset_tokens[KEY]
    assert stage.world.reconcile() is None
    stage.world.pass_time(HOUR)
    assert await stage.world.restarter.restart(KEY) is None
    assert len(stage.restarts) == 1


async def test_a_token_that_comes_while_workloads_are_restarted_is_followed_by_itself() -> None:
    stage = Stage(interval=SECOND)
    await stage.run()
    await stage.run(MINUTE)
    stage.world.kube.put_token(replace(stage.world.token(), renew_request="1"))
    stage.world.reconcile()
    stage.world.to_restart.clear()

    def renew() -> None:
        stage.world.kube.before_restart = lambda: None
        stage.world.pass_time(2 * SECOND)
        stage.world.kube.put_token(replace(stage.world.token(), renew_request="2"))
        stage.world.reconcile()

    stage.world.kube.before_restart = renew
    assert await stage.world.restarter.restart(KEY) is None
    assert stage.world.to_restart == [KEY]
    await stage.run(MINUTE)
    assert len(stage.restarts) == 2
    assert stage.told()[0] == "True"
