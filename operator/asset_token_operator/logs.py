"""How log lines look: text for people, or one JSON object a line for machines."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from pythonjsonlogger.json import JsonFormatter

from asset_token_operator.model import KIND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.model import Key

CHATTY: Final = ("kopf", "kubernetes", "aiohttp", "asyncio")
"""Loggers that say a line or more a token; they are heard at the level `debug` only."""

TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str, style: str) -> None:
    """Log to standard error; libraries that log each call are heard only at `debug`.

    Args:
        level: One of `config.LOG_LEVELS`.
        style: One of `config.LOG_FORMATS`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if style == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in () if level == "debug" else CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def about(key: Key, **fields: object) -> Mapping[str, Any]:
    """What a line in JSON says besides its message: which AssetToken it is about, and more; for `extra`."""
    return {"object": {"kind": KIND, "namespace": key.namespace, "name": key.name}, **fields}


def _json() -> logging.Formatter:
    return JsonFormatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="time",
    )
