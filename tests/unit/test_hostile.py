"""Who may write Secrets in a namespace gets no further than that: what is public proves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from asset_token_operator.manifests import (
    CREDENTIALS_FINGERPRINT,
    ISSUANCE_TIME,
    OWNER,
    PROOF,
    REVISION,
    TOKEN_FINGERPRINT,
    stored_token,
)
from asset_token_operator.model import DeletionPolicy, Key, SecretSpec, token_fingerprint
from asset_token_operator.status import NOT_SEEN_YET
from tests.support.builders import (
    CREDENTIALS,
    NOW,
    a_refusal,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    data_of,
)
from tests.support.fakes import CREDENTIALS_KEY, World

if TYPE_CHECKING:
    from asset_token_operator.model import AssetToken, SecretState

HOUR = timedelta(hours=1)
MINE = SecretStr("the-token-of-who-attacks")
RETAIN = SecretSpec("ledger-writer-token", deletion_policy=DeletionPolicy.RETAIN)


@pytest.fixture(params=[False, True], ids=["at once", "after a restart"])
def world(request: pytest.FixtureRequest) -> World:
    """An AssetToken whose Secret holds its token, and maybe an operator that has just started."""
    world = World()
    world.add()
    world.reconcile()
    if request.param:
        world.restart()
        world.sync()
    return world


def forged(owner: AssetToken | None = None, name: str | None = None, **changes: Any) -> SecretState:
    """A Secret that says all that can be known of one of the operator's, with a token of somebody else."""
    token = an_issued_token(
        access_token=MINE, revision=5, issued_at=NOW + 3000 * 24 * HOUR, expires_at=NOW + 3001 * 24 * HOUR
    )
    return a_secret(owner, replace(token, proof_key=b"guessed"), name, uid="forged", **changes)


def served(world: World) -> str:
    secret = world.secret()
    assert secret is not None
    token = stored_token(secret)
    assert token is not None
    assert token.access_token is not None
    return token.access_token.get_secret_value()


def reconcile_often(world: World) -> None:
    for _ in range(5):
        world.reconcile()
        world.pass_time(timedelta(seconds=20))


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(forged(name="earlier"), id="controlled"),
        pytest.param(forged(name="earlier", controller_uid=None), id="retained"),
        pytest.param(forged(name="earlier", annotations=dict(forged().annotations) | {PROOF: ""}), id="an empty proof"),
        pytest.param(
            forged(name="earlier", annotations={k: v for k, v in forged().annotations.items() if k != PROOF}),
            id="no proof",
        ),
        pytest.param(forged(name="earlier", annotations=dict(forged().annotations) | {PROOF: "ä"}), id="no text"),
        pytest.param(forged(name="earlier", annotations={OWNER: "ledger-writer"}), id="only the owner"),
    ],
)
def test_a_secret_that_looks_like_an_earlier_one_is_neither_served_moved_renewed_from_nor_deleted(
    world: World, secret: SecretState
) -> None:
    world.kube.put_secret(secret)

    reconcile_often(world)

    assert served(world) == "canary-access-token-1"
    assert secret.key in world.kube.secrets
    assert len(world.asset.requests) == 1
    assert world.conditions()["Ready"][0] == "True"


def test_a_look_alike_is_read_once_for_each_of_its_versions(world: World) -> None:
    world.kube.put_secret(forged(name="earlier"))
    world.reconcile()
    world.kube.calls.clear()

    reconcile_often(world)

    assert world.kube.calls == []


def test_a_copy_of_its_secret_under_another_name_is_left_alone(world: World) -> None:
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(replace(secret, key=Key("shop", "copy"), uid="copy"))

    reconcile_often(world)

    assert Key("shop", "copy") in world.kube.secrets
    assert len(world.asset.requests) == 1


@pytest.mark.parametrize("token", [an_asset_token(), an_asset_token(a_spec(secret=RETAIN))], ids=["Delete", "Retain"])
def test_a_look_alike_under_its_own_name_is_put_right_by_one_request_and_never_served(token: AssetToken) -> None:
    world = World()
    world.kube.put_secret(forged(token))
    world.add(token)

    reconcile_often(world)

    assert served(world) == "canary-access-token-1"
    assert len(world.asset.requests) == 1


def test_a_look_alike_that_nothing_controls_is_not_believed_while_the_credentials_are_missing() -> None:
    world = World()
    del world.kube.credentials[CREDENTIALS_KEY]
    token = an_asset_token(a_spec(secret=RETAIN))
    world.kube.put_secret(forged(token))
    world.add(token)
    world.reconcile()

    assert world.conditions()["Ready"][0] == "False"


def test_what_it_controls_is_reported_as_it_stands_while_the_credentials_are_missing(world: World) -> None:
    del world.kube.credentials[CREDENTIALS_KEY]
    world.restart()
    world.reconcile()

    assert world.conditions()["Ready"][0] == "True"


def test_a_token_that_was_put_into_its_secret_by_somebody_is_put_right(world: World) -> None:
    """With annotations that fit it: they are computed by who knows the rules, but not the credentials."""
    secret = world.secret()
    assert secret is not None
    annotations = dict(secret.annotations) | {TOKEN_FINGERPRINT: token_fingerprint(MINE), REVISION: "7"}
    annotations[CREDENTIALS_FINGERPRINT] = "0" * 64
    data = data_of(secret) | {"access_token": data_of(forged())["access_token"]}
    world.kube.put_secret(replace(secret, annotations=annotations, data=data))

    reconcile_often(world)

    assert served(world).startswith("canary-access-token-")
    assert len(world.asset.requests) <= 2


def test_the_secret_of_another_asset_token_with_the_same_credentials_is_not_believed() -> None:
    world = World()
    other = an_asset_token(a_spec(secret=SecretSpec("other-token")), key=Key("shop", "other"), uid="other")
    world.add(other)
    world.reconcile(other)
    theirs = world.kube.secrets[Key("shop", "other-token")]
    mine = an_asset_token(a_spec(secret=RETAIN))
    annotations = dict(theirs.annotations) | {OWNER: "ledger-writer"}
    key = Key("shop", "ledger-writer-token")
    world.kube.put_secret(replace(theirs, key=key, uid="copied", annotations=annotations, controller_uid=None))
    world.add(mine)

    world.reconcile(mine)

    assert served(world) == "canary-access-token-2"


def test_times_that_were_edited_are_not_believed_after_a_restart(world: World) -> None:
    secret = world.secret()
    assert secret is not None
    annotations = dict(secret.annotations) | {ISSUANCE_TIME: "2026-05-01T11:00:00Z"}
    world.kube.put_secret(replace(secret, annotations=annotations))
    world.restart()

    reconcile_often(world)

    assert len(world.asset.requests) == 2


@pytest.mark.parametrize("restart", [False, True], ids=["at once", "after a restart"])
def test_a_retained_secret_whose_label_a_tool_overwrites_is_put_right_without_a_request(*, restart: bool) -> None:
    world = World()
    world.add(an_asset_token(a_spec(secret=RETAIN)))
    world.reconcile()
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(replace(secret, labels=dict(secret.labels) | {"app.kubernetes.io/managed-by": "helm"}))
    if restart:
        world.restart()

    world.reconcile()

    found = world.secret()
    assert found is not None
    assert found.labels["app.kubernetes.io/managed-by"] == "asset-token-operator"
    assert len(world.asset.requests) == 1


def test_rotated_credentials_cost_one_request_after_a_restart_and_the_old_token_is_served_until_then(
    world: World,
) -> None:
    world.asset.faults.fail("request_token", a_refusal(503))
    world.kube.put_credentials(replace(CREDENTIALS, client_secret=SecretStr("canary-rotated")))
    world.restart()
    world.reconcile()

    assert world.conditions()["Ready"][0] == "True"
    assert served(world) == "canary-access-token-1"


def test_a_token_that_was_believed_without_its_credentials_is_proved_under_its_next_name_too() -> None:
    world = World()
    world.add()
    world.reconcile()
    world.restart()
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(replace(secret, labels={}))  # so it is read whole, and put right
    world.reconcile()
    world.kube.put_token(replace(world.token(), spec=a_spec(secret=SecretSpec("next"))))
    world.reconcile()
    world.kube.put_token(replace(world.token(), status=NOT_SEEN_YET))
    world.restart()

    world.reconcile()

    assert served(world) == "canary-access-token-1"
    assert len(world.asset.requests) == 1
