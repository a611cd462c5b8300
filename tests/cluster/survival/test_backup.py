"""etcd is restored from a backup while the operator runs: what it knows is of a future that never came."""

from collections.abc import Callable

from tests.support.asset_api import AssetApi
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop


def test_it_goes_on_after_a_backup_was_restored(
    shop: Shop, asset: AssetApi, stoppable: ControlPlane, operator_for: Callable[..., OperatorProcess]
) -> None:
    operator = operator_for(shop, "--log-format=json")
    shop.put("earlier")
    shop.put("touched")
    for name in ("earlier", "touched"):
        shop.wait_until_ready(name)
    backup = stoppable.back_up()
    shop.put("later")
    shop.wait_until_ready("later")
    shop.put("touched", lifetime="2h")
    shop.wait_for_revision("touched", 2)
    for number in range(60):
        shop.put_secret("busy", {"number": str(number)})
    stoppable.restore(backup)

    wait_until(lambda: "versions have gone back" in operator.output(), 30, "it is noticed")
    shop.put("new")
    shop.wait_until_ready("new", 20)
    requests = len(asset.requests)
    path = shop.path("assettokens/earlier")
    shop.cluster.api.patch(path, {"metadata": {"annotations": {"auth.getasset.com/renew-requested-at": "1"}}})
    shop.wait_for_revision("earlier", 2)
    assert len(asset.requests) == requests + 1
    shop.cluster.api.delete(shop.path("secrets/earlier").replace("/apis/auth.getasset.com/v1alpha1", "/api/v1"))
    wait_until(lambda: shop.secret("earlier"), 10, "drift is seen")
    wait_until(lambda: shop.secret("later") is None, 90, "the garbage collector has come for what has no owner")
    complaints = [line for line in operator.complaints() if "409" in line]
    assert len(complaints) <= 3
