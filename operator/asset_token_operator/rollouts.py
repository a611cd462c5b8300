"""Which workloads have to be restarted because their Secret holds another token, and when.

The workload itself says when it was restarted last, in an annotation of its Pods; the Secret says since when its token
is the present one. What is older than that is to be restarted, and nothing else has to be remembered: a restart or a
change of leader restarts nothing, and whatever was missed is made up for. Both moments are on the API server's clock,
as Asset's and each operator's own may differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.attempts import LONGEST_MESSAGE
from asset_token_operator.model import ANNOTATION_PREFIX
from asset_token_operator.reasons import Reason
from asset_token_operator.report import Finding
from asset_token_operator.status import ConditionType
from asset_token_operator.times import format_time, parse_time, whole_seconds

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from asset_token_operator.assess import Assessment
    from asset_token_operator.model import RolloutRestart, Target

RESTARTED_AT: Final = f"{ANNOTATION_PREFIX}restarted-at"

NONSENSE: Final = timedelta(days=1)
"""A restart that lies so far ahead was not one of ours, whatever happened to clocks."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload as it stands.

    Attributes:
        created: When it was created: none of its Pods is older.
        restarted_at: When it was restarted for another token last, as far as it says so.
    """

    uid: str
    version: int
    created: datetime
    restarted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rollout:
    """What shall be restarted for an AssetToken's present token.

    Attributes:
        restart: What is restarted, and how often at most.
        fingerprint: Which token that is.
        is_first: Whether it is the AssetToken's first.
        since: Since when it is the present one, on the API server's clock, in whole seconds.
        is_late: Whether the least interval is longer than what a token has left when it is renewed.
    """

    restart: RolloutRestart
    fingerprint: str
    is_first: bool
    since: datetime
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a target is.

    Attributes:
        due: When it is restarted, on the API server's clock; None where it was, or needn't be.
        problem: What is in the way, and in words.
    """

    due: datetime | None = None
    problem: tuple[Reason, str] | None = None


def wanted_rollout(assessed: Assessment) -> Rollout | None:
    """What shall be restarted for the token that the Secret holds; None where nothing is, or there is none."""
    restart, stored = assessed.seen.owner.spec.rollout_restart, assessed.stored
    if restart is None or stored is None:
        return None
    token, is_late = stored.token, restart.min_interval > stored.renewal_window
    return Rollout(
        restart, token.fingerprint, token.revision == 1, whole_seconds(token.issued_at - token.skew), is_late
    )


def was_done(assessed: Assessment) -> bool:
    """Whether the status tells that nothing is left to restart for the token that the Secret holds."""
    owner, stored = assessed.seen.owner, assessed.stored
    found = owner.status.find(ConditionType.ROLLOUTS_RESTARTED)
    is_done = found is not None and found.is_true and found.observed_generation == owner.generation
    return is_done and stored is not None and owner.status.revision == stored.token.revision


def next_restart(workload: Workload, rollout: Rollout, now: datetime) -> datetime | None:
    """When a workload is to be restarted, which may have passed; None where it runs with the present token.

    One that was never restarted is, at once, unless it is younger than the token; of one of the same second nobody can
    tell. But not for an AssetToken's first: Pods that need a Secret wait for it, so they have it.
    """
    before = workload.restarted_at
    if before is None or before - max(now, rollout.since) > NONSENSE:
        return None if rollout.is_first or workload.created > rollout.since else now
    return None if before >= rollout.since else before + rollout.restart.min_interval


def restart_stamp(rollout: Rollout, now: datetime) -> datetime:
    """What a workload that is restarted now says from then on: never that it is older than the token, by any clock."""
    return max(whole_seconds(now), rollout.since)


def rollouts_restarted(rollout: Rollout, found: dict[Target, Progress] | None) -> Finding:
    """What is told of it.

    Args:
        rollout: What shall be restarted.
        found: How far each target is; None where it hasn't been looked yet.
    """
    if found is None:
        return Finding(False, Reason.RESTART_PENDING, "The token changed; the targets are about to be restarted.")
    problems = [progress.problem for progress in found.values() if progress.problem is not None]
    if problems:
        return Finding(False, problems[0][0], " ".join(message for _, message in problems)[:LONGEST_MESSAGE])
    waits = {target: progress.due for target, progress in found.items() if progress.due is not None}
    if waits:
        listed = ", ".join(f"{target} at {format_time(due)}" for target, due in sorted(waits.items()))
        message = f"They were restarted less than minInterval ago, so they are restarted later: {listed}."
        return Finding(False, Reason.RESTART_PENDING, message[:LONGEST_MESSAGE])
    if rollout.is_late:
        message = (
            "All targets run with the present token, but minInterval is longer than what a token has left when it is"
            " renewed, so they may run with an expired one: set minInterval to no more than renewBefore."
        )
        return Finding(True, Reason.MIN_INTERVAL_TOO_LONG, message)
    return Finding(True, Reason.RESTARTED, "All targets run with the present token.")


def needed_rule(targets: Collection[Target]) -> str:
    """The rule that a role must have for these targets."""
    resources = ", ".join(sorted({target.kind.plural for target in targets}))
    return f"{{apiGroups: [apps], resources: [{resources}], verbs: [get, patch]}}"


def parse_workload(answer: dict[str, Any]) -> Workload:
    """Read a Deployment, StatefulSet or DaemonSet."""
    metadata, template = answer["metadata"], answer["spec"]["template"].get("metadata") or {}
    try:
        restarted_at = parse_time((template.get("annotations") or {})[RESTARTED_AT])
    except (KeyError, ValueError):
        restarted_at = None
    created = parse_time(metadata["creationTimestamp"])
    return Workload(metadata["uid"], int(metadata["resourceVersion"]), created, restarted_at)
