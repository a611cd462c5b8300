"""What keeps a machine, or a Pod, from Asset is told apart, with what to do."""

import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from asset_token_operator.clock import SystemClock
from asset_token_operator.kubectl import in_pod
from asset_token_operator.kubectl.cluster import refusal
from asset_token_operator.kubectl.in_pod import look
from asset_token_operator.kubectl.problems import ForbiddenProblem, Problem
from asset_token_operator.kubectl.reach import HERE, asset
from tests.support.certificates import a_certificate

FORBIDDEN: Final = 403


class Asset(http.server.BaseHTTPRequestHandler):
    """Answers, or refuses as a proxy does."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_CONNECT(self) -> None:
        self.send_response(407)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Asset) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def run_in_pod(folder: Path, *arguments: str, **variables: str) -> list[tuple[str, bool | None, str]]:
    """What the Pod's program finds, run as it is there."""
    paths = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", in_pod.__name__, str(folder / "found"), "sandbox", "run", *arguments]
    subprocess.run(command, env={"PYTHONPATH": paths, **variables}, check=True, timeout=60)
    found = json.loads((folder / "found").read_text())
    return [(check["about"], check["fine"], check["found"]) for check in found]


def test_the_operators_own_arguments_and_variables_say_where_and_whom_to_trust(tmp_path: Path) -> None:
    certificate = a_certificate(tmp_path)
    with serving(certificate.context) as address:
        url = f"https://{address}"
        trusted = run_in_pod(tmp_path, f"--sandbox-url={url}", "--leader-elect", "--ca-file", str(certificate.path))
        variables = {
            "ASSET_TOKEN_OPERATOR_SANDBOX_URL": url,
            "ASSET_TOKEN_OPERATOR_CA_FILE": str(certificate.path),
        }
        by_variables = run_in_pod(tmp_path, "--log-format=json", **variables)
        untrusted = run_in_pod(tmp_path, f"--sandbox-url={url}")
        missing = run_in_pod(tmp_path, f"--sandbox-url={url}", "--ca-file=/no/such")
    assert trusted == by_variables
    assert trusted == [
        ("Pod, sandbox", True, "127.0.0.1 answers from the Pod"),
        ("Node's clock", True, "the node's and Asset's agree"),
    ]
    assert untrusted[0][:2] == ("Pod, sandbox", False)
    assert "its certificate isn't trusted" in untrusted[0][2]
    assert missing[0][2].endswith("there is no such file of CAs")


def test_a_proxy_that_refuses_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as address:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:canary@{address}")
        (check,) = asset("sandbox", "https://api.example.com", SystemClock().now, HERE)
    assert check.found == (
        f"api.example.com can't be reached from here by the proxy http://{address}: the proxy refuses (407)"
    )


def test_a_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(in_pod, "asset", lambda *_: iter(hangs.wait, True))
    monkeypatch.setattr(in_pod, "LOOK_SECONDS", 0.01)
    (check,) = look("sandbox", "https://api.example.com", None)
    hangs.set()
    assert (check.fine, check.found) == (False, "https://api.example.com gave no answer within 0.01 s")
    assert "DNS" in check.helps


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        pytest.param(
            'pods is forbidden: User "me" cannot create resource "pods" in API group "" in the namespace "n"',
            ForbiddenProblem,
            "You lack the right to create pods in the namespace 'n'",
            id="a right is missing",
        ),
        pytest.param("", ForbiddenProblem, "You lack the right to create pods", id="nobody says why"),
        pytest.param(
            'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
            Problem,
            'The API server refuses it: pods "x" is forbidden: violates PodSecurity',
            id="Pod security",
        ),
        pytest.param(
            'pods "x" is forbidden: exceeded quota: q', Problem, "The API server refuses it: pods", id="a quota"
        ),
    ],
)
def test_what_admission_forbids_is_not_taken_for_a_missing_right(message: str, kind: type[Problem], said: str) -> None:
    body = json.dumps({"kind": "Status", "message": message}).encode() if message else b"<html>"
    problem = refusal("POST", "/api/v1/namespaces/n/pods", FORBIDDEN, body, "https://server")
    assert type(problem) is kind
    assert str(problem).startswith(said)
