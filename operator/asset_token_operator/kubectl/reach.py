"""Whether Asset can be reached from this machine, or from a Pod: DNS, proxy, TLS and its clock. Requests no token."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asset_token_operator.kubectl.checkup import Check, clock
from asset_token_operator.kubectl.problems import cause
from asset_token_operator.proxies import ProxyError, proxy_for
from asset_token_operator.tls import verify_as_kubectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from asset_token_operator.proxies import Proxy

SECONDS: Final = 5
REFUSED: Final = re.compile(r"Tunnel connection failed: (\d{3})")
"""How the standard library says that a proxy refuses."""


@dataclass(frozen=True, slots=True)
class Place:
    """From where Asset is looked at.

    Attributes:
        about: What a check of an environment is called, which stands in it.
        about_clock: The same for the clock there.
        name: The place, in a sentence.
        clock: Whose clock it has.
        dns: What to do where a name isn't known.
        trust: What to do where a certificate isn't trusted.
        network: What to do where nothing answers.
        ca_file: Certificates of more CAs, or None.
    """

    about: str
    about_clock: str
    name: str
    clock: str
    dns: str
    trust: str
    network: str
    ca_file: str | None = None


HERE: Final = Place(
    "Asset {}",
    "Clock, {}",
    "here",
    "this machine's",
    "check DNS, and HTTPS_PROXY if there is a proxy",
    "give the CA to the operator (--ca-file), and to this machine",
    "check the firewall, HTTPS_PROXY and NO_PROXY",
)
POD: Final = Place(
    "Pod, {}",
    "Node's clock",
    "the Pod",
    "the node's",
    "check the cluster's DNS, that the NetworkPolicy lets Pods ask it, and HTTPS_PROXY if there is a proxy",
    "give the CA to the operator (--ca-file)",
    "check the NetworkPolicy, the firewall, and the operator's HTTPS_PROXY and NO_PROXY",
)


def asset(environment: str, url: str, now: Callable[[], datetime], place: Place = HERE) -> Iterator[Check]:
    """Whether an environment's endpoint answers at all, whatever it answers."""
    about = place.about.format(environment)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        proxy = proxy_for(url)
    except (ProxyError, ValueError) as error:
        named = str(error) if isinstance(error, ProxyError) else "its URL is none"
        yield Check(about, False, named, "correct it")
        return
    if not host or parts.scheme not in {"http", "https"}:
        yield Check(about, False, f"{url} is no URL of a server", "give one such as https://api.getasset.com")
        return
    if proxy is not None and not proxy.url.startswith("http://"):
        yield Check(about, None, "a proxy that is spoken to by https is on the way, which isn't supported here")
        return
    via = "" if proxy is None else f" by the proxy {proxy.url}"
    try:
        connection = connect(url, proxy, place.ca_file)
        before = now()
        connection.request("HEAD", "/", headers={"User-Agent": "kubectl-asset_token"})
        response = connection.getresponse()
        after = now()
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        yield Check(about, False, f"{host} can't be reached from {place.name}{via}: {why(error)}", _helps(error, place))
        return
    yield Check(about, True, f"{host} answers from {place.name}{via}")
    date = response.headers.get("Date")
    yield clock(place.about_clock.format(environment), date, before, after, "Asset's", place.clock)


def connect(url: str, proxy: Proxy | None, ca_file: str | None = None) -> http.client.HTTPConnection:
    """A connection to a server, through a proxy where there is one; it is made with the first request.

    Raises:
        OSError: The CAs can't be read.
    """
    parts = urlsplit(url)
    target = urlsplit(url if proxy is None else proxy.url)
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=SECONDS)
    else:
        context = verify_as_kubectl(ssl.create_default_context())
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        connection = http.client.HTTPSConnection(target.hostname or "", target.port, timeout=SECONDS, context=context)
    if proxy is not None:
        login = {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
        connection.set_tunnel(parts.hostname or "", parts.port or http.client.HTTPS_PORT, login)
    return connection


WORDS: Final[Mapping[type[Exception], str]] = {
    socket.gaierror: "its name isn't known",
    ssl.SSLError: "no TLS",
    TimeoutError: f"no answer within {SECONDS} s",
    ConnectionRefusedError: "the connection is refused",
    FileNotFoundError: "there is no such file of CAs",
}
"""What an error means, the first that fits."""


def why(error: Exception) -> str:
    """What went wrong, in our own words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate isn't trusted ({error.verify_message})"
    if refused := REFUSED.match(str(error)):
        return f"the proxy refuses ({refused[1]})"
    return next((said for kind, said in WORDS.items() if isinstance(error, kind)), cause(error))


def _helps(error: Exception, place: Place) -> str:
    match error:
        case socket.gaierror():
            return place.dns
        case ssl.SSLCertVerificationError():
            return place.trust
        case FileNotFoundError():
            return "correct the operator's --ca-file"
        case _:
            return place.network
