"""Fixtures of `make e2e-node`: a real node, the operator's image, and the stand-in API where Pods reach it.

What the tests measure is printed at the end of the session.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.node.figures import Figures
from tests.node.installation import RESTRICTED, Release, put_authority
from tests.support import gobuild
from tests.support.asset_api import AssetApi
from tests.support.certificates import Certificate, a_certificate
from tests.support.controlplane import ControlPlane
from tests.support.helm import RELEASE, Helm
from tests.support.image import Image, ImageStore
from tests.support.machine import ADDRESS
from tests.support.node import APISERVER_ARGS, PAUSE, PROMPT, Node
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, Shop

FIGURES: Final = pytest.StashKey[Figures]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--default-kubelet", action="store_true", help="leave the kubelet its default settings")
    parser.addoption("--pull", action="store_true", help="pull the image's base instead of making a stand-in for it")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("measured")
    for line in config.stash[FIGURES].lines() if FIGURES in config.stash else ():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(FIGURES, Figures())


@pytest.fixture(scope="session")
def images() -> ImageStore:
    return ImageStore()


@pytest.fixture(scope="session")
def image(images: ImageStore, figures: Figures, tmp_path_factory: pytest.TempPathFactory, *, pull: bool) -> Image:
    """The operator's image, built from this checkout."""
    image = images.operator(tmp_path_factory.mktemp("image"), pull=pull)
    base = "a stand-in for its base" if images.is_stand_in() else images.base()
    figures.add(f"to build the image, on {base}", image.seconds, "s")
    return image


@pytest.fixture(scope="session")
def pull(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--pull", default=False))


@pytest.fixture(scope="session")
def default_kubelet(pytestconfig: pytest.Config) -> bool:
    """Whether the kubelet has its default settings."""
    return bool(pytestconfig.getoption("--default-kubelet", default=False))


@pytest.fixture(scope="session")
def controlplane(figures: Figures) -> Iterator[ControlPlane]:
    """A control plane that has a node, in place of the one that the other tests share."""
    with ExitStack() as stack:
        with figures.seconds("to start the control plane"):
            controlplane = stack.enter_context(ControlPlane(apiserver_args=APISERVER_ARGS))
        yield controlplane


@pytest.fixture(scope="session")
def node(
    *,
    controlplane: ControlPlane,
    images: ImageStore,
    image: Image,
    figures: Figures,
    default_kubelet: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Node]:
    """A node that has the operator's image."""
    sleep = ("/bin/busybox", "sleep", "2147483647")
    pause = images.of_program(Path(shutil.which("busybox") or ""), sleep, PAUSE, tmp_path_factory.mktemp("pause"))
    programs = gobuild.node()
    kubelet = {} if default_kubelet else PROMPT
    with ExitStack() as stack:
        with figures.seconds("to start the node, until it is ready"):
            node = stack.enter_context(Node(controlplane, programs, pause.archive, kubelet))
        with figures.seconds("to load the image"):
            node.load(image.archive)
        yield node


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """The stand-in API's, which a Pod trusts only when it is told to."""
    return a_certificate(tmp_path_factory.mktemp("certificate"), host=ADDRESS)


@pytest.fixture
def asset(node: Node, certificate: Certificate) -> Iterator[AssetApi]:
    """The stand-in API, where Pods reach it."""
    with AssetApi(address=ADDRESS, tls=certificate.context) as asset:
        asset.register(CLIENT_ID, CLIENT_SECRET)
        yield asset
        assert set(asset.violations) <= {"HEAD /"}  # the look of a doctor, who asks for nothing


@pytest.fixture
def shop(controlplane: ControlPlane, namespace: str, asset: AssetApi) -> Shop:
    """A user's namespace, with credentials."""
    shop = Shop(controlplane, namespace, asset)
    shop.put_credentials()
    return shop


@pytest.fixture
def restricted(controlplane: ControlPlane) -> Iterator[str]:
    """The name of a namespace that refuses what Pod security `restricted` doesn't allow."""
    name = controlplane.create_namespace("operators")
    controlplane.api.patch(f"/api/v1/namespaces/{name}", {"metadata": {"labels": RESTRICTED}})
    yield name
    controlplane.delete_namespace(name)


@pytest.fixture
def releases(
    *,
    helm: Helm,
    controlplane: ControlPlane,
    node: Node,
    restricted: str,
    image: Image,
    asset: AssetApi,
    certificate: Certificate,
) -> Iterator[Callable[..., Release]]:
    """Makes releases of the chart, not installed, where Pod security `restricted` is enforced."""
    put_authority(controlplane, restricted, certificate)
    with ExitStack() as stack:

        def make(name: str = RELEASE) -> Release:
            release = Release(helm, controlplane, restricted, image, asset, name=name)
            stack.callback(release.uninstall)
            return release

        yield make


@pytest.fixture
def release(releases: Callable[..., Release], figures: Figures) -> Release:
    """The chart, installed."""
    release = releases()
    with figures.seconds("helm install --wait, until one of two Pods leads"):
        release.install()
    return release
