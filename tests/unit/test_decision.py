from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from asset_token_operator.decision import (
    Attempts,
    Blocked,
    Decision,
    Failure,
    Observed,
    Remove,
    Request,
    Wait,
    Write,
    decide,
)
from asset_token_operator.manifests import OWNER, REVISION, differs, secret_manifest, stored_token
from asset_token_operator.model import (
    MANAGED_BY_LABEL,
    AssetToken,
    DeletionPolicy,
    Environment,
    IssuedToken,
    Reason,
    SecretSpec,
    SecretState,
)
from tests.support.builders import (
    ENDPOINTS,
    NOW,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    observed,
    retained,
)

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def holding(token: IssuedToken, owner: AssetToken | None = None, **changes: Any) -> Observed:
    """What is observed of an AssetToken whose Secret holds the token."""
    owner = owner or an_asset_token()
    return observed(owner, **({"secret": a_secret(owner, token)} | changes))


def a_due_token(**changes: Any) -> IssuedToken:
    """A token that two thirds of an hour have passed of, by now."""
    return an_issued_token(issued_at=NOW - 40 * MINUTE, expires_at=NOW + 20 * MINUTE, **changes)


def failed_attempts(seen: Observed, *, at: datetime, failures: int = 1, stalled: bool = False) -> Attempts:
    """Attempts for the present cause, all of which failed."""
    failure = Failure(at, Reason.ASSET_UNAVAILABLE, "Asset answered 503.", stalled)
    return Attempts(seen.request_cause(), (at,), failures, failure)


# When a token is requested


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param(observed(), Reason.DOES_NOT_EXIST, id="no token"),
        pytest.param(
            holding(an_issued_token(a_spec()), an_asset_token(a_spec(scopes=("ledger:create",)))),
            Reason.SPEC_CHANGED,
            id="issued for another spec",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW)), Reason.EXPIRED, id="expired this second"
        ),
        pytest.param(holding(a_due_token()), Reason.RENEWING, id="two thirds of its life passed"),
        pytest.param(
            holding(an_issued_token(), an_asset_token(renew_request="1")),
            Reason.RENEW_REQUESTED,
            id="asked for by hand",
        ),
        pytest.param(
            holding(an_issued_token(renew_request="1"), an_asset_token(renew_request="2")),
            Reason.RENEW_REQUESTED,
            id="asked for by hand again",
        ),
        pytest.param(
            holding(an_issued_token(), an_asset_token(a_spec(renew_before=HOUR - SECOND)), held=None),
            None,
            id="renewBefore leaves a second",
        ),
        pytest.param(holding(an_issued_token()), None, id="new"),
        pytest.param(
            holding(an_issued_token(renew_request="1"), an_asset_token(renew_request="1")), None, id="served by hand"
        ),
        pytest.param(
            holding(an_issued_token(renew_request="1"), an_asset_token()), None, id="annotation removed after serving"
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - 39 * MINUTE, expires_at=NOW + 21 * MINUTE)), None, id="not yet due"
        ),
    ],
)
def test_requests_a_token_when_the_present_one_does_not_do(seen: Observed, reason: Reason | None) -> None:
    decision = decide(seen, NOW)

    assert decision == Request(reason) if reason else isinstance(decision, Wait)


@pytest.mark.parametrize(
    ("spec", "after"),
    [
        pytest.param(a_spec(), 40 * MINUTE, id="a third before by default"),
        pytest.param(a_spec(renew_before=15 * MINUTE), 45 * MINUTE, id="renewBefore"),
        pytest.param(a_spec(renew_before_percentage=50), 30 * MINUTE, id="renewBeforePercentage"),
        pytest.param(a_spec(renew_before=2 * HOUR), 40 * MINUTE, id="renewBefore longer than the lifetime"),
    ],
)
def test_waits_until_the_renewal_is_due_and_then_renews(spec: Any, after: timedelta) -> None:
    seen = holding(an_issued_token(spec), an_asset_token(spec))

    assert decide(seen, NOW) == Wait(NOW + after)
    assert decide(seen, NOW + after - SECOND) == Wait(NOW + after)
    assert decide(seen, NOW + after) == Request(Reason.RENEWING)


def test_looks_again_after_an_hour_even_if_the_token_lasts_for_days() -> None:
    seen = holding(an_issued_token(expires_at=NOW + timedelta(days=30)))

    assert decide(seen, NOW) == Wait(NOW + HOUR)


def test_a_changed_key_of_the_credentials_is_a_changed_spec() -> None:
    spec = a_spec()
    changed = a_spec(credentials=replace(spec.credentials, client_id_key="id"))

    assert decide(holding(an_issued_token(spec), an_asset_token(changed)), NOW) == Request(Reason.SPEC_CHANGED)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"renew_before": 10 * MINUTE}, id="renewBefore"),
        pytest.param({"scopes": ("b", "a")}, id="order of scopes"),
    ],
)
def test_what_does_not_change_the_request_requests_nothing(changes: dict[str, Any]) -> None:
    token = an_issued_token(a_spec(scopes=("a", "b")))

    assert isinstance(decide(holding(token, an_asset_token(a_spec(**({"scopes": ("a", "b")} | changes)))), NOW), Wait)


def test_a_spec_that_is_changed_back_is_served_by_the_token_it_had() -> None:
    owner = an_asset_token(a_spec(scopes=("ledger:read",)))
    other = an_issued_token(a_spec(scopes=("ledger:create",)), issued_at=NOW - SECOND, revision=2)
    first = an_issued_token(owner.spec, issued_at=NOW - MINUTE)

    decision = decide(holding(other, owner, held=first), NOW)

    assert isinstance(decision, Write)
    assert decision.manifest == secret_manifest(owner, first, ENDPOINTS)


# Suspended


@pytest.mark.parametrize(
    ("token", "renew_request"),
    [
        pytest.param(None, None, id="no token"),
        pytest.param(an_issued_token(a_spec(scopes=("other",))), None, id="issued for another spec"),
        pytest.param(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW), None, id="expired"),
        pytest.param(a_due_token(), None, id="due"),
        pytest.param(an_issued_token(), "1", id="asked for by hand"),
    ],
)
def test_requests_nothing_while_suspended_but_does_after_resuming(
    token: IssuedToken | None, renew_request: str | None
) -> None:
    suspended = an_asset_token(a_spec(suspend=True), renew_request=renew_request)
    secret = a_secret(suspended, token) if token else None
    seen = observed(suspended, secret=secret)

    assert isinstance(decide(seen, NOW), Wait)
    assert isinstance(decide(replace(seen, token=replace(suspended, spec=a_spec())), NOW), Request)


def test_repairs_drift_while_suspended() -> None:
    owner = an_asset_token(a_spec(suspend=True))
    secret = a_secret(owner, a_due_token())
    tampered = replace(secret, labels=secret.labels | {MANAGED_BY_LABEL: "someone"})

    assert_rewrites(decide(observed(owner, secret=tampered), NOW), tampered, owner, a_due_token())


def test_writes_a_deleted_secret_again_while_suspended() -> None:
    owner = an_asset_token(a_spec(suspend=True))

    assert isinstance(decide(observed(owner, held=an_issued_token()), NOW), Write)


# Drift


def assert_rewrites(decision: Decision, secret: SecretState, owner: AssetToken, token: IssuedToken) -> None:
    assert decision == Write(secret_manifest(owner, token, ENDPOINTS), secret.uid)


def altered(secret: SecretState, kind: str, name: str, value: str | None) -> SecretState:
    field = {"label": "labels", "annotation": "annotations", "data": "data"}[kind]
    values = {key: old for key, old in getattr(secret, field).items() if key != name}
    return replace(secret, **{field: values if value is None else values | {name: value}})


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param("label", MANAGED_BY_LABEL, None, id="label removed"),
        pytest.param("label", MANAGED_BY_LABEL, "someone", id="label altered"),
        *(
            pytest.param("annotation", name, value, id=f"{name.split('/')[1]} {'altered' if value else 'removed'}")
            for name in sorted(a_secret().annotations)
            for value in (None, "0")
        ),
        *(
            pytest.param("data", name, value, id=f"{name} {'altered' if value else 'removed'}")
            for name in sorted(a_secret().data)
            for value in (None, "Y2FuYXJ5")
        ),
    ],
)
def test_repairs_drift_with_the_token_that_is_held(kind: str, name: str, value: str | None) -> None:
    owner, token = an_asset_token(), an_issued_token()
    secret = altered(a_secret(owner, token), kind, name, value)

    assert_rewrites(decide(observed(owner, secret=secret, held=token), NOW), secret, owner, token)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(REVISION, "99", id="a higher revision"),
        pytest.param("auth.getasset.com/issuance-time", "2026-05-01T12:30:00Z", id="a later issuance"),
        pytest.param("auth.getasset.com/expiration-time", "2036-05-01T12:30:00Z", id="a later expiry"),
    ],
)
def test_an_annotation_that_says_more_than_the_held_token_is_drift(name: str, value: str) -> None:
    owner, token = an_asset_token(), an_issued_token()
    secret = altered(a_secret(owner, token), "annotation", name, value)

    assert_rewrites(decide(observed(owner, secret=secret, held=token), NOW), secret, owner, token)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param("label", MANAGED_BY_LABEL, None, id="label"),
        pytest.param("annotation", OWNER, "someone", id="owner annotation"),
        pytest.param("data", "authorization", None, id="derived key"),
    ],
)
def test_repairs_derived_drift_after_a_restart_without_a_request(kind: str, name: str, value: str | None) -> None:
    owner, token = an_asset_token(), an_issued_token()
    secret = altered(a_secret(owner, token), kind, name, value)

    assert_rewrites(decide(observed(owner, secret=secret), NOW), secret, owner, token)


def test_requests_once_when_the_token_itself_is_lost_over_a_restart() -> None:
    secret = altered(a_secret(), "data", "access_token", "Y2FuYXJ5")

    assert decide(observed(secret=secret), NOW) == Request(Reason.DOES_NOT_EXIST)


@pytest.mark.parametrize(
    ("secret_spec", "was"),
    [
        pytest.param(
            SecretSpec("ledger-writer-token", labels={"team": "ledger"}),
            SecretSpec("ledger-writer-token"),
            id="label added",
        ),
        pytest.param(
            SecretSpec("ledger-writer-token"),
            SecretSpec("ledger-writer-token", labels={"team": "x"}),
            id="label dropped",
        ),
        pytest.param(
            SecretSpec("ledger-writer-token", annotations={"a/b": "c"}),
            SecretSpec("ledger-writer-token"),
            id="annotation added",
        ),
        pytest.param(
            SecretSpec("ledger-writer-token"),
            SecretSpec("ledger-writer-token", annotations={"a/b": "c"}),
            id="annotation dropped",
        ),
        pytest.param(
            SecretSpec("ledger-writer-token", deletion_policy=DeletionPolicy.RETAIN),
            SecretSpec("ledger-writer-token"),
            id="retained from now on",
        ),
        pytest.param(
            SecretSpec("ledger-writer-token"),
            SecretSpec("ledger-writer-token", deletion_policy=DeletionPolicy.RETAIN),
            id="no longer retained",
        ),
    ],
)
def test_a_changed_look_of_the_secret_is_written_without_a_request(secret_spec: SecretSpec, was: SecretSpec) -> None:
    owner = an_asset_token(a_spec(secret=secret_spec))
    secret = a_secret(an_asset_token(a_spec(secret=was)), an_issued_token())

    assert_rewrites(decide(observed(owner, secret=secret), NOW), secret, owner, an_issued_token())


def test_a_moved_endpoint_is_written_without_a_request() -> None:
    moved = ENDPOINTS | {Environment.SANDBOX: "http://127.0.0.1:8080"}
    seen = holding(an_issued_token(), endpoints=moved)

    assert isinstance(decide(seen, NOW), Write)


def test_labels_and_keys_that_others_added_are_left_alone() -> None:
    secret = a_secret()
    decorated = replace(secret, labels=secret.labels | {"team": "ledger"}, data=secret.data | {"note": "aGk="})

    assert isinstance(decide(observed(secret=decorated), NOW), Wait)


def test_writes_a_deleted_secret_again_with_the_held_token() -> None:
    owner, token = an_asset_token(), an_issued_token()

    assert decide(observed(owner, held=token), NOW) == Write(secret_manifest(owner, token, ENDPOINTS), None)


def test_a_held_token_is_written_before_it_is_renewed() -> None:
    token = a_due_token()

    assert isinstance(decide(observed(held=token), NOW), Write)
    assert decide(holding(token, held=token), NOW) == Request(Reason.RENEWING)


def test_a_token_for_an_earlier_spec_stays_in_good_order_while_another_is_not_to_be_had() -> None:
    owner = an_asset_token(a_spec(environment=Environment.PRODUCTION))
    token = an_issued_token(a_spec())
    seen = observed(owner, held=token)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW))

    assert decide(seen, NOW) == Write(secret_manifest(owner, token, ENDPOINTS), None)


def test_an_expired_token_is_not_written_again() -> None:
    expired = an_issued_token(issued_at=NOW - HOUR, expires_at=NOW)

    assert decide(observed(held=expired), NOW) == Request(Reason.EXPIRED)


def test_a_newer_token_in_the_secret_wins_over_the_one_in_memory() -> None:
    newer = an_issued_token(access_token=SecretStr("canary-newer"), revision=2, expires_at=NOW + HOUR + SECOND)

    assert isinstance(decide(holding(newer, held=an_issued_token()), NOW), Wait)


def test_a_write_does_not_show_the_token() -> None:
    assert "canary" not in repr(decide(observed(held=an_issued_token()), NOW))


# secret.name changed


def renamed(policy: DeletionPolicy = DeletionPolicy.DELETE) -> tuple[AssetToken, SecretState]:
    """An AssetToken whose Secret has been renamed, and its Secret under the old name."""
    secret = SecretSpec("new-name", deletion_policy=policy)
    before = an_asset_token() if policy is DeletionPolicy.DELETE else an_asset_token(retained())
    return an_asset_token(a_spec(secret=secret)), a_secret(before, an_issued_token())


def test_writes_the_same_token_under_the_new_name_and_then_removes_the_old_secret() -> None:
    owner, old = renamed()
    manifest = secret_manifest(owner, an_issued_token(), ENDPOINTS)

    assert decide(observed(owner, others=(old,)), NOW) == Write(manifest, None)
    assert decide(holding(an_issued_token(), owner, others=(old,)), NOW) == Remove(old)
    assert decide(holding(an_issued_token(), owner), NOW) == Wait(NOW + 40 * MINUTE)


def test_leaves_the_old_secret_where_it_shall_be_retained() -> None:
    owner, old = renamed(DeletionPolicy.RETAIN)

    assert isinstance(decide(observed(owner, others=(old,)), NOW), Write)
    assert isinstance(decide(holding(an_issued_token(), owner, others=(old,)), NOW), Wait)


def test_keeps_the_old_secret_until_the_new_one_can_be_written() -> None:
    owner, old = renamed()
    seen = observed(owner, others=(old,))
    write = decide(seen, NOW)
    assert isinstance(write, Write)
    failure = Failure(NOW, Reason.CLUSTER_UNAVAILABLE, "no answer", stalled=False)
    seen = replace(seen, writes=Attempts(write.cause(), (NOW,), 1, failure))

    assert isinstance(decide(seen, NOW), Wait)


def test_keeps_the_old_secret_while_the_new_name_is_taken() -> None:
    owner, old = renamed()
    foreign = a_secret(owner, controller_uid=None, labels={}, annotations={})

    assert isinstance(decide(observed(owner, secret=foreign, others=(old,)), NOW), Blocked)


def test_renews_a_renamed_secret_under_its_new_name_only() -> None:
    owner, old = renamed()
    due = a_due_token()
    old = a_secret(owner, due, name=old.key.name)

    assert decide(holding(due, owner, others=(old,)), NOW) == Request(Reason.RENEWING)


# What isn't ours


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(a_secret(type="Opaque"), id="of another type"),
        pytest.param(a_secret(controller_uid="someone"), id="controlled by something else, but left behind by name"),
        pytest.param(a_secret(controller_uid="someone", annotations={}), id="controlled by something else"),
        pytest.param(a_secret(controller_uid=None, annotations={OWNER: "other"}), id="retained by another AssetToken"),
        pytest.param(a_secret(controller_uid=None, labels={}), id="without the label"),
    ],
)
@pytest.mark.parametrize("held", [pytest.param(None, id="nothing held"), pytest.param(an_issued_token(), id="held")])
def test_a_foreign_secret_is_never_written_and_nothing_is_requested(
    secret: SecretState, held: IssuedToken | None
) -> None:
    decision = decide(observed(secret=secret, held=held), NOW)

    assert isinstance(decision, Blocked)
    assert decision.until > NOW


def test_a_foreign_secret_stalls_and_the_message_says_what_to_do() -> None:
    decision = decide(observed(secret=a_secret(type="Opaque")), NOW)

    assert decision == Blocked(
        "Secret ledger-writer-token exists and does not belong to this AssetToken, so it is left alone;"
        " delete it or set another spec.secret.name.",
        stalled=True,
        until=NOW + timedelta(seconds=15),
    )


def test_the_secret_of_a_deleted_namesake_is_waited_for() -> None:
    decision = decide(observed(secret=a_secret(an_asset_token(uid="deleted"))), NOW)

    assert isinstance(decision, Blocked)
    assert not decision.stalled
    assert "garbage-collected" in decision.message


def test_starts_when_the_foreign_secret_is_gone() -> None:
    assert decide(observed(secret=None), NOW) == Request(Reason.DOES_NOT_EXIST)


def test_a_retained_secret_of_a_deleted_namesake_is_taken_on() -> None:
    owner = an_asset_token(retained(), uid="new")
    secret = a_secret(an_asset_token(retained(), uid="deleted"), an_issued_token())

    assert isinstance(decide(observed(owner, secret=secret), NOW), Wait)


# Two AssetTokens that name one Secret


def test_the_younger_of_two_that_name_one_secret_says_so() -> None:
    decision = decide(observed(senior="ledger-reader"), NOW)

    assert isinstance(decision, Blocked)
    assert decision.stalled
    assert decision.message == (
        "AssetToken ledger-reader is older and names Secret ledger-writer-token too;"
        " set another spec.secret.name in one of them."
    )


def test_the_older_of_two_takes_the_secret_of_the_younger() -> None:
    junior = an_asset_token(uid="junior", key=replace_name("ledger-reader"))
    secret = a_secret(junior, an_issued_token())

    decision = decide(observed(secret=secret, juniors=frozenset({"junior"})), NOW)

    assert_rewrites(decision, secret, an_asset_token(), an_issued_token())


def test_the_older_of_two_takes_the_retained_secret_of_the_younger() -> None:
    """Else both would wait for each other, and no one would renew the token that was good before."""
    junior = an_asset_token(retained(), uid="junior", key=replace_name("ledger-reader"))
    secret = a_secret(junior, an_issued_token())

    decision = decide(observed(an_asset_token(retained()), secret=secret, juniors=frozenset({"junior"})), NOW)

    assert isinstance(decision, Write)


def replace_name(name: str) -> Any:
    return an_asset_token().key._replace(name=name)


# Failures and limits


def test_waits_after_a_failure_and_then_tries_again() -> None:
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW))

    decision = decide(seen, NOW)

    assert isinstance(decision, Wait)
    assert NOW < decision.until <= NOW + 5 * SECOND
    assert decide(seen, decision.until) == Request(Reason.DOES_NOT_EXIST)


@pytest.mark.parametrize("failures", range(1, 13), ids="failures={}".format)
def test_a_row_of_failures_waits_at_most_five_minutes(failures: int) -> None:
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=failures))

    decision = decide(seen, NOW)

    assert isinstance(decision, Wait)
    assert NOW + SECOND <= decision.until <= NOW + min(5 * SECOND * 2 ** (failures - 1), 5 * MINUTE)


def test_the_wait_after_a_failure_does_not_hold_up_a_write() -> None:
    seen = observed(held=a_due_token())
    seen = replace(seen, requests=failed_attempts(seen, at=NOW))

    assert isinstance(decide(seen, NOW), Write)


def test_looks_again_when_the_token_expires_although_the_next_attempt_is_later() -> None:
    token = an_issued_token(issued_at=NOW - HOUR, expires_at=NOW + SECOND)
    seen = holding(token)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=12))

    assert decide(seen, NOW) == Wait(NOW + SECOND)


@pytest.mark.parametrize("failures", range(1, 13), ids="failures={}".format)
def test_tries_again_before_the_token_expires(failures: int) -> None:
    """Retries come sooner as expiry nears: an outage that ends a minute before it must leave no gap."""
    token = an_issued_token(issued_at=NOW - HOUR, expires_at=NOW + MINUTE)
    seen = holding(token)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=failures))

    assert decide(seen, token.expires_at - SECOND) == Request(Reason.RENEWING)


def test_a_refused_request_is_not_repeated_within_a_minute() -> None:
    """It waits for the credentials or the spec to change, with a slow probe."""
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, stalled=True))

    assert isinstance(decide(seen, NOW + 59 * SECOND), Wait)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(an_asset_token(a_spec(scopes=("ledger:create",))), id="spec"),
        pytest.param(an_asset_token(renew_request="1"), id="renew request"),
    ],
)
def test_a_new_cause_is_tried_at_once_after_failures(changed: AssetToken) -> None:
    seen = observed()
    attempts = failed_attempts(seen, at=NOW, failures=12)

    assert isinstance(decide(observed(changed, requests=attempts), NOW), Request)


def test_at_most_four_requests_a_minute_for_one_cause_whatever_they_end_with() -> None:
    seen = observed()
    attempts = Attempts()
    for second in range(4):
        assert isinstance(decide(replace(seen, requests=attempts), NOW + second * SECOND), Request)
        attempts = attempts.begin(seen.request_cause(), NOW + second * SECOND).succeeded()

    seen = replace(seen, requests=attempts)
    decision = decide(seen, NOW + 4 * SECOND)
    assert isinstance(decision, Wait)
    assert NOW + MINUTE <= decision.until <= NOW + MINUTE + 5 * SECOND
    assert isinstance(decide(seen, NOW + MINUTE - SECOND), Wait)
    assert isinstance(decide(seen, decision.until), Request)


def test_the_same_content_is_written_at_most_ten_times_in_ten_minutes() -> None:
    seen = observed(held=an_issued_token())
    for second in range(10):
        write = decide(seen, NOW + second * SECOND)
        assert isinstance(write, Write)
        seen = replace(seen, writes=seen.writes.begin(write.cause(), NOW + second * SECOND).succeeded())

    assert decide(seen, NOW + 10 * SECOND) == Wait(NOW + 10 * MINUTE)
    assert isinstance(decide(seen, NOW + 10 * MINUTE), Write)


def test_other_content_is_written_at_once_although_the_limit_is_used_up() -> None:
    seen = observed(held=an_issued_token())
    write = decide(seen, NOW)
    assert isinstance(write, Write)
    seen = replace(seen, writes=Attempts(write.cause(), (NOW,) * 10))

    assert isinstance(decide(seen, NOW), Wait)
    assert isinstance(decide(replace(seen, held=an_issued_token(revision=2)), NOW), Write)


def test_a_used_up_write_limit_does_not_hold_up_the_renewal() -> None:
    due = a_due_token()
    seen = observed(held=due)
    write = decide(seen, NOW)
    assert isinstance(write, Write)

    assert isinstance(decide(replace(seen, writes=Attempts(write.cause(), (NOW,) * 10)), NOW), Request)


@pytest.mark.parametrize("ahead", [HOUR, timedelta(days=365)], ids=["an hour", "a year"])
def test_a_failure_from_before_the_clock_was_set_back_holds_nothing_up(ahead: timedelta) -> None:
    """The clock is not trusted: a token must not expire because of a moment that never was."""
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW + ahead))

    assert isinstance(decide(seen, NOW + 10 * MINUTE), Request)


# Attempts


def test_a_success_ends_the_row_of_failures_but_still_counts() -> None:
    failure = Failure(NOW, Reason.BROKEN_ANSWER, "broken", stalled=False)
    attempts = Attempts().begin("cause", NOW).failed(failure).begin("cause", NOW + MINUTE).succeeded()

    assert attempts == Attempts("cause", (NOW, NOW + MINUTE))


def test_attempts_for_a_new_cause_start_from_none() -> None:
    failure = Failure(NOW, Reason.BROKEN_ANSWER, "broken", stalled=False)

    assert Attempts().begin("one", NOW).failed(failure).begin("two", NOW) == Attempts("two", (NOW,))


def test_only_the_latest_attempts_are_kept() -> None:
    attempts = Attempts()
    for second in range(100):
        attempts = attempts.begin("cause", NOW + second * SECOND)

    assert attempts.times == tuple(NOW + second * SECOND for second in range(90, 100))


def test_what_the_secret_of_another_holds_is_not_taken_for_ours() -> None:
    seen = observed(secret=a_secret(type="Opaque"))

    assert seen.stored() is None
    assert seen.current() is None


def test_the_written_secret_is_what_was_wanted() -> None:
    owner, token = an_asset_token(), an_issued_token()
    secret = a_secret(owner, token)

    assert stored_token(secret) == token
    assert not differs(secret, secret_manifest(owner, token, ENDPOINTS))
