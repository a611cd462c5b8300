"""`renew`, `suspend` and `resume` in a terminal, on a real API server with a real operator."""

from datetime import UTC, datetime, timedelta

from asset_token_operator.times import parse_time
from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import INVALID_SCOPE, Behaviour
from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop


def test_renew_waits_for_the_new_token(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shown = plugin.screen("renew", "ledger", "--wait")
    assert shown.code == 0, shown.output
    assert f"{shop.namespace}/ledger: renewal asked for\n{shop.namespace}/ledger: renewed, expires in " in shown.output
    assert shop.token("ledger")["status"]["revision"] == 2


def test_renew_says_why_it_fails(shop: Shop, operator: OperatorProcess, plugin: Plugin, asset: AssetApi) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    asset.behave(Behaviour(failure=INVALID_SCOPE))
    shown = plugin.screen("renew", "ledger", "--wait")
    assert shown.code == 3, shown.output
    assert "ledger: failed: InvalidScope: " in shown.output


def test_what_failed_before_is_told_at_the_end(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shop.put_credentials("wrong")
    shop.wait_for_condition("ledger", "Issuing", "True", "InvalidClient")
    failed = parse_time(shop.token("ledger")["status"]["lastFailureTime"])
    # What fails in the second in which a renewal is asked for counts as having failed since.
    wait_until(lambda: datetime.now(UTC) >= failed + timedelta(seconds=1), 5, "the second of the failure is over")
    shown = plugin.screen("renew", "-l", "!nothing", "--wait", "--timeout=3")
    assert shown.code == 3, shown.output
    assert "ledger: not renewed within 3 s: InvalidClient: " in shown.output


def test_suspend_and_resume(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    where = shop.namespace
    assert plugin.screen("suspend", "ledger").output == f"{where}/ledger: suspended\n"
    assert plugin.screen("suspend", "--all").output == f"{where}/ledger: was suspended already\n"
    shop.wait_for_condition("ledger", "Issuing", "False", "Suspended")
    assert plugin.screen("status", "ledger").code == 0
    assert plugin.screen("renew", "ledger").output == f"{where}/ledger: will be renewed once it is resumed\n"
    assert plugin.screen("resume", "assettoken.auth.getasset.com/ledger").output == f"{where}/ledger: resumed\n"
    shop.wait_for_revision("ledger", 2)


def test_who_may_only_view_is_told_which_right_is_missing(shop: Shop, viewer: Plugin) -> None:
    shop.create("ledger")
    for verb in ("renew", "suspend"):
        shown = viewer.screen(verb, "ledger", columns=200)
        where = f"in the namespace {shop.namespace!r}"
        assert shown.output.startswith(f"error: You lack the right to patch assettokens {where}: ask for it")
        assert shown.code == 4


def test_nothing_is_meant_by_nothing(plugin: Plugin) -> None:
    shown = plugin.screen("renew")
    assert shown.code == 2
    assert "Give their names, a label selector (-l) or --all." in shown.output
