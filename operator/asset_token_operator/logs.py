"""How log lines look: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import copy
import logging
import traceback
from typing import TYPE_CHECKING, Any, Final

from pythonjsonlogger.json import JsonFormatter

from asset_token_operator.model import KIND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.model import Key

CHATTY: Final = ("kopf.objects", "kubernetes", "aiohttp", "asyncio")
"""Loggers that say a line or more a token; they are heard at the level `debug` only."""

REPEATED: Final = ("kopf", "aiohttp.server")
"""What they tell of failures is said by us, once and in our own words, or is nonsense that a client sent; the same."""

SILENT: Final = ("kubernetes.aio.config",)
"""It quotes what a login answered, so it is heard at no level."""

PACKAGE: Final = "asset_token_operator"

TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


LONGEST: Final = 2000
"""Characters of a message of ours."""

LONGEST_OF_OTHERS: Final = 500
"""Characters of a library's, of which the first line is told."""


class DiscreetFormatter(logging.Formatter):
    """Tells of an exception, whoever logs it, where it was raised and not its text: that may quote a secret.

    kopf puts what an API server or a proxy answered into its warnings and errors, asyncio an exception's `repr`, and
    neither has a bound.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line; the record stays as it is."""
        told = copy.copy(record)
        told.msg, told.args = _in_bounds(record), ()
        return super().format(told)

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802 - logging's own
        """The frames, and the exception's type."""
        kind, _, trace = ei
        return "".join(traceback.format_tb(trace)) + (kind.__name__ if kind else "")


class DiscreetJsonFormatter(DiscreetFormatter, JsonFormatter):
    """One JSON object a line."""


def configure_logging(level: str, style: str) -> None:
    """Log to standard error; libraries that log each call are heard only at `debug`.

    Args:
        level: One of `config.LOG_LEVELS`.
        style: One of `config.LOG_FORMATS`.
    """
    logging.raiseExceptions = False  # of a line that can't be written it would tell message and arguments as they are
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if style == "json" else DiscreetFormatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in () if level == "debug" else CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT if level == "debug" else SILENT + REPEATED:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _in_bounds(record: logging.LogRecord) -> str:
    """What is told of a message: kopf's of failures in our words, a library's first line, and never too much."""
    message = record.getMessage()
    if record.name.startswith(PACKAGE):
        return message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
    if record.name.startswith("kopf") and record.levelno >= logging.WARNING:
        return f"a failure, or what looks like one, in {record.module}.{record.funcName}"
    line, *more = message.split("\n")
    return f"{line[:LONGEST_OF_OTHERS]}…" if more or len(line) > LONGEST_OF_OTHERS else line


def about(key: Key, **fields: object) -> Mapping[str, Any]:
    """What a line in JSON says besides its message: which AssetToken it is about, and more; for `extra`."""
    return {"object": {"kind": KIND, "namespace": key.namespace, "name": key.name}, **fields}


def _json() -> logging.Formatter:
    return DiscreetJsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
