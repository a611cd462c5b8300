"""What the benchmarks read and tell is what was measured."""

import math
import os
from pathlib import Path

import pytest

from benchmarks.client import Call
from benchmarks.figures import FIGURES, Measurement, call_rows, compared, medians, percentile, spread, table
from benchmarks.processes import (
    TICKS,
    count_writes,
    cpu_seconds,
    memory,
    parse_busy_seconds,
    parse_cpu_seconds,
    parse_memory,
)
from benchmarks.reference import WRITES
from benchmarks.results import BEGIN, END, Results, between_markers, markdown, tables
from benchmarks.world import credentials_calls, token_calls

TOKEN = {"metadata": {"namespace": "n", "name": "a", "uid": "u", "generation": 1, "resourceVersion": "7"}}


def measured(
    scenario: str = "bring-up", subject: str = "operator", variant: str = "", count: int = 100, **figures: float
) -> Measurement:
    return Measurement(scenario, subject, variant, count, figures)


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 2.0), (75, 3.0), (99, 4.0), (100, 4.0)], ids=str)
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    assert percentile([3, 1, 4, 2], percent) == value


def test_there_is_no_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 50))


def test_times_are_told_in_milliseconds() -> None:
    assert spread([0.1, 0.2, 0.3]) == {"p50_ms": 200, "p99_ms": 300}


def test_cpu_is_user_and_system_time_whatever_the_command_is_called() -> None:
    fields = ["S", *map(str, range(4, 14)), str(3 * TICKS), str(2 * TICKS), "99", "98"]

    assert parse_cpu_seconds(f"42 (a) (b c) {' '.join(fields)}") == 5


def test_the_machine_is_busy_unless_it_is_idle_or_waits() -> None:
    assert parse_busy_seconds(f"cpu  {TICKS} {TICKS} {TICKS} 77 88 {TICKS} {TICKS} {TICKS} 0 0\ncpu0 1 2") == 6


def test_memory_is_what_is_resident_and_was_at_most() -> None:
    found = parse_memory("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nThreads:\t1\n")

    assert (found.resident, found.peak) == (2**20, 2**21)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc of Linux's form")
def test_what_this_process_uses_can_be_read() -> None:
    found = memory(os.getpid())

    assert cpu_seconds(os.getpid()) > 0
    assert 0 < found.resident <= found.peak


def test_writes_of_what_the_operator_writes_are_counted() -> None:
    written = [("secrets", "POST", 3), ("secrets", "GET", 5), ("leases", "PUT", 7), ("assettokens", "APPLY", 4)]
    labels = 'code="200",resource="{}",scope="resource",subresource="",verb="{}",version="v1"'
    lines = [f"apiserver_request_total{{{labels.format(what, verb)}}} {times}" for what, verb, times in written]

    assert count_writes("\n".join(lines)) == 7


def test_what_was_repeated_is_told_as_its_median() -> None:
    rounds = [measured(all_ready_s=seconds) for seconds in (9, 1, 2)]

    assert [dict(one.figures) for one in medians([*rounds, measured(count=200, all_ready_s=7)])] == [
        {"all_ready_s": 2},
        {"all_ready_s": 7},
    ]


def test_a_bring_up_is_compared_with_the_reference_for_as_many_and_with_an_idle_start() -> None:
    operator, _, other, _ = compared(
        [
            measured(all_ready_s=6, cpu_own_s=3),
            measured(subject="reference", all_ready_s=2),
            measured(count=200, all_ready_s=6, cpu_own_s=3),
            measured("base", count=0, cpu_own_s=1),
        ]
    )

    assert (operator.figures["ratio"], operator.figures["beyond_start_ms"]) == (3, 20)
    assert "ratio" not in other.figures


def test_a_table_has_a_column_for_each_measurement_and_only_rows_with_figures() -> None:
    rows = table([measured(all_ready_s=1.234), measured(subject="reference", variant="create", count=1000, p50_ms=2)])

    assert rows == [["", "N = 100", "reference, create, N = 1,000"], ["all Ready s", "1.23", ""], ["p50 ms", "", "2"]]


def test_a_table_says_what_broke_off() -> None:
    assert table([Measurement("steady", "operator", "", 5, {}, None, "why")]) == [["", "N = 5"], ["broke off", "why"]]


def test_calls_are_told_by_kind() -> None:
    counted = [Measurement("calls", "operator", name, 200, {}, calls) for name, calls in [("a", {"x": 1.0}), ("b", {})]]

    assert call_rows([*counted, measured()]) == [
        ["API calls a token", "a, N = 200", "b, N = 200"],
        ["x", "1.000", ""],
    ]


def test_who_was_measured_side_by_side_is_in_one_table_for_each_n() -> None:
    found = [measured(subject=who, count=count, p50_ms=1) for count in (100, 1000) for who in ("operator", "reference")]

    assert [(title, len(rows[0])) for title, rows in tables(found)] == [("bring-up", 3), ("bring-up", 3)]


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = Results(
        {"cores": "2"}, {"rounds": 1}, [measured(p50_ms=1), Measurement("calls", "o", "", 1, {}, {"x": 1})]
    )

    results.write(tmp_path / "results.json")

    assert Results.read(tmp_path / "results.json") == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_the_figures_take_the_place_of_earlier_ones() -> None:
    new = markdown(Results({"cores": "2"}, {}, [measured(p50_ms=1)]))

    assert between_markers(f"a\n{BEGIN}old{END}\nb", new) == f"a\n{BEGIN}\n\n{new}\n\n{END}\nb"
    assert "### `bring-up`" in new


def test_a_document_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no"):
        between_markers("nothing", "new")


@pytest.mark.parametrize("writes", list(WRITES))
def test_the_reference_writes_to_where_the_operator_writes(writes: str) -> None:
    calls = [write.call(TOKEN) for write in WRITES[writes]]

    assert [call.path.partition("?")[0].rpartition("/n/")[2] for call in calls[:2]] == [
        "secrets/a" if writes == "apply" else "secrets",
        "assettokens/a/status",
    ]


@pytest.mark.parametrize("one", [True, False], ids=["one tenant", "many"])
def test_each_asset_token_has_credentials_in_its_namespace(one: bool) -> None:  # noqa: FBT001 - a parameter
    tokens = list(token_calls(250, one=one))
    wanted = {(_namespace(call), (call.body or {})["spec"]["credentialsSecretRef"]["name"]) for call in tokens}
    created = {(_namespace(call), (call.body or {})["metadata"]["name"]) for call in credentials_calls(250, one=one)}

    assert len({call.key for call in tokens}) == 250
    assert wanted == created


def _namespace(call: Call) -> str:
    return call.path.partition("/namespaces/")[2].partition("/")[0]


def test_every_figure_has_a_heading_of_its_own() -> None:
    assert len({figure.heading for figure in FIGURES.values()}) == len(FIGURES)
