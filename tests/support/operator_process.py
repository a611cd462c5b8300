"""The operator as its users run it: an OS process started from the installed console script."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

import httpx

from tests.support.cluster import wait_until
from tests.support.component import LAUNCH

SCRIPT: Final = Path(sys.executable).with_name("asset-token-operator")
START_SECONDS: Final = 60
STOP_SECONDS: Final = 30
ANSWER_SECONDS: Final = 10

OBSERVED: Final = ("--health-address=127.0.0.1:0", "--metrics-address=127.0.0.1:0", "--log-format=json")
"""Arguments for one whose probes, metrics and complaints are looked at."""


class OperatorProcess:
    """One operator, which can be ended and started again; a context manager.

    Args:
        kubeconfig: Whose rights it has.
        folder: Where its output goes.
        arguments: Of `asset-token-operator run`.
        environment: Variables besides those of the tests themselves.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._arguments = arguments
        self._command = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), str(SCRIPT), "run", *arguments]
        self._environment = os.environ | {"KUBECONFIG": str(kubeconfig)} | dict(environment or {})
        self._log = folder / "operator.log"
        self._began = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.terminate()

    def another(self, folder: Path, *arguments: str, environment: Mapping[str, str]) -> "OperatorProcess":
        """One more like this, not started, with more arguments and variables."""
        return OperatorProcess(self._kubeconfig, folder, (*self._arguments, *arguments), environment)

    def start(self) -> None:
        """Start it; the output goes on in the same log."""
        with self._log.open("ab") as log:
            self._began = log.tell()
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def terminate(self, within: float = STOP_SECONDS) -> int:
        """Ask it to end, as Kubernetes does, and return its exit code; it has to end within so many seconds."""
        return self._end(signal.SIGTERM, within)

    def ask_to_end(self) -> None:
        """The same, without waiting for it."""
        self._running().send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it without a chance to do anything, as a lost node does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it do nothing until `resume`, as a suspended machine does."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._running().send_signal(signal.SIGCONT)

    def is_running(self) -> bool:
        """Tell whether it hasn't ended by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process; None where it doesn't run."""
        return None if self._process is None else self._process.pid

    def resident_bytes(self) -> int:
        """The memory it has now; only on Linux."""
        status = Path(f"/proc/{self._running().pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def output(self) -> str:
        """All that it has written, over all its starts."""
        return self._log.read_text()

    def complaints(self) -> list[str]:
        """What it has said since its latest start that is worse than news, a line each; it must log in JSON.

        What isn't JSON wasn't logged, but is what a process says that ends.
        """
        lines = self._since_start().splitlines(keepends=True)
        return [said for line in lines if line.endswith("\n") and (said := _complaint(line))]

    def get(self, path: str) -> httpx.Response:
        """Ask its probes, or for its metrics; it must listen at one address."""
        wait_until(lambda: self._listens() or not self.is_running(), START_SECONDS, "the operator listens")
        assert self.is_running(), f"The operator has ended; the end of what it said: {self.output()[-500:]}"
        return httpx.get(f"http://{self._listens()[-1]}{path}", trust_env=False, timeout=ANSWER_SECONDS)

    def wait_for_output(self, text: str) -> None:
        """Wait until it has written that."""
        wait_until(lambda: text in self.output(), START_SECONDS, f"the operator says {text!r}")

    def _since_start(self) -> str:
        return self._log.read_bytes()[self._began :].decode()

    def _listens(self) -> list[str]:
        return re.findall(r"listens on (127\.0\.0\.1:\d+) for ", self._since_start())

    def _end(self, how: signal.Signals, within: float = STOP_SECONDS) -> int:
        process, self._process = self._running(), None
        process.send_signal(how)
        return process.wait(within)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("The operator isn't running")
        return self._process


def _complaint(line: str) -> str | None:
    """A line of the log as text, if it complains."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip() or None
    return None if entry["level"] in {"DEBUG", "INFO"} else f"{entry['level']} {entry['logger']}: {entry['message']}"
