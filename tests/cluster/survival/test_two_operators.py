"""Two operators without an election on one cluster: they may each request a token, but never fight over a Secret.

Somebody forgot the flag, or moves from one installation to another.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr

from asset_token_operator.model import token_fingerprint
from tests.cluster.survival.signs import (
    PATIENCE_SECONDS,
    harm_secret,
    secrets_written,
    wait_until_all_is_served,
    wait_until_repaired,
)
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OBSERVED, OperatorProcess
from tests.support.shop import Shop

NAMES: Final = [f"token-{number}" for number in range(24)]
QUIET_SECONDS: Final = 10
ANNOTATIONS: Final = "auth.getasset.com"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def two(
    shop: Shop, tmp_path: Path, operator_for: Callable[..., OperatorProcess]
) -> Iterator[tuple[OperatorProcess, OperatorProcess]]:
    """Both run, and both have had an answer from Asset, before which there is no more than one request at a time."""
    first = operator_for(shop, *OBSERVED)
    with ExitStack() as stack:
        second = stack.enter_context(first.another(tmp_path, environment={"POD_ID": "second"}))
        for each in (first, second):
            wait_until_all_is_served(each, PATIENCE_SECONDS)
        with _both_asking(shop, 1):
            shop.create("first-of-all")
        shop.wait_until_ready("first-of-all", PATIENCE_SECONDS)
        yield first, second


def test_two_that_are_issued_tokens_in_the_same_second_agree_on_the_greater_fingerprint(
    shop: Shop, controlplane: ControlPlane, two: tuple[OperatorProcess, OperatorProcess]
) -> None:
    with _both_asking(shop, len(NAMES)):
        _create_all(shop, NAMES)
    _wait_until_quiet(controlplane, shop)

    issued = _issued(shop)
    assert {len(issued[name]) for name in NAMES} == {2}
    assert _fought_over(controlplane, shop) == {}
    for name in NAMES:
        _assert_is_told_as_it_is(shop, name, revision=1)
    assert {name: _fingerprint(shop, name) for name in NAMES} == {
        name: max(token_fingerprint(SecretStr(token)) for token in issued[name]) for name in NAMES
    }
    for each in two:
        assert each.get("/healthz").status_code == 200
        assert [line for line in each.complaints() if line.startswith("ERROR")] == []


def test_two_that_are_asked_to_renew_agree_and_stop(
    shop: Shop, controlplane: ControlPlane, two: tuple[OperatorProcess, OperatorProcess]
) -> None:
    _create_all(shop, NAMES)
    _wait_until_quiet(controlplane, shop)
    _let_both_be_answered_again(shop)
    revisions, before, since = {name: _revision(shop, name) for name in NAMES}, _issued(shop), datetime.now(UTC)
    with _both_asking(shop, len(NAMES)):
        _ask_to_renew(shop, NAMES)
    _wait_until_quiet(controlplane, shop)

    issued = _issued(shop)
    assert {len(issued[name]) - len(before[name]) for name in NAMES} == {2}
    assert _fought_over(controlplane, shop, since) == {}
    for name in NAMES:
        assert shop.token(name)["status"]["lastHandledRenewRequest"] == "now"
        _assert_is_told_as_it_is(shop, name, revisions[name] + 1)
        assert _fingerprint(shop, name) == max(token_fingerprint(SecretStr(token)) for token in issued[name][-2:])


def test_one_that_was_frozen_while_the_other_renewed_takes_over_the_higher_revision(
    shop: Shop, controlplane: ControlPlane, two: tuple[OperatorProcess, OperatorProcess]
) -> None:
    names = NAMES[:5]
    _create_all(shop, names)
    _wait_until_quiet(controlplane, shop)
    first, _ = two
    revisions = {name: _revision(shop, name) for name in names}
    first.pause()
    try:
        _ask_to_renew(shop, names)
        for name in names:
            shop.wait_for_revision(name, revisions[name] + 1)
    finally:
        renewed, requests, since = {name: shop.data(name) for name in names}, shop.asset.arrived, datetime.now(UTC)
        first.resume()

    for name in names:
        harm_secret(shop, name)
    for name in names:
        wait_until_repaired(shop, name, 20)
    _wait_until_quiet(controlplane, shop)
    assert {name: shop.data(name) for name in names} == renewed
    assert shop.asset.arrived == requests
    assert _fought_over(controlplane, shop, since) == {}


@contextmanager
def _both_asking(shop: Shop, count: int) -> Iterator[None]:
    """What happens within this context makes both request so many tokens, and none is issued before all are asked for.

    So neither can have seen what the other was issued.
    """
    before = shop.asset.arrived
    with shop.asset.held():
        yield
        wait_until(lambda: shop.asset.arrived >= before + 2 * count, 12, "both have asked for all")


def _let_both_be_answered_again(shop: Shop) -> None:
    """A minute may have passed since the latest answer, and then there is no more than one request at a time again."""
    revision = _revision(shop, "first-of-all")
    with _both_asking(shop, 1):
        _ask_to_renew(shop, ["first-of-all"])
    shop.wait_for_revision("first-of-all", revision + 1)


def _create_all(shop: Shop, names: Sequence[str]) -> None:
    """Create them at once; each is known to Asset by its business."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: shop.create(name, businessId=name), names))


def _ask_to_renew(shop: Shop, names: Sequence[str]) -> None:
    change = {"metadata": {"annotations": {f"{ANNOTATIONS}/renew-requested-at": "now"}}}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: shop.cluster.api.patch(shop.path(f"assettokens/{name}"), change), names))


def _wait_until_quiet(controlplane: ControlPlane, shop: Shop) -> None:
    """Wait until all are ready and no Secret is written for a while, which begins now at the earliest."""
    for token in shop.tokens():
        shop.wait_until_ready(token["metadata"]["name"], PATIENCE_SECONDS)
    began = datetime.now(UTC)

    def is_quiet() -> bool:
        since = datetime.now(UTC) - timedelta(seconds=QUIET_SECONDS)
        return since > began and not secrets_written(controlplane, shop, since)

    wait_until(is_quiet, PATIENCE_SECONDS, "no Secret is written any more")


def _fought_over(controlplane: ControlPlane, shop: Shop, since: datetime | None = None) -> dict[str, int]:
    """The Secrets that were written more often than by each operator once, and once again by the one that is right."""
    writes = Counter(name for _, name in secrets_written(controlplane, shop, since))
    return {name: count for name, count in writes.items() if count > 3}


def _issued(shop: Shop) -> dict[str, list[str]]:
    """The tokens that were issued for each AssetToken."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for request in shop.asset.requests:
        found[str(request.business_id)].append(str(request.token))
    return found


def _annotation(shop: Shop, name: str, annotation: str) -> str:
    """What the operator has noted at a Secret."""
    found: str = (shop.secret(name) or {})["metadata"]["annotations"][f"{ANNOTATIONS}/{annotation}"]
    return found


def _fingerprint(shop: Shop, name: str) -> str:
    return _annotation(shop, name, "token-fingerprint")


def _revision(shop: Shop, name: str) -> int:
    return int(_annotation(shop, name, "revision"))


def _assert_is_told_as_it_is(shop: Shop, name: str, revision: int) -> None:
    """The Secret holds a good token of that revision, and the status is about that one."""
    status, data = shop.token(name)["status"], shop.data(name)
    claims = shop.asset.claims(data["access_token"])
    assert claims is not None
    assert shop.asset.accepts(data["access_token"])
    assert status["tokenId"] == claims["jti"]
    assert status["expirationTime"] == data["expires_at"]
    assert (status["revision"], _revision(shop, name)) == (revision, revision)
