"""The dashboard seen: a real Prometheus scrapes a real run, and each panel's own query has something to show.

`make dashboard-picture` draws what it shows, over a longer run, into docs/dashboard/panels.svg.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import SERVER_ERROR_500, Behaviour
from tests.support.asset_rules import RateLimit
from tests.support.cluster import wait_until
from tests.support.dashboard import Query, ask, called, draw, panels
from tests.support.operator_process import OperatorProcess
from tests.support.prometheus import Prometheus, Series
from tests.support.promtool import NoPromtoolError, prometheus
from tests.support.shop import CLIENT_ID, Shop

PICTURE: Final = Path(__file__).parents[3] / "docs" / "dashboard" / "panels.svg"
UPDATES: Final = bool(os.environ.get("UPDATE_DOCS"))
SECONDS: Final = 240 if UPDATES else 0
"""How long the run goes on after everything that it is to show has happened."""

WINDOW_SECONDS: Final = 15
FAST: Final = {"lifetime": "2m", "renewBefore": "100s"}


@pytest.fixture
def scraped(shop: Shop, operator_for: Callable[..., OperatorProcess], tmp_path: Path) -> Iterator[Prometheus]:
    try:
        prometheus()
    except NoPromtoolError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))
    operator = operator_for(shop, "--metrics-address=127.0.0.1:0", "--leader-elect")
    operator.wait_for_output("listens on 127.0.0.1:")
    (address,) = re.findall(r"listens on (127\.0\.0\.1:\d+) for ", operator.output())
    with Prometheus(address, tmp_path / "prometheus") as server:
        yield server


@pytest.mark.timeout(600)
def test_every_panels_query_shows_something_of_a_real_run(shop: Shop, asset: AssetApi, scraped: Prometheus) -> None:
    begin = time.time()
    happen(shop, asset)
    end = time.time()

    seen = {panel: ask(scraped, panel, begin, end) for panel in panels()}

    empty = [(panel.title, query.expression) for panel, found in seen.items() for query in found if not found[query]]
    assert empty == []
    names = [called(query, one) for found in seen.values() for query, every in found.items() for one in every]
    assert [name for name in names if "{{" in name] == []
    if UPDATES:
        draw({panel: neutral(found, shop.namespace) for panel, found in seen.items()}, PICTURE)


def neutral(found: dict[Query, list[Series]], namespace: str) -> dict[Query, list[Series]]:
    """The same as if the namespace had been called as in the documents."""
    return {
        query: [
            Series({label: value.replace(namespace, "shop") for label, value in labels.items()}, points)
            for labels, points in every
        ]
        for query, every in found.items()
    }


def happen(shop: Shop, asset: AssetApi) -> None:
    """Tokens are issued and renewed, credentials are refused, Asset fails for a while, and its limit is reached."""
    names = [f"ledger-{number}" for number in range(6)]
    for name in names:
        shop.create(name, **FAST)
    for name in names:
        shop.wait_until_ready(name)
    shop.put_credentials("wrong", name="wrong")
    shop.create("payouts", credentialsSecretRef={"name": "wrong"})
    shop.wait_for_condition("payouts", "Issuing", "True", "InvalidClient")
    asset.behave(Behaviour(failure=SERVER_ERROR_500), times=3)
    shop.create("invoices", **FAST)
    shop.wait_until_ready("invoices", timeout=60)
    asset.rate_limit = RateLimit(window_seconds=WINDOW_SECONDS)
    asset.spend(CLIENT_ID, asset.rate_limit.per_tenant)
    shop.create("late", **FAST)
    shop.wait_until_ready("late", timeout=90)
    wait_until(lambda: all(shop.token(name)["status"]["revision"] > 1 for name in names), 60, "all are renewed")
    time.sleep(SECONDS)
