"""Fixtures of the tests that harm the control plane: one of their own, and a proxy before it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import with_shipped_role
from tests.conftest import CRDS
from tests.faults.proxy import Proxy
from tests.support.cluster import Cluster
from tests.support.controlplane import ControlPlane
from tests.support.shop import Shop


@pytest.fixture(scope="package")
def controlplane(controlplane: Cluster) -> Iterator[ControlPlane]:
    """A control plane of these tests' own, since it is harmed."""
    if not isinstance(controlplane, ControlPlane):
        pytest.skip("stops the API server and deletes the CRD, so it needs a control plane of its own")
    with ControlPlane() as own:
        yield own


@pytest.fixture(scope="package")
def crds(controlplane: ControlPlane) -> None:
    controlplane.apply_crds(CRDS)


@pytest.fixture
def stoppable(controlplane: ControlPlane) -> Iterator[ControlPlane]:
    """The same for a test that stops its API server; the next test finds controllers that are at work."""
    yield controlplane
    controlplane.restart_controllers()


@pytest.fixture
def proxy(controlplane: ControlPlane) -> Iterator[Proxy]:
    with Proxy(controlplane.server, controlplane.certificate) as proxy:
        yield proxy


@pytest.fixture
def kubeconfig(shop: Shop) -> Path:
    """That of an operator with the shipped role in the shop's namespace."""
    return with_shipped_role(shop.cluster, shop.namespace)


@pytest.fixture
def proxied(proxy: Proxy, kubeconfig: Path, tmp_path: Path) -> Path:
    """The same, through the proxy."""
    return proxy.kubeconfig(kubeconfig, tmp_path)
