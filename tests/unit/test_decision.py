from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from asset_token_operator.assess import assess
from asset_token_operator.attempts import Attempts, Failure, failure_of
from asset_token_operator.decision import (
    ApplySecret,
    Decision,
    DeleteOldSecret,
    RequestToken,
    SecretConflict,
    Wait,
    decide,
)
from asset_token_operator.errors import RECOVERIES, KubeRefusedError
from asset_token_operator.evidence import Evidence
from asset_token_operator.manifests import OWNER, REVISION, differs, secret_manifest, stored_token
from asset_token_operator.model import (
    MANAGED_BY_LABEL,
    AssetToken,
    Credentials,
    DeletionPolicy,
    Environment,
    IssuedToken,
    Rival,
    SecretSpec,
    SecretState,
    Urgency,
    digest,
)
from asset_token_operator.observed import NEVER, Observed, Skews, SlotState, Synced
from asset_token_operator.reasons import Reason, Recovery
from asset_token_operator.renewal import renewal_time
from tests.support.builders import (
    CREDENTIALS,
    ENDPOINTS,
    NOW,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    data_of,
    observed,
    retained,
)

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

DUE = renewal_time(an_issued_token(), a_spec(), an_asset_token().uid) - NOW
"""How long after its issue a token of an hour is renewed by default."""


def holding(token: IssuedToken, owner: AssetToken | None = None, **changes: Any) -> Observed:
    """What is observed of an AssetToken whose Secret holds the token."""
    owner = owner or an_asset_token()
    return observed(owner, **({"secret": a_secret(owner, token)} | changes))


def a_due_token(**changes: Any) -> IssuedToken:
    """A token that two thirds of an hour have passed of, by now."""
    times = {"issued_at": NOW - 40 * MINUTE, "expires_at": NOW + 20 * MINUTE}
    return an_issued_token(**(times | changes))


def a_write(manifest: dict[str, Any], uid: str | None) -> ApplySecret:
    return ApplySecret(manifest, digest(str(manifest)), uid)


def decided(seen: Observed, now: datetime) -> Decision:
    return decide(assess(seen, now))


def until(decision: Decision) -> datetime:
    """Until when it waits."""
    assert isinstance(decision, Wait)
    return decision.until


def failed_attempts(
    seen: Observed, *, at: datetime, failures: int = 1, reason: Reason = Reason.ASSET_UNAVAILABLE
) -> Attempts:
    """Attempts for the present cause, all of which failed."""
    failure = Failure(at, reason, "It failed.")
    return Attempts(seen.request_cause, (at,), failures, failure)


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
            holding(an_issued_token(), an_asset_token(a_spec(renew_before=HOUR - SECOND))),
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
            holding(an_issued_token(issued_at=NOW - DUE + SECOND, expires_at=NOW - DUE + SECOND + HOUR)),
            None,
            id="not yet due",
        ),
        pytest.param(holding(an_issued_token(), credentials=CREDENTIALS), None, id="issued with the same credentials"),
        pytest.param(
            holding(
                an_issued_token(),
                last_issued=an_issued_token(),
                credentials=replace(CREDENTIALS, client_secret=SecretStr("rotated")),
            ),
            Reason.CREDENTIALS_CHANGED,
            id="credentials rotated",
        ),
        pytest.param(
            holding(
                an_issued_token(),
                last_issued=an_issued_token(),
                credentials=replace(CREDENTIALS, client_id=SecretStr("other")),
            ),
            Reason.CREDENTIALS_CHANGED,
            id="credentials of another client",
        ),
    ],
)
def test_requests_a_token_when_the_present_one_does_not_do(seen: Observed, reason: Reason | None) -> None:
    decision = decided(seen, NOW)

    assert decision == RequestToken(reason) if reason else isinstance(decision, Wait)


@pytest.mark.parametrize(
    ("spec", "latest"),
    [
        pytest.param(a_spec(), 40 * MINUTE, id="a third before by default"),
        pytest.param(a_spec(renew_before=15 * MINUTE), 45 * MINUTE, id="renewBefore"),
        pytest.param(a_spec(renew_before_percentage=50), 30 * MINUTE, id="renewBeforePercentage"),
        pytest.param(a_spec(renew_before=2 * HOUR), 40 * MINUTE, id="renewBefore longer than the lifetime"),
    ],
)
def test_waits_until_the_renewal_is_due_and_then_renews(spec: Any, latest: timedelta) -> None:
    """Spreading moves a renewal earlier by up to a tenth, never later."""
    seen = holding(an_issued_token(spec), an_asset_token(spec))
    after = renewal_time(an_issued_token(spec), spec, seen.owner.uid) - NOW

    assert 0.9 * latest <= after <= latest
    assert decided(seen, NOW) == Wait(NOW + after)
    assert decided(seen, NOW + after - SECOND) == Wait(NOW + after)
    assert decided(seen, NOW + after) == RequestToken(Reason.RENEWING)


def test_looks_again_after_an_hour_even_if_the_token_lasts_for_days() -> None:
    seen = holding(an_issued_token(expires_at=NOW + timedelta(days=30)))

    assert decided(seen, NOW) == Wait(NOW + HOUR)


def test_a_changed_key_of_the_credentials_is_a_changed_spec() -> None:
    spec = a_spec()
    changed = a_spec(credentials=replace(spec.credentials, client_id_key="id"))

    assert decided(holding(an_issued_token(spec), an_asset_token(changed)), NOW) == RequestToken(Reason.SPEC_CHANGED)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"renew_before": 10 * MINUTE}, id="renewBefore"),
        pytest.param({"scopes": ("b", "a")}, id="order of scopes"),
    ],
)
def test_what_does_not_change_the_request_requests_nothing(changes: dict[str, Any]) -> None:
    token = an_issued_token(a_spec(scopes=("a", "b")))

    assert isinstance(decided(holding(token, an_asset_token(a_spec(**({"scopes": ("a", "b")} | changes)))), NOW), Wait)


def test_a_spec_that_is_changed_back_is_served_by_the_token_it_had() -> None:
    owner = an_asset_token(a_spec(scopes=("ledger:read",)))
    other = an_issued_token(a_spec(scopes=("ledger:create",)), issued_at=NOW - SECOND, revision=2)
    first = an_issued_token(owner.spec, issued_at=NOW - MINUTE)

    decision = decided(holding(other, owner, last_issued=first), NOW)

    assert isinstance(decision, ApplySecret)
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

    assert isinstance(decided(seen, NOW), Wait)
    assert isinstance(decided(replace(seen, owner=replace(suspended, spec=a_spec())), NOW), RequestToken)


def test_repairs_drift_while_suspended() -> None:
    owner = an_asset_token(a_spec(suspend=True))
    secret = a_secret(owner, a_due_token())
    tampered = replace(secret, labels={**secret.labels, MANAGED_BY_LABEL: "someone"})

    assert_rewrites(decided(observed(owner, secret=tampered), NOW), tampered, owner, a_due_token())


def test_writes_a_deleted_secret_again_while_suspended() -> None:
    owner = an_asset_token(a_spec(suspend=True))

    assert isinstance(decided(observed(owner, last_issued=an_issued_token()), NOW), ApplySecret)


# Drift


def assert_rewrites(decision: Decision, secret: SecretState, owner: AssetToken, token: IssuedToken) -> None:
    assert decision == a_write(secret_manifest(owner, token, ENDPOINTS), secret.uid)


def altered(secret: SecretState, kind: str, name: str, value: str | None) -> SecretState:
    field = {"label": "labels", "annotation": "annotations", "data": "data"}[kind]
    values = {key: old for key, old in getattr(secret, field).items() if key != name}
    change: dict[str, Any] = {field: values if value is None else values | {name: value}}
    return replace(secret, **change)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        pytest.param("label", MANAGED_BY_LABEL, None, id="label removed"),
        pytest.param("label", MANAGED_BY_LABEL, "someone", id="label altered"),
        *(
            pytest.param("annotation", name, value, id=f"{name.split('/')[1]} {'altered' if value else 'removed'}")
            for name in sorted(a_secret().annotations)
            for value in (None, "7")
        ),
        *(
            pytest.param("data", name, value, id=f"{name} {'altered' if value else 'removed'}")
            for name in sorted(data_of(a_secret()))
            for value in (None, "Y2FuYXJ5")
        ),
    ],
)
def test_repairs_drift_with_the_token_that_is_held(kind: str, name: str, value: str | None) -> None:
    owner, token = an_asset_token(), an_issued_token()
    secret = altered(a_secret(owner, token), kind, name, value)

    assert_rewrites(decided(observed(owner, secret=secret, last_issued=token), NOW), secret, owner, token)


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

    assert_rewrites(decided(observed(owner, secret=secret, last_issued=token), NOW), secret, owner, token)


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

    assert_rewrites(decided(observed(owner, secret=secret), NOW), secret, owner, token)


def test_requests_once_when_the_token_itself_is_lost_over_a_restart() -> None:
    secret = altered(a_secret(), "data", "access_token", "Y2FuYXJ5")

    assert decided(observed(secret=secret), NOW) == RequestToken(Reason.DOES_NOT_EXIST)


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

    decision = decided(observed(owner, secret=secret, credentials=CREDENTIALS), NOW)

    assert_rewrites(decision, secret, owner, an_issued_token())


def test_a_moved_endpoint_is_written_without_a_request() -> None:
    moved = ENDPOINTS | {Environment.SANDBOX: "http://127.0.0.1:8080"}
    seen = holding(an_issued_token(), endpoints=moved)

    assert isinstance(decided(seen, NOW), ApplySecret)


def test_labels_and_keys_that_others_added_are_left_alone() -> None:
    secret = a_secret()
    decorated = replace(secret, labels={**secret.labels, "team": "ledger"}, data={**data_of(secret), "note": "aGk="})

    assert isinstance(decided(observed(secret=decorated), NOW), Wait)


def test_writes_a_deleted_secret_again_with_the_held_token() -> None:
    owner, token = an_asset_token(), an_issued_token()

    assert decided(observed(owner, last_issued=token), NOW) == a_write(secret_manifest(owner, token, ENDPOINTS), None)


def test_a_held_token_is_written_before_it_is_renewed() -> None:
    token = a_due_token()

    assert isinstance(decided(observed(last_issued=token), NOW), ApplySecret)
    assert decided(holding(token, last_issued=token), NOW) == RequestToken(Reason.RENEWING)


def test_a_token_for_an_earlier_spec_stays_in_good_order_while_another_is_not_to_be_had() -> None:
    owner = an_asset_token(a_spec(environment=Environment.PRODUCTION))
    token = an_issued_token(a_spec())
    seen = observed(owner, last_issued=token)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW))

    assert decided(seen, NOW) == a_write(secret_manifest(owner, token, ENDPOINTS), None)


def test_an_expired_token_is_not_written_again() -> None:
    expired = an_issued_token(issued_at=NOW - HOUR, expires_at=NOW)

    assert decided(observed(last_issued=expired), NOW) == RequestToken(Reason.EXPIRED)


def test_a_newer_token_in_the_secret_wins_over_the_one_in_memory() -> None:
    newer = an_issued_token(access_token=SecretStr("canary-newer"), revision=2, expires_at=NOW + HOUR + SECOND)

    assert isinstance(decided(holding(newer, last_issued=an_issued_token()), NOW), Wait)


def test_a_write_does_not_show_the_token() -> None:
    assert "canary" not in repr(decided(observed(last_issued=an_issued_token()), NOW))


# secret.name changed


def renamed(policy: DeletionPolicy = DeletionPolicy.DELETE) -> tuple[AssetToken, SecretState]:
    """An AssetToken whose Secret has been renamed, and its Secret under the old name."""
    secret = SecretSpec("new-name", deletion_policy=policy)
    before = an_asset_token() if policy is DeletionPolicy.DELETE else an_asset_token(retained())
    return an_asset_token(a_spec(secret=secret)), a_secret(before, an_issued_token())


def test_writes_the_same_token_under_the_new_name_and_then_removes_the_old_secret() -> None:
    owner, old = renamed()
    manifest = secret_manifest(owner, an_issued_token(), ENDPOINTS)

    assert decided(observed(owner, old_secrets=(old,), credentials=CREDENTIALS), NOW) == a_write(manifest, None)
    assert decided(
        holding(an_issued_token(), owner, old_secrets=(old,), credentials=CREDENTIALS), NOW
    ) == DeleteOldSecret(old)
    assert decided(holding(an_issued_token(), owner), NOW) == Wait(NOW + DUE)


def test_leaves_the_old_secret_where_it_shall_be_retained() -> None:
    owner, old = renamed(DeletionPolicy.RETAIN)

    assert isinstance(decided(observed(owner, old_secrets=(old,), credentials=CREDENTIALS), NOW), ApplySecret)
    assert isinstance(
        decided(holding(an_issued_token(), owner, old_secrets=(old,), credentials=CREDENTIALS), NOW), Wait
    )


def test_keeps_the_old_secret_until_the_new_one_can_be_written() -> None:
    owner, old = renamed()
    seen = observed(owner, old_secrets=(old,), credentials=CREDENTIALS)
    write = decided(seen, NOW)
    assert isinstance(write, ApplySecret)
    failure = Failure(NOW, Reason.CLUSTER_UNAVAILABLE, "no answer")
    seen = replace(seen, writes=Attempts(write.cause, (NOW,), 1, failure))

    assert isinstance(decided(seen, NOW), Wait)


def test_keeps_the_old_secret_while_the_new_name_is_taken() -> None:
    owner, old = renamed()
    foreign = a_secret(owner, controller_uid=None, labels={}, annotations={})

    assert isinstance(decided(observed(owner, secret=foreign, old_secrets=(old,)), NOW), SecretConflict)


def test_renews_a_renamed_secret_under_its_new_name_only() -> None:
    owner, old = renamed()
    due = a_due_token()
    old = a_secret(owner, due, name=old.key.name)

    assert decided(holding(due, owner, old_secrets=(old,)), NOW) == RequestToken(Reason.RENEWING)


# What isn't ours


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(a_secret(type="Opaque"), id="of another type"),
        pytest.param(a_secret(controller_uid="someone"), id="controlled by something else, but left behind by name"),
        pytest.param(a_secret(controller_uid="someone", annotations={}), id="controlled by something else"),
        pytest.param(a_secret(controller_uid=None, annotations={OWNER: "other"}), id="retained by another AssetToken"),
    ],
)
@pytest.mark.parametrize("held", [pytest.param(None, id="nothing held"), pytest.param(an_issued_token(), id="held")])
def test_a_foreign_secret_is_never_written_and_nothing_is_requested(
    secret: SecretState, held: IssuedToken | None
) -> None:
    decision = decided(observed(secret=secret, last_issued=held), NOW)

    assert isinstance(decision, SecretConflict)
    assert decision.until > NOW


def test_a_foreign_secret_stalls_and_the_message_says_what_to_do() -> None:
    decision = decided(observed(secret=a_secret(type="Opaque")), NOW)

    assert decision == SecretConflict(
        "Secret ledger-writer-token exists and does not belong to this AssetToken, so it is left alone;"
        " delete it or set another spec.secret.name.",
        stalled=True,
        until=NOW + timedelta(seconds=15),
    )


def test_the_secret_of_a_deleted_namesake_is_waited_for() -> None:
    decision = decided(observed(secret=a_secret(an_asset_token(uid="deleted"))), NOW)

    assert isinstance(decision, SecretConflict)
    assert not decision.stalled
    assert "garbage-collected" in decision.message


def test_starts_when_the_foreign_secret_is_gone() -> None:
    assert decided(observed(secret=None), NOW) == RequestToken(Reason.DOES_NOT_EXIST)


def test_a_retained_secret_of_a_deleted_namesake_is_taken_on_but_its_token_is_not_believed() -> None:
    owner = an_asset_token(retained(), uid="new")
    secret = a_secret(an_asset_token(retained(), uid="deleted"), an_issued_token())
    seen = observed(owner, secret=secret, credentials=CREDENTIALS)

    assert decided(seen, NOW) == RequestToken(Reason.DOES_NOT_EXIST)
    assert isinstance(decided(replace(seen, last_issued=an_issued_token(revision=2)), NOW), ApplySecret)


# Two AssetTokens that name one Secret


def test_the_younger_of_two_that_name_one_secret_says_so() -> None:
    decision = decided(observed(senior="ledger-reader"), NOW)

    assert isinstance(decision, SecretConflict)
    assert decision.stalled
    assert decision.message == (
        "AssetToken ledger-reader is older and names Secret ledger-writer-token too;"
        " set another spec.secret.name in one of them."
    )


JUNIOR = Rival("junior", "ledger-reader")


def test_the_older_of_two_takes_the_secret_of_the_younger() -> None:
    junior = an_asset_token(uid="junior", key=replace_name("ledger-reader"))
    secret = a_secret(junior, an_issued_token())

    seen = observed(secret=secret, juniors=frozenset({JUNIOR}), credentials=CREDENTIALS)

    assert decided(seen, NOW) == RequestToken(Reason.DOES_NOT_EXIST), "the younger's token is not its own"
    own = an_issued_token(revision=2)
    assert_rewrites(decided(replace(seen, last_issued=own), NOW), secret, an_asset_token(), own)


def test_the_older_of_two_takes_the_retained_secret_of_the_younger() -> None:
    """Else both would wait for each other, and no one would renew the token that was good before."""
    junior = an_asset_token(retained(), uid="junior", key=replace_name("ledger-reader"))
    secret = a_secret(junior, an_issued_token())

    seen = observed(an_asset_token(retained()), secret=secret, juniors=frozenset({JUNIOR}), credentials=CREDENTIALS)

    assert isinstance(decided(replace(seen, last_issued=an_issued_token(revision=2)), NOW), ApplySecret)


def replace_name(name: str) -> Any:
    return an_asset_token().key._replace(name=name)


# Failures and limits


def test_waits_after_a_failure_and_then_tries_again() -> None:
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW))

    decision = decided(seen, NOW)

    assert isinstance(decision, Wait)
    assert NOW < decision.until <= NOW + 5 * SECOND
    assert decided(seen, decision.until) == RequestToken(Reason.DOES_NOT_EXIST)


@pytest.mark.parametrize("failures", range(1, 13), ids="failures={}".format)
def test_a_row_of_failures_waits_at_most_five_minutes(failures: int) -> None:
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=failures))

    decision = decided(seen, NOW)

    assert isinstance(decision, Wait)
    assert NOW + SECOND <= decision.until <= NOW + min(5 * SECOND * 2 ** (failures - 1), 5 * MINUTE)


def test_the_wait_after_a_failure_does_not_hold_up_a_write() -> None:
    seen = observed(last_issued=a_due_token())
    seen = replace(seen, requests=failed_attempts(seen, at=NOW))

    assert isinstance(decided(seen, NOW), ApplySecret)


def test_looks_again_when_the_token_expires_although_the_next_attempt_is_later() -> None:
    token = an_issued_token(issued_at=NOW - HOUR, expires_at=NOW + SECOND)
    seen = holding(token)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=12))

    assert decided(seen, NOW) == Wait(NOW + SECOND)


@pytest.mark.parametrize("failures", range(1, 13), ids="failures={}".format)
def test_tries_again_before_the_token_expires(failures: int) -> None:
    """Retries come sooner as expiry nears: an outage that ends a minute before it must leave no gap."""
    token = an_issued_token(issued_at=NOW - HOUR, expires_at=NOW + MINUTE)
    seen = holding(token)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=failures))

    assert decided(seen, token.expires_at - SECOND) == RequestToken(Reason.RENEWING)


STALLED = [reason for reason, recovery in RECOVERIES.items() if recovery in (Recovery.CHANGE, Recovery.CREDENTIALS)]


@pytest.mark.parametrize("failures", [1, 2, 30], ids="failures={}".format)
@pytest.mark.parametrize("reason", STALLED, ids=str)
def test_what_somebody_has_to_change_is_only_probed_slowly(reason: Reason, failures: int) -> None:
    """It waits for the credentials or the spec to change; what changed at Asset is seen within 15 minutes."""
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=failures, reason=reason))

    decision = decided(seen, NOW)

    assert isinstance(decision, Wait)
    assert decision.until == NOW + {1: MINUTE, 2: 2 * MINUTE, 30: 15 * MINUTE}[failures]
    assert isinstance(decided(seen, decision.until - SECOND), Wait)
    assert decided(seen, decision.until) == RequestToken(Reason.DOES_NOT_EXIST)


@pytest.mark.parametrize("failures", [1, 3, 30], ids="failures={}".format)
@pytest.mark.parametrize("left", [20 * MINUTE, 2 * MINUTE, 20 * SECOND], ids="{0.seconds} s left".format)
def test_while_a_token_is_valid_no_probe_waits_longer_than_a_quarter_of_what_it_has_left(
    left: timedelta, failures: int
) -> None:
    """Asset may refuse good credentials for a minute, or what was refused may be allowed by then."""
    seen = holding(an_issued_token(issued_at=NOW + left - HOUR, expires_at=NOW + left))
    attempts = failed_attempts(seen, at=NOW, failures=failures, reason=Reason.INVALID_SCOPE)

    decision = decided(replace(seen, requests=attempts), NOW)

    assert isinstance(decision, Wait)
    assert decision.until == NOW + min(left / 4, min(2 ** (failures - 1), 15) * MINUTE)


@pytest.mark.parametrize(
    ("expired", "wait"),
    [
        pytest.param(SECOND, MINUTE, id="just now"),
        pytest.param(3 * MINUTE, 3 * MINUTE, id="a little ago"),
        pytest.param(5 * HOUR, 15 * MINUTE, id="long ago"),
    ],
)
def test_the_probes_begin_anew_when_the_token_expires(expired: timedelta, wait: timedelta) -> None:
    seen = holding(an_issued_token(issued_at=NOW - 9 * HOUR, expires_at=NOW - expired))
    attempts = failed_attempts(seen, at=NOW, failures=12, reason=Reason.REQUEST_REFUSED)

    assert decided(replace(seen, requests=attempts), NOW) == Wait(NOW + wait)


@pytest.mark.parametrize("failures", range(1, 13), ids="failures={}".format)
@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(observed(), id="missing"),
        pytest.param(holding(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW - SECOND)), id="expired"),
    ],
)
def test_who_has_no_valid_token_asks_an_endpoint_that_failed_within_15_seconds(seen: Observed, failures: int) -> None:
    """Whatever the number of AssetTokens: with one or two no endpoint is taken for down."""
    decision = decided(replace(seen, requests=failed_attempts(seen, at=NOW, failures=failures)), NOW)

    assert isinstance(decision, Wait)
    assert NOW < decision.until <= NOW + 15 * SECOND


def test_the_budget_alone_says_when_a_request_that_was_too_much_is_sent_again() -> None:
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, failures=5, reason=Reason.RATE_LIMITED))

    assert decided(seen, NOW) == RequestToken(Reason.DOES_NOT_EXIST)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(an_asset_token(a_spec(scopes=("ledger:create",))), id="spec"),
        pytest.param(an_asset_token(renew_request="1"), id="renew request"),
    ],
)
@pytest.mark.parametrize("reason", [Reason.BROKEN_ANSWER, Reason.INVALID_SCOPE], ids=str)
def test_a_new_cause_is_tried_at_once_after_failures(changed: AssetToken, reason: Reason) -> None:
    seen = observed()
    attempts = failed_attempts(seen, at=NOW, failures=12, reason=reason)

    assert isinstance(decided(observed(changed, requests=attempts), NOW), RequestToken)


@pytest.mark.parametrize("before", [None, CREDENTIALS], ids=["missing before", "corrected"])
def test_changed_credentials_are_tried_at_once_after_failures(before: Credentials | None) -> None:
    seen = observed(credentials=before)
    seen = replace(seen, requests=failed_attempts(seen, at=NOW, reason=Reason.INVALID_SCOPE))

    assert isinstance(decided(seen, NOW), Wait)
    changed = replace(CREDENTIALS, client_secret=SecretStr("other"))
    assert isinstance(decided(replace(seen, credentials=changed), NOW), RequestToken)


def requested(seen: Observed, *seconds: int) -> Attempts:
    """Requests for the present cause, each of which was made when it was allowed and succeeded."""
    attempts = seen.requests
    for second in seconds:
        assert isinstance(decided(replace(seen, requests=attempts), NOW + second * SECOND), RequestToken)
        attempts = attempts.begin(seen.request_cause, NOW + second * SECOND).succeeded()
    return attempts


def test_at_most_three_requests_a_minute_for_one_cause_whatever_they_end_with() -> None:
    seen = observed()
    seen = replace(seen, requests=requested(seen, 0, 1, 2))

    decision = decided(seen, NOW + 4 * SECOND)

    assert isinstance(decision, Wait)
    assert NOW + MINUTE <= decision.until <= NOW + MINUTE + 5 * SECOND
    assert isinstance(decided(seen, NOW + MINUTE - SECOND), Wait)
    assert isinstance(decided(seen, decision.until), RequestToken)


def test_one_more_is_left_for_a_cause_that_was_fixed() -> None:
    seen = observed()
    attempts = requested(seen, 0, 1, 2)

    assert isinstance(
        decided(observed(an_asset_token(renew_request="1"), requests=attempts), NOW + 3 * SECOND), RequestToken
    )


def test_at_most_four_requests_a_minute_whatever_the_causes() -> None:
    """A spec that flips, or `renew-requested-at` twice a second, is no hot loop; the latest value is served then."""
    attempts = Attempts()
    for second in range(4):
        attempts = requested(observed(an_asset_token(renew_request=str(second)), requests=attempts), second)
    latest = observed(an_asset_token(renew_request="latest"), requests=attempts)

    decision = decided(latest, NOW + 4 * SECOND)

    assert decision == Wait(NOW + 62 * SECOND)
    assert isinstance(decided(latest, decision.until), RequestToken)


def written(seen: Observed, *moments: timedelta) -> Observed:
    """The same, after the content that is due was written at those times."""
    for moment in moments:
        write = decided(seen, NOW + moment)
        assert isinstance(write, ApplySecret)
        seen = replace(seen, writes=seen.writes.begin(write.cause, NOW + moment).succeeded())
    return seen


FREE = [second * SECOND for second in range(6)]
"""The first write and as many repairs as are made at once."""


def test_a_secret_that_is_changed_back_again_and_again_is_put_right_later_each_time() -> None:
    seen = written(observed(last_issued=an_issued_token()), *FREE)
    latest = NOW + FREE[-1]

    waits = []
    for _ in range(5):
        decision = decided(seen, latest)
        assert isinstance(decision, Wait)
        assert isinstance(decided(seen, decision.until - SECOND), Wait)
        waits.append(decision.until - latest)
        latest = decision.until
        seen = written(seen, latest - NOW)

    assert waits == [10 * SECOND, 20 * SECOND, 40 * SECOND, 80 * SECOND, 160 * SECOND]


def test_a_war_that_has_ended_is_forgotten_after_ten_minutes() -> None:
    seen = written(observed(last_issued=an_issued_token()), *FREE)

    assert isinstance(decided(seen, NOW + 10 * MINUTE + FREE[-1]), ApplySecret)
    assert not assess(seen, NOW + 10 * MINUTE + FREE[-1]).drifts


@pytest.mark.parametrize(
    ("seen", "drifts"),
    [
        pytest.param(observed(), False, id="no token"),
        pytest.param(holding(an_issued_token()), False, id="all in order"),
        pytest.param(observed(last_issued=an_issued_token()), False, id="deleted for the first time"),
        pytest.param(
            written(observed(last_issued=an_issued_token()), *FREE[:5]), False, id="deleted for the fifth time"
        ),
        pytest.param(written(observed(last_issued=an_issued_token()), *FREE), True, id="deleted for the sixth time"),
        pytest.param(
            replace(written(observed(last_issued=an_issued_token()), *FREE), last_issued=an_issued_token(revision=2)),
            True,
            id="other content is due, which ends no war",
        ),
        pytest.param(
            replace(written(observed(last_issued=an_issued_token()), *FREE), secret=a_secret(token=an_issued_token())),
            True,
            id="put right, until the next blow",
        ),
    ],
)
def test_drift_that_returns_again_and_again_is_told(seen: Observed, *, drifts: bool) -> None:
    assert assess(seen, NOW + FREE[-1]).drifts is drifts


def test_other_content_is_written_at_once_although_the_same_would_have_to_wait() -> None:
    seen = written(observed(last_issued=an_issued_token()), *FREE)

    assert isinstance(decided(seen, NOW + FREE[-1]), Wait)
    assert isinstance(decided(replace(seen, last_issued=an_issued_token(revision=2)), NOW + FREE[-1]), ApplySecret)


def test_a_used_up_write_limit_does_not_hold_up_the_renewal() -> None:
    seen = written(observed(last_issued=a_due_token()), *FREE)

    assert isinstance(decided(seen, NOW + FREE[-1]), RequestToken)


def test_a_failed_write_is_tried_again_with_a_back_off() -> None:
    seen = observed(last_issued=an_issued_token())
    write = decided(seen, NOW)
    assert isinstance(write, ApplySecret)
    failure = Failure(NOW, Reason.CLUSTER_UNAVAILABLE, "no answer")
    seen = replace(seen, writes=Attempts(write.cause, (NOW,), 1, failure))

    decision = decided(seen, NOW)

    assert isinstance(decision, Wait)
    assert NOW < decision.until <= NOW + 5 * SECOND
    assert decided(seen, decision.until) == write


@pytest.mark.parametrize("status", [413, 422])
def test_a_secret_that_is_refused_for_what_it_is_waits_for_another_but_not_until_a_token_has_expired(
    status: int,
) -> None:
    failure = failure_of(KubeRefusedError("It is refused.", status), NOW)
    for seen, wait in ((observed(last_issued=an_issued_token()), 5 * MINUTE), (unwritten(6 * MINUTE), 2 * MINUTE)):
        write = decided(replace(seen, writes=Attempts()), NOW)
        assert isinstance(write, ApplySecret)
        refused = replace(seen, writes=Attempts(write.cause, (NOW,), 1, failure, write.uid))
        assert decided(refused, NOW) == Wait(NOW + wait)
        assert decided(refused, NOW + wait) == write
        labels = replace(seen.owner.spec.secret, labels={"another": "label"})
        owner = replace(seen.owner, spec=replace(seen.owner.spec, secret=labels))
        assert isinstance(decided(replace(refused, owner=owner), NOW), ApplySecret)


def unwritten(left: timedelta) -> Observed:
    """A token was issued and can't be written, for long; the one in the Secret has that left."""
    old = an_issued_token(issued_at=NOW + left - HOUR, expires_at=NOW + left)
    new = an_issued_token(access_token=SecretStr("new"), issued_at=NOW, expires_at=NOW + HOUR, revision=2)
    seen = replace(holding(old), last_issued=new)
    write = decided(seen, NOW)
    assert isinstance(write, ApplySecret)
    failure = Failure(NOW, Reason.CLUSTER_REFUSED, "denied")
    return replace(seen, writes=Attempts(write.cause, (NOW,), 12, failure, write.uid))


@pytest.mark.parametrize("left", [8 * MINUTE, 4 * MINUTE, MINUTE], ids="{0.seconds} s left".format)
def test_a_failed_write_is_tried_again_the_sooner_the_nearer_the_expiry_of_what_is_served(left: timedelta) -> None:
    decision = decided(unwritten(left), NOW)

    assert isinstance(decision, Wait)
    assert decision.until <= NOW + max(left / 8, 5 * SECOND)


def test_a_token_in_hand_that_cannot_be_written_is_not_renewed_before_it_is_about_to_expire() -> None:
    seen = unwritten(MINUTE)
    held = seen.last_issued
    assert held is not None
    due = renewal_time(held, seen.owner.spec, seen.owner.uid)
    failure = Failure(due, Reason.CLUSTER_REFUSED, "denied")
    seen = replace(seen, writes=replace(seen.writes, times=(due,), failure=failure))

    assert isinstance(decided(seen, due), Wait)
    assert decided(replace(seen, writes=Attempts()), due) != RequestToken(Reason.RENEWING), "it is written first"
    about_to_expire = due + (held.expires_at - due) * 2 / 3
    failure = replace(failure, at=about_to_expire)
    seen = replace(seen, writes=replace(seen.writes, failure=failure))
    assert decided(seen, about_to_expire) == RequestToken(Reason.RENEWING)


@pytest.mark.parametrize(
    ("owner", "reason"),
    [
        pytest.param(an_asset_token(renew_request="1"), Reason.RENEW_REQUESTED, id="asked for by hand"),
        pytest.param(an_asset_token(a_spec(scopes=("ledger:create",))), Reason.SPEC_CHANGED, id="changed spec"),
    ],
)
def test_a_token_in_hand_that_cannot_be_written_holds_up_no_other_request(owner: AssetToken, reason: Reason) -> None:
    assert decided(replace(unwritten(8 * MINUTE), owner=owner), NOW) == RequestToken(reason)


def test_a_write_that_was_refused_is_tried_at_once_when_the_secret_in_the_way_was_deleted() -> None:
    """An immutable one of ours, say: deleting it is the cure that its message names."""
    seen = observed(last_issued=an_issued_token())
    write = decided(seen, NOW)
    assert isinstance(write, ApplySecret)
    refused = Attempts(write.cause, (NOW,), 5, Failure(NOW, Reason.CLUSTER_REFUSED, "immutable"), target="uid-of-old")

    assert decided(replace(seen, writes=refused), NOW) == write


@pytest.mark.parametrize("left", [20 * MINUTE, 4 * MINUTE, MINUTE], ids="{0.seconds} s left".format)
def test_the_nearer_the_expiry_the_sooner_it_is_tried_again(left: timedelta) -> None:
    token = an_issued_token(issued_at=NOW + left - HOUR, expires_at=NOW + left)
    waits = []
    for number in range(50):
        seen = holding(token, an_asset_token(uid=f"uid-{number}"))
        decision = decided(replace(seen, requests=failed_attempts(seen, at=NOW, failures=12)), NOW)
        assert isinstance(decision, Wait)
        waits.append(decision.until - NOW)

    assert max(waits) <= max(left / 8, 5 * SECOND)
    assert max(waits) > 0.7 * max(left / 8, 5 * SECOND), "but it isn't hammered either"


# The clock is set


@pytest.mark.parametrize("reason", [Reason.BROKEN_ANSWER, Reason.INVALID_SCOPE], ids=str)
@pytest.mark.parametrize("ahead", [HOUR, timedelta(days=365)], ids=["an hour", "a year"])
def test_a_failure_from_before_the_clock_was_set_back_holds_nothing_up(ahead: timedelta, reason: Reason) -> None:
    """The clock is not trusted: a token must not expire because of a moment that never was."""
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW + ahead, reason=reason))

    assert isinstance(decided(seen, NOW + 10 * MINUTE), RequestToken)


def test_a_clock_that_was_set_back_by_minutes_makes_no_back_off_longer_than_it_is() -> None:
    seen = observed()
    seen = replace(seen, requests=failed_attempts(seen, at=NOW + 15 * MINUTE))

    decision = decided(seen, NOW)

    assert isinstance(decision, RequestToken) or until(decision) <= NOW + 5 * SECOND


def test_the_limit_of_requests_does_not_hold_up_longer_than_a_minute_after_the_clock_was_set_back() -> None:
    seen = observed()
    seen = replace(seen, requests=Attempts(seen.request_cause, (NOW + 15 * MINUTE,) * 4))

    decision = decided(seen, NOW)

    assert isinstance(decision, RequestToken) or until(decision) <= NOW + 62 * SECOND


def test_drift_is_repaired_within_the_usual_back_off_after_the_clock_was_set_back() -> None:
    seen = written(observed(last_issued=an_issued_token()), *FREE)

    decision = decided(seen, NOW - 10 * MINUTE)

    assert isinstance(decision, ApplySecret) or until(decision) <= NOW - 9 * MINUTE


@pytest.mark.parametrize("skew", [-10 * MINUTE, timedelta(), 10 * MINUTE], ids=["behind", "even", "ahead"])
@pytest.mark.parametrize("seen_since", [True, False], ids=["seen since the start", "known by the Secret"])
def test_a_token_is_renewed_and_expires_by_assets_clock(skew: timedelta, *, seen_since: bool) -> None:
    token = an_issued_token(skew=skew)
    seen = holding(token, skews=Skews(proved=skew if seen_since else None))

    assert decided(seen, NOW - skew) == Wait(NOW + DUE - skew)
    assert isinstance(decided(seen, NOW + DUE - skew - SECOND), Wait)
    assert decided(seen, NOW + DUE - skew) == RequestToken(Reason.RENEWING)
    assert decided(seen, NOW + HOUR - skew - SECOND) == RequestToken(Reason.RENEWING)
    assert decided(seen, NOW + HOUR - skew) == RequestToken(Reason.EXPIRED)


def test_the_skew_of_the_latest_answer_counts_more_than_that_of_the_token() -> None:
    """Our clock was set right since the token was issued."""
    seen = holding(an_issued_token(skew=10 * MINUTE), skews=Skews(proved=timedelta()))

    assert decided(seen, NOW) == Wait(NOW + DUE)


@pytest.mark.parametrize("said", [-5 * HOUR, 5 * HOUR], ids=["behind", "ahead"])
def test_of_what_the_secret_and_an_answer_say_of_asset_s_clock_the_earlier_end_is_believed(said: timedelta) -> None:
    """The API server's clock is heard, so what was noted by it is as good as one answer's `Date`."""
    seen = holding(an_issued_token(), skews=Skews(proved=said, said=said, cluster=timedelta()))

    early = max(said, timedelta())
    assert isinstance(decided(seen, NOW + DUE - early - SECOND), Wait)
    assert decided(seen, NOW + DUE - early) == RequestToken(Reason.RENEWING)


def test_a_token_of_an_earlier_life_is_renewed_in_time_though_our_clock_was_set_back_before_asset_answered() -> None:
    seen = holding(an_issued_token(skew=10 * MINUTE), skews=Skews(set_back=HOUR))

    assert decided(seen, NOW - HOUR - 10 * MINUTE) == Wait(NOW - HOUR + DUE - 10 * MINUTE)


@pytest.mark.parametrize("seconds", ["99999999999", "-99999999999", "9999999999999", "-62135596800"], ids="{} s".format)
def test_an_absurd_skew_in_the_annotations_is_survived(seconds: str) -> None:
    """Whoever may alter the annotation must not be able to stop the token's renewal."""
    secret = altered(a_secret(), "annotation", "auth.getasset.com/clock-skew-seconds", seconds)

    assert decided(observed(secret=secret), NOW) is not None


# A token that doesn't work yet


@pytest.mark.parametrize("later", [SECOND, 5 * MINUTE, 30 * MINUTE, 12 * HOUR], ids=str)
def test_a_token_is_not_written_before_it_works(later: timedelta) -> None:
    held = an_issued_token(not_before=NOW + later, expires_at=NOW + 24 * HOUR)
    seen = observed(last_issued=held)

    assert decided(seen, NOW) == Wait(NOW + min(later, HOUR))
    assert isinstance(decided(seen, NOW + later - SECOND), Wait)
    assert decided(seen, NOW + later) == a_write(secret_manifest(an_asset_token(), held, ENDPOINTS), None)


@pytest.mark.parametrize("skew", [-MINUTE, MINUTE], ids=["behind", "ahead"])
def test_when_a_token_begins_to_work_is_told_by_assets_clock(skew: timedelta) -> None:
    seen = observed(last_issued=an_issued_token(not_before=NOW + 5 * MINUTE, skew=skew))

    assert decided(seen, NOW) == Wait(NOW + 5 * MINUTE - skew)
    assert isinstance(decided(seen, NOW + 5 * MINUTE - skew), ApplySecret)


def test_the_old_token_stays_until_the_new_one_works() -> None:
    new = an_issued_token(access_token=SecretStr("canary-new"), not_before=NOW + MINUTE, revision=2)
    seen = holding(an_issued_token(), last_issued=new)

    assert decided(seen, NOW) == Wait(NOW + MINUTE)


# Asset's endpoint is down


def unavailable(seen: Observed, at: datetime = NOW) -> Observed:
    return replace(seen, requests=failed_attempts(seen, at=at, failures=8))


@pytest.mark.parametrize(
    ("seen", "requests"),
    [
        pytest.param(unavailable(observed()), False, id="a failure of one token backs off"),
        pytest.param(unavailable(observed(endpoint_down=True)), True, id="down: the probes replace the back-off"),
        pytest.param(unavailable(observed(endpoint_ups=1)), True, id="up again since the failure"),
        pytest.param(unavailable(observed(endpoint_ups=0)), False, id="up again, but this failed since then"),
        pytest.param(observed(endpoint_down=True), True, id="down, but this has not failed yet"),
        pytest.param(
            replace(
                observed(endpoint_down=True),
                requests=failed_attempts(observed(), at=NOW, failures=8, reason=Reason.BROKEN_ANSWER),
            ),
            False,
            id="down, but this failed for another reason",
        ),
        pytest.param(
            replace(
                observed(endpoint_up_since=NOW),
                requests=failed_attempts(observed(), at=NOW, reason=Reason.INVALID_SCOPE),
            ),
            False,
            id="up again, but somebody has to change something",
        ),
    ],
)
def test_an_endpoint_that_is_down_or_up_again_replaces_the_back_off(seen: Observed, *, requests: bool) -> None:
    assert isinstance(decided(seen, NOW), RequestToken) is requests


def test_an_endpoint_that_is_down_gets_at_most_four_requests_a_minute_from_one_token() -> None:
    seen = unavailable(observed(endpoint_down=True))
    seen = replace(seen, requests=replace(seen.requests, times=(NOW,) * 4))

    assert decided(seen, NOW) == Wait(NOW + 62 * SECOND)


# Credentials that Asset doesn't accept


PARKED = Attempts("", (NOW,), 1, Failure(NOW, Reason.INVALID_CLIENT, "the credentials are not accepted"))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(observed(parked=PARKED), id="which has not asked yet"),
        pytest.param(holding(a_due_token(), parked=PARKED), id="which is due"),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW), parked=PARKED), id="which has expired"
        ),
        pytest.param(
            holding(an_issued_token(), an_asset_token(a_spec(scopes=("x",))), parked=PARKED), id="with a changed spec"
        ),
    ],
)
def test_credentials_that_are_not_accepted_hold_up_every_token_that_uses_them(seen: Observed) -> None:
    assert decided(seen, NOW) == Wait(NOW + MINUTE)
    assert isinstance(decided(seen, NOW + MINUTE), RequestToken), "a slow probe"


def test_who_is_asked_for_by_hand_tries_credentials_that_are_not_accepted_at_once_and_once() -> None:
    seen = observed(an_asset_token(renew_request="1"), parked=PARKED)

    assert decided(seen, NOW) == RequestToken(Reason.DOES_NOT_EXIST)
    tried = seen.requests.begin(seen.request_cause, NOW).failed(Failure(NOW, Reason.INVALID_CLIENT, "no"))
    assert decided(replace(seen, requests=tried), NOW) == Wait(NOW + MINUTE)


def test_credentials_that_are_not_accepted_are_tried_at_most_four_times_a_minute() -> None:
    left = 4 * SECOND
    often = replace(PARKED, times=(NOW,) * 4, of_cause=4)
    seen = holding(an_issued_token(issued_at=NOW + left - HOUR, expires_at=NOW + left), parked=often)

    assert isinstance(decided(seen, NOW + 2 * SECOND), Wait)


@pytest.mark.parametrize("ahead", [SECOND, 5 * MINUTE, HOUR], ids=str)
def test_credentials_that_were_refused_before_the_clock_was_set_back_hold_nothing_up(ahead: timedelta) -> None:
    assert isinstance(decided(observed(parked=PARKED), NOW - ahead), RequestToken)


def test_an_endpoint_that_is_up_again_does_not_make_refused_credentials_good() -> None:
    seen = unavailable(observed(parked=PARKED, endpoint_up_since=NOW))

    assert isinstance(decided(seen, NOW), Wait)


def test_credentials_that_are_not_accepted_hold_up_no_repair() -> None:
    assert isinstance(decided(observed(last_issued=an_issued_token(), parked=PARKED), NOW), ApplySecret)


# Who goes first

ASKED_FOR = an_asset_token(renew_request="1")


@pytest.mark.parametrize(
    ("seen", "reason", "urgency"),
    [
        pytest.param(observed(), Reason.DOES_NOT_EXIST, Urgency.MISSING, id="no token"),
        pytest.param(holding(a_due_token()), Reason.RENEWING, Urgency.ROUTINE, id="just due"),
        pytest.param(
            holding(
                an_issued_token(),
                last_issued=an_issued_token(),
                credentials=replace(CREDENTIALS, client_secret=SecretStr("rotated")),
            ),
            Reason.CREDENTIALS_CHANGED,
            Urgency.ROUTINE,
            id="rotated credentials",
        ),
        pytest.param(
            holding(an_issued_token(), ASKED_FOR), Reason.RENEW_REQUESTED, Urgency.FORCED, id="asked for by hand"
        ),
        pytest.param(
            holding(an_issued_token(a_spec()), an_asset_token(a_spec(scopes=("ledger:create",)))),
            Reason.SPEC_CHANGED,
            Urgency.FORCED,
            id="changed spec",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW)),
            Reason.EXPIRED,
            Urgency.EXPIRING,
            id="expired",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - 2 * HOUR, expires_at=NOW - HOUR)),
            Reason.EXPIRED,
            Urgency.EXPIRING,
            id="expired an hour ago",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - 54 * MINUTE, expires_at=NOW + 6 * MINUTE)),
            Reason.RENEWING,
            Urgency.EXPIRING,
            id="a third of its window is left",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - 54 * MINUTE, expires_at=NOW + 6 * MINUTE), ASKED_FOR),
            Reason.RENEW_REQUESTED,
            Urgency.EXPIRING,
            id="about to expire and asked for by hand",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - 52 * MINUTE, expires_at=NOW + 8 * MINUTE)),
            Reason.RENEWING,
            Urgency.ROUTINE,
            id="more than a third of its window is left",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - 45 * MINUTE, expires_at=NOW + 15 * MINUTE), endpoint_up_since=NOW),
            Reason.RENEWING,
            Urgency.OVERDUE,
            id="due before the endpoint came up",
        ),
        pytest.param(
            holding(an_issued_token(), skews=Skews(proved=54 * MINUTE)),
            Reason.RENEWING,
            Urgency.EXPIRING,
            id="Asset's clock is ahead",
        ),
        pytest.param(
            holding(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW), ASKED_FOR, skews=Skews(proved=-HOUR)),
            Reason.RENEW_REQUESTED,
            Urgency.FORCED,
            id="Asset's clock is behind",
        ),
    ],
)
def test_the_sooner_a_token_is_lost_the_more_urgent_it_is(seen: Observed, reason: Reason, urgency: Urgency) -> None:
    assert assess(seen, NOW).reason is reason
    assert assess(seen, NOW).urgency is urgency


def test_of_equal_urgency_the_nearest_expiry_on_our_clock_counts() -> None:
    missing, first, second = (
        assess(seen, NOW).expires_at
        for seen in (observed(), holding(an_issued_token(skew=MINUTE)), holding(an_issued_token()))
    )

    assert missing < first
    assert (first, second) == (NOW + HOUR - MINUTE, NOW + HOUR)


# A slot in the tenant's budget is waited for


@pytest.mark.parametrize(
    ("seen", "until"),
    [
        pytest.param(observed(), 30 * SECOND, id="long enough to say so in status"),
        pytest.param(holding(a_due_token()), 30 * SECOND, id="the token lasts longer"),
        pytest.param(holding(a_due_token(expires_at=NOW + 7 * SECOND)), 7 * SECOND, id="the token expires before"),
        pytest.param(
            holding(a_due_token(expires_at=NOW + 7 * SECOND), skews=Skews(proved=5 * SECOND)),
            2 * SECOND,
            id="by Asset's clock",
        ),
        pytest.param(holding(an_issued_token(expires_at=NOW)), 30 * SECOND, id="it has expired"),
        pytest.param(
            observed(last_issued=an_issued_token(not_before=NOW + 3 * SECOND)),
            3 * SECOND,
            id="it begins to work before",
        ),
    ],
)
def test_who_waits_for_a_slot_looks_again_when_time_brings_something(seen: Observed, until: timedelta) -> None:
    assert decided(replace(seen, slot=SlotState.QUEUED), NOW) == Wait(NOW + until)


# Only its own Secrets under other names are removed


@pytest.mark.parametrize(
    ("policy", "controller", "removes"),
    [
        pytest.param(DeletionPolicy.DELETE, an_asset_token().uid, True, id="Delete, its own"),
        pytest.param(DeletionPolicy.DELETE, None, False, id="Delete, but this one was retained"),
        pytest.param(DeletionPolicy.RETAIN, an_asset_token().uid, False, id="Retain"),
        pytest.param(DeletionPolicy.RETAIN, None, False, id="Retain, and this one was"),
    ],
)
def test_a_secret_under_an_earlier_name_is_removed_only_under_delete(
    policy: DeletionPolicy, controller: str | None, *, removes: bool
) -> None:
    owner = an_asset_token(a_spec(secret=SecretSpec("new-name", deletion_policy=policy)))
    old = a_secret(controller_uid=controller)

    decision = decided(holding(an_issued_token(), owner, old_secrets=(old,), credentials=CREDENTIALS), NOW)

    assert decision == DeleteOldSecret(old) if removes else isinstance(decision, Wait)


def test_the_only_secret_with_a_valid_token_stays_while_the_one_under_the_present_name_cannot_be_written() -> None:
    """It was retained under an earlier name, has expired since, and the spec names it again."""
    owner = an_asset_token()
    expired = an_issued_token(
        access_token=SecretStr("canary-old-token"), issued_at=NOW - 2 * HOUR, expires_at=NOW - HOUR
    )
    other = replace(a_secret(owner, an_issued_token(revision=2), name="new-name"), controller_uid=owner.uid)
    seen = holding(expired, owner, old_secrets=(other,), credentials=CREDENTIALS)
    write = decided(seen, NOW)
    assert isinstance(write, ApplySecret)

    refused = Attempts(write.cause, (NOW,), 1, Failure(NOW, Reason.CLUSTER_UNAVAILABLE, "It failed."), write.uid)

    assert isinstance(decided(replace(seen, writes=refused), NOW), Wait)


def test_what_is_observed_does_not_show_the_credentials() -> None:
    credentials = Credentials(SecretStr("canary-id"), SecretStr("canary-secret"))

    assert "canary" not in repr(observed(credentials=credentials, last_issued=an_issued_token()))


# Attempts


def test_a_success_ends_the_row_of_failures_but_still_counts() -> None:
    failure = Failure(NOW, Reason.BROKEN_ANSWER, "broken")
    attempts = Attempts().begin("cause", NOW).failed(failure).begin("cause", NOW + MINUTE).succeeded()

    assert attempts == Attempts("cause", (NOW, NOW + MINUTE), of_cause=2)


def test_a_refusal_after_an_outage_is_the_first_of_its_row_and_an_outage_after_it_too() -> None:
    attempts = Attempts()
    for _ in range(9):
        attempts = attempts.begin("cause", NOW).failed(Failure(NOW, Reason.ASSET_UNAVAILABLE, "no answer"))
    for nth, minutes in enumerate((1, 2, 4), 10):
        attempts = attempts.begin("cause", NOW).failed(Failure(NOW, Reason.REQUEST_REFUSED, "forbidden"))
        assert (attempts.failures, attempts.retry_at(NOW, "uid")) == (nth, NOW + minutes * MINUTE)
    attempts = attempts.begin("cause", NOW).failed(Failure(NOW, Reason.ASSET_UNAVAILABLE, "no answer"))
    first = Attempts().begin("cause", NOW).failed(Failure(NOW, Reason.ASSET_UNAVAILABLE, "no answer"))
    assert attempts.retry_at(NOW, "uid") == first.retry_at(NOW, "uid")


def test_attempts_for_a_new_cause_start_with_no_failure_but_the_earlier_ones_still_count() -> None:
    failure = Failure(NOW, Reason.BROKEN_ANSWER, "broken")

    attempts = Attempts().begin("one", NOW).failed(failure).begin("two", NOW)

    assert attempts == Attempts("two", (NOW, NOW), of_cause=1)


def test_attempts_from_before_the_clock_was_set_back_never_count_again() -> None:
    before = Attempts().begin("cause", NOW).begin("cause", NOW + MINUTE)

    assert before.begin("cause", NOW + SECOND) == Attempts("cause", (NOW, NOW + SECOND), of_cause=2)
    assert before.begin("another", NOW + SECOND) == Attempts("another", (NOW, NOW + SECOND), of_cause=1)


def test_an_attempt_that_does_not_count_leaves_the_limits_as_they_were() -> None:
    before = Attempts().begin("cause", NOW)

    assert before.begin("cause", NOW + SECOND).uncounted() == before
    assert before.begin("another", NOW + SECOND).uncounted() == Attempts("another", (NOW,))


def test_only_the_latest_attempts_are_kept() -> None:
    attempts = Attempts()
    for second in range(100):
        attempts = attempts.begin("cause", NOW + second * SECOND)

    assert attempts.times == tuple(NOW + second * SECOND for second in range(89, 100))


def test_what_the_secret_of_another_holds_is_not_taken_for_ours() -> None:
    seen = observed(secret=a_secret(type="Opaque"))

    assert Evidence(seen).stored is None
    assert Evidence(seen).current is None


def test_the_written_secret_is_what_was_wanted() -> None:
    owner, token = an_asset_token(), an_issued_token()
    secret = a_secret(owner, token)

    assert stored_token(secret) == token
    assert not differs(secret, secret_manifest(owner, token, ENDPOINTS))


# Which token is served, and what has to be read to know it


def by_metadata(secret: SecretState) -> SecretState:
    """The same as a list of metadata tells it."""
    return replace(secret, type=None, data=None)


def a_token_called(text: str, **changes: Any) -> IssuedToken:
    return an_issued_token(access_token=SecretStr(text), **changes)


def test_of_two_tokens_the_greater_revision_is_served_whatever_the_clocks_say() -> None:
    """Each operator has its own clock, and either may have been set."""
    first = a_token_called("canary-1", revision=1, issued_at=NOW + HOUR, expires_at=NOW + 2 * HOUR)
    second = a_token_called("canary-2", revision=2)

    assert Evidence(holding(first, last_issued=second)).current == second
    assert Evidence(holding(second, last_issued=first)).current == stored_token(a_secret(token=second))


def test_of_two_tokens_of_one_revision_two_operators_choose_the_same() -> None:
    one, other = a_token_called("canary-1"), a_token_called("canary-2")
    later = max((one, other), key=lambda token: token.fingerprint)

    for seen in (holding(one, last_issued=other), holding(other, last_issued=one)):
        current = Evidence(seen).current
        assert current is not None
        assert current.fingerprint == later.fingerprint


def test_a_token_for_the_present_spec_is_served_before_a_later_one_for_another() -> None:
    present = a_token_called("canary-1", revision=1)
    another = a_token_called("canary-2", revision=2, spec_hash="another")

    assert Evidence(holding(another, last_issued=present)).current == present


def test_a_token_that_is_held_is_believed_before_what_its_secret_says_of_it() -> None:
    held = an_issued_token(revision=1)

    assert Evidence(holding(an_issued_token(revision=5), last_issued=held)).current == held
    seen = observed(secret=by_metadata(a_secret()), last_issued=held)
    assert Evidence(seen).current == held, "and it has the token, which metadata hasn't"


def test_with_what_it_was_in_sync_is_read_as_it_was_written() -> None:
    synced = Synced("0123", "4567")

    assert Synced.parse(str(synced)) == synced
    assert Synced.parse(str(NEVER)) == NEVER
    assert Synced.parse("") == NEVER
    assert Synced.parse("nonsense") == Synced("nonsense", "")


VERSION_1 = "uid-of-credentials/1"


def settled(**changes: Any) -> Observed:
    """All is in order, and it is known by metadata only."""
    whole = holding(an_issued_token(), credentials=CREDENTIALS, credentials_version=VERSION_1)
    fields: dict[str, Any] = {
        "secret": by_metadata(a_secret()),
        "credentials_version": VERSION_1,
        "synced": assess(whole, NOW).synced,
    }
    return observed(**(fields | changes))


def test_what_was_in_order_and_is_the_same_needs_no_call() -> None:
    seen = settled()

    assert not Evidence(seen).lacks_secret()
    assert not Evidence(seen).lacks_old_secrets()
    assert not Evidence(seen).lacks_credentials()
    assert until(decided(seen, NOW)) > NOW
    assert assess(seen, NOW).synced == seen.synced


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        pytest.param({"synced": NEVER}, True, id="it wasn't seen to be in order"),
        pytest.param({"secret": by_metadata(a_secret(version=201))}, True, id="its Secret changed"),
        pytest.param({"secret": by_metadata(a_secret(uid="another"))}, True, id="it is another Secret"),
        pytest.param(
            {"endpoints": ENDPOINTS | {Environment.SANDBOX: "https://moved.example.com"}}, True, id="base_url moved"
        ),
        pytest.param({"credentials_version": "uid-of-credentials/2"}, True, id="its credentials changed"),
        pytest.param({"credentials_version": None}, False, id="its credentials are gone"),
        pytest.param({"secret": a_secret(version=201)}, False, id="it was read whole"),
        pytest.param({"secret": None}, False, id="it has no Secret"),
        pytest.param({"secret": by_metadata(a_secret(controller_uid="another"))}, False, id="it is another's"),
    ],
)
def test_its_secret_is_read_where_metadata_does_not_tell(changes: dict[str, Any], *, lacks: bool) -> None:
    assert Evidence(settled(**changes)).lacks_secret() is lacks


@pytest.mark.parametrize(
    ("changes", "lacks"),
    [
        pytest.param({}, False, id="they are the same"),
        pytest.param({"credentials_version": "uid-of-credentials/2"}, True, id="they changed"),
        pytest.param({"synced": NEVER}, True, id="they weren't compared"),
        pytest.param({"secret": None}, True, id="it has no token"),
        pytest.param({"secret": None, "credentials": CREDENTIALS}, False, id="they are at hand"),
        pytest.param({"secret": None, "credentials_version": None}, False, id="there are none"),
    ],
)
def test_its_credentials_are_read_where_they_may_be_others(changes: dict[str, Any], *, lacks: bool) -> None:
    assert Evidence(settled(**changes)).lacks_credentials() is lacks


def test_a_token_that_is_only_in_a_secret_of_an_earlier_name_is_read_there() -> None:
    old = by_metadata(a_secret(name="old-name"))

    assert Evidence(settled(secret=None, old_secrets=(old,))).lacks_old_secrets()
    assert Evidence(settled(old_secrets=(old,))).lacks_old_secrets(), "it is in both, so the old one is to be removed"
    assert not Evidence(settled(old_secrets=(replace(old, controller_uid=None),))).lacks_old_secrets(), (
        "it was retained, so it stays"
    )
    kept = an_asset_token(retained())
    secret = by_metadata(a_secret(kept))
    assert not Evidence(
        settled(owner=kept, secret=secret, old_secrets=(old,), last_issued=an_issued_token())
    ).lacks_old_secrets()
    assert not Evidence(settled(secret=None)).lacks_old_secrets()


def test_it_is_in_sync_only_when_the_data_was_seen_to_be() -> None:
    in_order = holding(an_issued_token(), credentials=CREDENTIALS, credentials_version=VERSION_1)
    altered = replace(in_order, secret=a_secret(data={**data_of(a_secret()), "base_url": "YQ=="}))

    assert assess(in_order, NOW).synced == settled().synced
    assert assess(altered, NOW).synced == assess(in_order, NOW).synced._replace(data="")
    assert assess(settled(synced=NEVER), NOW).synced == NEVER, "metadata doesn't tell"


def test_credentials_are_the_same_only_when_they_were_compared_with_the_token() -> None:
    others = Credentials(SecretStr("client"), SecretStr("canary-another"))
    seen = holding(an_issued_token(), credentials=others, credentials_version=VERSION_1)

    assert assess(seen, NOW).synced.credentials == ""
    assert assess(replace(seen, credentials=CREDENTIALS), NOW).synced.credentials == settled().synced.credentials
    assert assess(replace(seen, secret=None), NOW).synced == NEVER


def test_a_token_that_is_not_at_hand_is_not_requested_for_other_credentials() -> None:
    """Whether they are others can't be told before it is read."""
    others = Credentials(SecretStr("client"), SecretStr("canary-another"))
    seen = settled(credentials=others)

    assert isinstance(decided(seen, NOW), Wait)
    assert isinstance(decided(replace(seen, secret=a_secret()), NOW), RequestToken)
