"""A namespace as OpenShift has it: a Pod that says no uid gets the namespace's own, one with another uid is refused."""

from typing import Any, Final

from tests.support.cluster import ApiError, Cluster, Json, wait_until

UID: Final = 1000700000
POLICIES: Final = "/apis/admissionregistration.k8s.io/v1"
EFFECT_SECONDS: Final = 60
PODS: Final = {
    "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
}
GIVEN: Final = f"""
has(object.spec.securityContext) && has(object.spec.securityContext.runAsUser) ? Object{{}} :
  Object{{spec: Object.spec{{securityContext: Object.spec.securityContext{{runAsUser: {UID}}}}}}}
"""
OF_THE_NAMESPACE: Final = f"""
has(object.spec.securityContext.runAsUser) && object.spec.securityContext.runAsUser == {UID} &&
  object.spec.containers.all(container,
    !has(container.securityContext) || !has(container.securityContext.runAsUser) ||
    container.securityContext.runAsUser == {UID})
"""
REFUSAL: Final = "the uid is not one of the namespace's"


class OpenShift:
    """What OpenShift's security context constraints do, in one namespace; a context manager."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        kinds = ("mutatingadmissionpolicies", "validatingadmissionpolicies")
        self._paths = [f"{POLICIES}/{kind}" for kind in kinds]
        self._paths += [path.replace("policies", "policybindings") for path in self._paths]

    def __enter__(self) -> None:
        mutate = {"reinvocationPolicy": "Never", "failurePolicy": "Fail", "matchConstraints": PODS}
        apply = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": GIVEN}}
        validation = {"expression": OF_THE_NAMESPACE, "message": REFUSAL}
        within = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._namespace}}}
        binding = {"policyName": self._namespace, "matchResources": within}
        specs: list[dict[str, Any]] = [
            mutate | {"mutations": [apply]},
            {"failurePolicy": "Fail", "matchConstraints": PODS, "validations": [validation]},
            binding,
            binding | {"validationActions": ["Deny"]},
        ]
        for path, spec in zip(self._paths, specs, strict=True):
            self._cluster.api.create(path, {"metadata": {"name": self._namespace}, "spec": spec})
        wait_until(lambda: self.takes(a_pod()) and not self.takes(a_pod(65532)), EFFECT_SECONDS, "the policies act")

    def __exit__(self, *_: object) -> None:
        for path in reversed(self._paths):
            self._cluster.api.delete(f"{path}/{self._namespace}")

    def takes(self, pod: Json) -> bool:
        """Whether it would; nothing is created."""
        try:
            made = self._cluster.api.create(f"/api/v1/namespaces/{self._namespace}/pods?dryRun=All", pod)
        except ApiError as error:
            if REFUSAL not in str(error):
                raise
            return False
        return bool(made["spec"]["securityContext"].get("runAsUser") == UID)


def a_pod(uid: int | None = None) -> Json:
    """One under Pod security `restricted`, that says its uid or doesn't."""
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "a",
        "image": "a",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security |= {} if uid is None else {"runAsUser": uid}
    spec = {"containers": [container], "securityContext": security, "automountServiceAccountToken": False}
    return {"metadata": {"name": "a"}, "spec": spec}
