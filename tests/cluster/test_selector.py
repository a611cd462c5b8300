"""Two installations in one namespace: each has its own selector and Lease, and serves its own AssetTokens."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.asset_api import AssetApi
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


@pytest.fixture
def installation(
    tmp_path: Path, audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi
) -> Iterator[Callable[[str], OperatorProcess]]:
    """Starts an operator for a team's AssetTokens."""
    with ExitStack() as stack:

        def start(team: str) -> OperatorProcess:
            (tmp_path / team).mkdir()
            arguments = (
                f"--namespace={shop.namespace}",
                f"--selector=team={team}",
                f"--sandbox-url={asset.url}",
                "--leader-elect",
                f"--lease-name={team}",
            )
            process = OperatorProcess(audited_controlplane.kubeconfig, tmp_path / team, arguments, {"POD_ID": team})
            return stack.enter_context(process)

        yield start


def put(shop: Shop, name: str, team: str, secret: str | None = None) -> None:
    manifest = shop.manifest(name, secret=None if secret is None else {"name": secret})
    manifest["metadata"]["labels"] = {"team": team}
    shop.apply(manifest)


def test_each_installation_serves_its_own_and_both_lead(
    shop: Shop, asset: AssetApi, installation: Callable[[str], OperatorProcess]
) -> None:
    for team in ("ledger", "invoices"):
        installation(team)
        put(shop, f"{team}-writer", team)
    put(shop, "nobodys", "none")

    for team in ("ledger", "invoices"):
        shop.wait_until_ready(f"{team}-writer")
        lease = shop.cluster.api.get(f"{LEASES.format(shop.namespace)}/{team}")
        assert lease["spec"]["holderIdentity"].startswith(team)

    assert shop.token("nobodys")["status"] == {"observedGeneration": -1}
    assert len(asset.requests) == 2


def test_one_that_is_given_to_another_installation_keeps_its_secret_and_costs_no_request(
    shop: Shop, asset: AssetApi, installation: Callable[[str], OperatorProcess], audited_controlplane: ControlPlane
) -> None:
    """Once both know its metadata, each tells by a further AssetToken that it has come so far."""
    installation("ledger")
    installation("invoices")
    put(shop, "writer", "ledger")
    shop.wait_until_ready("writer")
    before = shop.secret("writer")

    put(shop, "writer", "none")
    put(shop, "further", "ledger")
    shop.wait_until_ready("further")
    shop.kubectl("annotate", "astok/writer", "auth.getasset.com/renew-requested-at=1")
    put(shop, "another", "ledger")
    shop.wait_until_ready("another")
    assert len(asset.requests) == 3
    assert shop.secret("writer") == before

    put(shop, "writer", "invoices")
    shop.wait_for_revision("writer", 2)
    assert len(asset.requests) == 4

    put(shop, "writer", "ledger")
    shop.kubectl("delete", "secret/writer")
    wait_until(lambda: shop.secret("writer"), 15, "the first installation repairs it")


def test_two_installations_do_not_fight_for_a_secret_that_both_are_asked_for(
    shop: Shop, asset: AssetApi, installation: Callable[[str], OperatorProcess]
) -> None:
    """Neither sees the other's AssetToken, so who has written it first keeps it, and not the older."""
    installation("invoices")
    put(shop, "older", "ledger", "token")
    put(shop, "younger", "invoices", "token")
    shop.wait_until_ready("younger")
    before = shop.secret("token")

    installation("ledger")
    shop.wait_for_condition("older", "Ready", "False", "SecretConflict")

    assert shop.secret("token") == before
    assert len(asset.requests) == 1
