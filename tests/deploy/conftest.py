"""Fixtures that give a test of deploy/ a namespace that a Pod of ours may run in, and what kustomize makes."""

from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.support.cluster import Cluster, Json
from tests.support.helm import ROOT

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-combinations", action="store_true", help="try thousands of combinations of the chart's values"
    )


@pytest.fixture(scope="session")
def all_combinations(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--all-combinations", default=False))


@pytest.fixture(scope="module")
def restricted(controlplane: Cluster) -> Iterator[str]:
    """The name of a namespace that refuses, and warns of, what Pod security `restricted` doesn't allow."""
    name = controlplane.create_namespace("restricted")
    controlplane.api.patch(f"/api/v1/namespaces/{name}", {"metadata": {"labels": RESTRICTED}})
    yield name
    controlplane.delete_namespace(name)


@pytest.fixture(scope="session")
def kustomized(controlplane: Cluster) -> Callable[[str], list[Json]]:
    """Renders a folder of deploy/."""

    def render(folder: str) -> list[Json]:
        return list(yaml.safe_load_all(controlplane.kubectl("kustomize", str(ROOT / "deploy" / folder))))

    return render
