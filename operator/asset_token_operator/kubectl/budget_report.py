"""What the operator's metrics say of the tenants' budgets, where they can be reached."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asset_token_operator.kubectl.cluster import core_path, metadata
from asset_token_operator.kubectl.problems import NotFoundProblem, Problem, cause
from asset_token_operator.model import OPERATOR

if TYPE_CHECKING:
    from asset_token_operator.kubectl.cluster import Cluster

ANSWER_SECONDS: Final = 5
TRIES: Final = 10
"""Of two replicas the leader is among so many all but once in a thousand times."""

LEADER: Final = re.compile(r"^asset_token_operator_leader 1", re.MULTILINE)
SERVICE: Final = f"app.kubernetes.io/name={OPERATOR},app.kubernetes.io/component=metrics"
SAMPLE: Final = re.compile(r'asset_token_operator_budget_(\w+)\{environment="([a-z]+)",tenant="([^"]*)"\} ([0-9.e+]+)')


@dataclass(frozen=True, slots=True)
class TenantBudget:
    """A tenant's budget, as the operator's metrics have it."""

    environment: str
    tenant: str
    limit: int
    remaining: int
    paused: bool
    queued: int

    def sentence(self) -> str:
        """It, in words."""
        paused = ", paused after a 429" if self.paused else ""
        return f"{self.remaining} of {self.limit} requests left this minute, {self.queued} in the queue{paused}"


def read_metrics(cluster: Cluster, url: str | None, operator_namespace: str) -> str:
    """The operator's metrics: from a URL if one is given, else through the API server.

    Raises:
        Problem: They can't be reached.
    """
    if url is None:
        try:
            return _of_leader(cluster, operator_namespace, f"{OPERATOR}-metrics")
        except NotFoundProblem:
            return _of_another_name(cluster, operator_namespace)
    if not url.startswith(("http://", "https://")):
        raise Problem("--metrics-url must be a URL, such as http://127.0.0.1:8080/metrics.")
    import urllib.request  # noqa: PLC0415 - who gives no URL doesn't wait for it

    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - its scheme was looked at
            found: bytes = answer.read()
    except (OSError, ValueError) as error:
        raise Problem(
            f"The metrics can't be reached ({cause(error, 'the connection broke')}): check --metrics-url."
        ) from None
    return found.decode(errors="replace")


def _of_another_name(cluster: Cluster, namespace: str) -> str:
    """The metrics of a release of the chart that has another name: the Service is known by its labels."""
    found = cluster.all(core_path("services", namespace), SERVICE)
    if len(found) != 1:
        count = "no" if not found else "more than one"
        raise NotFoundProblem(f"there is {count} Service of metrics in {namespace} (--operator-namespace)")
    return _of_leader(cluster, namespace, str(metadata(found[0]).get("name")))


def _of_leader(cluster: Cluster, namespace: str, service: str) -> str:
    """What the leader says: a standby, which the API server asks as often, knows nothing of budgets."""
    path = f"{core_path('services', namespace, service)}:metrics/proxy/metrics"
    for _ in range(TRIES):
        said = cluster.text(path)
        if LEADER.search(said):
            break
    return said


def budgets(text: str) -> list[TenantBudget]:
    """The tenants' budgets in what was scraped."""
    found: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for name, environment, tenant, value in SAMPLE.findall(text):
        found[environment, tenant][name] = float(value)
    return [
        TenantBudget(
            environment,
            tenant,
            int(values.get("limit", 0)),
            int(values.get("remaining", 0)),
            bool(values.get("paused")),
            int(values.get("queue_length", 0)),
        )
        for (environment, tenant), values in sorted(found.items())
    ]
