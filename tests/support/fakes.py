"""A cluster and an Asset in memory, with the methods of `KubeClient` and `AssetClient`, and a world made of both.

They never wait for anything, so a test may also `drive` them without an event loop, as the property tests do.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final, TypeVar

from asset_token_operator.answers import Reply
from asset_token_operator.asset_clock import AssetClocks
from asset_token_operator.budget import Budgets
from asset_token_operator.caches import Caches
from asset_token_operator.errors import (
    ConflictError,
    CredentialsNotFoundError,
    NotFoundError,
    SecretConflictError,
)
from asset_token_operator.issuer import Issuer
from asset_token_operator.metrics import Metrics
from asset_token_operator.model import (
    AssetToken,
    Credentials,
    CredentialsRef,
    Environment,
    Key,
    Reserves,
    SecretState,
    Spec,
    Target,
)
from asset_token_operator.parsing import parse_secret as read_secret_body
from asset_token_operator.reconciler import Reconciler
from asset_token_operator.restarter import Restarter
from asset_token_operator.rollouts import Workload
from asset_token_operator.scopes import EVERYWHERE, Scopes
from asset_token_operator.status import Status
from asset_token_operator.transitions import Event
from tests.support.builders import CREDENTIALS, ENDPOINTS, NOW, a_reply, an_asset_token, as_stored, data_of
from tests.support.clock import ManualClock

Result = TypeVar("Result")

FOREIGN_UID: Final = "99999999-9999-9999-9999-999999999999"
CREDENTIALS_KEY: Final = Key("shop", "asset-credentials")


def drive(work: Coroutine[Any, Any, Result]) -> Result:
    """Run what waits for nothing to its end, without an event loop."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            result: Result = end.value
            return result


USUAL: Final = an_asset_token().key
"""The usual AssetToken's."""


class Faults:
    """Which calls fail, with what, and how often."""

    def __init__(self) -> None:
        self._planned: dict[str, tuple[Exception | Reply, float]] = {}

    def fail(self, method: str, fault: Exception | Reply, times: float = float("inf")) -> None:
        """Let the next calls of the method fail: raise that, or answer that."""
        self._planned[method] = (fault, times)

    def mend(self) -> None:
        """No call fails any more."""
        self._planned.clear()

    def planned(self) -> bool:
        """Whether any call is still to fail."""
        return any(times > 0 for _, times in self._planned.values())

    def coming(self, method: str) -> Exception | Reply | None:
        """What the next call fails with; None where it doesn't."""
        fault, times = self._planned.get(method, (None, 0))
        return fault if times > 0 else None

    def check(self, method: str) -> Reply | None:
        """Fail if the call shall."""
        fault = self.coming(method)
        if fault is None:
            return None
        self._planned[method] = (fault, self._planned[method][1] - 1)
        if isinstance(fault, Exception):
            raise fault
        return fault


class FakeKubeClient:
    """The API server, as far as the operator uses it; `calls` says which calls it got, in order."""

    def __init__(self) -> None:
        self.asset_tokens: dict[Key, AssetToken] = {}
        self.secrets: dict[Key, SecretState] = {}
        self.credentials: dict[Key, Credentials] = {}
        self.credentials_versions: dict[Key, int] = {}
        self.workloads: dict[tuple[str, Target], Workload] = {}
        self.restarted: list[tuple[Target, datetime]] = []
        self.calls: list[str] = []
        self.faults = Faults()
        self.before_write: Callable[[Mapping[str, Any]], None] = lambda _: None
        self.before_restart: Callable[[], object] = lambda: None
        self.before_read_secret: Callable[[Key], None] = lambda _: None
        self._version = 1000

    def put_token(self, token: AssetToken) -> AssetToken:
        """Somebody creates or changes an AssetToken."""
        stored = self.asset_tokens[token.key] = replace(token, version=self._next_version())
        return stored

    def put_secret(self, secret: SecretState) -> SecretState:
        """Somebody creates or changes a Secret."""
        stored = self.secrets[secret.key] = replace(secret, version=self._next_version())
        return stored

    def put_credentials(self, credentials: Credentials = CREDENTIALS, key: Key = CREDENTIALS_KEY) -> None:
        """Somebody creates, changes or only labels a credentials Secret."""
        self.credentials[key] = credentials
        self.credentials_versions[key] = self._next_version()

    def metadata(self) -> dict[Key, SecretState]:
        """The metadata of each Secret, as the list of them has it: without types and data."""
        others = {
            key: SecretState(key, f"uid-of-{key}", None, version=self.credentials_versions[key], data=None)
            for key in self.credentials
        }
        return others | {key: replace(secret, type=None, data=None) for key, secret in self.secrets.items()}

    def version(self) -> int:
        """The resource version of the latest change."""
        return self._version

    async def read_secret(self, key: Key) -> SecretState | None:
        self._called("read_secret")
        self.before_read_secret(key)
        return self.secrets.get(key)

    async def read_credentials(self, namespace: str, ref: CredentialsRef) -> Credentials:
        self._called("read_credentials")
        try:
            return self.credentials[Key(namespace, ref.name)]
        except KeyError:
            raise CredentialsNotFoundError(f"Credentials Secret {ref.name} does not exist; create it.") from None

    async def apply_secret(self, manifest: Mapping[str, Any], over: SecretState | None) -> SecretState:
        self.before_write(manifest)
        self._called("apply_secret")
        written = read_secret_body(as_stored(dict(manifest)))
        found = self.secrets.get(written.key)
        if found is not None and found.type != written.type:
            raise SecretConflictError("the Secret does not belong to this AssetToken.")
        if (found and (found.uid, found.version)) != (over and (over.uid, over.version)):
            raise ConflictError("the API server refused with 409 Conflict.", 409)
        if found is None:
            return self.put_secret(replace(written, uid=f"secret-{self._next_version()}"))
        return self.put_secret(_merge(found, written))

    async def delete_secret(self, secret: SecretState) -> None:
        self._called("delete_secret")
        found = self.secrets.get(secret.key)
        if found is not None and (found.uid, found.version) == (secret.uid, secret.version):
            del self.secrets[secret.key]

    async def read_workload(self, namespace: str, target: Target) -> Workload:
        self._called("read_workload")
        try:
            return self.workloads[namespace, target]
        except KeyError:
            raise NotFoundError("the API server refused with 404 NotFound.", 404) from None

    async def restart_workload(self, namespace: str, target: Target, seen: Workload, stamp: datetime) -> None:
        self._called("restart_workload")
        self.before_restart()
        if self.workloads.get((namespace, target)) != seen:
            raise ConflictError("the API server refused with 409 Conflict.", 409)
        self.put_workload(target, replace(seen, restarted_at=stamp), namespace)
        self.restarted.append((target, stamp))

    def put_workload(self, target: Target, workload: Workload, namespace: str = "shop") -> None:
        """Somebody creates or changes a workload."""
        self.workloads[namespace, target] = replace(workload, version=self._next_version())

    async def confirm_asset_token(self, token: AssetToken) -> None:
        self._called("confirm_asset_token")
        found = self.asset_tokens.get(token.key)
        if found is None or found.uid != token.uid or found.deleting:
            raise NotFoundError(f"AssetToken {token.key.name} is gone.", 404)

    async def write_status(self, token: AssetToken, status: Status) -> AssetToken:
        self._called("write_status")
        found = self.asset_tokens.get(token.key)
        if found is None:
            raise NotFoundError("the API server refused with 404 NotFound.", 404)
        if found.uid != token.uid:
            raise ConflictError("the API server refused with 409 Conflict.", 409)
        return self.put_token(replace(found, status=status))

    def _called(self, method: str) -> None:
        self.calls.append(method)
        self.faults.check(method)

    def _next_version(self) -> int:
        self._version += 1
        return self._version


def _merge(found: SecretState, written: SecretState) -> SecretState:
    """What server-side apply makes of a Secret: what the operator applied is replaced, the rest stays."""

    def merged(kind: str, present: Mapping[str, str], applied: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in present.items() if (kind, name) not in found.applied} | dict(applied)

    return replace(
        written,
        uid=found.uid,
        labels=merged("label", found.labels, written.labels),
        annotations=merged("annotation", found.annotations, written.annotations),
        data=merged("data", data_of(found), data_of(written)),
    )


class FakeEventPoster:
    """Takes events; `posted` has them."""

    def __init__(self) -> None:
        self.posted: list[Event] = []

    def post(self, token: AssetToken, event: Event) -> None:  # noqa: ARG002 - as the real one
        self.posted.append(event)


class FakeAssetClient:
    """Asset's token endpoint: a new opaque token for each request, unless it is told to fail.

    Attributes:
        clients: The client_id of each request.
        skew: How far Asset's clock is ahead of ours; None lets it send no `Date`.
        headers: What else it sends.
        access_token: What it issues instead of an opaque token.
    """

    def __init__(self, endpoints: Mapping[Environment, str] = ENDPOINTS, clock: ManualClock | None = None) -> None:
        self.endpoints = endpoints
        self.clock = clock or ManualClock()
        self.faults = Faults()
        self.requests: list[Spec] = []
        self.clients: list[str] = []
        self.expires_in: object = 3600
        self.scopes: tuple[str, ...] | None = None
        self.skew: timedelta | None = timedelta()
        self.headers: dict[str, str] = {}
        self.access_token: str | None = None
        self.before_request: Callable[[Spec, Credentials], None] = lambda *_: None

    async def request_token(self, spec: Spec, credentials: Credentials) -> Reply:
        self.requests.append(spec)
        self.clients.append(credentials.client_id.get_secret_value())
        self.before_request(spec, credentials)
        planned = self.faults.check("request_token")
        if planned is not None:
            return replace(planned, date=planned.date or self.now())
        body: dict[str, object] = {"access_token": self.access_token or f"canary-access-token-{len(self.requests)}"}
        if self.expires_in is not None:
            body["expires_in"] = self.expires_in
        if self.scopes is not None:
            body["scope"] = " ".join(self.scopes)
        return a_reply(200, body, **self.headers | self._date())

    def now(self) -> datetime | None:
        """What its `Date` says."""
        return None if self.skew is None else (self.clock.now() + self.skew).replace(microsecond=0)

    def _date(self) -> dict[str, str]:
        now = self.now()
        return {} if now is None else {"date": format_datetime(now, usegmt=True)}


class OneLookClock:
    """The same clock for what looks again and again until it is cancelled: it is cancelled after one look.

    Attributes:
        again: When it would have looked again.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.again = clock.now()

    def now(self) -> datetime:
        return self._clock.now()

    def elapsed(self) -> timedelta:
        return self._clock.elapsed()

    async def wait(self, event: asyncio.Event, seconds: float) -> None:  # noqa: ARG002 - as the real one
        self.again = self._clock.now() + timedelta(seconds=seconds)
        raise asyncio.CancelledError

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


@dataclass
class World:
    """A cluster with credentials, Asset, and an operator that watches both.

    `caches` are what the operator has seen; `sync` lets it see what there is now.

    Attributes:
        events: Where the operator's events go.
        woken: Those whom the tenant's budget has woken, as their turn has come.
        to_restart: Those whose workloads are to be looked at.
    """

    clock: ManualClock = field(default_factory=ManualClock)
    kube: FakeKubeClient = field(default_factory=FakeKubeClient)
    events: FakeEventPoster = field(default_factory=FakeEventPoster)
    reserves: Reserves = field(default_factory=Reserves)
    woken: list[Key] = field(default_factory=list)
    to_restart: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asset = FakeAssetClient(clock=self.clock)
        self.scopes = Scopes([])
        self.scopes.asset_tokens_known(EVERYWHERE)
        self.scopes.secrets_known(EVERYWHERE)
        self.kube.put_credentials()
        self.restart()

    def restart(self) -> None:
        """The operator loses all that it has in memory."""
        self.woken.clear()
        self.to_restart.clear()
        self.caches = Caches()
        self.metrics = Metrics()
        self.clocks = AssetClocks(self.clock)
        self._looks = OneLookClock(self.clock)
        self.budgets = Budgets(self.woken.append, self._looks, self.reserves)
        self.issuer = Issuer(
            self.kube,
            self.asset,
            self.budgets,
            self.caches,
            self.clock,
            self.clocks,
            self.metrics,
            self.woken.append,
        )
        self.restarter = Restarter(self.kube, self.clock, self.clocks, self.to_restart.append, self.woken.append)
        self.reconciler = Reconciler(
            self.caches,
            self.scopes,
            self.kube,
            self.issuer,
            self._wrote,
            self.events,
            self.asset.endpoints,
            self.clock,
            self.metrics,
            self.restarter,
        )

    def _wrote(self, secret: SecretState) -> None:
        self.caches.saw_secret(secret.without_data())

    def add(self, token: AssetToken | None = None) -> AssetToken:
        """Somebody creates an AssetToken."""
        return self.kube.put_token(token or an_asset_token())

    def sync(self) -> None:
        """The watches catch up."""
        self.sync_tokens()
        found = self.kube.metadata()
        for key in self.caches.secrets().keys() - found.keys():
            self.caches.secret_gone(key, self.kube.version())
        for secret in found.values():
            self.caches.saw_secret(secret)

    def sync_tokens(self) -> None:
        """The watch of AssetTokens catches up."""
        known = {token.key for token in self.caches.asset_tokens()}
        for key in known - self.kube.asset_tokens.keys():
            self.caches.asset_token_gone(key, self.kube.version())
        for token in self.kube.asset_tokens.values():
            self.caches.saw_asset_token(token)

    def reconcile(self, token: AssetToken | None = None, *, sync: bool = True) -> datetime | None:
        """Let the operator look at the AssetToken once."""
        if sync:
            self.sync()
        key = USUAL if token is None else token.key
        self.woken[:] = [other for other in self.woken if other != key]
        return drive(self.reconciler.reconcile(key))

    def serve(self) -> datetime | None:
        """Let the budgets give the places that are free now; returns when they look again, if anyone still waits."""
        with contextlib.suppress(asyncio.CancelledError):
            drive(self.budgets.serve())
        return self._looks.again if self.waits_for_slot() else None

    def waits_for_slot(self) -> bool:
        """Whether any AssetToken waits for a place in its tenant's budget."""
        return bool(self.budgets._queued)  # noqa: SLF001 - it says so nowhere else

    def due(self, again: datetime) -> datetime:
        """When something happens next, if an AssetToken asked to be looked at again then."""
        look = self.serve()
        if self.woken:
            return self.clock.now()
        return again if look is None else min(again, look)

    def pass_time(self, by: timedelta) -> None:
        drive(self.clock.advance(by))

    def calls(self) -> list[str]:
        """The calls of the API server since it was asked last."""
        calls, self.kube.calls = self.kube.calls, []
        return calls

    def token(self) -> AssetToken:
        """The usual AssetToken as it stands now."""
        return self.kube.asset_tokens[USUAL]

    def secret(self) -> SecretState | None:
        """What stands under the name of its Secret."""
        return self.kube.secrets.get(self.token().secret_key)

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Its conditions: their status and reason, by type."""
        return {found.type: (found.status, found.reason) for found in self.token().status.conditions or ()}

    def elapsed(self) -> timedelta:
        return self.clock.now() - NOW
