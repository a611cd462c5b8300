"""Decides what to do next for one AssetToken: what was observed and the time in, one `Decision` out.

Nothing here acts. The reconciler observes, asks, acts and asks again until the answer is to wait or that it is
blocked; every rule about when a token is requested, written or left alone is therefore in this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from asset_token_operator.errors import RECOVERIES, foreign_secret
from asset_token_operator.expiry import rounded
from asset_token_operator.manifests import (
    credentials_fingerprint,
    differs,
    holds,
    is_left_behind,
    is_owned,
    proof_key,
    prove,
    secret_manifest,
    stored_token,
)
from asset_token_operator.model import DeletionPolicy, Reason, Recovery, Urgency, digest
from asset_token_operator.renewal import (
    FIRST_RETRY,
    LONGEST_RETRY,
    PROBE_EVERY,
    back_off,
    earliest_next,
    longest_rest,
    probe_wait,
    renewal_time,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.model import AssetToken, Credentials, Environment, IssuedToken, Rival, SecretState

RECHECK_CONFLICT: Final = timedelta(seconds=15)
"""How often a Secret that isn't ours is looked at, should its watch have missed that it went."""

LONGEST_WITHOUT_TOKEN: Final = timedelta(seconds=15)
"""How long an AssetToken that has no valid token waits at most before it tries again what failed."""

LONGEST_ALONE: Final = timedelta(minutes=1)
"""The same where Asset answers others, or answers something broken."""

LONG_WAIT: Final = timedelta(seconds=30)
"""A wait for the tenant's budget that is worth a word."""

RESYNC: Final = timedelta(hours=1)
"""The longest wait."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The latest attempt's failure.

    Attributes:
        retry_after: How long it was asked to wait, if it was.
        ups: How often the endpoint had answered again after failures by then.
    """

    at: datetime
    reason: Reason
    message: str
    retry_after: timedelta | None = None
    ups: int = 0

    @property
    def recovery(self) -> Recovery:
        """What ends it."""
        return RECOVERIES[self.reason]

    @property
    def stalled(self) -> bool:
        """Whether nothing helps until someone changes the spec, the credentials or a Secret."""
        return self.recovery in (Recovery.CHANGE, Recovery.CREDENTIALS)


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often something was tried, and for the latest cause with what success. A new cause starts with no failure.

    Attributes:
        cause: Why it was tried.
        times: When, the latest few, whatever the causes.
        of_cause: How many of these were for this cause.
        failures: How many failed in a row.
        failure: The latest failure; None after a success.
        target: The UID of the Secret that was to be overwritten by the latest.
    """

    cause: str = ""
    times: tuple[datetime, ...] = ()
    failures: int = 0
    failure: Failure | None = None
    target: str | None = None
    of_cause: int = 0

    def begin(self, cause: str, now: datetime, target: str | None = None) -> Attempts:
        """One more attempt is made; those still to come were before the clock was set back, and count no more."""
        same = self if self.cause == cause else Attempts(cause, self.times)
        times = (*(moment for moment in same.times if moment <= now), now)[-TIMES_KEPT:]
        own = sum(moment <= now for moment in same.times_of_cause()) + 1
        return replace(same, times=times, of_cause=min(own, len(times)), target=target)

    def failed(self, failure: Failure) -> Attempts:
        """The attempt that was begun failed."""
        return replace(self, failures=self.failures + 1, failure=failure)

    def uncounted(self) -> Attempts:
        """The attempt that was begun counts against no limit."""
        return replace(self, times=self.times[:-1], of_cause=self.of_cause - 1)

    def succeeded(self) -> Attempts:
        """The attempt that was begun succeeded; it still counts against the limit."""
        return replace(self, failures=0, failure=None)

    def retry_at(
        self, now: datetime, seed: str, expires_at: datetime | None = None, *, alone: bool = False
    ) -> datetime | None:
        """When to try again after the latest failure; None where there was none, or something else says when.

        A failure that is still to come was before the clock was set back: nobody knows how long ago.

        Args:
            now: The present moment.
            seed: The AssetToken's UID.
            expires_at: When the present token expires, on our clock; None where there is none.
            alone: Whether the endpoint answers others.
        """
        failure = self.failure
        if failure is None or failure.recovery is Recovery.BUDGET or failure.at > now:
            return None
        left = None if expires_at is None else expires_at - failure.at
        if failure.stalled:
            return failure.at + probe_wait(self.failures, left)
        longest = LONGEST_RETRY
        if left is None or left <= timedelta():
            longest = LONGEST_ALONE if alone or failure.reason is Reason.BROKEN_ANSWER else LONGEST_WITHOUT_TOKEN
        wait = back_off(self.failures, seed, left, longest)
        return failure.at + (max(wait, PROBE_EVERY) if failure.recovery is Recovery.ENDPOINT else wait)

    def asked_to_wait_until(self, now: datetime, expires_at: datetime | None) -> datetime | None:
        """Until when the latest failure asks to wait, as far as that is believed; None where it doesn't ask."""
        failure = self.failure
        if failure is None or failure.retry_after is None or failure.at > now:
            return None
        left = None if expires_at is None else expires_at - failure.at
        return failure.at + min(failure.retry_after, longest_rest(left))

    def repair_at(self, now: datetime) -> datetime | None:
        """When to write the same content once more; None where it may be now, as it wasn't needed often lately."""
        lately = [moment for moment in self.times_of_cause() if now - FREE_REPAIRS.window < moment <= now]
        too_many = len(lately) - FREE_REPAIRS.most
        return lately[-1] + FIRST_RETRY * 2.0**too_many if too_many > 0 else None

    def within_limits(self, cause: str, now: datetime) -> datetime:
        """When one more request may be made for the cause by `REQUESTS` and `RETRIES`; now where it may already."""
        own = self.times_of_cause() if self.cause == cause else ()
        limited = ((self.times, REQUESTS), (own, RETRIES))
        moments = (
            earliest_next([moment for moment in times if moment <= now], limit.most, limit.window)
            for times, limit in limited
        )
        return max(moment or now for moment in moments)

    def times_of_cause(self) -> tuple[datetime, ...]:
        """When it was tried for the latest cause."""
        return self.times[len(self.times) - self.of_cause :]


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many attempts in any such window, whatever they end with."""

    most: int
    window: timedelta


REQUESTS: Final = Limit(4, timedelta(seconds=62))
"""At most 4 a minute, whatever the causes, also by a clock other than ours: a token that is lost, broken or expires
again and again, and a spec that flips, never becomes a hot loop against Asset."""

RETRIES: Final = Limit(REQUESTS.most - 1, REQUESTS.window)
"""Of these for one cause: one is left for another, so that a cause that was fixed is acted on at once."""

FREE_REPAIRS: Final = Limit(5, timedelta(minutes=10))
"""So often a Secret is put right at once; what changes it back again then is answered later each time."""

TIMES_KEPT: Final = FREE_REPAIRS.most + 6


class Synced(NamedTuple):
    """With what it was last seen that a Secret's data is in order; each part differs where that is another.

    Attributes:
        data: The Secret, in which version, and what its data is made of besides the token.
        credentials: The credentials Secret, and in which version.
    """

    data: str = ""
    credentials: str = ""

    @classmethod
    def parse(cls, text: str) -> Synced:
        """Read it as status has it; anything else is no such thing."""
        data, _, credentials = text.partition("-")
        return cls(data, credentials)

    def __str__(self) -> str:
        return f"{self.data}-{self.credentials}"


NEVER: Final = Synced()
"""It wasn't seen to be in order yet."""


@dataclass(frozen=True)
class Observed:
    """All that a decision is made from; what follows from it is computed once.

    Attributes:
        token: The AssetToken.
        endpoints: The base URL of each environment.
        secret: What stands under the name of its Secret, whoever wrote it; by its metadata only, or whole.
        others: Its own Secrets under other names, from before `secret.name` changed: by metadata, or read and proved.
        held: The latest token that is known to have been issued, also if no Secret has it (any more).
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        senior: The name of an older AssetToken that names the same Secret.
        juniors: Younger AssetTokens that do.
        synced: With what it was last seen that the Secret's data is in order.
        credentials: What the credentials Secret holds; None where it can't be read, or hasn't been.
        credentials_version: Which one that is, and in which version; None where there is none.
        parked: Attempts of all AssetTokens with these credentials, while Asset doesn't accept them.
        endpoint_down: Whether Asset's endpoint is taken for down; then its probes replace each token's back-off.
        endpoint_ups: How often it has answered again after failures.
        endpoint_up_since: When it did last.
        fails_alone: Whether its requests fail while others are answered.
        skew: How far Asset's clock is ahead of ours, by an answer with a token; None where there was none yet.
        doubtful_skew: The same by another answer.
        cluster_skew: How far the API server's clock is ahead of ours; None where it wasn't heard.
        set_back: How far ours was set back since the operator started.
        began: What ours would have said when this machine started to run.
        queued_since: Since when a place in the tenant's budget is waited for.
    """

    token: AssetToken
    endpoints: Mapping[Environment, str]
    secret: SecretState | None = None
    others: tuple[SecretState, ...] = ()
    held: IssuedToken | None = None
    requests: Attempts = Attempts()
    writes: Attempts = Attempts()
    senior: str | None = None
    juniors: frozenset[Rival] = frozenset()
    synced: Synced = NEVER
    credentials: Credentials | None = field(default=None, repr=False)
    credentials_version: str | None = None
    parked: Attempts = Attempts()
    endpoint_down: bool = False
    endpoint_ups: int = 0
    endpoint_up_since: datetime | None = None
    fails_alone: bool = False
    skew: timedelta | None = None
    doubtful_skew: timedelta | None = None
    cluster_skew: timedelta | None = None
    set_back: timedelta = timedelta()
    began: datetime | None = None
    queued_since: datetime | None = None

    def asset_now(self, token: IssuedToken, now: datetime) -> datetime:
        """What Asset's clock says: a token's times are on that."""
        return now + self.skew_of(token)

    def skew_of(self, token: IssuedToken) -> timedelta:
        """How far Asset's clock is ahead of ours: what this machine has timed goes before what clocks say."""
        if token.ends is not None and self.began is not None:
            return rounded(token.expires_at - (self.began + token.ends))
        if self.skew is not None:
            return self.skew
        ours = self.set_back if self.cluster_skew is None else self.cluster_skew
        then = token.skew + ours
        return then if self.doubtful_skew is None else max(then, self.doubtful_skew)

    def expires_at(self, token: IssuedToken) -> datetime:
        """When the token expires, on our clock."""
        return token.expires_at - self.skew_of(token)

    def renews_at(self, token: IssuedToken) -> datetime:
        """When the token is to be renewed, on Asset's clock."""
        moment = self._renewals.get(token.fingerprint)
        if moment is None:
            moment = self._renewals[token.fingerprint] = renewal_time(token, self.token.spec, self.token.uid)
        return moment

    @cached_property
    def _renewals(self) -> dict[str, datetime]:
        """What `renews_at` has computed."""
        return {}

    def stored(self) -> IssuedToken | None:
        """The token that the AssetToken's Secret holds; None where the Secret isn't its own or holds none."""
        return self._stored

    @cached_property
    def _stored(self) -> IssuedToken | None:
        if self.secret is None or not is_owned(self.secret, self.token, self.juniors):
            return None
        return self._read(self.secret)

    def _read(self, secret: SecretState) -> IssuedToken | None:
        """The token that a Secret holds, as far as it is believed that the operator put it there.

        Where it answers the present spec, that says which environment it is of.
        """
        is_its_own = secret.key == self.token.secret_key
        if is_its_own and self.held is not None and holds(secret, self.held):
            return self.held
        token = stored_token(secret)
        if not is_its_own and secret.data is None:  # one that was read is proved
            return None
        if token is not None and is_its_own and not self._is_as_last_seen():
            token = self._prove(secret, token)
        if token is None or token.spec_hash != self.token.spec.request_hash():
            return token
        return replace(token, environment=self.token.spec.environment)

    def _is_as_last_seen(self) -> bool:
        """Whether its Secret is what the operator noted in the status, which nobody else writes, to be in order."""
        return self.synced.data == self._present.data

    def _prove(self, secret: SecretState, token: IssuedToken) -> IssuedToken | None:
        """The token, if it is proved to be the operator's; what nobody can tell yet is left as it stands."""
        held = self.held
        if held is not None and held.proof_key is not None and token.fingerprint == held.fingerprint:
            return prove(secret, self.token, token, held.proof_key)
        if self.credentials is None:
            return token if secret.controller_uid == self.token.uid and secret.key == self.token.secret_key else None
        if token.access_token is None:
            return None
        return prove(secret, self.token, token, proof_key(self.credentials, token.access_token))

    def is_proved(self, secret: SecretState) -> bool:
        """Whether it is proved that the operator made a Secret that was read."""
        token = stored_token(secret)
        return token is not None and self._prove(secret, token) is not None

    def current(self) -> IssuedToken | None:
        """The token to serve: one for the present spec if there is one, and of those the latest.

        What is known of a token that is held is believed before what a Secret says of it. Of two that two operators
        had issued at once the greater fingerprint is the latest for both: each has its own clock.
        """
        return self._current

    @cached_property
    def _current(self) -> IssuedToken | None:
        known: dict[str, IssuedToken] = {}
        for token in (self.held, self.stored(), *(self._read(other) for other in self.others)):
            if token is not None:
                known.setdefault(token.fingerprint, token)
        spec_hash = self.token.spec.request_hash()
        latest = max(
            known.values(),
            key=lambda token: (token.spec_hash == spec_hash, token.revision, token.fingerprint),
            default=None,
        )
        return None if latest is None else self._with_proof_key(latest)

    def _with_proof_key(self, token: IssuedToken) -> IssuedToken:
        """With what its proof is keyed with: one that was believed without it may be written under another name."""
        if token.proof_key is not None or token.access_token is None or self.credentials is None:
            return token
        if _are_others(self.credentials, token):
            return token
        return replace(token, proof_key=proof_key(self.credentials, token.access_token))

    @cached_property
    def _present(self) -> Synced:
        secret = self.secret
        made_of = (secret and (secret.uid, secret.version), self.endpoints[self.token.spec.environment])
        return Synced(digest(repr(made_of))[:16], digest(repr(self.credentials_version))[:16])

    def lacks_secret(self) -> bool:
        """Whether the Secret has to be read before it can be known that nothing is to be done.

        The data of one that is the operator's must have been in order when it was what it is now; and its token must be
        at hand where the credentials are others than it was requested with: it takes both to tell whether they say the
        same.
        """
        secret, token = self.secret, self.current()
        has_no_data = secret is not None and secret.data is None and is_owned(secret, self.token, self.juniors)
        if has_no_data and self.synced.data != self._present.data:
            return True
        return token is not None and token.access_token is None and self._credentials_changed()

    def lacks_others(self) -> bool:
        """The same for its Secrets under other names: they may hold its token, or are to be removed."""
        unread = [other for other in self.others if other.data is None]
        if unread and self.current() is None:
            return True
        removes = self.token.spec.secret.deletion_policy is DeletionPolicy.DELETE
        return removes and any(other.controller_uid == self.token.uid for other in unread)

    def lacks_credentials(self) -> bool:
        """The same for the credentials: what is waited for may be that they change."""
        if self.credentials is not None or self.credentials_version is None:
            return False
        return self.current() is None or self._credentials_changed() or self._lacks_proof()

    def _lacks_proof(self) -> bool:
        """Whether only the credentials can tell if a Secret that was read is the operator's own."""
        secret, held = self.secret, self.held
        if secret is None:  # it is written under another name than before
            return held is not None and held.proof_key is None
        if secret.data is None or self._is_as_last_seen():
            return False
        return held is None or not holds(secret, held)

    def _credentials_changed(self) -> bool:
        return self.credentials_version is not None and self.synced.credentials != self._present.credentials

    def in_sync(self) -> Synced:
        """With what it is known now that the Secret's data is in order."""
        token, stored = self.current(), self.stored()
        was_seen = stored is not None and stored.access_token is not None and needed_write(self, stored) is None
        is_same = False
        if token is not None and token.access_token is not None:
            unread = self.credentials is None and self.credentials_version is not None
            is_same = not unread and (self.credentials is None or not _are_others(self.credentials, token))
        return Synced(
            self._present.data if was_seen else self.synced.data,
            self._present.credentials if is_same else self.synced.credentials,
        )

    def request_cause(self) -> str:
        """What a request would be made for: changed credentials, spec or renew request are a new cause."""
        credentials = self.credentials.identity() if self.credentials else None
        return f"{self.token.spec.request_hash()}/{credentials}/{self.token.renew_request}"


@dataclass(frozen=True, slots=True)
class Request:
    """Request a token from Asset."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Write:
    """Write the Secret.

    Attributes:
        manifest: The Secret, whole.
        uid: The UID of the Secret that is overwritten; None where there is none yet.
    """

    manifest: Mapping[str, Any] = field(repr=False)
    uid: str | None

    def cause(self) -> str:
        """What it is written for: the same content again is drift, another is not."""
        return digest(str(self.manifest))


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a Secret that the AssetToken had under another name."""

    secret: SecretState


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then, or until something changes."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Blocked:
    """The Secret's name is taken; nothing is requested or written before that changes.

    Attributes:
        stalled: True where somebody has to change something.
    """

    message: str
    stalled: bool
    until: datetime


Decision: TypeAlias = Request | Write | Remove | Wait | Blocked


def decide(seen: Observed, now: datetime) -> Decision:
    """Choose the next step; a `Wait` always ends after `now`."""
    blocked = find_conflict(seen, now)
    if blocked is not None:
        return blocked
    moments = [now + RESYNC, _served_until(seen) or now]
    token, write, serves = seen.current(), None, False
    if token is not None and token.expires_at > seen.asset_now(token, now):
        moments += [moment - seen.skew_of(token) for moment in (token.expires_at, seen.renews_at(token))]
        write = needed_write(seen, token)
        serves = write is None  # and those under earlier names may go
        if write is not None:
            allowed = write_allowed_at(seen, write, token, now)
            if allowed <= now:
                return write
            moments.append(allowed)
    reason = reason_to_request(seen, token, now)
    if reason is not None and not seen.token.spec.suspend:
        allowed = max(request_allowed_at(seen, token, now), _unwritten_until(seen, token, write, reason, now))
        if allowed <= now:
            return Request(reason)
        moments.append(allowed)
    if serves and seen.token.spec.secret.deletion_policy is DeletionPolicy.DELETE:
        for other in seen.others:
            if other.controller_uid == seen.token.uid and other.data is not None:
                return Remove(other)
    return Wait(min(moment for moment in moments if moment > now))


def wait_for_place(seen: Observed, now: datetime) -> Wait:
    """Wait for a place in the tenant's budget: it wakes, so this is only for what time brings meanwhile."""
    moments = [now + LONG_WAIT]
    token = seen.current()
    if token is not None and token.expires_at > seen.asset_now(token, now):
        moments.append(token.expires_at - seen.skew_of(token))
        write = needed_write(seen, token)
        if write is not None:
            moments.append(write_allowed_at(seen, write, token, now))
    return Wait(min(moment for moment in moments if moment > now))


def waits_long(seen: Observed, now: datetime) -> bool:
    """Whether it is worth a word that a place is waited for: it isn't while a routine renewal has time."""
    if seen.queued_since is None or seen.queued_since + LONG_WAIT > now:
        return False
    token = seen.current()
    if token is None or seen.endpoint_down or reason_to_request(seen, token, now) is not Reason.RENEWING:
        return True
    return about_to_expire_at(seen, token) <= now


def works_later(seen: Observed, now: datetime) -> datetime | None:
    """When the token in hand begins to work, on our clock; None where it does, or is served already."""
    token, stored = seen.current(), seen.stored()
    if token is None or token.not_before is None or (stored is not None and stored.fingerprint == token.fingerprint):
        return None
    begins = token.not_before - seen.skew_of(token)
    return begins if begins > now else None


def is_at_war(seen: Observed, now: datetime) -> bool:
    """Whether something changes the Secret back so often that it is not put right at once any more."""
    return seen.writes.repair_at(now) is not None


def write_allowed_at(seen: Observed, write: Write, token: IssuedToken, now: datetime) -> datetime:
    """When the Secret may be written; a token that doesn't work yet is not."""
    moments = [now]
    if token.not_before is not None:
        moments.append(token.not_before - seen.skew_of(token))
    if seen.writes.cause == write.cause():
        moments += filter(None, (seen.writes.repair_at(now),))
        if seen.writes.target == write.uid:  # what refused it may have been deleted since
            moments += filter(None, (seen.writes.retry_at(now, seen.token.uid, _served_until(seen)),))
    return max(moments)


def _served_until(seen: Observed) -> datetime | None:
    """When the token expires that the Secret holds now, on our clock; None where it holds none."""
    stored = seen.stored()
    return None if stored is None else seen.expires_at(stored)


def request_allowed_at(seen: Observed, token: IssuedToken | None, now: datetime) -> datetime:
    """When a token may be requested, as far as the AssetToken's own failures and those of its credentials go."""
    expires_at = None if token is None else seen.expires_at(token)
    moments = [now]
    cause = seen.request_cause()
    moments.append(seen.requests.within_limits(cause, now))
    if seen.requests.cause == cause:
        moments += filter(None, (seen.requests.asked_to_wait_until(now, expires_at),))
        if not _endpoint_says_when(seen):
            alone = seen.fails_alone
            moments += filter(None, (seen.requests.retry_at(now, seen.token.uid, expires_at, alone=alone),))
    if not _is_asked_for(seen, token):
        moments += filter(None, (seen.parked.retry_at(now, seen.token.uid, expires_at),))
        moments.append(seen.parked.within_limits("", now))
    return max(moments)


def _unwritten_until(
    seen: Observed, token: IssuedToken | None, write: Write | None, reason: Reason, now: datetime
) -> datetime:
    """When to renew a token that is in hand and can't be written: not before it is about to expire itself."""
    fails = write is not None and seen.writes.failure is not None and write.cause() == seen.writes.cause
    return about_to_expire_at(seen, token) if token is not None and fails and reason is Reason.RENEWING else now


def about_to_expire_at(seen: Observed, token: IssuedToken) -> datetime:
    """When a third of its renewal window is left, on our clock."""
    return seen.expires_at(token) - (token.expires_at - seen.renews_at(token)) / 3


def _is_asked_for(seen: Observed, token: IssuedToken | None) -> bool:
    """Whether somebody asks to renew now and no request was made for that yet: it is made at once, also if parked."""
    asked = seen.token.renew_request
    is_served = token is not None and token.renew_request == asked
    return asked is not None and not is_served and seen.requests.cause != seen.request_cause()


def _endpoint_says_when(seen: Observed) -> bool:
    """Whether the back-off is void: the endpoint's probes replace it, or the endpoint has come up since."""
    failure = seen.requests.failure
    if failure is None or failure.recovery is not Recovery.ENDPOINT:
        return False
    if seen.endpoint_down or seen.fails_alone:
        return seen.endpoint_down
    return seen.endpoint_ups > failure.ups


def find_conflict(seen: Observed, now: datetime) -> Blocked | None:
    """Why the Secret's name can't be used, in a sentence that says what to do; None where it can."""
    name, until = seen.token.spec.secret.name, now + RECHECK_CONFLICT
    if seen.senior is not None:
        message = (
            f"AssetToken {seen.senior} is older and names Secret {name} too;"
            " set another spec.secret.name in one of them."
        )
        return Blocked(message, stalled=True, until=until)
    if seen.secret is None or is_owned(seen.secret, seen.token, seen.juniors):
        return None
    if is_left_behind(seen.secret, seen.token):
        message = f"Secret {name} is of a deleted AssetToken of this name; it is about to be garbage-collected."
        return Blocked(message, stalled=False, until=until)
    return Blocked(foreign_secret(name), stalled=True, until=until)


def needed_write(seen: Observed, token: IssuedToken) -> Write | None:
    """The write that makes the Secret hold the token as the spec wants it; None where it does."""
    manifest = secret_manifest(seen.token, token, seen.endpoints)
    if seen.secret is None:
        return Write(manifest, None)
    return Write(manifest, seen.secret.uid) if differs(seen.secret, manifest) else None


def reason_to_request(seen: Observed, token: IssuedToken | None, now: datetime) -> Reason | None:
    """Why a token has to be requested; None where the present one does."""
    if token is None:
        return Reason.DOES_NOT_EXIST
    asset_now, asked = seen.asset_now(token, now), seen.token.renew_request
    reasons = {
        Reason.SPEC_CHANGED: token.spec_hash != seen.token.spec.request_hash(),
        Reason.EXPIRED: token.expires_at <= asset_now,
        Reason.RENEW_REQUESTED: asked is not None and asked != token.renew_request,
        Reason.RENEWING: seen.renews_at(token) <= asset_now,
        Reason.CREDENTIALS_CHANGED: seen.credentials is not None and _are_others(seen.credentials, token),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _are_others(credentials: Credentials, token: IssuedToken) -> bool:
    """Whether a token was requested with other credentials; one that isn't at hand was, or not, when it was last."""
    if token.access_token is None:
        return False
    return credentials_fingerprint(credentials, token.access_token) != token.credentials_fingerprint


def urgency_of(seen: Observed, reason: Reason, now: datetime) -> tuple[Urgency, datetime]:
    """How urgent a request is, and when the present token expires, on our clock.

    What fails while others are answered goes last.
    What has a third of its renewal window left, or less, is about to expire. What was due before the endpoint came up
    again has waited for it, and needn't be spaced like what becomes due now.
    """
    token = seen.current()
    expires_at = datetime.min.replace(tzinfo=UTC) if token is None else seen.expires_at(token)
    if seen.fails_alone and seen.requests.failure is not None and seen.requests.cause == seen.request_cause():
        return Urgency.RETRY, expires_at
    if token is None:
        return Urgency.MISSING, expires_at
    if about_to_expire_at(seen, token) <= now:
        return Urgency.EXPIRING, expires_at
    if reason in (Reason.SPEC_CHANGED, Reason.RENEW_REQUESTED):
        return Urgency.FORCED, expires_at
    up_since, due_at = seen.endpoint_up_since, seen.renews_at(token) - seen.skew_of(token)
    return Urgency.OVERDUE if up_since is not None and due_at < up_since else Urgency.ROUTINE, expires_at
