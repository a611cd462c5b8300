import logging

import pytest

from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError, NotFoundError
from asset_token_operator.scopes import EVERYWHERE, Scopes, name_of

UNREACHABLE = KubeUnavailableError("no answer from the API server.")
FORBIDDEN = KubeRefusedError("the API server answered 403.", 403)
NO_CRD = NotFoundError("the cluster has no AssetTokens; install the CRD.", 404)


@pytest.fixture
def served() -> list[str]:
    """The scopes that were told to be served, in order."""
    return []


@pytest.fixture
def scopes(served: list[str]) -> Scopes:
    return Scopes(["shop", "bank"], served.append)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "asset_token_operator")
    return caplog


def know(scopes: Scopes, *names: str) -> None:
    """All that there is in these scopes is known."""
    for name in names:
        scopes.asset_tokens_known(name)
        scopes.secrets_known(name)


def said(log: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What was logged since it was asked last."""
    found = [(record.levelname, record.getMessage()) for record in log.records]
    log.clear()
    return found


def test_all_namespaces_are_one_scope_unless_some_are_named(scopes: Scopes) -> None:
    everywhere = Scopes([])

    assert (list(everywhere.names), list(scopes.names)) == ([EVERYWHERE], ["shop", "bank"])
    assert (everywhere.of("shop"), scopes.of("shop")) == (EVERYWHERE, "shop")
    assert (name_of(EVERYWHERE), name_of("shop")) == ("all namespaces", "namespace shop")


def test_a_scope_is_served_when_its_asset_tokens_and_its_secrets_are_known(scopes: Scopes, served: list[str]) -> None:
    scopes.secrets_known("shop")
    scopes.asset_tokens_known("bank")
    assert not scopes.serves("shop")
    assert not scopes.serves("bank")
    assert not scopes.is_ready()
    assert served == []

    scopes.asset_tokens_known("shop")
    assert scopes.serves("shop")
    assert not scopes.serves("bank")
    assert scopes.is_ready()
    assert served == ["shop"]

    scopes.secrets_known("bank")
    assert scopes.serves("bank")
    assert served == ["shop", "bank"]


def test_it_is_told_once_that_a_scope_is_served(scopes: Scopes, served: list[str]) -> None:
    for _ in range(3):
        know(scopes, "shop")

    assert served == ["shop"]


def test_a_scope_is_served_when_it_is_told_so() -> None:
    seen: list[bool] = []

    def told(scope: str) -> None:
        seen.append(everywhere.serves(scope))

    everywhere = Scopes([], told)
    know(everywhere, EVERYWHERE)

    assert seen == [True]


def test_what_is_not_known_yet_is_being_listed(scopes: Scopes) -> None:
    assert list(scopes.problems()) == [
        "namespace shop: being listed; the API server hasn't answered yet",
        "namespace bank: being listed; the API server hasn't answered yet",
    ]

    scopes.secrets_known("shop")
    know(scopes, "bank")
    assert list(scopes.problems()) == ["namespace shop: being listed; the API server hasn't answered yet"]

    scopes.asset_tokens_known("shop")
    assert list(scopes.problems()) == []


def test_why_it_cannot_be_followed_is_said_before_that_the_rest_is_being_listed(scopes: Scopes) -> None:
    scopes.secrets_lost("shop", FORBIDDEN)
    scopes.asset_tokens_lost("bank", UNREACHABLE)

    assert list(scopes.problems()) == [f"namespace shop: {FORBIDDEN}", f"namespace bank: {UNREACHABLE}"]


@pytest.mark.parametrize("error", [UNREACHABLE, FORBIDDEN], ids=["unreachable", "forbidden"])
def test_what_was_known_once_is_served_also_while_it_cannot_be_followed(
    scopes: Scopes, served: list[str], error: KubeError
) -> None:
    know(scopes, "shop")
    scopes.asset_tokens_lost("shop", error)
    scopes.secrets_lost("shop", error)

    assert scopes.serves("shop")
    assert scopes.is_ready()
    assert not scopes.is_followed("shop")
    assert scopes.problem("shop") == str(error)

    know(scopes, "shop")
    assert scopes.is_followed("shop")
    assert scopes.problem("shop") is None
    assert served == ["shop"], "it was all the time"


def test_one_that_cannot_be_followed_holds_up_no_other(scopes: Scopes, served: list[str]) -> None:
    scopes.asset_tokens_lost("shop", FORBIDDEN)
    know(scopes, "bank")

    assert served == ["bank"]
    assert scopes.is_ready()
    assert scopes.is_followed("bank")


def test_where_there_are_no_such_things_as_asset_tokens_nothing_is_served_until_there_are(
    scopes: Scopes, served: list[str]
) -> None:
    know(scopes, "shop", "bank")
    scopes.asset_tokens_lost("shop", NO_CRD)
    assert not scopes.serves("shop")
    assert scopes.serves("bank")

    scopes.asset_tokens_lost("shop", UNREACHABLE)
    assert not scopes.serves("shop")

    scopes.asset_tokens_known("shop")
    assert scopes.serves("shop")
    assert served == ["shop", "bank", "shop"]


def test_secrets_that_are_not_found_are_known_all_the_same(scopes: Scopes) -> None:
    """A namespace that is gone answers with an empty list; whatever else says 404 knows no better."""
    know(scopes, "shop")
    scopes.secrets_lost("shop", NO_CRD)

    assert scopes.serves("shop")


def test_a_refusal_is_said_once_for_each_scope_and_that_it_is_over(
    scopes: Scopes, log: pytest.LogCaptureFixture
) -> None:
    know(scopes, "shop", "bank")
    for _ in range(3):
        for scope in scopes.names:
            scopes.asset_tokens_lost(scope, FORBIDDEN)
        scopes.secrets_lost("shop", FORBIDDEN)
    assert said(log) == [
        ("WARNING", f"namespace shop: AssetTokens can't be followed: {FORBIDDEN}"),
        ("WARNING", f"namespace bank: AssetTokens can't be followed: {FORBIDDEN}"),
    ]

    for _ in range(3):
        know(scopes, "shop")
    assert said(log) == [
        ("INFO", "namespace shop: followed again"),
    ]

    scopes.asset_tokens_lost("shop", FORBIDDEN)
    assert said(log) == [], "rights that are changed are refused for a moment"
    scopes.asset_tokens_lost("shop", FORBIDDEN)
    assert len(said(log)) == 1, "it is another time"


def test_where_nothing_was_ever_heard_of_the_api_server_it_is_said_what_to_check(
    scopes: Scopes, log: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        scopes.secrets_lost("shop", UNREACHABLE)

    helps = "Check that it can be reached from here, and outside of a cluster KUBECONFIG."
    assert said(log) == [("WARNING", f"namespace shop: Secrets can't be followed: {UNREACHABLE} {helps}")]


def test_where_a_namespace_was_refused_from_the_start_it_may_not_exist(
    scopes: Scopes, log: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        scopes.secrets_lost("shop", FORBIDDEN)
        scopes.secrets_lost("bank", FORBIDDEN)

    helps = "Check that the namespace exists, too."
    assert said(log) == [
        ("WARNING", f"namespace {name}: Secrets can't be followed: {FORBIDDEN} {helps}") for name in ("shop", "bank")
    ]


def test_a_problem_of_another_reason_is_said_anew(scopes: Scopes, log: pytest.LogCaptureFixture) -> None:
    for error in (FORBIDDEN, FORBIDDEN, UNREACHABLE, UNREACHABLE, FORBIDDEN, FORBIDDEN):
        scopes.secrets_lost("shop", error)

    assert [level for level, _ in said(log)] == ["WARNING"] * 3


def test_a_watch_that_breaks_once_is_not_worth_a_word(scopes: Scopes, log: pytest.LogCaptureFixture) -> None:
    know(scopes, "shop")
    for _ in range(3):
        scopes.secrets_lost("shop", UNREACHABLE)
        assert scopes.problem("shop") == str(UNREACHABLE)
        know(scopes, "shop")

    assert said(log) == []


def test_that_the_api_server_cannot_be_reached_is_said_once_for_all(
    scopes: Scopes, log: pytest.LogCaptureFixture
) -> None:
    know(scopes, "shop", "bank")
    for _ in range(3):
        for scope in scopes.names:
            scopes.secrets_lost(scope, UNREACHABLE)
            scopes.asset_tokens_lost(scope, UNREACHABLE)

    assert said(log) == [("WARNING", f"namespace shop: Secrets can't be followed: {UNREACHABLE}")]
    assert list(scopes.problems()) == [f"namespace shop: {UNREACHABLE}", f"namespace bank: {UNREACHABLE}"]


def test_nothing_is_said_when_all_goes_well(scopes: Scopes, log: pytest.LogCaptureFixture) -> None:
    know(scopes, "shop", "bank", "shop")

    assert said(log) == []


def test_whoever_failed_may_try_again_when_a_scope_is_followed_again() -> None:
    followed: list[str] = []
    scopes = Scopes(["shop", "bank"], followed=followed.append)
    know(scopes, "shop", "bank")
    assert followed == []

    scopes.secrets_lost("shop", UNREACHABLE)
    scopes.asset_tokens_lost("bank", FORBIDDEN)
    scopes.secrets_known("shop")
    scopes.secrets_known("shop")
    scopes.secrets_known("bank")
    scopes.asset_tokens_known("bank")

    assert followed == ["shop", "bank"]
