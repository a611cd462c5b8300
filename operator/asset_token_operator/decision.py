"""Decides what to do next for one AssetToken: what was observed and the time in, one `Decision` out.

Nothing here acts. The reconciler observes, asks, acts and asks again until the answer is to wait or that it is
blocked; every rule about when a token is requested, written or left alone is therefore in this module.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asset_token_operator.manifests import differs, is_left_behind, is_owned, secret_manifest, stored_token
from asset_token_operator.model import Reason, digest
from asset_token_operator.renewal import back_off, earliest_next, renewal_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.model import AssetToken, Environment, IssuedToken, SecretState

RECHECK_CONFLICT: Final = timedelta(seconds=15)
"""How often a Secret that isn't ours is looked at: it goes without a word, since its kind isn't watched."""

RESYNC: Final = timedelta(hours=1)
"""The longest wait."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The latest attempt's failure."""

    at: datetime
    reason: str
    message: str
    stalled: bool


@dataclass(frozen=True, slots=True)
class Attempts:
    """How often something was tried for one cause, and with what success. A new cause starts with none.

    Attributes:
        cause: Why it was tried.
        times: When, the latest few.
        failures: How many failed in a row.
        failure: The latest failure; None after a success.
    """

    cause: str = ""
    times: tuple[datetime, ...] = ()
    failures: int = 0
    failure: Failure | None = None

    def begin(self, cause: str, now: datetime) -> Attempts:
        """One more attempt is made."""
        same = self if self.cause == cause else Attempts(cause)
        return replace(same, times=(*same.times, now)[-TIMES_KEPT:])

    def failed(self, failure: Failure) -> Attempts:
        """The attempt that was begun failed."""
        return replace(self, failures=self.failures + 1, failure=failure)

    def succeeded(self) -> Attempts:
        """The attempt that was begun succeeded; it still counts against the limit."""
        return replace(self, failures=0, failure=None)

    def allowed_at(self, cause: str, limit: Limit, seed: str) -> datetime | None:
        """When the next attempt may be made; None where it may be made now."""
        if self.cause != cause:
            return None
        after_failure = None if self.failure is None else self.failure.at + back_off(self.failures, seed)
        within_limit = earliest_next(self.times, limit.most, limit.window)
        return max(filter(None, (after_failure, within_limit)), default=None)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many attempts for one cause in any such window, whatever they end with."""

    most: int
    window: timedelta


REQUESTS: Final = Limit(4, timedelta(seconds=62))
"""At most 4 a minute, also by a clock other than ours: a token that is lost, broken or expires again and again never
becomes a hot loop against Asset."""

WRITES: Final = Limit(10, timedelta(minutes=10))
"""Nor does a Secret that something else changes back again and again become one against the API server."""

TIMES_KEPT: Final = max(REQUESTS.most, WRITES.most)


@dataclass(frozen=True, slots=True)
class Observed:
    """All that a decision is made from.

    Attributes:
        token: The AssetToken.
        endpoints: The base URL of each environment.
        secret: What stands under the name of its Secret, whoever wrote it.
        others: Its own Secrets under other names, from before `secret.name` changed.
        held: The latest token that is known to have been issued, also if no Secret has it (any more).
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        senior: The name of an older AssetToken that names the same Secret.
        juniors: The UIDs of younger AssetTokens that do.
    """

    token: AssetToken
    endpoints: Mapping[Environment, str]
    secret: SecretState | None = None
    others: tuple[SecretState, ...] = ()
    held: IssuedToken | None = None
    requests: Attempts = Attempts()
    writes: Attempts = Attempts()
    senior: str | None = None
    juniors: frozenset[str] = frozenset()

    def stored(self) -> IssuedToken | None:
        """The token that the AssetToken's Secret holds; None where the Secret isn't its own or holds none."""
        if self.secret is None or not is_owned(self.secret, self.token, self.juniors):
            return None
        return stored_token(self.secret)

    def current(self) -> IssuedToken | None:
        """The token to serve: one for the present spec if there is one, and of those the latest."""
        known = [self.held, self.stored(), *(stored_token(other) for other in self.others)]
        spec_hash = self.token.spec.request_hash()
        return max(
            (token for token in known if token is not None),
            key=lambda token: (token.spec_hash == spec_hash, token.issued_at, token.revision),
            default=None,
        )

    def request_cause(self) -> str:
        """What a request would be made for: a changed spec or a new renew request is a new cause."""
        return f"{self.token.spec.request_hash()}/{self.token.renew_request}"


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
    moments = [now + RESYNC]
    token = seen.current()
    if token is not None and token.expires_at > now:
        moments += [token.expires_at, renewal_time(token, seen.token.spec)]
        write = needed_write(seen, token)
        if write is not None:
            allowed = seen.writes.allowed_at(write.cause(), WRITES, seen.token.uid)
            if allowed is None or allowed <= now:
                return write
            moments.append(allowed)
    reason = reason_to_request(seen, token, now)
    if reason is not None and not seen.token.spec.suspend:
        allowed = seen.requests.allowed_at(seen.request_cause(), REQUESTS, seen.token.uid)
        if allowed is None or allowed <= now:
            return Request(reason)
        moments.append(allowed)
    if seen.stored() is not None:
        for other in seen.others:
            if other.controller_uid == seen.token.uid:
                return Remove(other)
    return Wait(min(moment for moment in moments if moment > now))


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
    message = (
        f"Secret {name} exists and does not belong to this AssetToken, so it is left alone;"
        " delete it or set another spec.secret.name."
    )
    return Blocked(message, stalled=True, until=until)


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
    if token.spec_hash != seen.token.spec.request_hash():
        return Reason.SPEC_CHANGED
    if token.expires_at <= now:
        return Reason.EXPIRED
    if seen.token.renew_request is not None and seen.token.renew_request != token.renew_request:
        return Reason.RENEW_REQUESTED
    if renewal_time(token, seen.token.spec) <= now:
        return Reason.RENEWING
    return None
