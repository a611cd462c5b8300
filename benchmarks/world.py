"""What is in the cluster: the namespaces, credentials, AssetTokens and unrelated Secrets, as calls that create them."""

from collections.abc import Iterator
from typing import Final

from benchmarks.asset_server import CLIENT_SECRET, tenant
from benchmarks.client import MERGE, Call, Json

GROUP: Final = "auth.getasset.com"
API: Final = f"/apis/{GROUP}/v1alpha1"
ASSET_TOKENS: Final = f"{API}/assettokens"
OPERATOR: Final = "asset-token-operator"
SELECTOR: Final = f"app.kubernetes.io/managed-by={OPERATOR}"
REVISION: Final = f"{GROUP}/revision"

NAMESPACES: Final = tuple(f"bench-{number}" for number in range(10))
UNRELATED: Final = "bench-unrelated"
TOKENS_A_TENANT: Final = 10
UNRELATED_BYTES: Final = 2048


def tenant_count(count: int, *, one: bool) -> int:
    """How many tenants so many AssetTokens have."""
    return 1 if one else -(-count // TOKENS_A_TENANT)


def namespace_calls() -> Iterator[Call]:
    """The namespaces."""
    for name in (*NAMESPACES, UNRELATED):
        yield Call("POST", "/api/v1/namespaces", {"metadata": {"name": name}}, key=name)


def credentials_calls(count: int, *, one: bool) -> Iterator[Call]:
    """The credentials Secrets: each tenant's in the namespace of its AssetTokens, or one tenant's in all of them."""
    for number in range(len(NAMESPACES) if one else tenant_count(count, one=False)):
        data = {"client_id": tenant(0 if one else number), "client_secret": CLIENT_SECRET}
        body = {"metadata": {"name": _credentials(number, one=one)}, "stringData": data}
        yield Call("POST", f"/api/v1/namespaces/{_namespace(number)}/secrets", body, key=f"credentials-{number}")


def token_calls(count: int, *, one: bool = False, first: int = 0) -> Iterator[Call]:
    """AssetTokens from the `first` on."""
    for number in range(first, first + count):
        namespace, name = token_key(number).split("/")
        body = _asset_token(name, _credentials(number // TOKENS_A_TENANT, one=one))
        yield Call("POST", f"{API}/namespaces/{namespace}/assettokens", body, key=f"{namespace}/{name}")


def spec_calls(count: int) -> Iterator[Call]:
    """A change of each one's spec that needs another token."""
    for number in range(count):
        body = {"spec": {"scopes": ["ledger:read", "invoice:create"]}}
        yield Call("PATCH", token_path(number), body, MERGE, key=token_key(number))


def delete_calls(count: int) -> Iterator[Call]:
    """The end of each."""
    for number in range(count):
        yield Call("DELETE", token_path(number), key=token_key(number))


def unrelated_calls(count: int) -> Iterator[Call]:
    """Secrets of somebody else."""
    for number in range(count):
        body = {"metadata": {"name": f"unrelated-{number}"}, "stringData": {"data": "x" * UNRELATED_BYTES}}
        yield Call("POST", f"/api/v1/namespaces/{UNRELATED}/secrets", body, key=str(number))


def churn_calls(count: int) -> Iterator[Call]:
    """A change of each of them."""
    for number in range(count):
        path = f"/api/v1/namespaces/{UNRELATED}/secrets/unrelated-{number}"
        yield Call("PATCH", path, {"stringData": {"data": "y" * UNRELATED_BYTES}}, MERGE, key=str(number))


def token_key(number: int) -> str:
    """An AssetToken's namespace and name; its Secret's, too."""
    return f"{_namespace(number // TOKENS_A_TENANT)}/token-{number:06}"


def token_path(number: int) -> str:
    """An AssetToken's path."""
    namespace, name = token_key(number).split("/")
    return f"{API}/namespaces/{namespace}/assettokens/{name}"


def _namespace(tenant_number: int) -> str:
    return NAMESPACES[tenant_number % len(NAMESPACES)]


def _credentials(tenant_number: int, *, one: bool) -> str:
    return "credentials" if one else f"credentials-{tenant_number}"


def _asset_token(name: str, credentials: str) -> Json:
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "AssetToken",
        "metadata": {"name": name},
        "spec": {
            "environment": "sandbox",
            "credentialsSecretRef": {"name": credentials},
            "scopes": ["ledger:read"],
            "lifetime": "24h",
        },
    }
