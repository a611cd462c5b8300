"""The stand-in for Asset's API in a process of its own, so that its CPU is not the measuring program's.

As a program it prints its URL, and then what it has counted, as a line of JSON, for each line that it reads; it ends
with its input.
"""

import argparse
import json
import subprocess
import sys
from typing import Final, Self

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import Behaviour
from tests.support.asset_rules import RateLimit

CLIENT_SECRET: Final = "the-client-secret"  # noqa: S105 - of the stand-in
GENEROUS: Final = 1_000_000
STOP_SECONDS: Final = 10


def tenant(number: int) -> str:
    """The client_id of a tenant."""
    return f"tenant-{number}"


class AssetServer:
    """The process; a context manager.

    Args:
        tenants: How many clients it knows.
        latency: Seconds before it answers.
        lifetime_cap: The longest lifetime in seconds that it grants; None for any.

    Attributes:
        url: Where it listens.
    """

    url: str

    def __init__(self, tenants: int, latency: float, lifetime_cap: int | None = None) -> None:
        self._command = [
            sys.executable,
            "-m",
            "benchmarks.asset_server",
            f"--tenants={tenants}",
            f"--latency={latency}",
        ]
        self._command += [f"--lifetime-cap={lifetime_cap}"] if lifetime_cap else []

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE
        # A session of its own: a Ctrl-C is for the measuring program, which then ends everything in the right order.
        self._process = subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, text=True, bufsize=1, start_new_session=True
        )
        self.url = self._read()["url"]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=STOP_SECONDS)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def counts(self) -> dict[str, int]:
        """How many requests arrived, how many got a token (`issued`) and how many were refused, since the start."""
        if self._process.stdin is None:
            raise RuntimeError("The stand-in has no input")
        self._process.stdin.write("\n")
        return {name: int(value) for name, value in self._read().items()}

    def _read(self) -> dict[str, str]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("The stand-in has ended")
        answer: dict[str, str] = json.loads(line)
        return answer


def _say(values: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.asset_server")
    parser.add_argument("--tenants", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True)
    parser.add_argument("--lifetime-cap", type=int)
    options = parser.parse_args()
    limit = RateLimit("off", per_tenant=GENEROUS, per_business=GENEROUS)
    with AssetApi(rate_limit=limit, lifetime_cap=options.lifetime_cap) as api:
        for number in range(options.tenants):
            api.register(tenant(number), CLIENT_SECRET)
        api.behave(Behaviour(latency=options.latency))
        _say({"url": api.url})
        for _ in sys.stdin:
            issued = api.count(status=200)
            _say({"arrived": api.arrived, "issued": issued, "refused": len(api.requests) - issued})


if __name__ == "__main__":
    main()
