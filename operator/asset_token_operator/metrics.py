"""What is counted and measured as it happens; what can be read from the state at scrape time is in `state_metrics.py`.

Every metric is described in docs/metrics.md, and none has a token, a credential or a client_id in its labels.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Info, disable_created_metrics

from asset_token_operator.model import OPERATOR, Environment

if TYPE_CHECKING:
    from datetime import timedelta

PREFIX: Final = "asset_token_operator"
ISSUED: Final = "issued"
"""The outcome of a request that brought a token; else it is the failure's reason."""

REQUEST_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
LATENESS_SECONDS: Final = (1, 5, 15, 60, 300, 900, 3600)
LIFETIME_SECONDS: Final = (0, 60, 300, 600, 1200, 1800, 3600, 7200, 21600, 86400)
LAG_SECONDS: Final = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 5)

disable_created_metrics()  # when a series began is of no use here


class Metrics:
    """The operator's metrics, and the registry that holds all of them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            f"{PREFIX}_token_requests",
            "Requests for tokens, by what they ended with.",
            ["environment", "outcome"],
            registry=self.registry,
        )
        for environment in Environment:
            self._requests.labels(environment, ISSUED)
        self._duration = Histogram(
            f"{PREFIX}_token_request_duration_seconds",
            "How long requests for tokens took, whatever they ended with.",
            ["environment"],
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )
        self._lateness = Histogram(
            f"{PREFIX}_renewal_lateness_seconds",
            "How long after its renewal time a renewed token was written.",
            buckets=LATENESS_SECONDS,
            registry=self.registry,
        )
        self._remaining = Histogram(
            f"{PREFIX}_renewal_remaining_lifetime_seconds",
            "How long the old token was still valid when its successor was written.",
            buckets=LIFETIME_SECONDS,
            registry=self.registry,
        )
        self._expired = Counter(
            f"{PREFIX}_expired_token_served_seconds",
            "Seconds in which a Secret held an expired token, added up over all Secrets.",
            registry=self.registry,
        )
        self._lag = Histogram(
            f"{PREFIX}_event_loop_lag_seconds",
            "How much later than it should the event loop got round to a timer.",
            buckets=LAG_SECONDS,
            registry=self.registry,
        )
        self._lost_events = Counter(
            f"{PREFIX}_events_lost",
            "Kubernetes events that couldn't be posted.",
            registry=self.registry,
        )
        self._reconcile_errors = Counter(
            f"{PREFIX}_reconcile_errors",
            "Reconciles that ended with an error that nobody expected: a defect of the operator.",
            registry=self.registry,
        )
        Info(f"{PREFIX}_build", "The operator.", registry=self.registry).info({"version": version(OPERATOR)})

    def requested(self, environment: Environment, outcome: str, took: timedelta) -> None:
        """A request ended, with a token (`ISSUED`) or with a failure's reason."""
        self._requests.labels(environment, outcome).inc()
        self._duration.labels(environment).observe(took.total_seconds())

    def renewed(self, late: timedelta, left: timedelta) -> None:
        """A token was written in place of one whose renewal was due, and which was valid for so much longer."""
        self._lateness.observe(max(0.0, late.total_seconds()))
        self._remaining.observe(max(0.0, left.total_seconds()))

    def served_expired(self, lasted: timedelta) -> None:
        """A Secret held an expired token for so long."""
        self._expired.inc(lasted.total_seconds())

    def lost_event(self) -> None:
        """A Kubernetes event couldn't be posted."""
        self._lost_events.inc()

    def reconcile_failed(self) -> None:
        """A reconcile ended with an error that nobody expected."""
        self._reconcile_errors.inc()

    def lagged(self, by: timedelta) -> None:
        """The event loop was late."""
        self._lag.observe(max(0.0, by.total_seconds()))
