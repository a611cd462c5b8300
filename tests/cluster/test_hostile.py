"""Who may create and update Secrets and AssetTokens in a namespace, and nothing else, gets no further than that."""

import json
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from asset_token_operator.manifests import (
    AUDIENCE,
    CLOCK_SKEW,
    CREDENTIALS_FINGERPRINT,
    ENVIRONMENT,
    EXPIRATION_TIME,
    GRANTED_SCOPES,
    ISSUANCE_REASON,
    ISSUANCE_TIME,
    OWNER,
    PROOF,
    RENEW_REQUEST,
    REVISION,
    SPEC_HASH,
    TOKEN_FINGERPRINT,
    TOKEN_ID,
)
from asset_token_operator.model import MANAGED_BY_LABEL, OPERATOR, digest
from tests.support.asset_api import AssetApi
from tests.support.cluster import ApiError, Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.intruder import TOKEN, Intruder
from tests.support.operator_process import OBSERVED, OperatorProcess
from tests.support.shop import CLIENT_ID, CREDENTIALS, Shop

WRITER = "ledger-writer"
PATIENCE_SECONDS = 60
"""For a process to start, too, on a busy machine."""
KNOWN = [AUDIENCE, CLOCK_SKEW, CREDENTIALS_FINGERPRINT, ENVIRONMENT, EXPIRATION_TIME, GRANTED_SCOPES, ISSUANCE_REASON]
KNOWN += [ISSUANCE_TIME, OWNER, PROOF, RENEW_REQUEST, REVISION, SPEC_HASH, TOKEN_FINGERPRINT, TOKEN_ID]


@pytest.fixture
def intruder(shop: Shop) -> Iterator[Intruder]:
    with Intruder(shop) as intruder:
        yield intruder


def annotations_of(shop: Shop, name: str) -> dict[str, str]:
    found: dict[str, str] = (shop.secret(name) or {})["metadata"]["annotations"]
    return found


def restart(operator: OperatorProcess) -> None:
    operator.kill()
    operator.start()


def served(shop: Shop, asset: AssetApi, operator: OperatorProcess, name: str = WRITER) -> str:
    """The token that is served to the end, which is Asset's, and of which the status tells; nothing went wrong."""

    def token() -> str | None:
        data, status = shop.data(name), shop.token(name)["status"]
        told = (status.get("secretName"), str(status.get("revision")))
        is_told = told == (name, annotations_of(shop, name).get(REVISION))
        return data["access_token"] if is_told and asset.accepts(data.get("access_token", "")) else None

    found = wait_until(token, PATIENCE_SECONDS, f"{name} holds a token of Asset's, of which its status tells")
    shop.wait_until_ready(name)
    assert TOKEN not in json.dumps(shop.data(name))
    assert "unexpected" not in operator.output()
    assert "Traceback" not in operator.output()
    assert TOKEN not in operator.output()
    return found


def test_they_may_do_nothing_else(shop: Shop, intruder: Intruder) -> None:
    """Else what follows would show little."""
    shop.create(WRITER)
    for verb, path in (
        ("get", "secrets/asset-credentials"),
        ("get", "secrets"),
        ("delete", "secrets/asset-credentials"),
    ):
        with pytest.raises(ApiError, match="forbidden"):
            getattr(intruder.api, verb)(shop.path(path))
    for path in (f"assettokens/{WRITER}", "assettokens"):
        with pytest.raises(ApiError, match="forbidden"):
            intruder.api.get(shop.path(path))
    with pytest.raises(ApiError, match="forbidden"):
        intruder.api.replace(shop.path(f"assettokens/{WRITER}/status"), shop.token(WRITER))


# Look-alikes


@pytest.mark.parametrize("controlled", [True, False], ids=["controlled", "retained"])
def test_a_secret_that_looks_like_an_earlier_one_is_neither_served_moved_renewed_from_nor_deleted(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder, *, controlled: bool
) -> None:
    shop.put(WRITER, secret={} if controlled else {"deletionPolicy": "Retain"})
    shop.wait_until_ready(WRITER)
    token = shop.data(WRITER)["access_token"]
    intruder.forge(WRITER, "earlier", controlled=controlled)
    shop.wait_until_served("probe", PATIENCE_SECONDS)
    restart(operator)
    shop.wait_until_served("probe-2", PATIENCE_SECONDS)

    assert served(shop, asset, operator) == token
    assert shop.data("earlier") == {"access_token": TOKEN}
    assert len(asset.requests) == 1 + 2


def test_a_look_alike_that_is_there_before_is_overwritten_and_never_served(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], intruder: Intruder
) -> None:
    shop.create(WRITER)
    intruder.forge(WRITER, WRITER)
    operator = operator_for(shop)

    assert served(shop, asset, operator) == asset.requests[0].token
    assert len(asset.requests) == 1


def test_one_that_nothing_controls_is_foreign_while_the_credentials_are_missing(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    intruder.put_secret(WRITER, {"annotations": {OWNER: WRITER}, "labels": {MANAGED_BY_LABEL: OPERATOR}})
    shop.kubectl("delete", f"secret/{CREDENTIALS}")
    shop.put(WRITER, secret={"deletionPolicy": "Retain"})
    shop.wait_for_condition(WRITER, "Ready", "False", "CredentialsNotFound")
    intruder.forge(WRITER, WRITER, controlled=False)
    shop.put("probe")
    shop.wait_for_condition("probe", "Issuing", "True", "CredentialsNotFound")

    assert shop.condition(WRITER, "Ready")["status"] == "False"
    assert "revision" not in shop.token(WRITER)["status"]
    assert len(asset.requests) == 0
    shop.put_credentials()
    assert served(shop, asset, operator) in {request.token for request in asset.requests}


def test_one_that_it_controls_is_replaced_by_one_request_once_the_credentials_are_back(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    """Meanwhile it is reported as it stands; and its revision leaves some to those that follow."""
    shop.put(WRITER)
    shop.wait_until_ready(WRITER)
    shop.kubectl("delete", f"secret/{CREDENTIALS}")
    restart(operator)
    intruder.forge(WRITER, WRITER, {REVISION: "1000000000"})
    shop.put("probe")
    shop.wait_for_condition("probe", "Issuing", "True", "CredentialsNotFound")
    shop.put_credentials()
    shop.wait_until_served("probe", PATIENCE_SECONDS)
    wait_until(lambda: asset.accepts(shop.data(WRITER)["access_token"]), 15, "it is Asset's again")
    restart(operator)
    shop.wait_until_served("probe-2", PATIENCE_SECONDS)

    served(shop, asset, operator)
    assert len(asset.requests) == 2 + 2


def test_a_copy_of_its_secret_is_left_alone(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    shop.put(WRITER)
    shop.wait_until_ready(WRITER)
    secret = shop.secret(WRITER) or {}
    kept = {field: secret["metadata"][field] for field in ("labels", "annotations", "ownerReferences")}
    intruder.put_secret("copy", kept, shop.data(WRITER))
    shop.wait_until_served("probe", PATIENCE_SECONDS)
    restart(operator)
    shop.wait_until_served("probe-2", PATIENCE_SECONDS)

    assert shop.data("copy") == shop.data(WRITER)
    served(shop, asset, operator)
    assert len(asset.requests) == 1 + 2


def test_a_label_that_is_overwritten_on_a_retained_secret_is_put_right_without_a_request(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    shop.put(WRITER, secret={"deletionPolicy": "Retain"})
    shop.wait_until_ready(WRITER)
    intruder.put_secret(
        WRITER, {"labels": {MANAGED_BY_LABEL: "helm"}, "annotations": annotations_of(shop, WRITER)}, shop.data(WRITER)
    )

    def label() -> str | None:
        labels: dict[str, str] = (shop.secret(WRITER) or {})["metadata"]["labels"]
        return labels[MANAGED_BY_LABEL]

    wait_until(lambda: label() == OPERATOR, 15, "the label is put right")
    served(shop, asset, operator)
    assert len(asset.requests) == 1


EDITS = {
    "scopes": {GRANTED_SCOPES: " ".join(f"scope:{number}" for number in range(1000))},
    "a-long-scope": {GRANTED_SCOPES: "x" * 5000},
    "an-audience": {AUDIENCE: "x" * 200_000},
    "a-renew-request": {RENEW_REQUEST: "x" * 300},
    "a-token-id": {TOKEN_ID: "x" * 300},
    "a-reason": {ISSUANCE_REASON: "x" * 300},
    "a-revision": {REVISION: str(2**63)},
    "a-revision-in-arabic": {REVISION: "\u0661"},
    "many": {f"auth.getasset.com/{number}": "" for number in range(3000)},
}


def test_what_is_edited_while_the_operator_is_down_makes_no_status_that_the_crd_refuses(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    for name in EDITS:
        shop.create(name)
    for name in EDITS:
        shop.wait_until_ready(name)
    operator.kill()
    for name, said in EDITS.items():
        secret = shop.secret(name) or {}
        owners = {"ownerReferences": secret["metadata"]["ownerReferences"]}
        intruder.put_secret(name, owners | {"annotations": annotations_of(shop, name) | said}, shop.data(name))
    operator.start()
    shop.wait_until_served("probe", PATIENCE_SECONDS)
    for name in EDITS:
        served(shop, asset, operator, name)

    assert "422" not in operator.output()
    assert len(asset.requests) <= 2 * len(EDITS) + 1


# What is large


def huge(count: int) -> Json:
    """An object's metadata that is six times as large in JSON: nobody checks the length of an owner's name."""
    return {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "<" * count, "uid": "nobody"}]}


def test_one_enormous_object_breaks_no_watch_and_no_list(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    shop.wait_until_served("before")
    intruder.put_secret("huge", huge(1_400_000))
    body = shop.manifest("huge", suspend=True)
    intruder.api.create(shop.path("assettokens"), body | {"metadata": huge(200_000) | {"name": "huge"}})
    shop.wait_until_served("after", PATIENCE_SECONDS)
    restart(operator)
    shop.wait_until_served("after-restart", PATIENCE_SECONDS)

    served(shop, asset, operator, "before")
    assert operator.is_running()
    assert len(asset.requests) == 3


# What else they can reach


def test_a_status_that_they_write_is_no_status(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    """It is believed that a Secret is in order where the status notes so; they may not write that."""
    shop.put(WRITER)
    shop.wait_until_ready(WRITER)
    token = shop.token(WRITER)
    forged = token["status"] | {"revision": 9, "syncedHash": "0-0", "history": []}
    intruder.api.replace(shop.path(f"assettokens/{WRITER}"), token | {"status": forged})
    created = shop.manifest("created") | {"status": forged}
    intruder.api.create(shop.path("assettokens"), created)
    shop.wait_until_ready("created")

    assert served(shop, asset, operator, "created") != served(shop, asset, operator)
    assert [shop.token(name)["status"]["revision"] for name in (WRITER, "created")] == [1, 1]
    assert len(asset.requests) == 2


def test_a_secret_that_is_held_by_a_finalizer_costs_no_calls(
    audited_controlplane: ControlPlane, shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder
) -> None:
    """It is deleted once as it was moved, and stays for as long as somebody wants."""
    shop.put(WRITER, secret={"name": "first"})
    shop.wait_until_ready(WRITER)
    secret = shop.secret("first") or {}
    kept = {field: secret["metadata"][field] for field in ("labels", "annotations", "ownerReferences")}
    intruder.put_secret("first", kept | {"finalizers": ["example.com/never"]}, shop.data("first"))
    shop.put(WRITER, secret={"name": "second"})
    wait_until(lambda: (shop.secret("first") or {})["metadata"].get("deletionTimestamp"), 15, "it is being deleted")
    shop.wait_until_served("probe", PATIENCE_SECONDS)
    time.sleep(5)

    deletes = [
        event
        for event in audited_controlplane.audit(shop.namespace)
        if event.user.endswith(":operator") and event.verb == "delete" and event.resource == "secrets"
    ]
    assert len(deletes) <= 3
    assert asset.accepts(shop.data("second")["access_token"])
    assert len(asset.requests) == 1 + 1
    shop.edit_secret("first", {"metadata": {"finalizers": None}})


def test_no_key_of_any_secret_can_be_guessed_from_metrics_and_logs(
    shop: Shop, asset: AssetApi, operator_for: Callable[..., OperatorProcess], intruder: Intruder
) -> None:
    """A client_id may be any key of any Secret, such as a PIN: tenants are named by the Secret, and by no digest."""
    shop.put_secret("payroll", {"pin": "1234", "note": "grün 🚀", "other": "x"})
    operator = operator_for(shop, *OBSERVED)
    for name, key in (("guess-pin", "pin"), ("guess-note", "note")):
        reference = {"name": "payroll", "clientIdKey": key, "clientSecretKey": "other"}
        intruder.api.create(shop.path("assettokens"), shop.manifest(name, credentialsSecretRef=reference))
    for name in ("guess-pin", "guess-note"):
        wait_until(lambda name=name: shop.condition(name, "Issuing").get("status") == "True", 15, "it fails")  # type: ignore[misc]
    told = operator.get("/metrics").text + operator.output() + json.dumps(shop.tokens())

    assert f'tenant="{shop.namespace}/payroll"' in told
    for value in ("1234", "grün 🚀", CLIENT_ID):
        assert digest(value)[:8] not in told
    assert "grün" not in told


# Whatever they write into labels and annotations

FUZZED = [f"fuzzed-{number}" for number in range(20)]
TEXTS = st.one_of(
    st.sampled_from(
        ["", "0", "-1", "1", "9" * 300, str(2**63), "9999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "null"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text("<&x", min_size=300, max_size=3000),
)
SAYINGS = st.dictionaries(st.sampled_from([*KNOWN, "auth.getasset.com/other"]), TEXTS, max_size=4)
LABELS = st.dictionaries(
    st.sampled_from([MANAGED_BY_LABEL, "auth.getasset.com/owner", "team"]),
    st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?", fullmatch=True),
)
FORGERIES = st.fixed_dictionaries(
    {
        "of": st.sampled_from(FUZZED),
        "is_its_own": st.booleans(),
        "controlled": st.booleans(),
        "keeps": st.booleans(),
        "said": SAYINGS,
        "labels": LABELS,
        "has_token": st.booleans(),
    }
)


def drawn(count: int) -> list[Json]:
    """So many forgeries, always the same."""
    found: list[Json] = []

    @seed(12)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate])
    @given(FORGERIES)
    def draw(forgery: Json) -> None:
        found.append(forgery)

    draw()
    return found


def put_forgery(shop: Shop, intruder: Intruder, name: str, forgery: Json) -> None:
    of = forgery["of"]
    metadata = intruder.forged(of, forgery["said"], controlled=forgery["controlled"])
    if not forgery["keeps"]:
        metadata["annotations"] = forgery["said"]
    metadata["labels"] |= forgery["labels"]
    data = {"access_token": TOKEN} if forgery["has_token"] else shop.data(of)
    intruder.put_secret(of if forgery["is_its_own"] else name, metadata, data)


def is_somebody_elses(shop: Shop, name: str) -> bool:
    """Whether what stands under an AssetToken's name says no more that it is its own: the operator leaves it alone."""
    metadata = (shop.secret(name) or {})["metadata"]
    return "ownerReferences" not in metadata and metadata.get("annotations", {}).get(OWNER) != name


@pytest.mark.parametrize("running", [True, False], ids=["running", "down"])
def test_200_secrets_of_our_type_with_any_labels_and_annotations_get_nobody_anything(
    shop: Shop, asset: AssetApi, operator: OperatorProcess, intruder: Intruder, *, running: bool
) -> None:
    for number, name in enumerate(FUZZED):
        shop.create(name, secret={"deletionPolicy": "Retain" if number % 2 else "Delete"})
    for name in FUZZED:
        shop.wait_until_ready(name, 60)
    if not running:
        operator.kill()
    forgeries = drawn(200)
    for number, forgery in enumerate(forgeries):
        put_forgery(shop, intruder, f"forged-{number}", forgery)
    if not running:
        operator.start()
    shop.wait_until_served("probe", PATIENCE_SECONDS)
    for name in FUZZED:
        if is_somebody_elses(shop, name):
            shop.wait_for_condition(name, "Ready", "False", "SecretConflict", PATIENCE_SECONDS)
        else:
            served(shop, asset, operator, name)

    for number, forgery in enumerate(forgeries):
        if not forgery["is_its_own"]:
            assert shop.secret(f"forged-{number}") is not None, "nobody deletes what it didn't write"
    assert len(asset.requests) <= len(FUZZED) * (1 if running else 2) + 1
    assert len(forgeries) == 200
