"""What is logged of a Secret that was written says what it was for."""

from dataclasses import replace
from typing import Any

import pytest

from asset_token_operator.assess import assess
from asset_token_operator.model import AssetToken, DeletionPolicy, Key, SecretSpec
from asset_token_operator.narration import ISSUED, WRITTEN, Written, tell_written, why_written
from asset_token_operator.observed import Observed
from asset_token_operator.reasons import Reason
from asset_token_operator.status import Status
from tests.support.builders import NOW, a_secret, a_spec, an_asset_token

ENDPOINTS: dict[Any, str] = {}
OWN = a_secret(controller_uid="11111111-1111-1111-1111-111111111111")
REPORTED = an_asset_token(status={"observedGeneration": 1})
KEPT = an_asset_token(
    a_spec(secret=SecretSpec("ledger-writer-token", deletion_policy=DeletionPolicy.RETAIN)),
    status={"observedGeneration": 1},
)


def observed(owner: AssetToken = REPORTED, **changes: Any) -> Observed:
    return replace(Observed(owner, ENDPOINTS, secret=OWN), **changes)


@pytest.mark.parametrize(
    ("seen", "written"),
    [
        pytest.param(observed(is_unreported=True), Written.NEW_TOKEN, id="a token was issued"),
        pytest.param(observed(secret=None, is_unreported=True), Written.NEW_TOKEN, id="the first was"),
        pytest.param(
            observed(secret=None, old_secrets=(replace(OWN, key=Key("shop", "former")),)),
            Written.MOVED,
            id="another name",
        ),
        pytest.param(observed(secret=None), Written.GONE, id="it was deleted"),
        pytest.param(observed(secret=replace(OWN, controller_uid="2")), Written.TAKEN_OVER, id="of a younger one"),
        pytest.param(observed(secret=replace(OWN, controller_uid=None)), Written.TAKEN_UP, id="no owner"),
        pytest.param(
            observed(KEPT, secret=replace(OWN, controller_uid=None)), Written.DRIFT, id="no owner, as it is kept"
        ),
        pytest.param(observed(replace(REPORTED, generation=2)), Written.SPEC_CHANGED, id="another spec"),
        pytest.param(observed(replace(REPORTED, status=Status())), Written.DRIFT, id="drift after the status was lost"),
        pytest.param(observed(), Written.DRIFT, id="drift"),
    ],
)
def test_it_is_told_what_a_secret_was_written_for(seen: Observed, written: Written) -> None:
    assert why_written(assess(seen, NOW)) is written


def test_a_move_names_both_secrets() -> None:
    moved = observed(secret=None, old_secrets=(replace(OWN, key=Key("shop", "former")),))
    assert (
        tell_written(Written.MOVED, assess(moved, NOW))
        == "moved the token from Secret former to Secret ledger-writer-token"
    )


def test_each_has_its_words() -> None:
    assert WRITTEN.keys() == set(Written)
    assert ISSUED.keys() <= set(Reason)
