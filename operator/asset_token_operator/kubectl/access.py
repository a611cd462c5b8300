"""How to reach the API server, and as whom: reads kubeconfigs as kubectl does.

The Kubernetes client has a loader, too, but importing it takes longer than all that this tool does.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from asset_token_operator.kubectl.config_files import listed, merge, paths_of, read
from asset_token_operator.kubectl.problems import Problem, cause
from asset_token_operator.proxies import ProxyError, proxy_for, read_proxy
from asset_token_operator.tls import verify_as_kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asset_token_operator.proxies import Proxy

LOGIN_SECONDS: Final = 60
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the API server, and as whom.

    Attributes:
        server: Its URL, without a slash at the end.
        tls: What it is verified with; None for plain http.
        proxy: The proxy on the way, or None.
        server_name: Whose certificate it has, where that isn't its address'.
        namespace: The context's.
        headers: Who we are.
    """

    server: str
    tls: ssl.SSLContext | None
    proxy: Proxy | None
    server_name: str | None
    namespace: str
    headers: Mapping[str, str] = field(repr=False)


def load(kubeconfig: str | None, context: str | None) -> Access:
    """Read the kubeconfig: the one given, else those of `KUBECONFIG`, else the user's; in a Pod without one its own.

    Raises:
        Problem: None of them can be used.
    """
    paths = paths_of(kubeconfig)
    found = [path for path in paths if path.is_file()]
    if not found:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            return _in_cluster()
        raise Problem(f"There is no kubeconfig at {listed(paths)}: set KUBECONFIG or --kubeconfig.")
    config = merge(read(path) for path in found)
    name = context or config.current
    if not name:
        raise Problem("The kubeconfig has no current context: choose one with --context or kubectl config use-context.")
    chosen = config.contexts.get(name)
    if chosen is None:
        known = listed(sorted(config.contexts)) or "none"
        raise Problem(f"The kubeconfig has no context {name!r}: choose one of these with --context: {known}.")
    cluster = config.clusters.get(str(chosen.get("cluster")))
    if cluster is None or not isinstance(cluster.get("server"), str):
        raise Problem(f"The context {name!r} names no cluster with a server: correct it in the kubeconfig.")
    user = config.users.get(str(chosen.get("user")), {})
    namespace = chosen.get("namespace")
    return _access(cluster, user, namespace if isinstance(namespace, str) and namespace else "default")


def _in_cluster() -> Access:
    """As the Pod's service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    cluster = {"server": server, "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt")}
    try:
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip() or "default"
    except OSError:
        namespace = "default"
    return _access(cluster, {"tokenFile": str(SERVICE_ACCOUNT / "token")}, namespace)


def _access(cluster: Mapping[str, Any], user: Mapping[str, Any], namespace: str) -> Access:
    server = cluster["server"].rstrip("/")
    try:
        scheme = _scheme(server)
        headers, certificate = _who(user, cluster)
        named = cluster.get("proxy-url")
        proxy = read_proxy(str(named), "The kubeconfig's proxy-url") if named else proxy_for(server)
        tls = _tls(cluster, certificate) if scheme == "https" else None
    except ProxyError as error:
        raise Problem(f"The API server can't be reached: {error}") from None
    except (OSError, ValueError, TypeError) as error:
        why = cause(error, "they make no sense")
        raise Problem(f"The kubeconfig's address or certificates can't be used ({why}): correct them.") from None
    if proxy is not None and not proxy.url.startswith("http://"):
        raise Problem("A proxy that is spoken to by https is not supported here: name one by http://.")
    if any("\n" in value or "\r" in value or not value.isascii() for value in headers.values()):
        raise Problem("The kubeconfig's token or password has characters that none has: log in anew.")
    return Access(server, tls, proxy, cluster.get("tls-server-name") or None, namespace, headers)


def _scheme(server: str) -> str:
    """The scheme of the API server's URL.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(server)
    odd = not server.isascii() or any(character.isspace() for character in server)
    if odd or parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("not the URL of a server")
    return parts.scheme


@dataclass(frozen=True, slots=True)
class Certificate:
    """A client certificate with its key, as files or as PEM."""

    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)


def _who(user: Mapping[str, Any], cluster: Mapping[str, Any]) -> tuple[dict[str, str], Certificate | None]:
    """Our headers, and our certificate where there is one."""
    certificate, key = _blob(user, "client-certificate"), _blob(user, "client-key")
    headers: dict[str, str] = {}
    token = user.get("token")
    if user.get("tokenFile"):
        token = Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    if isinstance(user.get("exec"), dict):
        said = _ask(user["exec"], cluster)
        token = said.get("token") or token
        if said.get("clientCertificateData") and said.get("clientKeyData"):
            certificate, key = said["clientCertificateData"].encode(), said["clientKeyData"].encode()
    elif "auth-provider" in user:
        raise Problem("The kubeconfig logs in by an auth-provider, which kubectl dropped in 1.26: use an exec plugin.")
    if token:
        headers["Authorization"] = f"Bearer {token}"
    elif user.get("username"):
        login = f"{user['username']}:{user.get('password', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    if user.get("as-groups") or user.get("as-user-extra"):
        raise Problem("The kubeconfig's as-groups and as-user-extra are not supported here: remove them.")
    if user.get("as"):
        headers["Impersonate-User"] = str(user["as"])
    return headers, Certificate(certificate, key) if certificate and key else None


def _blob(settings: Mapping[str, Any], name: str) -> bytes | None:
    """What stands there in base64, else in the file that it names."""
    if settings.get(f"{name}-data"):
        return base64.b64decode(settings[f"{name}-data"], validate=True)
    return Path(settings[name]).read_bytes() if settings.get(name) else None


def _ask(plugin: Mapping[str, Any], cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run the program that says who we are (`client.authentication.k8s.io`)."""
    command = str(plugin.get("command") or "")
    given = plugin.get("env")
    variables = {str(entry["name"]): str(entry["value"]) for entry in given or () if isinstance(entry, dict)}
    version = str(plugin.get("apiVersion") or "client.authentication.k8s.io/v1")
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    if plugin.get("provideClusterInfo"):
        shown = {"server": cluster["server"], "certificate-authority-data": cluster.get("certificate-authority-data")}
        info["spec"] = {"interactive": False, "cluster": shown}
    environment = os.environ | variables | {"KUBERNETES_EXEC_INFO": json.dumps(info)}
    arguments = [str(argument) for argument in plugin.get("args") or ()]
    hint = f" {plugin['installHint']}" if isinstance(plugin.get("installHint"), str) else ""
    try:
        done = subprocess.run(  # noqa: S603 - the kubeconfig's own program, as kubectl runs it
            [command, *arguments], env=environment, stdout=subprocess.PIPE, timeout=LOGIN_SECONDS, check=True
        )
        status = json.loads(done.stdout)["status"]
        return {str(name): value for name, value in status.items() if isinstance(value, str)}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = cause(error, "its answer makes no sense")
        raise Problem(
            f"The kubeconfig's login program {command!r} gave no credentials ({why}):"
            f" run kubectl get namespaces to see what it says.{hint}"
        ) from None


def _tls(cluster: Mapping[str, Any], certificate: Certificate | None) -> ssl.SSLContext:
    tls = verify_as_kubectl(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    authority = _blob(cluster, "certificate-authority")
    if cluster.get("insecure-skip-tls-verify") is True:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    elif authority:
        tls.load_verify_locations(cadata=authority.decode("ascii"))
    else:
        tls.load_default_certs()
    if certificate is not None:
        with _as_file(certificate.certificate) as path, _as_file(certificate.key) as key:
            tls.load_cert_chain(path, key, password=lambda: b"")  # none is asked for at the terminal
    return tls


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path for OpenSSL, which reads keys from files only: in memory where the system can, else a private file."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kubectl-asset_token")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name
