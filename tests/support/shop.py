"""A namespace whose owner uses the operator: what they apply, and what they then see."""

import base64
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tests.support.asset_api import AssetApi
from tests.support.cluster import Cluster, Json, wait_until

CLIENT_ID: Final = "shop-client"
CLIENT_SECRET: Final = "canary-client-secret"
CREDENTIALS: Final = "asset-credentials"


@dataclass
class Shop:
    """The namespace, the API server it is in and the stand-in for Asset's API that issues its tokens."""

    cluster: Cluster
    namespace: str
    asset: AssetApi
    spec: dict[str, Any] = field(
        default_factory=lambda: {
            "environment": "sandbox",
            "credentialsSecretRef": {"name": CREDENTIALS},
            "scopes": ["ledger:read"],
        }
    )

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002 - as subprocess.run
        return self.cluster.kubectl(f"--namespace={self.namespace}", *arguments, input=input)

    def apply(self, *objects: Json) -> None:
        """Apply objects with kubectl."""
        self.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(objects))

    def put_credentials(self, client_secret: str = CLIENT_SECRET, name: str = CREDENTIALS) -> None:
        """Create or change the credentials Secret; the line break is the one that `echo` leaves."""
        data = {"client_id": CLIENT_ID, "client_secret": client_secret + "\n"}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def put_secret(self, name: str, data: dict[str, str], namespace: str | None = None) -> None:
        """Create or replace a Secret of anybody's, by default in the shop's namespace."""
        path = f"/api/v1/namespaces/{namespace or self.namespace}/secrets"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
        if self.cluster.api.find(f"{path}/{name}") is None:
            self.cluster.api.create(path, body)
        else:
            self.cluster.api.replace(f"{path}/{name}", body)

    def serve_too(self, namespace: str) -> None:
        """Give the shop's operator the rights in another namespace that it has in the shop's."""
        rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces"
        for kind in ("roles", "rolebindings"):
            found = self.cluster.api.get(f"{rbac}/{self.namespace}/{kind}/operator")
            self.cluster.api.create(f"{rbac}/{namespace}/{kind}", found | {"metadata": {"name": "operator"}})

    def edit_secret(self, name: str, change: Json) -> None:
        """Change a Secret by a merge patch, as somebody with kubectl does."""
        self.cluster.api.patch(self.path(f"secrets/{name}"), change)

    def manifest(self, name: str, **changes: Any) -> Json:
        """An AssetToken's manifest: the usual spec with changes; None takes a field away."""
        spec = {field: value for field, value in (self.spec | changes).items() if value is not None}
        return {
            "apiVersion": "auth.getasset.com/v1alpha1",
            "kind": "AssetToken",
            "metadata": {"name": name},
            "spec": spec,
        }

    def put(self, name: str, **changes: Any) -> None:
        """Apply an AssetToken."""
        self.apply(self.manifest(name, **changes))

    def create(self, name: str, **changes: Any) -> None:
        """Create an AssetToken, without the half second that kubectl takes."""
        self.cluster.api.create(self.path("assettokens"), self.manifest(name, **changes))

    def patch(self, name: str, spec: Json) -> None:
        """Change an AssetToken's spec by a merge patch."""
        self.cluster.api.patch(self.path(f"assettokens/{name}"), {"spec": spec})

    def path(self, rest: str) -> str:
        prefix = "/apis/auth.getasset.com/v1alpha1" if rest.startswith("assettokens") else "/api/v1"
        return f"{prefix}/namespaces/{self.namespace}/{rest}"

    def token(self, name: str) -> Json:
        return self.cluster.api.get(self.path(f"assettokens/{name}"))

    def tokens(self) -> list[Json]:
        items: list[Json] = self.cluster.api.get(self.path("assettokens"))["items"]
        return items

    def secret(self, name: str) -> Json | None:
        return self.cluster.api.find(self.path(f"secrets/{name}"))

    def data(self, name: str) -> dict[str, str]:
        """A Secret's data, decoded; empty where there is no such Secret."""
        found = self.secret(name)
        return {key: base64.b64decode(value).decode() for key, value in (found or {}).get("data", {}).items()}

    def condition(self, name: str, kind: str) -> Json:
        """An AssetToken's condition; empty where it isn't there."""
        conditions = self.token(name).get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == kind), {})

    def wait_for_condition(self, name: str, kind: str, status: str, reason: str, timeout: float = 15) -> Json:
        """Wait until the condition is so, for the present generation."""

        def look() -> Json | None:
            seen = self.condition(name, kind)
            generation = self.token(name)["metadata"]["generation"]
            wanted = (status, reason, generation)
            return seen if (seen.get("status"), seen.get("reason"), seen.get("observedGeneration")) == wanted else None

        return wait_until(look, timeout, f"{name}: {kind} is {status} ({reason}); is {self.condition(name, kind)}")

    def wait_until_ready(self, name: str, timeout: float = 15) -> Json:
        """Wait until the AssetToken is ready, and give it."""
        self.wait_for_condition(name, "Ready", "True", "SecretSynced", timeout)
        return self.token(name)

    def wait_for_revision(self, name: str, revision: int, timeout: float = 15) -> Json:
        """Wait until the status tells of that token, and give the AssetToken."""
        wait_until(lambda: self.token(name)["status"].get("revision") == revision, timeout, f"revision {revision}")
        return self.token(name)

    def wait_until_served(self, name: str, timeout: float = 30) -> None:
        """Once an AssetToken created now is ready, the operator has dealt with what happened before; one request."""
        self.put(name)
        self.wait_until_ready(name, timeout)

    def events(self, reason: str) -> list[Json]:
        """The events with that reason."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        return [event for event in self.cluster.api.get(path)["items"] if event["reason"] == reason]

    def wait_for_event(self, reason: str, timeout: float = 15) -> Json:
        """Wait for an event with that reason, and give it."""
        return wait_until(lambda: self.events(reason), timeout, f"event {reason}")[0]
