"""Whatever the command line and the kubeconfig are, the plugin says a sentence and never shows a traceback."""

import json
import random
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from asset_token_operator.kubectl.cli import VERBS, main

ROUNDS: Final = 200
WORDS: Final = (
    *VERBS, "ledger", "-n", "-A", "-l", "-o", "json", "yaml", "wide", "name", "--context", "--kubeconfig", "--all",
    "--wait", "--timeout=1", "--hours", "3", "-f", "-", "/dev/null", "/", "\x00", "ü", "../..", "a/b", "%s%n", "", "=",
    "assettoken/x", "--environment", "sandbox", "--credentials", "c", "--dry-run=client", "--scope=a:b", "--reveal",
    "-h", "--version", "--metrics-url", "http://127.0.0.1:9/", "--times=3", "--offline", "--no-asset", "\U0001f680",
    "--interval=0.2", "--lifetime=1h", "\udcff",
)  # fmt: skip
ODD: Final[tuple[Any, ...]] = (  # what a field may have that should be another thing
    None,
    "",
    7,
    True,
    [],
    {},
    [None],
    {"a": 1},
    "ü",
    "\x00",
    "https://127.0.0.1:9",
    "http://[::1",
    "x" * 999,
)
ANSWERS: Final = (
    b"", b"{}", b"[]", b"null", b"<html>", b'{"items": 7}', b'{"items": [7, {}]}', b"\xff\xfe", b'{"metadata": 7}',
    b'{"items": [{"metadata": {"name": 7}, "spec": [], "status": {"conditions": [7]}}]}', b'{"items": null}',
    b'{"kind": "Status", "message": "eyJhbGciOiJIUzI1NiJ9.e30.canary"}',
    b'{"metadata": {"name": "x", "annotations": []}, "spec": {"secret": 7}, "status": {"history": 7, "revision": "x"}}',
    b'{"metadata": {}, "data": 7, "type": 7, "status": 7, "major": [], "resources": 7, "components": 7}',
)  # fmt: skip


class Odd(BaseHTTPRequestHandler):
    """An API server that answers whatever it likes."""

    chance = random.Random(5)

    def do_GET(self) -> None:
        body = self.chance.choice(ANSWERS)
        self.send_response(self.chance.choice((200, 200, 200, 200, 201, 302, 401, 403, 404, 409, 422, 429, 500)))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_POST()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def odd_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def kubeconfig(chance: random.Random, server: str) -> bytes:
    """A kubeconfig, of which something may be odd, or all."""
    cluster: dict[str, Any] = {"server": server}
    user: dict[str, Any] = {"token": "canary-token"}
    context: dict[str, Any] = {"cluster": "c", "user": "u", "namespace": "shop"}
    config: dict[str, Any] = {
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": context}],
    }
    names = ("server", "certificate-authority", "certificate-authority-data", "proxy-url", "tls-server-name")
    user_names = ("token", "tokenFile", "exec", "client-certificate-data", "client-key", "username", "auth-provider")
    match chance.randrange(8):
        case 0:
            cluster[chance.choice(names)] = chance.choice(ODD)
        case 1:
            user[chance.choice(user_names)] = chance.choice(ODD)
        case 2:
            context[chance.choice(tuple(context))] = chance.choice(ODD)
        case 3:
            config[chance.choice(tuple(config))] = chance.choice(ODD)
        case 4:
            return chance.choice((b"", b"[]", b"7", b"\xff", b"{", b"a: [", b"\x00", b"? !x"))
        case _:
            pass
    text = yaml.safe_dump(config) if chance.randrange(2) else json.dumps(config)
    return text.encode()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_no_traceback(
    seed: int, odd_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed)
    (tmp_path / "config").write_bytes(kubeconfig(chance, odd_server))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    verb = chance.choice([verb for verb in VERBS if verb != "watch"])
    line = [verb, *(chance.choice(WORDS) for _ in range(chance.randrange(5)))]
    if chance.randrange(2):
        line = [verb, "ledger", *(["--environment=sandbox", "--credentials=c"] if verb == "create" else [])]
    line += ["--timeout=1"] if "--wait" in line else []
    monkeypatch.setattr(sys, "argv", ["kubectl-asset_token", *line])
    monkeypatch.setattr(sys, "stdin", (tmp_path / "config").open(errors="replace"))
    with pytest.raises(SystemExit) as ended:
        main()
    sys.stdin.close()
    told = capsys.readouterr()
    assert ended.value.code in range(6), (line, told.err)
    assert "Traceback" not in told.err
    assert "canary" not in told.err + told.out or "--reveal" in line
