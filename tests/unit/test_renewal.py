"""When a token is renewed, and how soon a failure is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asset_token_operator.renewal import back_off, earliest_next, renew_before_fits, renewal_time, wanted_renew_before
from tests.support.builders import NOW, a_spec, an_issued_token

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
LATEST_SEED = "s125110"  # found by trying: with it, a first token is spread by less than a hundred-thousandth
SEEDS = [f"uid-{number}" for number in range(1000)]


def renewal(lifetime: timedelta, /, **spec: Any) -> timedelta:
    """How long after its issue a token of that real lifetime is renewed, at the latest."""
    return renewal_time(an_issued_token(expires_at=NOW + lifetime), a_spec(**spec), LATEST_SEED) - NOW


@pytest.mark.parametrize(
    ("lifetime", "spec", "expected"),
    [
        pytest.param(timedelta(hours=1), {}, timedelta(minutes=40), id="two-thirds-by-default"),
        pytest.param(timedelta(hours=3), {}, timedelta(hours=2), id="two-thirds-of-the-real-lifetime"),
        pytest.param(
            timedelta(hours=3), {"lifetime": timedelta(hours=1)}, timedelta(hours=2), id="not-of-the-one-asked-for"
        ),
        pytest.param(timedelta(hours=1), {"renew_before": timedelta(minutes=15)}, timedelta(minutes=45), id="before"),
        pytest.param(timedelta(hours=1), {"renew_before": SECOND}, timedelta(minutes=60) - SECOND, id="shortest"),
        pytest.param(timedelta(hours=1), {"renew_before_percentage": 25}, timedelta(minutes=45), id="a-quarter"),
        pytest.param(timedelta(hours=1), {"renew_before_percentage": 99}, timedelta(seconds=36), id="99-percent"),
        pytest.param(timedelta(hours=1), {"renew_before_percentage": 1}, timedelta(seconds=3564), id="1-percent"),
        pytest.param(timedelta(hours=2), {"renew_before_percentage": 25}, timedelta(minutes=90), id="real-quarter"),
    ],
)
def test_a_token_is_renewed_as_long_before_its_end_as_the_spec_says(
    lifetime: timedelta, spec: dict[str, Any], expected: timedelta
) -> None:
    assert renewal(lifetime, **spec) == expected


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [
        pytest.param(timedelta(seconds=100), timedelta(seconds=66), id="66.67"),
        pytest.param(timedelta(seconds=101), timedelta(seconds=67), id="67.33"),
    ],
)
def test_a_renewal_is_at_a_whole_second_and_rather_too_early(lifetime: timedelta, expected: timedelta) -> None:
    assert renewal(lifetime) == expected


@pytest.mark.parametrize(
    ("lifetime", "expected", "fits"),
    [
        pytest.param(timedelta(minutes=16), timedelta(minutes=1), True, id="room-enough"),
        pytest.param(timedelta(minutes=15, seconds=1), SECOND, True, id="just-room"),
        pytest.param(timedelta(minutes=15), timedelta(minutes=10), False, id="no-room-by-nothing"),
        pytest.param(timedelta(minutes=9), timedelta(minutes=6), False, id="no-room"),
    ],
)
def test_a_renew_before_that_the_real_lifetime_has_no_room_for_gives_way_to_the_default(
    lifetime: timedelta, expected: timedelta, *, fits: bool
) -> None:
    spec = a_spec(renew_before=timedelta(minutes=15))
    token = an_issued_token(expires_at=NOW + lifetime)
    assert (renewal_time(token, spec, LATEST_SEED) - NOW, renew_before_fits(token, spec)) == (expected, fits)


@pytest.mark.parametrize(
    ("spec", "latest"),
    [
        pytest.param({}, timedelta(minutes=40), id="default"),
        pytest.param({"renew_before": timedelta(minutes=15)}, timedelta(minutes=45), id="renew-before"),
        pytest.param({"renew_before_percentage": 50}, timedelta(minutes=30), id="percentage"),
        pytest.param({"renew_before": timedelta(hours=2)}, timedelta(minutes=40), id="renew-before-without-room"),
    ],
)
def test_tokens_that_were_issued_together_are_renewed_one_by_one_by_up_to_a_tenth_earlier(
    spec: dict[str, Any], latest: timedelta
) -> None:
    renewals = [renewal_time(an_issued_token(), a_spec(**spec), seed) - NOW for seed in SEEDS]
    tenth = latest / 10
    assert latest - tenth <= min(renewals) < latest - tenth * 0.99
    assert latest - tenth * 0.01 < max(renewals) <= latest
    parts = [min(int((latest - renewal) / tenth * 10), 9) for renewal in renewals]
    assert len(SEEDS) / 20 < min(parts.count(part) for part in range(10))
    assert max(parts.count(part) for part in range(10)) < len(SEEDS) / 5


def test_one_that_is_renewed_early_once_is_not_always() -> None:
    renewals = {renewal_time(an_issued_token(revision=revision), a_spec(), "uid") - NOW for revision in range(1, 11)}
    assert len(renewals) == 10


def test_a_restart_computes_the_same_renewal() -> None:
    renewal = renewal_time(an_issued_token(), a_spec(), "11111111-1111-1111-1111-111111111111")
    assert renewal == datetime(2026, 5, 1, 12, 38, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="default"),
        pytest.param({"renew_before_percentage": 1}, id="least-percentage"),
        pytest.param({"renew_before_percentage": 99}, id="greatest-percentage"),
    ],
)
@pytest.mark.parametrize("lifetime", [pytest.param(SECOND, id="a-second"), pytest.param(timedelta(hours=1), id="hour")])
def test_what_is_a_share_of_the_lifetime_always_fits(spec: dict[str, Any], lifetime: timedelta) -> None:
    assert renew_before_fits(an_issued_token(expires_at=NOW + lifetime), a_spec(**spec))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, timedelta(minutes=20), id="a-third"),
        pytest.param({"renew_before": timedelta(minutes=90)}, timedelta(minutes=90), id="even-what-does-not-fit"),
        pytest.param({"renew_before_percentage": 10}, timedelta(minutes=6), id="percentage"),
    ],
)
def test_what_the_spec_wants_can_be_told(spec: dict[str, Any], expected: timedelta) -> None:
    assert wanted_renew_before(an_issued_token(), a_spec(**spec)) == expected


@pytest.mark.parametrize(
    ("failures", "ceiling"),
    [
        pytest.param(1, timedelta(seconds=5), id="first"),
        pytest.param(2, timedelta(seconds=10), id="second"),
        pytest.param(3, timedelta(seconds=20), id="third"),
        pytest.param(6, timedelta(seconds=160), id="sixth"),
        pytest.param(7, timedelta(minutes=5), id="seventh-is-capped"),
        pytest.param(40, timedelta(minutes=5), id="fortieth"),
        pytest.param(10**9, timedelta(minutes=5), id="after-all-eternity"),
    ],
)
def test_many_that_fail_together_spread_over_a_time_that_doubles_up_to_five_minutes(
    failures: int, ceiling: timedelta
) -> None:
    waits = [back_off(failures, seed) for seed in SEEDS]
    assert max(waits) <= ceiling
    assert min(waits) >= SECOND
    tenths = [int(wait / ceiling * 10) for wait in waits]
    # Full jitter: where the floor of one second doesn't gather them, all tenths of the time are used about alike.
    counts = [tenths.count(tenth) for tenth in range(3, 10)]
    assert min(counts) > len(SEEDS) / 20
    assert max(counts) < len(SEEDS) / 5


@pytest.mark.parametrize(
    ("failures", "left", "ceiling"),
    [
        pytest.param(7, timedelta(hours=1), timedelta(minutes=5), id="far-from-its-end-nothing-changes"),
        pytest.param(7, timedelta(minutes=16), timedelta(minutes=2), id="an-eighth-of-what-is-left"),
        pytest.param(7, timedelta(seconds=40), timedelta(seconds=5), id="down-to-five-seconds"),
        pytest.param(7, timedelta(seconds=1), timedelta(seconds=5), id="and-no-further"),
        pytest.param(7, timedelta(0), timedelta(minutes=5), id="at-its-end-as-without"),
        pytest.param(7, -timedelta(hours=1), timedelta(minutes=5), id="past-its-end-as-without"),
        pytest.param(1, timedelta(minutes=16), timedelta(seconds=5), id="never-longer-than-without"),
    ],
)
def test_the_nearer_its_end_the_sooner_a_renewal_is_tried_again(
    failures: int, left: timedelta, ceiling: timedelta
) -> None:
    waits = [back_off(failures, seed, left) for seed in SEEDS]
    assert min(waits) >= SECOND
    assert ceiling * 0.95 < max(waits) <= ceiling


def test_a_wait_is_never_shorter_than_a_second() -> None:
    assert min(back_off(1, seed) for seed in SEEDS) == SECOND


def test_a_restart_computes_the_same_wait() -> None:
    waits = [back_off(failures, "11111111-1111-1111-1111-111111111111") for failures in (1, 2, 3, 7)]
    assert [wait.total_seconds() for wait in waits] == [2.351354, 6.088905, 18.439501, 210.74795]


def test_one_that_fails_late_once_does_not_fail_late_always() -> None:
    lateness = {round(back_off(failures, "uid") / timedelta(minutes=5), 3) for failures in range(10, 20)}
    assert len(lateness) == 10


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        pytest.param([], None, id="never-before"),
        pytest.param([NOW], None, id="once"),
        pytest.param([NOW, NOW + SECOND, NOW + 2 * SECOND], None, id="one-is-left"),
        pytest.param([NOW, NOW, NOW, NOW], NOW + MINUTE, id="all-at-once"),
        pytest.param([NOW + n * 5 * SECOND for n in range(4)], NOW + MINUTE, id="when-the-first-leaves-the-window"),
        pytest.param([NOW + n * 5 * SECOND for n in range(6)], NOW + MINUTE + 10 * SECOND, id="more-are-remembered"),
    ],
)
def test_no_more_than_four_fall_into_a_minute(times: list[datetime], expected: datetime | None) -> None:
    assert earliest_next(times, 4, MINUTE) == expected


def test_at_most_one_means_that_only_the_latest_counts() -> None:
    assert earliest_next([NOW, NOW + MINUTE], 1, timedelta(minutes=10)) == NOW + timedelta(minutes=11)
