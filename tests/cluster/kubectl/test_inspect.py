"""`kubectl asset-token inspect` on a real API server with a real operator: all about a token but the token."""

import json

from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop


def test_a_token_is_held_against_the_spec_and_never_shown(
    shop: Shop, operator: OperatorProcess, plugin: Plugin
) -> None:
    shop.put("ledger", secret={"name": "ledger-token"})
    shop.wait_until_ready("ledger")
    token = shop.data("ledger-token")["access_token"]
    shown = plugin.screen("inspect", "ledger", columns=200)
    assert shown.code == 0, shown.output
    lines = {line[3:20].strip(): (line[0], line[20:].strip()) for line in shown.output.splitlines()}
    assert lines["Secret"] == (" ", f"{shop.namespace}/ledger-token")
    assert lines["Keys"][1] == "access_token authorization base_url environment expires_at token_type"
    assert lines["Owners"] == ("✓", "AssetToken/ledger, managed by asset-token-operator")
    assert lines["Scopes"] == ("✓", "ledger:read")
    assert lines["Fingerprint"][0] == "✓"
    assert lines["Expires"][0] == "✓"
    assert token not in shown.output
    assert token[-20:] not in shown.output
    assert plugin.piped("inspect", "ledger", "--reveal").stdout.splitlines()[-1] == token


def test_what_does_not_fit_is_marked(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    shop.put("ledger")
    shop.put("payer", scopes=["payment:create", "payment:read"])
    shop.wait_until_ready("ledger")
    token = shop.data("ledger")["access_token"]
    done = plugin.piped("inspect", "payer", "-f", "-", "-o", "json", input=token)
    assert done.returncode == 3, done.stderr
    found = {finding["about"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert found["Scopes"]["value"] == "ledger:read; missing: payment:create payment:read"
    assert not found["Scopes"]["fits"]


def test_who_may_not_read_secrets_is_told_so(shop: Shop, operator: OperatorProcess, viewer: Plugin) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shown = viewer.screen("inspect", "ledger", columns=200)
    assert shown.code == 4
    assert shown.output.startswith(f"error: You lack the right to get secrets in the namespace '{shop.namespace}'")


def test_before_the_first_token_it_says_where_to_look(shop: Shop, plugin: Plugin) -> None:
    shop.create("new")
    shown = plugin.screen("inspect", "new")
    assert (shown.code, shown.output.startswith("error: There is no Secret 'new' yet")) == (5, True)
