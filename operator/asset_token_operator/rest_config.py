"""What a kubeconfig's context comes to, as client-go has it (`rest.Config`): where the API server is, and as whom.

It is made in the same way for the operator and its kubectl plugin, each of which runs the login program in its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self
from urllib.parse import quote, urlsplit

from asset_token_operator.kubeconfig_files import KubeconfigError
from asset_token_operator.proxies import proxy_for, read_proxy
from asset_token_operator.tls import verify_as_kubectl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asset_token_operator.kubeconfig_files import Context
    from asset_token_operator.proxies import Proxy

AUTHENTICATION: Final = "client.authentication.k8s.io"
NOT_ESCAPED: Final = "!#$&'*+^`|"
"""Besides what no URL escapes: what client-go leaves in a header's name."""


@dataclass(frozen=True, slots=True)
class RestConfig:
    """How to reach the API server, and as whom.

    Attributes:
        server: Its URL, without a slash at the end.
        server_name: Whose certificate it has, where it isn't its address': the kubeconfig's `tls-server-name`.
        tls: What it is verified with, and our certificate where there is one.
        proxy: The proxy on the way, or None.
        namespace: The context's.
        authorization: The header that says who we are, if one does.
        impersonation: Headers that say as whom we act; there may be several of a name.
        fingerprint: Differs where anything but the authorization is another.
    """

    server: str
    server_name: str | None
    tls: ssl.SSLContext
    proxy: Proxy | None
    namespace: str
    authorization: str | None = field(repr=False)
    impersonation: tuple[tuple[str, str], ...]
    fingerprint: str

    @classmethod
    def of(cls, context: Context, issued: Mapping[str, str]) -> Self:
        """What a context says.

        Args:
            context: The context.
            issued: What its login program gave, if it has one.

        Raises:
            KubeconfigError: It can't be used.
            ProxyError: The proxy can't.
            OSError: A file can't be read, or a certificate can't be used.
            ValueError, TypeError, AttributeError: What it says makes no sense.
        """
        cluster, user = context.cluster, context.user
        server, named = _server(cluster), cluster.get("proxy-url")
        proxy = read_proxy(str(named), "The kubeconfig's proxy-url") if named else proxy_for(server)
        authority = _content(cluster, "certificate-authority")
        verified = cluster.get("insecure-skip-tls-verify") is not True
        certificate, key = _certificate(user, issued)
        authorization, impersonation = _authorization(user, issued), _impersonation(user)
        for value in (authorization or "", *(value for _, value in impersonation)):
            if not value.isascii() or "\n" in value or "\r" in value:
                raise KubeconfigError(
                    "The kubeconfig's token, password or impersonated user has characters that none has: log in anew."
                )
        server_name = cluster.get("tls-server-name") or None
        said = repr((server, server_name, named, verified, impersonation, authority, certificate, key))
        return cls(
            server=server,
            server_name=server_name,
            tls=_tls(authority if verified else b"", certificate, key, verified=verified),
            proxy=proxy,
            namespace=context.namespace,
            authorization=authorization,
            impersonation=impersonation,
            fingerprint=hashlib.sha256(said.encode()).hexdigest(),
        )


@dataclass(frozen=True, slots=True)
class LoginProgram:
    """A program that says who we are (`client.authentication.k8s.io`).

    Attributes:
        arguments: What is run.
        environment: Its variables.
        hint: What whoever wrote the kubeconfig says to those who lack it.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    hint: str

    @classmethod
    def of(cls, context: Context) -> Self | None:
        """The one that a context's user names; None where there is none.

        Raises:
            OSError: The cluster's CA, which it is told, can't be read.
            ValueError, TypeError, AttributeError: What is said of it makes no sense.
        """
        plugin = context.user.get("exec")
        if not plugin:
            return None
        spec: dict[str, Any] = {"interactive": False}
        if plugin.get("provideClusterInfo"):
            spec["cluster"] = _shown(context.cluster)
        version = str(plugin.get("apiVersion") or f"{AUTHENTICATION}/v1")
        info = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
        variables = {str(entry["name"]): str(entry["value"]) for entry in plugin.get("env") or ()}
        return cls(
            (str(plugin.get("command") or ""), *(str(argument) for argument in plugin.get("args") or ())),
            os.environ | variables | {"KUBERNETES_EXEC_INFO": info},
            str(plugin.get("installHint") or ""),
        )

    def issued(self, exit_code: int | None, output: bytes) -> Mapping[str, str]:
        """What it gave: a token, a certificate with its key, or both.

        Raises:
            KubeconfigError: It gave neither.
        """
        if exit_code:
            raise self.failure(f"it failed with exit code {exit_code}")
        try:
            status = json.loads(output)["status"]
            issued = {name: value for name, value in status.items() if isinstance(value, str) and value}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise self.failure("its answer makes no sense") from None
        if "token" not in issued and not {"clientCertificateData", "clientKeyData"} <= issued.keys():
            raise self.failure("its answer has neither a token nor a certificate with its key")
        return issued

    def failure(self, why: str) -> KubeconfigError:
        """That it gave nothing; what it says itself isn't told, as it may be a secret."""
        return KubeconfigError(
            f"The kubeconfig's login program {self.arguments[0]!r} gave no credentials ({why}):"
            f" run kubectl get namespaces to see what it says. {self.hint}".rstrip()
        )


def _server(cluster: Mapping[str, Any]) -> str:
    """The API server's URL.

    Raises:
        ValueError: It is none.
    """
    server = str(cluster["server"]).rstrip("/")
    parts = urlsplit(server)
    odd = not server.isascii() or any(character.isspace() for character in server)
    if odd or parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError("not the URL of a server")
    return server


def _shown(cluster: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a login program is told of the cluster, where the kubeconfig wants it so."""
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
    shown = {name: cluster[name] for name in names if cluster.get(name)}
    if authority := _content(cluster, "certificate-authority"):
        shown["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in cluster.get("extensions") or ():
        if extension["name"] == f"{AUTHENTICATION}/exec":
            shown["config"] = extension["extension"]
    return shown


def _authorization(user: Mapping[str, Any], issued: Mapping[str, str]) -> str | None:
    """The header that says who we are. As with client-go a login program's token is the last that counts."""
    if token := _token(user):
        return f"Bearer {token}"
    if user.get("username"):
        login = f"{user['username']}:{user.get('password') or ''}"
        return f"Basic {base64.b64encode(login.encode()).decode()}"
    return f"Bearer {issued['token']}" if "token" in issued else None


def _token(user: Mapping[str, Any]) -> str | None:
    """The user's own token; that of a file, which may be replaced in time, is the one that counts."""
    token: str | None = user.get("token") or None
    if not user.get("tokenFile"):
        return token
    try:
        token = Path(user["tokenFile"]).read_text(encoding="utf-8").strip() or token
    except OSError:
        if token is None:
            raise
    if token is None:  # it is being written, for instance; without it we would be somebody else
        raise KubeconfigError("The kubeconfig's tokenFile is empty: log in anew.")
    return token


def _impersonation(user: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Headers that say as whom we act: with that one's rights, and not our own."""
    named = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    named += [("Impersonate-Group", group) for group in user.get("as-groups") or ()]
    for key, values in (user.get("as-user-extra") or {}).items():
        named += [(f"Impersonate-Extra-{quote(str(key), safe=NOT_ESCAPED)}", value) for value in values]
    headers = tuple((name, str(value)) for name, value in named if value)
    if headers and not user.get("as"):
        raise KubeconfigError("The kubeconfig impersonates groups or a uid, but no user: add `as` to its user.")
    return headers


def _certificate(user: Mapping[str, Any], issued: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Our certificate with its key; both are empty where there is none."""
    certificate, key = _content(user, "client-certificate"), _content(user, "client-key")
    if certificate and not key:
        raise KubeconfigError("The kubeconfig's client certificate has no key: add client-key to it, or log in anew.")
    if certificate:
        return certificate, key
    return issued.get("clientCertificateData", "").encode(), issued.get("clientKeyData", "").encode()


def _content(settings: Mapping[str, Any], name: str) -> bytes:
    """What stands there in base64, else in the file that it names; nothing where neither does."""
    if settings.get(f"{name}-data"):
        return base64.b64decode(settings[f"{name}-data"], validate=True)
    if not settings.get(name):
        return b""
    content = Path(settings[name]).read_bytes()
    if not content:  # it is being written, for instance; without it we would trust others, or be somebody else
        raise KubeconfigError(f"The kubeconfig's {name} is an empty file: correct it.")
    return content


def _tls(authority: bytes, certificate: bytes, key: bytes, *, verified: bool) -> ssl.SSLContext:
    """What the API server is verified with, and a proxy that is spoken to by https, too, as kubectl does."""
    tls = verify_as_kubectl(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    if not verified:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    elif authority:
        tls.load_verify_locations(cadata=authority.decode("ascii", "ignore"))  # comments may be in any language
    else:
        tls.load_default_certs()
    if certificate and key:
        with _as_file(certificate) as path, _as_file(key) as key_path:
            tls.load_cert_chain(path, key_path, password=_refuse_passphrase)
    return tls


def _refuse_passphrase() -> NoReturn:
    """Instead of being asked at the terminal by OpenSSL, for as long as nobody answers."""
    raise KubeconfigError(
        "The kubeconfig's client key has a passphrase, and nobody is asked for it: use a key without one."
    )


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """A path for OpenSSL, which reads keys from files only: in memory where the system can, else a private file."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kubeconfig")
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
