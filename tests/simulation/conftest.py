"""Lets pytest explain the assertions of scenarios."""

import pytest

pytest.register_assert_rewrite("tests.simulation.scenarios", "tests.simulation.stage")
