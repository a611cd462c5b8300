"""The kustomize base on a real node, by the commands that docs/install.md gives."""

from pathlib import Path

import pytest

from tests.node.installation import Pods, overlay, put_authority
from tests.support.asset_api import AssetApi
from tests.support.certificates import Certificate
from tests.support.cluster import KubectlError
from tests.support.controlplane import ControlPlane
from tests.support.helm import RELEASE
from tests.support.image import Image
from tests.support.node import Node
from tests.support.shop import Shop


@pytest.mark.usefixtures("crds")
def test_pods_of_the_base_issue_a_token_and_its_removal_leaves_it(
    *,
    controlplane: ControlPlane,
    node: Node,
    image: Image,
    asset: AssetApi,
    certificate: Certificate,
    shop: Shop,
    tmp_path: Path,
) -> None:
    folder = overlay(tmp_path, image, asset)
    controlplane.kubectl("apply", "--server-side", f"--filename={folder / 'base' / 'namespace.yaml'}")
    put_authority(controlplane, RELEASE, certificate)
    pods = Pods(controlplane, RELEASE)

    controlplane.kubectl("apply", "--server-side", "-k", str(folder))
    try:
        pods.wait_for_others(set())
        shop.put("ledger-writer")
        shop.wait_until_ready("ledger-writer")
    finally:
        controlplane.kubectl("delete", "-k", str(folder))

    with pytest.raises(KubectlError, match="NotFound"):
        controlplane.kubectl("get", "namespace", RELEASE)
    assert asset.accepts(shop.data("ledger-writer")["access_token"])
