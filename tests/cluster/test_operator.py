"""The operator as a process on a real API server: what a user applies, and what is then in the cluster."""

import time

import pytest

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import UNAVAILABLE_503, Behaviour
from tests.support.cluster import wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_SECRET, Shop

RENEW_SOON = {"lifetime": "60s", "renewBefore": "57s"}


def test_from_apply_through_renewal_and_kill_to_deletion(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer", **RENEW_SOON, secret={"name": "ledger-writer-token"})
    first = shop.wait_until_ready("ledger-writer")["status"]
    data = shop.data("ledger-writer-token")
    assert asset.accepts(data["access_token"], scope="ledger:read")
    assert data == {
        "access_token": data["access_token"],
        "token_type": "Bearer",
        "authorization": f"Bearer {data['access_token']}",
        "expires_at": first["expirationTime"],
        "base_url": asset.url,
        "environment": "sandbox",
    }

    shop.wait_for_revision("ledger-writer", 2)
    renewed = shop.data("ledger-writer-token")["access_token"]
    assert renewed != data["access_token"]
    assert asset.accepts(renewed)

    operator.kill()
    known = len(asset.requests)
    operator.start()
    last = shop.wait_for_revision("ledger-writer", known + 1)["status"]
    assert [entry["reason"] for entry in last["history"]] == ["FirstToken"] + ["Renewing"] * known

    shop.kubectl("delete", "assettoken/ledger-writer", "--timeout=10s")
    wait_until(lambda: shop.secret("ledger-writer-token") is None, 15, "the Secret is collected")
    assert asset.violations == []


def test_ends_with_exit_code_0_at_sigterm(shop: Shop, operator: OperatorProcess) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    assert operator.terminate() == 0


def test_leaves_no_finalizer_and_no_annotation_on_users_objects(shop: Shop, operator: OperatorProcess) -> None:
    shop.put("ledger-writer")
    metadata = shop.wait_until_ready("ledger-writer")["metadata"]
    assert "finalizers" not in metadata
    assert list(metadata["annotations"]) == ["kubectl.kubernetes.io/last-applied-configuration"]
    managers = {(entry["manager"], entry.get("subresource")) for entry in metadata["managedFields"]}
    assert managers == {("kubectl-client-side-apply", None), ("asset-token-operator", "status")}


def test_deleting_returns_at_once_with_the_operator_down(shop: Shop, operator: OperatorProcess) -> None:
    for number in range(5):
        shop.put(f"token-{number}")
    for number in range(5):
        shop.wait_until_ready(f"token-{number}")
    operator.kill()
    shop.kubectl("delete", "astok", "--all", "--timeout=5s")
    assert shop.tokens() == []
    wait_until(lambda: all(shop.secret(f"token-{number}") is None for number in range(5)), 15, "the Secrets go")


def test_a_request_has_what_the_spec_asks(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    resources = ["https://api.sandbox.getasset.com/mcp"]
    shop.put(
        "ledger-writer",
        businessId="biz_GA6EG2qFxA97NZHtxeLPUy",
        scopes=["ledger:read", "ledger:create"],
        resources=resources,
        lifetime="30m",
    )
    status = shop.wait_until_ready("ledger-writer")["status"]
    (request,) = asset.requests
    assert request.business_id == "biz_GA6EG2qFxA97NZHtxeLPUy"
    assert set(str(request.scope).split()) == {"ledger:read", "ledger:create"}
    assert request.resources == tuple(resources)
    assert request.expires_in == 1800
    assert status["grantedScopes"] == ["ledger:create", "ledger:read"]
    assert status["binding"] == {"name": "ledger-writer"}
    assert status["tokenId"] == request.jti


def test_renews_on_request_once_for_each_new_value(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    for value, revision in (("1", 2), ("1", 2), ("2", 3)):
        shop.kubectl("annotate", "astok/ledger-writer", f"auth.getasset.com/renew-requested-at={value}", "--overwrite")
        shop.kubectl("label", "astok/ledger-writer", f"seen=v{value}", "--overwrite")
        status = shop.wait_for_revision("ledger-writer", revision)["status"]
        assert status["lastHandledRenewRequest"] == value
    _prove_idle(shop)
    assert len(asset.requests) == 3 + 1


def test_nothing_is_requested_while_suspended_and_a_renew_request_is_served_after(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.patch("ledger-writer", {"suspend": True})
    shop.wait_for_condition("ledger-writer", "Issuing", "False", "Suspended")
    shop.kubectl("annotate", "astok/ledger-writer", "auth.getasset.com/renew-requested-at=now")
    _prove_idle(shop)
    assert len(asset.requests) == 1 + 1
    shop.patch("ledger-writer", {"suspend": False})
    assert shop.wait_for_revision("ledger-writer", 2)["status"]["lastHandledRenewRequest"] == "now"


def test_a_changed_spec_gets_a_new_token(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.put("ledger-writer", scopes=["invoice:create"])
    shop.wait_for_revision("ledger-writer", 2)
    assert asset.accepts(shop.data("ledger-writer")["access_token"], scope="invoice:create")


def test_what_changes_only_the_secret_costs_no_request(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("ledger-writer", secret={"labels": {"team": "ledger"}, "annotations": {"example.com/a": "1"}})
    shop.wait_until_ready("ledger-writer")
    token = shop.data("ledger-writer")["access_token"]
    shop.put("ledger-writer", secret={"labels": {"tier": "web"}}, renewBefore="10m")
    wait_until(lambda: (shop.secret("ledger-writer") or {})["metadata"]["labels"].get("tier"), 15, "the label comes")
    metadata = (shop.secret("ledger-writer") or {})["metadata"]
    assert metadata["labels"] == {"tier": "web", "app.kubernetes.io/managed-by": "asset-token-operator"}
    assert "example.com/a" not in metadata["annotations"]
    assert shop.data("ledger-writer")["access_token"] == token
    assert len(asset.requests) == 1


@pytest.mark.parametrize("policy", [pytest.param("Delete", id="delete"), pytest.param("Retain", id="retain")])
def test_a_renamed_secret_gets_the_same_token(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, policy: str
) -> None:
    shop.put("ledger-writer", secret={"name": "old-name", "deletionPolicy": policy})
    shop.wait_until_ready("ledger-writer")
    token = shop.data("old-name")["access_token"]
    operator.kill()
    shop.put("ledger-writer", secret={"name": "new-name", "deletionPolicy": policy})
    operator.start()
    wait_until(lambda: shop.data("new-name").get("access_token") == token, 15, "the token moves")
    if policy == "Delete":
        wait_until(lambda: shop.secret("old-name") is None, 15, "the old Secret goes")
    _prove_idle(shop)
    assert (shop.secret("old-name") is not None) == (policy == "Retain")
    assert len(asset.requests) == 1 + 1


def test_a_retained_secret_outlives_its_asset_token_and_is_taken_up_again(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer", secret={"deletionPolicy": "Retain"})
    shop.wait_until_ready("ledger-writer")
    token = shop.data("ledger-writer")["access_token"]
    shop.kubectl("delete", "astok/ledger-writer")
    _prove_idle(shop)
    assert shop.data("ledger-writer")["access_token"] == token
    shop.put("ledger-writer", secret={"deletionPolicy": "Delete"})
    shop.wait_until_ready("ledger-writer")
    assert shop.data("ledger-writer")["access_token"] != token, "it was another AssetToken's"
    assert len(asset.requests) == 1 + 2
    shop.kubectl("delete", "astok/ledger-writer")
    wait_until(lambda: shop.secret("ledger-writer") is None, 15, "the Secret is collected")


def test_a_deleted_and_recreated_asset_token_is_served(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.kubectl("delete", "astok/ledger-writer")
    shop.put("ledger-writer")
    token = shop.wait_until_ready("ledger-writer", timeout=30)
    owner = (shop.secret("ledger-writer") or {})["metadata"]["ownerReferences"][0]
    assert owner["uid"] == token["metadata"]["uid"]
    assert "blockOwnerDeletion" not in owner


FOREIGN = {
    "opaque": {"type": "Opaque", "stringData": {"access_token": "somebody's"}},
    "our-type": {"type": "auth.getasset.com/token", "stringData": {"access_token": "somebody's"}},
    "our-type-and-label": {
        "type": "auth.getasset.com/token",
        "metadata": {"labels": {"app.kubernetes.io/managed-by": "asset-token-operator"}},
        "stringData": {"access_token": "somebody's"},
    },
    "of-another-asset-token": {
        "type": "auth.getasset.com/token",
        "metadata": {
            "labels": {"app.kubernetes.io/managed-by": "asset-token-operator"},
            "annotations": {"auth.getasset.com/owner": "another"},
        },
        "stringData": {"access_token": "somebody's"},
    },
}


@pytest.mark.parametrize("foreign", [pytest.param(value, id=name) for name, value in FOREIGN.items()])
def test_a_foreign_secret_is_left_alone_until_it_is_gone(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, foreign: dict[str, object]
) -> None:
    metadata = {"name": "ledger-writer"} | dict(foreign.get("metadata", {}))  # type: ignore[call-overload]
    shop.apply({"apiVersion": "v1", "kind": "Secret"} | foreign | {"metadata": metadata})
    before = shop.secret("ledger-writer")
    shop.put("ledger-writer")
    condition = shop.wait_for_condition("ledger-writer", "Ready", "False", "SecretConflict")
    assert "delete it or set another spec.secret.name" in condition["message"]
    assert shop.condition("ledger-writer", "Stalled")["status"] == "True"
    assert shop.wait_for_event("SecretConflict")["type"] == "Warning"
    assert shop.secret("ledger-writer") == before
    assert asset.requests == []
    shop.kubectl("delete", "secret/ledger-writer")
    shop.wait_until_ready("ledger-writer", timeout=30)
    assert shop.condition("ledger-writer", "Stalled") == {}


def test_of_two_that_name_one_secret_the_older_wins(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("older", secret={"name": "shared"})
    shop.wait_until_ready("older")
    token = shop.data("shared")["access_token"]
    shop.put("younger", secret={"name": "shared"})
    condition = shop.wait_for_condition("younger", "Ready", "False", "SecretConflict")
    assert "AssetToken older" in condition["message"]
    assert shop.data("shared")["access_token"] == token
    assert len(asset.requests) == 1
    shop.kubectl("delete", "astok/older")
    shop.wait_until_ready("younger", timeout=30)
    assert shop.data("shared")["access_token"] != token


def test_a_deleted_or_altered_secret_is_put_right(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    data = shop.data("ledger-writer")
    shop.kubectl("patch", "secret/ledger-writer", "--type=merge", '--patch={"data":{"authorization":"aGk="}}')
    wait_until(lambda: shop.data("ledger-writer") == data, 15, "the key is put right")
    shop.kubectl("label", "secret/ledger-writer", "app.kubernetes.io/managed-by-")
    wait_until(lambda: "labels" in (shop.secret("ledger-writer") or {})["metadata"], 15, "the label is put back")
    shop.kubectl("delete", "secret/ledger-writer")
    wait_until(lambda: shop.data("ledger-writer") == data, 15, "the Secret is put back")
    assert len(asset.requests) == 1


def test_reapplying_the_same_credentials_requests_nothing(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.put_credentials(CLIENT_SECRET)
    shop.kubectl("label", "secret/asset-credentials", "team=ledger")
    _prove_idle(shop)
    assert len(asset.requests) == 1 + 1


@pytest.mark.parametrize(
    ("data", "reason", "said"),
    [
        pytest.param(None, "CredentialsNotFound", "asset-credentials does not exist", id="no-secret"),
        pytest.param(
            {"client_id": "a"},
            "CredentialsInvalid",
            "Key client_secret of credentials Secret asset-credentials is missing",
            id="no-key",
        ),
        pytest.param({"client_id": "", "client_secret": "b"}, "CredentialsInvalid", "client_id", id="empty-key"),
    ],
)
def test_unusable_credentials_are_said_by_name(
    shop: Shop, operator: OperatorProcess, data: dict[str, str] | None, reason: str, said: str
) -> None:
    shop.kubectl("delete", "secret/asset-credentials")
    if data is not None:
        shop.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "asset-credentials"}, "stringData": data}
        )
    shop.put("ledger-writer")
    assert said in shop.wait_for_condition("ledger-writer", "Issuing", "True", reason)["message"]
    assert shop.condition("ledger-writer", "Stalled")["reason"] == reason
    assert shop.wait_for_event(reason)["regarding"]["name"] == "ledger-writer"
    shop.put_credentials()
    shop.wait_until_ready("ledger-writer", timeout=60)
    shop.wait_for_event("Issued")


def test_a_failing_renewal_keeps_ready_and_the_token_until_it_expires(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer", **RENEW_SOON)
    shop.wait_until_ready("ledger-writer")
    asset.behave(Behaviour(failure=UNAVAILABLE_503))
    shop.wait_for_condition("ledger-writer", "Issuing", "True", "AssetUnavailable")
    held = shop.data("ledger-writer")["access_token"]
    assert asset.accepts(held)
    assert shop.condition("ledger-writer", "Ready")["status"] == "True"
    assert shop.token("ledger-writer")["status"]["failedAttempts"] >= 1
    asset.behave_normally()
    wait_until(lambda: shop.data("ledger-writer")["access_token"] != held, 30, "it is renewed")
    shop.wait_for_condition("ledger-writer", "Issuing", "False", "SecretSynced")
    shop.wait_for_event("Recovered")
    assert "failedAttempts" not in shop.token("ledger-writer")["status"]


def test_no_token_and_no_client_secret_is_ever_shown(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    shop.put_credentials("canary-client-secret-of-another")
    shop.put("ledger-writer", **RENEW_SOON)
    shop.wait_for_condition("ledger-writer", "Issuing", "True", "InvalidClient")
    shop.put_credentials()
    shop.wait_until_ready("ledger-writer")
    shop.wait_for_revision("ledger-writer", 2)
    shop.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taken"}, "stringData": {"a": "b"}})
    shop.put("blocked", secret={"name": "taken"})
    shop.wait_for_condition("blocked", "Ready", "False", "SecretConflict")
    shop.kubectl("delete", "secret/asset-credentials")
    shop.put("without-credentials")
    shop.wait_for_condition("without-credentials", "Issuing", "True", "CredentialsNotFound")
    assert operator.terminate() == 0
    shown = operator.output() + shop.kubectl("get", "astok,events.v1.events.k8s.io", "--output=yaml")
    shown += shop.kubectl("get", "secrets", "--output=jsonpath={.items[*].metadata}")
    secrets = [CLIENT_SECRET, *(request.token for request in asset.requests if request.token)]
    assert len(secrets) > 2
    for secret in secrets:
        signature = secret.rsplit(".", 1)[-1]
        assert signature not in shown


def _prove_idle(shop: Shop) -> None:
    """All that happened before is dealt with once an AssetToken that was created after it is ready."""
    name = f"probe-{time.monotonic_ns()}"
    shop.put(name)
    shop.wait_until_ready(name)
