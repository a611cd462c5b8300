"""Whom both clients take for the server, and for a proxy on the way: the same as kubectl and curl do, on any Python.

Python 3.13 refuses more by default. The tests make it so everywhere; `.ci/run` runs them on the image's Python, too.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import aiohttp
import pytest

from asset_token_operator.asset_client import AssetClient
from asset_token_operator.errors import AssetUnavailableError
from asset_token_operator.kubeconfig import load
from asset_token_operator.leadership import forever
from asset_token_operator.model import Environment
from tests.support.api_server import a_kubeconfig, an_api_server, answering, forget_settings
from tests.support.builders import CREDENTIALS, a_spec
from tests.support.certificates import a_certificate
from tests.support.connect_proxy import Proxy, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.certificates import Certificate

Flaw: TypeAlias = dict[str, Any]
Reach: TypeAlias = "Callable[[str, Path, str], Awaitable[bool]]"

BARE: Final[Flaw] = {"bare": True}
TAKEN: Final[dict[str, tuple[Flaw, Flaw]]] = {
    "nothing but what is needed": (BARE, BARE),
    "no key usage of the CA": (BARE, {}),
    "no key identifiers of the server": ({}, BARE),
    "a CA that says so uncritically": ({"critical": False}, {}),
}
"""What a CA's and a server's certificate lack."""

REFUSED: Final[dict[str, tuple[Flaw, Flaw]]] = {
    "expired": ({}, {"expired": True}),
    "of a CA that expired": ({"expired": True}, {}),
    "of another name": ({}, {"host": "somebody.else"}),
    "of another address": ({}, {"host": "127.0.0.2"}),
    "of one that is no CA": ({"ca": False}, {}),
    "of one that doesn't say that it is a CA": ({"ca": None, "bare": True}, BARE),
}


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's default is that of 3.13, and nothing of whoever runs the tests has a say."""
    forget_settings(monkeypatch)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)
    default = ssl.create_default_context

    def create(*given: Any, **named: Any) -> ssl.SSLContext:
        context = default(*given, **named)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", create)


async def by_asset_client(url: str, authority: Path, proxy: str) -> bool:
    os.environ["HTTPS_PROXY"] = proxy
    async with AssetClient.connect({Environment.SANDBOX: url}, str(authority), forever) as client:
        try:
            reply = await client.request_token(a_spec(), CREDENTIALS)
        except AssetUnavailableError as error:
            assert "certificate" in str(error)  # noqa: PT017 - else it failed for another reason
            return False
    return reply.status == 200


async def by_api_client(url: str, authority: Path, proxy: str) -> bool:
    way = {"certificate-authority": str(authority), **({"proxy-url": proxy} if proxy else {})}
    os.environ["KUBECONFIG"] = str(a_kubeconfig(authority.parent, url, **way))
    access = await load()
    async with access.session(0) as session:
        try:
            async with session.get(f"{access.server}/version") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorCertificateError:
            return False


@pytest.fixture(params=[by_asset_client, by_api_client], ids=["Asset", "the API server"])
def reach(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Reach:
    """Whether a server is taken for what it says it is."""
    for name in ("HTTPS_PROXY", "KUBECONFIG"):
        monkeypatch.setenv(name, "")
    client: Reach = request.param
    return client


def chain(folder: Path, flaws: tuple[Flaw, Flaw]) -> tuple[Certificate, Certificate]:
    """A CA, and a server whose certificate it signed."""
    of_authority, of_server = flaws
    authority = a_certificate(folder / "authority", host="ca.example", **of_authority)
    return authority, a_certificate(folder / "server", issuer=authority, **{"ca": False, **of_server})


def rows(cases: dict[str, tuple[Flaw, Flaw]]) -> list[Any]:
    return [pytest.param(flaws, id=name) for name, flaws in cases.items()]


@pytest.mark.parametrize("flaws", rows(TAKEN))
async def test_a_server_is_taken_whose_certificates_lack_what_rfc_5280_wants(
    tmp_path: Path, reach: Reach, flaws: tuple[Flaw, Flaw]
) -> None:
    authority, server = chain(tmp_path, flaws)
    async with an_api_server(answering(200), server.context) as api:
        assert await reach(api.url, authority.path, "")


@pytest.mark.parametrize("flaws", rows(REFUSED))
async def test_a_server_is_refused_that_is_not_who_it_says(
    tmp_path: Path, reach: Reach, flaws: tuple[Flaw, Flaw]
) -> None:
    authority, server = chain(tmp_path, flaws)
    async with an_api_server(answering(200), server.context) as api:
        assert not await reach(api.url, authority.path, "")
        assert api.received == []


async def test_a_server_is_refused_whose_ca_nobody_named(tmp_path: Path, reach: Reach) -> None:
    _, server = chain(tmp_path, ({}, {}))
    async with an_api_server(answering(200), server.context) as api:
        assert not await reach(api.url, a_certificate(tmp_path / "another").path, "")


@pytest.mark.parametrize("first", ["expired", "valid"])
async def test_a_bundle_may_have_a_ca_that_expired_beside_the_one_that_renews_it(
    tmp_path: Path, reach: Reach, first: str
) -> None:
    """Of one name and key, as where a company appends its renewed CA to the file."""
    expired = a_certificate(tmp_path / "expired", host="ca.example", expired=True)
    valid = a_certificate(tmp_path / "valid", host="ca.example", renews=expired)
    server = a_certificate(tmp_path / "server", issuer=valid, ca=False)
    order = [expired, valid] if first == "expired" else [valid, expired]
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("# those of the company\n" + "\n".join(one.path.read_text() for one in order))
    async with an_api_server(answering(200), server.context) as api:
        assert await reach(api.url, bundle, "")


async def test_a_server_is_refused_that_does_not_send_the_ca_between(tmp_path: Path, reach: Reach) -> None:
    root = a_certificate(tmp_path / "root", host="root.example")
    between = a_certificate(tmp_path / "between", host="ca.example", issuer=root)
    server = a_certificate(tmp_path / "server", issuer=between, ca=False)
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.path.write_text(server.path.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
    alone.load_cert_chain(server.path, server.key_path)
    async with an_api_server(answering(200), alone) as api:
        assert not await reach(api.url, root.path, "")
        assert api.received == []


@pytest.mark.parametrize("kind", ["RSA", "Ed25519"])
async def test_keys_may_be_of_another_kind(tmp_path: Path, reach: Reach, kind: Literal["RSA", "Ed25519"]) -> None:
    authority = a_certificate(tmp_path / "authority", host="ca.example", kind=kind)
    server = a_certificate(tmp_path / "server", issuer=authority, ca=False, kind=kind)
    async with an_api_server(answering(200), server.context) as api:
        assert await reach(api.url, authority.path, "")


async def test_what_is_trusted_may_be_an_intermediate_ca_alone(tmp_path: Path, reach: Reach) -> None:
    root = a_certificate(tmp_path / "root", host="root.example")
    between = a_certificate(tmp_path / "between", host="ca.example", issuer=root)
    server = a_certificate(tmp_path / "server", issuer=between, ca=False)
    alone = tmp_path / "alone.crt"
    alone.write_text(between.path.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n")
    async with an_api_server(answering(200), server.context) as api:
        assert await reach(api.url, alone, "")


@pytest.mark.parametrize("ca", [False, None], ids=["no CA", "doesn't say"])
async def test_what_is_trusted_may_be_the_servers_own_certificate(
    tmp_path: Path, reach: Reach, *, ca: bool | None
) -> None:
    server = a_certificate(tmp_path, ca=ca, bare=True)
    async with an_api_server(answering(200), server.context) as api:
        assert await reach(api.url, server.path, "")


@pytest.mark.parametrize(
    ("flaws", "taken"), [((BARE, BARE), True), (REFUSED["expired"], False)], ids=["bare", "expired"]
)
async def test_a_proxy_is_verified_alike(
    tmp_path: Path, reach: Reach, flaws: tuple[Flaw, Flaw], *, taken: bool
) -> None:
    authority, way = chain(tmp_path, flaws)
    server = a_certificate(tmp_path / "behind", issuer=authority, host="asset.example", ca=False)
    async with an_api_server(answering(200), server.context) as api:
        proxy = Proxy(int(api.url.rpartition(":")[2]))
        async with serving(proxy, way.context) as port:
            assert await reach("https://asset.example", authority.path, f"https://127.0.0.1:{port}") == taken
        assert len(proxy.asked) == len(api.received) == taken


@pytest.mark.parametrize("flaws", rows(TAKEN))
async def test_control_what_is_taken_here_python_refuses(tmp_path: Path, flaws: tuple[Flaw, Flaw]) -> None:
    authority, server = chain(tmp_path, flaws)
    context = ssl.create_default_context(cafile=str(authority.path))
    async with an_api_server(answering(200), server.context) as api, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(api.url, ssl=context)
