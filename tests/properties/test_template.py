"""Whatever a template is, it is refused with a sentence or rendered."""

from __future__ import annotations

import base64
import json
import re

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from asset_token_operator.manifests import STANDARD_KEYS, secret_manifest, template_problem
from asset_token_operator.model import IssuedToken, SecretSpec
from asset_token_operator.template import LARGEST_SECRET, LONGEST_VALUES
from tests.properties.test_manifests import tokens
from tests.support.builders import ENDPOINTS, a_spec, an_asset_token, an_issued_token, text_of

pieces = st.one_of(
    st.sampled_from(["$", "$$", "{", "}", "${", "}$", "${}", "\n", " ", '"', "\\"]),
    st.sampled_from([f"${{{name}}}" for name in LONGEST_VALUES]),
    st.sampled_from(
        ["$access_token", "${acess_token}", "${ACCESS_TOKEN}", "${access_token:-x}", "${expires_at}_unix}"]
    ),
    st.text(max_size=8),
)
texts = st.lists(pieces, max_size=12).map("".join)
good_pieces = st.sampled_from(["$$", "{", "}", "\n", "x", *(f"${{{name}}}" for name in LONGEST_VALUES)])
good_texts = st.lists(good_pieces, max_size=12).map("".join)
keys = st.one_of(st.sampled_from([".env", ".", "..", "..data", "a/b", "", "\n", *STANDARD_KEYS]), st.text(max_size=8))
templates = st.dictionaries(keys, texts, max_size=4)


def of(template: dict[str, str], token: IssuedToken) -> dict[str, str]:
    """What the Secret holds then."""
    owner = an_asset_token(a_spec(secret=SecretSpec("ledger-writer-token", template=template)))
    data = secret_manifest(owner, token, ENDPOINTS)["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


@given(template=templates)
def test_it_is_refused_with_a_sentence_or_rendered(template: dict[str, str]) -> None:
    owner = an_asset_token(a_spec(secret=SecretSpec("ledger-writer-token", template=template)))
    problem = template_problem(owner)
    held = of(template, an_issued_token())
    if problem is None:
        assert held.keys() == {*STANDARD_KEYS, *template}
    else:
        assert re.fullmatch(r"spec\.secret\.template: key .* (has|is) .*\.", problem, re.DOTALL)
        assert len(held.keys() - STANDARD_KEYS) < len(template)
    assert {key: held[key] for key in STANDARD_KEYS} == of({}, an_issued_token())


@given(text=good_texts)
def test_what_is_rendered_is_the_text_with_each_name_replaced(text: str) -> None:
    values = {**of({name: f"${{{name}}}" for name in LONGEST_VALUES if name not in STANDARD_KEYS}, an_issued_token())}
    expected, rest = "", text
    while rest:
        head = re.match(r"\$\$|\$\{(\w+)\}|.", rest, re.DOTALL)
        assert head is not None
        expected += "$" if head[0] == "$$" else values.get(head[1] or "", head[0])
        rest = rest[head.end() :]
    assert of({"key": text}, an_issued_token())["key"] == expected


@given(token=tokens)
def test_whatever_the_token_is_a_quoted_text_stays_one(token: IssuedToken) -> None:
    fields = ", ".join(f'"{name}": "${{{name}}}"' for name in LONGEST_VALUES)
    read = json.loads(of({"key": f"{{{fields}}}"}, token)["key"])
    assert read.keys() == LONGEST_VALUES.keys()
    assert read["access_token"] == text_of(token)
    shell = of({"key": " ".join(f"'${{{name}}}'" for name in LONGEST_VALUES)}, token)["key"]
    assert shell.count("'") == 2 * len(LONGEST_VALUES)
    assert not set(shell) & set('"$`\\')


@given(template=st.dictionaries(st.from_regex(r"k[0-9]{1,3}", fullmatch=True), st.sampled_from(
    ["${access_token}" * 8, "${scopes}", "${authorization}" * 20, "é" * 16384, "$$" * 8192]
), max_size=32))  # fmt: skip
def test_no_secret_becomes_larger_than_the_api_server_admits(template: dict[str, str]) -> None:
    token = an_issued_token(access_token=SecretStr("t" * LONGEST_VALUES["access_token"]), scopes=("s" * 256,) * 256)
    assert sum(len(value.encode()) for value in of(template, token).values()) <= LARGEST_SECRET
