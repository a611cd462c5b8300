"""Reports what was assessed and decided: the status, and the events that a change of it is worth.

Status is computed and never read to decide, with two exceptions: how often a request has failed, so that a restart
goes on with the back-off instead of starting over; and with what the Secret was last seen in order, so that a restart
needn't read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from asset_token_operator.assess import LONG_WAIT
from asset_token_operator.attempts import LONGEST_MESSAGE, Attempts, Failure
from asset_token_operator.decision import SecretConflict
from asset_token_operator.durations import in_words
from asset_token_operator.errors import RECOVERIES
from asset_token_operator.manifests import template_problem
from asset_token_operator.observed import SlotState
from asset_token_operator.proxies import PORTS
from asset_token_operator.reasons import Reason
from asset_token_operator.renewal import PROBE_EVERY, renew_before_fits, wanted_renew_before
from asset_token_operator.status import (
    LONGEST_HISTORY,
    Binding,
    Condition,
    ConditionType,
    HistoryEntry,
    Status,
)
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.assess import Assessment
    from asset_token_operator.decision import Outcome
    from asset_token_operator.model import AssetToken, IssuedToken, Spec
    from asset_token_operator.observed import Observed

REMEMBERED: Final = "remembered"
"""The cause of requests that were made before the operator started, for the present spec."""

FAILURE_REPORTS: Final = timedelta(minutes=1)
"""While nothing but failures is new, status is written at most this often."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One aspect of the state, before it is known since when it is so."""

    holds: bool
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What is in the way of a token that is as the spec wants it.

    Attributes:
        issuing: Whether a token is being obtained nevertheless.
        stalled: Whether nothing helps until someone changes something.
    """

    reason: Reason
    message: str
    issuing: bool = True
    stalled: bool = False


def remembered_requests(owner: AssetToken) -> Attempts:
    """The failed requests that the status tells of, if they were made for the present spec.

    Their cause is `REMEMBERED`. Only those that a back-off ends: whether what is stalled was changed meanwhile can't be
    told. And none of the cluster's, which may have been failed writes.
    """
    status = owner.status
    issuing, failures, failed_at = status.find(ConditionType.ISSUING), status.failed_attempts, status.last_failure_time
    if not failures or failed_at is None or issuing is None or not issuing.is_true:
        return Attempts()
    if status.observed_generation != owner.generation or issuing.reason not in RECOVERIES:
        return Attempts()
    failure = Failure(failed_at, Reason(issuing.reason), issuing.message)
    of_cluster = failure.reason in (Reason.CLUSTER_UNAVAILABLE, Reason.CLUSTER_REFUSED, Reason.DENIED_BY_POLICY)
    return Attempts() if failure.stalled or of_cluster else Attempts(REMEMBERED, (), failures, failure)


def report(assessed: Assessment, decided: Outcome, restarts: Finding | None = None) -> Status:
    """The status that tells of what was assessed and decided, and of what was restarted for it."""
    owner, stored, failed = assessed.seen.owner, assessed.stored, assessed.failed
    hindrance, in_secret = _hindrance(assessed, decided), _in_secret(assessed)
    findings = {
        ConditionType.READY: _ready(in_secret, hindrance),
        ConditionType.ISSUING: _issuing(assessed, in_secret, hindrance),
        ConditionType.STALLED: _stalled(owner, hindrance),
        ConditionType.SCOPES_GRANTED: None if stored is None else _scopes_granted(owner.spec, stored.token),
        ConditionType.ROLLOUTS_RESTARTED: restarts,
    }
    fields: dict[str, Any] = {
        "observed_generation": owner.generation,
        "summary": _summary(findings, hindrance),
        "conditions": [_condition(assessed, kind, found) for kind, found in findings.items() if found is not None],
        "revision": owner.status.revision,
        "history": _history(assessed) or None,
    }
    if stored is not None:
        token, name = stored.token, owner.spec.secret.name
        fields |= {
            "secret_name": name,
            "binding": Binding(name=name),
            "issuance_time": token.issued_at,
            "expiration_time": token.expires_at,
            "renewal_time": None if owner.spec.suspend else token.expires_at - stored.renewal_window,
            "granted_scopes": token.scopes,
            "token_id": token.token_id,
            "revision": token.revision,
            "last_handled_renew_request": token.renew_request,
            "synced_hash": str(assessed.synced),
        }
    if failed is not None and failed.failure is not None:
        fields |= {"failed_attempts": failed.failures, "last_failure_time": failed.failure.at}
    return Status(**fields)


def _hindrance(assessed: Assessment, decided: Outcome) -> Hindrance | None:
    """What is in the way, the worst first; None where nothing is."""
    failed = None if assessed.failed is None else assessed.failed.failure
    if isinstance(decided, SecretConflict):
        return Hindrance(Reason.SECRET_CONFLICT, decided.message, issuing=False, stalled=decided.stalled)
    if assessed.seen.owner.spec.suspend and assessed.failed is not assessed.seen.writes:  # writes go on
        return Hindrance(
            Reason.SUSPENDED, "spec.suspend is true, so no token is requested; set it to false to go on.", issuing=False
        )
    if failed is not None:
        return Hindrance(failed.reason, failed.message, stalled=failed.stalled)
    if assessed.waits_long:
        return _waiting(assessed.seen)
    begins = assessed.works_later
    if begins is not None and begins > assessed.now + LONG_WAIT:
        message = (
            f"Asset issued a token that works only from {format_time(begins)} on (its nbf); it is written then."
            " If that is far ahead, check this machine's clock."
        )
        return Hindrance(Reason.NOT_YET_VALID, message)
    return None


def _waiting(seen: Observed) -> Hindrance:
    """It waits for its turn, or for the endpoint."""
    spec = seen.owner.spec
    if not seen.endpoint_down:
        message = (
            f"The rate limit of the credentials in Secret {spec.credentials.name} at Asset {spec.environment} leaves no"
            " room yet; more urgent requests go first, and then this is requested by itself."
        )
        return Hindrance(Reason.WAITING_FOR_BUDGET, message)
    message = (
        f"Asset {spec.environment} doesn't answer; one request every {in_words(PROBE_EVERY)} asks again, and then this"
        " is requested by itself."
    )
    return Hindrance(Reason.ASSET_UNAVAILABLE, message)


def _in_secret(assessed: Assessment) -> Finding:
    """Whether the Secret holds a usable token, whatever is in the way of the next."""
    stored, owner = assessed.stored, assessed.seen.owner
    name = owner.spec.secret.name
    if stored is None:
        return Finding(False, Reason.DOES_NOT_EXIST, f"Secret {name} holds no token yet.")
    expiry = format_time(stored.token.expires_at)
    if stored.token.spec_hash != owner.spec.request_hash():
        return Finding(False, Reason.SPEC_CHANGED, f"Secret {name} holds a token that was issued for an earlier spec.")
    if stored.expires_at <= assessed.now:
        return Finding(False, Reason.EXPIRED, f"The token in Secret {name} expired at {expiry}.")
    return Finding(True, Reason.SECRET_SYNCED, f"Secret {name} holds a token that is valid until {expiry}.")


def _ready(stored: Finding, hindrance: Hindrance | None) -> Finding:
    """Whether a usable token is in the Secret; where it isn't, what is in the way is what people read."""
    if hindrance is None:
        return stored
    if hindrance.reason is Reason.SECRET_CONFLICT:
        return Finding(False, hindrance.reason, hindrance.message)
    cause = hindrance.message[: LONGEST_MESSAGE - len(stored.message) - 2].rstrip(".")
    return stored if stored.holds else Finding(False, hindrance.reason, f"{cause}. {stored.message}")


def _issuing(assessed: Assessment, stored: Finding, hindrance: Hindrance | None) -> Finding:
    spec, token = assessed.seen.owner.spec, assessed.evidence.stored
    if hindrance is not None:
        return Finding(hindrance.issuing, hindrance.reason, hindrance.message)
    if not stored.holds:
        done = "written" if assessed.reason is None else "requested"
        return Finding(False, stored.reason, f"A token is about to be {done}.")
    if token is None or renew_before_fits(token, spec):
        return Finding(False, Reason.SECRET_SYNCED, "The token is up to date.")
    message = (
        f"renewBefore is {in_words(wanted_renew_before(token, spec))}, but Asset issued a token for"
        f" {in_words(token.lifetime)} only: it is renewed a third of that before it expires. Lower renewBefore, or set"
        " a longer spec.lifetime."
    )
    return Finding(False, Reason.RENEW_BEFORE_TOO_LONG, message)


def _stalled(owner: AssetToken, hindrance: Hindrance | None) -> Finding | None:
    if hindrance is not None and hindrance.stalled:
        return Finding(True, hindrance.reason, hindrance.message)
    problem = template_problem(owner)
    if problem is None:
        return None
    # The token is served and renewed all the same, so Ready is not False.
    message = f"{problem} It is left out of Secret {owner.spec.secret.name}, which holds the token as ever."
    return Finding(True, Reason.TEMPLATE_INVALID, message[:LONGEST_MESSAGE])


def _scopes_granted(spec: Spec, token: IssuedToken) -> Finding:
    missing = sorted(set(spec.scopes) - set(token.scopes))
    if missing:
        message = (
            f"Asset {spec.environment} did not grant all scopes: allow the others for the credentials in Secret"
            f" {spec.credentials.name}, or remove them from spec.scopes. Missing: {', '.join(missing)}."
        )[:LONGEST_MESSAGE]
        return Finding(False, Reason.SCOPES_MISSING, message)
    audience = {_normal_uri(text) for text in token.audience}
    strangers = sorted(resource for resource in spec.resources if _normal_uri(resource) not in audience)
    if strangers and token.audience:
        message = (
            f"Asset {spec.environment} issued a token that is not for all resources: correct spec.resources. Missing:"
            f" {', '.join(strangers)}."
        )[:LONGEST_MESSAGE]
        return Finding(False, Reason.AUDIENCE_MISMATCH, message)
    return Finding(True, Reason.ALL_GRANTED, "The token carries all scopes that were requested.")


def _summary(findings: Mapping[ConditionType, Finding | None], hindrance: Hindrance | None) -> str:
    """One word for people: what is wrong now, also while the token is good; else `Ready`."""
    if hindrance is not None:
        return hindrance.reason
    if findings[ConditionType.STALLED] is not None:
        return Reason.TEMPLATE_INVALID
    kinds = (ConditionType.READY, ConditionType.SCOPES_GRANTED, ConditionType.ROLLOUTS_RESTARTED)
    wrong = (found for kind in kinds if (found := findings[kind]) is not None and not found.holds)
    return next((found.reason for found in wrong if found.reason is not Reason.RESTART_PENDING), "Ready")


def _condition(assessed: Assessment, kind: ConditionType, found: Finding) -> Condition:
    """The condition; one whose status hasn't changed keeps the time of its transition."""
    owner, before = assessed.seen.owner, assessed.seen.owner.status.find(kind)
    status: Literal["True", "False"] = "True" if found.holds else "False"
    return Condition(
        type=kind,
        status=status,
        reason=found.reason,
        message=found.message,
        observed_generation=owner.generation,
        last_transition_time=before.last_transition_time
        if before is not None and before.status == status
        else assessed.now,
    )


def _history(assessed: Assessment) -> list[HistoryEntry]:
    """The history with what is new: a token that was issued, or the first failure of a row."""
    before, stored, failed = assessed.seen.owner.status, assessed.stored, assessed.failed
    history = list(before.history or ())
    if stored is not None and stored.token.revision != before.revision:
        token = stored.token
        entry = HistoryEntry(
            time=token.issued_at, reason=token.reason, outcome="Issued", expiration_time=token.expires_at
        )
        history.append(entry)
    failure = None if failed is None else failed.failure
    latest = (history[-1].outcome, history[-1].reason) if history else None
    if failure is not None and latest != ("Failed", failure.reason):
        entry = HistoryEntry(time=failure.at, reason=failure.reason, outcome="Failed", message=failure.message)
        history.append(entry)
    return history[-LONGEST_HISTORY:]


def is_worth_writing(assessed: Assessment, after: Status) -> bool:
    """Whether the status says something new, and not only that it failed once more within a minute."""
    before = assessed.seen.owner.status
    if _waits_briefly(assessed, after) or before == after:
        return False
    issuing = before.is_true(ConditionType.ISSUING) and after.is_true(ConditionType.ISSUING)
    if not issuing or before.observed_generation != after.observed_generation:
        return True
    if any(before.is_true(kind) != after.is_true(kind) for kind in (ConditionType.READY, ConditionType.STALLED)):
        return True
    told = before.last_failure_time
    return told is None or abs(assessed.now - told) >= FAILURE_REPORTS


def _waits_briefly(assessed: Assessment, after: Status) -> bool:
    """Whether the AssetToken only waits for its turn, and a status that says so now is not worth a write yet.

    What users wait for is told at once: whether it is ready, and which generation the status is of.
    """
    before = assessed.seen.owner.status
    if assessed.seen.slot is not SlotState.QUEUED or assessed.waits_long or after.is_true(ConditionType.ISSUING):
        return False
    if before.is_true(ConditionType.READY) != after.is_true(ConditionType.READY):
        return False
    return not before.conditions or before.observed_generation == after.observed_generation


def _normal_uri(text: str) -> str:
    """The same URI in the form that is compared (RFC 3986, sections 6.2.2.1 and 6.2.3); any other text as it is."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return text
    if host is None:
        return text
    user, at, _ = parts.netloc.rpartition("@")
    host = f"[{host}]" if ":" in host else host
    netloc = f"{user}{at}{host}" if port in (None, PORTS.get(parts.scheme)) else f"{user}{at}{host}:{port}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path or "/"))
