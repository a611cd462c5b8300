"""Every kubeconfig that people have leads to the API server, as with kubectl."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.cluster import Json
from tests.support.connect_proxy import Proxy, serving
from tests.support.controlplane import ControlPlane
from tests.support.plugin import Plugin
from tests.support.shop import Shop


@pytest.fixture
def config(audited_controlplane: ControlPlane, shop: Shop) -> Json:
    """The administrator's kubeconfig, to be changed."""
    read: Json = json.loads(shop.cluster.kubeconfig.read_text())
    read["contexts"][0]["context"]["namespace"] = shop.namespace
    return read


@pytest.fixture
def plugin_with(tmp_path: Path) -> Callable[..., Plugin]:
    def make(config: Json, *more: Path, **variables: str) -> Plugin:
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config))
        paths = Path(os.pathsep.join(map(str, (path, *more))))
        return Plugin(tmp_path / "bin", paths, variables=variables)

    return make


def works(plugin: Plugin) -> None:
    done = plugin.piped("status")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert done.stderr.startswith("No AssetTokens in the namespace 't-")


def test_a_login_program_says_who_we_are(config: Json, plugin_with: Callable[..., Plugin], tmp_path: Path) -> None:
    token = config["users"][0]["user"].pop("token")
    program = tmp_path / "login.py"
    said = {"kind": "ExecCredential", "status": {"token": token}}
    program.write_text(
        f"import os\nassert os.environ['KUBERNETES_EXEC_INFO'] and os.environ['WHO']\nprint({json.dumps(said)!r})"
    )
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable, "args": [str(program)]}
    config["users"][0]["user"]["exec"] = plugin | {"env": [{"name": "WHO", "value": "me"}]}
    works(plugin_with(config))


def test_a_login_program_that_fails_is_named(config: Json, plugin_with: Callable[..., Plugin]) -> None:
    config["users"][0]["user"] = {"exec": {"command": "no-such-program", "installHint": "Install it."}}
    done = plugin_with(config).piped("status")
    assert done.returncode == 1
    assert "The kubeconfig's login program 'no-such-program' gave no credentials" in done.stderr
    assert done.stderr.endswith("Install it.\n")


def test_files_are_found_beside_the_kubeconfig(
    config: Json, plugin_with: Callable[..., Plugin], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(config["users"][0]["user"].pop("token") + "\n")
    config["users"][0]["user"]["tokenFile"] = "token"
    cluster = config["clusters"][0]["cluster"]
    (tmp_path / "ca.crt").write_bytes(Path(cluster["certificate-authority"]).read_bytes())
    cluster["certificate-authority"] = "ca.crt"
    works(plugin_with(config))


def test_several_kubeconfigs_are_one(config: Json, plugin_with: Callable[..., Plugin], tmp_path: Path) -> None:
    other = tmp_path / "users"
    other.write_text(json.dumps({"users": config.pop("users"), "current-context": "another"}))
    works(plugin_with(config, other, tmp_path / "missing"))


def test_a_proxy_is_on_the_way_where_the_kubeconfig_names_one(
    shop: Shop, config: Json, plugin_with: Callable[..., Plugin]
) -> None:
    async def through_a_proxy() -> list[bytes]:
        proxy = Proxy(urlsplit(shop.cluster.server).port)
        async with serving(proxy) as port:
            config["clusters"][0]["cluster"]["proxy-url"] = f"http://me:canary@127.0.0.1:{port}"
            await asyncio.to_thread(works, plugin_with(config))
        return proxy.asked

    asked = asyncio.run(through_a_proxy())
    assert len(asked) == 1
    assert b"Proxy-Authorization: Basic bWU6Y2FuYXJ5" in asked[0]


def test_the_servers_name_may_be_another(config: Json, plugin_with: Callable[..., Plugin]) -> None:
    config["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes.default.svc"
    works(plugin_with(config))
    config["clusters"][0]["cluster"]["tls-server-name"] = "another.example.com"
    done = plugin_with(config).piped("status")
    assert done.returncode == 1
    assert "has a certificate that the kubeconfig doesn't trust" in done.stderr


def test_an_unknown_user_is_told_to_log_in(config: Json, plugin_with: Callable[..., Plugin]) -> None:
    config["users"][0]["user"]["token"] = "canary"
    done = plugin_with(config).piped("status")
    assert (done.returncode, "doesn't know you: log in anew" in done.stderr) == (1, True)
    assert "canary" not in done.stderr


def test_contexts_are_chosen_by_name(config: Json, plugin_with: Callable[..., Plugin]) -> None:
    config["current-context"] = ""
    plugin = plugin_with(config)
    assert "has no current context" in plugin.piped("status").stderr
    assert "choose one of these with --context: controlplane." in plugin.piped("status", "--context=x").stderr
    assert plugin.piped("status", "--context=controlplane").returncode == 0
