"""Tables fit into narrow terminals, and nothing is cut there."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from rich.console import Console

from asset_token_operator.kubectl.screens import table
from asset_token_operator.kubectl.state import TokenState, read_state
from asset_token_operator.times import format_time

NOW: Final = datetime(2026, 11, 24, 7, tzinfo=UTC)


def a_state(name: str, **status: Any) -> TokenState:
    conditions = [
        {"type": "Ready", "status": "True", "reason": "SecretSynced"},
        {"type": "Issuing", "status": "True", "reason": "ClusterUnavailable", "message": "A webhook is silent."},
    ]
    given = {
        "conditions": conditions,
        "issuanceTime": format_time(NOW - timedelta(minutes=20)),
        "expirationTime": format_time(NOW + timedelta(minutes=40)),
        "renewalTime": format_time(NOW + timedelta(minutes=20)),
        "observedGeneration": 1,
    }
    metadata = {"namespace": "payments-production", "name": name, "generation": 1}
    spec = {"environment": "sandbox", "credentialsSecretRef": {"name": f"{name}-credentials"}}
    return read_state({"metadata": metadata, "spec": spec, "status": given | status}, NOW)


def lines(states: list[TokenState], width: int, **given: bool) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as captured:
        console.print(table(states, NOW, width, **given), crop=False)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 100, 200])
@pytest.mark.parametrize("wide", [False, True], ids=["short", "wide"])
@pytest.mark.parametrize("namespaces", [False, True], ids=["one namespace", "all"])
def test_nothing_is_cut(width: int, wide: bool, namespaces: bool) -> None:  # noqa: FBT001
    names = ["ledger-writer-of-the-shop", "payouts"]
    shown = lines([a_state(name) for name in names], width, namespaces=namespaces, wide=wide)
    for name in names:
        (line,) = [line.split() for line in shown if f"{name} " in line]
        assert {name, "40m", "20m", "ClusterUnavailable"} <= set(line)
        assert not wide or {"sandbox", f"{name}-credentials"} <= set(line)
    assert "…" not in "".join(shown)


def test_the_bar_goes_first_where_there_is_no_room() -> None:
    state = a_state("ledger-writer-of-the-shop")
    narrow, broad = (lines([state], width, namespaces=False, wide=False) for width in (80, 100))
    assert ("LIFE" in narrow[0], "LIFE" in broad[0]) == (False, True)
    assert max(map(len, narrow)) <= 80
    assert max(map(len, broad)) <= 100


def test_a_message_is_wrapped_within_its_column() -> None:
    conditions = [{"type": "Issuing", "status": "True", "reason": "ClusterUnavailable", "message": "word " * 40}]
    shown = lines([a_state("ledger", conditions=conditions)], 200, namespaces=False, wide=True)
    assert max(map(len, shown)) <= 200
    assert "".join(shown).count("word") == 40
    assert {line[:20] for line in shown[2:]} == {" " * 20}
