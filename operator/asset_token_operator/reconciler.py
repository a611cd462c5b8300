"""Brings one AssetToken to where it shall be: observe → assess → decide → act → report, in that order.

What was observed in the caches is only good enough to find that nothing is to be done. Before anything is, the Secret
is read whole, as it stands, so a cache that lags never costs a token. What must survive a restart is in the Secret;
what is kept here between runs can be lost at any time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, assert_never

from asset_token_operator.assess import assess
from asset_token_operator.attempts import Attempts, failure_of
from asset_token_operator.decision import (
    AcquireSlot,
    ApplySecret,
    ConfirmOwner,
    DeleteOldSecret,
    ReadCredentials,
    ReadOldSecrets,
    ReadSecret,
    RequestToken,
    SecretConflict,
    Wait,
    decide,
)
from asset_token_operator.errors import (
    ConflictError,
    KubeError,
    NotFoundError,
    NotLeadingError,
    OperatorError,
    SecretConflictError,
)
from asset_token_operator.evidence import Evidence
from asset_token_operator.logs import about
from asset_token_operator.manifests import is_owned
from asset_token_operator.narration import tell_written, why_written
from asset_token_operator.observed import NEVER, Observed, SlotState, Synced
from asset_token_operator.reasons import Reason
from asset_token_operator.renewal import back_off
from asset_token_operator.report import REMEMBERED, is_worth_writing, remembered_requests, report
from asset_token_operator.transitions import drift_event, transition_events

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from asset_token_operator.assess import Assessment
    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.decision import Outcome, Step
    from asset_token_operator.issuer import Issuer
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import Environment, IssuedToken, Key, SecretState
    from asset_token_operator.ports import EventQueue, SecretStore
    from asset_token_operator.restarter import Restarter
    from asset_token_operator.scopes import Scopes

logger = logging.getLogger(__name__)

DUE: Final = frozenset({Reason.RENEWING, Reason.EXPIRED})
"""Why a token is requested whose renewal time has come."""

RECHECK_STATE: Final = timedelta(minutes=1)
"""When to look again at an AssetToken that is another, or gone, than its watch has told, should the watch not tell."""

RETRY_STANDBY: Final = timedelta(seconds=5)
"""When to look again at one that was left to the leader."""

LONGEST_RETRY: Final = timedelta(seconds=30)
"""The longest wait after calls of the API server have failed that are no attempts to write the Secret."""


@dataclass(slots=True)
class Memory:
    """What is kept between the runs for one AssetToken.

    Attributes:
        uid: The AssetToken's, since another may come by the same name.
        last_issued: The latest token that is known to have been issued, if it is at hand.
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        queued_since: Since when it waits for a slot in the tenant's budget.
        is_unreported: Whether a token was issued that no status tells of.
        drifts: Whether something changes the Secret back again and again.
        synced: With what it was last seen that the Secret's data is in order.
        disproved: Secrets under other names that aren't the operator's own, whatever they say; by UID and version.
        failed_calls: How often in a row a call of the API server failed that was no attempt to write the Secret.
    """

    uid: str
    requests: Attempts
    last_issued: IssuedToken | None = None
    writes: Attempts = field(default_factory=Attempts)
    queued_since: datetime | None = None
    is_unreported: bool = False
    drifts: bool = False
    synced: Synced = NEVER
    failed_calls: int = 0
    disproved: frozenset[tuple[str, int]] = frozenset()

    def has_disproved(self, secret: SecretState) -> bool:
        """Whether a Secret was looked at as it is now, and isn't the operator's own."""
        return (secret.uid, secret.version) in self.disproved


class Reconciler:
    """Reconciles AssetTokens, each on its own."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        caches: Caches,
        scopes: Scopes,
        kube: SecretStore,
        issuer: Issuer,
        wrote_secret: Callable[[SecretState], None],
        events: EventQueue,
        endpoints: Mapping[Environment, str],
        clock: Clock,
        metrics: Metrics,
        restarter: Restarter,
    ) -> None:
        self._restarter = restarter
        self._caches = caches
        self._scopes = scopes
        self._kube = kube
        self._issuer = issuer
        self._wrote_secret = wrote_secret
        self._events = events
        self._endpoints = endpoints
        self._clock = clock
        self._metrics = metrics
        self._memories: dict[Key, Memory] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Do what is to be done for an AssetToken now.

        Returns:
            When to look again; None for an AssetToken that is gone, or whose scope isn't served: that wakes it.
        """
        before = self._observe(key)
        if before is None:
            self._forget(key)
            return None
        if not self._scopes.serves(self._scopes.of(key.namespace)):
            self._issuer.withdraw(key)
            return None
        try:
            assessed, decided = await self._settle(before)
            told = await self._report(assessed, decided)
        except NotFoundError:  # it is gone, which its watch is about to tell
            wait = RECHECK_STATE
        except KubeError as error:
            logger.warning("%s: %s", key, error, extra=about(key, reason=error.reason))
            wait = self._wait_after_failed_call(before)
        except NotLeadingError:
            logger.info("%s: left to the operator that leads now", key, extra=about(key))
            wait = RETRY_STANDBY
        else:
            self._memories[key].failed_calls = 0
            return decided.until if told else min(decided.until, self._clock.now() + RECHECK_STATE)
        self._issuer.withdraw(key)
        return self._clock.now() + wait

    def held_up(self, scope: str) -> list[Key]:
        """Whose latest call of the API server failed, in a scope."""
        failed = (key for key, memory in self._memories.items() if memory.failed_calls)
        return [key for key in failed if self._scopes.of(key.namespace) == scope]

    def _wait_after_failed_call(self, seen: Observed) -> timedelta:
        """Longer each time, and another for each AssetToken, so that an API server that comes back isn't stormed."""
        now, memory = self._clock.now(), self._memories[seen.owner.key]
        memory.failed_calls += 1
        current = assess(seen, now).current
        left = None if current is None else current.expires_at - now
        return back_off(memory.failed_calls, seen.owner.uid, left, LONGEST_RETRY)

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._issuer.forget(key)
        self._restarter.forget(key)

    def _observe(self, key: Key) -> Observed | None:
        """What the caches and the memory know; None for an AssetToken that is gone or going."""
        owner = self._caches.asset_token(key)
        if owner is None or owner.deleting:
            return None
        memory = self._memories.get(key)
        if memory is None or memory.uid != owner.uid:
            memory = Memory(owner.uid, remembered_requests(owner), synced=Synced.parse(owner.status.synced_hash))
            self._memories[key] = memory
        senior, juniors = self._caches.rivals(owner)
        old = (secret for secret in self._caches.secrets_of(key) if secret.key != owner.secret_key)
        seen = Observed(
            owner,
            self._endpoints,
            secret=self._caches.secret(owner.secret_key),
            old_secrets=tuple(one for one in old if is_owned(one, owner) and not memory.has_disproved(one)),
            last_issued=memory.last_issued,
            is_unreported=memory.is_unreported,
            requests=memory.requests,
            writes=memory.writes,
            senior=senior,
            juniors=juniors,
            synced=memory.synced,
            queued_since=memory.queued_since,
        )
        return self._issuer.observe(seen)

    async def _settle(self, seen: Observed) -> tuple[Assessment, Outcome]:
        """Act until there is nothing more to do, or a slot in the tenant's budget has to be waited for."""
        memory = self._memories[seen.owner.key]
        assessed = assess(seen, self._clock.now())
        while not isinstance(decided := decide(assessed), Wait | SecretConflict):
            assessed = assess(await self._act(assessed, decided), self._clock.now())
            self._remember(memory, assessed)
        memory.synced = assessed.synced
        if assessed.seen.slot is not SlotState.QUEUED:
            self._issuer.withdraw(seen.owner.key)
            memory.queued_since = None
        return assessed, decided

    async def _act(self, assessed: Assessment, decided: Step) -> Observed:  # noqa: PLR0911 - one for each step
        seen = assessed.seen
        match decided:
            case ReadCredentials():
                return await self._read_credentials(seen)
            case ReadSecret():
                return await self._look(seen)
            case ReadOldSecrets():
                return await self._look_at_old_secrets(seen)
            case ConfirmOwner():
                await self._kube.confirm_asset_token(seen.owner)
                return replace(seen, owner_is_live=True)
            case AcquireSlot():
                return self._issuer.acquire_slot(assessed)
            case RequestToken():
                return await self._issuer.request(assessed, decided)
            case ApplySecret():
                return await self._write(assessed, decided)
            case DeleteOldSecret():
                await self._kube.delete_secret(decided.secret)
                removed, key = decided.secret.key.name, seen.owner.key
                logger.info("%s: removed Secret %s, its former one", key, removed, extra=about(key, secret=removed))
                return replace(seen, old_secrets=tuple(old for old in seen.old_secrets if old != decided.secret))
            case _:
                assert_never(decided)

    async def _read_credentials(self, seen: Observed) -> Observed:
        """Learn what the credentials are, and so what the requests that are remembered were made for."""
        seen = await self._issuer.read_credentials(seen)
        if seen.requests.cause == REMEMBERED:
            seen = replace(seen, requests=replace(seen.requests, cause=seen.request_cause))
        return seen

    async def _look(self, seen: Observed) -> Observed:
        return replace(seen, secret=await self._read_secret(seen.owner.secret_key), secret_is_live=True)

    async def _look_at_old_secrets(self, seen: Observed) -> Observed:
        """Read them; what isn't its own is looked at once for each of its versions."""
        evidence, memory, found, disproved = Evidence(seen), self._memories[seen.owner.key], [], set()
        for old in filter(evidence.can_prove, seen.old_secrets):
            secret = await self._read_secret(old.key)
            if secret is None or not is_owned(secret, seen.owner):
                continue
            if evidence.is_proved(secret):
                found.append(_with_token_only(secret))
            elif evidence.can_prove(secret):
                disproved |= {(old.uid, old.version), (secret.uid, secret.version)}
        standing = {(old.uid, old.version) for old in self._caches.secrets_of(seen.owner.key)}
        memory.disproved = frozenset(memory.disproved & standing | disproved)
        return replace(seen, old_secrets=tuple(found), old_secrets_are_live=True)

    async def _read_secret(self, key: Key) -> SecretState | None:
        secret = await self._kube.read_secret(key)
        if secret is not None:
            self._caches.learn_type(secret)
        return secret

    async def _write(self, assessed: Assessment, decided: ApplySecret) -> Observed:
        seen, key = assessed.seen, assessed.seen.owner.key
        attempts = seen.writes.begin(decided.cause, self._clock.now(), decided.uid)
        try:
            secret = await self._kube.apply_secret(decided.manifest, seen.secret)
        except (SecretConflictError, ConflictError):  # it came, or was changed, after the look
            return await self._look(replace(seen, writes=attempts))
        except OperatorError as error:
            logger.warning("%s: Secret not written: %s", key, error, extra=about(key, reason=error.reason))
            attempts = attempts.uncounted().failed(failure_of(error, self._clock.now()))  # it has repaired nothing
            return replace(seen, writes=attempts)
        self._wrote_secret(secret)
        self._tell_of_write(assessed, secret)
        return replace(seen, secret=secret, writes=attempts.succeeded())

    def _tell_of_write(self, assessed: Assessment, secret: SecretState) -> None:
        key, old, new = assessed.seen.owner.key, assessed.stored, assessed.current
        written = why_written(assessed)
        said = about(key, outcome=written.value, secret=secret.key.name, token_id=new and new.token.token_id)
        logger.info("%s: %s", key, tell_written(written, assessed), extra=said)
        if new is not None:
            self._restarter.wrote(key, new.token)
        if old is not None and new is not None and new is not old and new.token.reason in DUE:
            now = self._clock.now()
            self._metrics.renewed(now - old.renews_at, old.expires_at - now)

    def _remember(self, memory: Memory, assessed: Assessment) -> None:
        seen, token = assessed.seen, assessed.evidence.current
        memory.last_issued = token if token is not None and token.access_token is not None else None
        memory.is_unreported, memory.queued_since = seen.is_unreported, seen.queued_since
        memory.requests, memory.writes = seen.requests, seen.writes

    async def _report(self, assessed: Assessment, decided: Outcome) -> bool:
        """Write status and events, if they say something new; whether that was possible."""
        owner, memory = assessed.seen.owner, self._memories[assessed.seen.owner.key]
        status = report(assessed, decided, self._restarter.follow(assessed))
        if is_worth_writing(assessed, status):
            try:
                written = await self._kube.write_status(owner, status)
            except ConflictError:  # it was changed, which its watch is about to tell
                return False
            self._caches.wrote_asset_token(written)
            for event in transition_events(owner.status, status, issued=memory.is_unreported):
                self._events.post(owner, event)
            memory.is_unreported = False
        if assessed.drifts and not memory.drifts:
            self._events.post(owner, drift_event(owner))
        memory.drifts = assessed.drifts
        return True


def _with_token_only(secret: SecretState) -> SecretState:
    """Without the rest of its data, since there may be many, and large ones."""
    data = secret.data or {}
    return replace(secret, data={name: data[name] for name in ("access_token",) if name in data})
