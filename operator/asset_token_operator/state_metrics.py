"""Metrics that are read from the operator's state whenever somebody scrapes, so that what is gone vanishes from them.

Those of the AssetTokens come from their status in the cache, which a standby has too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from asset_token_operator.metrics import PREFIX
from asset_token_operator.model import Environment
from asset_token_operator.status import ConditionType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from prometheus_client.metrics_core import Metric

    from asset_token_operator.asset_clock import AssetClocks
    from asset_token_operator.budget import Budgets
    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.issuer import Issuer
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import AssetToken, Key
    from asset_token_operator.scheduler import Scheduler
    from asset_token_operator.scopes import Scopes

SAMPLE_EVERY: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, eq=False)
class TokenMetrics(Collector):
    """One series an AssetToken."""

    tokens: Sequence[AssetToken]

    def collect(self) -> Iterator[Metric]:
        """Read their status, as it was when the cache was asked for them."""
        ready = _per_token("ready", "Whether a usable token for the present spec is in the Secret.")
        expiration = _per_token("expiration_timestamp_seconds", "When the token expires.")
        renewal = _per_token("renewal_timestamp_seconds", "When the token is to be renewed.")
        failed = _per_token("failed_attempts", "How many attempts to get a token have failed since the latest success.")
        suspended = _per_token("suspended", "Whether its spec says that nothing shall be requested.")
        granted = _per_token("scopes_granted", "Whether the token carries all that its spec asks for.")
        for token in self.tokens:
            labels = [token.key.namespace, token.key.name]
            status = token.status
            ready.add_metric(labels, status.is_true(ConditionType.READY))
            failed.add_metric(labels, status.failed_attempts or 0)
            suspended.add_metric(labels, token.spec.suspend)
            found = status.find(ConditionType.SCOPES_GRANTED)
            if found is not None:
                granted.add_metric(labels, found.is_true)
            for family, moment in ((expiration, status.expiration_time), (renewal, status.renewal_time)):
                if moment is not None:
                    family.add_metric(labels, moment.timestamp())
        yield from (ready, expiration, renewal, failed, suspended, granted)


@dataclass(frozen=True, slots=True, eq=False)
class OperatorMetrics(Collector):
    """The scopes, the budgets, the queues, the endpoints and who leads."""

    caches: Caches
    scopes: Scopes
    budgets: Budgets
    issuer: Issuer
    clocks: AssetClocks
    scheduler: Scheduler[Key]
    leads: Callable[[], bool]

    def collect(self) -> Iterator[Metric]:
        """Read the state."""
        yield GaugeMetricFamily(f"{PREFIX}_leader", "Whether this operator works, or stands by.", self.leads())
        waiting = self.scheduler.waiting()
        yield GaugeMetricFamily(f"{PREFIX}_queue_length", "AssetTokens that are due and have no worker yet.", waiting)
        followed = GaugeMetricFamily(
            f"{PREFIX}_scope_followed",
            "Whether a namespace, or with an empty one all, is served and its changes are seen.",
            labels=["namespace"],
        )
        for scope in self.scopes.names:
            followed.add_metric([scope], self.scopes.is_followed(scope))
        yield followed
        yield from self._of_environments()
        yield from self._of_tenants()

    def _of_environments(self) -> Iterator[Metric]:
        up = GaugeMetricFamily(f"{PREFIX}_endpoint_up", "Whether Asset's endpoint answers.", labels=["environment"])
        skew = GaugeMetricFamily(
            f"{PREFIX}_clock_skew_seconds", "How far Asset's clock is ahead of ours.", labels=["environment"]
        )
        refused = GaugeMetricFamily(
            f"{PREFIX}_credentials_refused", "Credentials in use that Asset refuses.", labels=["environment"]
        )
        refusals = self.issuer.refused(tokens(self.caches))
        for environment in Environment:
            up.add_metric([environment], not self.budgets.endpoint(environment).down)
            refused.add_metric([environment], refusals[environment])
            ahead = self.clocks.skew(environment)
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
        # Where the client_id of a Secret was changed the budget of the former is on its way out.
        states = {(state.tenant.environment, state.tenant.name): state for state in self.budgets.states()}
        for values, state in states.items():
            limit.add_metric(values, state.limit)
            left.add_metric(values, state.remaining)
            paused.add_metric(values, state.paused)
            queue.add_metric(values, state.queued)
            pauses.add_metric(values, state.pauses)
        yield from (limit, left, paused, queue, pauses)


@dataclass(frozen=True, slots=True, eq=False)
class _Collected(Collector):
    """What was collected already."""

    families: Sequence[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.families


async def render(metrics: Metrics, caches: Caches | None) -> bytes:
    """What a scrape gets: all metrics, and where caches are given those of each AssetToken.

    For 10,000 AssetTokens that is a second's work, so a thread does it: what it reads is not changed any more.
    """
    registry = CollectorRegistry()
    registry.register(_Collected(list(metrics.registry.collect())))
    if caches is not None:
        registry.register(TokenMetrics(list(tokens(caches))))
    return await asyncio.to_thread(generate_latest, registry)


async def sample(
    metrics: Metrics, caches: Caches, clocks: AssetClocks, clock: Clock, leads: Callable[[], bool]
) -> None:
    """Measure what no event tells of, every few seconds, until cancelled."""
    before = clock.elapsed()
    while True:
        await clock.sleep(SAMPLE_EVERY.total_seconds())
        now = clock.elapsed()
        metrics.lagged(now - before - SAMPLE_EVERY)
        if leads():
            metrics.served_expired(_served_expired(caches, clocks, clock.now(), now - before))
        before = now


def tokens(caches: Caches) -> Iterator[AssetToken]:
    """Each AssetToken in the cache that isn't being deleted."""
    for token in list(caches.asset_tokens()):
        if not token.deleting:
            yield token


def _served_expired(caches: Caches, clocks: AssetClocks, now: datetime, lasted: timedelta) -> timedelta:
    """For how long Secrets have held an expired token lately, over all that nobody has suspended."""
    served = timedelta()
    asset_now = {environment: now + (clocks.skews(environment).known or timedelta()) for environment in Environment}
    for token in tokens(caches):
        latest, expiration = asset_now[token.spec.environment], token.status.expiration_time
        if expiration is None or expiration > latest or token.spec.suspend:
            continue
        if caches.secret(token.secret_key) is not None:
            served += min(lasted, latest - expiration)
    return served


def _per_token(name: str, help_text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_token_{name}", help_text, labels=["namespace", "name"])
