"""The status as the CRD has it, and its conditions as Kubernetes' tools read them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator.status import (
    FIELDS,
    NOT_SEEN_YET,
    Binding,
    Condition,
    ConditionType,
    HistoryEntry,
    Status,
    parse_status,
)
from tests.support.builders import NOW

READY = Condition(type="Ready", status="True", reason="SecretSynced", message="Good.", last_transition_time=NOW)
NOT_READY = replace(READY, status="False", reason="Expired")
STALLED = replace(READY, type="Stalled", reason="SecretConflict")

WHOLE = Status(
    observed_generation=3,
    summary="Ready",
    conditions=(READY,),
    secret_name="ledger-writer-token",
    binding=Binding(name="ledger-writer-token"),
    issuance_time=NOW,
    expiration_time=NOW + timedelta(hours=1),
    renewal_time=NOW + timedelta(minutes=40),
    granted_scopes=(),
    token_id="token-1",
    revision=1,
    last_handled_renew_request="1",
    synced_hash="01-23",
    failed_attempts=1,
    last_failure_time=NOW,
    history=(HistoryEntry(time=NOW, reason="Renewing", outcome="Issued", expiration_time=NOW),),
)


def test_a_status_is_read_as_it_was_written() -> None:
    assert set(WHOLE.to_json()) == set(FIELDS)
    assert parse_status(WHOLE.to_json()) == WHOLE


def test_what_is_not_there_is_not_written() -> None:
    assert NOT_SEEN_YET.to_json() == {"observedGeneration": -1}


def test_times_are_in_whole_seconds_and_utc() -> None:
    status = Status(last_failure_time=NOW + timedelta(microseconds=999_999))
    assert status == Status(last_failure_time=NOW)
    assert status.to_json()["lastFailureTime"] == "2026-05-01T12:00:00Z"


def test_values_are_plain_strings_that_any_serializer_takes() -> None:
    written = Condition(
        type=ConditionType.READY, status="True", reason="SecretSynced", message="", last_transition_time=NOW
    )
    (condition,) = Status(conditions=(written,)).to_json()["conditions"]
    assert {type(condition[field]) for field in ("type", "status", "reason", "lastTransitionTime")} == {str}


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({}, id="empty"),
        pytest.param(None, id="null"),
        pytest.param({"observedGeneration": "many"}, id="no number"),
        pytest.param({"observedGeneration": 3, "expirationTime": "soon"}, id="no time"),
        pytest.param({"observedGeneration": 3, "conditions": [{"type": "Ready"}]}, id="half a condition"),
    ],
)
def test_what_cannot_be_read_counts_as_lost(status: Any) -> None:
    assert parse_status(status) == NOT_SEEN_YET


def test_fields_and_conditions_of_others_are_borne() -> None:
    other = {
        "type": "Shiny",
        "status": "Unknown",
        "reason": "New",
        "message": "",
        "lastTransitionTime": "2026-05-01T12:00:00Z",
    }
    status = parse_status({"observedGeneration": 3, "conditions": [other], "later": {"field": 1}})
    assert status.observed_generation == 3
    assert not status.is_true(ConditionType.READY)


def test_a_condition_is_found_by_its_type() -> None:
    assert Status(conditions=(STALLED, READY)).find(ConditionType.READY) == READY
    assert Status(conditions=(STALLED,)).find(ConditionType.READY) is None


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(Status(conditions=(READY,)), True, id="true"),
        pytest.param(Status(conditions=(NOT_READY,)), False, id="false"),
        pytest.param(Status(), False, id="not there"),
    ],
)
def test_a_condition_is_true_where_its_status_says_so(status: Status, *, expected: bool) -> None:
    assert status.is_true(ConditionType.READY) is expected
