"""Errors of files and of the network are told in words, and never in Python's."""

import errno
import socket
import ssl
from unittest.mock import Mock

import aiohttp
import pytest

from asset_token_operator.causes import cause_of

CANARY = "canary-client-secret"
WHERE = Mock(host="api.getasset.com", port=443, ssl=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(FileNotFoundError(errno.ENOENT, CANARY), "file not found", id="file"),
        pytest.param(PermissionError(errno.EACCES, CANARY), "permission denied", id="permission"),
        pytest.param(ConnectionRefusedError(errno.ECONNREFUSED, CANARY), "connection refused", id="refused"),
        pytest.param(
            aiohttp.ClientConnectorError(WHERE, ConnectionRefusedError(errno.ECONNREFUSED, CANARY)),
            "connection refused",
            id="refused, by aiohttp",
        ),
        pytest.param(
            aiohttp.ClientConnectorDNSError(WHERE, socket.gaierror(socket.EAI_NONAME, CANARY)),
            "its name can't be resolved",
            id="no such name",
        ),
        pytest.param(
            aiohttp.ClientProxyConnectionError(WHERE, ConnectionRefusedError(errno.ECONNREFUSED, CANARY)),
            "the proxy can't be connected to",
            id="the proxy, though its connection was refused",
        ),
        pytest.param(
            aiohttp.ClientConnectorCertificateError(WHERE, ssl.SSLCertVerificationError(1, CANARY)),
            "its certificate, or that of a proxy on the way, isn't trusted",
            id="certificate",
        ),
        pytest.param(ssl.SSLError(1, CANARY), "TLS failed", id="TLS"),
        pytest.param(
            aiohttp.ServerDisconnectedError(CANARY), "it closed the connection without answering", id="closed"
        ),
        pytest.param(TimeoutError(CANARY), "no answer in time", id="time"),
        pytest.param(aiohttp.ClientPayloadError(CANARY), "its answer was cut off", id="cut off"),
        pytest.param(aiohttp.ClientConnectionResetError(errno.ECONNRESET, CANARY), "connection reset", id="reset"),
        pytest.param(aiohttp.ClientConnectionError(CANARY), "the connection broke", id="broken"),
        pytest.param(UnicodeError(CANARY), "not readable as text", id="no text"),
        pytest.param(OSError(CANARY), "an unexpected error", id="without a number"),
        pytest.param(KeyError(CANARY), "an unexpected error", id="anything"),
    ],
)
def test_an_error_is_told_in_words_and_none_of_its_own(error: Exception, words: str) -> None:
    assert cause_of(error) == words


def test_who_asks_knows_what_an_unexpected_error_means() -> None:
    assert cause_of(ValueError(CANARY), "it makes no sense") == "it makes no sense"
