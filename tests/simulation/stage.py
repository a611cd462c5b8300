"""Where named histories happen: a small world in which all is well until somebody says otherwise."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.model import Environment, Key
from asset_token_operator.times import parse_time
from tests.simulation import virtual_time
from tests.simulation.cluster import ASSET_TOKENS, DEPLOYMENTS
from tests.simulation.invariants import Trouble
from tests.simulation.world import NAMESPACE, Plan, World
from tests.support.asset_rules import RateLimit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from tests.simulation.asset import Failure

MINUTE: Final = 60.0
CLIENT: Final = "tenant"


class Stage:
    """A world with one tenant and one operator, where all is well until a scenario says otherwise."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.asset = world.assets[Environment.SANDBOX]
        self.operator = world.operators[0]
        self.beside: list[asyncio.Task[None]] = []
        self.refused = 0
        """How many requests of other programs were."""

        self._created = 0

    def add(self, count: int = 1, **spec: Any) -> list[str]:
        """Somebody creates AssetTokens; their names."""
        names = []
        for _ in range(count):
            self._created += 1
            names.append(f"token-{self._created}")
            self.put(names[-1], **spec)
        return names

    def put(self, name: str, renew_request: str | None = None, **spec: Any) -> None:
        """Somebody creates or changes an AssetToken."""
        whole = {"environment": "sandbox", "credentialsSecretRef": {"name": CLIENT}, "scopes": ["ledger:read"], **spec}
        self.world.put_asset_token(name, whole, renew_request)

    def rotate(self, client: str, secret: str) -> None:
        """Other credentials, which Asset accepts."""
        self.asset.accepted[client] = {secret}
        self.world.cluster.put_credentials(Key(NAMESPACE, CLIENT), client, secret)

    async def suspended(self, seconds: float) -> None:
        """The operator's machine is suspended for that long."""
        self.world.judge.trouble(Trouble("suspended", virtual_time.seconds(), MINUTE, virtual_time.seconds() + seconds))
        self.operator.machine.suspend()
        await asyncio.sleep(seconds)
        self.operator.machine.wake()

    def spending(self, requests: int, every: float = MINUTE, business: str | None = None, client: str = CLIENT) -> None:
        """From now on another program of a client's makes that many requests at once, again and again."""

        async def spend() -> None:
            while True:
                self.refused += requests - self.asset.spend(client, requests, business)
                await asyncio.sleep(every)

        self.beside.append(asyncio.get_running_loop().create_task(spend()))

    async def failing(self, failure: Failure, lasts: float) -> None:
        """Requests fail for that long."""
        self.asset.failures.append(failure)
        await asyncio.sleep(lasts)
        self.asset.failures.remove(failure)

    def without_token(self, name: str, since: float = 1.0) -> float:
        """For how long it had no valid token, in seconds, since that moment."""
        self.world.judge.look()
        token = self.world.judge.tokens[name]
        gaps = token.gaps if token.gap_since is None else [*token.gaps, (token.gap_since, virtual_time.seconds())]
        return sum(max(0.0, ends - max(begins, since)) for begins, ends in gaps)

    def lacking(self, names: list[str]) -> list[str]:
        """Those of them that have no valid token now."""
        self.world.judge.look()
        return [name for name in names if self.world.judge.tokens[name].gap_since is not None]

    def requests(self, name: str | None = None, since: float = 0.0) -> list[float]:
        """When Asset was asked since, for that AssetToken or for any."""
        return [one.at for one in self.asset.requests if one.at >= since and name in (None, one.name)]

    def put_deployment(self, name: str) -> None:
        """Somebody creates a Deployment."""
        self.world.cluster.put(DEPLOYMENTS, Key(NAMESPACE, name), {"metadata": {}, "spec": {"template": {}}})

    def restarted_at(self, name: str) -> datetime | None:
        """When a Deployment says that it was restarted last."""
        found = self.world.cluster.get(DEPLOYMENTS, Key(NAMESPACE, name)) or {}
        annotations = found["spec"]["template"].get("metadata", {}).get("annotations", {})
        stamp: str | None = annotations.get("auth.getasset.com/restarted-at")
        return None if stamp is None else parse_time(stamp)

    def conditions(self, name: str) -> dict[str, str]:
        """The status of each condition."""
        found = self.world.cluster.get(ASSET_TOKENS, Key(NAMESPACE, name))
        assert found is not None
        return {condition["type"]: condition["status"] for condition in found["status"].get("conditions", ())}


@dataclass(frozen=True)
class Scenario:
    """A history with a name.

    Attributes:
        judged: Whether the judge's invariants must hold, too.
    """

    act: Callable[[Stage], Awaitable[None]]
    rule: RateLimit = RateLimit()  # noqa: RUF009 - it is frozen
    judged: bool = False


def play(scenario: Scenario) -> World:
    """Let it happen."""

    async def playing() -> World:
        world = World("scenario", Plan(1, scenario.rule))
        stage = Stage(world)
        with world.living():
            stage.rotate(CLIENT, "canary-secret")
            world.operators[0].start()
            await asyncio.sleep(1)
            try:
                await scenario.act(stage)
            finally:
                for task in stage.beside:
                    task.cancel()
                await world.operators[0].kill()
        if scenario.judged:
            assert world.history.broken == []
        return world

    return virtual_time.run(playing())
