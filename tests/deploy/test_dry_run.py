"""What deploy/ makes is applied to a real API server, which must neither refuse anything nor warn of it."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.deploy.variants import VARIANTS, combinations
from tests.support.cluster import CRDS_PATH, Cluster, Json, KubectlError
from tests.support.controlplane import ControlPlane
from tests.support.helm import RELEASE, Helm

MONITORING = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
AT_ONCE = 300
UNSAFE = """
apiVersion: v1
kind: Pod
metadata: {name: unsafe}
spec: {containers: [{name: unsafe, image: unsafe}]}
"""


@pytest.fixture(scope="module")
def apply(controlplane: Cluster, crds: None) -> Callable[[list[Json]], None]:
    """Applies objects to the namespace `restricted` as a dry run; each warning is an error."""
    made: set[str] = set()

    def dry_run(objects: list[Json]) -> None:
        # A Pod is only accepted where its ServiceAccount is.
        accounts = [item for item in objects if item["kind"] == "ServiceAccount"]
        if not made.issuperset(names := {item["metadata"]["name"] for item in accounts}):
            controlplane.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(accounts))
            made.update(names)
        options = ("--server-side", "--force-conflicts", "--dry-run=server", "--warnings-as-errors")
        controlplane.kubectl("apply", *options, "--filename=-", input=yaml.safe_dump_all(objects))

    return dry_run


@pytest.fixture(scope="module")
def monitoring(controlplane: Cluster) -> None:
    """The API server knows the Prometheus operator's resources, whatever is in them."""
    for kind, plural in MONITORING.items():
        name = f"{plural}.monitoring.coreos.com"
        if controlplane.api.find(f"{CRDS_PATH}/{name}"):
            continue
        if not isinstance(controlplane, ControlPlane):
            pytest.skip("the existing cluster lacks CRDs of the Prometheus operator")
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": ANYTHING}}
        names = {"kind": kind, "plural": plural, "singular": kind.lower()}
        spec = {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]}
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name}}
        controlplane.kubectl("apply", "--filename=-", input=yaml.safe_dump(crd | {"spec": spec}))
        controlplane.kubectl("wait", "--for=condition=Established", "--timeout=60s", f"crd/{name}")


def moved(objects: list[Json], to: str) -> list[Json]:
    """Objects in namespaces that are there, since a dry run makes none."""
    there = {RELEASE: to, "shop": "default"}
    for item in objects:
        if item["kind"] == "Namespace":
            item["metadata"]["name"] = to
        for place in (item["metadata"], *item.get("subjects", ())):
            if "namespace" in place:
                place["namespace"] = there[place["namespace"]]
    return objects


@pytest.mark.usefixtures("monitoring")
@pytest.mark.parametrize("values", [pytest.param(values, id=name) for name, values in VARIANTS.items()])
def test_api_server_takes_the_chart(
    helm: Helm, apply: Callable[[list[Json]], None], restricted: str, values: Json
) -> None:
    apply(helm.template(values, namespace=restricted))


@pytest.mark.usefixtures("monitoring")
def test_api_server_takes_every_combination_of_what_decides_which_objects_there_are(
    helm: Helm,
    apply: Callable[[list[Json]], None],
    restricted: str,
    record_testsuite_property: Callable[[str, object], None],
    *,
    all_combinations: bool,
) -> None:
    different: dict[str, None] = {}
    chosen = list(combinations(thorough=all_combinations))
    for values in chosen:
        different |= dict.fromkeys(helm.render(values, namespace=restricted))
    record_testsuite_property("combinations", len(chosen))
    record_testsuite_property("different objects", len(different))

    objects: list[Json] = [parsed for text in different if (parsed := yaml.safe_load(text))]
    objects.sort(key=lambda item: item["kind"] != "ServiceAccount")  # before the Pods that have them
    for start in range(0, len(objects), AT_ONCE):
        apply(objects[start : start + AT_ONCE])


@pytest.mark.parametrize("folder", ["base", "namespaced", "openshift"])
def test_api_server_takes_what_kustomize_makes(
    kustomized: Callable[[str], list[Json]], apply: Callable[[list[Json]], None], restricted: str, folder: str
) -> None:
    apply(moved(kustomized(folder), restricted))


def test_api_server_would_refuse_a_pod_that_is_not_restricted(
    apply: Callable[[list[Json]], None], restricted: str
) -> None:
    pod: Any = yaml.safe_load(UNSAFE)
    pod["metadata"]["namespace"] = restricted

    with pytest.raises(KubectlError, match='violates PodSecurity "restricted'):
        apply([pod])


def test_warning_of_the_api_server_would_be_an_error(apply: Callable[[list[Json]], None], restricted: str) -> None:
    pod: Any = yaml.safe_load(UNSAFE)
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod["spec"]}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    metadata = {"name": "unsafe", "namespace": restricted}

    with pytest.raises(KubectlError, match="would violate PodSecurity"):
        apply([{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}])
