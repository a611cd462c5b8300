"""Every error says under which reason it is shown, and whether trying again can help."""

from __future__ import annotations

import pytest

from asset_token_operator import errors
from asset_token_operator.reasons import Reason, Recovery

RECOVERIES = {
    errors.SecretConflictError: (Reason.SECRET_CONFLICT, Recovery.CHANGE),
    errors.CredentialsNotFoundError: (Reason.CREDENTIALS_NOT_FOUND, Recovery.CHANGE),
    errors.CredentialsInvalidError: (Reason.CREDENTIALS_INVALID, Recovery.CHANGE),
    errors.InvalidClientError: (Reason.INVALID_CLIENT, Recovery.CREDENTIALS),
    errors.InvalidScopeError: (Reason.INVALID_SCOPE, Recovery.CHANGE),
    errors.RequestRefusedError: (Reason.REQUEST_REFUSED, Recovery.CHANGE),
    errors.WrongEnvironmentError: (Reason.WRONG_ENVIRONMENT, Recovery.CHANGE),
    errors.AssetUnavailableError: (Reason.ASSET_UNAVAILABLE, Recovery.ENDPOINT),
    errors.RateLimitedError: (Reason.RATE_LIMITED, Recovery.BUDGET),
    errors.BrokenAnswerError: (Reason.BROKEN_ANSWER, Recovery.BACK_OFF),
    errors.KubeUnavailableError: (Reason.CLUSTER_UNAVAILABLE, Recovery.BACK_OFF),
    errors.TooLargeError: (Reason.CLUSTER_UNAVAILABLE, Recovery.BACK_OFF),
    errors.KubeRefusedError: (Reason.CLUSTER_REFUSED, Recovery.BACK_OFF),
    errors.ConflictError: (Reason.CLUSTER_REFUSED, Recovery.BACK_OFF),
    errors.NotFoundError: (Reason.CLUSTER_REFUSED, Recovery.BACK_OFF),
    errors.AdmissionDeniedError: (Reason.DENIED_BY_POLICY, Recovery.BACK_OFF),
}
GROUPS = {errors.OperatorError, errors.AssetError, errors.KubeError}
NO_FAILURES = {errors.NotLeadingError, errors.ListenError}


@pytest.mark.parametrize(
    ("error", "expected"), [pytest.param(error, row, id=error.__name__) for error, row in RECOVERIES.items()]
)
def test_an_error_declares_its_reason_and_what_ends_it(
    error: type[errors.OperatorError], expected: tuple[Reason, Recovery]
) -> None:
    details = {"status": 422} if issubclass(error, errors.KubeRefusedError) else {}
    raised = error("It went wrong.", **details)
    assert (raised.reason, raised.recovery, str(raised)) == (*expected, "It went wrong.")


def test_no_error_is_left_without_a_decision_about_recovery() -> None:
    declared = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, Exception)}
    assert declared == RECOVERIES.keys() | GROUPS | NO_FAILURES


@pytest.mark.parametrize(
    ("error", "group"),
    [
        pytest.param(errors.InvalidClientError, errors.AssetError, id="invalid-client"),
        pytest.param(errors.InvalidScopeError, errors.AssetError, id="invalid-scope"),
        pytest.param(errors.WrongEnvironmentError, errors.AssetError, id="wrong-environment"),
        pytest.param(errors.RequestRefusedError, errors.AssetError, id="refused-by-asset"),
        pytest.param(errors.AssetUnavailableError, errors.AssetError, id="asset-away"),
        pytest.param(errors.RateLimitedError, errors.AssetError, id="rate-limited"),
        pytest.param(errors.BrokenAnswerError, errors.AssetError, id="broken-answer"),
        pytest.param(errors.KubeUnavailableError, errors.KubeError, id="cluster-away"),
        pytest.param(errors.KubeRefusedError, errors.KubeError, id="refused-by-cluster"),
        pytest.param(errors.NotFoundError, errors.KubeRefusedError, id="not-found-is-a-refusal"),
    ],
)
def test_an_error_is_caught_with_its_group(
    error: type[errors.OperatorError], group: type[errors.OperatorError]
) -> None:
    assert issubclass(error, group)


def test_a_refusal_of_the_cluster_keeps_the_status_and_the_fields_apart_from_its_sentence() -> None:
    error = errors.KubeRefusedError("The type can't change.", 422, frozenset({"type"}))
    assert (str(error), error.status, error.fields) == ("The type can't change.", 422, frozenset({"type"}))


def test_a_refusal_of_the_cluster_blames_no_field_unless_told() -> None:
    assert errors.NotFoundError("It isn't there.", 404).fields == frozenset()
