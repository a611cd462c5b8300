"""Lines for people and for machines, and what neither tells."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from asset_token_operator.logs import about, configure_logging
from asset_token_operator.model import Key
from tests.support.loggers import loggers_of_its_own

SECRET = "canary-access-token"
logger = logging.getLogger("asset_token_operator.test")


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    with loggers_of_its_own():
        yield


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


PAGE = f"<html>{SECRET}" + "x" * 1_000_000


@pytest.mark.parametrize("how", [(level, style) for level in ("debug", "info") for style in ("text", "json")], ids=str)
@pytest.mark.parametrize(
    ("name", "severity", "message"),
    [
        pytest.param("kopf._cogs.clients.api", logging.ERROR, f"Request attempt 1 failed: {PAGE}", id="a request"),
        pytest.param("kopf._cogs.clients.watching", logging.WARNING, f"Ignoring an event: {PAGE}", id="an event"),
        pytest.param("kopf.objects", logging.ERROR, f"Handler failed: {PAGE}", id="a handler"),
        pytest.param(
            "kubernetes.aio.config.kube_config", logging.ERROR, f"exec: process returned 1. {PAGE}", id="a login"
        ),
        pytest.param("asyncio", logging.ERROR, f"Task exception was never retrieved\nfuture: {PAGE}", id="a task"),
    ],
)
def test_of_what_others_answered_nothing_is_told(
    capsys: pytest.CaptureFixture[str], how: tuple[str, str], name: str, severity: int, message: str
) -> None:
    configure_logging(*how)
    logging.getLogger(name).log(severity, message)

    told = capsys.readouterr().err
    assert SECRET not in told
    assert len(told) < 300


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_is_never_too_long(capsys: pytest.CaptureFixture[str], style: str) -> None:
    configure_logging("debug", style)
    logger.info("%s", "x" * 1_000_000)
    logging.getLogger("aiohttp.server").info("y" * 1_000_000)
    logging.getLogger("kopf.activities").debug("z" * 1_000_000)

    assert [len(line) < 2300 for line in capsys.readouterr().err.splitlines()] == [True] * 3


def test_a_line_that_cannot_be_written_is_lost_and_tells_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    logger.info("%d", SECRET)

    assert capsys.readouterr().err == ""


def test_a_record_stays_as_it_is_for_whoever_else_gets_it(caplog: pytest.LogCaptureFixture) -> None:
    configure_logging("debug", "text")
    logging.root.addHandler(caplog.handler)
    logging.getLogger("asyncio").error("%s\n%s", "one", "two")

    assert caplog.records[-1].getMessage() == "one\ntwo"


def test_a_line_in_json_stays_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    fail()
    logger.info("two\nlines")

    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["something broke", "two\nlines"]
