"""What follows from what was observed, each thing computed once; from here on all times are on our clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.evidence import Evidence, are_others
from asset_token_operator.manifests import differs, secret_manifest
from asset_token_operator.model import Urgency, digest
from asset_token_operator.observed import SlotState, Synced
from asset_token_operator.reasons import Reason, Recovery
from asset_token_operator.renewal import renewal_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.attempts import Attempts
    from asset_token_operator.model import IssuedToken
    from asset_token_operator.observed import Observed

LONG_WAIT: Final = timedelta(seconds=30)
"""A wait that is worth a word."""


@dataclass(frozen=True, slots=True)
class TimedToken:
    """A token with its times on our clock.

    Attributes:
        token: The token, whose own times are on Asset's clock.
        expires_at: When it expires.
        renews_at: When it is to be renewed.
        works_from: When it starts to work, where that is still to come.
    """

    token: IssuedToken
    expires_at: datetime
    renews_at: datetime
    works_from: datetime | None

    @property
    def renewal_window(self) -> timedelta:
        """How long before its expiry it is renewed."""
        return self.expires_at - self.renews_at

    @property
    def runs_out_at(self) -> datetime:
        """When a third of its renewal window is left: it is about to expire."""
        return self.expires_at - self.renewal_window / 3


@dataclass(frozen=True)
class Assessment:
    """What follows from what was observed.

    Attributes:
        seen: What was observed.
        now: The present moment.
    """

    seen: Observed
    now: datetime

    @cached_property
    def evidence(self) -> Evidence:
        """Which tokens there are, and what has to be read."""
        return Evidence(self.seen)

    @cached_property
    def current(self) -> TimedToken | None:
        """The token to serve, wherever it is."""
        return self._timed(self.evidence.current)

    @cached_property
    def stored(self) -> TimedToken | None:
        """The token that the AssetToken's Secret holds; it is `current` itself where it is the same token."""
        token, current = self.evidence.stored, self.current
        is_current = token is not None and current is not None and token.fingerprint == current.token.fingerprint
        return current if is_current else self._timed(token)

    @cached_property
    def served_until(self) -> datetime | None:
        """When the token expires that the Secret holds; None where it holds none."""
        return None if self.stored is None else self.stored.expires_at

    @cached_property
    def manifest(self) -> Mapping[str, Any] | None:
        """The Secret as it is to be written; None where it needn't be, as it holds the current token as the spec wants.

        Without a token there is nothing to write.
        """
        return self._to_write(self.current)

    @cached_property
    def write_cause(self) -> str:
        """What it is written for: the same content again is drift, another is not."""
        return digest(str(self.manifest))

    @cached_property
    def write_at(self) -> datetime | None:
        """When the Secret may be written: not before its token works; None where there is nothing to write."""
        seen, now, token = self.seen, self.now, self.current
        if self.manifest is None or token is None or token.expires_at <= now:
            return None
        moments = [now, token.works_from]
        if seen.writes.cause == self.write_cause:
            moments.append(seen.writes.repair_at(now))
            if seen.writes.target == (seen.secret and seen.secret.uid):  # what refused it may have been deleted since
                moments.append(seen.writes.retry_at(now, seen.owner.uid, self.served_until))
                moments.append(seen.writes.asked_to_wait_until(now, self.served_until))
        return max(filter(None, moments))

    @cached_property
    def reason(self) -> Reason | None:
        """Why a token has to be requested; None where the current one does."""
        seen, now = self.seen, self.now
        if self.current is None:
            return Reason.DOES_NOT_EXIST
        token, asked = self.current.token, seen.owner.renew_request
        reasons = {
            Reason.SPEC_CHANGED: token.spec_hash != seen.owner.spec.request_hash(),
            Reason.EXPIRED: self.current.expires_at <= now,
            Reason.RENEW_REQUESTED: asked is not None and asked != token.renew_request,
            Reason.RENEWING: self.current.renews_at <= now,
            Reason.CREDENTIALS_CHANGED: seen.credentials is not None and are_others(seen.credentials, token),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    @cached_property
    def request_at(self) -> datetime | None:
        """When a token may be requested, as far as failures and limits of requests go; None where none is needed."""
        seen, now, token = self.seen, self.now, self.current
        if self.reason is None or seen.owner.spec.suspend:
            return None
        cause, requests, uid = seen.request_cause, seen.requests, seen.owner.uid
        expires_at = None if token is None else token.expires_at
        moments: list[datetime | None] = [now, requests.within_limits(cause, now)]
        if requests.cause == cause:
            moments.append(requests.asked_to_wait_until(now, expires_at))
            if not _endpoint_says_when(seen):
                moments.append(requests.retry_at(now, uid, expires_at, alone=seen.fails_alone))
        if not self._is_asked_for():
            moments += (seen.parked.retry_at(now, uid, expires_at), seen.parked.within_limits("", now))
        if token is not None and self.reason is Reason.RENEWING:
            if self._write_fails():
                moments.append(token.runs_out_at)  # it is in hand: no other is needed before
            if self.works_later is not None and self.works_later < token.expires_at:
                moments.append(self.works_later)  # else it would be replaced before it is of any use
        return max(filter(None, moments))

    @cached_property
    def failed(self) -> Attempts | None:
        """The attempts that fail while they are still needed: those to get a token before those to write it."""
        seen = self.seen
        if self.reason is not None:
            if seen.parked.failure is not None:
                return seen.parked
            failure = seen.requests.failure
            if failure is not None and not failure.is_shared and seen.requests.cause == seen.request_cause:
                return seen.requests
        return seen.writes if self._write_fails() else None

    @cached_property
    def urgency(self) -> Urgency:
        """How urgent a request is.

        What fails while others are answered goes last, within what it may use. What was due before the endpoint came
        up again has waited for it, and needn't be spaced like what becomes due now.
        """
        seen, token, requests = self.seen, self.current, self.seen.requests
        alone = seen.fails_alone and requests.failure is not None and requests.cause == seen.request_cause
        if token is None:
            return Urgency.MISSING_ALONE if alone else Urgency.MISSING
        if token.runs_out_at <= self.now:
            return Urgency.EXPIRING_ALONE if alone else Urgency.EXPIRING
        if alone:
            return Urgency.RETRY
        if self.reason in (Reason.SPEC_CHANGED, Reason.RENEW_REQUESTED):
            return Urgency.FORCED
        up_since = seen.endpoint_up_since
        return Urgency.OVERDUE if up_since is not None and token.renews_at < up_since else Urgency.ROUTINE

    @cached_property
    def expires_at(self) -> datetime:
        """When the current token expires; before all times where there is none."""
        return datetime.min.replace(tzinfo=UTC) if self.current is None else self.current.expires_at

    @cached_property
    def works_later(self) -> datetime | None:
        """When the current token begins to work; None where it does, or is served already."""
        token = self.current
        return None if token is None or token is self.stored or token.works_from is None else token.works_from

    @cached_property
    def waits_long(self) -> bool:
        """Whether it is worth a word that a slot is waited for: it isn't while a routine renewal has time."""
        seen, token = self.seen, self.current
        if seen.slot is not SlotState.QUEUED or seen.queued_since is None:
            return False
        if seen.queued_since + LONG_WAIT > self.now:
            return False
        is_routine = token is not None and not seen.endpoint_down and self.reason is Reason.RENEWING
        return not is_routine or (token is not None and token.runs_out_at <= self.now)

    @cached_property
    def drifts(self) -> bool:
        """Whether something changes the Secret back so often that it is not put right at once any more."""
        return self.seen.writes.repair_at(self.now) is not None

    @cached_property
    def synced(self) -> Synced:
        """With what it is known now that the Secret's data is in order."""
        secret, stored, before, present = self.seen.secret, self.stored, self.seen.synced, self.evidence.present
        is_in_order = secret is not None and secret.data is not None and stored is not None
        if is_in_order:  # as far as its own token goes, which is the current one but for a moment
            is_in_order = (self.manifest if stored is self.current else self._to_write(stored)) is None
        return Synced(
            present.data if is_in_order else before.data,
            present.credentials if self.evidence.has_same_credentials() else before.credentials,
        )

    def _to_write(self, token: TimedToken | None) -> Mapping[str, Any] | None:
        """The Secret that is to be written for a token; None where it needn't be."""
        if token is None:
            return None
        manifest = secret_manifest(self.seen.owner, token.token, self.seen.endpoints)
        return manifest if self.seen.secret is None or differs(self.seen.secret, manifest) else None

    def _timed(self, token: IssuedToken | None) -> TimedToken | None:
        if token is None:
            return None
        skew, owner = self.seen.skews.of(token), self.seen.owner
        works_from = None if token.not_before is None else token.not_before - skew
        return TimedToken(
            token,
            expires_at=token.expires_at - skew,
            renews_at=renewal_time(token, owner.spec, owner.uid) - skew,
            works_from=works_from if works_from is not None and works_from > self.now else None,
        )

    def _write_fails(self) -> bool:
        """Whether the Secret has to be written, and that has failed."""
        writes = self.seen.writes
        return self.manifest is not None and writes.failure is not None and writes.cause == self.write_cause

    def _is_asked_for(self) -> bool:
        """Whether somebody asks to renew now and no request was made for that yet: it is made at once."""
        seen, asked = self.seen, self.seen.owner.renew_request
        is_served = self.current is not None and self.current.token.renew_request == asked
        return asked is not None and not is_served and seen.requests.cause != seen.request_cause


def assess(seen: Observed, now: datetime) -> Assessment:
    """What follows from what was observed, now."""
    return Assessment(seen, now)


def _endpoint_says_when(seen: Observed) -> bool:
    """Whether the back-off is void: the endpoint's probes replace it, or the endpoint has come up since."""
    failure = seen.requests.failure
    if failure is None or failure.recovery is not Recovery.ENDPOINT:
        return False
    if seen.endpoint_down or seen.fails_alone:
        return seen.endpoint_down
    return seen.endpoint_ups > failure.ups
