"""What is said once after the start: what runs, where, and for what; and what was probably meant otherwise.

Nothing waits for it, and nothing is decided by it. What there is no right to look at is left out.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.errors import KubeError, NotFoundError
from asset_token_operator.kubeconfig import context_namespace, own_namespace
from asset_token_operator.model import OPERATOR
from asset_token_operator.scopes import name_of
from asset_token_operator.times import parse_time

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from asset_token_operator.api_server import ApiClient
    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.config import Settings
    from asset_token_operator.scopes import Scopes

logger = logging.getLogger(__name__)

PATIENCE_SECONDS: Final = 10.0
"""How long the line waits for all that shall be served; what isn't by then is named."""

LEASES: Final = "/apis/coordination.k8s.io/v1"


def lease_namespace(settings: Settings) -> str:
    """Where the Lease is: where it was said, or where the operator runs, works, or is asked to by the kubeconfig."""
    named = settings.lease_namespace or own_namespace() or next(iter(settings.namespaces), None)
    return named or context_namespace()


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is said of a start.

    Attributes:
        settings: How the operator runs.
        api: The API server.
        scopes: What it serves.
        caches: What it knows.
        clock: The clock.
        all_served: Set once everything is served that shall be.
    """

    settings: Settings
    api: ApiClient
    scopes: Scopes
    caches: Caches
    clock: Clock
    all_served: asyncio.Event

    async def make(self) -> None:
        """Say it."""
        await self.clock.wait(self.all_served, PATIENCE_SECONDS)
        if not self.scopes.is_ready():
            waits = "%s %s waits for the cluster at %s, and serves nothing yet"
            logger.info(waits, OPERATOR, version(OPERATOR), self.api.host())
        while not self.scopes.is_ready():
            await self.clock.wait(self.all_served, PATIENCE_SECONDS)
        logger.info("%s", self.line())
        for namespace in self._empty():
            if not await self._exists(namespace):
                logger.warning("namespace %s does not exist: create it, or correct --namespace", namespace)
        if not self.settings.leader_elect and own_namespace() is None:
            for lease, holder in await self._held_leases():
                logger.warning(
                    "%s is held by %s, so another operator serves this cluster, and this one runs without"
                    " --leader-elect: both request tokens for the same AssetTokens. Stop one of them, or part them by"
                    " --namespace or --selector",
                    lease,
                    holder,
                )

    def line(self) -> str:
        """Which version serves what in which cluster."""
        served = [scope for scope in self.scopes.names if self.scopes.serves(scope)]
        number = sum(1 for _ in self.caches.asset_tokens())
        what = "1 AssetToken" if number == 1 else f"{number} AssetTokens"
        if self.settings.selector is not None:
            what += f" with labels {self.settings.selector}"
        where = ", ".join(name_of(scope) for scope in served)
        missing = "; ".join(problem.rstrip(".") for problem in self.scopes.problems())
        line = f"{OPERATOR} {version(OPERATOR)} serves {what} in {where} of the cluster at {self.api.host()}"
        return f"{line}; not yet {missing}" if missing else line

    def _empty(self) -> Iterator[str]:
        """The namespaces that are served and have nothing in them, as one has that doesn't exist."""
        full = {token.key.namespace for token in self.caches.asset_tokens()}
        full |= {key.namespace for key in self.caches.secrets()}
        yield from (scope for scope in self.scopes.names if scope and scope not in full and self.scopes.serves(scope))

    async def _exists(self, namespace: str) -> bool:
        """Whether there is such a namespace, as far as may be known."""
        try:
            return await self.api.call("GET", f"/api/v1/namespaces/{namespace}", lambda _: True)
        except NotFoundError:
            return False
        except KubeError:
            return True

    async def _held_leases(self) -> list[tuple[str, str]]:
        """The Leases of that name that somebody holds now, wherever they are, or at least where one would be."""
        name, read = self.settings.lease_name, partial(_held, now=self.clock.now())
        query = {"fieldSelector": f"metadata.name={name}"}
        with contextlib.suppress(KubeError):
            return await self.api.call("GET", f"{LEASES}/leases", read, query=query)
        own = f"{LEASES}/namespaces/{lease_namespace(self.settings)}/leases/{name}"
        with contextlib.suppress(KubeError):
            return await self.api.call("GET", own, lambda lease: read({"items": [lease]}))
        return []


def _held(leases: Mapping[str, Any], now: datetime) -> list[tuple[str, str]]:
    """Those that haven't ended, and weren't let go of, each with its holder."""
    held = []
    for lease in leases["items"]:
        spec, metadata = lease["spec"], lease["metadata"]
        if spec.get("holderIdentity") and "renewTime" in spec:
            ends = parse_time(spec["renewTime"]) + timedelta(seconds=spec["leaseDurationSeconds"])
            if ends > now:
                held.append((f"Lease {metadata['namespace']}/{metadata['name']}", spec["holderIdentity"]))
    return held
