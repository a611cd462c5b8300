"""What is written for users says what the code does."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from asset_token_operator.__main__ import run
from asset_token_operator.parsing import parse_asset_token
from asset_token_operator.reasons import Reason
from asset_token_operator.scheduler import Scheduler
from asset_token_operator.state_metrics import OperatorMetrics, TokenMetrics, tokens
from asset_token_operator.transitions import Event
from tests.faults.findings import Guarantee
from tests.support.fakes import World

ROOT: Final = Path(__file__).parents[2]
EVENTS: Final = {"Issued", "Recovered"}
LONGEST_MODULE: Final = 350


def crd_schema() -> dict[str, Any]:
    crd = yaml.safe_load((ROOT / "crds/auth.getasset.com_assettokens.yaml").read_text())
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_every_reason_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reasons.md").read_text(), re.MULTILINE)
    assert sorted(documented) == sorted({*Reason, *EVENTS})


def test_every_metric_is_documented_with_its_labels_and_type_and_no_other() -> None:
    world = World()
    world.add()
    world.reconcile()
    world.reconcile()
    registry = world.metrics.registry
    world.sync()
    registry.register(TokenMetrics(list(tokens(world.caches))))
    registry.register(
        OperatorMetrics(
            world.caches,
            world.scopes,
            world.budgets,
            world.issuer,
            world.clocks,
            Scheduler(world.clock, 1),
            lambda: True,
        )
    )
    found = {}
    for family in registry.collect():
        name = {"counter": f"{family.name}_total", "info": f"{family.name}_info"}.get(family.type, family.name)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (labels, family.type.replace("info", "gauge"))
    rows = re.findall(r"^\| `(\w+)` \| (.*?)\| (\w+) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    assert {name: (set(re.findall(r"`(\w+)`", labels)), kind) for name, labels, kind in rows} == found


def test_every_flag_is_in_the_reference_with_its_variable_and_no_other() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text()
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert set(rows) == {(option.opts[0], option.envvar) for option in run.params}


def test_what_waits_for_its_user_is_in_troubleshooting_as_in_the_reasons() -> None:
    every = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", (ROOT / "docs/reasons.md").read_text(), re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert set(rows) - {"READY"} == {reason for reason, where in every if "Stalled" in where}


def test_the_rights_of_a_security_review_are_those_that_are_shipped() -> None:
    documents = [
        document
        for name in ("rbac.yaml", "leader-election.yaml")
        for document in yaml.safe_load_all((ROOT / "deploy/base" / name).read_text())
    ]
    shipped: dict[tuple[str, str], set[str]] = {}
    for rule in (rule for document in documents for rule in document.get("rules", ())):
        for resource in rule["resources"]:
            shipped.setdefault((rule["apiGroups"][0] or "core", resource), set()).update(rule["verbs"])
    table = (ROOT / "docs/security.md").read_text().partition("<!-- rights -->")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `?([\w.]+)`? \| `([\w/]+)` \| ([\w, ]+) \|", table, re.MULTILINE)
    assert {(group, resource): set(verbs.split(", ")) for group, resource, verbs in rows} == shipped


def test_no_page_asks_for_an_older_kubernetes_than_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "deploy/chart/Chart.yaml").read_text())["kubeVersion"]
    oldest = re.findall(r"1\.\d+", chart)[0]
    for page in ("README.md", "docs/getting-started.md", "docs/install.md"):
        assert re.findall(r"Kubernetes(?: \||) (1\.\d+) (?:or|and) newer", (ROOT / page).read_text()) == [oldest]


def test_what_the_fault_suite_measures_is_said_in_the_words_of_the_architectures_guarantees() -> None:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert [name for name in Guarantee if not any(row.startswith(name) for row in rows)] == []
    measured = re.findall(
        r"^\| [a-z][a-z-]* \| (.*?) \| .* \| .* \| .* \|$", (ROOT / "docs/faults.md").read_text(), re.MULTILINE
    )
    assert set(measured) - {"guarantee"} == set(Guarantee)


class Touched(dict[str, Any]):
    """A mapping that remembers which of its keys were asked for, and those of the mappings in it."""

    def __init__(self, values: dict[str, Any], path: str = "") -> None:
        super().__init__({key: Touched(value, f"{path}{key}.") if isinstance(value, dict) else value
                          for key, value in values.items()})  # fmt: skip
        self.path = path
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def all_asked(self) -> set[str]:
        inner = [value.all_asked() for value in self.values() if isinstance(value, Touched)]
        return {f"{self.path}{key}" for key in self.asked}.union(*inner)


def test_the_parser_reads_every_field_of_the_spec_and_no_other() -> None:
    spec = Touched(
        {
            "environment": "sandbox",
            "credentialsSecretRef": {"name": "a"},
            "secret": {"name": "b"},
            "rolloutRestart": {"targets": []},
        }
    )
    metadata = {
        "namespace": "shop",
        "name": "ledger-writer",
        "uid": "1",
        "generation": 1,
        "creationTimestamp": "2026-05-01T12:00:00Z",
        "resourceVersion": "1",
    }
    parse_asset_token({"metadata": metadata, "spec": spec})
    assert spec.all_asked() == field_paths(crd_schema()["properties"]["spec"])


def field_paths(schema: dict[str, Any], path: str = "") -> set[str]:
    paths = set()
    for name, field in schema.get("properties", {}).items():
        paths |= {f"{path}{name}"} | field_paths(field, f"{path}{name}.")
    return paths


def test_events_that_are_no_conditions_reason_are_those_documented() -> None:
    source = (ROOT / "operator/asset_token_operator/transitions.py").read_text()
    assert set(re.findall(rf'{Event.__name__}\("Normal", "(\w+)"', source)) == EVENTS


def test_each_place_where_something_is_decided_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Where is it decided")[2].partition("\n## ")[0]
    places = re.findall(r"^\| .* \| `(\w+)\.(\w+)` \|$", text, re.MULTILINE)
    assert len(places) >= 20
    source = "\n".join(path.read_text() for path in (ROOT / "operator/asset_token_operator").glob("*.py"))
    for owner, name in places:
        module = ROOT / f"operator/asset_token_operator/{owner}.py"
        found = module.read_text() if module.exists() else source[source.index(f"\nclass {owner}") :]
        pattern = rf"^ *(async )?(def|class) {name}\b|^{name}: Final"
        assert re.search(pattern, found, re.MULTILINE), f"{owner}.{name}"


def test_no_module_is_longer_than_a_reader_bears() -> None:
    lines = {path.name: len(path.read_text().splitlines()) for path in (ROOT / "operator").rglob("*.py")}
    assert {name: number for name, number in lines.items() if number > LONGEST_MODULE} == {}
