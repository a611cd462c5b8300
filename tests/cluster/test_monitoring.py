"""Metrics and probes of a real operator."""

import json
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import SERVER_ERROR_500, Behaviour
from tests.support.cluster import wait_until
from tests.support.metrics import described, read
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, Shop

ANY = "127.0.0.1:0"
DOCS = Path(__file__).parents[2] / "docs/metrics.md"


@pytest.fixture
def operator(shop: Shop, operator_for: Callable[..., OperatorProcess]) -> OperatorProcess:
    return operator_for(shop, f"--metrics-address={ANY}", f"--health-address={ANY}", "--log-level=debug")


def get(operator: OperatorProcess, path: str) -> httpx.Response:
    return operator.get(path)


def address(operator: OperatorProcess) -> str:
    """Where it serves, by its log."""
    operator.wait_for_output("listens on 127.0.0.1:")
    listens: list[str] = re.findall(r"listens on (127\.0\.0\.1:\d+) for ", operator.output())
    return "http://" + listens[-1]


def scrape(operator: OperatorProcess) -> dict[str, float]:
    return read(get(operator, "/metrics").text)


def wait_until_ready(operator: OperatorProcess) -> None:
    wait_until(lambda: get(operator, "/readyz").status_code == 200, 15, "it is ready")


def test_the_metrics_are_those_documented_and_hold_no_secret(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.put_credentials("canary-wrong", name="wrong")
    shop.put("refused", credentialsSecretRef={"name": "wrong"})
    shop.wait_for_condition("refused", "Issuing", "True", "InvalidClient")

    answer = get(operator, "/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    names = {name for name, _, _ in described(answer.text)}
    documented = set(re.findall(r"^\| `(asset_token_operator_\w+)`", DOCS.read_text(), re.MULTILINE))
    assert names == documented
    found = read(answer.text)
    ours = f'{{name="ledger-writer",namespace="{shop.namespace}"}}'
    assert found[f"token_ready{ours}"] == 1
    assert found['token_requests_total{environment="sandbox",outcome="issued"}'] == 1
    assert found['token_requests_total{environment="sandbox",outcome="InvalidClient"}'] == 1
    assert found["leader"] == 1
    (token,) = [request.token for request in asset.requests if request.token]
    for secret in (token.rsplit(".", 1)[-1], CLIENT_SECRET, CLIENT_ID, "canary"):
        assert secret not in answer.text


def test_the_series_of_an_asset_token_vanish_with_it_and_the_counters_stay(
    shop: Shop, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    wait_until(lambda: any("ledger-writer" in series for series in scrape(operator)), 10, "its series are there")

    shop.kubectl("delete", "astok/ledger-writer")

    wait_until(lambda: not any("ledger-writer" in series for series in scrape(operator)), 10, "its series are gone")
    assert scrape(operator)['token_requests_total{environment="sandbox",outcome="issued"}'] == 1


def test_a_renewal_shows_how_late_it_was(shop: Shop, operator: OperatorProcess) -> None:
    shop.put("ledger-writer", lifetime="65s", renewBefore="60s")
    shop.wait_until_ready("ledger-writer")
    shop.wait_for_revision("ledger-writer", 2)

    found = scrape(operator)

    assert found["renewal_lateness_seconds_count"] >= 1
    assert found["renewal_lateness_seconds_sum"] / found["renewal_lateness_seconds_count"] < 5
    assert found["expired_token_served_seconds_total"] == 0


def test_without_series_of_each_asset_token_there_are_the_others(
    shop: Shop, operator_for: Callable[..., OperatorProcess]
) -> None:
    operator = operator_for(shop, f"--metrics-address={ANY}", "--no-token-metrics")
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")

    text = get(operator, "/metrics").text

    assert "ledger-writer" not in text
    assert "asset_token_operator_token_ready" not in {family.name for family in text_string_to_metric_families(text)}
    assert read(text)["leader"] == 1


def test_it_is_ready_where_there_is_no_asset_token_yet(operator: OperatorProcess) -> None:
    wait_until_ready(operator)

    assert get(operator, "/healthz").text == "ok\n"


def test_that_asset_is_down_is_no_reason_to_restart(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    asset.behave(Behaviour(failure=SERVER_ERROR_500))
    shop.put("ledger-writer")
    shop.wait_for_condition("ledger-writer", "Issuing", "True", "AssetUnavailable")

    assert get(operator, "/healthz").status_code == 200
    assert get(operator, "/readyz").status_code == 200


def test_a_standby_is_ready_and_does_not_lead(shop: Shop, asset: AssetApi, tmp_path: Path) -> None:
    shop.put("ledger-writer")
    options = (f"--namespace={shop.namespace}", f"--sandbox-url={asset.url}", "--leader-elect")
    addresses = (f"--metrics-address={ANY}", f"--health-address={ANY}")
    folder = tmp_path / "second"
    folder.mkdir()

    with ExitStack() as stack:
        first = stack.enter_context(OperatorProcess(shop.cluster.kubeconfig, tmp_path, (*options, *addresses)))
        shop.wait_until_ready("ledger-writer")
        second = stack.enter_context(first.another(folder, environment={"POD_ID": "second"}))
        second.wait_for_output("stands by")
        wait_until_ready(second)
        assert get(second, "/healthz").status_code == 200
        assert scrape(second)["leader"] == 0
        assert scrape(first)["leader"] == 1
        assert json.dumps(scrape(second)).count("token_ready") == 1


def test_an_address_in_use_is_said_in_a_sentence(shop: Shop, operator: OperatorProcess, tmp_path: Path) -> None:
    taken = address(operator).removeprefix("http://")
    folder = tmp_path / "second"
    folder.mkdir()

    with operator.another(folder, f"--metrics-address={taken}", environment={}) as second:
        second.wait_for_output(f"asset-token-operator: {taken} can't be listened on: ")
        assert "Traceback" not in second.output()
        wait_until(lambda: not second.is_running(), 10, "it has ended")


def test_an_open_connection_does_not_hold_up_the_end(operator: OperatorProcess) -> None:
    wait_until_ready(operator)
    with httpx.Client(trust_env=False) as client:
        client.get(f"{address(operator)}/metrics")
        began = time.monotonic()
        assert operator.terminate() == 0

    assert time.monotonic() - began < 4
