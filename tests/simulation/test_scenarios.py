"""The histories that have names."""

import pytest

from tests.simulation.scenarios import SCENARIOS, Scenario, play


def _row(name: str, scenario: Scenario) -> object:
    marks = [] if scenario.fails is None else [pytest.mark.xfail(strict=True, reason=scenario.fails)]
    return pytest.param(scenario, id=name, marks=marks)


@pytest.mark.parametrize("scenario", [_row(name, scenario) for name, scenario in SCENARIOS.items()])
def test_happens_as_it_was_decided(scenario: Scenario) -> None:
    play(scenario)
