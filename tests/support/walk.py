"""Walks through a page as a newcomer does: copies its commands, block by block, into a shell, and sees what they write.

A block is run where a comment above it says so: `<!-- run -->`, `<!-- run: background -->` for what goes on until the
end of the walk, and `<!-- run: in the Pod -->` for a `kubectl exec`, which needs a node where there may be none.
"""

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from asset_token_operator.times import format_time, parse_time
from tests.support.cluster import wait_until

ROOT: Final = Path(__file__).parents[2]
BLOCK: Final = re.compile(r"(?P<mark><!-- run(?:: (?P<how>[\w ]+))? -->\n)```console\n(?P<text>.*?)```\n", re.DOTALL)
BIN: Final = ".venv/bin/"
SHOWN_NOW: Final = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
AGE: Final = re.compile(r"(?<= )\d+[smh]$", re.MULTILINE)
END: Final = "that was the command"
START_SECONDS: Final = 60


class FailedError(AssertionError):
    """A command that a page shows ended with an error."""


@dataclass(frozen=True)
class Command:
    """What a user types, over several lines maybe, and what the page shows that it writes."""

    line: str
    output: str


def commands(text: str) -> Iterator[Command]:
    """The commands of a block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        last = next(number for number, line in enumerate(lines) if not line.endswith("\\\n"))
        yield Command("".join(lines[: last + 1]).rstrip("\n"), "".join(lines[last + 1 :]))


def same(text: str) -> str:
    """An output without what is different each time: moments and ages."""
    return AGE.sub("AGE", MOMENT.sub("MOMENT", text))


class Walk:
    """A newcomer at a shell; a context manager that ends all that was started.

    Args:
        kubectl: The program.
        home: Where the shell keeps things.
        replaced: Words of the page, by what they are here, such as a port.
        in_the_pod: Runs what a page has `kubectl exec` run.
    """

    def __init__(
        self, kubectl: Path, home: Path, replaced: Mapping[str, str], in_the_pod: Callable[[list[str]], str]
    ) -> None:
        (home / "bin").mkdir(parents=True)
        (home / "bin" / "kubectl").symlink_to(kubectl)
        self._home = home
        self._replaced = {BIN: f"{Path(sys.executable).parent}/", **replaced}
        self._in_the_pod = in_the_pod
        self._environment = {
            **os.environ,
            "KUBECACHEDIR": str(home / "cache"),
            "KUBERC": "off",
            "PATH": f"{home / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONUNBUFFERED": "1",
        }
        self._stack = ExitStack()
        self._began = datetime.fromtimestamp(int(time.time()), UTC)

    def __enter__(self) -> Self:
        command = ["bash", "--noprofile", "--norc"]
        self._shell = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._stack.callback(self._end, self._shell)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def through(self, page: str) -> str:
        """Run a page's blocks, and give the page as it should be: with what was really written."""
        return BLOCK.sub(lambda block: block["mark"] + "```console\n" + self._block(block) + "```\n", page)

    def run(self, line: str) -> str:
        """Type a line into the shell, and give what it writes.

        Raises:
            FailedError: It ended with an error.
        """
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{{ {self._here(line)}\n}} < /dev/null\nprintf '\\n%s %s\\n' '{END}' $?\n")
        self._shell.stdin.flush()
        written = ""
        for said in self._shell.stdout:
            if said.startswith(END):
                output = written.removesuffix("\n")
                if said.split()[-1] != "0":
                    raise FailedError(f"{line}\n{output}")
                return output
            written += said
        raise FailedError(f"The shell ended at: {line}\n{written}")

    def _block(self, block: re.Match[str]) -> str:
        runs = {None: self.run, "background": self._background, "in the Pod": self._exec}[block["how"]]
        shown = ""
        for command in commands(block["text"]):
            output = self._shown(runs(command.line))
            kept = command.output if same(output) == same(command.output) else output
            shown += f"$ {command.line}\n{kept}"
        return shown

    def _background(self, line: str) -> str:
        """Run what goes on; what it says first is told to the shell where that is a variable, as a reader would."""
        log = self._home / f"{len(list(self._home.glob('*.log')))}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {self._here(line)}"], cwd=ROOT, env=self._environment, stdout=file, stderr=file
            )
        self._stack.callback(self._end, process)
        if "controlplane" in line or "asset_api" in line:
            wait_until(lambda: b"\n" in log.read_bytes() or process.poll() is not None, START_SECONDS, f"{line} is up")
            first = log.read_text().partition("\n")[0]
            if process.poll() is not None:
                raise FailedError(f"{line}\n{log.read_text()}")
            if first.startswith("export "):
                self.run(first)
                name, _, value = first.removeprefix("export ").partition("=")
                self._environment[name] = shlex.split(value)[0]
        return ""

    def _exec(self, line: str) -> str:
        words = shlex.split(line.replace("\\\n", ""))
        return self._in_the_pod(words[words.index("--") + 1 :])

    def _here(self, text: str) -> str:
        for shown, real in self._replaced.items():
            text = text.replace(shown, real)
        return text

    def _shown(self, text: str) -> str:
        for shown, real in self._replaced.items():
            text = text.replace(real, shown)
        text = MOMENT.sub(lambda found: format_time(SHOWN_NOW + (parse_time(found[0]) - self._began)), text)
        return "".join(f"{line.rstrip()}\n" for line in text.rstrip("\n").split("\n") if text.strip())

    @staticmethod
    def _end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.communicate(timeout=30)


def until(page: str, heading: str) -> tuple[str, str]:
    """A page in two: what is before a heading, and the rest."""
    before, mark, after = page.partition(f"\n{heading}\n")
    assert mark, heading
    return before, mark + after
