"""`make demo-recording`: `make demo` in a real terminal, as an SVG that plays what was written when.

Waits are cut short, outputs stay for long enough to be read, and what is different each time (ports, names of
namespaces, moments) is as if it had always been the same. It plays for ever, also where a page only shows it as a
picture; who wants no motion sees the end.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from asset_token_operator.times import format_time, parse_time

ROOT: Final = Path(__file__).parents[1]
FILE: Final = ROOT / "docs" / "pictures" / "demo.svg"
ROWS: Final = 30
COLUMNS: Final = 116
LONGEST_WAIT: Final = 0.8
READING: Final = 1.2
"""How long an output stays before the next command is shown."""

PACE: Final = 0.03
"""How long after each other lines come, at least."""

PAUSE: Final = 6.0
"""How long the end is shown before it begins again."""

LINE: Final = 17
WIDTH: Final = 7.25
SHOWN_NOW: Final = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
COMMAND: Final = "▶"
COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Line(NamedTuple):
    """A line of the terminal: after how many seconds it was written, and how."""

    at: float
    text: str
    bold: bool


def main() -> None:
    """Record it anew."""
    began = datetime.fromtimestamp(int(time.time()), UTC)
    lines = [line._replace(text=neutral(line.text, began)) for line in record([sys.executable, "-m", "demo"])]
    FILE.write_text(picture(hurried(lines)))


def record(command: Sequence[str]) -> Iterator[Line]:
    """Run a program in a terminal, and give its lines as they come."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    process = subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    began = time.monotonic()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        rest = b""
        while piece := _read(terminal.fileno()):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                text = COLOURS.sub("", line.decode(errors="replace").rstrip("\r"))
                yield Line(time.monotonic() - began, text, text.startswith(COMMAND))
    if process.wait():
        sys.exit(f"make demo ended with {process.returncode}")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux' way to say that nobody writes any more
        return b""


def neutral(text: str, began: datetime) -> str:
    """A line without what is different each time, and without the paths of this machine."""
    text = MOMENT.sub(lambda found: format_time(SHOWN_NOW + (parse_time(found[0]) - began)), text)
    text = re.sub(r"\bdemo-[0-9a-f]{8}\b", "demo", text.replace(f"{ROOT}/", ""))
    return re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8780", text)


def hurried(lines: Sequence[Line]) -> list[Line]:
    """The same with shorter waits, and with time to read: a long output goes by slowly, and what comes next waits."""
    told: list[Line] = []
    before, at = lines[0].at, 0.0
    for line in lines:
        least = READING if line.bold else PACE
        at += max(min(line.at - before, LONGEST_WAIT), least) if told else 0
        before = line.at
        told.append(line._replace(at=at))
    return told


def picture(lines: Sequence[Line]) -> str:
    """The SVG that plays them."""
    whole = lines[-1].at + PAUSE
    moments = sorted({round(line.at, 2) for line in lines})
    width, height = COLUMNS * WIDTH + 24, ROWS * LINE + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img">',
        "<title>make demo in a terminal: AssetTokens become Secrets, and are renewed</title>",
        f"<style>{_style(lines, moments, whole)}</style>",
        f'<rect width="{width:g}" height="{height}" rx="8" fill="#1b1f27"/>',
        *(
            f'<circle cx="{18 + 18 * n}" cy="15" r="5" fill="{c}"/>'
            for n, c in enumerate(("#e0605a", "#e3b341", "#57ab5a"))
        ),
        f'<svg y="30" width="{width:g}" height="{ROWS * LINE + 4}"><g class="all">',
        *(_text(number, line, moments.index(round(line.at, 2))) for number, line in enumerate(lines)),
        "</g></svg>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(number: int, line: Line, moment: int) -> str:
    kind = f"m{moment} bold" if line.bold else f"m{moment}"
    shown = escape(line.text[:COLUMNS].rstrip())
    return f'<text class="{kind}" x="12" y="{(number + 1) * LINE}" xml:space="preserve">{shown}</text>' if shown else ""


def _style(lines: Sequence[Line], moments: Sequence[float], whole: float) -> str:
    """Each line appears at its moment, and all move up so that the last one is always seen."""
    rules = [
        "\ntext { font: 12px ui-monospace, 'DejaVu Sans Mono', Menlo, monospace; fill: #d3d9e2 }",
        ".bold { font-weight: 700; fill: #7cc4ff }",
    ]
    steps, last = [], 0
    for number, moment in enumerate(moments):
        share = 100 * moment / whole
        shown = sum(round(line.at, 2) <= moment for line in lines)
        up = max(shown - ROWS, 0) * LINE
        steps += [f"{max(share - 0.01, 0):.2f}% {{ transform: translateY(-{last}px) }}"]
        steps += [f"{share:.2f}% {{ transform: translateY(-{up}px) }}"]
        last = up
        hidden, seen = f"0%, {max(share - 0.01, 0):.2f}%", f"{share:.2f}%, 100%"
        rules.append(f"@keyframes k{number} {{ {hidden} {{ opacity: 0 }} {seen} {{ opacity: 1 }} }}")
        rules.append(f".m{number} {{ animation: k{number} {whole:.1f}s step-end infinite }}")
    rules.append(f"@keyframes up {{ {' '.join(steps)} 100% {{ transform: translateY(-{last}px) }} }}")
    rules.append(f".all {{ transform: translateY(-{last}px); animation: up {whole:.1f}s step-end infinite }}")
    rules.append("@media (prefers-reduced-motion: reduce) { .all, text { animation: none !important } }")
    return "\n".join(rules) + "\n"


if __name__ == "__main__":
    main()
