"""Further keys of the Secret: what a template becomes, what is wrong with one, and what changing it costs."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from asset_token_operator.evidence import Evidence
from asset_token_operator.manifests import STANDARD_KEYS, secret_manifest, template_problem
from asset_token_operator.model import LONGEST_TOKEN, SecretSpec, Spec
from asset_token_operator.status import ConditionType
from asset_token_operator.template import LARGEST_SECRET, LONGEST_VALUES, ROOM, find_problem, plain_scopes, render
from tests.support.builders import (
    ENDPOINTS,
    a_secret,
    a_spec,
    an_asset_token,
    an_issued_token,
    data_of,
    observed,
)
from tests.support.fakes import World

CRD = Path(__file__).parents[2] / "crds" / "auth.getasset.com_assettokens.yaml"
NAME = "ledger-writer-token"
ENV = "ASSET_BASE_URL=${base_url}\nASSET_ACCESS_TOKEN=${access_token}\n"
VALUES = dict.fromkeys(LONGEST_VALUES, "x")


def templated(texts: dict[str, str], **changes: Any) -> Spec:
    return a_spec(secret=SecretSpec(NAME, template=texts), **changes)


def rendered(text: str, spec: Spec | None = None, **token: Any) -> str:
    """What becomes of the template of a key, for a token of the spec."""
    spec = replace(spec or a_spec(), secret=SecretSpec(NAME, template={"key": text}))
    owner = an_asset_token(spec)
    fields: dict[str, Any] = {"business_id": spec.business_id} | token
    data = secret_manifest(owner, an_issued_token(spec, **fields), ENDPOINTS)["data"]
    return base64.b64decode(data["key"]).decode()


def decoded(world: World) -> dict[str, str]:
    """What the Secret holds."""
    secret = world.secret()
    assert secret is not None
    return {key: base64.b64decode(value).decode() for key, value in data_of(secret).items()}


def stalled(world: World) -> str:
    """What the condition Stalled says; empty where it isn't there."""
    found = world.token().status.find(ConditionType.STALLED)
    return "" if found is None else found.message


class TestRendered:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            pytest.param("${access_token}", "canary-access-token", id="access_token"),
            pytest.param("${token_type}", "Bearer", id="token_type"),
            pytest.param("${authorization}", "Bearer canary-access-token", id="authorization"),
            pytest.param("${base_url}", "https://api.sandbox.getasset.com", id="base_url"),
            pytest.param("${environment}", "sandbox", id="environment"),
            pytest.param("${business_id}", "biz_1", id="business_id"),
            pytest.param("${scopes}", "ledger:create ledger:read", id="scopes"),
            pytest.param("${expires_at}", "2026-05-01T13:00:00Z", id="expires_at"),
            pytest.param("${expires_at_unix}", "1777640400", id="expires_at_unix"),
            pytest.param("", "", id="nothing"),
            pytest.param("$$ $${access_token} $$$${x}", "$ ${access_token} $${x}", id="dollars"),
            pytest.param("$${${environment}}", "${sandbox}", id="a name in braces that stay"),
            pytest.param(
                "${environment}${environment}\nZ\u00fcrich \U0001f680\0",
                "sandboxsandbox\nZ\u00fcrich \U0001f680\0",
                id="text",
            ),
        ],
    )
    def test_a_name_in_braces_is_filled_in_and_nothing_else(self, text: str, expected: str) -> None:
        spec = a_spec(business_id="biz_1", scopes=("ledger:create", "ledger:read"))
        assert rendered(text, spec) == expected

    def test_all_names_are_known(self) -> None:
        assert "$" not in rendered(" ".join(f"${{{name}}}" for name in LONGEST_VALUES))

    def test_a_token_of_the_whole_tenant_has_no_business(self) -> None:
        assert rendered("[${business_id}]") == "[]"

    def test_scopes_are_those_that_the_token_carries(self) -> None:
        assert rendered("${scopes}", a_spec(scopes=("ledger:create", "ledger:read")), scopes=("b", "a")) == "b a"

    @pytest.mark.parametrize("scope", ['a"b', "a'b", "a\\b", "a$b", "a`b"])
    def test_what_would_end_a_quoted_text_is_left_out_of_the_scopes(self, scope: str) -> None:
        text = rendered('{"scope": "${scopes}"}', scopes=("ledger:read", scope))
        assert json.loads(text) == {"scope": "ledger:read"}
        assert plain_scopes([scope]) == ""

    def test_the_standard_keys_are_as_without_a_template(self) -> None:
        owner, token = an_asset_token(templated({".env": ENV})), an_issued_token()
        plain = secret_manifest(an_asset_token(), token, ENDPOINTS)["data"]
        assert tuple(plain) == STANDARD_KEYS
        assert secret_manifest(owner, token, ENDPOINTS)["data"].items() >= plain.items()

    def test_what_is_wrong_is_left_out_and_the_rest_is_not(self) -> None:
        wrong = {"access_token": "mine", "a/b": "x", "..data": "x", ".": "x", "bad": "${nothing}", "half": "5$"}
        owner = an_asset_token(templated(wrong | {".env": ENV}))
        manifest = secret_manifest(owner, an_issued_token(), ENDPOINTS)
        assert manifest["data"].keys() == {*STANDARD_KEYS, ".env"}
        assert manifest["data"]["access_token"] == a_secret_value("canary-access-token")

    def test_a_template_shows_no_token(self) -> None:
        world = World()
        world.add(an_asset_token(templated({".env": ENV})))
        world.reconcile()
        shown = repr((world.secret(), world.token(), observed(world.token(), secret=world.secret())))
        assert "canary" not in shown
        assert base64.b64encode(b"ASSET_BASE_URL").decode()[:16] not in shown


def a_secret_value(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class TestProblem:
    @pytest.mark.parametrize(
        ("key", "text", "problem"),
        [
            pytest.param(".env", "A=${acess_token}", "has ${acess_token}, which is not known;", id="unknown"),
            pytest.param(".env", "${ACCESS_TOKEN}", "has ${ACCESS_TOKEN}, which is not known;", id="capitals"),
            pytest.param(".env", "${}", "has ${}, which is not known;", id="empty"),
            pytest.param(".env", "$access_token", "has a $ that stands alone;", id="no braces"),
            pytest.param(".env", "${access_token", "has a $ that stands alone;", id="open brace"),
            pytest.param(".env", "costs 5$", "has a $ that stands alone;", id="stray"),
            pytest.param(".env", "$$$", "has a $ that stands alone;", id="odd"),
            pytest.param(".env", "${" + "n" * 65 + "}", "has a $ that stands alone;", id="longer than any name"),
            pytest.param("base_url", "", "is one that every token's Secret has; give it another name.", id="standard"),
            pytest.param("a b", "", 'is no key of a Secret; use letters, digits, "-", "_" and "."', id="key"),
            pytest.param(
                "a\n", "", 'is no key of a Secret; use letters, digits, "-", "_" and "."', id="key with a break"
            ),
        ],
    )
    def test_it_is_said_in_a_sentence_that_names_the_key(self, key: str, text: str, problem: str) -> None:
        said = find_problem({"ok": "", key: text}, STANDARD_KEYS)
        assert said is not None
        assert said.startswith(f"spec.secret.template: key {key} {problem}")
        assert said.endswith(".")

    def test_the_sentence_lists_what_is_known(self) -> None:
        said = find_problem({".env": "${x}"}, STANDARD_KEYS) or ""
        assert set(re.findall(r"\$\{(\w+)\}", said)) == {*LONGEST_VALUES, "x"}

    def test_a_good_one_has_none(self) -> None:
        assert find_problem({".env": ENV, "a": "$$"}, STANDARD_KEYS) is None
        assert find_problem({}, STANDARD_KEYS) is None


class TestSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            pytest.param("x" * 1000, 1000, id="letters"),
            pytest.param("\u00e9\U0001f680" * 100, 600, id="more bytes than characters"),
            pytest.param("$$" * 50, 50, id="dollars"),
            pytest.param("${access_token}${expires_at}", 16 * 1024 + 20, id="what is filled in"),
        ],
    )
    def test_it_counts_bytes_of_the_longest_values(self, text: str, size: int) -> None:
        fits, rest = ROOM // size, ROOM % size
        exactly = {f"k{number}": text for number in range(fits)} | {"rest": "x" * rest}
        assert find_problem(exactly, ()) is None
        said = find_problem(exactly | {"more": "x"}, ()) or ""
        assert said.startswith("spec.secret.template may need ")

    def test_what_is_too_large_is_left_out_before_anything_is_filled_in(self) -> None:
        large = {f"k{number}": "${authorization}" * 1024 for number in range(32)}
        assert render(large, STANDARD_KEYS, VALUES) == {}

    def test_the_largest_that_is_admitted_fits_with_the_longest_token(self) -> None:
        token = SecretStr("t" * LONGEST_TOKEN)
        texts = {f"k{number}": "${access_token}" for number in range(63)}
        while find_problem(texts, STANDARD_KEYS) is not None:
            texts.popitem()
        spec = templated(texts)
        data = secret_manifest(an_asset_token(spec), an_issued_token(spec, access_token=token), ENDPOINTS)["data"]
        size = sum(len(base64.b64decode(value)) for value in data.values())
        assert len(data) > 60
        assert size <= LARGEST_SECRET

    def test_no_value_is_longer_than_is_counted(self) -> None:
        assert LONGEST_VALUES["access_token"] == LONGEST_TOKEN
        spec = templated({name: f"${{{name}}}" for name in LONGEST_VALUES if name not in STANDARD_KEYS})
        token = an_issued_token(spec, access_token=SecretStr("t" * LONGEST_TOKEN), business_id="b" * 128)
        data = secret_manifest(an_asset_token(spec), token, ENDPOINTS)["data"]
        assert {name for name, value in data.items() if len(base64.b64decode(value)) > LONGEST_VALUES[name]} == set()


class TestChange:
    """Of a template, of what is filled in, and of what became of it."""

    @pytest.fixture
    def world(self) -> World:
        world = World()
        world.add(an_asset_token(templated({".env": ENV, "old": "x"})))
        world.reconcile()
        world.calls()
        return world

    def change(self, world: World, spec: Spec) -> None:
        token = world.token()
        world.kube.put_token(replace(token, spec=spec, generation=token.generation + 1))

    @pytest.mark.parametrize("restart", [False, True], ids=["running", "while down"])
    def test_it_repairs_the_secret_without_a_request(self, world: World, *, restart: bool) -> None:
        before = decoded(world)
        self.change(world, templated({".env": "TOKEN=${access_token}"}))
        if restart:
            world.restart()
        world.reconcile()
        after = decoded(world)
        assert after == {key: before[key] for key in STANDARD_KEYS} | {".env": f"TOKEN={before['access_token']}"}
        assert len(world.asset.requests) == 1
        assert world.calls().count("apply_secret") == 1

    def test_a_restart_without_a_change_reads_and_writes_nothing(self, world: World) -> None:
        world.restart()
        world.reconcile()
        assert world.calls() == []

    @pytest.mark.parametrize("restart", [False, True], ids=["running", "while down"])
    @pytest.mark.parametrize("value", [None, "b3RoZXI="], ids=["removed", "altered"])
    def test_drift_of_a_key_is_repaired_without_a_request(
        self, world: World, value: str | None, *, restart: bool
    ) -> None:
        before, secret = decoded(world), world.secret()
        assert secret is not None
        rest = {key: old for key, old in data_of(secret).items() if key != ".env"}
        world.kube.put_secret(replace(secret, data=rest if value is None else rest | {".env": value}))
        if restart:
            world.restart()
        world.reconcile()
        assert decoded(world) == before
        assert len(world.asset.requests) == 1

    def test_it_is_no_other_request(self) -> None:
        assert templated({".env": ENV}).request_hash() == a_spec().request_hash()

    def test_a_renewal_fills_in_the_new_token(self, world: World) -> None:
        world.pass_time(timedelta(minutes=45))
        world.reconcile()
        assert "canary-access-token-2" in decoded(world)[".env"]

    @pytest.mark.parametrize("restart", [False, True], ids=["running", "after a restart"])
    def test_the_old_token_keeps_its_business_until_the_new_one_is_there(self, *, restart: bool) -> None:
        world = World()
        text = {"who": "${business_id} ${access_token}"}
        world.add(an_asset_token(templated(text, business_id="biz_old")))
        world.reconcile()
        before = decoded(world)
        self.change(world, templated(text, business_id="biz_new", suspend=True))
        if restart:
            world.restart()
        world.reconcile()
        assert decoded(world) == before
        self.change(world, templated(text, business_id="biz_new"))
        world.reconcile()
        assert decoded(world)["who"] == "biz_new canary-access-token-2"

    def test_what_the_spec_says_of_the_business_is_believed_before_an_annotation(self) -> None:
        world = World()
        world.add(an_asset_token(templated({"who": "${business_id}"}, business_id="biz_1")))
        world.reconcile()
        secret = world.secret()
        assert secret is not None
        world.kube.put_secret(replace(secret, annotations={**secret.annotations, "auth.getasset.com/business-id": "x"}))
        world.restart()
        world.reconcile()
        assert decoded(world)["who"] == "biz_1"
        assert len(world.asset.requests) == 1

    def test_a_business_that_an_annotation_claims_is_not_believed_where_it_is_none(self) -> None:
        secret = a_secret(token=an_issued_token(spec_hash="another"))
        said = {**secret.annotations, "auth.getasset.com/business-id": "$(reboot)"}
        stored = Evidence(observed(secret=replace(secret, annotations=said))).stored
        assert stored is not None
        assert stored.business_id is None


class TestInvalid:
    """What the CRD's rules would have refused, and what only the operator refuses."""

    def test_the_token_is_served_and_renewed_and_the_condition_says_what_is_wrong(self) -> None:
        world = World()
        world.add(an_asset_token(templated({".env": ENV, "bad": "${nothing}"})))
        world.reconcile()
        assert world.conditions()["Ready"] == ("True", "SecretSynced")
        assert world.conditions()["Stalled"] == ("True", "TemplateInvalid")
        assert world.token().status.summary == "TemplateInvalid"
        assert decoded(world).keys() == {*STANDARD_KEYS, ".env"}
        assert stalled(world).endswith(f"It is left out of Secret {NAME}, which holds the token as ever.")
        world.pass_time(timedelta(minutes=45))
        world.reconcile()
        assert decoded(world)["access_token"] == "canary-access-token-2"
        assert [event.reason for event in world.events.posted] == ["TemplateInvalid"]

    def test_it_is_said_before_there_is_a_token_and_until_it_is_corrected(self) -> None:
        world = World()
        world.add(an_asset_token(templated({"bad": "$"}, suspend=True)))
        world.reconcile()
        assert world.conditions()["Stalled"] == ("True", "TemplateInvalid")
        world.kube.put_token(replace(world.token(), spec=templated({"bad": "$$"}), generation=2))
        world.reconcile()
        assert "Stalled" not in world.conditions()
        assert decoded(world)["bad"] == "$"

    def test_a_key_that_others_wrote_is_not_taken_away_for_a_template_that_is_wrong(self) -> None:
        world = World()
        world.add(an_asset_token(templated({"theirs": "$"})))
        world.reconcile()
        secret = world.secret()
        assert secret is not None
        world.kube.put_secret(replace(secret, data={**data_of(secret), "theirs": "eA=="}))
        world.reconcile()
        assert decoded(world)["theirs"] == "x"

    def test_a_secret_that_would_be_too_large_is_said_and_written_without_the_templates(self) -> None:
        world = World()
        world.add(an_asset_token(templated({"large": "${access_token}" * 64})))
        world.reconcile()
        assert decoded(world).keys() == {*STANDARD_KEYS}
        assert stalled(world).startswith("spec.secret.template may need 1024 KiB, and a Secret holds 984 KiB besides")

    def test_what_stops_the_token_is_said_first(self) -> None:
        world = World()
        world.kube.credentials.clear()
        world.add(an_asset_token(templated({"bad": "$"})))
        world.reconcile()
        assert world.conditions()["Stalled"] == ("True", "CredentialsNotFound")


class TestCrd:
    def test_it_knows_the_same_names_and_standard_keys(self) -> None:
        schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        field = schema["properties"]["spec"]["properties"]["secret"]["properties"]["template"]
        (text_rule,) = field["additionalProperties"]["x-kubernetes-validations"]
        _, keys_rule = field["x-kubernetes-validations"]
        (names,) = re.findall(r"\(([a-z_|]+)\)", text_rule["rule"])
        (said,) = [re.findall(r"\$\{(\w+)\}", text_rule["message"])]
        described = re.findall(r"\$\{(\w+)\}", field["description"])
        assert tuple(names.split("|")) == tuple(said) == tuple(described) == tuple(LONGEST_VALUES)
        assert tuple(re.findall(r"'(\w+)'", keys_rule["rule"])) == STANDARD_KEYS


def test_a_problem_is_the_templates_alone() -> None:
    assert template_problem(an_asset_token(templated({"a": "$"}))) == find_problem({"a": "$"}, STANDARD_KEYS)
