"""`kubectl asset-token status` in a terminal, on a real API server with a real operator."""

import json
import resource
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop

BASE: Final = Path(__file__).parents[3] / "deploy" / "base"


def spent_by_children() -> float:
    """Seconds of CPU: others at work on this machine make it wait, and that isn't its doing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_one_screen_tells_all_about_a_token(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    shop.put("ledger", secret={"name": "ledger-token"})
    shop.wait_until_ready("ledger")
    volumes = [{"name": "token", "secret": {"secretName": "ledger-token"}}]
    pod = {"volumes": volumes, "containers": [{"name": "worker", "image": "worker"}]}
    shop.cluster.api.create(shop.path("pods"), {"metadata": {"name": "worker"}, "spec": pod})
    shown = plugin.screen("status", "ledger")
    assert shown.code == 0, shown.output
    lines = {line[:11].strip(): line[11:].strip() for line in shown.output.splitlines()}
    assert lines["Usable"] == "yes"
    assert "(in 59m" in lines["Expires"]
    assert lines["Life"].endswith("% of 1h left")
    assert "(in " in lines["Renews"]
    assert lines["Secret"] == "ledger-token"
    assert lines["Used by"] == "worker mounts it"
    assert lines["Budget"].startswith("unknown: there is no Service of metrics in asset-token-operator")


def test_the_budget_is_shown_where_the_metrics_can_be_reached(
    shop: Shop, operator: OperatorProcess, plugin: Plugin, operator_metrics: str
) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shown = plugin.screen("status", "ledger", f"--metrics-url={operator_metrics}")
    assert "requests left this minute, 0 in the queue" in shown.output


@pytest.mark.parametrize("name", ["asset-token-operator-metrics", "prod-asset-token-operator-metrics"])
def test_the_metrics_service_is_found_whatever_the_release_is_called(shop: Shop, plugin: Plugin, name: str) -> None:
    """No Pod is behind it here, which is said; in tests/node there is one."""
    shop.create("ledger")
    service = yaml.safe_load((BASE / "service.yaml").read_text())
    service["metadata"] |= {"name": name, "namespace": shop.namespace}
    shop.cluster.api.create(shop.path("services"), service)
    shown = plugin.screen("status", "ledger", f"--operator-namespace={shop.namespace}", columns=200)
    assert f'unknown: The API server answered 503: no endpoints available for service "{name}' in shown.output


def test_a_table_has_the_worst_first(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    shop.put("a-good-one")
    shop.put("sad", credentialsSecretRef={"name": "missing"})
    shop.wait_until_ready("a-good-one")
    shop.wait_for_condition("sad", "Stalled", "True", "CredentialsNotFound")
    shown = plugin.screen("status")
    assert shown.code == 3
    assert [line.split()[:2] for line in shown.output.splitlines()] == [
        ["NAME", "STATE"],
        ["sad", "stalled"],
        ["a-good-one", "usable"],
    ]
    assert "What helps   create it" in plugin.screen("status", "sad").output
    assert plugin.piped("status", "-o", "name").stdout.split() == [
        "assettoken.auth.getasset.com/sad",
        "assettoken.auth.getasset.com/a-good-one",
    ]


def test_scripts_get_json_without_colours_soon(shop: Shop, plugin: Plugin) -> None:
    shop.create("new")
    plugin.piped("status", "-o", "json")  # warms the cache
    spent = []
    for _ in range(3):
        began = spent_by_children()
        done = plugin.piped("status", "-o", "json")
        spent.append(spent_by_children() - began)
    assert done.returncode == 3
    assert [item["state"] for item in json.loads(done.stdout)["items"]] == ["unseen"]
    assert "\x1b" not in plugin.piped("status").stdout
    assert min(spent) < 0.5


def test_who_may_only_view_sees_all_of_it(shop: Shop, operator: OperatorProcess, viewer: Plugin) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shown = viewer.screen("status", "ledger")
    assert shown.code == 0, shown.output
    assert "Used by      no Pod" in shown.output
    assert "you lack the right to get services/proxy" in shown.output.replace("\n             ", " ")
    everywhere = viewer.screen("status", "-A")
    assert (everywhere.code, everywhere.output) == (
        4,
        "error: You lack the right to list assettokens in all namespaces: ask for it, or choose another context.\n",
    )


def test_restarts_are_told_with_what_helps(shop: Shop, plugin: Plugin) -> None:
    shop.create("ledger", rolloutRestart={"targets": [{"kind": "Deployment", "name": "worker"}]})
    said = {"type": "RolloutsRestarted", "status": "False", "reason": "TargetNotFound", "message": "worker is missing."}
    said |= {"lastTransitionTime": "2026-11-24T07:00:00Z"}
    shop.cluster.api.patch(f"{shop.path('assettokens/ledger')}/status", {"status": {"conditions": [said]}})
    shown = plugin.screen("status", "ledger", columns=200)
    assert "Restarts     TargetNotFound: worker is missing.\n" in shown.output
    assert "             → create it, or correct spec.rolloutRestart.targets; " in shown.output
