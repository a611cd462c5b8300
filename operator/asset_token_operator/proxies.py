"""Which proxy is on the way to a server, by the usual variables; settled once, and in the same way for both clients.

They are read as Go does (golang.org/x/net/http/httpproxy), and so kubectl and whoever set them for a cluster:
`NO_PROXY` has networks there. Of what Python has, urllib and httpx know no networks, and requests only those of IPv4.
Beyond Go: `ALL_PROXY` where there is no other, and addresses in brackets without a port.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

Ip: TypeAlias = IPv4Address | IPv6Address

PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}
"""Where a server listens that doesn't say so."""

NAME: Final = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?")
PREFIX: Final = re.compile(r"[0-9a-f.:]+/[0-9]{1,3}")
WITH_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*)):([^\[\]:]*)")
MAPPED: Final = IPv6Network("::ffff:0:0/96")
"""IPv4, as IPv6 writes it."""


class ProxyError(ValueError):
    """A proxy was named that can't be used. The message is a sentence, and quotes nothing: there may be a password."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is on the way.

    Attributes:
        url: Where it is.
        authorization: What it is told of who we are, if anything.
    """

    url: str
    authorization: str | None = field(default=None, repr=False)


def proxy_for(url: str) -> Proxy | None:
    """The proxy that the variables name for a URL; None where there is none.

    Raises:
        ProxyError: It is none that can be used.
        ValueError: The URL is none of a server.
    """
    parts = urlsplit(url)
    name, text = next(_named(parts.scheme), ("", ""))
    return read_proxy(text, name) if text and not _is_exempt(parts) else None


def read_proxy(text: str, name: str) -> Proxy:
    """A proxy from its URL; one without a scheme is spoken to by http.

    Args:
        text: The URL.
        name: Where it was named.

    Raises:
        ProxyError: It is none that can be used.
    """
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError:
        raise ProxyError(f"{name} is not the URL of a proxy, such as http://proxy.example.com:3128.") from None
    if parts.scheme not in PORTS:
        raise ProxyError(
            f"{name} names a proxy of another kind than http:// and https://, which is not supported; set one of these."
        )
    if not is_host(host):
        raise ProxyError(f"{name} is not the URL of a proxy, such as http://proxy.example.com:3128.")
    shown = f"[{host}]" if ":" in host else host
    return Proxy(f"{parts.scheme}://{shown}:{PORTS[parts.scheme] if port is None else port}", _authorization(parts))


def _named(scheme: str) -> Iterator[tuple[str, str]]:
    """The variables that name a proxy, those that count first first."""
    for name in (f"{scheme.upper()}_PROXY", f"{scheme}_proxy", "ALL_PROXY", "all_proxy"):
        text = os.environ.get(name, "")
        # A web server that runs us would set HTTP_PROXY to whatever a client says is its header `Proxy`.
        if text.strip() and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            yield name, text


def _authorization(parts: SplitResult) -> str | None:
    login, has_login, _ = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    said = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return f"Basic {base64.b64encode(said).decode()}" if has_login else None


def is_host(text: str) -> bool:
    """Whether it is an address, or a name that DNS can have; one that ends with a number is meant as an address."""
    if _address(text) is not None:
        return True
    return NAME.fullmatch(text) is not None and not text.rstrip(".").rpartition(".")[2].isdigit()


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_exempt(server: SplitResult) -> bool:
    """Whether a server is reached without a proxy: this machine is, and what `NO_PROXY` says."""
    host = _ascii(server.hostname or "")
    address = _address(host)
    if is_loopback(host):
        return True
    port = str(server.port or PORTS.get(server.scheme))
    named = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    entries = [entry.strip().lower() for entry in named.split(",")]
    return "*" in entries or any(_is_meant(entry, host, address, port) for entry in entries if entry)


def _is_meant(entry: str, host: str, address: Ip | None, port: str) -> bool:
    """Whether an entry of `NO_PROXY` means this server; one that makes no sense means none."""
    network = _network(entry)
    if network is not None:
        return address is not None and address in network
    found = WITH_PORT.fullmatch(entry)
    name, wanted = (found[1] or found[2] or "", found[3]) if found else (entry, "")
    if wanted not in ("", port) or not name:
        return False
    named = _address(name.removeprefix("[").removesuffix("]"))
    if named is not None or address is not None:
        return named == address
    domain = _ascii(name[1:] if name.startswith("*.") else name)
    return host.endswith(domain) if domain.startswith(".") else f".{host}".endswith(f".{domain}")


def _address(text: str) -> Ip | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _network(text: str) -> IPv4Network | IPv6Network | None:
    if not PREFIX.fullmatch(text):
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        return IPv4Network((int(network.network_address) % 2**32, network.prefixlen - MAPPED.prefixlen))
    return network


def _ascii(name: str) -> str:
    """A name as DNS has it; one that can't be had so is left, and is nobody's."""
    try:
        return name.lower() if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name
