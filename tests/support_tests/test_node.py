import os
import sys

import pytest

from tests.node.figures import percentile
from tests.support import node


def test_what_is_missing_is_named_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(node, "PACKAGES", {"sh": "dash", "no-such-program": "one-package", "nor-this": "one-package"})

    assert node.missing() == "First: apt-get install --no-install-recommends one-package"


def test_nothing_is_missing_where_all_programs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(node, "PACKAGES", {"sh": "dash"})

    assert node.missing() == ""


def test_a_user_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    assert "needs root" in node.missing()


def test_another_system_than_linux_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    assert "needs Linux" in node.missing()


@pytest.mark.parametrize(
    ("count", "percent", "expected"),
    [
        pytest.param(1, 99, 1, id="the only one"),
        pytest.param(100, 50, 50, id="half of a hundred"),
        pytest.param(100, 99, 99, id="all but one of a hundred"),
        pytest.param(101, 99, 100, id="all but one of a hundred and one"),
        pytest.param(10, 99, 10, id="the greatest of a few"),
    ],
)
def test_a_percentile_is_the_least_value_that_so_many_are_not_above(count: int, percent: int, expected: int) -> None:
    assert percentile(list(range(count, 0, -1)), percent) == expected
