"""A real Prometheus that scrapes one operator, and answers the queries of a dashboard."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx
import yaml

from tests.support.cluster import wait_until
from tests.support.component import free_ports
from tests.support.promtool import prometheus

START_SECONDS: Final = 60
STOP_SECONDS: Final = 30
SCRAPE_SECONDS: Final = 1
LABELS: Final = {"job": "asset-token-operator", "pod": "asset-token-operator-0"}


class Series(NamedTuple):
    """One line of a panel: its labels, and its points by time."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


class Prometheus:
    """It runs as long as it is open; a context manager.

    Args:
        target: HOST:PORT of what is scraped, every second.
        folder: For its data.
    """

    def __init__(self, target: str, folder: Path) -> None:
        self._target = target
        self._folder = folder

    def __enter__(self) -> Self:
        program = prometheus()
        (port,) = free_ports(1)
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        command: list[str | Path] = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={self._folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--query.lookback-delta=10s",
        ]
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=self._log, stderr=self._log)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=START_SECONDS)
        try:
            wait_until(self._scrapes, START_SECONDS, "Prometheus has scraped the operator")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._process.terminate()
        self._process.wait(STOP_SECONDS)
        self._log.close()

    def now(self, expression: str) -> list[Series]:
        """What a query gives at this moment, each series with one point."""
        found = self._ask("query", query=expression)
        return [Series(one["metric"], [_point(one["value"])]) for one in found]

    def over(self, expression: str, begin: float, end: float, step: float) -> list[Series]:
        """What a query gives over a time, in seconds since the epoch."""
        found = self._ask("query_range", query=expression, start=begin, end=end, step=step)
        return [Series(one["metric"], [_point(value) for value in one["values"]]) for one in found]

    def _config(self) -> dict[str, Any]:
        target = {"targets": [self._target], "labels": {"pod": LABELS["pod"]}}
        job = {"job_name": LABELS["job"], "honor_labels": True, "static_configs": [target]}
        return {"global": {"scrape_interval": f"{SCRAPE_SECONDS}s"}, "scrape_configs": [job]}

    def _scrapes(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"Prometheus has ended: {(self._folder / 'log').read_text()[-500:]}")
        try:
            return bool(self.now("asset_token_operator_build_info"))
        except (httpx.TransportError, httpx.HTTPStatusError):
            return False

    def _ask(self, kind: str, **parameters: str | float) -> list[dict[str, Any]]:
        answer = self._client.get(f"/api/v1/{kind}", params=parameters)
        answer.raise_for_status()
        found: list[dict[str, Any]] = json.loads(answer.text)["data"]["result"]
        return found


def _point(value: list[Any]) -> tuple[float, float]:
    return float(value[0]), float(value[1])
