"""How to reach the API server, and as whom. The only importer of the kubernetes client, whose loaders read it.

What was read is settled once: a session that is made of it looks up no proxy and no password file for a call, which
would cost more than the call. Reading anew tells whether something else was found, such as a CA that was replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from kubernetes.aio import client, config

from asset_token_operator.causes import cause_of
from asset_token_operator.errors import KubeUnavailableError
from asset_token_operator.model import OPERATOR
from asset_token_operator.proxies import ProxyError, proxy_for, read_proxy
from asset_token_operator.tls import verify_as_kubectl

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_middlewares import ClientHandlerType

    from asset_token_operator.proxies import Proxy

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
LOAD_SECONDS: Final = 30.0
LONGEST_LINE: Final = 2**21
"""An event of a watch is one line."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server, and as whom.

    Attributes:
        server: Its URL, without a slash at the end.
        tls: What it is verified with, and our certificate where there is one.
        proxy: The proxy on the way, or None.
        fingerprint: Differs where anything but the bearer token is another.
    """

    server: str
    tls: ssl.SSLContext
    proxy: Proxy | None
    fingerprint: str
    _configuration: client.Configuration = field(repr=False)

    @property
    def host(self) -> str:
        """The server's name and port, as people are told of it."""
        return urlsplit(self.server).netloc.rpartition("@")[2]

    async def headers(self) -> dict[str, str]:
        """Who we are, for the next call; a service account's token, which is replaced in time, is read every minute.

        Raises:
            KubeUnavailableError: It can't be read.
        """
        headers = {"User-Agent": OPERATOR}
        try:
            settings = await self._configuration.auth_settings()
        except (config.ConfigException, OSError) as error:
            raise KubeUnavailableError(f"The service account's token can't be read: {cause_of(error)}.") from None
        authorization = settings.get("BearerToken", {}).get("value")
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
            headers=headers,
            middlewares=[self._complete] if self._server_name or self.proxy else [],
            proxy=None if self.proxy is None else self.proxy.url,
            read_bufsize=LONGEST_LINE,
            timeout=aiohttp.ClientTimeout(),
            trace_configs=traces,
            trust_env=False,
        )

    @property
    def _server_name(self) -> str | None:
        """Whose certificate the API server has, where it isn't its address': the kubeconfig's `tls-server-name`."""
        return self._configuration.tls_server_name or None

    async def _complete(self, request: aiohttp.ClientRequest, send: ClientHandlerType) -> aiohttp.ClientResponse:
        """What no session says for all requests: the server's name, which isn't the proxy's, and our login there."""
        request.server_hostname = self._server_name
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
    configuration = client.Configuration()
    failure = await _try_to_load(configuration)
    if failure is not None:
        raise KubeUnavailableError(f"No cluster to connect to: {failure}. Set KUBECONFIG.")
    try:
        fingerprint = _fingerprint(configuration)  # before it is used: what is replaced meanwhile is found next time
        tls = await asyncio.to_thread(_tls, configuration)
        server = configuration.host.rstrip("/")
        named = configuration.proxy
        proxy = read_proxy(str(named), "The kubeconfig's proxy-url") if named else proxy_for(server)
    except ProxyError as error:
        raise KubeUnavailableError(f"No cluster to connect to: {error}") from None
    except (OSError, ValueError) as error:
        raise KubeUnavailableError(
            f"No cluster to connect to: the API server's address or certificates in {_source()} can't be used:"
            f" {cause_of(error, 'they make no sense')}. Set KUBECONFIG."
        ) from None
    return Access(server, tls, proxy, fingerprint, configuration)


def own_namespace() -> str | None:
    """The Pod's namespace; None outside of a cluster."""
    if not _in_cluster():
        return None
    try:
        return NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


def context_namespace() -> str:
    """The namespace that the kubeconfig's present context names."""
    with contextlib.suppress(Exception):  # whatever the loader stumbles over: `load` has read it before
        _, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG") or None)
        return str(active["context"].get("namespace") or "default")
    return "default"


async def _try_to_load(configuration: client.Configuration) -> str | None:
    """Read it; what is wrong, if anything is. An error's text is not told on: it may hold a token."""
    try:
        if _in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = os.environ.get("KUBECONFIG") or None
            async with asyncio.timeout(LOAD_SECONDS):  # it may run a program that asks who we are
                await config.load_kube_config(config_file=file, client_configuration=configuration)
    except TimeoutError:
        return f"its login command in {_source()} took longer than {LOAD_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001 - the loader raises whatever it stumbles over
        return _what_is_wrong(error)
    return None


def _what_is_wrong(error: Exception) -> str:
    """Why it can't be loaded; that a file isn't there is the commonest reason, and the loader doesn't say so."""
    source = _source()
    if _in_cluster():
        return f"{source} can't be used; check that the Pod has one (automountServiceAccountToken)"
    if not any(path.exists() for path in _kubeconfigs()):
        return f"{source}: file not found"
    if isinstance(error, OSError):
        return f"{source} can't be read: {cause_of(error)}"
    return f"{source} can't be used; `kubectl config view` may show why"


def _source() -> str:
    """What is read, in words."""
    if _in_cluster():
        return f"the Pod's service account ({NAMESPACE_FILE.parent})"
    named = os.environ.get("KUBECONFIG")
    return f"KUBECONFIG={named}" if named else f"KUBECONFIG isn't set, and {_kubeconfigs()[0]}"


def _kubeconfigs() -> list[Path]:
    """Where kubeconfigs are read from, whether they are there or not."""
    named = os.environ.get("KUBECONFIG") or config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION
    return [Path(path).expanduser() for path in named.split(os.pathsep) if path]


def _in_cluster() -> bool:
    return not os.environ.get("KUBECONFIG") and "KUBERNETES_SERVICE_HOST" in os.environ


def _tls(configuration: client.Configuration) -> ssl.SSLContext:
    """What the API server is verified with, and a proxy that is spoken to by https, too, as kubectl does."""
    tls = verify_as_kubectl(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if configuration.ssl_ca_cert or configuration.ca_cert_data:
        tls.load_verify_locations(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    else:
        tls.load_default_certs()
    if configuration.cert_file:
        tls.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _fingerprint(configuration: client.Configuration) -> str:
    """A digest of all but the bearer token, which `headers` asks for each time."""
    settings = (configuration.host, configuration.proxy, configuration.verify_ssl, configuration.tls_server_name)
    found = hashlib.sha256(repr(settings).encode())
    found.update(repr(configuration.ca_cert_data).encode())
    for path in (configuration.ssl_ca_cert, configuration.cert_file, configuration.key_file):
        found.update(Path(path).read_bytes() if path else b"")
        found.update(b"\0")
    return found.hexdigest()


async def _refuse_redirect(*_: object) -> None:
    """What is sent to the API server may hold a Secret, so it goes nowhere else."""
    raise aiohttp.ClientError("redirected")
