"""What the kubectl plugin says is what the documents say, and is fit for a terminal."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import yaml

from asset_token_operator.kubectl.advice import WHAT_HELPS
from asset_token_operator.kubectl.checkup import NEEDED
from asset_token_operator.kubectl.words import bar, clean, duration, life_left, moment_of, relative

ROOT: Final = Path(__file__).parents[3]
NOW: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)


def test_what_helps_is_what_the_reasons_say() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*?) ?\|$", (ROOT / "docs/reasons.md").read_text(), re.MULTILINE)
    documented = {reason: helps for reason, helps in rows if helps}
    assert {str(reason): helps for reason, helps in WHAT_HELPS.items()} == documented


def test_doctor_asks_for_no_field_that_the_crd_lacks() -> None:
    crd = yaml.safe_load((ROOT / "crds/auth.getasset.com_assettokens.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for part, needed in NEEDED.items():
        assert needed <= set(schema[part]["properties"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        pytest.param(0, "0s", id="nothing"),
        pytest.param(59, "59s", id="seconds"),
        pytest.param(3600, "1h", id="an hour"),
        pytest.param(3661, "1h1m", id="two units"),
        pytest.param(86_400 * 3 + 60, "3d", id="no unit is skipped"),
    ],
)
def test_durations_have_two_units(seconds: int, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


def test_moments_are_seen_from_now() -> None:
    assert relative(NOW + timedelta(minutes=5), NOW) == "in 5m"
    assert relative(NOW - timedelta(minutes=5), NOW) == "5m ago"
    assert relative(None, NOW) == "-"
    assert moment_of("soon") is None
    assert moment_of(7) is None


def test_a_life_is_a_share() -> None:
    hour = timedelta(hours=1)
    assert life_left(NOW - hour, NOW + hour, NOW) == 0.5
    assert life_left(NOW - hour, NOW - hour / 2, NOW) == 0
    assert life_left(NOW, NOW, NOW) is None
    assert life_left(None, NOW, NOW) is None
    assert bar(0.5, 4) == "██░░"
    assert bar(7, 2) == "██"


def test_nothing_steers_the_terminal() -> None:
    assert clean({"a\x1b": ["\x1b[31mred\x9b", 7, None]}) == {"a\ufffd": ["\ufffd[31mred\ufffd", 7, None]}
    assert clean("two\nlines") == "two\nlines"
