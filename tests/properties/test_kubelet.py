"""The kubelet has shown each Pod the renewed token before the old one expires, by the settings that docs/pods.md names.

`make e2e-kubelet` measures that a kubelet keeps to what is computed here.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asset_token_operator.renewal import renewal_time
from tests.support.builders import NOW, a_spec, an_issued_token

GUIDE: Final = Path(__file__).parents[2] / "docs" / "pods.md"
ROW: Final = r"^\| `(\w+)`.*? \| (\d+) s.*? \| (\d+) s \| (\d+) s \| (\d+) min \|$"
JITTER: Final = 1.5
"""The kubelet syncs a Pod after its `syncFrequency` times 1 to 1.5 (`workerResyncIntervalJitterFactor`)."""
LOOPS: Final = timedelta(seconds=2)
"""What its own loops add: one looks each second for Pods that are due, another ten times a second for their volumes."""
LONGEST_LIFETIME: Final = timedelta(days=365)
SHORTEST_SUPPORTED: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Kubelet:
    """A row of the guide.

    Attributes:
        cached: How old what it knows of a Secret may be when it syncs a Pod.
        said: How long it needs at most, by the guide.
        enough: From which lifetime the default window is longer, by the guide.
    """

    strategy: str
    sync: timedelta
    cached: timedelta
    said: timedelta
    enough: timedelta

    def needs(self) -> timedelta:
        """From a Secret's write until every Pod's volume has it, at most."""
        return self.sync * JITTER + self.cached + LOOPS


def rows() -> list[Kubelet]:
    def row(strategy: str, *numbers: str) -> Kubelet:
        sync, cached, said = (timedelta(seconds=int(number)) for number in numbers[:-1])
        return Kubelet(strategy, sync, cached, said, timedelta(minutes=int(numbers[-1])))

    return [row(*found) for found in re.findall(ROW, GUIDE.read_text(), re.MULTILINE)]


KUBELETS: Final = [pytest.param(row, id=f"{row.strategy} {row.cached.seconds} s") for row in rows()]


def test_all_strategies_are_in_the_guide_and_the_defaults_come_first() -> None:
    assert {row.strategy for row in rows()} == {"Watch", "Get", "Cache"}
    assert (rows()[0].strategy, rows()[0].sync) == ("Watch", timedelta(minutes=1))


@pytest.mark.parametrize("kubelet", KUBELETS)
def test_the_guide_says_what_a_kubelet_needs_and_the_least_lifetime_in_minutes(kubelet: Kubelet) -> None:
    assert kubelet.said == kubelet.needs()
    assert (kubelet.enough - timedelta(minutes=1)) / 3 <= kubelet.needs() < kubelet.enough / 3


@pytest.mark.parametrize("kubelet", KUBELETS)
@given(data=st.data(), seed=st.text(), revision=st.integers(1, 10**6))
def test_the_default_window_is_longer_than_the_kubelet_needs(
    kubelet: Kubelet, data: st.DataObject, seed: str, revision: int
) -> None:
    lifetime = data.draw(st.timedeltas(kubelet.enough, LONGEST_LIFETIME).map(whole_seconds))
    token = an_issued_token(issued_at=NOW, expires_at=NOW + lifetime, revision=revision)

    assert token.expires_at - renewal_time(token, a_spec(), seed) > kubelet.needs()


def test_ten_minutes_are_enough_for_default_settings_and_the_cache_of_up_to_1800_nodes() -> None:
    small = [row for row in rows() if row.cached <= timedelta(minutes=1)]

    assert len(small) == 3
    assert all(row.enough <= SHORTEST_SUPPORTED for row in small)


def whole_seconds(duration: timedelta) -> timedelta:
    return timedelta(seconds=int(duration.total_seconds()))
