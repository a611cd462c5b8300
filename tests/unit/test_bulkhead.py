from datetime import timedelta

import pytest

from asset_token_operator.bulkhead import MOST_SLOW, SLOW, Bulkhead
from asset_token_operator.model import Key

START = timedelta()
MOST = 3


def keys(namespace: str, count: int, first: int = 0) -> list[Key]:
    return [Key(namespace, str(number)) for number in range(first, first + count)]


@pytest.fixture
def bulkhead() -> Bulkhead[Key]:
    return Bulkhead(lambda key: key.namespace, MOST)


def test_while_nothing_is_slow_all_may_run(bulkhead: Bulkhead[Key]) -> None:
    assert all(bulkhead.enter(key, START) for key in keys("shop", 50))
    assert bulkhead.find_slow(SLOW - timedelta(seconds=1)) == 0
    assert all(bulkhead.leave(key) == (False, None) for key in keys("shop", 50))


def test_what_is_slow_gives_its_place_away_once(bulkhead: Bulkhead[Key]) -> None:
    bulkhead.enter(Key("shop", "a"), START)

    assert [bulkhead.find_slow(SLOW), bulkhead.find_slow(2 * SLOW)] == [1, 0]
    assert bulkhead.leave(Key("shop", "a")) == (True, None)


def test_of_a_slow_group_only_some_run_at_once_and_the_next_when_one_ends(bulkhead: Bulkhead[Key]) -> None:
    first, second = keys("shop", MOST), keys("shop", 2, MOST)
    for key in first:
        bulkhead.enter(key, START)
    bulkhead.find_slow(SLOW)

    assert [bulkhead.enter(key, SLOW) for key in second] == [False, False]
    assert bulkhead.holds() == len(second)
    assert bulkhead.leave(first[0]) == (True, second[0])
    assert bulkhead.enter(second[0], SLOW)
    assert bulkhead.leave(second[0]) == (False, second[1])
    assert bulkhead.holds() == 0


def test_another_group_goes_on(bulkhead: Bulkhead[Key]) -> None:
    for key in keys("shop", MOST):
        bulkhead.enter(key, START)
    bulkhead.find_slow(SLOW)

    assert all(bulkhead.enter(key, SLOW) for key in keys("bank", 50))


def test_a_group_that_is_slow_no_more_runs_freely(bulkhead: Bulkhead[Key]) -> None:
    for key in keys("shop", MOST):
        bulkhead.enter(key, START)
    bulkhead.find_slow(SLOW)
    for key in keys("shop", MOST):
        bulkhead.leave(key)

    assert all(bulkhead.enter(key, SLOW) for key in keys("shop", 50))


def test_so_many_give_their_place_away_and_not_more(bulkhead: Bulkhead[Key]) -> None:
    for number in range(MOST_SLOW + 10):
        bulkhead.enter(Key(str(number), "a"), START)

    assert [bulkhead.find_slow(SLOW), bulkhead.find_slow(SLOW)] == [MOST_SLOW, 0]
    bulkhead.leave(Key("0", "a"))
    assert bulkhead.find_slow(SLOW) == 1


def test_what_is_held_is_released(bulkhead: Bulkhead[Key]) -> None:
    for key in keys("shop", MOST):
        bulkhead.enter(key, START)
    bulkhead.find_slow(SLOW)
    bulkhead.enter(Key("shop", "late"), SLOW)

    assert list(bulkhead.release()) == [Key("shop", "late")]
    assert bulkhead.holds() == 0
