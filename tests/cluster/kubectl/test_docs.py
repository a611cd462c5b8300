"""docs/kubectl.md and its pictures are what the plugin really writes, in a terminal, on a real API server."""

import os
import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from asset_token_operator.kubectl.cli import VERBS
from tests.support.plugin import COLOURS
from tests.support.recording import Recording, picture, record
from tests.support.shop import Shop

DOCS: Final = Path(__file__).parents[3] / "docs"
PAGE: Final = DOCS / "kubectl.md"
BLOCK: Final = re.compile(r"```console\n\$ kubectl asset-token ([^\n]*)\n(.*?)```", re.DOTALL)
UPDATES: Final = bool(os.environ.get("UPDATE_DOCS"))
COLUMNS: Final = 110
ERASED: Final = "\x1b[2K"
"""Before each further frame of what is kept up to date the former one is erased."""

SCREENS: Final = {
    "status": "status",
    "status-one": "status ledger-writer",
    "inspect": "inspect ledger-writer",
    "history": "history ledger-writer",
    "plan": "plan --offline -f more.yaml --times=500",
    "doctor": "doctor --no-asset",
    "status-wide": "status -o wide",
    "watch": "watch",
    "events": "events ledger-writer",
    "create": (
        "create reports --environment=sandbox --credentials=asset-credentials --scope=report:read"
        " --dry-run=client -o yaml"
    ),
    "renew": "renew ledger-writer",
    "suspend": "suspend ledger-writer",
    "resume": "resume --all",
}
"""In this order, as the last ones change what the others would show."""


@pytest.fixture
def recording(shop: Shop, tmp_path: Path) -> Recording:
    return record(shop, tmp_path / "bin")


def run(recording: Recording, line: str, columns: int) -> str:
    """What a command line writes, with its colours."""
    words = [word.replace("more.yaml", f"{recording.plugin.folder}/more.yaml") for word in shlex.split(line)]
    plugin = recording.plugin
    if words[0] == "doctor":  # it compares clocks
        plugin = recording.plugin_in_time
        words.append(f"--operator-namespace={recording.shop.namespace}")
    ends = "Ctrl-C" if words[0] == "watch" else None
    output = plugin.coloured_screen(*words, columns=columns, interrupt_at=ends).output
    return output.rpartition(ERASED)[2]


def test_the_page_shows_what_is_written(recording: Recording) -> None:
    page = PAGE.read_text()

    def block(found: re.Match[str]) -> str:
        output = recording.neutral(COLOURS.sub("", run(recording, found[1], COLUMNS)))
        lines = [line.rstrip() for line in output.rstrip().splitlines()]
        return "\n".join(["```console", f"$ kubectl asset-token {found[1]}", *lines, "```"])

    written = BLOCK.sub(block, page)
    if UPDATES:
        PAGE.write_text(written)
    assert written == PAGE.read_text()


@pytest.mark.parametrize("columns", [80, 200])
def test_the_pictures_show_what_is_written(recording: Recording, columns: int) -> None:
    for name, line in SCREENS.items():
        output = run(recording, line, columns)
        longest = max(len(shown) for shown in COLOURS.sub("", output).splitlines())
        assert longest <= columns or name == "status-wide", name
        drawn = picture(recording, output, columns)
        file = DOCS / "kubectl" / f"{name}-{columns}.svg"
        if UPDATES:
            file.write_text(drawn)
        assert drawn == file.read_text(), name


def test_every_verb_has_its_pictures() -> None:
    assert {line.split()[0] for line in SCREENS.values()} == set(VERBS)
    linked = set(re.findall(r"\(kubectl/([\w-]+\.svg)\)", PAGE.read_text()))
    there = {file.name for file in (DOCS / "kubectl").glob("*.svg")}
    assert there == linked == {f"{name}-{columns}.svg" for name in SCREENS for columns in (80, 200)}
