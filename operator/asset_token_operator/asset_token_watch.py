"""Follows AssetTokens: lets kopf watch them, and knows when all of them have been seen.

kopf tells of what is there, and not of how much there is, nor of what vanished while it was away. So when it begins to
watch what it has listed, the names of all AssetTokens are listed once more: what isn't among them is gone, and what is
among them has to be seen before the scope is served. All that changes from then on, the watch tells.

Whenever a watch begins resource versions are compared (`versions.py`), and where they have gone back kopf is begun
anew: all that it has told seemed to be old.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import KubeError, KubeRefusedError, KubeUnavailableError, NotFoundError
from asset_token_operator.handlers import KopfThread
from asset_token_operator.model import GROUP, PLURAL, VERSION
from asset_token_operator.versions import ASSET_TOKENS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.model import AssetToken, Key
    from asset_token_operator.ports import AssetTokenSource
    from asset_token_operator.scopes import Scopes

logger = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 1.0
"""After kopf's end, or a list that failed."""

LOOK_SECONDS: Final = 2.0
STOP_SECONDS: Final = 5.0
SILENCE: Final = timedelta(seconds=30)
"""So long kopf may ask for nothing in a scope that it doesn't watch: after a 429 it sleeps as long as that says."""


class AssetTokenWatch:
    """Fills the caches with AssetTokens; it is kopf's `Observer`.

    Args:
        kube: The API server.
        caches: What is filled.
        scopes: What is followed; told how that goes.
        wake: Called with each AssetToken that something happened to.
        clock: The clock.
        heartbeat: Called whenever the API server is asked, or will be.
        selector: Which AssetTokens are served, by their labels; None for all. To this operator there are no others.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        kube: AssetTokenSource,
        caches: Caches,
        scopes: Scopes,
        wake: Callable[[Key], None],
        clock: Clock,
        heartbeat: Callable[[], None] = lambda: None,
        selector: str | None = None,
    ) -> None:
        self._kube = kube
        self._caches = caches
        self._scopes = scopes
        self._wake = wake
        self._clock = clock
        self._heartbeat = heartbeat
        self._selector = selector
        self._missing: dict[str, dict[Key, int]] = {}
        """For each scope that is watched: what there is and hasn't been seen yet, and in which version."""
        self._listing: dict[str, asyncio.Task[None]] = {}
        self._unreadable: dict[Key, int] = {}
        self._epoch = 0
        self._silent: dict[str, timedelta] = {}
        """For each scope that isn't watched: since when kopf has asked for nothing there."""

    async def run(self) -> None:
        """Follow the changes, until cancelled."""
        while True:
            try:
                if not await self._kube.serves_asset_tokens():
                    raise NotFoundError(
                        f"the cluster has no {PLURAL}.{GROUP}/{VERSION}; install the CRD (crds/).",
                        HTTPStatus.NOT_FOUND,
                    )
            except KubeError as error:
                self._lost(self._scopes.names, error)
            else:
                await self._watch()
            self._heartbeat()
            await self._clock.sleep(AGAIN_SECONDS)

    async def _watch(self) -> None:
        """Let kopf watch until it ends, or has to be begun anew."""
        namespaces = [scope for scope in self._scopes.names if scope]
        kopf = KopfThread(namespaces, self, asyncio.get_running_loop(), self._selector)
        kopf.start()
        fingerprint, self._silent = self._kube.fingerprint(), {}
        for scope in self._scopes.names:
            self._unwatched(scope)
        self._begin_epoch()
        try:
            while not kopf.ended.is_set():
                await self._clock.wait(kopf.ended, LOOK_SECONDS)
                is_silent = any(self._clock.elapsed() - since >= SILENCE for since in self._silent.values())
                for task in self._listing.values():
                    if task.done():
                        task.result()  # an error that nobody expected ends the operator, which is started anew
                if self._has_gone_back() or is_silent or self._kube.fingerprint() != fingerprint:
                    break
        finally:
            kopf.stop()
            await self._clock.wait(kopf.ended, STOP_SECONDS)
            for task in self._listing.values():
                task.cancel()
            self._listing.clear()
            self._missing.clear()

    # What kopf tells.

    def asked(self, scope: str | None = None) -> None:
        """A request is about to be sent, for a scope's AssetTokens unless it is for what all of them need."""
        for one in self._silent if scope is None else self._silent.keys() & {scope}:
            self._unwatched(one)
        self._heartbeat()

    def watching(self, scope: str, *, listed: bool) -> None:
        """The AssetTokens of a scope are watched."""
        self._silent.pop(scope, None)
        is_new = listed or scope not in self._missing
        if not is_new:
            self._find_complete(scope)
        before = self._listing.pop(scope, None)
        if before is not None:
            before.cancel()
        self._listing[scope] = asyncio.create_task(self._list(scope) if is_new else self._compare(scope))

    def refused(self, scope: str, status: int) -> None:
        """The API server refused to list or watch a scope's AssetTokens."""
        self._unwatched(scope)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.GONE):  # kopf logs in anew, or is begun anew
            return
        what = f"the API server answered {status} to the list of AssetTokens"
        if status == HTTPStatus.FORBIDDEN:
            why = f"{what} (Forbidden); check the operator's Role there; tried again by itself."
            self._lost([scope], KubeRefusedError(why, status))
        else:
            # Also a 404, which may be anybody's: kopf ends at it, and before it is begun anew `run` asks for the CRD.
            self._lost([scope], KubeUnavailableError(f"{what}; tried again by itself."))

    def unreachable(self, scope: str, error: str) -> None:
        """The API server couldn't be reached: where, and why."""
        self._unwatched(scope)
        self._lost([scope], KubeUnavailableError(f"no answer from the API server at {error}; tried again by itself."))

    def saw(self, token: AssetToken) -> None:
        """An AssetToken is there, in that state."""
        self._unreadable.pop(token.key, None)
        self._wake_all(self._caches.saw_asset_token(token))
        self._found(token.key, token.version)

    def saw_deleted(self, key: Key, version: int) -> None:
        """An AssetToken was deleted."""
        self._unreadable.pop(key, None)
        self._wake_all(self._caches.asset_token_gone(key, version))
        self._found(key, version)

    def saw_unreadable(self, key: Key, version: int, error: str) -> None:
        """An AssetToken is there that can't be read."""
        logger.error("%s can't be read (%s): install the CRD (crds/) of this operator's version", key, error)
        self._unreadable[key] = version
        self._wake_all(self._caches.asset_token_gone(key, version))
        self._found(key, version)

    # What is made of it.

    def _unwatched(self, scope: str) -> None:
        """A scope isn't watched, and has been heard of."""
        self._silent[scope] = self._clock.elapsed()

    async def _compare(self, scope: str) -> None:
        """Look whether a watch that goes on where it was goes on at all."""
        while True:
            highest = self._caches.versions.highest(ASSET_TOKENS)
            try:
                version = await self._kube.version_of_asset_tokens(scope, self._selector)
            except KubeError:
                await self._clock.sleep(AGAIN_SECONDS)
            else:
                break
        self._caches.versions.compare(ASSET_TOKENS, version, highest)

    def _has_gone_back(self) -> bool:
        return self._epoch != self._caches.versions.epoch

    def _begin_epoch(self) -> None:
        """Where versions have gone back since, whatever is told from now on is the latest."""
        if self._has_gone_back():
            self._epoch = self._caches.versions.epoch
            self._unreadable = dict.fromkeys(self._unreadable, 0)
            self._caches.forget_versions_of_asset_tokens()

    async def _list(self, scope: str) -> None:
        """Learn what there is, so that what isn't there any more is known, and what hasn't been seen yet."""
        while True:
            highest = self._caches.versions.highest(ASSET_TOKENS)
            try:
                listed, version = await self._kube.list_asset_tokens(scope, self._selector)
            except KubeError as error:
                self._lost([scope], error)
                await self._clock.sleep(AGAIN_SECONDS)
            else:
                break
        known = self._unreadable | {token.key: token.version for token in self._caches.asset_tokens()}
        if not self._has_gone_back():
            both = ((listed[key], known[key]) for key in listed.keys() & known.keys())
            self._caches.versions.compare(ASSET_TOKENS, version, highest, both)
        if self._has_gone_back():  # kopf is about to be begun anew
            return
        for key in known.keys() - listed.keys():
            if self._scopes.of(key.namespace) == scope:
                self._unreadable.pop(key, None)
                self._wake_all(self._caches.asset_token_gone(key, version))
        self._missing[scope] = {key: seen for key, seen in listed.items() if known.get(key, 0) < seen}
        self._find_complete(scope)

    def _found(self, key: Key, version: int) -> None:
        scope = self._scopes.of(key.namespace)
        missing = self._missing.get(scope)
        if missing and missing.get(key, version + 1) <= version:
            del missing[key]
            self._find_complete(scope)

    def _find_complete(self, scope: str) -> None:
        if not self._missing[scope]:
            self._scopes.asset_tokens_known(scope)

    def _lost(self, scopes: Iterable[str], error: KubeError) -> None:
        for scope in scopes:
            self._scopes.asset_tokens_lost(scope, error)

    def _wake_all(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._wake(key)
