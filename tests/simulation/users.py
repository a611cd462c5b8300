"""What people have and do: AssetTokens of all kinds, which they create, change, renew and delete."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.model import Environment, Key
from tests.simulation.asset import CANARY, Failure
from tests.simulation.cluster import ASSET_TOKENS, SECRETS, encode
from tests.simulation.invariants import Trouble
from tests.simulation.virtual_time import seconds
from tests.simulation.world import NAMESPACE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.simulation.weather import Weather
    from tests.simulation.world import World

EVERY_SECONDS: Final = 1200.0
"""Between two deeds, on the average."""

LIFETIMES: Final = (None, "15m", "30m", "1h", "1h")
LONG_LIFETIMES: Final = (None, "1h", "2h", "2h")
MANY: Final = 50
"""More AssetTokens than that have longer tokens, so that a week of them takes minutes."""

REPAIR_RECOVERY: Final = 60.0
LONGEST_REFUSAL: Final = 60.0
"""Seconds for which Asset may refuse fresh credentials."""


class Users:
    """People, who do what they like.

    Args:
        world: Where.
        chance: What is drawn from.
        weather: What tells of refusals.
        count: How many AssetTokens they have at the beginning.
    """

    def __init__(self, world: World, chance: random.Random, weather: Weather, count: int) -> None:
        self._world = world
        self._chance = chance
        self._weather = weather
        self._count = count
        self._created = 0
        self._rotations = 0

    def settle(self) -> None:
        """Make credentials, and the first AssetTokens."""
        for client in self._weather.clients:
            self._rotate(client)
        for _ in range(self._count):
            self.create()

    async def live(self, until: float) -> None:
        """Do something now and then."""
        deeds: list[Callable[[], None]] = [
            self.create,
            self.delete,
            self.edit,
            self.edit,
            self.renew,
            self.renew,
            self.lose_secret,
            self.spoil_secret,
            self.rotate,
        ]
        while (pause := self._chance.expovariate(1 / EVERY_SECONDS)) + seconds() < until:
            await asyncio.sleep(pause)
            self._chance.choice(deeds)()

    def create(self) -> None:
        """One more AssetToken."""
        self._created += 1
        chance = self._chance
        spec: dict[str, Any] = {
            "environment": str(self._weather.environment()),
            "credentialsSecretRef": {"name": chance.choice(self._weather.clients)},
            "scopes": [chance.choice(["ledger:read", "ledger:create", "invoice:create"])],
        }
        lifetime = chance.choice(LIFETIMES if self._count <= MANY else LONG_LIFETIMES)
        if lifetime is not None:
            spec["lifetime"] = lifetime
        if lifetime == "1h" and chance.random() < 0.3:
            spec["renewBefore"] = chance.choice(["10m", "30m"])
        if chance.random() < 0.5:
            spec["businessId"] = chance.choice(self._weather.businesses)
        self._world.put_asset_token(f"token-{self._created}", spec)

    def delete(self) -> None:
        """An AssetToken goes, unless only few are left."""
        if len(self._world.judge.tokens) > self._count / 2:
            self._world.delete_asset_token(self._any())

    def edit(self) -> None:
        """Another scope is wanted."""
        name = self._any()
        found = self._world.cluster.get(ASSET_TOKENS, Key(NAMESPACE, name))
        assert found is not None
        scopes = [f"ledger:{self._chance.randrange(1000)}"]
        if scopes != found["spec"]["scopes"]:
            self._seconds_thoughts(name)
            self._world.put_asset_token(name, {**found["spec"], "scopes": scopes})

    def renew(self) -> None:
        """Somebody wants a new token now."""
        name = self._any()
        found = self._world.cluster.get(ASSET_TOKENS, Key(NAMESPACE, name))
        assert found is not None
        self._seconds_thoughts(name)
        self._world.put_asset_token(name, found["spec"], renew_request=str(seconds()))

    def _seconds_thoughts(self, name: str) -> None:
        """A newer token is needed; one that is on its way serves nobody, and is written all the same."""
        self._world.judge.needs(name)
        self._world.judge.excuse(name, 3)

    def lose_secret(self) -> None:
        """A Secret is deleted."""
        name = self._any()
        self._take_away(name)
        self._world.history.tell("users", f"delete Secret {name}")
        self._world.delete_secret(name)

    def spoil_secret(self) -> None:
        """A Secret is changed: its token, or only a label."""
        name = self._any()
        key = Key(NAMESPACE, name)
        found = self._world.cluster.get(SECRETS, key)
        if found is None:
            return
        self._take_away(name)
        self._world.history.tell("users", f"spoil Secret {name}")
        if self._chance.random() < 0.5:
            body = {**found, "data": {**found["data"], "access_token": encode("spoiled")}}
        else:
            body = {**found, "metadata": {**found["metadata"], "labels": {}}}
        self._world.cluster.put(SECRETS, key, body)

    def _take_away(self, name: str) -> None:
        trouble = Trouble("somebody's deed", seconds(), REPAIR_RECOVERY + self._weather.drain, seconds(), at_once=True)
        trouble.name = name
        self._world.judge.trouble(trouble)
        self._world.judge.excuse(name, 4)

    def rotate(self) -> None:
        """Credentials are rotated; Asset may refuse the fresh ones for a minute."""
        client = self._chance.choice(self._weather.clients)
        self._rotate(client)
        lasts = self._chance.uniform(0, LONGEST_REFUSAL)
        for environment in Environment:
            refusal = self._weather.fail(Failure("401", client=client), environment, lasts, 120.0)
            self._world.own(asyncio.get_running_loop().create_task(refusal))

    def _rotate(self, client: str) -> None:
        self._rotations += 1
        secret = f"{CANARY}-{client}-{self._rotations}"
        for asset in self._world.assets.values():
            asset.accepted[client] = {secret}
        self._world.history.tell("users", f"rotate the credentials of {client}")
        self._world.put_credentials(client, secret)

    def _any(self) -> str:
        return self._chance.choice(sorted(self._world.judge.tokens))
