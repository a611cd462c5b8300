"""The API server's audit log, as a list of the requests it was sent.

It is the only witness of "exactly two writes" that isn't the code under test. The log tells when a request is
received as well as when it ends, and this module merges both into one entry a request: so it is known which
requests are still under way, and a snapshot can wait for them.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

POLICY: Final = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
RECEIVED: Final = "RequestReceived"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One request to the API server.

    Attributes:
        verb: Kubernetes' verb (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …); for a path that
            isn't a resource's, the HTTP method in lower case.
        resource: The plural name; it and the next three are empty where they don't apply.
        user: The user's name; `system:serviceaccount:<namespace>:<name>` for a ServiceAccount.
        code: The answer's HTTP status; 0 where there was none, as the server was stopped.
        at: When the request was received.
        stage: `ResponseComplete` (or `Panic`); `ResponseStarted` for a watch that is still open.
    """

    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    user: str
    user_agent: str
    code: int
    at: datetime
    request_uri: str
    stage: str


class AuditLog:
    """Reads the log file on from where it stopped, as a session's log has tens of thousands of lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._requests: dict[str, AuditEvent] = {}  # by their ID, in the order they were received
        self._given_up: set[str] = set()

    def before(self, marker: str) -> list[AuditEvent] | None:
        """List the requests received before the one whose URI ends with `marker`.

        Returns:
            None as long as that one, or one of those before it, isn't in the log with its answer.
        """
        self._read_on()
        events: list[AuditEvent] = []
        for key, event in self._requests.items():
            if event.stage == RECEIVED and key not in self._given_up:
                return None
            if event.request_uri.endswith(marker):
                return events
            events.append(event)
        return None

    def give_up_on_open_requests(self) -> None:
        """Wait for no more answers to earlier requests: the server has ended."""
        self._read_on()
        self._given_up.update(key for key, event in self._requests.items() if event.stage == RECEIVED)

    def _read_on(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # still being written
                self._read_bytes += len(line)
                entry = json.loads(line)
                self._requests[entry["auditID"]] = _event(entry)


def _event(entry: dict[str, Any]) -> AuditEvent:
    ref = entry.get("objectRef", {})
    return AuditEvent(
        verb=entry["verb"],
        resource=ref.get("resource", ""),
        subresource=ref.get("subresource", ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name", ""),
        user=entry["user"].get("username", ""),
        user_agent=entry.get("userAgent", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        at=datetime.fromisoformat(entry["requestReceivedTimestamp"]),
        request_uri=entry["requestURI"],
        stage=entry["stage"],
    )
