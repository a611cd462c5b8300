"""The short form: twenty seeds of six hours. `make chaos` runs the long one.

Each run is made in a process where texts always have the same hash: the order of a set of them is chance, too, and a
seed shall be the same run for whoever has it again.
"""

import hashlib
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.simulation.runs import SHORT, Order, run, summary

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[ProcessPoolExecutor]:
    """A process with a hash seed of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONHASHSEED", "0")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            yield pool


@pytest.mark.parametrize("order", [pytest.param(order, id=f"seed {order.seed}") for order in SHORT])
def test_no_invariant_is_broken(order: Order, elsewhere: ProcessPoolExecutor) -> None:
    _, _, broken = elsewhere.submit(summary, order).result()

    assert broken == [], f"again, with its history: {order.command()}"


def test_a_seed_has_the_same_history_in_every_process() -> None:
    command = [sys.executable, *Order(17, 3).command().split()[1:]]

    digests = {
        hashlib.sha256(subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE).stdout).digest()
        for _ in range(2)
    }

    assert len(digests) == 1


def test_other_seeds_have_other_histories() -> None:
    assert run(Order(1, 1)).history.lines != run(Order(2, 1)).history.lines
