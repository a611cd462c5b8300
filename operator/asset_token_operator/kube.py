"""The calls of the Kubernetes API that the operator makes: objects in, objects out.

Manifests go out as plain dicts, so that what was decided is applied as it is; what comes back is parsed here.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asset_token_operator.api_server import MERGE_PATCH
from asset_token_operator.errors import (
    ConflictError,
    CredentialsNotFoundError,
    KubeRefusedError,
    NotFoundError,
    SecretConflictError,
    TooLargeError,
    foreign_secret,
)
from asset_token_operator.model import GROUP, OPERATOR, PLURAL, VERSION, Credentials, Key, SecretState
from asset_token_operator.parsing import (
    SecretEvent,
    parse_credentials,
    parse_discovery,
    parse_living,
    parse_our_secret,
    parse_secret,
    parse_secret_event,
    parse_secret_metadata,
)
from asset_token_operator.rollouts import RESTARTED_AT, parse_workload
from asset_token_operator.status import FIELDS
from asset_token_operator.times import format_time
from asset_token_operator.transitions import event_manifest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping
    from datetime import datetime, timedelta

    from asset_token_operator.api_server import ApiClient
    from asset_token_operator.model import AssetToken, CredentialsRef, Target
    from asset_token_operator.rollouts import Workload
    from asset_token_operator.status import Status
    from asset_token_operator.transitions import Event

T = TypeVar("T")

APPLY: Final = "application/apply-patch+yaml"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MANAGER: Final = {"fieldManager": OPERATOR}
NO_STATUS: Final = dict.fromkeys(FIELDS)
"""All fields of a status, each taken away."""

NO_VERSION: Final = "1"
"""No object has ever had it, so an apply that names it creates one, or is refused."""

PAGE: Final = 250
"""Objects a page. An annotation may hold a copy of the data: where a page is too large it is halved for a while."""

LARGEST_PAGE: Final = 2**22
"""Bytes of a page of several: reading as much keeps the Lease waiting for 50 ms at most."""


class KubeClient:
    """The calls that the operator makes.

    Args:
        api: The API server.
        time_left: Asked before anything is written; raises NotLeadingError where nothing may be.
    """

    def __init__(self, api: ApiClient, time_left: Callable[[], timedelta]) -> None:
        self.api = api
        self._time_left = time_left

    def fingerprint(self) -> str:
        """Differs where the API server is reached another way than before."""
        return self.api.fingerprint()

    async def serves_asset_tokens(self) -> bool:
        """Whether the cluster knows AssetTokens, so that their CRD is installed."""
        try:
            return await self.api.call("GET", f"/apis/{GROUP}/{VERSION}", parse_discovery)
        except NotFoundError:
            return False

    async def list_asset_tokens(self, namespace: str, selector: str | None = None) -> tuple[Mapping[Key, int], int]:
        """Which AssetTokens there are, and in which resource version; and the list's own.

        Args:
            namespace: Of which namespace; empty for all.
            selector: Those with such labels; None for all.
        """
        found: dict[Key, int] = {}
        version = 0
        async for page, page_version in self._list(_asset_tokens_path(namespace), _read_version_of, selector):
            found.update(page)
            version = page_version
        return found, version

    async def version_of_asset_tokens(self, namespace: str, selector: str | None = None) -> int:
        """The resource version that a list of them would have."""
        return await self._version_of(_asset_tokens_path(namespace), selector)

    async def confirm_asset_token(self, token: AssetToken) -> None:
        """Ask whether an AssetToken is still there, for which the right to list is enough.

        Raises:
            NotFoundError: It is gone or going, or another has its name.
        """
        path, query = _asset_tokens_path(token.key.namespace), {"fieldSelector": f"metadata.name={token.key.name}"}
        if token.uid not in await self.api.call("GET", path, parse_living, query=query, accept=METADATA_LIST):
            raise NotFoundError(
                f"AssetToken {token.key.name} is gone; looked at again by itself.", HTTPStatus.NOT_FOUND
            )

    async def version_of_secrets(self, namespace: str) -> int:
        """The resource version that a list of Secrets would have."""
        return await self._version_of(_secrets_path(namespace))

    async def read_secret(self, key: Key) -> SecretState | None:
        """The Secret as it stands now, but for what isn't the operator's own in it; None where there is none."""
        try:
            return await self.api.call("GET", _secret_path(key), parse_our_secret)
        except NotFoundError:
            return None

    async def list_secrets(self, namespace: str) -> AsyncGenerator[tuple[list[SecretState], int], None]:
        """The metadata of all Secrets, page by page, and the list's own version.

        Args:
            namespace: Of which namespace; empty for all.
        """
        async for page, version in self._list(_secrets_path(namespace), parse_secret_metadata):
            yield page, version

    async def watch_secrets(self, namespace: str, since: int) -> AsyncGenerator[SecretEvent, None]:
        """What happens to Secrets; it may end at any time.

        Raises:
            KubeError: The watch broke, or the API server has forgotten `since`.
        """
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": str(since)}
        async for event in self.api.stream(_secrets_path(namespace), parse_secret_event, query, METADATA):
            yield event

    async def read_credentials(self, namespace: str, ref: CredentialsRef) -> Credentials:
        """The credentials, without what editors and `echo` leave around them: line breaks, blanks, a byte order mark.

        Raises:
            CredentialsNotFoundError: There is no such Secret.
            CredentialsInvalidError: A key of it is missing, empty or no text.
        """
        try:
            secret = await self.api.call("GET", _secret_path(Key(namespace, ref.name)), parse_secret)
        except NotFoundError:
            raise CredentialsNotFoundError(
                f"Credentials Secret {ref.name} does not exist in namespace {namespace}: create it with the keys"
                f" {ref.client_id_key} and {ref.client_secret_key}, or correct spec.credentialsSecretRef.name."
            ) from None
        return parse_credentials(secret, ref)

    async def apply_secret(self, manifest: Mapping[str, Any], over: SecretState | None) -> SecretState:
        """Write a Secret whole, by server-side apply, unless something else stands there than was seen.

        Args:
            manifest: The Secret.
            over: The one that is overwritten, as it was seen; None where there was none.

        Returns:
            The Secret as it is then, with the data that was sent, or what a webhook made of that.

        Raises:
            SecretConflictError: A Secret that isn't ours stands there: its type can't be changed.
            ConflictError: It was created, changed or deleted since.
        """
        seen = {"resourceVersion": NO_VERSION} if over is None else _as_seen(over)
        metadata = dict(manifest["metadata"]) | seen
        key = Key(metadata["namespace"], metadata["name"])
        self._time_left()
        try:
            written = await self.api.call(
                "PATCH",
                _secret_path(key),
                parse_secret,
                query=MANAGER | {"force": "true"},
                body={**manifest, "metadata": metadata},
                content_type=APPLY,
            )
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
        found = written.data or {}
        return replace(written, data={name: found[name] for name in manifest["data"] if name in found})

    async def delete_secret(self, secret: SecretState) -> None:
        """Delete exactly that Secret, as it was seen; one that is gone, or another since, is no error."""
        self._time_left()
        with contextlib.suppress(NotFoundError, ConflictError):
            await self.api.call("DELETE", _secret_path(secret.key), bool, body={"preconditions": _as_seen(secret)})

    async def write_status(self, token: AssetToken, status: Status) -> AssetToken:
        """Write an AssetToken's status, whole, unless the AssetToken has changed since.

        Returns:
            The AssetToken as it is then.

        Raises:
            NotFoundError: The AssetToken is gone.
        """
        # A merge patch costs the API server half of what an apply does. The version keeps it from a namesake, too.
        body = {
            "metadata": {"resourceVersion": str(token.version)},
            "status": {**NO_STATUS, **status.to_json()},
        }
        self._time_left()
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{token.key.namespace}/{PLURAL}/{token.key.name}/status"
        version = await self.api.call(
            "PATCH", path, _read_version, query=MANAGER, body=body, content_type=MERGE_PATCH, accept=METADATA
        )
        return replace(token, version=version, status=status)

    async def read_workload(self, namespace: str, target: Target) -> Workload:
        """When a workload was created and restarted last.

        Raises:
            NotFoundError: There is no such workload.
        """
        return await self.api.call("GET", _workload_path(namespace, target), parse_workload)

    async def restart_workload(self, namespace: str, target: Target, seen: Workload, stamp: datetime) -> None:
        """Have a workload's Pods replaced, as `kubectl rollout restart` does, unless it has changed since.

        Args:
            namespace: Where it is.
            target: What is restarted.
            seen: The workload as it was seen.
            stamp: When it says from then on that it was restarted.

        Raises:
            ConflictError: It was changed, or replaced by a namesake.
        """
        body = {
            "metadata": {"uid": seen.uid, "resourceVersion": str(seen.version)},
            "spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: format_time(stamp)}}}},
        }
        self._time_left()
        path = _workload_path(namespace, target)
        await self.api.call("PATCH", path, bool, query=MANAGER, body=body, content_type=MERGE_PATCH, accept=METADATA)

    async def create_event(self, token: AssetToken, event: Event, now: datetime, instance: str) -> None:
        """Post an event about an AssetToken."""
        self._time_left()
        path = f"/apis/events.k8s.io/v1/namespaces/{token.key.namespace}/events"
        manifest = event_manifest(token, event, now, instance)
        await self.api.call("POST", path, bool, query=MANAGER, body=manifest, accept=METADATA)

    async def _version_of(self, path: str, selector: str | None = None) -> int:
        query = {"limit": "1"} | ({} if selector is None else {"labelSelector": selector})
        return await self.api.call("GET", path, _read_version, query=query, accept=METADATA_LIST)

    async def _list(
        self, path: str, read: Callable[[dict[str, Any]], T], selector: str | None = None
    ) -> AsyncGenerator[tuple[list[T], int], None]:
        """The metadata of objects, page by page, each with the version that the list has."""

        def read_page(answer: dict[str, Any]) -> tuple[list[T], int, str | None]:
            metadata = answer["metadata"]
            page = [read(item) for item in answer["items"] or ()]
            return page, int(metadata["resourceVersion"]), metadata.get("continue")

        query, limit = {} if selector is None else {"labelSelector": selector}, PAGE
        while True:
            query["limit"], largest = str(limit), LARGEST_PAGE if limit > 1 else None
            try:
                page, version, rest = await self.api.call(
                    "GET", path, read_page, query=query, accept=METADATA_LIST, largest=largest
                )
            except TooLargeError:
                if limit == 1:
                    raise
                limit //= 2
                continue
            yield page, version
            if not rest:
                return
            query["continue"], limit = rest, min(PAGE, limit * 2)


def _read_version(answer: dict[str, Any]) -> int:
    return int(answer["metadata"]["resourceVersion"])


def _read_version_of(answer: dict[str, Any]) -> tuple[Key, int]:
    metadata = answer["metadata"]
    return Key(metadata["namespace"], metadata["name"]), int(metadata["resourceVersion"])


def _as_seen(secret: SecretState) -> dict[str, str]:
    """What a write names, so that it is refused where something else stands there by then."""
    return {"uid": secret.uid, "resourceVersion": str(secret.version)}


def _asset_tokens_path(namespace: str) -> str:
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"/apis/{GROUP}/{VERSION}{within}/{PLURAL}"


def _secrets_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"


def _secret_path(key: Key) -> str:
    return f"{_secrets_path(key.namespace)}/{key.name}"


def _workload_path(namespace: str, target: Target) -> str:
    return f"/apis/apps/v1/namespaces/{namespace}/{target.kind.plural}/{target.name}"
