"""Scenarios about the tenant's rate limit: no request too many, none too late, and none that another program needs."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.faults.findings import Finding, Guarantee, at_least, at_most, exactly
from tests.faults.stage import Scene, Stage, every, names
from tests.support.asset_rules import LimitMode, RateLimit
from tests.support.cluster import wait_until
from tests.support.shop import CLIENT_ID

NO_RESERVE: Final = ("--issue-reserve=0", "--renewal-reserve=0")
TOO_MANY: Final = 429


def limit_fixed(stage: Stage) -> Iterator[Finding]:
    """Twice the minute's budget of new AssetTokens, the budget counted from minute to minute."""
    return _limit(stage, "fixed")


def limit_sliding(stage: Stage) -> Iterator[Finding]:
    """The same, with the budget counted over the last 60 seconds at every moment."""
    return _limit(stage, "sliding")


def _limit(stage: Stage, mode: LimitMode) -> Iterator[Finding]:
    """In the short form with a quarter of the limit, and without and with the reserve at once.

    With the reserve, 600 tokens take a third minute; the short form leaves out those that would.
    """
    per_minute, counts, bounds = (75, (150, 134), (75, 75)) if stage.short else (300, (600, 600), (75, 130))

    def issue(count: int, arguments: tuple[str, ...]) -> tuple[float, int]:
        with stage.scene(*arguments, rate_limit=RateLimit(mode, per_minute, per_minute)) as scene:
            return _issue_all(scene, count)

    with ThreadPoolExecutor(2 if stage.short else 1) as pool:
        issued = list(pool.map(issue, counts, (NO_RESERVE, ())))
    for count, bound, reserve, (took, refused) in zip(counts, bounds, ("no", "default"), issued, strict=True):
        what = f"{count} tokens against {per_minute}/min {mode}, {reserve} reserve"
        yield exactly(Guarantee.BUDGET, f"{what}: 429", refused)
        yield at_most(Guarantee.BUDGET, f"{what}: all issued", took, bound, "s")


def _issue_all(scene: Scene, count: int) -> tuple[float, int]:
    """Seconds from the first AssetToken's creation to the last Secret, and how many 429 there were.

    A fixed window begins with the first: so late as possible comes the next.
    """
    began = time.time()
    scene.asset.rate_limit = RateLimit(
        scene.asset.rate_limit.mode, scene.asset.rate_limit.per_tenant, scene.asset.rate_limit.per_business, phase=began
    )
    wanted = names(count)
    scene.create(wanted)
    scene.wait_for_revisions(wanted)
    return scene.first_writes(wanted, began)[-1], scene.asset.count(status=TOO_MANY)


def other_program(stage: Stage) -> Iterator[Finding]:
    """Routine renewals fall due while another program of the tenant spends two thirds of the budget, evenly."""
    count, per_minute, spends = (25, 75, 50) if stage.short else (100, 300, 200)
    due = "59m35s" if stage.short else "58m45s"
    refused: list[int] = []
    with stage.scene(rate_limit=RateLimit(per_tenant=per_minute, per_business=per_minute)) as scene:
        wanted = names(count)
        scene.create(wanted, lifetime="1h", renewBefore=due)
        scene.wait_for_revisions(wanted)
        # What issuing has cost is not what is measured: a window begins.
        scene.asset.rate_limit = RateLimit(per_tenant=per_minute, per_business=per_minute, phase=time.time())
        issued = len(scene.asset.requests)
        with every(60 / spends, lambda: refused.append(1 - scene.asset.spend(CLIENT_ID, 1))):
            time.sleep(65 if stage.short else 240)
        renewed = len(scene.asset.requests) - issued
        what = f"another program spends {spends} of {per_minute}/min, {renewed} renewals"
        yield exactly(Guarantee.BUDGET, f"{what}: its 429", sum(refused))
        yield exactly(Guarantee.BUDGET, f"{what}: the operator's 429", scene.asset.count(status=TOO_MANY))
        yield at_least(Guarantee.BUDGET, f"{what}: renewals went on", renewed, count // 2)


def steady(stage: Stage) -> Iterator[Finding]:
    """Renewals fall due all the time, for longer than a token lives, and each costs one request."""
    count, lifetime, due, renewals, patience = (
        (20, "60s", "40s", 80, 120) if stage.short else (100, "5m", "4m", 500, 420)
    )
    with stage.scene() as scene:
        wanted = names(count)
        began = time.time()
        scene.create(wanted, lifetime=lifetime, renewBefore=due)
        wait_until(lambda: sum(scene.revisions().values()) >= count + renewals, patience, f"{renewals} renewals")
        took = time.time() - began
        scene.suspend(wanted)
        scene.observer.stop()
        issued = sum(scene.revisions().values())
        what = f"{issued - count} renewals of {count} tokens in {took:.0f} s"
        yield exactly(Guarantee.BUDGET, f"{what}: requests beyond one each", scene.asset.arrived - issued)
        yield at_most(Guarantee.VALID, f"{what}: longest without a valid token", scene.observer.longest_gap(), 0, "s")
