"""Runs programs in a terminal, as a user does who looks at it."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROWS: Final = 60
END_SECONDS: Final = 60


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it wrote, with the colours."""

    code: int
    output: str


def run_in_terminal(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    columns: int = 120,
    interrupt_at: str | None = None,
    seconds: float = END_SECONDS,
) -> Ended:
    """Run a program to its end.

    Args:
        command: The command line.
        environment: All its variables.
        columns: The terminal's width.
        interrupt_at: Interrupt it, as Ctrl-C does, once this was written.
        seconds: How long it may take; then it is killed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    given = {name: value for name, value in environment.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = subprocess.Popen(
        [str(part) for part in command],
        env=given | {"TERM": "xterm-256color"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + seconds
    os.set_blocking(ours, False)
    while time.monotonic() < deadline:
        try:
            chunk = os.read(ours, 65536)
        except BlockingIOError:
            time.sleep(0.01)
            continue
        except OSError:  # nobody writes there any more
            break
        if not chunk:
            break
        written += chunk
        if interrupt_at is not None and interrupt_at.encode() in written:
            interrupt_at = None
            os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    os.close(ours)
    return Ended(process.wait(seconds), written.decode(errors="replace").replace("\r\n", "\n"))
