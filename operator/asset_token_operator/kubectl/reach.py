"""Whether Asset can be reached from this machine: DNS, proxy, TLS and its clock. No token is requested."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asset_token_operator.kubectl.checkup import Check, clock
from asset_token_operator.proxies import ProxyError, proxy_for
from asset_token_operator.tls import verify_as_kubectl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from asset_token_operator.proxies import Proxy

SECONDS: Final = 5


def asset(environment: str, url: str, now: Callable[[], datetime]) -> Iterator[Check]:
    """Whether an environment's endpoint answers at all, whatever it answers."""
    about = f"Asset {environment}"
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
        connection = connect(url, proxy)
        before = now()
        connection.request("HEAD", "/", headers={"User-Agent": "kubectl-asset_token"})
        response = connection.getresponse()
        after = now()
        connection.close()
    except (OSError, http.client.HTTPException) as error:
        yield Check(about, False, f"{host} can't be reached from here{via}: {why(error)}", _helps(error))
        return
    yield Check(about, True, f"{host} answers from here{via}")
    yield clock(f"Clock, {environment}", response.headers.get("Date"), before, after, "Asset's")


def connect(url: str, proxy: Proxy | None) -> http.client.HTTPConnection:
    """A connection to a server, through a proxy where there is one; it is made with the first request."""
    parts = urlsplit(url)
    target = urlsplit(url if proxy is None else proxy.url)
    if parts.scheme == "http":
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=SECONDS)
    else:
        context = verify_as_kubectl(ssl.create_default_context())
        connection = http.client.HTTPSConnection(target.hostname or "", target.port, timeout=SECONDS, context=context)
    if proxy is not None:
        login = {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
        connection.set_tunnel(parts.hostname or "", parts.port or http.client.HTTPS_PORT, login)
    return connection


def why(error: Exception) -> str:
    """What went wrong, in our own words."""
    match error:
        case socket.gaierror():
            return "its name isn't known"
        case ssl.SSLCertVerificationError():
            return f"its certificate isn't trusted ({error.verify_message})"
        case ssl.SSLError():
            return "no TLS"
        case TimeoutError():
            return f"no answer within {SECONDS} s"
        case ConnectionRefusedError():
            return "the connection is refused"
        case _:
            return type(error).__name__


def _helps(error: Exception) -> str:
    match error:
        case socket.gaierror():
            return "check DNS, and HTTPS_PROXY if there is a proxy"
        case ssl.SSLCertVerificationError():
            return "give the CA to the operator (--ca-file), and to this machine"
        case _:
            return "check the firewall, HTTPS_PROXY and NO_PROXY"
