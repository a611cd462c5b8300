"""Asks the API server: the tool's only adapter to it.

What it answers is told in our own words, since only they say what to do; a missing right is named.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote, urlencode, urlsplit

from asset_token_operator.kubectl.problems import ConflictProblem, ForbiddenProblem, NotFoundProblem, Problem, cause
from asset_token_operator.kubectl.words import clean
from asset_token_operator.model import GROUP, KIND, PLURAL, VERSION
from asset_token_operator.proxies import PORTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.rest_config import RestConfig

Json: TypeAlias = dict[str, Any]

ANSWER_SECONDS: Final = 20
PAGE: Final = 2000
USER_AGENT: Final = "kubectl-asset_token"
LONGEST_MESSAGE: Final = 600
UNSAID: Final = "try again, or ask who runs it."
HIDDEN: Final = re.compile(r"eyJ[A-Za-z0-9._~+/=-]*|[\x00-\x1f\x7f-\x9f]")
"""What no message of the API server's may bring into the terminal: a JWT, and control characters."""


LACKS_RIGHT: Final = re.compile(r" cannot \w+ (resource|path) ")
"""How the API server says that it is the right that is missing; whoever else forbids something says why."""

STEERS: Final = re.compile(rb"\\u00(?:[01]|7[fF]|[89])|\xc2[\x80-\x9f]|\x7f")
"""Where JSON may have characters that would steer the terminal; a look costs less than to clean all."""


class Cluster:
    """The API server, with the user's own rights.

    Attributes:
        date: What its clock said in its latest answer (RFC 9110), or None.
        namespace: The context's.
        server: Its URL.
    """

    def __init__(self, access: RestConfig) -> None:
        self._access = access
        self._connection: http.client.HTTPConnection | None = None
        self.date: str | None = None
        self.namespace = access.namespace
        self.server = access.server

    def get(self, path: str) -> Json:
        """Get an object, or whatever there is at a path."""
        return self._json("GET", path)

    def text(self, path: str) -> str:
        """Get what isn't JSON."""
        return self._call("GET", path).decode(errors="replace")

    def all(self, path: str, selector: str | None = None, fields: str | None = None) -> list[Json]:
        """All objects of a list."""
        found: list[Json] = []
        query = {"limit": str(PAGE), "labelSelector": selector, "fieldSelector": fields, "continue": None}
        while True:
            given = {name: value for name, value in query.items() if value}
            answer = self._json("GET", f"{path}?{urlencode(given)}")
            found += parts(answer, "items")
            query["continue"] = metadata(answer).get("continue")
            if not query["continue"]:
                return found

    def patch(self, path: str, body: Json) -> Json:
        """Change an object by a merge patch."""
        return self._json("PATCH", path, body, "application/merge-patch+json")

    def create(self, path: str, body: Json) -> Json:
        """Create an object."""
        return self._json("POST", path, body)

    def delete(self, path: str, options: Json) -> Json:
        """Delete an object."""
        return self._json("DELETE", path, options)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _json(self, method: str, path: str, body: Json | None = None, content: str = "application/json") -> Json:
        answer = self._call(method, path, body, content)
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise Problem(f"{self.server} answers, but not as an API server: check the kubeconfig's server.")
        return clean(found) if STEERS.search(answer) else found

    def _call(self, method: str, path: str, body: Json | None = None, content: str = "application/json") -> bytes:
        headers = [("User-Agent", USER_AGENT), ("Accept", "application/json, */*;q=0.1"), *self._access.impersonation]
        if self._access.authorization is not None:
            headers.append(("Authorization", self._access.authorization))
        sent = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        if sent is not None:
            headers += [("Content-Type", content), ("Content-Length", str(len(sent)))]
        again = self._connection is not None  # one that was kept may have been closed meanwhile
        while True:
            try:
                connection = self._connected()
                connection.putrequest(method, urlsplit(self.server).path + path)
                for header in headers:
                    connection.putheader(*header)
                connection.endheaders(sent)
                response = connection.getresponse()
                answer = response.read()
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.close()
                if not again or method != "GET":
                    raise _unreachable(self.server, error) from None
                again = False
        self.date = response.headers.get("Date")
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise refusal(method, path, response.status, answer, self.server)
        return answer

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is None:
            self._connection = _connect(self._access)
        return self._connection


def _connect(access: RestConfig) -> http.client.HTTPConnection:
    parts = urlsplit(access.server)
    host, port = parts.hostname or "", parts.port
    proxy = None if access.proxy is None else urlsplit(access.proxy.url)
    target = (host, port) if proxy is None else (proxy.hostname or "", proxy.port)
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(*target, timeout=ANSWER_SECONDS)
    else:
        connection = _Tls(*target, access.tls, access.server_name)
    if access.proxy is not None:
        login = {} if access.proxy.authorization is None else {"Proxy-Authorization": access.proxy.authorization}
        connection.set_tunnel(host, port or PORTS[parts.scheme], login)
    return connection


class _Tls(http.client.HTTPSConnection):
    """A connection whose certificate may be another host's."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext, server_name: str | None) -> None:
        super().__init__(host, port, timeout=ANSWER_SECONDS, context=context)
        self._tls = context
        self._server_name = server_name

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        host = getattr(self, "_tunnel_host", None) or self.host
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name or host)


def _unreachable(server: str, error: Exception) -> Problem:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Problem(f"{server} has a certificate that the kubeconfig doesn't trust: correct certificate-authority.")
    if isinstance(error, TimeoutError):
        return Problem(f"{server} doesn't answer within {ANSWER_SECONDS} s: check the network, VPN and proxy.")
    why = cause(error, "the connection broke")
    return Problem(f"{server} can't be reached ({why}): check the kubeconfig's server, the network and proxy.")


def refusal(method: str, path: str, status: int, body: bytes, server: str) -> Problem:
    """What an answer of 300 or more means, and what to do."""
    what, name, where = _named(path)
    said = _said(body)
    if status == HTTPStatus.FORBIDDEN and (LACKS_RIGHT.search(said) or said == UNSAID):
        right = f"{_verb(method, name)} {what}"
        return ForbiddenProblem(f"You lack the right to {right}{where}: ask for it, or choose another context.", right)
    if status == HTTPStatus.UNAUTHORIZED:
        return Problem(f"{server} doesn't know you: log in anew, or correct the kubeconfig's user.")
    if status == HTTPStatus.NOT_FOUND:
        return _missing(path, what, name, where)
    if status == HTTPStatus.CONFLICT:
        return ConflictProblem(f"{what} {name!r}{where} is there already, or has just changed: {said}")
    if status in {HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.BAD_REQUEST, HTTPStatus.FORBIDDEN}:
        return Problem(f"The API server refuses it: {said}")
    return Problem(f"The API server answered {status}: {said}")


def _missing(path: str, what: str, name: str, where: str) -> NotFoundProblem:
    if what == PLURAL and not name:
        return NotFoundProblem("The cluster doesn't know AssetTokens: have the operator's CRD installed.")
    kind = KIND if what == PLURAL else what.removesuffix("s")
    shown = f"{kind} {name!r}" if name else path.partition("?")[0]
    return NotFoundProblem(f"There is no {shown}{where}: check the name and the namespace.")


def _said(body: bytes) -> str:
    """The message of a `Status`, without what may not be shown."""
    try:
        message = json.loads(body)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return UNSAID
    return HIDDEN.sub(" ", str(message))[:LONGEST_MESSAGE] or UNSAID


def _named(path: str) -> tuple[str, str, str]:
    """What a path is about: its resource, a name where it has one, and where."""
    parts = path.partition("?")[0].strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    where = " in all namespaces"
    if parts[:1] == ["namespaces"] and len(parts) > 2:  # noqa: PLR2004
        where = f" in the namespace {parts[1]!r}"
        parts = parts[2:]
    resource = parts[0] if parts else path
    return ("/".join([resource, *parts[2:3]]), parts[1] if len(parts) > 1 else "", where)


def _verb(method: str, name: str) -> str:
    return {"GET": "get" if name else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]


def tokens_path(namespace: str | None, name: str | None = None) -> str:
    """Where AssetTokens are: all, a namespace's, or one."""
    return _path(f"/apis/{GROUP}/{VERSION}", PLURAL, namespace, name)


def core_path(resource: str, namespace: str | None, name: str | None = None) -> str:
    """Where Kubernetes' own objects are."""
    return _path("/api/v1", resource, namespace, name)


def _path(prefix: str, resource: str, namespace: str | None, name: str | None) -> str:
    scope = "" if namespace is None else f"/namespaces/{quote(namespace, safe='')}"
    return f"{prefix}{scope}/{resource}" + ("" if name is None else f"/{quote(name, safe='')}")


def decode(text: object) -> str | None:
    """A value of a Secret's data; None where it is no text."""
    try:
        return base64.b64decode(str(text), validate=True).decode()
    except ValueError:
        return None


def metadata(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object's metadata, whatever it is."""
    return part(body, "metadata")


def part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within an object; an empty one where there is none."""
    found = body.get(name)
    return found if isinstance(found, dict) else {}


def parts(body: Mapping[str, Any], name: str) -> list[Json]:
    """The objects of a list within an object; none where there is no list."""
    listed = body.get(name)
    return [found for found in listed if isinstance(found, dict)] if isinstance(listed, list) else []
