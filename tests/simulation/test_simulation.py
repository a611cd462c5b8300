"""The short form: twenty seeds of six hours. `make chaos` runs the long one."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import SHORT
from tests.simulation.runs import Order, run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("order", [pytest.param(order, id=f"seed {order.seed}") for order in SHORT])
def test_no_invariant_is_broken(order: Order) -> None:
    world = run(order)

    assert world.history.broken == [], f"again, with its history: {order.command()}"


def test_a_seed_has_the_same_history_in_every_process() -> None:
    command = [sys.executable, *Order(17, 3).command().split()[1:]]

    digests = {
        hashlib.sha256(subprocess.run(command, cwd=ROOT, env=environment, check=False, stdout=-1).stdout).hexdigest()
        for environment in (os.environ | {"PYTHONHASHSEED": "1"}, os.environ | {"PYTHONHASHSEED": "2"})
    }

    assert len(digests) == 1


def test_other_seeds_have_other_histories() -> None:
    assert run(Order(1, 1)).history.lines != run(Order(2, 1)).history.lines
