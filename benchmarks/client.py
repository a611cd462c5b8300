"""A fast client of the API server: aiohttp, 32 connections, plain JSON.

The measuring program creates with it what is measured; the reference client writes with it what the operator writes.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, Final, Self, TypeAlias

import aiohttp

Json: TypeAlias = dict[str, Any]

CONNECTIONS: Final = 32
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"


class CallError(Exception):
    """The API server refused a call."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call; `key` says what it is about."""

    method: str
    path: str
    body: Json | None = None
    content_type: str = "application/json"
    key: str = ""


class Client:
    """Makes calls; open it with `async with`.

    Args:
        kubeconfig: Of one cluster and one user with a token, in JSON.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server: str = cluster["server"]
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._authority = _authority(cluster)

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cadata=self._authority)
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        self.session = aiohttp.ClientSession(
            self._server, connector=connector, headers=self._headers, timeout=aiohttp.ClientTimeout()
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def call(self, call: Call) -> Json:
        """Make a call; gives the answer.

        Raises:
            CallError: It was refused.
        """
        data = None if call.body is None else json.dumps(call.body).encode()
        headers = {"Content-Type": call.content_type}
        async with self.session.request(call.method, call.path, data=data, headers=headers) as response:
            text = await response.read()
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise CallError(f"{call.method} {call.path} answered {response.status}: {text[:500]!r}")
        answer: Json = json.loads(text)
        return answer

    async def list(self, path: str, page: int = 500) -> list[Json]:
        """All objects of a list, which is read in pages."""
        found: list[Json] = []
        rest = ""
        while True:
            answer = await self.call(Call("GET", f"{path}?limit={page}&continue={rest}"))
            found += answer["items"]
            rest = answer["metadata"].get("continue", "")
            if not rest:
                return found

    async def each(self, calls: Iterable[Call], done: Callable[[int], object] = lambda _: None) -> dict[str, float]:
        """Make all these calls, 32 at a time; gives when each was sent, by its key, in monotonic seconds.

        Args:
            calls: The calls.
            done: Told how many have been answered, now and then.
        """
        sent: dict[str, float] = {}
        pending = iter(calls)

        async def work() -> None:
            for call in pending:
                sent[call.key] = monotonic()
                await self.call(call)
                if len(sent) % CONNECTIONS == 0:
                    done(len(sent))

        async with asyncio.TaskGroup() as workers:
            for _ in range(CONNECTIONS):
                workers.create_task(work())
        done(len(sent))
        return sent


class Background:
    """An event loop in a thread of its own, for a program that waits and measures meanwhile; a context manager."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="client", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def _authority(cluster: Mapping[str, str]) -> str:
    """The certificates in PEM that a kubeconfig's cluster names or holds."""
    if "certificate-authority" in cluster:
        return Path(cluster["certificate-authority"]).read_text()
    return base64.b64decode(cluster["certificate-authority-data"]).decode()
