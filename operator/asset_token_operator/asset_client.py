"""Asset's token endpoint. The only importer of httpx, which sends by aiohttp: its own transport costs thrice as much.

Credentials are sent in the form's body, over verified TLS, to the configured endpoint and nowhere else: redirects are
not followed. An answer is read up to a limit, within a time for the whole request, so neither an endless body nor one
that drips can hold a worker.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from asset_token_operator.answers import LONGEST_BODY, Reply, read_reply
from asset_token_operator.causes import cause_of
from asset_token_operator.errors import AssetUnavailableError
from asset_token_operator.proxies import ProxyError, proxy_for
from asset_token_operator.tls import verify_as_kubectl
from asset_token_operator.token_request import TOKEN_PATH, token_form

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from asset_token_operator.model import Credentials, Environment, Spec
    from asset_token_operator.proxies import Proxy

TIMEOUT_SECONDS: Final = 15.0
"""For a request in all, from connecting to the answer's last byte."""

CONNECTIONS: Final = 100


@dataclass(frozen=True, slots=True)
class AssetClient:
    """Requests tokens. Open it with `async with`.

    Attributes:
        endpoints: The base URLs.
        time_left: How long a request may take at most; raises NotLeadingError where none may be sent.
    """

    endpoints: Mapping[Environment, str]
    http: httpx.AsyncClient
    time_left: Callable[[], timedelta]

    @classmethod
    def connect(
        cls, endpoints: Mapping[Environment, str], ca_file: str | None, time_left: Callable[[], timedelta]
    ) -> Self:
        """A client for these base URLs; proxies come from the usual variables, and other CAs too.

        Args:
            endpoints: The base URLs.
            ca_file: Certificates of more CAs, PEM.
            time_left: See above.

        Raises:
            AssetUnavailableError: The variables can't be used.
        """
        # Their debugging tells the answers' headers, where a server may put anything.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        try:
            trusted = verify_as_kubectl(httpx.create_ssl_context())
            if ca_file is not None:
                trusted.load_verify_locations(ca_file)
            proxies = {url: proxy_for(url) for url in endpoints.values()}
        except ProxyError as error:
            raise AssetUnavailableError(str(error)) from None
        except (OSError, ValueError) as error:
            is_no_certificate = isinstance(error, ssl.SSLError | ValueError)
            why = "no certificates in PEM form" if is_no_certificate else cause_of(error)
            raise AssetUnavailableError(
                f"The CAs can't be read: {why}; check --ca-file, SSL_CERT_FILE and SSL_CERT_DIR."
            ) from None
        session = _session(trusted, time_left)
        http = httpx.AsyncClient(
            follow_redirects=False,
            timeout=TIMEOUT_SECONDS,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none of one tenant's for the next one
            mounts={url: _transport(session, proxy) for url, proxy in proxies.items()},
            trust_env=False,
        )
        return cls(endpoints, http, time_left)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def request_token(self, spec: Spec, credentials: Credentials) -> Reply:
        """Request a token as the spec wants it.

        Raises:
            AssetUnavailableError: There was no answer.
            NotLeadingError: None may be sent now.
        """
        url = self.endpoints[spec.environment] + TOKEN_PATH
        host = urlsplit(url).netloc
        seconds = min(TIMEOUT_SECONDS, self.time_left().total_seconds())
        try:
            async with asyncio.timeout(seconds):
                return await self._post(url, token_form(spec, credentials))
        except TimeoutError:
            raise AssetUnavailableError(
                f"Asset {spec.environment} ({host}) did not answer within {seconds:.0f} s; tried again by itself."
            ) from None
        except (httpx.TransportError, httpx.InvalidURL, aiohttp.ClientError, UnicodeError) as error:
            why = cause_of(error.__cause__ or error, "the connection broke")
            raise AssetUnavailableError(
                f"Asset {spec.environment} ({host}) could not be reached: {why}; tried again by itself."
            ) from None

    async def _post(self, url: str, form: Mapping[str, str | list[str]]) -> Reply:
        body = bytearray()
        async with self.http.stream("POST", url, data=form) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= LONGEST_BODY:
                    break
        return read_reply(response.status_code, response.headers, bytes(body[:LONGEST_BODY]))


def _session(trusted: ssl.SSLContext, time_left: Callable[[], timedelta]) -> aiohttp.ClientSession:
    """What sends."""

    async def look_once_more(*_: object) -> None:
        """A connection may have taken long, or the machine was suspended: ask again just before the first byte."""
        time_left()

    traces = aiohttp.TraceConfig()
    traces.on_request_headers_sent.append(look_once_more)  # called before they are
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=trusted),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[traces],
        trust_env=False,
    )


def _transport(session: aiohttp.ClientSession, proxy: Proxy | None) -> httpx.AsyncBaseTransport:
    if proxy is None:
        return AiohttpTransport(client=session)
    headers = None if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}
    return AiohttpTransport(client=session, proxy=httpx.Proxy(proxy.url, headers=headers))
