"""Which resource versions the cluster has reached, and whether they have gone back.

They only grow, but where etcd is restored from a backup: then they go back, a watch since what was known tells nothing,
and all that is told seems to be old. Whoever lists something finds that out for all. Where the restored etcd counts on
from beyond what it had reached (`--bump-revision`), as Kubernetes' documentation asks for, a list has a higher version
than ever, and only the objects in it have those of the backup. Only versions of one kind of object are compared, since
an administrator may keep another kind in another etcd.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def compare(self, kind: str, version: int, highest: int, objects: Iterable[tuple[int, int]] = ()) -> None:
        """Look whether a list continues what was known.

        Args:
            kind: What is listed.
            version: The list's version.
            highest: The highest that was known before it was asked for.
            objects: Of each object the version that it is listed with, and the one that it was known with. A lower one
                is listed only if the known one is later than the list, as that of a write of our own may be.
        """
        went_back = version < highest <= self._highest[kind]
        if went_back or any(listed < known <= version for listed, known in objects):
            logger.warning("resource versions have gone back, as after a restored backup: all is listed anew")
            self.epoch += 1
            self._highest.clear()
        self.saw(kind, version)
