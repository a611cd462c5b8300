"""The chart's README is made of its values, and what Artifact Hub shows of it holds."""

import re

import pytest
import yaml

from deploy.chart_readme import CHART, values, with_table
from tests.support.cluster import Cluster
from tests.support.helm import RELEASE, ROOT, Helm

CAPABILITIES = {"Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot"}


def hub(name: str) -> str:
    """An annotation for Artifact Hub."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return str(chart["annotations"][f"artifacthub.io/{name}"])


def test_readme_is_as_the_values_make_it() -> None:
    """Else: make chart-readme."""
    readme = (CHART / "README.md").read_text()

    assert with_table(readme) == readme


def test_every_value_is_explained() -> None:
    assert [value.path for value in values() if not value.meaning] == []


def test_comments_defaults_and_limits_are_told() -> None:
    by_path = {value.path: value for value in values()}

    assert by_path["renewalReserve"].kind == "integer from 0 to 90 or nothing"
    assert by_path["replicas"].default == "`2`"
    assert by_path["networkPolicy.dns.ports"].kind == "list: integer from 1 to 65535"
    assert by_path["securityContext"].kind == "SecurityContext"
    assert by_path["log.format"].kind == "one of `json`, `text`"
    assert "HTTPS_PROXY" not in by_path["extraEnv"].meaning  # an example
    assert by_path["resources.limits"].meaning.startswith("Measured (make bench)")  # said of both


def test_readme_names_no_value_that_there_is_not() -> None:
    text, _, _ = (CHART / "README.md").read_text().partition("## Values")
    named = set(re.findall(r"`([a-z]+[A-Z]\w+(?:\.\w+)*|crds\.\w+|openshift)(?:=\w+)?`", text))
    paths = {value.path for value in values()}

    assert named
    assert {name for name in named if not any(f"{path}.".startswith(f"{name}.") for path in paths)} == set()


def test_artifact_hub_shows_the_crd_that_is_installed() -> None:
    (crd,) = (yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml"))
    (shown,) = yaml.safe_load(hub("crds"))

    assert shown["name"] == crd["metadata"]["name"]
    assert shown["kind"] == crd["spec"]["names"]["kind"]
    assert [shown["version"]] == [version["name"] for version in crd["spec"]["versions"]]


@pytest.mark.usefixtures("crds")
def test_api_server_takes_the_example_that_artifact_hub_shows(controlplane: Cluster, namespace: str) -> None:
    (example,) = yaml.safe_load(hub("crdsExamples"))

    options = ("--server-side", "--dry-run=server", "--warnings-as-errors", f"--namespace={namespace}")
    controlplane.kubectl("apply", *options, "--filename=-", input=yaml.safe_dump(example))


def test_artifact_hub_knows_what_kind_of_package_it_is() -> None:
    assert (hub("operator"), hub("category"), hub("license")) == ("true", "security", "Apache-2.0")
    assert hub("operatorCapabilities") in CAPABILITIES


def test_packaged_chart_has_the_readme(helm: Helm) -> None:
    shown, _ = helm.run("show", "readme", str(CHART))

    assert shown.startswith(f"# {RELEASE}")
