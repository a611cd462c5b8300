"""The schedule of faults depends on its seed alone."""

import random

import pytest

from tests.faults.proxy import Call, Fault
from tests.faults.weather import OF_KUBERNETES, OF_WATCHES, Weather

WATCH = Call("GET", "/api/v1/secrets?watch=1", watch=True)
WRITE = Call("PATCH", "/api/v1/namespaces/shop/secrets/ledger-writer", watch=False)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def a_weather(seed: int, clock: Clock) -> Weather:
    return Weather(random.Random(seed), OF_KUBERNETES, 300, clock)


def chosen(weather: Weather, clock: Clock, call: Call) -> list[Fault | None]:
    """What is done to a call every half a second."""
    weather.begin()
    faults: list[Fault | None] = []
    for _ in range(620):
        faults.append(weather(call))
        clock.now += 0.5
    return faults


def test_the_same_seed_gives_the_same_schedule_and_another_seed_another() -> None:
    clock = Clock()
    assert a_weather(1, clock).episodes == a_weather(1, clock).episodes
    assert a_weather(1, clock).episodes != a_weather(2, clock).episodes


def test_the_same_calls_are_harmed_by_the_same_seed() -> None:
    runs = []
    for _ in range(2):
        clock = Clock()
        runs.append(chosen(a_weather(1, clock), clock, WATCH))
    assert runs[0] == runs[1]
    assert len({*runs[0]}) > 5


def test_episodes_follow_each_other_without_a_break() -> None:
    episodes = a_weather(1, Clock()).episodes
    assert episodes[0].begins == 0
    assert episodes[-1].ends == pytest.approx(303, abs=3)
    assert [episode.begins for episode in episodes[1:]] == [episode.ends for episode in episodes[:-1]]


def test_no_call_is_harmed_before_the_weather_begins_or_after_it_ends() -> None:
    clock = Clock()
    weather = a_weather(1, clock)
    assert weather(WRITE) is None
    weather.begin()
    clock.now += 306.1
    assert [weather(WRITE) for _ in range(100)] == [None] * 100


def test_what_only_a_watch_can_suffer_is_done_to_no_other_call() -> None:
    clock = Clock()
    harms = {fault.harm for fault in chosen(a_weather(1, clock), clock, WRITE) if fault}
    assert harms
    assert not harms & OF_WATCHES
    clock = Clock()
    assert OF_WATCHES & {fault.harm for fault in chosen(a_weather(1, clock), clock, WATCH) if fault}
