"""What holds for every token and every number of failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from asset_token_operator.renewal import back_off, earliest_next, renew_before_fits, renewal_time, wanted_renew_before
from tests.support.builders import NOW, a_spec, an_issued_token

if TYPE_CHECKING:
    from asset_token_operator.model import IssuedToken, Spec

moments = st.datetimes(datetime(2020, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - `timezones` says which
    lambda moment: moment.replace(microsecond=0)
)
seconds = st.integers(1, 3650 * 86_400).map(lambda number: timedelta(seconds=number))
specs = st.one_of(
    st.just(a_spec()),
    st.builds(lambda before: a_spec(renew_before=before), seconds),
    st.builds(lambda percentage: a_spec(renew_before_percentage=percentage), st.integers(1, 99)),
)
tokens = st.builds(lambda issued, life: an_issued_token(issued_at=issued, expires_at=issued + life), moments, seconds)


@given(token=tokens, spec=specs, seed=st.text())
def test_a_renewal_is_at_a_whole_second_from_issue_to_expiry(token: IssuedToken, spec: Spec, seed: str) -> None:
    renewal = renewal_time(token, spec, seed)
    assert token.issued_at <= renewal < token.expires_at
    assert renewal.microsecond == 0


@given(token=tokens, spec=specs, seed=st.text())
def test_a_renewal_is_earlier_than_the_spec_asks_by_at_most_a_tenth(token: IssuedToken, spec: Spec, seed: str) -> None:
    asked = wanted_renew_before(token, spec) if renew_before_fits(token, spec) else token.lifetime / 3
    earlier = (token.expires_at - asked) - renewal_time(token, spec, seed)
    a_tenth = (token.lifetime - asked) / 10
    assert timedelta(0) <= earlier < a_tenth + timedelta(seconds=1)  # whole seconds are cut


@given(failures=st.integers(1, 10**9), seed=st.text(), left=st.none() | st.timedeltas())
def test_a_wait_stays_within_its_bounds(failures: int, seed: str, left: timedelta | None) -> None:
    ceiling = min(timedelta(seconds=5) * 2 ** min(failures - 1, 10), timedelta(minutes=5))
    assert timedelta(seconds=1) <= back_off(failures, seed, left) <= ceiling


@given(
    gaps=st.lists(st.integers(0, 90), max_size=12),
    most=st.integers(1, 10),
    window=st.integers(1, 600).map(lambda number: timedelta(seconds=number)),
)
def test_whoever_waits_as_told_never_exceeds_the_limit(gaps: list[int], most: int, window: timedelta) -> None:
    now, times = NOW, list[datetime]()
    for gap in gaps:
        now += timedelta(seconds=gap)
        now = max(now, earliest_next(times, most, window) or now)
        times.append(now)
        assert sum(moment > now - window for moment in times) <= most


@given(
    gaps=st.lists(st.integers(0, 90), min_size=1, max_size=12),
    most=st.integers(1, 10),
    window=st.integers(1, 600).map(lambda number: timedelta(seconds=number)),
)
def test_nobody_is_made_to_wait_longer_than_the_limit_needs(gaps: list[int], most: int, window: timedelta) -> None:
    times = [NOW + timedelta(seconds=sum(gaps[: index + 1])) for index in range(len(gaps))]
    allowed = earliest_next(times, most, window)
    if allowed is None:
        assert len(times) < most
    else:
        a_moment_sooner = allowed - timedelta(microseconds=1)
        assert sum(moment > a_moment_sooner - window for moment in times) >= most
