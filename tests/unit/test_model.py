"""Specs, Secrets, durations and times are read as users and the API server write them."""

from __future__ import annotations

import base64
import json
import time
import traceback
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from asset_token_operator.model import (
    AssetToken,
    Credentials,
    CredentialsRef,
    DeletionPolicy,
    Environment,
    Key,
    Reserves,
    SecretSpec,
    SecretState,
    Spec,
    Urgency,
    token_fingerprint,
)
from asset_token_operator.parsing import SpecError, parse_asset_token, parse_secret, parse_secret_metadata
from asset_token_operator.status import NOT_SEEN_YET, Status
from asset_token_operator.times import format_time, parse_duration, parse_time, whole_seconds
from tests.support.builders import CREDENTIALS, NOW, a_secret, a_spec, an_asset_token, an_issued_token

ALL_THAT_IS_ASKED = Spec(
    environment=Environment.SANDBOX,
    credentials=CredentialsRef("asset-credentials", "client_id", "client_secret"),
    secret=SecretSpec("ledger-writer-token"),
    business_id="biz_GA6EG2qFxA97NZHtxeLPUy",
    scopes=("ledger:create", "ledger:read"),
    resources=("https://api.sandbox.getasset.com/mcp", "https://api.sandbox.getasset.com"),
    lifetime=timedelta(hours=1),
)


def an_asset_token_body(**spec: Any) -> dict[str, Any]:
    """The least that the API server can have, with these fields of the spec besides."""
    return {
        "apiVersion": "auth.getasset.com/v1alpha1",
        "kind": "AssetToken",
        "metadata": {
            "namespace": "shop",
            "name": "ledger-writer",
            "uid": "11111111-1111-1111-1111-111111111111",
            "generation": 3,
            "resourceVersion": "4711",
            "creationTimestamp": "2026-04-30T12:00:00Z",
        },
        "spec": {"environment": "sandbox", "credentialsSecretRef": {"name": "asset-credentials"}} | spec,
    }


def annotated(value: str) -> dict[str, Any]:
    body = an_asset_token_body()
    body["metadata"]["annotations"] = {"auth.getasset.com/renew-requested-at": value}
    return body


def a_secret_body(**metadata: Any) -> dict[str, Any]:
    known = {"namespace": "shop", "name": "ledger-writer", "uid": "2222", "resourceVersion": "200"}
    return {"metadata": known | metadata, "type": "Opaque", "data": {"key": "dmFsdWU="}}


def an_apply(fields: dict[str, Any], manager: str = "asset-token-operator", operation: str = "Apply") -> dict[str, Any]:
    """An entry of `metadata.managedFields`."""
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields}


class TestRequestHash:
    # These values stand in the Secrets of running clusters. A change of either makes every token of every cluster be
    # requested again, at once, after an upgrade: it is never right to adapt this test to the code.
    def test_it_is_the_same_in_all_versions_of_the_operator(self) -> None:
        assert ALL_THAT_IS_ASKED.request_hash() == "9fd34a32b8ecb2d4cf1e7e639eaf1cdfdfd2d006be5f7481cd5607af0e147338"

    def test_it_is_the_same_in_all_versions_also_where_nothing_is_asked(self) -> None:
        bare = Spec(Environment.PRODUCTION, CredentialsRef("asset-credentials"), SecretSpec("ledger-writer-token"))
        assert bare.request_hash() == "f7f3a0c469f7063807b385df465af8b2089e60c859fa0ebae0f0994af77527cb"

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"environment": Environment.PRODUCTION}, id="environment"),
            pytest.param({"credentials": CredentialsRef("other-credentials")}, id="credentials-secret"),
            pytest.param({"credentials": CredentialsRef("asset-credentials", "id")}, id="client-id-key"),
            pytest.param(
                {"credentials": CredentialsRef("asset-credentials", "client_id", "key")}, id="client-secret-key"
            ),
            pytest.param({"business_id": "biz_other"}, id="another-business"),
            pytest.param({"business_id": None}, id="no-business"),
            pytest.param({"scopes": ("ledger:create",)}, id="one-scope-less"),
            pytest.param({"scopes": ("ledger:create", "ledger:read", "invoice:create")}, id="one-scope-more"),
            pytest.param({"scopes": ("ledger:createledger:read",)}, id="scopes-in-one"),
            pytest.param({"scopes": ()}, id="no-scopes"),
            pytest.param({"resources": ("https://api.sandbox.getasset.com/mcp",)}, id="one-resource-less"),
            pytest.param({"resources": ()}, id="no-resources"),
            pytest.param({"lifetime": timedelta(hours=1, seconds=1)}, id="lifetime-by-a-second"),
            pytest.param({"lifetime": None}, id="lifetime-left-out"),
        ],
    )
    def test_it_changes_with_what_changes_the_request(self, change: dict[str, Any]) -> None:
        assert replace(ALL_THAT_IS_ASKED, **change).request_hash() != ALL_THAT_IS_ASKED.request_hash()

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param({"suspend": True}, id="suspend"),
            pytest.param({"renew_before": timedelta(minutes=15)}, id="renew-before"),
            pytest.param({"renew_before_percentage": 25}, id="renew-before-percentage"),
            pytest.param({"secret": SecretSpec("elsewhere")}, id="secret-name"),
            pytest.param({"secret": SecretSpec("ledger-writer-token", labels={"a": "b"})}, id="secret-labels"),
            pytest.param({"secret": SecretSpec("ledger-writer-token", annotations={"a": "b"})}, id="annotations"),
            pytest.param(
                {"secret": SecretSpec("ledger-writer-token", deletion_policy=DeletionPolicy.RETAIN)},
                id="deletion-policy",
            ),
            pytest.param({"scopes": ("ledger:read", "ledger:create")}, id="order-of-scopes"),
            pytest.param({"resources": ALL_THAT_IS_ASKED.resources[::-1]}, id="order-of-resources"),
        ],
    )
    def test_it_stays_with_what_does_not(self, change: dict[str, Any]) -> None:
        assert replace(ALL_THAT_IS_ASKED, **change).request_hash() == ALL_THAT_IS_ASKED.request_hash()

    @pytest.mark.parametrize(
        "lifetime",
        [pytest.param("60m", id="minutes"), pytest.param("3600s", id="seconds"), pytest.param("0h60m0s", id="all")],
    )
    def test_another_way_to_write_a_lifetime_is_the_same_request(self, lifetime: str) -> None:
        hashes = {
            parse_asset_token(an_asset_token_body(lifetime=written)).spec.request_hash() for written in ("1h", lifetime)
        }
        assert len(hashes) == 1

    def test_a_default_that_is_written_out_is_the_same_request(self) -> None:
        written_out = an_asset_token_body(
            credentialsSecretRef={
                "name": "asset-credentials",
                "clientIdKey": "client_id",
                "clientSecretKey": "client_secret",
            },
            scopes=[],
            resources=[],
        )
        assert (
            parse_asset_token(written_out).spec.request_hash()
            == parse_asset_token(an_asset_token_body()).spec.request_hash()
        )


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("1h", timedelta(hours=1), id="hours"),
        pytest.param("15m", timedelta(minutes=15), id="minutes"),
        pytest.param("90s", timedelta(seconds=90), id="seconds-past-a-minute"),
        pytest.param("1h30m", timedelta(minutes=90), id="hours-and-minutes"),
        pytest.param("1h1s", timedelta(seconds=3601), id="hours-and-seconds"),
        pytest.param("2m3s", timedelta(seconds=123), id="minutes-and-seconds"),
        pytest.param("1h2m3s", timedelta(seconds=3723), id="all"),
        pytest.param("0s", timedelta(0), id="none"),
        pytest.param("08760h", timedelta(days=365), id="leading-zero"),
    ],
)
def test_a_duration_is_read(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("soon", id="word"),
        pytest.param("3600", id="no-unit"),
        pytest.param("1d", id="days"),
        pytest.param("1.5h", id="fraction"),
        pytest.param("-1h", id="negative"),
        pytest.param("+1h", id="plus"),
        pytest.param("1m1h", id="wrong-order"),
        pytest.param("1h1h", id="twice"),
        pytest.param("1H", id="upper-case"),
        pytest.param("1h 1m", id="space"),
        pytest.param("1h\n", id="line-break"),
        pytest.param("PT1H", id="iso-8601"),
        pytest.param("\u0661h", id="digits-of-another-script"),
        pytest.param("500ms", id="milliseconds"),
        pytest.param("9" * 14 + "h", id="absurdly-long"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_duration(text)


def test_a_duration_that_is_refused_is_named_with_an_example() -> None:
    with pytest.raises(ValueError, match=r"^'soon' is not a duration such as 1h30m or 90s$"):
        parse_duration("soon")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        pytest.param("2026-05-01T12:00:00Z", NOW, id="utc"),
        pytest.param("2026-05-01T14:00:00+02:00", NOW, id="offset"),
        pytest.param("2026-05-01T12:00:00", NOW, id="no-offset-is-utc"),
        pytest.param("2026-05-01T12:00:00.250000Z", NOW + timedelta(milliseconds=250), id="fraction"),
    ],
)
def test_a_time_is_read_as_utc(text: str, moment: datetime) -> None:
    assert (parse_time(text), parse_time(text).tzinfo) == (moment, UTC)


def test_a_time_without_an_offset_is_utc_wherever_the_operator_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        monkeypatch.setenv("TZ", "ABC-5:45")
        time.tzset()
        assert parse_time("2026-05-01T12:00:00") == NOW
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("now", id="word"),
        pytest.param("1777657168", id="unix-seconds"),
        pytest.param("2026-02-30T12:00:00Z", id="no-such-day"),
        pytest.param("0001-01-01T00:00:00+05:00", id="before-the-first-year"),
        pytest.param("9999-12-31T23:59:59-05:00", id="after-the-last-year"),
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(NOW, id="utc"),
        pytest.param(NOW.astimezone(timezone(timedelta(hours=2))), id="another-zone"),
        pytest.param(NOW + timedelta(microseconds=999_999), id="fraction-is-cut"),
    ],
)
def test_a_time_is_written_as_kubernetes_writes_it(moment: datetime) -> None:
    assert format_time(moment) == "2026-05-01T12:00:00Z"


@pytest.mark.parametrize("microseconds", [pytest.param(0, id="none"), pytest.param(999_999, id="nearly-one")])
def test_whole_seconds_cut_and_never_round(microseconds: int) -> None:
    assert whole_seconds(NOW + timedelta(microseconds=microseconds)) == NOW


class TestParseAssetToken:
    def test_the_least_gets_the_defaults(self) -> None:
        assert parse_asset_token(an_asset_token_body()) == AssetToken(
            key=Key("shop", "ledger-writer"),
            uid="11111111-1111-1111-1111-111111111111",
            generation=3,
            created=NOW - timedelta(days=1),
            spec=Spec(
                environment=Environment.SANDBOX,
                credentials=CredentialsRef("asset-credentials", "client_id", "client_secret"),
                secret=SecretSpec("ledger-writer", {}, {}, DeletionPolicy.DELETE),
                business_id=None,
                scopes=(),
                resources=(),
                lifetime=None,
                renew_before=None,
                renew_before_percentage=None,
                suspend=False,
            ),
            renew_request=None,
            deleting=False,
            version=4711,
            status=NOT_SEEN_YET,
        )

    def test_all_that_is_given_is_taken(self) -> None:
        body = an_asset_token_body(
            environment="production",
            credentialsSecretRef={"name": "asset-live", "clientIdKey": "id", "clientSecretKey": "key"},
            businessId="biz_GA6EG2qFxA97NZHtxeLPUy",
            scopes=["ledger:create", "ledger:read"],
            resources=["https://api.getasset.com/mcp"],
            lifetime="1h30m",
            renewBefore="15m",
            suspend=True,
            secret={
                "name": "ledger-writer-token",
                "labels": {"team": "books"},
                "annotations": {"example.com/note": "ours"},
                "deletionPolicy": "Retain",
                "template": {".env": "TOKEN=${access_token}"},
            },
        )
        body["metadata"]["annotations"] = {"auth.getasset.com/renew-requested-at": "1777640000", "other": "x"}
        body["metadata"]["deletionTimestamp"] = "2026-05-01T12:00:00Z"
        body["status"] = {"observedGeneration": 2}
        assert parse_asset_token(body) == AssetToken(
            key=Key("shop", "ledger-writer"),
            uid="11111111-1111-1111-1111-111111111111",
            generation=3,
            created=NOW - timedelta(days=1),
            spec=Spec(
                environment=Environment.PRODUCTION,
                credentials=CredentialsRef("asset-live", "id", "key"),
                secret=SecretSpec(
                    "ledger-writer-token",
                    {"team": "books"},
                    {"example.com/note": "ours"},
                    DeletionPolicy.RETAIN,
                    {".env": "TOKEN=${access_token}"},
                ),
                business_id="biz_GA6EG2qFxA97NZHtxeLPUy",
                scopes=("ledger:create", "ledger:read"),
                resources=("https://api.getasset.com/mcp",),
                lifetime=timedelta(minutes=90),
                renew_before=timedelta(minutes=15),
                suspend=True,
            ),
            renew_request="1777640000",
            deleting=True,
            version=4711,
            status=Status(observed_generation=2),
        )

    def test_a_percentage_is_taken(self) -> None:
        spec = parse_asset_token(an_asset_token_body(renewBeforePercentage=25)).spec
        assert (spec.renew_before_percentage, spec.renew_before) == (25, None)

    def test_its_secrets_stand_in_its_own_namespace(self) -> None:
        token = parse_asset_token(an_asset_token_body(secret={"name": "ledger-writer-token"}))
        assert str(token.secret_key) == "shop/ledger-writer-token"
        assert str(token.credentials_key) == "shop/asset-credentials"

    @pytest.mark.parametrize(
        ("value", "request_kept"),
        [
            pytest.param("1777640000", "1777640000", id="seconds"),
            pytest.param("x" * 128, "x" * 128, id="longest"),
            pytest.param(
                "x" * 129, "0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd", id="longer-by-digest"
            ),
            pytest.param("", None, id="empty-is-none"),
        ],
    )
    def test_a_renew_request_is_kept_short(self, value: str, request_kept: str | None) -> None:
        assert parse_asset_token(annotated(value)).renew_request == request_kept

    def test_two_long_renew_requests_that_begin_alike_are_two(self) -> None:
        requests = {parse_asset_token(annotated("x" * 10_000 + end)).renew_request for end in "ab"}
        assert {len(request) for request in requests if request} == {64}
        assert len(requests) == 2

    OF_ANOTHER_KIND = "a field has a value of another kind"

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            pytest.param({"spec": None}, OF_ANOTHER_KIND, id="spec-is-null"),
            pytest.param({"metadata": None}, OF_ANOTHER_KIND, id="metadata-is-null"),
            pytest.param({"spec": ["canary"]}, OF_ANOTHER_KIND, id="spec-is-a-list"),
            pytest.param({"spec": {"environment": "sandbox"}}, "credentialsSecretRef", id="no-credentials"),
            pytest.param({"spec": {"credentialsSecretRef": {"name": "c"}}}, "environment", id="no-environment"),
            pytest.param(an_asset_token_body(environment="moon"), "moon", id="unknown-environment"),
            pytest.param(an_asset_token_body(credentialsSecretRef={}), "name", id="credentials-without-a-name"),
            pytest.param(an_asset_token_body(credentialsSecretRef="x"), OF_ANOTHER_KIND, id="credentials-are-a-string"),
            pytest.param(an_asset_token_body(lifetime="1w"), "1w", id="lifetime-in-weeks"),
            pytest.param(an_asset_token_body(lifetime=3600), OF_ANOTHER_KIND, id="lifetime-is-a-number"),
            pytest.param(an_asset_token_body(lifetime="9" * 14 + "h"), ".", id="lifetime-is-absurd"),
            pytest.param(an_asset_token_body(renewBefore="soon"), "soon", id="renew-before-is-a-word"),
            pytest.param(an_asset_token_body(secret={"deletionPolicy": "Keep"}), "Keep", id="unknown-policy"),
            pytest.param(an_asset_token_body(secret="x"), OF_ANOTHER_KIND, id="secret-is-a-string"),
            pytest.param(an_asset_token_body(scopes=7), OF_ANOTHER_KIND, id="scopes-are-a-number"),
        ],
    )
    def test_what_the_schema_would_not_admit_is_refused_in_words(self, change: dict[str, Any], said: str) -> None:
        with pytest.raises(SpecError, match=said):
            parse_asset_token(an_asset_token_body() | change)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            pytest.param("creationTimestamp", "yesterday", id="creation-time"),
            pytest.param("resourceVersion", "new", id="resource-version"),
            pytest.param("annotations", "none", id="annotations"),
        ],
    )
    def test_unreadable_metadata_is_refused(self, field: str, value: str) -> None:
        body = an_asset_token_body()
        body["metadata"][field] = value
        with pytest.raises(SpecError):
            parse_asset_token(body)

    @pytest.mark.parametrize(
        "field",
        [
            pytest.param(field, id=field)
            for field in ("namespace", "name", "uid", "generation", "resourceVersion", "creationTimestamp")
        ],
    )
    def test_metadata_that_the_api_server_always_sets_is_missed_by_name(self, field: str) -> None:
        body = an_asset_token_body()
        del body["metadata"][field]
        with pytest.raises(SpecError, match=f"^{field} is missing$"):
            parse_asset_token(body)

    def test_a_refusal_tells_nothing_of_annotations_and_status(self) -> None:
        body = annotated("canary-renew-request") | {"status": {"note": "canary-status"}}
        body["spec"]["environment"] = "moon"
        with pytest.raises(SpecError) as caught:
            parse_asset_token(body)
        assert "canary" not in "".join(traceback.format_exception(caught.value))


class TestParseSecret:
    def test_the_least_is_read(self) -> None:
        body = {"metadata": {"namespace": "shop", "name": "x", "uid": "2222", "resourceVersion": "200"}}
        assert parse_secret(body) == SecretState(
            key=Key("shop", "x"),
            uid="2222",
            type="",
            labels={},
            annotations={},
            controller_uid=None,
            version=200,
            data={},
            applied=frozenset(),
        )

    def test_all_that_matters_is_read(self) -> None:
        body = a_secret_body(
            labels={"team": "books"},
            annotations={"example.com/note": "theirs"},
            ownerReferences=[{"uid": "3333", "controller": True}],
        )
        assert parse_secret(body) == SecretState(
            key=Key("shop", "ledger-writer"),
            uid="2222",
            type="Opaque",
            labels={"team": "books"},
            annotations={"example.com/note": "theirs"},
            controller_uid="3333",
            version=200,
            data={"key": "dmFsdWU="},
        )

    @pytest.mark.parametrize(
        "field",
        [pytest.param(f, id=f) for f in ("labels", "annotations", "ownerReferences", "managedFields")],
    )
    def test_a_null_is_nothing(self, field: str) -> None:
        assert parse_secret(a_secret_body(**{field: None})) == parse_secret(a_secret_body())

    def test_data_that_is_null_is_nothing(self) -> None:
        assert parse_secret(a_secret_body() | {"data": None}).data == {}

    @pytest.mark.parametrize(
        ("owners", "controller"),
        [
            pytest.param([], None, id="no-owner"),
            pytest.param([{"uid": "3333"}], None, id="owner-that-does-not-control"),
            pytest.param([{"uid": "3333", "controller": False}], None, id="owner-that-says-so"),
            pytest.param([{"uid": "3333"}, {"uid": "4444", "controller": True}], "4444", id="second-controls"),
        ],
    )
    def test_only_the_owner_that_controls_it_counts(self, owners: list[dict[str, Any]], controller: str | None) -> None:
        assert parse_secret(a_secret_body(ownerReferences=owners)).controller_uid == controller

    @pytest.mark.parametrize(
        ("entry", "applied"),
        [
            pytest.param(
                an_apply(
                    {
                        "f:metadata": {
                            "f:labels": {".": {}, "f:team": {}},
                            "f:annotations": {".": {}, "f:example.com/note": {}},
                            "f:ownerReferences": {'k:{"uid":"3333"}': {}},
                        },
                        "f:data": {".": {}, "f:access_token": {}},
                        "f:type": {},
                    }
                ),
                {("label", "team"), ("annotation", "example.com/note"), ("data", "access_token")},
                id="all-kinds",
            ),
            pytest.param(
                an_apply({"f:metadata": {"f:labels": {"f:f:odd": {}}}}), {("label", "f:odd")}, id="name-like-a-prefix"
            ),
            pytest.param(an_apply({"f:data": {"f:x": {}}}), {("data", "x")}, id="data-only"),
            pytest.param(an_apply({"f:metadata": {"f:labels": {"f:x": {}}}}), {("label", "x")}, id="labels-only"),
            pytest.param({"manager": "asset-token-operator", "operation": "Apply"}, set(), id="no-fields"),
            pytest.param(an_apply({"f:data": {"f:x": {}}}, "kubectl"), set(), id="another-manager"),
            pytest.param(an_apply({"f:data": {"f:x": {}}}, operation="Update"), set(), id="ours-but-not-by-apply"),
        ],
    )
    def test_what_the_operator_applied_is_known_from_the_book_keeping(
        self, entry: dict[str, Any], applied: set[tuple[str, str]]
    ) -> None:
        assert parse_secret(a_secret_body(managedFields=[entry])).applied == applied

    def test_all_entries_of_the_operator_count(self) -> None:
        entries = [
            an_apply({"f:data": {"f:theirs": {}}}, "kubectl"),
            an_apply({"f:data": {"f:one": {}}}),
            an_apply({"f:data": {"f:two": {}}}),
        ]
        assert parse_secret(a_secret_body(managedFields=entries)).applied == {("data", "one"), ("data", "two")}


def a_secret_as_kubectl_applied_it() -> SecretState:
    """`kubectl apply` leaves all that it was given, with its data, in an annotation."""
    data = {"client_secret": base64.b64encode(b"canary-client-secret").decode()}
    last_applied = json.dumps({"kind": "Secret", "data": data, "stringData": {"password": "canary-password"}})
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": last_applied}
    return parse_secret(a_secret_body(annotations=annotations) | {"data": data})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(CREDENTIALS, id="credentials"),
        pytest.param(Credentials(SecretStr("canary-id"), SecretStr("canary")), id="client-id"),
        pytest.param(an_issued_token(), id="issued-token"),
        pytest.param(a_secret(), id="own-secret"),
        pytest.param(a_secret_as_kubectl_applied_it(), id="secret-from-kubectl-apply"),
    ],
)
def test_nothing_that_holds_a_secret_shows_it(value: object) -> None:
    shown = f"{value!r} {value!s} {[value]!r}"
    assert "canary" not in shown
    # No stretch of the canary's base64 either, wherever it begins in a group of three bytes.
    for secret in (b"canary-access-token", b"canary-client-secret"):
        assert base64.b64encode(secret).decode()[:20] not in shown


@pytest.mark.parametrize(
    ("urgency", "limit", "left"),
    [
        pytest.param(Urgency.ROUTINE, 300, 60, id="routine-leaves-a-fifth"),
        pytest.param(Urgency.MISSING, 300, 30, id="first-issue-leaves-a-tenth"),
        pytest.param(Urgency.FORCED, 300, 30, id="forced-leaves-a-tenth"),
        pytest.param(Urgency.EXPIRING, 300, 0, id="about-to-expire-leaves-nothing"),
        pytest.param(Urgency.ROUTINE, 1, 1, id="less-than-one-is-one"),
        pytest.param(Urgency.EXPIRING, 1, 0, id="the-only-one-is-for-what-expires"),
    ],
)
def test_the_less_urgent_leave_more_to_the_tenants_own_applications(urgency: Urgency, limit: int, left: int) -> None:
    assert Reserves().of(urgency, limit) == left


def test_the_reserves_are_settings() -> None:
    reserves = Reserves(routine=0.5, first=0)
    assert [reserves.of(urgency, 10) for urgency in (Urgency.ROUTINE, Urgency.MISSING)] == [5, 0]


def test_the_most_urgent_go_first() -> None:
    assert sorted(Urgency) == [
        Urgency.EXPIRING,
        Urgency.MISSING,
        Urgency.FORCED,
        Urgency.OVERDUE,
        Urgency.ROUTINE,
        Urgency.EXPIRING_ALONE,
        Urgency.MISSING_ALONE,
        Urgency.RETRY,
    ]


class TestParseSecretMetadata:
    OTHERS: ClassVar[Any] = {
        "metadata": {
            "namespace": "shop",
            "name": "asset-credentials",
            "uid": "uid-1",
            "resourceVersion": "7",
            "labels": {"app.kubernetes.io/managed-by": "Helm", "canary": "canary"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "canary-client-secret"},
            "ownerReferences": [{"kind": "Deployment", "uid": "canary", "controller": True}],
            "managedFields": [{"manager": "canary", "operation": "Apply", "fieldsV1": {"f:data": {"f:canary": {}}}}],
        }
    }

    def test_nothing_is_kept_of_a_secret_of_others_but_which_it_is(self) -> None:
        secret = parse_secret_metadata(self.OTHERS)

        assert secret == SecretState(Key("shop", "asset-credentials"), "uid-1", None, version=7, data=None)

    def test_one_that_has_next_to_nothing_is_read(self) -> None:
        metadata = {"namespace": "shop", "name": "a", "uid": "uid-1", "resourceVersion": "7"}
        nulls = dict.fromkeys(("labels", "annotations", "ownerReferences"))

        for body in ({"metadata": metadata}, {"metadata": metadata | nulls}):
            assert parse_secret_metadata(body) == SecretState(Key("shop", "a"), "uid-1", None, version=7, data=None)

    @pytest.mark.parametrize(
        "metadata",
        [
            pytest.param({"labels": {"app.kubernetes.io/managed-by": "asset-token-operator"}}, id="by its label"),
            pytest.param({"annotations": {"auth.getasset.com/revision": "1"}}, id="by an annotation"),
            pytest.param({"ownerReferences": [{"kind": "AssetToken", "uid": "u"}]}, id="by its owner"),
        ],
    )
    def test_all_is_kept_of_one_that_looks_like_ours_but_its_type_and_data(self, metadata: Any) -> None:
        """One of ours that lost its label is still ours by its owner; whoever takes its type for ours looks first."""
        base = {"labels": {"a": "b"}, "annotations": {}, "ownerReferences": []}
        body = {"metadata": self.OTHERS["metadata"] | base | metadata, "type": "Opaque", "data": {"a": "Y2FuYXJ5"}}

        assert parse_secret_metadata(body) == replace(parse_secret(body), type=None, data=None)

    def test_one_of_ours_says_the_same_as_when_it_is_read_whole(self) -> None:
        whole = a_secret()

        assert whole.without_data() == replace(whole, data=None)
        assert "canary" not in repr(whole.without_data())


class TestATokensFingerprint:
    def test_is_that_of_the_token_whatever_was_said(self) -> None:
        token = an_issued_token(access_token=SecretStr("canary"), fingerprint="another")

        assert token.fingerprint == token_fingerprint(SecretStr("canary"))

    def test_is_what_was_said_where_the_token_is_not_known(self) -> None:
        token = replace(an_issued_token(), access_token=None)
        assert token.fingerprint == an_issued_token().fingerprint

        assert replace(token, fingerprint="another").fingerprint == "another"


def test_the_lifetime_counts_from_when_the_token_was_received() -> None:
    assert an_issued_token(expires_at=NOW + timedelta(minutes=50)).lifetime == timedelta(minutes=50)


def test_values_can_not_be_changed_by_accident() -> None:
    for value in (a_spec(), an_asset_token(), an_issued_token(), a_secret(), CREDENTIALS):
        with pytest.raises(FrozenInstanceError):
            setattr(value, fields(value)[0].name, "other")
