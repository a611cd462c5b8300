"""When all AssetTokens are taken to be known, and what becomes of those that vanish, with a kopf that a test plays."""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from asset_token_operator import asset_token_watch
from asset_token_operator.asset_token_watch import AssetTokenWatch
from asset_token_operator.caches import Caches
from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError
from asset_token_operator.handlers import KopfThread, Observer
from asset_token_operator.kube import KubeClient
from asset_token_operator.model import Key, SecretSpec
from asset_token_operator.scopes import EVERYWHERE, Scopes
from asset_token_operator.versions import SECRETS
from tests.support.builders import a_spec, an_asset_token
from tests.support.clock import ManualClock, settle

SECOND = timedelta(seconds=1)
A, B, C = Key("shop", "a"), Key("shop", "b"), Key("shop", "c")
FAR = Key("bank", "a")

UNREACHABLE = KubeUnavailableError("no answer from the API server.")
FORBIDDEN = KubeRefusedError("the API server refused with 403 Forbidden.", 403)


class FakeKube:
    """Which AssetTokens there are.

    Attributes:
        versions: Each one's resource version.
        version: The latest.
        serves: Whether the CRD is installed, or what asking for it fails with.
        failures: What the lists of a scope fail with, in order.
        lists: The scopes that were listed.
        selectors: By what they were.
        gates: The list of a scope waits for its gate, if it has one, after it was made.
    """

    def __init__(self) -> None:
        self.reached = "fingerprint-1"
        self.versions: dict[Key, int] = {}
        self.version = 100
        self.serves: bool | KubeError = True
        self.failures: dict[str, list[Exception]] = {}
        self.lists: list[str] = []
        self.selectors: set[str | None] = set()
        self.gates: dict[str, asyncio.Event] = {}

    def put(self, *keys: Key) -> None:
        for key in keys:
            self.version += 1
            self.versions[key] = self.version

    def delete(self, key: Key) -> int:
        """Somebody deletes it; the version that its deletion has."""
        self.version += 1
        del self.versions[key]
        return self.version

    def fingerprint(self) -> str:
        return self.reached

    async def serves_asset_tokens(self) -> bool:
        if isinstance(self.serves, KubeError):
            raise self.serves
        return self.serves

    async def version_of_asset_tokens(self, namespace: str, selector: str | None = None) -> int:
        self.selectors.add(selector)
        if self.failures.get(namespace):
            raise self.failures[namespace].pop(0)
        return self.version

    async def list_asset_tokens(self, namespace: str, selector: str | None = None) -> tuple[Mapping[Key, int], int]:
        self.lists.append(namespace)
        self.selectors.add(selector)
        if self.failures.get(namespace):
            raise self.failures[namespace].pop(0)
        found = {key: version for key, version in self.versions.items() if namespace in ("", key.namespace)}
        version = self.version
        if namespace in self.gates:
            await self.gates[namespace].wait()
        return found, version


class FakeKopf:
    """Stands in for `KopfThread`: a test tells what it sees."""

    stubborn = False
    """Whether it doesn't end when it is told to."""

    def __init__(
        self,
        namespaces: Sequence[str],
        observer: Observer,
        loop: asyncio.AbstractEventLoop,
        selector: str | None = None,
    ) -> None:
        self.namespaces = list(namespaces)
        self.selector = selector
        self.observer = observer
        self.loop = loop
        self.ended = asyncio.Event()
        self.started = self.stopped = False

    def start(self) -> None:
        self.started = True

    def stop(self) -> None:
        self.stopped = True
        if not self.stubborn:
            self.ended.set()


class Watch:
    """An `AssetTokenWatch`, and the kopf that runs for it now."""

    def __init__(self, kopfs: list[FakeKopf], *namespaces: str, selector: str | None = None) -> None:
        self.kopfs = kopfs
        self.kube = FakeKube()
        self.clock = ManualClock()
        self.caches = Caches()
        self.scopes = Scopes(namespaces)
        for scope in self.scopes.names:
            self.scopes.secrets_known(scope)
        self.beats = 0
        self._woken: list[Key] = []
        self.watch = AssetTokenWatch(
            self.kube,
            self.caches,
            self.scopes,
            self._woken.append,
            self.clock,
            self._beat,
            selector,
        )
        self.work: asyncio.Task[None] | None = None

    def _beat(self) -> None:
        self.beats += 1

    @property
    def kopf(self) -> FakeKopf:
        return self.kopfs[-1]

    async def start(self) -> None:
        self.work = asyncio.create_task(self.watch.run())
        await settle()

    async def stop(self) -> None:
        if self.work is not None:
            self.work.cancel()
            await settle()
            await self.clock.advance(5 * SECOND)  # which is how long it waits for a kopf that doesn't end
            with contextlib.suppress(asyncio.CancelledError):
                await self.work

    def see(self, *keys: Key, deleted: bool = False, version: int | None = None) -> None:
        """kopf tells of AssetTokens as they are now, or were in that version."""
        for key in keys:
            seen = self.kube.versions[key] if version is None else version
            token = an_asset_token(a_spec(secret=SecretSpec(key.name)), key=key, uid=f"uid-of-{key}", version=seen)
            if deleted:
                self.kopf.observer.saw_deleted(token.key, token.version)
            else:
                self.kopf.observer.saw(token)

    async def begin(self, *scopes: str, listed: bool = True) -> None:
        """kopf watches now; before that it has listed what it watches, unless it needn't."""
        for scope in scopes or (EVERYWHERE,):
            self.kopf.observer.watching(scope, listed=listed)
        await settle()

    def woken(self) -> list[Key]:
        """Who was woken since it was asked last."""
        woken, self._woken[:] = list(dict.fromkeys(self._woken)), []
        return woken

    def served(self) -> list[str]:
        return [scope for scope in self.scopes.names if self.scopes.serves(scope)]


@pytest.fixture
def kopfs(monkeypatch: pytest.MonkeyPatch) -> list[FakeKopf]:
    """Each kopf that was begun."""
    begun: list[FakeKopf] = []

    def begin(*given: Any) -> FakeKopf:
        begun.append(FakeKopf(*given))
        return begun[-1]

    monkeypatch.setattr(asset_token_watch, "KopfThread", begin)
    return begun


@pytest.fixture
async def everywhere(kopfs: list[FakeKopf]) -> AsyncIterator[Watch]:
    watch = Watch(kopfs)
    yield watch
    await watch.stop()


@pytest.fixture
async def two_namespaces(kopfs: list[FakeKopf]) -> AsyncIterator[Watch]:
    watch = Watch(kopfs, "shop", "bank")
    yield watch
    await watch.stop()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "asset_token_operator")
    return caplog


def said(log: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since it was asked last."""
    found = [record.getMessage() for record in log.records]
    log.clear()
    return found


@pytest.mark.parametrize(
    ("fake", "real", "methods"),
    [
        pytest.param(
            FakeKube,
            KubeClient,
            ["serves_asset_tokens", "list_asset_tokens", "version_of_asset_tokens"],
            id="the API server",
        ),
        pytest.param(FakeKopf, KopfThread, ["__init__", "start", "stop"], id="kopf"),
    ],
)
def test_the_fakes_take_the_calls_that_the_real_ones_take(fake: type, real: type, methods: list[str]) -> None:
    for method in methods:
        assert list(inspect.signature(getattr(fake, method)).parameters) == list(
            inspect.signature(getattr(real, method)).parameters
        )


async def test_kopf_and_the_list_of_names_have_the_same_selector(kopfs: list[FakeKopf]) -> None:
    """Else what isn't selected would be waited for, for ever."""
    watch = Watch(kopfs, selector="team=ledger")
    await watch.start()
    await watch.begin()

    assert watch.kopf.selector == "team=ledger"
    assert watch.kube.selectors == {"team=ledger"}
    await watch.stop()


# All of them are known


async def test_nothing_is_served_before_kopf_watches(everywhere: Watch) -> None:
    await everywhere.start()
    assert everywhere.kopf.started
    assert everywhere.kopf.namespaces == []
    assert everywhere.served() == []

    everywhere.kube.put(A)
    everywhere.see(A)
    await settle()
    assert everywhere.served() == []
    assert everywhere.kube.lists == []


async def test_a_cluster_without_any_is_served_once_kopf_watches(everywhere: Watch) -> None:
    await everywhere.start()
    await everywhere.begin()

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.kube.lists == [EVERYWHERE]


async def test_those_that_kopf_has_told_of_before_the_names_are_listed_count(everywhere: Watch) -> None:
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.see(A, B)
    await everywhere.begin()

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.woken() == [A, B]


async def test_those_that_kopf_tells_of_afterwards_are_waited_for(everywhere: Watch) -> None:
    everywhere.kube.put(A, B, C)
    await everywhere.start()
    everywhere.see(A)
    await everywhere.begin()
    assert everywhere.served() == []

    everywhere.see(B)
    assert everywhere.served() == []

    everywhere.see(C)
    assert everywhere.served() == [EVERYWHERE]


async def test_those_that_kopf_tells_of_while_the_names_are_listed_count(everywhere: Watch) -> None:
    everywhere.kube.put(A, B)
    everywhere.kube.gates[EVERYWHERE] = asyncio.Event()
    await everywhere.start()
    await everywhere.begin()
    everywhere.see(A, B)
    assert everywhere.served() == []

    everywhere.kube.gates[EVERYWHERE].set()
    await settle()
    assert everywhere.served() == [EVERYWHERE]


async def test_one_that_was_seen_in_an_earlier_version_is_waited_for(everywhere: Watch) -> None:
    """A spec that isn't the latest must not be acted on after a restart."""
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.see(A)
    everywhere.kube.put(A)
    await everywhere.begin()
    assert everywhere.served() == []

    everywhere.see(A, version=101)
    assert everywhere.served() == []

    everywhere.see(A)
    assert everywhere.served() == [EVERYWHERE]


async def test_one_that_changed_since_the_names_were_listed_counts_in_its_later_version(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.begin()
    everywhere.kube.put(A)
    everywhere.see(A)

    assert everywhere.served() == [EVERYWHERE]


async def test_one_that_is_deleted_meanwhile_is_not_waited_for(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.begin()
    everywhere.see(A, deleted=True, version=everywhere.kube.delete(A))

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.caches.asset_token(A) is None


async def test_one_that_was_created_since_is_not_waited_for_and_known(everywhere: Watch) -> None:
    await everywhere.start()
    await everywhere.begin()
    everywhere.kube.put(A)
    everywhere.see(A)

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.woken() == [A]


async def test_one_that_cannot_be_read_holds_up_nobody(everywhere: Watch, log: pytest.LogCaptureFixture) -> None:
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.kopf.observer.saw_unreadable(A, everywhere.kube.versions[A], "spec is missing")
    await everywhere.begin()
    everywhere.kopf.observer.saw_unreadable(B, everywhere.kube.versions[B], "spec is missing")

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.woken() == []
    assert said(log) == [
        f"{key} can't be read (spec is missing): install the CRD (crds/) of this operator's version" for key in (A, B)
    ]


async def test_one_that_cannot_be_read_any_more_is_dropped_and_woken(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.see(A)
    await everywhere.begin()
    everywhere.woken()
    everywhere.kube.put(A)
    everywhere.kopf.observer.saw_unreadable(A, everywhere.kube.versions[A], "spec is missing")
    assert everywhere.caches.asset_token(A) is None
    assert everywhere.woken() == [A]

    everywhere.kube.put(A)
    everywhere.see(A)
    assert everywhere.caches.asset_token(A) is not None
    assert everywhere.woken() == [A]


async def test_namesakes_in_several_namespaces_are_waited_for_each(two_namespaces: Watch) -> None:
    two_namespaces.kube.put(A, FAR)
    await two_namespaces.start()
    await two_namespaces.begin("shop", "bank")
    assert two_namespaces.kopf.namespaces == ["shop", "bank"]

    two_namespaces.see(A)
    assert two_namespaces.served() == ["shop"]

    two_namespaces.see(FAR)
    assert two_namespaces.served() == ["shop", "bank"]


async def test_a_watch_that_goes_on_after_a_break_is_no_list(everywhere: Watch) -> None:
    """A watch request ends every few minutes."""
    await everywhere.start()
    await everywhere.begin()
    for _ in range(3):
        await everywhere.begin(listed=False)

    assert everywhere.kube.lists == [EVERYWHERE]
    assert everywhere.served() == [EVERYWHERE]


async def test_a_watch_that_goes_on_after_a_break_is_followed_again_only_where_all_was_seen(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.begin()
    everywhere.kopf.observer.unreachable(EVERYWHERE, "ClientConnectorError")
    await everywhere.begin(listed=False)
    assert everywhere.served() == []
    assert not everywhere.scopes.is_followed(EVERYWHERE)

    everywhere.see(A)
    assert everywhere.scopes.is_followed(EVERYWHERE)


# What vanished while kopf was away


async def test_what_vanished_while_kopf_was_away_is_dropped_and_woken(everywhere: Watch) -> None:
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.see(A, B)
    await everywhere.begin()
    everywhere.woken()

    everywhere.kube.delete(A)
    everywhere.see(B)
    await everywhere.begin()

    assert everywhere.caches.asset_token(A) is None
    assert everywhere.caches.asset_token(B) is not None
    assert everywhere.woken() == [A]
    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.kube.lists == [EVERYWHERE] * 2


async def test_what_was_created_since_the_names_were_listed_has_not_vanished(everywhere: Watch) -> None:
    everywhere.kube.gates[EVERYWHERE] = asyncio.Event()
    await everywhere.start()
    await everywhere.begin()
    everywhere.kube.put(A)
    everywhere.see(A)
    everywhere.kube.gates[EVERYWHERE].set()
    await settle()

    assert everywhere.caches.asset_token(A) is not None
    assert everywhere.served() == [EVERYWHERE]


async def test_what_vanished_in_one_namespace_is_looked_for_in_no_other(two_namespaces: Watch) -> None:
    two_namespaces.kube.put(A, FAR)
    await two_namespaces.start()
    two_namespaces.see(A, FAR)
    await two_namespaces.begin("shop", "bank")
    two_namespaces.woken()
    two_namespaces.kube.delete(A)
    await two_namespaces.begin("bank")
    assert two_namespaces.woken() == []

    await two_namespaces.begin("shop")
    assert two_namespaces.woken() == [A]
    assert two_namespaces.caches.asset_token(FAR) is not None


async def test_what_could_not_be_read_and_vanished_is_forgotten_and_wakes_nobody(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.kopf.observer.saw_unreadable(A, everywhere.kube.versions[A], "spec is missing")
    await everywhere.begin()
    everywhere.kube.delete(A)
    await everywhere.begin()

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.woken() == []


async def test_kopf_that_lists_anew_while_the_names_are_listed_has_them_listed_anew(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    everywhere.kube.gates[EVERYWHERE] = asyncio.Event()
    await everywhere.start()
    await everywhere.begin()
    everywhere.kube.put(B)
    await everywhere.begin()
    everywhere.kube.gates[EVERYWHERE].set()
    await settle()
    everywhere.see(A)
    assert everywhere.served() == []

    everywhere.see(B)
    assert everywhere.served() == [EVERYWHERE]


@pytest.mark.parametrize("error", [UNREACHABLE, FORBIDDEN], ids=["unreachable", "forbidden"])
async def test_names_that_cannot_be_listed_are_asked_for_again_every_second(
    everywhere: Watch, error: KubeError, log: pytest.LogCaptureFixture
) -> None:
    everywhere.kube.failures[EVERYWHERE] = [error] * 3
    await everywhere.start()
    await everywhere.begin()
    for _ in range(3):
        assert everywhere.served() == []
        assert list(everywhere.scopes.problems()) == [f"all namespaces: {error}"]
        await everywhere.clock.advance(SECOND)

    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.kube.lists == [EVERYWHERE] * 4
    assert said(log) == [
        f"all namespaces: AssetTokens can't be followed: {error}",
        "all namespaces: followed again",
    ]


# The CRD


async def test_a_cluster_without_the_crd_is_not_served_until_it_is_installed(
    everywhere: Watch, log: pytest.LogCaptureFixture
) -> None:
    everywhere.kube.serves = False
    await everywhere.start()
    for _ in range(30):
        await everywhere.clock.advance(SECOND)
    assert everywhere.kopfs == []
    assert everywhere.served() == []
    assert [line for line in said(log) if "install the CRD (crds/)" in line][1:] == [], "said once"
    assert list(everywhere.scopes.problems()) == [
        "all namespaces: the cluster has no assettokens.auth.getasset.com/v1alpha1; install the CRD (crds/)."
    ]

    everywhere.kube.serves = True
    await everywhere.clock.advance(SECOND)
    await everywhere.begin()
    assert everywhere.served() == [EVERYWHERE]
    assert said(log) == ["all namespaces: followed again"]


async def test_a_crd_that_is_taken_away_ends_the_service_until_it_is_there_again(
    everywhere: Watch, log: pytest.LogCaptureFixture
) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.see(A)
    await everywhere.begin()
    assert everywhere.served() == [EVERYWHERE]

    everywhere.kopf.observer.refused(EVERYWHERE, 404)
    everywhere.kube.serves = False
    everywhere.kopf.ended.set()
    for _ in range(10):
        await everywhere.clock.advance(SECOND)
    assert everywhere.served() == []
    assert len(said(log)) == 1

    everywhere.kube.serves = True
    everywhere.kube.delete(A)
    await everywhere.clock.advance(SECOND)
    assert len(everywhere.kopfs) == 2
    await everywhere.begin()
    assert everywhere.served() == [EVERYWHERE]
    assert everywhere.caches.asset_token(A) is None, "it went with the CRD"


async def test_a_404_is_anybodys_while_the_api_server_serves_the_crd(
    everywhere: Watch, log: pytest.LogCaptureFixture
) -> None:
    """A load balancer without a backend answers so."""
    await everywhere.start()
    await everywhere.begin()
    everywhere.kopf.observer.refused(EVERYWHERE, 404)
    everywhere.kopf.ended.set()
    await settle()
    assert everywhere.served() == [EVERYWHERE]
    assert not everywhere.scopes.is_followed(EVERYWHERE)

    await everywhere.clock.advance(SECOND)
    await everywhere.begin()
    assert everywhere.scopes.is_followed(EVERYWHERE)
    assert said(log) == []


# It can't be followed


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        pytest.param(403, "the API server answered 403 to the list of AssetTokens (Forbidden); check", id="forbidden"),
        pytest.param(
            500, "the API server answered 500 to the list of AssetTokens; tried again by itself.", id="it fails"
        ),
        pytest.param(
            429,
            "the API server answered 429 to the list of AssetTokens; tried again by itself.",
            id="too many requests",
        ),
    ],
)
async def test_what_is_refused_in_one_namespace_holds_up_no_other(
    two_namespaces: Watch, log: pytest.LogCaptureFixture, status: int, problem: str
) -> None:
    two_namespaces.kube.put(FAR)
    await two_namespaces.start()
    for _ in range(3):
        two_namespaces.kopf.observer.refused("shop", status)
    two_namespaces.see(FAR)
    await two_namespaces.begin("bank")

    assert two_namespaces.served() == ["bank"]
    assert str(two_namespaces.scopes.problem("shop")).startswith(problem)
    assert len(said(log)) == 1

    await two_namespaces.begin("shop")
    assert two_namespaces.served() == ["shop", "bank"]
    assert said(log) == ["namespace shop: followed again"]


async def test_what_is_refused_later_is_served_on(everywhere: Watch) -> None:
    await everywhere.start()
    await everywhere.begin()
    everywhere.kopf.observer.refused(EVERYWHERE, 403)

    assert everywhere.served() == [EVERYWHERE]
    assert not everywhere.scopes.is_followed(EVERYWHERE)


async def test_a_login_that_expired_is_no_problem(everywhere: Watch, log: pytest.LogCaptureFixture) -> None:
    """kopf logs in anew then."""
    await everywhere.start()
    await everywhere.begin()
    everywhere.kopf.observer.refused(EVERYWHERE, 401)

    assert everywhere.scopes.is_followed(EVERYWHERE)
    assert said(log) == []


async def test_an_api_server_that_cannot_be_reached_is_said_once_with_the_errors_cause(
    two_namespaces: Watch, log: pytest.LogCaptureFixture
) -> None:
    await two_namespaces.start()
    for _ in range(3):
        for scope in ("shop", "bank"):
            two_namespaces.kopf.observer.unreachable(scope, "10.96.0.1:443: connection refused")

    error = "no answer from the API server at 10.96.0.1:443: connection refused; tried again by itself."
    assert said(log) == [f"namespace shop: AssetTokens can't be followed: {error}"]
    assert [two_namespaces.scopes.is_followed(scope) for scope in ("shop", "bank")] == [False, False]


async def test_an_api_server_that_cannot_be_reached_at_the_start_is_asked_again_every_second(
    everywhere: Watch, log: pytest.LogCaptureFixture
) -> None:
    everywhere.kube.serves = UNREACHABLE
    await everywhere.start()
    for _ in range(5):
        await everywhere.clock.advance(SECOND)
    assert everywhere.kopfs == []
    assert everywhere.beats == 6, "trying is a sign of life"
    assert len(said(log)) == 1

    everywhere.kube.serves = True
    await everywhere.clock.advance(SECOND)
    assert everywhere.kopf.started


# kopf is begun anew


async def test_kopf_that_ended_is_begun_anew_and_what_is_known_is_served_meanwhile(everywhere: Watch) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.see(A)
    await everywhere.begin()
    everywhere.kopf.ended.set()
    await settle()
    await everywhere.clock.advance(SECOND)
    assert len(everywhere.kopfs) == 2
    assert everywhere.kopf.started
    assert everywhere.served() == [EVERYWHERE]

    everywhere.kube.delete(A)
    await everywhere.begin()
    assert everywhere.caches.asset_token(A) is None


async def test_a_kopf_that_ends_at_once_each_time_is_no_hot_loop(everywhere: Watch) -> None:
    await everywhere.start()
    for _ in range(10):
        everywhere.kopf.ended.set()
        await everywhere.clock.advance(SECOND)

    assert len(everywhere.kopfs) <= 11


async def test_kopf_that_asks_for_nothing_and_watches_nothing_is_begun_anew(everywhere: Watch) -> None:
    """It does if its login fails, or if it found no such resource when it started."""
    await everywhere.start()
    for _ in range(29):
        await everywhere.clock.advance(SECOND)
    assert len(everywhere.kopfs) == 1

    for _ in range(3):
        await everywhere.clock.advance(SECOND)
    assert everywhere.kopfs[0].stopped
    assert len(everywhere.kopfs) == 2


async def test_kopf_that_still_asks_is_left_alone(two_namespaces: Watch) -> None:
    await two_namespaces.start()
    await two_namespaces.begin("bank")
    for _ in range(120):
        two_namespaces.kopf.observer.asked()
        await two_namespaces.clock.advance(SECOND)

    assert len(two_namespaces.kopfs) == 1


async def test_kopf_that_asks_for_nothing_since_it_watches_all_is_left_alone(two_namespaces: Watch) -> None:
    """A watch request lasts for minutes."""
    await two_namespaces.start()
    await two_namespaces.begin("shop", "bank")
    for _ in range(120):
        await two_namespaces.clock.advance(SECOND)

    assert len(two_namespaces.kopfs) == 1


async def test_kopf_that_asks_for_nothing_and_does_not_watch_all_is_begun_anew(two_namespaces: Watch) -> None:
    await two_namespaces.start()
    await two_namespaces.begin("bank")
    for _ in range(32):
        await two_namespaces.clock.advance(SECOND)

    assert len(two_namespaces.kopfs) == 2


@pytest.mark.parametrize(
    "lose",
    [
        pytest.param(lambda observer: observer.refused("shop", 429), id="too many requests"),
        pytest.param(lambda observer: observer.refused("shop", 401), id="its login expired"),
        pytest.param(
            lambda observer: observer.unreachable("shop", "10.96.0.1:443: connection refused"), id="no answer"
        ),
    ],
)
async def test_kopf_that_sleeps_since_a_watch_was_lost_is_begun_anew_whatever_it_does_elsewhere(
    two_namespaces: Watch, lose: Callable[[Observer], None]
) -> None:
    """After a 429 it sleeps as long as `Retry-After` says, be that hours."""
    await two_namespaces.start()
    await two_namespaces.begin("shop", "bank")
    for _ in range(300):
        await two_namespaces.clock.advance(SECOND)
    assert len(two_namespaces.kopfs) == 1

    lose(two_namespaces.kopf.observer)
    for second in range(32):
        assert second > 29 or len(two_namespaces.kopfs) == 1
        two_namespaces.kopf.observer.asked("bank")
        await two_namespaces.clock.advance(SECOND)
    await two_namespaces.clock.advance(SECOND)
    assert len(two_namespaces.kopfs) == 2
    await two_namespaces.begin("shop", "bank")
    for _ in range(120):
        await two_namespaces.clock.advance(SECOND)
    assert len(two_namespaces.kopfs) == 2


async def test_kopf_that_asks_again_where_a_watch_was_lost_is_left_alone(two_namespaces: Watch) -> None:
    await two_namespaces.start()
    await two_namespaces.begin("shop", "bank")
    for _ in range(120):
        two_namespaces.kopf.observer.asked("shop")
        two_namespaces.kopf.observer.unreachable("shop", "10.96.0.1:443: connection refused")
        await two_namespaces.clock.advance(SECOND)

    assert len(two_namespaces.kopfs) == 1


async def test_kopf_is_begun_anew_when_the_api_server_is_reached_another_way(everywhere: Watch) -> None:
    """Its session was made with the old CA, say."""
    await everywhere.start()
    await everywhere.begin()
    everywhere.kube.reached = "fingerprint-2"
    for _ in range(3):
        await everywhere.clock.advance(SECOND)

    assert everywhere.kopfs[0].stopped
    assert len(everywhere.kopfs) == 2


async def test_kopf_that_does_not_end_is_waited_for_for_five_seconds(
    everywhere: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeKopf, "stubborn", True)
    await everywhere.start()
    everywhere.kube.reached = "fingerprint-2"
    for _ in range(2):
        await everywhere.clock.advance(SECOND)
    assert everywhere.kopf.stopped

    for _ in range(5):
        await everywhere.clock.advance(SECOND)
        assert len(everywhere.kopfs) == 1
    await everywhere.clock.advance(SECOND)
    assert len(everywhere.kopfs) == 2


async def test_each_request_of_kopf_is_a_sign_of_life(everywhere: Watch) -> None:
    await everywhere.start()
    before = everywhere.beats
    everywhere.kopf.observer.asked()

    assert everywhere.beats == before + 1


async def test_cancelling_stops_kopf_and_what_is_being_listed(everywhere: Watch) -> None:
    everywhere.kube.gates[EVERYWHERE] = asyncio.Event()
    await everywhere.start()
    await everywhere.begin()
    others = asyncio.all_tasks() - {asyncio.current_task()}

    await everywhere.stop()
    await settle()

    assert everywhere.kopf.stopped
    assert all(task.done() for task in others)


# Resource versions that go back


@pytest.mark.parametrize("listed", [True, False], ids=["kopf lists", "kopf goes on where it was"])
async def test_a_backup_that_was_restored_is_seen_and_kopf_begun_anew(
    everywhere: Watch, kopfs: list[FakeKopf], log: pytest.LogCaptureFixture, *, listed: bool
) -> None:
    """B was created since the backup, C was deleted since."""
    everywhere.kube.put(A, B)
    await everywhere.start()
    await everywhere.begin()
    everywhere.see(A, B)
    everywhere.kube.version, everywhere.kube.versions = 50, {}
    everywhere.kube.put(A, C)
    if listed:
        everywhere.see(A, C)
    await everywhere.begin(listed=listed)
    await everywhere.clock.advance(2 * SECOND)
    await everywhere.clock.advance(SECOND)

    assert len(kopfs) == 2
    assert "resource versions have gone back, as after a restored backup: all is listed anew" in said(log)
    everywhere.see(A, C)
    await everywhere.begin()
    assert [token.version for token in everywhere.caches.asset_tokens()] == [51, 52]
    assert everywhere.served() == [EVERYWHERE]
    await everywhere.begin(listed=False)
    await everywhere.clock.advance(2 * SECOND)
    assert len(kopfs) == 2


async def test_a_backup_that_counts_on_is_seen_and_kopf_begun_anew(
    everywhere: Watch, kopfs: list[FakeKopf], log: pytest.LogCaptureFixture
) -> None:
    """It was restored with `--bump-revision --mark-compacted`; A was changed since, B was created."""
    everywhere.kube.put(A, C)
    backup = dict(everywhere.kube.versions)
    await everywhere.start()
    everywhere.kube.put(A, B)
    everywhere.see(A, B, C)
    await everywhere.begin()
    everywhere.kube.version, everywhere.kube.versions = 1_000_000_000, backup
    everywhere.see(A, C)
    await everywhere.begin()
    await everywhere.clock.advance(2 * SECOND)
    await everywhere.clock.advance(SECOND)

    assert len(kopfs) == 2
    assert "resource versions have gone back, as after a restored backup: all is listed anew" in said(log)
    everywhere.see(A, C)
    await everywhere.begin()
    assert {token.key: token.version for token in everywhere.caches.asset_tokens()} == backup
    for _ in range(3):
        await everywhere.begin()
        await everywhere.clock.advance(2 * SECOND)
    assert len(kopfs) == 2


async def test_a_write_of_our_own_since_the_list_is_no_backup(everywhere: Watch, kopfs: list[FakeKopf]) -> None:
    everywhere.kube.put(A)
    everywhere.kube.gates[EVERYWHERE] = asyncio.Event()
    await everywhere.start()
    everywhere.see(A)
    await everywhere.begin()
    everywhere.kube.put(A)
    everywhere.see(A)
    everywhere.kube.gates[EVERYWHERE].set()
    await everywhere.clock.advance(2 * SECOND)

    assert len(kopfs) == 1
    assert everywhere.served() == [EVERYWHERE]


async def test_what_another_has_found_out_counts_here_too(everywhere: Watch, kopfs: list[FakeKopf]) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.begin()
    everywhere.see(A)
    everywhere.caches.versions.saw(SECRETS, 1000)
    everywhere.caches.versions.compare(SECRETS, 500, 1000)
    await everywhere.clock.advance(2 * SECOND)
    await everywhere.clock.advance(SECOND)

    assert len(kopfs) == 2
    everywhere.see(A, version=60)
    assert [token.version for token in everywhere.caches.asset_tokens()] == [60]


async def test_versions_are_compared_again_when_that_failed(everywhere: Watch, kopfs: list[FakeKopf]) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.begin()
    everywhere.see(A)
    everywhere.kube.failures[EVERYWHERE] = [UNREACHABLE]
    everywhere.kube.version = 50
    await everywhere.begin(listed=False)
    await everywhere.clock.advance(SECOND)
    await everywhere.clock.advance(2 * SECOND)
    await everywhere.clock.advance(SECOND)

    assert len(kopfs) == 2
