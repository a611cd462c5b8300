import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError
from asset_token_operator.kube import KubeClient
from asset_token_operator.model import Key
from asset_token_operator.reflector import SecretVersions
from tests.support.clock import ManualClock, settle

SECOND = timedelta(seconds=1)

A, B, C = Key("shop", "a"), Key("shop", "b"), Key("shop", "c")
FAR = Key("bank", "a")

UNREACHABLE = KubeUnavailableError("no answer from the API server.")
FORBIDDEN = KubeRefusedError("the API server refused with 403 Forbidden.", 403)
GONE = KubeRefusedError("the API server refused with 410 Gone.", 410)


class FakeSecrets:
    """The API server's Secrets, by their versions; a watch tells of what changes until it ends.

    Attributes:
        lists: The namespaces that were listed, in order.
        watches: The versions since which was watched, in order.
    """

    def __init__(self) -> None:
        self.versions: dict[Key, str] = {}
        self.lists: list[str] = []
        self.watches: list[int] = []
        self.failures: list[KubeError] = []
        self._version = 100
        self._events: list[tuple[str, Key, str]] = []
        self._forgotten = 0
        self._open: dict[str, asyncio.Queue[tuple[str, Key, str] | KubeError | None]] = {}

    def put(self, *keys: Key) -> None:
        """Somebody creates or changes Secrets."""
        for key in keys:
            self._version += 1
            event = "MODIFIED" if key in self.versions else "ADDED"
            self.versions[key] = str(self._version)
            self._tell(event, key)

    def delete(self, key: Key) -> None:
        self._version += 1
        del self.versions[key]
        self._tell("DELETED", key)

    def bookmark(self) -> None:
        """Nothing happens to Secrets, but to other objects, and the watch tells how far it is."""
        self._version += 1
        self._tell("BOOKMARK", Key("", ""))

    def end_watches(self, error: KubeError | None = None) -> None:
        """All watches end, for whatever reason; what changes from now on they don't tell."""
        for watch in self._open.values():
            watch.put_nowait(error)
        self._open.clear()

    def forget(self) -> None:
        """The API server keeps only the latest events (410 Gone)."""
        self._forgotten = self._version

    async def list_secret_versions(self, namespace: str) -> tuple[dict[Key, str], str]:
        await asyncio.sleep(0)
        self.lists.append(namespace)
        if self.failures:
            raise self.failures.pop(0)
        found = {key: version for key, version in self.versions.items() if namespace in ("", key.namespace)}
        return found, str(self._version)

    async def watch_secret_versions(self, namespace: str, since: str) -> AsyncIterator[tuple[str, Key, str]]:
        self.watches.append(int(since))
        if int(since) < self._forgotten:
            raise GONE
        watch = self._open[namespace] = asyncio.Queue()
        for event in self._events:
            if int(event[2]) > int(since) and namespace in ("", event[1].namespace):
                watch.put_nowait(event)
        while told := await watch.get():
            if isinstance(told, KubeError):
                raise told
            yield told

    def _tell(self, event: str, key: Key) -> None:
        self._events.append((event, key, str(self._version)))
        for namespace, watch in self._open.items():
            if event == "BOOKMARK" or namespace in ("", key.namespace):
                watch.put_nowait(self._events[-1])


class Reflection:
    """What is followed, and what it told of since it was asked last."""

    def __init__(self, *namespaces: str) -> None:
        self.kube = FakeSecrets()
        self.clock = ManualClock()
        self._told: list[Key] = []
        self.secrets = SecretVersions(self.kube, namespaces, self._told.append, self.clock)  # type: ignore[arg-type]
        self.work: asyncio.Future[list[None]] | None = None

    async def start(self) -> None:
        self.work = self.secrets.start()
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

    def known(self, *keys: Key) -> list[str | None]:
        return [self.secrets.get(key) for key in keys]


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


@pytest.mark.parametrize("method", ["list_secret_versions", "watch_secret_versions"])
def test_the_fake_takes_the_calls_that_the_real_client_takes(method: str) -> None:
    fake, real = (inspect.signature(getattr(of, method)) for of in (FakeSecrets, KubeClient))

    assert list(fake.parameters) == list(real.parameters)


# What there is


async def test_knows_all_that_is_listed_and_tells_of_each(everywhere: Reflection) -> None:
    everywhere.kube.put(A, B, FAR)
    await everywhere.start()

    assert await everywhere.told() == [FAR, A, B]
    assert everywhere.known(A, B, FAR, C) == ["101", "102", "103", None]


async def test_nothing_is_known_before_the_list(everywhere: Reflection) -> None:
    everywhere.kube.put(A)

    assert everywhere.known(A) == [None]
    assert not everywhere.secrets.lacks(A, 1)


async def test_changes_are_told_and_known(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.told()

    everywhere.kube.put(B)
    assert await everywhere.told() == [B]
    assert everywhere.known(A, B) == ["101", "102"]

    everywhere.kube.put(A)
    assert await everywhere.told() == [A]
    assert everywhere.known(A, B) == ["103", "102"]

    everywhere.kube.delete(A)
    assert await everywhere.told() == [A]
    assert everywhere.known(A, B) == [None, "102"]
    assert everywhere.kube.lists == [""], "all by one list and one watch"


async def test_a_secret_that_is_deleted_and_created_anew_at_once_is_known(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.kube.delete(A)
    everywhere.kube.put(A)

    assert set(await everywhere.told()) == {A}
    assert everywhere.known(A) == ["103"]


async def test_the_latest_is_known_when_it_is_told(everywhere: Reflection) -> None:
    """Whoever is woken looks at once."""
    seen: list[tuple[Key, str | None]] = []
    secrets = SecretVersions(
        everywhere.kube,  # type: ignore[arg-type]
        (),
        lambda key: seen.append((key, secrets.get(key))),
        everywhere.clock,
    )
    everywhere.kube.put(A)
    work = secrets.start()
    await settle()
    everywhere.kube.put(A)
    await settle()
    everywhere.kube.delete(A)
    await settle()
    work.cancel()

    assert seen == [(A, "101"), (A, "102"), (A, None)]


# What is not there any more


async def test_lacks_what_was_there_once_and_is_not_any_more(everywhere: Reflection) -> None:
    everywhere.kube.put(A, B)
    await everywhere.start()
    assert not everywhere.secrets.lacks(A, 101)

    everywhere.kube.delete(A)
    await settle()

    assert everywhere.secrets.lacks(A, 101)
    assert not everywhere.secrets.lacks(B, 102)


async def test_does_not_lack_what_it_cannot_have_heard_of_yet(everywhere: Reflection) -> None:
    """Another watch, or our own write, may be ahead of this one."""
    everywhere.kube.put(A)
    await everywhere.start()

    assert not everywhere.secrets.lacks(B, 102)
    everywhere.kube.put(C)
    await settle()
    assert everywhere.secrets.lacks(B, 102)


async def test_each_namespace_is_as_far_as_its_own_watch(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    two_namespaces.kube.put(A)
    await settle()

    assert two_namespaces.secrets.lacks(B, 101)
    assert not two_namespaces.secrets.lacks(Key("bank", "b"), 101)


async def test_lacks_nothing_in_a_namespace_that_is_not_followed(two_namespaces: Reflection) -> None:
    two_namespaces.kube.put(A)
    await two_namespaces.start()

    assert not two_namespaces.secrets.lacks(Key("elsewhere", "a"), 101)


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
    assert everywhere.known(A, B, C) == [None, "102", "105"]
    assert everywhere.kube.lists == [""]
    assert everywhere.kube.watches == [102, 103]


async def test_a_bookmark_tells_nobody_but_how_far_the_watch_is(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    await everywhere.told()
    assert not everywhere.secrets.lacks(B, 102)

    everywhere.kube.bookmark()

    assert await everywhere.told() == []
    assert everywhere.secrets.lacks(B, 102)
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
    assert everywhere.known(unchanged, changed, deleted, created) == ["101", "104", None, "105"]
    assert everywhere.secrets.lacks(deleted, 103)


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
    assert two_namespaces.known(A, FAR) == [None, "102"]


async def test_watches_that_end_as_soon_as_they_begin_are_no_hot_loop(everywhere: Reflection) -> None:
    """An API server that isn't well must not be kept from getting well."""

    watches: list[str] = []

    async def over(namespace: str, since: str) -> AsyncIterator[tuple[str, Key, str]]:
        watches.append(namespace)
        for event in list[tuple[str, Key, str]]():
            yield event

    everywhere.kube.watch_secret_versions = over  # type: ignore[method-assign]
    await everywhere.start()
    for _ in range(10):
        await everywhere.clock.advance(SECOND)

    assert len(everywhere.kube.lists) <= 10
    assert len(watches) <= 11, "one a second"


# The API server fails


@pytest.mark.parametrize("error", [UNREACHABLE, FORBIDDEN], ids=["unreachable", "forbidden"])
async def test_a_list_that_fails_is_tried_again_later_each_time_up_to_15_seconds(
    everywhere: Reflection, error: KubeError
) -> None:
    everywhere.kube.failures = [error] * 1000
    await everywhere.start()
    moments: list[int] = []
    for second in range(60):
        if len(everywhere.kube.lists) > len(moments):
            moments.append(second)
        await everywhere.clock.advance(SECOND)

    assert moments == [0, 1, 3, 7, 15, 30, 45]

    everywhere.kube.failures.clear()
    everywhere.kube.put(A)
    await everywhere.clock.advance(15 * SECOND)
    assert await everywhere.told() == [A]


async def test_what_is_known_is_kept_while_the_list_fails(everywhere: Reflection) -> None:
    everywhere.kube.put(A)
    await everywhere.start()
    everywhere.kube.failures = [UNREACHABLE] * 3
    everywhere.kube.end_watches(UNREACHABLE)
    await settle()
    await everywhere.clock.advance(SECOND)

    assert everywhere.known(A) == ["101"]


async def test_an_api_server_that_answered_since_is_tried_again_soon(everywhere: Reflection) -> None:
    """A cause that is fixed is acted on within seconds, also after the hundredth broken watch."""
    everywhere.kube.put(A)
    await everywhere.start()
    for _ in range(10):
        everywhere.kube.end_watches(UNREACHABLE)
        await settle()
        await everywhere.clock.advance(15 * SECOND)
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

    assert two_namespaces.known(A, FAR) == [None, "102"]
    await two_namespaces.clock.advance(SECOND)
    assert two_namespaces.known(A, FAR) == ["101", "102"]


# Several namespaces


async def test_only_the_namespaces_that_are_named_are_listed(two_namespaces: Reflection) -> None:
    elsewhere = Key("elsewhere", "a")
    two_namespaces.kube.put(A, FAR, elsewhere)
    await two_namespaces.start()
    two_namespaces.kube.put(elsewhere)

    assert sorted(two_namespaces.kube.lists) == ["bank", "shop"]
    assert await two_namespaces.told() == [FAR, A]
    assert two_namespaces.known(elsewhere) == [None]


async def test_changes_are_told_in_each_namespace(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    two_namespaces.kube.put(A, FAR)

    assert await two_namespaces.told() == [FAR, A]


async def test_waits_until_every_namespace_is_listed(two_namespaces: Reflection) -> None:
    two_namespaces.kube.failures = [UNREACHABLE]
    await two_namespaces.start()
    listed = asyncio.create_task(two_namespaces.secrets.listed())
    await settle()
    assert not listed.done()

    await two_namespaces.clock.advance(SECOND)
    assert listed.done()


async def test_an_error_that_nobody_expected_ends_it(everywhere: Reflection) -> None:
    """It must not follow nothing in silence: the operator ends and is started anew."""
    everywhere.kube.failures = [ValueError("boom")]  # type: ignore[list-item]
    await everywhere.start()

    assert everywhere.work is not None
    with pytest.raises(ValueError, match="boom"):
        await everywhere.work
    everywhere.work = None


async def test_cancelling_ends_everything(two_namespaces: Reflection) -> None:
    await two_namespaces.start()
    others = asyncio.all_tasks() - {asyncio.current_task()}

    await two_namespaces.stop()

    assert all(task.done() for task in others)
