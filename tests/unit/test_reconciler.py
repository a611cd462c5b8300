import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator.asset_client import AssetClient
from asset_token_operator.errors import (
    AssetUnavailableError,
    BrokenAnswerError,
    CredentialsInvalidError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    OperatorError,
    RateLimitedError,
    RequestRefusedError,
)
from asset_token_operator.kube import KubeClient
from asset_token_operator.manifests import stored_token
from asset_token_operator.model import AssetToken, Key, SecretSpec
from tests.support.builders import CREDENTIALS, NOW, a_secret, a_spec, an_asset_token, an_issued_token, retained
from tests.support.fakes import FakeAssetClient, FakeKubeClient, World

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

FIRST_ISSUE = ["read_secret", "read_credentials", "apply_secret", "apply_status", "create_event"]
RENEWAL = ["read_secret", "read_credentials", "apply_secret", "apply_status"]

UNREACHABLE = KubeUnavailableError("no answer from the API server.")
FORBIDDEN = KubeRefusedError("the API server refused with 403 Forbidden.", 403)


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
    return token.access_token.get_secret_value()


@pytest.mark.parametrize(
    ("fake", "real"),
    [pytest.param(FakeKubeClient, KubeClient, id="kube"), pytest.param(FakeAssetClient, AssetClient, id="asset")],
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
    assert again == NOW + 40 * MINUTE
    assert access_token(world) == "canary-access-token-1"
    assert world.conditions() == {
        "Ready": ("True", "SecretSynced"),
        "Issuing": ("False", "SecretSynced"),
        "ScopesGranted": ("True", "AllGranted"),
    }
    assert [event.reason for event in world.kube.events] == ["Issued"]


def test_nothing_is_called_when_nothing_is_needed(issued: World) -> None:
    for minutes in (0, 1, 39):
        issued.pass_time(NOW + minutes * MINUTE - issued.clock.now())
        assert issued.reconcile() == NOW + 40 * MINUTE

    assert issued.calls() == []


def test_a_renewal_makes_two_writes_and_no_event(issued: World) -> None:
    issued.pass_time(40 * MINUTE)

    assert issued.reconcile() == NOW + 80 * MINUTE

    assert issued.calls() == RENEWAL
    assert access_token(issued) == "canary-access-token-2"
    assert issued.token().status["revision"] == 2


def test_a_token_is_renewed_for_weeks_without_more_than_two_writes_each(issued: World) -> None:
    for number in range(1, 500):
        issued.pass_time(40 * MINUTE)
        assert issued.reconcile() == NOW + (number + 1) * 40 * MINUTE

    assert issued.calls() == RENEWAL * 499
    assert len(issued.token().status["history"]) == 10


def test_a_renew_request_is_served_once(issued: World) -> None:
    issued.kube.put_token(replace(issued.token(), renew_request="1"))

    for _ in range(3):
        issued.reconcile()

    assert len(issued.asset.requests) == 2
    assert issued.token().status["lastHandledRenewRequest"] == "1"


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
    assert issued.token().status["observedGeneration"] == 2


def test_a_renamed_secret_moves_without_a_request(issued: World) -> None:
    old = issued.token().secret_key
    change(issued, secret=SecretSpec("new-name"))

    issued.reconcile()

    assert issued.calls() == ["read_secret", "apply_secret", "delete_secret", "apply_status"]
    assert set(issued.kube.secrets) == {Key("shop", "new-name")}
    assert old not in issued.kube.secrets
    assert access_token(issued) == "canary-access-token-1"
    assert issued.token().status["secretName"] == "new-name"


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

    assert issued.calls() == ["read_secret", "apply_secret"]
    assert access_token(issued) == "canary-access-token-1"


def test_a_tampered_secret_is_put_right_without_a_request(issued: World) -> None:
    secret = issued.secret()
    assert secret is not None
    issued.kube.put_secret(replace(secret, data=secret.data | {"access_token": "Y2FuYXJ5", "authorization": "eA=="}))

    issued.reconcile()

    assert issued.calls() == ["read_secret", "apply_secret"]
    assert access_token(issued) == "canary-access-token-1"


def test_a_war_over_a_secret_ends_in_waiting(issued: World) -> None:
    for _ in range(15):
        issued.kube.secrets.clear()
        again = issued.reconcile()

    assert issued.calls().count("apply_secret") == 9, "and the first write makes ten"
    assert again == NOW + 10 * MINUTE
    assert len(issued.asset.requests) == 1


def test_a_war_over_a_secret_is_told_by_one_event(issued: World) -> None:
    for _ in range(15):
        issued.kube.secrets.clear()
        issued.reconcile()

    assert len(issued.kube.events) == 2, "the first issue and the war"


# What goes wrong


def test_a_token_whose_secret_could_not_be_written_is_not_requested_again(world: World) -> None:
    world.add()
    world.kube.faults.fail("apply_secret", UNREACHABLE, times=1)

    again = world.reconcile()

    assert again is not None
    assert NOW < again <= NOW + 5 * SECOND
    assert world.conditions() == {"Ready": ("False", "DoesNotExist"), "Issuing": ("True", "ClusterUnavailable")}

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
    world.kube.faults.fail("apply_status", error, times=1)

    assert world.reconcile() == NOW + 5 * SECOND

    world.calls()
    world.pass_time(5 * SECOND)
    world.reconcile()
    assert "apply_status" in world.calls()
    assert len(world.asset.requests) == 1
    assert world.conditions()["Ready"] == ("True", "SecretSynced")


def test_the_first_issue_is_told_even_if_the_status_could_not_be_written_at_first(world: World) -> None:
    world.add()
    world.kube.faults.fail("apply_status", UNREACHABLE, times=1)
    world.reconcile()

    world.pass_time(5 * SECOND)
    world.reconcile()

    assert [event.reason for event in world.kube.events] == ["Issued"]


def test_an_event_that_could_not_be_posted_does_no_harm(world: World) -> None:
    world.add()
    world.kube.faults.fail("create_event", FORBIDDEN)

    assert world.reconcile() == NOW + 5 * SECOND
    world.calls()
    world.pass_time(5 * SECOND)
    assert world.reconcile() == NOW + 40 * MINUTE
    assert world.calls() == []


def test_a_secret_that_cannot_be_read_requests_nothing(world: World) -> None:
    world.add()
    world.kube.faults.fail("read_secret", UNREACHABLE)

    assert world.reconcile() == NOW + 5 * SECOND

    assert world.calls() == ["read_secret"]
    assert world.asset.requests == []


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
        "Ready": ("False", "DoesNotExist"),
        "Issuing": ("True", "SecretConflict"),
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
    assert world.calls() == ["read_secret", "apply_status", "create_event"]
    world.pass_time(15 * SECOND)
    world.reconcile()
    assert "apply_status" not in world.calls()
    assert world.secret() == foreign
    assert world.asset.requests == []

    world.kube.secrets.clear()
    world.pass_time(15 * SECOND)
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert [event.reason for event in world.kube.events] == ["SecretConflict", "Issued"]


def test_missing_credentials_are_said_and_served_once_they_are_there(world: World) -> None:
    world.add()
    world.kube.credentials.clear()

    again = world.reconcile()

    assert again is not None
    assert world.calls() == ["read_secret", "read_credentials", "apply_status", "create_event"]
    assert world.asset.requests == []
    assert world.conditions() == {
        "Ready": ("False", "DoesNotExist"),
        "Issuing": ("True", "CredentialsNotFound"),
        "Stalled": ("True", "CredentialsNotFound"),
    }

    world.kube.credentials[Key("shop", "asset-credentials")] = CREDENTIALS
    world.pass_time(again - NOW)
    world.reconcile()
    assert world.conditions()["Ready"] == ("True", "SecretSynced")
    assert "Stalled" not in world.conditions()


@pytest.mark.parametrize(
    ("method", "error", "stalled"),
    [
        pytest.param("request_token", RequestRefusedError("refused"), True, id="refused"),
        pytest.param("request_token", AssetUnavailableError("unavailable"), False, id="unavailable"),
        pytest.param("request_token", RateLimitedError("rate limited"), False, id="rate limited"),
        pytest.param("request_token", BrokenAnswerError("broken"), False, id="broken"),
        pytest.param("read_credentials", CredentialsInvalidError("no key"), True, id="credentials invalid"),
        pytest.param("read_credentials", UNREACHABLE, False, id="cluster unavailable"),
        pytest.param("read_credentials", FORBIDDEN, False, id="cluster refused"),
    ],
)
def test_a_failing_renewal_says_why_and_keeps_the_token(
    issued: World,
    method: str,
    error: OperatorError,
    *,
    stalled: bool,
) -> None:
    faults = issued.asset.faults if method == "request_token" else issued.kube.faults
    faults.fail(method, error)
    issued.pass_time(40 * MINUTE)

    issued.reconcile()

    assert issued.conditions() == {
        "Ready": ("True", "SecretSynced"),
        "Issuing": ("True", error.reason),
        "ScopesGranted": ("True", "AllGranted"),
    } | ({"Stalled": ("True", error.reason)} if stalled else {})
    assert access_token(issued) == "canary-access-token-1"
    assert [event.reason for event in issued.kube.events] == ["Issued", error.reason]

    faults.mend()
    issued.pass_time(5 * MINUTE)
    issued.reconcile()
    assert issued.conditions()["Issuing"] == ("False", "SecretSynced")
    assert [event.reason for event in issued.kube.events] == ["Issued", error.reason, "Recovered"]


def run(world: World, until: timedelta) -> None:
    """Let the operator run as its scheduler would, up to that moment."""
    again = world.reconcile()
    while again is not None and again <= NOW + until:
        assert again > world.clock.now()
        world.pass_time(again - world.clock.now())
        again = world.reconcile()


def test_an_outage_costs_one_status_write_a_minute_and_no_hammering(issued: World) -> None:
    issued.asset.faults.fail("request_token", AssetUnavailableError("Asset answered 503."))
    issued.pass_time(40 * MINUTE)

    run(issued, until=HOUR + 30 * MINUTE)

    calls = issued.calls()
    assert calls.count("apply_status") <= 52
    assert calls.count("apply_secret") == 0
    assert 10 <= len(issued.asset.requests) - 1 <= 60
    assert issued.conditions()["Ready"] == ("False", "Expired")
    assert calls.count("create_event") == 1


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


def test_a_restart_while_failing_goes_on_with_the_back_off(issued: World) -> None:
    issued.asset.faults.fail("request_token", AssetUnavailableError("Asset answered 503."))
    issued.pass_time(40 * MINUTE)
    run(issued, until=50 * MINUTE)
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

    assert issued.reconcile() == NOW + 40 * MINUTE

    assert issued.calls() == []
    assert len(issued.asset.requests) == 1


def test_a_restart_with_caches_that_lag_requests_nothing(issued: World) -> None:
    issued.restart()
    issued.caches.secrets, issued.caches.owned = {}, {}

    issued.sync_tokens()
    issued.reconcile(sync=False)

    assert issued.calls() == ["read_secret"]
    assert len(issued.asset.requests) == 1


def test_a_wiped_status_is_written_again_once_without_a_request(issued: World) -> None:
    before = issued.token().status
    issued.kube.put_token(replace(issued.token(), status={"observedGeneration": -1}))

    issued.reconcile()
    issued.reconcile()

    assert issued.calls() == ["apply_status"]
    assert issued.token().status == before


def test_a_wiped_status_is_written_again_after_a_restart(issued: World) -> None:
    issued.restart()
    issued.kube.put_token(replace(issued.token(), status={"observedGeneration": -1}))

    issued.reconcile()

    assert issued.calls() == ["apply_status"]
    assert issued.token().status["revision"] == 1


def test_its_own_writes_that_the_watch_has_not_told_yet_are_not_repeated(world: World) -> None:
    world.add()
    world.sync()
    world.reconcile(sync=False)
    world.calls()

    assert world.reconcile(sync=False) == NOW + 40 * MINUTE

    assert world.calls() == ["read_secret"]
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


def test_an_asset_token_that_is_gone_before_the_watch_says_so_is_forgotten(issued: World) -> None:
    issued.sync()
    issued.kube.asset_tokens.clear()
    issued.pass_time(40 * MINUTE)

    assert issued.reconcile(sync=False) is None


def test_what_is_remembered_of_an_asset_token_is_not_taken_for_its_namesake(issued: World) -> None:
    issued.kube.secrets.clear()
    issued.add(an_asset_token(uid="another", status={"observedGeneration": -1}))

    issued.reconcile()

    assert len(issued.asset.requests) == 2
    assert issued.token().status["revision"] == 1


def test_a_cache_that_still_holds_a_deleted_namesake_is_read_by_its_latest_state(world: World) -> None:
    token = world.add()
    world.sync()
    world.caches.tokens = {token.key: (token, replace(token, version=1, deleting=True))}

    assert world.reconcile(sync=False) == NOW + 40 * MINUTE


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
    assert [(found["type"], found["reason"]) for found in status["conditions"]] == [
        ("Ready", "SecretConflict"),
        ("Issuing", "SecretConflict"),
        ("Stalled", "SecretConflict"),
    ]
    assert "AssetToken ledger-writer is older" in status["conditions"][0]["message"]


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
        world.asset.faults.fail("request_token", AssetUnavailableError("Asset answered 503."))
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
