"""Admission webhooks of somebody else's, which are slow, or deny or change what they are asked about."""

import base64
import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

from tests.support.certificates import a_certificate
from tests.support.cluster import Cluster, Json

CONFIGURATIONS: Final = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
SECRETS: Final = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nobody waited for the answer."""


class Webhook:
    """Webhooks that are asked, one after the other, before objects of a namespace are written; a context manager.

    Args:
        cluster: Where.
        namespace: Of which namespace's objects.
        folder: Where the server's certificate is kept.
        names: The webhooks'.
        resources: About what they are asked.
        seconds: How long each takes to answer.
        timeout: How long the API server waits for each.
        failure_policy: What follows from an answer that is late.
        denial: The status with which they deny; None where they allow.
        patch: How they change it, as a JSON patch.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        folder: Path,
        *,
        names: tuple[str, ...] = ("slow.example.com",),
        resources: Mapping[str, Any] = SECRETS,
        seconds: float = 0,
        timeout: int = 10,
        failure_policy: str = "Ignore",
        denial: Mapping[str, Any] | None = None,
        patch: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._cluster = cluster
        self._name = f"{namespace}-{names[0]}"
        self._certificate = a_certificate(folder / "webhook")
        self._stopped = threading.Event()
        self._seconds = seconds
        self._denial = denial
        self._patch = patch
        self.asked = 0
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.socket = self._certificate.context.wrap_socket(self._server.socket, server_side=True)
        bundle = base64.b64encode(self._certificate.path.read_bytes()).decode()
        url = f"https://127.0.0.1:{self._server.server_port}/"
        self._webhooks = [
            {
                "name": name,
                "clientConfig": {"url": url, "caBundle": bundle},
                "rules": [{**resources, "operations": ["CREATE", "UPDATE"], "scope": "Namespaced"}],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": failure_policy,
                "timeoutSeconds": timeout,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
            for name in names
        ]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
            stack.callback(self._server.server_close)
            stack.callback(self._server.shutdown)
            stack.callback(self._stopped.set)
            body = {"metadata": {"name": self._name}, "webhooks": self._webhooks}
            self._cluster.api.create(CONFIGURATIONS, body)
            stack.callback(self._cluster.api.delete, f"{CONFIGURATIONS}/{self._name}")
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def stop_answering(self) -> None:
        """Nothing listens any more where they are said to be."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, uid: str) -> bytes:
        self.asked += 1
        self._stopped.wait(self._seconds)
        verdict: Json = {"allowed": True} if self._denial is None else {"allowed": False, "status": self._denial}
        if self._patch:
            encoded = base64.b64encode(json.dumps(self._patch).encode()).decode()
            verdict |= {"patchType": "JSONPatch", "patch": encoded}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": uid, **verdict}}
        return json.dumps(review).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = answer(asked["request"]["uid"])
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
