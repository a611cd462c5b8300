"""An independent observer: it reads only the Secrets, as the Pods that use them would, and tries their tokens.

It asks the stand-in, not the operator, whether a token works, so it sees what a user would see whatever the operator
believes, logs or reports.
"""

import base64
import threading
import time
from dataclasses import dataclass
from typing import Final, Self

from tests.support.cluster import Json
from tests.support.shop import Shop

LOOK_EVERY_SECONDS: Final = 1.0
OURS: Final = "labelSelector=app.kubernetes.io/managed-by=asset-token-operator"


@dataclass
class Sight:
    """What was seen of one Secret.

    Attributes:
        looked_at: When it was last looked for.
        gap: Seconds without a valid token since the first valid one.
    """

    looked_at: float
    gap: float = 0.0


class Observer:
    """Looks at a shop's Secrets once a second, in a thread; a context manager."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._ended = threading.Event()
        self._sights: dict[str, Sight] = {}
        self._expiries: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="observer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Look for the last time."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self._look()

    def longest_gap(self) -> float:
        """The seconds, in all, that the Secret which fared worst was without a valid token after its first one."""
        return max((sight.gap for sight in list(self._sights.values())), default=0.0)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_EVERY_SECONDS):
            self._look()

    def _look(self) -> None:
        secrets = self._shop.cluster.api.get(self._shop.path(f"secrets?{OURS}"))["items"]
        now = time.monotonic()
        valid = {secret["metadata"]["name"] for secret in secrets if self._works(secret)}
        for name in valid - self._sights.keys():
            self._sights[name] = Sight(now)
        for name, sight in self._sights.items():
            if name not in valid:
                sight.gap += now - sight.looked_at
            sight.looked_at = now

    def _works(self, secret: Json) -> bool:
        token = base64.b64decode(secret.get("data", {}).get("access_token", "")).decode()
        if token not in self._expiries:
            claims = self._shop.asset.claims(token) if self._shop.asset.accepts(token) else None
            if claims is None:
                return False
            self._expiries[token] = float(str(claims["exp"]))
        return self._shop.asset.time() < self._expiries[token]
