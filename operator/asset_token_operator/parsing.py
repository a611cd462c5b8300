"""Reads AssetTokens and Secrets as the API server tells of them, into frozen values."""

from __future__ import annotations

import base64
import binascii
import sys
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import SecretStr

from asset_token_operator.errors import CredentialsInvalidError, KubeRefusedError, KubeUnavailableError
from asset_token_operator.model import (
    ANNOTATION_PREFIX,
    KIND,
    LONGEST_RENEW_REQUEST,
    LONGEST_TOKEN,
    MANAGED_BY_LABEL,
    OPERATOR,
    PLURAL,
    RENEW_ANNOTATION,
    SECRET_TYPE,
    AssetToken,
    Credentials,
    CredentialsRef,
    DeletionPolicy,
    Environment,
    Key,
    RolloutRestart,
    SecretSpec,
    SecretState,
    Spec,
    Target,
    WorkloadKind,
    digest,
)
from asset_token_operator.status import parse_status
from asset_token_operator.times import parse_duration, parse_time
from asset_token_operator.token_request import trim_credential

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

LONGEST_CREDENTIAL: Final = 64 * 1024
LONGEST_TOKEN_ENCODED: Final = 4 * (LONGEST_TOKEN // 3 + 1)
"""Characters as a Secret has them; what is longer is neither, and isn't decoded."""

MOST_SHARED: Final = 64
"""Names in a set that is in memory once for all Secrets."""


class SpecError(ValueError):
    """A spec that can't be read."""


class SecretEvent(NamedTuple):
    """What happened to a Secret, or to none: a bookmark only tells how far the watch is.

    Attributes:
        kind: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`.
        version: The resource version up to which the watch has told everything.
        secret: The Secret's metadata.
    """

    kind: str
    version: int
    secret: SecretState | None


def parse_asset_token(body: Mapping[str, Any]) -> AssetToken:
    """Read an AssetToken.

    Raises:
        SpecError: It isn't one that the CRD's schema admits, so the CRD is of another version than the operator.
    """
    try:
        return _parse_asset_token(body)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else "a field has a value of another kind"
        raise SpecError(str(error) if type(error) is ValueError else what) from None


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
        status=parse_status(body.get("status", {})),
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
            template=secret.get("template", {}),
        ),
        business_id=spec.get("businessId"),
        scopes=tuple(spec.get("scopes", ())),
        resources=tuple(spec.get("resources", ())),
        lifetime=_duration(spec.get("lifetime")),
        renew_before=_duration(spec.get("renewBefore")),
        renew_before_percentage=spec.get("renewBeforePercentage"),
        suspend=spec.get("suspend", False),
        rollout_restart=_parse_rollout_restart(spec.get("rolloutRestart")),
    )


def _parse_rollout_restart(restart: Mapping[str, Any] | None) -> RolloutRestart | None:
    if restart is None:
        return None
    return RolloutRestart(
        targets=tuple(Target(WorkloadKind(target["kind"]), target["name"]) for target in restart["targets"]),
        min_interval=parse_duration(restart.get("minInterval", "5m")),
    )


def _duration(text: str | None) -> timedelta | None:
    return None if text is None else parse_duration(text)


def parse_living(answer: Mapping[str, Any]) -> set[str]:
    """The UIDs of a list's objects that aren't being deleted."""
    found = (item["metadata"] for item in answer["items"] or ())
    return {metadata["uid"] for metadata in found if "deletionTimestamp" not in metadata}


def parse_discovery(answer: Mapping[str, Any]) -> bool:
    """Whether AssetTokens are among the resources of their group."""
    return any(resource["name"] == PLURAL for resource in answer["resources"])


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
        applied=_kept_once(frozenset(_applied_fields(metadata.get("managedFields") or ()))),
    )


def _interned(texts: Mapping[str, str] | None) -> Mapping[str, str]:
    """The same with names that are in memory once for all Secrets."""
    return {sys.intern(name): text for name, text in (texts or {}).items()}


def _kept_once(fields: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The same set; one that is larger than ours in practice, as somebody else made it, is kept no longer than that."""
    return _same(fields) if len(fields) <= MOST_SHARED else fields


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


def parse_our_secret(body: dict[str, Any]) -> SecretState:
    """Keep nobody else's data, and of ours no token that is none: both may be large."""
    secret = parse_secret(body)
    if secret.type != SECRET_TYPE:
        return replace(secret, data={})
    data = dict(secret.data or {})
    if len(data.get("access_token", "")) > LONGEST_TOKEN_ENCODED:
        data["access_token"] = ""
    return replace(secret, data=data)


def parse_secret_event(event: dict[str, Any]) -> SecretEvent:
    """A watch's event; a bookmark is about no Secret."""
    kind = event["type"]
    if kind == "ERROR":
        if event["object"].get("code") == HTTPStatus.GONE:
            raise KubeRefusedError("The watch of Secrets is too old, so they are listed anew.", HTTPStatus.GONE)
        raise KubeUnavailableError("The API server ended the watch of Secrets, which begins anew.")
    version = int(event["object"]["metadata"]["resourceVersion"])
    return SecretEvent(kind, version, None if kind == "BOOKMARK" else parse_secret_metadata(event["object"]))


def parse_credentials(secret: SecretState, ref: CredentialsRef) -> Credentials:
    """Read credentials from a Secret that was read whole.

    Raises:
        CredentialsInvalidError: A key is missing, empty or unreadable.
    """
    return Credentials(
        _credential(secret, ref.client_id_key, "clientIdKey"),
        _credential(secret, ref.client_secret_key, "clientSecretKey"),
    )


def _credential(secret: SecretState, name: str, field: str) -> SecretStr:
    encoded = (secret.data or {}).get(name)
    value = None if encoded is None or len(encoded) > LONGEST_CREDENTIAL else _decode(encoded)
    trimmed = None if value is None else trim_credential(value)
    if trimmed:
        return SecretStr(trimmed)
    wrong = {
        "is missing": encoded is None,
        "is longer than any credential": encoded is not None and len(encoded) > LONGEST_CREDENTIAL,
        "is not UTF-8 text": value is None,
        "is empty": True,
    }
    how = next(how for how, holds in wrong.items() if holds)
    raise CredentialsInvalidError(
        f"Key {name} of credentials Secret {secret.key.name} {how}: put it right, or set"
        f" spec.credentialsSecretRef.{field} to the key that has it."
    )


def _decode(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
