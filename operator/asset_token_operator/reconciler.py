"""Brings one AssetToken to where it shall be: observe → decide → act → report, in that order.

What was observed in the caches is only good enough to find that nothing is to be done. Before anything is, the Secret
is read whole, as it stands, so a cache that lags never costs a token. What must survive a restart is in the Secret;
what is kept here between runs can be lost at any time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, assert_never

from asset_token_operator.decision import (
    NEVER,
    Attempts,
    Blocked,
    Observed,
    Remove,
    Request,
    Synced,
    Wait,
    Write,
    decide,
    is_at_war,
    wait_for_place,
)
from asset_token_operator.errors import (
    KubeError,
    KubeRefusedError,
    NotFoundError,
    NotLeadingError,
    OperatorError,
    SecretConflictError,
)
from asset_token_operator.logs import about
from asset_token_operator.manifests import is_owned
from asset_token_operator.model import Reason
from asset_token_operator.outcome import (
    REMEMBERED,
    SYNCED,
    failure_of,
    is_new_and_waits_briefly,
    remembered_requests,
    report_status,
    transition_events,
    waits_briefly,
    war_event,
    worth_writing,
)
from asset_token_operator.renewal import back_off

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.events import EventPoster
    from asset_token_operator.issuer import Issuer
    from asset_token_operator.kube import KubeClient
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import Environment, IssuedToken, Key, SecretState
    from asset_token_operator.scopes import Scopes

logger = logging.getLogger(__name__)

DUE: Final = frozenset({Reason.RENEWING, Reason.EXPIRED})
"""Why a token is requested whose renewal time has come."""

RECHECK_STATE: Final = timedelta(minutes=1)
"""When to look again at an AssetToken that is another, or gone, than its watch has told, should the watch not tell."""

RECHECK_SENIOR: Final = timedelta(minutes=5)
"""When to look again at one that yields to an older one, so that it names the one that is there; its watch tells at
once when it has to yield no more."""

RETRY_STANDBY: Final = timedelta(seconds=5)
"""When to look again at one that was left to the leader."""

LONGEST_RETRY: Final = timedelta(seconds=30)
"""The longest wait after calls of the API server have failed that are no attempts to write the Secret."""


@dataclass(slots=True)
class Memory:
    """What is kept between the runs for one AssetToken.

    Attributes:
        uid: The AssetToken's, since another may come by the same name.
        held: The latest token that is known to have been issued, if it is at hand.
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        queued_since: Since when it waits for a place in the tenant's budget.
        unreported: Whether a token was issued that no status tells of.
        at_war: Whether something changes the Secret back again and again.
        synced: With what it was last seen that the Secret's data is in order.
        disproved: Secrets under other names that aren't the operator's own, whatever they say; by UID and version.
        failed_calls: How often in a row a call of the API server failed that was no attempt to write the Secret.
    """

    uid: str
    requests: Attempts
    held: IssuedToken | None = None
    writes: Attempts = field(default_factory=Attempts)
    queued_since: datetime | None = None
    unreported: bool = False
    at_war: bool = False
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
        kube: KubeClient,
        issuer: Issuer,
        wrote_secret: Callable[[SecretState], None],
        events: EventPoster,
        endpoints: Mapping[Environment, str],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
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
            self._issuer.leave(key)
            return None
        try:
            seen, decision = await self._settle(before)
            told = await self._report(seen, decision)
        except NotFoundError:  # it is gone, which its watch is about to tell; or something else answered
            self._issuer.leave(key)
            return self._clock.now() + RECHECK_STATE
        except KubeError as error:
            logger.warning("%s: %s", key, error, extra=about(key, reason=error.reason))
            self._issuer.leave(key)
            return self._clock.now() + self._wait_after_failed_call(before)
        except NotLeadingError:
            logger.info("%s: left to the leader", key, extra=about(key))
        else:
            self._memories[key].failed_calls = 0
            return decision.until if told else min(decision.until, self._clock.now() + RECHECK_STATE)
        self._issuer.leave(key)
        return self._clock.now() + RETRY_STANDBY

    def held_up(self, scope: str) -> list[Key]:
        """Whose latest call of the API server failed, in a scope."""
        failed = (key for key, memory in self._memories.items() if memory.failed_calls)
        return [key for key in failed if self._scopes.of(key.namespace) == scope]

    def _wait_after_failed_call(self, seen: Observed) -> timedelta:
        """Longer each time, and another for each AssetToken, so that an API server that comes back isn't stormed."""
        memory, token = self._memories[seen.token.key], seen.current()
        memory.failed_calls += 1
        left = None if token is None else seen.expires_at(token) - self._clock.now()
        return back_off(memory.failed_calls, seen.token.uid, left, LONGEST_RETRY)

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._issuer.forget(key)

    def _observe(self, key: Key) -> Observed | None:
        """What the caches and the memory know; None for an AssetToken that is gone or going."""
        token = self._caches.asset_token(key)
        if token is None or token.deleting:
            return None
        memory = self._memories.get(key)
        if memory is None or memory.uid != token.uid:
            memory = Memory(token.uid, remembered_requests(token), synced=Synced.parse(token.status.get(SYNCED, "")))
            self._memories[key] = memory
        senior, juniors = self._caches.rivals(token)
        others = (secret for secret in self._caches.secrets_of(key) if secret.key != token.secret_key)
        seen = Observed(
            token,
            self._endpoints,
            secret=self._caches.secret(token.secret_key),
            others=tuple(other for other in others if is_owned(other, token) and not memory.has_disproved(other)),
            held=memory.held,
            requests=memory.requests,
            writes=memory.writes,
            senior=senior,
            juniors=juniors,
            synced=memory.synced,
            queued_since=memory.queued_since,
        )
        return self._issuer.observe(seen)

    async def _settle(self, seen: Observed) -> tuple[Observed, Wait | Blocked]:
        """Act until there is nothing more to do, or a place in the tenant's budget has to be waited for."""
        looked = looked_at_others = asked = False
        while True:
            now = self._clock.now()
            decision = decide(seen, now)
            if isinstance(decision, Blocked) and seen.senior is not None:  # the caches know all that counts
                self._issuer.leave(seen.token.key)
                seen = replace(seen, queued_since=None)
                self._remember(seen)
                return seen, replace(decision, until=now + RECHECK_SENIOR)
            if not asked and (isinstance(decision, Request) or seen.lacks_credentials()):
                seen, asked = await self._read_credentials(seen), True
            elif not looked and seen.lacks_secret():
                seen, looked = await self._look(seen), True
            elif not looked_at_others and seen.lacks_others():
                seen, looked_at_others = await self._look_at_others(seen), True
            elif isinstance(decision, Request) and not self._issuer.take_place(seen, decision):
                seen = replace(seen, queued_since=seen.queued_since or now)
                self._remember(seen)
                return seen, wait_for_place(seen, now)
            elif isinstance(decision, Wait) or (isinstance(decision, Blocked) and (looked or _is_known(seen.secret))):
                self._issuer.leave(seen.token.key)
                seen = replace(seen, queued_since=None, synced=seen.in_sync())
                self._remember(seen)
                return seen, decision
            elif not looked:
                seen, looked = await self._look(seen), True
            elif not isinstance(decision, Blocked):
                seen = await self._act(seen, decision)
                self._remember(seen)

    async def _read_credentials(self, seen: Observed) -> Observed:
        """Learn what the credentials are, and so what the requests that are remembered were made for."""
        seen = await self._issuer.read_credentials(seen)
        if seen.requests.cause == REMEMBERED:
            seen = replace(seen, requests=replace(seen.requests, cause=seen.request_cause()))
        return seen

    async def _look(self, seen: Observed) -> Observed:
        """Read the Secret whole, as it stands."""
        return replace(seen, secret=await self._read_secret(seen.token.secret_key))

    async def _look_at_others(self, seen: Observed) -> Observed:
        """The same for its Secrets under other names; what isn't its own is looked at once for each of its versions."""
        seen = await self._read_credentials(seen)
        memory, found, disproved = self._memories[seen.token.key], [], set()
        for other in seen.others:
            secret = await self._read_secret(other.key)
            if secret is None or not is_owned(secret, seen.token):
                continue
            if seen.is_proved(secret):
                found.append(_with_token_only(secret))
            elif seen.credentials is not None:
                disproved |= {(other.uid, other.version), (secret.uid, secret.version)}
        standing = {(other.uid, other.version) for other in self._caches.secrets_of(seen.token.key)}
        memory.disproved = frozenset(memory.disproved & standing | disproved)
        return replace(seen, others=tuple(found))

    async def _read_secret(self, key: Key) -> SecretState | None:
        secret = await self._kube.read_secret(key)
        if secret is not None:
            self._caches.learn_type(secret)
        return secret

    async def _act(self, seen: Observed, decision: Request | Write | Remove) -> Observed:
        match decision:
            case Request():
                return await self._issuer.request(seen, decision)
            case Write():
                return await self._write(seen, decision)
            case Remove():
                await self._kube.delete_secret(decision.secret)
                return replace(seen, others=tuple(other for other in seen.others if other != decision.secret))
            case _:
                assert_never(decision)

    async def _write(self, seen: Observed, decision: Write) -> Observed:
        attempts = seen.writes.begin(decision.cause(), self._clock.now(), decision.uid)
        try:
            secret = await self._kube.apply_secret(decision.manifest, seen.secret)
        except SecretConflictError:  # it came after the look
            return await self._look(replace(seen, writes=attempts))
        except OperatorError as error:
            if isinstance(error, KubeRefusedError) and error.status == HTTPStatus.CONFLICT:  # the same
                return await self._look(replace(seen, writes=attempts))
            key = seen.token.key
            logger.warning("%s: Secret not written: %s", key, error, extra=about(key, reason=error.reason))
            attempts = attempts.uncounted().failed(failure_of(error, self._clock.now()))  # it has repaired nothing
            return replace(seen, writes=attempts)
        self._wrote_secret(secret)
        self._tell_of_write(seen, secret)
        return replace(seen, secret=secret, writes=attempts.succeeded())

    def _tell_of_write(self, seen: Observed, secret: SecretState) -> None:
        key, old, new = seen.token.key, seen.stored(), seen.current()
        outcome = "wrote" if self._memories[key].unreported else "repaired"
        said = about(key, outcome=outcome, secret=secret.key.name, token_id=new and new.token_id)
        logger.info("%s: %s Secret %s", key, outcome, secret.key.name, extra=said)
        if old is not None and new is not None and new.revision != old.revision and new.reason in DUE:
            now = seen.asset_now(old, self._clock.now())
            self._metrics.renewed(now - seen.renews_at(old), old.expires_at - now)

    def _remember(self, seen: Observed) -> None:
        memory, token = self._memories[seen.token.key], seen.current()
        memory.unreported = memory.unreported or (seen.held is not None and seen.held is not memory.held)
        memory.held = token if token is not None and token.access_token is not None else None
        memory.requests, memory.writes = seen.requests, seen.writes
        memory.queued_since, memory.synced = seen.queued_since, seen.synced

    async def _report(self, seen: Observed, decision: Wait | Blocked) -> bool:
        """Write status and events, if they say something new; whether that was possible."""
        now = self._clock.now()
        if is_new_and_waits_briefly(seen, now):
            return True
        memory = self._memories[seen.token.key]
        status = report_status(seen, decision, now)
        if not waits_briefly(seen, status, now) and worth_writing(seen.token.status, status, now):
            try:
                written = await self._kube.write_status(seen.token, status)
            except KubeRefusedError as error:
                if error.status != HTTPStatus.CONFLICT:  # it was changed, which its watch is about to tell
                    raise
                return False
            self._caches.wrote_asset_token(written)
            for event in transition_events(seen.token.status, status, issued=memory.unreported):
                self._events.post(seen.token, event)
            memory.unreported = False
        at_war = is_at_war(seen, now)
        if at_war and not memory.at_war:
            self._events.post(seen.token, war_event(seen))
        memory.at_war = at_war
        return True


def _is_known(secret: SecretState | None) -> bool:
    """Whether all of a Secret is known that tells whose it is."""
    return secret is None or secret.type is not None


def _with_token_only(secret: SecretState) -> SecretState:
    """Without the rest of its data, since there may be many, and large ones."""
    data = secret.data or {}
    return replace(secret, data={name: data[name] for name in ("access_token",) if name in data})
