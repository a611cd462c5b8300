"""The scenarios. Each is given how many AssetTokens, begins on a stage of its own and yields measurements."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final, TypeAlias, Unpack

import httpx

from benchmarks.figures import Measurement, percentile, spread
from benchmarks.stage import Stage, StageOptions
from benchmarks.world import (
    TOKENS_A_TENANT,
    churn_calls,
    delete_calls,
    spec_calls,
    token_calls,
    token_key,
    unrelated_calls,
)
from tests.support.cluster import WaitTimeoutError
from tests.support.gobuild import Binaries

Found: TypeAlias = Iterator[Measurement]

GRACE_SECONDS: Final = 1.0
"""What was set off by the last write is counted, too."""

IDLE_SECONDS: Final = 20.0
LONG_IDLE_SECONDS: Final = 60.0
APPLIED: Final = 50
APPLIED_SECONDS: Final = 60
MANY_TENANTS: Final = f"{TOKENS_A_TENANT} tokens a tenant"
MOST_CHURN: Final = 1000
SCRAPES: Final = 5


@dataclass(frozen=True)
class Bench:
    """What all passes have in common.

    Attributes:
        programs: Of the control plane.
        latency: Seconds until the stand-in answers.
        reference_writes: Which of the reference's kinds of write.
        peer_command: Starts another operator; empty for none.
        peer_setup: Run before that, to the end.
        peer_selector: Which labels the Secrets have that the peer writes.
        progress: Told how many of how many are done.
    """

    programs: Binaries
    latency: float
    reference_writes: str
    peer_command: str
    peer_setup: str
    peer_selector: str
    progress: Callable[[int, int], object]

    def stage(self, count: int, **options: Unpack[StageOptions]) -> Stage:
        """A stage for so many AssetTokens; not entered."""
        return Stage(self.programs, count, latency=self.latency, progress=self.progress, **options)


def patience(count: int) -> float:
    """After how many seconds a pass is given up: generous, as some machines are slow and some operators quadratic."""
    return 180 + 0.4 * count


def operator(scenario: str, count: int, figures: Mapping[str, float], variant: str = "") -> Measurement:
    """A measurement of the operator."""
    return Measurement(scenario, "operator", variant, count, figures)


def base(bench: Bench, _: int) -> Found:
    """An operator that has nothing to do: what its start costs, and what it uses when idle."""
    with bench.stage(0) as stage:
        before, began = stage.snapshot(), monotonic()
        stage.operator.start()
        figures = {"readyz_s": stage.wait_until_ready(patience(0)) - began}
        figures["idle_s"] = stage.wait_until_idle(patience(0)) - began
        figures |= stage.costs(before, stage.snapshot(), 0) | stage.resident()
        yield operator("base", 0, figures | {"idle_cpu_ms": stage.idle_cpu(IDLE_SECONDS)})


def apply(bench: Bench, count: int) -> Found:
    """Single AssetTokens, applied one after the other to an idle operator."""
    with bench.stage(0, spare=count) as stage:
        stage.populate()
        stage.operator.start()
        stage.wait_until_ready(patience(0))
        stage.wait_until_idle(patience(0))
        figures = spread(applied(stage, 0, count)) | {"endpoint_ms": 1000 * bench.latency}
        yield operator("apply", count, figures | stage.resident())


def bring_up(stage: Stage) -> dict[str, float]:
    """Start the operator before AssetTokens that exist already; gives the figures until all are ready."""
    writes, before = stage.api_writes(), stage.snapshot()
    began = monotonic()
    stage.operator.start()
    seen = stage.observer
    stage.wait(lambda: seen.reached(seen.ready), stage.count, patience(stage.count))
    time.sleep(GRACE_SECONDS)
    after = stage.snapshot()
    moments = [one.at - began for one in list(seen.secrets.values())]
    figures = {
        "first_secret_s": min(moments),
        "all_secrets_s": max(moments),
        "all_ready_s": max(one.at for one in list(seen.ready.values())) - began,
    }
    figures |= spread(moments) | stage.costs(before, after, stage.count) | stage.resident()
    return figures | {"writes": stage.api_writes() - writes}


def restart(stage: Stage, idle_seconds: float = IDLE_SECONDS) -> dict[str, float]:
    """Start it again while all tokens are fresh, and let it be idle for so long."""
    stage.operator.terminate()
    stage.settle()
    writes, before = stage.api_writes(), stage.snapshot()
    began = monotonic()
    stage.operator.start()
    figures = {"readyz_s": stage.wait_until_ready(patience(stage.count)) - began}
    figures["idle_s"] = stage.wait_until_idle(patience(stage.count)) - began
    figures |= stage.costs(before, stage.snapshot(), stage.count) | stage.resident()
    return figures | {"writes": stage.api_writes() - writes, "idle_cpu_ms": stage.idle_cpu(idle_seconds)}


def spec_change(stage: Stage) -> dict[str, float]:
    """Change the spec of all."""
    stage.wait_until_idle(patience(stage.count))
    writes, before = stage.api_writes(), stage.snapshot()
    began = monotonic()
    sent = stage.each(spec_calls(stage.count))
    seen = stage.observer
    stage.wait(lambda: seen.reached(seen.ready, 2, 2), stage.count, patience(stage.count))
    time.sleep(GRACE_SECONDS)
    after = stage.snapshot()
    figures = {
        "all_secrets_s": max(one.at for one in list(seen.secrets.values())) - began,
        "all_ready_s": max(one.at for one in list(seen.ready.values())) - began,
    }
    figures |= spread([seen.secrets[key].at - at for key, at in sent.items()])
    figures |= stage.costs(before, after, stage.count) | stage.resident()
    return figures | {"writes": stage.api_writes() - writes - stage.count}


def delete(stage: Stage) -> dict[str, float]:
    """Delete all; the Secrets go with them."""
    stage.wait_until_idle(patience(stage.count))
    before, began = stage.snapshot(), monotonic()
    stage.each(delete_calls(stage.count))
    seen = stage.observer
    stage.wait(lambda: stage.count - len(seen.secrets) - len(seen.tokens), stage.count, patience(stage.count))
    figures = {"gone_s": monotonic() - began}
    time.sleep(GRACE_SECONDS)
    return figures | stage.costs(before, stage.snapshot(), stage.count) | stage.resident()


PHASES: Final = {"bring-up": bring_up, "restart": restart, "spec-change": spec_change, "delete": delete}
"""What the same AssetTokens go through one after the other: to issue them is what takes long."""


def life(bench: Bench, count: int, wanted: tuple[str, ...]) -> Found:
    """Those phases that are wanted; `bring-up` is always gone through."""
    with bench.stage(count) as stage:
        stage.populate()
        for name, phase in PHASES.items():
            variant = MANY_TENANTS if name == "bring-up" else ""
            try:
                figures = phase(stage) if name in wanted or name == "bring-up" else {}
            except WaitTimeoutError as error:
                yield Measurement(name, "operator", variant, count, {}, None, str(error))
                return
            if name in wanted:
                yield operator(name, count, figures, variant)


def one_tenant(bench: Bench, count: int) -> Found:
    """`bring-up` where all AssetTokens have one tenant, whose limit is out of the way."""
    with bench.stage(count, one_tenant=True) as stage:
        stage.populate()
        yield operator("bring-up", count, bring_up(stage), "one tenant")


def steady(bench: Bench, count: int) -> Found:
    """Each token is renewed once, as it comes due."""
    lifetime = 60 + int(0.06 * count)
    with bench.stage(count, lifetime_cap=lifetime) as stage:
        stage.populate()
        bring_up(stage)
        seen = stage.observer
        writes, before, renewals = stage.api_writes(), stage.snapshot(), seen.renewals
        seen.lateness.clear()
        stage.wait(lambda: seen.reached(seen.secrets, 2), count, patience(count) + lifetime)
        time.sleep(GRACE_SECONDS)
        done, after, late = seen.renewals - renewals, stage.snapshot(), list(seen.lateness)
        figures = {"renewals": done, "late_p50_s": percentile(late, 50), "late_p99_s": percentile(late, 99)}
        figures |= stage.costs(before, after, done) | stage.resident()
        yield operator("steady", count, figures | {"writes": stage.api_writes() - writes}, f"{lifetime} s tokens")


def unrelated(bench: Bench, count: int) -> Found:
    """Secrets of others: what they cost an operator's start, and what it costs when they change."""
    with bench.stage(count) as stage:
        stage.each(unrelated_calls(count))
        stage.settle()
        before, began = stage.snapshot(), monotonic()
        stage.operator.start()
        figures = {"readyz_s": stage.wait_until_ready(patience(count)) - began}
        figures["idle_s"] = stage.wait_until_idle(patience(count)) - began
        figures |= stage.costs(before, stage.snapshot(), count) | stage.resident()
        yield operator("unrelated", count, figures, "start")
        changes = min(count, MOST_CHURN)
        before = stage.snapshot()
        stage.each(churn_calls(changes))
        stage.wait_until_idle(patience(count))
        figures = stage.costs(before, stage.snapshot(), changes) | stage.resident()
        yield operator("unrelated", count, figures, f"{changes} changes")


def calls(bench: Bench, count: int) -> Found:
    """The phases once more with an audit log, which tells what the operator asked; they aren't timed."""
    with bench.stage(count, audited=True) as stage:
        stage.populate()
        for name, phase in PHASES.items():
            since = time.time()
            phase(stage)
            counted = Counter(_kind(one.verb, one.resource, one.subresource) for one in stage.calls(since))
            a_token = {kind: times / count for kind, times in counted.items()}
            yield Measurement("calls", "operator", name, count, {}, a_token)


def large(bench: Bench, count: int) -> Found:
    """Very many tokens that were issued before: what an operator needs to start, to be, and to take one more."""
    with bench.stage(count, spare=APPLIED) as stage:
        stage.populate()
        yield operator("large", count, bring_up(stage), "issue all")
        figures = restart(stage, LONG_IDLE_SECONDS) | _scraped(stage) | stage.resident()
        yield operator("large", count, figures, "start again")
        took = applied(stage, count, APPLIED)
        yield operator("large", count, spread(took) | {"endpoint_ms": 1000 * bench.latency}, f"{APPLIED} more, singly")


def applied(stage: Stage, first: int, count: int) -> list[float]:
    """Create AssetTokens one after the other; gives the seconds from each call until its Secret was seen."""
    took: list[float] = []
    for number in range(first, first + count):
        key = token_key(number)
        sent = stage.each(token_calls(1, first=number))[key]
        while key not in stage.observer.ready or key not in stage.observer.secrets:  # two watches, in either order
            if monotonic() > sent + APPLIED_SECONDS:
                raise WaitTimeoutError(f"{key} isn't ready after {APPLIED_SECONDS} s")
            time.sleep(0.01)
        took.append(stage.observer.secrets[key].at - sent)
        stage.progress(len(took), count)
    return took


def _scraped(stage: Stage) -> dict[str, float]:
    """How long a scrape of the operator's metrics takes, and how large it is."""
    took: list[float] = []
    size = 0
    for _ in range(SCRAPES):
        began = monotonic()
        size = len(httpx.get(f"{stage.url}/metrics", trust_env=False, timeout=60).content)
        took.append(monotonic() - began)
    return {"scrape_ms": 1000 * percentile(took, 50), "scrape_kib": size / 1024}


def _kind(verb: str, resource: str, subresource: str) -> str:
    what = f"{resource}/{subresource}" if subresource else resource
    return f"{verb} {what or '(no resource)'}"
