"""What stands before a write in the API server: webhooks that are slow, and whatever refuses it."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asset_token_operator.model import SECRET_TYPE
from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import Behaviour
from tests.support.cluster import Json, KubectlError, wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop
from tests.support.webhook import Webhook

LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/asset-token-operator"


def lease(shop: Shop) -> Json:
    spec: Json = (shop.cluster.api.find(LEASES.format(shop.namespace)) or {}).get("spec", {})
    return spec


def test_a_write_is_made_that_the_api_server_needs_20_s_for(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    """Two webhooks hang, and the API server ignores each after 10 s."""
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=("a.example.com", "b.example.com"), seconds=600):
        began = time.monotonic()
        shop.put("ledger-writer")
        shop.wait_until_ready("ledger-writer", 32)

    assert time.monotonic() - began >= 20
    assert len(asset.requests) == 1
    assert "not written" not in operator.output()


def test_a_webhook_that_hangs_in_one_namespace_holds_up_no_other(
    shop: Shop, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    other = Shop(shop.cluster, shop.cluster.create_namespace(), shop.asset)
    other.put_credentials()
    operator_for(shop, f"--namespace={other.namespace}")
    shop.serve_too(other.namespace)
    with Webhook(shop.cluster, shop.namespace, tmp_path, seconds=600, timeout=20) as webhook:
        for number in range(120):
            shop.create(f"a{number}")
        wait_until(lambda: webhook.asked >= 50, 20, "as many hang as there are places")
        other.put("ledger-writer")
        other.wait_until_ready("ledger-writer", 6)


def test_what_is_in_flight_at_sigterm_is_written_however_long_that_takes(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    """A request that takes its time, and then a webhook that does: the Lease is kept until then."""
    operator = operator_for(shop, "--leader-elect")
    wait_until(lambda: lease(shop).get("holderIdentity"), 15, "it leads")
    asset.behave(Behaviour(latency=8))
    with Webhook(shop.cluster, shop.namespace, tmp_path, seconds=600, timeout=18):
        shop.put("ledger-writer")
        wait_until(lambda: asset.arrived, 15, "the request has arrived")
        operator.ask_to_end()
        time.sleep(20)  # longer than an operator once took at most: the Lease went then
        assert lease(shop)["holderIdentity"] != ""
        assert operator.terminate(within=30) == 0

    assert asset.accepts(shop.data("ledger-writer")["access_token"])
    assert shop.condition("ledger-writer", "Ready")["status"] == "True"
    assert len(asset.requests) == 1
    assert lease(shop)["holderIdentity"] == ""


def test_hundreds_of_slow_writes_cost_no_lease(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = operator_for(shop, "--leader-elect")
    wait_until(lambda: lease(shop).get("holderIdentity"), 15, "it leads")
    with Webhook(shop.cluster, shop.namespace, tmp_path, seconds=12, timeout=15) as webhook:
        for number in range(120):
            shop.create(f"a{number}")
        wait_until(lambda: webhook.asked >= 120, 60, "all have come round")
    wait_until(lambda: all(token["status"].get("revision") for token in shop.tokens()), 20, "all are issued")

    assert lease(shop)["leaseTransitions"] == 0
    assert len(asset.requests) == 120
    assert "does not lead any more" not in operator.output()


# Who refused it

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
AGAIN = "tried again by itself."
ADMITTED = f"let it admit what the operator writes; {AGAIN}"


def said_of(shop: Shop, asset: AssetApi, operator: OperatorProcess, status: str = "DeniedByPolicy") -> str:
    """What the condition says of a Secret that isn't written, which is no secret."""
    shop.put("ledger-writer")
    message: str = shop.wait_for_condition("ledger-writer", "Issuing", "True", status)["message"]
    assert asset.requests[0].token
    assert asset.requests[0].token not in message + operator.output()
    assert "canary" not in message + operator.output()
    return message


def _is_refused(shop: Shop, *arguments: str) -> bool:
    try:
        shop.kubectl(*arguments)
    except KubectlError:
        return True
    return False


def test_a_quota_that_is_used_up_is_named(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    quotas = f"/api/v1/namespaces/{shop.namespace}/resourcequotas"
    shop.wait_until_served("before")
    used = len(shop.cluster.api.get(f"/api/v1/namespaces/{shop.namespace}/secrets")["items"])
    body = {"metadata": {"name": "few-secrets"}, "spec": {"hard": {"count/secrets": str(used)}}}
    shop.cluster.api.create(quotas, body)
    wait_until(lambda: shop.cluster.api.get(f"{quotas}/few-secrets").get("status", {}).get("used"), 15, "it counts")

    message = said_of(shop, asset, operator)
    assert "ResourceQuota few-secrets is used up" in message
    assert "Role" not in message
    shop.cluster.api.delete(f"{quotas}/few-secrets")
    shop.wait_until_ready("ledger-writer", 40)


@pytest.mark.parametrize("reason", ["Invalid", "Forbidden"])
def test_a_policy_that_denies_is_named(shop: Shop, asset: AssetApi, operator: OperatorProcess, reason: str) -> None:
    name = f"no-tokens-{shop.namespace}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["secrets"]}
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": shop.namespace}}
    token = {"expression": "object.type != 'auth.getasset.com/token'", "reason": reason}
    token["messageExpression"] = "'canary' + string(object.data['access_token'])"
    spec = {"matchConstraints": {"namespaceSelector": namespace, "resourceRules": [rule]}, "validations": [token]}
    shop.cluster.api.create(f"{ADMISSION}/validatingadmissionpolicies", {"metadata": {"name": name}, "spec": spec})
    binding = {"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}}
    shop.cluster.api.create(f"{ADMISSION}/validatingadmissionpolicybindings", binding)
    try:
        probe = ("create", "secret", "generic", "probe", f"--type={SECRET_TYPE}", "--from-literal=access_token=x")
        wait_until(lambda: _is_refused(shop, *probe, "--dry-run=server"), 15, "the policy is in force")
        assert f"ValidatingAdmissionPolicy {name} denied it (binding {name}); let it admit" in said_of(
            shop, asset, operator
        )
    finally:
        shop.cluster.api.delete(f"{ADMISSION}/validatingadmissionpolicybindings/{name}")
        shop.cluster.api.delete(f"{ADMISSION}/validatingadmissionpolicies/{name}")


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 422, 429, 500])
def test_a_webhook_that_denies_is_named_whatever_it_says(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path, code: int
) -> None:
    """It chooses the status, and what it blames: that the Secret is foreign, or gone, or has changed."""
    causes = [{"field": "type", "message": "canary"}, {"field": "Y2FuYXJ5", "message": "canary"}]
    denial = {"code": code, "reason": "NotFound", "message": "canary", "details": {"causes": causes}}
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=("no.example.com",), denial=denial):
        message = said_of(shop, asset, operator)
    assert message.endswith(f"/secrets/ledger-writer: admission webhook no.example.com denied it; {ADMITTED}")
    assert "Y2FuYXJ5" not in operator.output()


def test_a_webhook_that_cannot_be_asked_is_named(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    names = ("silent.example.com",)
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=names, seconds=60, timeout=1, failure_policy="Fail"):
        message = said_of(shop, asset, operator, "ClusterUnavailable")
    assert message.endswith(
        f"the API server answered 500, as admission webhook silent.example.com can't be asked; {AGAIN}"
    )


def test_roles_that_do_not_allow_it_are_blamed(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.wait_until_served("before")
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{shop.namespace}/roles/operator"
    rules = shop.cluster.api.get(path)["rules"]
    weaker = [
        rule | {"verbs": [verb for verb in rule["verbs"] if verb != "patch" or rule["resources"] != ["secrets"]]}
        for rule in rules
    ]
    may_it = ("auth", "can-i", "patch", "secrets", f"--as=system:serviceaccount:{shop.namespace}:operator")
    assert not _is_refused(shop, *may_it)
    shop.cluster.api.patch(path, {"rules": weaker})
    wait_until(lambda: _is_refused(shop, *may_it), 15, "the Role is weaker")
    assert said_of(shop, asset, operator, "ClusterRefused").endswith(
        f"refused with 403 Forbidden; check the operator's Role there; {AGAIN}"
    )


# Forms of the same that nobody had named

STATUS = {"apiGroups": ["auth.getasset.com"], "apiVersions": ["v1alpha1"], "resources": ["assettokens/status"]}
LEASE_WRITES = {"apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "resources": ["leases"]}


def test_a_webhook_that_denies_at_length_is_named(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    denial = {"code": 403, "message": "canary" * 200_000}
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=("long.example.com",), denial=denial):
        message = said_of(shop, asset, operator)
    assert "/secrets/ledger-writer: admission webhook long.example.com denied it;" in message


def test_a_webhook_whose_server_is_gone_is_named(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    names = ("gone.example.com",)
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=names, failure_policy="Fail") as webhook:
        webhook.stop_answering()
        message = said_of(shop, asset, operator, "ClusterUnavailable")
    assert "admission webhook gone.example.com can't be asked" in message
    shop.wait_until_ready("ledger-writer", 20)
    assert len(asset.requests) == 1


def test_a_webhook_that_denies_the_status_costs_no_request_and_is_named_in_the_log(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path
) -> None:
    names, denial = ("status.example.com",), {"code": 403, "message": "canary"}
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=names, resources=STATUS, denial=denial) as webhook:
        shop.put("ledger-writer")
        wait_until(lambda: webhook.asked >= 3, 40, "it was tried again")
        assert asset.accepts(shop.data("ledger-writer")["access_token"])
    shop.wait_until_ready("ledger-writer", 40)

    assert "status: admission webhook status.example.com denied it" in operator.output()
    assert "canary" not in operator.output()
    assert len(asset.requests) == 1


def test_a_webhook_that_is_slow_with_leases_only_costs_no_lease(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], tmp_path: Path
) -> None:
    operator = operator_for(shop, "--leader-elect")
    wait_until(lambda: lease(shop).get("holderIdentity"), 15, "it leads")
    names = ("leases.example.com",)
    with Webhook(shop.cluster, shop.namespace, tmp_path, names=names, resources=LEASE_WRITES, seconds=6) as webhook:
        wait_until(lambda: webhook.asked >= 4, 60, "it was renewed some times")
        shop.wait_until_served("ledger-writer")

    assert lease(shop)["leaseTransitions"] == 0
    assert "does not lead any more" not in operator.output()


def patched(path: str, value: str) -> list[dict[str, str]]:
    return [{"op": "add", "path": path, "value": value}]


@pytest.mark.parametrize(
    ("path", "is_usable"),
    [
        pytest.param("/metadata/annotations/auth.getasset.com~1token-id", True, id="annotation"),
        pytest.param("/metadata/labels/app.kubernetes.io~1managed-by", True, id="label"),
        pytest.param("/data/base_url", True, id="another key"),
        pytest.param("/data/access_token", False, id="token"),
    ],
)
def test_a_webhook_that_changes_what_is_written_is_told_of_and_fought_with_reserve(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, tmp_path: Path, path: str, *, is_usable: bool
) -> None:
    value = "Y2FuYXJ5" if path.startswith("/data") else "another"
    with Webhook(
        shop.cluster, shop.namespace, tmp_path, names=("patch.example.com",), patch=patched(path, value)
    ) as webhook:
        shop.put("ledger-writer")
        shop.wait_for_event("DriftRepeats")
        ready = wait_until(lambda: shop.condition("ledger-writer", "Ready"), 15, "a status")
        assert (ready["status"] == "True") == is_usable
        assert webhook.asked <= 8
    wait_until(lambda: asset.accepts(shop.data("ledger-writer")["access_token"]), 60, "it is written as it shall be")
    shop.wait_until_ready("ledger-writer", 60)

    assert len(asset.requests) == 1
