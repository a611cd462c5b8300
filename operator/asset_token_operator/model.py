"""What the operator knows: the spec, the token, the Secret, as frozen values.

It is a module of its own, below all others, so that everything that decides can be tested with values only:
nothing here reads a clock, a network or a cluster.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pydantic import SecretStr

    from asset_token_operator.status import Status

GROUP: Final = "auth.getasset.com"
VERSION: Final = "v1alpha1"
PLURAL: Final = "assettokens"
KIND: Final = "AssetToken"
OPERATOR: Final = "asset-token-operator"
SECRET_TYPE: Final = f"{GROUP}/token"
MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
ANNOTATION_PREFIX: Final = f"{GROUP}/"
RENEW_ANNOTATION: Final = f"{GROUP}/renew-requested-at"
LONGEST_RENEW_REQUEST: Final = 128
"""Characters of a renew request that are kept as they are; a longer one is known by its digest."""

LONGEST_TOKEN: Final = 16 * 1024
"""Characters of the longest token that is taken; longer ones fit no HTTP header."""


class Environment(StrEnum):
    """Which of Asset's two services a token is for."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"


class DeletionPolicy(StrEnum):
    """What becomes of the Secret when its AssetToken goes."""

    DELETE = "Delete"
    RETAIN = "Retain"


class WorkloadKind(StrEnum):
    """What may be restarted when the Secret holds another token."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"
    DAEMON_SET = "DaemonSet"

    @property
    def plural(self) -> str:
        """What its resource is called."""
        return f"{self.value.lower()}s"


class Urgency(IntEnum):
    """Who goes first, and how much must be left for the tenant's own applications: the more urgent, the less."""

    EXPIRING = 0
    MISSING = 1
    FORCED = 2
    OVERDUE = 3
    ROUTINE = 4
    EXPIRING_ALONE = 5
    """It has failed while others were answered, as have those that follow: they go last."""

    MISSING_ALONE = 6
    RETRY = 7


@dataclass(frozen=True, slots=True)
class Reserves:
    """The share of the limit, from 0 to 1, that is left to the tenant's own applications.

    Attributes:
        routine: By renewals.
        first: By first issues and forced renewals. What is about to expire may use all.
    """

    routine: float = 0.2
    first: float = 0.1

    def of(self, urgency: Urgency, limit: int) -> int:
        """How many requests must remain after one of that urgency."""
        shares = {Urgency.EXPIRING: 0.0, Urgency.EXPIRING_ALONE: 0.0, Urgency.OVERDUE: self.routine}
        shares |= {Urgency.ROUTINE: self.routine, Urgency.RETRY: self.routine}
        return math.ceil(round(limit * shares.get(urgency, self.first), 6))


class Key(NamedTuple):
    """Where an object stands in the cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Rival(NamedTuple):
    """Another AssetToken that names the same Secret."""

    uid: str
    name: str


@dataclass(frozen=True, slots=True)
class CredentialsRef:
    """The Secret, in the AssetToken's namespace, that holds the tenant's OAuth2 client credentials."""

    name: str
    client_id_key: str = "client_id"
    client_secret_key: str = "client_secret"  # noqa: S105 - a key's name


@dataclass(frozen=True, slots=True)
class Credentials:
    """A tenant's OAuth2 client credentials."""

    client_id: SecretStr
    client_secret: SecretStr

    def identity(self) -> str:
        """Tells these from others, in memory only: who sees it could try guesses against it."""
        return digest(f"{self.client_id.get_secret_value()}\0{self.client_secret.get_secret_value()}")


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """How the Secret that the token goes to shall look.

    Attributes:
        template: The texts of further keys, by key, in which `${name}` is filled in.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE
    template: Mapping[str, str] = field(default_factory=dict, repr=False)


class Target(NamedTuple):
    """A workload whose Pods can't read a file again, in the AssetToken's namespace."""

    kind: WorkloadKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class RolloutRestart:
    """What is restarted when the Secret holds another token, and how often at most."""

    targets: tuple[Target, ...]
    min_interval: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Spec:
    """What an AssetToken asks for; unset durations are the operator's to choose."""

    environment: Environment
    credentials: CredentialsRef
    secret: SecretSpec
    business_id: str | None = None
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    lifetime: timedelta | None = None
    renew_before: timedelta | None = None
    renew_before_percentage: int | None = None
    suspend: bool = False
    rollout_restart: RolloutRestart | None = None
    _request_hash: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_request_hash", self._hash_request())

    def request_hash(self) -> str:
        """A digest of all that changes the request to Asset, and of nothing else.

        It is stored with the token and must never depend on the operator's version: a token whose hash
        differs is asked for anew, so a change here makes every token of every cluster be requested again.
        """
        return self._request_hash

    def _hash_request(self) -> str:
        request = {
            "environment": self.environment,
            "credentials": [self.credentials.name, self.credentials.client_id_key, self.credentials.client_secret_key],
            "businessId": self.business_id,
            "scopes": sorted(self.scopes),
            "resources": sorted(self.resources),
            "lifetimeSeconds": None if self.lifetime is None else int(self.lifetime.total_seconds()),
        }
        return digest(json.dumps(request, sort_keys=True))


def _not_seen_yet() -> Status:
    from asset_token_operator.status import NOT_SEEN_YET  # noqa: PLC0415 - pydantic, for which the plugin needn't wait

    return NOT_SEEN_YET


@dataclass(frozen=True, slots=True)
class AssetToken:
    """An AssetToken as it stands in the cluster.

    Attributes:
        created: When it was created; between two that name one Secret the older wins.
        renew_request: The latest request to renew now, or None.
        deleting: Whether its deletion has begun.
        version: Its resource version; a later state has a greater one.
        status: The status as it was last seen.
    """

    key: Key
    uid: str
    generation: int
    created: datetime
    spec: Spec
    renew_request: str | None = None
    deleting: bool = False
    version: int = 0
    status: Status = field(default_factory=_not_seen_yet)

    @property
    def secret_key(self) -> Key:
        """Where its Secret stands."""
        return Key(self.key.namespace, self.spec.secret.name)

    @property
    def credentials_key(self) -> Key:
        """Where its credentials stand."""
        return Key(self.key.namespace, self.spec.credentials.name)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that Asset issued, with all that its Secret says about it.

    Attributes:
        access_token: None where only the Secret's metadata is known.
        issued_at: When it was requested, on Asset's clock, in whole seconds.
        expires_at: When it stops working, on Asset's clock, in whole seconds.
        scopes: What it carries.
        business_id: The business that it was requested for, or None.
        audience: Whom it is for, where it says so.
        skew: How far Asset's clock was ahead of the API server's when it was issued; of ours, where that wasn't heard.
        not_before: When it starts to work, on Asset's clock, where that is still to come.
        ends: When it stops working, by this machine's clock that can't be set; None where that isn't known (any more).
        token_id: The JWT's `jti`, or else the token's fingerprint.
        spec_hash: The `Spec.request_hash` that it answers.
        credentials_fingerprint: Tells whether the credentials are still those that it was requested with.
        revision: The how many-th token of its AssetToken it is, from 1.
        reason: Why it was requested.
        renew_request: The latest renew request that it serves, or None.
        proof: That its Secret is the operator's own, as it is noted there; None where none is noted.
        proof_key: What that is keyed with; None where the credentials aren't known that it was requested with.
        fingerprint: Tells it from others; that of `access_token`, where that is known.
    """

    access_token: SecretStr | None
    environment: Environment
    issued_at: datetime
    expires_at: datetime
    scopes: tuple[str, ...]
    token_id: str
    spec_hash: str
    credentials_fingerprint: str
    revision: int
    reason: str
    renew_request: str | None = None
    business_id: str | None = None
    audience: tuple[str, ...] = ()
    skew: timedelta = timedelta()
    not_before: datetime | None = None
    ends: timedelta | None = None
    proof: str | None = field(default=None, compare=False)
    proof_key: bytes | None = field(default=None, repr=False, compare=False)
    fingerprint: str = ""

    def __post_init__(self) -> None:
        if self.access_token is not None:
            object.__setattr__(self, "fingerprint", token_fingerprint(self.access_token))

    @property
    def lifetime(self) -> timedelta:
        """How long it works, from when it was received."""
        return self.expires_at - self.issued_at


@dataclass(frozen=True, slots=True)
class SecretState:
    """A Secret as it stands in the cluster, whole or by its metadata only.

    Attributes:
        type: None where only the metadata is known.
        controller_uid: The UID of the owner that controls it, or None.
        version: Its resource version; a later state has a greater one.
        annotations: Never shown: `kubectl apply` leaves a copy of the data there.
        data: Its data, still base64-encoded; never shown. None where only the metadata is known.
        applied: The labels, annotations and data keys that the operator put there, as (kind, name).
    """

    key: Key
    uid: str
    type: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)
    controller_uid: str | None = None
    version: int = 0
    data: Mapping[str, str] | None = field(default_factory=dict, repr=False)
    applied: frozenset[tuple[str, str]] = frozenset()

    def without_data(self) -> SecretState:
        """The same as caches hold it."""
        return replace(self, data=None)


def token_fingerprint(access_token: SecretStr) -> str:
    """Tells a token from others, and tells nothing else of it: it is too long to be guessed."""
    return digest(access_token.get_secret_value())


def digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()
