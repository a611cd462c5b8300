"""Which resource versions the cluster has reached, and whether they have gone back.

They only grow, but where etcd is restored from a backup: then they go back, a watch since what was known tells nothing,
and all that is told seems to be old. Whoever lists something finds that out for all. Only versions of one kind of
object are compared, since an administrator may keep another kind in another etcd.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Final

logger = logging.getLogger(__name__)

ASSET_TOKENS: Final = "AssetTokens"
SECRETS: Final = "Secrets"


class Versions:
    """What was seen of them.

    Attributes:
        epoch: How often they have gone back: what was known in another epoch counts no more.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._highest: defaultdict[str, int] = defaultdict(int)

    def highest(self, kind: str) -> int:
        """The highest of a kind: taken before a list is asked for, the list has no lower one."""
        return self._highest[kind]

    def saw(self, kind: str, version: int) -> None:
        """Something of that kind has that version."""
        self._highest[kind] = max(self._highest[kind], version)

    def compare(self, kind: str, version: int, highest: int) -> None:
        """A list has that version; that was the highest before it was asked for."""
        if version < highest <= self._highest[kind]:
            logger.warning("resource versions have gone back, as after a restored backup: all is listed anew")
            self.epoch += 1
            self._highest.clear()
        self.saw(kind, version)
