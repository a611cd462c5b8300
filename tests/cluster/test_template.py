"""Templates on a real API server: what it refuses, what a change does, and the examples, read by real programs."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from asset_token_operator.manifests import STANDARD_KEYS
from asset_token_operator.template import find_problem
from tests.properties.test_template import templates
from tests.support.asset_api import PING_PATH, AssetApi
from tests.support.cluster import ApiError, Cluster, wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
MCP: Final = "https://api.sandbox.getasset.com/mcp"

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")


def example(shop: Shop, folder: Path, file: str) -> Path:
    """The file that the example's key is, as a Pod finds it in the volume."""
    manifest = yaml.safe_load((EXAMPLES / file).read_text())
    shop.kubectl("apply", f"--filename={EXAMPLES / file}")
    name = manifest["metadata"]["name"]
    shop.wait_until_ready(name)
    key = str(*manifest["spec"]["secret"]["template"])
    path = folder / key
    path.write_text(shop.data(name)[key])
    return path


def run(*command: str) -> str:
    """What a program writes to its standard output."""
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


class Gateway(HTTPServer):
    """Takes the token as a password; `seen` are the logins and passwords that came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GatewayRequest)
        self.seen: list[tuple[str, str]] = []


class GatewayRequest(BaseHTTPRequestHandler):
    server: Gateway

    def do_GET(self) -> None:
        scheme, _, text = self.headers.get("Authorization", "").partition(" ")
        login, _, password = base64.b64decode(text if scheme == "Basic" else "").decode().partition(":")
        self.server.seen.append((login, password))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class has it
        """Write nothing."""


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_shell_sources_the_dotenv_file(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    path = example(shop, tmp_path, "dotenv.yaml")
    names = ("BASE_URL", "BUSINESS_ID", "SCOPES", "TOKEN_EXPIRES_AT", "ACCESS_TOKEN")
    read = " ".join(f'"$ASSET_{name}"' for name in names)
    *values, token = run("sh", "-euc", f". {path}; printf '%s\\n' {read}").splitlines()
    expires = str((asset.claims(token) or {})["exp"])
    assert values == [asset.url, "biz_GA6EG2qFxA97NZHtxeLPUy", "ledger:create ledger:read", expires]
    assert asset.accepts(token, scope="ledger:create ledger:read")


def test_a_parser_reads_the_json_file(shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path) -> None:
    read = json.loads(example(shop, tmp_path, "json.yaml").read_text())
    token, data = read.pop("accessToken"), shop.data("ledger-json")
    assert asset.accepts(token, scope="ledger:read")
    assert read == {
        "baseUrl": asset.url,
        "environment": "sandbox",
        "tokenType": "Bearer",
        "scopes": "ledger:read",
        "expiresAt": data["expires_at"],
        "expiresAtUnix": (asset.claims(token) or {})["exp"],
    }


@needs_curl
def test_curl_reads_its_configuration(shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path) -> None:
    path = example(shop, tmp_path, "curl.yaml")
    assert json.loads(run("curl", "--config", str(path), asset.url + PING_PATH)) == {"ping": "pong"}


@needs_curl
def test_curl_reads_the_netrc_file(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path, gateway: Gateway
) -> None:
    path = example(shop, tmp_path, "netrc.yaml")
    there = f"asset-gateway.example.com:80:127.0.0.1:{gateway.server_port}"
    options = ("--silent", "--fail", "--noproxy", "*", "--netrc-file", str(path), "--connect-to", there)
    run("curl", *options, "http://asset-gateway.example.com/")
    ((login, password),) = gateway.seen
    assert login == "token"
    assert asset.accepts(password)


def test_an_mcp_client_finds_its_server_and_a_token_for_it(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    read = json.loads(example(shop, tmp_path, "mcp-client.yaml").read_text())
    server = read["mcpServers"]["asset"]
    scheme, _, token = server["headers"]["Authorization"].partition(" ")
    assert (server["type"], server["url"], scheme) == ("http", f"{asset.url}/mcp", "Bearer")
    assert asset.accepts(token, audience=MCP)


def test_each_is_tried_and_listed() -> None:
    tried = Path(__file__).read_text()
    listed = (EXAMPLES / "README.md").read_text()
    for file in EXAMPLES.glob("*.yaml"):
        manifest = next(yaml.safe_load_all(file.read_text()))
        if "template" in manifest.get("spec", {}).get("secret", {}):
            (key,) = manifest["spec"]["secret"]["template"]
            assert f'"{file.name}"' in tried
            assert f"| [{file.name}]({file.name}) | `{key}` |" in listed


def test_a_change_repairs_the_secret_without_a_request(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("ledger-writer", secret={"template": {".env": "A=${access_token}", "old": "x"}})
    shop.wait_until_ready("ledger-writer")
    token = shop.data("ledger-writer")["access_token"]
    shop.put("ledger-writer", secret={"template": {".env": "B=${access_token}\n# Zürich 🚀 $$\0\x85"}})
    wait_until(lambda: "old" not in shop.data("ledger-writer"), 15, "the key that was taken out has gone")
    assert shop.data("ledger-writer")[".env"] == f"B={token}\n# Zürich 🚀 $\0\x85"
    shop.edit_secret("ledger-writer", {"data": {".env": "eA=="}})
    wait_until(lambda: shop.data("ledger-writer")[".env"].startswith("B="), 15, "drift of a key is repaired")
    operator.kill()
    shop.edit_secret("ledger-writer", {"data": {".env": None}})
    shop.put("ledger-writer", secret={"template": {".env": "C=${access_token}"}})
    operator.start()
    wait_until(lambda: shop.data("ledger-writer").get(".env") == f"C={token}", 15, "a change while it was down is seen")
    shop.wait_until_served("probe")
    assert len(asset.requests) == 1 + 1


def test_a_template_that_grows_too_large_leaves_the_token_served_and_says_so(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer", secret={"template": {".env": "A=${access_token}"}})
    shop.wait_until_ready("ledger-writer")
    shop.patch("ledger-writer", {"secret": {"template": {"large": "${access_token}" * 64}}})
    condition = shop.wait_for_condition("ledger-writer", "Stalled", "True", "TemplateInvalid")
    assert condition["message"].startswith("spec.secret.template may need 1040 KiB")
    shop.kubectl("annotate", "astok/ledger-writer", "auth.getasset.com/renew-requested-at=1")
    shop.wait_for_revision("ledger-writer", 2)
    shop.wait_until_ready("ledger-writer")
    assert shop.data("ledger-writer").keys() == {*STANDARD_KEYS}
    assert asset.accepts(shop.data("ledger-writer")["access_token"])
    shop.patch("ledger-writer", {"secret": {"template": {"large": None}}})
    wait_until(lambda: ".env" in shop.data("ledger-writer"), 15, "what is left fits")
    wait_until(lambda: not shop.condition("ledger-writer", "Stalled"), 15, "it is Stalled no more")
    assert len(asset.requests) == 2


def test_the_largest_template_is_written(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    texts = {f"k{number}": "é" * 16384 for number in range(30)}  # 960 KiB of the 984
    shop.create("ledger-writer", secret={"template": texts})
    shop.wait_until_ready("ledger-writer")
    assert shop.data("ledger-writer").keys() == {*STANDARD_KEYS, *texts}


@pytest.mark.usefixtures("crds")
def test_the_api_server_refuses_what_the_operator_would_leave_out_and_nothing_else(
    controlplane: Cluster, namespace: str
) -> None:
    path = f"/apis/auth.getasset.com/v1alpha1/namespaces/{namespace}/assettokens?dryRun=All"
    spec = {"environment": "sandbox", "credentialsSecretRef": {"name": "asset-credentials"}}
    verdicts = set()

    @settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(template=templates)
    def agree(template: dict[str, str]) -> None:
        body = {
            "apiVersion": "auth.getasset.com/v1alpha1",
            "kind": "AssetToken",
            "metadata": {"name": "fuzzed"},
            "spec": spec | {"secret": {"template": template}},
        }
        refusal = ""
        try:
            controlplane.api.create(path, body)
        except ApiError as error:
            refusal = error.message
        problem = find_problem(template, STANDARD_KEYS)
        assert bool(refusal) == bool(problem), (template, refusal, problem)
        verdicts.add(bool(problem))
        if refusal:
            assert any(sentence in refusal for sentence in ("not a template: ", "not a key of a", "another key")), (
                refusal
            )

    agree()
    assert verdicts == {True, False}
