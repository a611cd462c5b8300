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
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

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
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from datetime import datetime

    from kubernetes.aio.client.rest import RESTResponse

    from asset_token_operator.model import AssetToken, CredentialsRef, SecretState
    from asset_token_operator.outcome import Event

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 15.0
CONNECTIONS: Final = 50
APPLY: Final = "application/apply-patch+yaml"
REASONS: Final = frozenset(
    {"AlreadyExists", "BadRequest", "Conflict", "Expired", "Forbidden", "Gone", "Invalid", "MethodNotAllowed"}
    | {"NotAcceptable", "NotFound", "RequestEntityTooLarge", "UnsupportedMediaType"}
)
"""The API server's own words (`metav1.StatusReason`)."""

FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]/ -]{1,200}")

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
    token: str | None = field(repr=False)
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
        no_redirects = aiohttp.TraceConfig()
        no_redirects.on_request_redirect.append(_refuse_redirect)
        configuration.trace_configs = [no_redirects]
        await _load(configuration)
        try:
            return cls(configuration)
        except (OSError, ValueError) as error:
            raise KubeUnavailableError(
                f"No cluster to connect to: its certificates can't be used ({type(error).__name__}). Set KUBECONFIG."
            ) from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()

    async def connection(self) -> Connection:
        """How this client reaches the API server, read anew, as tokens expire."""
        await _load(self._configuration)
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
            if await self._call("GET", f"/apis/{GROUP}/{VERSION}", _serves_asset_tokens):
                return
        raise KubeUnavailableError(f"The cluster has no {PLURAL}.{GROUP}/{VERSION}; install the CRD (crds/) first.")

    async def read_secret(self, key: Key) -> SecretState | None:
        """The Secret as it stands now; None where there is none."""
        try:
            return await self._call("GET", _secret_path(key), parse_secret)
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
            page, version, rest = await self._call("GET", path, _read_page, query=query, accept=METADATA_LIST)
            versions |= page
            if not rest:
                return versions, version
            query = [("limit", str(CHUNK)), ("continue", rest)]

    async def watch_secret_versions(self, namespace: str, since: str) -> AsyncIterator[tuple[Key, str, bool]]:
        """Each Secret that is created, changed or deleted: its resource version, and whether it was deleted.

        Ends when the watch ends, fell silent or the API server has forgotten `since`.
        """
        path = _secrets_path(namespace)
        query = [("watch", "true"), ("allowWatchBookmarks", "true"), ("resourceVersion", since)]
        async for event, changed in self._stream(path, _read_event, query, accept=METADATA):
            if event == "ERROR":
                return
            if event != "BOOKMARK":
                yield *changed, event == "DELETED"

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
                raise SecretConflictError(
                    f"Secret {key.name} exists and does not belong to this AssetToken, so it is left alone;"
                    " delete it or set another spec.secret.name."
                ) from None
            raise

    async def delete_secret(self, secret: SecretState) -> None:
        """Delete exactly that Secret; one that is gone already, or was replaced by another, is no error."""
        try:
            await self._call("DELETE", _secret_path(secret.key), bool, body={"preconditions": {"uid": secret.uid}})
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
            "eventTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
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
        await self._call("POST", f"/apis/events.k8s.io/v1/namespaces/{token.key.namespace}/events", bool, body=body)

    async def _apply(self, path: str, read: Callable[[dict[str, Any]], T], body: Mapping[str, Any]) -> T:
        query = [("fieldManager", OPERATOR), ("force", "true")]
        return await self._call("PATCH", path, read, query=query, body=body, content_type=APPLY)

    async def _call(  # noqa: PLR0913 - what a request consists of
        self,
        method: str,
        path: str,
        read: Callable[[dict[str, Any]], T],
        *,
        query: list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> T:
        """Make a call; every failure leaves as a `KubeError`, none with a body's text.

        Args:
            method: The HTTP method.
            path: The path.
            read: Makes of the answer what the caller wants of it.
            query: The query.
            body: The body, as plain JSON.
            content_type: The body's type.
            accept: The answer's.
        """
        what = f"{method} {path}"
        headers = {"Accept": accept, "Content-Type": content_type}
        with _as_kube_errors(what):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._send(method, path, query or [], headers, body)
                if response.status == HTTPStatus.UNAUTHORIZED:
                    await _load(self._configuration)  # credentials that expire are issued anew
                    response = await self._send(method, path, query or [], headers, body)
                answer = _read_object(await response.read())
            _check(what, response.status, answer)
            return read(answer)

    async def _stream(
        self, path: str, read: Callable[[dict[str, Any]], T], query: list[tuple[str, str]], accept: str
    ) -> AsyncIterator[T]:
        """The events of a watch, until it ends or nothing comes for longer than the API server's bookmarks take."""
        what = f"watch {path}"
        with _as_kube_errors(what):
            async with asyncio.timeout(TIMEOUT_SECONDS):
                response = await self._send("GET", path, query, {"Accept": accept}, None)
                if response.status != HTTPStatus.OK:
                    _check(what, response.status, _read_object(await response.read()))
            try:
                while line := await _read_line(response):
                    yield read(_read_object(line))
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


async def _load(configuration: client.Configuration) -> None:
    """Read how to reach the cluster, and as whom.

    Raises:
        KubeUnavailableError: It can't be read.
    """
    kubeconfig = os.environ.get("KUBECONFIG")
    failure = await _try_to_load(configuration, kubeconfig)
    if failure is not None:
        where = f"KUBECONFIG ({kubeconfig})" if kubeconfig else "the default kubeconfig"
        raise KubeUnavailableError(f"No cluster to connect to: {where} can't be used ({failure}). Set KUBECONFIG.")


async def _try_to_load(configuration: client.Configuration, kubeconfig: str | None) -> str | None:
    """Read it; the name of the error, if there is one. Its text is not told on: it may hold a token."""
    try:
        if not kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(config_file=kubeconfig or None, client_configuration=configuration)
    except Exception as error:  # noqa: BLE001 - the loader raises whatever it stumbles over
        return type(error).__name__
    return None


async def _refuse_redirect(*_: object) -> None:
    """What is sent to the API server may hold a Secret, so it goes nowhere else."""
    raise aiohttp.ClientError("redirected")


@contextlib.contextmanager
def _as_kube_errors(what: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise KubeUnavailableError(f"{what}: no answer from the API server ({type(error).__name__}).") from None
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
        raise KubeUnavailableError(f"{what}: the API server's answer makes no sense.") from None


def _check(what: str, status: int, answer: dict[str, Any]) -> None:
    """Raise what a status other than 2xx means."""
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN:
        raise KubeUnavailableError(f"{what}: the API server answered {status}.")
    raise _refusal(what, status, answer)


def _key(metadata: Mapping[str, Any]) -> Key:
    return Key(metadata["namespace"], metadata["name"])


def _serves_asset_tokens(answer: dict[str, Any]) -> bool:
    return any(resource["name"] == PLURAL for resource in answer["resources"])


def _read_version(answer: dict[str, Any]) -> int:
    return int(answer["metadata"]["resourceVersion"])


def _read_page(answer: dict[str, Any]) -> tuple[dict[Key, str], str, str | None]:
    """The versions on a page of a list, the list's own, and where it goes on."""
    items = (item["metadata"] for item in answer["items"] or ())
    versions = {_key(metadata): str(int(metadata["resourceVersion"])) for metadata in items}
    return versions, str(int(answer["metadata"]["resourceVersion"])), answer["metadata"].get("continue")


def _read_event(event: dict[str, Any]) -> tuple[str, tuple[Key, str]]:
    """A watch's event: what happened, and to which version of what."""
    if event["type"] in ("ERROR", "BOOKMARK"):
        return event["type"], (Key("", ""), "")
    metadata = event["object"]["metadata"]
    return event["type"], (_key(metadata), str(int(metadata["resourceVersion"])))


async def _read_line(response: RESTResponse) -> bytes:
    async with asyncio.timeout(SILENCE_SECONDS):
        line: bytes = await response.response.content.readline()
        return line


def _secrets_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"


def _secret_path(key: Key) -> str:
    return f"{_secrets_path(key.namespace)}/{key.name}"


def _read_object(body: bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else, which then makes no sense to whoever reads it."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(what: str, status: int, answer: Mapping[str, Any]) -> KubeRefusedError:
    """The error that a refusal means. Of its body only known words and fields are told: a webhook writes there too."""
    reason = answer.get("reason") if answer.get("reason") in REASONS else ""
    fields = frozenset(_blamed_fields(answer.get("details")))
    kind = NotFoundError if status == HTTPStatus.NOT_FOUND else KubeRefusedError
    blamed = f", because of {', '.join(sorted(fields))}" if fields else ""
    return kind(f"{what}: the API server refused with {status} {reason}{blamed}.", status, fields)


def _blamed_fields(details: object) -> Iterator[str]:
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        field_name = cause.get("field") if isinstance(cause, dict) else None
        if isinstance(field_name, str) and FIELD.fullmatch(field_name):
            yield field_name


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
