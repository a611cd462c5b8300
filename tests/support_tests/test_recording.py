"""The recording of `make demo`: it plays what was written, without what is this machine's or different each time."""

import re
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from demo.recording import LONGEST_WAIT, PACE, READING, ROOT, ROWS, Line, hurried, neutral, picture, record

BEGAN = datetime(2030, 1, 1, tzinfo=UTC)


def test_lines_are_told_with_their_moments_and_without_colours() -> None:
    program = "import time; print('\\x1b[1m▶ one\\x1b[0m', flush=True); time.sleep(0.3); print('two')"
    first, second = record([sys.executable, "-c", program])
    assert (first.text, first.bold) == ("▶ one", True)
    assert (second.text, second.bold) == ("two", False)
    assert second.at - first.at > 0.2


def test_what_is_different_each_time_is_as_if_it_had_always_been_the_same() -> None:
    line = f"run --namespace=demo-0a1b2c3d --url=http://127.0.0.1:43210 {ROOT}/demo/a.yaml 2030-01-01T00:01:00Z"
    assert neutral(line, BEGAN) == "run --namespace=demo --url=http://127.0.0.1:8780 demo/a.yaml 2026-11-24T07:01:00Z"


def test_waits_are_cut_and_the_rest_is_not() -> None:
    lines = [Line(0.5, "a", bold=False), Line(60.5, "b", bold=False), Line(60.7, "c", bold=False)]
    assert [round(line.at, 1) for line in hurried(lines)] == [0, LONGEST_WAIT, 1.0]


def test_an_output_can_be_read_before_the_next_command_comes() -> None:
    lines = [Line(0.5, "▶ one", bold=True), Line(0.5, "a", bold=False), Line(0.5, "▶ two", bold=True)]
    assert [round(line.at, 2) for line in hurried(lines)] == [0, PACE, PACE + READING]


def test_it_ends_with_the_last_lines_in_sight() -> None:
    drawn = picture([Line(number / 10, f"<{number}>", bold=False) for number in range(ROWS + 5)])
    ET.fromstring(drawn)
    assert "&lt;0&gt;" in drawn
    assert re.search(r"\.all \{ transform: translateY\(-85px\)", drawn)  # five lines of 17


def test_the_picture_in_the_docs_has_no_path_and_no_token() -> None:
    drawn = (ROOT / "docs/pictures/demo.svg").read_text()
    assert str(ROOT) not in drawn
    assert "eyJ" not in drawn
    assert "/tmp/" not in drawn
