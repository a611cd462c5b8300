"""What is asked of the API server about workloads, and what is read of its answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from asset_token_operator.errors import NotLeadingError
from asset_token_operator.kube import KubeClient
from asset_token_operator.model import Target, WorkloadKind
from asset_token_operator.rollouts import Workload
from tests.support.builders import NOW
from tests.support.fakes import drive

WORKER = Target(WorkloadKind.DEPLOYMENT, "ledger-worker")
SEEN = Workload("uid-1", 7, NOW)


@dataclass
class FakeApi:
    """Answers always the same; `calls` has what it was asked."""

    answer: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)

    async def call(
        self, method: str, path: str, read: Callable[[dict[str, Any]], Any], *, body: Any = None, **_: Any
    ) -> Any:
        self.calls.append((method, path, body))
        return read(self.answer)


def client(api: FakeApi, time_left: Callable[[], timedelta] = lambda: timedelta(hours=1)) -> KubeClient:
    return KubeClient(api, time_left)  # type: ignore[arg-type]  # what it uses of it


def a_workload(**template: Any) -> dict[str, Any]:
    """A Deployment as the API server has it."""
    metadata = {"uid": "uid-1", "resourceVersion": "7", "creationTimestamp": "2026-05-01T12:00:00Z"}
    return {"metadata": metadata, "spec": {"template": template}}


@pytest.mark.parametrize(
    ("template", "restarted_at"),
    [
        pytest.param({}, None, id="no metadata"),
        pytest.param({"metadata": None}, None, id="null"),
        pytest.param({"metadata": {"annotations": None}}, None, id="no annotations"),
        pytest.param({"metadata": {"annotations": {"a": "b"}}}, None, id="other annotations"),
        pytest.param({"metadata": {"annotations": {"auth.getasset.com/restarted-at": "soon"}}}, None, id="nonsense"),
        pytest.param(
            {"metadata": {"annotations": {"auth.getasset.com/restarted-at": "2026-05-01T11:30:00Z"}}},
            NOW - timedelta(minutes=30),
            id="a moment",
        ),
    ],
)
def test_a_workload_says_when_it_was_created_and_restarted(
    template: dict[str, Any], restarted_at: datetime | None
) -> None:
    api = FakeApi(a_workload(**template))
    found = drive(client(api).read_workload("shop", WORKER))
    assert found == Workload("uid-1", 7, NOW, restarted_at)
    assert api.calls == [("GET", "/apis/apps/v1/namespaces/shop/deployments/ledger-worker", None)]


@pytest.mark.parametrize(
    ("kind", "plural"),
    [
        pytest.param(WorkloadKind.DEPLOYMENT, "deployments", id="Deployment"),
        pytest.param(WorkloadKind.STATEFUL_SET, "statefulsets", id="StatefulSet"),
        pytest.param(WorkloadKind.DAEMON_SET, "daemonsets", id="DaemonSet"),
    ],
)
def test_a_restart_changes_one_annotation_of_exactly_the_workload_that_was_seen(
    kind: WorkloadKind, plural: str
) -> None:
    api = FakeApi()
    drive(client(api).restart_workload("shop", Target(kind, "a"), SEEN, NOW))
    annotations = {"auth.getasset.com/restarted-at": "2026-05-01T12:00:00Z"}
    body = {
        "metadata": {"uid": "uid-1", "resourceVersion": "7"},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    }
    assert api.calls == [("PATCH", f"/apis/apps/v1/namespaces/shop/{plural}/a", body)]


def test_who_does_not_lead_restarts_nothing() -> None:
    def not_leading() -> timedelta:
        raise NotLeadingError

    api = FakeApi()
    with pytest.raises(NotLeadingError):
        drive(client(api, not_leading).restart_workload("shop", WORKER, SEEN, NOW))
    assert api.calls == []
