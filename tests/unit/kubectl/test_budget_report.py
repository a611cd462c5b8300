"""Whose metrics are read."""

import pytest

from asset_token_operator.kubectl.budget_report import TRIES, budgets, read_metrics

STANDBY = "# HELP asset_token_operator_leader\nasset_token_operator_leader 0.0\n"
LEADER = (
    "asset_token_operator_leader 1.0\n"
    'asset_token_operator_budget_limit{environment="sandbox",tenant="shop/asset-credentials"} 300.0\n'
)


class Replicas:
    """A cluster whose API server asks one replica after the other."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def text(self, path: str) -> str:
        self.asked.append(path)
        return self.answers[(len(self.asked) - 1) % len(self.answers)]


@pytest.mark.parametrize(
    ("replicas", "asked"),
    [
        pytest.param(Replicas(LEADER), 1, id="one replica"),
        pytest.param(Replicas(STANDBY, STANDBY, LEADER), 3, id="a standby answers before"),
        pytest.param(Replicas(STANDBY), TRIES, id="nobody leads"),
    ],
)
def test_the_metrics_are_the_leaders_if_there_is_one(replicas: Replicas, asked: int) -> None:
    text = read_metrics(replicas, None, "operators")  # type: ignore[arg-type]  # what it asks of a cluster

    assert len(replicas.asked) == asked
    assert set(replicas.asked) == {
        "/api/v1/namespaces/operators/services/asset-token-operator-metrics:metrics/proxy/metrics"
    }
    assert [budget.limit for budget in budgets(text)] == ([300] if LEADER in replicas.answers else [])
