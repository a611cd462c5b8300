"""Restarts the workloads that an AssetToken names, after its Secret was written with another token.

It has a scheduler of its own, so that a workload that can't be restarted, or takes long, holds up no token: the
reconciler only says which token there is now and is told what came of it. What is kept here may be lost at any time.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import (
    AdmissionDeniedError,
    ConflictError,
    KubeError,
    KubeRefusedError,
    NotFoundError,
    NotLeadingError,
)
from asset_token_operator.logs import about
from asset_token_operator.reasons import Reason
from asset_token_operator.renewal import back_off
from asset_token_operator.rollouts import (
    Progress,
    Rollout,
    needed_rule,
    next_restart,
    restart_stamp,
    rollouts_restarted,
    wanted_rollout,
    was_done,
)
from asset_token_operator.times import whole_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from asset_token_operator.assess import Assessment
    from asset_token_operator.asset_clock import AssetClocks
    from asset_token_operator.clock import Clock
    from asset_token_operator.model import IssuedToken, Key, Target
    from asset_token_operator.ports import WorkloadStore
    from asset_token_operator.report import Finding

logger = logging.getLogger(__name__)

LOOKS: Final = 3
"""How often a workload is looked at again at once, where it was changed between the look and the restart."""

SECOND: Final = timedelta(seconds=1)
RETRY_STANDBY: Final = timedelta(seconds=5)
"""When to look again where another operator leads now."""


@dataclass(slots=True)
class Job:
    """What is restarted for an AssetToken.

    Attributes:
        uid: The AssetToken's.
        rollout: What shall be.
        found: How far each target is; None where it hasn't been looked yet.
        failures: How often in a row a target couldn't be restarted.
        written: The token, by its fingerprint, that the Secret was written with since, and when.
        stamp: What was noted at the latest restart.
    """

    uid: str
    rollout: Rollout
    found: dict[Target, Progress] | None = None
    failures: int = 0
    written: tuple[str, datetime] | None = None
    stamp: datetime | None = None

    def since_written(self, rollout: Rollout) -> Rollout:
        """The rollout to come with when its token was written: what was restarted after the request may lack it.

        That is after the latest restart, however little the clock has gone on since.
        """
        if self.rollout.fingerprint == rollout.fingerprint:
            return replace(rollout, since=self.rollout.since)
        if self.written is None or self.written[0] != rollout.fingerprint:
            return rollout
        after = rollout.since if self.stamp is None else self.stamp + SECOND
        return replace(rollout, since=max(rollout.since, self.written[1], after))

    def finding(self) -> Finding:
        """What is told of it."""
        return rollouts_restarted(self.rollout, self.found)


class Restarter:
    """Restarts what AssetTokens name, as often as they admit.

    Args:
        kube: The API server.
        clock: Our clock.
        clocks: Knows how far the API server's is ahead.
        wake: Has `restart` run for an AssetToken.
        tell: Called with each AssetToken of which there is something else to tell.
    """

    def __init__(
        self,
        kube: WorkloadStore,
        clock: Clock,
        clocks: AssetClocks,
        wake: Callable[[Key], None],
        tell: Callable[[Key], None],
    ) -> None:
        self._kube = kube
        self._clock = clock
        self._clocks = clocks
        self._wake = wake
        self._tell = tell
        self._jobs: dict[Key, Job] = {}

    def wrote(self, key: Key, token: IssuedToken) -> None:
        """The AssetToken's Secret was just written with that token."""
        job = self._jobs.get(key)
        if job is not None and job.rollout.fingerprint != token.fingerprint:
            job.written = (token.fingerprint, whole_seconds(self._now()))

    def follow(self, assessed: Assessment) -> Finding | None:
        """Have the targets restarted, soon, if they don't run with the token that the Secret holds.

        Returns:
            What is known of it; None where nothing is to be restarted.
        """
        owner, rollout = assessed.seen.owner, wanted_rollout(assessed)
        if rollout is None:
            self.forget(owner.key)
            return None
        job = self._jobs.get(owner.key)
        if job is not None and job.uid == owner.uid:
            rollout = job.since_written(rollout)
        if job is None or (job.uid, job.rollout) != (owner.uid, rollout):
            is_done, stamp = job is None and was_done(assessed), None if job is None else job.stamp
            job = self._jobs[owner.key] = Job(owner.uid, rollout, {} if is_done else None, stamp=stamp)
            if not is_done:
                self._wake(owner.key)
        return job.finding()

    def forget(self, key: Key) -> None:
        """Nothing is to be restarted for the AssetToken."""
        self._jobs.pop(key, None)

    async def restart(self, key: Key) -> datetime | None:
        """Restart what is due now.

        Returns:
            When to look again; None where there is nothing left to do.
        """
        job = self._jobs.get(key)
        if job is None:
            return None
        try:
            targets = job.rollout.restart.targets
            found = await asyncio.gather(*(self._restart(key, target, job) for target in targets))
        except NotLeadingError:
            return self._clock.now() + RETRY_STANDBY
        told, job.found = job.finding(), dict(zip(targets, found, strict=True))
        if job.finding() != told:
            self._tell(key)
        return self._next_look(job)

    def _next_look(self, job: Job) -> datetime | None:
        found = (job.found or {}).values()
        failed = any(progress.problem is not None for progress in found)
        job.failures = job.failures + 1 if failed else 0
        ahead = self._clocks.cluster_skew() or timedelta()
        moments = [progress.due - ahead for progress in found if progress.due is not None]
        if failed:
            moments.append(self._clock.now() + back_off(job.failures, job.uid))
        return min(moments, default=None)

    async def _restart(self, key: Key, target: Target, job: Job) -> Progress:
        try:
            return await self._restart_if_due(key, target, job)
        except KubeError as error:
            problem = _problem(key, target, error)
            if job.found is None or job.found.get(target) != Progress(problem=problem):
                logger.warning("%s: %s", key, problem[1], extra=about(key, reason=problem[0], target=str(target)))
            return Progress(problem=problem)

    async def _restart_if_due(self, key: Key, target: Target, job: Job) -> Progress:
        looks = 0
        while True:
            workload, looks = await self._kube.read_workload(key.namespace, target), looks + 1
            now = self._now()
            due, stamp = next_restart(workload, job.rollout, now), restart_stamp(job.rollout, now)
            if due is None or due > now:
                return Progress(due)
            try:
                await self._kube.restart_workload(key.namespace, target, workload, stamp)
            except ConflictError:
                if looks == LOOKS:
                    raise
            else:
                job.stamp = max(stamp, job.stamp or stamp)
                logger.info("%s: restarted %s, as the token changed", key, target, extra=about(key, target=str(target)))
                return Progress()

    def _now(self) -> datetime:
        """What the API server's clock says."""
        return self._clock.now() + (self._clocks.cluster_skew() or timedelta())


def _problem(key: Key, target: Target, error: KubeError) -> tuple[Reason, str]:
    """Why a target couldn't be looked at or restarted, in a sentence that says what to do."""
    if isinstance(error, NotFoundError):
        return Reason.TARGET_NOT_FOUND, (
            f"{target} does not exist in namespace {key.namespace}: create it, or correct spec.rolloutRestart.targets."
        )
    is_denied = isinstance(error, AdmissionDeniedError)
    if isinstance(error, KubeRefusedError) and error.status == HTTPStatus.FORBIDDEN and not is_denied:
        return Reason.RESTART_FORBIDDEN, (
            f"The operator may not restart {target}: its role for namespace {key.namespace} lacks the rule"
            f" {needed_rule([target])}; set the chart's rolloutRestart.enabled to true, or add deploy/rollout-restart."
        )
    return Reason.RESTART_FAILED, f"{target} could not be restarted, which is tried again by itself: {error}"
