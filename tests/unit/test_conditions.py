"""Conditions as Kubernetes' tools read them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator.conditions import Condition, ConditionType, find_condition, is_true, render_conditions
from asset_token_operator.model import Reason
from tests.support.builders import NOW

LATER = NOW + timedelta(minutes=5)
READY = Condition(ConditionType.READY, status=True, reason=Reason.SECRET_SYNCED, message="The Secret holds a token.")
NOT_READY = Condition(ConditionType.READY, status=False, reason=Reason.EXPIRED, message="The token has expired.")


def status_of(*conditions: Condition) -> dict[str, Any]:
    """A status that was written now, for generation 1."""
    return {"conditions": render_conditions(conditions, {}, 1, NOW)}


def test_a_new_condition_holds_since_now() -> None:
    assert render_conditions([READY], {"observedGeneration": -1}, 7, NOW) == [
        {
            "type": "Ready",
            "status": "True",
            "observedGeneration": 7,
            "lastTransitionTime": "2026-05-01T12:00:00Z",
            "reason": "SecretSynced",
            "message": "The Secret holds a token.",
        }
    ]


def test_rendered_values_are_plain_strings_that_any_serializer_takes() -> None:
    (rendered,) = render_conditions([READY], {}, 1, NOW)
    assert {type(rendered[field]) for field in ("type", "status", "reason")} == {str}


def test_a_condition_whose_status_stays_keeps_its_time_and_takes_the_rest() -> None:
    again = Condition(ConditionType.READY, status=True, reason=Reason.RENEWING, message="It is being renewed.")
    (rendered,) = render_conditions([again], status_of(READY), 2, LATER)
    assert rendered == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 2,
        "lastTransitionTime": "2026-05-01T12:00:00Z",
        "reason": "Renewing",
        "message": "It is being renewed.",
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [pytest.param(READY, NOT_READY, id="to-false"), pytest.param(NOT_READY, READY, id="to-true")],
)
def test_a_condition_whose_status_changes_holds_since_now(before: Condition, after: Condition) -> None:
    (rendered,) = render_conditions([after], status_of(before), 1, LATER)
    assert rendered["lastTransitionTime"] == "2026-05-01T12:05:00Z"


def test_an_unknown_status_of_before_is_a_change() -> None:
    before = {"conditions": [{"type": "Ready", "status": "Unknown", "lastTransitionTime": "2026-05-01T12:00:00Z"}]}
    (rendered,) = render_conditions([READY], before, 1, LATER)
    assert rendered["lastTransitionTime"] == "2026-05-01T12:05:00Z"


def test_a_condition_is_compared_with_its_own_type_only() -> None:
    stalled = Condition(ConditionType.STALLED, status=True, reason=Reason.SECRET_CONFLICT, message="Taken.")
    rendered = render_conditions([stalled, NOT_READY], status_of(READY), 1, LATER)
    assert [(found["type"], found["lastTransitionTime"]) for found in rendered] == [
        ("Stalled", "2026-05-01T12:05:00Z"),
        ("Ready", "2026-05-01T12:05:00Z"),
    ]


def test_conditions_of_before_that_are_not_given_again_go() -> None:
    assert render_conditions([], status_of(READY), 1, LATER) == []


def test_a_condition_is_found_by_its_type() -> None:
    stalled = Condition(ConditionType.STALLED, status=False, reason=Reason.SECRET_CONFLICT, message="Taken.")
    assert find_condition(status_of(stalled, READY), ConditionType.READY)["reason"] == "SecretSynced"


@pytest.mark.parametrize(
    "status",
    [pytest.param({}, id="no-conditions"), pytest.param(status_of(NOT_READY), id="others-only")],
)
def test_a_condition_that_is_not_there_is_empty_and_not_true(status: dict[str, Any]) -> None:
    assert find_condition(status, ConditionType.ISSUING) == {}
    assert not is_true(status, ConditionType.ISSUING)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [pytest.param(READY, True, id="true"), pytest.param(NOT_READY, False, id="false")],
)
def test_a_condition_is_true_where_its_status_says_so(condition: Condition, *, expected: bool) -> None:
    assert is_true(status_of(condition), ConditionType.READY) is expected
