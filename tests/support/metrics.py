"""What an operator's metrics say, as Prometheus reads them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from asset_token_operator.caches import Caches
from asset_token_operator.scheduler import Scheduler
from asset_token_operator.state_metrics import OperatorMetrics, render
from tests.support.clock import ManualClock
from tests.support.fakes import World

if TYPE_CHECKING:
    from asset_token_operator.model import Key

PREFIX: Final = "asset_token_operator_"


async def scrape(world: World, caches: Caches | None = None) -> dict[str, float]:
    """What the world's metrics say; with those of each AssetToken in `caches`."""
    scheduler: Scheduler[Key] = Scheduler(ManualClock(), 1)
    operator = OperatorMetrics(
        world.caches, world.scopes, world.budgets, world.issuer, world.clocks, scheduler, lambda: True
    )
    world.metrics.registry.register(operator)
    try:
        return read((await render(world.metrics, caches)).decode())
    finally:
        world.metrics.registry.unregister(operator)


def read(text: str) -> dict[str, float]:
    """The value of each series, by its name without the prefix and its labels as PromQL writes them."""
    return {
        _series(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def described(text: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    """The name, the type and the labels of each metric that has a value."""
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        if family.samples:
            yield name, family.type, frozenset(label for label in family.samples[0].labels if label != "le")


def _series(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return name.removeprefix(PREFIX) + (f"{{{inner}}}" if inner else "")
