"""What kubectl itself offers a shell for the plugin's command lines."""

import json

from tests.support.plugin import Plugin
from tests.support.shop import Shop


def test_verbs_names_flags_and_their_values_are_completed(shop: Shop, viewer: Plugin) -> None:
    shop.create("ledger")
    shop.create("payer")
    context = json.loads(viewer.kubeconfig.read_text())["current-context"]
    assert viewer.completions("s") == ["status", "suspend", ":4"]
    assert viewer.completions("status", "") == ["ledger", "payer", ":4"]
    assert viewer.completions("renew", "ledger", "") == ["payer", ":4"]
    assert viewer.completions("status", "-o", "") == ["table", "wide", "json", "yaml", "name", ":4"]
    assert viewer.completions("status", "--context", "") == [context, ":4"]
    assert "--reveal" in viewer.completions("inspect", "--")
    assert viewer.completions("status", "-n", "") == [":4"]  # the right is missing


def test_namespaces_are_completed(shop: Shop, plugin: Plugin) -> None:
    assert shop.namespace in plugin.completions("status", "-n", shop.namespace[:3])
