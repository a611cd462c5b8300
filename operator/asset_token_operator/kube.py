"""The calls of the Kubernetes API that the operator makes: objects in, objects out.

Manifests go out as plain dicts, so that what was decided is applied as it is; what comes back is parsed here.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import SecretStr

from asset_token_operator.errors import (
    CredentialsInvalidError,
    CredentialsNotFoundError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    SecretConflictError,
    foreign_secret,
)
from asset_token_operator.model import (
    GROUP,
    KIND,
    OPERATOR,
    PLURAL,
    VERSION,
    Credentials,
    Key,
    digest,
    format_micro_time,
    parse_secret,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime, timedelta

    from asset_token_operator.api_server import ApiServer
    from asset_token_operator.model import AssetToken, CredentialsRef, SecretState
    from asset_token_operator.outcome import Event

T = TypeVar("T")

APPLY: Final = "application/apply-patch+yaml"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
CHUNK: Final = 50
"""Secrets a page: an annotation may hold a copy of the data, so a page can be large while it is read."""


class KubeClient:
    """The calls that the operator makes.

    Args:
        api: The API server.
        time_left: Asked before anything is written; raises NotLeadingError where nothing may be.
    """

    def __init__(self, api: ApiServer, time_left: Callable[[], timedelta]) -> None:
        self.api = api
        self._time_left = time_left

    async def require_crd(self) -> None:
        """Make sure that the cluster knows AssetTokens.

        Raises:
            KubeError: It doesn't, or it can't be reached.
        """
        with contextlib.suppress(NotFoundError):
            if await self.api.call("GET", f"/apis/{GROUP}/{VERSION}", _serves_asset_tokens):
                return
        raise KubeUnavailableError(f"The cluster has no {PLURAL}.{GROUP}/{VERSION}; install the CRD (crds/) first.")

    async def has_asset_tokens(self, namespace: str) -> bool:
        """Whether there are AssetTokens in a namespace, or with an empty one anywhere."""
        within = f"/namespaces/{namespace}" if namespace else ""
        path = f"/apis/{GROUP}/{VERSION}{within}/{PLURAL}"
        return await self.api.call("GET", path, _has_items, query=[("limit", "1")], accept=METADATA_LIST)

    async def read_secret(self, key: Key) -> SecretState | None:
        """The Secret as it stands now; None where there is none."""
        try:
            return await self.api.call("GET", _secret_path(key), parse_secret)
        except NotFoundError:
            return None

    async def list_secret_versions(self, namespace: str) -> tuple[dict[Key, str], str]:
        """The resource version of each Secret, and the list's own; nothing else of a Secret is held.

        Args:
            namespace: Of which namespace; empty for all.
        """
        path = _secrets_path(namespace)
        versions: dict[Key, str] = {}
        query = [("limit", str(CHUNK))]
        while True:
            page, version, rest = await self.api.call("GET", path, _read_page, query=query, accept=METADATA_LIST)
            versions |= page
            if not rest:
                return versions, version
            query = [("limit", str(CHUNK)), ("continue", rest)]

    async def watch_secret_versions(self, namespace: str, since: str) -> AsyncGenerator[tuple[str, Key, str], None]:
        """What happens to Secrets: the event's type, the Secret and its resource version; it may end at any time.

        Raises:
            KubeError: The watch broke, or the API server has forgotten `since`.
        """
        path = _secrets_path(namespace)
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", since)]
        async for event in self.api.stream(path, _read_event, query, accept=METADATA):
            yield event

    async def read_credentials(self, namespace: str, ref: CredentialsRef) -> Credentials:
        """The credentials, without the line break that editors and `echo` leave at their ends.

        Raises:
            CredentialsNotFoundError: There is no such Secret.
            CredentialsInvalidError: A key of it is missing, empty or no text.
        """
        secret = await self.read_secret(Key(namespace, ref.name))
        if secret is None:
            raise CredentialsNotFoundError(f"Credentials Secret {ref.name} does not exist; create it.")
        return Credentials(
            client_id=_credential(secret, ref.client_id_key),
            client_secret=_credential(secret, ref.client_secret_key),
        )

    async def apply_secret(self, manifest: Mapping[str, Any], uid: str | None) -> SecretState:
        """Write a Secret whole, by server-side apply.

        Args:
            manifest: The Secret.
            uid: The UID of the one that is overwritten, so that one that was created since is not.

        Raises:
            SecretConflictError: A Secret that isn't ours stands there: its type can't be changed.
        """
        metadata = dict(manifest["metadata"]) | ({"uid": uid} if uid else {})
        key = Key(metadata["namespace"], metadata["name"])
        try:
            return await self._apply(_secret_path(key), parse_secret, {**manifest, "metadata": metadata})
        except KubeRefusedError as error:
            if "type" in error.fields:
                raise SecretConflictError(foreign_secret(key.name)) from None
            if "data" in error.fields:
                raise KubeRefusedError(
                    f"The API server refused the data of Secret {key.name}: it is over 1 MiB, or the Secret is"
                    " immutable; delete an immutable one, and it is written anew.",
                    error.status,
                    error.fields,
                ) from None
            raise

    async def delete_secret(self, secret: SecretState) -> None:
        """Delete exactly that Secret; one that is gone already, or was replaced by another, is no error."""
        self._time_left()
        try:
            await self.api.call("DELETE", _secret_path(secret.key), bool, body={"preconditions": {"uid": secret.uid}})
        except KubeRefusedError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def apply_status(self, token: AssetToken, status: Mapping[str, Any]) -> int:
        """Write an AssetToken's status, whole, unless the AssetToken has changed since.

        Returns:
            The resource version that the AssetToken has with it.

        Raises:
            NotFoundError: The AssetToken is gone.
        """
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{token.key.namespace}/{PLURAL}/{token.key.name}/status"
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            # The API server ignores a uid here: the version keeps it from a namesake that was created since.
            "metadata": {
                "namespace": token.key.namespace,
                "name": token.key.name,
                "resourceVersion": str(token.version),
            },
            "status": status,
        }
        return await self._apply(path, _read_version, body)

    async def create_event(self, token: AssetToken, event: Event, now: datetime, instance: str) -> None:
        """Post an event about an AssetToken."""
        identity = digest(f"{token.uid}/{event.reason}/{now.isoformat()}")
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {
                "namespace": token.key.namespace,
                "name": f"{token.key.name[:200].rstrip('-.')}.{identity[:16]}",
            },
            "eventTime": format_micro_time(now),
            "reportingController": OPERATOR,
            "reportingInstance": instance[:128],
            "action": "Issue",
            "reason": event.reason,
            "note": event.message.encode()[:1024].decode(errors="ignore"),
            "type": event.type,
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "namespace": token.key.namespace,
                "name": token.key.name,
                "uid": token.uid,
            },
        }
        self._time_left()
        await self.api.call("POST", f"/apis/events.k8s.io/v1/namespaces/{token.key.namespace}/events", bool, body=body)

    async def _apply(self, path: str, read: Callable[[dict[str, Any]], T], body: Mapping[str, Any]) -> T:
        query = [("fieldManager", OPERATOR), ("force", "true")]
        self._time_left()
        return await self.api.call("PATCH", path, read, query=query, body=body, content_type=APPLY)


def _key(metadata: Mapping[str, Any]) -> Key:
    return Key(metadata["namespace"], metadata["name"])


def _serves_asset_tokens(answer: dict[str, Any]) -> bool:
    return any(resource["name"] == PLURAL for resource in answer["resources"])


def _has_items(answer: dict[str, Any]) -> bool:
    return bool(answer["items"])


def _read_version(answer: dict[str, Any]) -> int:
    return int(answer["metadata"]["resourceVersion"])


def _read_page(answer: dict[str, Any]) -> tuple[dict[Key, str], str, str | None]:
    """The versions on a page of a list, the list's own, and where it goes on."""
    items = (item["metadata"] for item in answer["items"] or ())
    versions = {_key(metadata): str(int(metadata["resourceVersion"])) for metadata in items}
    return versions, str(int(answer["metadata"]["resourceVersion"])), answer["metadata"].get("continue")


def _read_event(event: dict[str, Any]) -> tuple[str, Key, str]:
    """A watch's event: its type, and which version of what it is about; a bookmark is about nothing."""
    if event["type"] == "ERROR":
        raise KubeUnavailableError("The watch of Secrets has to begin anew.")
    metadata = event["object"]["metadata"]
    key = Key("", "") if event["type"] == "BOOKMARK" else _key(metadata)
    return event["type"], key, str(int(metadata["resourceVersion"]))


def _secrets_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"


def _secret_path(key: Key) -> str:
    return f"{_secrets_path(key.namespace)}/{key.name}"


def _credential(secret: SecretState, name: str) -> SecretStr:
    where = f"credentials Secret {secret.key.name}"
    if name not in secret.data:
        raise CredentialsInvalidError(f"Credentials Secret {secret.key.name} has no key {name}.")
    value = _decode(secret.data[name])
    if value is None:
        raise CredentialsInvalidError(f"Key {name} of {where} is not UTF-8 text.")
    if not value.strip("\r\n"):
        raise CredentialsInvalidError(f"Key {name} of {where} is empty.")
    return SecretStr(value.rstrip("\r\n"))


def _decode(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
