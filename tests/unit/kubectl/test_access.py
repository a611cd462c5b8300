"""Who we are by a kubeconfig, without an API server; with one it is in tests/cluster/kubectl/test_access.py."""

import base64
import http.server
import json
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from asset_token_operator.kubectl.access import load
from asset_token_operator.kubectl.cluster import Cluster
from asset_token_operator.kubectl.problems import Problem
from tests.support.certificates import a_certificate


class Peer(http.server.BaseHTTPRequestHandler):
    """Tells whose certificate the client has."""

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        body = json.dumps({"known": self.connection.getpeercert(binary_form=True) is not None}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def a_kubeconfig(folder: Path, cluster: dict[str, Any], user: dict[str, Any]) -> str:
    context = {"cluster": "c", "user": "u"}
    config = {
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": context}],
    }
    (folder / "config").write_text(json.dumps(config))
    return str(folder / "config")


@pytest.mark.parametrize("inline", [True, False], ids=["data", "files"])
def test_a_client_certificate_is_shown(tmp_path: Path, inline: bool) -> None:  # noqa: FBT001
    server, client = a_certificate(tmp_path / "server"), a_certificate(tmp_path / "client", host="me")
    server.context.verify_mode = ssl.CERT_REQUIRED
    server.context.load_verify_locations(client.path)
    files = {"client-certificate": client.path, "client-key": client.key_path}
    user = {name: str(path) for name, path in files.items()}
    if inline:
        user = {f"{name}-data": base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    with http.server.HTTPServer(("127.0.0.1", 0), Peer) as listening:
        listening.socket = server.context.wrap_socket(listening.socket, server_side=True)
        thread = threading.Thread(target=listening.handle_request)
        thread.start()
        where = {
            "server": f"https://127.0.0.1:{listening.server_address[1]}",
            "certificate-authority": str(server.path),
        }
        cluster = Cluster(load(a_kubeconfig(tmp_path, where, user), None))
        assert cluster.get("/version") == {"known": True}
        cluster.close()
        thread.join()


@pytest.mark.parametrize(
    ("cluster", "user", "said"),
    [
        pytest.param({"server": "ftp://a"}, {}, "address or certificates can't be used", id="no http"),
        pytest.param({"server": "https://a", "proxy-url": "socks5://canary:canary@b"}, {}, "not supported", id="socks"),
        pytest.param(
            {"server": "https://a", "proxy-url": "https://b"}, {}, "by https is not supported", id="tls in tls"
        ),
        pytest.param(
            {"server": "https://a"}, {"client-certificate": "no", "client-key": "no"}, "file not found", id="file"
        ),
        pytest.param({"server": "https://a"}, {"auth-provider": {}}, "use an exec plugin", id="auth-provider"),
        pytest.param({"server": "https://a"}, {"token": "canary\r\nX: y"}, "log in anew", id="two headers"),
        pytest.param({"server": "https://a"}, {"as-groups": ["b"]}, "but no user: add", id="groups of nobody"),
        pytest.param({}, {}, "names no cluster with a server", id="no server"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], said: str) -> None:
    with pytest.raises(Problem, match=said) as problem:
        load(a_kubeconfig(tmp_path, cluster, user), None)
    assert "canary" not in str(problem.value)


def test_as_whom_we_act_is_said_with_each_call(tmp_path: Path) -> None:
    got: list[Any] = []

    class Hears(http.server.BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            got.append(self.headers)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Hears) as listening:
        thread = threading.Thread(target=listening.handle_request)
        thread.start()
        where = {"server": f"http://127.0.0.1:{listening.server_address[1]}"}
        user = {"token": "canary", "as": "other", "as-groups": ["one", "two"]}
        cluster = Cluster(load(a_kubeconfig(tmp_path, where, user), None))
        assert cluster.patch("/version", {"a": "ü"}) == {"a": "ü"}
        cluster.close()
        thread.join()

    assert got[0].get_all("Impersonate-User") == ["other"]
    assert got[0].get_all("Impersonate-Group") == ["one", "two"]
    assert got[0]["Authorization"] == "Bearer canary"


def test_a_login_is_a_header_and_in_no_repr(tmp_path: Path) -> None:
    user = {"username": "me", "password": "canary", "as": "other"}
    access = load(a_kubeconfig(tmp_path, {"server": "https://a"}, user), None)
    assert access.authorization == "Basic bWU6Y2FuYXJ5"
    assert access.impersonation == (("Impersonate-User", "other"),)
    assert "canary" not in repr(access)
    assert "bWU6Y2FuYXJ5" not in repr(access)
