"""How an AssetToken fares, from its spec and status: a frozen value that all screens show.

It reads what any version of the operator may have written, and so takes nothing for granted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.kubectl.advice import WHAT_HELPS
from asset_token_operator.kubectl.cluster import metadata, parts
from asset_token_operator.kubectl.words import SOON, moment_of
from asset_token_operator.model import RENEW_ANNOTATION, Key
from asset_token_operator.reasons import Reason
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class State(StrEnum):
    """How an AssetToken fares, in a word, the worst first."""

    STALLED = "stalled"
    """Nothing helps until somebody changes something, and there is no usable token."""
    EXPIRED = "expired"
    FAILING = "failing"
    """There is no usable token, and it is tried again."""
    UNSEEN = "unseen"
    """No operator has looked at the present spec."""
    RENEWAL_STALLED = "renewal stalled"
    """The token is usable, and won't be renewed until somebody changes something."""
    TEMPLATE = "template invalid"
    """The token is usable and renewed, and keys of the Secret are missing."""
    RENEWAL_FAILING = "renewal failing"
    PENDING = "pending"
    OVERDUE = "overdue"
    """Its renewal is late, and nothing says why."""
    SCOPES = "scopes differ"
    SUSPENDED = "suspended"
    USABLE = "usable"


RANK: Final = {state: rank for rank, state in enumerate(State)}
FINE: Final = frozenset({State.USABLE, State.SUSPENDED, State.SCOPES})

QUIET: Final = frozenset(
    {
        Reason.SECRET_SYNCED,
        Reason.DOES_NOT_EXIST,
        Reason.SPEC_CHANGED,
        Reason.EXPIRED,
        Reason.SUSPENDED,
        Reason.RENEW_BEFORE_TOO_LONG,
        Reason.WAITING_FOR_BUDGET,
        Reason.NOT_YET_VALID,
        "",
    }
)
"""Reasons of `Issuing` that are no failure."""


@dataclass(frozen=True, slots=True)
class TokenState:
    """How an AssetToken fares.

    Attributes:
        usable: Whether its Secret holds a usable token for the present spec.
        reason: Why it isn't as it should be; empty where it is.
        message: The same in words.
        summary: What the operator says of it in a word; empty where it says nothing.
        renews: When it is to be renewed; None where that isn't known.
        pending_request: A renew request that hasn't been served.
    """

    key: Key
    state: State
    usable: bool
    environment: str
    secret: str
    credentials: str
    business: str
    issued: datetime | None
    expires: datetime | None
    renews: datetime | None
    created: datetime | None
    revision: int
    failed_attempts: int
    last_failure: datetime | None
    reason: str
    message: str
    summary: str
    pending_request: str | None
    body: Mapping[str, Any] = field(repr=False)

    @property
    def helps(self) -> str:
        """What to do; empty where nothing is to be done or known."""
        return WHAT_HELPS.get(self.reason, "")

    def rank(self) -> tuple[int, str, Key]:
        """Its order by trouble: the worst first, then the nearest expiry."""
        return (RANK[self.state], "" if self.expires is None else format_time(self.expires), self.key)

    def status(self) -> str:
        """What the operator says of it in a word; empty where it hasn't seen the present spec, or says nothing."""
        return "" if self.state is State.UNSEEN else self.summary or self.reason

    def to_json(self) -> dict[str, Any]:
        """What scripts get: no field is ever left out."""

        def shown(moment: datetime | None) -> str | None:
            return None if moment is None else format_time(moment)

        return {
            "namespace": self.key.namespace,
            "name": self.key.name,
            "state": self.state.value,
            "summary": self.summary,
            "usable": self.usable,
            "environment": self.environment,
            "secretName": self.secret,
            "issuanceTime": shown(self.issued),
            "expirationTime": shown(self.expires),
            "renewalTime": shown(self.renews),
            "revision": self.revision,
            "failedAttempts": self.failed_attempts,
            "lastFailureTime": shown(self.last_failure),
            "reason": self.reason,
            "message": self.message,
            "whatHelps": self.helps,
        }


def read_state(body: Mapping[str, Any], now: datetime) -> TokenState:
    """How an AssetToken fares, as JSON says."""
    meta, spec, status = metadata(body), _object(body.get("spec")), _object(body.get("status"))
    annotations, secret = _object(meta.get("annotations")), _object(spec.get("secret"))
    ready, issuing = condition(status, "Ready"), condition(status, "Issuing")
    expires = moment_of(status.get("expirationTime"))
    usable = ready.get("status") == "True" and (expires is None or expires > now)
    state = _state(body, usable=usable, now=now)
    told = _trouble(state, ready, issuing, status, expires)
    name = str(meta.get("name", ""))
    requested = annotations.get(RENEW_ANNOTATION)
    served = status.get("lastHandledRenewRequest")
    return TokenState(
        key=Key(str(meta.get("namespace", "")), name),
        state=state,
        usable=usable,
        environment=str(spec.get("environment", "-")),
        secret=str(secret.get("name") or status.get("secretName") or name),
        credentials=str(_object(spec.get("credentialsSecretRef")).get("name", "-")),
        business=str(spec.get("businessId") or "-"),
        issued=moment_of(status.get("issuanceTime")),
        expires=expires,
        renews=None if spec.get("suspend") is True else moment_of(status.get("renewalTime")),
        created=moment_of(meta.get("creationTimestamp")),
        revision=_number(status.get("revision")),
        failed_attempts=_number(status.get("failedAttempts")),
        last_failure=moment_of(status.get("lastFailureTime")),
        reason=told[0],
        message=told[1],
        summary=str(status.get("summary") or ""),
        pending_request=str(requested) if requested and requested != served else None,
        body=body,
    )


def condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of that type; an empty one where it isn't there."""
    return next((found for found in parts(status, "conditions") if found.get("type") == kind), {})


def _state(body: Mapping[str, Any], *, usable: bool, now: datetime) -> State:
    spec, status = _object(body.get("spec")), _object(body.get("status"))
    stall = condition(status, "Stalled")
    stalled = stall.get("status") == "True"
    failing = str(condition(status, "Issuing").get("reason", "")) not in QUIET
    seen = _number(status.get("observedGeneration"), -1) >= _number(metadata(body).get("generation"))
    renews, expires = moment_of(status.get("renewalTime")), moment_of(status.get("expirationTime"))
    late = renews is not None and renews + SOON < now
    chain = (
        (not usable and stalled, State.STALLED),
        (not usable and spec.get("suspend") is True, State.SUSPENDED),
        (not usable and expires is not None and expires <= now, State.EXPIRED),
        (not usable and failing, State.FAILING),
        (not seen, State.UNSEEN),
        (not usable, State.PENDING),
        (stalled and stall.get("reason") == Reason.TEMPLATE_INVALID, State.TEMPLATE),
        (stalled, State.RENEWAL_STALLED),
        (spec.get("suspend") is True, State.SUSPENDED),
        (failing, State.RENEWAL_FAILING),
        (late, State.OVERDUE),
        (condition(status, "ScopesGranted").get("status") == "False", State.SCOPES),
    )
    return next((state for holds, state in chain if holds), State.USABLE)


def _trouble(
    state: State,
    ready: Mapping[str, Any],
    issuing: Mapping[str, Any],
    status: Mapping[str, Any],
    expires: datetime | None,
) -> tuple[str, str]:
    """Why it isn't as it should be, as reason and words; empty where it is."""
    if state is State.USABLE:
        return "", ""
    if state is State.UNSEEN:
        return "", "No operator has looked at it yet: kubectl asset-token doctor says whether one is at work."
    if state is State.OVERDUE:
        return "", "Its renewal is late: kubectl asset-token doctor says whether the operator is at work."
    if state is State.SCOPES:
        told: Mapping[str, Any] = condition(status, "ScopesGranted")
    elif condition(status, "Stalled"):
        told = condition(status, "Stalled")
    elif state is State.PENDING and str(issuing.get("reason", "")) == Reason.SECRET_SYNCED:
        told = ready
    else:
        told = issuing
    if state is State.EXPIRED and str(told.get("reason", "")) in QUIET and expires is not None:
        return Reason.EXPIRED.value, f"The token expired at {format_time(expires)}."
    return str(told.get("reason", "")), str(told.get("message", ""))


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: object, default: int = 0) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
