"""Who is measured beside the operator in `bring-up`: the reference client, and another operator where one is named."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final

from benchmarks.figures import Measurement, spread
from benchmarks.scenarios import Bench, Found, patience
from benchmarks.stage import Stage
from tests.support.component import LAUNCH

STOP_SECONDS: Final = 15


def reference(bench: Bench, count: int) -> Found:
    """The same writes by a minimal client; its seconds are without its start and its list."""
    with bench.stage(count) as stage:
        stage.populate()
        program = [sys.executable, "-m", "benchmarks.reference", f"--kubeconfig={stage.kubeconfig}"]
        before = stage.snapshot()
        done = subprocess.run(
            [*program, f"--writes={bench.reference_writes}"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            failure = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            yield Measurement("bring-up", "reference", bench.reference_writes, count, {}, None, failure)
            return
        took = json.loads(done.stdout)
        seen = stage.observer
        stage.wait(lambda: seen.reached(seen.ready), count, patience(count))
        figures = stage.costs(before, stage.snapshot(), count)
        figures |= {"cpu_own_s": took["cpu_seconds"], "cpu_own_ms": 1000 * took["cpu_seconds"] / count}
        figures |= {"all_ready_s": took["seconds"]}
        yield Measurement("bring-up", "reference", bench.reference_writes, count, figures)


def peer(bench: Bench, count: int) -> Found:
    """Another operator, from its process' start until there are as many Secrets with its labels."""
    with bench.stage(count, selector=bench.peer_selector) as stage:
        stage.prepare()
        if bench.peer_setup:
            subprocess.run(_command(bench.peer_setup, stage), check=True, stdout=subprocess.DEVNULL)
        stage.settle()
        before, began = stage.snapshot(), monotonic()
        with _running(_command(bench.peer_command, stage), stage) as pid:
            stage.wait(lambda: len(stage.observer.secrets), count, patience(count))
            after = stage.snapshot(pid)
            moments = [one.at - began for one in list(stage.observer.secrets.values())]
            figures = {"first_secret_s": min(moments), "all_secrets_s": max(moments)} | spread(moments)
            figures |= stage.costs(before, after, count) | stage.resident(pid)
            yield Measurement("bring-up", "peer", "", count, figures)


def _command(text: str, stage: Stage) -> list[str]:
    """A command line, split as a shell does and run without one, with what the stage knows in its placeholders."""
    values = {"kubeconfig": stage.kubeconfig_of_admin, "asset_url": stage.asset.url, "count": stage.count}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", shlex.quote(str(value)))
    command = shlex.split(text)
    return [shutil.which(command[0]) or command[0], *command[1:]]


@contextmanager
def _running(command: list[str], stage: Stage) -> Iterator[int]:
    """Run the peer as long as the context is open; it ends with us, however we end."""
    environment = os.environ | {"KUBECONFIG": str(stage.kubeconfig_of_admin)}
    launched = [sys.executable, "-I", "-S", "-c", LAUNCH, str(os.getpid()), *command]
    with (stage.folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(launched, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
