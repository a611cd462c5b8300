"""The calls of the Kubernetes API against a real API server: what it then holds, and how each failure is told."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import socket
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import httpx
import pytest
from aiohttp import web
from kubernetes.aio.config import incluster_config, kube_config
from pydantic import SecretStr

from asset_token_operator import api_server, parsing
from asset_token_operator import kube as kube_module
from asset_token_operator.api_server import ApiClient
from asset_token_operator.errors import (
    ConflictError,
    CredentialsInvalidError,
    CredentialsNotFoundError,
    KubeError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
    NotLeadingError,
    SecretConflictError,
    TooLargeError,
)
from asset_token_operator.kube import KubeClient
from asset_token_operator.leadership import forever
from asset_token_operator.manifests import secret_manifest
from asset_token_operator.model import AssetToken, CredentialsRef, DeletionPolicy, Key, SecretSpec, SecretState
from asset_token_operator.parsing import SecretEvent, parse_asset_token, parse_secret, parse_secret_metadata
from asset_token_operator.status import NOT_SEEN_YET, parse_status
from asset_token_operator.transitions import Event
from tests.support.api_server import (
    Answer,
    StandIn,
    a_kubeconfig,
    an_api_server,
    answering,
    forget_settings,
    silent,
)
from tests.support.builders import ENDPOINTS, NOW, a_spec, an_asset_token, an_issued_token
from tests.support.selectors import NO_SELECTORS, SELECTORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import ModuleType

    from tests.support.cluster import Cluster, Json
    from tests.support.controlplane import ControlPlane

TOKEN = "canary-access-token"
ENCODED_TOKEN = base64.b64encode(TOKEN.encode()).decode()
CANARIES = (TOKEN, ENCODED_TOKEN, "canary-client-secret", "canary-kube-token")
NAME = "ledger-writer-token"
SPEC = {"environment": "sandbox", "credentialsSecretRef": {"name": "asset-credentials"}}
OURS = ("asset-token-operator", "Apply")
GONE = "99999999-9999-9999-9999-999999999999"


# ---- the world around the client -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy is a way to loopback, and no cluster of whoever runs the tests is touched."""
    forget_settings(monkeypatch)


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The records of all loggers, from DEBUG up."""
    caplog.set_level(logging.DEBUG)
    return caplog


class Client(KubeClient):
    """A client that closes its connection."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.api.__aexit__()


Connect = Callable[["Path"], Awaitable[Client]]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connects as a process does that was started with that KUBECONFIG."""

    async def connect(kubeconfig: Path) -> Client:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))  # read at its import
        return Client(await ApiClient.connect(), forever)

    return connect


@pytest.fixture
async def kube(controlplane: Cluster, connect: Connect) -> AsyncIterator[KubeClient]:
    """A client with an administrator's rights."""
    async with await connect(controlplane.kubeconfig) as client:
        yield client


@pytest.fixture
async def powerless(controlplane: Cluster, namespace: str, connect: Connect) -> AsyncIterator[KubeClient]:
    """A client of a ServiceAccount that has no rights."""
    async with await connect(controlplane.kubeconfig_for(namespace, "default")) as client:
        yield client


@dataclass
class Space:
    """What is in a namespace, as its administrator sees it."""

    cluster: Cluster
    name: str

    def path(self, resource: str, name: str = "") -> str:
        prefix = "/apis/auth.getasset.com/v1alpha1" if resource == "assettokens" else "/api/v1"
        return f"{prefix}/namespaces/{self.name}/{resource}/{name}".rstrip("/")

    def secret(self, name: str = NAME) -> Json | None:
        return self.cluster.api.find(self.path("secrets", name))

    def existing_secret(self, name: str = NAME) -> Json:
        return self.cluster.api.get(self.path("secrets", name))

    def create_secret(self, name: str = NAME, **fields: Any) -> Json:
        return self.cluster.api.create(self.path("secrets"), {"metadata": {"name": name}, **fields})

    def delete_secret(self, name: str = NAME) -> None:
        self.cluster.api.delete(self.path("secrets", name))

    def asset_token(self, name: str = "ledger-writer") -> Json:
        return self.cluster.api.get(self.path("assettokens", name))

    def create_asset_token(self, name: str = "ledger-writer", **metadata: Any) -> AssetToken:
        metadata = {"name": name, **metadata}
        body = {"apiVersion": "auth.getasset.com/v1alpha1", "kind": "AssetToken", "metadata": metadata}
        return parse_asset_token(self.cluster.api.create(self.path("assettokens"), {**body, "spec": SPEC}))

    def delete_asset_token(self, name: str = "ledger-writer") -> None:
        self.cluster.api.delete(self.path("assettokens", name))

    def manifest(self, owner: AssetToken | None = None, token: str = TOKEN, **secret: Any) -> dict[str, Any]:
        """The Secret as the operator decides it; without an owner one that no AssetToken controls."""
        policy = DeletionPolicy.DELETE if owner else DeletionPolicy.RETAIN
        spec = a_spec(secret=SecretSpec(NAME, deletion_policy=policy, **secret))
        owner = replace(owner, spec=spec) if owner else an_asset_token(spec, key=Key(self.name, "ledger-writer"))
        return secret_manifest(owner, an_issued_token(spec, access_token=SecretStr(token)), ENDPOINTS)


@pytest.fixture
def space(controlplane: Cluster, namespace: str) -> Space:
    return Space(controlplane, namespace)


def data_of(secret: Json) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def managers_of(body: Json) -> set[tuple[str, str, str | None]]:
    return {(it["manager"], it["operation"], it.get("subresource")) for it in body["metadata"]["managedFields"]}


Faulty = Callable[[Answer], "AbstractAsyncContextManager[tuple[StandIn, KubeClient]]"]


@pytest.fixture
def a_faulty(connect: Connect, tmp_path: Path) -> Faulty:
    """A stand-in that answers so, and a client of it."""

    @asynccontextmanager
    async def begin(answer: Answer) -> AsyncIterator[tuple[StandIn, KubeClient]]:
        async with an_api_server(answer) as api, await connect(a_kubeconfig(tmp_path, api.url)) as kube:
            yield api, kube

    return begin


def all_said(error: BaseException | None, log: pytest.LogCaptureFixture) -> str:
    """All that an error and those behind it say of themselves, and all that was logged."""
    said = [log.text]
    while error is not None:
        said += [str(error), repr(error), *traceback.format_exception(error)]
        error = error.__cause__ or error.__context__
    return "\n".join(said)


def leaked(said: str) -> list[str]:
    return [canary for canary in CANARIES if canary in said]


# ---- connecting ------------------------------------------------------------------------------------------------------


class TestConnecting:
    async def test_uses_the_kubeconfig(self, kube: KubeClient, space: Space) -> None:
        space.create_secret(type="auth.getasset.com/token", stringData={"a": "1"})
        secret = await kube.read_secret(Key(space.name, NAME))
        assert secret == parse_secret(space.existing_secret())

    @pytest.mark.usefixtures("crds")
    async def test_uses_the_pods_service_account_in_a_cluster(
        self, controlplane: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = json.loads(controlplane.kubeconfig_for(namespace, "default").read_text())
        token, authority = tmp_path / "token", tmp_path / "ca.crt"
        token.write_text(given["users"][0]["user"]["token"])
        authority.write_bytes(base64.b64decode(given["clusters"][0]["cluster"]["certificate-authority-data"]))
        monkeypatch.delenv("KUBECONFIG", raising=False)
        url = httpx.URL(controlplane.server)
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", url.host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(url.port or 443))
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(authority))
        async with Client(await ApiClient.connect(), forever) as kube:
            assert await kube.serves_asset_tokens()  # which only those may ask who say who they are

    async def test_sends_nothing_yet(self, connect: Connect, tmp_path: Path) -> None:
        """An operator starts also while the API server can't be reached."""
        async with an_api_server(answering(200)) as api:
            async with await connect(a_kubeconfig(tmp_path, api.url)):
                pass
            assert api.received == []

    async def test_says_that_there_is_no_kubeconfig(self, connect: Connect, tmp_path: Path) -> None:
        with pytest.raises(KubeUnavailableError, match=r"^No cluster to connect to: .*\. Set KUBECONFIG\.$"):
            await connect(tmp_path / "absent")


@pytest.mark.usefixtures("crds")
class TestTheCrd:
    async def test_is_found(self, kube: KubeClient) -> None:
        assert await kube.serves_asset_tokens()

    @pytest.mark.parametrize(
        ("module", "constant", "value"),
        [
            pytest.param(kube_module, "GROUP", "absent.getasset.com", id="group"),
            pytest.param(kube_module, "VERSION", "v9", id="version"),
            pytest.param(parsing, "PLURAL", "absenttokens", id="resource"),
        ],
    )
    async def test_is_missed(
        self, kube: KubeClient, monkeypatch: pytest.MonkeyPatch, module: ModuleType, constant: str, value: str
    ) -> None:
        monkeypatch.setattr(module, constant, value)
        assert not await kube.serves_asset_tokens()


@pytest.mark.usefixtures("crds")
class TestListingAssetTokens:
    async def test_tells_each_ones_version_and_the_lists_own(
        self, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In pages of two, so that there are several."""
        monkeypatch.setattr(kube_module, "PAGE", 2)
        created = [space.create_asset_token(f"t{number}") for number in range(5)]
        listed, version = await kube.list_asset_tokens(space.name)
        assert dict(listed) == {token.key: token.version for token in created}
        assert version >= max(listed.values())

    async def test_tells_those_of_all_namespaces_where_none_is_named(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        listed, _ = await kube.list_asset_tokens("")
        assert listed[token.key] == token.version

    async def test_tells_only_those_that_are_selected_on_each_page(
        self, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kube_module, "PAGE", 2)
        tokens = [space.create_asset_token(f"t{number}", labels={"odd": str(number % 2)}) for number in range(7)]
        listed, _ = await kube.list_asset_tokens(space.name, "odd=1")
        assert set(listed) == {token.key for token in tokens[1::2]}

    @pytest.mark.parametrize("selector", SELECTORS)
    async def test_takes_the_selectors_that_the_settings_take(
        self, kube: KubeClient, namespace: str, selector: str
    ) -> None:
        listed, _ = await kube.list_asset_tokens(namespace, selector)
        assert listed == {}

    @pytest.mark.parametrize("selector", [selector for selector in NO_SELECTORS if selector.strip()])
    async def test_refuses_those_that_the_settings_refuse(
        self, kube: KubeClient, namespace: str, selector: str
    ) -> None:
        """The settings refuse an empty one, too, which would select all."""
        with pytest.raises(KubeRefusedError):
            await kube.list_asset_tokens(namespace, selector)

    async def test_tells_that_there_are_none(self, kube: KubeClient, namespace: str) -> None:
        listed, version = await kube.list_asset_tokens(namespace)
        assert dict(listed) == {}
        assert version > 0


@pytest.mark.usefixtures("crds")
class TestConfirmingAnAssetToken:
    async def test_takes_one_that_is_there(self, kube: KubeClient, space: Space) -> None:
        space.create_asset_token("another")
        await kube.confirm_asset_token(space.create_asset_token())

    async def test_refuses_one_that_is_gone(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        with pytest.raises(NotFoundError):
            await kube.confirm_asset_token(replace(token, key=Key(space.name, "gone")))

    async def test_refuses_a_namesake(self, kube: KubeClient, space: Space) -> None:
        with pytest.raises(NotFoundError):
            await kube.confirm_asset_token(replace(space.create_asset_token(), uid=GONE))


# ---- Secrets ---------------------------------------------------------------------------------------------------------


class TestReadingASecret:
    async def test_that_is_not_there_gives_nothing(self, kube: KubeClient, namespace: str) -> None:
        assert await kube.read_secret(Key(namespace, "absent")) is None

    async def test_in_a_namespace_that_is_not_there_gives_nothing(self, kube: KubeClient) -> None:
        assert await kube.read_secret(Key("absent-namespace", "absent")) is None

    async def test_tells_what_the_operator_applied(self, kube: KubeClient, space: Space) -> None:
        written = await kube.apply_secret(space.manifest(labels={"team": "ledger"}), None)
        space.cluster.api.patch(space.path("secrets", NAME), {"metadata": {"labels": {"by": "somebody-else"}}})
        secret = await kube.read_secret(Key(space.name, NAME))
        assert secret
        assert secret.labels["by"] == "somebody-else"
        assert secret.applied == written.applied
        assert ("label", "team") in secret.applied
        assert ("data", "access_token") in secret.applied
        assert ("label", "by") not in secret.applied


async def list_all(kube: KubeClient, namespace: str) -> tuple[dict[Key, SecretState], int]:
    """The metadata of all Secrets, and the list's version."""
    found: dict[Key, SecretState] = {}
    version = 0
    async for page, page_version in kube.list_secrets(namespace):
        found |= {secret.key: secret for secret in page}
        version = page_version
    return found, version


async def watch_all(kube: KubeClient, namespace: str = "shop", since: int = 1) -> list[SecretEvent]:
    """All that a watch tells until it ends."""
    return [event async for event in kube.watch_secrets(namespace, since)]


class TestWatchingSecrets:
    async def test_begins_with_the_metadata_of_each(
        self, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In pages of two, so that there are several."""
        monkeypatch.setattr(kube_module, "PAGE", 2)
        created = [space.create_secret(f"s{number}", stringData={"a": TOKEN}) for number in range(5)]
        found, since = await list_all(kube, space.name)
        assert list(found.values()) == [parse_secret_metadata(secret) for secret in created]
        assert since >= max(secret.version for secret in found.values())

    async def test_begins_with_all_that_is_needed_of_our_own(self, kube: KubeClient, space: Space) -> None:
        written = await kube.apply_secret(space.manifest(labels={"team": "ledger"}), None)
        found, _ = await list_all(kube, space.name)
        assert found[written.key] == replace(written, type=None, data=None)

    async def test_begins_with_nothing_of_others_but_names_and_versions(self, kube: KubeClient, space: Space) -> None:
        body = space.create_secret(stringData={"a": TOKEN})
        space.cluster.api.patch(space.path("secrets", NAME), {"metadata": {"annotations": {"copy": TOKEN}}})
        found, _ = await list_all(kube, space.name)
        (secret,) = found.values()
        assert (secret.uid, secret.type, secret.data) == (body["metadata"]["uid"], None, None)
        assert (secret.labels, secret.annotations, secret.applied) == ({}, {}, frozenset())

    async def test_begins_with_those_of_all_namespaces_where_none_is_named(
        self, kube: KubeClient, space: Space
    ) -> None:
        created = space.create_secret()
        found, _ = await list_all(kube, "")
        assert found[Key(space.name, NAME)] == parse_secret_metadata(created)

    async def test_begins_with_nothing_in_an_empty_namespace(self, kube: KubeClient, namespace: str) -> None:
        found, since = await list_all(kube, namespace)
        assert found == {}
        assert since > 0

    @pytest.mark.parametrize("everywhere", [pytest.param(False, id="a-namespace"), pytest.param(True, id="all")])
    async def test_tells_what_is_created_changed_and_deleted(
        self,
        kube: KubeClient,
        space: Space,
        everything_logged: pytest.LogCaptureFixture,
        everywhere: bool,  # noqa: FBT001 - a row's value
    ) -> None:
        namespace = "" if everywhere else space.name
        _, since = await list_all(kube, namespace)
        created = space.create_secret(stringData={"access_token": TOKEN})
        changed = space.cluster.api.patch(space.path("secrets", NAME), {"metadata": {"labels": {"a": "b"}}})
        space.delete_secret()
        seen: list[SecretEvent] = []
        async with asyncio.timeout(10), aclosing(kube.watch_secrets(namespace, since)) as watch:
            async for event in watch:
                if event.secret is not None and event.secret.key == Key(space.name, NAME):
                    seen.append(event)
                    if event.kind == "DELETED":
                        break
        assert seen[:2] == [
            SecretEvent(kind, int(body["metadata"]["resourceVersion"]), parse_secret_metadata(body))
            for kind, body in (("ADDED", created), ("MODIFIED", changed))
        ]
        assert [event.kind for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
        assert seen[2].version > seen[1].version
        assert leaked(everything_logged.text) == []

    async def test_asks_for_nothing_of_a_secret_but_its_metadata(self, a_faulty: Faulty) -> None:
        """What is asked for is no Secret but its metadata, so none that isn't needed comes into memory."""
        asked: list[str] = []

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            asked.append(request.headers["accept"])
            if "watch" in request.query:
                return web.Response()
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []})

        async with a_faulty(answer) as (_, kube):
            await list_all(kube, "shop")
            assert await watch_all(kube) == []
        assert [accept.partition(";g=")[0] for accept in asked] == [
            "application/json;as=PartialObjectMetadataList",
            "application/json;as=PartialObjectMetadata",
        ]

    async def test_ends_when_the_api_server_has_forgotten_where_it_began(self, a_faulty: Faulty) -> None:
        gone = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "reason": "Expired", "code": 410}
        added = {
            "type": "ADDED",
            "object": {"metadata": {"namespace": "shop", "name": NAME, "uid": GONE, "resourceVersion": "7"}},
        }
        lines = json.dumps({"type": "ERROR", "object": gone}) + "\n" + json.dumps(added) + "\n"
        seen = []
        async with a_faulty(answering(200, lines.encode())) as (_, kube):
            with pytest.raises(KubeRefusedError, match="too old"):
                seen += await watch_all(kube)
        assert seen == []

    async def test_ends_when_the_watch_ends(self, a_faulty: Faulty) -> None:
        metadata = {"namespace": "shop", "name": NAME, "uid": GONE, "resourceVersion": "7"}
        lines = [
            {"type": "ADDED", "object": {"metadata": metadata}},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "8"}}},
        ]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        async with a_faulty(answering(200, body)) as (_, kube):
            seen = await watch_all(kube)
        secret = SecretState(Key("shop", NAME), GONE, None, version=7, data=None)
        assert seen == [SecretEvent("ADDED", 7, secret), SecretEvent("BOOKMARK", 8, None)]

    async def test_ends_when_it_fell_silent(self, a_faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api_server, "SILENCE_SECONDS", 0.2)
        async with asyncio.timeout(2), a_faulty(silent) as (_, kube):
            with suppress(KubeUnavailableError):
                assert await watch_all(kube) == []

    async def test_may_last_longer_than_a_call(
        self, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The time for a call ends with the answer's head."""
        monkeypatch.setattr(api_server, "TIMEOUT_SECONDS", 0.3)
        _, since = await list_all(kube, space.name)
        async with asyncio.timeout(5), aclosing(kube.watch_secrets(space.name, since)) as watch:
            first = asyncio.ensure_future(anext(watch))
            done, _ = await asyncio.wait({first}, timeout=0.5)
            assert not done
            space.create_secret()
            secret = (await first).secret
            assert secret is not None
            assert secret.key == Key(space.name, NAME)

    @pytest.mark.parametrize(
        "line",
        [
            pytest.param(b"<html>", id="html"),
            pytest.param(b"[]", id="array"),
            pytest.param(b"{}", id="no-event"),
            pytest.param(b'{"type": "ADDED", "object": {}}', id="no-metadata"),
            pytest.param(b'{"type": "ADDED", "object": {"metadata"', id="truncated"),
        ],
    )
    async def test_ends_or_is_told_as_our_own_when_a_line_makes_no_sense(self, a_faulty: Faulty, line: bytes) -> None:
        async with a_faulty(answering(200, line + b"\n")) as (_, kube):
            with suppress(KubeError):
                assert await watch_all(kube) == []


def bad_key(name: str, how: str) -> str:
    field = {"client_id": "clientIdKey", "client_secret": "clientSecretKey"}[name]
    return (
        f"Key {name} of credentials Secret asset-credentials {how}: put it right, or set"
        f" spec.credentialsSecretRef.{field} to the key that has it."
    )


class TestCredentials:
    REF = CredentialsRef("asset-credentials")

    @pytest.mark.parametrize(
        ("sent", "read"),
        [
            pytest.param("secret", "secret", id="no-line-break"),
            pytest.param("secret\n", "secret", id="line-break"),
            pytest.param("secret\r\n", "secret", id="windows-line-break"),
            pytest.param("secret\n\n\r\n", "secret", id="many-line-breaks"),
            pytest.param(" \tse cret \n", "se cret", id="blanks"),
            pytest.param("\ufeffsecret\r\n", "secret", id="byte-order-mark"),
            pytest.param("\u00a0secret\u2028", "secret", id="blanks-of-unicode"),
            pytest.param("se\ncret", "se\ncret", id="all-within-stays"),
            pytest.param("pässwörd\n", "pässwörd", id="beyond-ascii"),
        ],
    )
    async def test_lose_what_editors_leave_around_them(
        self, kube: KubeClient, space: Space, sent: str, read: str
    ) -> None:
        space.create_secret("asset-credentials", stringData={"client_id": "id\n", "client_secret": sent})
        credentials = await kube.read_credentials(space.name, self.REF)
        assert credentials.client_id.get_secret_value() == "id"
        assert credentials.client_secret.get_secret_value() == read

    async def test_are_read_from_the_keys_that_are_named(self, kube: KubeClient, space: Space) -> None:
        space.create_secret("mine", stringData={"id": "my-id", "pass.word": "my-secret", "client_id": "not this"})
        credentials = await kube.read_credentials(space.name, CredentialsRef("mine", "id", "pass.word"))
        assert credentials.client_id.get_secret_value() == "my-id"
        assert credentials.client_secret.get_secret_value() == "my-secret"

    async def test_are_missed_with_their_secret(self, kube: KubeClient, namespace: str) -> None:
        with pytest.raises(CredentialsNotFoundError) as caught:
            await kube.read_credentials(namespace, self.REF)
        assert str(caught.value) == (
            f"Credentials Secret asset-credentials does not exist in namespace {namespace}: create it with the keys"
            " client_id and client_secret, or correct spec.credentialsSecretRef.name."
        )

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            pytest.param({"client_id": b"id"}, bad_key("client_secret", "is missing"), id="missing"),
            pytest.param(
                {"client_secret": b"canary-client-secret"},
                bad_key("client_id", "is missing"),
                id="missing-id",
            ),
            pytest.param({}, bad_key("client_id", "is missing"), id="no-data"),
            pytest.param(
                {"client_id": b"id", "client_secret": b""},
                bad_key("client_secret", "is empty"),
                id="empty",
            ),
            pytest.param(
                {"client_id": b" \xef\xbb\xbf\n\r\n", "client_secret": b"canary-client-secret"},
                bad_key("client_id", "is empty"),
                id="line-breaks-only",
            ),
            pytest.param(
                {"client_id": b"id", "client_secret": b"canary-client-secret\xff"},
                bad_key("client_secret", "is not UTF-8 text"),
                id="not-utf-8",
            ),
        ],
    )
    async def test_that_are_no_use_are_told_by_the_keys_name(
        self,
        kube: KubeClient,
        space: Space,
        everything_logged: pytest.LogCaptureFixture,
        data: dict[str, bytes],
        sentence: str,
    ) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        space.create_secret("asset-credentials", data=encoded)
        with pytest.raises(CredentialsInvalidError) as caught:
            await kube.read_credentials(space.name, self.REF)
        assert str(caught.value) == sentence
        said = all_said(caught.value, everything_logged)
        assert leaked(said) == []
        assert not any(value in said for value in encoded.values() if len(value) > 8)

    async def test_that_may_not_be_read_are_told(self, powerless: KubeClient, namespace: str) -> None:
        with pytest.raises(KubeRefusedError, match="403 Forbidden") as caught:
            await powerless.read_credentials(namespace, self.REF)
        assert caught.value.status == 403


LARGE = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
"""aiohttp's advice for bodies of a mebibyte; the operator sends one only to be refused."""


class TestApplyingASecret:
    async def test_creates_it_as_decided_and_as_the_operators_own(self, kube: KubeClient, space: Space) -> None:
        manifest = space.manifest(labels={"team": "ledger"}, annotations={"example.com/a": "1"})
        returned = await kube.apply_secret(manifest, None)
        secret = space.existing_secret()
        assert secret["type"] == "auth.getasset.com/token"
        assert secret["data"] == manifest["data"]
        assert data_of(secret)["access_token"] == TOKEN
        assert secret["metadata"]["labels"] == manifest["metadata"]["labels"]
        assert secret["metadata"]["annotations"] == manifest["metadata"]["annotations"]
        assert managers_of(secret) == {(*OURS, None)}
        assert returned == parse_secret(secret)

    async def test_returns_what_was_sent_and_nothing_of_others_data(self, kube: KubeClient, space: Space) -> None:
        """The answer is metadata only: nobody's data comes back."""
        await kube.apply_secret(space.manifest(), None)
        others = {"labels": {"by": "somebody-else"}}
        theirs = {"metadata": others, "data": {"theirs": "YQ=="}}
        before = parse_secret(space.cluster.api.patch(space.path("secrets", NAME), theirs))
        second = space.manifest(token="canary-access-token-2")
        returned = await kube.apply_secret(second, before)
        assert returned == replace(parse_secret(space.existing_secret()), data=second["data"])
        assert returned.labels["by"] == "somebody-else"

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("🚀 liftoff 🧑‍🚀", id="beyond the basic plane"),
            pytest.param("Grüße, 世界", id="beyond ascii"),
            pytest.param('"quoted" \\ back\\slash', id="quotes and backslashes"),
            pytest.param("a\nb\r\n\tc", id="line breaks"),
            pytest.param("a\x85b\u2028c\u2029d", id="line breaks of Unicode"),
            pytest.param("a\x01b\x7fc\x9fd", id="controls"),
            pytest.param("\ufeffa\ufeffb", id="byte order marks"),
            pytest.param("a\ufffeb\uffffc", id="no characters"),
            pytest.param("yes: no # ~ !!null {} [] & * | > %", id="what means something in YAML"),
            pytest.param("\u202eabc", id="right to left"),
            pytest.param("", id="empty"),
        ],
    )
    async def test_writes_any_text_in_an_annotation(self, kube: KubeClient, space: Space, text: str) -> None:
        """The API server reads an apply as YAML, which knows no surrogates."""
        manifest = space.manifest(annotations={"example.com/a": text})
        returned = await kube.apply_secret(manifest, None)
        assert space.existing_secret()["metadata"]["annotations"]["example.com/a"] == text
        assert returned == parse_secret(space.existing_secret())

    async def test_prunes_what_was_dropped_and_nothing_of_others(self, kube: KubeClient, space: Space) -> None:
        first = space.manifest(labels={"team": "ledger"}, annotations={"example.com/a": "1"})
        first["data"][".env"] = base64.b64encode(b"A=1").decode()
        written = await kube.apply_secret(first, None)
        others = {"labels": {"by": "somebody-else"}, "annotations": {"example.com/b": "2"}}
        theirs = {"metadata": others, "data": {"theirs": "YQ=="}}
        before = parse_secret(space.cluster.api.patch(space.path("secrets", NAME), theirs))
        second = space.manifest(token="canary-access-token-2", labels={"tier": "web"})
        await kube.apply_secret(second, before)
        secret = space.existing_secret()
        assert secret["metadata"]["uid"] == written.uid
        assert secret["metadata"]["labels"] == second["metadata"]["labels"] | others["labels"]
        assert secret["metadata"]["annotations"] == second["metadata"]["annotations"] | others["annotations"]
        assert secret["data"] == second["data"] | {"theirs": "YQ=="}

    async def test_takes_back_what_somebody_altered(self, kube: KubeClient, space: Space) -> None:
        manifest = space.manifest()
        await kube.apply_secret(manifest, None)
        tampered = {"data": {"access_token": "YQ=="}, "metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}
        before = parse_secret(space.cluster.api.patch(space.path("secrets", NAME), tampered))
        await kube.apply_secret(manifest, before)
        secret = space.existing_secret()
        assert secret["data"] == manifest["data"]
        assert secret["metadata"]["labels"] == manifest["metadata"]["labels"]

    async def test_again_with_nothing_new_writes_nothing(self, kube: KubeClient, space: Space) -> None:
        first = await kube.apply_secret(space.manifest(), None)
        second = await kube.apply_secret(space.manifest(), first)
        assert second == first
        assert space.existing_secret()["metadata"]["resourceVersion"] == str(first.version)

    @pytest.mark.usefixtures("crds")
    async def test_lets_its_owner_go(self, kube: KubeClient, space: Space) -> None:
        owner = space.create_asset_token()
        owned = await kube.apply_secret(space.manifest(owner), None)
        assert owned.controller_uid == owner.uid
        reference = space.existing_secret()["metadata"]["ownerReferences"]
        assert reference == [
            {
                "apiVersion": "auth.getasset.com/v1alpha1",
                "kind": "AssetToken",
                "name": "ledger-writer",
                "uid": owner.uid,
                "controller": True,
            }
        ]
        retained = await kube.apply_secret(space.manifest(), owned)
        assert retained.controller_uid is None
        assert "ownerReferences" not in space.existing_secret()["metadata"]
        assert data_of(space.existing_secret())["access_token"] == TOKEN

    @pytest.mark.usefixtures("crds")
    async def test_changes_its_owner(self, kube: KubeClient, space: Space) -> None:
        first, second = space.create_asset_token("first"), space.create_asset_token("second")
        owned = await kube.apply_secret(space.manifest(first), None)
        changed = await kube.apply_secret(space.manifest(second), owned)
        assert changed.controller_uid == second.uid
        assert len(space.existing_secret()["metadata"]["ownerReferences"]) == 1

    @pytest.mark.parametrize(
        "foreign",
        [
            pytest.param({"type": "Opaque", "stringData": {"access_token": "theirs"}}, id="opaque"),
            pytest.param(
                {"type": "kubernetes.io/basic-auth", "stringData": {"username": "u", "password": "p"}}, id="basic-auth"
            ),
            pytest.param({"type": "Opaque", "immutable": True, "stringData": {"a": "1"}}, id="immutable"),
        ],
    )
    async def test_leaves_a_foreign_one_alone(self, kube: KubeClient, space: Space, foreign: Json) -> None:
        before = space.create_secret(**foreign)
        with pytest.raises(SecretConflictError) as caught:
            await kube.apply_secret(space.manifest(), parse_secret(before))
        assert str(caught.value) == (
            f"Secret {NAME} exists and does not belong to this AssetToken, so it is left alone;"
            " delete it or set another spec.secret.name."
        )
        assert space.secret() == before

    @pytest.mark.parametrize("type_", ["Opaque", "auth.getasset.com/token"])
    async def test_creates_one_only_where_there_is_none(self, kube: KubeClient, space: Space, type_: str) -> None:
        """A former leader's first write, which a webhook held up, comes after that of its successor."""
        theirs = space.create_secret(type=type_, stringData={"access_token": "theirs"})
        with pytest.raises(ConflictError):
            await kube.apply_secret(space.manifest(), None)
        assert space.secret() == theirs

    async def test_does_not_overwrite_one_that_was_changed_since(self, kube: KubeClient, space: Space) -> None:
        """The same of its renewal."""
        seen = await kube.apply_secret(space.manifest(), None)
        theirs = await kube.apply_secret(space.manifest(token="canary-access-token-2"), seen)
        with pytest.raises(ConflictError):
            await kube.apply_secret(space.manifest(token="canary-access-token-3"), seen)
        await kube.delete_secret(seen)
        assert parse_secret(space.existing_secret()) == theirs

    async def test_does_not_overwrite_one_that_was_created_since(self, kube: KubeClient, space: Space) -> None:
        seen = await kube.apply_secret(space.manifest(), None)
        space.delete_secret()
        theirs = space.create_secret(type="auth.getasset.com/token", stringData={"access_token": "theirs"})
        with pytest.raises(ConflictError):
            await kube.apply_secret(space.manifest(), seen)
        assert space.secret() == theirs

    async def test_does_not_bring_back_one_that_was_deleted(self, kube: KubeClient, space: Space) -> None:
        seen = await kube.apply_secret(space.manifest(), None)
        space.delete_secret()
        with pytest.raises(ConflictError):
            await kube.apply_secret(space.manifest(), seen)
        assert space.secret() is None

    @pytest.mark.parametrize(
        ("change", "blamed"),
        [
            pytest.param(
                {"data": {"big": base64.b64encode(b"x" * 1_100_000).decode()}},
                "data",
                id="data-too-large",
                marks=LARGE,
            ),
            pytest.param(
                {"annotations": {"example.com/a": TOKEN + "x" * 300_000}}, "metadata.annotations", id="annotations"
            ),
            pytest.param({"labels": {"team": TOKEN + " " + "x" * 64}}, "metadata.labels", id="label-value"),
            pytest.param({"data": {"a key": ENCODED_TOKEN}}, "data[a key]", id="key"),
        ],
    )
    async def test_that_is_invalid_is_told_by_the_field(
        self, kube: KubeClient, space: Space, everything_logged: pytest.LogCaptureFixture, change: Any, blamed: str
    ) -> None:
        manifest = space.manifest()
        manifest["data"] |= change.pop("data", {})
        for name, values in change.items():
            manifest["metadata"][name] |= values
        with pytest.raises(KubeRefusedError) as caught:
            await kube.apply_secret(manifest, None)
        assert type(caught.value) is KubeRefusedError
        assert (caught.value.status, caught.value.fields) == (422, frozenset({blamed}))
        told = f"PATCH {space.path('secrets', NAME)}: the API server refused with 422 Invalid, because of {blamed};"
        too_large = f"The API server refused the data of Secret {NAME}: it is over 1 MiB, or the Secret is immutable"
        assert str(caught.value).startswith(too_large if blamed == "data" else told)
        assert space.secret() is None
        assert leaked(all_said(caught.value, everything_logged)) == []

    @LARGE
    async def test_of_more_bytes_than_a_request_may_have_is_told(
        self, kube: KubeClient, space: Space, everything_logged: pytest.LogCaptureFixture
    ) -> None:
        manifest = space.manifest()
        manifest["data"]["big"] = base64.b64encode(b"x" * 3_000_000).decode()
        with pytest.raises(KubeRefusedError, match="refused with 413") as caught:
            await kube.apply_secret(manifest, None)
        assert caught.value.status == 413
        assert space.secret() is None
        assert leaked(all_said(caught.value, everything_logged)) == []

    async def test_that_is_no_secret_at_all_is_told_without_its_data(
        self, kube: KubeClient, space: Space, everything_logged: pytest.LogCaptureFixture
    ) -> None:
        manifest = space.manifest()
        manifest["data"]["access_token"] = TOKEN  # not base64
        with pytest.raises(KubeError) as caught:
            await kube.apply_secret(manifest, None)
        assert space.secret() is None
        assert leaked(all_said(caught.value, everything_logged)) == []

    async def test_over_an_immutable_one_of_ours_is_told(self, kube: KubeClient, space: Space) -> None:
        await kube.apply_secret(space.manifest(), None)
        space.cluster.api.patch(space.path("secrets", NAME), {"immutable": True})
        before = space.existing_secret()
        with pytest.raises(KubeRefusedError) as caught:
            await kube.apply_secret(space.manifest(token="canary-access-token-2"), parse_secret(before))
        assert caught.value.fields == {"data"}
        assert space.secret() == before

    async def test_in_a_namespace_that_is_gone_is_told(self, kube: KubeClient, space: Space) -> None:
        manifest = space.manifest()
        manifest["metadata"]["namespace"] = "absent-namespace"
        with pytest.raises(NotFoundError):
            await kube.apply_secret(manifest, None)

    async def test_leaves_the_manifest_as_it_was_decided(self, kube: KubeClient, space: Space) -> None:
        manifest = space.manifest()
        seen = await kube.apply_secret(manifest, None)
        await kube.apply_secret(manifest, seen)
        assert manifest == space.manifest()


class TestDeletingASecret:
    async def test_deletes_it(self, kube: KubeClient, space: Space) -> None:
        await kube.delete_secret(await kube.apply_secret(space.manifest(), None))
        assert space.secret() is None

    async def test_spares_one_that_was_created_since(self, kube: KubeClient, space: Space) -> None:
        seen = await kube.apply_secret(space.manifest(), None)
        space.delete_secret()
        theirs = space.create_secret(stringData={"a": "1"})
        await kube.delete_secret(seen)
        assert space.secret() == theirs

    async def test_is_content_when_it_is_gone(self, kube: KubeClient, space: Space) -> None:
        seen = await kube.apply_secret(space.manifest(), None)
        space.delete_secret()
        await kube.delete_secret(seen)
        assert space.secret() is None

    async def test_that_is_forbidden_is_told(self, powerless: KubeClient, space: Space) -> None:
        before = space.create_secret(stringData={"a": "1"})
        with pytest.raises(KubeRefusedError) as caught:
            await powerless.delete_secret(parse_secret(before))
        assert caught.value.status == 403
        assert space.secret() == before


# ---- status and events -----------------------------------------------------------------------------------------------


def a_status(**changes: Any) -> Json:
    return {"observedGeneration": 1, "secretName": NAME, "revision": 1} | changes


@pytest.mark.usefixtures("crds")
class TestWritingAStatus:
    async def test_writes_the_status_and_nothing_else(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        before = space.asset_token()
        written = await kube.write_status(token, parse_status(a_status()))
        after = space.asset_token()
        assert after["status"] == a_status()
        assert after["spec"] == before["spec"]
        assert after["metadata"]["generation"] == before["metadata"]["generation"]
        assert written == parse_asset_token(after)
        assert managers_of(after) - managers_of(before) == {("asset-token-operator", "Update", "status")}

    async def test_prunes_what_was_dropped(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        condition = {"type": "Stalled", "status": "True", "reason": "X", "message": "x"}
        condition["lastTransitionTime"] = "2026-05-01T12:00:00Z"
        written = await kube.write_status(token, parse_status(a_status(conditions=[condition], failedAttempts=3)))
        written = await kube.write_status(written, parse_status(a_status(revision=2)))
        assert space.asset_token()["status"] == a_status(revision=2)
        assert written == parse_asset_token(space.asset_token())

    async def test_prunes_what_somebody_else_put_there(self, kube: KubeClient, space: Space) -> None:
        space.create_asset_token()
        path = space.path("assettokens", "ledger-writer")
        theirs = {"status": {"lastFailureTime": "2026-05-01T12:00:00Z", "failedAttempts": 7}}
        token = parse_asset_token(space.cluster.api.patch(f"{path}/status", theirs))
        await kube.write_status(token, parse_status(a_status()))
        assert space.asset_token()["status"] == a_status()

    async def test_over_one_that_an_earlier_operator_applied_leaves_nothing_of_it(
        self, kube: KubeClient, space: Space
    ) -> None:
        """Which was by server-side apply, so its fields have another manager."""
        token = space.create_asset_token()
        path = space.path("assettokens", "ledger-writer")
        applied = {
            "apiVersion": "auth.getasset.com/v1alpha1",
            "kind": "AssetToken",
            "metadata": {"name": token.key.name},
        }
        query = "fieldManager=asset-token-operator&force=true"
        body = {**applied, "status": a_status(failedAttempts=3)}
        token = parse_asset_token(
            space.cluster.api.patch(f"{path}/status?{query}", body, "application/apply-patch+yaml")
        )
        await kube.write_status(token, parse_status(a_status(revision=2)))
        assert space.asset_token()["status"] == a_status(revision=2)

    async def test_of_one_that_changed_since_is_refused_and_changes_nothing(
        self, kube: KubeClient, space: Space
    ) -> None:
        token = space.create_asset_token()
        annotations = {"metadata": {"annotations": {"a": "b"}}}
        before = space.cluster.api.patch(space.path("assettokens", "ledger-writer"), annotations)
        with pytest.raises(ConflictError):
            await kube.write_status(token, parse_status(a_status()))
        assert space.asset_token() == before

    async def test_with_nothing_new_writes_nothing(self, kube: KubeClient, space: Space) -> None:
        first = await kube.write_status(space.create_asset_token(), parse_status(a_status()))
        assert await kube.write_status(first, parse_status(a_status())) == first

    async def test_leaves_a_namesake_alone_that_was_created_since(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        space.delete_asset_token()
        space.create_asset_token()
        before = space.asset_token()
        with suppress(KubeError):
            await kube.write_status(token, parse_status(a_status()))
        assert space.asset_token() == before

    async def test_of_one_that_is_gone_is_told(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        space.delete_asset_token()
        with pytest.raises(NotFoundError) as caught:
            await kube.write_status(token, parse_status(a_status()))
        assert str(caught.value) == (
            f"PATCH {space.path('assettokens', 'ledger-writer')}/status: the API server refused with 404 NotFound;"
            " tried again by itself."
        )

    async def test_that_the_crd_refuses_is_told_by_the_field(
        self, kube: KubeClient, space: Space, everything_logged: pytest.LogCaptureFixture
    ) -> None:
        token = space.create_asset_token()
        before = space.asset_token()
        with pytest.raises(KubeRefusedError) as caught:
            await kube.write_status(token, parse_status(a_status(secretName=TOKEN + "/")))
        assert caught.value.status == 422
        assert caught.value.fields == {"status.secretName"}
        assert space.asset_token() == before
        assert leaked(all_said(caught.value, everything_logged)) == []


LONGEST_NAME = ".".join(["a" * 63] * 3 + ["b" * 61])
DOT_AT_THE_CUT = "a" * 199 + "." + "b" * 53


@pytest.mark.usefixtures("crds")
class TestAnEvent:
    @pytest.mark.parametrize(
        "name",
        [
            pytest.param("ledger-writer", id="plain"),
            pytest.param("ledger.writer.v1", id="dots"),
            pytest.param(LONGEST_NAME, id="253-characters"),
            pytest.param(DOT_AT_THE_CUT, id="253-characters-with-a-dot-in-the-middle"),
        ],
    )
    async def test_shows_where_users_look(self, kube: KubeClient, space: Space, name: str) -> None:
        token = space.create_asset_token(name)
        event = Event("Warning", "RequestRefused", "Asset refused the request (400 invalid_scope).")
        await kube.create_event(token, event, NOW, "operator-1")
        described = space.cluster.kubectl("describe", f"assettoken/{name}", f"--namespace={space.name}")
        assert re.search(r"Warning +RequestRefused .*asset-token-operator.* Asset refused the request", described)
        listed = space.cluster.kubectl("get", "events", f"--namespace={space.name}", "--output=json")
        (seen,) = json.loads(listed)["items"]
        assert (seen["type"], seen["reason"], seen["message"]) == (event.type, event.reason, event.message)
        involved = seen["involvedObject"]
        assert (involved["kind"], involved["name"], involved["uid"]) == ("AssetToken", name, token.uid)
        assert seen["eventTime"] == "2026-05-01T12:00:00.000000Z"
        assert (seen["reportingComponent"], seen["reportingInstance"]) == ("asset-token-operator", "operator-1")

    @pytest.mark.parametrize(
        ("message", "instance"),
        [
            pytest.param("m" * 2000, "operator-1", id="long-message"),
            pytest.param("ü" * 2000, "operator-1", id="long-message-beyond-ascii"),
            pytest.param("A sentence.", "i" * 200, id="long-instance"),
        ],
    )
    async def test_is_cut_to_what_the_api_server_takes(
        self, kube: KubeClient, space: Space, message: str, instance: str
    ) -> None:
        token = space.create_asset_token()
        await kube.create_event(token, Event("Normal", "SecretSynced", message), NOW, instance)
        events = space.cluster.api.get(f"/apis/events.k8s.io/v1/namespaces/{space.name}/events")["items"]
        (note,) = [event["note"] for event in events]
        assert len(note) > 500 or note == message
        assert message.startswith(note)

    async def test_is_one_for_each_reason_and_moment(self, kube: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        for reason, seconds in (("A", 0), ("B", 0), ("A", 1)):
            moment = NOW + timedelta(seconds=seconds)
            await kube.create_event(token, Event("Normal", reason, "A sentence."), moment, "operator-1")
        events = space.cluster.api.get(f"/apis/events.k8s.io/v1/namespaces/{space.name}/events")["items"]
        assert sorted(event["reason"] for event in events) == ["A", "A", "B"]

    async def test_that_is_forbidden_is_told(self, powerless: KubeClient, space: Space) -> None:
        token = space.create_asset_token()
        with pytest.raises(KubeRefusedError) as caught:
            await powerless.create_event(token, Event("Normal", "A", "A sentence."), NOW, "operator-1")
        assert caught.value.status == 403


# ---- failures --------------------------------------------------------------------------------------------------------


SECRET_STATE = SecretState(key=Key("shop", NAME), uid=GONE, type="Opaque")


def a_manifest(namespace: str) -> dict[str, Any]:
    spec = a_spec(secret=SecretSpec(NAME, deletion_policy=DeletionPolicy.RETAIN))
    return secret_manifest(an_asset_token(spec, key=Key(namespace, "ledger-writer")), an_issued_token(spec), ENDPOINTS)


Call = Callable[[KubeClient], Awaitable[object]]
CALLS: dict[str, Call] = {
    "serves-asset-tokens": lambda kube: kube.serves_asset_tokens(),
    "list-asset-tokens": lambda kube: kube.list_asset_tokens("shop"),
    "confirm-asset-token": lambda kube: kube.confirm_asset_token(an_asset_token()),
    "list-secrets": lambda kube: anext(kube.list_secrets("shop")),
    "watch-secrets": lambda kube: anext(kube.watch_secrets("shop", 0)),
    "read-secret": lambda kube: kube.read_secret(Key("shop", NAME)),
    "read-credentials": lambda kube: kube.read_credentials("shop", CredentialsRef("asset-credentials")),
    "apply-secret": lambda kube: kube.apply_secret(a_manifest("shop"), None),
    "delete-secret": lambda kube: kube.delete_secret(SECRET_STATE),
    "write-status": lambda kube: kube.write_status(an_asset_token(), parse_status(a_status())),
    "create-event": lambda kube: kube.create_event(an_asset_token(), Event("Normal", "A", "A sentence."), NOW, "me"),
}
each_call = pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in CALLS.items()])


class TestAFailure:
    @pytest.mark.parametrize(
        "call", [pytest.param(call, id=name) for name, call in CALLS.items() if name != "serves-asset-tokens"]
    )
    async def test_for_want_of_rights_is_told(
        self, powerless: KubeClient, everything_logged: pytest.LogCaptureFixture, call: Call
    ) -> None:
        with pytest.raises(KubeRefusedError) as caught:
            await call(powerless)
        assert caught.value.status == 403
        assert re.fullmatch(
            r"[A-Za-z]+ /api[a-z0-9/.-]+: the API server refused with 403 Forbidden; check the operator's Role there;"
            r" tried again by itself\.",
            str(caught.value),
        )
        assert leaked(all_said(caught.value, everything_logged)) == []

    async def test_to_be_known_is_one_that_may_pass(
        self,
        audited_controlplane: ControlPlane,
        connect: Connect,
        tmp_path: Path,
        everything_logged: pytest.LogCaptureFixture,
    ) -> None:
        cluster = json.loads(audited_controlplane.kubeconfig.read_text())["clusters"][0]["cluster"]
        authority = {"certificate-authority": cluster["certificate-authority"]}
        async with await connect(a_kubeconfig(tmp_path, audited_controlplane.server, **authority)) as kube:
            with pytest.raises(
                KubeUnavailableError, match=r": the API server answered 401; tried again by itself\.$"
            ) as caught:
                await kube.apply_secret(a_manifest("default"), None)
        assert leaked(all_said(caught.value, everything_logged)) == []

    @each_call
    async def test_to_connect_is_told(
        self, connect: Connect, tmp_path: Path, everything_logged: pytest.LogCaptureFixture, call: Call
    ) -> None:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))  # and doesn't listen
            path = a_kubeconfig(tmp_path, f"https://127.0.0.1:{bound.getsockname()[1]}")
            async with await connect(path) as kube:
                with pytest.raises(
                    KubeUnavailableError, match=r": no answer from the API server at [\d.:]+: connection refused; tried"
                ) as caught:
                    await call(kube)
        assert leaked(all_said(caught.value, everything_logged)) == []

    async def test_to_trust_the_server_is_told_and_nothing_is_done(
        self, tmp_path: Path, connect: Connect, space: Space
    ) -> None:
        admin = json.loads(space.cluster.kubeconfig.read_text())["users"][0]["user"]
        async with await connect(a_kubeconfig(tmp_path, space.cluster.server, admin)) as kube:
            with pytest.raises(
                KubeUnavailableError,
                match=r"no answer from the API server at .+: its certificate, .+ isn\'t trusted; tried",
            ):
                await kube.apply_secret(space.manifest(), None)
        assert space.secret() is None

    async def test_to_answer_in_time_is_told(
        self, audited_controlplane: ControlPlane, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_server, "TIMEOUT_SECONDS", 0.3)
        with audited_controlplane.paused_apiserver():
            async with asyncio.timeout(2):
                with pytest.raises(
                    KubeUnavailableError, match=r"no answer from the API server at .+: no answer in time; tried"
                ):
                    await kube.read_secret(Key(space.name, NAME))
        monkeypatch.undo()
        assert await kube.read_secret(Key(space.name, NAME)) is None

    async def test_to_end_an_answer_is_told(self, a_faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(api_server, "TIMEOUT_SECONDS", 0.3)
        async with asyncio.timeout(2), a_faulty(silent) as (_, kube):
            with pytest.raises(KubeUnavailableError):
                await kube.read_secret(Key("shop", NAME))

    @pytest.mark.parametrize(
        "status", [pytest.param(status, id=str(status)) for status in (401, 408, 429, 500, 502, 503, 504)]
    )
    async def test_that_may_pass_is_told_by_its_status(self, a_faulty: Faulty, status: int) -> None:
        path = f"/api/v1/namespaces/shop/secrets/{NAME}"
        body = json.dumps({"kind": "Status", "message": TOKEN, "reason": TOKEN}).encode()
        async with a_faulty(answering(status, body)) as (api, kube):
            with pytest.raises(KubeUnavailableError) as caught:
                await kube.read_secret(Key("shop", NAME))
        assert str(caught.value) == f"GET {path}: the API server answered {status}; tried again by itself."
        tries = 2 if status == 401 else 1  # with credentials read anew
        assert [seen[:2] for seen in api.received] == [("GET", path)] * tries

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"<html>Please log in</html>", id="html"),
            pytest.param(b'{"kind": "Secret", "meta', id="truncated-json"),
            pytest.param(b"[]", id="array"),
            pytest.param(b'{"kind": "Status", "metadata": {}, "status": "Success"}', id="another-kind"),
            pytest.param(b"[" * 100_000, id="deeply-nested"),
        ],
    )
    @pytest.mark.parametrize(
        "call",
        [
            pytest.param(CALLS[name], id=name)
            for name in (
                "serves-asset-tokens",
                "list-asset-tokens",
                "list-secrets",
                "read-secret",
                "apply-secret",
                "write-status",
            )
        ],
    )
    async def test_to_make_sense_is_told_as_our_own(self, a_faulty: Faulty, call: Call, body: bytes) -> None:
        """What stands in front of an API server, such as a proxy that wants a login, may answer 200 to all."""
        async with a_faulty(answering(200, body)) as (api, kube):
            with pytest.raises(KubeError):
                await call(kube)
        assert len(api.received) == 1

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b'{"kind": "Status", "details": "x"}', id="details-is-text"),
            pytest.param(b'{"kind": "Status", "details": {"causes": {"field": "type"}}}', id="causes-is-an-object"),
            pytest.param(b'{"kind": "Status", "details": {"causes": [null, 1]}}', id="causes-are-no-objects"),
            pytest.param(b'{"kind": "Status", "details": {"causes": [{"field": 1}, {}]}}', id="field-is-a-number"),
        ],
    )
    async def test_with_a_malformed_explanation_is_told_nevertheless(self, a_faulty: Faulty, body: bytes) -> None:
        async with a_faulty(answering(403, body)) as (_, kube):
            with pytest.raises(KubeRefusedError) as caught:
                await kube.apply_secret(a_manifest("shop"), None)
        assert caught.value.status == 403

    async def test_by_redirection_takes_no_secret_elsewhere(self, a_faulty: Faulty) -> None:
        async with an_api_server(answering(403, b"{}")) as elsewhere:
            there = {"location": f"{elsewhere.url}/elsewhere"}
            async with a_faulty(answering(307, b"", there)) as (api, kube):
                with pytest.raises(KubeError):
                    await kube.apply_secret(a_manifest("shop"), None)
        assert len(api.received) == 1
        assert elsewhere.received == []


class TestNothingLeaks:
    async def test_when_secrets_are_read_written_and_deleted(
        self, kube: KubeClient, space: Space, everything_logged: pytest.LogCaptureFixture
    ) -> None:
        space.create_secret("asset-credentials", stringData={"client_id": "c", "client_secret": "canary-client-secret"})
        credentials = await kube.read_credentials(space.name, CredentialsRef("asset-credentials"))
        written = await kube.apply_secret(space.manifest(), None)
        read = await kube.read_secret(Key(space.name, NAME))
        assert read
        assert data_of(space.existing_secret())["access_token"] == TOKEN
        await kube.delete_secret(read)
        shown = f"{everything_logged.text} {credentials!r} {credentials} {written!r} {read} {kube!r}"
        assert leaked(shown) == []
        configuration = json.loads(space.cluster.kubeconfig.read_text())
        for user in configuration["users"]:
            assert user["user"].get("token", "canary") not in shown

    @pytest.mark.parametrize("status", [pytest.param(status, id=str(status)) for status in (403, 409, 422, 500)])
    @pytest.mark.parametrize(
        "where",
        [
            pytest.param(lambda text: {"message": text}, id="message"),
            pytest.param(lambda text: {"reason": text}, id="reason"),
            pytest.param(lambda text: {"details": {"name": text, "kind": text}}, id="details"),
            pytest.param(
                lambda text: {"details": {"causes": [{"field": "data", "reason": text, "message": text}]}}, id="cause"
            ),
        ],
    )
    async def test_when_an_answer_repeats_what_was_sent(
        self,
        a_faulty: Faulty,
        everything_logged: pytest.LogCaptureFixture,
        where: Callable[[str], Json],
        status: int,
    ) -> None:
        """A policy's webhook may say anything, also as the reason."""
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
        body |= where(f"denied: {ENCODED_TOKEN} is {TOKEN}")
        async with a_faulty(answering(status, json.dumps(body).encode())) as (api, kube):
            with pytest.raises(KubeError) as caught:
                await kube.apply_secret(a_manifest("shop"), None)
        (received,) = api.received
        assert ENCODED_TOKEN in received[2]
        assert leaked(all_said(caught.value, everything_logged)) == []


class TestTimeLeft:
    async def test_nothing_is_written_when_there_is_none_and_all_can_still_be_read(
        self, controlplane: Cluster, space: Space, connect: Connect
    ) -> None:
        def none() -> timedelta:
            raise NotLeadingError

        async with await connect(controlplane.kubeconfig) as client:
            token = space.create_asset_token()
            manifest = space.manifest(token)
            created = await client.apply_secret(manifest, None)
            held = KubeClient(client.api, none)
            with pytest.raises(NotLeadingError):
                await held.apply_secret(manifest, created)
            with pytest.raises(NotLeadingError):
                await held.delete_secret(created)
            with pytest.raises(NotLeadingError):
                await held.write_status(token, NOT_SEEN_YET)
            with pytest.raises(NotLeadingError):
                await held.create_event(token, Event("Normal", "SecretSynced", "Issued."), NOW, "test")
            assert await held.read_secret(created.key) == created


# ---- what is large ---------------------------------------------------------------------------------------------------


class TestWhatIsLarge:
    async def test_a_page_that_is_too_large_is_read_in_parts(
        self, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Annotations may hold a copy of the data, which `kubectl apply` writes there."""
        for number in range(12):
            annotations = {"auth.getasset.com/copy": "x" * 200_000}
            space.create_secret(metadata={"name": f"large-{number}", "annotations": annotations})
        monkeypatch.setattr(kube_module, "LARGEST_PAGE", 500_000)
        pages = [page async for page, _ in kube.list_secrets(space.name)]
        assert max(map(len, pages)) <= 2
        assert len({secret.key for page in pages for secret in page}) >= 12

    async def test_one_object_that_is_too_large_is_told(
        self, kube: KubeClient, space: Space, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        space.create_secret(stringData={"a": "x" * 100_000})
        monkeypatch.setattr(api_server, "LARGEST_OBJECT", 50_000)
        with pytest.raises(TooLargeError):
            await kube.read_secret(Key(space.name, NAME))
        monkeypatch.setattr(kube_module, "LARGEST_PAGE", 50_000)
        annotations = {"auth.getasset.com/a": "x" * 100_000}
        space.create_secret(metadata={"name": "annotated", "annotations": annotations})
        with pytest.raises(TooLargeError):
            await list_all(kube, space.name)

    async def test_nothing_is_kept_of_the_data_of_others(self, kube: KubeClient, space: Space) -> None:
        space.create_secret(stringData={"access_token": TOKEN})
        secret = await kube.read_secret(Key(space.name, NAME))
        assert secret is not None
        assert (secret.type, secret.data) == ("Opaque", {})

    async def test_what_is_no_token_is_not_decoded(self, kube: KubeClient, space: Space) -> None:
        space.create_secret(type="auth.getasset.com/token", stringData={"access_token": "x" * 800_000, "a": "1"})
        secret = await kube.read_secret(Key(space.name, NAME))
        assert secret is not None
        assert secret.data == {"access_token": "", "a": "MQ=="}

    async def test_the_longest_token_is_read(self, kube: KubeClient, space: Space) -> None:
        space.create_secret(type="auth.getasset.com/token", stringData={"access_token": "x" * 16_384})
        secret = await kube.read_secret(Key(space.name, NAME))
        assert secret is not None
        assert secret.data is not None
        assert base64.b64decode(secret.data["access_token"]) == b"x" * 16_384

    async def test_what_is_no_credential_is_not_decoded(self, kube: KubeClient, space: Space) -> None:
        data = {"client_id": "x" * 800_000, "client_secret": "canary-client-secret"}
        space.create_secret(name="asset-credentials", stringData=data)
        with pytest.raises(
            CredentialsInvalidError, match=r"Key client_id .* is longer than any credential: put it right"
        ):
            await kube.read_credentials(space.name, CredentialsRef("asset-credentials"))

    async def test_large_ones_of_ours_keep_nothing_else_waiting(self, kube: KubeClient, space: Space) -> None:
        """As long as the loop stands no Lease is renewed; in CPU time, as this machine may be busy."""
        labels = {"app.kubernetes.io/managed-by": "asset-token-operator"}
        annotations = {"auth.getasset.com/owner": "ledger-writer"}
        names = [f"large-{number}" for number in range(5)]
        for name in names:
            metadata = {"name": name, "labels": labels, "annotations": annotations}
            data = {"access_token": "x" * 825_000}
            space.create_secret(type="auth.getasset.com/token", metadata=metadata, stringData=data)
        longest, stop = 0.0, asyncio.Event()

        async def measure() -> None:
            nonlocal longest
            while not stop.is_set():
                began = time.thread_time()
                await asyncio.sleep(0.001)
                longest = max(longest, time.thread_time() - began)

        measuring = asyncio.create_task(measure())
        reads = [kube.read_secret(Key(space.name, name)) for name in names * 15]
        await asyncio.gather(list_all(kube, space.name), *reads)
        stop.set()
        await measuring
        assert longest < 0.25, "75 of them, and a list"
