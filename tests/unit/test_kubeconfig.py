"""How the API server is found, and what a session to it does and doesn't."""

import asyncio
import base64
import json
import logging
import os
import re
import ssl
import tempfile
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from kubernetes.aio.config import incluster_config

from asset_token_operator import kubeconfig
from asset_token_operator.errors import KubeUnavailableError
from asset_token_operator.kubeconfig import context_namespace, load, own_namespace
from asset_token_operator.proxies import Proxy
from tests.support.api_server import (
    a_kubeconfig,
    a_login_program,
    an_api_server,
    answering,
    forget_settings,
    issuing,
)
from tests.support.certificates import a_certificate
from tests.support.clock import settle
from tests.support.connect_proxy import Proxy as ConnectProxy
from tests.support.connect_proxy import serving

SERVER = "https://127.0.0.1:6443"
ELSEWHERE = "https://10.96.0.1:6443"
TOLD = "(The kubeconfig|The context 'x'|the API server's address or certificates in KUBECONFIG=)"
HELP = (
    r"(: correct it( in the kubeconfig)?|: choose one with kubectl config [a-z-]+|[Ss]et KUBECONFIG( to another)?)\.$"
)
NO_URL = "is not the URL of a proxy, such as http://proxy.example.com:3128."
KIND = "names a proxy of another kind than http:// and https://, which is not supported; set one of these."


@pytest.fixture(autouse=True)
def no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forget_settings(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".kube").mkdir()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder whose `kubeconfig` is the one that `KUBECONFIG` names."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    return tmp_path


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class Pod:
    """A Pod's service account."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.token, self.namespace = folder / "token", folder / "namespace"
        self.token.write_text("canary-kube-token")
        self.namespace.write_text("operators\n")
        self.authority = a_certificate(folder).path
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
        monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(self.token))
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(self.authority))
        monkeypatch.setattr(kubeconfig, "NAMESPACE_FILE", self.namespace)


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(tmp_path, monkeypatch)


class TestWhereItIsRead:
    async def test_the_kubeconfig_that_is_named(self, here: Path) -> None:
        a_kubeconfig(here, f"{SERVER}/")
        access = await load()

        assert access.server == SERVER
        assert await access.headers() == {
            "User-Agent": "asset-token-operator",
            "Authorization": "Bearer canary-kube-token",
        }
        assert access.tls.verify_mode is ssl.CERT_REQUIRED
        assert access.tls.check_hostname

    @pytest.mark.usefixtures("pod")
    async def test_the_pods_service_account(self) -> None:
        access = await load()

        assert access.server == "https://10.96.0.1:443"
        assert (await access.headers())["Authorization"].lower() == "bearer canary-kube-token"
        assert len(access.tls.get_ca_certs()) == 1, "and no other authority"

    @pytest.mark.usefixtures("pod")
    async def test_an_ipv6_cluster(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")

        assert (await load()).server == "https://[fd00::1]:443"

    @pytest.mark.usefixtures("pod")
    async def test_the_one_that_is_named_also_in_a_pod(self, here: Path) -> None:
        a_kubeconfig(here, SERVER)

        assert (await load()).server == SERVER

    async def test_the_default_one_where_nothing_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a_kubeconfig(tmp_path, SERVER).rename(tmp_path / ".kube" / "config")

        assert (await load()).server == SERVER
        monkeypatch.setenv("KUBECONFIG", "")
        assert (await load()).server == SERVER

    async def test_that_the_default_one_is_not_there_is_said(self) -> None:
        with pytest.raises(KubeUnavailableError) as caught:
            await load()

        assert re.fullmatch(
            "No cluster to connect to: KUBECONFIG isn't set, and .*/.kube/config: file not found. Set KUBECONFIG.",
            str(caught.value),
        )

    async def test_that_the_one_that_is_named_is_not_there_is_said(self, here: Path) -> None:
        with pytest.raises(KubeUnavailableError) as caught:
            await load()

        assert str(caught.value) == (
            f"No cluster to connect to: KUBECONFIG={here / 'kubeconfig'}: file not found. Set KUBECONFIG."
        )

    @pytest.mark.parametrize("broken", ["token", "authority"])
    async def test_a_pod_without_what_it_needs_says_so(self, pod: Pod, broken: str) -> None:
        getattr(pod, broken).unlink()
        with pytest.raises(KubeUnavailableError, match=r"^No cluster to connect to: .*\. Set KUBECONFIG\.$"):
            await load()

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param("", id="empty"),
            pytest.param("users: [{user: {token: canary-kube-token", id="not yaml"),
            pytest.param("token: canary-kube-token\n\tx: y", id="tab"),
            pytest.param("just text with canary-kube-token", id="a string"),
            pytest.param("- canary-kube-token", id="a list"),
            pytest.param(
                "{clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], current-context: x,"
                " contexts: [{name: x, context: {cluster: c, user: u}}]}",
                id="no user",
            ),
            pytest.param(
                "{clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], current-context: x,"
                " users: [{name: u, token: canary-kube-token}], contexts: [{name: x, context: {cluster: c, user: u}}]}",
                id="token beside the user",
            ),
            pytest.param(
                "{clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: '!'}}],"
                " current-context: x, users: [{name: u, user: {token: canary-kube-token}}],"
                " contexts: [{name: x, context: {cluster: c, user: u}}]}",
                id="authority is not base64",
            ),
            pytest.param(
                "{clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1', certificate-authority-data: YQ==}}],"
                " current-context: x, users: [{name: u, user: {token: canary-kube-token}}],"
                " contexts: [{name: x, context: {cluster: c, user: u}}]}",
                id="authority is no certificate",
            ),
            pytest.param(
                "{clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], current-context: x,"
                " users: [{name: u, user: {client-certificate: /canary-kube-token, client-key: /absent}}],"
                " contexts: [{name: x, context: {cluster: c, user: u}}]}",
                id="our certificate is not there",
            ),
        ],
    )
    async def test_one_that_cannot_be_used_is_told_and_nothing_that_is_in_it(
        self, here: Path, caplog: pytest.LogCaptureFixture, text: str
    ) -> None:
        caplog.set_level(logging.DEBUG)
        (here / "kubeconfig").write_text(text)
        with pytest.raises(KubeUnavailableError, match=f"^No cluster to connect to: {TOLD}.*{HELP}") as caught:
            await load()

        error = caught.value
        assert error.__cause__ is None
        assert error.__suppress_context__ or error.__context__ is None, "else a traceback would show it"
        assert "canary" not in f"{error!r} {caplog.text}"


class TestContext:
    @staticmethod
    def of(folder: Path, name: str, **parts: Any) -> str:
        """A kubeconfig whose cluster, user and context have that name."""
        folder.mkdir(exist_ok=True)
        path = folder / "kubeconfig"
        config = {
            "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example.com"}}],
            "users": [{"name": name, "user": {"token": f"canary-{name}"}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": name}}],
            "current-context": name,
        }
        path.write_text(json.dumps(config | parts))
        return str(path)

    async def test_is_the_first_that_is_named(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (here / "empty").write_text("")
        paths = [str(here / "absent"), str(here / "empty")]
        paths += [self.of(here / name, name) for name in ("staging", "production")]
        monkeypatch.setenv("KUBECONFIG", ":".join(paths))

        access = await load()
        assert access.server == "https://staging.example.com"
        assert (await access.headers())["Authorization"] == "Bearer canary-staging"
        assert context_namespace() == "staging"

    async def test_stays_the_one_that_the_process_began_with(self, here: Path) -> None:
        """As with client-go: `kubectl config use-context` would send a token of one cluster to another."""
        contexts = [
            {"name": name, "context": {"cluster": name, "user": name, "namespace": name}} for name in ("a", "b")
        ]
        clusters = [{"name": name, "cluster": {"server": f"https://{name}.example.com"}} for name in ("a", "b")]
        users = [{"name": name, "user": {"token": f"canary-{name}"}} for name in ("a", "b")]
        parts: dict[str, Any] = {"contexts": contexts, "clusters": clusters, "users": users}
        self.of(here, "a", **parts)
        before = await load()
        self.of(here, "b", **parts)
        after = await load()

        assert (before.server, before.fingerprint) == (after.server, after.fingerprint)
        assert (await after.headers())["Authorization"] == "Bearer canary-a"
        assert context_namespace() == "a"

    async def test_that_is_not_there_any_more_is_said(self, here: Path) -> None:
        self.of(here, "a")
        await load()
        self.of(here, "b")
        with pytest.raises(KubeUnavailableError) as caught:
            await load()

        assert str(caught.value) == (
            "No cluster to connect to: The kubeconfig has no context 'a':"
            " choose one of these with kubectl config use-context: b."
        )

    async def test_may_have_a_user_of_another_file_whose_files_are_beside_that(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        theirs, ours = here / "theirs", here / "ours"
        server, mine = a_certificate(theirs), a_certificate(ours, host="me.example")
        server.context.verify_mode = ssl.CERT_REQUIRED
        server.context.load_verify_locations(mine.path)
        user = {"client-certificate": mine.path.name, "client-key": mine.key_path.name}
        async with an_api_server(answering(200), server.context) as api:
            cluster = {"server": api.url, "certificate-authority": server.path.name}
            paths = [
                self.of(theirs, "a", clusters=[{"name": "a", "cluster": cluster}], users=[]),
                self.of(ours, "b", users=[{"name": "a", "user": user}]),
            ]
            monkeypatch.setenv("KUBECONFIG", ":".join(paths))
            access = await load()
            async with access.session(0) as session, session.get(access.server) as answer:
                assert answer.status == 200


class TestNamespaces:
    @pytest.mark.usefixtures("pod")
    def test_the_pods_own(self) -> None:
        assert own_namespace() == "operators"

    @pytest.mark.parametrize("text", [pytest.param("\n", id="empty"), pytest.param(None, id="not there")])
    def test_a_pods_that_is_not_told(self, pod: Pod, text: str | None) -> None:
        if text is None:
            pod.namespace.unlink()
        else:
            pod.namespace.write_text(text)

        assert own_namespace() is None

    @pytest.mark.usefixtures("pod")
    def test_a_pods_is_not_taken_where_a_kubeconfig_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KUBECONFIG", "/somewhere")

        assert own_namespace() is None

    def test_there_is_none_outside_of_a_cluster(self) -> None:
        assert own_namespace() is None

    @pytest.mark.parametrize(
        ("context", "namespace"),
        [
            pytest.param({"namespace": "shop"}, "shop", id="named"),
            pytest.param({}, "default", id="not named"),
            pytest.param({"namespace": ""}, "default", id="empty"),
        ],
    )
    def test_the_present_contexts(self, here: Path, context: dict[str, str], namespace: str) -> None:
        path = a_kubeconfig(here, SERVER)
        config = json.loads(path.read_text())
        config["contexts"][0]["context"] |= context
        path.write_text(json.dumps(config))

        assert context_namespace() == namespace

    @pytest.mark.usefixtures("here")
    def test_the_default_one_where_no_context_can_be_read(self) -> None:
        assert context_namespace() == "default"


class TestWhoWeAre:
    async def test_a_token_that_was_replaced_is_read(self, pod: Pod) -> None:
        await load()
        pod.token.write_text("canary-kube-token-2")

        assert (await (await load()).headers())["Authorization"].endswith(" canary-kube-token-2")

    async def test_a_fresh_token_where_a_plugin_gave_one_that_expired(self, here: Path) -> None:
        plugin = here / "plugin"
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": "token-$n", "expirationTimestamp": "2020-01-01T00:00:00Z"},
        }
        said = json.dumps(credential).replace('"', '\\"')
        plugin.write_text(f'#!/bin/sh\necho >>"$0.runs"\nn=$(grep -c "" "$0.runs")\necho "{said}"\n')
        plugin.chmod(0o755)
        user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
        a_kubeconfig(here, SERVER, user)
        first, second = [(await (await load()).headers())["Authorization"] for _ in range(2)]

        assert first.startswith("Bearer token-")
        assert second.startswith("Bearer token-")
        assert first != second

    async def test_a_client_certificate(self, here: Path) -> None:
        certificate = a_certificate(here)
        certificate.context.verify_mode = ssl.CERT_REQUIRED
        certificate.context.load_verify_locations(certificate.path)
        user = {"client-certificate": str(certificate.path), "client-key": str(certificate.key_path)}
        async with an_api_server(answering(200), certificate.context) as api:
            a_kubeconfig(here, api.url, user, **{"certificate-authority": str(certificate.path)})
            access = await load()
            assert set(await access.headers()) == {"User-Agent"}
            async with access.session(0) as session, session.get(f"{access.server}/version") as answer:
                assert answer.status == 200

    async def test_nobody_where_the_kubeconfig_says_nothing(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {})

        assert set(await (await load()).headers()) == {"User-Agent"}

    async def test_nobody_where_the_context_names_no_user(self, here: Path) -> None:
        path = a_kubeconfig(here, SERVER)
        path.write_text(path.read_text().replace(', "user": "me"', ""))

        assert set(await (await load()).headers()) == {"User-Agent"}

    @pytest.mark.parametrize("beside", [{}, {"token": "canary-old"}], ids=["alone", "beside a token"])
    async def test_the_token_of_a_file_which_may_end_its_line(self, here: Path, beside: dict[str, str]) -> None:
        (here / "token").write_text("canary-kube-token\n")
        a_kubeconfig(here, SERVER, {"tokenFile": "token", **beside})

        assert (await (await load()).headers())["Authorization"] == "Bearer canary-kube-token"

    async def test_the_token_beside_a_file_that_is_not_there(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {"tokenFile": "token", "token": "canary-kube-token"})

        assert (await (await load()).headers())["Authorization"] == "Bearer canary-kube-token"

    async def test_that_a_tokens_file_is_empty_is_said_as_we_are_not_nobody(self, here: Path) -> None:
        (here / "token").write_text("\n")
        a_kubeconfig(here, SERVER, {"tokenFile": "token"})
        with pytest.raises(KubeUnavailableError, match=r"The kubeconfig's tokenFile is empty: log in anew\.$"):
            await load()

    async def test_a_token_with_characters_that_none_has_is_said(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {"token": "canary\r\nX: y"})
        with pytest.raises(KubeUnavailableError, match="has characters that none has") as caught:
            await load()

        assert "canary" not in str(caught.value)

    async def test_a_name_and_a_password(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {"username": "me", "password": "canary"})

        assert (await (await load()).headers())["Authorization"] == "Basic bWU6Y2FuYXJ5"

    async def test_whom_an_auth_provider_knows(self, here: Path) -> None:
        token = "eyJhbGciOiJub25lIn0.e30.c2ln"
        a_kubeconfig(here, SERVER, {"auth-provider": {"name": "oidc", "config": {"id-token": token}}})

        assert (await (await load()).headers())["Authorization"] == f"Bearer {token}"

    async def test_that_an_auth_provider_issues_nothing_is_said(
        self, here: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        a_kubeconfig(here, SERVER, {"auth-provider": {"name": "oidc", "config": {"refresh-token": "canary"}}})
        with pytest.raises(KubeUnavailableError, match="auth-provider issued no token: log in anew with kubectl"):
            await load()

        assert "canary" not in caplog.text

    async def test_a_certificate_without_its_key_is_said(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {"client-certificate": str(a_certificate(here).path)})
        with pytest.raises(KubeUnavailableError, match="client certificate has no key: add client-key"):
            await load()

    async def test_a_key_with_a_passphrase_is_said_and_nobody_asked_for_it(self, here: Path) -> None:
        """OpenSSL would ask at the terminal, for as long as nobody answers."""
        certificate = a_certificate(here)
        passphrase = serialization.BestAvailableEncryption(b"canary")
        pkcs8 = serialization.PrivateFormat.PKCS8
        certificate.key_path.write_bytes(certificate.key.private_bytes(serialization.Encoding.PEM, pkcs8, passphrase))
        user = {"client-certificate": str(certificate.path), "client-key": str(certificate.key_path)}
        a_kubeconfig(here, SERVER, user)
        with pytest.raises(KubeUnavailableError, match="client key has a passphrase, and nobody is asked for it"):
            await load()

    @pytest.mark.parametrize("in_memory", [True, False], ids=["in memory", "where there are no such files"])
    async def test_a_key_is_left_in_no_file(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, *, in_memory: bool
    ) -> None:
        certificate, folder = a_certificate(here), here / "temporary"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        if not in_memory:
            monkeypatch.delattr(os, "memfd_create")
        files = {"client-certificate": certificate.path, "client-key": certificate.key_path}
        data = {f"{name}-data": base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
        a_kubeconfig(here, SERVER, data)
        access = await load()

        assert list(folder.iterdir()) == []
        assert "PRIVATE" not in f"{access!r}"

    async def test_its_token_is_not_shown(self, here: Path) -> None:
        a_kubeconfig(here, SERVER)
        access = await load()

        assert "canary" not in f"{access} {access!r}"


class TestLoginProgram:
    """What the kubeconfig calls `exec`."""

    @pytest.fixture(autouse=True)
    def log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)

    @pytest.mark.parametrize(
        ("script", "why"),
        [
            pytest.param("echo canary >&2; exit 3", "it failed with exit code 3", id="fails"),
            pytest.param("echo canary", "its answer makes no sense", id="says something else"),
            pytest.param("echo '[\"canary\"]'", "its answer makes no sense", id="says a list"),
            pytest.param(issuing(), "its answer has neither a token nor a certificate with its key", id="says nothing"),
            pytest.param(issuing(clientCertificateData="canary"), "its answer has neither a token nor", id="no key"),
        ],
    )
    async def test_that_it_issues_nothing_is_said(
        self, here: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], script: str, why: str
    ) -> None:
        """The API server would take us for `system:anonymous`, and say that this one may not."""
        a_kubeconfig(here, SERVER, a_login_program(here / "login", script, installHint="Ask the platform team."))
        with pytest.raises(KubeUnavailableError) as caught:
            await load()

        beginning = (
            f"No cluster to connect to: The kubeconfig's login program '{here}/login' gave no credentials ({why}"
        )
        assert str(caught.value).startswith(beginning)
        assert str(caught.value).endswith("run kubectl get namespaces to see what it says. Ask the platform team.")
        told = capfd.readouterr()
        assert "canary" not in f"{caught.value} {caplog.text} {told.out} {told.err}"

    async def test_that_it_is_not_there_is_said(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {"exec": {"command": "no-such-login"}})
        with pytest.raises(KubeUnavailableError, match=r"'no-such-login' gave no credentials \(file not found\): run"):
            await load()

    async def test_that_it_takes_too_long_is_said_and_it_is_ended(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(kubeconfig, "LOAD_SECONDS", 0.5)
        a_kubeconfig(here, SERVER, a_login_program(here / "login", f"echo $$ >{here}/pid; sleep 600"))
        with pytest.raises(KubeUnavailableError, match="it took longer than"):
            await load()

        assert not is_running(int((here / "pid").read_text()))

    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
    def test_is_ended_with_whoever_waits_for_it(self, here: Path, run: Callable[[Any], int]) -> None:
        pipe = here / "begun"
        os.mkfifo(pipe)
        a_kubeconfig(here, SERVER, a_login_program(here / "login", f"echo $$ >{pipe}; sleep 600"))

        async def scenario() -> int:
            loading = asyncio.ensure_future(load())
            process = int(await asyncio.to_thread(pipe.read_text))
            loading.cancel()
            await asyncio.wait([loading])
            assert loading.cancelled()
            return process

        assert not is_running(run(scenario()))

    async def test_is_found_beside_the_kubeconfig(self, here: Path) -> None:
        (here / "bin").mkdir()
        user = a_login_program(here / "bin" / "login", issuing(token="canary-kube-token"), command="./bin/login")
        a_kubeconfig(here, SERVER, user)

        assert (await (await load()).headers())["Authorization"] == "Bearer canary-kube-token"

    async def test_gets_what_the_kubeconfig_says(self, here: Path) -> None:
        certificate = a_certificate(here)
        script = f'echo "$KUBERNETES_EXEC_INFO" >{here}/info; echo "$1 $WHO" >{here}/said\n{issuing(token="t")}'
        more = {"args": ["as"], "env": [{"name": "WHO", "value": "me"}], "provideClusterInfo": True}
        extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "it"}}
        a_kubeconfig(
            here,
            SERVER,
            a_login_program(here / "login", script, **more),
            **{"certificate-authority": certificate.path.name, "tls-server-name": "kube", "extensions": [extension]},
        )
        await load()

        assert (here / "said").read_text() == "as me\n"
        assert json.loads((here / "info").read_text()) == {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "spec": {
                "interactive": False,
                "cluster": {
                    "server": SERVER,
                    "tls-server-name": "kube",
                    "certificate-authority-data": base64.b64encode(certificate.path.read_bytes()).decode(),
                    "config": {"audience": "it"},
                },
            },
        }

    async def test_may_issue_a_token_and_a_certificate(self, here: Path) -> None:
        certificate = a_certificate(here)
        certificate.context.verify_mode = ssl.CERT_REQUIRED
        certificate.context.load_verify_locations(certificate.path)
        given = {
            "clientCertificateData": certificate.path.read_text(),
            "clientKeyData": certificate.key_path.read_text(),
        }
        user = a_login_program(here / "login", issuing(token="canary-kube-token", **given))
        async with an_api_server(answering(200), certificate.context) as api:
            a_kubeconfig(here, api.url, user, **{"certificate-authority": str(certificate.path)})
            access = await load()
            async with access.session(0, await access.headers()) as session, session.get(access.server) as answer:
                assert answer.status == 200

        assert api.headers[0]["Authorization"] == "Bearer canary-kube-token"

    async def test_does_not_replace_a_token_that_the_kubeconfig_has(self, here: Path) -> None:
        user = a_login_program(here / "login", issuing(token="canary-of-login"))
        a_kubeconfig(here, SERVER, user | {"token": "canary-kube-token"})

        assert (await (await load()).headers())["Authorization"] == "Bearer canary-kube-token"


class TestImpersonation:
    async def test_is_said_with_each_request(self, here: Path) -> None:
        more = {"as-uid": "7", "as-groups": ["one", "two"], "as-user-extra": {"example.com/team": ["a", "b"]}}
        async with an_api_server(answering(200)) as api:
            a_kubeconfig(here, api.url, {"token": "canary-kube-token", "as": "system:serviceaccount:a:b", **more})
            access = await load()
            async with access.session(0) as session:
                await session.get(access.server, headers=await access.headers())

        assert [pair for pair in api.headers[0].items() if pair[0].startswith("Impersonate-")] == [
            ("Impersonate-User", "system:serviceaccount:a:b"),
            ("Impersonate-Uid", "7"),
            ("Impersonate-Group", "one"),
            ("Impersonate-Group", "two"),
            ("Impersonate-Extra-example.com%2Fteam", "a"),
            ("Impersonate-Extra-example.com%2Fteam", "b"),
        ]
        assert api.headers[0]["Authorization"] == "Bearer canary-kube-token"

    async def test_of_groups_and_nobody_in_them_is_refused(self, here: Path) -> None:
        a_kubeconfig(here, SERVER, {"token": "canary-kube-token", "as-groups": ["one"]})
        with pytest.raises(KubeUnavailableError, match="impersonates groups or a uid, but no user: add"):
            await load()

    async def test_of_another_is_another_way(self, here: Path) -> None:
        found = set()
        for name in "ab":
            a_kubeconfig(here, SERVER, {"token": "canary-kube-token", "as": name})
            found.add((await load()).fingerprint)

        assert len(found) == 2


class TestWhoTheServerIs:
    async def test_is_verified_with_the_file_beside_empty_data(self, here: Path) -> None:
        certificate = a_certificate(here)
        files = {"certificate-authority-data": "", "certificate-authority": certificate.path.name}
        a_kubeconfig(here, SERVER, **files)

        assert len((await load()).tls.get_ca_certs()) == 1

    @pytest.mark.parametrize("name", ["certificate-authority", "client-certificate"])
    async def test_is_nobody_else_where_a_file_is_empty_just_now(self, here: Path, name: str) -> None:
        """Without an authority all that the system trusts would be taken, and without a certificate we were nobody."""
        (here / "empty").touch()
        part = {name: "empty"}
        a_kubeconfig(here, SERVER, part) if "client" in name else a_kubeconfig(here, SERVER, **part)
        with pytest.raises(KubeUnavailableError, match=f"{name} is an empty file: correct it"):
            await load()

    async def test_is_verified_with_a_file_whose_comments_are_in_any_language(self, here: Path) -> None:
        certificate = a_certificate(here)
        certificate.path.write_text(f"# Förvaltning\n{certificate.path.read_text()}")
        a_kubeconfig(here, SERVER, **{"certificate-authority": str(certificate.path)})

        assert len((await load()).tls.get_ca_certs()) == 1

    async def test_is_verified_with_the_authority_that_is_named(self, here: Path) -> None:
        theirs, ours = here / "theirs", here / "ours"
        theirs.mkdir()
        ours.mkdir()
        server, other = a_certificate(theirs), a_certificate(ours)
        async with an_api_server(answering(200), server.context) as api:
            a_kubeconfig(here, api.url, **{"certificate-authority": str(other.path)})
            access = await load()
            async with access.session(0) as session:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(access.server)
        assert api.received == []

    async def test_may_be_anybody_where_the_user_wants_it_so(self, here: Path) -> None:
        certificate = a_certificate(here, host="somebody.else")
        async with an_api_server(answering(200), certificate.context) as api:
            a_kubeconfig(here, api.url, **{"insecure-skip-tls-verify": True})
            access = await load()
            async with access.session(0) as session, session.get(access.server) as answer:
                assert answer.status == 200


class TestFingerprint:
    @pytest.mark.usefixtures("pod")
    async def test_is_the_same_for_the_same(self) -> None:
        assert (await load()).fingerprint == (await load()).fingerprint

    async def test_is_the_same_with_another_token(self, pod: Pod) -> None:
        before = (await load()).fingerprint
        pod.token.write_text("canary-kube-token-2")

        assert (await load()).fingerprint == before

    async def test_is_another_with_another_authority_in_the_same_file(self, pod: Pod) -> None:
        before = (await load()).fingerprint
        a_certificate(pod.authority.parent)

        assert (await load()).fingerprint != before

    @pytest.mark.usefixtures("pod")
    async def test_is_another_with_another_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = (await load()).fingerprint
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")

        assert (await load()).fingerprint != before

    async def test_is_another_with_an_authority_in_the_kubeconfig_itself(self, here: Path) -> None:
        found = set()
        for _ in range(2):
            data = base64.b64encode(a_certificate(here).path.read_bytes()).decode()
            a_kubeconfig(here, SERVER, **{"certificate-authority-data": data})
            found.add((await load()).fingerprint)

        assert len(found) == 2

    async def test_is_another_with_another_certificate_of_ours_in_the_same_file(self, here: Path) -> None:
        found = set()
        for _ in range(2):
            certificate = a_certificate(here)
            user = {"client-certificate": str(certificate.path), "client-key": str(certificate.key_path)}
            a_kubeconfig(here, SERVER, user)
            found.add((await load()).fingerprint)

        assert len(found) == 2

    @pytest.mark.parametrize(
        "cluster",
        [
            pytest.param({"insecure-skip-tls-verify": True}, id="nothing is verified"),
            pytest.param({"proxy-url": "http://proxy.example.com:3128"}, id="a proxy"),
        ],
    )
    async def test_is_another_with_another_way_there(self, here: Path, cluster: dict[str, object]) -> None:
        a_kubeconfig(here, SERVER)
        before = (await load()).fingerprint
        a_kubeconfig(here, SERVER, **cluster)

        assert (await load()).fingerprint != before


class TestProxy:
    async def test_is_the_one_that_the_variables_name(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
        a_kubeconfig(here, ELSEWHERE)

        assert (await load()).proxy == Proxy("http://proxy.example.com:3128")

    @pytest.mark.parametrize(
        "exempt", ["10.96.0.1", "10.96.0.1:6443", "*", "a.example.com,10.96.0.1", "127.0.0.0/8,10.0.0.0/8,.svc"]
    )
    async def test_is_none_where_they_exempt_the_server(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, exempt: str
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
        monkeypatch.setenv("NO_PROXY", exempt)
        a_kubeconfig(here, ELSEWHERE)

        assert (await load()).proxy is None

    async def test_is_rather_the_one_that_the_kubeconfig_names(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
        monkeypatch.setenv("NO_PROXY", "*")
        a_kubeconfig(here, SERVER, **{"proxy-url": "http://other.example.com:3128"})

        assert (await load()).proxy == Proxy("http://other.example.com:3128")

    @pytest.mark.parametrize(
        ("proxy", "sentence"),
        [
            pytest.param("socks5://me:canary@proxy:1080", KIND, id="of another kind"),
            pytest.param("ftp://canary@proxy", KIND, id="of an unheard-of kind"),
            pytest.param("http://me:canary@", NO_URL, id="nowhere"),
            pytest.param(["canary"], NO_URL, id="no text"),
            pytest.param("http://me:canary@proxy:port", NO_URL, id="no port"),
        ],
    )
    async def test_that_the_kubeconfig_names_and_nobody_can_use_is_said_in_a_sentence(
        self, here: Path, proxy: object, sentence: str
    ) -> None:
        a_kubeconfig(here, SERVER, **{"proxy-url": proxy})
        with pytest.raises(KubeUnavailableError) as caught:
            await load()

        assert str(caught.value) == f"No cluster to connect to: The kubeconfig's proxy-url {sentence}"
        assert "canary" not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
    async def test_that_a_variable_names_and_nobody_can_use_is_said_in_a_sentence(
        self, here: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        a_kubeconfig(here, ELSEWHERE)
        monkeypatch.setenv(variable, "socks5://me:canary@proxy:1080")
        with pytest.raises(KubeUnavailableError) as caught:
            await load()

        assert str(caught.value) == f"No cluster to connect to: {variable} {KIND}"

    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    @pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
    def test_has_a_name_and_a_login_of_its_own(self, here: Path, run: Callable[[Any], None], *, tls: bool) -> None:
        """`tls-server-name` says who the API server is, and not who the proxy is; its CA may be the API server's."""
        theirs, ours = here / "theirs", here / "ours"
        theirs.mkdir()
        ours.mkdir()
        server, other = a_certificate(theirs, host="kubernetes.default.svc"), a_certificate(ours)
        authority = here / "ca.crt"
        authority.write_bytes(server.path.read_bytes() + other.path.read_bytes())

        async def scenario() -> None:
            async with an_api_server(answering(200), server.context) as api:
                proxy = ConnectProxy(int(api.url.rpartition(":")[2]))
                async with serving(proxy, other.context if tls else None) as port:
                    way = f"{'https' if tls else 'http'}://m%C3%BC:canary@127.0.0.1:{port}"
                    named = {"proxy-url": way, "tls-server-name": "kubernetes.default.svc"}
                    a_kubeconfig(here, api.url, **named, **{"certificate-authority": str(authority)})
                    access = await load()
                    assert "canary" not in f"{access} {access!r}"
                    async with access.session(0) as session:
                        for _ in range(2):
                            async with session.get(f"{access.server}/version") as answer:
                                assert answer.status == 200
            (asked,) = proxy.asked
            login = base64.b64encode("mü:canary".encode()).decode()
            assert f"Proxy-Authorization: Basic {login}\r\n".encode() in asked
            assert all("Proxy-Authorization" not in headers for headers in api.headers)

        run(scenario())

    async def test_whose_certificate_is_of_another_authority_is_asked_nothing(self, here: Path) -> None:
        theirs, ours = here / "theirs", here / "ours"
        theirs.mkdir()
        ours.mkdir()
        server, other, proxy = a_certificate(theirs), a_certificate(ours), ConnectProxy()
        async with serving(proxy, other.context) as port:
            way = {"proxy-url": f"https://127.0.0.1:{port}", "certificate-authority": str(server.path)}
            a_kubeconfig(here, ELSEWHERE, **way)
            access = await load()
            async with access.session(0) as session:
                with pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(access.server)
        assert proxy.asked == []

    async def test_of_plain_http_gets_our_login_with_each_request(
        self, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with an_api_server(answering(200)) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://me:canary@"))
            a_kubeconfig(here, "http://kube.example.com:8080")
            access = await load()
            async with access.session(0) as session, session.get(f"{access.server}/version") as answer:
                assert answer.status == 200

        assert proxy.headers[0]["Host"] == "kube.example.com:8080"
        assert proxy.headers[0]["Proxy-Authorization"] == f"Basic {base64.b64encode(b'me:canary').decode()}"

    async def test_is_settled_for_each_session(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the variables say later is nothing that a call would look at."""
        asked: list[str] = []

        async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append((await reader.readline()).decode().strip())
            writer.close()

        async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            a_kubeconfig(here, "https://kube.example.com:6443")
            access = await load()
            monkeypatch.setenv("NO_PROXY", "*")
            async with access.session(0) as session:
                with pytest.raises(aiohttp.ClientError):
                    await session.get(access.server)

        assert asked[:1] == ["CONNECT kube.example.com:6443 HTTP/1.1"]


class TestSession:
    async def test_keeps_no_cookies(self, here: Path) -> None:
        async with an_api_server(answering(200, headers={"set-cookie": "canary=1; Path=/"})) as api:
            a_kubeconfig(here, api.url)
            access = await load()
            async with access.session(0) as session:
                for _ in range(2):
                    async with session.get(access.server):
                        pass

        assert len(api.headers) == 2
        assert all("cookie" not in headers for headers in api.headers)

    async def test_looks_at_no_variable_and_no_password_file(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It would for each call."""
        netrc = here / "netrc"
        netrc.write_text("machine 127.0.0.1 login me password canary-password\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        async with an_api_server(answering(200)) as api:
            a_kubeconfig(here, api.url)
            access = await load()
            monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
            async with access.session(0) as session, session.get(access.server):
                assert not session.trust_env

        assert "authorization" not in api.headers[0]

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308], ids=str)
    async def test_that_somebody_else_uses_follows_no_redirect(self, here: Path, status: int) -> None:
        async with (
            an_api_server(answering(200)) as elsewhere,
            an_api_server(answering(status, headers={"location": f"{elsewhere.url}/there"})) as api,
        ):
            a_kubeconfig(here, api.url)
            access = await load()
            async with access.session(0, trace=lambda _: None) as session:
                with pytest.raises(aiohttp.ClientError):
                    await session.post(access.server, data=b"canary-access-token")

        assert len(api.received) == 1
        assert elsewhere.received == []

    @pytest.mark.parametrize(
        ("name", "is_it"), [("kubernetes.default.svc", True), ("somebody.else", False)], ids=["its own", "another's"]
    )
    async def test_asks_for_the_name_that_the_kubeconfig_says(self, here: Path, name: str, *, is_it: bool) -> None:
        """Its `tls-server-name`, where a certificate has another name than the address."""
        certificate = a_certificate(here, host="kubernetes.default.svc")
        async with an_api_server(answering(200), certificate.context) as api:
            a_kubeconfig(here, api.url, **{"certificate-authority": str(certificate.path), "tls-server-name": name})
            access = await load()
            async with access.session(0) as session:
                with nullcontext() if is_it else pytest.raises(aiohttp.ClientConnectorCertificateError):
                    await session.get(access.server)

        assert len(api.received) == is_it

    async def test_sends_the_headers_that_it_was_given(self, here: Path) -> None:
        async with an_api_server(answering(200)) as api:
            a_kubeconfig(here, api.url)
            access = await load()
            async with access.session(0, await access.headers()) as session, session.get(access.server):
                pass

        assert api.headers[0]["Authorization"] == "Bearer canary-kube-token"

    async def test_is_traced_by_whoever_asks_for_it(self, here: Path) -> None:
        seen: list[str] = []

        def trace(traces: aiohttp.TraceConfig) -> None:
            async def started(_: object, __: object, request: aiohttp.TraceRequestStartParams) -> None:
                seen.append(request.url.path)

            traces.on_request_start.append(started)

        async with an_api_server(answering(200)) as api:
            a_kubeconfig(here, api.url)
            access = await load()
            async with access.session(0, trace=trace) as session, session.get(f"{access.server}/version"):
                pass

        assert seen == ["/version"]

    async def test_has_as_many_connections_as_it_was_given(self, here: Path) -> None:
        received: list[None] = []
        two, gate = asyncio.Event(), asyncio.Event()

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            received.append(None)
            if len(received) == 2:
                two.set()
            await gate.wait()
            return web.Response()

        async with an_api_server(answer) as api:
            a_kubeconfig(here, api.url)
            access = await load()
            async with access.session(2) as session, asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(session.get(access.server))
                await two.wait()
                await settle()
                assert len(received) == 2
                gate.set()
        assert len(received) == 3
