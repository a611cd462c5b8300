"""Which events a change of an AssetToken's status is worth, and how they look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asset_token_operator.model import GROUP, KIND, OPERATOR, VERSION, digest
from asset_token_operator.reasons import Reason
from asset_token_operator.status import ConditionType
from asset_token_operator.times import format_micro_time

if TYPE_CHECKING:
    from datetime import datetime

    from asset_token_operator.model import AssetToken
    from asset_token_operator.status import Status


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes event about an AssetToken."""

    type: str
    reason: str
    message: str


def transition_events(before: Status, after: Status, *, issued: bool) -> list[Event]:
    """The events that a change of status is worth: first issued, recovered, failing, refused, without all scopes.

    Args:
        before: The status as it was.
        after: The status as it is.
        issued: Whether a token has just been issued.
    """
    ready, issuing, stalled = map(after.find, (ConditionType.READY, ConditionType.ISSUING, ConditionType.STALLED))
    was_failing, was_stalled = _is_failing(before), before.is_true(ConditionType.STALLED)
    if issuing is not None and _is_failing(after) and not was_failing:
        return [Event("Warning", issuing.reason, issuing.message)]
    if stalled is not None and not was_stalled:
        return [Event("Warning", stalled.reason, stalled.message)]
    granted, had = after.find(ConditionType.SCOPES_GRANTED), before.find(ConditionType.SCOPES_GRANTED)
    if granted is not None and not granted.is_true and (issued if had is None else had.is_true):
        return [Event("Warning", granted.reason, granted.message)]
    if not issued or ready is None or not ready.is_true:
        return []
    if after.revision == 1:
        return [Event("Normal", "Issued", f"Asset issued the first token. {ready.message}")]
    is_well = not _is_failing(after) and stalled is None
    return [Event("Normal", "Recovered", ready.message)] if is_well and (was_failing or was_stalled) else []


def _is_failing(status: Status) -> bool:
    """Whether attempts fail; a mere wait for the budget is no news."""
    return status.is_true(ConditionType.ISSUING) and status.failed_attempts is not None


def drift_event(owner: AssetToken) -> Event:
    """The one event about a Secret that something changes back again and again."""
    name = owner.spec.secret.name
    message = (
        f"Something keeps changing or deleting Secret {name}; it is put right, but later each time. Find out what does:"
        " its metadata.managedFields name who wrote it."
    )
    return Event("Warning", Reason.DRIFT_REPEATS, message)


def event_manifest(token: AssetToken, event: Event, now: datetime, instance: str) -> dict[str, Any]:
    """The object (`events.k8s.io/v1`) that tells of an event about an AssetToken.

    Args:
        token: The AssetToken.
        event: The event.
        now: When it came about.
        instance: The operator's name.
    """
    identity = digest(f"{token.uid}/{event.reason}/{now.isoformat()}")
    namespace, name = token.key
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": namespace, "name": f"{name[:200].rstrip('-.')}.{identity[:16]}"},
        "eventTime": format_micro_time(now),
        "reportingController": OPERATOR,
        "reportingInstance": instance[:128],
        "action": "Issue",
        "reason": event.reason,
        "note": event.message.encode()[:1024].decode(errors="ignore"),
        "type": event.type,
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "namespace": namespace,
            "name": name,
            "uid": token.uid,
        },
    }
