"""Fixtures that give a test a real API server.

The control plane is started once a session, by the first test that wants it. Where it can't be had, tests that
need it are skipped with the reason; in CI that is a failure, as nobody reads the skips there.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster import Cluster, ExistingCluster, KubectlError
from tests.support.component import StartError
from tests.support.controlplane import ControlPlane
from tests.support.gobuild import BuildError, binaries, kubectl

CRDS: Final = Path(__file__).parents[1] / "crds"
BUILD_ERROR: Final = pytest.StashKey[BuildError]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--existing-cluster",
        action="store_true",
        help="test against the cluster of $KUBECONFIG, as an administrator of it, instead of starting a control plane",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build the control plane here if a test wants it: a build may take longer than a test's time limit."""
    config = session.config
    wanted = any("controlplane" in getattr(item, "fixturenames", ()) for item in session.items)
    if not wanted or config.option.collectonly:
        return
    terminal = config.pluginmanager.getplugin("terminalreporter")
    find = kubectl if config.option.existing_cluster else binaries
    try:
        find(terminal.write_line if terminal else print)
    except BuildError as error:
        config.stash[BUILD_ERROR] = error


@pytest.fixture(scope="session")
def controlplane(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """An API server with garbage collection: one of our own, else that of `--existing-cluster`."""
    with ExitStack() as stack:
        try:
            if BUILD_ERROR in pytestconfig.stash:
                raise pytestconfig.stash[BUILD_ERROR]
            existing = pytestconfig.option.existing_cluster
            cluster = stack.enter_context(ExistingCluster(kubectl()) if existing else ControlPlane())
        except (BuildError, StartError, KubectlError) as error:
            raise _outcome(f"no control plane: {error}", pytestconfig) from None
        yield cluster


@pytest.fixture(scope="session")
def crds(controlplane: Cluster) -> None:
    """The API server serves our CustomResourceDefinitions."""
    controlplane.apply_crds(CRDS)


@pytest.fixture
def audited_controlplane(controlplane: Cluster) -> ControlPlane:
    """A control plane of our own, with an audit log, that can be stopped and started."""
    if not isinstance(controlplane, ControlPlane):
        pytest.skip("needs the audit log, or a restart, of a control plane of our own")
    return controlplane


@pytest.fixture
def namespace(controlplane: Cluster) -> Iterator[str]:
    """The name of a namespace that no other test uses."""
    name = controlplane.create_namespace()
    yield name
    controlplane.delete_namespace(name)


def _outcome(reason: str, config: pytest.Config) -> BaseException:
    """Choose between failing and skipping where a control plane can't be had."""
    if config.option.existing_cluster or os.environ.get("CI", "").lower() in {"1", "true"}:
        return pytest.fail.Exception(reason, pytrace=False)
    return pytest.skip.Exception(reason)
