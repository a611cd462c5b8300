"""Metrics that are read from the operator's state whenever somebody scrapes, so that what is gone vanishes from them.

Those of the AssetTokens come from their status in the cache, which a standby has too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from asset_token_operator.conditions import ConditionType, find_condition
from asset_token_operator.metrics import PREFIX
from asset_token_operator.model import Environment, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from asset_token_operator.budget import Budgets
    from asset_token_operator.clock import Clock
    from asset_token_operator.issuer import Issuer
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import AssetToken, Key
    from asset_token_operator.reconciler import Caches
    from asset_token_operator.scheduler import Scheduler

SAMPLE_EVERY: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, eq=False)
class TokenMetrics(Collector):
    """One series an AssetToken."""

    caches: Caches

    def collect(self) -> Iterator[Metric]:
        """Read the caches."""
        ready = _per_token("ready", "Whether a usable token for the present spec is in the Secret.")
        expiration = _per_token("expiration_timestamp_seconds", "When the token expires.")
        renewal = _per_token("renewal_timestamp_seconds", "When the token is to be renewed.")
        failed = _per_token("failed_attempts", "How many attempts to get a token have failed since the latest success.")
        suspended = _per_token("suspended", "Whether its spec says that nothing shall be requested.")
        for token in tokens(self.caches):
            labels = [token.key.namespace, token.key.name]
            found = find_condition(token.status, ConditionType.READY)
            ready.add_metric(labels, found.get("status") == "True")
            failed.add_metric(labels, token.status.get("failedAttempts", 0))
            suspended.add_metric(labels, token.spec.suspend)
            for family, name in ((expiration, "expirationTime"), (renewal, "renewalTime")):
                if name in token.status:
                    family.add_metric(labels, parse_time(token.status[name]).timestamp())
        yield from (ready, expiration, renewal, failed, suspended)


@dataclass(frozen=True, slots=True, eq=False)
class OperatorMetrics(Collector):
    """The budgets, the queues, the endpoints and who leads."""

    budgets: Budgets
    issuer: Issuer
    scheduler: Scheduler[Key]
    leads: Callable[[], bool]

    def collect(self) -> Iterator[Metric]:
        """Read the state."""
        yield GaugeMetricFamily(f"{PREFIX}_leader", "Whether this operator works, or stands by.", self.leads())
        waiting = self.scheduler.waiting()
        yield GaugeMetricFamily(f"{PREFIX}_queue_length", "AssetTokens that are due and have no worker yet.", waiting)
        yield from self._of_environments()
        yield from self._of_tenants()

    def _of_environments(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(f"{PREFIX}_endpoint_up", "Whether Asset's endpoint answers.", labels=["environment"])
        skew = GaugeMetricFamily(
            f"{PREFIX}_clock_skew_seconds", "How far Asset's clock is ahead of ours.", labels=["environment"]
        )
        refused = GaugeMetricFamily(
            f"{PREFIX}_credentials_refused", "Credentials that Asset refuses.", labels=["environment"]
        )
        for environment in Environment:
            up.add_metric([environment], not self.budgets.endpoint(environment).down)
            refused.add_metric([environment], self.issuer.refused(environment))
            ahead = self.issuer.skew(environment)
            if ahead is not None:
                skew.add_metric([environment], ahead.total_seconds())
        yield from (up, skew, refused)

    def _of_tenants(self) -> Iterator[Metric]:
        labels = ["environment", "tenant"]
        limit = GaugeMetricFamily(f"{PREFIX}_budget_limit", "The tenant's requests a minute.", labels=labels)
        left = GaugeMetricFamily(f"{PREFIX}_budget_remaining", "What is left of them by Asset's word.", labels=labels)
        paused = GaugeMetricFamily(f"{PREFIX}_budget_paused", "Whether the tenant pauses after a 429.", labels=labels)
        queue = GaugeMetricFamily(f"{PREFIX}_budget_queue_length", "AssetTokens that wait for a turn.", labels=labels)
        pauses = CounterMetricFamily(f"{PREFIX}_budget_pauses", "How often the tenant paused.", labels=labels)
        for state in self.budgets.states():
            values = [state.tenant.environment, state.tenant.short()]
            limit.add_metric(values, state.limit)
            left.add_metric(values, state.remaining)
            paused.add_metric(values, state.paused)
            queue.add_metric(values, state.queued)
            pauses.add_metric(values, state.pauses)
        yield from (limit, left, paused, queue, pauses)


async def sample(metrics: Metrics, caches: Caches, clock: Clock) -> None:
    """Measure what no event tells of, every few seconds, until cancelled."""
    before = clock.elapsed()
    while True:
        await clock.wait(asyncio.Event(), SAMPLE_EVERY.total_seconds())
        now = clock.elapsed()
        metrics.lagged(now - before - SAMPLE_EVERY)
        metrics.served_expired(_expired(caches, format_time(clock.now())), now - before)
        before = now


def tokens(caches: Caches) -> Iterator[AssetToken]:
    """Each AssetToken in the cache, in its latest state."""
    for states in list(caches.tokens.values()):
        token = max(states, key=lambda state: state.version, default=None)
        if token is not None and not token.deleting:
            yield token


def _expired(caches: Caches, now: str) -> int:
    """How many Secrets hold an expired token; RFC 3339 times in UTC and whole seconds are ordered as texts."""
    return sum(
        token.status.get("expirationTime", now) < now and bool(caches.secrets.get(token.secret_key))
        for token in tokens(caches)
    )


def _per_token(name: str, help_text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_token_{name}", help_text, labels=["namespace", "name"])
