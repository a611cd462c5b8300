"""The reference: what the same writes cost a minimal client that does nothing else.

For each AssetToken it writes a Secret and then the status, of the size and with the metadata that the operator writes,
over 32 connections. As a program it does so once for all AssetTokens there are, and prints what it took as JSON.
"""

import argparse
import asyncio
import base64
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.client import APPLY, CONNECTIONS, MERGE, Call, Client, Json
from benchmarks.world import API, ASSET_TOKENS, GROUP, OPERATOR, REVISION

ACCESS_TOKEN: Final = "x" * 385
"""As long as the stand-in's tokens."""

NOW: Final = "2026-11-25T06:00:00Z"
EXPIRY: Final = "2026-11-26T06:00:00Z"
FORCED: Final = f"?fieldManager={OPERATOR}&force=true"


@dataclass(frozen=True, slots=True)
class Write:
    """A kind of write: its method, its path and body for an AssetToken, and the body's type."""

    method: str
    path: Callable[[Json], str]
    body: Callable[[Json], Json]
    content_type: str = "application/json"

    def call(self, token: Json) -> Call:
        """The write for an AssetToken."""
        return Call(self.method, self.path(token), self.body(token), self.content_type)


def _secret(token: Json) -> Json:
    metadata = token["metadata"]
    owner = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AssetToken", "controller": True}
    data = {
        "access_token": ACCESS_TOKEN,
        "token_type": "Bearer",
        "authorization": f"Bearer {ACCESS_TOKEN}",
        "expires_at": EXPIRY,
        "base_url": "http://127.0.0.1:18080",
        "environment": "sandbox",
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "labels": {"app.kubernetes.io/managed-by": OPERATOR},
            "annotations": _annotations(metadata["name"]),
            "ownerReferences": [owner | {"name": metadata["name"], "uid": metadata["uid"]}],
        },
        "type": f"{GROUP}/token",
        "data": {name: base64.b64encode(value.encode()).decode() for name, value in data.items()},
    }


def _annotations(name: str) -> dict[str, str]:
    values = {
        "owner": name,
        "environment": "sandbox",
        "issuance-time": NOW,
        "issuance-reason": "DoesNotExist",
        "expiration-time": EXPIRY,
        "granted-scopes": "ledger:read",
        "audience": "https://api.sandbox.getasset.com",
        "token-id": "token-000001",
        "token-fingerprint": "f" * 64,
        "credentials-fingerprint": "c" * 64,
        "spec-hash": "5" * 64,
    }
    return {f"{GROUP}/{key}": value for key, value in values.items()} | {REVISION: "1"}


def _status(token: Json) -> Json:
    name = token["metadata"]["name"]
    conditions = [
        ("Ready", "True", "SecretSynced", f"Secret {name} holds a token that is valid until {EXPIRY}."),
        ("Issuing", "False", "SecretSynced", "The token is up to date."),
        ("ScopesGranted", "True", "AllGranted", "The token carries all scopes that were requested."),
    ]
    return {
        "observedGeneration": token["metadata"]["generation"],
        "conditions": [_condition(token, *values) for values in conditions],
        "secretName": name,
        "binding": {"name": name},
        "issuanceTime": NOW,
        "expirationTime": EXPIRY,
        "renewalTime": EXPIRY,
        "grantedScopes": ["ledger:read"],
        "tokenId": "token-000001",
        "revision": 1,
        "history": [{"time": NOW, "reason": "DoesNotExist", "outcome": "Issued", "expirationTime": EXPIRY}],
    }


def _condition(token: Json, kind: str, status: str, reason: str, message: str) -> Json:
    seen = {"observedGeneration": token["metadata"]["generation"], "lastTransitionTime": NOW}
    return {"type": kind, "status": status, "reason": reason, "message": message, **seen}


def _status_patch(token: Json) -> Json:
    version = {"resourceVersion": token["metadata"]["resourceVersion"]}
    return {"metadata": version, "status": _status(token)}


def _status_apply(token: Json) -> Json:
    metadata = {name: token["metadata"][name] for name in ("namespace", "name", "resourceVersion")}
    return {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AssetToken", "metadata": metadata, "status": _status(token)}


def _event(token: Json) -> Json:
    metadata = token["metadata"]
    regarding = {"apiVersion": f"{GROUP}/v1alpha1", "kind": "AssetToken"}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": metadata["namespace"], "name": f"{metadata['name']}.0123456789abcdef"},
        "eventTime": NOW.replace("Z", ".000000Z"),
        "reportingController": OPERATOR,
        "reportingInstance": "reference",
        "action": "Issue",
        "reason": "Issued",
        "note": f"Asset issued the first token. Secret {metadata['name']} holds a token that is valid until {EXPIRY}.",
        "type": "Normal",
        "regarding": regarding | {name: metadata[name] for name in ("namespace", "name", "uid")},
    }


def _secrets_path(token: Json) -> str:
    return f"/api/v1/namespaces/{token['metadata']['namespace']}/secrets"


def _status_path(token: Json) -> str:
    return f"{API}/namespaces/{token['metadata']['namespace']}/assettokens/{token['metadata']['name']}/status"


CREATE_SECRET: Final = Write("POST", lambda token: f"{_secrets_path(token)}?fieldManager={OPERATOR}", _secret)
APPLY_SECRET: Final = Write(
    "PATCH", lambda token: f"{_secrets_path(token)}/{token['metadata']['name']}{FORCED}", _secret, APPLY
)
PATCH_STATUS: Final = Write(
    "PATCH", lambda token: f"{_status_path(token)}?fieldManager={OPERATOR}", _status_patch, MERGE
)
APPLY_STATUS: Final = Write("PATCH", lambda token: f"{_status_path(token)}{FORCED}", _status_apply, APPLY)
POST_EVENT: Final = Write(
    "POST", lambda token: f"/apis/events.k8s.io/v1/namespaces/{token['metadata']['namespace']}/events", _event
)

WRITES: Final = {
    "create": (CREATE_SECRET, PATCH_STATUS),
    "apply": (APPLY_SECRET, APPLY_STATUS),
    "create-event": (CREATE_SECRET, PATCH_STATUS, POST_EVENT),
}
"""The writes for each AssetToken, in their order."""


async def write_all(kubeconfig: Path, writes: Sequence[Write]) -> dict[str, float]:
    """Write for all AssetTokens; gives the seconds and CPU seconds that the writes took, without the list before."""
    async with Client(kubeconfig) as client:
        tokens = iter(await client.list(ASSET_TOKENS))

        async def work() -> None:
            for token in tokens:
                for write in writes:
                    await client.call(write.call(token))

        began, used = time.monotonic(), time.process_time()
        async with asyncio.TaskGroup() as workers:
            for _ in range(CONNECTIONS):
                workers.create_task(work())
        return {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - used}


def main() -> None:
    """Write once for all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--writes", choices=sorted(WRITES), required=True)
    options = parser.parse_args()
    took = asyncio.run(write_all(options.kubeconfig, WRITES[options.writes]))
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main()
