"""What is coming, and whether it fits."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from asset_token_operator.kubectl.budget_report import budgets
from asset_token_operator.kubectl.forecast import Queue, forecast, horizon
from asset_token_operator.model import AssetToken, Reserves
from asset_token_operator.parsing import parse_asset_token
from asset_token_operator.times import format_time

NOW: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)


def an_asset_token(number: int = 0, status: dict[str, Any] | None = None, **spec: Any) -> AssetToken:
    metadata = {"namespace": "shop", "name": f"t{number}", "uid": f"uid-{number}", "generation": 1}
    metadata |= {"creationTimestamp": format_time(NOW), "resourceVersion": "1"}
    needed = {"environment": "sandbox", "credentialsSecretRef": {"name": "c"}}
    return parse_asset_token({"metadata": metadata, "spec": needed | spec, "status": status or {}})


def test_a_renewal_comes_when_the_operator_makes_it() -> None:
    issued = {
        "issuanceTime": format_time(NOW - timedelta(minutes=20)),
        "expirationTime": format_time(NOW + timedelta(minutes=40)),
        "revision": 4,
    }
    (load,) = forecast({"t": [an_asset_token(status=issued)]}, NOW, 60, 300, Reserves())
    minutes = [minute for minute, count in enumerate(load.wanted) if count]
    assert (load.new, load.capacity, load.fits, load.verdict()) == (0, 240, True, "fits")
    assert len(minutes) == 2
    assert 16 <= minutes[0] <= 20  # a third before its end, or up to a tenth of the time until then earlier


def test_new_tokens_are_asked_for_now_and_suspended_ones_never() -> None:
    tokens = [an_asset_token(number, suspend=number % 2 == 1) for number in range(10)]
    (load,) = forecast({"t": tokens}, NOW, 10, 300, Reserves())
    assert (load.tokens, load.new, load.wanted[0], sum(load.wanted)) == (10, 10, 5, 5)


def test_first_issues_go_as_fast_as_the_budget_allows_and_renewals_evenly_spaced() -> None:
    queue = Queue(NOW, 10, Reserves())
    assert (queue.first, queue.routine) == (9, 8)
    assert [queue.minute(queue.issue()) for _ in range(20)] == [0] * 9 + [1] * 9 + [2] * 2
    sent = [queue.renew(NOW + timedelta(minutes=1)) for _ in range(8)]
    assert [queue.minute(moment) for moment in sent] == [2] * 6 + [3] * 2
    assert sent[1] - sent[0] == timedelta(minutes=1) / 8


def test_what_is_too_much_waits_and_is_renewed_the_later_for_it() -> None:
    (load,) = forecast({"t": [an_asset_token(number) for number in range(25)]}, NOW, 60, 10, Reserves())
    assert load.sent[:4] == [9, 9, 7, 0]
    assert (load.wanted[0], load.longest_wait, load.verdict()) == (25, 2, "fits; some wait 2 min")
    assert [minute for minute, count in enumerate(load.wanted) if count][-1] >= 38  # two minutes later than it would


def test_a_queue_that_does_not_end_is_said() -> None:
    tokens = [an_asset_token(number, lifetime="10m") for number in range(200)]
    (load,) = forecast({"t": tokens}, NOW, 60, 10, Reserves())
    assert (load.fits, load.longest_wait) == (False, None)
    assert load.verdict().startswith("too much: the queue doesn't end")


def test_a_token_that_expires_in_the_queue_does_not_fit() -> None:
    issued = {
        "issuanceTime": format_time(NOW - timedelta(minutes=8)),
        "expirationTime": format_time(NOW + timedelta(minutes=2)),
        "revision": 1,
    }
    tokens = [an_asset_token(number, issued, lifetime="1h", renewBefore="1m") for number in range(60)]
    (load,) = forecast({"t": tokens}, NOW, 120, 10, Reserves(0, 0))
    assert not load.fits
    assert load.verdict() == f"too much: {load.late} expire before they are renewed; raise renewBefore or the lifetime"
    assert 35 <= load.late <= 48


def test_very_many_requests_are_looked_at_for_a_shorter_time() -> None:
    assert horizon([an_asset_token()], 360) == 360
    assert horizon([an_asset_token(number, lifetime="60s") for number in range(5000)], 360) == 13
    assert horizon([], 360) == 360


def test_budgets_are_read_from_what_is_scraped() -> None:
    labels = '{environment="sandbox",tenant="shop/credentials"}'
    values = (("limit", "300.0"), ("remaining", "12.0"), ("paused", "1.0"), ("queue_length", "7.0"))
    text = "\n".join(f"asset_token_operator_budget_{name}{labels} {value}" for name, value in values)
    (found,) = budgets(f"# HELP x\n{text}\n")
    assert found.sentence() == "12 of 300 requests left this minute, 7 in the queue, paused after a 429"
