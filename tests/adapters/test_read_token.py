"""examples/read-token: each program reads its token for each request, and survives one that is refused."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from tests.support.volume import Volume

PROGRAMS: Final = Path(__file__).parents[2] / "examples" / "read-token"
COMMANDS: Final = {
    "call.py": ["python3"],
    "call.sh": ["sh"],
    "call.go": ["go", "run"],
    "call.mjs": ["node"],
    "Call.java": ["java"],
}


@dataclass
class Api:
    """Takes the second token only, which appears in the volume once the first one has been refused."""

    volume: Volume
    asked: list[str] = field(default_factory=list)
    status_for_the_second: int = 200
    url: str = ""

    def show(self, token: str) -> None:
        self.volume.show({"authorization": f"Bearer {token}", "base_url": self.url})

    def answer(self, authorization: str) -> int:
        self.asked.append(authorization)
        if authorization == "Bearer second":
            return self.status_for_the_second
        self.show("second")
        return 401


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    api = Api(Volume(tmp_path / "asset"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(api.answer(self.headers["Authorization"]))
            body = b'{"ping": "pong"}' if self.path == "/v0/ping" else b"{}"
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        api.show("first")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield api
        server.shutdown()
        thread.join()


def run(name: str, api: Api, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    command = COMMANDS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    environment = {
        **os.environ,
        "ASSET_TOKEN_DIR": str(api.volume.folder),
        "TMPDIR": str(tmp_path),
        "GOTOOLCHAIN": "local",
        "GO111MODULE": "off",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    return subprocess.run(
        [*command, PROGRAMS / name], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_token_that_is_refused_is_read_again(name: str, api: Api, tmp_path: Path) -> None:
    ended = run(name, api, tmp_path)

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == '{"ping": "pong"}'
    assert api.asked == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("name", COMMANDS)
def test_what_another_token_would_not_help_is_not_tried_again(name: str, api: Api, tmp_path: Path) -> None:
    api.show("second")
    api.status_for_the_second = 403

    ended = run(name, api, tmp_path)

    assert ended.returncode != 0
    assert api.asked == ["Bearer second"]
    assert "second" not in ended.stdout + ended.stderr


def test_every_program_is_run() -> None:
    assert {path.name for path in PROGRAMS.iterdir()} == set(COMMANDS)
