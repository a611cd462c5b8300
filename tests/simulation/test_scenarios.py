"""The histories that have names."""

import pytest

from tests.simulation.scenarios import SCENARIOS
from tests.simulation.stage import Scenario, play


@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=name) for name, scenario in SCENARIOS.items()])
def test_happens_as_it_was_decided(scenario: Scenario) -> None:
    play(scenario)
