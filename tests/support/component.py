"""Server programs that a test session starts, watches over, and never leaves behind."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.support.cluster import WaitTimeoutError, wait_until

START_SECONDS: Final = 60
STOP_SECONDS: Final = 2  # an API server with clients lingers for a minute
TAIL_LINES: Final = 15

# Ties a program's life to the thread that started it (prctl's PR_SET_PDEATHSIG, which outlives exec), so that
# nothing is left when the session is killed. It is a program of its own and not Popen's `preexec_fn`, which may
# deadlock in a process with threads. The parent may have ended before the call: hence the look afterwards.
LAUNCH: Final = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("its parent has ended")
os.execv(sys.argv[2], sys.argv[2:])
"""


class StartError(Exception):
    """A component didn't start; the message has the end of its log."""


class Component:
    """One program: it can be started, stopped and started again with the same arguments.

    Args:
        command: The program's path, and its arguments.
        folder: Gets the program's log, and is its home.
        launcher: Its thread starts the program, and must live as long as the program shall.
    """

    def __init__(self, command: Sequence[str | Path], folder: Path, launcher: Executor) -> None:
        self.name = Path(command[0]).name
        self._command = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *command]
        self._log = folder / f"{self.name}.log"
        self._environment = {"HOME": str(folder), "PATH": os.defpath}  # no ETCD_… of the user's, no proxies
        self._launcher = launcher
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], object]) -> None:
        """Start the program and wait until `ready` returns something true.

        Raises:
            StartError: It ended, or wasn't ready in time.
        """
        self._process = self._launcher.submit(self._spawn).result()
        try:
            wait_until(lambda: self.ended() or ready(), START_SECONDS, f"{self.name} is ready")
        except WaitTimeoutError as error:
            raise StartError(f"{error}\n{self._tail()}") from None
        if self.ended():
            raise StartError(f"{self.name} ended while it was starting; the end of its log:\n{self._tail()}")

    def stop(self) -> None:
        """Ask the program to end, then make it; return only when it has."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    @property
    def pid(self) -> int | None:
        """The program's process; None where it doesn't run."""
        return None if self._process is None else self._process.pid

    def ended(self) -> bool:
        """Tell whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def pause(self) -> None:
        """Make the program do nothing until `resume`; return when it has stopped, which takes a moment."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let the program go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            # Its own session: a Ctrl-C in the terminal is for the tests, which then stop it in the right order.
            return subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


def free_ports(count: int) -> list[int]:
    """Choose ports on loopback that nobody uses, below those the system gives to outgoing connections.

    Among those, a client that looks for a server that is stopped could be given that server's port, and then
    block it.
    """
    free: list[int] = []
    while len(free) < count:
        port = random.randrange(10_000, 32_000)
        with closing(socket.socket()) as probe:
            if port not in free and probe.connect_ex(("127.0.0.1", port)):
                free.append(port)
    return free
