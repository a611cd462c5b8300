"""Whatever somebody writes into Secrets of our type: no token of theirs is served, and little is requested for it."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from asset_token_operator.manifests import (
    CREDENTIALS_FINGERPRINT,
    PROOF,
    TOKEN_FINGERPRINT,
    credentials_fingerprint,
    stored_token,
)
from asset_token_operator.model import SECRET_TYPE, DeletionPolicy, Key, SecretSpec, SecretState, token_fingerprint
from asset_token_operator.status import NOT_SEEN_YET
from tests.support.builders import CREDENTIALS, a_secret, a_spec, an_asset_token, an_issued_token
from tests.support.fakes import CREDENTIALS_KEY, World

if TYPE_CHECKING:
    from asset_token_operator.model import AssetToken

MINE = "the-token-of-who-attacks"
MINE_DATA = {"access_token": base64.b64encode(MINE.encode()).decode()}
RETAIN = an_asset_token(a_spec(secret=SecretSpec("ledger-writer-token", deletion_policy=DeletionPolicy.RETAIN)))
GENUINE = a_secret()
NAMES = [*GENUINE.annotations, "auth.getasset.com/audience", "auth.getasset.com/clock-skew-seconds", "other"]

texts = st.one_of(
    st.sampled_from(sorted(set(GENUINE.annotations.values()))),
    st.sampled_from(
        [
            "",
            "0",
            "-1",
            "3600",
            str(2**63),
            str(10**9),
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:01Z",
            "9" * 300,
            "2126-05-01T12:00:00Z",
            "\ud800",
            "\x00",
            "ä",
            "null",
        ]
    ),
    st.text(max_size=40),
)
sayings = st.dictionaries(st.sampled_from(NAMES), texts)
tags = st.dictionaries(st.sampled_from([*GENUINE.labels, "team"]), texts, max_size=2)
entries: st.SearchStrategy[Any] = st.one_of(
    st.just(GENUINE.data),
    st.dictionaries(st.sampled_from(sorted(GENUINE.data or {})), texts),
    st.just(MINE_DATA),
)
anything: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["ledger-writer-token", "earlier"]),
        "controller_uid": st.sampled_from([None, an_asset_token().uid, "another"]),
        "labels": tags,
        "said": sayings,
        "keeps": st.booleans(),
        "data": entries,
        "fits": st.booleans(),
    }
)

look_alikes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["ledger-writer-token", "earlier"]),
        "controller_uid": st.sampled_from([None, an_asset_token().uid]),
        "labels": st.just(dict(GENUINE.labels)),
        "said": st.dictionaries(st.sampled_from(NAMES), texts, max_size=1),
        "keeps": st.just(True),
        "data": st.just(MINE_DATA),
        "fits": st.just(True),
    }
)
looks = st.one_of(look_alikes, anything)


def written_by_somebody(look: dict[str, Any], version: int, *, knows_credentials: bool = True) -> SecretState:
    """A Secret as somebody might write it; where it keeps the rest it is a genuine one that was altered."""
    said = (dict(GENUINE.annotations) if look["keeps"] else {}) | look["said"]
    if look["fits"]:
        said[TOKEN_FINGERPRINT] = token_fingerprint(SecretStr(MINE))
        known = CREDENTIALS if knows_credentials else replace(CREDENTIALS, client_secret=SecretStr("guessed"))
        said[CREDENTIALS_FINGERPRINT] = credentials_fingerprint(known, SecretStr(MINE))
    key = Key("shop", look["name"])
    return SecretState(
        key, f"uid-{version}", SECRET_TYPE, look["labels"], said, look["controller_uid"], version, look["data"]
    )


@given(
    owner=st.sampled_from([an_asset_token(), RETAIN]),
    before=st.lists(looks, max_size=2),
    after=st.lists(looks, max_size=3),
    restart=st.booleans(),
)
def test_no_token_of_somebody_else_is_served(
    owner: AssetToken, before: list[dict[str, Any]], after: list[dict[str, Any]], *, restart: bool
) -> None:
    world = World()
    for look in before:
        world.kube.put_secret(written_by_somebody(look, 1))
    world.add(owner)
    world.reconcile()
    for look in after:
        world.kube.put_secret(written_by_somebody(look, 2))
        if restart:
            world.restart()
        world.reconcile()
        world.reconcile()
    told = world.conditions().get("Ready", ("False", ""))[0]
    secret = world.secret()
    token = None if secret is None else stored_token(secret)
    if told == "True":
        assert token is not None
        assert token.access_token is not None
        assert token.access_token.get_secret_value().startswith("canary-access-token")
    assert len(world.asset.requests) <= 1 + len(after)


@given(
    owner=st.sampled_from([an_asset_token(), RETAIN]),
    looks=st.lists(looks, min_size=1, max_size=3),
    version=st.integers(1, 3),
    restart=st.booleans(),
    status_lost=st.booleans(),
)
def test_nothing_that_is_written_while_the_credentials_are_missing_outlasts_that(
    owner: AssetToken, looks: list[dict[str, Any]], version: int, *, restart: bool, status_lost: bool
) -> None:
    """Then nothing can be proved, and what the AssetToken controls is reported as it stands."""
    world = World()
    world.add(owner)
    world.reconcile()
    del world.kube.credentials[CREDENTIALS_KEY]
    for look in looks:
        world.kube.put_secret(written_by_somebody(look, version, knows_credentials=False))
        if restart:
            world.restart()
        if status_lost:
            world.kube.put_token(replace(world.token(), status=NOT_SEEN_YET))
        world.reconcile()
    world.kube.put_credentials()
    for _ in range(3):
        world.reconcile()
        world.pass_time(timedelta(minutes=1))
    assert len(world.asset.requests) <= 2
    secret = world.secret()
    token = None if secret is None else stored_token(secret)
    if world.conditions()["Ready"] == ("False", "SecretConflict"):  # it is somebody else's
        return
    assert world.conditions()["Ready"][0] == "True"
    assert token is not None
    assert token.access_token is not None
    assert token.access_token.get_secret_value().startswith("canary-access-token")


def test_the_genuine_one_is_believed() -> None:
    """Else nothing above could fail."""
    world = World()
    token = replace(an_issued_token(), token_id="token-1")
    world.kube.put_secret(a_secret(token=token))
    world.add()
    world.reconcile()

    assert world.asset.requests == []
    assert GENUINE.annotations[PROOF]
