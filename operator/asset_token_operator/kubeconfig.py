"""How to reach the API server, and as whom. The only importer of the kubernetes client.

It reads a Pod's service account, and asks for the token of an auth-provider; kubeconfigs are read as kubectl reads them
(`kubeconfig_files.py`). What was read is settled once: a session that is made of it looks up no proxy and no password
file for a call, which would cost more than the call. Reading anew tells whether something else was found, such as a CA
that was replaced, and never leads to another context than the one that this process began with: as with client-go,
`kubectl config use-context` is for whoever is started next.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio import client, config

from asset_token_operator.causes import cause_of
from asset_token_operator.errors import KubeUnavailableError
from asset_token_operator.kubeconfig_files import Context, KubeconfigError, paths_of, read
from asset_token_operator.model import OPERATOR
from asset_token_operator.proxies import ProxyError
from asset_token_operator.rest_config import LoginProgram, RestConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_middlewares import ClientHandlerType

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LOAD_SECONDS: Final = 30.0
LONGEST_LINE: Final = 2**21
"""An event of a watch is one line."""

_contexts: Final[dict[str | None, str]] = {}
"""The context that was the present one when this process read its kubeconfig first, by `KUBECONFIG`."""


@dataclass(frozen=True, slots=True)
class Access(RestConfig):
    """How to reach the API server, and as whom."""

    _configuration: client.Configuration | None = field(default=None, repr=False)
    """The service account's, in a Pod."""

    @property
    def host(self) -> str:
        """The server's name and port, as people are told of it."""
        return urlsplit(self.server).netloc.rpartition("@")[2]

    async def headers(self) -> dict[str, str]:
        """Who we are, for the next call; a service account's token, which is replaced in time, is read every minute.

        Raises:
            KubeUnavailableError: It can't be read.
        """
        authorization = self.authorization
        if self._configuration is not None:
            try:
                settings = await self._configuration.auth_settings()
            except (config.ConfigException, OSError) as error:
                raise KubeUnavailableError(f"The service account's token can't be read: {cause_of(error)}.") from None
            authorization = settings.get("BearerToken", {}).get("value")
        headers = {"User-Agent": OPERATOR}
        return headers | {"Authorization": authorization} if authorization else headers

    def session(
        self,
        connections: int,
        headers: Mapping[str, str] | None = None,
        trace: Callable[[aiohttp.TraceConfig], None] | None = None,
    ) -> aiohttp.ClientSession:
        """A session to the API server, to be closed by whoever asked for it, and who must not follow redirects.

        Args:
            connections: How many there may be at once; 0 for any number.
            headers: What each request has besides its own.
            trace: Gets the session's tracing, to add to it; such a session refuses redirects by itself.
        """
        traces = []
        if trace is not None:  # without one a call costs less
            traces.append(aiohttp.TraceConfig())
            traces[0].on_request_redirect.append(_refuse_redirect)
            trace(traces[0])
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=self.tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=[*self.impersonation, *(headers or {}).items()],
            middlewares=[self._complete] if self.server_name or self.proxy else [],
            proxy=None if self.proxy is None else self.proxy.url,
            read_bufsize=LONGEST_LINE,
            timeout=aiohttp.ClientTimeout(),
            trace_configs=traces,
            trust_env=False,
        )

    async def _complete(self, request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        """What no session says for all requests: the server's name, which isn't the proxy's, and our login there."""
        request.server_hostname = self.server_name
        if self.proxy is not None and self.proxy.authorization is not None:
            login = {"Proxy-Authorization": self.proxy.authorization}
            if request.is_ssl():
                request.update_proxy(request.proxy, None, login)
            else:
                request.headers.update(login)
        return await send(request)


async def load() -> Access:
    """Use `KUBECONFIG` where it is set, else the Pod's service account, else the user's default kubeconfig.

    Raises:
        KubeUnavailableError: None of them can be used.
    """
    try:
        if _in_cluster():
            return await _of_service_account()
        context = _context()
        issued = await _log_in(context)
        return await asyncio.to_thread(Access.of, context, issued)
    except (KubeconfigError, ProxyError) as error:
        raise KubeUnavailableError(f"No cluster to connect to: {error}") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise KubeUnavailableError(
            f"No cluster to connect to: the API server's address or certificates in {_source()} can't be used:"
            f" {cause_of(error, 'they make no sense')}. Set KUBECONFIG."
        ) from None


def own_namespace() -> str | None:
    """The Pod's namespace; None outside of a cluster."""
    if not _in_cluster():
        return None
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def context_namespace() -> str:
    """The namespace that the kubeconfig's context names."""
    try:
        return _context().namespace
    except (KubeconfigError, OSError):  # `load` says so
        return "default"


def _context() -> Context:
    """The context that this process began with, as the kubeconfig has it now."""
    paths, source = paths_of(), os.environ.get("KUBECONFIG")
    if not any(path.exists() for path in paths):
        raise KubeconfigError(f"{_source()}: file not found. Set KUBECONFIG.")
    context = read(paths).choose(_contexts.get(source), "kubectl config use-context")
    _contexts.setdefault(source, context.name)
    return context


async def _of_service_account() -> Access:
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError):
        raise KubeconfigError(
            f"{_source()} can't be used; check that the Pod has one (automountServiceAccountToken). Set KUBECONFIG."
        ) from None
    cluster = {"server": configuration.host, "certificate-authority": configuration.ssl_ca_cert}
    access = await asyncio.to_thread(Access.of, Context("in-cluster", cluster, {}, "default"), {})
    return replace(access, _configuration=configuration)


async def _log_in(context: Context) -> Mapping[str, str]:
    """What a program or a service issues to us for a while; nothing where none is asked."""
    if program := LoginProgram.of(context):
        return await _run(program)
    if context.user.get("auth-provider") is None:
        return {}
    configuration = client.Configuration()
    try:
        async with asyncio.timeout(LOAD_SECONDS):
            await config.load_kube_config(os.pathsep.join(map(str, paths_of())), context.name, configuration)
        return {"token": configuration.api_key["BearerToken"].removeprefix("Bearer ")}
    except Exception:  # noqa: BLE001 - whatever the loader stumbles over; its text may hold a token
        raise KubeconfigError("The kubeconfig's auth-provider issued no token: log in anew with kubectl.") from None


async def _run(program: LoginProgram) -> Mapping[str, str]:
    """Let a login program issue something, in time; with what it began it ends when nobody waits for it any more."""
    try:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - asyncio's leaves it behind if it is cancelled while it begins
            program.arguments,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it may say a secret
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise program.failure(cause_of(error)) from None
    reading = asyncio.get_running_loop().run_in_executor(None, partial(process.communicate, timeout=LOAD_SECONDS))
    try:
        output, _ = await asyncio.shield(reading)  # which reads to the end, and closes the pipe, also without us
    except subprocess.TimeoutExpired:
        with process.stdout or nullcontext():
            raise program.failure(f"it took longer than {LOAD_SECONDS:.0f} s") from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return program.issued(process.returncode, output)


def _source() -> str:
    """What is read, in words."""
    if _in_cluster():
        return f"the Pod's service account ({NAMESPACE_FILE.parent})"
    named = os.environ.get("KUBECONFIG")
    return f"KUBECONFIG={named}" if named else f"KUBECONFIG isn't set, and {paths_of()[0]}"


def _in_cluster() -> bool:
    return not os.environ.get("KUBECONFIG") and "KUBERNETES_SERVICE_HOST" in os.environ


async def _refuse_redirect(*_: object) -> None:
    """What is sent to the API server may hold a Secret, so it goes nowhere else."""
    raise aiohttp.ClientError("redirected")
