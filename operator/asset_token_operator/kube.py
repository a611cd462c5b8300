"""The Kubernetes API, as far as the operator uses it. The only importer of the kubernetes client.

Objects go in and out as plain dicts over the client's own transport, which saves the models' cost (most of a call's
CPU) and lets a manifest be applied as it was decided. Each error of the client becomes one of ours here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import os
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
from kubernetes.aio import client, config
from pydantic import SecretStr

from asset_token_operator.errors import (
    CredentialsInvalidError,
    CredentialsNotFoundError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    SecretConflictError,
)
from asset_token_operator.model import GROUP, KIND, OPERATOR, PLURAL, VERSION, Credentials, Key, digest, parse_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from datetime import datetime

    from kubernetes.aio.client.rest import RESTResponse

    from asset_token_operator.model import AssetToken, CredentialsRef, SecretState
    from asset_token_operator.outcome import Event

TIMEOUT_SECONDS: Final = 15.0
CONNECTIONS: Final = 50
APPLY: Final = "application/apply-patch+yaml"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
CHUNK: Final = 50
"""Secrets a page: an annotation may hold a copy of the data, so a page can be large while it is read."""

SILENCE_SECONDS: Final = 90.0
"""A watch with bookmarks says something every minute, if it is alive."""

TRY_AGAIN: Final = frozenset({401, 408, 429})
"""Besides 5xx: "not now" rather than "never"."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the API server, for a client other than ours."""

    server: str
    ca_path: str | None
    verify: bool
    scheme: str | None
    token: str | None
    certificate_path: str | None
    key_path: str | None


class KubeClient:
    """The calls that the operator makes. Open it with `async with`."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        self._api = client.ApiClient(configuration)
        self._api.user_agent = OPERATOR

    @classmethod
    async def connect(cls) -> Self:
        """Use `KUBECONFIG` where it is set, else the Pod's service account, else the user's default kubeconfig.

        Raises:
            KubeUnavailableError: None of them can be used.
        """
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = CONNECTIONS
        try:
            if "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
                config.load_incluster_config(client_configuration=configuration)
            else:
                await config.load_kube_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise KubeUnavailableError(f"No cluster to connect to: {error}. Set KUBECONFIG.") from None
        return cls(configuration)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def connection(self) -> Connection:
        """How this client reaches the API server, with a fresh token."""
        settings = await self._configuration.auth_settings()
        scheme, _, token = (settings.get("BearerToken", {}).get("value") or "").partition(" ")
        return Connection(
            server=self._configuration.host,
            ca_path=self._configuration.ssl_ca_cert,
            verify=self._configuration.verify_ssl,
            scheme=scheme or None,
            token=token or None,
            certificate_path=self._configuration.cert_file,
            key_path=self._configuration.key_file,
        )

    async def require_crd(self) -> None:
        """Make sure that the cluster knows AssetTokens.

        Raises:
            KubeError: It doesn't, or it can't be reached.
        """
        with contextlib.suppress(NotFoundError):
            served = await self._call("GET", f"/apis/{GROUP}/{VERSION}")
            if any(resource["name"] == PLURAL for resource in served["resources"]):
                return
        raise KubeUnavailableError(f"The cluster has no {PLURAL}.{GROUP}/{VERSION}; install the CRD (crds/) first.")

    async def read_secret(self, key: Key) -> SecretState | None:
        """The Secret as it stands now; None where there is none."""
        try:
            return parse_secret(await self._call("GET", _secret_path(key)))
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
            page = await self._call("GET", path, query=query, accept=METADATA_LIST)
            versions |= {_key(item["metadata"]): item["metadata"]["resourceVersion"] for item in page["items"]}
            rest = page["metadata"].get("continue")
            if not rest:
                return versions, page["metadata"]["resourceVersion"]
            query = [("limit", str(CHUNK)), ("continue", rest)]

    async def watch_secret_versions(self, namespace: str, since: str) -> AsyncIterator[tuple[Key, str, bool]]:
        """Each Secret that is created, changed or deleted: its resource version, and whether it was deleted.

        Ends when the watch ends, fell silent or the API server has forgotten `since`.
        """
        path = _secrets_path(namespace)
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", since)]
        async for event in self._stream(path, query, accept=METADATA):
            metadata = event["object"].get("metadata", {})
            match event["type"]:
                case "ADDED" | "MODIFIED" | "DELETED" as kind:
                    yield _key(metadata), metadata["resourceVersion"], kind == "DELETED"
                case "ERROR":
                    return
                case _:
                    pass  # a bookmark

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
            return parse_secret(await self._apply(_secret_path(key), {**manifest, "metadata": metadata}))
        except KubeRefusedError as error:
            if "type" in error.fields:
                raise SecretConflictError(
                    f"Secret {key.name} exists and does not belong to this AssetToken, so it is left alone;"
                    " delete it or set another spec.secret.name."
                ) from None
            raise

    async def delete_secret(self, secret: SecretState) -> None:
        """Delete exactly that Secret; one that is gone already, or was replaced by another, is no error."""
        try:
            await self._call("DELETE", _secret_path(secret.key), body={"preconditions": {"uid": secret.uid}})
        except KubeRefusedError as error:
            if error.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise

    async def apply_status(self, token: AssetToken, status: Mapping[str, Any]) -> str:
        """Write an AssetToken's status, whole.

        Returns:
            The resource version that the AssetToken has with it.

        Raises:
            NotFoundError: The AssetToken is gone.
        """
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{token.key.namespace}/{PLURAL}/{token.key.name}/status"
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": {"namespace": token.key.namespace, "name": token.key.name, "uid": token.uid},
            "status": status,
        }
        version: str = (await self._apply(path, body))["metadata"]["resourceVersion"]
        return version

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
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": OPERATOR,
            "reportingInstance": instance[:128],
            "action": "Issue",
            "reason": event.reason,
            "note": event.message[:1024],
            "type": event.type,
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "namespace": token.key.namespace,
                "name": token.key.name,
                "uid": token.uid,
            },
        }
        await self._call("POST", f"/apis/events.k8s.io/v1/namespaces/{token.key.namespace}/events", body=body)

    async def _apply(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        query = [("fieldManager", OPERATOR), ("force", "true")]
        return await self._call("PATCH", path, query=query, body=body, content_type=APPLY)

    async def _call(  # noqa: PLR0913 - what a request consists of
        self,
        method: str,
        path: str,
        *,
        query: list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> dict[str, Any]:
        """Make a call; every failure leaves as a `KubeError`, none with a body's text."""
        what = f"{method} {path}"
        headers = {"Accept": accept, "Content-Type": content_type}
        with _as_kube_errors(what):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._send(method, path, query or [], headers, body)
                answer = _read_object(await response.read())
        return _checked(what, response.status, answer)

    async def _stream(self, path: str, query: list[tuple[str, str]], accept: str) -> AsyncIterator[dict[str, Any]]:
        """The events of a watch, until it ends or nothing comes for longer than the API server's bookmarks take."""
        what = f"watch {path}"
        with _as_kube_errors(what):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._send("GET", path, query, {"Accept": accept}, None)
                if response.status != HTTPStatus.OK:
                    _checked(what, response.status, _read_object(await response.read()))
            try:
                while line := await _read_line(response):
                    yield json.loads(line)
            finally:
                response.response.close()

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
    ) -> RESTResponse:
        request = await self._api.param_serialize(
            method,
            path,
            query_params=query,
            header_params=dict(headers),
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._api.call_api(*request, _request_timeout=aiohttp.ClientTimeout())


@contextlib.contextmanager
def _as_kube_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise KubeUnavailableError(f"{what}: no answer from the API server ({type(error).__name__}).") from None


def _checked(what: str, status: int, answer: dict[str, Any]) -> dict[str, Any]:
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN:
        raise KubeUnavailableError(f"{what}: the API server answered {status}.")
    raise _refusal(what, status, answer)


async def _read_line(response: RESTResponse) -> bytes:
    async with asyncio.timeout(SILENCE_SECONDS):
        line: bytes = await response.response.content.readline()
        return line


def _key(metadata: Mapping[str, Any]) -> Key:
    return Key(metadata["namespace"], metadata["name"])


def _secrets_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"


def _secret_path(key: Key) -> str:
    return f"{_secrets_path(key.namespace)}/{key.name}"


def _read_object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(what: str, status: int, answer: Mapping[str, Any]) -> KubeRefusedError:
    causes = (answer.get("details") or {}).get("causes") or ()
    fields = frozenset(cause["field"] for cause in causes if cause.get("field"))
    kind = NotFoundError if status == HTTPStatus.NOT_FOUND else KubeRefusedError
    blamed = f", because of {', '.join(sorted(fields))}" if fields else ""
    return kind(f"{what}: the API server refused with {status} {answer.get('reason', '')}{blamed}.", status, fields)


def _credential(secret: SecretState, name: str) -> SecretStr:
    where = f"Credentials Secret {secret.key.name}"
    if name not in secret.data:
        raise CredentialsInvalidError(f"{where} has no key {name}.")
    try:
        value = base64.b64decode(secret.data[name], validate=True).decode().rstrip("\r\n")
    except (binascii.Error, UnicodeDecodeError):
        raise CredentialsInvalidError(
            f"Key {name} of credentials Secret {secret.key.name} is not UTF-8 text."
        ) from None
    if not value:
        raise CredentialsInvalidError(f"Key {name} of credentials Secret {secret.key.name} is empty.")
    return SecretStr(value)
