"""The Pod of `doctor --in-cluster`: like the operator's, as far as that decides whether they reach Asset. Pure.

Its labels are the operator's, so that the same NetworkPolicies hold for it, but for those by which the Service and the
ReplicaSet find their Pods. It has no token of the service account, and what Pod security `restricted` asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.kubectl.cluster import metadata, part, parts
from asset_token_operator.model import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asset_token_operator.kubectl.cluster import Json

NAME: Final = "asset-token-doctor"
"""Always the same, so that what a killed doctor left is found by the next one."""

COMPONENT: Final = "app.kubernetes.io/component"
SELECTOR: Final = f"app.kubernetes.io/name={OPERATOR},{COMPONENT}=operator"
CONTAINER: Final = "operator"
PROGRAM: Final = "asset_token_operator.kubectl.in_pod"
RESULT: Final = "/dev/termination-log"
LIFE_SECONDS: Final = 60
OF_REPLICAS: Final = frozenset({"pod-template-hash"})
PLACEMENT: Final = (
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostAliases",
    "hostNetwork",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "runtimeClassName",
    "serviceAccountName",
    "tolerations",
    "volumes",
)
CONTENT: Final = ("env", "envFrom", "image", "imagePullPolicy", "resources", "volumeMounts")
IDENTITY: Final = ("fsGroup", "runAsGroup", "runAsUser", "seLinuxOptions", "supplementalGroups")
RESTRICTED_POD: Final[Mapping[str, Any]] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
RESTRICTED_CONTAINER: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


def container_of(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    """The operator's own container; an empty one where there is none."""
    containers = parts(_template_spec(deployment), "containers")
    return next((found for found in containers if found.get("name") == CONTAINER), containers[0] if containers else {})


def pod(deployment: Mapping[str, Any], environments: Sequence[str]) -> Json:
    """The Pod that looks at these environments, from a Deployment of the operator."""
    template, spec = part(part(deployment, "spec"), "template"), _template_spec(deployment)
    container, meta = container_of(deployment), metadata(template)
    labels = {name: value for name, value in part(meta, "labels").items() if name not in OF_REPLICAS}
    owner = {"apiVersion": "apps/v1", "kind": "Deployment"}
    owner |= {name: metadata(deployment).get(name, "") for name in ("name", "uid")}
    program = ["python", "-m", PROGRAM, RESULT, ",".join(environments)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "labels": labels | {COMPONENT: "doctor"},
            "annotations": dict(part(meta, "annotations")),
            "ownerReferences": [owner],
        },
        "spec": _chosen(spec, PLACEMENT)
        | {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFE_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": _chosen(part(spec, "securityContext"), IDENTITY) | dict(RESTRICTED_POD),
            "containers": [
                _chosen(container, CONTENT)
                | {
                    "name": CONTAINER,
                    "command": program,
                    "args": list(container.get("args") or ()),
                    "terminationMessagePath": RESULT,
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "securityContext": _chosen(part(container, "securityContext"), IDENTITY)
                    | dict(RESTRICTED_CONTAINER),
                }
            ],
        },
    }


def is_doctors(body: Mapping[str, Any]) -> bool:
    """Whether a Pod was made by a doctor."""
    return bool(part(metadata(body), "labels").get(COMPONENT) == "doctor")


def _template_spec(deployment: Mapping[str, Any]) -> Mapping[str, Any]:
    return part(part(part(deployment, "spec"), "template"), "spec")


def _chosen(settings: Mapping[str, Any], names: Sequence[str]) -> Json:
    return {name: settings[name] for name in names if settings.get(name) is not None}
