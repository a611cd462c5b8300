"""What the chart makes of its values, and which values it refuses."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from asset_token_operator.__main__ import run
from tests.deploy.variants import VARIANTS, leaves
from tests.support.cluster import Json
from tests.support.helm import CHART, IMAGE, RELEASE, ROOT, Helm, HelmError, container, find, kinds, merged

ROLES = {"ClusterRole", "Role"}
PERMITTED = {"get", "list", "watch", "create", "update", "patch", "delete"}


def defaults() -> Json:
    values: Json = yaml.safe_load((CHART / "values.yaml").read_text())
    return values


def schema() -> Json:
    read: Json = json.loads((CHART / "values.schema.json").read_text())
    return read


def every_variant() -> list[Any]:
    return [pytest.param(values, id=name) for name, values in VARIANTS.items()]


def test_helm_finds_nothing_wrong_with_the_chart(helm: Helm) -> None:
    said, _ = helm.run("lint", "--strict", str(CHART))

    assert not re.findall(r"\[(?:WARNING|ERROR)\].*", said)
    assert "1 chart(s) linted, 0 chart(s) failed" in said


def test_chart_has_the_operators_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert (chart["name"], chart["appVersion"]) == (project["name"], project["version"])


def test_every_value_is_tried() -> None:
    tried = set().union(*(leaves(values) for values in VARIANTS.values()))
    untried = {path for path in leaves(defaults()) if not any(f"{other}.".startswith(f"{path}.") for other in tried)}

    assert untried == set()


def test_every_value_is_in_the_schema_and_no_other() -> None:
    def paths(part: Json, path: str = "") -> Iterator[str]:
        for name, value in part.get("properties", {}).items():
            yield from paths(value, f"{path}{name}.") if "properties" in value else [f"{path}{name}"]

    below = {
        "metrics.dashboard.labels.grafana_dashboard",
        "resources.requests.cpu",
        "resources.requests.memory",
        "resources.limits.memory",
        *{path for path in leaves(defaults()) if path.partition(".")[0] in {"podSecurityContext", "securityContext"}},
    }
    from_schema = set(paths(schema())) - {
        "global",
        "metrics.dashboard.labels",
        "resources.requests",
        "resources.limits",
        "podSecurityContext",
        "securityContext",
    }
    assert from_schema == leaves(defaults()) - below


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        pytest.param({"replcas": 3}, "additional properties 'replcas' not allowed", id="a name misspelt"),
        pytest.param(
            {"networkPolicy": {"dsn": {}}}, "at '/networkPolicy': additional properties 'dsn'", id="a name within"
        ),
        pytest.param({"replicas": 0}, "at '/replicas': minimum: got 0, want 1", id="no replica"),
        pytest.param({"replicas": "2"}, "at '/replicas': got string, want integer", id="text for a number"),
        pytest.param({"log": {"format": "xml"}}, "at '/log/format': value must be one of", id="a format not known"),
        pytest.param({"log": {"level": "trace"}}, "at '/log/level': value must be one of", id="a level not known"),
        pytest.param({"watchNamespaces": "shop"}, "at '/watchNamespaces': got string, want array", id="no list"),
        pytest.param({"watchNamespaces": ["*"]}, "at '/watchNamespaces/0': '*' does not match", id="all by a star"),
        pytest.param({"watchNamespaces": ["a", "a"]}, "at '/watchNamespaces': items", id="a namespace twice"),
        pytest.param({"sandboxUrl": "http://asset.test"}, "at '/sandboxUrl'", id="plain http"),
        pytest.param({"productionUrl": "https://u:p@asset.test"}, "at '/productionUrl'", id="a password in a URL"),
        pytest.param({"renewalReserve": 91}, "at '/renewalReserve': maximum: got 91, want 90", id="too much reserve"),
        pytest.param({"image": {"registry": "a.test/"}}, "at '/image/registry'", id="a registry with a slash"),
        pytest.param({"image": {"digest": "1.2.3"}}, "at '/image/digest'", id="no digest"),
        pytest.param({"extraEnv": [{"name": "A"}]}, "at '/extraEnv/0'", id="a variable without a value"),
        pytest.param({"networkPolicy": {"asset": {"ports": []}}}, "at '/networkPolicy/asset/ports'", id="no way out"),
        pytest.param(
            {"networkPolicy": {"metrics": {"from": [{}]}}}, "at '/networkPolicy/metrics/from/0'", id="no peer"
        ),
        pytest.param({"watchSelector": " "}, "at '/watchSelector'", id="a blank selector"),
        pytest.param({"leaderElection": {"leaseName": "A"}}, "at '/leaderElection/leaseName'", id="no name of a Lease"),
        pytest.param({"serviceAccount": {"name": "a b"}}, "at '/serviceAccount/name'", id="no name of an account"),
        pytest.param({"extraArgs": ["run"]}, "at '/extraArgs/0'", id="no flag"),
        pytest.param({"extraVolumes": [{"emptyDir": {}}]}, "at '/extraVolumes/0'", id="a volume without a name"),
        pytest.param({"extraVolumeMounts": [{"name": "a"}]}, "at '/extraVolumeMounts/0'", id="a mount without a path"),
        pytest.param({"hostAliases": [{"ip": "192.0.2.1"}]}, "at '/hostAliases/0'", id="an address without names"),
        pytest.param({"dnsPolicy": "none"}, "at '/dnsPolicy': value must be one of", id="a DNS policy not known"),
        pytest.param({"revisionHistoryLimit": -1}, "at '/revisionHistoryLimit': minimum", id="fewer than no revision"),
        pytest.param({"terminationGracePeriodSeconds": 0}, "at '/terminationGracePeriodSeconds'", id="no time to end"),
        pytest.param(
            {"podLabels": {"app.kubernetes.io/name": "a"}}, "at '/podLabels/app.", id="a label of the chart's own"
        ),
        pytest.param({"commonLabels": {"helm.sh/chart": "a"}}, "at '/commonLabels/helm.", id="the same on all"),
        pytest.param(
            {"metrics": {"prometheusRule": {"runbookUrl": "docs/runbooks.md"}}},
            "at '/metrics/prometheusRule/runbookUrl'",
            id="no address that can be opened",
        ),
        pytest.param({"fullnameOverride": "Tokens"}, "at '/fullnameOverride'", id="no name of an object"),
    ],
)
def test_wrong_value_is_refused_with_its_place(helm: Helm, values: Json, complaint: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(values)

    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param(
            {"image": {"repository": ""}}, "image.repository is not set, and there is no published image", id="no image"
        ),
        pytest.param(
            {"serviceAccount": {"create": False}},
            "serviceAccount.create is false: name the ServiceAccount that is there already",
            id="no account",
        ),
        pytest.param(
            {"leaderElection": {"enabled": False}},
            "leaderElection.enabled is false: then each replica would work, so set replicas to 1",
            id="several that work",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(helm: Helm, values: Json, sentence: str) -> None:
    with pytest.raises(HelmError) as refused:
        helm.template(values)

    assert sentence in str(refused.value)


def test_crd_is_the_one_in_crds_and_is_kept_at_uninstall(helm: Helm) -> None:
    (source,) = (yaml.safe_load(path.read_text()) for path in (ROOT / "crds").glob("*.yaml"))
    rendered = find(helm.template(), "CustomResourceDefinition", "assettokens.auth.getasset.com")

    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered["metadata"].pop("labels")["app.kubernetes.io/version"]
    assert rendered == source


def test_crd_is_left_out_where_it_is_not_wanted(helm: Helm) -> None:
    assert "CustomResourceDefinition" not in kinds(helm.template({"crds": {"install": False}}))


def test_packaged_chart_holds_the_crd(helm: Helm, tmp_path: Path) -> None:
    helm.run("package", str(CHART), f"--destination={tmp_path}")
    (package,) = tmp_path.glob("*.tgz")

    rendered, said = helm.run("template", RELEASE, str(package), values=IMAGE)

    assert "kind: CustomResourceDefinition" in rendered
    assert said == ""


def test_chart_without_its_crds_says_so(helm: Helm, tmp_path: Path) -> None:
    for path in CHART.rglob("*"):
        if path.is_file() and "crds" not in path.relative_to(CHART).parts:
            copy = tmp_path / "chart" / path.relative_to(CHART)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())

    with pytest.raises(HelmError, match="files/crds, a link to the folder crds, is missing"):
        helm.run("template", RELEASE, str(tmp_path / "chart"), values=IMAGE)


@pytest.mark.parametrize("values", every_variant())
def test_roles_name_what_they_allow(helm: Helm, values: Json) -> None:
    for role in (item for item in helm.template(values) if item["kind"] in ROLES):
        for rule in role["rules"]:
            assert "*" not in rule["apiGroups"] + rule["resources"]
            assert set(rule["verbs"]) <= PERMITTED


def test_for_some_namespaces_it_gets_roles_there_and_nothing_cluster_wide(helm: Helm) -> None:
    everywhere = find(helm.template(), "ClusterRole")["rules"]

    objects = helm.template({"watchNamespaces": ["shop", "payroll"]})

    assert not kinds(objects) & {"ClusterRole", "ClusterRoleBinding"}
    roles = [item for item in objects if item["kind"] == "Role" and item["metadata"]["name"] == RELEASE]
    assert [(role["metadata"]["namespace"], role["rules"]) for role in roles] == [
        ("shop", everywhere),
        ("payroll", everywhere),
    ]
    bindings = [item for item in objects if item["kind"] == "RoleBinding" and item["metadata"]["name"] == RELEASE]
    assert [binding["metadata"]["namespace"] for binding in bindings] == ["shop", "payroll"]
    assert all(
        binding["subjects"] == [{"kind": "ServiceAccount", "name": RELEASE, "namespace": RELEASE}]
        for binding in bindings
    )
    arguments = container(find(objects, "Deployment"))["args"]
    assert {"--namespace=shop", "--namespace=payroll"} <= set(arguments)


@pytest.mark.parametrize("values", every_variant())
def test_every_argument_is_one_that_the_operator_has(helm: Helm, values: Json) -> None:
    options = {name for option in run.params for name in (*option.opts, *option.secondary_opts)}
    command, *arguments = container(find(helm.template(values | {"fullnameOverride": RELEASE}), "Deployment"))["args"]

    assert command == "run"
    assert {argument.partition("=")[0] for argument in arguments} <= options


@pytest.mark.parametrize(
    ("values", "argument"),
    [
        pytest.param(
            {"sandboxUrl": "https://a.test/x"}, "--sandbox-url=https://a.test/x", id="the address of the sandbox"
        ),
        pytest.param({"productionUrl": "https://a.test"}, "--production-url=https://a.test", id="that of production"),
        pytest.param({"renewalReserve": 0}, "--renewal-reserve=0", id="no reserve for renewals"),
        pytest.param({"issueReserve": 0}, "--issue-reserve=0", id="no reserve for first issues"),
        pytest.param({"log": {"level": "debug"}}, "--log-level=debug", id="a level"),
        pytest.param({"log": {"format": "text"}}, "--log-format=text", id="a format"),
        pytest.param({"watchSelector": 'a="b",c'}, '--selector=a="b",c', id="a selector"),
        pytest.param({"leaderElection": {"leaseName": "tokens"}}, "--lease-name=tokens", id="a Lease"),
        pytest.param({"extraArgs": ["--log-level=debug"]}, "--log-level=debug", id="one that is given"),
        pytest.param({"metrics": {"tokens": False}}, "--no-token-metrics", id="no series for each token"),
        pytest.param(
            {"caBundle": {"configMapName": "ca", "key": "a.pem"}}, "--ca-file=/etc/asset-token-operator/a.pem", id="CAs"
        ),
    ],
)
def test_value_becomes_an_argument(helm: Helm, values: Json, argument: str) -> None:
    assert argument in container(find(helm.template(values), "Deployment"))["args"]
    assert argument not in container(find(helm.template(), "Deployment"))["args"]


def test_certificates_are_mounted_where_the_argument_says(helm: Helm) -> None:
    deployment = find(helm.template({"caBundle": {"configMapName": "company-ca"}}), "Deployment")

    (mount,) = container(deployment)["volumeMounts"]
    (volume,) = deployment["spec"]["template"]["spec"]["volumes"]
    assert (mount["mountPath"], mount["name"]) == ("/etc/asset-token-operator", volume["name"])
    assert volume["configMap"] == {"name": "company-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}


def test_every_template_that_is_included_has_the_charts_name_before_its_own() -> None:
    """Those of all charts that are parts of one have their names in common."""
    text = "".join(path.read_text() for path in (CHART / "templates").rglob("*.*"))

    assert {name.partition(".")[0] for name in re.findall(r'(?:define|include) "([^"]*)"', text)} == {RELEASE}


def test_part_of_another_chart_is_what_it_is_alone(helm: Helm, tmp_path: Path) -> None:
    """Also where that chart has templates of the commonest names."""
    shutil.copytree(CHART, tmp_path / "charts" / RELEASE)
    (tmp_path / "templates").mkdir()
    names = ("name", "fullname", "labels", "selector", "image", "rules", "subject", "tcp")
    (tmp_path / "templates" / "_helpers.tpl").write_text(
        "".join(f'{{{{- define "{name}" }}}}other: yes{{{{ end }}}}\n' for name in names)
    )
    chart = {
        "apiVersion": "v2",
        "name": "shop",
        "version": "1.0.0",
        "dependencies": [{"name": RELEASE, "version": "*"}],
    }
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(chart))
    values = merged(IMAGE, {"watchSelector": "team=ledger"})

    rendered, _ = helm.run(
        "template", RELEASE, str(tmp_path), f"--namespace={RELEASE}", values={RELEASE: values, "global": {"a": "b"}}
    )

    assert [item for item in yaml.safe_load_all(rendered) if item] == helm.template(values)


def test_two_releases_in_a_namespace_have_nothing_in_common_but_the_crd(helm: Helm) -> None:
    def names(release: str, values: Json) -> set[tuple[str, str]]:
        return {(item["kind"], item["metadata"]["name"]) for item in helm.template(values, release)}

    def lease(release: str) -> set[str]:
        arguments = container(find(helm.template({}, release), "Deployment", f"{release}-{RELEASE}"))["args"]
        return {argument for argument in arguments if argument.startswith("--lease-name=")}

    assert not names("ledger", {}) & names("invoices", {"crds": {"install": False}})
    assert not lease("ledger") & lease("invoices")


def test_lease_is_the_one_that_the_role_and_the_test_name(helm: Helm) -> None:
    objects = helm.template({"leaderElection": {"leaseName": "tokens"}})

    names = [rule.get("resourceNames") for rule in find(objects, "Role", f"{RELEASE}-leader-election")["rules"]]
    (test,) = find(objects, "Pod", f"{RELEASE}-test")["spec"]["containers"]
    assert names == [None, ["tokens"]]
    assert test["command"][-1] == "tokens"


def test_without_an_election_there_is_no_role_and_one_ends_before_another_begins(helm: Helm) -> None:
    objects = helm.template({"leaderElection": {"enabled": False}, "replicas": 1})

    assert not kinds(objects) & {"Role", "RoleBinding"}
    deployment = find(objects, "Deployment")
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert not [argument for argument in container(deployment)["args"] if "lease" in argument or "elect" in argument]


@pytest.mark.parametrize(
    ("values", "pod"),
    [
        pytest.param(
            {"openshift": True},
            {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            id="OpenShift",
        ),
        pytest.param(
            {"openshift": True, "podSecurityContext": {"fsGroup": 1, "supplementalGroups": [2]}},
            {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "supplementalGroups": [2]},
            id="OpenShift, with more",
        ),
        pytest.param(
            {"podSecurityContext": {"runAsUser": None}},
            {"runAsNonRoot": True, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            id="no uid",
        ),
    ],
)
def test_both_pods_are_as_secure_as_the_values_say(helm: Helm, values: Json, pod: Json) -> None:
    objects = helm.template(values)

    assert find(objects, "Deployment")["spec"]["template"]["spec"]["securityContext"] == pod
    assert find(objects, "Pod", f"{RELEASE}-test")["spec"]["securityContext"] == pod


def test_dns_of_openshift_may_be_asked(helm: Helm) -> None:
    def ports(values: Json) -> list[int]:
        first: list[Json] = find(helm.template(values), "NetworkPolicy")["spec"]["egress"][0]["ports"]
        return [port["port"] for port in first if port["protocol"] == "UDP"]

    assert ports({}) == [53]
    assert ports({"openshift": True}) == [53, 5353]
    assert ports({"openshift": True, "networkPolicy": {"dns": {"ports": [5353]}}}) == [5353]


def test_common_labels_are_on_all_objects_and_select_nothing(helm: Helm) -> None:
    values = {"commonLabels": {"team": "ledger"}, "metrics": {"serviceMonitor": {"enabled": True}}}
    objects = helm.template(values)

    assert all(item["metadata"]["labels"]["team"] == "ledger" for item in objects)
    deployment = find(objects, "Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"]["team"] == "ledger"
    assert "team" not in deployment["selector"]["matchLabels"]


def test_account_that_is_there_already_gets_the_rights(helm: Helm) -> None:
    objects = helm.template({"serviceAccount": {"create": False, "name": "ours"}})

    assert "ServiceAccount" not in kinds(objects)
    subjects = [subject for item in objects for subject in item.get("subjects", ())]
    assert {subject["name"] for subject in subjects} == {"ours"}
    pods = [find(objects, "Deployment")["spec"]["template"]["spec"], find(objects, "Pod", f"{RELEASE}-test")["spec"]]
    assert [pod["serviceAccountName"] for pod in pods] == ["ours", "ours"]


def test_meshes_leave_the_pod_of_helm_test_alone(helm: Helm) -> None:
    metadata = find(helm.template(), "Pod", f"{RELEASE}-test")["metadata"]

    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["labels"]["kuma.io/sidecar-injection"] == "disabled"
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"
    assert metadata["annotations"]["consul.hashicorp.com/connect-inject"] == "false"


def test_registry_goes_before_the_repository(helm: Helm) -> None:
    image = {"registry": "registry.example.com:5000", "repository": "tools/operator", "tag": "2"}

    deployment = find(helm.template({"image": image}), "Deployment")
    assert container(deployment)["image"] == "registry.example.com:5000/tools/operator:2"


def test_digest_counts_more_than_tag(helm: Helm) -> None:
    digest = f"sha256:{'0' * 64}"
    deployment = find(helm.template({"image": {"tag": "2", "digest": digest}}), "Deployment")

    assert container(deployment)["image"] == f"asset-token-operator@{digest}"


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        pytest.param("asset-token-operator", {}, "asset-token-operator", id="the chart's name"),
        pytest.param("tokens", {}, "tokens-asset-token-operator", id="another name"),
        pytest.param("tokens", {"fullnameOverride": "astok"}, "astok", id="a name that was asked for"),
        pytest.param("x" * 53, {}, f"{'x' * 19}-asset-token-operator", id="the longest name"),
    ],
)
def test_release_names_its_objects(helm: Helm, release: str, values: Json, name: str) -> None:
    objects = helm.template(values, release=release)

    ours = {item["metadata"]["name"] for item in objects if item["kind"] != "CustomResourceDefinition"}
    assert {found for found in ours if not found.startswith(name)} == set()
    assert max(map(len, ours)) <= 63
    assert find(objects, "Deployment", name)["spec"]["template"]["spec"]["serviceAccountName"] == name


def test_monitor_policy_service_and_budget_select_the_pods(helm: Helm) -> None:
    objects = helm.template({"metrics": {"serviceMonitor": {"enabled": True}}, "podLabels": {"team": "ledger"}})

    pod = find(objects, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    service = find(objects, "Service", f"{RELEASE}-metrics")
    assert service["spec"]["selector"].items() <= pod
    assert find(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].items() <= pod
    assert find(objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= pod
    monitor = find(objects, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == [
        port["name"] for port in service["spec"]["ports"]
    ]


def test_pod_of_helm_test_is_none_of_the_operators(helm: Helm) -> None:
    objects = helm.template()

    test = find(objects, "Pod", f"{RELEASE}-test")
    selector = find(objects, "Deployment")["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= test["metadata"]["labels"].items()
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (only,) = test["spec"]["containers"]
    assert only["image"] == container(find(objects, "Deployment"))["image"]
    assert only["command"][2].strip() == (CHART / "files" / "operator_works.py").read_text().strip()


def named(word: str) -> Json:
    """Values that have the word wherever a user's text goes."""
    values: Json = {"watchNamespaces": [word], "serviceAccount": {"name": word, "annotations": {"a": word}}}
    values |= {"priorityClassName": word, "caBundle": {"configMapName": word, "key": word}, "watchSelector": word}
    values |= {"image": {"repository": word, "tag": word}, "imagePullSecrets": [{"name": word}]}
    values |= {"leaderElection": {"leaseName": word}, "extraEnv": [{"name": word, "value": word}]}
    values |= {name: {"a": word} for name in ("nodeSelector", "podLabels", "podAnnotations", "deploymentAnnotations")}
    of_metrics = {"enabled": True, "labels": {"b": word}}
    values["metrics"] = dict.fromkeys(("serviceMonitor", "prometheusRule", "dashboard"), of_metrics)
    return values | {"commonLabels": {"c": word}}


@pytest.mark.parametrize(
    "word",
    ["42", "007", "1e3", "0x1f", "null", "true", "no", "off", "2026-01-01", "1-1"],
    ids=lambda word: f"is {word}",
)
@pytest.mark.parametrize("full", [True, False], ids=["names its objects", "is a release"])
def test_a_name_that_looks_like_something_else_stays_text(helm: Helm, word: str, *, full: bool) -> None:
    """To YAML these are numbers, nothing, truths and dates; to Kubernetes they are names like any other."""

    def render(word: str) -> list[Json]:
        values = named(word) | ({"fullnameOverride": word} if full else {})
        return helm.template(values, release=word, namespace=word)

    expected = json.dumps(render("xyzzy")).replace("xyzzy", word)
    assert render(word) == json.loads(expected)


def test_a_url_that_ends_like_a_key_stays_an_argument(helm: Helm) -> None:
    deployment = find(
        helm.template({"sandboxUrl": "https://a.test:", "productionUrl": "https://b.test:"}), "Deployment"
    )

    assert container(deployment)["args"][-2:] == ["--sandbox-url=https://a.test:", "--production-url=https://b.test:"]


def test_notes_name_the_namespaces(helm: Helm) -> None:
    notes, _ = helm.run(
        "install", RELEASE, str(CHART), "--dry-run=client", values=IMAGE | {"watchNamespaces": ["shop", "b"]}
    )

    assert "serves AssetTokens in shop, b." in notes
    assert "--namespace shop" in notes


def test_notes_say_which_labels_are_served(helm: Helm) -> None:
    values = IMAGE | {"watchSelector": "team=ledger"}
    notes, _ = helm.run("install", RELEASE, str(CHART), "--dry-run=client", values=values)

    assert "in all namespaces, those with labels such as team=ledger." in notes
    assert "labels: {} # those that team=ledger asks for" in notes


def test_alerts_and_dashboard_are_those_in_the_files(helm: Helm) -> None:
    objects = helm.template({"metrics": {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}})

    rules = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]["runbook_url"]
    assert find(objects, "PrometheusRule")["spec"] == rules
    dashboard = find(objects, "ConfigMap", f"{RELEASE}-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"] == {"asset-token-operator.json": (CHART / "files" / "dashboard.json").read_text()}
