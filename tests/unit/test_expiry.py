"""When a token expires: the JWT says it best, `expires_in` means one of two things, and neither is believed blindly."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asset_token_operator.answers import Claims
from asset_token_operator.errors import BrokenAnswerError
from asset_token_operator.expiry import (
    ASSUMED_LIFETIME,
    LONGEST_LIFETIME,
    Validity,
    read_expiry,
    read_not_before,
    read_validity,
)
from tests.support.builders import NOW, an_answer

UNIX_NOW = int(NOW.timestamp())
DOCUMENTED_EXAMPLE = 1_777_657_168
TEN_YEARS = 315_360_000
NEARLY_A_SECOND = timedelta(microseconds=999_999)

EXPIRED = "Asset answered with a token that has already expired, by its own exp; tried again by itself."
IMPOSSIBLE = (
    "Asset's expires_in is neither a lifetime nor a moment to come, and the token doesn't say when it expires;"
    " tried again by itself."
)


def expiry(
    expires_in: object = None,
    *,
    claims: Claims | None = None,
    asked: timedelta | None = None,
    issued_at: datetime = NOW,
) -> datetime:
    return read_expiry(an_answer(expires_in=expires_in, claims=claims), asked, issued_at)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_the_tests_use_the_numbers_that_they_think_they_use() -> None:
    assert (UNIX_NOW, ASSUMED_LIFETIME.total_seconds()) == (1_777_636_800, 3600)
    assert LONGEST_LIFETIME.total_seconds() == TEN_YEARS


@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        pytest.param(3600, after(3600), id="duration"),
        pytest.param(1, after(1), id="shortest-duration"),
        pytest.param(TEN_YEARS, after(TEN_YEARS), id="longest-duration"),
        pytest.param(3600.0, after(3600), id="duration-as-a-float"),
        pytest.param(3600.9, after(3600), id="fraction-of-a-duration-is-cut"),
        pytest.param("3600", after(3600), id="duration-in-a-string"),
        pytest.param("3600.5", after(3600), id="float-in-a-string"),
        pytest.param("3.6e3", after(3600), id="exponent-in-a-string"),
        pytest.param(UNIX_NOW + 900, after(900), id="timestamp"),
        pytest.param(UNIX_NOW + 1, after(1), id="timestamp-of-the-next-second"),
        pytest.param(UNIX_NOW + TEN_YEARS, after(TEN_YEARS), id="latest-timestamp"),
        pytest.param(UNIX_NOW + 900.75, after(900), id="fraction-of-a-timestamp-is-cut"),
        pytest.param(str(UNIX_NOW + 900), after(900), id="timestamp-in-a-string"),
        pytest.param(DOCUMENTED_EXAMPLE, datetime(2026, 5, 1, 17, 39, 28, tzinfo=UTC), id="the-documented-example"),
    ],
)
def test_expires_in_is_a_duration_or_a_moment_by_its_size(expires_in: object, expected: datetime) -> None:
    assert expiry(expires_in) == expected


@pytest.mark.parametrize(
    "expires_in",
    [
        pytest.param(0, id="zero"),
        pytest.param(-1, id="negative"),
        pytest.param(-3600, id="negative-duration"),
        pytest.param(0.5, id="less-than-a-second"),
        pytest.param("0", id="zero-in-a-string"),
        pytest.param(TEN_YEARS + 1, id="duration-too-long"),
        pytest.param(UNIX_NOW, id="timestamp-of-now"),
        pytest.param(UNIX_NOW + 0.5, id="timestamp-within-this-second"),
        pytest.param(UNIX_NOW - 1, id="timestamp-just-past"),
        pytest.param(UNIX_NOW - 86_400, id="past-timestamp"),
        pytest.param(str(UNIX_NOW - 86_400), id="past-timestamp-in-a-string"),
        pytest.param(UNIX_NOW + TEN_YEARS + 1, id="timestamp-too-far-ahead"),
        pytest.param((UNIX_NOW + 3600) * 1000, id="milliseconds"),
        pytest.param(1e30, id="far-too-large"),
        pytest.param(1e308, id="nearly-infinite"),
        pytest.param(10**400, id="too-large-for-a-float"),
        pytest.param(-(10**400), id="too-small-for-a-float"),
        pytest.param("9" * 5000, id="five-thousand-digits-in-a-string"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="infinity"),
        pytest.param(float("-inf"), id="minus-infinity"),
        pytest.param("NaN", id="nan-in-a-string"),
        pytest.param("Infinity", id="infinity-in-a-string"),
        pytest.param(True, id="true-is-no-number"),
        pytest.param(False, id="false-is-no-number"),
        pytest.param("", id="empty-string"),
        pytest.param("soon", id="word"),
        pytest.param("1h", id="duration-with-a-unit"),
        pytest.param("2026-05-01T13:00:00Z", id="time-in-words"),
        pytest.param("\ud800", id="lone-surrogate"),
        pytest.param([3600], id="list"),
        pytest.param({"seconds": 3600}, id="object"),
    ],
)
def test_an_impossible_expires_in_without_a_jwt_is_refused(expires_in: object) -> None:
    with pytest.raises(BrokenAnswerError) as caught:
        expiry(expires_in)
    assert str(caught.value) == IMPOSSIBLE


def test_an_impossible_expires_in_is_refused_although_a_lifetime_was_asked_for() -> None:
    with pytest.raises(BrokenAnswerError):
        expiry(0, asked=timedelta(minutes=10))


def test_expires_in_wins_over_the_lifetime_that_was_asked_for() -> None:
    assert expiry(1200, asked=timedelta(minutes=10)) == after(1200)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("NaN", id="nan"),
        pytest.param("Infinity", id="infinity"),
        pytest.param("-Infinity", id="minus-infinity"),
        pytest.param("1E999", id="overflowing-float"),
        pytest.param("1" + "0" * 400, id="overflowing-integer"),
    ],
)
def test_what_pythons_json_takes_for_a_number_is_refused_where_it_is_none(text: str) -> None:
    with pytest.raises(BrokenAnswerError):
        expiry(json.loads(text))


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(timedelta(minutes=10), after(600), id="asked"),
        pytest.param(timedelta(hours=8760), after(8760 * 3600), id="asked-for-a-year"),
        pytest.param(None, after(3600), id="not-asked-is-an-hour"),
    ],
)
@pytest.mark.parametrize(
    "claims",
    [pytest.param(None, id="opaque-token"), pytest.param(Claims(jti="a", scopes=("b",)), id="jwt-without-exp")],
)
def test_without_any_word_the_lifetime_asked_for_is_assumed(
    claims: Claims | None, asked: timedelta | None, expected: datetime
) -> None:
    assert expiry(None, claims=claims, asked=asked) == expected


@pytest.mark.parametrize(
    "expires_in",
    [
        pytest.param(None, id="nothing-else-said"),
        pytest.param(60, id="shorter-duration"),
        pytest.param(86_400, id="longer-duration"),
        pytest.param(UNIX_NOW + 60, id="earlier-timestamp"),
        pytest.param(UNIX_NOW + 86_400, id="later-timestamp"),
        pytest.param(UNIX_NOW - 86_400, id="past-timestamp"),
        pytest.param(0, id="zero"),
        pytest.param("soon", id="word"),
        pytest.param(float("nan"), id="nan"),
    ],
)
@pytest.mark.parametrize(
    "exp",
    [
        pytest.param(UNIX_NOW + 900, id="number"),
        pytest.param(UNIX_NOW + 900.75, id="fraction"),
        pytest.param(str(UNIX_NOW + 900), id="string"),
    ],
)
def test_the_jwts_exp_wins_over_whatever_else_is_said(exp: object, expires_in: object) -> None:
    assert expiry(expires_in, claims=Claims(exp=exp), asked=timedelta(hours=3)) == after(900)


@pytest.mark.parametrize(
    ("issued_at", "exp", "expected"),
    [
        pytest.param(NOW, UNIX_NOW + 1, after(1), id="a-second-from-now"),
        pytest.param(NOW, UNIX_NOW + 1.9, after(1), id="nearly-two-seconds-from-now"),
        pytest.param(NOW + NEARLY_A_SECOND, UNIX_NOW + 1, after(1), id="next-second-asked-for-at-the-end-of-this"),
        pytest.param(NOW, UNIX_NOW + TEN_YEARS, after(TEN_YEARS), id="ten-years-from-now"),
    ],
)
def test_an_exp_that_is_just_possible_is_taken(issued_at: datetime, exp: float, expected: datetime) -> None:
    assert expiry(claims=Claims(exp=exp), issued_at=issued_at) == expected


@pytest.mark.parametrize(
    "exp",
    [
        pytest.param(UNIX_NOW, id="now"),
        pytest.param(UNIX_NOW + 0.5, id="within-this-second"),
        pytest.param(UNIX_NOW - 1, id="a-second-ago"),
        pytest.param(UNIX_NOW - 86_400, id="yesterday"),
        pytest.param(str(UNIX_NOW - 86_400), id="yesterday-in-a-string"),
        pytest.param(3600, id="duration-in-place-of-a-moment"),
        pytest.param(0, id="zero"),
        pytest.param(-1, id="negative"),
        pytest.param(-1e300, id="far-too-small"),
    ],
)
@pytest.mark.parametrize(
    "expires_in",
    [
        pytest.param(None, id="nothing-else-said"),
        pytest.param(3600, id="duration-in-order"),
        pytest.param(UNIX_NOW + 3600, id="timestamp-in-order"),
    ],
)
def test_an_expired_jwt_is_refused_whatever_else_is_said(exp: object, expires_in: object) -> None:
    with pytest.raises(BrokenAnswerError) as caught:
        expiry(expires_in, claims=Claims(exp=exp))
    assert str(caught.value) == EXPIRED


UNREADABLE_EXP = [
    pytest.param(None, id="null"),
    pytest.param("tomorrow", id="word"),
    pytest.param("2026-05-01T13:00:00Z", id="time-in-words"),
    pytest.param("", id="empty-string"),
    pytest.param(True, id="true"),
    pytest.param([UNIX_NOW + 900], id="list"),
    pytest.param({"seconds": 900}, id="object"),
    pytest.param(float("nan"), id="nan"),
    pytest.param(float("inf"), id="infinity"),
    pytest.param(float("-inf"), id="minus-infinity"),
    pytest.param((UNIX_NOW + 900) * 1000, id="milliseconds"),
    pytest.param(UNIX_NOW + TEN_YEARS + 1, id="more-than-ten-years-ahead"),
    pytest.param(1e30, id="far-too-large"),
    pytest.param(10**400, id="too-large-for-a-float"),
]


@pytest.mark.parametrize("exp", UNREADABLE_EXP)
@pytest.mark.parametrize(
    ("expires_in", "expected"),
    [
        pytest.param(1200, after(1200), id="duration"),
        pytest.param(UNIX_NOW + 1200, after(1200), id="timestamp"),
        pytest.param(None, after(600), id="lifetime-asked-for"),
    ],
)
def test_an_unreadable_exp_leaves_it_to_expires_in(exp: object, expires_in: object, expected: datetime) -> None:
    assert expiry(expires_in, claims=Claims(exp=exp), asked=timedelta(minutes=10)) == expected


@pytest.mark.parametrize("exp", UNREADABLE_EXP)
def test_an_unreadable_exp_does_not_save_an_impossible_expires_in(exp: object) -> None:
    with pytest.raises(BrokenAnswerError, match=r"^Asset's expires_in is neither"):
        expiry(UNIX_NOW - 86_400, claims=Claims(exp=exp), asked=timedelta(minutes=10))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        pytest.param({"expires_in": 3600}, after(3600), id="duration"),
        pytest.param({"expires_in": UNIX_NOW + 3600}, after(3600), id="timestamp"),
        pytest.param({"claims": Claims(exp=UNIX_NOW + 3600)}, after(3600), id="exp"),
        pytest.param({"asked": timedelta(minutes=10)}, after(600), id="lifetime-asked-for"),
        pytest.param({}, after(3600), id="nothing"),
    ],
)
def test_an_expiry_has_whole_seconds_also_where_the_request_had_not(said: dict[str, Any], expected: datetime) -> None:
    assert expiry(**said, issued_at=NOW + NEARLY_A_SECOND) == expected


@pytest.mark.parametrize(
    ("not_before", "expected"),
    [
        pytest.param(UNIX_NOW + 30, after(30), id="to-come"),
        pytest.param(str(UNIX_NOW + 30), after(30), id="to-come-in-a-string"),
        pytest.param(UNIX_NOW + 0.1, after(1), id="a-fraction-is-rounded-up"),
        pytest.param(UNIX_NOW + TEN_YEARS, after(TEN_YEARS), id="in-ten-years"),
        pytest.param(UNIX_NOW + TEN_YEARS + 1, None, id="absurdly-late"),
        pytest.param(UNIX_NOW, None, id="now"),
        pytest.param(UNIX_NOW - 30, None, id="past"),
        pytest.param(None, None, id="not-said"),
        pytest.param("soon", None, id="word"),
        pytest.param(float("nan"), None, id="nan"),
        pytest.param(10**400, None, id="too-large-for-a-float"),
    ],
)
def test_a_token_that_does_not_work_yet_says_so(not_before: object, expected: datetime | None) -> None:
    assert read_not_before(Claims(not_before=not_before), NOW) == expected


def test_a_token_that_says_nothing_works_at_once() -> None:
    assert read_not_before(None, NOW) is None


# What a token has left, by several witnesses


SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def validity(  # noqa: PLR0917 - times of one answer
    exp: timedelta = HOUR,
    iat: timedelta | None = timedelta(),
    date: timedelta | None = timedelta(),
    expires_in: object = None,
    took: timedelta = SECOND,
    known: timedelta | None = None,
) -> Validity:
    """Of a JWT whose times, and the answer's `Date`, are so far from our present."""
    issued_at = None if iat is None else (NOW + iat).timestamp()
    answer = an_answer(expires_in=expires_in, claims=Claims(exp=(NOW + exp).timestamp(), issued_at=issued_at))
    return read_validity(answer, None, None if date is None else NOW + date, NOW, NOW + took, known)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        pytest.param({}, HOUR, id="all agree"),
        pytest.param({"date": -5 * HOUR}, HOUR, id="Date is behind"),
        pytest.param({"date": -10 * MINUTE}, HOUR, id="Date is a little behind"),
        pytest.param({"date": 2 * HOUR}, HOUR, id="Date is beyond exp: ours is nearer to iat"),
        pytest.param({"date": 30 * MINUTE}, 30 * MINUTE, id="Date is ahead: the least"),
        pytest.param({"iat": 2 * MINUTE, "exp": HOUR + 2 * MINUTE}, HOUR, id="iat is ahead: exp - iat"),
        pytest.param({"iat": -50 * MINUTE, "exp": 10 * MINUTE}, 10 * MINUTE, id="a cached token"),
        pytest.param({"iat": -50 * MINUTE, "exp": 10 * MINUTE, "expires_in": 3600}, 10 * MINUTE, id="and its answer"),
        pytest.param({"expires_in": 600}, 10 * MINUTE, id="expires_in is less"),
        pytest.param({"expires_in": "600"}, 10 * MINUTE, id="expires_in is less, in a string"),
        pytest.param({"expires_in": 7200}, HOUR, id="expires_in is more"),
        pytest.param({"expires_in": 3599}, HOUR, id="expires_in is less by what was cut off"),
        pytest.param({"expires_in": 3590, "took": 10 * SECOND}, HOUR, id="expires_in is less by the way back"),
        pytest.param({"expires_in": -1}, HOUR, id="expires_in makes no sense"),
        pytest.param({"iat": HOUR}, HOUR, id="iat is exp"),
        pytest.param({"iat": -20_000 * HOUR}, HOUR, id="iat makes no sense"),
        pytest.param({"date": -20_000 * HOUR, "iat": None}, HOUR, id="Date makes no sense"),
        pytest.param({"date": None, "iat": None}, HOUR, id="no witness: our clock"),
        pytest.param({"date": None, "iat": None, "known": 5 * MINUTE}, 55 * MINUTE, id="what is known of the clock"),
        pytest.param(
            {"date": None, "iat": -50 * MINUTE, "exp": 10 * MINUTE, "known": timedelta()}, 10 * MINUTE, id="and cached"
        ),
        pytest.param({"date": None, "iat": -HOUR, "exp": timedelta(seconds=-1)}, HOUR, id="ours is ahead, no Date"),
        pytest.param(
            {"date": -HOUR, "iat": -HOUR, "exp": timedelta(), "took": 14 * SECOND}, HOUR, id="ours is an hour ahead"
        ),
        pytest.param({"date": 10 * SECOND, "iat": 9 * SECOND, "took": 15 * SECOND}, HOUR, id="a slow answer"),
    ],
)
def test_what_a_token_has_left_is_the_least_that_anything_says(said: dict[str, Any], left: timedelta) -> None:
    found = validity(**said)

    assert abs(found.expires_at - found.skew - NOW - left) <= SECOND
    assert found.expires_at <= NOW + said.get("exp", HOUR)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"exp": -MINUTE, "iat": -HOUR}, id="a cached token that has expired"),
        pytest.param({"exp": -MINUTE, "iat": -HOUR, "expires_in": 3600}, id="whatever expires_in says"),
        pytest.param({"exp": HOUR, "date": 2 * HOUR, "iat": -3 * HOUR}, id="ours is nearer to Date"),
        pytest.param({"exp": HOUR, "date": 2 * HOUR, "iat": 2 * HOUR}, id="iat agrees"),
    ],
)
def test_a_token_that_has_expired_by_the_witness_that_is_believed_is_broken(said: dict[str, Any]) -> None:
    with pytest.raises(BrokenAnswerError, match="already expired"):
        validity(**said)


@pytest.mark.parametrize(
    ("said", "skew", "odd"),
    [
        pytest.param({}, timedelta(), None, id="all agree"),
        pytest.param({"date": MINUTE, "iat": MINUTE}, MINUTE, None, id="Asset is ahead"),
        pytest.param({"date": -5 * HOUR}, timedelta(), "Date", id="Date is odd"),
        pytest.param({"iat": 2 * MINUTE}, timedelta(), "iat", id="iat is odd"),
        pytest.param({"date": -MINUTE, "iat": -2 * MINUTE}, -MINUTE, "iat", id="nearer to ours"),
        pytest.param({"date": -MINUTE, "iat": -2 * MINUTE, "known": -2 * MINUTE}, -2 * MINUTE, "Date", id="to known"),
        pytest.param({"date": None, "iat": -MINUTE}, -MINUTE, None, id="only iat"),
        pytest.param({"date": -MINUTE, "iat": None}, -MINUTE, None, id="only Date"),
        pytest.param({"date": None, "iat": None}, timedelta(), None, id="none"),
        pytest.param({"date": None, "iat": None, "known": MINUTE}, MINUTE, None, id="what is known"),
    ],
)
def test_asset_s_clock_is_the_witness_that_is_nearest_to_what_is_known(
    said: dict[str, Any], skew: timedelta, odd: str | None
) -> None:
    found = validity(**said)

    assert (found.skew, found.odd) == (skew, odd)


def test_iat_is_no_nbf() -> None:
    assert validity(iat=2 * MINUTE).not_before is None


def test_a_token_works_from_its_nbf_by_the_witness_that_is_believed() -> None:
    def begins(nbf: timedelta, date: timedelta) -> datetime | None:
        claims = Claims(exp=(NOW + HOUR).timestamp(), issued_at=UNIX_NOW, not_before=(NOW + nbf).timestamp())
        return read_validity(an_answer(claims=claims), None, NOW + date, NOW, NOW).not_before

    assert begins(timedelta(), -10 * MINUTE) is None
    assert begins(timedelta(), 2 * HOUR) is None
    assert begins(MINUTE, timedelta()) == NOW + MINUTE
