"""Follows all Secrets by their metadata alone.

Of our own Secrets the annotations say what they hold; of all others (credentials, whatever is in the way) it is enough
to notice that one was created, changed or deleted. So nobody's data is ever sent or held. Each namespace, or all at
once, is followed by list and watch, and listed again whenever the watch breaks; what changed in between is found by
comparing.

Before a watch goes on where it was its version is compared with a list's, and whatever is listed with what was known
(`versions.py`).
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import KubeError, KubeRefusedError
from asset_token_operator.versions import SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.model import Key, SecretState
    from asset_token_operator.parsing import SecretEvent
    from asset_token_operator.ports import SecretSource
    from asset_token_operator.scopes import Scopes

FIRST_RETRY: Final = timedelta(seconds=1)
LONGEST_RETRY: Final = timedelta(seconds=5)

MOST_SILENT: Final = 2
"""So many watches of a scope in a row may have told nothing before they broke, as where API servers are restarted in
turn, and after the list before the next it still counts as followed. A bookmark comes each minute."""


class SecretReflector:
    """Fills the caches with all Secrets' metadata.

    Args:
        kube: The API server.
        caches: What is filled.
        scopes: What is followed; told how that goes.
        wake: Called with each AssetToken that a change concerns.
        clock: The clock.
        heartbeat: Called with the scope whenever something was heard of the API server, or will be asked again.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        kube: SecretSource,
        caches: Caches,
        scopes: Scopes,
        wake: Callable[[Key], None],
        clock: Clock,
        heartbeat: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kube = kube
        self._caches = caches
        self._scopes = scopes
        self._wake = wake
        self._clock = clock
        self._heartbeat = heartbeat
        self._as_of = dict.fromkeys(scopes.names, 0)
        """Up to which resource version everything is known, for each scope."""
        self._epochs = dict.fromkeys(scopes.names, 0)
        """In which epoch of versions that was."""
        self._silent = dict.fromkeys(scopes.names, 0)
        """How many watches have been begun since one told anything."""

    async def run(self) -> None:
        """Follow the changes, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for scope in self._scopes.names:
                group.create_task(self._follow(scope))

    def written(self, secret: SecretState) -> None:
        """The operator wrote a Secret itself: what the watch will say of it is no news."""
        self._caches.versions.saw(SECRETS, secret.version)
        if secret.version > self._as_of[self._scopes.of(secret.key.namespace)]:  # else the watch has gone beyond
            self._caches.saw_secret(secret.without_data())

    async def _follow(self, scope: str) -> None:
        retry = FIRST_RETRY
        while True:
            try:
                await self._list(scope)
                if self._silent[scope] <= MOST_SILENT:
                    self._scopes.secrets_known(scope)
                self._silent[scope] += 1
                gone_back = False
                while not gone_back:
                    await self._watch(scope)
                    await self._wait(scope, FIRST_RETRY)
                    gone_back = await self._has_gone_back(scope)
            except KubeError as error:
                if not self._silent[scope]:
                    self._silent[scope], retry = 1, FIRST_RETRY
                is_gone = isinstance(error, KubeRefusedError) and error.status == HTTPStatus.GONE
                if retry > FIRST_RETRY or not is_gone:  # which happens now and then: list again
                    self._scopes.secrets_lost(scope, error)
                await self._wait(scope, retry)
                retry = min(retry * 2, LONGEST_RETRY)

    async def _wait(self, scope: str, time: timedelta) -> None:
        self._heartbeat(scope)
        await self._clock.sleep(time.total_seconds())

    async def _has_gone_back(self, scope: str) -> bool:
        highest = self._caches.versions.highest(SECRETS)  # before it is asked: meanwhile there may be higher ones
        self._caches.versions.compare(SECRETS, await self._kube.version_of_secrets(scope), highest)
        return self._is_of_another_epoch(scope)

    def _is_of_another_epoch(self, scope: str) -> bool:
        return self._epochs[scope] != self._caches.versions.epoch

    def _follow_epoch(self, scope: str, listed: Collection[Key]) -> None:
        """If versions have gone back, what is told next of this scope's Secrets is the latest, but for those listed."""
        if self._is_of_another_epoch(scope):
            self._epochs[scope], self._as_of[scope] = self._caches.versions.epoch, 0
            self._caches.forget_versions_of_secrets(
                lambda key: self._scopes.of(key.namespace) == scope and key not in listed
            )

    async def _list(self, scope: str) -> None:
        listed: set[Key] = set()
        version, highest = 0, self._caches.versions.highest(SECRETS)
        async for page, version in self._kube.list_secrets(scope):
            self._heartbeat(scope)
            self._follow_epoch(scope, listed)  # what was found out meanwhile isn't found out once more
            known = self._caches.secrets()
            both = ((secret.version, known[secret.key].version) for secret in page if secret.key in known)
            self._caches.versions.compare(SECRETS, version, 0 if listed else highest, both)
            self._follow_epoch(scope, listed)
            for secret in page:
                listed.add(secret.key)
                self._saw(secret)
        for key in [key for key in self._caches.secrets() if self._scopes.of(key.namespace) == scope]:
            if key not in listed:
                self._gone(key, version)
        self._as_of[scope] = version

    async def _watch(self, scope: str) -> None:
        async for event in self._kube.watch_secrets(scope, self._as_of[scope]):
            self._heartbeat(scope)
            if self._is_of_another_epoch(scope):
                return
            if self._silent[scope]:  # so the watch works, and not only the list before it
                self._silent[scope] = 0
                self._scopes.secrets_known(scope)
            self._caches.versions.saw(SECRETS, event.version)
            self._as_of[scope] = event.version
            self._hear(event)

    def _hear(self, event: SecretEvent) -> None:
        if event.secret is None:
            return
        if event.kind == "DELETED":
            self._gone(event.secret.key, event.version)
        else:
            self._saw(event.secret)

    def _saw(self, secret: SecretState) -> None:
        self._wake_all(self._caches.saw_secret(secret))

    def _gone(self, key: Key, version: int) -> None:
        self._wake_all(self._caches.secret_gone(key, version))

    def _wake_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._wake(key)
