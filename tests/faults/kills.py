"""The scenario in which the operator is killed, again and again, while it requests tokens and writes Secrets."""

import base64
import hashlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tests.faults.findings import Finding, Guarantee, at_most, exactly
from tests.faults.stage import Scene, Stage
from tests.support.asset_behaviour import Behaviour
from tests.support.asset_rules import RateLimit
from tests.support.cluster import Json, wait_until
from tests.support.shop import CLIENT_SECRET

GROUP: Final = "auth.getasset.com"
KEYS: Final = {"access_token", "token_type", "authorization", "expires_at", "base_url", "environment"}
LATENCY_SECONDS: Final = 0.1  # what a real endpoint takes, so that a kill meets requests in flight
CAUSES_BEFORE: Final = 3
MOST_TOKENS: Final = 40  # but more where all of them have an open cause
LONGEST_LIFE_SECONDS: Final = 1.0  # from the operator's first request


@dataclass
class Books:
    """Which token is wanted for which cause, and what the operator did about it in each of its lives.

    A cause is the creation of an AssetToken (the empty text) or a renew request (its value).

    Attributes:
        asked: The latest cause of each AssetToken.
        causes: How many there were.
        needless: Requests for a cause that was served in an earlier life, or that was requested before in the same.
        in_flight: AssetTokens whose latest cause was requested, but not served when a life ended.
        broken: What was wrong with Secrets.
    """

    scene: Scene
    asked: dict[str, str] = field(default_factory=dict)
    causes: int = 0
    needless: int = 0
    in_flight: int = 0
    broken: list[str] = field(default_factory=list)
    _counted: int = 0

    def give_cause(self, chance: random.Random) -> str:
        """Create an AssetToken, or ask for the renewal of one whose latest cause is served; gives its name."""
        served = sorted(set(self.asked) - self.open_causes())
        if served and (len(self.asked) >= MOST_TOKENS or chance.random() < 0.5):
            return self._ask(chance.choice(served))
        return self._create()

    def open_causes(self) -> set[str]:
        """The AssetTokens whose Secret doesn't answer their latest cause."""
        secrets = self.scene.secrets()
        return {name for name, cause in self.asked.items() if name not in secrets or served(secrets[name]) != cause}

    def close_life(self, given: Counter[str]) -> None:
        """Judge what was requested since the last time.

        Args:
            given: How many causes each AssetToken had in this life: those open at its start, and those that came.
        """
        requests = self.scene.asset.requests[self._counted :]
        self._counted += len(requests)
        requested = Counter(str(request.business_id) for request in requests)
        self.needless += (requested - given).total()
        self.in_flight += sum(requested[name] >= given[name] > 0 for name in self.open_causes())
        for name, secret in self.scene.secrets().items():
            self.broken += [f"{name}: {flaw}" for flaw in flaws(secret, self.scene)]

    def _create(self) -> str:
        name = f"token-{len(self.asked):03}"
        self.asked[name] = ""
        self.causes += 1
        self.scene.create_all([self.scene.shop.manifest(name, businessId=name)])
        return name

    def _ask(self, name: str) -> str:
        self.causes += 1
        self.asked[name] = str(self.causes)
        annotations = {f"{GROUP}/renew-requested-at": self.asked[name]}
        self.scene.shop.cluster.api.patch(
            self.scene.shop.path(f"assettokens/{name}"), {"metadata": {"annotations": annotations}}
        )
        return name


def kill(stage: Stage) -> Iterator[Finding]:
    """Kill -9 at random moments, while AssetTokens are created and renewals are asked for."""
    lives = 15 if stage.short else 200
    chance = stage.random("kill")
    with stage.scene(rate_limit=RateLimit("off"), started=False, log_level="debug") as scene:
        scene.asset.behave(Behaviour(latency=LATENCY_SECONDS))
        books = Books(scene)
        for _ in range(lives):
            _live(books, chance)
        scene.operator.start()
        try:
            given = Counter(books.open_causes())
            wait_until(lambda: not books.open_causes(), 60, "all causes are served in the end")
        finally:
            scene.operator.terminate()
        books.close_life(given)
        scene.observer.stop()
        what = f"{lives} kills, {books.causes} causes, seed {stage.seed}"
        yield exactly(Guarantee.RESTART, f"{what}: requests for what was there, or twice in a life", books.needless)
        yield at_most(
            Guarantee.RESTART,
            f"{what}: requests beyond one per cause (bound: those in flight at a kill)",
            scene.asset.arrived - books.causes,
            books.in_flight,
        )
        yield exactly(
            Guarantee.VALID, f"{what}: half-written or false Secrets{_first(books.broken)}", len(books.broken)
        )
        yield exactly(Guarantee.LEAKS, f"{what}: tokens and secrets in output and AssetTokens", _leaks(scene))
        yield at_most(Guarantee.VALID, f"{what}: longest without a valid token", scene.observer.longest_gap(), 0, "s")


def _live(books: Books, chance: random.Random) -> None:
    """Let the operator live until a random moment from its first request on."""
    for _ in range(CAUSES_BEFORE):
        books.give_cause(chance)
    given = Counter(books.open_causes())
    arrived = books.scene.asset.arrived
    books.scene.operator.start()
    wait_until(lambda: books.scene.asset.arrived > arrived, 60, "the operator's first request")
    ends = time.monotonic() + chance.uniform(0, LONGEST_LIFE_SECONDS)
    while time.monotonic() < ends:
        given[books.give_cause(chance)] += 1
        time.sleep(max(0.0, min(0.1, ends - time.monotonic())))
    books.scene.operator.kill()
    time.sleep(0.2)  # the stand-in notes what was in flight, and the API server ends what it was sent
    books.close_life(given)


def served(secret: Json) -> str:
    """The cause that a Secret's token answers."""
    return str(secret["metadata"]["annotations"].get(f"{GROUP}/served-renew-request", ""))


def flaws(secret: Json, scene: Scene) -> list[str]:
    """What is wrong with a Secret: keys that lack, annotations that speak of another token, a token refused."""
    data = {key: base64.b64decode(value).decode() for key, value in secret.get("data", {}).items()}
    if data.keys() != KEYS:
        return [f"keys {sorted(data)}"]
    token, said = data["access_token"], secret["metadata"]["annotations"]
    claims = scene.asset.claims(token) or {}
    expires_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(str(claims.get("exp", 0)))))
    wrong = {
        "the stand-in refuses the token": not scene.asset.accepts(token),
        "authorization": data["authorization"] != f"Bearer {token}",
        "expires_at": data["expires_at"] != expires_at or said[f"{GROUP}/expiration-time"] != expires_at,
        "token-id": said[f"{GROUP}/token-id"] != claims.get("jti"),
        "token-fingerprint": said[f"{GROUP}/token-fingerprint"] != hashlib.sha256(token.encode()).hexdigest(),
    }
    return [flaw for flaw, holds in wrong.items() if holds]


def _leaks(scene: Scene) -> int:
    """How many of the tokens, and of the client's secret, the operator has written where anybody may read."""
    seen = scene.operator.output() + str(scene.shop.tokens())
    secrets = {CLIENT_SECRET, *(request.token for request in scene.asset.requests if request.token)}
    return sum(secret in seen for secret in secrets)


def _first(broken: list[str]) -> str:
    return f" (the first: {broken[0]})" if broken else ""
