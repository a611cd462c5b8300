"""Large Secrets that look like the operator's own: what they cost its start, and how long they keep it waiting."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Final

import httpx

from benchmarks.client import Call, Json
from benchmarks.figures import Measurement
from benchmarks.scenarios import Bench, Found, operator, patience
from benchmarks.stage import Stage
from benchmarks.world import GROUP, OPERATOR, token_key, token_path

COUNT: Final = 300
PROBE_SECONDS: Final = 0.02
OWNER: Final = f"{GROUP}/owner"


def _with_data(number: int) -> Json:
    return {"stringData": {"access_token": f"{number}" + "x" * 1_000_000}}


def _with_annotations(number: int) -> Json:
    return {"metadata": {"annotations": {f"{number:x}.x/{index:x}": "" for index in range(20_000)}}}


def _with_a_long_owner(number: int) -> Json:
    """The API server writes `<` as six bytes."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "<" * 1_000_000, "uid": f"nobody-{number}"}
    return {"metadata": {"ownerReferences": [owner]}}


SHAPES: Final[Mapping[str, Callable[[int], Json]]] = {
    "1 MB of data": _with_data,
    "20,000 annotations": _with_annotations,
    "6 MB of JSON": _with_a_long_owner,
}
"""What each Secret has, by what that is told as."""


def lookalikes(bench: Bench, count: int) -> Found:
    """An operator with one AssetToken is started among so many Secrets that say that they are of it."""
    for variant, shape in SHAPES.items():
        with bench.stage(1) as stage:
            yield _measured(stage, count, variant, shape)


def _measured(stage: Stage, count: int, variant: str, shape: Callable[[int], Json]) -> Measurement:
    stage.populate()
    stage.operator.start()
    stage.wait(lambda: stage.observer.reached(stage.observer.ready), 1, patience(1))
    stage.operator.terminate()
    uid = stage.controlplane.api.get(token_path(0))["metadata"]["uid"]
    stage.each(_calls(uid, count, shape))
    stage.settle()
    before, began = stage.snapshot(), monotonic()
    stage.operator.start()
    with _probing(stage) as longest:
        figures = {"readyz_s": stage.wait_until_ready(patience(count)) - began}
        figures["idle_s"] = stage.wait_until_idle(patience(count)) - began
    figures |= stage.costs(before, stage.snapshot(), count) | stage.resident() | {"probe_ms": 1000 * max(longest)}
    return operator("lookalikes", count, figures, variant)


def _calls(uid: str, count: int, shape: Callable[[int], Json]) -> Iterator[Call]:
    """Secrets of which the AssetToken is the owner, by their labels, annotations and owner reference."""
    namespace, name = token_key(0).split("/")
    controller = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AssetToken", "name": name, "uid": uid, "controller": True}
    for number in range(count):
        body = shape(number)
        more = body.pop("metadata", {})
        metadata = {
            "name": f"look-alike-{number}",
            "labels": {"app.kubernetes.io/managed-by": OPERATOR},
            "annotations": {OWNER: name, **more.get("annotations", {})},
            "ownerReferences": [controller, *more.get("ownerReferences", [])],
        }
        secret = {"type": f"{GROUP}/token", "metadata": metadata, **body}
        yield Call("POST", f"/api/v1/namespaces/{namespace}/secrets", secret, key=str(number))


@contextmanager
def _probing(stage: Stage) -> Iterator[list[float]]:
    """Probe the operator all the time, as the kubelet does; how long each answer took: so long its loop stood."""
    took, ended = [0.0], threading.Event()

    def probe() -> None:
        with httpx.Client(trust_env=False) as client:
            while not ended.is_set():
                began = monotonic()
                try:
                    client.get(f"{stage.url}/healthz")
                    took.append(monotonic() - began)
                except httpx.TransportError:  # it doesn't listen yet
                    pass
                time.sleep(PROBE_SECONDS)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield took
    finally:
        ended.set()
        thread.join()
