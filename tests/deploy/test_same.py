"""The chart and the kustomize folders say the same."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Json
from tests.support.helm import RELEASE, ROOT, Helm, container, find

CHARTS_OWN = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
}
"""Labels that only a release can have."""


def plain(part: Any) -> Any:
    """Without the labels that only a release has, wherever they are."""
    if isinstance(part, dict):
        return {key: plain(value) for key, value in part.items() if key not in CHARTS_OWN}
    return [plain(value) for value in part] if isinstance(part, list) else part


def by_name(objects: list[Json]) -> dict[tuple[str, str, str], Json]:
    """Objects by their kind, namespace and name; no hooks, and neither what is installed apart with kustomize."""
    apart = {"CustomResourceDefinition", "Namespace"}
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): plain(item)
        for item in objects
        if item["kind"] not in apart and "helm.sh/hook" not in item["metadata"].get("annotations", {})
    }


def test_chart_as_it_is_makes_what_base_makes(helm: Helm, kustomized: Callable[[str], list[Json]]) -> None:
    assert by_name(helm.template()) == by_name(kustomized("base"))


def test_chart_for_a_namespace_makes_what_namespaced_makes(helm: Helm, kustomized: Callable[[str], list[Json]]) -> None:
    assert by_name(helm.template({"watchNamespaces": ["shop"]})) == by_name(kustomized("namespaced"))


def test_chart_for_openshift_makes_what_openshift_makes(helm: Helm, kustomized: Callable[[str], list[Json]]) -> None:
    assert by_name(helm.template({"openshift": True})) == by_name(kustomized("openshift"))


def test_openshift_can_be_had_for_some_namespaces_as_its_comment_says(
    helm: Helm, kustomized: Callable[[str], list[Json]], tmp_path: Path
) -> None:
    for folder in ("base", "namespaced", "openshift"):
        shutil.copytree(ROOT / "deploy" / folder, tmp_path / folder)
    overlay = tmp_path / "openshift" / "kustomization.yaml"
    overlay.write_text(overlay.read_text().replace("  - ../base\n", "  - ../namespaced\n"))

    made = by_name(kustomized(str(tmp_path / "openshift")))
    assert made == by_name(helm.template({"openshift": True, "watchNamespaces": ["shop"]}))


@pytest.mark.parametrize(
    ("folder", "values"),
    [
        pytest.param("base", {}, id="base"),
        pytest.param("namespaced", {"watchNamespaces": ["shop"]}, id="namespaced"),
        pytest.param("openshift", {"openshift": True}, id="openshift"),
    ],
)
def test_restarts_are_allowed_by_a_component_as_its_comment_says(
    helm: Helm, kustomized: Callable[[str], list[Json]], tmp_path: Path, folder: str, values: Json
) -> None:
    for name in ("base", "namespaced", "openshift", "rollout-restart"):
        shutil.copytree(ROOT / "deploy" / name, tmp_path / name)
    lines = (tmp_path / "rollout-restart" / "kustomization.yaml").read_text().splitlines()
    at = lines.index("#   components:")
    overlay = tmp_path / folder / "kustomization.yaml"
    overlay.write_text("\n".join([overlay.read_text(), *(line[4:] for line in lines[at : at + 2]), ""]))

    made = by_name(kustomized(str(tmp_path / folder)))
    assert made == by_name(helm.template(values | {"rolloutRestart": {"enabled": True}}))


def test_namespace_is_added_to_namespaced_as_its_comment_says(
    helm: Helm, kustomized: Callable[[str], list[Json]], tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "deploy" / "base", tmp_path / "base")
    shutil.copytree(ROOT / "deploy" / "namespaced", tmp_path / "namespaced")
    shop, overlay = tmp_path / "namespaced" / "shop.yaml", tmp_path / "namespaced" / "kustomization.yaml"
    text = overlay.read_text()
    last_patch = text[text.rindex("  - target:") :]

    copied = shop.read_text().replace("namespace: shop", "namespace: payroll")
    (tmp_path / "namespaced" / "payroll.yaml").write_text(copied)
    named = text.replace("  - shop.yaml\n", "  - shop.yaml\n  - payroll.yaml\n")
    overlay.write_text(named + last_patch.replace("--namespace=shop", "--namespace=payroll"))

    made = by_name(kustomized(str(tmp_path / "namespaced")))
    assert made == by_name(helm.template({"watchNamespaces": ["shop", "payroll"]}))


def test_overlay_has_the_base_s_rules_in_a_role_and_no_cluster_role(kustomized: Callable[[str], list[Json]]) -> None:
    base, namespaced = kustomized("base"), kustomized("namespaced")

    assert find(namespaced, "Role")["rules"] == find(base, "ClusterRole")["rules"]
    assert not [item["kind"] for item in namespaced if item["kind"].startswith("Cluster")]
    assert "--namespace=shop" in container(find(namespaced, "Deployment"))["args"]


def test_kustomize_installs_into_a_namespace_that_enforces_restricted(
    kustomized: Callable[[str], list[Json]],
) -> None:
    labels = find(kustomized("base"), "Namespace", RELEASE)["metadata"]["labels"]

    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
