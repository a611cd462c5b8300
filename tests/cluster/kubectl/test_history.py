"""`history`, `events`, `watch` and `create` in a terminal, on a real API server with a real operator."""

import json

import pytest
import yaml

from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop


def test_history_and_events_tell_what_happened(shop: Shop, operator: OperatorProcess, viewer: Plugin) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")
    shop.wait_for_event("Issued")
    history = viewer.screen("history", "ledger")
    assert history.code == 0, history.output
    head, entry = (line.split() for line in history.output.splitlines())
    assert head == ["WHEN", "OUTCOME", "REASON", "EXPIRES", "MESSAGE"]
    assert entry[1:4] == ["ago", "Issued", "FirstToken"]
    events = viewer.screen("events", "ledger")
    assert events.code == 0, events.output
    assert " Issued " in events.output.splitlines()[1]
    assert json.loads(viewer.piped("events", "ledger", "-o", "json").stdout)["items"][0]["reason"] == "Issued"


def test_watch_keeps_the_screen_up_to_date(shop: Shop, operator: OperatorProcess, viewer: Plugin) -> None:
    shop.put("ledger")
    shown = viewer.screen("watch", "--interval=0.2", interrupt_at="usable")
    assert shown.code == 0, shown.output
    assert "Ctrl-C ends it" in shown.output


def test_create_makes_an_asset_token(shop: Shop, operator: OperatorProcess, plugin: Plugin) -> None:
    given = ("--environment=sandbox", "--credentials=asset-credentials", "--scope=ledger:read", "--lifetime=30m")
    shown = plugin.screen("create", "ledger", *given, "--secret-name=ledger-token")
    assert (shown.code, shown.output) == (0, f"{shop.namespace}/ledger: created\n")
    shop.wait_until_ready("ledger")
    wait_until(lambda: shop.data("ledger-token"), 10)
    again = plugin.screen("create", "ledger", *given)
    assert again.code == 1
    assert "is there already" in again.output


@pytest.mark.parametrize(
    "given",
    [
        pytest.param((), id="least"),
        pytest.param(("--lifetime=1h30m", "--renew-before=20m", "--business-id=biz_1"), id="durations"),
        pytest.param(("--scope=a:b", "--scope=c", "--resource=https://api.sandbox.getasset.com/mcp"), id="lists"),
        pytest.param(("--secret-name=other", "--retain"), id="secret"),
    ],
)
def test_the_api_server_takes_the_manifest_that_is_written(shop: Shop, plugin: Plugin, given: tuple[str, ...]) -> None:
    done = plugin.piped(
        "create", "written", "--environment=sandbox", "--credentials=c", *given, "--dry-run=client", "-o", "yaml"
    )
    assert done.returncode == 0, done.stderr
    shop.apply(yaml.safe_load(done.stdout))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param(("--lifetime=5s",), "at least 60s", id="short lifetime"),
        pytest.param(("--lifetime=soon",), "not a duration", id="no duration"),
        pytest.param(("--renew-before=2h",), "less than the lifetime", id="renewBefore too long"),
        pytest.param(("--scope=a b",), "no scope", id="two scopes in one"),
        pytest.param(("--resource=mcp",), "no absolute URI", id="relative resource"),
        pytest.param(("--secret-name=c",), "credentials Secret", id="the credentials Secret"),
        pytest.param(("--secret-name=A",), "no name", id="no name"),
        pytest.param(("--business-id=a b",), "--business-id", id="business"),
    ],
)
def test_a_wrong_field_is_said_at_once(plugin: Plugin, given: tuple[str, ...], said: str) -> None:
    done = plugin.piped("create", "new", "--environment=sandbox", "--credentials=c", *given)
    assert done.returncode == 2
    assert said in done.stderr
