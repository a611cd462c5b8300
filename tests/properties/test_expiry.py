"""Whatever Asset answers, a token is refused or expires at a moment that can be worked with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from asset_token_operator.answers import Claims
from asset_token_operator.errors import BrokenAnswerError
from asset_token_operator.expiry import LONGEST_LIFETIME, read_expiry
from tests.support.builders import NOW, an_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIX_NOW = NOW.timestamp()

# From 2000 on: before 1980, a duration of ten years and a moment to come can't be told apart.
moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - `timezones` says which


def near(centres: Sequence[float]) -> st.SearchStrategy[float]:
    """Numbers at and around those where something changes."""
    offsets = st.one_of(st.integers(-3, 3), st.floats(-3, 3))
    return st.builds(lambda centre, offset: centre + offset, st.sampled_from(centres), offsets)


numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([10**400, -(10**400), 1e30, UNIX_NOW * 1000]),
    near([0, 1, 3600, UNIX_NOW, UNIX_NOW + 3600, LONGEST_LIFETIME.total_seconds()]),
    near([UNIX_NOW + LONGEST_LIFETIME.total_seconds()]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, numbers.map(str), st.text())
json_values = st.one_of(
    scalars,
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=5
    ),
)
claims = st.one_of(st.none(), st.builds(Claims, exp=json_values))
lifetimes = st.one_of(st.none(), st.integers(60, 8760 * 3600).map(lambda number: timedelta(seconds=number)))


def expiry_or_none(
    expires_in: object, said: Claims | None, asked: timedelta | None, issued_at: datetime
) -> datetime | None:
    try:
        return read_expiry(an_answer(expires_in=expires_in, claims=said), asked, issued_at)
    except BrokenAnswerError:
        return None


def assert_usable(expiry: datetime, issued_at: datetime) -> None:
    assert expiry.tzinfo is UTC
    assert expiry.microsecond == 0
    assert issued_at < expiry <= issued_at + LONGEST_LIFETIME


@given(expires_in=json_values, said=claims, asked=lifetimes)
@example(expires_in=UNIX_NOW + 0.5, said=None, asked=None)
def test_an_expiry_is_refused_or_lies_ahead_but_not_absurdly_far(
    expires_in: object, said: Claims | None, asked: timedelta | None
) -> None:
    expiry = expiry_or_none(expires_in, said, asked, NOW)
    if expiry is not None:
        assert_usable(expiry, NOW)


@given(
    issued_at=moments,
    offset=st.one_of(st.floats(-10, 10), st.floats(-1e9, 1e9), st.integers(-(10**9), 10**9)),
    place=st.sampled_from(["exp", "expires_in"]),
    asked=lifetimes,
)
def test_the_same_holds_for_a_moment_near_any_other(
    issued_at: datetime, offset: float, place: str, asked: timedelta | None
) -> None:
    moment = issued_at.timestamp() + offset
    expires_in, said = (None, Claims(exp=moment)) if place == "exp" else (moment, None)
    expiry = expiry_or_none(expires_in, said, asked, issued_at)
    if expiry is not None:
        assert_usable(expiry, issued_at)


@given(lifetime=st.integers(1, 3650 * 86_400), issued_at=moments)
def test_a_duration_and_the_moment_that_it_ends_at_mean_the_same(lifetime: int, issued_at: datetime) -> None:
    issued_at = issued_at.replace(microsecond=0)
    moment = int(issued_at.timestamp()) + lifetime
    expected = issued_at + timedelta(seconds=lifetime)
    assert expiry_or_none(lifetime, None, None, issued_at) == expected
    assert expiry_or_none(moment, None, None, issued_at) == expected
    assert expiry_or_none(str(moment), None, None, issued_at) == expected


@given(lifetime=st.integers(1, 3650 * 86_400), expires_in=json_values, asked=lifetimes)
def test_a_readable_exp_leaves_nothing_else_a_say(lifetime: int, expires_in: object, asked: timedelta | None) -> None:
    said = Claims(exp=int(UNIX_NOW) + lifetime)
    assert expiry_or_none(expires_in, said, asked, NOW) == NOW + timedelta(seconds=lifetime)


@given(exp=st.integers(max_value=int(UNIX_NOW)), expires_in=json_values, asked=lifetimes)
def test_an_expired_jwt_is_always_refused(exp: int, expires_in: object, asked: timedelta | None) -> None:
    assert expiry_or_none(expires_in, Claims(exp=exp), asked, NOW) is None
