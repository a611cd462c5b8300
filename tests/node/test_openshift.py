"""The chart where a Pod gets its namespace's uid, as OpenShift's do: the image runs as any."""

from collections.abc import Callable, Iterator

import pytest

from tests.node.installation import Release
from tests.support.asset_api import AssetApi
from tests.support.controlplane import ControlPlane
from tests.support.openshift import UID, OpenShift
from tests.support.shop import Shop


@pytest.fixture
def namespaced(controlplane: ControlPlane, restricted: str) -> Iterator[None]:
    """The operator's namespace gives its Pods their uid, and refuses another."""
    with OpenShift(controlplane, restricted):
        yield


@pytest.mark.usefixtures("namespaced")
def test_pods_run_as_the_uid_that_they_are_given_and_issue_a_token(
    releases: Callable[..., Release], shop: Shop, asset: AssetApi
) -> None:
    release = releases()
    release.install(openshift=True)

    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")

    for name in release.pods.names():
        assert f"Uid:\t{UID}\t" in release.pods.kubectl("exec", name, "--", "cat", "/proc/1/status")
    assert release.pods.restarts() == 0
    assert "Succeeded" in release.test()
    assert asset.accepts(shop.data("ledger-writer")["access_token"])
