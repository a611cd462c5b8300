"""`doctor --in-cluster`: looks from a short-lived Pod beside the operator, and deletes it, whatever happens.

What a killed doctor leaves ends by its deadline, goes with the operator's Deployment, and is removed by the next one.
"""

from __future__ import annotations

import json
import secrets
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.kubectl.checkup import Check, missing_rights
from asset_token_operator.kubectl.cluster import core_path, metadata, part, parts
from asset_token_operator.kubectl.pod_spec import CONTAINER, LIFE_SECONDS, NAME, SELECTOR, container_of, is_doctors, pod
from asset_token_operator.kubectl.problems import ConflictProblem, NotFoundProblem, Problem
from asset_token_operator.model import GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from asset_token_operator.clock import SystemClock
    from asset_token_operator.kubectl.cluster import Cluster, Json

ABOUT: Final = "Pod"
NEEDED: Final = (
    ("list", "apps", "deployments"),
    ("create", "", "pods"),
    ("get", "", "pods"),
    ("delete", "", "pods"),
)
MARK: Final = f"{GROUP}/doctor"
"""Whose Pod it is, as all doctors' have one name."""

ENDED: Final = frozenset({"Succeeded", "Failed"})
LOOK_SECONDS: Final = 0.5
LONGEST: Final = 300
OLDER: Final = "No module named"


def from_pod(
    cluster: Cluster, namespace: str, lease: str, environments: Sequence[str], clock: SystemClock
) -> Iterator[Check]:
    """Whether Asset can be reached from a Pod like the operator's.

    Args:
        cluster: Where.
        namespace: The operator's.
        lease: Its Lease, which tells several operators there apart.
        environments: Which of Asset's services.
        clock: By which it isn't waited for forever.
    """
    missing = [f"{verb} {resource}" for verb, _, resource in missing_rights(cluster, namespace, NEEDED)]
    if missing:
        found = f"you may not {', '.join(missing)} in the namespace {namespace}, which --in-cluster needs"
        yield Check(ABOUT, None, found, "ask for the role edit there, or have an administrator look")
        return
    yield from _read(_result(cluster, namespace, pod(_deployment(cluster, namespace, lease), environments), clock))


def _deployment(cluster: Cluster, namespace: str, lease: str) -> Json:
    found = cluster.all(f"/apis/apps/v1/namespaces/{namespace}/deployments", SELECTOR)
    named = [one for one in found if f"--lease-name={lease}" in (container_of(one).get("args") or ())]
    chosen = named or found
    if len(chosen) != 1:
        count = "no" if not chosen else "more than one"
        raise Problem(
            f"There is {count} Deployment of the operator in the namespace {namespace}:"
            " name its place with --operator-namespace and --lease-name."
        )
    return chosen[0]


def _result(cluster: Cluster, namespace: str, body: Json, clock: SystemClock) -> Mapping[str, Any]:
    """Have the Pod run, and delete it; how its container ended.

    Raises:
        Problem: It didn't run, or not in time.
    """
    mark = secrets.token_hex(8)
    body["metadata"]["annotations"][MARK] = mark
    path = core_path("pods", namespace, NAME)
    with _ended_in_order():
        try:
            _create(cluster, namespace, body)
            return _wait(cluster, path, clock)
        finally:
            _delete_marked(cluster, path, mark)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Being told to end is as being interrupted: it cleans up before."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(one, signal.default_int_handler) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def _create(cluster: Cluster, namespace: str, body: Json) -> Json:
    try:
        return cluster.create(core_path("pods", namespace), body)
    except ConflictProblem:
        path = core_path("pods", namespace, NAME)
        found = cluster.get(path)
        if not is_doctors(found) or part(found, "status").get("phase") not in ENDED:
            raise Problem(
                f"The Pod {namespace}/{NAME} is there already: another doctor is at work, so try again in a minute;"
                " if it stays, delete it."
            ) from None
        _delete(cluster, path, metadata(found).get("uid"))
        return cluster.create(core_path("pods", namespace), body)


def _delete_marked(cluster: Cluster, path: str, mark: str) -> None:
    """Delete our Pod, if it is there: who was interrupted while it was made doesn't know."""
    try:
        found = metadata(cluster.get(path))
    except NotFoundProblem:
        return
    if part(found, "annotations").get(MARK) == mark:
        _delete(cluster, path, found.get("uid"))


def _delete(cluster: Cluster, path: str, uid: object) -> None:
    """Delete this Pod, and no other that has its name by now."""
    try:
        cluster.delete(path, {"gracePeriodSeconds": 1, "preconditions": {"uid": uid}})
    except (NotFoundProblem, ConflictProblem):
        return


def _wait(cluster: Cluster, path: str, clock: SystemClock) -> Mapping[str, Any]:
    deadline = clock.elapsed().total_seconds() + LIFE_SECONDS
    while True:
        status = part(cluster.get(path), "status")
        container = _container(status)
        ended = part(part(container, "state"), "terminated")
        if ended:
            return ended
        if status.get("phase") in ENDED or clock.elapsed().total_seconds() >= deadline:
            raise Problem(f"The Pod {NAME} gave no result within {LIFE_SECONDS} s: {_hindrance(status, container)}")
        time.sleep(LOOK_SECONDS)


def _container(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((found for found in parts(status, "containerStatuses") if found.get("name") == CONTAINER), {})


def _hindrance(status: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    """Why a Pod doesn't run, in Kubernetes' words."""
    conditions = parts(status, "conditions")
    unscheduled = [one for one in conditions if (one.get("type"), one.get("status")) == ("PodScheduled", "False")]
    for said in (part(part(container, "state"), "waiting"), *unscheduled, status):
        words = [str(said[name]) for name in ("reason", "message") if said.get(name)]
        if words:
            return ": ".join(words)[:LONGEST]
    return "no node has taken it up." if not container else "it is still running."


def _read(ended: Mapping[str, Any]) -> Iterator[Check]:
    """What the Pod found."""
    message = str(ended.get("message") or "")
    try:
        for found in json.loads(message):
            yield Check(str(found["about"]), found["fine"], str(found["found"]), str(found["helps"]))
    except (ValueError, TypeError, KeyError, RecursionError):
        if OLDER in message:
            raise Problem("The operator's image is older than this plugin, and can't look: upgrade it.") from None
        why = f"exit code {ended.get('exitCode')}" if ended.get("exitCode") else "without a result"
        raise Problem(f"The Pod's program ended with {why}: see whether the operator's image can start.") from None
