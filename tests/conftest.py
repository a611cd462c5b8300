"""Fixtures that give a test a real API server, and helm.

The control plane is started once a session, by the first test that wants it. Where it or helm can't be had, tests that
need it are skipped with the reason; in CI that is a failure, as nobody reads the skips there.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support import gobuild
from tests.support.cluster import Cluster, ExistingCluster, KubectlError
from tests.support.component import StartError
from tests.support.controlplane import ControlPlane
from tests.support.gobuild import Binaries, BuildError
from tests.support.helm import Helm

CRDS: Final = Path(__file__).parents[1] / "crds"
DEPLOY: Final = Path(__file__).parents[1] / "deploy"
BUILD_ERRORS: Final = pytest.StashKey[dict[str, BuildError]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--existing-cluster",
        action="store_true",
        help="test against the cluster of $KUBECONFIG, as an administrator of it, instead of starting a control plane",
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build here what a test wants: a build may take longer than a test's time limit."""
    config = session.config
    config.stash[BUILD_ERRORS] = errors = {}
    if config.option.collectonly:
        return
    terminal = config.pluginmanager.getplugin("terminalreporter")
    build = {
        "controlplane": gobuild.kubectl if config.option.existing_cluster else gobuild.binaries,
        "helm": gobuild.helm,
        "programs": gobuild.binaries,
        "glua": gobuild.glua,
        "krew": gobuild.krew,
    }
    wanted = {fixture for item in session.items for fixture in getattr(item, "fixturenames", ())}
    for fixture in build.keys() & wanted:
        try:
            build[fixture](terminal.write_line if terminal else print)
        except BuildError as error:
            errors[fixture] = error


@pytest.fixture(scope="session")
def controlplane(pytestconfig: pytest.Config) -> Iterator[Cluster]:
    """An API server with garbage collection: one of our own, else that of `--existing-cluster`."""
    with ExitStack() as stack:
        _require_built("controlplane", pytestconfig)
        try:
            existing = pytestconfig.option.existing_cluster
            cluster = stack.enter_context(ExistingCluster(gobuild.kubectl()) if existing else ControlPlane())
        except (BuildError, StartError, KubectlError) as error:
            raise _outcome(f"no control plane: {error}", pytestconfig) from None
        yield cluster


@pytest.fixture(scope="session")
def crds(controlplane: Cluster) -> None:
    """The API server serves our CustomResourceDefinitions."""
    controlplane.apply_crds(CRDS)


@pytest.fixture(scope="session")
def helm(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    _require_built("helm", pytestconfig)
    return Helm(gobuild.helm(), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Binaries:
    """A control plane's programs, for a test that starts one as a user would."""
    _require_built("programs", pytestconfig)
    return gobuild.binaries()


@pytest.fixture(scope="session")
def glua(pytestconfig: pytest.Config) -> Path:
    """The path of a Lua interpreter."""
    _require_built("glua", pytestconfig)
    return gobuild.glua()


@pytest.fixture(scope="session")
def krew(pytestconfig: pytest.Config) -> dict[str, Path]:
    """The paths of krew and of what it checks manifests with."""
    _require_built("krew", pytestconfig)
    return gobuild.krew()


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


def _require_built(fixture: str, config: pytest.Config) -> None:
    if error := config.stash[BUILD_ERRORS].get(fixture):
        raise _outcome(f"no {fixture}: {error}", config)


def _outcome(reason: str, config: pytest.Config) -> BaseException:
    """Choose between failing and skipping where a control plane or a program can't be had."""
    if config.option.existing_cluster or os.environ.get("CI", "").lower() in {"1", "true"}:
        return pytest.fail.Exception(reason, pytrace=False)
    return pytest.skip.Exception(reason)
