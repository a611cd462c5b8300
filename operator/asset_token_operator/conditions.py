"""Conditions as Kubernetes has them (`metav1.Condition`): their types, and when a transition happened."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from asset_token_operator.model import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime


class ConditionType(StrEnum):
    """What a condition is about."""

    READY = "Ready"
    ISSUING = "Issuing"
    STALLED = "Stalled"
    SCOPES_GRANTED = "ScopesGranted"


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition, before it is known since when it holds."""

    type: ConditionType
    status: bool
    reason: str
    message: str


def find_condition(status: Mapping[str, Any], condition_type: ConditionType) -> Mapping[str, Any]:
    """The condition of that type in a status; an empty one where it isn't there."""
    return next((found for found in status.get("conditions", ()) if found["type"] == condition_type), {})


def is_true(status: Mapping[str, Any], condition_type: ConditionType) -> bool:
    """Whether the condition is there and true."""
    return find_condition(status, condition_type).get("status") == "True"


def render_conditions(
    conditions: Iterable[Condition], before: Mapping[str, Any], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Write conditions as JSON; one whose status hasn't changed keeps its `lastTransitionTime`."""
    rendered = []
    for condition in conditions:
        status = str(condition.status)
        previous = find_condition(before, condition.type)
        since = previous["lastTransitionTime"] if previous.get("status") == status else format_time(now)
        rendered.append(
            {
                "type": condition.type.value,
                "status": status,
                "observedGeneration": generation,
                "lastTransitionTime": since,
                "reason": str(condition.reason),
                "message": condition.message,
            }
        )
    return rendered
