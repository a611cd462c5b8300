"""The scenarios by name, and how they are run: in the full form one by one, in the short form side by side."""

import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeAlias

from tests.faults import failover, failures, kills, limits, network
from tests.faults.findings import Finding
from tests.faults.stage import Stage

Run: TypeAlias = Callable[[Stage], Iterable[Finding]]

SCENARIOS: Final[Mapping[str, Run]] = {
    "network": network.network,  # the first, as it takes the longest in the short form
    "limit-fixed": limits.limit_fixed,
    "limit-sliding": limits.limit_sliding,
    "other-program": limits.other_program,
    "outage": failures.outage,
    "wrong-credentials": failures.wrong_credentials,
    "hangs": failures.hangs,
    "steady": limits.steady,
    "peer": failures.peer,
    "kill": kills.kill,
    "failover": failover.failover,
}
LANES: Final = 4
"""So many scenarios at once in the short form, which measures no seconds: most of them mostly wait."""

APART_SECONDS: Final = 6  # between their starts, which are what takes much of the machine


def run(stage: Stage, names: Collection[str], say: Callable[[str], None]) -> Iterator[tuple[str, list[Finding]]]:
    """Run scenarios; gives each one's name and findings when it has ended.

    Args:
        stage: Where.
        names: Which.
        say: Told when one begins and ends.
    """

    def one(name: str) -> tuple[str, list[Finding]]:
        say(f"{name} …")
        began = time.monotonic()
        findings = _run_one(stage, name)
        say(f"{name}: {time.monotonic() - began:.0f} s, " + ("held" if _held(findings) else "NOT HELD"))
        return name, findings

    wanted = [name for name in SCENARIOS if name in names]
    # The threads live until all have ended: an operator ends with the thread that started it.
    with ThreadPoolExecutor(LANES if stage.short else 1, "lane") as lanes:
        running: list[Future[tuple[str, list[Finding]]]] = []
        for name in wanted:
            running.append(lanes.submit(one, name))
            time.sleep(APART_SECONDS if stage.short else 0)
        for future in running:
            yield future.result()


def _run_one(stage: Stage, name: str) -> list[Finding]:
    """A scenario's findings; one that breaks off has those it made until then, and one that says why."""
    findings: list[Finding] = []
    try:
        for finding in SCENARIOS[name](stage):
            findings.append(finding.of(name))  # noqa: PERF401 - one by one: what was found before an error stays
    except Exception as error:  # noqa: BLE001 - the other scenarios go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = str(error).partition("\n")[0][:100]
        findings.append(
            Finding(None, "broke off", f"{type(error).__name__}: {said} ({where.name}:{where.lineno})", "", False, name)
        )
    return findings


def _held(findings: Iterable[Finding]) -> bool:
    return all(finding.held is not False for finding in findings)
