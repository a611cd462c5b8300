"""How log lines look: text for people, or one JSON object a line for machines."""

from __future__ import annotations

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

REPEATED: Final = ("kopf",)
"""What they tell of failures is said by us, once and in our own words; the same."""

TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class DiscreetFormatter(logging.Formatter):
    """Tells of an exception, whoever logs it, where it was raised and not its text: that may quote a secret."""

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
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if style == "json" else DiscreetFormatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in () if level == "debug" else CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in () if level == "debug" else REPEATED:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def about(key: Key, **fields: object) -> Mapping[str, Any]:
    """What a line in JSON says besides its message: which AssetToken it is about, and more; for `extra`."""
    return {"object": {"kind": KIND, "namespace": key.namespace, "name": key.name}, **fields}


def _json() -> logging.Formatter:
    return DiscreetJsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
