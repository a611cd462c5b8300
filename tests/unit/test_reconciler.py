import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from pydantic import SecretStr

from asset_token_operator.answers import Reply
from asset_token_operator.assess import assess
from asset_token_operator.asset_client import AssetClient
from asset_token_operator.decision import RECHECK_SENIOR
from asset_token_operator.errors import (
    AssetUnavailableError,
    BrokenAnswerError,
    ConflictError,
    CredentialsInvalidError,
    CredentialsNotFoundError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    NotLeadingError,
    OperatorError,
)
from asset_token_operator.kube import KubeClient
from asset_token_operator.manifests import REVISION, TOKEN_FINGERPRINT, stored_token
from asset_token_operator.model import AssetToken, Credentials, Key, SecretSpec
from asset_token_operator.observed import SlotState
from asset_token_operator.renewal import renewal_time
from asset_token_operator.status import NOT_SEEN_YET
from tests.support.builders import (
    CREDENTIALS,
    NOW,
    a_jwt,
    a_refusal,
    a_reply,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    data_of,
    retained,
    text_of,
)
from tests.support.builders import observed as seen_of
from tests.support.fakes import FakeAssetClient, FakeKubeClient, World, drive

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

FIRST_ISSUE = ["read_credentials", "read_secret", "apply_secret", "write_status"]
RENEWAL = ["read_secret", "apply_secret", "write_status"]

UNREACHABLE = KubeUnavailableError("no answer from the API server.")
FORBIDDEN = KubeRefusedError("the API server refused with 403 Forbidden.", 403)


UNAVAILABLE = a_refusal(503)


def renewal(revision: int = 1, issued_at: datetime = NOW) -> datetime:
    """When a token of an hour is renewed."""
    token = an_issued_token(issued_at=issued_at, expires_at=issued_at + HOUR, revision=revision)
    return renewal_time(token, a_spec(), an_asset_token().uid)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def issued(world: World) -> World:
    """A world in which the first token has been issued, and the watches have seen it."""
    world.add()
    world.reconcile()
    world.calls()
    return world


def change(world: World, **changes: Any) -> AssetToken:
    """Somebody changes the AssetToken's spec."""
    token = world.token()
    return world.kube.put_token(replace(token, spec=replace(token.spec, **changes), generation=token.generation + 1))


def access_token(world: World) -> str:
    secret = world.secret()
    assert secret is not None
    token = stored_token(secret)
    assert token is not None
    return text_of(token)


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        pytest.param(FakeKubeClient, KubeClient, id="kube"),
        pytest.param(FakeAssetClient, AssetClient, id="asset"),
    ],
)
def test_the_fakes_take_the_calls_that_the_real_ones_take(fake: type, real: type) -> None:
    def calls(of: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(of, inspect.iscoroutinefunction)
            if not name.startswith("_")
        }

    assert calls(fake).items() <= calls(real).items()


# The happy path


def test_a_first_issue_makes_two_writes_and_an_event(world: World) -> None:
    world.add()

    again = world.reconcile()

    assert world.calls() == FIRST_ISSUE
    assert len(world.asset.requests) == 1
    assert again == renewal()
    assert access_token(world) == "canary-access-token-1"
    assert world.conditions() == {
        "Ready": ("True", "SecretSynced"),
        "Issuing": ("False", "SecretSynced"),
        "ScopesGranted": ("True", "AllGranted"),
    }
    assert [event.reason for event in world.events.posted] == ["Issued"]


def test_nothing_is_called_when_nothing_is_needed(issued: World) -> None:
    for moment in (NOW, NOW + MINUTE, renewal() - SECOND):
        issued.pass_time(moment - issued.clock.now())
        assert issued.reconcile() == renewal()

    assert issued.calls() == []


def test_a_renewal_makes_two_writes_and_no_event(issued: World) -> None:
    issued.pass_time(renewal() - NOW)

    assert issued.reconcile() == renewal(2, renewal())

    assert issued.calls() == RENEWAL
    assert access_token(issued) == "canary-access-token-2"
    assert issued.token().status.revision == 2


def test_a_token_is_renewed_for_weeks_without_more_than_two_writes_each(issued: World) -> None:
    due = renewal()
    for revision in range(2, 501):
        issued.pass_time(due - issued.clock.now())
        due = renewal(revision, issued.clock.now())
        assert issued.reconcile() == due

    assert issued.calls() == RENEWAL * 499
    assert len(issued.token().status.history or ()) == 10


def test_a_renew_request_is_served_once(issued: World) -> None:
    issued.kube.put_token(replace(issued.token(), renew_request="1"))

    for _ in range(3):
        issued.reconcile()

    assert len(issued.asset.requests) == 2
    assert issued.token().status.last_handled_renew_request == "1"


def test_a_renew_request_during_suspension_is_served_once_after_resuming(issued: World) -> None:
    change(issued, suspend=True)
    issued.kube.put_token(replace(issued.token(), renew_request="1"))
    issued.reconcile()
    assert len(issued.asset.requests) == 1
    assert issued.conditions()["Issuing"] == ("False", "Suspended")

    change(issued, suspend=False)
    issued.reconcile()
    issued.reconcile()
    assert len(issued.asset.requests) == 2


def test_a_changed_spec_is_requested_at_once(issued: World) -> None:
    change(issued, scopes=("ledger:create",))

    issued.reconcile()

    assert issued.calls() == RENEWAL
    assert issued.token().status.observed_generation == 2


def test_a_renamed_secret_moves_without_a_request(issued: World) -> None:
    old = issued.token().secret_key
    change(issued, secret=SecretSpec("new-name"))

    issued.reconcile()

    assert issued.calls() == ["read_secret", "read_secret", "apply_secret", "delete_secret", "write_status"]
    assert set(issued.kube.secrets) == {Key("shop", "new-name")}
    assert old not in issued.kube.secrets
    assert access_token(issued) == "canary-access-token-1"
    assert issued.token().status.secret_name == "new-name"


def test_a_renamed_secret_moves_after_a_restart_too(issued: World) -> None:
    change(issued, secret=SecretSpec("new-name"))
    issued.restart()

    issued.reconcile()

    assert len(issued.asset.requests) == 1
    assert set(issued.kube.secrets) == {Key("shop", "new-name")}


def test_a_renamed_retained_secret_is_left_where_it_was(world: World) -> None:
    world.add(an_asset_token(retained()))
    world.reconcile()
    change(world, secret=replace(retained().secret, name="new-name"))

    world.reconcile()
    world.reconcile()

    assert set(world.kube.secrets) == {Key("shop", "ledger-writer-token"), Key("shop", "new-name")}
    assert len(world.asset.requests) == 1


def test_a_deleted_secret_is_written_again_without_a_request(issued: World) -> None:
    issued.kube.secrets.clear()

    issued.reconcile()

    assert issued.calls() == ["read_secret", "confirm_asset_token", "apply_secret"]
    assert access_token(issued) == "canary-access-token-1"


@pytest.mark.parametrize("at_hand", [pytest.param(True, id="token at hand"), pytest.param(False, id="after a restart")])
@pytest.mark.parametrize("another", [pytest.param(False, id="gone"), pytest.param(True, id="another by its name")])
def test_a_secret_that_is_deleted_with_its_asset_token_is_not_written_again_before_that_is_known(
    issued: World, *, at_hand: bool, another: bool
) -> None:
    if not at_hand:
        issued.restart()
    issued.kube.secrets.clear()
    issued.sync()
    (token,) = issued.kube.asset_tokens.values()
    del issued.kube.asset_tokens[token.key]
    if another:
        issued.kube.put_token(replace(token, uid="another"))

    assert issued.reconcile(sync=False) == issued.clock.now() + MINUTE
    assert issued.kube.secrets == {}
    assert len(issued.asset.requests) == 1


def test_a_tampered_secret_is_put_right_without_a_request(issued: World) -> None:
    secret = issued.secret()
    assert secret is not None
    issued.kube.put_secret(
        replace(secret, data={**data_of(secret), "access_token": "Y2FuYXJ5", "authorization": "eA=="})
    )

    issued.reconcile()

    assert issued.calls() == ["read_secret", "apply_secret"]
    assert access_token(issued) == "canary-access-token-1"


def test_a_war_over_a_secret_is_fought_later_each_time(issued: World) -> None:
    writes = []
    while issued.clock.now() < NOW + 9 * MINUTE:
        issued.kube.secrets.clear()
        issued.reconcile()
        if "apply_secret" in issued.calls():
            writes.append(issued.clock.now())
        issued.pass_time(SECOND)

    waits = [(after - before).total_seconds() for before, after in pairwise(writes)]
    assert waits == [1, 1, 1, 1, 10, 20, 40, 80, 160]
    assert len(issued.asset.requests) == 1


def test_a_war_over_a_secret_is_told_by_one_event_and_no_status(issued: World) -> None:
    for _ in range(15):
        issued.kube.secrets.clear()
        issued.reconcile()

    assert [event.reason for event in issued.events.posted] == ["Issued", "DriftRepeats"]
    assert len(issued.asset.requests) == 1


def test_another_war_is_told_by_another_event(issued: World) -> None:
    for _ in range(2):
        for _ in range(10):
            issued.kube.secrets.clear()
            issued.reconcile()
        issued.pass_time(11 * MINUTE)
        issued.reconcile()
        issued.reconcile()

    assert [event.reason for event in issued.events.posted] == ["Issued", "DriftRepeats", "DriftRepeats"]


# What goes wrong


def test_a_token_whose_secret_could_not_be_written_is_not_requested_again(world: World) -> None:
    world.add()
    world.kube.faults.fail("apply_secret", UNREACHABLE, times=1)

    again = world.reconcile()

    assert again is not None
    assert NOW < again <= NOW + 5 * SECOND
    assert world.conditions() == {"Ready": ("False", "ClusterUnavailable"), "Issuing": ("True", "ClusterUnavailable")}

    world.pass_time(again - NOW)
    world.reconcile()
    assert len(world.asset.requests) == 1
    assert access_token(world) == "canary-access-token-1"
    assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_a_secret_that_is_too_large_to_write_is_said_and_not_requested_again(world: World) -> None:
    world.add()
    world.kube.faults.fail("apply_secret", KubeRefusedError("refused with 422 Invalid, because of data.", 422))
    world.reconcile()

    for _ in range(10):
        world.pass_time(MINUTE)
        world.reconcile()

    assert len(world.asset.requests) == 1
    assert world.conditions()["Issuing"] == ("True", "ClusterRefused")


@pytest.mark.parametrize("error", [UNREACHABLE, FORBIDDEN], ids=["unreachable", "forbidden"])
def test_a_status_that_could_not_be_written_is_written_later_without_a_request(
    world: World, error: OperatorError
) -> None:
    world.add()
    world.kube.faults.fail("write_status", error, times=1)

    assert NOW + 4 * SECOND <= (world.reconcile() or NOW) <= NOW + 5 * SECOND

    world.calls()
    world.pass_time(5 * SECOND)
    world.reconcile()
    assert "write_status" in world.calls()
    assert len(world.asset.requests) == 1
    assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_the_first_issue_is_told_even_if_the_status_could_not_be_written_at_first(world: World) -> None:
    world.add()
    world.kube.faults.fail("write_status", UNREACHABLE, times=1)
    world.reconcile()

    world.pass_time(5 * SECOND)
    world.reconcile()

    assert [event.reason for event in world.events.posted] == ["Issued"]


def test_a_secret_that_cannot_be_read_requests_nothing(world: World) -> None:
    world.add()
    world.kube.faults.fail("read_secret", UNREACHABLE)

    assert NOW + 4 * SECOND <= (world.reconcile() or NOW) <= NOW + 5 * SECOND

    assert world.calls() == ["read_credentials", "read_secret"]
    assert world.asset.requests == []


def test_calls_that_fail_are_made_again_later_each_time_and_never_all_together(world: World) -> None:
    keys = [Key("shop", f"a{number}") for number in range(50)]
    tokens = [an_asset_token(a_spec(secret=SecretSpec(key.name)), key=key, uid=f"uid-of-{key}") for key in keys]
    for token in tokens:
        world.add(token)
    world.kube.faults.fail("read_secret", UNREACHABLE)
    waits = [[(world.reconcile(token) or NOW) - world.clock.now() for _ in range(5)] for token in tokens]

    for each, longest in zip(zip(*waits, strict=True), (5, 10, 20, 30, 30), strict=True):
        assert 0.8 * longest * SECOND <= min(each) < max(each) <= longest * SECOND
        assert len(set(each)) > 40
    assert sorted(world.reconciler.held_up("")) == sorted(keys)
    world.kube.faults.mend()
    for token in tokens:
        world.reconcile(token)
    assert world.reconciler.held_up("") == []


def test_a_token_that_is_about_to_expire_waits_no_longer_than_before(issued: World) -> None:
    issued.pass_time(timedelta(minutes=59, seconds=30))
    issued.kube.faults.fail("read_secret", UNREACHABLE)
    for _ in range(6):
        again = issued.reconcile()

    assert again is not None
    assert again - issued.clock.now() <= 5 * SECOND


def test_a_secret_that_was_replaced_since_it_was_seen_is_looked_at_again(issued: World) -> None:
    secret = issued.secret()
    assert secret is not None
    issued.kube.put_secret(replace(secret, labels={**secret.labels, "app.kubernetes.io/managed-by": "x"}))
    issued.kube.before_write = lambda _: issued.kube.secrets.update({secret.key: replace(secret, uid="another")})

    issued.reconcile()
    issued.pass_time(5 * SECOND)
    issued.kube.before_write = lambda _: None
    issued.reconcile()

    assert len(issued.asset.requests) == 1
    assert issued.conditions()["Ready"] == ("True", "SecretSynced")
    assert issued.secret() is not None


def test_a_foreign_secret_that_appears_between_the_look_and_the_write_is_left_alone(world: World) -> None:
    world.add()
    foreign = a_secret(type="Opaque", uid="foreign", controller_uid=None, labels={}, annotations={})
    world.kube.before_write = lambda _: world.kube.secrets.update({foreign.key: foreign})

    world.reconcile()

    assert world.secret() == foreign
    assert world.conditions() == {
        "Ready": ("False", "SecretConflict"),
        "Issuing": ("False", "SecretConflict"),
        "Stalled": ("True", "SecretConflict"),
    }
    world.pass_time(MINUTE)
    world.reconcile()
    assert world.secret() == foreign
    assert world.conditions()["Ready"] == ("False", "SecretConflict")

    del world.kube.secrets[foreign.key]
    world.kube.before_write = lambda _: None
    world.pass_time(15 * SECOND)
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert len(world.asset.requests) == 1


def test_a_foreign_secret_blocks_until_it_is_gone(world: World) -> None:
    world.add()
    foreign = world.kube.put_secret(a_secret(type="Opaque"))

    assert world.reconcile() == NOW + 15 * SECOND
    assert world.calls() == ["read_credentials", "read_secret", "write_status"]
    world.pass_time(15 * SECOND)
    world.reconcile()
    assert "write_status" not in world.calls()
    assert world.secret() == foreign
    assert world.asset.requests == []

    world.kube.secrets.clear()
    world.pass_time(15 * SECOND)
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert [event.reason for event in world.events.posted] == ["SecretConflict", "Issued"]


def test_missing_credentials_are_said_and_served_once_they_are_there(world: World) -> None:
    world.add()
    world.kube.credentials.clear()

    world.reconcile()

    assert [event.reason for event in world.events.posted] == ["CredentialsNotFound"]
    assert world.asset.requests == []
    assert world.conditions() == {
        "Ready": ("False", "CredentialsNotFound"),
        "Issuing": ("True", "CredentialsNotFound"),
        "Stalled": ("True", "CredentialsNotFound"),
    }

    world.kube.put_credentials()
    world.pass_time(SECOND)
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert "Stalled" not in world.conditions()


def test_credentials_that_are_created_between_two_looks_cause_no_crash(world: World) -> None:
    """The Secret comes after the caches were looked at and before the request would be made."""
    world.add()
    world.kube.credentials.clear()
    world.kube.before_read_secret = lambda _: world.kube.put_credentials()

    again = world.reconcile()
    world.sync()
    world.reconcile()

    assert again is not None
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert len(world.asset.requests) == 1


def test_forbidden_credentials_are_served_once_the_right_to_read_them_is_given(world: World) -> None:
    """A Role isn't watched, and the Secret stays as it is: only trying again shows that the cause is fixed."""
    world.add()
    world.kube.faults.fail("read_credentials", FORBIDDEN)
    world.reconcile()
    assert world.conditions()["Issuing"] == ("True", "ClusterRefused")

    world.kube.faults.mend()
    world.pass_time(5 * MINUTE)
    world.reconcile()

    assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_rotated_credentials_renew_the_token(issued: World) -> None:
    issued.kube.put_credentials(replace(CREDENTIALS, client_secret=SecretStr("canary-rotated")))
    issued.pass_time(MINUTE)

    issued.reconcile()
    issued.reconcile()

    assert issued.calls() == ["read_credentials", *RENEWAL]
    assert issued.token().status.to_json()["history"][-1]["reason"] == "CredentialsChanged"


def test_labelled_credentials_renew_nothing(issued: World) -> None:
    issued.kube.put_credentials()
    issued.pass_time(MINUTE)

    assert issued.reconcile() == renewal()

    assert issued.calls() == ["read_credentials"]
    assert len(issued.asset.requests) == 1


def test_labelling_credentials_again_and_again_makes_no_hot_loop_of_a_request_that_fails(world: World) -> None:
    """No label or annotation causes a request, and broken answers cause at most four a minute."""
    world.add()
    world.asset.faults.fail("request_token", a_reply(200, {"access_token": "no b64token"}))
    for _ in range(59):
        world.kube.put_credentials()
        world.reconcile()
        world.pass_time(SECOND)

    assert len(world.asset.requests) <= 4


def test_labelling_credentials_repeats_no_request_that_was_refused(world: World) -> None:
    world.add()
    world.asset.faults.fail("request_token", a_refusal(400, "invalid_scope"))
    world.reconcile()
    for _ in range(10):
        world.kube.put_credentials()
        world.pass_time(SECOND)
        world.reconcile()

    assert len(world.asset.requests) == 1


@pytest.mark.parametrize(
    ("method", "fault", "reason", "stalled"),
    [
        pytest.param("request_token", a_refusal(401, "invalid_client"), "InvalidClient", True, id="invalid client"),
        pytest.param("request_token", a_refusal(400, "invalid_scope"), "InvalidScope", True, id="invalid scope"),
        pytest.param("request_token", a_refusal(400, "invalid_request"), "RequestRefused", True, id="refused"),
        pytest.param("request_token", AssetUnavailableError("no answer"), "AssetUnavailable", False, id="no answer"),
        pytest.param("request_token", UNAVAILABLE, "AssetUnavailable", False, id="unavailable"),
        pytest.param("request_token", a_refusal(429), "RateLimited", False, id="rate limited"),
        pytest.param("request_token", BrokenAnswerError("no end"), "BrokenAnswer", False, id="broken"),
        pytest.param("request_token", a_reply(200), "BrokenAnswer", False, id="no token"),
    ],
)
def test_a_failing_renewal_says_why_and_keeps_the_token(
    issued: World,
    method: str,
    fault: Exception | Reply,
    reason: str,
    *,
    stalled: bool,
) -> None:
    issued.asset.faults.fail(method, fault)
    issued.pass_time(40 * MINUTE)

    issued.reconcile()

    assert issued.conditions() == {
        "Ready": ("True", "SecretSynced"),
        "Issuing": ("True", reason),
        "ScopesGranted": ("True", "AllGranted"),
    } | ({"Stalled": ("True", reason)} if stalled else {})
    assert access_token(issued) == "canary-access-token-1"
    assert [event.reason for event in issued.events.posted] == ["Issued", reason]

    issued.asset.faults.mend()
    issued.pass_time(20 * MINUTE if stalled else 5 * MINUTE)
    issued.reconcile()
    assert issued.conditions()["Issuing"] == ("False", "SecretSynced")
    assert [event.reason for event in issued.events.posted] == ["Issued", reason, "Recovered"]


@pytest.mark.parametrize(
    ("error", "reason", "stalled"),
    [
        pytest.param(CredentialsInvalidError("no key"), "CredentialsInvalid", True, id="invalid"),
        pytest.param(CredentialsNotFoundError("none"), "CredentialsNotFound", True, id="not found"),
    ],
)
def test_credentials_that_broke_are_said_when_the_renewal_is_due_and_keep_the_token(
    issued: World, error: OperatorError, reason: str, *, stalled: bool
) -> None:
    issued.kube.faults.fail("read_credentials", error)
    issued.kube.put_credentials()
    issued.pass_time(40 * MINUTE)

    issued.reconcile()

    assert issued.conditions()["Ready"] == ("True", "SecretSynced")
    assert issued.conditions()["Stalled"] == ("True", reason)
    assert len(issued.asset.requests) == 1

    issued.kube.faults.mend()
    issued.kube.put_credentials()
    issued.pass_time(SECOND)
    issued.reconcile()
    assert issued.conditions()["Issuing"] == ("False", "SecretSynced")
    assert access_token(issued) == "canary-access-token-2"


def test_credentials_that_cannot_be_read_now_are_tried_again_soon(issued: World) -> None:
    issued.kube.faults.fail("read_credentials", UNREACHABLE)
    issued.kube.put_credentials()
    issued.pass_time(40 * MINUTE)

    again = issued.reconcile()
    assert again is not None
    assert 4 * SECOND <= again - (NOW + 40 * MINUTE) <= 5 * SECOND
    assert access_token(issued) == "canary-access-token-1"

    issued.kube.faults.mend()
    issued.pass_time(5 * SECOND)
    issued.reconcile()
    assert access_token(issued) == "canary-access-token-2"


# Waiting for the tenant's budget


def test_a_token_that_has_to_wait_for_the_budget_says_so_after_half_a_minute_and_is_served_then(world: World) -> None:
    world.add()
    world.asset.faults.fail("request_token", a_refusal(429, retry_after="100"), times=1)

    assert world.reconcile() == NOW + 30 * SECOND
    assert world.conditions()["Issuing"] == ("True", "RateLimited")
    run(world, until=99 * SECOND)
    assert len(world.asset.requests) == 1

    run(world, until=105 * SECOND)
    assert len(world.asset.requests) == 2
    assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_another_token_of_the_same_tenant_waits_too_and_says_why(world: World) -> None:
    world.add()
    other = world.add(another())
    world.asset.faults.fail("request_token", a_refusal(429, retry_after="100"))
    world.reconcile()

    world.reconcile(other)
    assert len(world.asset.requests) == 1
    assert "Stalled" not in conditions_of(world, other)
    world.pass_time(30 * SECOND)
    world.reconcile(other)

    assert conditions_of(world, other) == {
        "Ready": ("False", "WaitingForBudget"),
        "Issuing": ("True", "WaitingForBudget"),
    }
    assert len(world.asset.requests) == 1


def test_a_token_that_waits_for_the_budget_is_written_again_if_its_secret_is_deleted(issued: World) -> None:
    other = issued.add(another())
    issued.asset.faults.fail("request_token", a_refusal(429, retry_after="1000"))
    issued.reconcile(other)
    issued.pass_time(40 * MINUTE)
    issued.asset.faults.fail("request_token", a_refusal(429, retry_after="1000"))
    issued.reconcile()
    issued.kube.secrets.clear()

    issued.reconcile()

    assert access_token(issued) == "canary-access-token-1"


def test_a_token_that_is_not_valid_yet_is_written_when_it_is(world: World) -> None:
    world.add()
    claims = {"nbf": NOW.timestamp() + 60, "exp": NOW.timestamp() + 3600}
    world.asset.access_token = a_jwt(claims)

    again = world.reconcile()

    assert again == NOW + MINUTE
    assert world.kube.secrets == {}
    world.pass_time(MINUTE)
    world.reconcile()
    assert len(world.asset.requests) == 1
    assert access_token(world) == a_jwt(claims)
    assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_a_secret_that_is_deleted_is_written_again_without_a_request_as_long_as_the_token_is_known(
    issued: World,
) -> None:
    issued.kube.secrets.clear()

    issued.reconcile()

    assert access_token(issued) == "canary-access-token-1"
    assert len(issued.asset.requests) == 1


@pytest.mark.parametrize("year", [1970, 2000, 2099, 9999], ids=str)
@pytest.mark.parametrize("status", [503, 200], ids=str)
def test_an_absurd_date_renews_no_good_token_early_and_none_too_late(issued: World, year: int, status: int) -> None:
    """Some box between answers with a clock of its own; what expires meanwhile must not depend on it."""
    other = issued.add(another())
    date = format_datetime(NOW.replace(year=year), usegmt=True)
    issued.asset.faults.fail("request_token", a_reply(status, date=date))
    issued.reconcile(other)
    requests = len(issued.asset.requests)

    issued.reconcile()
    assert len(issued.asset.requests) == requests, "it is good"
    assert issued.conditions()["Ready"] == ("True", "SecretSynced")

    issued.asset.faults.mend()
    issued.pass_time(renewal() - NOW)
    issued.reconcile()
    assert access_token(issued) != "canary-access-token-1", "it is due"


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iss": "https://api.getasset.com"}, id="issuer"),
        pytest.param({"aud": ["https://api.getasset.com/mcp"]}, id="audience"),
    ],
)
def test_a_token_of_the_wrong_environment_is_never_written_and_not_requested_in_a_loop(
    world: World, claims: dict[str, Any]
) -> None:
    world.add()
    world.asset.access_token = a_jwt(claims | {"exp": NOW.timestamp() + 3600})

    run(world, until=9 * MINUTE)

    assert world.kube.secrets == {}
    assert world.conditions()["Stalled"] == ("True", "WrongEnvironment")
    assert len(world.asset.requests) == 4, "at once, and after 1, 2 and 4 minutes"


def another() -> AssetToken:
    """Another AssetToken with the same credentials."""
    spec = a_spec(secret=SecretSpec("ledger-reader-token"))
    return an_asset_token(spec, key=Key("shop", "ledger-reader"), uid="another")


def conditions_of(world: World, token: AssetToken) -> dict[str, tuple[str, str]]:
    status = world.kube.asset_tokens[token.key].status
    return {found.type: (found.status, found.reason) for found in status.conditions or ()}


def run(world: World, until: timedelta, look: Callable[[], object] = lambda: None) -> None:
    """Let the operator run as its scheduler would, up to that moment; look whenever the world may have changed."""
    again = world.reconcile()
    while again is not None and (due := world.due(again)) <= NOW + until:
        look()
        if world.woken or again <= world.clock.now():
            again = world.reconcile()
            assert again is None or again > world.clock.now()
        else:
            world.pass_time(due - world.clock.now())


def test_an_outage_costs_one_status_write_a_minute_and_no_hammering(issued: World) -> None:
    issued.asset.faults.fail("request_token", UNAVAILABLE)
    issued.pass_time(40 * MINUTE)

    run(issued, until=HOUR + 30 * MINUTE)

    calls = issued.calls()
    assert calls.count("write_status") <= 52
    assert calls.count("apply_secret") == 0
    assert 10 + 4 * 30 <= len(issued.asset.requests) - 1 <= 60 + 5 * 30, "every 12 to 15 s once it has expired"
    assert issued.conditions()["Ready"] == ("False", "AssetUnavailable")
    assert [event.reason for event in issued.events.posted] == ["Issued", "AssetUnavailable"]


def test_broken_answers_cause_at_most_four_requests_a_minute(world: World) -> None:
    world.add()
    world.asset.expires_in = -1

    run(world, until=10 * MINUTE)

    assert len(world.asset.requests) <= 40
    assert world.kube.secrets == {}
    assert world.conditions()["Issuing"] == ("True", "BrokenAnswer")


def test_tokens_that_hardly_live_cause_at_most_four_requests_a_minute(world: World) -> None:
    world.add()
    world.asset.expires_in = 1

    run(world, until=10 * MINUTE)

    assert len(world.asset.requests) <= 44


def longest_gap(world: World, until: datetime) -> timedelta:
    """For how long consumers find no valid token, while the operator runs as its scheduler would, up to that moment."""
    longest, valid_at = timedelta(), world.clock.now()

    def look() -> None:
        nonlocal longest, valid_at
        now = world.clock.now()
        valid_at = max(valid_at, min(valid_until(world), now))
        longest = max(longest, now - valid_at)

    run(world, until - NOW, look)
    world.pass_time(until - world.clock.now())
    look()
    return longest


def valid_until(world: World) -> datetime:
    """When the token expires that consumers find; the beginning of time where they find none."""
    secret = world.secret()
    served = None if secret is None else stored_token(secret)
    return datetime.min.replace(tzinfo=NOW.tzinfo) if served is None else served.expires_at


REFUSED_AT_A_RENEWAL = [
    pytest.param(a_refusal(401, "invalid_client"), id="invalid_client"),
    pytest.param(a_reply(403, {"detail": "Forbidden"}), id="403"),
    pytest.param(a_reply(422, {"detail": []}), id="422"),
    pytest.param(a_refusal(403), id="a page of something in front"),
]


@pytest.mark.parametrize("minutes", [pytest.param(15, id="15 min"), pytest.param(30, id="30 min")])
@pytest.mark.parametrize("refusal", REFUSED_AT_A_RENEWAL)
def test_one_refusal_at_a_renewal_lets_no_token_expire(refusal: Reply, minutes: int) -> None:
    for number in range(10):
        world = World()
        world.add(an_asset_token(uid=f"uid-{number}"))
        world.asset.expires_in = minutes * 60
        world.reconcile()
        world.asset.faults.fail("request_token", refusal, 1)

        assert longest_gap(world, NOW + 3 * HOUR) == timedelta()
        assert len(world.asset.requests) >= 180 // minutes


def test_credentials_that_asset_accepts_only_after_20_seconds_renew_what_has_100_seconds_left(issued: World) -> None:
    issued.pass_time(HOUR - 100 * SECOND)
    issued.kube.put_credentials(replace(CREDENTIALS, client_secret=SecretStr("canary-rotated")))
    issued.asset.faults.fail("request_token", a_refusal(401, "invalid_client"))
    assert longest_gap(issued, issued.clock.now() + 20 * SECOND) == timedelta()
    issued.asset.faults.mend()

    assert longest_gap(issued, issued.clock.now() + 5 * MINUTE) == timedelta()
    assert issued.conditions()["Ready"] == ("True", "SecretSynced")


@pytest.mark.parametrize("begins", [pytest.param(2, id="before the renewal"), pytest.param(0, id="at once")])
def test_a_write_that_fails_for_12_of_15_minutes_is_made_before_the_old_token_expires(begins: int) -> None:
    for number in range(10):
        world = World()
        world.add(an_asset_token(uid=f"uid-{number}"))
        world.asset.expires_in = 15 * 60
        world.reconcile()
        world.pass_time(begins * MINUTE)
        world.kube.faults.fail("apply_secret", KubeRefusedError("denied", 403))
        assert longest_gap(world, world.clock.now() + 12 * MINUTE) == timedelta()
        world.kube.faults.mend()

        assert longest_gap(world, NOW + 15 * MINUTE + SECOND) == timedelta()
        assert len(world.asset.requests) == 2, "what is in hand isn't requested again"


def test_who_has_no_token_is_served_within_15_seconds_of_the_endpoints_return() -> None:
    for number in range(10):
        world = World()
        world.add(an_asset_token(uid=f"uid-{number}"))
        world.asset.faults.fail("request_token", UNAVAILABLE)
        longest_gap(world, NOW + 7 * MINUTE + number * SECOND)
        world.asset.faults.mend()

        longest_gap(world, world.clock.now() + 15 * SECOND)

        assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_renew_requests_twice_a_second_are_four_requests_a_minute_and_the_latest_is_served(issued: World) -> None:
    for number in range(120):
        issued.kube.put_token(replace(issued.token(), renew_request=str(number)))
        issued.reconcile()
        issued.pass_time(SECOND / 2)
    assert len(issued.asset.requests) <= 1 + 4

    run(issued, until=3 * MINUTE)

    assert len(issued.asset.requests) <= 1 + 4 + 1
    assert issued.token().status.last_handled_renew_request == "119"


def test_a_restart_while_failing_goes_on_with_the_back_off(issued: World) -> None:
    issued.asset.faults.fail("request_token", UNAVAILABLE)
    issued.pass_time(40 * MINUTE)
    run(issued, until=49 * MINUTE)
    requests = len(issued.asset.requests)

    issued.restart()
    issued.reconcile()

    assert len(issued.asset.requests) == requests


def test_an_error_that_nobody_expected_leaves_the_issued_token_in_memory(world: World) -> None:
    world.add()
    world.kube.faults.fail("apply_secret", RuntimeError("boom"), times=1)
    with pytest.raises(RuntimeError):
        world.reconcile()

    world.reconcile()

    assert len(world.asset.requests) == 1
    assert access_token(world) == "canary-access-token-1"


# What the operator can lose


def test_a_restart_requests_and_writes_nothing(issued: World) -> None:
    issued.restart()

    assert issued.reconcile() == renewal()

    assert issued.calls() == []
    assert len(issued.asset.requests) == 1


def test_a_restart_with_caches_that_lag_requests_nothing(issued: World) -> None:
    issued.restart()

    issued.sync_tokens()
    issued.reconcile(sync=False)

    assert issued.calls() == ["read_credentials", "read_secret"]
    assert len(issued.asset.requests) == 1


def test_a_wiped_status_is_written_again_once_without_a_request(issued: World) -> None:
    before = issued.token().status
    issued.kube.put_token(replace(issued.token(), status=NOT_SEEN_YET))

    issued.reconcile()
    issued.reconcile()

    assert issued.calls() == ["write_status"]
    assert issued.token().status == before


def test_a_wiped_status_is_written_again_after_a_restart(issued: World) -> None:
    issued.restart()
    issued.kube.put_token(replace(issued.token(), status=NOT_SEEN_YET))

    issued.reconcile()

    assert issued.calls() == ["read_credentials", "read_secret", "write_status"]
    assert issued.token().status.revision == 1


def test_its_own_writes_that_the_watch_has_not_told_yet_are_not_repeated(world: World) -> None:
    world.add()
    world.sync()
    world.reconcile(sync=False)
    world.calls()

    assert world.reconcile(sync=False) == renewal()

    assert world.calls() == []
    assert len(world.asset.requests) == 1


@pytest.mark.parametrize(
    "go",
    [
        pytest.param(lambda world: world.kube.asset_tokens.clear(), id="gone"),
        pytest.param(lambda world: world.kube.put_token(replace(world.token(), deleting=True)), id="going"),
    ],
)
def test_an_asset_token_that_goes_is_forgotten(issued: World, go: Callable[[World], object]) -> None:
    go(issued)
    issued.pass_time(40 * MINUTE)

    assert issued.reconcile() is None

    assert issued.calls() == []
    assert len(issued.asset.requests) == 1


def test_an_asset_token_that_is_gone_before_the_watch_says_so_costs_one_request_and_no_loop(issued: World) -> None:
    issued.sync()
    issued.kube.asset_tokens.clear()
    issued.pass_time(40 * MINUTE)

    assert issued.reconcile(sync=False) == issued.clock.now() + MINUTE
    assert len(issued.asset.requests) == 2
    issued.pass_time(MINUTE)
    assert issued.reconcile(sync=False) == issued.clock.now() + MINUTE
    assert len(issued.asset.requests) == 2

    assert issued.reconcile() is None, "now the watch has told"


def test_a_404_that_something_else_answered_loses_no_asset_token(issued: World) -> None:
    issued.pass_time(40 * MINUTE)
    issued.kube.faults.fail("write_status", NotFoundError("the API server refused with 404 NotFound.", 404), times=1)
    issued.reconcile()
    issued.pass_time(MINUTE)

    issued.reconcile()

    assert issued.token().status.revision == 2


def test_a_status_of_an_asset_token_that_was_changed_since_is_left_until_its_watch_tells(issued: World) -> None:
    issued.pass_time(40 * MINUTE)
    conflict = ConflictError("the API server refused with 409 Conflict.", 409)
    issued.kube.faults.fail("write_status", conflict)

    for _ in range(5):
        assert issued.reconcile(sync=False) == issued.clock.now() + MINUTE
        issued.pass_time(MINUTE)
    assert issued.calls().count("write_status") == 5

    issued.kube.faults.mend()
    issued.reconcile()
    assert issued.token().status.revision == 2


def test_an_asset_token_that_goes_while_its_scope_is_not_served_is_forgotten(issued: World) -> None:
    issued.scopes.asset_tokens_lost("", NotFoundError("no CRD", 404))
    assert issued.reconcile() is None
    assert issued.reconciler._memories  # noqa: SLF001 - what is kept shows nowhere else

    issued.kube.asset_tokens.clear()
    assert issued.reconcile() is None

    assert not issued.reconciler._memories  # noqa: SLF001 - as above


def test_credentials_that_could_not_be_read_when_they_changed_are_compared_when_they_can(issued: World) -> None:
    issued.kube.put_credentials(Credentials(SecretStr("client"), SecretStr("canary-rotated-secret")))
    issued.kube.faults.fail("read_credentials", FORBIDDEN)
    issued.reconcile()
    assert len(issued.asset.requests) == 1

    issued.kube.faults.mend()
    issued.reconcile()

    assert len(issued.asset.requests) == 2


def test_what_is_remembered_of_an_asset_token_is_not_taken_for_its_namesake(issued: World) -> None:
    issued.kube.secrets.clear()
    issued.add(an_asset_token(uid="another", status=NOT_SEEN_YET))

    issued.reconcile()

    assert len(issued.asset.requests) == 2
    assert issued.token().status.revision == 1


def test_a_state_of_a_deleted_namesake_that_comes_late_changes_nothing(world: World) -> None:
    token = world.add()
    world.sync()
    world.caches.saw_asset_token(replace(token, version=1, deleting=True))

    assert world.reconcile(sync=False) == renewal()


@pytest.mark.parametrize("change", ["created", "changed", "deleted"])
def test_a_write_that_came_too_late_is_decided_anew(world: World, change: str) -> None:
    """A former leader's, or one that a webhook held up: it carries what was seen, and nothing failed."""
    world.add()
    if change != "created":
        world.reconcile()
        world.pass_time(renewal() - NOW)

    def somebody(manifest: Any) -> None:
        world.kube.before_write = lambda _: None
        if change == "deleted":
            world.kube.secrets.clear()
        else:
            found = world.secret()
            world.kube.put_secret(a_secret(data={}) if found is None else replace(found, labels={}))

    world.kube.before_write = somebody
    before = len(world.asset.requests)
    world.reconcile()

    assert len(world.asset.requests) == before + 1
    assert access_token(world) == f"canary-access-token-{before + 1}"
    assert world.conditions()["Issuing"] == ("False", "SecretSynced")
    assert world.calls().count("apply_secret") == (2 if change == "created" else 3)


# Two that name one Secret


def two(world: World) -> tuple[AssetToken, AssetToken]:
    """An older and a younger AssetToken that name the same Secret."""
    older = world.add()
    younger = an_asset_token(key=Key("shop", "ledger-reader"), uid="younger", created=older.created + SECOND)
    return older, world.add(younger)


def test_of_two_that_name_one_secret_the_older_has_it_and_the_other_says_so(world: World) -> None:
    older, younger = two(world)

    for token in (younger, older, younger, older):
        world.reconcile(token)

    assert len(world.asset.requests) == 1
    assert world.secret() is not None
    assert world.secret().controller_uid == older.uid  # type: ignore[union-attr]
    status = world.kube.asset_tokens[younger.key].status
    assert [(found.type, found.reason) for found in status.conditions or ()] == [
        ("Ready", "SecretConflict"),
        ("Issuing", "SecretConflict"),
        ("Stalled", "SecretConflict"),
    ]
    assert "AssetToken ledger-writer is older" in status.to_json()["conditions"][0]["message"]


def test_one_that_yields_reads_nothing_and_rests(world: World) -> None:
    older, younger = two(world)
    world.reconcile(older)
    world.calls()

    again = world.reconcile(younger)
    assert world.calls() == ["write_status"]
    assert again == world.clock.now() + RECHECK_SENIOR
    world.pass_time(RECHECK_SENIOR)
    world.reconcile(younger)
    assert world.calls() == []


def test_of_two_that_were_created_in_one_second_the_name_decides(world: World) -> None:
    older, younger = two(world)
    world.kube.put_token(replace(younger, created=older.created))

    world.reconcile(older)
    world.reconcile(younger)

    assert world.secret() is not None
    assert world.secret().controller_uid == younger.uid  # type: ignore[union-attr]


def test_the_younger_has_the_secret_when_the_older_is_gone(world: World) -> None:
    older, younger = two(world)
    world.reconcile(older)
    world.reconcile(younger)
    del world.kube.asset_tokens[older.key]
    world.kube.secrets.clear()

    world.pass_time(15 * SECOND)
    world.reconcile(younger)

    assert world.kube.secrets[younger.secret_key].controller_uid == younger.uid


def test_an_older_one_that_comes_to_name_the_secret_takes_it_over(world: World) -> None:
    older, younger = two(world)
    world.kube.put_token(replace(older, spec=a_spec(secret=SecretSpec("elsewhere"))))
    world.reconcile(older)
    world.reconcile(younger)
    world.kube.put_token(replace(world.kube.asset_tokens[older.key], spec=a_spec(), generation=2))

    world.reconcile(older)
    world.reconcile(younger)

    assert world.kube.secrets[older.secret_key].controller_uid == older.uid


# What is logged


def test_no_token_and_no_credential_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.add()
    with caplog.at_level(logging.DEBUG):
        world.kube.faults.fail("apply_secret", UNREACHABLE, times=1)
        run(world, until=10 * MINUTE)
        world.asset.faults.fail("request_token", UNAVAILABLE)
        run(world, until=HOUR)
        world.kube.faults.fail("read_secret", NotFoundError("refused with 404 NotFound.", 404))
        run(world, until=2 * HOUR)

    assert "shop/ledger-writer" in caplog.text
    assert "canary" not in caplog.text


def test_a_token_in_memory_does_not_show_in_any_repr(issued: World) -> None:
    issued.sync()

    assert "canary" not in repr(issued.reconciler._memories)  # noqa: SLF001 - whatever is in memory
    assert "canary" not in repr(issued.caches)
    assert "canary" not in repr(an_issued_token())


def test_a_short_wait_for_the_budget_is_not_worth_a_status_write(world: World) -> None:
    first, second = world.add(), world.add(another())
    world.sync()
    seen = drive(world.issuer.read_credentials(world.issuer.observe(seen_of(first))))
    asked = world.issuer.acquire_slot(assess(seen, NOW))
    assert asked.slot is SlotState.GRANTED, "and it is in flight"
    world.calls()

    world.reconcile(second)
    assert "write_status" not in world.calls()

    world.pass_time(timedelta(seconds=1))
    world.reconcile(second)
    assert "write_status" not in world.calls()


def test_what_users_wait_for_is_told_also_during_a_short_wait_for_the_budget(world: World) -> None:
    """The spec has changed, so what the Secret holds isn't what is wanted any more; or the status was lost."""
    reset = str(int(NOW.timestamp()) + 20)
    world.asset.headers = {"x_ratelimit_limit": "300", "x_ratelimit_remaining": "0", "x_ratelimit_reset": reset}
    world.add()
    world.reconcile()

    change(world, scopes=("ledger:create",))
    world.reconcile()
    assert world.conditions()["Ready"] == world.conditions()["Issuing"] == ("False", "SpecChanged")
    assert world.token().status.observed_generation == 2

    change(world, scopes=("ledger:read",))
    world.kube.put_token(replace(world.token(), status=NOT_SEEN_YET, renew_request="1"))
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert world.token().status.observed_generation == 3
    assert len(world.asset.requests) == 1


@pytest.mark.parametrize("method", ["request_token", "apply_secret", "write_status"])
def test_an_operator_that_does_not_lead_any_more_leaves_everything_to_the_leader_and_notes_no_failure(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.add()
    faults = world.asset.faults if method == "request_token" else world.kube.faults
    faults.fail(method, NotLeadingError(), times=1)

    again = world.reconcile()

    assert again is not None
    assert world.conditions() == {}
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == []
    world.pass_time(again - world.clock.now())
    world.reconcile()
    assert world.conditions()["Ready"][0] == "True"
    assert len(world.asset.requests) == (2 if method == "request_token" else 1), "what was issued is kept"
    assert world.token().status.failed_attempts is None


def test_a_secret_that_was_gone_is_logged_as_such_and_the_write_of_a_new_token_is_not(
    issued: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    issued.kube.secrets.clear()
    issued.reconcile()
    issued.kube.put_token(replace(issued.token(), renew_request="now"))
    issued.reconcile()

    written = [line for line in caplog.records if line.name == "asset_token_operator.reconciler"]
    assert [line.getMessage() for line in written] == [
        "shop/ledger-writer: wrote Secret ledger-writer-token again, which was gone",
        "shop/ledger-writer: wrote Secret ledger-writer-token",
    ]


# What a review found


def test_credentials_that_come_back_while_old_secrets_are_read_cause_no_crash(world: World) -> None:
    """No slot was asked for while there were none, so there is none to send the request in."""
    world.add()
    world.reconcile()
    world.kube.put_secret(a_secret(name="earlier", controller_uid=None, uid="earlier"))
    world.restart()
    world.kube.credentials.clear()
    world.pass_time(50 * MINUTE)

    def go_and_come(_: object) -> None:
        world.kube.secrets.pop(world.token().secret_key, None)
        world.kube.put_credentials()

    world.kube.before_read_secret = go_and_come

    assert world.reconcile() is not None


def test_a_token_in_hand_is_not_lost_by_a_run_that_could_read_nothing(world: World) -> None:
    """Somebody edits the Secret's annotations and applies the credentials again; then the API server is away."""
    world.add()
    world.reconcile()
    world.pass_time(45 * MINUTE)
    world.kube.faults.fail("apply_secret", KubeRefusedError("denied", 403))
    world.reconcile()
    assert len(world.asset.requests) == 2
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(
        replace(secret, annotations={**secret.annotations, REVISION: "9", TOKEN_FINGERPRINT: "0" * 64})
    )
    world.kube.put_credentials()
    world.kube.faults.mend()
    world.kube.faults.fail("read_credentials", KubeUnavailableError("away"))
    world.kube.faults.fail("read_secret", KubeUnavailableError("away"))
    world.pass_time(MINUTE)
    world.reconcile()
    world.kube.faults.mend()
    world.pass_time(MINUTE)

    world.reconcile()

    assert len(world.asset.requests) == 2


def await_a_successor(world: World, owner: AssetToken) -> None:
    """Its token is renewed by one that works only in five minutes, and somebody puts a label on the Secret."""
    world.add(owner)
    world.reconcile()
    world.pass_time(45 * MINUTE)
    now = world.clock.now()
    later = int((now + 5 * MINUTE).timestamp())
    world.asset.access_token = a_jwt({"nbf": later, "iat": int(now.timestamp()), "exp": later + 3600})
    world.reconcile()
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(replace(secret, labels={**secret.labels, "of": "somebody"}))
    world.calls()


def test_a_secret_that_is_in_order_is_read_once_while_its_successor_works_later(world: World) -> None:
    await_a_successor(world, an_asset_token())

    for _ in range(4):
        world.pass_time(timedelta(seconds=20))
        world.reconcile()

    assert world.calls().count("read_secret") == 1


def test_a_served_token_is_believed_while_its_successor_works_later_though_the_credentials_go(world: World) -> None:
    await_a_successor(world, an_asset_token(retained()))
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")

    world.kube.credentials.clear()
    world.reconcile()

    assert world.conditions()["Ready"] == ("True", "SecretSynced")
