"""Who may run at once, so that who waits long for an answer keeps nobody else from running.

A run that lasts longer than `SLOW` gives its place to another: a webhook that takes half a minute for each Secret, or
an API server that hangs for one namespace, must not use up the places of all. How many such runs there are is bounded,
in all and for each group: they are requests in flight, of which an API server bears only so many, the Lease's among
them.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    K = TypeVar("K", bound=Hashable)
else:
    K = TypeVar("K")

SLOW: Final = timedelta(seconds=2)
"""From when on a run gives its place to another."""

MOST_SLOW: Final = 100
"""So many may have done that at once."""

MOST_OF_SLOW_GROUP: Final = 50
"""So many of a group run at once while any of them is slow."""


class Bulkhead(Generic[K]):
    """Counts what runs.

    Args:
        group_of: What a key shares its fate with, such as its namespace.
        most_of_slow_group: How many of a group run at once while one of them is slow.
    """

    def __init__(self, group_of: Callable[[K], Hashable], most_of_slow_group: int = MOST_OF_SLOW_GROUP) -> None:
        self._group_of = group_of
        self._most = most_of_slow_group
        self._began: dict[K, timedelta] = {}
        self._slow: set[K] = set()
        self._running: Counter[Hashable] = Counter()
        self._slow_of: Counter[Hashable] = Counter()
        self._held: defaultdict[Hashable, deque[K]] = defaultdict(deque)

    def enter(self, key: K, now: timedelta) -> bool:
        """Whether the key may run now; else it is held until `leave` or `release` names it."""
        group = self._group_of(key)
        if self._slow_of[group] and self._running[group] >= self._most:
            self._held[group].append(key)
            return False
        self._began[key] = now
        self._running[group] += 1
        return True

    def find_slow(self, now: timedelta) -> int:
        """How many have become slow since, each of which gives its place to another."""
        found = [key for key, began in self._began.items() if began + SLOW <= now and key not in self._slow]
        found = found[: MOST_SLOW - len(self._slow)]
        self._slow.update(found)
        self._slow_of.update(map(self._group_of, found))
        return len(found)

    def leave(self, key: K) -> tuple[bool, K | None]:
        """The key's run has ended: whether another has its place already, and which one that was held may run."""
        group = self._group_of(key)
        del self._began[key]
        self._running[group] -= 1
        was_slow = key in self._slow
        if was_slow:
            self._slow.discard(key)
            self._slow_of[group] -= 1
        held = self._held.get(group)
        following = held.popleft() if held else None
        self._tidy(group)
        return was_slow, following

    def release(self) -> Iterable[K]:
        """All that were held, which are held no more."""
        held = [key for keys in self._held.values() for key in keys]
        self._held.clear()
        return held

    def holds(self) -> int:
        """How many are held."""
        return sum(map(len, self._held.values()))

    def _tidy(self, group: Hashable) -> None:
        """Forget a group of which there is nothing."""
        for counter in (self._running, self._slow_of):
            if not counter[group]:
                del counter[group]
        if not self._held.get(group):
            self._held.pop(group, None)
