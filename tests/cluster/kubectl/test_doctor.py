"""`kubectl asset-token doctor` in a terminal, on a real API server: what is wrong is said, with what to do."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.asset_api import AssetApi
from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop


@pytest.fixture
def doctor(shop: Shop, asset: AssetApi) -> tuple[str, ...]:
    """The command line, for an operator that has its Lease in the shop's namespace."""
    return ("doctor", f"--operator-namespace={shop.namespace}", f"--sandbox-url={asset.url}")


@pytest.fixture
def leader(shop: Shop, operator_for: Callable[..., OperatorProcess]) -> OperatorProcess:
    return operator_for(shop, "--leader-elect", f"--lease-namespace={shop.namespace}")


def test_all_is_well(shop: Shop, leader: OperatorProcess, plugin: Plugin, doctor: tuple[str, ...]) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shown = plugin.screen(*doctor, columns=200)
    assert shown.code == 0, shown.output
    marks = {line[3:20].strip(): line[0] for line in shown.output.splitlines()}
    assert set(marks.values()) == {"✓"}
    assert list(marks) == [
        "API server",
        "Clock",
        "CRD",
        "Rights",
        "Operator",
        "Secrets",
        "Credentials",
        "AssetTokens",
        "Asset sandbox",
        "Clock, sandbox",
    ]


def test_what_is_wrong_is_said_with_what_to_do(shop: Shop, plugin: Plugin, doctor: tuple[str, ...]) -> None:
    shop.put_credentials(client_secret="", name="empty")
    shop.create("one", secret={"name": "shared"}, credentialsSecretRef={"name": "empty"})
    shop.create("two", secret={"name": "shared"}, credentialsSecretRef={"name": "missing"})
    done = plugin.piped(*doctor[:2], "--sandbox-url=http://127.0.0.1:9", "-o", "json")
    assert done.returncode == 3
    found = {check["found"]: check["whatHelps"] for check in json.loads(done.stdout)["checks"] if not check["fine"]}
    where = shop.namespace
    refused = "the connection is refused"
    said = "No operator has looked at it yet: kubectl asset-token doctor says whether one is at work."
    assert found.pop(f"there is no Lease asset-token-operator in the namespace {where}").startswith("install it there")
    assert found == {
        f"one, two name the same Secret {where}/shared": "give all but one another secret.name",
        f"the key client_secret of {where}/empty is empty": "correct it",
        f"there is no Secret {where}/missing": "create it",
        f"{where}/one: unseen. {said}": "",
        f"{where}/two: unseen. {said}": "",
        f"127.0.0.1 can't be reached from here: {refused}": "check the firewall, HTTPS_PROXY and NO_PROXY",
    }


def test_a_cluster_that_cannot_be_reached_is_said(shop: Shop, plugin: Plugin, tmp_path: Path) -> None:
    config = json.loads(shop.cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    (tmp_path / "elsewhere").write_text(json.dumps(config))
    shown = plugin.screen("doctor", f"--kubeconfig={tmp_path / 'elsewhere'}", columns=200)
    assert shown.code == 3
    assert "✗  API server         https://127.0.0.1:9 can't be reached (connection refused)" in shown.output


def test_who_may_only_view_learns_which_rights_are_missing(
    shop: Shop, leader: OperatorProcess, viewer: Plugin, doctor: tuple[str, ...]
) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shown = viewer.screen(*doctor, columns=200)
    assert shown.code == 0, shown.output
    assert f"-  Rights             you may not patch assettokens in the namespace {shop.namespace}" in shown.output
    assert "→ ask for the role edit there" in shown.output
    assert "-  Operator           you lack the right to get leases" in shown.output
    assert "-  Credentials        you lack the right to get secrets" in shown.output


def test_a_trial_request_is_made_only_when_asked_for(
    shop: Shop, plugin: Plugin, asset: AssetApi, doctor: tuple[str, ...]
) -> None:
    shop.create("ledger")
    plugin.screen(*doctor)
    assert asset.count() == 0
    shown = plugin.screen(*doctor, "--try=ledger", columns=200)
    fine = f"✓  Trial request      Asset issues a token for {shop.namespace}/ledger; its scopes: ledger:read"
    assert fine in shown.output
    assert asset.count() == 1
    shop.put_credentials("canary-wrong")
    refused = plugin.screen(*doctor, "--try=ledger", columns=200)
    assert (refused.code, "✗  Trial request " in refused.output) == (3, True)
    assert "invalid_client" in refused.output
    assert "canary" not in refused.output
