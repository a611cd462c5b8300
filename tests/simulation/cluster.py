"""A model of the cluster: objects with versions, applies, patches, and what a watch would tell.

Objects are plain JSON and never changed in place, so that whoever got one may keep it. What an API server does with a
request is here; what may go wrong on the way to it and back is in `api_server.py`.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asset_token_operator.errors import ConflictError, KubeRefusedError, NotFoundError
from asset_token_operator.model import GROUP, KIND, OPERATOR, PLURAL, VERSION, Key
from asset_token_operator.times import format_time
from tests.simulation.virtual_time import present

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Mapping

Body = dict[str, Any]

ASSET_TOKENS: Final = PLURAL
SECRETS: Final = "secrets"
LEASES: Final = "leases"
DEPLOYMENTS: Final = "deployments"
EVENTS: Final = "events"

PATH: Final = re.compile(
    r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<kind>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>status))?"
)
DISCOVERY: Final = f"/apis/{GROUP}/{VERSION}"

REMEMBERED: Final = 2000
"""So many changes a watch can be told of; one that begins before these has to list again."""


class Change(NamedTuple):
    """What a watch tells."""

    version: int
    kind: str
    type: str
    body: Body


class Request(NamedTuple):
    """What is asked of the API server.

    Attributes:
        kind: The plural of the objects that it is about.
        name: Of which one; None for all.
    """

    method: str
    kind: str
    namespace: str
    name: str | None
    body: Body

    @classmethod
    def parse(cls, method: str, path: str, body: Mapping[str, Any] | None) -> Request:
        found = PATH.fullmatch(path)
        if found is None:
            raise ValueError(f"the model of the API server knows no {path}")
        return cls(method, found["kind"], found["namespace"] or "", found["name"], dict(body or {}))

    def is_write_of_secret(self) -> bool:
        return self.kind == SECRETS and self.method == "PATCH"

    def is_write_of_status(self) -> bool:
        return self.kind == ASSET_TOKENS and self.method == "PATCH"


class Cluster:
    """What the API server holds.

    Args:
        tell: Called with each change, when it has been made.
    """

    def __init__(self, tell: Callable[[Change], None]) -> None:
        self.version = 1000
        self.events = 0
        self._objects: dict[str, dict[Key, Body]] = {ASSET_TOKENS: {}, SECRETS: {}, LEASES: {}, DEPLOYMENTS: {}}
        self._changes: deque[Change] = deque()
        self._forgotten = 0
        self._watching: list[asyncio.Event] = []
        self._tell = tell
        self._uids = 0

    def get(self, kind: str, key: Key) -> Body | None:
        """An object; None where there is none."""
        return self._objects[kind].get(key)

    def all(self, kind: str, namespace: str = "") -> list[Body]:
        """All objects, or those of a namespace."""
        return [body for key, body in self._objects[kind].items() if namespace in ("", key.namespace)]

    # What an API server does with a request.

    def answer(self, request: Request) -> Body:
        """Do what is asked.

        Raises:
            KubeRefusedError: As the API server would refuse it.
        """
        if request.kind == EVENTS:
            self.events += 1
            return {}
        if request.name is None:
            return self._create(request) if request.method == "POST" else self._list(request)
        key = Key(request.namespace, request.name)
        found = self.get(request.kind, key)
        if request.is_write_of_secret():
            return self._apply(key, found, request.body)
        if found is None:
            raise NotFoundError(f"the API server refused with 404 NotFound: {request.kind} {key}.", 404)
        if request.method == "PATCH":
            return self._patch(request.kind, key, found, request.body)
        if request.method == "DELETE":
            if any(found["metadata"][name] != seen for name, seen in request.body["preconditions"].items()):
                raise _conflict()
            self.delete(request.kind, key)
        return found

    def _list(self, request: Request) -> Body:
        items = self.all(request.kind, request.namespace)
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def _create(self, request: Request) -> Body:
        key = Key(request.namespace, request.body["metadata"]["name"])
        if self.get(request.kind, key) is not None:
            raise ConflictError("the API server refused with 409 AlreadyExists.", 409)
        return self.put(request.kind, key, request.body)

    def _patch(self, kind: str, key: Key, found: Body, patch: Body) -> Body:
        expected = patch.get("metadata", {}).get("resourceVersion", found["metadata"]["resourceVersion"])
        if expected != found["metadata"]["resourceVersion"]:
            raise _conflict()
        return self.put(kind, key, _merge_patch(found, patch))

    def _apply(self, key: Key, found: Body | None, applied: Body) -> Body:
        """Server-side apply under force: what the operator applied before and doesn't now is taken away."""
        uid = applied["metadata"].get("uid")
        if uid is not None and (found is None or uid != found["metadata"]["uid"]):
            raise _conflict()
        is_ours = found is not None and found["type"] == applied["type"]
        if (
            found
            and is_ours
            and applied["metadata"].get("resourceVersion", "") not in ("", found["metadata"]["resourceVersion"])
        ):
            raise _conflict()
        if found is not None and found["type"] != applied["type"]:
            raise KubeRefusedError("the API server refused with 422 Invalid.", 422, frozenset({"type"}))
        before = found or {"metadata": {}}
        owned = _owned_fields(before)
        metadata: Body = {**before["metadata"], **applied["metadata"]}
        for part in ("labels", "annotations"):
            metadata[part] = _merge_applied(before["metadata"].get(part), applied["metadata"].get(part), owned, part)
        data = _merge_applied(before.get("data"), applied.get("data"), owned, "data")
        metadata["managedFields"] = [_managed(applied)]
        return self.put(SECRETS, key, {**applied, "metadata": metadata, "data": data})

    # What anybody does.

    def put(self, kind: str, key: Key, body: Body) -> Body:
        """An object is created or changed; where nothing of it is another nothing happens."""
        found = self.get(kind, key)
        before: Body = found["metadata"] if found else {}
        metadata = {
            "creationTimestamp": before.get("creationTimestamp") or format_time(present()),
            **body["metadata"],
            "namespace": key.namespace,
            "name": key.name,
            "uid": before.get("uid") or self._new_uid(),
            "resourceVersion": before.get("resourceVersion", ""),
        }
        if kind == ASSET_TOKENS:
            is_same = found is not None and found["spec"] == body["spec"]
            metadata["generation"] = before.get("generation", 0) + (not is_same)
        stored = {**body, "metadata": metadata}
        if stored == found:
            return stored
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self._objects[kind][key] = stored
        self._changed(kind, "MODIFIED" if found else "ADDED", stored)
        return stored

    def delete(self, kind: str, key: Key) -> None:
        """An object is deleted, if it is there."""
        found = self._objects[kind].pop(key, None)
        if found is not None:
            self.version += 1
            gone = {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version)}}
            self._changed(kind, "DELETED", gone)

    def put_asset_token(self, key: Key, spec: Body, renew_request: str | None = None) -> None:
        """Somebody creates an AssetToken, or changes its spec or annotation."""
        found = self.get(ASSET_TOKENS, key)
        annotations = dict(found["metadata"].get("annotations", {})) if found else {}
        if renew_request is not None:
            annotations[f"{GROUP}/renew-requested-at"] = renew_request
        status = found["status"] if found else {"observedGeneration": -1}
        self.put(ASSET_TOKENS, key, {"metadata": {"annotations": annotations}, "spec": spec, "status": status})

    def lose_status(self, key: Key) -> None:
        """Somebody takes an AssetToken's status away."""
        found = self.get(ASSET_TOKENS, key)
        if found is not None:
            self.put(ASSET_TOKENS, key, {**found, "status": {"observedGeneration": -1}})

    def put_credentials(self, key: Key, client_id: str, client_secret: str) -> None:
        """Somebody creates or changes a credentials Secret."""
        data = {"client_id": encode(client_id), "client_secret": encode(client_secret)}
        self.put(SECRETS, key, {"metadata": {}, "type": "Opaque", "data": data})

    def collect_garbage(self) -> None:
        """Secrets go whose AssetToken has gone."""
        living = {body["metadata"]["uid"] for body in self.all(ASSET_TOKENS)}
        for secret in self.all(SECRETS):
            owners = secret["metadata"].get("ownerReferences", ())
            if any(owner["kind"] == KIND and owner["uid"] not in living for owner in owners):
                self.delete(SECRETS, Key(secret["metadata"]["namespace"], secret["metadata"]["name"]))

    # What watches are told.

    def watch(self, news: asyncio.Event) -> None:
        """Set the event at each change from now on."""
        self._watching.append(news)

    def unwatch(self, news: asyncio.Event) -> None:
        self._watching.remove(news)

    def changes_since(self, version: int) -> Iterator[Change] | None:
        """What has changed since, of all kinds; None where that isn't known any more."""
        if version < self._forgotten:
            return None
        newer = []
        for change in reversed(self._changes):
            if change.version <= version:
                break
            newer.append(change)
        return reversed(newer)

    def _changed(self, kind: str, what: str, body: Body) -> None:
        change = Change(self.version, kind, what, body)
        if kind != LEASES:
            self._changes.append(change)
            if len(self._changes) > REMEMBERED:
                self._forgotten = self._changes.popleft().version
            for news in self._watching:
                news.set()
        self._tell(change)

    def _new_uid(self) -> str:
        self._uids += 1
        return f"{self._uids:08d}-0000-4000-8000-000000000000"


def encode(text: str) -> str:
    """As the data of a Secret has it."""
    return base64.b64encode(text.encode()).decode()


def decode(text: str) -> str:
    return base64.b64decode(text).decode()


def _conflict() -> KubeRefusedError:
    return ConflictError("the API server refused with 409 Conflict.", 409)


def _merge_patch(before: Body, patch: Body) -> Body:
    """RFC 7396."""
    after = dict(before)
    for name, value in patch.items():
        if value is None:
            after.pop(name, None)
        elif isinstance(value, dict) and isinstance(after.get(name), dict):
            after[name] = _merge_patch(after[name], value)
        else:
            after[name] = value
    return after


def _merge_applied(
    before: Mapping[str, str] | None, applied: Mapping[str, str] | None, owned: frozenset[tuple[str, str]], part: str
) -> dict[str, str]:
    kept = {name: value for name, value in (before or {}).items() if (part, name) not in owned}
    return kept | dict(applied or {})


def _managed(applied: Body) -> Body:
    """The API server's book-keeping of an apply."""
    metadata = applied["metadata"]
    return {
        "manager": OPERATOR,
        "operation": "Apply",
        "fieldsV1": {
            "f:metadata": {
                "f:labels": {f"f:{name}": {} for name in metadata["labels"]},
                "f:annotations": {f"f:{name}": {} for name in metadata["annotations"]},
            },
            "f:data": {f"f:{name}": {} for name in applied.get("data", ())},
        },
    }


def _owned_fields(body: Body) -> frozenset[tuple[str, str]]:
    found = set()
    for entry in body["metadata"].get("managedFields", ()):
        fields = entry["fieldsV1"]
        for part, tree in (*fields["f:metadata"].items(), ("f:data", fields["f:data"])):
            found |= {(part.removeprefix("f:"), name.removeprefix("f:")) for name in tree}
    return frozenset(found)
