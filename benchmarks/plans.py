"""Which passes there are, in which order: what is compared with each other is measured one right after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks import lookalikes, others, scenarios
from benchmarks.scenarios import PHASES, Bench, Found

COUNTS: Final = (100, 1_000, 4_000, 10_000)
QUICK_COUNTS: Final = (100, 1_000)
STEADY_MOST: Final = 1_000
CALLS_COUNT: Final = 200
LARGE_COUNT: Final = 50_000

SCENARIOS: Final = ("base", "apply", *PHASES, "steady", "unrelated", "calls", "large", "lookalikes")
OPT_IN: Final = frozenset({"large", "lookalikes"})


@dataclass(frozen=True, slots=True)
class Pass:
    """One stage's worth of measuring.

    Attributes:
        name: What it is told as.
        scenario: What a failure of it is a failure of.
        count: How many AssetTokens.
        run: Measures.
    """

    name: str
    scenario: str
    count: int
    run: Callable[[], Found]


def passes(bench: Bench, wanted: Sequence[str], counts: Sequence[int], rounds: int, *, quick: bool) -> Iterator[Pass]:
    """All passes.

    Args:
        bench: What they have in common.
        wanted: The scenarios.
        counts: How many AssetTokens there shall be, in turn; where it is empty, the usual numbers.
        rounds: How often those over `counts` are repeated.
        quick: Whether the usual numbers are the small ones.
    """
    large, asked = max(counts, default=LARGE_COUNT), bool(counts)
    counts = counts or (QUICK_COUNTS if quick else COUNTS)
    yield from _single(bench, wanted, {"base": 0, "apply": scenarios.APPLIED})
    for count in counts:
        for number in range(1, rounds + 1):
            title = f"N = {count:,}" + (f", round {number} of {rounds}" if rounds > 1 else "")
            yield from _rounds(bench, wanted, count, title)
    yield from _single(bench, wanted, {"calls": CALLS_COUNT, "large": large})
    if "lookalikes" in wanted:
        count = max(counts) if asked else lookalikes.COUNT
        yield Pass("lookalikes", "lookalikes", count, partial(lookalikes.lookalikes, bench, count))


def _single(bench: Bench, wanted: Sequence[str], counts: dict[str, int]) -> Iterator[Pass]:
    for name, count in counts.items():
        if name in wanted:
            yield Pass(name, name, count, partial(getattr(scenarios, name), bench, count))


def _rounds(bench: Bench, wanted: Sequence[str], count: int, title: str) -> Iterator[Pass]:
    phases = tuple(name for name in PHASES if name in wanted)
    runs: dict[str, Callable[[Bench, int], Found]] = {}
    if "bring-up" in wanted:  # the reference between what is compared with it: the machine may be slower later
        runs |= {"peer": others.peer} if bench.peer_command else {}
        runs |= {"one tenant": scenarios.one_tenant, "reference": others.reference}
    for name, run in runs.items():
        yield Pass(f"bring-up, {name} ({title})", "bring-up", count, partial(run, bench, count))
    if phases:
        yield Pass(f"{', '.join(phases)} ({title})", phases[0], count, partial(scenarios.life, bench, count, phases))
    if "steady" in wanted and count <= STEADY_MOST:
        yield Pass(f"steady ({title})", "steady", count, partial(scenarios.steady, bench, count))
    if "unrelated" in wanted:
        yield Pass(f"unrelated ({title})", "unrelated", count, partial(scenarios.unrelated, bench, count))
