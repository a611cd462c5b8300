"""What is measured: figures by name, the measurements that hold them, and the medians of those that were repeated.

Pure, so that how figures are put together is tested without a cluster.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure is told: its column's heading, unit included, and how many decimals it has."""

    heading: str
    decimals: int = 0


FIGURES: Final[Mapping[str, Figure]] = {
    "first_secret_s": Figure("first Secret s", 2),
    "all_secrets_s": Figure("all Secrets s", 2),
    "all_ready_s": Figure("all Ready s", 2),
    "ratio": Figure("÷ reference", 1),
    "readyz_s": Figure("/readyz s", 2),
    "idle_s": Figure("idle s", 2),
    "gone_s": Figure("all gone s", 2),
    "p50_ms": Figure("p50 ms"),
    "p99_ms": Figure("p99 ms"),
    "endpoint_ms": Figure("endpoint ms"),
    "late_p50_s": Figure("late p50 s", 1),
    "late_p99_s": Figure("late p99 s", 1),
    "renewals": Figure("renewals"),
    "requests": Figure("token requests"),
    "refused": Figure("refused"),
    "writes": Figure("API writes"),
    "cpu_own_s": Figure("own CPU s", 2),
    "cpu_own_ms": Figure("own ms/token", 2),
    "beyond_start_ms": Figure("the same beyond an idle start", 2),
    "cpu_apiserver_ms": Figure("apiserver ms/token", 2),
    "cpu_etcd_ms": Figure("etcd ms/token", 2),
    "cpu_controllers_ms": Figure("controllers ms/token", 2),
    "cpu_asset_ms": Figure("stand-in ms/token", 2),
    "idle_cpu_ms": Figure("idle CPU ms/s", 1),
    "rss_mib": Figure("RSS MiB", 0),
    "peak_mib": Figure("peak RSS MiB", 0),
    "probe_ms": Figure("longest probe ms"),
    "scrape_ms": Figure("scrape ms"),
    "scrape_kib": Figure("scrape KiB"),
    "others_cores": Figure("cores others used", 2),
}
"""Every figure, in the order of the columns. A token is a renewal in `steady`, a Secret where only these are many."""

STARTS: Final = ("bring-up", "restart")
"""Scenarios in which the operator's start is part of its CPU."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one pass found.

    Attributes:
        scenario: Its name.
        subject: Who was measured: the operator, the reference or the peer.
        variant: Which form of the scenario; empty where there is one.
        count: How many AssetTokens (Secrets in `unrelated`).
        figures: By their names in `FIGURES`.
        calls: API calls a token, by verb and resource; only where they were counted.
        failure: Why it broke off; empty where it didn't.
    """

    scenario: str
    subject: str
    variant: str
    count: int
    figures: Mapping[str, float]
    calls: Mapping[str, float] | None = None
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @property
    def group(self) -> tuple[str, str, str, int]:
        """What it has in common with those that repeat it."""
        return self.scenario, self.subject, self.variant, self.count


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of all are not above (nearest rank); NaN where there are none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)] if ranked else math.nan


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and p99 of times, as figures in milliseconds."""
    return {f"p{percent}_ms": 1000 * percentile(seconds, percent) for percent in (50, 99)}


def medians(measurements: Iterable[Measurement]) -> list[Measurement]:
    """One measurement in place of all that repeat each other, in the order of the first of each."""
    groups: defaultdict[tuple[str, str, str, int], list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        groups[measurement.group].append(measurement)
    return [_median(group) for group in groups.values()]


def _median(group: Sequence[Measurement]) -> Measurement:
    names = [name for name in FIGURES if any(name in one.figures for one in group)]
    figures = {name: median(one.figures[name] for one in group if name in one.figures) for name in names}
    calls = next((one.calls for one in group if one.calls is not None), None)
    failure = next((one.failure for one in group if one.failure), "")
    return Measurement(*group[0].group, figures, calls, failure)


def compared(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The same, beside what they are compared with: the reference for as many, and the start of an idle operator."""
    seconds = {one.count: _until_all(one) for one in measurements if one.subject == "reference"}
    start = next((one.figures.get("cpu_own_s") for one in measurements if one.scenario == "base"), None)
    return [_compared(one, seconds.get(one.count), start) for one in measurements]


def _compared(one: Measurement, reference: float | None, start: float | None) -> Measurement:
    figures, took, used = dict(one.figures), _until_all(one), one.figures.get("cpu_own_s")
    if one.scenario == "bring-up" and took is not None and reference:
        figures["ratio"] = took / reference
    if one.scenario in STARTS and one.subject == "operator" and used is not None and start is not None:
        figures["beyond_start_ms"] = 1000 * (used - start) / one.count
    return Measurement(*one.group, figures, one.calls, one.failure)


def _until_all(one: Measurement) -> float | None:
    """Until all were ready, or where nobody says so, until all Secrets were there."""
    return one.figures.get("all_ready_s", one.figures.get("all_secrets_s"))


def said(name: str, value: float | None) -> str:
    """A figure as it is printed; nothing where it wasn't measured."""
    return "" if value is None or math.isnan(value) else f"{value:,.{FIGURES[name].decimals}f}"


def table(measurements: Sequence[Measurement]) -> list[list[str]]:
    """The rows of a table, its headings first: a row for each figure, as there are more figures than measurements."""
    heading = ["", *map(_who, measurements)]
    names = [name for name in FIGURES if any(name in one.figures for one in measurements)]
    rows = [[FIGURES[name].heading, *(said(name, one.figures.get(name)) for one in measurements)] for name in names]
    failed = [["broke off", *(one.failure for one in measurements)]] if any(one.failure for one in measurements) else []
    return [heading, *rows, *failed]


def _who(one: Measurement) -> str:
    """What a column is of; the operator, where nobody is named."""
    number = f"N = {one.count:,}" if one.count else ""
    return ", ".join(filter(None, ("" if one.subject == "operator" else one.subject, one.variant, number)))


def call_rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    """The rows of the table of calls a token, its headings first."""
    counted = [one for one in measurements if one.calls is not None]
    kinds = sorted({kind for one in counted for kind in one.calls or ()})
    rows = [["API calls a token", *(f"{one.variant}, N = {one.count}" for one in counted)]]
    rows += [[kind, *(_calls(one, kind) for one in counted)] for kind in kinds]
    return rows if counted else []


def _calls(one: Measurement, kind: str) -> str:
    value = (one.calls or {}).get(kind, 0.0)
    return f"{value:.3f}" if value else ""
