"""Decides what to do next for one AssetToken: an `Assessment` in, one `Decision` out.

Nothing here acts. The reconciler observes, asks, acts and asks again until the answer is to wait or that the Secret's
name is taken; every rule about when a token is requested, written or left alone is therefore here and in `assess`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from asset_token_operator.assess import LONG_WAIT
from asset_token_operator.errors import foreign_secret
from asset_token_operator.manifests import is_left_behind
from asset_token_operator.model import DeletionPolicy
from asset_token_operator.observed import SlotState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from asset_token_operator.assess import Assessment
    from asset_token_operator.model import SecretState
    from asset_token_operator.reasons import Reason

RECHECK_CONFLICT: Final = timedelta(seconds=15)
"""How often a Secret that isn't ours is looked at, should its watch have missed that it went."""

RECHECK_SENIOR: Final = timedelta(minutes=5)
"""When to look again at one that yields to an older one, so that it names the one that is there; its watch tells at
once when it has to yield no more."""

RESYNC: Final = timedelta(hours=1)
"""The longest wait."""


@dataclass(frozen=True, slots=True)
class ReadCredentials:
    """Read the credentials Secret, where it hasn't been in this version."""


@dataclass(frozen=True, slots=True)
class ReadSecret:
    """Read the Secret whole, as it stands."""


@dataclass(frozen=True, slots=True)
class ReadOldSecrets:
    """Read the Secrets that the AssetToken had under other names."""


@dataclass(frozen=True, slots=True)
class ConfirmOwner:
    """Ask whether the AssetToken is still there, as its Secret is gone: both may have been deleted."""


@dataclass(frozen=True, slots=True)
class AcquireSlot:
    """Ask for a slot in the tenant's budget, to request a token."""


@dataclass(frozen=True, slots=True)
class RequestToken:
    """Request a token from Asset."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class ApplySecret:
    """Write the Secret.

    Attributes:
        manifest: The Secret, whole.
        cause: What it is written for.
        uid: The UID of the Secret that is overwritten; None where there is none yet.
    """

    manifest: Mapping[str, Any] = field(repr=False)
    cause: str
    uid: str | None


@dataclass(frozen=True, slots=True)
class DeleteOldSecret:
    """Delete a Secret that the AssetToken had under another name."""

    secret: SecretState


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then, or until something changes."""

    until: datetime


@dataclass(frozen=True, slots=True)
class SecretConflict:
    """The Secret's name is taken; nothing is requested or written before that changes.

    Attributes:
        message: Why, in a sentence that says what to do.
        stalled: True where somebody has to change something.
    """

    message: str
    stalled: bool
    until: datetime


Step: TypeAlias = (
    ReadCredentials
    | ReadSecret
    | ReadOldSecrets
    | ConfirmOwner
    | AcquireSlot
    | RequestToken
    | ApplySecret
    | DeleteOldSecret
)
Outcome: TypeAlias = Wait | SecretConflict
Decision: TypeAlias = Step | Outcome


def decide(assessed: Assessment) -> Decision:
    """Choose the next step; a `Wait` always ends after `now`."""
    applying = (decided for decided in (check(assessed) for check in CHECKS) if decided is not None)
    decided = next(applying, None) or _wait(assessed)
    return _needed_first(assessed, decided) or decided


def _yields_to_senior(assessed: Assessment) -> SecretConflict | None:
    seen = assessed.seen
    if seen.senior is None:
        return None
    message = (
        f"AssetToken {seen.senior} is older and names Secret {seen.owner.spec.secret.name} too;"
        " set another spec.secret.name in one of them."
    )
    return SecretConflict(message, stalled=True, until=assessed.now + RECHECK_SENIOR)


def _leaves_foreign_secret(assessed: Assessment) -> SecretConflict | None:
    secret, owner, until = assessed.seen.secret, assessed.seen.owner, assessed.now + RECHECK_CONFLICT
    if secret is None or assessed.evidence.owns_secret:
        return None
    if is_left_behind(secret, owner):
        message = (
            f"Secret {secret.key.name} is of a deleted AssetToken of this name; it is about to be garbage-collected."
        )
        return SecretConflict(message, stalled=False, until=until)
    return SecretConflict(foreign_secret(secret.key.name), stalled=True, until=until)


def _writes(assessed: Assessment) -> ApplySecret | None:
    secret, manifest, due = assessed.seen.secret, assessed.manifest, assessed.write_at
    if manifest is None or due is None or due > assessed.now:
        return None
    return ApplySecret(manifest, assessed.write_cause, None if secret is None else secret.uid)


def _requests(assessed: Assessment) -> RequestToken | Wait | None:
    reason, due = assessed.reason, assessed.request_at
    if reason is None or due is None or due > assessed.now:
        return None
    return _wait(assessed) if assessed.seen.slot is SlotState.QUEUED else RequestToken(reason)


def _deletes_old_secret(assessed: Assessment) -> DeleteOldSecret | None:
    owner, token = assessed.seen.owner, assessed.current
    is_served = token is not None and token.expires_at > assessed.now and assessed.manifest is None
    if not is_served or owner.spec.secret.deletion_policy is not DeletionPolicy.DELETE:
        return None
    ours = (old for old in assessed.seen.old_secrets if old.controller_uid == owner.uid and old.data is not None)
    return next(map(DeleteOldSecret, ours), None)


CHECKS: Final[tuple[Callable[[Assessment], Decision | None], ...]] = (
    _yields_to_senior,
    _leaves_foreign_secret,
    _writes,
    _requests,
    _deletes_old_secret,
)
"""What may be done, the first that applies first."""


def _needed_first(assessed: Assessment, decided: Decision) -> Decision | None:  # noqa: PLR0911 - one for each step
    """What has to be known, or had, before that is done or before it is left at that."""
    seen, evidence = assessed.seen, assessed.evidence
    if seen.senior is not None:  # the caches know all that counts
        return None
    requests = isinstance(decided, RequestToken)
    reads_old = not seen.old_secrets_are_live and evidence.lacks_old_secrets()  # which only the credentials prove
    if not seen.credentials_are_live and (requests or reads_old or evidence.lacks_credentials()):
        return ReadCredentials()
    if not seen.secret_is_live and evidence.lacks_secret():
        return ReadSecret()
    if reads_old:
        return ReadOldSecrets()
    if requests and seen.slot is SlotState.NOT_ASKED_FOR:
        return AcquireSlot()
    tells_whose = seen.secret is None or seen.secret.type is not None
    is_known = isinstance(decided, Wait) or (isinstance(decided, SecretConflict) and tells_whose)
    if not seen.secret_is_live and not is_known:
        return ReadSecret()
    confirms = evidence.lost_secret and not seen.owner_is_live and isinstance(decided, RequestToken | ApplySecret)
    return ConfirmOwner() if confirms else None


def _wait(assessed: Assessment) -> Wait:
    """Wait for what time brings next."""
    now, token = assessed.now, assessed.current
    moments = [now + RESYNC, assessed.served_until, assessed.write_at, assessed.request_at]
    if assessed.seen.slot is SlotState.QUEUED:
        moments.append(now + LONG_WAIT)
    if token is not None:
        moments += (token.expires_at, token.renews_at if assessed.reason is None else None)
    return Wait(min(moment for moment in moments if moment is not None and moment > now))
