"""What helps for each reason: the last column of docs/reasons.md, which a test holds against it."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from asset_token_operator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

WHAT_HELPS: Final[Mapping[str, str]] = MappingProxyType(
    {
        Reason.DOES_NOT_EXIST: "wait: a token is about to be requested",
        Reason.SPEC_CHANGED: "wait: a token is about to be requested",
        Reason.EXPIRED: "wait",
        Reason.SUSPENDED: "set it to false",
        Reason.RENEW_BEFORE_TOO_LONG: "lower `renewBefore`, or ask for a longer `lifetime`",
        Reason.NOT_YET_VALID: "nothing; if it is long, check Asset's clock and this machine's",
        Reason.TEMPLATE_INVALID: "correct what the message names",
        Reason.SECRET_CONFLICT: "delete the Secret, or set another `secret.name`",
        Reason.CREDENTIALS_NOT_FOUND: "create it",
        Reason.CREDENTIALS_INVALID: "correct it",
        Reason.INVALID_CLIENT: "correct the credentials Secret",
        Reason.INVALID_SCOPE: "correct `spec.scopes`",
        Reason.WRONG_ENVIRONMENT: "check the credentials and the operator's base URLs",
        Reason.REQUEST_REFUSED: "correct the spec or the credentials",
        Reason.ASSET_UNAVAILABLE: "nothing: it is tried again",
        Reason.RATE_LIMITED: "nothing: it is tried again",
        Reason.WAITING_FOR_BUDGET: "nothing: it is requested in its turn",
        Reason.BROKEN_ANSWER: "nothing: it is tried again; if it lasts, ask Asset",
        Reason.CLUSTER_UNAVAILABLE: (
            "nothing: it is tried again; if a webhook is named, look whether what serves it runs"
        ),
        Reason.CLUSTER_REFUSED: "correct what it blames; check the operator's Role",
        Reason.DENIED_BY_POLICY: (
            "raise the quota, or exempt Secrets of the type `auth.getasset.com/token`; it is tried again by itself"
        ),
        Reason.SCOPES_MISSING: "check what the credentials may have",
        Reason.AUDIENCE_MISMATCH: "check `spec.resources`",
        Reason.RESTART_PENDING: "nothing: the message says when",
        Reason.MIN_INTERVAL_TOO_LONG: "set `minInterval` to no more than `renewBefore`, or raise `renewBefore`",
        Reason.TARGET_NOT_FOUND: (
            "create it, or correct `spec.rolloutRestart.targets`; it is looked for again at most 5 minutes later"
        ),
        Reason.RESTART_FORBIDDEN: (
            "set the chart's `rolloutRestart.enabled`, or add `deploy/rollout-restart`;"
            " it is tried again at most 5 minutes later"
        ),
        Reason.RESTART_FAILED: "nothing, if it did not answer: it is tried again; else correct what it names",
        Reason.DRIFT_REPEATS: "find out what does",
    }
)
