"""Which Secrets there are, by their metadata alone.

Credentials Secrets and Secrets that are in the way belong to others: to notice that one of them was created, changed or
deleted takes no more than their names and versions, so nothing else of them is ever held. Each namespace, or all at
once, is followed by list and watch, and listed again whenever the watch breaks; what changed in between is found by
comparing.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import KubeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from asset_token_operator.clock import Clock
    from asset_token_operator.kube import KubeClient
    from asset_token_operator.model import Key

logger = logging.getLogger(__name__)

FIRST_RETRY: Final = timedelta(seconds=1)
LONGEST_RETRY: Final = timedelta(seconds=15)

EVERYWHERE: Final = ""
"""The scope of all namespaces."""


class SecretVersions:
    """The resource version of each Secret.

    Args:
        kube: The API server.
        namespaces: The namespaces that are followed; none means all.
        changed: Called with each Secret that was created, changed or deleted.
        clock: The clock.
        beat: Called with the scope whenever something was heard of the API server, or will be asked again.
    """

    def __init__(
        self,
        kube: KubeClient,
        namespaces: Sequence[str],
        changed: Callable[[Key], None],
        clock: Clock,
        beat: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kube = kube
        self._changed = changed
        self._clock = clock
        self._beat = beat
        self._versions: dict[Key, str] = {}
        self._as_of = dict.fromkeys(namespaces or [EVERYWHERE], 0)
        self._listed = {scope: asyncio.Event() for scope in self._as_of}

    def get(self, key: Key) -> str | None:
        """The version of a Secret; None where there is none."""
        return self._versions.get(key)

    def lacks(self, key: Key, version: int) -> bool:
        """Whether a Secret that had that version once is known not to be there any more."""
        as_of = self._as_of.get(key.namespace, self._as_of.get(EVERYWHERE, 0))
        return key not in self._versions and as_of >= version

    def scopes(self) -> Collection[str]:
        """The namespaces that are followed, or `EVERYWHERE`."""
        return self._as_of.keys()

    async def listed(self) -> None:
        """Wait until all Secrets are known."""
        for event in self._listed.values():
            await event.wait()

    def start(self) -> asyncio.Future[list[None]]:
        """Start to follow the changes.

        Returns:
            What ends only with an error, or by being cancelled.
        """
        return asyncio.gather(*(asyncio.create_task(self._follow(scope)) for scope in self._as_of))

    async def _follow(self, scope: str) -> None:
        retry = FIRST_RETRY
        while True:
            try:
                await self._list(scope)
                retry = FIRST_RETRY
                while True:
                    await self._watch(scope)
                    await self._wait(scope, FIRST_RETRY)
            except KubeError as error:
                logger.warning("Secrets can't be followed, tried again in %s: %s", retry, error)
                await self._wait(scope, retry)
                retry = min(retry * 2, LONGEST_RETRY)

    async def _wait(self, scope: str, time: timedelta) -> None:
        self._beat(scope)
        await self._clock.sleep(time.total_seconds())

    async def _list(self, scope: str) -> None:
        versions, since = await self._kube.list_secret_versions(scope)
        before = {key: version for key, version in self._versions.items() if scope in (EVERYWHERE, key.namespace)}
        for key in before.keys() - versions.keys():
            del self._versions[key]
        self._versions |= versions
        self._as_of[scope] = int(since)
        self._listed[scope].set()
        for key in before.keys() | versions.keys():
            if before.get(key) != versions.get(key):
                self._changed(key)

    async def _watch(self, scope: str) -> None:
        async for event, key, version in self._kube.watch_secret_versions(scope, str(self._as_of[scope])):
            self._beat(scope)
            self._as_of[scope] = int(version)
            if event == "BOOKMARK":
                continue
            if event == "DELETED":
                self._versions.pop(key, None)
            else:
                self._versions[key] = version
            self._changed(key)
