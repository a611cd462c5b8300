"""`python -m tests.support.messages`: writes docs/messages.md, all that the operator and the plugin ever say."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tests.support.sentences import (
    ASSET_TOKEN,
    CAUSES,
    COMMAND_LINE,
    LOG,
    PACKAGE,
    PLUGIN,
    PROBES,
    ROOT,
    Message,
    Module,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = ROOT / "docs" / "messages.md"

ABOUT: Final = {
    ASSET_TOKEN: (
        "In its conditions, events and history, by the [reason](reasons.md). The log has those of failures, too, and"
        " `/readyz` those of the cluster."
    ),
    LOG: (
        "By the level. A line about an AssetToken begins with its namespace and name; `<error>` is a message of an"
        " AssetToken, above."
    ),
    COMMAND_LINE: "When it doesn't start. Settings that are wrong are told together.",
    PROBES: "At `/healthz`, `/readyz` and `/metrics`. `/readyz` has a line for each namespace that isn't served, too.",
    CAUSES: "How `<why>` is filled in, above.",
    PLUGIN: "Its screens are in [kubectl.md](kubectl.md).",
}


def all_messages() -> list[Message]:
    """All that is ever said, in order."""
    return sorted({message for path in PACKAGE.rglob("*.py") for message in Module(path).messages()})


def page() -> str:
    """The page."""
    by_place: defaultdict[str, list[Message]] = defaultdict(list)
    for message in all_messages():
        by_place[message.said.place].append(message)
    lines = [
        "# Messages",
        "",
        "All that the operator and its kubectl plugin say; `<…>` is filled in. `make messages` reads them from the",
        "source, and a test holds this page against it.",
    ]
    for place, about in ABOUT.items():
        lines += ["", f"## {place}", "", about, "", *_table(place, by_place[place])]
    return "\n".join(lines) + "\n"


def _table(place: str, messages: list[Message]) -> Iterator[str]:
    columns = {ASSET_TOKEN: ["reason", "message"], LOG: ["level", "message"]}.get(place, ["message"])
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' for _ in columns)} |"
    for message in messages:
        text = message.text.replace("|", "\\|").replace("\n", " ").replace("`", "'")
        yield f"| {' | '.join(f'`{cell}`' for cell in (message.said.kind, text)[-len(columns) :])} |"


if __name__ == "__main__":
    PAGE.write_text(page())
