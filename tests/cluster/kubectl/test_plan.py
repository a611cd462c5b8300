"""`kubectl asset-token plan`: the coming renewals, on a real API server."""

import json
import resource
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import yaml

from asset_token_operator.kubectl.forecast import issued_token
from asset_token_operator.parsing import parse_asset_token
from asset_token_operator.renewal import renewal_time
from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop

MANY: Final = 5_000
TENANTS: Final = 3
SECONDS: Final = 2.0


def spent_by_children() -> float:
    """Seconds of CPU: others at work on this machine make it wait, and that isn't its doing."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_picture_shows_the_renewals_that_the_operator_will_make(
    shop: Shop, operator: OperatorProcess, viewer: Plugin
) -> None:
    shop.put("ledger", lifetime="30m")
    token = parse_asset_token(shop.wait_until_ready("ledger"))
    issued = issued_token(token)
    assert issued is not None
    assert renewal_time(issued, token.spec, token.uid) == token.status.renewal_time
    shown = viewer.screen("plan", "--hours=1", columns=80)
    assert shown.code == 0, shown.output
    assert f"sandbox {shop.namespace}/asset-credentials\n  1 AssetTokens" in shown.output
    assert "▁" in shown.output
    assert "a minute: fits" in shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    planned = json.loads(viewer.piped("plan", "--hours=1", "-o", "json").stdout)["tenants"][0]
    assert planned["requests"] in {2, 3}  # every 18 to 20 minutes


def test_will_five_hundred_more_fit(shop: Shop, plugin: Plugin) -> None:
    shop.create("ledger")
    file = plugin.folder / "more.yaml"
    file.write_text(yaml.safe_dump_all([shop.manifest("more")]))
    shown = plugin.screen("plan", "-f", str(file), "--times=500")
    assert shown.code == 0, shown.output
    assert "501 AssetTokens (501 new)" in shown.output
    assert "fits; some wait 1 min" in shown.output
    too_many = plugin.screen("plan", "-f", str(file), "--times=20000", "--hours=2")
    assert too_many.code == 3, too_many.output
    assert "too much" in too_many.output


def test_clients_are_told_apart_only_by_who_may_read_them(shop: Shop, plugin: Plugin, viewer: Plugin) -> None:
    shop.put_credentials(name="same-client")
    shop.create("one")
    shop.create("other", credentialsSecretRef={"name": "same-client"})
    assert len(json.loads(plugin.piped("plan", "-o", "json").stdout)["tenants"]) == 2
    assert len(json.loads(plugin.piped("plan", "--by-client", "-o", "json").stdout)["tenants"]) == 1
    refused = viewer.piped("plan", "--by-client")
    assert refused.returncode == 4
    assert "You lack the right to get secrets" in refused.stderr


def test_five_thousand_of_three_tenants_are_planned_in_two_seconds(shop: Shop, plugin: Plugin) -> None:
    def create(number: int) -> None:
        shop.create(f"token-{number}", credentialsSecretRef={"name": f"tenant-{number % TENANTS}"})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(MANY)))
    spent = []
    for _ in range(3):
        began = spent_by_children()
        done = plugin.piped("plan", "-o", "json")
        spent.append(spent_by_children() - began)
    tenants = json.loads(done.stdout)["tenants"]
    assert [tenant["assetTokens"] for tenant in tenants] == [1667, 1667, 1666]
    assert min(spent) <= SECONDS, spent
