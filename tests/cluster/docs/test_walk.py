"""A newcomer's walk: Get started, and the how-tos that go on from there, copied block by block into a shell.

It begins with nothing, not even a cluster, and ends with a program that calls the stand-in with its token. What a page
shows is what was written: `make recordings` writes it anew.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.component import free_ports
from tests.support.gobuild import Binaries
from tests.support.volume import Volume
from tests.support.walk import BLOCK, ROOT, FailedError, Walk, commands, same, until

DOCS: Final = ROOT / "docs"
PORT: Final = "8780"
MOUNTED: Final = "/var/run/secrets/asset"
UPDATES: Final = bool(os.environ.get("UPDATE_DOCS"))
PAGES: Final = {"getting-started.md", "how-to/wait-in-scripts.md", "how-to/rotate-credentials.md"}


@pytest.mark.timeout(240)
def test_a_newcomer_gets_from_nothing_to_a_program_that_calls_asset_with_its_token(
    programs: Binaries, tmp_path: Path
) -> None:
    volume = Volume(tmp_path / "volume")

    def in_the_pod(words: list[str]) -> str:
        """What the kubelet and the Pod would do: show the Secret as files, and run a program that reads them."""
        names = walk.run("kubectl get secret ledger-writer-token --namespace shop --output json")
        volume.show_secret(names)
        called = [word.replace(MOUNTED, str(volume.folder)) for word in words]
        done = subprocess.run(called, capture_output=True, text=True, check=False)
        if done.returncode:
            raise FailedError(f"{called}\n{done.stderr}")
        return done.stdout

    (port,) = free_ports(1)
    with Walk(programs.kubectl, tmp_path / "home", {PORT: str(port)}, in_the_pod) as walk:
        start, rest = until((DOCS / "getting-started.md").read_text(), "## 5. What next?")
        written = {"getting-started.md": walk.through(start)}
        for name in ("how-to/wait-in-scripts.md", "how-to/rotate-credentials.md"):
            written[name] = walk.through((DOCS / name).read_text())
        written["getting-started.md"] += walk.through(rest)
        walk.run("kubectl wait --for=delete secret/ledger-writer-token --namespace shop --timeout=60s")

    assert '{"ping": "pong"}' in written["getting-started.md"]
    for name, text in written.items():
        if UPDATES:
            (DOCS / name).write_text(text)
        assert text == (DOCS / name).read_text(), f"{name}: make recordings"


def test_every_page_with_blocks_to_run_is_walked_through() -> None:
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md") if BLOCK.search(path.read_text())} == PAGES


def test_a_block_is_read_as_a_user_would() -> None:
    first, second = commands("$ one \\\n    --more\nwritten\n$ two\n")
    assert (first.line, first.output) == ("one \\\n    --more", "written\n")
    assert (second.line, second.output) == ("two", "")


def test_moments_and_ages_may_differ_and_nothing_else() -> None:
    row = "ledger-writer   True    2026-11-24T07:10:43Z   3s\n"
    assert same(row) == same(row.replace("07:10:43", "11:11:11").replace("3s", "12s"))
    assert same(row) != same(row.replace("True", "False"))


def test_a_command_that_fails_is_told_with_what_it_wrote(tmp_path: Path) -> None:
    with (
        Walk(Path("/nowhere"), tmp_path / "home", {}, lambda _: "") as walk,
        pytest.raises(FailedError, match="no such thing"),
    ):
        walk.run("sh -c 'echo no such thing >&2; exit 3'")
