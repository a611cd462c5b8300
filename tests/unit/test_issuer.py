import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from traceback import walk_tb
from typing import Any, Final

import pytest
from pydantic import SecretStr

from asset_token_operator.answers import Reply
from asset_token_operator.assess import assess
from asset_token_operator.attempts import Attempts
from asset_token_operator.decision import RequestToken
from asset_token_operator.errors import (
    AssetUnavailableError,
    BrokenAnswerError,
    CredentialsInvalidError,
    KubeUnavailableError,
)
from asset_token_operator.manifests import stored_token
from asset_token_operator.model import (
    AssetToken,
    Credentials,
    CredentialsRef,
    Environment,
    IssuedToken,
    Key,
    SecretSpec,
)
from asset_token_operator.observed import Observed, SlotState
from asset_token_operator.reasons import Reason
from asset_token_operator.renewal import renewal_time
from tests.support.builders import CREDENTIALS, NOW, a_jwt, a_refusal, a_reply, a_spec, an_asset_token, an_issued_token
from tests.support.builders import observed as seen_of
from tests.support.fakes import CREDENTIALS_KEY, World, drive

SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)

COPY: Final = Key("shop", "copy")
OTHER: Final = Key("shop", "other")
OTHERS: Final = Credentials(SecretStr("other-client"), SecretStr("canary-other-secret"))
CORRECTED: Final = Credentials(SecretStr("client"), SecretStr("canary-corrected-secret"))

INVALID_CLIENT: Final = a_refusal(401, "invalid_client")
UNREACHABLE: Final = KubeUnavailableError("no answer from the API server.")
TIMEOUT: Final = AssetUnavailableError("Asset did not answer within 15 s.")


@pytest.fixture
def world() -> World:
    return World()


def a_token(name: str, credentials: str = "asset-credentials", **changes: Any) -> AssetToken:
    """An AssetToken of that name, with a Secret of its own."""
    spec = a_spec(secret=SecretSpec(f"{name}-token"), credentials=CredentialsRef(credentials), **changes)
    return an_asset_token(spec, key=Key("shop", name), uid=name)


def add(world: World, *tokens: AssetToken) -> None:
    for token in tokens:
        world.add(token)


def reconcile(world: World, *tokens: AssetToken) -> None:
    for token in tokens:
        world.reconcile(token)


def observe(world: World, token: AssetToken | None = None) -> Observed:
    """What is known of an AssetToken's credentials, endpoint and clock."""
    world.sync()
    return look(world, seen_of(token or an_asset_token()))


def look(world: World, seen: Observed) -> Observed:
    """The same, before the watches tell of what is there now."""
    return drive(world.issuer.read_credentials(world.issuer.observe(seen)))


def acquires(world: World, seen: Observed) -> bool:
    """Whether a request may be sent now."""
    return world.issuer.acquire_slot(assess(seen, world.clock.now())).slot is SlotState.GRANTED


def in_flight(world: World) -> list[Key]:
    """Who holds a slot in any tenant's budget."""
    accounts = world.budgets._accounts.values()  # noqa: SLF001 - they are shown nowhere else
    return [key for account in accounts for key in account.in_flight]


def failed(world: World) -> set[Key]:
    """Those whose failures count against the endpoint."""
    return set(world.budgets.endpoint(Environment.SANDBOX).failed)


def reason(world: World, token: AssetToken) -> str:
    conditions = world.kube.asset_tokens[token.key].status.conditions or ()
    return next(found.reason for found in conditions if found.type == "Issuing")


# The credentials


def test_credentials_are_read_once_for_each_version_of_their_secret(world: World) -> None:
    world.add()
    for _ in range(3):
        assert observe(world).credentials == CREDENTIALS
    assert world.calls() == ["read_credentials"]

    world.kube.put_credentials(CORRECTED)
    for _ in range(3):
        assert observe(world).credentials == CORRECTED
    assert world.calls() == ["read_credentials"]


def test_credentials_are_read_once_for_all_asset_tokens_that_use_them(world: World) -> None:
    add(world, a_token("a"), a_token("b"))

    reconcile(world, a_token("a"), a_token("b"))

    assert world.calls().count("read_credentials") == 1


def test_other_keys_of_the_same_secret_are_other_credentials(world: World) -> None:
    other = an_asset_token(a_spec(credentials=CredentialsRef("asset-credentials", client_id_key="id")))
    observe(world)

    observe(world, other)

    assert world.calls() == ["read_credentials"] * 2


def test_credentials_of_the_same_name_in_another_namespace_are_others(world: World) -> None:
    world.kube.put_credentials(OTHERS, Key("bank", "asset-credentials"))

    assert observe(world).credentials == CREDENTIALS
    assert observe(world, an_asset_token(key=Key("bank", "ledger-writer"))).credentials == OTHERS


def test_credentials_that_cannot_be_used_are_read_once_for_each_version_too(world: World) -> None:
    world.kube.faults.fail("read_credentials", CredentialsInvalidError("no key"))

    for _ in range(3):
        assert observe(world).credentials is None

    assert world.calls() == ["read_credentials"]


def test_credentials_that_are_not_there_are_looked_for_each_time(world: World) -> None:
    world.kube.credentials.clear()
    assert observe(world).credentials is None

    world.kube.credentials[CREDENTIALS_KEY] = CREDENTIALS
    assert look(world, seen_of()).credentials == CREDENTIALS, "also before the watch tells of them"


def test_credentials_that_came_back_are_read_again(world: World) -> None:
    observe(world)
    world.kube.credentials.clear()
    assert observe(world).credentials is None
    world.kube.put_credentials(CORRECTED)

    assert observe(world).credentials == CORRECTED


def test_credentials_that_could_not_be_read_for_a_moment_are_not_remembered_as_such(world: World) -> None:
    world.kube.faults.fail("read_credentials", UNREACHABLE, times=1)
    with pytest.raises(KubeUnavailableError):
        observe(world)

    assert observe(world).credentials == CREDENTIALS


def test_rotated_credentials_renew_the_token_at_once_and_only_once(world: World) -> None:
    world.add()
    world.reconcile()
    world.kube.put_credentials(CORRECTED)

    for _ in range(3):
        world.reconcile()

    assert len(world.asset.requests) == 2
    secret = world.secret()
    assert secret is not None
    token = stored_token(secret)
    assert token is not None
    assert token.reason == Reason.CREDENTIALS_CHANGED


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
def test_credentials_that_are_only_applied_again_request_nothing(world: World, *, restart: bool) -> None:
    world.add()
    world.reconcile()
    world.kube.put_credentials()
    if restart:
        world.restart()

    world.reconcile()

    assert len(world.asset.requests) == 1


def test_credentials_that_were_rotated_while_the_operator_was_away_renew_the_token(world: World) -> None:
    world.add()
    world.reconcile()
    world.kube.put_credentials(CORRECTED)
    world.restart()

    world.reconcile()

    assert len(world.asset.requests) == 2


# Credentials that Asset doesn't accept


def test_invalid_client_parks_all_asset_tokens_with_the_same_credentials_also_in_other_secrets(world: World) -> None:
    world.kube.put_credentials(CREDENTIALS, COPY)
    tokens = [a_token("a"), a_token("b"), a_token("c", COPY.name)]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT)

    reconcile(world, *tokens, *tokens)

    assert len(world.asset.requests) == 1
    for token in tokens:
        assert reason(world, token) == "InvalidClient"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(a_token("other", OTHER.name), id="other credentials"),
        pytest.param(a_token("other", environment=Environment.PRODUCTION), id="the same in the other environment"),
    ],
)
def test_parked_credentials_hold_up_no_others(world: World, other: AssetToken) -> None:
    world.kube.put_credentials(OTHERS, OTHER)
    add(world, a_token("a"), other)
    world.asset.faults.fail("request_token", INVALID_CLIENT, times=1)

    reconcile(world, a_token("a"), other)

    assert reason(world, a_token("a")) == "InvalidClient"
    assert reason(world, other) == "SecretSynced"


def test_corrected_credentials_are_used_at_once_and_those_in_other_secrets_stay_parked(world: World) -> None:
    world.kube.put_credentials(CREDENTIALS, COPY)
    a, b, c = tokens = [a_token("a"), a_token("b"), a_token("c", COPY.name)]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT, times=1)
    reconcile(world, *tokens)

    world.kube.put_credentials(CORRECTED)
    reconcile(world, *tokens)

    assert len(world.asset.requests) == 3
    assert [reason(world, token) for token in (a, b, c)] == ["SecretSynced", "SecretSynced", "InvalidClient"]


def test_parked_credentials_are_tried_again_slowly_by_one_request_for_all(world: World) -> None:
    tokens = [a_token(name) for name in "abcde"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    reconcile(world, *tokens)

    for _ in range(60):
        world.pass_time(MINUTE)
        reconcile(world, *tokens)

    assert len(world.asset.requests) - 1 == 7, "after 1, 2, 4, 8, 15, 15 and 15 minutes"


def test_parked_credentials_that_are_accepted_again_let_all_go_that_they_held_up(world: World) -> None:
    tokens = [a_token(name) for name in "abcde"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    reconcile(world, *tokens)
    world.asset.faults.mend()
    world.pass_time(MINUTE)

    reconcile(world, tokens[3])

    assert reason(world, tokens[3]) == "SecretSynced"
    assert set(world.woken) == {token.key for token in tokens} - {tokens[3].key}


def test_a_renew_request_tries_parked_credentials_at_once_and_once(world: World) -> None:
    a, b = tokens = [a_token(name) for name in "ab"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    reconcile(world, *tokens)
    assert len(world.asset.requests) == 1

    world.kube.put_token(replace(world.kube.asset_tokens[b.key], renew_request="now"))
    for _ in range(3):
        reconcile(world, a, b)

    assert len(world.asset.requests) == 2


def test_while_one_probes_parked_credentials_the_others_wait_for_what_comes_of_it(world: World) -> None:
    a, b = tokens = [a_token(name) for name in "ab"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    reconcile(world, a, b)
    world.pass_time(MINUTE)
    asked = len(world.asset.requests)
    meanwhile: list[Any] = []
    world.asset.before_request = lambda *_: meanwhile.append(None if meanwhile else world.reconcile(b, sync=False))

    world.reconcile(a, sync=False)

    assert meanwhile[0] is not None
    assert meanwhile[0] > world.clock.now()
    assert len(world.asset.requests) == asked + 1


def test_a_probe_that_nobody_answers_is_none_but_credentials_that_were_accepted_meanwhile_stay_so(world: World) -> None:
    a, b = tokens = [a_token(name) for name in "ab"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    reconcile(world, a, b)
    world.pass_time(MINUTE)
    parked = observe(world, b).parked

    def is_accepted(*_: object) -> None:
        world.asset.before_request = lambda *_: None
        world.asset.faults.mend()
        world.kube.put_token(replace(world.kube.asset_tokens[b.key], renew_request="now"))
        world.pass_time(3 * SECOND)  # until then nobody else asks
        reconcile(world, b)
        world.asset.faults.fail("request_token", a_refusal(503))

    world.asset.faults.mend()
    world.asset.faults.fail("request_token", a_refusal(503), times=1)
    world.reconcile(a, sync=False)
    assert observe(world, b).parked == parked
    world.pass_time(MINUTE)
    world.asset.before_request = is_accepted
    world.reconcile(a, sync=False)

    assert reason(world, b) == "SecretSynced"
    assert observe(world, a).parked == Attempts()


def test_parked_credentials_that_asset_accepts_again_are_parked_no_more(world: World) -> None:
    add(world, a_token("a"), a_token("b"))
    world.asset.faults.fail("request_token", INVALID_CLIENT, times=1)
    reconcile(world, a_token("a"), a_token("b"))
    assert observe(world, a_token("b")).parked.failures == 1

    world.pass_time(20 * MINUTE)
    reconcile(world, a_token("a"))

    assert observe(world, a_token("b")).parked == Attempts()
    reconcile(world, a_token("b"))
    assert reason(world, a_token("b")) == "SecretSynced"


def test_another_refusal_means_that_the_credentials_are_accepted_after_all_or_says_nothing_of_them(
    world: World,
) -> None:
    add(world, a_token("a"), a_token("b"))
    world.asset.faults.fail("request_token", a_refusal(400, "invalid_scope"), times=1)

    reconcile(world, a_token("a"), a_token("b"))

    assert reason(world, a_token("a")) == "InvalidScope"
    assert reason(world, a_token("b")) == "SecretSynced"


def test_no_credential_shows_in_what_is_kept_or_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.add()
    world.asset.faults.fail("request_token", INVALID_CLIENT, times=1)
    with caplog.at_level(logging.DEBUG):
        world.reconcile()

    kept = vars(world.issuer)
    assert kept["_parked"]
    assert "canary" not in repr({name: value for name, value in kept.items() if name.startswith("_")})
    assert "no token: " in caplog.text
    assert "canary" not in caplog.text


# The slot in the tenant's budget


def cancelled(*_: object) -> None:
    raise asyncio.CancelledError


def crashed(*_: object) -> None:
    raise RuntimeError("boom")


OUTCOMES: Final = [
    pytest.param(None, False, id="a token"),
    pytest.param(a_refusal(400, "invalid_request"), False, id="400"),
    pytest.param(INVALID_CLIENT, False, id="401"),
    pytest.param(a_reply(403, {"detail": "Forbidden"}), False, id="403"),
    pytest.param(a_refusal(403), True, id="403 of something in front"),
    pytest.param(a_refusal(404), True, id="404"),
    pytest.param(a_refusal(408), True, id="408"),
    pytest.param(a_refusal(429), False, id="429"),
    pytest.param(a_refusal(500), True, id="500"),
    pytest.param(a_refusal(503), True, id="503"),
    pytest.param(a_reply(200, {}), False, id="an answer without a token"),
    pytest.param(BrokenAnswerError("Asset's answer is too long."), False, id="an answer without an end"),
    pytest.param(TIMEOUT, True, id="no answer"),
]


@pytest.mark.parametrize(("fault", "of_the_endpoint"), OUTCOMES)
def test_the_place_is_given_back_and_only_what_is_no_answer_counts_against_the_endpoint(
    world: World, fault: Reply | Exception | None, *, of_the_endpoint: bool
) -> None:
    world.add()
    if fault is not None:
        world.asset.faults.fail("request_token", fault)

    world.reconcile()

    assert len(world.asset.requests) == 1
    assert in_flight(world) == []
    assert failed(world) == ({an_asset_token().key} if of_the_endpoint else set())


@pytest.mark.parametrize(
    ("happens", "error"),
    [pytest.param(cancelled, asyncio.CancelledError, id="cancelled"), pytest.param(crashed, RuntimeError, id="crash")],
)
def test_the_place_is_given_back_when_the_request_is_cut_off(
    world: World, happens: Callable[[object, object], None], error: type[BaseException]
) -> None:
    world.add()
    world.asset.before_request = happens

    with pytest.raises(error):
        world.reconcile()

    assert in_flight(world) == []
    assert failed(world) == set()


def test_the_place_is_given_back_when_the_secret_cannot_be_read_before_the_request(world: World) -> None:
    """Whoever keeps it sends later by a budget that has long been another."""
    world.add()
    world.kube.faults.fail("read_secret", UNREACHABLE)

    world.reconcile()

    assert world.asset.requests == []
    assert in_flight(world) == []


@pytest.mark.parametrize(
    "go",
    [
        pytest.param(lambda world: world.kube.asset_tokens.clear(), id="it is gone"),
        pytest.param(lambda world: world.kube.put_token(replace(world.token(), deleting=True)), id="it is going"),
    ],
)
def test_the_place_of_an_asset_token_that_goes_is_given_back(world: World, go: Callable[[World], object]) -> None:
    world.add()
    seen = observe(world)
    assert acquires(world, seen)
    assert in_flight(world) == [an_asset_token().key]
    go(world)

    world.reconcile()

    assert in_flight(world) == []


def test_a_place_is_taken_only_once(world: World) -> None:
    seen = observe(world)

    for _ in range(3):
        assert acquires(world, seen)

    assert in_flight(world) == [an_asset_token().key]


def test_no_place_is_taken_where_there_is_nothing_to_send(world: World) -> None:
    world.kube.credentials.clear()

    assert acquires(world, observe(world))

    assert in_flight(world) == []


def test_until_the_first_answer_only_one_request_of_a_tenant_is_sent(world: World) -> None:
    assert acquires(world, observe(world, a_token("a")))

    assert not acquires(world, observe(world, a_token("b")))
    world.issuer.withdraw(a_token("a").key)

    world.serve()
    assert world.woken == [a_token("b").key]


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param(None, id="nothing more"),
        pytest.param(an_issued_token(expires_at=NOW + SECOND), id="a token that is about to expire, proved by them"),
    ],
)
def test_who_makes_many_with_wrong_secrets_for_a_known_client_id_holds_up_none_whose_credentials_are_accepted(
    world: World, forged: IssuedToken | None
) -> None:
    add(world, a_token("z-first"))
    reconcile(world, a_token("z-first"))
    world.kube.put_credentials(replace(CREDENTIALS, client_secret=SecretStr("wrong")), Key("aaa", "asset-credentials"))
    guess = an_asset_token(key=Key("aaa", "guess"), uid="guess")
    reset = str(int(world.clock.now().timestamp()) + 20)
    world.asset.headers = {"x_ratelimit_limit": "300", "x_ratelimit_remaining": "0", "x_ratelimit_reset": reset}
    add(world, a_token("last"))
    reconcile(world, a_token("last"))
    assert not acquires(world, replace(observe(world, guess), last_issued=forged))
    assert not acquires(world, observe(world, a_token("z-next")))

    (account,) = world.budgets._accounts.values()  # noqa: SLF001 - its queue is shown nowhere else
    assert [slot.key.name for slot in account.queue.waiting] == ["z-next", "guess"]


@pytest.mark.parametrize(
    ("status", "code", "turn"),
    [
        pytest.param(200, None, 0, id="a token"),
        pytest.param(429, None, 1, id="429"),
        pytest.param(422, None, 1, id="422"),
        pytest.param(400, "invalid_scope", 1, id="400"),
        pytest.param(302, None, 1, id="302"),
    ],
)
def test_only_a_token_shows_that_asset_accepts_credentials(
    world: World, status: int, code: str | None, turn: int
) -> None:
    add(world, a_token("first"), a_token("second"), a_token("waits"))
    world.sync()
    assert acquires(world, observe(world, a_token("first")))
    assert not acquires(world, observe(world, a_token("waits")))
    nothing_left = {"x_ratelimit_limit": "300", "x_ratelimit_remaining": "0"}
    world.asset.headers = nothing_left | {"x_ratelimit_reset": str(int(world.clock.now().timestamp()) + 20)}
    if status != 200:
        world.asset.faults.fail("request_token", a_refusal(status, code, **world.asset.headers), times=1)
    reconcile(world, a_token("first"))
    assert not acquires(world, observe(world, a_token("second")))

    (account,) = world.budgets._accounts.values()  # noqa: SLF001 - its queue is shown nowhere else
    turns = {slot.key.name: min(slot.turn, 1) for slot in account.queue.waiting}
    assert (turns["waits"], turns["second"]) == (turn, turn)


def test_credentials_that_are_gone_since_the_place_was_taken_give_it_back(world: World) -> None:
    world.add()
    world.sync()
    seen = observe(world)
    acquires(world, seen)
    world.kube.credentials.clear()

    world.reconcile()

    assert world.conditions()["Issuing"] == ("True", "CredentialsNotFound")
    assert in_flight(world) == []


def test_a_token_that_was_issued_is_kept_though_the_credentials_cannot_be_read_again_afterwards(world: World) -> None:
    """They were applied anew while Asset answered, and just then the API server went away."""
    world.add()

    def apply_again(*_: object) -> None:
        world.kube.put_credentials()
        world.sync()
        world.kube.faults.fail("read_credentials", UNREACHABLE)

    world.asset.before_request = apply_again
    world.reconcile()
    world.asset.before_request = lambda *_: None
    world.kube.faults.mend()
    world.pass_time(5 * SECOND)

    world.reconcile()

    assert len(world.asset.requests) == 1
    assert world.conditions()["Ready"] == ("True", "SecretSynced")


# The endpoint


def test_an_endpoint_at_which_three_asset_tokens_fail_is_down_and_comes_up_with_an_answer(world: World) -> None:
    tokens = [a_token(name) for name in "abc"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", a_refusal(503))
    for token in tokens:
        world.reconcile(token)
        world.pass_time(5 * SECOND)

    seen = observe(world, tokens[0])
    assert seen.endpoint_down
    assert seen.endpoint_up_since is None

    world.asset.faults.mend()
    world.pass_time(MINUTE)
    reconcile(world, tokens[0])
    seen = observe(world, tokens[0])
    assert not seen.endpoint_down
    assert seen.endpoint_up_since == world.clock.now()


def test_a_down_endpoint_says_nothing_of_the_other_environment(world: World) -> None:
    tokens = [a_token(name) for name in "abc"]
    add(world, *tokens)
    world.asset.faults.fail("request_token", TIMEOUT)
    for token in tokens:
        world.reconcile(token)
        world.pass_time(5 * SECOND)

    assert not observe(world, a_token("d", environment=Environment.PRODUCTION)).endpoint_down


# What nobody uses is forgotten


def remembered(world: World) -> list[object]:
    """All that is remembered of credentials and tenants."""
    issuer, budgets = world.issuer, world.budgets
    credentials = issuer._credentials  # noqa: SLF001 - nobody else sees what is kept
    kept = (credentials._read, credentials._reading, issuer._parked, budgets._accounts, budgets._businesses)  # noqa: SLF001
    return [item for mapping in kept for item in mapping]


def test_credentials_and_tenants_that_come_and_go_leave_nothing(world: World) -> None:
    world.asset.faults.fail("request_token", INVALID_CLIENT, 10)
    for number in range(20):
        key, token = Key("shop", f"credentials-{number}"), a_token("a", f"credentials-{number}", business_id="biz_a")
        world.kube.put_credentials(Credentials(SecretStr(f"client-{number}"), SecretStr("canary")), key)
        add(world, token)
        reconcile(world, token)
        del world.kube.asset_tokens[token.key]
        reconcile(world, token)
        world.issuer.forget_unused()

    assert remembered(world) == []


def test_rotated_credentials_are_forgotten_and_those_in_use_are_not(world: World) -> None:
    world.asset.faults.fail("request_token", INVALID_CLIENT, 1)
    world.add()
    world.reconcile()
    world.kube.put_credentials(OTHERS)
    world.reconcile()
    world.issuer.forget_unused()

    assert OTHERS.client_id.get_secret_value() in world.asset.clients
    assert len(remembered(world)) == 3, "read, its lock, and the budget"
    assert len(world.asset.requests) == 2
    world.reconcile()
    assert len(world.asset.requests) == 2


def test_a_tenant_is_shown_by_its_credentials_secret(world: World) -> None:
    world.add()
    world.reconcile()

    (state,) = world.budgets.states()
    assert str(state.tenant) == "sandbox/shop/asset-credentials"
    assert state.tenant.client not in repr(state)


# Asset's clock


def skew(world: World, **changes: Any) -> timedelta | None:
    return observe(world, an_asset_token(a_spec(**changes))).skews.proved


def test_nothing_is_known_of_assets_clock_before_its_first_answer(world: World) -> None:
    assert skew(world) is None


def test_an_answer_without_a_date_says_nothing_of_assets_clock(world: World) -> None:
    world.asset.skew = None
    world.add()
    world.reconcile()

    assert skew(world) is None


@pytest.mark.parametrize(
    ("ahead", "seen"),
    [
        pytest.param(timedelta(0), timedelta(0), id="none"),
        pytest.param(SECOND, timedelta(0), id="a second ahead"),
        pytest.param(-SECOND, timedelta(0), id="a second behind"),
        pytest.param(-2 * SECOND, timedelta(0), id="two seconds behind"),
        pytest.param(MINUTE, MINUTE, id="a minute ahead"),
        pytest.param(-HOUR, -HOUR, id="an hour behind"),
    ],
)
def test_the_skew_comes_from_date_and_a_small_one_is_none(world: World, ahead: timedelta, seen: timedelta) -> None:
    world.asset.skew = ahead
    world.add()
    world.reconcile()

    found = skew(world)
    assert found is not None
    assert abs(found - seen) <= (SECOND if seen else timedelta(0))


@pytest.mark.parametrize("fault", [INVALID_CLIENT, a_reply(200, {})], ids=["401", "broken"])
def test_the_skew_comes_from_answers_without_a_token_too(world: World, fault: Reply) -> None:
    world.asset.skew = 10 * MINUTE
    world.asset.faults.fail("request_token", fault)
    world.add()
    world.reconcile()

    assert skew(world) is None, "what brings no token proves nothing"
    found = observe(world).skews.said
    assert found is not None
    assert abs(found - 10 * MINUTE) <= SECOND


def test_what_stands_in_front_of_asset_tells_nothing_of_its_clock(world: World) -> None:
    world.asset.skew = -5 * HOUR
    world.asset.faults.fail("request_token", a_refusal(503))
    world.add()
    world.reconcile()

    assert skew(world) is None


def test_after_a_token_no_answer_without_one_tells_of_asset_s_clock(world: World) -> None:
    world.add()
    world.reconcile()
    world.asset.skew = -5 * HOUR
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    world.pass_time(50 * MINUTE)
    world.reconcile()

    assert len(world.asset.requests) == 2
    assert skew(world) == timedelta()


@pytest.mark.parametrize("by", [-5 * HOUR, 5 * HOUR], ids=["back", "ahead"])
def test_a_clock_that_is_set_while_a_request_is_in_flight_changes_nothing(world: World, by: timedelta) -> None:
    """Also for the next operator, which only knows what the Secret says of Asset's clock."""

    def set_clock(*_: object) -> None:
        world.clock.jump(by)
        world.asset.skew = -by
        world.asset.before_request = lambda *_: None

    world.clocks.cluster_says(NOW)
    world.asset.before_request = set_clock
    world.add()
    due = world.reconcile()
    assert due == NOW + by + (renewal_time(an_issued_token(), a_spec(), an_asset_token().uid) - NOW)
    world.restart()
    world.clocks.cluster_says(NOW)

    assert world.reconcile() == due
    assert len(world.asset.requests) == 1


def test_a_date_without_a_token_is_held_against_the_api_server_s(world: World) -> None:
    world.clocks.cluster_says(NOW)
    world.asset.skew = -5 * HOUR
    world.asset.faults.fail("request_token", INVALID_CLIENT)
    world.add()
    world.reconcile()

    assert skew(world) is None


def jwt_world(issued_at: timedelta = timedelta(), **claims: timedelta) -> World:
    """Asset issues a JWT of an hour."""
    world = World()
    times = {"iat": issued_at, "exp": issued_at + HOUR} | claims
    moments = {name: (world.clock.now() + offset).timestamp() for name, offset in times.items()}
    world.asset.access_token = a_jwt({name: int(moment) for name, moment in moments.items()})
    world.asset.expires_in = None
    return world


@pytest.mark.parametrize("ahead", [-5 * HOUR, -10 * MINUTE, 2 * HOUR], ids=str)
def test_a_date_that_is_wrong_neither_delays_a_token_nor_lets_it_be_served_after_its_end(
    caplog: pytest.LogCaptureFixture, ahead: timedelta
) -> None:
    world = jwt_world(nbf=timedelta())
    world.asset.skew = ahead
    world.add()
    again = world.reconcile()

    assert world.conditions()["Ready"][0] == "True"
    assert again == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid)
    world.asset.faults.fail("request_token", a_refusal(503))
    world.pass_time(HOUR)
    world.reconcile()
    assert world.conditions()["Ready"][0] == "False"
    assert caplog.text.count("say in Date is not believed") == 1


def test_a_token_whose_iat_is_ahead_is_written_at_once() -> None:
    world = jwt_world(2 * MINUTE)
    world.add()
    world.reconcile()

    assert world.conditions()["Ready"][0] == "True"


def test_a_renewal_whose_token_works_later_says_so_and_is_written_then() -> None:
    world = jwt_world()
    world.add()
    world.reconcile()
    world.pass_time(50 * MINUTE)
    now = world.clock.now().timestamp()
    world.asset.access_token = a_jwt({"iat": now, "nbf": now + 1200, "exp": now + 3600})

    assert world.reconcile() == NOW + HOUR
    assert world.conditions()["Issuing"][:2] == ("True", "NotYetValid")
    assert world.conditions()["Ready"][0] == "True"
    world.pass_time(10 * MINUTE)
    assert world.reconcile() == NOW + 70 * MINUTE
    assert world.conditions()["Ready"] == ("False", "NotYetValid")
    world.pass_time(10 * MINUTE)
    world.reconcile()
    assert world.conditions()["Ready"][0] == "True"
    assert len(world.asset.requests) == 2


def test_a_token_that_was_issued_while_our_clock_was_ahead_is_replaced_by_its_renewal() -> None:
    world = World()
    drive(world.clock.set(NOW + HOUR))
    world.asset.skew = None
    world.asset.access_token, world.asset.expires_in = (
        a_jwt({"iat": NOW.timestamp(), "exp": (NOW + HOUR).timestamp()}),
        None,
    )
    world.add()
    world.reconcile()
    drive(world.clock.set(NOW))
    world.pass_time(38 * MINUTE)
    renewed = a_jwt({"iat": (NOW + 38 * MINUTE).timestamp(), "exp": (NOW + 98 * MINUTE).timestamp()})
    world.asset.access_token = renewed
    again = world.reconcile()
    assert again is not None
    assert again < NOW + HOUR
    world.pass_time(5 * MINUTE)
    world.reconcile()

    assert len(world.asset.requests) == 2
    secret = world.secret()
    assert secret is not None
    held = stored_token(secret)
    assert held is not None
    assert held.access_token == SecretStr(renewed)


def test_a_skew_that_somebody_edits_lets_no_token_expire_unseen(restarted: World) -> None:
    secret = restarted.secret()
    assert secret is not None
    edited = dict(secret.annotations) | {"auth.getasset.com/clock-skew-seconds": "-300000000"}
    restarted.kube.put_secret(replace(secret, annotations=edited))
    restarted.restart()

    assert restarted.reconcile() == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid)


def test_before_asset_s_first_word_the_api_server_s_clock_shows_that_ours_was_wrong(world: World) -> None:
    """The token was issued by a machine whose clock was an hour ahead."""
    drive(world.clock.set(NOW + HOUR))
    world.clocks.cluster_says(NOW)
    world.asset.skew = -HOUR
    world.add()
    world.reconcile()
    drive(world.clock.set(NOW))
    world.restart()
    world.clocks.cluster_says(NOW)

    assert world.reconcile() == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid)


@pytest.mark.parametrize("asset", [-10 * MINUTE, timedelta(), 10 * MINUTE], ids=["behind", "right", "ahead"])
@pytest.mark.parametrize("machine", [-20 * MINUTE, timedelta(), 20 * MINUTE], ids=["behind", "right", "ahead"])
def test_a_restart_on_a_machine_with_another_clock_requests_nothing_whatever_asset_s_clock_says(
    asset: timedelta, machine: timedelta
) -> None:
    world = World()
    world.asset.skew = asset
    world.clocks.cluster_says(NOW)
    world.add()
    world.reconcile()
    drive(world.clock.set(NOW + machine))
    world.restart()
    world.clocks.cluster_says(NOW)

    again = world.reconcile()

    assert len(world.asset.requests) == 1
    assert again is not None
    assert abs(again - machine - renewal_time(an_issued_token(), a_spec(), an_asset_token().uid)) <= SECOND


@pytest.mark.parametrize("by", [HOUR, -HOUR, 10 * SECOND], ids=["ahead", "back", "a little ahead"])
def test_assets_clock_is_kept_when_ours_is_set(world: World, by: timedelta) -> None:
    world.add()
    world.reconcile()
    drive(world.clock.set(NOW + by))

    found = skew(world)
    assert found is not None
    assert abs(found + by) <= SECOND


def test_assets_clock_goes_on_while_time_passes_and_the_machine_is_suspended(world: World) -> None:
    world.add()
    world.reconcile()
    world.pass_time(HOUR)
    drive(world.clock.suspend(10 * HOUR))

    assert skew(world) == timedelta(0)


def test_a_clock_that_was_set_renews_a_token_when_asset_would_have_it_and_not_by_the_wrong_clock(world: World) -> None:
    world.add()
    world.reconcile()
    drive(world.clock.set(NOW + 10 * HOUR))

    again = world.reconcile()

    assert len(world.asset.requests) == 1
    renews = renewal_time(an_issued_token(), a_spec(), an_asset_token().uid) + 10 * HOUR
    assert again is not None
    assert abs(again - renews) <= SECOND


@pytest.fixture
def restarted(world: World) -> World:
    """An operator that found a token, and hasn't asked Asset for any."""
    world.add()
    world.reconcile()
    world.restart()
    return world


def test_a_clock_that_is_set_back_after_a_restart_makes_no_renewal_late(restarted: World) -> None:
    drive(restarted.clock.set(NOW - HOUR))

    again = restarted.reconcile()

    assert again == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid) - HOUR
    assert len(restarted.asset.requests) == 1


def test_a_clock_that_was_behind_at_the_start_and_is_set_right_makes_no_renewal_late(world: World) -> None:
    world.add()
    world.reconcile()
    drive(world.clock.set(NOW - HOUR))
    world.restart()
    drive(world.clock.set(NOW))

    assert world.reconcile() == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid)
    assert len(world.asset.requests) == 1


def test_a_clock_that_is_set_forward_after_a_restart_renews_a_token_rather_early_than_late(restarted: World) -> None:
    """It may have been behind before, so the token may be due. The answer tells."""
    drive(restarted.clock.set(NOW + HOUR))
    restarted.asset.skew = -HOUR

    restarted.reconcile()

    assert len(restarted.asset.requests) == 2
    assert restarted.conditions()["Ready"][0] == "True"


def test_an_answer_that_tells_no_time_and_brings_no_token_changes_nothing(restarted: World) -> None:
    """Some box between us and Asset answers."""
    drive(restarted.clock.set(NOW - HOUR))
    restarted.asset.skew = None
    restarted.asset.faults.fail("request_token", a_refusal(503))
    other = restarted.add(
        an_asset_token(a_spec(secret=SecretSpec("another")), key=Key("shop", "another"), uid="another")
    )
    restarted.reconcile(other)

    assert len(restarted.asset.requests) == 2
    assert restarted.reconcile() == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid) - HOUR


def test_a_token_whose_answer_told_no_time_is_renewed_by_our_clock_as_it_was_then(world: World) -> None:
    world.asset.skew = None
    drive(world.clock.set(NOW - HOUR))
    world.add()

    again = world.reconcile()

    assert len(world.asset.requests) == 1
    assert again == renewal_time(an_issued_token(), a_spec(), an_asset_token().uid) - HOUR


def test_each_environment_has_a_clock_of_its_own(world: World) -> None:
    world.asset.skew = MINUTE
    world.add()
    world.reconcile()

    assert skew(world, environment=Environment.PRODUCTION) is None


async def test_a_probe_of_an_endpoint_that_is_down_is_no_attempt_of_its_own(world: World) -> None:
    token = world.add()
    world.sync()
    world.asset.faults.fail("request_token", AssetUnavailableError("Asset could not be reached."))
    seen = await world.issuer.read_credentials(world.issuer.observe(seen_of(token)))
    seen = replace(seen, requests=Attempts("before", (NOW,)))
    request = RequestToken(Reason.DOES_NOT_EXIST)

    assert acquires(world, seen)
    own = await world.issuer.request(assess(seen, NOW), request)
    assert acquires(world, seen)
    down = replace(seen, endpoint_down=True, requests=own.requests)
    probe = await world.issuer.request(assess(down, NOW), request)

    assert own.requests.times == (NOW, NOW), "a new cause counts, whatever came of it"
    assert probe.requests.times == own.requests.times
    assert probe.requests.failures == 2


# What is logged of it


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the lines say besides their text, as JSON has it."""
    names = ("outcome", "reason", "seconds", "token_id", "expires_at")
    return [
        {name: getattr(line, name) for name in names if hasattr(line, name)}
        for line in caplog.records
        if line.name == "asset_token_operator.issuer"
    ]


def test_each_request_is_a_line_with_its_outcome(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world.add()
    world.asset.before_request = lambda *_: world.pass_time(2 * SECOND)
    world.reconcile()
    world.pass_time(HOUR)
    world.asset.faults.fail("request_token", TIMEOUT, times=1)
    world.reconcile()
    world.pass_time(MINUTE)
    world.reconcile()

    issued, failed, renewed = told(caplog)
    assert (issued["outcome"], issued["reason"], issued["seconds"]) == ("issued", "FirstToken", 2)
    assert failed == {"outcome": "failed", "reason": "AssetUnavailable", "seconds": 2}
    assert (renewed["outcome"], renewed["reason"]) == ("renewed", "Expired")
    assert renewed["token_id"] == world.token().status.token_id
    assert renewed["expires_at"] == world.token().status.to_json()["expirationTime"]
    assert "canary" not in caplog.text


def test_credentials_that_stay_invalid_keep_nothing_of_the_attempts_made_with_them(world: World) -> None:
    world.add()
    error = CredentialsInvalidError("Credentials Secret asset-credentials has no key client_id.")
    world.kube.faults.fail("read_credentials", error)
    for _ in range(20):
        world.reconcile()
        world.pass_time(16 * MINUTE)

    assert len(list(walk_tb(error.__traceback__))) < 10
