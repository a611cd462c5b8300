"""Brings one AssetToken to where it shall be: observe → decide → act → report, in that order.

What was observed in the caches is only good enough to find that nothing is to be done. Before anything is, the Secret
is looked at as it stands, so a cache that lags never costs a token. What must survive a restart is in the Secret;
what is kept here between runs can be lost at any time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never

from asset_token_operator.decision import (
    Attempts,
    Blocked,
    Observed,
    Remove,
    Request,
    Wait,
    Write,
    decide,
    is_at_war,
    wait_for_place,
)
from asset_token_operator.errors import (
    KubeError,
    NotFoundError,
    NotLeadingError,
    OperatorError,
    SecretConflictError,
)
from asset_token_operator.logs import about
from asset_token_operator.manifests import is_owned
from asset_token_operator.model import Reason, Rival
from asset_token_operator.outcome import (
    failure_of,
    remembered_requests,
    report_status,
    transition_events,
    waits_briefly,
    war_event,
    worth_writing,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    from asset_token_operator.clock import Clock
    from asset_token_operator.issuer import Issuer
    from asset_token_operator.kube import KubeClient
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import AssetToken, Environment, IssuedToken, Key, SecretState
    from asset_token_operator.reflector import SecretVersions

Seen = TypeVar("Seen", "AssetToken", "SecretState")

logger = logging.getLogger(__name__)

DUE: Final = frozenset({Reason.RENEWING, Reason.EXPIRED})
"""Why a token is requested whose renewal time has come."""

RETRY_CLUSTER: Final = timedelta(seconds=5)
"""When to try again after a call of the API server failed that is no attempt to write the Secret."""


@dataclass(slots=True)
class Caches:
    """What is known of the cluster, kept up to date by whoever watches it.

    Attributes:
        tokens: AssetTokens, by namespace and name.
        claims: The same, by the namespace and name of the Secret that they name.
        users: The same, by the namespace and name of their credentials Secret.
        secrets: The Secrets that carry the operator's label, by namespace and name.
        owned: The same, by the namespace and name of the AssetToken that they say they are of.
        filled: Whether all that was there at the start has been seen.
    """

    tokens: Mapping[Key, Collection[AssetToken]] = field(default_factory=dict)
    claims: Mapping[Key, Collection[AssetToken]] = field(default_factory=dict)
    secrets: Mapping[Key, Collection[SecretState]] = field(default_factory=dict)
    owned: Mapping[Key, Collection[SecretState]] = field(default_factory=dict)
    users: Mapping[Key, Collection[AssetToken]] = field(default_factory=dict)
    filled: bool = False

    def concerned(self, secret: Key) -> Iterator[Key]:
        """The AssetTokens whose token goes to that Secret or whose credentials are in it."""
        for token in (*self.claims.get(secret, ()), *self.users.get(secret, ())):
            yield token.key


@dataclass(slots=True)
class Memory:
    """What is kept between the runs for one AssetToken.

    Attributes:
        uid: The AssetToken's, since another may come by the same name.
        held: The latest token that is known to have been issued.
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        queued_since: Since when it waits for a place in the tenant's budget.
        unreported: Whether a token was issued that no status tells of.
        at_war: Whether something changes the Secret back again and again.
        reported: The status that was written last, and the resource version that the AssetToken has with it.
    """

    uid: str
    requests: Attempts
    held: IssuedToken | None = None
    writes: Attempts = field(default_factory=Attempts)
    queued_since: datetime | None = None
    unreported: bool = False
    at_war: bool = False
    reported: tuple[int, Mapping[str, Any]] | None = None


def _latest(states: Collection[Seen]) -> Seen | None:
    """Of the states that a cache holds of one name the latest: one whose deletion was missed may linger there."""
    return max(states, key=lambda state: state.version, default=None)


class Reconciler:
    """Reconciles AssetTokens, each on its own."""

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        caches: Caches,
        kube: KubeClient,
        issuer: Issuer,
        secrets: SecretVersions,
        endpoints: Mapping[Environment, str],
        clock: Clock,
        instance: str,
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._caches = caches
        self._kube = kube
        self._issuer = issuer
        self._secrets = secrets
        self._endpoints = endpoints
        self._clock = clock
        self._instance = instance
        self._memories: dict[Key, Memory] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Do what is to be done for an AssetToken now.

        Returns:
            When to look again; None for an AssetToken that is gone.
        """
        try:
            before = await self._observe(key)
            if before is None:
                self._forget(key)
                return None
            seen, decision = await self._settle(before)
            self._memories[key].held = seen.current()
            await self._report(seen, decision)
        except NotFoundError:
            self._forget(key)
            return None
        except KubeError as error:
            logger.warning("%s: %s", key, error, extra=about(key, reason=error.reason))
        except NotLeadingError:
            logger.info("%s: left to the leader", key, extra=about(key))
        else:
            return decision.until
        self._issuer.leave(key)
        return self._clock.now() + RETRY_CLUSTER

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self._issuer.leave(key)

    async def _observe(self, key: Key) -> Observed | None:
        """What the caches and the memory know; None for an AssetToken that is gone or going."""
        token = _latest(self._caches.tokens.get(key, ()))
        if token is None or token.deleting:
            return None
        seen = await self._issuer.observe(Observed(token, self._endpoints))
        memory = self._memories.get(key)
        if memory is None or memory.uid != token.uid:
            memory = Memory(token.uid, remembered_requests(token, seen.request_cause()))
            self._memories[key] = memory
        if memory.reported is not None and memory.reported[0] > token.version:
            token = replace(token, version=memory.reported[0], status=memory.reported[1])
        senior, juniors = self._rivals(token)
        return replace(
            seen,
            token=token,
            secret=self._secret(token),
            others=self._others(token),
            held=memory.held,
            requests=memory.requests,
            writes=memory.writes,
            senior=senior,
            juniors=juniors,
            queued_since=memory.queued_since,
        )

    def _secret(self, token: AssetToken) -> SecretState | None:
        secret = _latest(self._caches.secrets.get(token.secret_key, ()))
        return None if secret is None or self._is_gone(secret) else secret

    def _is_gone(self, secret: SecretState) -> bool:
        """Whether a Secret is gone that its cache still has, as it was deleted while the cache's watch was broken."""
        return self._secrets.lacks(secret.key, secret.version)

    def _others(self, token: AssetToken) -> tuple[SecretState, ...]:
        return tuple(
            secret
            for secret in self._caches.owned.get(token.key, ())
            if secret.key != token.secret_key and is_owned(secret, token) and not self._is_gone(secret)
        )

    def _rivals(self, token: AssetToken) -> tuple[str | None, frozenset[Rival]]:
        """The oldest other AssetToken that names the same Secret, if it is older; and the younger ones."""
        rank = (token.created, token.key.name)
        ranks = {(rival.created, rival.key.name): rival for rival in self._caches.claims.get(token.secret_key, ())}
        older = min((other for other in ranks if other < rank), default=None)
        younger = (rival for other, rival in ranks.items() if other > rank)
        return older and older[1], frozenset(Rival(rival.uid, rival.key.name) for rival in younger)

    async def _settle(self, seen: Observed) -> tuple[Observed, Wait | Blocked]:
        """Act until there is nothing more to do, or a place in the tenant's budget has to be waited for."""
        looked = False
        while True:
            now = self._clock.now()
            decision = decide(seen, now)
            if isinstance(decision, Request) and not self._issuer.take_place(seen, decision):
                seen = replace(seen, queued_since=seen.queued_since or now)
                self._remember(seen)
                return seen, wait_for_place(seen, now)
            if isinstance(decision, Wait) or (isinstance(decision, Blocked) and looked):
                self._issuer.leave(seen.token.key)
                seen = replace(seen, queued_since=None)
                self._remember(seen)
                return seen, decision
            if not looked:
                seen, looked = replace(seen, secret=await self._kube.read_secret(seen.token.secret_key)), True
            elif not isinstance(decision, Blocked):
                seen = await self._act(seen, decision)
                self._remember(seen)

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
            secret = await self._kube.apply_secret(decision.manifest, decision.uid)
        except SecretConflictError:  # it came after the look
            return replace(seen, secret=await self._kube.read_secret(seen.token.secret_key), writes=attempts)
        except OperatorError as error:
            key = seen.token.key
            logger.warning("%s: Secret not written: %s", key, error, extra=about(key, reason=error.reason))
            return replace(seen, writes=attempts.failed(failure_of(error, self._clock.now())))
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
        memory = self._memories[seen.token.key]
        memory.unreported = memory.unreported or (seen.held is not None and seen.held is not memory.held)
        memory.held, memory.requests, memory.writes = seen.held, seen.requests, seen.writes
        memory.queued_since = seen.queued_since

    async def _report(self, seen: Observed, decision: Wait | Blocked) -> None:
        now = self._clock.now()
        memory = self._memories[seen.token.key]
        events = []
        status = report_status(seen, decision, now)
        if not waits_briefly(seen, status, now) and worth_writing(seen.token.status, status, now):
            version = await self._kube.apply_status(seen.token, status)
            memory.reported = (version, status)
            events = transition_events(seen.token.status, status, issued=memory.unreported)
            memory.unreported = False
        at_war = is_at_war(seen, now)
        if at_war and not memory.at_war:
            events.append(war_event(seen))
        memory.at_war = at_war
        for event in events:
            await self._kube.create_event(seen.token, event, now, self._instance)
