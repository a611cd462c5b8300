"""The operator as its users run it: an OS process started from the installed console script."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from tests.support.cluster import wait_until
from tests.support.component import LAUNCH

SCRIPT: Final = Path(sys.executable).with_name("asset-token-operator")
START_SECONDS: Final = 30
STOP_SECONDS: Final = 30


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
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def terminate(self) -> int:
        """Ask it to end, as Kubernetes does, and return its exit code."""
        return self._end(signal.SIGTERM)

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

    def wait_for_output(self, text: str) -> None:
        """Wait until it has written that."""
        wait_until(lambda: text in self.output(), START_SECONDS, f"the operator says {text!r}")

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._running(), None
        process.send_signal(how)
        return process.wait(STOP_SECONDS)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("The operator isn't running")
        return self._process
