"""Fixing the cause is enough, and what one token learns is not asked again for each of the others."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.asset_api import AssetApi
from tests.support.asset_behaviour import Behaviour
from tests.support.cluster import Cluster, Json, wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, CREDENTIALS, Shop

AT_ONCE = 10
"""Seconds; it takes under 5, and the machine may be slow."""

MEGABYTE = 1_000_000


@pytest.fixture
def other_namespace(controlplane: Cluster) -> Iterator[str]:
    name = controlplane.create_namespace()
    yield name
    controlplane.delete_namespace(name)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param({"client_id": CLIENT_ID, "client_secret": "wrong"}, "InvalidClient", id="wrong"),
        pytest.param({"client_id": CLIENT_ID}, "CredentialsInvalid", id="a-key-is-missing"),
        pytest.param(None, "CredentialsNotFound", id="missing"),
    ],
)
def test_corrected_credentials_bring_the_token_at_once(
    shop: Shop, operator: OperatorProcess, data: dict[str, str] | None, reason: str
) -> None:
    shop.kubectl("delete", f"secret/{CREDENTIALS}")
    if data is not None:
        shop.put_secret(CREDENTIALS, data)
    shop.put("ledger-writer")
    shop.wait_for_condition("ledger-writer", "Issuing", "True", reason)
    assert shop.condition("ledger-writer", "Stalled")["reason"] == reason
    shop.put_credentials()
    shop.wait_until_ready("ledger-writer", AT_ONCE)
    assert shop.condition("ledger-writer", "Stalled") == {}


def test_one_request_parks_all_tokens_of_credentials_that_are_not_accepted(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    names = [f"token-{number}" for number in range(20)]
    shop.put_credentials("wrong")
    shop.apply(*map(shop.manifest, names))
    for name in names:
        shop.wait_for_condition(name, "Issuing", "True", "InvalidClient")
    assert len(asset.requests) == 1
    shop.put_credentials()
    for name in names:
        shop.wait_until_ready(name, AT_ONCE)
    assert len(asset.requests) == 1 + len(names)


def test_a_scope_that_is_not_allowed_parks_its_own_token_only_until_the_spec_changes(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.put("too-much", scopes=["ledger:everything"])
    shop.wait_for_condition("too-much", "Issuing", "True", "InvalidScope")
    assert shop.condition("too-much", "Stalled")["reason"] == "InvalidScope"
    shop.wait_until_served("another")
    assert asset.count(scope="ledger:everything") == 1
    shop.put("too-much", scopes=["ledger:create"])
    shop.wait_until_ready("too-much", AT_ONCE)
    assert len(asset.requests) == 3


def test_a_foreign_secret_that_is_deleted_makes_room_at_once(shop: Shop, operator: OperatorProcess) -> None:
    shop.put_secret("ledger-writer", {"a": "b"})
    shop.put("ledger-writer")
    shop.wait_for_condition("ledger-writer", "Ready", "False", "SecretConflict")
    shop.kubectl("delete", "secret/ledger-writer")
    shop.wait_until_ready("ledger-writer", AT_ONCE)


def test_rotated_credentials_renew_each_of_their_tokens_once(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    names = [f"token-{number}" for number in range(5)]
    shop.apply(*map(shop.manifest, names))
    for name in names:
        shop.wait_until_ready(name)
    asset.register(CLIENT_ID, "another-client-secret")
    shop.put_credentials("another-client-secret")
    for name in names:
        shop.wait_for_revision(name, 2)
        annotations = (shop.secret(name) or {})["metadata"]["annotations"]
        assert annotations["auth.getasset.com/issuance-reason"] == "CredentialsChanged"
    shop.wait_until_served("probe")
    assert len(asset.requests) == 2 * len(names) + 1
    assert {request.status for request in asset.requests} == {200}


@pytest.mark.parametrize("restarted", [pytest.param(False, id="running"), pytest.param(True, id="restarted")])
def test_credentials_that_are_deleted_and_come_back_the_same_request_nothing(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, *, restarted: bool
) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    if restarted:
        operator.kill()
    shop.kubectl("delete", f"secret/{CREDENTIALS}")
    shop.put_secret(CREDENTIALS, {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "another_key": "c"})
    shop.kubectl("label", f"secret/{CREDENTIALS}", "team=ledger")
    shop.kubectl("annotate", f"secret/{CREDENTIALS}", "example.com/team=ledger")
    if restarted:
        operator.start()
    shop.wait_until_served("probe")
    assert len(asset.requests) == 1 + 1
    assert shop.token("ledger-writer")["status"]["revision"] == 1


def test_a_client_in_two_secrets_and_two_namespaces_has_one_budget(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], other_namespace: str
) -> None:
    operator = operator_for(shop, f"--namespace={other_namespace}")
    operator.kill()
    shop.serve_too(other_namespace)
    elsewhere = Shop(shop.cluster, other_namespace, asset)
    elsewhere.put_credentials()
    shop.put_credentials(name="again")
    for number in range(3):
        shop.put(f"token-{number}")
        shop.put(f"again-{number}", credentialsSecretRef={"name": "again"})
        elsewhere.put(f"token-{number}")
    asset.behave(Behaviour(latency=1), times=1)
    operator.start()
    seen = sorted(asset.wait_for(lambda requests: len(requests) == 9, timeout=30), key=lambda request: request.at)
    assert seen[0].in_flight == 1
    assert seen[1].at >= seen[0].at + 1
    for number in range(3):
        elsewhere.wait_until_ready(f"token-{number}")


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(Behaviour(issuer="https://api.getasset.com"), id="issuer"),
        pytest.param(Behaviour(audience="https://api.getasset.com"), id="audience"),
        pytest.param(Behaviour(issuer="https://api.getasset.com", expires_in="timestamp"), id="issuer-timestamp"),
    ],
)
def test_a_token_of_the_other_environment_is_refused_and_never_written(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, behaviour: Behaviour
) -> None:
    asset.behave(behaviour)
    shop.put("ledger-writer")
    condition = shop.wait_for_condition("ledger-writer", "Issuing", "True", "WrongEnvironment")
    assert "api.getasset.com" in condition["message"]
    assert shop.condition("ledger-writer", "Ready")["status"] == "False"
    asset.behave_normally()
    shop.wait_until_served("probe")
    assert shop.secret("ledger-writer") is None
    assert len(asset.requests) == 1 + 1


def test_a_token_of_an_unknown_issuer_is_taken(shop: Shop, asset: AssetApi, operator: OperatorProcess) -> None:
    asset.behave(Behaviour(issuer="https://tokens.example.com"))
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")


@pytest.mark.parametrize(
    ("spec", "behaviour", "reason", "said"),
    [
        pytest.param(
            {"scopes": ["ledger:create", "ledger:read"]},
            Behaviour(granted_scopes=("ledger:read",)),
            "ScopesMissing",
            "ledger:create",
            id="fewer-scopes",
        ),
        pytest.param(
            {"resources": ["https://api.sandbox.getasset.com/mcp"]},
            Behaviour(audience="https://api.sandbox.getasset.com/elsewhere"),
            "AudienceMismatch",
            "https://api.sandbox.getasset.com/mcp",
            id="another-audience",
        ),
    ],
)
def test_a_token_that_carries_less_than_asked_is_served_and_said_to(
    shop: Shop,
    asset: AssetApi,
    operator: OperatorProcess,
    *,
    spec: Json,
    behaviour: Behaviour,
    reason: str,
    said: str,
) -> None:
    asset.behave(behaviour)
    shop.put("ledger-writer", **spec)
    shop.wait_until_ready("ledger-writer")
    assert said in shop.wait_for_condition("ledger-writer", "ScopesGranted", "False", reason)["message"]
    assert said in shop.wait_for_event(reason)["note"]
    operator.wait_for_output(said)
    assert len(asset.requests) == 1


def test_a_token_that_is_not_valid_yet_is_written_when_it_is(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    asset.behave(Behaviour(not_before_delay=5), times=1)
    shop.put("ledger-writer")
    token = wait_until(lambda: shop.data("ledger-writer").get("access_token"), 20, "the Secret is written")
    assert token is not None
    assert asset.accepts(token)
    shop.wait_until_ready("ledger-writer")
    assert len(asset.requests) == 1


@pytest.mark.timeout(120)
def test_2000_unrelated_secrets_of_50_kb_cost_no_memory_worth_a_word(
    shop: Shop, asset: AssetApi, operator: OperatorProcess
) -> None:
    shop.wait_until_served("before")
    before = operator.resident_bytes()
    data = {"key": "x" * 50_000}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: shop.put_secret(f"unrelated-{number}", data), range(2000)))
    shop.wait_until_served("after", timeout=60)
    assert operator.resident_bytes() - before < 20 * MEGABYTE
    operator.kill()
    operator.start()
    shop.wait_until_served("after-restart", timeout=60)
    assert operator.resident_bytes() - before < 20 * MEGABYTE
    assert len(asset.requests) == 3
