"""What holds for a tenant's budget whenever it begins and however Asset counts: minutes of it, in simulated time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asset_token_operator.model import Key, Reserves, Urgency
from tests.support.asset_rules import RateLimit
from tests.support.limiter import OTHER_TENANT, TENANT, Limiter, Simulation, a_slot

if TYPE_CHECKING:
    from tests.support.asset_rules import LimitMode
    from tests.support.limiter import Rounding

assert settings.default is not None
few = settings(max_examples=max(6, settings.default.max_examples // 25))  # an example takes as long as twenty others

NEVER = datetime.min.replace(tzinfo=UTC)
"""When what isn't there expires."""

starts = st.floats(0, 60, exclude_max=True)
seeds = st.text(max_size=4)
roundings = st.sampled_from(("up", "down"))
modes = pytest.mark.parametrize("mode", [pytest.param("fixed", id="fixed"), pytest.param("sliding", id="sliding")])


def limiter(mode: LimitMode, rounding: Rounding = "up", *, is_silent: bool = False) -> Limiter:
    """300 a minute, strictly."""
    return Limiter(RateLimit(mode), rounding, is_silent)


@modes
@pytest.mark.parametrize(
    ("reserves", "urgency", "bound"),
    [
        pytest.param(Reserves(0, 0), Urgency.MISSING, 75, id="nothing-reserved"),
        pytest.param(Reserves(), Urgency.MISSING, 130, id="default-reserves"),
        pytest.param(Reserves(), Urgency.EXPIRING, 75, id="about-to-expire"),
    ],
)
@few
@given(start=starts, seed=seeds, rounding=roundings, latency=st.floats(0.005, 0.3))
def test_600_tokens_at_once_are_issued_without_one_429(  # noqa: PLR0917 - pytest and hypothesis name them
    mode: LimitMode,
    reserves: Reserves,
    urgency: Urgency,
    bound: float,
    start: float,
    seed: str,
    rounding: Rounding,
    latency: float,
) -> None:
    simulation = Simulation(reserves, limiter(mode, rounding), start, seed, latency)
    for number in range(600):
        simulation.add(a_slot(f"token-{number}", urgency=urgency))
    simulation.run(bound)
    assert simulation.refused[TENANT] == 0
    assert len(simulation.issued()) == simulation.requests() == 600


@pytest.mark.parametrize(
    ("mode", "window"),
    [
        ("fixed", 10),
        ("fixed", 60),
        ("fixed", 600),
        ("fixed", 3600),
        ("sliding", 60),
        ("sliding", 600),
        ("sliding", 3600),
    ],
)
@pytest.mark.parametrize("start", [0.0, 7.3, 51.0])
def test_routine_renewals_use_what_the_limit_leaves_them_whatever_its_window(
    mode: LimitMode, window: int, start: float
) -> None:
    rule = RateLimit(mode, per_tenant=300, per_business=300, window_seconds=window)
    simulation = Simulation(limiter=Limiter(rule), start=start)
    for number in range(1500):
        simulation.add(a_slot(f"token-{number:04}"))
    simulation.run(5 * window)
    lately = [moment for moment in simulation.issued() if 2 * window <= moment < 5 * window]
    assert len(lately) >= 0.85 * 3 * (300 - 60)
    assert simulation.refused[TENANT] == 0


@modes
@few
@given(start=starts, seed=seeds, rounding=roundings, latency=st.floats(0.005, 5))
def test_however_slow_asset_is_no_request_is_refused(
    mode: LimitMode, start: float, seed: str, rounding: Rounding, latency: float
) -> None:
    simulation = Simulation(Reserves(0, 0), limiter(mode, rounding), start, seed, latency)
    for number in range(600):
        simulation.add(a_slot(f"token-{number}", urgency=Urgency.MISSING))
    simulation.run(300)
    assert simulation.refused[TENANT] == 0
    assert simulation.requests() == len(simulation.issued()) == 600


@modes
@few
@given(start=starts, seed=seeds, rounding=roundings)
def test_another_program_never_sees_a_429_for_routine_renewals(
    mode: LimitMode, start: float, seed: str, rounding: Rounding
) -> None:
    simulation = Simulation(limiter=limiter(mode, rounding), start=start, seed=seed)
    program = simulation.add_program(TENANT, per_minute=200)
    for number in range(500):
        simulation.add(a_slot(f"token-{number}"))
    simulation.run(1800)
    assert program.refused == 0
    assert program.sent > 200
    assert simulation.refused[TENANT] == 0
    assert len(simulation.issued()) == simulation.requests() == 500


@modes
@few
@given(start=starts, seed=seeds, rounding=roundings)
def test_500_routine_renewals_are_500_requests_evenly_spaced(
    mode: LimitMode, start: float, seed: str, rounding: Rounding
) -> None:
    simulation = Simulation(limiter=limiter(mode, rounding), start=start, seed=seed)
    for number in range(500):
        simulation.add(a_slot(f"token-{number}"))
    simulation.run(135)
    issued = simulation.issued()
    assert len(issued) == simulation.requests() == 500
    assert simulation.refused[TENANT] == 0
    busiest = max(sum(moment <= other < moment + 10 for other in issued) for moment in issued)
    assert busiest <= 10 * 240 / 60 + 2


@modes
@pytest.mark.parametrize(
    "urgency", [pytest.param(Urgency.MISSING, id="missing"), pytest.param(Urgency.ROUTINE, id="routine")]
)
@few
@given(seed=seeds, start=starts, latency=st.floats(0.005, 0.5))
def test_without_headers_the_documented_limit_is_kept(
    mode: LimitMode, urgency: Urgency, seed: str, start: float, latency: float
) -> None:
    simulation = Simulation(Reserves(0, 0), limiter(mode, is_silent=True), start, seed, latency)
    for number in range(600):
        simulation.add(a_slot(f"token-{number}", urgency=urgency))
    simulation.run(150)
    assert simulation.refused[TENANT] == 0
    assert len(simulation.issued()) == simulation.requests() == 600


@modes
@pytest.mark.parametrize("spent", [pytest.param(0, id="queue"), pytest.param(300, id="pause")])
@few
@given(start=starts, seed=seeds)
def test_a_second_tenant_is_unaffected_by_the_first_ones(mode: LimitMode, spent: int, start: float, seed: str) -> None:
    simulation = Simulation(limiter=limiter(mode), start=start, seed=seed)
    for _ in range(spent):
        simulation.limiter.charge(TENANT, None, simulation.clock.now())
    for number in range(600):
        simulation.add(a_slot(f"token-{number}", urgency=Urgency.MISSING))
    others = [
        (simulation.add(a_slot(f"other-{number}", tenant=OTHER_TENANT), after), after)
        for number in range(20)
        for after in [1 + number / 2]
    ]
    simulation.run(15)
    assert len(simulation.issued()) < 600
    assert simulation.refused[TENANT] == (1 if spent else 0)
    waits = [token.issued_after - after for token, after in others if token.issued_after is not None]
    assert len(waits) == 20
    assert max(waits) < 0.5


@modes
@few
@given(start=starts, seed=seeds, after=st.floats(0, 100))
def test_what_is_about_to_expire_passes_a_queue_of_routine_renewals(
    mode: LimitMode, start: float, seed: str, after: float
) -> None:
    simulation = Simulation(limiter=limiter(mode), start=start, seed=seed)
    for number in range(500):
        simulation.add(a_slot(f"token-{number}"))
    urgent = simulation.add(a_slot("urgent", urgency=Urgency.EXPIRING), after)
    simulation.run(after + 0.5)
    assert urgent.issued_after is not None


@modes
@few
@given(start=starts, seed=seeds, after=st.floats(1, 60))
def test_the_first_token_of_a_tenant_is_next_whatever_another_namespace_guesses_for_its_client_id(
    mode: LimitMode, start: float, seed: str, after: float
) -> None:
    simulation = Simulation(limiter=limiter(mode), start=start, seed=seed)
    for number in range(1000):
        guess = Key("aaa", f"guess-{number}")
        simulation.add(a_slot(key=guess, urgency=Urgency.MISSING, expires_at=NEVER, is_accepted=False))
    first = simulation.add(a_slot("first", urgency=Urgency.MISSING, expires_at=NEVER, is_accepted=False), after)
    simulation.run(after + 62)  # a window: what the guesses have spent by then is gone
    assert first.issued_after is not None
    assert len(simulation.issued()) < 1000


@modes
@few
@given(start=starts, seed=seeds)
def test_until_the_first_answer_one_is_in_flight(mode: LimitMode, start: float, seed: str) -> None:
    simulation = Simulation(limiter=limiter(mode), start=start, seed=seed, latency=1.0)
    for number in range(20):
        simulation.add(a_slot(f"token-{number}", urgency=Urgency.EXPIRING))
    simulation.run(0.99)
    assert simulation.most_in_flight[TENANT] == simulation.requests() == 1
