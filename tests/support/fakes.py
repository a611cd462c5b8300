"""A cluster and an Asset in memory, with the methods of `KubeClient` and `AssetClient`, and a world made of both.

They never wait for anything, so a test may also `drive` them without an event loop, as the property tests do.
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import SecretStr

from asset_token_operator.answers import TokenAnswer
from asset_token_operator.errors import (
    CredentialsNotFoundError,
    KubeRefusedError,
    NotFoundError,
    SecretConflictError,
)
from asset_token_operator.manifests import owner_name
from asset_token_operator.model import AssetToken, Credentials, CredentialsRef, Environment, Key, SecretState, Spec
from asset_token_operator.model import parse_secret as read_secret_body
from asset_token_operator.outcome import Event
from asset_token_operator.reconciler import Caches, Reconciler
from tests.support.builders import CREDENTIALS, ENDPOINTS, NOW, an_asset_token, as_stored
from tests.support.clock import ManualClock

Result = TypeVar("Result")

FOREIGN_UID: Final = "99999999-9999-9999-9999-999999999999"


def drive(work: Coroutine[Any, Any, Result]) -> Result:
    """Run what waits for nothing to its end, without an event loop."""
    while True:
        try:
            work.send(None)
        except StopIteration as end:
            return end.value


class Faults:
    """Which calls fail, with what, and how often."""

    def __init__(self) -> None:
        self._planned: dict[str, tuple[Exception, float]] = {}

    def fail(self, method: str, error: Exception, times: float = float("inf")) -> None:
        """Let the next calls of the method fail."""
        self._planned[method] = (error, times)

    def mend(self) -> None:
        """No call fails any more."""
        self._planned.clear()

    def planned(self) -> bool:
        """Whether any call is still to fail."""
        return any(times > 0 for _, times in self._planned.values())

    def check(self, method: str) -> None:
        """Fail if the call shall."""
        error, times = self._planned.get(method, (None, 0))
        if error is not None and times > 0:
            self._planned[method] = (error, times - 1)
            raise error


class FakeKubeClient:
    """The API server, as far as the operator uses it; `calls` says which calls it got, in order."""

    def __init__(self) -> None:
        self.asset_tokens: dict[Key, AssetToken] = {}
        self.secrets: dict[Key, SecretState] = {}
        self.credentials: dict[Key, Credentials] = {}
        self.events: list[Event] = []
        self.calls: list[str] = []
        self.faults = Faults()
        self.before_write: Callable[[Mapping[str, Any]], None] = lambda _: None
        self._version = 1000

    def put_token(self, token: AssetToken) -> AssetToken:
        """Somebody creates or changes an AssetToken."""
        stored = self.asset_tokens[token.key] = replace(token, version=self._next_version())
        return stored

    def put_secret(self, secret: SecretState) -> SecretState:
        """Somebody creates or changes a Secret."""
        stored = self.secrets[secret.key] = replace(secret, version=self._next_version())
        return stored

    async def read_secret(self, key: Key) -> SecretState | None:
        self._called("read_secret")
        return self.secrets.get(key)

    async def read_credentials(self, namespace: str, ref: CredentialsRef) -> Credentials:
        self._called("read_credentials")
        try:
            return self.credentials[Key(namespace, ref.name)]
        except KeyError:
            raise CredentialsNotFoundError(f"Credentials Secret {ref.name} does not exist; create it.") from None

    async def apply_secret(self, manifest: Mapping[str, Any], uid: str | None) -> SecretState:
        self._called("apply_secret")
        self.before_write(manifest)
        written = read_secret_body(as_stored(dict(manifest)))
        found = self.secrets.get(written.key)
        if uid is not None and (found is None or found.uid != uid):
            raise KubeRefusedError("the API server refused with 409 Conflict.", 409)
        if found is None:
            return self.put_secret(replace(written, uid=f"secret-{self._next_version()}"))
        if found.type != written.type:
            raise SecretConflictError("the Secret does not belong to this AssetToken.")
        return self.put_secret(_merge(found, written))

    async def delete_secret(self, secret: SecretState) -> None:
        self._called("delete_secret")
        found = self.secrets.get(secret.key)
        if found is not None and found.uid == secret.uid:
            del self.secrets[secret.key]

    async def apply_status(self, token: AssetToken, status: Mapping[str, Any]) -> str:
        self._called("apply_status")
        found = self.asset_tokens.get(token.key)
        if found is None:
            raise NotFoundError("the API server refused with 404 NotFound.", 404)
        if found.uid != token.uid:
            raise KubeRefusedError("the API server refused with 409 Conflict.", 409)
        return str(self.put_token(replace(found, status=status)).version)

    async def create_event(self, token: AssetToken, event: Event, now: datetime, instance: str) -> None:  # noqa: ARG002
        self._called("create_event")
        self.events.append(event)

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
        data=merged("data", found.data, written.data),
    )


class FakeAssetClient:
    """Asset's token endpoint: a new opaque token for each request, unless it is told to fail."""

    def __init__(self, endpoints: Mapping[Environment, str] = ENDPOINTS) -> None:
        self.endpoints = endpoints
        self.faults = Faults()
        self.requests: list[Spec] = []
        self.expires_in: object = 3600
        self.scopes: tuple[str, ...] | None = None
        self.before_request: Callable[[Spec], None] = lambda _: None

    async def request_token(self, spec: Spec, credentials: Credentials) -> TokenAnswer:  # noqa: ARG002
        self.requests.append(spec)
        self.before_request(spec)
        self.faults.check("request_token")
        access_token = SecretStr(f"canary-access-token-{len(self.requests)}")
        return TokenAnswer(access_token, self.expires_in, self.scopes, None)


@dataclass
class World:
    """A cluster with credentials, Asset, and an operator that watches both.

    Attributes:
        caches: What the operator has seen; `sync` lets it see what there is now.
    """

    clock: ManualClock = field(default_factory=ManualClock)
    kube: FakeKubeClient = field(default_factory=FakeKubeClient)
    asset: FakeAssetClient = field(default_factory=FakeAssetClient)
    caches: Caches = field(default_factory=Caches)

    def __post_init__(self) -> None:
        self.kube.credentials[Key("shop", "asset-credentials")] = CREDENTIALS
        self.restart()

    def restart(self) -> None:
        """The operator loses all that it has in memory."""
        self.reconciler = Reconciler(self.caches, self.kube, self.asset, self.clock, "test")  # type: ignore[arg-type]

    def add(self, token: AssetToken | None = None) -> AssetToken:
        """Somebody creates an AssetToken."""
        return self.kube.put_token(token or an_asset_token())

    def sync(self) -> None:
        """The watches catch up."""
        self.sync_tokens()
        self.caches.secrets = {key: (secret,) for key, secret in self.kube.secrets.items()}
        owned: dict[Key, tuple[SecretState, ...]] = {}
        for secret in self.kube.secrets.values():
            owner = owner_name(secret)
            if owner is not None:
                key = Key(secret.key.namespace, owner)
                owned[key] = (*owned.get(key, ()), secret)
        self.caches.owned = owned

    def sync_tokens(self) -> None:
        """The watch of AssetTokens catches up."""
        self.caches.tokens = {key: (token,) for key, token in self.kube.asset_tokens.items()}
        claims: dict[Key, tuple[AssetToken, ...]] = {}
        for token in self.kube.asset_tokens.values():
            claims[token.secret_key] = (*claims.get(token.secret_key, ()), token)
        self.caches.claims = claims

    def reconcile(self, token: AssetToken | None = None, *, sync: bool = True) -> datetime | None:
        """Let the operator look at the AssetToken once."""
        if sync:
            self.sync()
        return drive(self.reconciler.reconcile((token or an_asset_token()).key))

    def pass_time(self, by: timedelta) -> None:
        drive(self.clock.advance(by))

    def calls(self) -> list[str]:
        """The calls of the API server since it was asked last."""
        calls, self.kube.calls = self.kube.calls, []
        return calls

    def token(self) -> AssetToken:
        """The usual AssetToken as it stands now."""
        return self.kube.asset_tokens[an_asset_token().key]

    def secret(self) -> SecretState | None:
        """What stands under the name of its Secret."""
        return self.kube.secrets.get(self.token().secret_key)

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Its conditions: their status and reason, by type."""
        return {
            found["type"]: (found["status"], found["reason"]) for found in self.token().status.get("conditions", ())
        }

    def elapsed(self) -> timedelta:
        return self.clock.now() - NOW
