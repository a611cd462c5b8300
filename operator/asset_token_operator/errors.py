"""What can go wrong, and what helps.

    OperatorError
    ├── SecretConflictError      the Secret's name is taken by something that isn't ours
    ├── CredentialsError         the credentials Secret is missing, or a key of it
    ├── AssetError               asking Asset for a token failed
    │   ├── RequestRefusedError  Asset said no: the spec or the credentials must change
    │   ├── AssetUnavailableError  no answer, or "not now"
    │   └── BrokenAnswerError    an answer that holds no usable token
    └── KubeError                the API server
        ├── NotFoundError
        ├── KubeUnavailableError no answer, or "not now"
        └── KubeRefusedError     forbidden, invalid, in conflict

Each says in its own words what happened, never in those of a response's body, carries the reason that conditions
show, and knows whether trying again can help (`stalled` is False) or somebody has to change something first.
Vendors' exceptions end in the adapter that met them.
"""

from __future__ import annotations

from typing import ClassVar

from asset_token_operator.model import Reason


class OperatorError(Exception):
    """The root of all that the operator expects to go wrong.

    Attributes:
        reason: What conditions, events and the history call it.
        stalled: True where nothing helps until someone changes the spec, the credentials or a Secret.
    """

    reason: ClassVar[Reason]
    stalled: ClassVar[bool] = False


class SecretConflictError(OperatorError):
    """The Secret's name is taken by something that isn't ours."""

    reason = Reason.SECRET_CONFLICT
    stalled = True


class CredentialsError(OperatorError):
    """The credentials can't be read."""

    stalled = True


class CredentialsNotFoundError(CredentialsError):
    """The credentials Secret isn't there."""

    reason = Reason.CREDENTIALS_NOT_FOUND


class CredentialsInvalidError(CredentialsError):
    """A key of the credentials Secret is missing, empty or unreadable."""

    reason = Reason.CREDENTIALS_INVALID


class AssetError(OperatorError):
    """A request for a token failed."""


class RequestRefusedError(AssetError):
    """Asset answered that it issues no token for this request."""

    reason = Reason.REQUEST_REFUSED
    stalled = True


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


class NotFoundError(KubeRefusedError):
    """The object isn't there."""
