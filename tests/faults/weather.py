"""What fails when, by a random but seeded schedule."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tests.faults.proxy import Call, Fault, Harm, refusal

OF_ASSET: Final = (
    refusal(500),
    refusal(503),
    *(Fault(harm) for harm in (Harm.DELAY, Harm.CUT_BEFORE, Harm.CUT_AFTER, Harm.CUT_WITHIN, Harm.CORRUPT)),
)
OF_KUBERNETES: Final = (refusal(429, Retry_After="1"), Fault(Harm.GONE), Fault(Harm.SILENCE), *OF_ASSET)
OF_WATCHES: Final = frozenset({Harm.GONE, Harm.SILENCE})
"""What is done to watches alone: they say 410 in their body, and last for minutes in which they can be silent."""

SHARES: Final = (0.0, 0.3, 1.0)


@dataclass(frozen=True)
class Episode:
    """A few seconds in which one thing fails for a share of the calls.

    Attributes:
        begins: Seconds after the weather began, like `ends`.
    """

    begins: float
    ends: float
    fault: Fault
    share: float


class Weather:
    """Chooses a fault for each call, by the episode it falls into.

    Args:
        chance: Where the schedule comes from, and which calls are met; of this weather's own, so that how calls to
            others come in between changes nothing.
        faults: What may fail.
        seconds: How long it lasts, or a little more.
        now: Tells the time.
    """

    def __init__(
        self,
        chance: random.Random,
        faults: Sequence[Fault],
        seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.episodes: list[Episode] = []
        self._chance, self._now = chance, now
        self._began: float | None = None
        ends = 0.0
        while ends < seconds:
            begins, ends = ends, ends + chance.uniform(2, 6)
            self.episodes.append(Episode(begins, ends, chance.choice(faults), chance.choice(SHARES)))

    def begin(self) -> None:
        """Let it begin; no call is harmed before, or after the last episode."""
        self._began = self._now()

    def episode(self) -> Episode | None:
        """The present one."""
        if self._began is None:
            return None
        passed = self._now() - self._began
        return next((episode for episode in self.episodes if passed < episode.ends), None)

    def __call__(self, call: Call) -> Fault | None:
        episode = self.episode()
        if episode is None or (episode.fault.harm in OF_WATCHES and not call.watch):
            return None
        return episode.fault if self._chance.random() < episode.share else None
