"""Who may only view in one namespace: every verb works, or says which right is missing."""

import pytest

from asset_token_operator.kubectl.cli import VERBS
from tests.support.operator_process import OperatorProcess
from tests.support.plugin import Plugin
from tests.support.shop import Shop

LINES = {
    "status": ("status ledger", 0, ""),
    "watch": ("watch --interval=0.2", 0, ""),
    "inspect": ("inspect ledger", 4, "get secrets"),
    "history": ("history ledger", 0, ""),
    "events": ("events ledger", 0, ""),
    "plan": ("plan --hours=1", 0, ""),
    "doctor": ("doctor --no-asset", 0, ""),
    "create": ("create new --environment=sandbox --credentials=c", 4, "create assettokens"),
    "renew": ("renew ledger", 4, "patch assettokens"),
    "suspend": ("suspend ledger", 4, "patch assettokens"),
    "resume": ("resume --all", 0, ""),
}


@pytest.fixture
def operator_at_work(shop: Shop, operator: OperatorProcess) -> None:
    shop.put("ledger")
    shop.wait_until_ready("ledger")


def test_every_verb_works_or_names_the_right(shop: Shop, operator_at_work: None, viewer: Plugin) -> None:
    assert set(LINES) == set(VERBS)
    for verb, (line, code, right) in LINES.items():
        ended = viewer.screen(*line.split(), columns=200, interrupt_at="usable" if verb == "watch" else None)
        assert ended.code == code, (line, ended.output)
        assert "Traceback" not in ended.output
        if right:
            assert f"You lack the right to {right} in the namespace '{shop.namespace}'" in ended.output
