import logging
import re
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asset_token_operator.__main__ import main
from asset_token_operator.config import Settings
from asset_token_operator.logs import CHATTY, configure_logging
from asset_token_operator.model import Reserves
from tests.support.api_server import a_kubeconfig, forget_settings

RUNNER = CliRunner()
VARIABLES = {
    "--namespace": "ASSET_TOKEN_OPERATOR_NAMESPACE",
    "--selector": "ASSET_TOKEN_OPERATOR_SELECTOR",
    "--sandbox-url": "ASSET_TOKEN_OPERATOR_SANDBOX_URL",
    "--production-url": "ASSET_TOKEN_OPERATOR_PRODUCTION_URL",
    "--renewal-reserve": "ASSET_TOKEN_OPERATOR_RENEWAL_RESERVE",
    "--issue-reserve": "ASSET_TOKEN_OPERATOR_ISSUE_RESERVE",
    "--ca-file": "ASSET_TOKEN_OPERATOR_CA_FILE",
    "--leader-elect": "ASSET_TOKEN_OPERATOR_LEADER_ELECT",
    "--lease-name": "ASSET_TOKEN_OPERATOR_LEASE_NAME",
    "--lease-namespace": "ASSET_TOKEN_OPERATOR_LEASE_NAMESPACE",
    "--health-address": "ASSET_TOKEN_OPERATOR_HEALTH_ADDRESS",
    "--metrics-address": "ASSET_TOKEN_OPERATOR_METRICS_ADDRESS",
    "--token-metrics": "ASSET_TOKEN_OPERATOR_TOKEN_METRICS",
    "--log-format": "ASSET_TOKEN_OPERATOR_LOG_FORMAT",
    "--log-level": "ASSET_TOKEN_OPERATOR_LOG_LEVEL",
}
"""Every option of `run`, and its environment variable."""


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting and no cluster of the machine that runs the tests gets in."""
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)
    forget_settings(monkeypatch)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """Loggers are as they were after each test."""
    before = {name: logging.getLogger(name).level for name in (*CHATTY, None)}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def invoke(*arguments: str) -> Result:
    return RUNNER.invoke(main, arguments, prog_name="asset-token-operator")


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_help_names_the_command() -> None:
    result = invoke("--help")

    assert result.exit_code == 0
    assert "Keeps a valid Asset API token in a Secret for every AssetToken." in result.output
    assert re.search(r"^  run ", result.output, re.MULTILINE)


@pytest.mark.parametrize("option", list(VARIABLES))
def test_help_of_run_names_every_option_and_its_variable(option: str) -> None:
    result = invoke("run", "--help")

    assert result.exit_code == 0
    assert option in result.output
    assert VARIABLES[option] in result.output


def test_every_option_of_run_has_its_environment_variable() -> None:
    options = [option for option in main.commands["run"].params if option.name != "help"]

    assert {option.opts[0]: option.envvar for option in options} == VARIABLES


@pytest.mark.parametrize(
    ("option", "default"), [("--renewal-reserve", 20), ("--issue-reserve", 10)], ids=["renewal", "issue"]
)
def test_a_reserve_is_a_fifth_for_renewals_and_a_tenth_for_first_issues(option: str, default: int) -> None:
    found = next(parameter for parameter in main.commands["run"].params if option in parameter.opts)

    assert found.default == default
    assert "PERCENT" in invoke("run", "--help").output


@pytest.mark.parametrize("option", ["--renewal-reserve", "--issue-reserve"])
@pytest.mark.parametrize("value", ["-1", "91", "0.2", "20%", "much"])
def test_a_reserve_that_is_no_percentage_up_to_90_is_refused(option: str, value: str) -> None:
    result = invoke("run", option, value)

    assert result.exit_code == 2
    assert f"{option}: '{value}' is not a whole number from 0 to 90." in result.output


@pytest.mark.parametrize("value", ["0", "35", "90"])
def test_reserves_reach_the_operator_from_the_command_line_and_the_environment(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    got: list[Settings] = []

    async def serve(settings: Settings) -> None:
        got.append(settings)

    monkeypatch.setattr("asset_token_operator.assembly.serve", serve)
    monkeypatch.setenv("ASSET_TOKEN_OPERATOR_ISSUE_RESERVE", value)

    result = invoke("run", "--renewal-reserve", value)

    assert result.exit_code == 0
    assert [settings.reserves for settings in got] == [Reserves(int(value) / 100, int(value) / 100)]


def test_lease_name_and_selector_reach_the_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Settings] = []

    async def serve(settings: Settings) -> None:
        got.append(settings)

    monkeypatch.setattr("asset_token_operator.assembly.serve", serve)

    assert invoke("run").exit_code == 0
    assert invoke("run", "--lease-name", "tokens", "--selector", "team=ledger").exit_code == 0

    assert [(settings.lease_name, settings.selector) for settings in got] == [
        ("asset-token-operator", None),
        ("tokens", "team=ledger"),
    ]


def test_a_bad_selector_ends_it_with_a_sentence() -> None:
    result = invoke("run", "--selector", "team is ledger")

    assert result.exit_code == 2
    assert "--selector: 'team is ledger' is not a label selector, such as team=ledger" in one_line(result.output)
    assert "Traceback" not in result.output


def test_sigterm_ends_it_before_anything_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(settings: Settings) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("asset_token_operator.assembly.serve", serve)

    with pytest.raises(SystemExit) as ended:
        main(["run"])

    assert ended.value.code is None


def test_version_is_that_of_the_distribution() -> None:
    result = invoke("--version")

    assert result.exit_code == 0
    assert re.fullmatch(r"asset-token-operator, version \d+\.\d+\.\d+\n", result.output)


def test_all_bad_settings_are_reported_together() -> None:
    result = invoke("run", "--namespace", "Shop", "--namespace", "shop", "--sandbox-url", "http://example.com")

    assert result.exit_code == 2
    assert "--namespace: 'Shop' is not a namespace's name; use lower-case letters, digits and '-'." in result.output
    assert "--sandbox-url: would send credentials in the clear" in one_line(result.output)
    assert "Traceback" not in result.output


def test_all_of_any_kind_are_reported_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASSET_TOKEN_OPERATOR_LEADER_ELECT", "maybe")
    monkeypatch.setenv("ASSET_TOKEN_OPERATOR_LOG_FORMAT", "xml")

    result = invoke("run", "--log-level=loud", "--issue-reserve=0.2", "--namespace=A_B", f"--ca-file={tmp_path}/none")

    assert result.exit_code == 2
    for line in (
        "--leader-elect: 'maybe' is neither true nor false.",
        "--log-format: 'xml' is not one of 'text', 'json'.",
        "--log-level: 'loud' is not one of 'debug', 'info', 'warning', 'error'.",
        "--issue-reserve: '0.2' is not a whole number from 0 to 90.",
        "--namespace: 'A_B' is not a namespace's name; use lower-case letters, digits and '-'.",
        f"--ca-file: {tmp_path}/none can't be read: file not found.",
    ):
        assert line in result.output


@pytest.mark.parametrize("level", ["INFO", "Info", "info"])
def test_levels_and_formats_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    got: list[Settings] = []

    async def serve(settings: Settings) -> None:
        got.append(settings)

    monkeypatch.setattr("asset_token_operator.assembly.serve", serve)

    assert invoke("run", "--log-level", level, "--log-format", "JSON").exit_code == 0
    assert [(settings.log_level, settings.log_format) for settings in got] == [("info", "json")]


def test_bad_settings_in_the_environment_are_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSET_TOKEN_OPERATOR_NAMESPACE", "shop A_B")
    monkeypatch.setenv("ASSET_TOKEN_OPERATOR_PRODUCTION_URL", "https://user:canary@example.com")

    result = invoke("run")

    assert result.exit_code == 2
    assert "'A_B'" in result.output
    assert "--production-url: must not have a user or password in it." in result.output
    assert "canary" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("run", "--log-level", "loud"), id="unknown level"),
        pytest.param(("run", "--nonsense"), id="unknown option"),
        pytest.param(("nonsense",), id="unknown command"),
    ],
)
def test_what_is_not_understood_is_refused(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_without_a_cluster_it_says_so_in_one_sentence_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSET_TOKEN_OPERATOR_LOG_LEVEL", "error")

    result = invoke("run", "--namespace", "shop")

    assert str(result.exception).startswith("asset-token-operator: No cluster to connect to: ")
    assert result.exit_code not in (0, 2)
    assert "Traceback" not in result.output


@pytest.mark.parametrize("server", ["https://10.96.0.1", "https://127.0.0.1:9"], ids=["for both", "for Asset only"])
def test_a_proxy_of_another_kind_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(a_kubeconfig(tmp_path, server)))
    monkeypatch.setenv("ALL_PROXY", "socks5://me:canary@proxy.example.com:1080")
    result = invoke("run")

    assert result.exit_code == 1
    assert re.fullmatch(
        "asset-token-operator: .*ALL_PROXY names a proxy of another kind than http:// and https://,"
        " which is not supported; set one of these.\n",
        result.output,
    )


def test_libraries_that_log_each_call_are_quiet_unless_debugging() -> None:
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.NOTSET)

    configure_logging("debug", "text")
    assert {logging.getLogger(name).level for name in CHATTY} == {logging.NOTSET}
    configure_logging("info", "text")
    assert {logging.getLogger(name).level for name in CHATTY} == {logging.WARNING}


def test_the_package_can_be_run_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asset-token-operator", "--help"])
    monkeypatch.delitem(sys.modules, "asset_token_operator.__main__")

    with pytest.raises(SystemExit) as ended:
        runpy.run_module("asset_token_operator", run_name="__main__")

    assert ended.value.code == 0
    assert "asset-token-operator [OPTIONS] COMMAND" in capsys.readouterr().out
