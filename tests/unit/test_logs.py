"""Lines for people and for machines, and what neither tells."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from asset_token_operator.logs import about, configure_logging
from asset_token_operator.model import Key

SECRET = "canary-access-token"
logger = logging.getLogger("asset_token_operator.test")


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The root logger is as it was after each test."""
    before, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = before
    logging.root.setLevel(level)


def fail() -> None:
    """A library logs an exception whose text quotes a secret."""
    try:
        int(SECRET)
    except ValueError:
        logger.exception("something broke")


def test_a_line_in_json_says_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logger.info("%s: issued", "shop/a", extra=about(Key("shop", "a"), reason="Renewing", seconds=0.25))

    (line,) = capsys.readouterr().err.splitlines()
    found = json.loads(line)
    moment = datetime.fromisoformat(found.pop("time"))
    assert moment.utcoffset() is not None
    assert found == {
        "level": "INFO",
        "logger": "asset_token_operator.test",
        "message": "shop/a: issued",
        "object": {"kind": "AssetToken", "namespace": "shop", "name": "a"},
        "reason": "Renewing",
        "seconds": 0.25,
    }


def test_a_line_for_people_has_the_time_the_level_and_the_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    logger.warning("%s: no token", "shop/a", extra=about(Key("shop", "a")))

    assert capsys.readouterr().err.endswith(" WARNING asset_token_operator.test: shop/a: no token\n")


@pytest.mark.parametrize("style", ["text", "json"])
def test_of_an_exception_its_text_is_never_told(capsys: pytest.CaptureFixture[str], style: str) -> None:
    configure_logging("debug", style)
    fail()

    told = capsys.readouterr().err
    assert "something broke" in told
    assert "ValueError" in told
    assert "in fail" in told, "where it was raised is told"
    assert SECRET not in told


def test_a_line_in_json_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    fail()
    logger.info("two\nlines")

    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["something broke", "two\nlines"]
