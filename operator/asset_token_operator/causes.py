"""What it means that a file can't be read or a server can't be reached, in words: no class of Python's is told.

It is a module of its own because each adapter meets these errors. The error's own text is never told on: it may hold
what was sent, answered or read.
"""

from __future__ import annotations

import errno
import socket
import ssl
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    Words: TypeAlias = Mapping[type[BaseException], str]

NUMBERS: Final[Mapping[int | None, str]] = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.ECONNABORTED: "connection reset",
    errno.EPIPE: "connection reset",
    errno.ETIMEDOUT: "no answer in time",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "no route to the network",
    errno.ENOENT: "file not found",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "file not found",
    errno.EADDRINUSE: "address already in use",
    errno.EADDRNOTAVAIL: "no address of this machine",
    errno.EMFILE: "too many open files",
}
"""What the operating system's error numbers mean."""


@cache
def _kinds() -> tuple[Words, Words]:
    """What errors mean whatever their number is, and those whose number says nothing; the first that fits."""
    import aiohttp  # noqa: PLC0415 - it takes a while, which a command line that is fine doesn't need

    specific = {
        aiohttp.ClientConnectorDNSError: "its name can't be resolved",
        socket.gaierror: "its name can't be resolved",
        aiohttp.ClientProxyConnectionError: "the proxy can't be connected to",
        aiohttp.ClientHttpProxyError: "the proxy refused",
        aiohttp.ClientConnectorCertificateError: "its certificate, or that of a proxy on the way, isn't trusted",
        ssl.SSLCertVerificationError: "its certificate isn't trusted",
        aiohttp.ClientSSLError: "TLS failed",
        ssl.SSLError: "TLS failed",
    }
    general = {
        TimeoutError: "no answer in time",
        aiohttp.ServerDisconnectedError: "it closed the connection without answering",
        aiohttp.ClientPayloadError: "its answer was cut off",
        aiohttp.ClientResponseError: "its answer was no HTTP",
        aiohttp.ClientConnectorError: "it can't be connected to",
        aiohttp.ClientError: "the connection broke",
        UnicodeError: "not readable as text",
    }
    return specific, general


def cause_of(error: BaseException, otherwise: str = "an unexpected error") -> str:
    """What went wrong, in a few words."""
    number = NUMBERS.get(error.errno) if isinstance(error, OSError) else None
    specific, general = _kinds()
    return _first(specific, error) or number or _first(general, error) or otherwise


def _first(table: Words, error: BaseException) -> str | None:
    return next((words for kind, words in table.items() if isinstance(error, kind)), None)
