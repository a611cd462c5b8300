"""A Secret tells after a restart what it told before, and whatever is done to it is noticed."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from asset_token_operator.expiry import LONGEST_LIFETIME
from asset_token_operator.manifests import (
    credentials_fingerprint,
    differs,
    is_owned,
    secret_manifest,
    stored_token,
)
from asset_token_operator.model import (
    AssetToken,
    Credentials,
    DeletionPolicy,
    Environment,
    IssuedToken,
    SecretSpec,
    SecretState,
)
from asset_token_operator.parsing import parse_secret
from asset_token_operator.reasons import Reason
from tests.support.builders import CREDENTIALS, ENDPOINTS, a_secret, a_spec, an_asset_token, as_stored, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping

moments = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 - `timezones` says which
    lambda moment: moment.replace(microsecond=0)
)
b64tokens = st.from_regex(re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII), fullmatch=True)
scope_tokens = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1)
names = st.from_regex(
    re.compile(r"([a-z]{1,9}\.example/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,9}[A-Za-z0-9])?"), fullmatch=True
)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
lifetimes = st.integers(1, int(LONGEST_LIFETIME.total_seconds())).map(lambda seconds: timedelta(seconds=seconds))
issued_tokens = st.builds(
    IssuedToken,
    access_token=b64tokens.map(SecretStr),
    environment=st.sampled_from(Environment),
    issued_at=moments,
    expires_at=st.just(datetime.max.replace(tzinfo=UTC)),
    scopes=st.lists(scope_tokens, max_size=5, unique=True).map(lambda scopes: tuple(sorted(scopes))),
    token_id=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=256),
    spec_hash=digests,
    credentials_fingerprint=digests,
    revision=st.integers(1, 10**9),
    reason=st.sampled_from([reason.value for reason in Reason]),
    audience=st.lists(scope_tokens, max_size=3, unique=True).map(lambda audience: tuple(sorted(audience))),
    skew=st.integers(-86_399, 86_399).map(lambda seconds: timedelta(seconds=seconds)),
    renew_request=st.none() | st.text(min_size=1, max_size=128),
    business_id=st.none() | st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
)
tokens = st.builds(lambda token, life: replace(token, expires_at=token.issued_at + life), issued_tokens, lifetimes)
owners = st.builds(
    lambda secret: an_asset_token(a_spec(secret=secret)),
    st.builds(
        SecretSpec,
        name=st.just("ledger-writer-token"),
        labels=st.dictionaries(names, st.text(max_size=63), max_size=4),
        annotations=st.dictionaries(names, st.text(), max_size=4),
        deletion_policy=st.sampled_from(DeletionPolicy),
        template=st.sampled_from([{}, {".env": "TOKEN=${access_token}"}]),
    ),
)
kinds = st.sampled_from(["labels", "annotations", "data"])


def written(owner: AssetToken, token: IssuedToken) -> SecretState:
    return parse_secret(as_stored(secret_manifest(owner, token, ENDPOINTS)))


@given(owner=owners, token=tokens)
def test_a_secret_tells_all_about_the_token_that_was_written(owner: AssetToken, token: IssuedToken) -> None:
    """Of its business only templates ask."""
    found = stored_token(written(owner, token))
    assert found == (token if owner.spec.secret.template else replace(token, business_id=None))


@given(owner=owners, token=tokens)
def test_a_secret_that_was_just_written_is_owned_and_as_it_should_be(owner: AssetToken, token: IssuedToken) -> None:
    secret = written(owner, token)
    assert is_owned(secret, owner)
    assert not differs(secret, secret_manifest(owner, token, ENDPOINTS))


@given(owner=owners, token=tokens)
def test_writing_again_what_the_secret_tells_would_change_nothing(owner: AssetToken, token: IssuedToken) -> None:
    secret = written(owner, token)
    found = stored_token(secret)
    assert found is not None
    assert not differs(secret, secret_manifest(owner, found, ENDPOINTS))


@given(owner=owners, token=tokens, kind=kinds, data=st.data(), value=st.none() | st.text())
def test_a_single_change_is_noticed(
    owner: AssetToken, token: IssuedToken, kind: str, data: st.DataObject, value: str | None
) -> None:
    secret = written(owner, token)
    entries: Mapping[str, str] = getattr(secret, kind)
    name = data.draw(st.sampled_from(sorted(entries)))
    assume(entries[name] != value)
    changed = {**entries, name: value} if value is not None else {key: entries[key] for key in entries if key != name}
    change: dict[str, Any] = {kind: changed}
    assert differs(replace(secret, **change), secret_manifest(owner, token, ENDPOINTS))


@given(owner=owners, token=tokens, kind=kinds, additions=st.dictionaries(names, st.text(), max_size=4))
def test_what_others_add_is_left_alone(
    owner: AssetToken, token: IssuedToken, kind: str, additions: dict[str, str]
) -> None:
    secret = written(owner, token)
    change: dict[str, Any] = {kind: {**additions, **getattr(secret, kind)}}
    assert not differs(replace(secret, **change), secret_manifest(owner, token, ENDPOINTS))


@given(token=tokens, other=b64tokens)
def test_a_token_that_was_replaced_is_not_believed(token: IssuedToken, other: str) -> None:
    assume(other != text_of(token))
    owner = an_asset_token()
    secret = written(owner, token)
    forged = written(owner, replace(token, access_token=SecretStr(other)))
    assert stored_token(replace(secret, data=forged.data)) is None


odd_values = st.one_of(
    st.text(),
    st.text(st.characters(categories=["Cs", "Nd", "Cc"])),
    st.integers().map(str),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.sampled_from(["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00", "-1", "NaN", "2026-05-01"]),
)


@given(data=st.data(), values=st.lists(odd_values, min_size=1, max_size=3))
def test_whatever_a_secret_says_reading_it_does_not_fail(data: st.DataObject, values: list[str]) -> None:
    secret = a_secret()
    names_of_ours = [*sorted(secret.annotations), "auth.getasset.com/audience", "auth.getasset.com/clock-skew-seconds"]
    said = {data.draw(st.sampled_from(names_of_ours)): value for value in values}
    found = stored_token(replace(secret, annotations={**secret.annotations, **said}))
    assert found is None or text_of(found) == "canary-access-token"


@given(held=odd_values | st.binary().map(bytes.hex), fingerprint=odd_values | digests)
def test_whatever_a_secret_holds_reading_it_does_not_fail(held: str, fingerprint: str) -> None:
    secret = a_secret(data={"access_token": held})
    annotations = {**secret.annotations, "auth.getasset.com/token-fingerprint": fingerprint}
    assert stored_token(replace(secret, annotations=annotations)) is None


@given(client_id=st.text(min_size=1), client_secret=st.text(min_size=1), token=b64tokens)
def test_other_credentials_have_another_fingerprint(client_id: str, client_secret: str, token: str) -> None:
    credentials = Credentials(SecretStr(client_id), SecretStr(client_secret))
    assert credentials_fingerprint(credentials, SecretStr(token)) != credentials_fingerprint(
        CREDENTIALS, SecretStr(token)
    )
