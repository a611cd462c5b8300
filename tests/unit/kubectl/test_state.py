"""How an AssetToken fares is read from what any version of the operator may have written."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from asset_token_operator.kubectl.state import State, TokenState, read_state
from asset_token_operator.times import format_time

NOW: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)


def an_asset_token(
    ready: str = "True",
    issuing: str = "SecretSynced",
    *,
    stalled: bool = False,
    scopes: str = "True",
    spec: dict[str, Any] | None = None,
    left: int = 40,
    renews: int = 20,
    observed: int = 1,
) -> dict[str, Any]:
    conditions = [
        {"type": "Ready", "status": ready, "reason": "SecretSynced", "message": "ready"},
        {"type": "Issuing", "status": "True", "reason": issuing, "message": "issuing"},
        {"type": "ScopesGranted", "status": scopes, "reason": "ScopesMissing", "message": "scopes"},
    ]
    if stalled:
        conditions.append({"type": "Stalled", "status": "True", "reason": issuing, "message": "stalled"})
    status = {
        "conditions": conditions,
        "observedGeneration": observed,
        "issuanceTime": format_time(NOW - timedelta(minutes=20)),
        "expirationTime": format_time(NOW + timedelta(minutes=left)),
        "renewalTime": format_time(NOW + timedelta(minutes=renews)),
    }
    return {"metadata": {"namespace": "shop", "name": "a", "generation": 1}, "spec": spec or {}, "status": status}


SUSPENDED: Final = {"suspend": True}
CASES: Final = {
    State.USABLE: (an_asset_token(), True, ""),
    State.STALLED: (an_asset_token("False", "InvalidScope", stalled=True), False, "stalled"),
    State.FAILING: (an_asset_token("False", "AssetUnavailable"), False, "issuing"),
    State.EXPIRED: (an_asset_token(left=-1, renews=-20), False, "The token expired at"),
    State.PENDING: (an_asset_token("False", "DoesNotExist"), False, "issuing"),
    State.UNSEEN: (an_asset_token(observed=0), True, "No operator"),
    State.RENEWAL_STALLED: (an_asset_token(issuing="InvalidScope", stalled=True), True, "stalled"),
    State.TEMPLATE: (an_asset_token(issuing="TemplateInvalid", stalled=True), True, "stalled"),
    State.RENEWAL_FAILING: (an_asset_token(issuing="RateLimited"), True, "issuing"),
    State.OVERDUE: (an_asset_token(renews=-5), True, "Its renewal is late"),
    State.SCOPES: (an_asset_token(scopes="False"), True, "scopes"),
    State.SUSPENDED: (an_asset_token(spec=SUSPENDED), True, "issuing"),
}


@pytest.mark.parametrize("state", State)
def test_a_state_has_a_word_and_a_reason(state: State) -> None:
    body, usable, message = CASES[state]
    found = read_state(body, NOW)
    assert (found.state, found.usable) == (state, usable)
    assert found.message.startswith(message)
    assert bool(found.message) == bool(message)


def test_the_worst_and_then_the_nearest_expiry_goes_first() -> None:
    bodies = [an_asset_token(), an_asset_token(left=30), an_asset_token("False", "InvalidScope", stalled=True)]
    ordered = sorted((read_state(body, NOW) for body in bodies), key=TokenState.rank)
    assert [(found.state, found.expires) for found in ordered] == [
        (State.STALLED, NOW + timedelta(minutes=40)),
        (State.USABLE, NOW + timedelta(minutes=30)),
        (State.USABLE, NOW + timedelta(minutes=40)),
    ]


def test_an_empty_object_has_a_state() -> None:
    found = read_state({}, NOW)
    assert found.state is State.UNSEEN
    assert set(found.to_json()) >= {"namespace", "name", "state", "summary", "usable"}


def test_what_the_operator_says_in_a_word_is_told_unless_it_is_of_another_spec() -> None:
    body = an_asset_token(issuing="RateLimited")
    assert read_state(body, NOW).status() == "RateLimited"  # of an operator that says none
    body["status"]["summary"] = "AssetUnavailable"
    assert read_state(body, NOW).status() == "AssetUnavailable"
    body["status"]["observedGeneration"] = 0
    assert read_state(body, NOW).status() == ""
