import itertools
from collections.abc import Iterable
from typing import Any

import kopf
import pytest

from asset_token_operator.api_server import Connection
from asset_token_operator.handlers import build_registry, kopf_settings
from asset_token_operator.manifests import secret_manifest
from asset_token_operator.model import Key, parse_asset_token, parse_secret
from asset_token_operator.reconciler import Caches
from tests.support.builders import ENDPOINTS, an_asset_token, an_issued_token, as_stored

INDICES = ("tokens", "claims", "users", "secrets", "owned")
READER, WRITER = Key("shop", "ledger-reader"), Key("shop", "ledger-writer")


class FakeConnection:
    """What kopf asks the Kubernetes client for."""

    async def connection(self) -> Connection:
        return Connection("https://127.0.0.1:6443", "/ca.crt", True, "Bearer", "canary-token", "/tls.crt", "/tls.key")


class Kopf:
    """Calls the registered handlers as kopf does: the indices first, then what watches."""

    def __init__(self) -> None:
        self.woken: list[Key] = []
        self.caches = Caches()
        self.registry = build_registry(FakeConnection(), self.woken.append, self.caches)  # type: ignore[arg-type]

    async def index(self, resource: str, body: dict[str, Any]) -> dict[str, Any]:
        """What each index of the resource gets of an object."""
        found = {}
        for handler in self._handlers("_indexing", resource):
            found[str(handler.id)] = await handler.fn(body=body)
        return found

    async def event(self, resource: str, body: dict[str, Any], **indices: Any) -> list[Key]:
        """What is woken by an event about an object; the indices are those that the caches have, unless given."""
        self.woken.clear()
        given = {name: getattr(self.caches, name) for name in INDICES} | indices
        for handler in self._handlers("_watching", resource):
            assert await handler.fn(type="MODIFIED", event={}, body=body, **given) is None
        return list(self.woken)

    def activities(self) -> dict[str, Any]:
        handlers: Iterable[Any] = self.registry._activities.get_all_handlers()  # noqa: SLF001 - as below
        return {handler.activity.value: handler for handler in handlers}

    def _handlers(self, kind: str, resource: str) -> list[Any]:
        """Untyped, as kopf's types ask for all arguments, and ours take what they need."""
        handlers: Iterable[Any] = getattr(self.registry, kind).get_all_handlers()  # kopf shows it nowhere else
        return [handler for handler in handlers if handler.selector and handler.selector.any_name == resource]


@pytest.fixture
def operator() -> Kopf:
    return Kopf()


def token_body(name: str = "ledger-writer", *, secret: str = "ledger-writer-token", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": f"uid-of-{name}",
            "generation": 1,
            "creationTimestamp": "2026-05-01T12:00:00Z",
            "resourceVersion": "1",
        },
        "spec": {
            "environment": "sandbox",
            "credentialsSecretRef": {"name": "asset-credentials"},
            "secret": {"name": secret},
            **spec,
        },
    }


def secret_body(**changes: Any) -> dict[str, Any]:
    return as_stored(secret_manifest(an_asset_token(), an_issued_token(), ENDPOINTS)) | changes


def test_registers_nothing_that_writes_to_the_users_objects(operator: Kopf) -> None:
    """No timers or daemons (a finalizer), no create, update, resume or delete handlers (an annotation)."""
    registry = operator.registry

    assert registry._spawning.get_all_handlers() == []  # noqa: SLF001 - kopf shows it nowhere else
    assert registry._changing.get_all_handlers() == []  # noqa: SLF001 - as above
    assert not any(
        handler.requires_finalizer
        for kind in (registry._indexing, registry._watching)  # noqa: SLF001 - as above
        for handler in kind.get_all_handlers()
        if hasattr(handler, "requires_finalizer")
    )
    assert registry._webhooks.get_all_handlers() == []  # noqa: SLF001 - as above


def test_registers_five_indices_two_watches_and_the_login(operator: Kopf) -> None:
    indices = [str(handler.id) for handler in operator.registry._indexing.get_all_handlers()]  # noqa: SLF001 - as above
    watches = [
        str(handler.selector.any_name)
        for handler in operator.registry._watching.get_all_handlers()  # noqa: SLF001 - as above
        if handler.selector is not None
    ]

    assert sorted(indices) == sorted(INDICES)
    assert sorted(watches) == ["assettokens", "secrets"]
    assert sorted(operator.activities()) == ["authentication"]


def test_kopf_posts_and_scans_nothing_and_watches_only_labelled_secrets() -> None:
    settings = kopf_settings(lambda: None)

    assert not settings.posting.enabled
    assert settings.scanning.disabled
    assert settings.watching.server_timeout == 300
    assert list(settings.watching.label_selectors.values()) == ["app.kubernetes.io/managed-by=asset-token-operator"]
    assert settings.watching.label_selectors["", "v1", "secrets"]


def test_kopf_never_gives_the_api_server_up_and_asks_it_every_two_seconds() -> None:
    backoffs = kopf_settings(lambda: None).networking.error_backoffs
    assert isinstance(backoffs, Iterable)

    assert list(itertools.islice(backoffs, 100)) == [0.5, 1.0] + [2.0] * 98
    assert next(iter(backoffs)) == 0.5, "each call begins anew"


def test_each_try_of_kopf_is_a_sign_of_life_before_it_is_made() -> None:
    beats: list[None] = []
    backoffs = kopf_settings(lambda: beats.append(None)).networking.error_backoffs
    assert isinstance(backoffs, Iterable)
    first, second = iter(backoffs), iter(backoffs)
    assert not beats

    for call in (first, second, first):
        next(call)

    assert len(beats) == 3


async def test_logs_in_with_the_clients_own_connection(operator: Kopf) -> None:
    info = await operator.activities()["authentication"].fn()

    assert info == kopf.ConnectionInfo(
        server="https://127.0.0.1:6443",
        ca_path="/ca.crt",
        insecure=False,
        scheme="Bearer",
        token="canary-token",
        certificate_path="/tls.crt",
        private_key_path="/tls.key",
        trust_env=True,
    )


@pytest.mark.parametrize("resource", ["assettokens", "secrets"])
async def test_the_indices_become_the_caches_with_each_event_also_when_kopf_was_begun_anew(
    operator: Kopf, resource: str
) -> None:
    indices: dict[str, Any] = {name: {} for name in INDICES}

    await operator.event(resource, token_body() if resource == "assettokens" else secret_body(), **indices)

    for name, index in indices.items():
        assert getattr(operator.caches, name) is index


async def test_an_asset_token_is_found_by_its_name_its_secret_and_its_credentials(operator: Kopf) -> None:
    body = token_body()

    assert await operator.index("assettokens", body) == {
        "tokens": {WRITER: parse_asset_token(body)},
        "claims": {Key("shop", "ledger-writer-token"): parse_asset_token(body)},
        "users": {Key("shop", "asset-credentials"): parse_asset_token(body)},
    }


async def test_a_secret_is_found_by_its_name_and_by_its_owner(operator: Kopf) -> None:
    body = secret_body()

    assert await operator.index("secrets", body) == {
        "secrets": {Key("shop", "ledger-writer-token"): parse_secret(body)},
        "owned": {WRITER: parse_secret(body)},
    }


async def test_a_secret_of_no_asset_token_is_found_by_its_name_only(operator: Kopf) -> None:
    found = await operator.index("secrets", secret_body(type="Opaque"))

    assert found["owned"] == {}
    assert set(found["secrets"]) == {Key("shop", "ledger-writer-token")}


async def test_a_changed_asset_token_wakes_itself(operator: Kopf) -> None:
    assert await operator.event("assettokens", token_body()) == [WRITER]


async def test_the_caches_are_filled_when_the_first_asset_token_is_told_of(operator: Kopf) -> None:
    assert not operator.caches.filled

    await operator.event("assettokens", token_body())

    assert operator.caches.filled


async def test_a_changed_asset_token_wakes_those_that_name_the_same_secret(operator: Kopf) -> None:
    rival = parse_asset_token(token_body("ledger-reader"))
    operator.caches.claims = {Key("shop", "ledger-writer-token"): [rival]}

    assert set(await operator.event("assettokens", token_body())) == {WRITER, READER}


async def test_a_changed_secret_wakes_those_that_name_it_and_its_owner(operator: Kopf) -> None:
    rival = parse_asset_token(token_body("ledger-reader"))
    operator.caches.claims = {Key("shop", "ledger-writer-token"): [rival]}

    assert set(await operator.event("secrets", secret_body())) == {WRITER, READER}


async def test_a_changed_secret_wakes_those_whose_credentials_it_holds(operator: Kopf) -> None:
    """Whoever gives one of the operator's own Secrets as credentials is served too."""
    user = parse_asset_token(token_body("ledger-reader"))
    operator.caches.users = {Key("shop", "ledger-writer-token"): [user]}

    assert set(await operator.event("secrets", secret_body())) == {WRITER, READER}


def test_those_whom_a_secret_concerns_are_its_claimants_and_its_users(operator: Kopf) -> None:
    claimant, user = (parse_asset_token(token_body(name)) for name in ("ledger-writer", "ledger-reader"))
    secret = Key("shop", "shared")
    operator.caches.claims, operator.caches.users = {secret: [claimant]}, {secret: [user]}

    assert list(operator.caches.concerned(secret)) == [WRITER, READER]
    assert list(operator.caches.concerned(Key("elsewhere", "shared"))) == []


async def test_a_secret_that_lost_its_annotations_wakes_those_that_name_it(operator: Kopf) -> None:
    operator.caches.claims = {Key("shop", "ledger-writer-token"): [parse_asset_token(token_body())]}
    body = secret_body()
    del body["metadata"]["annotations"]

    assert await operator.event("secrets", body) == [WRITER]


async def test_a_secret_that_nobody_names_wakes_nobody(operator: Kopf) -> None:
    assert await operator.event("secrets", secret_body(type="Opaque")) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(token_body(environment="staging"), id="unknown environment"),
        pytest.param(token_body(lifetime="soon"), id="unreadable duration"),
        pytest.param({**token_body(), "spec": {}}, id="no spec"),
    ],
)
async def test_an_asset_token_that_cannot_be_read_is_logged_and_neither_indexed_nor_woken(
    operator: Kopf, body: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert await operator.index("assettokens", body) == {"tokens": {}, "claims": {}, "users": {}}
    assert await operator.event("assettokens", body) == []

    assert "shop/ledger-writer can't be read" in caplog.text
    assert "the installed CRD is of another version than the operator" in caplog.text
    assert all(record.exc_info is None for record in caplog.records)
