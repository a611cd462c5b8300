"""Why a condition, an event or a history entry says what it says, and what ends a failure."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a condition, an event or a history entry says what it says; each is described in docs/reasons.md."""

    SECRET_SYNCED = "SecretSynced"  # noqa: S105 - a name
    DOES_NOT_EXIST = "DoesNotExist"
    FIRST_TOKEN = "FirstToken"  # noqa: S105 - a name
    TOKEN_LOST = "TokenLost"  # noqa: S105 - a name
    SPEC_CHANGED = "SpecChanged"
    EXPIRED = "Expired"
    RENEWING = "Renewing"
    RENEW_REQUESTED = "RenewRequested"
    CREDENTIALS_CHANGED = "CredentialsChanged"
    DRIFT_REPEATS = "DriftRepeats"
    SUSPENDED = "Suspended"
    RENEW_BEFORE_TOO_LONG = "RenewBeforeTooLong"
    NOT_YET_VALID = "NotYetValid"
    TEMPLATE_INVALID = "TemplateInvalid"

    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - a name
    CREDENTIALS_NOT_FOUND = "CredentialsNotFound"
    CREDENTIALS_INVALID = "CredentialsInvalid"
    INVALID_CLIENT = "InvalidClient"
    INVALID_SCOPE = "InvalidScope"
    REQUEST_REFUSED = "RequestRefused"
    WRONG_ENVIRONMENT = "WrongEnvironment"
    ASSET_UNAVAILABLE = "AssetUnavailable"
    RATE_LIMITED = "RateLimited"
    WAITING_FOR_BUDGET = "WaitingForBudget"
    BROKEN_ANSWER = "BrokenAnswer"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    CLUSTER_REFUSED = "ClusterRefused"
    DENIED_BY_POLICY = "DeniedByPolicy"

    ALL_GRANTED = "AllGranted"
    SCOPES_MISSING = "ScopesMissing"
    AUDIENCE_MISMATCH = "AudienceMismatch"

    RESTARTED = "Restarted"
    RESTART_PENDING = "RestartPending"
    MIN_INTERVAL_TOO_LONG = "MinIntervalTooLong"
    TARGET_NOT_FOUND = "TargetNotFound"
    RESTART_FORBIDDEN = "RestartForbidden"
    RESTART_FAILED = "RestartFailed"


class Recovery(StrEnum):
    """What ends a failure."""

    BACK_OFF = "back-off"
    """Trying again, a little later each time."""
    ENDPOINT = "endpoint"
    """The same, or any other token's success at the same endpoint."""
    BUDGET = "budget"
    """The tenant's budget, which says when to try again."""
    CREDENTIALS = "credentials"
    """A change of the credentials, for all tokens that use them; a slow probe sees one that can't be seen."""
    CHANGE = "change"
    """A change of the spec or of the credentials; a slow probe sees what changed at Asset."""
