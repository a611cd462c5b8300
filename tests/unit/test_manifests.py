"""The Secret: as it is written, as it is read again, whose it is, and whether it is as it should be."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from asset_token_operator.manifests import (
    credentials_fingerprint,
    differs,
    is_left_behind,
    is_owned,
    owner_name,
    safe_token_id,
    secret_manifest,
    stored_token,
)
from asset_token_operator.model import (
    Credentials,
    DeletionPolicy,
    Environment,
    IssuedToken,
    Key,
    Rival,
    SecretSpec,
    SecretState,
    token_fingerprint,
)
from asset_token_operator.parsing import parse_secret
from tests.support.builders import (
    CREDENTIALS,
    ENDPOINTS,
    NOW,
    a_jwt,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    as_stored,
    data_of,
    retained,
)

OWN_UID = "11111111-1111-1111-1111-111111111111"
OTHER_UID = "33333333-3333-3333-3333-333333333333"
TOKEN_DIGEST = "7d3e408d0a33d22f4dc27532e96d2440ac965bf927247693f8e62057a8f1649e"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def annotated(secret: SecretState, name: str, value: str | None) -> SecretState:
    """The Secret with that annotation of ours, or without it."""
    annotations = dict(secret.annotations)
    annotations.pop(f"auth.getasset.com/{name}", None)
    return replace(secret, annotations=annotations if value is None else annotations | {_prefixed(name): value})


def _prefixed(name: str) -> str:
    return f"auth.getasset.com/{name}"


class TestSecretManifest:
    def test_a_secret_goes_with_its_asset_token_by_default(self) -> None:
        owner = an_asset_token(a_spec(secret=SecretSpec("ledger-writer-token")))
        assert secret_manifest(
            owner,
            an_issued_token(owner.spec, credentials_fingerprint="0a1b2c3d", proof_key=None, proof="0f"),
            ENDPOINTS,
        ) == yaml.safe_load("""
            apiVersion: v1
            kind: Secret
            metadata:
              namespace: shop
              name: ledger-writer-token
              labels:
                app.kubernetes.io/managed-by: asset-token-operator
              annotations:
                auth.getasset.com/owner: ledger-writer
                auth.getasset.com/environment: sandbox
                auth.getasset.com/issuance-time: "2026-05-01T12:00:00Z"
                auth.getasset.com/issuance-reason: FirstToken
                auth.getasset.com/expiration-time: "2026-05-01T13:00:00Z"
                auth.getasset.com/granted-scopes: ledger:read
                auth.getasset.com/token-id: token-1
                auth.getasset.com/token-fingerprint: 7d3e408d0a33d22f4dc27532e96d2440ac965bf927247693f8e62057a8f1649e
                auth.getasset.com/credentials-fingerprint: 0a1b2c3d
                auth.getasset.com/spec-hash: ee95e4e9e6e0f31b3fa79fc168869b01993605f5de17c23d0ad20b5eacea326c
                auth.getasset.com/revision: "1"
                auth.getasset.com/audience: ""
                auth.getasset.com/clock-skew-seconds: "0"
                auth.getasset.com/served-renew-request: ""
                auth.getasset.com/proof: 0f
              ownerReferences:
                - apiVersion: auth.getasset.com/v1alpha1
                  kind: AssetToken
                  name: ledger-writer
                  uid: 11111111-1111-1111-1111-111111111111
                  controller: true
            type: auth.getasset.com/token
            data:
              access_token: Y2FuYXJ5LWFjY2Vzcy10b2tlbg==
              token_type: QmVhcmVy
              authorization: QmVhcmVyIGNhbmFyeS1hY2Nlc3MtdG9rZW4=
              expires_at: MjAyNi0wNS0wMVQxMzowMDowMFo=
              base_url: aHR0cHM6Ly9hcGkuc2FuZGJveC5nZXRhc3NldC5jb20=
              environment: c2FuZGJveA==
        """)

    def test_a_retained_secret_has_no_owner_and_what_the_user_adds(self) -> None:
        spec = a_spec(
            environment=Environment.PRODUCTION,
            secret=SecretSpec(
                "kept",
                labels={"team": "books"},
                annotations={"example.com/note": "ours"},
                deletion_policy=DeletionPolicy.RETAIN,
            ),
        )
        token = an_issued_token(
            spec,
            scopes=("ledger:create", "ledger:read"),
            revision=7,
            reason="RenewRequested",
            renew_request="1777640000",
            audience=("https://api.getasset.com", "https://api.getasset.com/mcp"),
            skew=timedelta(seconds=-90),
            credentials_fingerprint="0a1b2c3d",
            spec_hash="0" * 64,
            proof_key=None,
        )
        assert secret_manifest(an_asset_token(spec), token, ENDPOINTS) == yaml.safe_load("""
            apiVersion: v1
            kind: Secret
            metadata:
              namespace: shop
              name: kept
              labels:
                team: books
                app.kubernetes.io/managed-by: asset-token-operator
              annotations:
                example.com/note: ours
                auth.getasset.com/owner: ledger-writer
                auth.getasset.com/environment: production
                auth.getasset.com/issuance-time: "2026-05-01T12:00:00Z"
                auth.getasset.com/issuance-reason: RenewRequested
                auth.getasset.com/expiration-time: "2026-05-01T13:00:00Z"
                auth.getasset.com/granted-scopes: ledger:create ledger:read
                auth.getasset.com/token-id: token-1
                auth.getasset.com/token-fingerprint: 7d3e408d0a33d22f4dc27532e96d2440ac965bf927247693f8e62057a8f1649e
                auth.getasset.com/credentials-fingerprint: 0a1b2c3d
                auth.getasset.com/spec-hash: "0000000000000000000000000000000000000000000000000000000000000000"
                auth.getasset.com/revision: "7"
                auth.getasset.com/served-renew-request: "1777640000"
                auth.getasset.com/audience: https://api.getasset.com https://api.getasset.com/mcp
                auth.getasset.com/clock-skew-seconds: "-90"
            type: auth.getasset.com/token
            data:
              access_token: Y2FuYXJ5LWFjY2Vzcy10b2tlbg==
              token_type: QmVhcmVy
              authorization: QmVhcmVyIGNhbmFyeS1hY2Nlc3MtdG9rZW4=
              expires_at: MjAyNi0wNS0wMVQxMzowMDowMFo=
              base_url: aHR0cHM6Ly9hcGkuZ2V0YXNzZXQuY29t
              environment: cHJvZHVjdGlvbg==
        """)

    def test_the_operators_own_metadata_can_not_be_overridden(self) -> None:
        spec = a_spec(
            secret=SecretSpec(
                "x",
                labels={"app.kubernetes.io/managed-by": "helm"},
                annotations={"auth.getasset.com/owner": "another"},
            )
        )
        metadata = secret_manifest(an_asset_token(spec), an_issued_token(spec), ENDPOINTS)["metadata"]
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "asset-token-operator"
        assert metadata["annotations"]["auth.getasset.com/owner"] == "ledger-writer"

    def test_the_base_url_is_that_of_the_tokens_environment_as_it_is_configured(self) -> None:
        endpoints = {Environment.SANDBOX: "http://127.0.0.1:8080", Environment.PRODUCTION: "https://live.example.com"}
        manifest = secret_manifest(an_asset_token(), an_issued_token(), endpoints)
        assert manifest["data"]["base_url"] == encoded("http://127.0.0.1:8080")

    def test_nothing_of_the_token_is_in_metadata(self) -> None:
        metadata = secret_manifest(an_asset_token(), an_issued_token(), ENDPOINTS)["metadata"]
        assert "canary" not in str(metadata)
        assert encoded("canary") not in str(metadata)


class TestStoredToken:
    @pytest.mark.parametrize(
        "token",
        [
            pytest.param(an_issued_token(), id="as-usual"),
            pytest.param(an_issued_token(renew_request="1777640000"), id="renew-request"),
            pytest.param(an_issued_token(scopes=()), id="no-scopes"),
            pytest.param(an_issued_token(scopes=("a", "b"), revision=12), id="more-scopes"),
            pytest.param(an_issued_token(environment=Environment.PRODUCTION), id="production"),
            pytest.param(an_issued_token(audience=("b", "https://a.example")), id="audience"),
            pytest.param(an_issued_token(skew=timedelta(seconds=-90)), id="clock-skew"),
        ],
    )
    def test_a_token_is_read_as_it_was_written(self, token: IssuedToken) -> None:
        assert stored_token(a_secret(token=token)) == token

    @pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, id=name)
            for name in (
                "environment",
                "issuance-time",
                "issuance-reason",
                "expiration-time",
                "granted-scopes",
                "token-id",
                "token-fingerprint",
                "credentials-fingerprint",
                "spec-hash",
                "revision",
            )
        ],
    )
    def test_a_missing_annotation_makes_it_unknown(self, name: str) -> None:
        assert stored_token(annotated(a_secret(), name, None)) is None

    @pytest.mark.parametrize(
        "name",
        [pytest.param(name, id=name) for name in ("owner", "served-renew-request", "audience", "clock-skew-seconds")],
    )
    def test_it_is_known_without_the_annotations_that_do_not_describe_it(self, name: str) -> None:
        assert stored_token(annotated(a_secret(), name, None)) == an_issued_token()

    @pytest.mark.parametrize("seconds", [-300_000_000, 86_400, 80_000_000_000])
    def test_a_skew_of_more_than_a_day_is_none(self, seconds: int) -> None:
        assert stored_token(annotated(a_secret(), "clock-skew-seconds", str(seconds))) == an_issued_token()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            pytest.param("environment", "moon", id="unknown-environment"),
            pytest.param("environment", "", id="no-environment"),
            pytest.param("issuance-time", "now", id="issuance-time-is-a-word"),
            pytest.param("expiration-time", "1777640400", id="expiration-time-in-unix-seconds"),
            pytest.param("expiration-time", "", id="no-expiration-time"),
            pytest.param("expiration-time", "0001-01-01T00:00:00+05:00", id="expired-before-the-first-year"),
            pytest.param("expiration-time", "9999-12-31T23:59:59-05:00", id="expires-after-the-last-year"),
            pytest.param("clock-skew-seconds", "fast", id="clock-skew-is-a-word"),
            pytest.param("clock-skew-seconds", "9" * 20, id="clock-skew-is-absurd"),
            pytest.param("revision", "first", id="revision-is-a-word"),
            pytest.param("revision", "9" * 5000, id="revision-of-five-thousand-digits"),
            pytest.param("token-fingerprint", "0" * 64, id="another-fingerprint"),
            pytest.param("token-fingerprint", TOKEN_DIGEST.upper(), id="fingerprint-in-capitals"),
            pytest.param("token-fingerprint", TOKEN_DIGEST[:32], id="half-a-fingerprint"),
            pytest.param("token-fingerprint", "", id="no-fingerprint"),
            pytest.param("token-fingerprint", "\u00e9", id="fingerprint-that-is-not-ascii"),
        ],
    )
    def test_an_annotation_that_is_tampered_with_makes_it_unknown(self, name: str, value: str) -> None:
        assert stored_token(annotated(a_secret(), name, value)) is None

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param(encoded("canary-access-tokem"), id="another-token"),
            pytest.param(encoded("canary-access-token\n"), id="line-break-behind"),
            pytest.param("", id="empty"),
            pytest.param("canary-access-token", id="no-base64"),
            pytest.param(encoded("canary-access-token")[:-1], id="base64-cut-short"),
            pytest.param(encoded("canary-access-token") + "\n", id="base64-with-a-line-break"),
            pytest.param("/w==", id="no-text"),
            pytest.param("\u00e9", id="not-ascii"),
            pytest.param(None, id="null"),
        ],
    )
    def test_a_token_that_is_tampered_with_is_none(self, value: Any) -> None:
        secret = a_secret()
        assert stored_token(replace(secret, data={**data_of(secret), "access_token": value})) is None

    def test_a_secret_without_a_token_holds_none(self) -> None:
        assert stored_token(a_secret(data={})) is None

    def test_a_secret_without_annotations_holds_none(self) -> None:
        assert stored_token(a_secret(annotations={})) is None

    def test_the_derived_keys_do_not_decide_what_it_holds(self) -> None:
        secret = a_secret()
        data = {"access_token": data_of(secret)["access_token"], "authorization": encoded("Basic eDp5")}
        assert stored_token(replace(secret, data=data)) == an_issued_token()


class TestFingerprints:
    # These values stand in the Secrets of running clusters: a change of either makes their tokens unknown.
    def test_a_tokens_fingerprint_is_the_same_in_all_versions(self) -> None:
        assert token_fingerprint(SecretStr("canary-access-token")) == TOKEN_DIGEST

    def test_a_credentials_fingerprint_is_the_same_in_all_versions(self) -> None:
        credentials = Credentials(SecretStr("client"), SecretStr("secret"))
        assert credentials_fingerprint(credentials, SecretStr("token")) == (
            "c989d08235867023c45e71b70527a7f71f5284992bb592b196f96ef540b3b623"
        )

    @pytest.mark.parametrize(
        ("client_id", "client_secret", "token"),
        [
            pytest.param("other", "canary-client-secret", "canary-access-token", id="client-id"),
            pytest.param("client", "other", "canary-access-token", id="client-secret"),
            pytest.param("client", "canary-client-secret", "other", id="token-that-is-the-key"),
            pytest.param("clientcanary-", "client-secret", "canary-access-token", id="where-one-ends"),
        ],
    )
    def test_a_credentials_fingerprint_changes_with_each_part(
        self, client_id: str, client_secret: str, token: str
    ) -> None:
        credentials = Credentials(SecretStr(client_id), SecretStr(client_secret))
        before = credentials_fingerprint(CREDENTIALS, SecretStr("canary-access-token"))
        assert credentials_fingerprint(credentials, SecretStr(token)) != before

    @pytest.mark.parametrize(
        "jti",
        [
            pytest.param("token-1", id="word"),
            pytest.param("a b", id="space"),
            pytest.param("~" * 256, id="longest"),
        ],
    )
    def test_a_token_is_known_by_its_jti(self, jti: str) -> None:
        assert safe_token_id(jti, SecretStr("canary-access-token")) == jti

    @pytest.mark.parametrize(
        "jti",
        [
            pytest.param(None, id="none"),
            pytest.param("", id="empty"),
            pytest.param("~" * 257, id="too-long"),
            pytest.param("token\n", id="line-break"),
            pytest.param("token\x7f", id="control-character"),
            pytest.param("t\u00f6ken", id="not-ascii"),
            pytest.param("\ud800", id="lone-surrogate"),
        ],
    )
    def test_a_token_without_a_presentable_jti_is_known_by_its_fingerprint(self, jti: str | None) -> None:
        token_id = safe_token_id(jti, SecretStr("canary-access-token"))
        assert token_id == "sha256:7d3e408d0a33d22f4dc27532e96d2440"


class TestOwnership:
    @pytest.mark.parametrize(
        ("secret", "owned"),
        [
            pytest.param({}, True, id="we-control-it"),
            pytest.param({"labels": {}, "annotations": {}}, True, id="we-control-it-without-a-label"),
            pytest.param({"controller_uid": OTHER_UID}, False, id="another-controls-it"),
            pytest.param({"controller_uid": "junior"}, True, id="a-younger-one-that-yields-controls-it"),
            pytest.param({"controller_uid": None}, True, id="nothing-controls-it-and-it-names-us"),
            pytest.param(
                {"controller_uid": None, "annotations": {"auth.getasset.com/owner": "younger"}},
                True,
                id="nothing-controls-it-and-it-names-a-younger-one-that-yields",
            ),
            pytest.param(
                {"controller_uid": OTHER_UID, "annotations": {"auth.getasset.com/owner": "younger"}},
                False,
                id="another-controls-it-although-it-names-a-younger-one",
            ),
            pytest.param({"controller_uid": None, "labels": {}}, True, id="the-label-is-gone"),
            pytest.param(
                {"controller_uid": None, "labels": {"app.kubernetes.io/managed-by": "helm"}},
                True,
                id="another-tool-overwrote-the-label",
            ),
            pytest.param({"controller_uid": None, "annotations": {}}, False, id="names-nobody"),
            pytest.param(
                {"controller_uid": None, "annotations": {"auth.getasset.com/owner": "another"}},
                False,
                id="names-another",
            ),
            pytest.param({"type": "Opaque"}, False, id="another-type-although-we-control-it"),
            pytest.param({"type": "Opaque", "controller_uid": None}, False, id="another-type-that-names-us"),
            pytest.param({"type": "Opaque", "controller_uid": "junior"}, False, id="another-type-that-yields"),
        ],
    )
    def test_a_secret_is_ours_if_we_control_it_or_it_says_that_it_is(
        self, secret: dict[str, Any], *, owned: bool
    ) -> None:
        assert is_owned(a_secret(**secret), an_asset_token(), frozenset({Rival("junior", "younger")})) is owned

    def test_nobody_yields_unless_told(self) -> None:
        assert not is_owned(a_secret(controller_uid="junior"), an_asset_token())

    def test_a_secret_that_kept_its_name_but_not_its_asset_token_is_not_ours(self) -> None:
        before = an_asset_token(uid=OTHER_UID)
        assert not is_owned(a_secret(before), an_asset_token())

    def test_a_retained_secret_is_taken_up_by_the_next_asset_token_of_the_name(self) -> None:
        before = an_asset_token(retained(), uid=OTHER_UID)
        assert is_owned(a_secret(before), an_asset_token(retained()))

    @pytest.mark.parametrize(
        ("secret", "left_behind"),
        [
            pytest.param({"controller_uid": OTHER_UID}, True, id="of-one-with-our-name"),
            pytest.param({}, False, id="ours"),
            pytest.param({"controller_uid": None}, False, id="controlled-by-nothing"),
            pytest.param(
                {"controller_uid": OTHER_UID, "annotations": {"auth.getasset.com/owner": "another"}},
                False,
                id="of-one-with-another-name",
            ),
            pytest.param({"controller_uid": OTHER_UID, "labels": {}}, True, id="the-label-is-gone"),
            pytest.param({"controller_uid": OTHER_UID, "type": "Opaque"}, False, id="of-another-type"),
        ],
    )
    def test_a_secret_is_left_behind_by_one_that_had_our_name(
        self, secret: dict[str, Any], *, left_behind: bool
    ) -> None:
        assert is_left_behind(a_secret(**secret), an_asset_token()) is left_behind

    @pytest.mark.parametrize(
        ("secret", "name"),
        [
            pytest.param({}, "ledger-writer", id="ours"),
            pytest.param({"controller_uid": None}, "ledger-writer", id="ours-and-retained"),
            pytest.param({"type": "Opaque"}, None, id="another-type"),
            pytest.param({"labels": {}}, "ledger-writer", id="the-label-is-gone"),
            pytest.param({"annotations": {}}, None, id="says-nothing"),
        ],
    )
    def test_a_secret_of_the_operator_says_whose_it_is(self, secret: dict[str, Any], name: str | None) -> None:
        assert owner_name(a_secret(**secret)) == name


WANTED = an_asset_token(
    a_spec(secret=SecretSpec("x", labels={"team": "books"}, annotations={"example.com/note": "ours"}))
)
KEPT = an_asset_token(retained())


def is_different(secret: SecretState, owner: Any = WANTED) -> bool:
    return differs(secret, secret_manifest(owner, an_issued_token(owner.spec), ENDPOINTS))


def with_entry(kind: str, name: str, value: str | None) -> SecretState:
    """The Secret as it should be, but for one entry; without it where the value is None."""
    secret = a_secret(WANTED)
    entries = dict(getattr(secret, kind))
    if value is None:
        del entries[name]
    else:
        entries[name] = value
    change: dict[str, Any] = {kind: entries}
    return replace(secret, **change)


ENTRIES = [
    pytest.param(kind, name, id=name)
    for kind in ("labels", "annotations", "data")
    for name in getattr(a_secret(WANTED), kind)
]


class TestDiffers:
    @pytest.mark.parametrize("owner", [pytest.param(WANTED, id="delete"), pytest.param(KEPT, id="retain")])
    def test_a_secret_as_it_was_written_does_not(self, owner: Any) -> None:
        assert not is_different(a_secret(owner), owner)

    def test_all_that_is_written_is_watched(self) -> None:
        assert len(ENTRIES) == 2 + 16 + 6

    @pytest.mark.parametrize(("kind", "name"), ENTRIES)
    def test_an_entry_that_is_changed_is_seen(self, kind: str, name: str) -> None:
        assert is_different(with_entry(kind, name, "b3RoZXI="))

    @pytest.mark.parametrize(("kind", "name"), ENTRIES)
    def test_an_entry_that_is_removed_is_seen(self, kind: str, name: str) -> None:
        assert is_different(with_entry(kind, name, None))

    @pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in ("labels", "annotations", "data")])
    def test_what_others_add_is_theirs(self, kind: str) -> None:
        assert not is_different(with_entry(kind, "example.com.theirs", "dGhlaXJz"))

    @pytest.mark.parametrize("kind", [pytest.param(kind, id=kind) for kind in ("label", "annotation", "data")])
    def test_what_is_left_over_from_an_earlier_apply_of_ours_is_seen(self, kind: str) -> None:
        secret = a_secret(WANTED)
        assert is_different(replace(secret, applied=secret.applied | {(kind, "old")}))

    def test_a_label_that_the_spec_no_longer_has_is_seen(self) -> None:
        fewer = an_asset_token(a_spec(secret=SecretSpec("x", annotations={"example.com/note": "ours"})))
        assert is_different(a_secret(WANTED), fewer)

    def test_a_name_in_one_kind_is_not_taken_for_the_same_name_in_another(self) -> None:
        secret = a_secret(WANTED)
        labels = {name: value for name, value in secret.labels.items() if name != "team"}
        annotations = {**secret.annotations, "team": "books"}
        assert is_different(replace(secret, labels=labels, annotations=annotations))

    @pytest.mark.parametrize(
        ("controller", "owner"),
        [
            pytest.param(None, WANTED, id="owner-reference-missing"),
            pytest.param(OTHER_UID, WANTED, id="owner-reference-to-another"),
            pytest.param(OWN_UID, KEPT, id="owner-reference-that-a-retained-one-must-not-have"),
        ],
    )
    def test_a_wrong_owner_reference_is_seen(self, controller: str | None, owner: Any) -> None:
        assert is_different(a_secret(owner, controller_uid=controller), owner)

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"revision": 2}, id="revision"),
            pytest.param({"expires_at": NOW + timedelta(hours=2)}, id="expiry"),
            pytest.param({"access_token": SecretStr("another")}, id="token"),
        ],
    )
    def test_another_token_is_seen(self, change: dict[str, Any]) -> None:
        assert is_different(a_secret(WANTED, an_issued_token(WANTED.spec, **change)))

    def test_another_base_url_is_seen(self) -> None:
        endpoints = {**ENDPOINTS, Environment.SANDBOX: "https://sandbox.example.com"}
        assert differs(a_secret(WANTED), secret_manifest(WANTED, an_issued_token(WANTED.spec), endpoints))

    def test_what_changes_at_every_write_is_no_difference(self) -> None:
        secret = a_secret(WANTED, version=999, uid="recreated", key=Key("shop", "x"))
        assert not is_different(secret)

    def test_the_secret_that_the_api_server_returns_is_the_one_that_was_meant(self) -> None:
        manifest = secret_manifest(WANTED, an_issued_token(WANTED.spec), ENDPOINTS)
        assert not differs(parse_secret(as_stored(manifest)), manifest)


JWT_EXPIRY = NOW + timedelta(minutes=50)


def a_secret_with_a_jwt(**annotations: str) -> SecretState:
    """A Secret whose token says itself when it expires, and whose annotations say something else."""
    token = an_issued_token(access_token=SecretStr(a_jwt({"exp": JWT_EXPIRY.timestamp()})), expires_at=JWT_EXPIRY)
    secret = a_secret(token=token)
    changed = {f"auth.getasset.com/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return replace(secret, annotations={**secret.annotations, **changed})


def by_metadata(secret: SecretState) -> SecretState:
    """The same as a list of metadata tells it."""
    return replace(secret, type=None, data=None)


class TestByMetadataOnly:
    def test_a_token_is_what_the_annotations_say_without_the_token(self) -> None:
        whole = stored_token(a_secret())
        assert whole is not None
        known = stored_token(by_metadata(a_secret()))

        assert known == replace(whole, access_token=None)
        assert known is not None
        assert known.fingerprint == whole.fingerprint == TOKEN_DIGEST

    def test_without_a_fingerprint_nothing_is_known(self) -> None:
        assert stored_token(by_metadata(annotated(a_secret(), "token-fingerprint", None))) is None

    @pytest.mark.parametrize(
        ("change", "ours"),
        [
            pytest.param({}, True, id="controlled"),
            pytest.param({"controller_uid": OTHER_UID}, False, id="controlled by another"),
            pytest.param({"controller_uid": None}, True, id="it says so"),
            pytest.param({"controller_uid": None, "labels": {}}, True, id="without the label"),
            pytest.param({"controller_uid": None, "annotations": {}}, False, id="it says nothing"),
        ],
    )
    def test_one_whose_type_is_not_known_may_be_ours(self, change: dict[str, Any], *, ours: bool) -> None:
        assert is_owned(replace(by_metadata(a_secret()), **change), an_asset_token()) is ours

    def test_one_whose_type_is_not_known_says_whose_it_is(self) -> None:
        assert owner_name(by_metadata(a_secret())) == "ledger-writer"

    def test_a_manifest_of_a_token_that_is_not_known_has_no_data_and_is_the_same_besides(self) -> None:
        token = an_issued_token()
        whole = secret_manifest(an_asset_token(), token, ENDPOINTS)
        manifest = secret_manifest(an_asset_token(), replace(token, access_token=None), ENDPOINTS)

        assert manifest == {name: value for name, value in whole.items() if name != "data"}

    @pytest.mark.parametrize("metadata_only", [True, False], ids=["both", "the manifest"])
    def test_data_that_is_not_known_is_no_difference(self, *, metadata_only: bool) -> None:
        secret = a_secret() if not metadata_only else by_metadata(a_secret())
        manifest = secret_manifest(an_asset_token(), replace(an_issued_token(), access_token=None), ENDPOINTS)

        assert not differs(secret, manifest)
        assert not differs(by_metadata(a_secret()), secret_manifest(an_asset_token(), an_issued_token(), ENDPOINTS))

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"labels": {}}, id="a label is missing"),
            pytest.param({"annotations": {}}, id="an annotation is missing"),
            pytest.param({"controller_uid": None}, id="its owner"),
            pytest.param({"applied": a_secret().applied | {("label", "team")}}, id="a label is left over"),
        ],
    )
    def test_a_difference_of_metadata_is_seen(self, change: dict[str, Any]) -> None:
        manifest = secret_manifest(an_asset_token(), replace(an_issued_token(), access_token=None), ENDPOINTS)

        assert differs(replace(by_metadata(a_secret()), **change), manifest)


def test_a_jwts_own_expiry_wins_over_an_annotation_that_was_tampered_with() -> None:
    stored = stored_token(a_secret_with_a_jwt(expiration_time="2034-01-01T00:00:00Z"))
    assert stored is not None
    assert stored.expires_at == JWT_EXPIRY


@pytest.mark.parametrize(
    "annotations",
    [
        pytest.param({"issuance_time": "2030-01-01T00:00:00Z"}, id="issued-after-its-expiry"),
        pytest.param({"revision": str(2**63)}, id="absurd-revision"),
        pytest.param({"clock_skew_seconds": "9" * 40}, id="skew-beyond-the-calendar"),
    ],
)
def test_a_secret_whose_annotations_make_no_sense_tells_of_no_token(annotations: dict[str, str]) -> None:
    assert stored_token(a_secret_with_a_jwt(**annotations)) is None
