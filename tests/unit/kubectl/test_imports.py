"""A verb starts soon, because it imports what it needs and nothing else: counted, as the time differs by machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from asset_token_operator.kubectl.cli import VERBS

HEAVY: Final = frozenset(
    {
        "aiohttp",
        "asyncio",
        "httpx",
        "jwt",
        "kopf",
        "kubernetes",
        "prometheus_client",
        "pydantic",
        "rich",
        "uvloop",
        "yaml",
    }
)
TOLD: Final = """
import json, sys
from asset_token_operator.kubectl.cli import main
try:
    main()
finally:
    sys.stdout.flush()
    open(3, "w").write(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""
TOKEN: Final = "eyJhbGciOiJub25lIn0.eyJqdGkiOiJ0b2tfMSJ9.c2ln"
BODY: Final = {
    "metadata": {"namespace": "shop", "name": "ledger", "uid": "u", "generation": 1, "resourceVersion": "1"}
    | {"creationTimestamp": "2026-11-24T07:00:00Z"},
    "spec": {"environment": "sandbox", "credentialsSecretRef": {"name": "c"}},
    "data": {"access_token": "ZXlKaGJHY2lPaUp1YjI1bEluMC5leUpxZEdraU9pSjBiMnRmTVNKOS5jMmxu"},
}
LINES: Final[dict[str, tuple[str, set[str]]]] = {
    "status": ("status", {"rich"}),
    "status of one": ("status ledger", {"rich"}),
    "status for programs": ("status -o json", set()),
    "status of one for programs": ("status ledger -o json", set()),
    "status as YAML": ("status -o yaml", {"yaml"}),
    "names": ("status -o name", set()),
    "inspect": ("inspect ledger", {"jwt", "pydantic", "rich"}),
    "inspect for programs": ("inspect ledger -o json", {"jwt", "pydantic"}),
    "history": ("history ledger -o json", set()),
    "events": ("events ledger -o json", set()),
    "plan": ("plan", {"pydantic", "rich"}),
    "plan for programs": ("plan -o json", {"pydantic"}),
    "doctor": ("doctor --no-asset -o json", {"jwt", "pydantic"}),
    "create": ("create new --environment=sandbox --credentials=c", set()),
    "renew": ("renew ledger", set()),
    "suspend": ("suspend ledger", set()),
    "resume": ("resume ledger", set()),
    "watch": ("watch -n missing", {"rich"}),
    "help": ("--help", set()),
}
"""Each command line, and which heavy packages it imports."""


class ApiServer(BaseHTTPRequestHandler):
    """Has one AssetToken, and nothing in the namespace `missing`."""

    def do_GET(self) -> None:
        listed = self.path.partition("?")[0].endswith("s")
        body = json.dumps({"items": [BODY], **BODY} if listed else BODY).encode()
        self.send_response(404 if "/missing/" in self.path else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    do_PATCH = do_POST  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with ThreadingHTTPServer(("127.0.0.1", 0), ApiServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        path = tmp_path_factory.mktemp("kube") / "config"
        cluster = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
        config = {"current-context": "x", "clusters": [{"name": "c", "cluster": cluster}]}
        path.write_text(json.dumps(config | {"contexts": [{"name": "x", "context": {"cluster": "c"}}]}))
        yield path
        server.shutdown()
        thread.join()


def imported(line: str, kubeconfig: Path) -> set[str]:
    """The top-level modules that are there at a command line's end."""
    reading, writing = os.pipe()
    program = TOLD.replace("open(3,", f"open({writing},")
    subprocess.run(
        [sys.executable, "-c", program, *line.split()],
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "KUBECONFIG": str(kubeconfig)},
        pass_fds=[writing],
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading) as told:
        return set(json.loads(told.read()))


def test_every_verb_is_looked_at() -> None:
    assert {line.split()[0] for line, _ in LINES.values()} == {*VERBS, "--help"}


@pytest.mark.parametrize("name", LINES)
def test_a_verb_imports_what_it_needs(name: str, kubeconfig: Path) -> None:
    line, needed = LINES[name]
    assert imported(line, kubeconfig) & HEAVY == needed
