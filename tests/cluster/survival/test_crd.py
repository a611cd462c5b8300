"""The CRD is missing when the operator starts, or goes away and comes back later."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import pytest

from tests.cluster.survival.signs import (
    ELECTION,
    END_SECONDS,
    PATIENCE_SECONDS,
    SOON_SECONDS,
    assert_complained_once,
    assert_waits_for,
    secrets_written,
    wait_until_all_is_served,
    wait_until_not_ready,
)
from tests.conftest import CRDS
from tests.support.cluster import CRDS_PATH, Cluster, lasting, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OBSERVED, OperatorProcess
from tests.support.shop import Shop

CRD: Final = f"{CRDS_PATH}/assettokens.auth.getasset.com"
ABSENT_SECONDS: Final = 10

pytestmark = pytest.mark.timeout(240)


def test_a_crd_that_is_deleted_and_applied_again_is_served_within_seconds(
    shop: Shop, controlplane: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    operator = operator_for(shop, *OBSERVED)
    shop.put("retained", secret={"deletionPolicy": "Retain"})
    shop.put("deleted")
    shop.wait_until_ready("retained", PATIENCE_SECONDS)
    shop.wait_until_ready("deleted", PATIENCE_SECONDS)
    retained, requests, since = shop.data("retained"), len(shop.asset.requests), datetime.now(UTC)
    with _without_crd(controlplane):
        wait_until_not_ready(operator)
        for _ in lasting(ABSENT_SECONDS):
            assert_waits_for(operator, "assettoken")
        assert_complained_once(operator, "assettoken")
        assert secrets_written(controlplane, shop, since) == []
        assert len(shop.asset.requests) == requests
        assert shop.data("retained") == retained
    shop.create("new")
    shop.wait_until_ready("new", SOON_SECONDS)
    wait_until_all_is_served(operator, SOON_SECONDS)
    shop.create("retained", secret={"deletionPolicy": "Retain"})
    shop.create("deleted")
    shop.wait_until_ready("retained", PATIENCE_SECONDS)
    shop.wait_until_ready("deleted", PATIENCE_SECONDS)  # once the garbage collector has taken its namesake's Secret
    assert_complained_once(operator, "assettoken")


def test_a_version_that_is_not_served_for_a_while_costs_no_token(
    shop: Shop, controlplane: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    operator = operator_for(shop, *OBSERVED)
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer", PATIENCE_SECONDS)
    data = shop.data("ledger-writer")
    _serve_version(controlplane, served=False)
    try:
        wait_until_not_ready(operator)
        for _ in lasting(ABSENT_SECONDS):
            assert_waits_for(operator, "assettoken")
    finally:
        _serve_version(controlplane, served=True)
    shop.create("new")
    shop.wait_until_ready("new", SOON_SECONDS)
    # The garbage collector may have taken the Secret, as it found no such thing as its owner: it is put back as it was.
    wait_until(lambda: shop.data("ledger-writer") == data, SOON_SECONDS, "the Secret holds the same token")
    assert len(shop.asset.requests) == 1 + 1
    assert_complained_once(operator, "assettoken")


@pytest.mark.parametrize(
    ("versions", "election"),
    [
        pytest.param((), (), id="no-crd"),
        pytest.param((), ("--leader-elect",), id="no-crd-elected"),
        pytest.param(("v1beta1",), (), id="of-another-version-only"),
    ],
)
def test_a_crd_that_comes_after_the_operator_is_served_within_seconds(
    shop: Shop,
    controlplane: ControlPlane,
    operator_for: Callable[..., OperatorProcess],
    *,
    election: tuple[str, ...],
    versions: tuple[str, ...],
) -> None:
    operator = operator_for(shop, *OBSERVED, *election, started=False)
    with _without_crd(controlplane, versions):
        operator.start()
        wait_until(operator.complaints, PATIENCE_SECONDS, "it says what is missing")
        for _ in lasting(ABSENT_SECONDS):
            assert_waits_for(operator, "assettoken")
    shop.create("ledger-writer")
    shop.wait_until_ready("ledger-writer", SOON_SECONDS)
    assert operator.get("/readyz").status_code == 200
    assert_complained_once(operator, "assettoken")


@pytest.mark.parametrize("election", ELECTION)
def test_sigterm_ends_it_while_the_crd_is_missing(
    shop: Shop,
    controlplane: ControlPlane,
    operator_for: Callable[..., OperatorProcess],
    *,
    election: tuple[str, ...],
) -> None:
    operator = operator_for(shop, *OBSERVED, *election, started=False)
    with _without_crd(controlplane):
        operator.start()
        wait_until(operator.complaints, PATIENCE_SECONDS, "it says what is missing")
        assert operator.is_running()
        assert operator.terminate(within=END_SECONDS) == 0


@contextmanager
def _without_crd(controlplane: ControlPlane, versions: tuple[str, ...] = ()) -> Iterator[None]:
    """The API server knows no AssetTokens, or only those of other versions; afterwards it serves ours again."""
    found = controlplane.api.get(CRD)
    _delete_crd(controlplane)
    if versions:
        other = [version | {"name": name} for version in found["spec"]["versions"] for name in versions]
        body = {"metadata": {"name": found["metadata"]["name"]}, "spec": found["spec"] | {"versions": other}}
        controlplane.api.create(CRDS_PATH, body)
        _wait_until_served(controlplane, versions[0])
    try:
        yield
    finally:
        if versions:
            _delete_crd(controlplane)
        Cluster.apply_crds(controlplane, CRDS)  # without waiting for the garbage collector


def _delete_crd(controlplane: ControlPlane) -> None:
    controlplane.api.delete(CRD)
    wait_until(lambda: controlplane.api.find(CRD) is None, 30, "the CRD is gone")


def _serve_version(controlplane: ControlPlane, *, served: bool) -> None:
    change = [{"op": "replace", "path": "/spec/versions/0/served", "value": served}]
    controlplane.api.patch(CRD, change, "application/json-patch+json")
    if served:
        _wait_until_served(controlplane, "v1alpha1")


def _wait_until_served(controlplane: ControlPlane, version: str) -> None:
    path = f"/apis/auth.getasset.com/{version}/assettokens?limit=1"
    wait_until(lambda: controlplane.api.find(path), 30, f"{version} is served")
