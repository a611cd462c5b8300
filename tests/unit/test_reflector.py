import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from asset_token_operator.caches import Caches
from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError
from asset_token_operator.kube import KubeClient
from asset_token_operator.model import Key, SecretSpec, SecretState
from asset_token_operator.parsing import SecretEvent
from asset_token_operator.reflector import SecretReflector
from asset_token_operator.scopes import EVERYWHERE, Scopes
from asset_token_operator.versions import ASSET_TOKENS
from tests.support.builders import a_spec, an_asset_token
from tests.support.clock import ManualClock, settle

SECOND = timedelta(seconds=1)

A, B, C = Key("shop", "a"), Key("shop", "b"), Key("shop", "c")
FAR = Key("bank", "a")
ELSEWHERE = Key("elsewhere", "a")

UNREACHABLE = KubeUnavailableError("no answer from the API server.")
FORBIDDEN = KubeRefusedError("the API server refused with 403 Forbidden.", 403)
GONE = KubeRefusedError("the API server refused with 410 Gone.", 410)


class FakeSecrets:
    """The API server's Secrets, by their metadata; a watch tells of what changes until it ends.

    Attributes:
        lists: The namespaces that were listed, in order.
        watches: The versions since which was watched, in order.
        page: How many Secrets a page of a list has.
        failures: What the next lists fail with.
        failing_page: Which page of a list fails; the first one, unless it is said otherwise.
    """

    def __init__(self) -> None:
        self.secrets: dict[Key, SecretState] = {}
        self.lists: list[str] = []
        self.watches: list[int] = []
        self.page = 2
        self.failures: list[KubeError] = []
        self.failing_page = 0
        self._version = 100
        self._events: list[SecretEvent] = []
        self._forgotten = 0
        self._open: dict[str, asyncio.Queue[SecretEvent | KubeError | None]] = {}

    def put(self, *keys: Key) -> None:
        """Somebody creates or changes Secrets."""
        for key in keys:
            self.write(key)

    def write(self, key: Key) -> SecretState:
        """The same, for one, which is returned."""
        self._version += 1
        kind = "MODIFIED" if key in self.secrets else "ADDED"
        secret = SecretState(key, f"uid-of-{key}", None, version=self._version, data=None)
        self.secrets[key] = secret
        self._tell(SecretEvent(kind, self._version, secret))
        return secret

    def delete(self, key: Key) -> None:
        self._version += 1
        self._tell(SecretEvent("DELETED", self._version, replace(self.secrets.pop(key), version=self._version)))

    def bookmark(self) -> None:
        """Nothing happens to Secrets, but to other objects, and the watch tells how far it is."""
        self._version += 1
        self._tell(SecretEvent("BOOKMARK", self._version, None))

    def end_watches(self, error: KubeError | None = None) -> None:
        """All watches end, for whatever reason; what changes from now on they don't tell."""
        for watch in self._open.values():
            watch.put_nowait(error)
        self._open.clear()

    def forget(self) -> None:
        """The API server keeps only the latest events (410 Gone)."""
        self._forgotten = self._version

    def restore_and_count_on(self, backup: Mapping[Key, SecretState]) -> None:
        """The same with `--bump-revision --mark-compacted`: all before is forgotten, and what comes is far beyond."""
        self._version += 1_000_000_000
        self.secrets, self._events = dict(backup), []
        self.forget()
        self.end_watches(GONE)

    def restore(self, *keys: Key) -> None:
        """etcd is restored from a backup in which these were: all watches break."""
        self._version, self._events, self._forgotten = 50, [], 0
        self.secrets = {}
        self.put(*keys)

    async def version_of_secrets(self, namespace: str) -> int:  # noqa: ARG002 - as the real one
        await asyncio.sleep(0)
        return self._version

    async def list_secrets(self, namespace: str) -> AsyncIterator[tuple[list[SecretState], int]]:
        await asyncio.sleep(0)
        self.lists.append(namespace)
        failure = self.failures.pop(0) if self.failures else None
        found = [secret for key, secret in self.secrets.items() if namespace in ("", key.namespace)]
        version = self._version
        pages = [found[at : at + self.page] for at in range(0, len(found), self.page)] or [[]]
        for number, page in enumerate(pages):
            if failure is not None and number == self.failing_page:
                raise failure
            yield page, version
            await asyncio.sleep(0)

    async def watch_secrets(self, namespace: str, since: int) -> AsyncIterator[SecretEvent]:
        self.watches.append(since)
        if since < self._forgotten:
            raise GONE
        watch = self._open[namespace] = asyncio.Queue()
        for event in self._events:
            if event.version > since and _concerns(event, namespace):
                watch.put_nowait(event)
        while told := await watch.get():
            if isinstance(told, KubeError):
                raise told
            yield told

    def _tell(self, event: SecretEvent) -> None:
        self._events.append(event)
        for namespace, watch in self._open.items():
            if _concerns(event, namespace):
                watch.put_nowait(event)


def _concerns(event: SecretEvent, namespace: str) -> bool:
    return event.secret is None or namespace in ("", event.secret.key.namespace)


class Reflection:
    """What is followed, and what it told of since it was asked last.

    There is an AssetToken of the name of each Secret, so whoever is woken tells which Secret it was.
    """

    def __init__(self, *namespaces: str) -> None:
        self.kube = FakeSecrets()
        self.clock = ManualClock()
        self.caches = Caches()
        for key in (A, B, C, FAR, ELSEWHERE):
            spec = a_spec(secret=SecretSpec(key.name))
            self.caches.saw_asset_token(an_asset_token(spec, key=key, uid=f"owner-of-{key}"))
        self.scopes = Scopes(namespaces)
        for scope in self.scopes.names:
            self.scopes.asset_tokens_known(scope)
        self.beats: list[str] = []
        self._told: list[Key] = []
        self.secrets = SecretReflector(
            self.kube,
            self.caches,
            self.scopes,
            self._told.append,
            self.clock,
            self.beats.append,
        )
        self.work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self.work = asyncio.create_task(self.secrets.run())
        await settle()

    async def stop(self) -> None:
        if self.work is not None:
            self.work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.work

    async def told(self) -> list[Key]:
        await settle()
        told, self._told[:] = sorted(self._told), []
        return told

    def known(self, *keys: Key) -> list[int | None]:
        """The versions of Secrets; None for one that isn't there."""
        found = [self.caches.secret(key) for key in keys]
        return [None if secret is None else secret.version for secret in found]


@pytest.fixture
async def everywhere() -> AsyncIterator[Reflection]:
    reflection = Reflection()
    yield reflection
    await reflection.stop()


@pytest.fixture
async def two_namespaces() -> AsyncIterator[Reflection]:
    reflection = Reflection("shop", "bank")
    yield reflection
    await reflection.stop()


@pytest.mark.parametrize("method", ["list_secrets", "watch_secrets"])
def test_the_fake_takes_the_calls_that_the_real_client_takes(method: str) -> None:
    fake, real = (inspect.signature(getattr(of, method)) for of in (FakeSecrets, KubeClient))

    assert list(fake.parameters) == list(real.parameters)


# What there is


async def test_knows_all_that_is_listed_and_tells_of_each(everywhere: Reflection) -> None:
    everywhere.kube.put(A, B, FAR)
    await everywhere.start()

    assert await everywhere.told() == [FAR, A, B]
    assert everywhere.known(A, B, FAR, C) == [101, 102, 103, None]


async def test_nothing_is_known_before_the_list(everywhere: Reflection) -> None:
    everywhere.kube.put(A)

    assert everywhere.known(A) == [None]
    assert not everywhere.scopes.serves(EVERYWHERE)

    await everywhere.start()
    assert everywhere.scopes.serves(EVERYWHERE)


async def test_a_list_of_many_pages_is_known_whole(everywhere: Reflection) -> None:
    everywhere.kube.page = 1
    everywhere.kube.put(A, B, C)
    await everywhere.start()

    assert everywhere.known(A, B, C) == [101, 102, 103]
    assert everywhere.kube.lists == [""]


async def test_a_list_whose_later_page_fails_is_not_taken_for_all_there_is(everywhere: Reflection) -> None:
    everywhere.kube.put(A, B, C)
    await everywhere.start()
    await everywhere.told()
    everywhere.kube.failing_page, everywhere.kube.failures = 1, [UNREACHABLE]
    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A, B, C) == [101, 102, 103]
    assert await everywhere.told() == []
    assert not everywhere.scopes.is_followed(EVERYWHERE)


async def test_changes_are_told_and_known(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.told()

    everywhere.kube.put(B)
    assert await everywhere.told() == [B]
    assert everywhere.known(A, B) == [101, 102]

    everywhere.kube.put(A)
    assert await everywhere.told() == [A]
    assert everywhere.known(A, B) == [103, 102]

    everywhere.kube.delete(A)
    assert await everywhere.told() == [A]
    assert everywhere.known(A, B) == [None, 102]
    assert everywhere.kube.lists == [""], "all by one list and one watch"


async def test_a_secret_that_is_deleted_and_created_anew_at_once_is_known(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.kube.delete(A)
    everywhere.kube.put(A)

    assert set(await everywhere.told()) == {A}
    assert everywhere.known(A) == [103]


async def test_the_latest_is_known_when_it_is_told(everywhere: Reflection) -> None:
    """Whoever is woken looks at once."""
    seen: list[tuple[Key, int | None]] = []
    secrets = SecretReflector(
        everywhere.kube,
        everywhere.caches,
        everywhere.scopes,
        lambda key: seen.append((key, everywhere.known(key)[0])),
        everywhere.clock,
    )
    everywhere.kube.put(A)
    work = asyncio.create_task(secrets.run())
    await settle()
    everywhere.kube.put(A)
    await settle()
    everywhere.kube.delete(A)
    await settle()
    work.cancel()

    assert seen == [(A, 101), (A, 102), (A, None)]


# What the operator wrote itself


async def test_what_the_operator_wrote_itself_is_known_before_the_watch_tells_and_no_news_then(
    everywhere: Reflection,
) -> None:
    await everywhere.start()
    written = everywhere.kube.write(A)
    everywhere.secrets.written(replace(written, type="auth.getasset.com/token", data={"access_token": "canary"}))
    assert everywhere.known(A) == [101]

    assert await everywhere.told() == []
    known = everywhere.caches.secret(A)
    assert known is not None
    assert known.type == "auth.getasset.com/token", "the type stays known, which the watch doesn't tell"
    assert known.data is None


async def test_what_the_operator_wrote_and_somebody_deleted_since_is_not_brought_back(everywhere: Reflection) -> None:
    """The answer to the write may come after what the watch tells of later."""
    await everywhere.start()
    written = everywhere.kube.write(A)
    everywhere.kube.delete(A)
    await settle()

    everywhere.secrets.written(written)

    assert everywhere.known(A) == [None]


async def test_what_the_operator_wrote_and_somebody_changed_since_is_not_taken_back(everywhere: Reflection) -> None:
    await everywhere.start()
    written = everywhere.kube.write(A)
    everywhere.kube.put(A)
    await settle()

    everywhere.secrets.written(written)

    assert everywhere.known(A) == [102]


async def test_what_the_operator_wrote_and_somebody_deletes_afterwards_is_told(everywhere: Reflection) -> None:
    await everywhere.start()
    everywhere.secrets.written(everywhere.kube.write(A))
    everywhere.kube.delete(A)

    assert await everywhere.told() == [A]
    assert everywhere.known(A) == [None]


async def test_what_the_operator_wrote_after_a_list_began_is_not_missed_in_it(everywhere: Reflection) -> None:
    """The list is as of before the write, and comes to its end after it."""
    everywhere.kube.put(B)
    await everywhere.start()
    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    real_list = everywhere.kube.list_secrets

    async def slow_list(namespace: str) -> AsyncIterator[tuple[list[SecretState], int]]:
        async for page, version in real_list(namespace):
            everywhere.secrets.written(everywhere.kube.write(A))
            yield page, version

    everywhere.kube.list_secrets = slow_list  # type: ignore[method-assign]
    await everywhere.told()
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A) == [102]
    assert await everywhere.told() == []


async def test_each_namespace_is_as_far_as_its_own_watch(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    written = two_namespaces.kube.write(FAR)
    two_namespaces.kube.delete(FAR)
    await settle()
    two_namespaces.kube.put(B)
    await settle()

    two_namespaces.secrets.written(written)
    two_namespaces.secrets.written(SecretState(A, "uid-of-shop/a", None, version=104, data=None))

    assert two_namespaces.known(FAR, A) == [None, 104]


# The watch breaks


async def test_a_watch_that_just_ends_goes_on_where_it_was_without_a_list(everywhere: Reflection) -> None:
    """It does every few minutes, and a list of all Secrets of the cluster is dear."""
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.kube.put(A)
    await everywhere.told()
    everywhere.kube.end_watches()
    everywhere.kube.delete(A)
    everywhere.kube.put(C)
    await settle()
    await everywhere.clock.advance(SECOND)

    assert await everywhere.told() == [A, C]
    assert everywhere.known(A, B, C) == [None, 102, 105]
    assert everywhere.kube.lists == [""]
    assert everywhere.kube.watches == [102, 103]


async def test_a_bookmark_tells_nobody_but_how_far_the_watch_is(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.told()
    everywhere.kube.bookmark()
    assert await everywhere.told() == []

    everywhere.secrets.written(SecretState(B, "uid-of-shop/b", None, version=102, data=None))
    assert everywhere.known(B) == [None], "the watch has gone beyond"
    everywhere.kube.end_watches()
    await settle()
    await everywhere.clock.advance(SECOND)
    assert everywhere.kube.watches == [101, 102]


@pytest.mark.parametrize(
    ("error", "forgets"),
    [
        pytest.param(UNREACHABLE, False, id="it broke"),
        pytest.param(None, True, id="it ended and the API server has forgotten what came then"),
    ],
)
async def test_what_happened_while_the_watch_was_broken_is_found_by_comparing(
    everywhere: Reflection, error: KubeError | None, *, forgets: bool
) -> None:
    unchanged, changed, deleted, created = A, B, C, FAR
    everywhere.kube.put(unchanged, changed, deleted)
    await everywhere.start()
    await everywhere.told()
    everywhere.kube.end_watches(error)
    everywhere.kube.put(changed, created)
    everywhere.kube.delete(deleted)
    if forgets:
        everywhere.kube.forget()
    await settle()
    for _ in range(3):
        await everywhere.clock.advance(SECOND)

    assert await everywhere.told() == [created, changed, deleted]
    assert everywhere.known(unchanged, changed, deleted, created) == [101, 104, None, 105]


async def test_changes_after_a_broken_watch_are_told_too(everywhere: Reflection) -> None:
    await everywhere.start()
    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    await everywhere.clock.advance(SECOND)
    everywhere.kube.put(A)

    assert await everywhere.told() == [A]
    assert everywhere.kube.lists == ["", ""]


async def test_a_watch_that_breaks_in_one_namespace_forgets_nothing_of_another(two_namespaces: Reflection) -> None:
    two_namespaces.kube.put(A, FAR)
    await two_namespaces.start()
    await two_namespaces.told()
    two_namespaces.kube.end_watches(UNREACHABLE)
    two_namespaces.kube.delete(A)
    await settle()
    await two_namespaces.clock.advance(SECOND)

    assert await two_namespaces.told() == [A]
    assert two_namespaces.known(A, FAR) == [None, 102]


async def test_watches_that_end_as_soon_as_they_begin_are_no_hot_loop(everywhere: Reflection) -> None:
    """An API server that isn't well must not be kept from getting well."""

    watches: list[str] = []

    async def over(namespace: str, since: int) -> AsyncIterator[SecretEvent]:
        watches.append(namespace)
        for event in list[SecretEvent]():
            yield event

    everywhere.kube.watch_secrets = over  # type: ignore[method-assign]
    await everywhere.start()
    for _ in range(10):
        await everywhere.clock.advance(SECOND)

    assert len(everywhere.kube.lists) <= 10
    assert len(watches) <= 11, "one a second"


# The API server fails


@pytest.mark.parametrize("error", [UNREACHABLE, FORBIDDEN], ids=["unreachable", "forbidden"])
async def test_a_list_that_fails_is_tried_again_later_each_time_up_to_5_seconds(
    everywhere: Reflection, error: KubeError
) -> None:
    everywhere.kube.failures = [error] * 1000
    await everywhere.start()
    moments: list[int] = []
    for second in range(60):
        if len(everywhere.kube.lists) > len(moments):
            moments.append(second)
        await everywhere.clock.advance(SECOND)

    assert moments == [0, 1, 3, 7, 12, 17, 22, 27, 32, 37, 42, 47, 52, 57]

    everywhere.kube.failures.clear()
    everywhere.kube.put(A)
    await everywhere.clock.advance(5 * SECOND)
    assert await everywhere.told() == [A]


async def test_what_is_known_is_kept_while_the_list_fails(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.kube.failures = [UNREACHABLE] * 3
    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A) == [101]


async def test_an_api_server_that_answered_since_is_tried_again_soon(everywhere: Reflection) -> None:
    """A cause that is fixed is acted on within seconds, also after the hundredth broken watch."""
    everywhere.kube.put(A)
    await everywhere.start()
    for _ in range(10):
        everywhere.kube.end_watches(UNREACHABLE)
        await settle()
        await everywhere.clock.advance(5 * SECOND)
        everywhere.kube.bookmark()
        await everywhere.clock.advance(300 * SECOND)
    lists = len(everywhere.kube.lists)

    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    await everywhere.clock.advance(SECOND)

    assert len(everywhere.kube.lists) == lists + 1


async def test_a_namespace_that_fails_does_not_hold_up_another(two_namespaces: Reflection) -> None:
    two_namespaces.kube.put(A, FAR)
    two_namespaces.kube.failures = [UNREACHABLE]
    await two_namespaces.start()

    assert two_namespaces.known(A, FAR) == [None, 102]
    await two_namespaces.clock.advance(SECOND)
    assert two_namespaces.known(A, FAR) == [101, 102]


@pytest.mark.parametrize("error", [FORBIDDEN, GONE, UNREACHABLE], ids=["forbidden", "gone", "it breaks at once"])
async def test_a_watch_that_never_works_is_told_once_and_all_is_listed_each_five_seconds(
    everywhere: Reflection, caplog: pytest.LogCaptureFixture, error: KubeError
) -> None:
    """A Role without `watch`, say: the list alone is no following."""
    caplog.set_level(logging.INFO, "asset_token_operator")
    real, works = everywhere.kube.watch_secrets, list[None]()

    async def watch(namespace: str, since: int) -> AsyncIterator[SecretEvent]:
        if not works:
            raise error
        async for event in real(namespace, since):
            yield event

    everywhere.kube.watch_secrets = watch  # type: ignore[method-assign]
    await everywhere.start()
    assert everywhere.scopes.serves(EVERYWHERE)
    for _ in range(15):
        await everywhere.clock.advance(SECOND)
    for _ in range(285):
        await everywhere.clock.advance(SECOND)
        assert list(everywhere.scopes.problems()) == [f"all namespaces: {error}"]

    assert len(everywhere.kube.lists) <= 63
    everywhere.kube.put(A)
    await everywhere.clock.advance(5 * SECOND)
    assert await everywhere.told() == [A], "what is listed is acted on all the same"

    works.append(None)
    await everywhere.clock.advance(5 * SECOND)
    everywhere.kube.bookmark()
    await settle()
    assert list(everywhere.scopes.problems()) == []
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"all namespaces: Secrets can't be followed: {error}"),
        ("INFO", "all namespaces: followed again"),
    ]


async def test_a_list_that_never_comes_to_its_end_is_told_once(
    everywhere: Reflection, caplog: pytest.LogCaptureFixture
) -> None:
    """The API server, or what stands in front of it, forgets a list before its second page is asked for."""
    everywhere.kube.put(A, B, C)
    everywhere.kube.failures, everywhere.kube.failing_page = [GONE] * 1000, 1
    await everywhere.start()
    assert caplog.messages == []
    for _ in range(300):
        await everywhere.clock.advance(SECOND)

    assert caplog.messages == [f"all namespaces: Secrets can't be followed: {GONE}"]
    assert list(everywhere.scopes.problems()) == [f"all namespaces: {GONE}"]
    everywhere.kube.failures = []
    await everywhere.clock.advance(5 * SECOND)
    assert everywhere.scopes.is_followed(EVERYWHERE)


async def test_api_servers_that_are_restarted_in_turn_are_followed_at_once_each_time(everywhere: Reflection) -> None:
    await everywhere.start()
    for _ in range(2):
        everywhere.kube.end_watches(UNREACHABLE)
        await settle()
        assert not everywhere.scopes.is_followed(EVERYWHERE)
        await everywhere.clock.advance(2 * SECOND)
        assert everywhere.scopes.is_followed(EVERYWHERE)


# Several namespaces


async def test_only_the_namespaces_that_are_named_are_listed(two_namespaces: Reflection) -> None:
    two_namespaces.kube.put(A, FAR, ELSEWHERE)
    await two_namespaces.start()
    two_namespaces.kube.put(ELSEWHERE)

    assert sorted(two_namespaces.kube.lists) == ["bank", "shop"]
    assert await two_namespaces.told() == [FAR, A]
    assert two_namespaces.known(ELSEWHERE) == [None]


async def test_changes_are_told_in_each_namespace(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    two_namespaces.kube.put(A, FAR)

    assert await two_namespaces.told() == [FAR, A]


async def test_each_namespace_is_served_when_it_is_listed(two_namespaces: Reflection) -> None:
    two_namespaces.kube.failures = [FORBIDDEN]
    await two_namespaces.start()
    assert not two_namespaces.scopes.serves("shop")
    assert two_namespaces.scopes.serves("bank")

    await two_namespaces.clock.advance(SECOND)
    assert two_namespaces.scopes.serves("shop")


async def test_a_namespace_is_served_on_while_its_secrets_cannot_be_followed_which_is_said_once(
    two_namespaces: Reflection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asset_token_operator")
    await two_namespaces.start()
    two_namespaces.kube.failures = [FORBIDDEN] * 3
    two_namespaces.kube.end_watches(FORBIDDEN)
    await settle()
    assert two_namespaces.scopes.serves("shop")
    assert list(two_namespaces.scopes.problems()) == [f"namespace shop: {FORBIDDEN}", f"namespace bank: {FORBIDDEN}"]

    for _ in range(10):
        await two_namespaces.clock.advance(SECOND)

    assert list(two_namespaces.scopes.problems()) == []
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert sorted(said) == [
        ("INFO", "namespace bank: followed again"),
        ("INFO", "namespace shop: followed again"),
        ("WARNING", f"namespace bank: Secrets can't be followed: {FORBIDDEN}"),
        ("WARNING", f"namespace shop: Secrets can't be followed: {FORBIDDEN}"),
    ]


async def test_whatever_is_heard_and_each_new_try_is_a_sign_of_life_of_its_scope(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    assert sorted(two_namespaces.beats) == ["bank", "shop"]

    two_namespaces.beats.clear()
    two_namespaces.kube.put(A)
    await settle()
    assert two_namespaces.beats == ["shop"]

    two_namespaces.beats.clear()
    two_namespaces.kube.bookmark()
    await settle()
    assert sorted(two_namespaces.beats) == ["bank", "shop"]

    two_namespaces.beats.clear()
    two_namespaces.kube.end_watches(UNREACHABLE)
    await settle()
    assert sorted(two_namespaces.beats) == ["bank", "shop"]


async def test_an_error_that_nobody_expected_ends_it(everywhere: Reflection) -> None:
    """It must not follow nothing in silence: the operator ends and is started anew."""
    everywhere.kube.failures = [ValueError("boom")]  # type: ignore[list-item]
    await everywhere.start()

    assert everywhere.work is not None
    with pytest.raises(ExceptionGroup) as caught:
        await everywhere.work
    assert [str(error) for error in caught.value.exceptions] == ["boom"]
    everywhere.work = None


async def test_cancelling_ends_everything(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    others = asyncio.all_tasks() - {asyncio.current_task()}

    await two_namespaces.stop()

    assert all(task.done() for task in others)


# Resource versions that go back


async def test_a_backup_that_was_restored_is_seen_by_the_list(
    everywhere: Reflection, caplog: pytest.LogCaptureFixture
) -> None:
    """A has an earlier version, B was created since the backup, C was deleted since."""
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.kube.restore(A, C)
    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A, B, C) == [51, None, 52]
    assert "resource versions have gone back" in caplog.text
    everywhere.kube.put(A)
    await settle()
    assert everywhere.known(A) == [53]


async def test_a_backup_that_was_restored_is_seen_when_a_watch_goes_on(everywhere: Reflection) -> None:
    """The watch ended in order, so nothing would be listed; and it would tell nothing for long."""
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.kube.restore(B)
    everywhere.kube.end_watches()
    await settle()
    await everywhere.clock.advance(SECOND)
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A, B) == [None, 51]
    assert everywhere.kube.watches == [102, 51]


async def test_a_backup_without_what_only_the_operator_knows_to_be_written_is_seen(everywhere: Reflection) -> None:
    await everywhere.start()
    everywhere.kube.end_watches()
    everywhere.secrets.written(everywhere.kube.write(A))
    everywhere.kube.restore(B)
    await everywhere.clock.advance(SECOND)
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A, B) == [None, 51]


async def test_versions_that_go_on_cause_no_list(everywhere: Reflection, caplog: pytest.LogCaptureFixture) -> None:
    await everywhere.start()
    for _ in range(5):
        everywhere.kube.put(A)
        everywhere.kube.end_watches()
        await everywhere.clock.advance(SECOND)

    assert everywhere.kube.lists == [""]
    assert not caplog.records


async def test_what_another_has_found_out_counts_here_too(everywhere: Reflection) -> None:
    """By the time that this watch is heard again its versions may have overtaken what it knew."""
    everywhere.kube.put(A, B)
    await everywhere.start()
    everywhere.kube.secrets[A] = replace(everywhere.kube.secrets[A], version=60)
    everywhere.caches.versions.saw(ASSET_TOKENS, 104)
    everywhere.caches.versions.compare(ASSET_TOKENS, 60, 104)
    everywhere.kube.bookmark()
    await settle()
    await everywhere.clock.advance(SECOND)

    assert everywhere.kube.lists == ["", ""]
    assert everywhere.known(A) == [60]


async def test_a_backup_that_counts_on_is_seen_by_what_is_listed(
    everywhere: Reflection, caplog: pytest.LogCaptureFixture
) -> None:
    """All but B is as in the backup; C was deleted since, FAR was created."""
    everywhere.kube.page = 1
    everywhere.kube.put(A, B, C)
    backup = dict(everywhere.kube.secrets)
    await everywhere.start()
    everywhere.kube.put(B, FAR)
    everywhere.kube.delete(C)
    await everywhere.told()
    everywhere.kube.restore_and_count_on(backup)
    await settle()
    for _ in range(5):
        await everywhere.clock.advance(SECOND)

    assert await everywhere.told() == [FAR, B, C]
    assert everywhere.known(A, B, C, FAR) == [101, 102, 103, None]
    assert everywhere.kube.lists == ["", ""]
    assert caplog.text.count("resource versions have gone back") == 1
    everywhere.kube.put(A)
    assert await everywhere.told() == [A]


async def test_each_namespace_begins_anew_once_after_a_backup_that_counts_on(
    two_namespaces: Reflection, caplog: pytest.LogCaptureFixture
) -> None:
    two_namespaces.kube.put(A, FAR)
    backup = dict(two_namespaces.kube.secrets)
    await two_namespaces.start()
    two_namespaces.kube.put(A, FAR)
    await settle()
    two_namespaces.kube.restore_and_count_on(backup)
    await settle()
    for _ in range(10):
        await two_namespaces.clock.advance(SECOND)

    assert two_namespaces.known(A, FAR) == [101, 102]
    assert sorted(two_namespaces.kube.lists) == ["bank", "bank", "shop", "shop"]
    assert caplog.text.count("resource versions have gone back") == 1
