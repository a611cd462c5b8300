"""All that is ever said is in docs/messages.md, says what to do, and shows no Python."""

import re
from typing import Final

import pytest

from asset_token_operator.errors import RECOVERIES
from asset_token_operator.reasons import Reason
from tests.support.messages import PAGE, all_messages, page
from tests.support.sentences import ASSET_TOKEN, PACKAGE, PLUGIN, Message, Module

MESSAGES: Final = all_messages()
PYTHON: Final = re.compile(r"\b(None|True|False|self|Traceback|[A-Za-z]+(Error|Exception))\b|__|\(\)|\d:\d\d:\d\d")
HELPS: Final = re.compile(
    r"\b(add|allow|check|correct|create|delete|find out|install|let|put|raise|set)\b|by itself|anew|about to be|being",
    re.IGNORECASE,
)
DEFECTS: Final = {"scheduler", "health", "cli"}
"""They tell of defects, to be reported, by the error's class."""


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "make messages"


def test_no_message_shows_python() -> None:
    assert [message.text for message in MESSAGES if PYTHON.search(message.text)] == []


def test_none_is_filled_with_a_class_of_pythons_but_what_tells_of_a_defect() -> None:
    modules = [Module(path) for path in PACKAGE.rglob("*.py")]
    shown = {module.name: module.shows_python() for module in modules}
    assert {name for name, calls in shown.items() if calls} == DEFECTS


@pytest.mark.parametrize("reason", sorted(RECOVERIES))
def test_every_failure_says_what_to_do_or_that_it_is_tried_again(reason: Reason) -> None:
    of_reason = [message for message in MESSAGES if message.said == (ASSET_TOKEN, reason)]
    whole = [message.text for message in of_reason if message.text.endswith(".")]
    assert whole
    assert [text for text in whole if not HELPS.search(text)] == []


def test_what_an_asset_token_says_is_a_sentence_or_a_part_of_one() -> None:
    def is_in_order(message: Message) -> bool:
        follows_a_colon = message.said.kind.startswith("Cluster")
        is_sentence = re.match(r"[A-Z<]|spec\.|renewBefore", message.text) is not None
        return is_sentence or follows_a_colon or not message.text.endswith(".")

    assert [
        message.text for message in MESSAGES if message.said.place == ASSET_TOKEN and not is_in_order(message)
    ] == []


def test_the_plugins_messages_are_there_too() -> None:
    assert sum(message.said.place == PLUGIN for message in MESSAGES) > 50
