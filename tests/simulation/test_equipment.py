"""The simulation itself: a judge who sees nothing would be content with everything."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from asset_token_operator.errors import KubeRefusedError
from asset_token_operator.model import SECRET_TYPE, Environment, Key
from tests.simulation import virtual_time
from tests.simulation.asset import CANARY, Failure
from tests.simulation.cluster import ASSET_TOKENS, SECRETS, Cluster, Request
from tests.simulation.invariants import Trouble
from tests.simulation.stage import CLIENT, Stage
from tests.simulation.virtual_time import BEGINNING, DeadlockError, Machine, VirtualLoop, present, seconds
from tests.simulation.world import NAMESPACE, Plan, World

HOUR = 3600.0
PATH = f"/api/v1/namespaces/{NAMESPACE}/secrets/token"


def test_a_year_takes_no_time_and_a_timeout_is_on_time() -> None:
    async def wait() -> float:
        await asyncio.sleep(365 * 24 * HOUR)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(6)
        return seconds()

    assert virtual_time.run(wait()) == pytest.approx(365 * 24 * HOUR + 5)


def test_what_waits_for_ever_is_a_deadlock() -> None:
    with VirtualLoop.closing() as loop, pytest.raises(DeadlockError, match="everything waits"):
        loop.run_until_complete(asyncio.Event().wait())


def test_nothing_goes_on_while_a_machine_is_suspended_but_its_clocks() -> None:
    async def suspend() -> None:
        machine = Machine("operator")
        sleeping = asyncio.create_task(machine.sleep(1))
        machine.suspend()
        before = machine.elapsed()
        await asyncio.sleep(HOUR)
        assert not sleeping.done()
        machine.wake()
        await sleeping
        assert (machine.elapsed() - before).total_seconds() == HOUR
        assert machine.now() == present()
        assert (present() - BEGINNING).total_seconds() == HOUR

    virtual_time.run(suspend())


def applied(uid: str | None = None, type_: str = SECRET_TYPE, **labels: str) -> Request:
    metadata: dict[str, Any] = {"namespace": NAMESPACE, "name": "token", "labels": labels, "annotations": {}}
    return Request.parse("PATCH", PATH, {"metadata": metadata | ({"uid": uid} if uid else {}), "type": type_})


def in_cluster(use: Callable[[Cluster], None]) -> None:
    async def using() -> None:
        use(Cluster(lambda _: None))

    virtual_time.run(using())


def test_an_apply_takes_away_what_it_applied_before_and_nothing_else() -> None:
    def apply(cluster: Cluster) -> None:
        first = cluster.answer(applied(a="1", b="1"))
        metadata = first["metadata"]
        cluster.put(
            SECRETS, Key(NAMESPACE, "token"), {**first, "metadata": metadata | {"labels": {"b": "1", "c": "1"}}}
        )

        second = cluster.answer(applied(uid=metadata["uid"], b="2"))

        assert second["metadata"]["labels"] == {"b": "2", "c": "1"}
        assert cluster.answer(applied(uid=metadata["uid"], b="2")) == second, "what changes nothing has no new version"

    in_cluster(apply)


def test_an_apply_to_another_secret_or_type_is_refused() -> None:
    def apply(cluster: Cluster) -> None:
        cluster.answer(applied())
        with pytest.raises(KubeRefusedError) as other:
            cluster.answer(applied(uid="another"))
        with pytest.raises(KubeRefusedError) as foreign:
            cluster.answer(applied(type_="Opaque"))
        assert (other.value.status, foreign.value.status) == (409, 422)
        assert foreign.value.fields == {"type"}

    in_cluster(apply)


def test_a_watch_that_begins_too_early_is_told_so() -> None:
    def change(cluster: Cluster) -> None:
        for number in range(3000):
            cluster.put_credentials(Key(NAMESPACE, "credentials"), "client", str(number))
        assert cluster.changes_since(1000) is None
        assert [change.version for change in cluster.changes_since(cluster.version - 2) or ()] == [3999, 4000]

    in_cluster(change)


def judged(act: Callable[[Stage], Any]) -> list[str]:
    """What the judge has to say, without the times."""

    async def judging() -> list[str]:
        world = World("judge", Plan())
        stage = Stage(world)
        with world.living():
            stage.rotate(CLIENT, "canary-secret")
            await act(stage)
            world.judge.look()
            for operator in world.operators:
                await operator.kill()
        return [line.split("  ", 1)[1] for line in world.history.broken]

    return virtual_time.run(judging())


async def issue(stage: Stage) -> str:
    stage.operator.start()
    (name,) = stage.add()
    await asyncio.sleep(60)
    return name


def test_a_new_asset_token_that_nobody_serves_is_noticed() -> None:
    async def nobody(stage: Stage) -> None:
        stage.add()
        await asyncio.sleep(90)

    assert judged(nobody) == [
        "shop/token-1: no valid token since 90 s",
        "shop/token-1: a newer token has been needed for 90 s",
    ]


def test_an_expired_token_is_noticed_and_trouble_that_was_shorter_than_the_window_is_no_excuse() -> None:
    async def forget(stage: Stage, lasts: float) -> None:
        await issue(stage)
        await stage.operator.kill()
        await asyncio.sleep(HOUR - 60 - lasts)
        stage.world.judge.trouble(Trouble("an outage", seconds(), 60, seconds() + lasts))
        await asyncio.sleep(lasts + 30)

    assert judged(lambda stage: forget(stage, 1000.0)) == ["shop/token-1: no valid token since 30 s"]
    assert judged(lambda stage: forget(stage, 1200.0)) == []


def test_a_secret_that_somebody_took_away_may_be_missing_for_so_long_and_no_longer() -> None:
    async def take_away(stage: Stage) -> None:
        name = await issue(stage)
        await stage.operator.kill()
        stage.world.judge.trouble(Trouble("a deed", seconds(), 60, seconds(), at_once=True, name=name))
        stage.world.delete_secret(name)
        await asyncio.sleep(50)
        stage.world.judge.look()
        assert stage.world.history.broken == []
        await asyncio.sleep(50)

    assert judged(take_away) == ["shop/token-1: no valid token since 100 s"]


def test_more_than_four_requests_a_minute_are_noticed() -> None:
    async def ask(stage: Stage) -> None:
        name = await issue(stage)
        request = stage.asset.requests[-1]
        for _ in range(4):
            stage.world.judge.requested(request._replace(at=seconds(), name=name), "401")

    assert judged(ask) == ["token-1: 5 requests within a minute, and 5 with probes"]


def test_writes_that_nothing_explains_are_noticed() -> None:
    async def write(stage: Stage) -> None:
        name = await issue(stage)
        await asyncio.sleep(60)
        stage.world.judge.wrote(name)

    assert judged(write) == ["shop/token-1: 3 writes for 1 tokens"]


def test_a_secret_in_a_status_is_noticed() -> None:
    async def leak(stage: Stage) -> None:
        name = await issue(stage)
        found = stage.world.cluster.get(ASSET_TOKENS, Key(NAMESPACE, name))
        assert found is not None
        stage.world.cluster.put(ASSET_TOKENS, Key(NAMESPACE, name), {**found, "status": {"message": CANARY}})

    assert judged(leak) == ["a secret is in the status of token-1"]


def test_who_is_renewed_late_is_noticed() -> None:
    async def renew(stage: Stage) -> None:
        await issue(stage)
        stage.asset.failures.append(Failure("503"))
        await asyncio.sleep(HOUR - 90)
        stage.asset.failures.clear()
        await asyncio.sleep(25)

    assert [line for line in judged(renew) if "late" in line] != []


def test_another_environment_is_another_endpoint() -> None:
    async def ask(stage: Stage) -> None:
        stage.world.assets[Environment.PRODUCTION].failures.append(Failure("503"))
        await issue(stage)

    assert judged(ask) == []
