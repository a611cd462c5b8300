"""What came of it: an answer becomes an `IssuedToken`, an error a `Failure`, and all of it status and events.

Status is a report: it is computed from what was observed, never read to decide, with two exceptions: how often a
request has failed, so that a restart goes on with the back-off instead of starting over; and with what the Secret was
last seen in order, so that a restart needn't read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from asset_token_operator.conditions import Condition, ConditionType, find_condition, is_true, render_conditions
from asset_token_operator.decision import (
    LONG_WAIT,
    Attempts,
    Blocked,
    Failure,
    needed_write,
    reason_to_request,
    waits_long,
    works_later,
)
from asset_token_operator.errors import RECOVERIES, WrongEnvironmentError
from asset_token_operator.manifests import credentials_fingerprint, proof_key, safe_token_id
from asset_token_operator.model import Environment, IssuedToken, Reason, format_time, parse_time
from asset_token_operator.renewal import renew_before_fits, wanted_renew_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from asset_token_operator.answers import Claims, TokenAnswer
    from asset_token_operator.decision import Decision, Observed
    from asset_token_operator.errors import OperatorError
    from asset_token_operator.expiry import Validity
    from asset_token_operator.model import AssetToken, Credentials, Spec

LONGEST_HISTORY: Final = 10
LONGEST_MESSAGE: Final = 1024
MOST_TEXTS: Final = 256
REMEMBERED: Final = "remembered"
"""The cause of requests that were made before the operator started, for the present spec."""

SYNCED: Final = "syncedHash"
"""Where status has a `decision.Synced`."""

SAFE_TEXT: Final = re.compile(r"[!-~]{1,256}")

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

HOSTS: Final = {Environment.PRODUCTION: "api.getasset.com", Environment.SANDBOX: "api.sandbox.getasset.com"}
"""How Asset's own tokens name the environments, wherever the operator reaches them."""


FAILURE_REPORTS: Final = timedelta(minutes=1)
"""While nothing but failures is new, status is written at most this often."""


@dataclass(frozen=True, slots=True)
class Event:
    """A Kubernetes event about an AssetToken."""

    type: str
    reason: str
    message: str


def issued_token(
    seen: Observed, reason: Reason, answer: TokenAnswer, credentials: Credentials, validity: Validity
) -> IssuedToken:
    """Make an `IssuedToken` of an answer.

    Args:
        seen: What the request was made from.
        reason: Why it was made.
        answer: What Asset answered.
        credentials: What it was made with.
        validity: From when to when it works.

    Raises:
        WrongEnvironmentError: The token is of the other environment.
    """
    spec, claims = seen.token.spec, answer.claims
    _refuse_wrong_environment(spec, claims)
    granted = next(
        scopes for scopes in (claims.scopes if claims else None, answer.scopes, spec.scopes) if scopes is not None
    )
    before = seen.current()
    return IssuedToken(
        access_token=answer.access_token,
        environment=spec.environment,
        issued_at=validity.issued_at,
        expires_at=validity.expires_at,
        scopes=_safe_texts(granted),
        token_id=safe_token_id(claims.jti if claims else None, answer.access_token),
        spec_hash=spec.request_hash(),
        credentials_fingerprint=credentials_fingerprint(credentials, answer.access_token),
        revision=max(before.revision if before else 0, seen.token.status.get("revision", 0)) + 1,
        reason=reason,
        renew_request=seen.token.renew_request or (before.renew_request if before else None),
        audience=_safe_texts(claims.audience if claims else ()),
        skew=validity.skew,
        not_before=validity.not_before,
        proof_key=proof_key(credentials, answer.access_token),
    )


def _refuse_wrong_environment(spec: Spec, claims: Claims | None) -> None:
    """Refuse a token whose issuer or audience names the other environment's host; an unknown one is no reason."""
    named = {_host(text) for text in (claims.issuer, *claims.audience) if text} if claims else set()
    other = next(host for environment, host in HOSTS.items() if environment is not spec.environment)
    if other in named:
        raise WrongEnvironmentError(
            f"Asset answered with a token for {other}, which is not {spec.environment}; check the credentials,"
            " spec.resources and the operator's base URLs."
        )


def _host(claim: str) -> str:
    """The host that a claim names, with a scheme or without."""
    try:
        host = urlsplit(claim if "//" in claim else f"//{claim}").hostname
    except ValueError:
        host = None
    return (host or claim).lower().rstrip(".")


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
    netloc = f"{user}{at}{host}" if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f"{user}{at}{host}:{port}"
    return urlunsplit(parts._replace(netloc=netloc, path=parts.path or "/"))


def _safe_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """Whatever the API answers: what isn't printable ASCII without spaces, or fits no status, is left out."""
    safe = {text for text in texts if SAFE_TEXT.fullmatch(text)}
    return tuple(sorted(safe)[:MOST_TEXTS])


def failure_of(error: OperatorError, now: datetime) -> Failure:
    """What an error means for the attempts to come."""
    return Failure(now, error.reason, str(error)[:LONGEST_MESSAGE], error.retry_after)


def remembered_requests(token: AssetToken) -> Attempts:
    """The failed requests that the status tells of, if they were made for the present spec.

    Their cause is `REMEMBERED`. Only those that a back-off ends: whether what is stalled was changed meanwhile can't be
    told. And none of the cluster's, which may have been failed writes.
    """
    issuing = find_condition(token.status, ConditionType.ISSUING)
    failures = token.status.get("failedAttempts", 0)
    failed_at = token.status.get("lastFailureTime")
    if not failures or failed_at is None or issuing.get("status") != "True":
        return Attempts()
    if issuing.get("observedGeneration") != token.generation or issuing["reason"] not in RECOVERIES:
        return Attempts()
    failure = Failure(parse_time(failed_at), Reason(issuing["reason"]), issuing["message"])
    of_cluster = failure.reason in (Reason.CLUSTER_UNAVAILABLE, Reason.CLUSTER_REFUSED, Reason.DENIED_BY_POLICY)
    return Attempts() if failure.stalled or of_cluster else Attempts(REMEMBERED, (), failures, failure)


def report_status(seen: Observed, decision: Decision, now: datetime) -> dict[str, Any]:
    """The status that tells of what was observed and decided."""
    stored = seen.stored()
    failed = _failed(seen, now)
    conditions = [_ready(seen, decision, stored, now), _issuing(seen, decision, stored, failed, now)]
    stalled = _stalled(decision, failed)
    if stalled is not None:
        conditions.append(stalled)
    if stored is not None:
        conditions.append(_scopes_granted(seen, stored))
    before = seen.token.status
    status: dict[str, Any] = {
        "observedGeneration": seen.token.generation,
        "conditions": render_conditions(conditions, before, seen.token.generation, now),
    }
    if stored is not None:
        status |= {
            "secretName": seen.token.spec.secret.name,
            "binding": {"name": seen.token.spec.secret.name},
            "issuanceTime": format_time(stored.issued_at),
            "expirationTime": format_time(stored.expires_at),
            "renewalTime": format_time(seen.renews_at(stored)),
            "grantedScopes": list(stored.scopes),
            "tokenId": stored.token_id,
            "revision": stored.revision,
        }
        if stored.renew_request is not None:
            status["lastHandledRenewRequest"] = stored.renew_request
        status[SYNCED] = str(seen.synced)
    elif "revision" in before:
        status["revision"] = before["revision"]
    if failed is not None and failed.failure is not None:
        status["failedAttempts"] = failed.failures
        status["lastFailureTime"] = format_time(failed.failure.at)
    history = _history(before, stored, failed)
    if history:
        status["history"] = history
    return status


def _failed(seen: Observed, now: datetime) -> Attempts | None:
    """The attempts that fail while they are still needed: those to get a token before those to write it."""
    token = seen.current()
    wanted = reason_to_request(seen, token, now) is not None
    if wanted and seen.parked.failure is not None:
        return seen.parked
    if wanted and seen.requests.cause == seen.request_cause() and seen.requests.failure is not None:
        return seen.requests
    if token is not None and seen.writes.failure is not None:
        write = needed_write(seen, token)
        if write is not None and write.cause() == seen.writes.cause:
            return seen.writes
    return None


def _ready(seen: Observed, decision: Decision, stored: IssuedToken | None, now: datetime) -> Condition:
    name = seen.token.spec.secret.name
    if isinstance(decision, Blocked):
        return Condition(ConditionType.READY, False, Reason.SECRET_CONFLICT, decision.message)
    if stored is None:
        return Condition(ConditionType.READY, False, Reason.DOES_NOT_EXIST, f"Secret {name} holds no token yet.")
    if stored.spec_hash != seen.token.spec.request_hash():
        message = f"Secret {name} holds a token that was issued for an earlier spec."
        return Condition(ConditionType.READY, False, Reason.SPEC_CHANGED, message)
    expiry = format_time(stored.expires_at)
    if stored.expires_at <= seen.asset_now(stored, now):
        return Condition(ConditionType.READY, False, Reason.EXPIRED, f"The token in Secret {name} expired at {expiry}.")
    message = f"Secret {name} holds a token that is valid until {expiry}."
    return Condition(ConditionType.READY, True, Reason.SECRET_SYNCED, message)


def _issuing(
    seen: Observed, decision: Decision, stored: IssuedToken | None, failed: Attempts | None, now: datetime
) -> Condition:
    if seen.token.spec.suspend:
        return _not_issuing(Reason.SUSPENDED, "spec.suspend is true, so no token is requested.")
    if isinstance(decision, Blocked):
        return _not_issuing(Reason.SECRET_CONFLICT, decision.message)
    if failed is not None and failed.failure is not None:
        return Condition(ConditionType.ISSUING, True, failed.failure.reason, failed.failure.message)
    if waits_long(seen, now):
        return _waiting(seen)
    return _unhindered(seen, stored, now)


def _not_issuing(reason: Reason, message: str) -> Condition:
    return Condition(ConditionType.ISSUING, False, reason, message)


def _waiting(seen: Observed) -> Condition:
    if seen.endpoint_down:
        message = "Asset's endpoint is down; it is asked every few seconds whether it is up again."
        return Condition(ConditionType.ISSUING, True, Reason.ASSET_UNAVAILABLE, message)
    message = "The tenant's rate limit leaves no room yet; more urgent requests go first."
    return Condition(ConditionType.ISSUING, True, Reason.WAITING_FOR_BUDGET, message)


def _unhindered(seen: Observed, stored: IssuedToken | None, now: datetime) -> Condition:
    """Nothing is in the way of a request, if one is needed at all."""
    begins = works_later(seen, now)
    if begins is not None and begins > now + LONG_WAIT:
        message = (
            f"Asset issued a token that works only from {format_time(begins)} on (its nbf); it is written then."
            " If that is far ahead, check this machine's clock."
        )
        return Condition(ConditionType.ISSUING, True, Reason.NOT_YET_VALID, message)
    if stored is None:
        return _not_issuing(Reason.DOES_NOT_EXIST, "A token is about to be requested.")
    reason, spec = reason_to_request(seen, stored, now), seen.token.spec
    if reason in (Reason.SPEC_CHANGED, Reason.EXPIRED):
        return _not_issuing(reason, "A token is about to be requested.")
    if renew_before_fits(stored, spec):
        return _not_issuing(Reason.SECRET_SYNCED, "The token is up to date.")
    message = (
        f"renewBefore is {wanted_renew_before(stored, spec)}, but Asset issued a token for {stored.lifetime} only:"
        " it is renewed a third of that before it expires."
    )
    return _not_issuing(Reason.RENEW_BEFORE_TOO_LONG, message)


def _stalled(decision: Decision, failed: Attempts | None) -> Condition | None:
    if isinstance(decision, Blocked) and decision.stalled:
        return Condition(ConditionType.STALLED, True, Reason.SECRET_CONFLICT, decision.message)
    if failed is not None and failed.failure is not None and failed.failure.stalled:
        return Condition(ConditionType.STALLED, True, failed.failure.reason, failed.failure.message)
    return None


def _scopes_granted(seen: Observed, stored: IssuedToken) -> Condition:
    missing = sorted(set(seen.token.spec.scopes) - set(stored.scopes))
    if missing:
        message = f"Asset did not grant: {', '.join(missing)}."[:LONGEST_MESSAGE]
        return Condition(ConditionType.SCOPES_GRANTED, False, Reason.SCOPES_MISSING, message)
    audience = {_normal_uri(text) for text in stored.audience}
    strangers = sorted(resource for resource in seen.token.spec.resources if _normal_uri(resource) not in audience)
    if strangers and stored.audience:
        message = f"The token is not for: {', '.join(strangers)}."[:LONGEST_MESSAGE]
        return Condition(ConditionType.SCOPES_GRANTED, False, Reason.AUDIENCE_MISMATCH, message)
    return Condition(ConditionType.SCOPES_GRANTED, True, Reason.ALL_GRANTED, "The token carries all scopes asked for.")


def _history(before: Mapping[str, Any], stored: IssuedToken | None, failed: Attempts | None) -> list[Mapping[str, Any]]:
    """The history with what is new: a token that was issued, or the first failure of a row."""
    history = list(before.get("history", ()))
    if stored is not None and stored.revision != before.get("revision"):
        history.append(
            {
                "time": format_time(stored.issued_at),
                "reason": stored.reason,
                "outcome": "Issued",
                "expirationTime": format_time(stored.expires_at),
            }
        )
    failure = None if failed is None else failed.failure
    latest = history[-1] if history else {}
    if failure is not None and (latest.get("outcome"), latest.get("reason")) != ("Failed", failure.reason):
        history.append(
            {
                "time": format_time(failure.at),
                "reason": failure.reason,
                "outcome": "Failed",
                "message": failure.message,
            }
        )
    return history[-LONGEST_HISTORY:]


def is_new_and_waits_briefly(seen: Observed, now: datetime) -> bool:
    """Whether an AssetToken of which nothing is told yet only waits for its turn: a status would say no more."""
    if seen.queued_since is None or waits_long(seen, now):
        return False
    return "conditions" not in seen.token.status and seen.secret is None and seen.requests.failure is None


def waits_briefly(seen: Observed, status: Mapping[str, Any], now: datetime) -> bool:
    """Whether the AssetToken only waits for its turn, and a status that says so now is not worth a write yet.

    What users wait for is told at once: whether it is ready, and which generation the status is of.
    """
    if seen.queued_since is None or waits_long(seen, now) or is_true(status, ConditionType.ISSUING):
        return False
    before = seen.token.status
    if is_true(before, ConditionType.READY) != is_true(status, ConditionType.READY):
        return False
    return "conditions" not in before or before.get("observedGeneration") == status["observedGeneration"]


def worth_writing(before: Mapping[str, Any], after: Mapping[str, Any], now: datetime) -> bool:
    """Whether the status says something new, and not only that it failed once more within a minute."""
    if _without_hint(before) == _without_hint(after):
        return False
    if not (is_true(before, ConditionType.ISSUING) and is_true(after, ConditionType.ISSUING)):
        return True
    if before.get("observedGeneration") != after["observedGeneration"]:
        return True
    if is_true(before, ConditionType.READY) != is_true(after, ConditionType.READY):
        return True
    told = before.get("lastFailureTime")
    return told is None or abs(now - parse_time(told)) >= FAILURE_REPORTS


def _without_hint(status: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in status.items() if name != SYNCED}


def transition_events(before: Mapping[str, Any], after: Mapping[str, Any], *, issued: bool) -> list[Event]:
    """The events that a change of status is worth: first issued, recovered, failing, refused.

    Args:
        before: The status as it was.
        after: The status as it is.
        issued: Whether a token has just been issued.
    """
    was_failing, fails = _is_failing(before), _is_failing(after)
    was_stalled, stalled = is_true(before, ConditionType.STALLED), is_true(after, ConditionType.STALLED)
    if fails and not was_failing:
        return [_warning(after, ConditionType.ISSUING)]
    if stalled and not was_stalled:
        return [_warning(after, ConditionType.STALLED)]
    ready = find_condition(after, ConditionType.READY)
    if issued and after.get("revision") == 1:
        return [Event("Normal", "Issued", f"Asset issued the first token. {ready['message']}")]
    if issued and (was_failing or was_stalled) and not fails and not stalled:
        return [Event("Normal", "Recovered", ready["message"])]
    return []


def _is_failing(status: Mapping[str, Any]) -> bool:
    """Whether attempts fail; a mere wait for the budget is no news."""
    return is_true(status, ConditionType.ISSUING) and "failedAttempts" in status


def war_event(seen: Observed) -> Event:
    """The one event about a Secret that something changes back again and again."""
    name = seen.token.spec.secret.name
    message = f"Something keeps changing or deleting Secret {name}; it is put right, but later each time."
    return Event("Warning", Reason.DRIFT_REPEATS, message)


def _warning(status: Mapping[str, Any], condition_type: ConditionType) -> Event:
    condition = find_condition(status, condition_type)
    return Event("Warning", condition["reason"], condition["message"])
