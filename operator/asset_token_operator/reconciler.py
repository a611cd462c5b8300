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

from asset_token_operator.decision import Attempts, Blocked, Observed, Remove, Request, Wait, Write, decide
from asset_token_operator.errors import KubeError, NotFoundError, OperatorError
from asset_token_operator.manifests import is_owned
from asset_token_operator.model import Key, format_time
from asset_token_operator.outcome import (
    failure_of,
    issued_token,
    remembered_requests,
    report_status,
    transition_events,
    worth_writing,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from asset_token_operator.asset_client import AssetClient
    from asset_token_operator.clock import Clock
    from asset_token_operator.kube import KubeClient
    from asset_token_operator.model import AssetToken, IssuedToken, SecretState

Seen = TypeVar("Seen", "AssetToken", "SecretState")

logger = logging.getLogger(__name__)

RETRY_CLUSTER: Final = timedelta(seconds=5)
"""When to try again after a call of the API server failed that is no attempt to write the Secret."""


@dataclass(slots=True)
class Caches:
    """What is known of the cluster, kept up to date by whoever watches it.

    Attributes:
        tokens: AssetTokens, by namespace and name.
        claims: The same, by the namespace and name of the Secret that they name.
        secrets: The Secrets that carry the operator's label, by namespace and name.
        owned: The same, by the namespace and name of the AssetToken that they say they are of.
    """

    tokens: Mapping[Key, Collection[AssetToken]] = field(default_factory=dict)
    claims: Mapping[Key, Collection[AssetToken]] = field(default_factory=dict)
    secrets: Mapping[Key, Collection[SecretState]] = field(default_factory=dict)
    owned: Mapping[Key, Collection[SecretState]] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """What is kept between the runs for one AssetToken.

    Attributes:
        uid: The AssetToken's, since another may come by the same name.
        held: The latest token that is known to have been issued.
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        reported: The status that was written last, and the resource version that the AssetToken has with it.
    """

    uid: str
    requests: Attempts
    held: IssuedToken | None = None
    writes: Attempts = field(default_factory=Attempts)
    reported: tuple[int, Mapping[str, Any]] | None = None


def _latest(states: Collection[Seen]) -> Seen | None:
    """Of the states that a cache holds of one name the latest: one whose deletion was missed may linger there."""
    return max(states, key=lambda state: state.version, default=None)


class Reconciler:
    """Reconciles AssetTokens, each on its own."""

    def __init__(self, caches: Caches, kube: KubeClient, asset: AssetClient, clock: Clock, instance: str) -> None:
        self._caches = caches
        self._kube = kube
        self._asset = asset
        self._clock = clock
        self._instance = instance
        self._memories: dict[Key, Memory] = {}

    async def reconcile(self, key: Key) -> datetime | None:
        """Do what is to be done for an AssetToken now.

        Returns:
            When to look again; None for an AssetToken that is gone.
        """
        before = self._observe(key)
        if before is None:
            self._memories.pop(key, None)
            return None
        try:
            seen, decision = await self._settle(before)
            self._memories[key].held = seen.current()
            await self._report(before, seen, decision)
        except NotFoundError:
            self._memories.pop(key, None)
            return None
        except KubeError as error:
            logger.warning("%s: %s", key, error)
            return self._clock.now() + RETRY_CLUSTER
        return decision.until

    def _observe(self, key: Key) -> Observed | None:
        """What the caches and the memory know; None for an AssetToken that is gone or going."""
        token = _latest(self._caches.tokens.get(key, ()))
        if token is None or token.deleting:
            return None
        memory = self._memories.get(key)
        if memory is None or memory.uid != token.uid:
            cause = Observed(token, self._asset.endpoints).request_cause()
            memory = self._memories[key] = Memory(token.uid, remembered_requests(token, cause))
        if memory.reported is not None and memory.reported[0] > token.version:
            token = replace(token, status=memory.reported[1])
        senior, juniors = self._rivals(token)
        return Observed(
            token=token,
            endpoints=self._asset.endpoints,
            secret=_latest(self._caches.secrets.get(token.secret_key, ())),
            others=tuple(
                secret
                for secret in self._caches.owned.get(key, ())
                if secret.key != token.secret_key and is_owned(secret, token)
            ),
            held=memory.held,
            requests=memory.requests,
            writes=memory.writes,
            senior=senior,
            juniors=juniors,
        )

    def _rivals(self, token: AssetToken) -> tuple[str | None, frozenset[str]]:
        """The oldest other AssetToken that names the same Secret, if it is older; the UIDs of the younger ones."""
        rivals = self._caches.claims.get(token.secret_key, ())
        rank = (token.created, token.key.name)
        older = [(rival.created, rival.key.name) for rival in rivals if (rival.created, rival.key.name) < rank]
        juniors = frozenset(rival.uid for rival in rivals if (rival.created, rival.key.name) > rank)
        return (min(older)[1] if older else None), juniors

    async def _settle(self, seen: Observed) -> tuple[Observed, Wait | Blocked]:
        """Act until there is nothing more to do."""
        decision = decide(seen, self._clock.now())
        if not isinstance(decision, Wait):
            seen = await self._look(seen)
            decision = decide(seen, self._clock.now())
        while not isinstance(decision, Wait | Blocked):
            seen = await self._act(seen, decision)
            self._remember(seen)
            decision = decide(seen, self._clock.now())
        return seen, decision

    async def _look(self, seen: Observed) -> Observed:
        """See the Secret as it stands now."""
        return replace(seen, secret=await self._kube.read_secret(seen.token.secret_key))

    async def _act(self, seen: Observed, decision: Request | Write | Remove) -> Observed:
        match decision:
            case Request():
                return await self._request(seen, decision)
            case Write():
                return await self._write(seen, decision)
            case Remove():
                await self._kube.delete_secret(decision.secret)
                return replace(seen, others=tuple(other for other in seen.others if other != decision.secret))
            case _:
                assert_never(decision)

    async def _request(self, seen: Observed, decision: Request) -> Observed:
        now = self._clock.now()
        spec = seen.token.spec
        attempts = seen.requests.begin(seen.request_cause(), now)
        try:
            credentials = await self._kube.read_credentials(seen.token.key.namespace, spec.credentials)
            answer = await self._asset.request_token(spec, credentials)
            token = issued_token(seen, decision.reason, answer, credentials, now)
        except OperatorError as error:
            logger.warning("%s: no token (%s): %s", seen.token.key, decision.reason, error)
            return replace(seen, requests=attempts.failed(failure_of(error, self._clock.now())))
        logger.info("%s: issued (%s), expires %s", seen.token.key, decision.reason, format_time(token.expires_at))
        return replace(seen, held=token, requests=attempts.succeeded())

    async def _write(self, seen: Observed, decision: Write) -> Observed:
        attempts = seen.writes.begin(decision.cause(), self._clock.now())
        try:
            secret = await self._kube.apply_secret(decision.manifest, decision.uid)
        except OperatorError as error:
            logger.warning("%s: Secret not written: %s", seen.token.key, error)
            return replace(seen, writes=attempts.failed(failure_of(error, self._clock.now())))
        logger.info("%s: wrote Secret %s", seen.token.key, secret.key.name)
        return replace(seen, secret=secret, writes=attempts.succeeded())

    def _remember(self, seen: Observed) -> None:
        memory = self._memories[seen.token.key]
        memory.held, memory.requests, memory.writes = seen.held, seen.requests, seen.writes

    async def _report(self, before: Observed, seen: Observed, decision: Wait | Blocked) -> None:
        now = self._clock.now()
        status = report_status(seen, decision, now)
        if not worth_writing(seen.token.status, status, now):
            return
        version = await self._kube.apply_status(seen.token, status)
        self._memories[seen.token.key].reported = (int(version), status)
        issued = seen.held is not before.held
        for event in transition_events(seen.token.status, status, issued=issued):
            await self._kube.create_event(seen.token, event, now, self._instance)
