"""A stand-in for an API server, or for what stands in front of it, and kubeconfigs that lead to either."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from tests.support.clock import settle

Answer: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class StandIn:
    """Where it is, and what it received.

    Attributes:
        received: The method, path and body of each request.
        headers: The headers of each.
    """

    url: str
    received: list[tuple[str, str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


@asynccontextmanager
async def an_api_server(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[StandIn]:
    """One that answers so."""
    api = StandIn("")

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        api.received.append((request.method, request.path, await request.text()))
        api.headers.append(request.headers)
        return await answer(request)

    server = RawTestServer(handle, scheme="http" if tls is None else "https", handler_cancellation=True)
    await server.start_server(ssl=tls)
    api.url = str(server.make_url("")).rstrip("/")
    try:
        yield api
    finally:
        await settle()  # a connection that is just being taken up is lost by asyncio, unclosed, where the server closes
        await server.close()


def answering(status: int, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> Answer:
    """The same answer to all."""

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers=headers)

    return answer


async def silent(request: web.BaseRequest) -> web.StreamResponse:
    """Begin an answer, and never go on."""
    response = web.StreamResponse()
    await response.prepare(request)
    await asyncio.Event().wait()
    return response


def a_kubeconfig(folder: Path, server: str, user: Any = None, **cluster: Any) -> Path:
    """Write one that leads to a server, with a token unless the user says something else."""
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": {"server": server, **cluster}}],
                "users": [{"name": "me", "user": {"token": "canary-kube-token"} if user is None else user}],
                "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
                "current-context": "it",
            }
        )
    )
    return path


def a_login_program(path: Path, script: str, **exec_: Any) -> dict[str, Any]:
    """Write one, of the shell; the user of a kubeconfig that names it."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    named = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}
    return {"exec": named | exec_}


def issuing(**status: str) -> str:
    """What such a script does to issue something."""
    said = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"cat <<'END'\n{json.dumps(said)}\nEND"


def forget_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy is a way to loopback, and no cluster of whoever runs the tests is touched."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("KUBERNETES_SERVICE_"):
            monkeypatch.delenv(name)
