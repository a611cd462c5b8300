"""The alerts and the dashboard: each alert has an example, and all name metrics that there are."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.helm import Helm, find
from tests.support.promtool import NoPromtoolError, promtool

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ROOT / "deploy/chart/files"
EXAMPLES: Final = Path(__file__).with_name("rules_test.yaml")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FILES / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def metrics_in(text: str) -> set[str]:
    """The metrics that expressions name; a histogram's by its own name."""
    return {re.sub(r"_bucket$", "", name) for name in re.findall(r"\basset_token_operator_\w+", text)}


@pytest.fixture(scope="session")
def tool() -> Path:
    try:
        return promtool()
    except NoPromtoolError as error:
        if "CI" in os.environ:
            raise
        pytest.skip(str(error))


def examples(tool: Path, folder: Path, rules: str) -> subprocess.CompletedProcess[str]:
    (folder / "rules.yaml").write_text(rules)
    shutil.copy(EXAMPLES, folder)
    return subprocess.run(
        [tool, "test", "rules", EXAMPLES.name], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_rules_are_in_order(tool: Path) -> None:
    checked = subprocess.run(
        [tool, "check", "rules", FILES / "rules.yaml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_fires_in_its_example_and_not_before(tool: Path, tmp_path: Path) -> None:
    tested = examples(tool, tmp_path, (FILES / "rules.yaml").read_text())
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_examples_notice_a_rule_that_never_fires(tool: Path, tmp_path: Path) -> None:
    rules = (FILES / "rules.yaml").read_text().replace("- time() < 300", "- time() < -1e9")
    assert examples(tool, tmp_path, rules).returncode != 0


def test_every_alert_has_an_example_of_firing_and_of_not_firing() -> None:
    fires: dict[str, set[bool]] = {}
    for test in yaml.safe_load(EXAMPLES.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            fires.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert fires == {alert["alert"]: {True, False} for alert in alerts()}


def test_every_alert_has_a_runbook() -> None:
    titles = re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)
    assert titles == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"


def test_runbooks_are_where_the_value_says(helm: Helm) -> None:
    """An address that a pager can open, and a heading that is there."""
    address = "https://git.example.com/asset-token-operator/docs/runbooks.md"
    monitoring = {"prometheusRule": {"enabled": True, "runbookUrl": address}}
    titles = re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE)

    groups = find(helm.template({"metrics": monitoring}), "PrometheusRule")["spec"]["groups"]

    urls = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"]]
    assert urls == [f"{address}#{title.lower()}" for title in titles]


def test_examples_notice_a_budget_alert_that_fires_in_an_outage(tool: Path, tmp_path: Path) -> None:
    lines = (FILES / "rules.yaml").read_text().splitlines(keepends=True)
    without = "".join(line for line in lines if "unless on (environment)" not in line)
    assert examples(tool, tmp_path, without).returncode != 0


@pytest.mark.parametrize("file", ["rules.yaml", "dashboard.json"])
def test_only_metrics_that_there_are_are_named(file: str) -> None:
    documented = set(
        re.findall(r"^\| `(asset_token_operator_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    )
    text = (FILES / file).read_text()
    named = metrics_in("\n".join(alert["expr"] for alert in alerts()) if file == "rules.yaml" else text)
    assert named
    assert named <= documented


def test_the_dashboard_shows_every_metric_that_is_not_for_alerts_alone() -> None:
    documented = set(
        re.findall(r"^\| `(asset_token_operator_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    )
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    shown = {
        name for panel in dashboard["panels"] for target in panel["targets"] for name in metrics_in(target["expr"])
    }
    left_out = {"token_renewal_timestamp_seconds", "token_suspended", "budget_paused"}
    assert documented - shown == {f"asset_token_operator_{name}" for name in left_out}
