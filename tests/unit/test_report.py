from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from asset_token_operator.answers import Claims, TokenAnswer
from asset_token_operator.assess import assess
from asset_token_operator.attempts import Attempts, Failure, failure_of
from asset_token_operator.decision import ApplySecret, RequestToken, SecretConflict, Wait, decide
from asset_token_operator.errors import (
    RECOVERIES,
    AssetError,
    AssetUnavailableError,
    BrokenAnswerError,
    CredentialsInvalidError,
    CredentialsNotFoundError,
    InvalidClientError,
    InvalidScopeError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    OperatorError,
    RateLimitedError,
    RequestRefusedError,
    SecretConflictError,
    WrongEnvironmentError,
)
from asset_token_operator.expiry import read_validity
from asset_token_operator.issuance import issued_token
from asset_token_operator.manifests import credentials_fingerprint
from asset_token_operator.model import AssetToken, Environment, IssuedToken, SecretSpec
from asset_token_operator.observed import Observed, Skews, SlotState
from asset_token_operator.reasons import Reason
from asset_token_operator.renewal import renewal_time
from asset_token_operator.report import REMEMBERED, is_worth_writing, remembered_requests, report
from asset_token_operator.status import parse_status
from asset_token_operator.times import parse_time
from asset_token_operator.transitions import Event, drift_event, transition_events
from tests.support.builders import (
    CREDENTIALS,
    NOW,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    observed,
)

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

UNAVAILABLE = Failure(NOW, Reason.ASSET_UNAVAILABLE, "Asset answered 503.")
REFUSED = Failure(NOW, Reason.REQUEST_REFUSED, "Asset refused the request (401 invalid_client).")
PARKED = Attempts("", (NOW,), 2, Failure(NOW, Reason.INVALID_CLIENT, "the credentials are not accepted."))


def status_of(seen: Observed, now: Any = NOW) -> dict[str, Any]:
    """The status that is told when nothing more is to be done."""
    assessed = assess(seen, now)
    decided = decide(assessed)
    return report(assessed, decided if isinstance(decided, SecretConflict) else Wait(now)).to_json()


def worth_writing(before: dict[str, Any], after: dict[str, Any], now: Any) -> bool:
    return is_worth_writing(assess(observed(an_asset_token(status=before)), now), parse_status(after))


def with_status(owner: AssetToken, status: dict[str, Any]) -> AssetToken:
    return replace(owner, status=parse_status(status))


def the_write(seen: Observed) -> ApplySecret:
    decided = decide(assess(seen, NOW))
    assert isinstance(decided, ApplySecret)
    return decided


def holding(token: IssuedToken, owner: AssetToken | None = None, **changes: Any) -> Observed:
    owner = owner or an_asset_token()
    return observed(owner, **({"secret": a_secret(owner, token)} | changes))


def failing(seen: Observed, failure: Failure = UNAVAILABLE, failures: int = 1) -> Observed:
    """The same, but the requests for its present cause have failed."""
    return replace(seen, requests=Attempts(seen.request_cause, (failure.at,), failures, failure))


def read(text: str) -> dict[str, Any]:
    """Read an expected status; its times are kept as text."""
    status: dict[str, Any] = yaml.load(text, Loader=yaml.BaseLoader)
    for condition in status["conditions"]:
        condition["observedGeneration"] = int(condition["observedGeneration"])
    for name in ("observedGeneration", "failedAttempts", "revision"):
        if name in status:
            status[name] = int(status[name])
    return status


# An answer becomes a token


def an_answer(**changes: Any) -> TokenAnswer:
    fields: dict[str, Any] = {
        "access_token": SecretStr("canary-access-token"),
        "expires_in": 3600,
        "scopes": None,
        "claims": None,
    }
    return TokenAnswer(**(fields | changes))


def issue(
    seen: Observed | None = None, answer: TokenAnswer | None = None, now: Any = NOW, took: timedelta = SECOND
) -> IssuedToken:
    seen, answer = seen or observed(), answer or an_answer()
    validity = read_validity(answer, seen.owner.spec.lifetime, None, now, now + took, seen.skews.proved)
    return issued_token(assess(seen, now), Reason.RENEWING, answer, CREDENTIALS, validity)


def test_an_answer_becomes_a_token_with_all_that_its_secret_says() -> None:
    token = issue(now=NOW + timedelta(microseconds=999_999))

    assert token == IssuedToken(
        access_token=SecretStr("canary-access-token"),
        environment=a_spec().environment,
        issued_at=NOW,
        expires_at=NOW + HOUR,
        scopes=("ledger:read",),
        token_id=token.token_id,
        spec_hash=a_spec().request_hash(),
        credentials_fingerprint=credentials_fingerprint(CREDENTIALS, SecretStr("canary-access-token")),
        revision=1,
        reason="Renewing",
        renew_request=None,
    )


@pytest.mark.parametrize(
    ("answered", "claimed", "granted"),
    [
        pytest.param(None, None, ("ledger:read",), id="nothing said: what was asked for"),
        pytest.param(("b", "a"), None, ("a", "b"), id="the answer's"),
        pytest.param(("a",), Claims(scopes=("c",)), ("c",), id="the JWT's before the answer's"),
        pytest.param(("a",), Claims(), ("a",), id="a JWT that says none: the answer's"),
        pytest.param(None, Claims(), ("ledger:read",), id="a JWT that says none and no scope"),
        pytest.param(("a",), Claims(scopes=()), (), id="a JWT whose scope is empty carries none"),
        pytest.param(("ok", "bad\nline", "bad\x00", "käse", "\u2028"), None, ("ok",), id="unsafe scopes"),
        pytest.param(("x" * 256, "y" * 257), None, ("x" * 256,), id="too long for status"),
        pytest.param(
            tuple(f"s{number:04}" for number in range(300)),
            None,
            tuple(f"s{number:04}" for number in range(256)),
            id="too many for status",
        ),
        pytest.param(("a", "a"), None, ("a",), id="said twice"),
    ],
)
def test_the_scopes_are_those_that_the_token_carries(
    answered: tuple[str, ...] | None, claimed: Claims | None, granted: tuple[str, ...]
) -> None:
    assert issue(answer=an_answer(scopes=answered, claims=claimed)).scopes == granted


@pytest.mark.parametrize(
    ("jti", "kept"),
    [
        pytest.param("jti-1", True, id="plain"),
        pytest.param("a b~!", True, id="printable"),
        pytest.param(None, False, id="none"),
        pytest.param("", False, id="empty"),
        pytest.param("line\nbreak", False, id="line break"),
        pytest.param("käse", False, id="not ASCII"),
        pytest.param("x" * 257, False, id="too long"),
    ],
)
def test_a_token_without_a_plain_jti_is_known_by_its_fingerprint(jti: str | None, *, kept: bool) -> None:
    token_id = issue(answer=an_answer(claims=Claims(jti=jti))).token_id

    assert token_id == jti if kept else token_id.startswith("sha256:")
    assert "canary" not in token_id


@pytest.mark.parametrize(
    ("known", "reported", "revision"),
    [
        pytest.param(None, None, 1, id="the first"),
        pytest.param(4, None, 5, id="after the Secret's, status lost"),
        pytest.param(None, 6, 7, id="after the status', Secret lost"),
        pytest.param(4, 6, 7, id="after the greater"),
        pytest.param(6, 4, 7, id="after the greater, the other way round"),
    ],
)
def test_each_token_has_the_next_revision(known: int | None, reported: int | None, revision: int) -> None:
    status = {"observedGeneration": 1} | ({} if reported is None else {"revision": reported})
    held = None if known is None else an_issued_token(revision=known)

    assert issue(observed(an_asset_token(status=status), last_issued=held)).revision == revision


@pytest.mark.parametrize(
    ("asked", "served_before", "serves"),
    [
        pytest.param(None, None, None, id="none"),
        pytest.param("2", "1", "2", id="new"),
        pytest.param(None, "1", "1", id="annotation removed: what was served stays served"),
        pytest.param("1", None, "1", id="first"),
    ],
)
def test_a_token_serves_the_latest_renew_request(
    asked: str | None, served_before: str | None, serves: str | None
) -> None:
    seen = observed(an_asset_token(renew_request=asked), last_issued=an_issued_token(renew_request=served_before))

    assert issue(seen).renew_request == serves


# The clocks


@pytest.mark.parametrize(
    ("skew", "claims", "expires"),
    [
        pytest.param(None, None, HOUR, id="not seen"),
        pytest.param(timedelta(), None, HOUR, id="even"),
        pytest.param(5 * MINUTE, None, HOUR + 5 * MINUTE, id="ahead: expires_in counts from Asset's now"),
        pytest.param(-5 * MINUTE, None, HOUR - 5 * MINUTE, id="behind: expires_in counts from Asset's now"),
        pytest.param(
            5 * MINUTE,
            Claims(exp=(NOW + HOUR).timestamp()),
            HOUR,
            id="ahead: the JWT's exp is on Asset's clock anyway",
        ),
    ],
)
def test_a_tokens_times_are_on_assets_clock(skew: timedelta | None, claims: Claims | None, expires: timedelta) -> None:
    token = issue(observed(skews=Skews(proved=skew)), an_answer(claims=claims))

    assert token.issued_at == NOW + (skew or timedelta())
    assert token.expires_at == NOW + expires
    assert token.skew == (skew or timedelta())


def test_a_jwt_that_has_expired_by_assets_clock_only_is_broken() -> None:
    claims = Claims(exp=(NOW + MINUTE).timestamp())

    assert issue(answer=an_answer(claims=claims)).expires_at == NOW + MINUTE
    with pytest.raises(BrokenAnswerError):
        issue(observed(skews=Skews(proved=MINUTE)), an_answer(claims=claims))


@pytest.mark.parametrize(
    ("skew", "begins", "not_before"),
    [
        pytest.param(None, -SECOND, None, id="works already"),
        pytest.param(None, 3 * SECOND, None, id="works by the time the answer has come"),
        pytest.param(None, MINUTE, MINUTE, id="works later"),
        pytest.param(MINUTE, MINUTE, None, id="within the measured skew"),
        pytest.param(MINUTE, 2 * MINUTE, 2 * MINUTE, id="beyond the measured skew"),
        pytest.param(-MINUTE, timedelta(), timedelta(), id="Asset's clock is behind"),
    ],
)
def test_a_token_says_from_when_it_works_where_that_is_still_to_come(
    skew: timedelta | None, begins: timedelta, not_before: timedelta | None
) -> None:
    claims = Claims(not_before=(NOW + begins).timestamp())

    token = issue(observed(skews=Skews(proved=skew)), an_answer(claims=claims), took=3 * SECOND)

    assert token.not_before == (None if not_before is None else NOW + not_before)


# The wrong environment


PRODUCTION, SANDBOX = Environment.PRODUCTION, Environment.SANDBOX


@pytest.mark.parametrize(
    ("environment", "claims", "refused"),
    [
        pytest.param(SANDBOX, None, False, id="opaque"),
        pytest.param(SANDBOX, Claims(), False, id="says nothing"),
        pytest.param(SANDBOX, Claims(issuer="https://api.sandbox.getasset.com"), False, id="its own issuer"),
        pytest.param(SANDBOX, Claims(issuer="https://auth.example.com"), False, id="an unknown issuer"),
        pytest.param(SANDBOX, Claims(issuer="https://api.getasset.com"), True, id="sandbox asked, production's issuer"),
        pytest.param(
            PRODUCTION,
            Claims(issuer="https://api.sandbox.getasset.com/v0"),
            True,
            id="production asked, sandbox's issuer",
        ),
        pytest.param(SANDBOX, Claims(issuer="HTTPS://API.GetAsset.com:443"), True, id="in capitals, with a port"),
        pytest.param(SANDBOX, Claims(issuer="api.getasset.com"), True, id="a bare host"),
        pytest.param(SANDBOX, Claims(issuer="api.getasset.com:443/v0"), True, id="a bare host with port and path"),
        pytest.param(SANDBOX, Claims(issuer="https://api.getasset.com./"), True, id="a host with its last dot"),
        pytest.param(SANDBOX, Claims(audience=("x", "https://api.getasset.com/mcp")), True, id="among the audience"),
        pytest.param(
            SANDBOX,
            Claims(issuer="https://api.sandbox.getasset.com", audience=("https://api.getasset.com",)),
            True,
            id="its own issuer, but the other's audience",
        ),
        pytest.param(SANDBOX, Claims(issuer="https://api.getasset.com.example.com"), False, id="looks like it only"),
        pytest.param(SANDBOX, Claims(issuer="http://[::1", audience=("https://[",)), False, id="no URL"),
    ],
)
def test_a_token_of_the_other_environment_is_refused(
    environment: Environment, claims: Claims | None, *, refused: bool
) -> None:
    seen = observed(an_asset_token(a_spec(environment=environment)))

    if refused:
        with pytest.raises(WrongEnvironmentError, match=r"check the credentials in Secret .+, spec.resources and"):
            issue(seen, an_answer(claims=claims))
    else:
        assert issue(seen, an_answer(claims=claims)).environment is environment


def test_a_token_for_a_resource_of_the_other_environment_is_refused_even_if_it_was_asked_for() -> None:
    resources = ("https://api.getasset.com/mcp",)
    seen = observed(an_asset_token(a_spec(resources=resources)))

    with pytest.raises(WrongEnvironmentError, match=r"check .* spec\.resources"):
        issue(seen, an_answer(claims=Claims(audience=resources)))


def test_an_answer_that_has_expired_is_broken() -> None:
    with pytest.raises(BrokenAnswerError):
        issue(answer=an_answer(claims=Claims(exp=NOW.timestamp())))


# An error becomes a failure


@pytest.mark.parametrize(
    ("error", "reason", "stalled"),
    [
        pytest.param(SecretConflictError("said"), "SecretConflict", True, id="conflict"),
        pytest.param(CredentialsNotFoundError("said"), "CredentialsNotFound", True, id="no credentials"),
        pytest.param(CredentialsInvalidError("said"), "CredentialsInvalid", True, id="bad credentials"),
        pytest.param(InvalidClientError("said"), "InvalidClient", True, id="invalid client"),
        pytest.param(InvalidScopeError("said"), "InvalidScope", True, id="invalid scope"),
        pytest.param(RequestRefusedError("said"), "RequestRefused", True, id="refused"),
        pytest.param(WrongEnvironmentError("said"), "WrongEnvironment", True, id="wrong environment"),
        pytest.param(AssetUnavailableError("said"), "AssetUnavailable", False, id="unavailable"),
        pytest.param(RateLimitedError("said"), "RateLimited", False, id="rate limited"),
        pytest.param(BrokenAnswerError("said"), "BrokenAnswer", False, id="broken"),
        pytest.param(KubeUnavailableError("said"), "ClusterUnavailable", False, id="cluster unavailable"),
        pytest.param(KubeRefusedError("said", 403), "ClusterRefused", False, id="cluster refused"),
        pytest.param(NotFoundError("said", 404), "ClusterRefused", False, id="not found"),
    ],
)
def test_an_error_says_its_reason_and_whether_trying_again_helps(
    error: OperatorError,
    reason: str,
    *,
    stalled: bool,
) -> None:
    failure = failure_of(error, NOW)

    assert failure == Failure(NOW, Reason(reason), "said")
    assert failure.stalled is stalled


def test_every_error_that_is_raised_has_a_reason() -> None:
    def leaves(parent: type[OperatorError]) -> list[type[OperatorError]]:
        return [leaf for child in parent.__subclasses__() for leaf in leaves(child)] or [parent]

    assert {leaf.__name__ for leaf in leaves(OperatorError) if leaf.reason not in set(Reason)} == set()
    assert not hasattr(AssetError, "reason")


def test_a_long_message_is_cut_to_what_status_takes() -> None:
    assert failure_of(AssetUnavailableError("x" * 5000), NOW).message == "x" * 1024


# Status


def test_status_of_a_first_token() -> None:
    assert status_of(holding(an_issued_token())) == read("""
        observedGeneration: 1
        summary: Ready
        conditions:
        - type: Ready
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: SecretSynced
          message: Secret ledger-writer-token holds a token that is valid until 2026-05-01T13:00:00Z.
        - type: Issuing
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: SecretSynced
          message: The token is up to date.
        - type: ScopesGranted
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: AllGranted
          message: The token carries all scopes that were requested.
        secretName: ledger-writer-token
        binding: {name: ledger-writer-token}
        issuanceTime: 2026-05-01T12:00:00Z
        expirationTime: 2026-05-01T13:00:00Z
        renewalTime: 2026-05-01T12:38:08Z
        grantedScopes: [ledger:read]
        tokenId: token-1
        revision: 1
        syncedHash: f6dc6b90b1368602-dc937b59892604f5
        history:
        - {time: 2026-05-01T12:00:00Z, reason: FirstToken, outcome: Issued, expirationTime: 2026-05-01T13:00:00Z}
    """)


def test_status_before_the_first_token() -> None:
    assert status_of(observed()) == read("""
        observedGeneration: 1
        summary: DoesNotExist
        conditions:
        - type: Ready
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: DoesNotExist
          message: Secret ledger-writer-token holds no token yet.
        - type: Issuing
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: DoesNotExist
          message: A token is about to be requested.
    """)


def test_status_of_a_first_request_that_was_refused() -> None:
    assert status_of(failing(observed(), REFUSED)) == read("""
        observedGeneration: 1
        summary: RequestRefused
        conditions:
        - type: Ready
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: RequestRefused
          message: >-
            Asset refused the request (401 invalid_client). Secret ledger-writer-token holds no token yet.
        - type: Issuing
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: RequestRefused
          message: Asset refused the request (401 invalid_client).
        - type: Stalled
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: RequestRefused
          message: Asset refused the request (401 invalid_client).
        failedAttempts: 1
        lastFailureTime: 2026-05-01T12:00:00Z
        history:
        - time: 2026-05-01T12:00:00Z
          reason: RequestRefused
          outcome: Failed
          message: Asset refused the request (401 invalid_client).
    """)


def test_status_stays_ready_while_a_renewal_fails() -> None:
    now = NOW + 41 * MINUTE
    first = status_of(holding(an_issued_token()))
    owner = an_asset_token(status=first)
    seen = failing(holding(an_issued_token(), owner), replace(UNAVAILABLE, at=now), failures=3)

    assert status_of(seen, now) == read("""
        observedGeneration: 1
        summary: AssetUnavailable
        conditions:
        - type: Ready
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: SecretSynced
          message: Secret ledger-writer-token holds a token that is valid until 2026-05-01T13:00:00Z.
        - type: Issuing
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:41:00Z
          reason: AssetUnavailable
          message: Asset answered 503.
        - type: ScopesGranted
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: AllGranted
          message: The token carries all scopes that were requested.
        secretName: ledger-writer-token
        binding: {name: ledger-writer-token}
        issuanceTime: 2026-05-01T12:00:00Z
        expirationTime: 2026-05-01T13:00:00Z
        renewalTime: 2026-05-01T12:38:08Z
        grantedScopes: [ledger:read]
        tokenId: token-1
        revision: 1
        syncedHash: f6dc6b90b1368602-dc937b59892604f5
        failedAttempts: 3
        lastFailureTime: 2026-05-01T12:41:00Z
        history:
        - {time: 2026-05-01T12:00:00Z, reason: FirstToken, outcome: Issued, expirationTime: 2026-05-01T13:00:00Z}
        - {time: 2026-05-01T12:41:00Z, reason: AssetUnavailable, outcome: Failed, message: Asset answered 503.}
    """)


def test_status_of_a_token_that_expired_while_its_renewal_failed() -> None:
    now = NOW + HOUR
    owner = an_asset_token(status=status_of(holding(an_issued_token())))
    seen = failing(holding(an_issued_token(), owner), replace(UNAVAILABLE, at=now - MINUTE), failures=9)

    status = status_of(seen, now)

    assert status == read("""
        observedGeneration: 1
        summary: AssetUnavailable
        conditions:
        - type: Ready
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T13:00:00Z
          reason: AssetUnavailable
          message: >-
            Asset answered 503. The token in Secret ledger-writer-token expired at 2026-05-01T13:00:00Z.
        - type: Issuing
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T13:00:00Z
          reason: AssetUnavailable
          message: Asset answered 503.
        - type: ScopesGranted
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: AllGranted
          message: The token carries all scopes that were requested.
        secretName: ledger-writer-token
        binding: {name: ledger-writer-token}
        issuanceTime: 2026-05-01T12:00:00Z
        expirationTime: 2026-05-01T13:00:00Z
        renewalTime: 2026-05-01T12:38:08Z
        grantedScopes: [ledger:read]
        tokenId: token-1
        revision: 1
        syncedHash: f6dc6b90b1368602-dc937b59892604f5
        failedAttempts: 9
        lastFailureTime: 2026-05-01T12:59:00Z
        history:
        - {time: 2026-05-01T12:00:00Z, reason: FirstToken, outcome: Issued, expirationTime: 2026-05-01T13:00:00Z}
        - {time: 2026-05-01T12:59:00Z, reason: AssetUnavailable, outcome: Failed, message: Asset answered 503.}
    """)


def test_status_of_a_changed_spec_that_is_refused_speaks_of_the_new_generation() -> None:
    changed = an_asset_token(a_spec(scopes=("ledger:create",)), generation=2)
    seen = failing(holding(an_issued_token(a_spec()), changed), REFUSED)

    assert status_of(seen) == read("""
        observedGeneration: 2
        summary: RequestRefused
        conditions:
        - type: Ready
          status: "False"
          observedGeneration: 2
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: RequestRefused
          message: >-
            Asset refused the request (401 invalid_client). Secret ledger-writer-token holds a token
            that was issued for an earlier spec.
        - type: Issuing
          status: "True"
          observedGeneration: 2
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: RequestRefused
          message: Asset refused the request (401 invalid_client).
        - type: Stalled
          status: "True"
          observedGeneration: 2
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: RequestRefused
          message: Asset refused the request (401 invalid_client).
        - type: ScopesGranted
          status: "False"
          observedGeneration: 2
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: ScopesMissing
          message: >-
            Asset sandbox did not grant all scopes: allow the others for the credentials in Secret asset-credentials, or
            remove them from spec.scopes. Missing: ledger:create.
        secretName: ledger-writer-token
        binding: {name: ledger-writer-token}
        issuanceTime: 2026-05-01T12:00:00Z
        expirationTime: 2026-05-01T13:00:00Z
        renewalTime: 2026-05-01T12:38:08Z
        grantedScopes: [ledger:read]
        tokenId: token-1
        revision: 1
        syncedHash: f6dc6b90b1368602-dc937b59892604f5
        failedAttempts: 1
        lastFailureTime: 2026-05-01T12:00:00Z
        history:
        - {time: 2026-05-01T12:00:00Z, reason: FirstToken, outcome: Issued, expirationTime: 2026-05-01T13:00:00Z}
        - time: 2026-05-01T12:00:00Z
          reason: RequestRefused
          outcome: Failed
          message: Asset refused the request (401 invalid_client).
    """)


def test_status_while_suspended() -> None:
    owner = an_asset_token(a_spec(suspend=True))

    assert status_of(observed(owner)) == read("""
        observedGeneration: 1
        summary: Suspended
        conditions:
        - type: Ready
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: Suspended
          message: >-
            spec.suspend is true, so no token is requested; set it to false to go on.
            Secret ledger-writer-token holds no token yet.
        - type: Issuing
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: Suspended
          message: spec.suspend is true, so no token is requested; set it to false to go on.
    """)


def test_status_while_suspended_is_ready_as_long_as_the_token_is_valid() -> None:
    owner = an_asset_token(a_spec(suspend=True))
    seen = holding(an_issued_token(), owner)

    assert conditions(status_of(seen)) == {
        "Ready": ("True", "SecretSynced"),
        "Issuing": ("False", "Suspended"),
        "ScopesGranted": ("True", "AllGranted"),
    }
    assert conditions(status_of(seen, NOW + HOUR))["Ready"] == ("False", "Suspended")


def test_status_of_one_whose_secret_is_taken() -> None:
    owner = an_asset_token(status={"observedGeneration": 1, "revision": 7})

    assert status_of(observed(owner, secret=a_secret(type="Opaque"))) == read("""
        observedGeneration: 1
        summary: SecretConflict
        conditions:
        - type: Ready
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: SecretConflict
          message: &taken >-
            Secret ledger-writer-token exists and does not belong to this AssetToken, so it is left alone; delete it or
            set another spec.secret.name.
        - type: Issuing
          status: "False"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: SecretConflict
          message: *taken
        - type: Stalled
          status: "True"
          observedGeneration: 1
          lastTransitionTime: 2026-05-01T12:00:00Z
          reason: SecretConflict
          message: *taken
        revision: 7
    """)


def test_status_of_one_whose_secret_will_be_collected_is_not_stalled() -> None:
    secret = a_secret(an_asset_token(uid="deleted"))

    assert conditions(status_of(observed(secret=secret))) == {
        "Ready": ("False", "SecretConflict"),
        "Issuing": ("False", "SecretConflict"),
    }


def test_status_of_the_younger_of_two_is_stalled() -> None:
    assert conditions(status_of(observed(senior="ledger-reader"))) == {
        "Ready": ("False", "SecretConflict"),
        "Issuing": ("False", "SecretConflict"),
        "Stalled": ("True", "SecretConflict"),
    }


ALL_GRANTED = "The token carries all scopes that were requested."
NOT_GRANTED = (
    "Asset sandbox did not grant all scopes: allow the others for the credentials in Secret asset-credentials, or"
    " remove them from spec.scopes. Missing: b, c."
)
NOT_FOR = "Asset sandbox issued a token that is not for all resources: correct spec.resources. Missing: a:y, a:z."


@pytest.mark.parametrize(
    ("asked", "granted", "condition", "message"),
    [
        pytest.param(("a",), ("a",), ("True", "AllGranted"), ALL_GRANTED, id="all"),
        pytest.param((), ("a",), ("True", "AllGranted"), ALL_GRANTED, id="none asked"),
        pytest.param(("a",), ("a", "b"), ("True", "AllGranted"), ALL_GRANTED, id="more"),
        pytest.param(("c", "b", "a"), ("a",), ("False", "ScopesMissing"), NOT_GRANTED, id="missing"),
    ],
)
def test_status_says_which_scopes_are_missing(
    asked: tuple[str, ...], granted: tuple[str, ...], condition: tuple[str, str], message: str
) -> None:
    spec = a_spec(scopes=asked)

    status = status_of(holding(an_issued_token(spec, scopes=granted), an_asset_token(spec)))

    assert conditions(status)["ScopesGranted"] == condition
    assert status["conditions"][-1]["message"] == message
    assert conditions(status)["Ready"] == ("True", "SecretSynced")


def test_status_says_so_when_renew_before_is_too_long_for_the_lifetime() -> None:
    spec = a_spec(renew_before=timedelta(hours=2), lifetime=timedelta(hours=3))

    status = status_of(holding(an_issued_token(spec), an_asset_token(spec)))

    assert status["conditions"][1] == {
        "type": "Issuing",
        "status": "False",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-05-01T12:00:00Z",
        "reason": "RenewBeforeTooLong",
        "message": (
            "renewBefore is 2h, but Asset issued a token for 1h only:"
            " it is renewed a third of that before it expires. Lower renewBefore, or set a longer spec.lifetime."
        ),
    }
    assert status["renewalTime"] == "2026-05-01T12:38:08Z"


@pytest.mark.parametrize(
    ("asked", "audience", "condition", "message"),
    [
        pytest.param(
            (), (), "AllGranted", "The token carries all scopes that were requested.", id="none asked, none said"
        ),
        pytest.param((), ("a:x",), "AllGranted", "The token carries all scopes that were requested.", id="none asked"),
        pytest.param(
            ("a:x",), (), "AllGranted", "The token carries all scopes that were requested.", id="it doesn't say"
        ),
        pytest.param(
            ("a:x",), ("a:x", "a:y"), "AllGranted", "The token carries all scopes that were requested.", id="for more"
        ),
        pytest.param(("a:z", "a:y", "a:x"), ("a:x",), "AudienceMismatch", NOT_FOR, id="for fewer"),
    ],
)
def test_status_says_which_resources_a_token_is_not_for(
    asked: tuple[str, ...], audience: tuple[str, ...], condition: str, message: str
) -> None:
    spec = a_spec(resources=asked)

    status = status_of(holding(an_issued_token(spec, audience=audience), an_asset_token(spec)))

    assert conditions(status)["ScopesGranted"] == (str(condition == "AllGranted"), condition)
    assert status["conditions"][-1]["message"] == message
    assert conditions(status)["Ready"] == ("True", "SecretSynced")


@pytest.mark.parametrize(
    ("asked", "audience", "same"),
    [
        pytest.param("https://r.example", "https://r.example/", True, id="an empty path"),
        pytest.param("https://r.example/", "https://r.example", True, id="the other way round"),
        pytest.param("https://r.example/mcp", "HTTPS://R.Example/mcp", True, id="case of scheme and host"),
        pytest.param("https://r.example/mcp", "https://r.example:443/mcp", True, id="the default port"),
        pytest.param("http://[::1]/mcp", "http://[::1]:80/mcp", True, id="the default port of another scheme"),
        pytest.param("https://r.example/mcp", "https://r.example/MCP", False, id="case of the path"),
        pytest.param("https://r.example/mcp", "https://r.example/mcp/", False, id="another path"),
        pytest.param("https://r.example", "https://r.example:444", False, id="another port"),
        pytest.param("https://r.example", "http://r.example", False, id="another scheme"),
        pytest.param("https://r.example?a", "https://r.example?b", False, id="another query"),
        pytest.param("https://r.example", "https://[r.example", False, id="no URI"),
        pytest.param("https://r.example", "https://r.example:x", False, id="no port"),
        pytest.param("urn:example:r", "urn:example:r", True, id="without a host"),
    ],
)
def test_resources_are_compared_as_uris(asked: str, audience: str, *, same: bool) -> None:
    spec = a_spec(resources=(asked,))

    status = status_of(holding(an_issued_token(spec, audience=(audience,)), an_asset_token(spec)))

    assert conditions(status)["ScopesGranted"][0] == str(same)


def test_scopes_that_are_missing_are_told_before_resources() -> None:
    spec = a_spec(scopes=("a",), resources=("a:x",))

    status = status_of(holding(an_issued_token(spec, scopes=(), audience=("a:y",)), an_asset_token(spec)))

    assert conditions(status)["ScopesGranted"] == ("False", "ScopesMissing")


# Waiting for a place in the tenant's budget


def queued(since: datetime) -> dict[str, Any]:
    return {"slot": SlotState.QUEUED, "queued_since": since}


def a_due_one(**changes: Any) -> Observed:
    return holding(an_issued_token(issued_at=NOW - 50 * MINUTE, expires_at=NOW + 10 * MINUTE), **changes)


@pytest.mark.parametrize(
    ("seen", "condition"),
    [
        pytest.param(a_due_one(**queued(NOW)), ("False", "SecretSynced"), id="just begun"),
        pytest.param(a_due_one(**queued(NOW - 29 * SECOND)), ("False", "SecretSynced"), id="29 s"),
        pytest.param(
            observed(**queued(NOW - 29 * SECOND)),
            ("False", "DoesNotExist"),
            id="29 s for the first",
        ),
        pytest.param(
            a_due_one(**queued(NOW - HOUR)),
            ("False", "SecretSynced"),
            id="a renewal that has time",
        ),
        pytest.param(
            holding(
                an_issued_token(issued_at=NOW - 55 * MINUTE, expires_at=NOW + 5 * MINUTE),
                slot=SlotState.QUEUED,
                queued_since=NOW - 30 * SECOND,
            ),
            ("True", "WaitingForBudget"),
            id="30 s, about to expire",
        ),
        pytest.param(
            observed(**queued(NOW - HOUR)),
            ("True", "WaitingForBudget"),
            id="an hour for the first",
        ),
        pytest.param(
            a_due_one(endpoint_down=True, **queued(NOW - MINUTE)),
            ("True", "AssetUnavailable"),
            id="endpoint down",
        ),
        pytest.param(
            failing(a_due_one(endpoint_down=True, **queued(NOW - MINUTE))),
            ("True", "AssetUnavailable"),
            id="endpoint down, and its own request failed",
        ),
        pytest.param(
            failing(
                a_due_one(**queued(NOW - MINUTE)),
                replace(REFUSED, reason=Reason.RATE_LIMITED),
            ),
            ("True", "RateLimited"),
            id="its own request was too much",
        ),
        pytest.param(
            observed(an_asset_token(a_spec(suspend=True)), **queued(NOW - MINUTE)),
            ("False", "Suspended"),
            id="suspended meanwhile",
        ),
    ],
)
def test_a_wait_for_the_budget_is_told_after_half_a_minute(seen: Observed, condition: tuple[str, str]) -> None:
    status = status_of(seen)

    assert conditions(status)["Issuing"] == condition
    assert "Stalled" not in conditions(status)


def test_a_wait_for_the_budget_is_no_failure_and_is_written_once() -> None:
    first = status_of(observed(**queued(NOW - 30 * SECOND)), NOW)
    seen = observed(an_asset_token(status=first), **queued(NOW - 30 * SECOND))

    again = status_of(seen, NOW + HOUR)

    assert "failedAttempts" not in first
    assert "history" not in first
    assert not worth_writing(first, again, NOW + HOUR)


# Credentials that Asset doesn't accept


@pytest.mark.parametrize(
    ("seen", "stalls"),
    [
        pytest.param(observed(parked=PARKED), True, id="which never asked itself"),
        pytest.param(a_due_one(parked=PARKED), True, id="which is due"),
        pytest.param(failing(a_due_one(parked=PARKED)), True, id="which failed otherwise before"),
        pytest.param(holding(an_issued_token(), parked=PARKED), False, id="which needs none now"),
    ],
)
def test_credentials_that_are_not_accepted_are_told_by_every_token_that_needs_them(
    seen: Observed, *, stalls: bool
) -> None:
    status = status_of(seen)

    assert (conditions(status).get("Stalled") == ("True", "InvalidClient")) is stalls
    assert (conditions(status)["Issuing"] == ("True", "InvalidClient")) is stalls
    assert ("failedAttempts" in status) is stalls


# Times


@pytest.mark.parametrize("number", range(5), ids="uid-{}".format)
def test_status_tells_the_renewal_as_it_is_spread_by_the_uid(number: int) -> None:
    owner = an_asset_token(uid=f"uid-{number}")
    seen = holding(an_issued_token(), owner)

    told = parse_time(status_of(seen)["renewalTime"])

    assert told == renewal_time(an_issued_token(), owner.spec, owner.uid)
    assert NOW + 36 * MINUTE <= told <= NOW + 40 * MINUTE
    assert isinstance(decide(assess(seen, told)), RequestToken)


@pytest.mark.parametrize("skew", [-5 * MINUTE, 5 * MINUTE], ids=["behind", "ahead"])
def test_ready_ends_by_assets_clock(skew: timedelta) -> None:
    seen = holding(an_issued_token(), skews=Skews(proved=skew))

    assert conditions(status_of(seen, NOW + HOUR - skew - SECOND))["Ready"] == ("True", "SecretSynced")
    assert conditions(status_of(seen, NOW + HOUR - skew))["Ready"] == ("False", "Expired")


def test_status_names_the_renew_request_that_was_served() -> None:
    owner = an_asset_token(renew_request="1777636800")

    status = status_of(holding(an_issued_token(renew_request="1777636800"), owner))

    assert status["lastHandledRenewRequest"] == "1777636800"


def test_status_tells_of_writes_that_fail() -> None:
    failure = Failure(NOW, Reason.CLUSTER_REFUSED, "the API server refused with 403 Forbidden.")
    seen = observed(last_issued=an_issued_token())

    status = status_of(replace(seen, writes=Attempts(the_write(seen).cause, (NOW,), 2, failure)))

    assert conditions(status) == {"Ready": ("False", "ClusterRefused"), "Issuing": ("True", "ClusterRefused")}
    assert status["failedAttempts"] == 2


def test_status_tells_of_writes_that_fail_also_while_suspended() -> None:
    """Nothing is requested, but the Secret is still kept in order."""
    failure = Failure(NOW, Reason.DENIED_BY_POLICY, "a webhook denied it.")
    seen = observed(an_asset_token(a_spec(suspend=True)), last_issued=an_issued_token())

    status = status_of(replace(seen, writes=Attempts(the_write(seen).cause, (NOW,), 2, failure)))

    assert (status["summary"], conditions(status)["Ready"]) == ("DeniedByPolicy", ("False", "DeniedByPolicy"))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(
            holding(an_issued_token(), requests=Attempts("an earlier cause", (NOW,), 1, REFUSED)), id="of another cause"
        ),
        pytest.param(failing(holding(an_issued_token())), id="no longer needed"),
        pytest.param(
            observed(last_issued=an_issued_token(), writes=Attempts("other content", (NOW,), 1, UNAVAILABLE)),
            id="writes of other content",
        ),
        pytest.param(
            holding(an_issued_token(), writes=Attempts("other content", (NOW,), 1, UNAVAILABLE)),
            id="writes that are no longer needed",
        ),
        pytest.param(observed(writes=Attempts("content", (NOW,), 1, UNAVAILABLE)), id="writes of a token that is lost"),
    ],
)
def test_failures_that_no_longer_matter_are_not_told(seen: Observed) -> None:
    status = status_of(seen)

    assert conditions(status)["Issuing"][0] == "False"
    assert "failedAttempts" not in status
    assert all(entry["outcome"] == "Issued" for entry in status.get("history", ()))


def test_a_failed_request_is_told_before_a_failed_write() -> None:
    due = an_issued_token(issued_at=NOW - 50 * MINUTE, expires_at=NOW + 10 * MINUTE)
    seen = failing(observed(last_issued=due))

    status = status_of(replace(seen, writes=Attempts(the_write(seen).cause, (NOW,), 1, REFUSED)))

    assert conditions(status)["Issuing"] == ("True", "AssetUnavailable")


def test_status_after_a_rename_speaks_of_the_new_secret_only_once_it_is_there() -> None:
    owner = an_asset_token(a_spec(secret=SecretSpec("new-name")))

    assert "secretName" not in status_of(observed(owner, old_secrets=(a_secret(),)))
    assert status_of(holding(an_issued_token(), owner))["secretName"] == "new-name"


def test_status_holds_no_token_and_no_credential() -> None:
    seen = failing(holding(an_issued_token(issued_at=NOW - HOUR, expires_at=NOW + SECOND)), REFUSED)

    assert "canary" not in str(status_of(seen))


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(observed(), id="no token"),
        pytest.param(holding(an_issued_token()), id="issued"),
        pytest.param(failing(observed(), REFUSED), id="refused"),
        pytest.param(observed(secret=a_secret(type="Opaque")), id="conflict"),
        pytest.param(observed(an_asset_token(a_spec(suspend=True))), id="suspended"),
    ],
)
def test_the_same_situation_gives_the_same_status_so_nothing_is_written(seen: Observed) -> None:
    status = status_of(seen)
    again = replace(seen, owner=replace(seen.owner, status=parse_status(status)))

    assert status_of(again, NOW + SECOND) == status
    assert not worth_writing(status, status_of(again, NOW + SECOND), NOW + SECOND)


def test_a_condition_keeps_its_transition_time_until_its_status_changes() -> None:
    first = status_of(failing(observed()))
    owner = an_asset_token(status=first)

    failed_again = status_of(failing(observed(owner), replace(REFUSED, at=NOW + MINUTE)), NOW + MINUTE)
    issued = status_of(holding(an_issued_token(), owner), NOW + 2 * MINUTE)

    assert transition_times(failed_again) == {
        "Ready": "2026-05-01T12:00:00Z",
        "Issuing": "2026-05-01T12:00:00Z",
        "Stalled": "2026-05-01T12:01:00Z",
    }
    assert transition_times(issued)["Ready"] == "2026-05-01T12:02:00Z"
    assert transition_times(issued)["Issuing"] == "2026-05-01T12:02:00Z"


def conditions(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {found["type"]: (found["status"], found["reason"]) for found in status["conditions"]}


def transition_times(status: dict[str, Any]) -> dict[str, str]:
    return {found["type"]: found["lastTransitionTime"] for found in status["conditions"]}


# History


def test_history_has_one_entry_for_a_row_of_like_failures() -> None:
    owner = an_asset_token()
    for minute in range(5):
        failure = replace(UNAVAILABLE, at=NOW + minute * MINUTE)
        seen = failing(observed(owner), failure, failures=minute + 1)
        owner = with_status(owner, status_of(seen, failure.at))

    assert [(entry["time"], entry["reason"]) for entry in owner.status.to_json()["history"]] == [
        ("2026-05-01T12:00:00Z", "AssetUnavailable")
    ]
    assert owner.status.failed_attempts == 5


def test_history_shows_a_failure_of_another_kind() -> None:
    owner = an_asset_token(status=status_of(failing(observed())))

    status = status_of(failing(observed(owner), replace(REFUSED, at=NOW + MINUTE)), NOW + MINUTE)

    assert [entry["reason"] for entry in status["history"]] == ["AssetUnavailable", "RequestRefused"]


def test_history_is_bounded_and_keeps_the_latest() -> None:
    owner = an_asset_token()
    for hour in range(25):
        now = NOW + hour * HOUR
        token = an_issued_token(issued_at=now, expires_at=now + HOUR, revision=hour + 1)
        owner = with_status(owner, status_of(holding(token, owner), now))

    assert [entry["time"] for entry in owner.status.to_json()["history"]] == [
        f"2026-05-0{1 + (12 + hour) // 24}T{(12 + hour) % 24:02}:00:00Z" for hour in range(15, 25)
    ]


def test_history_stays_in_order_when_the_token_is_older_than_all_of_it() -> None:
    """A long row of mixed failures pushes the token's own entry out; it must not come back as if it were new."""
    owner = an_asset_token()
    for minute in range(14):
        now = NOW + 40 * MINUTE + minute * MINUTE
        failure = replace(UNAVAILABLE if minute % 2 else REFUSED, at=now)
        owner = with_status(owner, status_of(failing(holding(an_issued_token(), owner), failure), now))

    times = [entry["time"] for entry in owner.status.to_json()["history"]]
    assert times == sorted(times)


# Whether a status is worth a write


def told(
    *, issuing: bool, ready: bool = False, stalled: bool = False, generation: int = 1, failed_at: str | None = None
) -> dict[str, Any]:
    since = {"lastTransitionTime": "2026-05-01T12:00:00Z"}
    status = {
        "observedGeneration": generation,
        "conditions": [
            {"type": "Ready", "status": str(ready), "reason": "A", "message": "a"} | since,
            {"type": "Issuing", "status": str(issuing), "reason": "B", "message": "b"} | since,
            *([{"type": "Stalled", "status": "True", "reason": "C", "message": "c"} | since] if stalled else ()),
        ],
    }
    return status | ({"lastFailureTime": failed_at} if failed_at else {})


LATER = "2026-05-01T12:00:01Z"
BEFORE = told(issuing=True, failed_at="2026-05-01T12:00:00Z")


@pytest.mark.parametrize(
    ("before", "after", "seconds", "worth"),
    [
        pytest.param(BEFORE, BEFORE, 3600, False, id="nothing new"),
        pytest.param({"observedGeneration": -1}, told(issuing=False), 0, True, id="the first"),
        pytest.param({}, told(issuing=False), 0, True, id="after status was lost"),
        pytest.param({"observedGeneration": -1}, BEFORE, 0, True, id="the first failure"),
        pytest.param(BEFORE, told(issuing=True, failed_at="2026-05-01T12:00:59Z"), 59, False, id="again in a minute"),
        pytest.param(BEFORE, told(issuing=True, failed_at="2026-05-01T12:01:00Z"), 60, True, id="after a minute"),
        pytest.param(BEFORE, told(issuing=True, ready=True, failed_at=LATER), 1, True, id="ready now"),
        pytest.param(
            told(issuing=True, ready=True, failed_at="2026-05-01T12:00:00Z"), BEFORE, 1, True, id="no longer ready"
        ),
        pytest.param(BEFORE, told(issuing=True, stalled=True, failed_at=LATER), 1, True, id="somebody has to act now"),
        pytest.param(
            told(issuing=True, stalled=True, failed_at="2026-05-01T12:00:00Z"), BEFORE, 1, True, id="nobody has to"
        ),
        pytest.param(BEFORE, told(issuing=True, generation=2, failed_at=LATER), 1, True, id="another generation"),
        pytest.param(BEFORE, told(issuing=False, ready=True), 1, True, id="recovered"),
        pytest.param(
            told(issuing=False, ready=True), told(issuing=True, failed_at=LATER), 1, True, id="begins to fail"
        ),
        pytest.param(told(issuing=False), told(issuing=False, ready=True), 1, True, id="renewed"),
    ],
)
def test_status_is_written_once_a_minute_while_failing_and_at_once_when_it_matters(
    before: dict[str, Any],
    after: dict[str, Any],
    seconds: int,
    *,
    worth: bool,
) -> None:
    assert worth_writing(before, after, NOW + timedelta(seconds=seconds)) is worth


def test_a_status_that_lost_its_failure_time_is_written_anew() -> None:
    """Status is a report and may be lost, also in part."""
    assert worth_writing(told(issuing=True), BEFORE, NOW)


# Events


SYNCED = status_of(holding(an_issued_token()))
RENEWED = status_of(
    holding(
        an_issued_token(revision=2, issued_at=NOW + 40 * MINUTE, expires_at=NOW + 100 * MINUTE),
        an_asset_token(status=SYNCED),
    ),
    NOW + 40 * MINUTE,
)
FAILS = status_of(failing(holding(an_issued_token())), NOW + 40 * MINUTE)
STALLS = status_of(failing(holding(an_issued_token()), REFUSED), NOW + 40 * MINUTE)
SHORT = status_of(holding(an_issued_token(scopes=())))
CONFLICTS = status_of(observed(secret=a_secret(type="Opaque")))
NEW = {"observedGeneration": -1}

ISSUED_EVENT = Event(
    "Normal",
    "Issued",
    "Asset issued the first token. Secret ledger-writer-token holds a token that is valid until 2026-05-01T13:00:00Z.",
)
FAILING_EVENT = Event("Warning", "AssetUnavailable", "Asset answered 503.")
REFUSED_EVENT = Event("Warning", "RequestRefused", REFUSED.message)
SHORT_EVENT = Event("Warning", "ScopesMissing", SHORT["conditions"][-1]["message"])
CONFLICT_EVENT = Event("Warning", "SecretConflict", CONFLICTS["conditions"][0]["message"])
RECOVERED_EVENT = Event("Normal", "Recovered", RENEWED["conditions"][0]["message"])


@pytest.mark.parametrize(
    ("before", "after", "issued", "events"),
    [
        pytest.param(NEW, SYNCED, True, [ISSUED_EVENT], id="first issued"),
        pytest.param({}, SYNCED, False, [], id="status lost"),
        pytest.param(SYNCED, RENEWED, True, [], id="renewed"),
        pytest.param(NEW, SHORT, True, [SHORT_EVENT], id="first issued without all scopes"),
        pytest.param(SYNCED, SHORT, True, [SHORT_EVENT], id="renewed without all scopes"),
        pytest.param(SHORT, SHORT | {"revision": 2}, True, [], id="renewed without all scopes again"),
        pytest.param({}, SHORT, False, [], id="status lost of one without all scopes"),
        pytest.param(SYNCED, FAILS, False, [FAILING_EVENT], id="begins to fail"),
        pytest.param(FAILS, FAILS, False, [], id="fails again"),
        pytest.param(FAILS, STALLS, False, [REFUSED_EVENT], id="fails for good"),
        pytest.param(STALLS, FAILS, False, [], id="fails otherwise"),
        pytest.param(SYNCED, STALLS, False, [REFUSED_EVENT], id="refused"),
        pytest.param(FAILS, RENEWED, True, [RECOVERED_EVENT], id="recovered"),
        pytest.param(STALLS, RENEWED, True, [RECOVERED_EVENT], id="recovered after somebody did something"),
        pytest.param(FAILS, SYNCED, False, [], id="no longer failing, but nothing was issued"),
        pytest.param(FAILS, STALLS, True, [REFUSED_EVENT], id="issued, but fails for good since"),
        pytest.param(SYNCED, CONFLICTS, False, [CONFLICT_EVENT], id="conflict"),
        pytest.param(CONFLICTS, CONFLICTS, False, [], id="conflict still there"),
        pytest.param(CONFLICTS, RENEWED, True, [RECOVERED_EVENT], id="conflict solved"),
        pytest.param(FAILS, CONFLICTS, False, [CONFLICT_EVENT], id="conflict while failing"),
        pytest.param(FAILS, status_of(observed()), False, [], id="no longer failing, nor ready"),
    ],
)
def test_events_are_posted_on_transitions_only(
    before: dict[str, Any],
    after: dict[str, Any],
    *,
    issued: bool,
    events: list[Event],
) -> None:
    assert transition_events(parse_status(before), parse_status(after), issued=issued) == events


def test_suspending_one_that_fails_is_no_recovery() -> None:
    owner = an_asset_token(a_spec(suspend=True), status=FAILS, generation=2)
    seen = failing(holding(an_issued_token(), owner), replace(UNAVAILABLE, at=NOW + 40 * MINUTE))

    status = status_of(seen, NOW + 41 * MINUTE)

    assert conditions(status)["Issuing"] == ("False", "Suspended")
    assert transition_events(parse_status(FAILS), parse_status(status), issued=False) == []


# What a restart knows of failures


OF_CLUSTER = (Reason.CLUSTER_UNAVAILABLE, Reason.CLUSTER_REFUSED, Reason.DENIED_BY_POLICY)
BACKS_OFF = [reason for reason in RECOVERIES if not Failure(NOW, reason, "").stalled and reason not in OF_CLUSTER]


@pytest.mark.parametrize("reason", BACKS_OFF, ids=str)
def test_a_restart_goes_on_with_the_back_off(reason: Reason) -> None:
    failure = Failure(NOW, reason, "It failed.")
    seen = failing(observed(), failure, failures=3)
    owner = an_asset_token(status=status_of(seen))

    assert remembered_requests(owner) == Attempts(REMEMBERED, (), 3, failure)


@pytest.mark.parametrize("reason", [reason for reason in RECOVERIES if reason not in BACKS_OFF], ids=str)
def test_a_restart_tries_what_is_stalled_once_more(reason: Reason) -> None:
    """Whether somebody changed what it waits for while no operator ran can't be told."""
    seen = failing(observed(), Failure(NOW, reason, "It failed."))
    owner = an_asset_token(status=status_of(seen))

    assert remembered_requests(owner) == Attempts()


def test_a_restart_does_not_take_a_wait_for_the_budget_for_a_failure() -> None:
    waiting = status_of(observed(**queued(NOW - HOUR)), NOW)
    owner = an_asset_token(status=waiting | {"failedAttempts": 1, "lastFailureTime": "2026-05-01T12:00:00Z"})

    assert remembered_requests(owner) == Attempts()


@pytest.mark.parametrize(
    "owner",
    [
        pytest.param(an_asset_token(), id="new"),
        pytest.param(an_asset_token(status={}), id="status lost"),
        pytest.param(an_asset_token(status=SYNCED), id="no failures"),
        pytest.param(an_asset_token(status=FAILS, generation=2), id="of an earlier spec"),
        pytest.param(
            an_asset_token(status={key: value for key, value in FAILS.items() if key != "lastFailureTime"}),
            id="failure time lost",
        ),
        pytest.param(
            an_asset_token(status={key: value for key, value in FAILS.items() if key != "conditions"}),
            id="conditions lost",
        ),
    ],
)
def test_a_restart_starts_afresh_where_status_tells_of_no_failure_for_the_present_spec(owner: AssetToken) -> None:
    assert remembered_requests(owner) == Attempts()


def test_a_restart_does_not_take_suspension_for_a_failure() -> None:
    """A suspended one keeps its count of failures in status, but its Issuing condition is about the suspension."""
    owner = an_asset_token(a_spec(suspend=True))
    status = status_of(failing(observed(owner)))
    owner = with_status(owner, status)

    restarted = observed(owner, requests=remembered_requests(owner))

    assert status_of(restarted, NOW + MINUTE).get("history") == status["history"]


# A war over the Secret


def test_a_war_over_the_secret_is_told_in_words() -> None:
    assert drift_event(an_asset_token()) == Event(
        "Warning",
        "DriftRepeats",
        "Something keeps changing or deleting Secret ledger-writer-token; it is put right, but later each time."
        " Find out what does: its metadata.managedFields name who wrote it.",
    )


def test_with_what_it_was_in_sync_is_no_news() -> None:
    """It is told with the next that is, so that a restart needn't read the Secret."""
    before = status_of(holding(an_issued_token()))
    after = before | {"syncedHash": "0123-4567"}

    assert before["syncedHash"] not in ("-", after["syncedHash"])
    assert not worth_writing(before, after, NOW)
    assert not worth_writing({name: value for name, value in before.items() if name != "syncedHash"}, before, NOW)
    assert worth_writing(before, after | {"revision": 2}, NOW)
