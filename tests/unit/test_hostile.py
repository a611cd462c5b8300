"""Who may write Secrets in a namespace gets no further than that: what is public proves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from asset_token_operator.manifests import (
    AUDIENCE,
    CLOCK_SKEW,
    CREDENTIALS_FINGERPRINT,
    EXPIRATION_TIME,
    GRANTED_SCOPES,
    ISSUANCE_REASON,
    ISSUANCE_TIME,
    OWNER,
    PROOF,
    RENEW_REQUEST,
    REVISION,
    TOKEN_FINGERPRINT,
    TOKEN_ID,
    stored_token,
)
from asset_token_operator.model import CredentialsRef, DeletionPolicy, Key, SecretSpec, token_fingerprint
from asset_token_operator.status import NOT_SEEN_YET
from tests.support.builders import (
    CREDENTIALS,
    NOW,
    a_jwt,
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
        pytest.param(
            forged(name="earlier", annotations=dict(forged().annotations) | {PROOF: "\ud800"}), id="half of one"
        ),
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(GRANTED_SCOPES, " ".join(f"scope:{number}" for number in range(1000)), id="a thousand scopes"),
        pytest.param(GRANTED_SCOPES, "x" * 5000, id="a long scope"),
        pytest.param(GRANTED_SCOPES, "gr\u00fcn \x1b[31m", id="scopes that are none"),
        pytest.param(AUDIENCE, "x" * 200_000, id="a long audience"),
        pytest.param(RENEW_REQUEST, "x" * 300, id="a long renew request"),
        pytest.param(CREDENTIALS_FINGERPRINT, "x" * 200_000, id="a long fingerprint"),
        pytest.param(TOKEN_ID, "x" * 300, id="a long token id"),
        pytest.param(ISSUANCE_REASON, "x" * 300, id="a long reason"),
        pytest.param(REVISION, str(2**63), id="a great revision"),
    ],
)
def test_what_the_crd_refuses_is_never_told_whatever_was_written_while_it_was_away(
    world: World, name: str, text: str
) -> None:
    """Of these the proof says nothing, so the token in a Secret that is genuine but for them is served on."""
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(replace(secret, annotations=dict(secret.annotations) | {name: text}))
    world.restart()

    reconcile_often(world)

    status = world.token().status
    scopes = status.granted_scopes or ()
    assert len(scopes) <= 256
    assert all(len(scope) <= 256 and scope.isprintable() and scope.isascii() for scope in scopes)
    assert len(status.last_handled_renew_request or "") <= 256
    assert len(status.token_id or "") <= 256
    assert status.revision in (1, 2, 3)
    assert all(len(entry.reason) <= 64 for entry in status.history or ())
    found = world.secret()
    assert found is not None
    assert sum(map(len, found.annotations.values())) < 4000
    assert len(world.asset.requests) <= 2


def test_scopes_and_audience_of_a_jwt_are_those_that_it_carries_whatever_an_annotation_says() -> None:
    world = World()
    claims = {"exp": NOW.timestamp() + 3600, "iat": NOW.timestamp(), "scope": "ledger:read", "aud": "https://a.example"}
    world.asset.access_token = a_jwt(claims)
    world.add()
    world.reconcile()
    secret = world.secret()
    assert secret is not None
    edited = {GRANTED_SCOPES: "ledger:admin", AUDIENCE: "https://b.example"}
    world.kube.put_secret(replace(secret, annotations=dict(secret.annotations) | edited))
    world.restart()

    world.reconcile()

    assert world.token().status.granted_scopes == ("ledger:read",)
    assert world.secret() == replace(secret, version=world.kube.secrets[secret.key].version)
    assert len(world.asset.requests) == 1


@pytest.mark.parametrize(
    ("issued", "expires", "skew"),
    [
        pytest.param("9999-12-31T00:00:00Z", "9999-12-31T23:59:59Z", "-3600", id="the end of the calendar"),
        pytest.param("0001-01-01T00:00:00Z", "0001-01-01T00:00:30Z", "3600", id="its beginning"),
        pytest.param("9000-01-01T00:00:00Z", "9000-01-01T00:00:30Z", "0", id="later than is believed"),
    ],
)
def test_times_at_the_ends_of_the_calendar_are_nobodys(issued: str, expires: str, skew: str) -> None:
    """Also where nothing can be proved: whatever is compared with them lies within the calendar."""
    world = World()
    world.add()
    del world.kube.credentials[CREDENTIALS_KEY]
    said = {ISSUANCE_TIME: issued, EXPIRATION_TIME: expires, CLOCK_SKEW: skew}
    world.kube.put_secret(forged(annotations=dict(forged().annotations) | said))

    world.reconcile()

    assert world.conditions()["Ready"][0] == "False"


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


@pytest.mark.parametrize("policy", list(DeletionPolicy), ids=str)
def test_a_secret_with_more_metadata_than_is_kept_is_read_whole_and_served_on(policy: DeletionPolicy) -> None:
    """A spec may ask for as much; whoever adds it to a genuine one gets no further either."""
    world, large = World(), {f"example.com/{number}": "x" * 4096 for number in range(32)}
    world.add(an_asset_token(a_spec(secret=SecretSpec("first", annotations=large, deletion_policy=policy))))
    world.reconcile()
    for status in (world.token().status, NOT_SEEN_YET):
        world.kube.put_token(replace(world.token(), status=status))
        world.restart()
        world.calls()
        world.reconcile()
        assert "apply_secret" not in world.calls()
        assert world.conditions()["Ready"][0] == "True"
    spec = a_spec(secret=SecretSpec("second", annotations=large, deletion_policy=policy))
    world.kube.put_token(replace(world.token(), spec=spec))
    reconcile_often(world)

    assert len(world.asset.requests) == 1
    assert (Key("shop", "first") in world.kube.secrets) == (policy is DeletionPolicy.RETAIN)


def test_look_alikes_are_not_read_again_and_again_while_there_are_no_credentials_to_tell_by(world: World) -> None:
    """Else who touches one of many, and leaves out the credentials, lets all be read each time."""
    del world.kube.credentials[CREDENTIALS_KEY]
    world.restart()
    for number in range(50):
        world.kube.put_secret(forged(name=f"earlier-{number}"))
    world.reconcile()
    world.calls()

    for _ in range(5):
        world.kube.put_secret(forged(name="earlier-0"))
        world.reconcile()

    assert world.calls().count("read_secret") <= 5
    assert len(world.kube.secrets) == 51


def test_look_alikes_that_have_come_without_credentials_are_looked_at_when_these_come(world: World) -> None:
    """Its own is moved then, without a request."""
    own = world.secret()
    assert own is not None
    world.kube.put_token(replace(world.token(), spec=a_spec(secret=SecretSpec("next")), status=NOT_SEEN_YET))
    del world.kube.credentials[CREDENTIALS_KEY]
    world.restart()
    world.kube.put_secret(forged(name="earlier"))
    reconcile_often(world)
    assert own.key in world.kube.secrets
    world.kube.put_credentials()

    reconcile_often(world)

    assert served(world) == "canary-access-token-1"
    assert sorted(key.name for key in world.kube.secrets) == ["earlier", "next"]
    assert len(world.asset.requests) == 1


@pytest.mark.parametrize("revision", [2, 10**8, 10**9 - 1, 10**9], ids=str)
def test_a_revision_that_nobody_proves_leaves_some_to_the_tokens_that_follow(world: World, revision: int) -> None:
    """At its bound the token that Asset issued next would have one that nobody believes."""
    del world.kube.credentials[CREDENTIALS_KEY]
    said = {REVISION: str(revision), CREDENTIALS_FINGERPRINT: "0" * 64}
    world.kube.put_secret(forged(key=an_asset_token().secret_key, annotations=dict(forged().annotations) | said))
    world.restart()
    reconcile_often(world)
    world.kube.put_credentials()
    reconcile_often(world)
    world.kube.put_token(replace(world.token(), status=NOT_SEEN_YET))
    world.restart()

    reconcile_often(world)

    assert served(world) == "canary-access-token-2"
    assert world.conditions()["Ready"][0] == "True"
    assert len(world.asset.requests) == 2


def test_a_genuine_one_is_left_as_it_is_while_the_credentials_and_the_status_are_lost(world: World) -> None:
    before = world.secret()
    del world.kube.credentials[CREDENTIALS_KEY]
    world.kube.put_token(replace(world.token(), status=NOT_SEEN_YET))
    world.restart()
    reconcile_often(world)
    assert world.secret() == before
    world.kube.put_credentials()

    reconcile_often(world)

    assert world.secret() == before
    assert len(world.asset.requests) == 1


# Forms of the same that the issue doesn't name.


def with_a_later_token(world: World) -> SecretState:
    """Renew once; what the Secret was before."""
    before = world.secret()
    assert before is not None
    world.kube.put_token(replace(world.token(), renew_request="1"))
    world.reconcile()
    assert served(world) == "canary-access-token-2"
    return before


def test_an_older_genuine_one_that_is_put_back_is_replaced_without_a_request(world: World) -> None:
    before = with_a_later_token(world)
    world.kube.put_secret(before)

    reconcile_often(world)

    assert served(world) == "canary-access-token-2"
    assert len(world.asset.requests) == 2


def test_an_older_genuine_one_that_is_put_back_while_it_is_away_costs_one_request(world: World) -> None:
    """It is the operator's own, but serves an earlier renew request; and its revision isn't given twice."""
    before = with_a_later_token(world)
    world.kube.put_secret(before)
    world.restart()

    reconcile_often(world)

    assert served(world) == "canary-access-token-3"
    assert world.token().status.revision == 3
    assert len(world.asset.requests) == 3


@pytest.mark.parametrize("name", ["ledger-writer-token", "earlier"])
@pytest.mark.parametrize("controlled", [True, False], ids=["controlled", "retained"])
def test_the_secret_of_an_earlier_life_is_not_believed(world: World, name: str, *, controlled: bool) -> None:
    """An AssetToken of the same name, with the same credentials and spec: its UID is another."""
    secret = world.secret()
    assert secret is not None
    again = an_asset_token(uid="of-a-later-life")
    uid = again.uid if controlled else None
    del world.kube.asset_tokens[again.key], world.kube.secrets[secret.key]
    world.sync()
    world.kube.put_secret(replace(secret, key=Key("shop", name), controller_uid=uid))
    world.add(again)

    reconcile_often(world)

    assert served(world) == "canary-access-token-2"
    assert len(world.asset.requests) == 2
    assert name == again.spec.secret.name or Key("shop", name) in world.kube.secrets


def test_the_secret_of_a_namesake_in_another_namespace_is_not_believed(world: World) -> None:
    """Restored there from a backup, with the UID of the AssetToken that is there now."""
    secret = world.secret()
    assert secret is not None
    key = Key("elsewhere", "ledger-writer")
    namesake = an_asset_token(key=key)
    world.kube.put_credentials(key=Key("elsewhere", "asset-credentials"))
    world.kube.put_secret(replace(secret, key=Key("elsewhere", "ledger-writer-token"), uid="restored"))
    world.add(namesake)

    world.reconcile(namesake)

    assert len(world.asset.requests) == 2


def test_the_proof_of_another_revision_proves_nothing(world: World) -> None:
    """Else an older token could be said to be the latest, for ever."""
    before = with_a_later_token(world)
    world.kube.put_secret(replace(before, annotations=dict(before.annotations) | {REVISION: "9"}))
    world.restart()

    reconcile_often(world)

    assert served(world) == "canary-access-token-3"
    assert world.token().status.revision == 3


def test_data_that_is_none_counts_as_no_token(world: World) -> None:
    secret = world.secret()
    assert secret is not None
    world.kube.put_secret(replace(secret, data={}))
    world.restart()

    reconcile_often(world)

    assert served(world) == "canary-access-token-2"


def test_a_secret_whose_name_is_as_long_as_names_may_be_is_served() -> None:
    world, name = World(), ".".join(["a" * 63] * 3 + ["b" * 61])
    token = an_asset_token(a_spec(secret=SecretSpec(name)), key=Key("shop", name))
    world.add(token)
    world.reconcile(token)

    assert len(name) == 253
    assert world.kube.secrets[Key("shop", name)].annotations[OWNER] == name


def test_credentials_that_are_another_ones_output_renew_once_for_each_of_its_tokens() -> None:
    """A Secret that the operator writes may be what it reads; neither makes the other run in circles."""
    world = World()
    ref = CredentialsRef("ledger-writer-token", "access_token", "access_token")
    reader = an_asset_token(
        a_spec(secret=SecretSpec("reader-token"), credentials=ref), key=Key("shop", "reader"), uid="reader"
    )
    world.add()
    world.reconcile()
    secret = world.secret()
    assert secret is not None
    world.kube.put_credentials(replace(CREDENTIALS, client_id=SecretStr(served(world))), secret.key)
    world.add(reader)
    for _ in range(5):
        world.reconcile()
        world.reconcile(reader)
        world.pass_time(timedelta(seconds=20))

    assert len(world.asset.requests) == 2
