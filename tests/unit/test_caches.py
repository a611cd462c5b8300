import weakref
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator.caches import Caches, Index, owner_of
from asset_token_operator.manifests import OWNER
from asset_token_operator.model import AssetToken, CredentialsRef, Key, Rival, SecretSpec, SecretState
from asset_token_operator.parsing import parse_secret_metadata
from tests.support.builders import NOW, a_secret, a_spec, an_asset_token

DAY = timedelta(days=1)
OLD = NOW - 400 * DAY
WRITER, READER, THIRD = (Key("shop", name) for name in ("ledger-writer", "ledger-reader", "third"))
SHARED, CREDENTIALS = Key("shop", "ledger-writer-token"), Key("shop", "asset-credentials")


@pytest.fixture
def caches() -> Caches:
    return Caches()


def a_token(
    key: Key = WRITER, secret: str = SHARED.name, credentials: str = CREDENTIALS.name, **changes: Any
) -> AssetToken:
    spec = a_spec(secret=SecretSpec(secret), credentials=CredentialsRef(credentials))
    return an_asset_token(spec, key=key, **{"uid": f"uid-of-{key}", **changes})


def foreign(key: Key, version: int = 200, **changes: Any) -> SecretState:
    """A Secret that isn't the operator's, as its metadata tells it."""
    return SecretState(key, f"uid-of-{key}", None, version=version, data=None, **changes)


def ours(version: int = 200, **changes: Any) -> SecretState:
    """The Secret of `WRITER`, as its metadata tells it."""
    return a_secret(a_token(), **{"type": None, "data": None, "version": version, **changes})


def keys(found: Collection[Key]) -> list[Key]:
    """Each once, in order; a set would hide that one is woken twice."""
    return sorted(found)


class TestIndex:
    def test_finds_what_was_added_the_earliest_first(self) -> None:
        index: Index[str] = Index()
        for key in (WRITER, READER, WRITER):
            index.add("a", key)
        index.add("b", THIRD)

        assert list(index.get("a")) == [WRITER, READER]
        assert list(index.get("b")) == [THIRD]
        assert list(index.get("c")) == []

    def test_finds_nothing_that_was_discarded(self) -> None:
        index: Index[str] = Index()
        index.add("a", WRITER)
        index.add("a", READER)
        index.discard("a", WRITER)
        assert list(index.get("a")) == [READER]

        index.discard("a", READER)
        assert list(index.get("a")) == []

    def test_discarding_what_is_not_there_does_no_harm(self) -> None:
        index: Index[str] = Index()
        index.discard("a", WRITER)
        index.add("a", READER)
        index.discard("a", WRITER)

        assert list(index.get("a")) == [READER]

    def test_what_was_found_can_be_gone_through_while_it_changes(self) -> None:
        index: Index[str] = Index()
        index.add("a", WRITER)
        index.add("a", READER)
        for key in index.get("a"):
            index.discard("a", key)

        assert list(index.get("a")) == []


class TestAssetTokens:
    def test_one_that_was_seen_is_known_and_concerns_itself(self, caches: Caches) -> None:
        token = a_token()

        assert keys(caches.saw_asset_token(token)) == [WRITER]
        assert caches.asset_token(WRITER) == token
        assert list(caches.asset_tokens()) == [token]
        assert caches.asset_token(READER) is None

    @pytest.mark.parametrize("version", [99, 100], ids=["earlier", "same"])
    def test_a_state_that_is_no_later_is_no_news(self, caches: Caches, version: int) -> None:
        known = a_token(version=100)
        caches.saw_asset_token(known)

        assert keys(caches.saw_asset_token(a_token(version=version, secret="another"))) == []
        assert caches.asset_token(WRITER) == known

    def test_a_namesake_that_was_created_since_takes_its_place(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(version=100))
        namesake = a_token(version=101, uid="another")

        assert keys(caches.saw_asset_token(namesake)) == [WRITER]
        assert list(caches.asset_tokens()) == [namesake]

    def test_an_older_one_concerns_whoever_has_to_yield_to_it(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(READER))

        assert keys(caches.saw_asset_token(a_token(created=OLD))) == [READER, WRITER]

    def test_a_younger_one_concerns_itself_alone(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(created=OLD))

        assert keys(caches.saw_asset_token(a_token(READER))) == [READER]

    def test_a_younger_one_that_has_the_secret_concerns_the_older_one_whose_it_is_now(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(READER, created=OLD))
        caches.saw_secret(ours())

        assert keys(caches.saw_asset_token(a_token())) == [READER, WRITER]
        assert keys(caches.asset_token_gone(WRITER, 101)) == [READER, WRITER]

    def test_it_concerns_the_one_that_may_have_the_secret_that_it_named_before(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(version=100, created=OLD))
        caches.saw_asset_token(a_token(READER))

        assert keys(caches.saw_asset_token(a_token(version=101, secret="another"))) == [READER, WRITER]

    def test_its_status_concerns_itself_alone(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(version=100, created=OLD))
        caches.saw_asset_token(a_token(READER))

        later = a_token(version=101, created=OLD, status={"revision": 1})
        assert keys(caches.saw_asset_token(later)) == [WRITER]

    def test_it_concerns_nobody_in_another_namespace(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(Key("bank", "ledger-writer")))

        assert keys(caches.saw_asset_token(a_token())) == [WRITER]

    def test_one_that_is_gone_is_not_known_and_concerns_itself_and_who_is_next(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(created=OLD))
        caches.saw_asset_token(a_token(READER))

        assert keys(caches.asset_token_gone(WRITER, 101)) == [READER, WRITER]
        assert caches.asset_token(WRITER) is None
        assert caches.rivals(a_token(READER)) == (None, frozenset())
        assert keys(caches.saw_secret(foreign(SHARED))) == [READER]
        assert keys(caches.saw_secret(foreign(CREDENTIALS))) == [READER]

    def test_what_was_never_known_is_not_gone(self, caches: Caches) -> None:
        assert keys(caches.asset_token_gone(WRITER, 101)) == []

    def test_a_namesake_that_was_created_since_is_not_gone(self, caches: Caches) -> None:
        namesake = a_token(version=102)
        caches.saw_asset_token(namesake)

        assert keys(caches.asset_token_gone(WRITER, 101)) == []
        assert caches.asset_token(WRITER) == namesake

    def test_what_the_operator_wrote_is_known_and_what_the_watch_says_of_it_is_no_news(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(version=100))
        written = a_token(version=101, status={"revision": 1})
        caches.wrote_asset_token(written)

        assert caches.asset_token(WRITER) == written
        assert keys(caches.saw_asset_token(written)) == []

    @pytest.mark.parametrize(
        "known",
        [
            pytest.param(None, id="gone"),
            pytest.param(a_token(version=100, uid="another"), id="another of that name"),
            pytest.param(a_token(version=102), id="changed since"),
        ],
    )
    def test_what_the_operator_wrote_does_not_hide_what_was_seen_since(
        self, caches: Caches, known: AssetToken | None
    ) -> None:
        if known is not None:
            caches.saw_asset_token(known)
        caches.wrote_asset_token(a_token(version=101, status={"revision": 1}))

        assert caches.asset_token(WRITER) == known


class TestRivals:
    def test_one_that_shares_its_secret_with_nobody_has_none(self, caches: Caches) -> None:
        token = a_token()
        caches.saw_asset_token(token)
        caches.saw_asset_token(a_token(READER, secret="another"))

        assert caches.rivals(token) == (None, frozenset())

    def test_the_oldest_has_it_and_the_younger_ones_yield(self, caches: Caches) -> None:
        oldest, middle, youngest = (
            a_token(key, created=NOW - days * DAY) for key, days in ((THIRD, 3), (WRITER, 2), (READER, 1))
        )
        for token in (middle, youngest, oldest):
            caches.saw_asset_token(token)

        def rival(token: AssetToken) -> Rival:
            return Rival(token.uid, token.key.name)

        assert caches.rivals(oldest) == (None, frozenset({rival(middle), rival(youngest)}))
        assert caches.rivals(middle) == ("third", frozenset()), "nobody yields to whom has to yield"
        assert caches.rivals(youngest) == ("third", frozenset())

    def test_of_two_that_were_created_at_once_the_name_decides(self, caches: Caches) -> None:
        reader, writer = a_token(READER), a_token(WRITER)
        caches.saw_asset_token(writer)
        caches.saw_asset_token(reader)

        assert caches.rivals(reader) == (None, frozenset({Rival(writer.uid, "ledger-writer")}))
        assert caches.rivals(writer) == ("ledger-reader", frozenset())

    def test_one_that_names_another_secret_now_is_none(self, caches: Caches) -> None:
        writer = a_token(version=100)
        caches.saw_asset_token(writer)
        caches.saw_asset_token(a_token(READER, version=100))
        caches.saw_asset_token(a_token(READER, version=101, secret="another"))

        assert caches.rivals(writer) == (None, frozenset())

    @pytest.mark.parametrize("step", [1, -1], ids=["the oldest first", "the youngest first"])
    def test_thousands_of_one_secret_concern_each_other_no_more_than_two_would(self, caches: Caches, step: int) -> None:
        tokens = [a_token(Key("shop", f"a{day}"), created=NOW + day * DAY) for day in range(3000)][::step]
        concerned = [caches.saw_asset_token(token) for token in tokens]
        concerned += [caches.saw_secret(foreign(SHARED))]
        rivals = [caches.rivals(token) for token in tokens]
        concerned += [caches.asset_token_gone(token.key, 1000) for token in tokens]

        assert max(map(len, concerned)) <= 2
        assert sum(len(juniors) for _, juniors in rivals) == 2999
        assert {senior for senior, _ in rivals} == {None, "a0"}
        assert not caches.asset_tokens()


class TestSecrets:
    def test_one_that_was_seen_is_known(self, caches: Caches) -> None:
        secret = foreign(SHARED)
        caches.saw_secret(secret)

        assert caches.secret(SHARED) == secret
        assert dict(caches.secrets()) == {SHARED: secret}
        assert caches.secret(CREDENTIALS) is None

    def test_one_that_nobody_names_concerns_nobody(self, caches: Caches) -> None:
        assert keys(caches.saw_secret(foreign(SHARED))) == []

    def test_it_concerns_those_that_name_it_those_whose_credentials_it_has_and_its_owner(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(READER))
        caches.saw_asset_token(a_token(THIRD, secret="third", credentials=SHARED.name))
        caches.saw_asset_token(a_token(Key("bank", "a")))

        assert keys(caches.saw_secret(ours())) == [READER, WRITER, THIRD]

    @pytest.mark.parametrize("version", [199, 200], ids=["earlier", "same"])
    def test_a_state_that_is_no_later_is_no_news(self, caches: Caches, version: int) -> None:
        caches.saw_asset_token(a_token())
        known = foreign(SHARED, 200)
        caches.saw_secret(known)

        assert keys(caches.saw_secret(ours(version))) == []
        assert caches.secret(SHARED) == known
        assert list(caches.secrets_of(WRITER)) == []

    def test_a_later_state_is_known_and_concerns_whom_it_concerned_before_too(self, caches: Caches) -> None:
        """Whoever takes its annotations away takes it from its owner."""
        caches.saw_secret(ours(200))

        later = ours(201, annotations={})
        assert keys(caches.saw_secret(later)) == [WRITER]
        assert caches.secret(SHARED) == later
        assert keys(caches.saw_secret(ours(202))) == [WRITER]

    def test_one_that_is_gone_is_not_known_and_concerns_whom_it_concerned(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token(READER))
        caches.saw_secret(ours(200))

        assert keys(caches.secret_gone(SHARED, 201)) == [READER, WRITER]
        assert caches.secret(SHARED) is None
        assert list(caches.secrets_of(WRITER)) == []

    def test_what_was_never_known_is_not_gone(self, caches: Caches) -> None:
        caches.saw_asset_token(a_token())

        assert keys(caches.secret_gone(SHARED, 201)) == []

    def test_one_that_was_written_since_is_not_gone(self, caches: Caches) -> None:
        """A list that began before a write of our own must not hide it: another token would be requested."""
        written = ours(202)
        caches.saw_secret(written)

        assert keys(caches.secret_gone(SHARED, 201)) == []
        assert caches.secret(SHARED) == written

    @pytest.mark.parametrize("name", [WRITER, READER], ids=["with a Secret", "without"])
    def test_those_of_an_asset_token_are_found_by_its_name(self, caches: Caches, name: Key) -> None:
        first, old = ours(200), ours(200, key=Key("shop", "old-name"))
        caches.saw_secret(first)
        caches.saw_secret(old)
        caches.saw_secret(foreign(CREDENTIALS))

        assert list(caches.secrets_of(name)) == ([first, old] if name == WRITER else [])

    def test_a_type_that_is_known_stays_so_when_metadata_tells_of_the_same_secret(self, caches: Caches) -> None:
        caches.saw_secret(ours(200, type="Opaque"))
        caches.saw_secret(ours(201))

        assert caches.secret(SHARED) == ours(201, type="Opaque")
        assert list(caches.secrets_of(WRITER)) == [], "it isn't one of the operator's"

    def test_a_type_says_nothing_of_another_secret_of_that_name(self, caches: Caches) -> None:
        caches.saw_secret(ours(200, type="Opaque"))
        namesake = ours(201, uid="another")
        caches.saw_secret(namesake)

        assert caches.secret(SHARED) == namesake
        assert list(caches.secrets_of(WRITER)) == [namesake]


class TestLearningTheType:
    def test_a_secret_that_was_read_whole_keeps_its_type_and_nothing_else_of_that(self, caches: Caches) -> None:
        caches.saw_secret(ours(201))
        caches.learn_type(a_secret(a_token(), version=200, labels={}))

        assert caches.secret(SHARED) == ours(201, type="auth.getasset.com/token")
        assert list(caches.secrets_of(WRITER)) == [ours(201, type="auth.getasset.com/token")]

    def test_one_of_another_type_is_no_asset_tokens_any_more(self, caches: Caches) -> None:
        caches.saw_secret(ours(200))
        caches.learn_type(ours(200, type="Opaque"))

        assert list(caches.secrets_of(WRITER)) == []

    @pytest.mark.parametrize(
        "known",
        [
            pytest.param(None, id="not known"),
            pytest.param(ours(201, uid="another"), id="another of that name"),
            pytest.param(ours(201, type="auth.getasset.com/token"), id="its type is known"),
        ],
    )
    def test_it_is_not_learnt_of_any_other(self, caches: Caches, known: SecretState | None) -> None:
        if known is not None:
            caches.saw_secret(known)
        caches.learn_type(ours(200, type="Opaque"))

        assert caches.secret(SHARED) == known


def test_a_secret_is_of_the_asset_token_that_it_names_if_it_is_one_of_the_operators() -> None:
    secret = ours()

    assert owner_of(secret) == WRITER
    assert owner_of(replace(secret, key=Key("bank", "a"))) == Key("bank", "ledger-writer")
    assert owner_of(replace(secret, labels={})) == WRITER
    assert owner_of(replace(secret, annotations={})) is None
    assert owner_of(replace(secret, type="Opaque")) is None


HUGE: dict[str, dict[str, Any]] = {
    "annotations": {"annotations": {f"auth.getasset.com/{number}": "" for number in range(25_000)}},
    "one annotation": {"annotations": {"auth.getasset.com/copy": "x" * 200_000}},
    "labels": {"labels": {f"label-{number}": "x" * 63 for number in range(10_000)}},
    "book-keeping": {"applied": frozenset(("data", f"key-{number}") for number in range(50_000))},
    "an owner": {"controller_uid": "x" * 1_000_000},
}


class TestAHugeSecret:
    """Whoever may create Secrets may make each of them a megabyte that looks like ours."""

    @pytest.mark.parametrize("huge", [pytest.param(huge, id=name) for name, huge in HUGE.items()])
    def test_is_kept_only_as_far_as_it_says_whose_it_is(self, caches: Caches, huge: dict[str, Any]) -> None:
        annotations = dict(ours().annotations) | huge.get("annotations", {})
        caches.saw_secret(ours(**(huge | {"annotations": annotations})))

        kept = caches.secret(SHARED)
        assert kept is not None
        assert len(repr((kept.labels, dict(kept.annotations), kept.applied, kept.controller_uid))) < 5_000
        assert owner_of(kept) == WRITER
        assert [found.key for found in caches.secrets_of(WRITER)] == [SHARED]
        assert (kept.controller_uid == ours().controller_uid) == ("controller_uid" not in huge)

    def test_with_an_owner_that_is_no_name_is_nobodys(self, caches: Caches) -> None:
        caches.saw_secret(ours(annotations={OWNER: "x" * 100_000}))

        kept = caches.secret(SHARED)
        assert kept is not None
        assert owner_of(kept) is None

    def test_that_the_operator_wrote_is_kept_as_it_is(self, caches: Caches) -> None:
        """A spec may ask for 32 labels and 32 annotations."""
        texts = {f"example.com/{'a' * 50}-{number}": "x" * 63 for number in range(32)}
        secret = replace(SecretSpec(SHARED.name), labels=texts, annotations=texts)
        written = a_secret(an_asset_token(a_spec(secret=secret)), type=None, data=None)
        caches.saw_secret(written)

        assert caches.secret(SHARED) == written

    def test_is_remembered_by_nothing_once_it_is_gone(self) -> None:
        """The sets of names that Secrets share are kept for good, so only small ones are."""
        fields: dict[str, Any] = {f"f:key-{number}": {} for number in range(50_000)}
        managed = [{"manager": "asset-token-operator", "operation": "Apply", "fieldsV1": {"f:data": fields}}]
        labels = {"app.kubernetes.io/managed-by": "asset-token-operator"}
        metadata: dict[str, Any] = {"namespace": "shop", "name": "a", "uid": "a", "resourceVersion": "1"}
        metadata |= {"labels": labels, "managedFields": managed}

        applied = weakref.ref(parse_secret_metadata({"metadata": metadata}).applied)

        assert applied() is None
