"""What can go wrong, and what helps.

    OperatorError
    ├── SecretConflictError        the Secret's name is taken by something that isn't ours
    ├── CredentialsNotFoundError   the credentials Secret is missing
    ├── CredentialsInvalidError    … or a key of it
    ├── AssetError                 asking Asset for a token failed
    │   ├── InvalidClientError     the credentials are not accepted
    │   ├── InvalidScopeError      a scope is not granted
    │   ├── RequestRefusedError    no token for this request
    │   ├── WrongEnvironmentError  a token of the other environment
    │   ├── AssetUnavailableError  no answer, or "not now"
    │   ├── RateLimitedError       the budget is used up
    │   └── BrokenAnswerError      an answer that holds no usable token
    └── KubeError                  the API server
        ├── KubeUnavailableError   no answer, or "not now"
        │   └── TooLargeError      an answer that is larger than any object
        └── KubeRefusedError       forbidden, invalid
            ├── AdmissionDeniedError   … by a policy, a webhook or a quota
            ├── ConflictError          … as it is another than was seen
            └── NotFoundError      … or not there
    NotLeadingError                another operator works now: nothing was tried, so nothing failed
    ListenError                    an address to listen on can't be had

Each says in its own words what happened, never in those of a response's body, and carries the reason that conditions
show. What ends it is in `RECOVERIES`, by its reason, so that it is known after a restart too. Vendors' exceptions end
in the adapter that met them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Final

from asset_token_operator.reasons import Reason, Recovery

AGAIN: Final = "tried again by itself"
"""How a message ends where nobody has to do anything."""

RECOVERIES: Final = {
    Reason.SECRET_CONFLICT: Recovery.CHANGE,
    Reason.CREDENTIALS_NOT_FOUND: Recovery.CHANGE,
    Reason.CREDENTIALS_INVALID: Recovery.CHANGE,
    Reason.INVALID_CLIENT: Recovery.CREDENTIALS,
    Reason.INVALID_SCOPE: Recovery.CHANGE,
    Reason.REQUEST_REFUSED: Recovery.CHANGE,
    Reason.WRONG_ENVIRONMENT: Recovery.CHANGE,
    Reason.ASSET_UNAVAILABLE: Recovery.ENDPOINT,
    Reason.RATE_LIMITED: Recovery.BUDGET,
    Reason.BROKEN_ANSWER: Recovery.BACK_OFF,
    Reason.CLUSTER_UNAVAILABLE: Recovery.BACK_OFF,
    Reason.CLUSTER_REFUSED: Recovery.BACK_OFF,
    Reason.DENIED_BY_POLICY: Recovery.BACK_OFF,
}
"""What ends each failure."""


CONTENT_REFUSED: Final = frozenset({413, 422})
"""What the API server answers where it is the object itself that is refused, as it will be again."""

CONTENT_REST: Final = timedelta(minutes=5)
"""How long to wait then, unless it changes or what it would overwrite does."""


class NotLeadingError(Exception):
    """This operator doesn't lead any more, so it sends nothing."""


class ListenError(Exception):
    """An address to listen on can't be had."""


def foreign_secret(name: str) -> str:
    """What to say of a Secret that isn't ours, whether it was seen beforehand or the API server refused the write."""
    return (
        f"Secret {name} exists and does not belong to this AssetToken, so it is left alone;"
        " delete it or set another spec.secret.name."
    )


class OperatorError(Exception):
    """The root of all that the operator expects to go wrong.

    Attributes:
        reason: What conditions, events and the history call it.
        retry_after: How long to wait at least, where that is known.
    """

    reason: ClassVar[Reason]
    retry_after: timedelta | None = None

    @property
    def recovery(self) -> Recovery:
        """What ends it."""
        return RECOVERIES[self.reason]


class SecretConflictError(OperatorError):
    """The Secret's name is taken by something that isn't ours."""

    reason = Reason.SECRET_CONFLICT


class CredentialsNotFoundError(OperatorError):
    """The credentials Secret isn't there."""

    reason = Reason.CREDENTIALS_NOT_FOUND


class CredentialsInvalidError(OperatorError):
    """A key of the credentials Secret is missing, empty or unreadable."""

    reason = Reason.CREDENTIALS_INVALID


class AssetError(OperatorError):
    """A request for a token failed."""


class InvalidClientError(AssetError):
    """Asset doesn't accept the credentials."""

    reason = Reason.INVALID_CLIENT


class InvalidScopeError(AssetError):
    """Asset doesn't grant a scope."""

    reason = Reason.INVALID_SCOPE


class RequestRefusedError(AssetError):
    """Asset issues no token for this request."""

    reason = Reason.REQUEST_REFUSED


class WrongEnvironmentError(AssetError):
    """Asset answered with a token of the other environment."""

    reason = Reason.WRONG_ENVIRONMENT


class AssetUnavailableError(AssetError):
    """Asset could not be reached, took too long or failed."""

    reason = Reason.ASSET_UNAVAILABLE


class RateLimitedError(AssetError):
    """Asset's rate limit is used up."""

    reason = Reason.RATE_LIMITED


class BrokenAnswerError(AssetError):
    """Asset answered with something that holds no usable token."""

    reason = Reason.BROKEN_ANSWER


class KubeError(OperatorError):
    """A call of the Kubernetes API failed."""


class KubeUnavailableError(KubeError):
    """The API server could not be reached, took too long or failed."""

    reason = Reason.CLUSTER_UNAVAILABLE


class TooLargeError(KubeUnavailableError):
    """The API server's answer is larger than what is read."""


class KubeRefusedError(KubeError):
    """The API server refused the call.

    Attributes:
        status: The HTTP status.
        fields: The fields that a 422 blames.
    """

    reason = Reason.CLUSTER_REFUSED

    def __init__(self, message: str, status: int, fields: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.status = status
        self.fields = fields
        if status in CONTENT_REFUSED:
            self.retry_after = CONTENT_REST


class NotFoundError(KubeRefusedError):
    """The object isn't there."""


class ConflictError(KubeRefusedError):
    """The object was created, changed or replaced by a namesake since it was seen."""


class AdmissionDeniedError(KubeRefusedError):
    """A policy, a webhook or a quota denied what the roles allow."""

    reason = Reason.DENIED_BY_POLICY
