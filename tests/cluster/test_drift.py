"""Whatever somebody does to a Secret by hand: it is put right, and a token is requested only where it was lost."""

import base64
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from tests.support.asset_api import AssetApi
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CREDENTIALS, Shop

PREFIX = "auth.getasset.com"
OURS = (
    "owner",
    "environment",
    "issuance-time",
    "issuance-reason",
    "expiration-time",
    "granted-scopes",
    "audience",
    "token-id",
    "token-fingerprint",
    "credentials-fingerprint",
    "spec-hash",
    "revision",
)
OTHER_VALUES = {
    "environment": "production",
    "issuance-time": "2020-01-01T00:00:00Z",
    "expiration-time": "2099-01-01T00:00:00Z",
    "revision": "7",
}
KEYS = ("access_token", "token_type", "authorization", "expires_at", "base_url", "environment")
OTHER = base64.b64encode(b"another").decode()
MANAGED_BY = "app.kubernetes.io/managed-by"


def _annotation(name: str, value: str | None) -> Json:
    return {"metadata": {"annotations": {f"{PREFIX}/{name}": value}}}


DAMAGES: dict[str, Json] = {
    **{f"{key}-changed".replace("_", "-"): {"data": {key: OTHER}} for key in KEYS},
    **{f"{key}-removed".replace("_", "-"): {"data": {key: None}} for key in KEYS},
    **{f"annotation-{name}-changed": _annotation(name, OTHER_VALUES.get(name, "another")) for name in OURS},
    **{f"annotation-{name}-removed": _annotation(name, None) for name in OURS},
    "label-changed": {"metadata": {"labels": {MANAGED_BY: "another"}}},
    "label-removed": {"metadata": {"labels": {MANAGED_BY: None}}},
    "label-of-the-spec-removed": {"metadata": {"labels": {"team": None}}},
    "annotations-removed": {"metadata": {"annotations": None}},
    "owner-reference-removed": {"metadata": {"ownerReferences": None}},
    "data-removed": {"data": None},
}
"""What is done to a Secret, as a merge patch. Each is done to the Secret of an AssetToken of that name."""

MAY_COST_A_REQUEST = {
    "access-token-changed",
    "access-token-removed",
    "annotation-token-fingerprint-changed",
    "annotation-token-fingerprint-removed",
    "annotations-removed",
    "data-removed",
}
"""With the operator down: what a token is known by is lost."""

UNKNOWABLE = {
    f"annotation-{name}-{how}" for name in ("spec-hash", "credentials-fingerprint") for how in ("changed", "removed")
}
"""With the operator down: what the token was requested with can't be told any more."""


SAID = (
    *("environment", "issuance-time", "issuance-reason", "expiration-time"),
    *("token-id", "granted-scopes", "audience"),
)
CHANGED = {f"annotation-{name}-changed" for name in SAID if name != "issuance-reason"}
"""The token itself, or the AssetToken, says it better than an annotation that was changed."""

REMOVED = {f"annotation-{name}-removed" for name in (*SAID, "revision")}
"""The token is still known by its fingerprint."""

OTHERS = {f"annotation-{name}-changed" for name in ("issuance-reason", "revision")}
"""With the operator down: nobody can tell, and nothing depends on it."""


def test_every_damage_is_repaired_at_once_and_costs_no_request(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    before = _serve_all(shop, DAMAGES)
    for name, damage in DAMAGES.items():
        shop.edit_secret(name, damage)
    wait_until(lambda: not _damaged(shop, before), 15, f"all are as before; not so are {_damaged(shop, before)}")
    shop.wait_until_served("probe")
    assert len(asset.requests) == len(DAMAGES) + 1


def test_damage_that_was_done_while_the_operator_was_down_costs_a_request_only_where_the_token_is_lost(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    apart = MAY_COST_A_REQUEST | UNKNOWABLE | CHANGED | REMOVED | OTHERS
    before = _serve_all(shop, DAMAGES)
    operator.kill()
    for name, damage in DAMAGES.items():
        shop.edit_secret(name, damage)
    operator.start()
    shop.wait_until_served("probe", 60)
    kept = {name: secret for name, secret in before.items() if name not in apart}
    wait_until(lambda: not _damaged(shop, kept), 15, f"all are as before; not so are {_damaged(shop, kept)}")
    wait_until(lambda: all("access_token" in shop.data(name) for name in DAMAGES), 15, "all have a token again")
    renewed = {name for name in DAMAGES if shop.data(name)["access_token"] != _token(before[name])}
    assert renewed <= apart
    assert len(asset.requests) == len(DAMAGES) + len(renewed) + 1


def test_what_others_add_is_left_alone(
    audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    since = datetime.now(UTC)
    change = {"labels": {"example.com/theirs": "1"}, "annotations": {"example.com/theirs": "1"}}
    shop.edit_secret("ledger-writer", {"metadata": change, "data": {"theirs": OTHER}})
    shop.wait_until_served("probe")
    secret = shop.secret("ledger-writer") or {}
    assert secret["data"]["theirs"] == OTHER
    assert secret["metadata"]["labels"]["example.com/theirs"] == "1"
    assert secret["metadata"]["annotations"]["example.com/theirs"] == "1"
    assert _writes(audited_controlplane, shop, "ledger-writer", since) == 0


@pytest.mark.parametrize("running", [pytest.param(True, id="running"), pytest.param(False, id="down")])
def test_a_deleted_secret_is_put_back(shop: Shop, asset: AssetApi, operator: OperatorProcess, *, running: bool) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    data = shop.data("ledger-writer")
    if not running:
        operator.kill()
    shop.kubectl("delete", "secret/ledger-writer")
    if not running:
        operator.start()
    wait_until(lambda: shop.data("ledger-writer"), 15, "it is back")
    shop.wait_until_served("probe")
    assert (shop.data("ledger-writer") == data) == running
    assert len(asset.requests) == (1 if running else 2) + 1


def test_a_secret_that_was_made_immutable_is_said_in_words_and_waits_to_be_deleted(
    audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.edit_secret("ledger-writer", {"immutable": True})
    since = datetime.now(UTC)
    shop.kubectl("annotate", "astok/ledger-writer", f"{PREFIX}/renew-requested-at=1")
    condition = shop.wait_for_condition("ledger-writer", "Issuing", "True", "ClusterRefused")
    wait_until(lambda: datetime.now(UTC).timestamp() > since.timestamp() + 10, 15, "ten seconds are measured")
    assert _writes(audited_controlplane, shop, "ledger-writer", since) <= 5
    shop.kubectl("delete", "secret/ledger-writer")
    wait_until(lambda: shop.data("ledger-writer"), 5, "it is written anew, without waiting for the back-off")
    shop.wait_for_revision("ledger-writer", 2)
    shop.wait_until_ready("ledger-writer")
    shop.wait_until_served("probe")
    assert len(asset.requests) == 2 + 1
    assert "immutable" in condition["message"]


def test_a_war_over_a_label_has_bounded_writes_and_one_event(
    audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    since = datetime.now(UTC)
    with _war(shop, "ledger-writer"):
        shop.wait_for_event("DriftRepeats")
        wait_until(lambda: datetime.now(UTC).timestamp() > since.timestamp() + 14, 20, "its first seconds are measured")
        assert 5 <= _writes(audited_controlplane, shop, "ledger-writer", since) <= 7
    wait_until(lambda: _label(shop, "ledger-writer") is not None, 30, "it is put right when nobody objects")
    shop.wait_until_served("probe")
    assert len(shop.events("DriftRepeats")) == 1
    assert len(asset.requests) == 1 + 1


def test_a_secret_restored_from_a_backup_while_the_operator_was_down_is_taken_up_again(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    backup = _backup(shop, "ledger-writer")
    operator.kill()
    shop.kubectl("delete", "secret/ledger-writer")
    shop.cluster.api.create(shop.path("secrets"), backup)
    operator.start()
    wait_until(lambda: _owners(shop, "ledger-writer") == ["ledger-writer"], 15, "it is owned again")
    shop.wait_until_served("probe")
    assert (shop.secret("ledger-writer") or {})["data"] == backup["data"]
    assert len(asset.requests) == 1 + 1


def test_a_backup_with_an_earlier_token_is_replaced_by_the_present_one(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    backup = _backup(shop, "ledger-writer")
    shop.kubectl("annotate", "astok/ledger-writer", f"{PREFIX}/renew-requested-at=1")
    shop.wait_for_revision("ledger-writer", 2)
    data = shop.data("ledger-writer")
    shop.cluster.api.replace(shop.path("secrets/ledger-writer"), backup)
    wait_until(lambda: shop.data("ledger-writer") == data, 15, "the present token is back")
    wait_until(lambda: _owners(shop, "ledger-writer") == ["ledger-writer"], 15, "it is owned again")
    shop.wait_until_served("probe")
    assert len(asset.requests) == 2 + 1


@pytest.mark.parametrize("policy", [pytest.param("Delete", id="delete"), pytest.param("Retain", id="retain")])
@pytest.mark.parametrize("running", [pytest.param(True, id="running"), pytest.param(False, id="down")])
def test_the_older_one_wins_a_secret_that_the_younger_one_had(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, *, policy: str, running: bool
) -> None:
    older, younger = "z-older", "a-younger"
    shop.put(older, secret={"name": "own", "deletionPolicy": policy})
    shop.wait_until_ready(older)
    _wait_for_the_next_second(shop, older)
    shop.put(younger, secret={"name": "shared", "deletionPolicy": policy})
    shop.wait_until_ready(younger)
    tokens = {shop.data(name)["access_token"] for name in ("own", "shared")}
    if not running:
        operator.kill()
    shop.put(older, secret={"name": "shared", "deletionPolicy": policy})
    if not running:
        operator.start()
    wait_until(lambda: _said_owner(shop, "shared") == older, 20, "it is the older one's")
    shop.wait_for_condition(younger, "Ready", "False", "SecretConflict")
    shop.wait_until_ready(older)
    shop.wait_until_served("probe")
    token = shop.data("shared")["access_token"]
    assert token in tokens
    assert len(asset.requests) == 2 + 1
    shop.kubectl("delete", f"astok/{younger}")
    shop.wait_until_served("probe-2")
    assert shop.data("shared")["access_token"] == token


def test_of_two_that_were_created_with_the_operator_down_the_older_wins(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    operator.kill()
    shop.put("z-older", secret={"name": "shared"})
    _wait_for_the_next_second(shop, "z-older")
    shop.put("a-younger", secret={"name": "shared"})
    operator.start()
    shop.wait_for_condition("a-younger", "Ready", "False", "SecretConflict")
    shop.wait_until_ready("z-older")
    assert len(asset.requests) == 1
    assert _owners(shop, "shared") == ["z-older"]


def test_namesakes_in_two_namespaces_have_a_secret_each(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess]
) -> None:
    elsewhere = Shop(shop.cluster, shop.cluster.create_namespace(), asset)
    operator_for(shop, f"--namespace={elsewhere.namespace}")
    shop.serve_too(elsewhere.namespace)
    elsewhere.put_credentials()
    for one in (shop, elsewhere):
        one.put("ledger-writer")
    for one in (shop, elsewhere):
        one.wait_until_ready("ledger-writer", 30)
    token = elsewhere.data("ledger-writer")["access_token"]
    assert token != shop.data("ledger-writer")["access_token"]
    shop.kubectl("delete", "astok/ledger-writer")
    wait_until(lambda: shop.secret("ledger-writer") is None, 15, "its Secret goes")
    elsewhere.wait_until_served("probe")
    assert elsewhere.data("ledger-writer")["access_token"] == token
    assert len(asset.requests) == 2 + 1
    shop.cluster.delete_namespace(elsewhere.namespace)


def _backup(shop: Shop, name: str) -> Json:
    """Serve an AssetToken, and give its Secret as a backup program keeps it."""
    shop.put(name)
    shop.wait_until_ready(name)
    found = shop.secret(name) or {}
    kept = ("name", "namespace", "labels", "annotations")
    return found | {"metadata": {field: found["metadata"][field] for field in kept}}


def _serve_all(shop: Shop, names: Collection[str]) -> dict[str, Json]:
    """Serve AssetTokens of these names; their Secrets."""
    spec = {"secret": {"labels": {"team": "ledger"}}, "resources": ["https://api.sandbox.getasset.com/mcp"]}
    shop.apply(*(shop.manifest(name, **spec) for name in names))
    for name in names:
        shop.wait_until_ready(name, 60)
    return _secrets(shop)


def _secrets(shop: Shop) -> dict[str, Json]:
    found = shop.cluster.api.get(shop.path("secrets"))["items"]
    return {secret["metadata"]["name"]: secret for secret in found if secret["metadata"]["name"] != CREDENTIALS}


def _content(secret: Json) -> tuple[object, ...]:
    metadata = secret["metadata"]
    return (
        secret.get("data"),
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("ownerReferences"),
    )


def _damaged(shop: Shop, before: dict[str, Json]) -> list[str]:
    now = _secrets(shop)
    return [name for name, secret in before.items() if _content(now[name]) != _content(secret)]


def _token(secret: Json) -> str:
    return base64.b64decode(secret["data"]["access_token"]).decode()


def _label(shop: Shop, name: str) -> str | None:
    labels: dict[str, str] = (shop.secret(name) or {})["metadata"].get("labels", {})
    return labels.get(MANAGED_BY)


def _said_owner(shop: Shop, name: str) -> str | None:
    annotations: dict[str, str] = (shop.secret(name) or {})["metadata"]["annotations"]
    return annotations.get(f"{PREFIX}/owner")


def _owners(shop: Shop, name: str) -> list[str]:
    metadata = (shop.secret(name) or {"metadata": {}})["metadata"]
    return [owner["name"] for owner in metadata.get("ownerReferences", [])]


def _wait_for_the_next_second(shop: Shop, name: str) -> None:
    """Creation times are in whole seconds."""
    created = datetime.fromisoformat(shop.token(name)["metadata"]["creationTimestamp"])
    wait_until(lambda: time.time() >= created.timestamp() + 1.1, 5, "the next second")


@contextmanager
def _war(shop: Shop, name: str) -> Iterator[None]:
    """Something takes the label away whenever it is there."""
    over = threading.Event()

    def fight() -> None:
        while not over.is_set():
            if _label(shop, name) is not None:
                shop.edit_secret(name, {"metadata": {"labels": {MANAGED_BY: None}}})

    enemy = threading.Thread(target=fight)
    enemy.start()
    try:
        yield
    finally:
        over.set()
        enemy.join()


def _writes(controlplane: ControlPlane, shop: Shop, name: str, since: datetime) -> int:
    """How often the operator has tried to write that Secret."""
    user = f"system:serviceaccount:{shop.namespace}:operator"
    return sum(
        (event.user, event.resource, event.name) == (user, "secrets", name) and event.verb in ("create", "patch")
        for event in controlplane.audit(namespace=shop.namespace, since=since)
    )
