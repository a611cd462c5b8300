"""Who sees when what became of an AssetToken: two watches, one of the Secrets and one of the AssetTokens.

A watch tells the moment of each change and costs the API server little; it costs the same for whoever is measured.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any, Final, TypeAlias

from benchmarks.client import Call, CallError, Client, Json
from benchmarks.world import ASSET_TOKENS, REVISION

See: TypeAlias = Callable[[str, Mapping[str, Any], Json], None]

METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"


@dataclass(frozen=True, slots=True)
class Seen:
    """A state of an object: which revision of its token and which generation it tells of, and since when."""

    revision: int
    generation: int
    at: float


class Observer:
    """What is known of Secrets and AssetTokens, by `namespace/name`. Read it from any thread.

    Attributes:
        secrets: The present revision in each Secret, and when it was first seen.
        ready: The same for each AssetToken that says it is ready, for its present generation.
        tokens: All AssetTokens.
        lateness: Seconds from when each renewal was due until its Secret was seen, by the status before it.
        renewals: How often a Secret got a later revision.
        changes: How many events there were, of both.
    """

    def __init__(self) -> None:
        self.secrets: dict[str, Seen] = {}
        self.ready: dict[str, Seen] = {}
        self.tokens: set[str] = set()
        self.lateness: list[float] = []
        self.renewals = 0
        self.changes = 0
        self._due: dict[str, float] = {}

    async def run(self, client: Client, selector: str, started: Callable[[], object]) -> None:
        """Watch until cancelled.

        Args:
            client: Whose rights it has.
            selector: Which labels the Secrets have.
            started: Called once it sees everything that happens from then on.
        """
        secrets = await _version(client, "/api/v1/secrets")
        tokens = await _version(client, ASSET_TOKENS)
        started()
        async with asyncio.TaskGroup() as watches:
            watches.create_task(_watch(client, "/api/v1/secrets", selector, secrets, self._see_secret))
            watches.create_task(_watch(client, ASSET_TOKENS, "", tokens, self._see_token))

    def reached(self, seen: Mapping[str, Seen], revision: int = 1, generation: int = 0) -> int:
        """How many are at that revision and generation, or later."""
        return sum(one.revision >= revision and one.generation >= generation for one in list(seen.values()))

    def _see_secret(self, kind: str, metadata: Mapping[str, Any], _: Json) -> None:
        self.changes += 1
        key = _key(metadata)
        if kind == "DELETED":
            self.secrets.pop(key, None)
            return
        before = self.secrets.get(key)
        revision = int((metadata.get("annotations") or {}).get(REVISION, 1))
        if before is not None and before.revision == revision:
            return
        self.secrets[key] = Seen(revision, 0, monotonic())
        if before is not None:
            self.renewals += 1
            if key in self._due:
                self.lateness.append(time.time() - self._due.pop(key))

    def _see_token(self, kind: str, metadata: Mapping[str, Any], body: Json) -> None:
        self.changes += 1
        key = _key(metadata)
        if kind == "DELETED":
            self.tokens.discard(key)
            self.ready.pop(key, None)
            return
        self.tokens.add(key)
        status = body.get("status") or {}
        if not _is_ready(status) or status.get("observedGeneration") != metadata["generation"]:
            self.ready.pop(key, None)
            return
        now = Seen(status.get("revision", 0), metadata["generation"], monotonic())
        before = self.ready.get(key)
        if before is None or (before.revision, before.generation) != (now.revision, now.generation):
            self.ready[key] = now
            self._due[key] = datetime.fromisoformat(status["renewalTime"]).timestamp()


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _key(metadata: Mapping[str, Any]) -> str:
    return f"{metadata['namespace']}/{metadata['name']}"


async def _version(client: Client, path: str) -> str:
    answer = await client.call(Call("GET", f"{path}?limit=1"))
    return str(answer["metadata"]["resourceVersion"])


async def _watch(client: Client, path: str, selector: str, version: str, see: See) -> None:
    """Follow a watch, and begin anew where it ended."""
    headers = {"Accept": METADATA} if path.endswith("secrets") else {}
    while True:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "labelSelector": selector}
        async with client.session.get(path, params=query, headers=headers) as response:
            async for line in response.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise CallError(f"watch {path}: {event['object'].get('message')}")
                metadata = event["object"]["metadata"]
                version = metadata["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    see(event["type"], metadata, event["object"])
