"""The whole: a cluster, Asset, operators on machines, and a judge who sees all of it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from asset_token_operator import asset_token_watch
from asset_token_operator.assembly import assemble, run
from asset_token_operator.asset_clock import AssetClocks
from asset_token_operator.config import Settings
from asset_token_operator.kube import KubeClient
from asset_token_operator.leadership import Leadership, forever
from asset_token_operator.model import GROUP, Environment, Key, Reserves
from tests.simulation.api_server import CONNECTION, Conditions, Connection, ModelKopf
from tests.simulation.asset import Asset, AssetConnection
from tests.simulation.cluster import ASSET_TOKENS, SECRETS, Change, Cluster
from tests.simulation.history import ACTOR, History
from tests.simulation.invariants import Judge, Token
from tests.simulation.virtual_time import Machine
from tests.support.asset_rules import RateLimit
from tests.support.builders import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterator

    from asset_token_operator.assembly import Parts

NAMESPACE: Final = "shop"
LOOK_SECONDS: Final = 30.0


class Operator:
    """One operator's process on its machine, which may be killed and started anew."""

    def __init__(self, world: World, name: str, *, elects: bool) -> None:
        self.machine = Machine(name)
        self.parts: Parts | None = None
        self._world = world
        self._elects = elects
        self._stop = asyncio.Event()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._chance = random.Random(f"{world.seed}/{name}")

    @property
    def name(self) -> str:
        return self.machine.name

    def is_running(self) -> bool:
        return bool(self._tasks)

    def start(self) -> None:
        """A new process, which knows nothing."""
        self._world.history.tell(self.name, "starts")
        self._world.judge.forgets(self.name)
        self._stop = asyncio.Event()
        self._tasks.clear()
        actor, owner = ACTOR.set(self.name), OWNER.set(self)
        self.own(asyncio.get_running_loop().create_task(self._run()))
        ACTOR.reset(actor)
        OWNER.reset(owner)

    def own(self, task: asyncio.Task[Any]) -> None:
        """A task of this process began."""
        self._tasks[task] = None
        task.add_done_callback(lambda task: self._tasks.pop(task, None))

    async def stop(self) -> None:
        """SIGTERM: it ends in order."""
        self._world.history.tell(self.name, "is told to stop")
        self._stop.set()
        self.machine.wake()
        await asyncio.wait(list(self._tasks)[:1])
        self._world.history.tell(self.name, "has stopped")
        await self._end()

    async def kill(self) -> None:
        """SIGKILL: it is gone where it stands."""
        self._world.history.tell(self.name, "is killed")
        self.machine.wake()
        await self._end()

    async def _end(self) -> None:
        while self._tasks:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0)

    async def _run(self) -> None:
        world, machine = self._world, self.machine
        clocks = AssetClocks(machine)
        connection: Any = Connection(world.cluster, world.conditions, machine, self._chance, clocks.cluster_says)
        CONNECTION.set(connection)
        lease = world.settings.lease_namespace or "", world.settings.lease_name
        leadership = Leadership(connection, *lease, self.name, machine) if self._elects else None
        time_left = forever if leadership is None else leadership.time_left
        asset: Any = AssetConnection(world.assets, machine, time_left, self._chance)
        self.parts = assemble(
            world.settings,
            KubeClient(connection, time_left),
            asset,
            leadership,
            machine,
            clocks,
            f"{self.name}-instance",
        )
        try:
            await run(self.parts, self._stop)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the process would end, which nothing may make it do
            world.history.accuse(f"{self.name} ended with {type(error).__name__}: {error}")


OWNER: ContextVar[Operator | None] = ContextVar("owner", default=None)
"""Whose process a task is of."""


@dataclass(frozen=True)
class Plan:
    """What kind of world it is.

    Attributes:
        operators: How many there are; of several one is elected.
        rule: What Asset limits, in both environments.
        drain: Seconds that it takes at most until all have been served who wait for that.
    """

    operators: int = 1
    rule: RateLimit = field(default_factory=RateLimit)
    drain: float = 0.0


class World:
    """All of it. It has to be made, and to run, within a virtual loop."""

    def __init__(self, seed: str, plan: Plan) -> None:
        self.seed = seed
        self.history = History()
        self.conditions = Conditions()
        self.assets = {environment: Asset(self._requested, plan.rule) for environment in Environment}
        self.judge = Judge(self.history, self.assets, plan.drain)
        self.cluster = Cluster(self._changed)
        self.settings = Settings(
            namespaces=(),
            selector=None,
            endpoints=ENDPOINTS,
            reserves=Reserves(),
            ca_file=None,
            leader_elect=plan.operators > 1,
            lease_namespace="operators",
            lease_name="asset-token-operator",
            health_address=None,
            metrics_address=None,
            token_metrics=False,
            log_level="info",
            log_format="text",
        )
        self._beside: list[asyncio.Task[None]] = []
        elects = plan.operators > 1
        self.operators = [
            Operator(self, f"operator-{number}", elects=elects) for number in range(1, plan.operators + 1)
        ]

    def own(self, task: asyncio.Task[None]) -> None:
        """A task that goes on beside; where it fails, the simulation does."""
        self._beside.append(task)

    @contextlib.contextmanager
    def living(self) -> Iterator[None]:
        """What is the same everywhere else is the simulation's within: the watch, chance, and whose tasks are whose."""
        numbers = random.Random(f"{self.seed}/uuid")
        loop = asyncio.get_running_loop()
        loop.set_task_factory(_create_task)
        loop.set_exception_handler(self._unhandled)
        with (
            patch.object(asset_token_watch, "KopfThread", ModelKopf),
            patch.object(uuid, "uuid4", lambda: uuid.UUID(int=numbers.getrandbits(128), version=4)),
            self.history.listening(),
        ):
            yield

    async def judging(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.judge.look()

    async def end(self) -> None:
        """Stop all operators, and look whether anything is left of them."""
        self.judge.look()
        for task in self._beside:
            if task.done():
                task.result()
            task.cancel()
        for operator in self.operators:
            if operator.parts is not None and operator.is_running():
                self._count_leftovers(operator.parts)
                await operator.kill()

    def _count_leftovers(self, parts: Parts) -> None:
        """Nothing may be remembered of AssetTokens that have gone, and no part may be stuck."""
        there = {
            Key(body["metadata"]["namespace"], body["metadata"]["name"]) for body in self.cluster.all(ASSET_TOKENS)
        }
        remembered = parts.reconciler._memories.keys() | parts.budgets._queued.keys() | parts.issuer._slots.keys()  # noqa: SLF001 - they tell nobody
        left = sorted(remembered - there - set(parts.scheduler._due))  # noqa: SLF001 - the same
        if left:
            self.history.accuse(f"remembered after they have gone: {', '.join(map(str, left))}")
        if parts.health.stuck():
            self.history.accuse(f"stuck: {', '.join(parts.health.stuck())}")

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody awaits; a killed process leaves its own cancellations."""
        error = context.get("exception")
        if not isinstance(error, asyncio.CancelledError):
            self.history.accuse(f"nobody awaits {type(error).__name__} ({context['message']})")

    # What people do.

    def put_credentials(self, name: str, secret: str) -> None:
        """Somebody creates or changes credentials; Asset knows of it by itself or not."""
        self.cluster.put_credentials(Key(NAMESPACE, name), name, secret)

    def put_asset_token(self, name: str, spec: dict[str, Any], renew_request: str | None = None) -> Token:
        """Somebody creates or changes an AssetToken."""
        self.cluster.put_asset_token(Key(NAMESPACE, name), spec, renew_request)
        return self.judge.tokens[name]

    def delete_asset_token(self, name: str) -> None:
        self.cluster.delete(ASSET_TOKENS, Key(NAMESPACE, name))
        self.cluster.collect_garbage()

    def delete_secret(self, name: str) -> None:
        self.cluster.delete(SECRETS, Key(NAMESPACE, name))

    # Who is told.

    def _requested(self, *said: Any) -> None:
        self.judge.requested(*said)

    def _changed(self, change: Change) -> None:
        self.judge.changed(change)
        metadata = change.body["metadata"]
        actor = ACTOR.get()
        if change.kind == SECRETS:
            revision = metadata.get("annotations", {}).get(f"{GROUP}/revision", "-")
            self.history.tell(actor, f"Secret {metadata['name']} {change.type.lower()}, revision {revision}")
        elif change.kind == ASSET_TOKENS and actor == "simulation":
            self.history.tell("users", f"AssetToken {metadata['name']} {change.type.lower()}: {change.body['spec']}")
        if OWNER.get() is not None and change.kind in (SECRETS, ASSET_TOKENS):
            self.judge.wrote(metadata["name"])


def _create_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any] | Generator[Any, Any, Any], /, **given: Any
) -> asyncio.Task[Any]:
    """A task, of which the operator in whose process it begins knows."""
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **given)
    owner = OWNER.get()
    if owner is not None:
        owner.own(task)
    return task
