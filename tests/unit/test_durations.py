"""Durations are written as people write them."""

from datetime import timedelta

import pytest

from asset_token_operator.durations import in_words


@pytest.mark.parametrize(
    ("length", "text"),
    [
        pytest.param(timedelta(), "0 s", id="nothing"),
        pytest.param(timedelta(seconds=4), "4 s", id="seconds"),
        pytest.param(timedelta(milliseconds=4999), "4 s", id="a fraction is cut off"),
        pytest.param(timedelta(minutes=30), "30m", id="minutes"),
        pytest.param(timedelta(seconds=90), "1m 30s", id="a minute and a half"),
        pytest.param(timedelta(hours=1, minutes=30), "1h 30m", id="an hour and a half"),
        pytest.param(timedelta(hours=1, seconds=5), "1h", id="no unit is skipped"),
        pytest.param(timedelta(days=3, hours=4, minutes=5), "3d 4h", id="two units"),
        pytest.param(-timedelta(minutes=5), "5m", id="the sign is the sentence's to tell"),
    ],
)
def test_a_duration_is_written_as_people_write_it(length: timedelta, text: str) -> None:
    assert in_words(length) == text
