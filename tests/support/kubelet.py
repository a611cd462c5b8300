"""Stands in for a kubelet: runs a Pod's program as a process of this machine, and says in its status how it ended.

The API server, its admission and the program are real; the container, its image and its network aren't. `make e2e-node`
has those.
"""

import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tests.support.cluster import Json, KubectlError
from tests.support.shop import Shop

EVERY_SECONDS: Final = 0.1
RUN_SECONDS: Final = 30
VARIABLE: Final = re.compile(r"\$\((\w+)\)")


class Kubelet:
    """Runs one Pod of a shop's namespace; a context manager.

    Attributes:
        ran: The Pods that it ran, as they were.
    """

    def __init__(self, shop: Shop, name: str, folder: Path) -> None:
        self.ran: list[Json] = []
        self._shop = shop
        self._path = shop.path(f"pods/{name}")
        self._message = folder / "termination-log"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            pod = self._shop.cluster.api.find(self._path)
            if pod is not None and pod["status"]["phase"] == "Pending":
                self.ran.append(pod)
                with suppress(KubectlError):  # it was deleted meanwhile
                    self._shop.cluster.api.patch(f"{self._path}/status", {"status": self._run(pod)})

    def _run(self, pod: Json) -> Json:
        (container,) = pod["spec"]["containers"]
        variables = {entry["name"]: _value(entry, pod) for entry in container.get("env", ())}
        words = [VARIABLE.sub(lambda found: variables[found[1]], word) for word in container["args"]]
        python, *rest = container["command"]
        assert python == "python"
        program = [word.replace(container["terminationMessagePath"], str(self._message)) for word in rest]
        done = subprocess.run(
            [sys.executable, *program, *words],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **variables},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        message = done.stderr[-2048:] if done.returncode else self._message.read_text()
        state = {"terminated": {"exitCode": done.returncode, "message": message}}
        status = {"name": container["name"], "state": state, "ready": False, "restartCount": 0}
        status |= {"image": container["image"], "imageID": ""}
        return {"phase": "Failed" if done.returncode else "Succeeded", "containerStatuses": [status]}


def _value(entry: Json, pod: Json) -> str:
    if "value" in entry:
        return str(entry["value"])
    return str(pod["metadata"][entry["valueFrom"]["fieldRef"]["fieldPath"].removeprefix("metadata.")])
