"""Loggers for tests that configure them as the operator does."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from asset_token_operator.logs import CHATTY, REPEATED, SILENT


@contextmanager
def loggers_of_its_own() -> Iterator[None]:
    """Nobody set a level before, and afterwards all are as they were."""
    levels = {name: logging.getLogger(name).level for name in (None, *CHATTY, *REPEATED, *SILENT)}
    handlers, raises = logging.root.handlers[:], logging.raiseExceptions
    for name in (*CHATTY, *REPEATED, *SILENT):
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    logging.root.handlers[:] = handlers
    logging.raiseExceptions = raises
    for changed, level in levels.items():
        logging.getLogger(changed).setLevel(level)
