"""The settings, read once at the start; all that are wrong are reported together."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asset_token_operator.causes import cause_of
from asset_token_operator.model import Environment, Reserves
from asset_token_operator.proxies import is_host, is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PRODUCTION_URL: Final = "https://api.getasset.com"
SANDBOX_URL: Final = "https://api.sandbox.getasset.com"
LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
PORT: Final = re.compile(r"[0-9]{1,5}")
PRINTABLE: Final = re.compile(r"[!-~]+")
URL: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!&()*+,;=%-]+")
"""The characters of RFC 3986, but for two that a shell minds in quotes: templates put a base URL there."""
LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
NAMESPACE: Final = re.compile(LABEL)
OBJECT: Final = re.compile(rf"(?=.{{1,253}}$){LABEL}(\.{LABEL})*")
NAME: Final = r"[A-Za-z0-9](?:[-\w.]{0,61}[A-Za-z0-9])?"
KEY: Final = rf"(?:(?=[^/]{{1,253}}/){LABEL}(?:\.{LABEL})*/)?{NAME}"
SET: Final = rf"\(\s*(?:{NAME})?\s*(?:,\s*(?:{NAME})?\s*)*\)"
REQUIREMENT: Final = re.compile(
    rf"\s*(?:!\s*{KEY}|{KEY}(?:\s*(?:==?|!=)\s*(?:{NAME})?|\s*[<>]\s*-?[0-9]+|\s+(?:in|notin)\s*{SET})?)\s*", re.ASCII
)
"""One of a label selector, as the API server reads it: `key`, `!key`, `key=value`, `key in (a, b)`, `key > 1`."""


LETTERS: Final = "; use lower-case letters, digits and '-'"

EVERYWHERE: Final = "::"
"""All addresses of the machine, of IPv6 and IPv4."""


class ConfigError(Exception):
    """Settings are wrong; the message has a line for each."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host's name or address, or `EVERYWHERE`, and a port; port 0 is any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """How the operator runs.

    Attributes:
        namespaces: The namespaces that it watches; none means all.
        endpoints: The base URL of each environment, without a slash at the end.
        reserves: What is left of a tenant's rate limit to its own applications.
        ca_file: Where certificates of more CAs are that Asset's or a proxy's may come from.
        selector: Which AssetTokens it serves, by their labels; None for all.
        leader_elect: Whether it works only while it holds the Lease.
        lease_name: The Lease's name.
        lease_namespace: Where the Lease is; None where none was named.
        health_address: Where `/healthz` and `/readyz` are served; None for nowhere.
        metrics_address: Where `/metrics` is served; None for nowhere.
        token_metrics: Whether there are metrics of each AssetToken.
        log_level: One of `LOG_LEVELS`.
        log_format: One of `LOG_FORMATS`.
    """

    namespaces: tuple[str, ...]
    selector: str | None
    endpoints: Mapping[Environment, str]
    reserves: Reserves
    ca_file: str | None
    leader_elect: bool
    lease_name: str
    lease_namespace: str | None
    health_address: Address | None
    metrics_address: Address | None
    token_metrics: bool
    log_level: str
    log_format: str


def read_settings(  # noqa: PLR0913 - as many as there are
    *,
    namespaces: Sequence[str],
    selector: str | None,
    sandbox_url: str,
    production_url: str,
    renewal_reserve: int,
    issue_reserve: int,
    ca_file: str | None,
    leader_elect: bool,
    lease_name: str,
    lease_namespace: str | None,
    health_address: str | None,
    metrics_address: str | None,
    token_metrics: bool,
    log_level: str,
    log_format: str,
) -> Settings:
    """Check the settings as they were given; reserves are in percent.

    Raises:
        ConfigError: Some are wrong.
    """
    problems = [
        f"--namespace: {name!r} is not a namespace's name{LETTERS}." for name in namespaces if not _is_namespace(name)
    ]
    if selector is not None and not _is_selector(selector):
        problems.append(f"--selector: {selector!r} is not a label selector, such as team=ledger,stage!=test.")
    problems += _url_problems("--sandbox-url", sandbox_url) + _url_problems("--production-url", production_url)
    problems += _ca_problems(ca_file)
    if not OBJECT.fullmatch(lease_name):
        problems.append(f"--lease-name: {lease_name!r} is not a Lease's name{LETTERS}.")
    if lease_namespace is not None and not _is_namespace(lease_namespace):
        problems.append(f"--lease-namespace: {lease_namespace!r} is not a namespace's name{LETTERS}.")
    for flag, address in (("--health-address", health_address), ("--metrics-address", metrics_address)):
        if address is not None and _address(address) is None:
            problems.append(f"{flag}: {address!r} is not HOST:PORT, such as :8080, 127.0.0.1:8080 or [::1]:8080.")
    if problems:
        raise ConfigError("\n".join(problems))
    return Settings(
        namespaces=tuple(dict.fromkeys(namespaces)),
        selector=selector,
        endpoints={
            Environment.SANDBOX: sandbox_url.rstrip("/"),
            Environment.PRODUCTION: production_url.rstrip("/"),
        },
        reserves=Reserves(renewal_reserve / 100, issue_reserve / 100),
        ca_file=ca_file,
        leader_elect=leader_elect,
        lease_name=lease_name,
        lease_namespace=lease_namespace,
        health_address=_address(health_address or ""),
        metrics_address=_address(metrics_address or ""),
        token_metrics=token_metrics,
        log_level=log_level,
        log_format=log_format,
    )


def _is_namespace(name: str) -> bool:
    return NAMESPACE.fullmatch(name) is not None


def _is_selector(text: str) -> bool:
    """Whether the API server takes it; commas part requirements, and what is in brackets."""
    return all(REQUIREMENT.fullmatch(part) for part in re.split(r",(?![^(]*\))", text))


def _url_problems(flag: str, url: str) -> list[str]:
    """What is wrong with a base URL; it is not repeated, since somebody may have put a password into it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return [f"{flag}: not a URL such as {SANDBOX_URL}."]
    problems = {
        "has white space or characters that a URL has only as %XX.": not URL.fullmatch(url),
        "must not have a user or password in it.": "@" in url,
        f"is not an https URL such as {SANDBOX_URL}.": parts.scheme not in ("https", "http") or not host,
        "must end with the path, without ? or #.": "?" in url or "#" in url,
        "would send credentials in the clear; use https (http is for loopback only).": parts.scheme == "http"
        and not is_loopback(host),
        "names a host that is neither an address nor a name that DNS can have.": not is_host(host),
    }
    return [f"{flag}: {problem}" for problem, holds in problems.items() if holds][:1]


def _address(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    if not PORT.fullmatch(port) or int(port) >= 2**16:
        return None
    if host.startswith("["):
        return _ipv6_address(host, int(port))
    if not host:
        return Address(EVERYWHERE, int(port)) if text.startswith(":") else None
    return Address(host, int(port)) if PRINTABLE.fullmatch(host) and ":" not in host else None


def _ipv6_address(host: str, port: int) -> Address | None:
    try:
        address = ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return Address(str(address), port) if host.endswith("]") else None


def _ca_problems(path: str | None) -> list[str]:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return [f"--ca-file: {path} has no certificates in PEM form."]
    except OSError as error:
        return [f"--ca-file: {path} can't be read: {cause_of(error)}."]
    return []
