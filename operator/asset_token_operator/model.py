"""What the operator knows: the spec, the token, the Secret, as frozen values parsed from plain dicts.

It is a module of its own, below all others, so that everything that decides can be tested with values only:
nothing here reads a clock, a network or a cluster.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

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


class Environment(StrEnum):
    """Which of Asset's two services a token is for."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"


class DeletionPolicy(StrEnum):
    """What becomes of the Secret when its AssetToken goes."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Reason(StrEnum):
    """Why a condition, an event or a history entry says what it says; each is described in docs/reasons.md."""

    SECRET_SYNCED = "SecretSynced"  # noqa: S105 - a name
    DOES_NOT_EXIST = "DoesNotExist"
    SPEC_CHANGED = "SpecChanged"
    EXPIRED = "Expired"
    RENEWING = "Renewing"
    RENEW_REQUESTED = "RenewRequested"
    CREDENTIALS_CHANGED = "CredentialsChanged"
    DRIFT_REPEATS = "DriftRepeats"
    SUSPENDED = "Suspended"
    RENEW_BEFORE_TOO_LONG = "RenewBeforeTooLong"
    NOT_YET_VALID = "NotYetValid"

    SECRET_CONFLICT = "SecretConflict"  # noqa: S105 - a name
    CREDENTIALS_NOT_FOUND = "CredentialsNotFound"
    CREDENTIALS_INVALID = "CredentialsInvalid"
    INVALID_CLIENT = "InvalidClient"
    INVALID_SCOPE = "InvalidScope"
    REQUEST_REFUSED = "RequestRefused"
    WRONG_ENVIRONMENT = "WrongEnvironment"
    ASSET_UNAVAILABLE = "AssetUnavailable"
    RATE_LIMITED = "RateLimited"
    WAITING_FOR_BUDGET = "WaitingForBudget"
    BROKEN_ANSWER = "BrokenAnswer"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    CLUSTER_REFUSED = "ClusterRefused"
    DENIED_BY_POLICY = "DeniedByPolicy"

    ALL_GRANTED = "AllGranted"
    SCOPES_MISSING = "ScopesMissing"
    AUDIENCE_MISMATCH = "AudienceMismatch"


class Recovery(StrEnum):
    """What ends a failure."""

    BACK_OFF = "back-off"
    """Trying again, a little later each time."""
    ENDPOINT = "endpoint"
    """The same, or any other token's success at the same endpoint."""
    BUDGET = "budget"
    """The tenant's budget, which says when to try again."""
    CREDENTIALS = "credentials"
    """A change of the credentials, for all tokens that use them; a slow probe sees one that can't be seen."""
    CHANGE = "change"
    """A change of the spec or of the credentials; a slow probe sees what changed at Asset."""


class Urgency(IntEnum):
    """Who goes first, and how much must be left for the tenant's own applications: the more urgent, the less."""

    EXPIRING = 0
    MISSING = 1
    FORCED = 2
    OVERDUE = 3
    ROUTINE = 4
    RETRY = 5
    """It has failed while others were answered: it goes last."""


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
        shares = {Urgency.EXPIRING: 0.0, Urgency.OVERDUE: self.routine}
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
    """How the Secret that the token goes to shall look."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE


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


@dataclass(frozen=True, slots=True)
class AssetToken:
    """An AssetToken as it stands in the cluster.

    Attributes:
        created: When it was created; between two that name one Secret the older wins.
        renew_request: The latest request to renew now, or None.
        deleting: Whether its deletion has begun.
        version: Its resource version; a later state has a greater one.
        status: The status as it was last seen, as plain JSON.
    """

    key: Key
    uid: str
    generation: int
    created: datetime
    spec: Spec
    renew_request: str | None = None
    deleting: bool = False
    version: int = 0
    status: Mapping[str, Any] = field(default_factory=dict)

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


class SpecError(ValueError):
    """A spec that can't be read."""


def token_fingerprint(access_token: SecretStr) -> str:
    """Tells a token from others, and tells nothing else of it: it is too long to be guessed."""
    return digest(access_token.get_secret_value())


def digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


DURATION: Final = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `1h30m` (hours, minutes and seconds, as the CRD admits them).

    Raises:
        ValueError: It isn't one.
    """
    match = DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 1h30m or 90s")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any duration") from None


def format_time(moment: datetime) -> str:
    """Write a moment as Kubernetes does: RFC 3339, whole seconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def format_micro_time(moment: datetime) -> str:
    """The same in microseconds (`metav1.MicroTime`), as events and Leases have it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read a moment in RFC 3339; one without an offset is taken as UTC.

    Raises:
        ValueError: It isn't one.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment lies beyond the calendar") from None


def whole_seconds(moment: datetime) -> datetime:
    """Cut the fraction, since Kubernetes' times have none and a comparison must not see one."""
    return moment.replace(microsecond=0)


def parse_asset_token(body: Mapping[str, Any]) -> AssetToken:
    """Read an AssetToken.

    Raises:
        SpecError: It isn't one that the CRD's schema admits, so the CRD is of another version than the operator.
    """
    try:
        return _parse_asset_token(body)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise SpecError(f"{type(error).__name__}: {error}") from None


def _parse_asset_token(body: Mapping[str, Any]) -> AssetToken:
    metadata = body["metadata"]
    renew_request = metadata.get("annotations", {}).get(RENEW_ANNOTATION)
    if renew_request and len(renew_request) > LONGEST_RENEW_REQUEST:
        renew_request = digest(renew_request)
    return AssetToken(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        generation=metadata["generation"],
        created=parse_time(metadata["creationTimestamp"]),
        spec=_parse_spec(body["spec"], metadata["name"]),
        renew_request=renew_request or None,
        deleting="deletionTimestamp" in metadata,
        version=int(metadata["resourceVersion"]),
        status=body.get("status", {}),
    )


def _parse_spec(spec: Mapping[str, Any], name: str) -> Spec:
    credentials = spec["credentialsSecretRef"]
    secret = spec.get("secret", {})
    return Spec(
        environment=Environment(spec["environment"]),
        credentials=CredentialsRef(
            credentials["name"],
            credentials.get("clientIdKey", "client_id"),
            credentials.get("clientSecretKey", "client_secret"),
        ),
        secret=SecretSpec(
            name=secret.get("name", name),
            labels=secret.get("labels", {}),
            annotations=secret.get("annotations", {}),
            deletion_policy=DeletionPolicy(secret.get("deletionPolicy", DeletionPolicy.DELETE)),
        ),
        business_id=spec.get("businessId"),
        scopes=tuple(spec.get("scopes", ())),
        resources=tuple(spec.get("resources", ())),
        lifetime=_optional_duration(spec.get("lifetime")),
        renew_before=_optional_duration(spec.get("renewBefore")),
        renew_before_percentage=spec.get("renewBeforePercentage"),
        suspend=spec.get("suspend", False),
    )


def _optional_duration(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)


def parse_secret(body: Mapping[str, Any]) -> SecretState:
    """Read a Secret, whoever wrote it."""
    return replace(_parse_metadata(body["metadata"]), type=body.get("type", ""), data=body.get("data") or {})


def parse_secret_metadata(body: Mapping[str, Any]) -> SecretState:
    """Read a Secret's metadata (`PartialObjectMetadata`), of which nothing is kept where it isn't one of ours."""
    metadata = body["metadata"]
    if _looks_like_ours(metadata):
        return _parse_metadata(metadata)
    return SecretState(
        Key(metadata["namespace"], metadata["name"]),
        metadata["uid"],
        None,
        version=int(metadata["resourceVersion"]),
        data=None,
    )


def _looks_like_ours(metadata: Mapping[str, Any]) -> bool:
    """Whether it says so of itself, which anybody may."""
    if (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == OPERATOR:
        return True
    if any(name.startswith(ANNOTATION_PREFIX) for name in metadata.get("annotations") or ()):
        return True
    return any(owner.get("kind") == KIND for owner in metadata.get("ownerReferences") or ())


def _parse_metadata(metadata: Mapping[str, Any]) -> SecretState:
    controllers = [owner["uid"] for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    return SecretState(
        key=Key(metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        type=None,
        labels=_interned(metadata.get("labels")),
        annotations=_interned(metadata.get("annotations")),
        controller_uid=controllers[0] if controllers else None,
        version=int(metadata["resourceVersion"]),
        data=None,
        applied=_same(frozenset(_applied_fields(metadata.get("managedFields") or ()))),
    )


def _interned(texts: Mapping[str, str] | None) -> Mapping[str, str]:
    """The same with names that are in memory once for all Secrets."""
    return {sys.intern(name): text for name, text in (texts or {}).items()}


@lru_cache(maxsize=1024)
def _same(fields: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The same set, once in memory for all Secrets that look alike."""
    return fields


def _applied_fields(managed_fields: Any) -> set[tuple[str, str]]:  # noqa: ANN401 - JSON
    """What the operator's own applies put there, by the API server's book-keeping (`metadata.managedFields`)."""
    applied: set[tuple[str, str]] = set()
    for entry in managed_fields:
        if entry.get("manager") == OPERATOR and entry.get("operation") == "Apply":
            fields = entry.get("fieldsV1", {})
            metadata = fields.get("f:metadata", {})
            for kind, tree in (
                ("label", metadata.get("f:labels", {})),
                ("annotation", metadata.get("f:annotations", {})),
                ("data", fields.get("f:data", {})),
            ):
                applied |= {(kind, name.removeprefix("f:")) for name in tree if name != "."}
    return applied
