"""What `KubeClient` sends, where no API server is needed to see it; all else is in tests/cluster/test_kube.py."""

from datetime import timedelta
from typing import Any

from asset_token_operator.kube import KubeClient
from asset_token_operator.status import Status
from tests.support.builders import an_asset_token
from tests.support.fakes import drive


class Calls:
    """An API server that takes everything."""

    def __init__(self) -> None:
        self.body: Any = None

    async def call(self, *_: object, body: Any, **__: object) -> int:
        self.body = body
        return 1


def test_a_status_that_cannot_be_read_is_overwritten_whole() -> None:
    api = Calls()
    said = {"failedAttempts": 3, "lastFailureTime": "2016-12-31T23:59:60Z", "tokenId": "stale"}

    drive(KubeClient(api, timedelta).write_status(an_asset_token(status=said), Status(observed_generation=1)))  # type: ignore[arg-type]  # it is one class

    assert {name: api.body["status"].get(name, "kept") for name in said} == dict.fromkeys(said)
