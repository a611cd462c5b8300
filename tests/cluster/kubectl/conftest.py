"""Fixtures that give a test the kubectl plugin in a shop's namespace."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin, kubeconfig_with_role
from tests.support.shop import Shop


@pytest.fixture
def plugin(shop: Shop, tmp_path: Path) -> Plugin:
    """The plugin of an administrator."""
    return Plugin(tmp_path / "bin", shop.cluster.kubeconfig, (f"--namespace={shop.namespace}",))


@pytest.fixture
def viewer(shop: Shop, tmp_path: Path) -> Plugin:
    """The plugin of somebody who has the role `view` in the shop's namespace, and nothing else."""
    return Plugin(tmp_path / "bin", kubeconfig_with_role(shop.cluster, shop.namespace, "view"))


@pytest.fixture
def operator(shop: Shop, operator_for: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator that serves the shop's namespace, and its metrics."""
    return operator_for(shop, "--metrics-address=127.0.0.1:0")


@pytest.fixture
def operator_metrics(operator: OperatorProcess) -> str:
    """Where its metrics are."""
    return str(operator.get("/metrics").url)
