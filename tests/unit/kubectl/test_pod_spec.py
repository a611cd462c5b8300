"""The Pod of `doctor --in-cluster` is where the operator's Pods are, and is taken for none of them."""

from pathlib import Path
from typing import Any, Final

import yaml

from asset_token_operator.kubectl.pod_spec import pod

BASE: Final = Path(__file__).parents[3] / "deploy" / "base"


def shipped(file: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((BASE / file).read_text())
    return found


def selects(selector: dict[str, str], body: dict[str, Any]) -> bool:
    labels: dict[str, str] = body["metadata"]["labels"]
    return selector.items() <= labels.items()


def test_the_operators_network_policy_holds_for_it_and_nothing_else_takes_it_for_one_of_its_own() -> None:
    made = pod(shipped("deployment.yaml"), ["sandbox"])
    assert selects(shipped("network-policy.yaml")["spec"]["podSelector"]["matchLabels"], made)
    assert not selects(shipped("service.yaml")["spec"]["selector"], made)
    for file in ("deployment.yaml", "pod-disruption-budget.yaml"):
        assert not selects(shipped(file)["spec"]["selector"]["matchLabels"], made)


def test_what_decides_whether_asset_is_reached_is_the_operators() -> None:
    deployment = shipped("deployment.yaml")
    spec = deployment["spec"]["template"]["spec"]
    spec |= {"hostAliases": [{"ip": "10.0.0.7"}], "volumes": [{"name": "ca"}], "nodeSelector": {"zone": "a"}}
    container = spec["containers"][0]
    container["env"].append({"name": "HTTPS_PROXY", "value": "http://proxy:3128"})
    container["volumeMounts"] = [{"name": "ca", "mountPath": "/etc/asset"}]
    spec["containers"] = [{"name": "mesh", "image": "mesh"}, container]
    made = pod(deployment, ["sandbox", "production"])["spec"]
    (found,) = made["containers"]
    assert {name: made[name] for name in ("hostAliases", "volumes", "nodeSelector")} == {
        name: spec[name] for name in ("hostAliases", "volumes", "nodeSelector")
    }
    assert {name: found[name] for name in ("image", "env", "args", "volumeMounts")} == {
        name: container[name] for name in ("image", "env", "args", "volumeMounts")
    }
    assert found["command"][-1] == "sandbox,production"


def test_it_is_restricted_short_lived_and_has_no_token_whatever_the_operator_has() -> None:
    deployment = shipped("deployment.yaml")
    spec = deployment["spec"]["template"]["spec"]
    spec["securityContext"] = {"runAsUser": 0, "sysctls": [{}]}
    spec["containers"][0]["securityContext"] = {"privileged": True}
    made = pod(deployment, ["sandbox"])["spec"]
    assert made["securityContext"] == {
        "runAsUser": 0,  # refused as that, rather than changed to somebody whom the image may not know
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert made["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert (made["activeDeadlineSeconds"], made["restartPolicy"]) == (60, "Never")
    assert made["automountServiceAccountToken"] is False
