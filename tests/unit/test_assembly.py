import asyncio

import pytest
import yaml

from asset_token_operator.assembly import FINISH_SECONDS, FLUSH_SECONDS, until_stopped
from asset_token_operator.errors import NotLeadingError
from asset_token_operator.leadership import LET_GO, forever
from tests.conftest import DEPLOY


async def test_nothing_is_requested_any_more_when_the_operator_is_told_to_stop() -> None:
    stop = asyncio.Event()
    asks = until_stopped(forever, stop)
    assert asks() == forever()

    stop.set()
    with pytest.raises(NotLeadingError):
        asks()


def test_the_end_fits_into_what_the_deployment_grants() -> None:
    takes = FINISH_SECONDS + FLUSH_SECONDS + LET_GO.total_seconds()
    values = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())

    assert takes + 5 < values["terminationGracePeriodSeconds"]
