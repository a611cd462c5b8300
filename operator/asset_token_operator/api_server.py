"""The API server over HTTP. The only importer of the kubernetes client, whose transport and credentials it uses.

Plain JSON goes in and out, which saves the cost of the client's models (most of a call's CPU). Each failure becomes one
of our errors here, in our own words: what the API server, a webhook or the kubeconfig's loader says may hold a Secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import aiohttp
from kubernetes.aio import client, config

from asset_token_operator.errors import KubeRefusedError, KubeUnavailableError, NotFoundError
from asset_token_operator.model import OPERATOR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from kubernetes.aio.client.rest import RESTResponse

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 15.0
CONNECTIONS: Final = 50
REASONS: Final = frozenset(
    {"AlreadyExists", "BadRequest", "Conflict", "Expired", "Forbidden", "Gone", "Invalid", "MethodNotAllowed"}
    | {"NotAcceptable", "NotFound", "RequestEntityTooLarge", "UnsupportedMediaType"}
)
"""The API server's own words (`metav1.StatusReason`)."""

FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]/ -]{1,200}")

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

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


class ApiServer:
    """Makes calls, and follows watches. Open it with `async with`."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._configuration = configuration
        self._client = client.ApiClient(configuration)
        self._client.user_agent = OPERATOR

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
        await self._client.close()

    def own_namespace(self) -> str | None:
        """The Pod's namespace; None outside of a cluster."""
        if not _in_cluster():
            return None
        try:
            return NAMESPACE_FILE.read_text().strip() or None
        except OSError:
            return None

    def context_namespace(self) -> str:
        """The namespace that the kubeconfig's present context names."""
        with contextlib.suppress(Exception):  # whatever the loader stumbles over: `connect` has read it before
            _, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG") or None)
            return str(active["context"].get("namespace") or "default")
        return "default"

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

    async def call(  # noqa: PLR0913 - what a request consists of
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

    async def stream(
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
                _cut(response)

    async def _send(
        self,
        method: str,
        path: str,
        query: list[tuple[str, str]],
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
    ) -> RESTResponse:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=query,
            header_params=dict(headers),
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*request, _request_timeout=aiohttp.ClientTimeout())


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
        if _in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(config_file=kubeconfig or None, client_configuration=configuration)
    except Exception as error:  # noqa: BLE001 - the loader raises whatever it stumbles over
        return type(error).__name__
    return None


def _in_cluster() -> bool:
    return not os.environ.get("KUBECONFIG") and "KUBERNETES_SERVICE_HOST" in os.environ


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


def _cut(response: RESTResponse) -> None:
    """End a watch's connection at once: closing it in order would go on in the background, after the loop's end too."""
    connection = response.response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.response.close()


async def _read_line(response: RESTResponse) -> bytes:
    async with asyncio.timeout(SILENCE_SECONDS):
        line: bytes = await response.response.content.readline()
        return line


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
