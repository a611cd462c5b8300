"""Which of several operators works: the one that holds the Lease that they share.

A standby looks at the Lease every second and takes it when its holder has let go of it or hasn't renewed it for as long
as it lasts, by the standby's own clock. The leader renews it every two seconds. What makes two leaders harmless is that
each send asks `time_left` first: the Lease ends for its holder by a clock that also counts suspended time, from the
moment before the renewal was sent, so it has always ended for the old leader when another may take it; and a request
takes no longer than what the Lease has left (docs/adr/0006).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.api_server import MERGE_PATCH
from asset_token_operator.durations import in_words
from asset_token_operator.errors import (
    ConflictError,
    KubeError,
    KubeUnavailableError,
    NotFoundError,
    NotLeadingError,
)
from asset_token_operator.times import format_micro_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asset_token_operator.clock import Clock
    from asset_token_operator.ports import LeaseStore

logger = logging.getLogger(__name__)

LEASE_DURATION: Final = timedelta(seconds=15)
LONGEST_LEASE: Final = 4 * LEASE_DURATION
"""A standby waits no longer, whatever the Lease says: a holder renews it, and one that was made up never does."""

RENEW_EVERY: Final = timedelta(seconds=2)
RETRY_PERIOD: Final = timedelta(seconds=1)
"""How often a standby looks, and a leader tries again to renew."""

ONCE_MORE: Final = timedelta(seconds=3)
"""A call that isn't answered for so long is made once more beside it: the connection may be dead, or only slow."""

LET_GO: Final = timedelta(seconds=5)
"""For the call that lets go of the Lease."""

MOST_TRANSITIONS: Final = 2**31 - 1
"""What `leaseTransitions` can count; more is refused."""

SHORTEST_SEND: Final = timedelta(seconds=5)
"""With less than this left nothing is begun any more."""


def forever() -> timedelta:
    """The time left to an operator without an election."""
    return timedelta.max


@dataclass(frozen=True, slots=True)
class Lease:
    """The Lease as it stands.

    Attributes:
        version: Its resource version; every renewal changes it.
        holder: Who holds it; empty when its holder let go of it.
        lasts: How long it says that it lasts after each renewal.
        transitions: How often it has gone from one holder to another.
    """

    version: str
    holder: str
    lasts: timedelta
    transitions: int


class Leadership:
    """One operator's part in the election.

    Args:
        api: The API server.
        namespace: Where the Lease is.
        name: Its name.
        instance: This operator's name, to which something is added that makes it unique.
        clock: The clock.
    """

    def __init__(self, api: LeaseStore, namespace: str, name: str, instance: str, clock: Clock) -> None:
        self._api = api
        self._namespace = namespace
        self._name = name
        self._identity = f"{instance}_{uuid.uuid4().hex[:8]}"
        self._lease = f"Lease {namespace}/{name}"
        self._clock = clock
        self._until = timedelta()
        self._held: Lease | None = None
        self._seen: tuple[Lease | None, timedelta, timedelta] | None = None
        """The Lease as it was seen last, since when it is like that, and for how long that may keep its holder."""
        self._told = ""

    def leads(self) -> bool:
        """Whether this operator holds the Lease now."""
        return self._held is not None and self._until > self._clock.elapsed()

    def time_left(self) -> timedelta:
        """How long what is sent now may take.

        Raises:
            NotLeadingError: The Lease has ended, or is about to.
        """
        left = self._until - self._clock.elapsed()
        if left < SHORTEST_SEND:
            raise NotLeadingError
        return left

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while True:
            began = self._clock.elapsed()
            try:
                wait = await self._try_to_take(began)
            except KubeError as error:
                self._tell(f"{self._lease} can't be had: {error}", logging.WARNING)
                wait = RETRY_PERIOD
            if self.leads():
                self._tell(f"leads, as {self._identity}, which holds {self._lease}")
                return
            await self._clock.sleep(wait.total_seconds())

    async def keep(self) -> None:
        """Renew the Lease until it is lost."""
        wait = RENEW_EVERY
        while True:
            await self._clock.sleep(wait.total_seconds())
            if not self.leads():
                break
            try:
                wait = await self._renew()
            except KubeError as error:
                self._tell(f"{self._lease} can't be renewed: {error}", logging.WARNING)
                wait = RETRY_PERIOD
        self._held = None
        self._tell(
            f"does not lead any more, as {self._identity}: {self._lease} wasn't renewed in time, or is another's"
        )

    async def release(self) -> None:
        """Let go of the Lease, so that a standby need not wait for its end."""
        if self._held is None or not self.leads():
            return
        held, self._held, self._until = self._held, None, timedelta()
        try:
            await self._patch(held, {"holderIdentity": "", "leaseDurationSeconds": 1}, LET_GO)
        except KubeError as error:
            logger.warning("%s can't be released, so another leads when it ends: %s", self._lease, error)

    async def _try_to_take(self, began: timedelta) -> timedelta:
        """Take the Lease if it is free; else when to look again."""
        ends = began + LEASE_DURATION - SHORTEST_SEND
        lease = await self._read(self._left(ends))
        since, lasts = self._look_at(lease)
        if lasts and since + lasts > began:
            who = (
                f"{self._lease} was deleted, and its holder may not know yet"
                if lease is None
                else f"{lease.holder} leads"
            )
            self._tell(f"stands by: {who}")
            return min(RETRY_PERIOD, since + lasts - began)
        await self._take(lease, began, self._left(ends))
        return RETRY_PERIOD

    def _look_at(self, lease: Lease | None) -> tuple[timedelta, timedelta]:
        """Since when the Lease is as it is, and for how long from then on another may lead by it.

        One that is deleted may have a holder that is cut off and can't be told, so it is respected to its end. So may
        one that somebody edits: whatever it says it lasts, its holder counts on `LEASE_DURATION`.
        """
        if self._seen is None or self._seen[0] != lease:
            lasts = timedelta()
            if lease is None:
                lasts = timedelta() if self._seen is None else self._seen[2]
            elif lease.holder not in ("", self._identity):
                lasts = min(max(lease.lasts, LEASE_DURATION), LONGEST_LEASE)
            self._seen = (lease, self._clock.elapsed(), lasts)
        return self._seen[1:]

    def _left(self, ends: timedelta) -> timedelta:
        return ends - self._clock.elapsed()

    async def _take(self, lease: Lease | None, began: timedelta, within: timedelta) -> None:
        spec = {
            "holderIdentity": self._identity,
            "acquireTime": self._now(),
            "leaseTransitions": 0 if lease is None else min(lease.transitions + 1, MOST_TRANSITIONS),
        } | self._renewal()
        with contextlib.suppress(ConflictError):  # another was faster
            self._held = await (self._create(spec, within) if lease is None else self._patch(lease, spec, within))
            self._until = began + LEASE_DURATION

    async def _renew(self) -> timedelta:
        """Renew the Lease; when to do it next. One that another holds is lost at once."""
        if self._held is None:
            raise NotLeadingError
        began = self._clock.elapsed()
        try:
            self._held = await self._patch(self._held, self._renewal(), self._left(self._until))
        except NotFoundError:
            await self._take(None, began, self._left(self._until))
        except ConflictError:
            lease = await self._read(self._left(self._until))
            if lease is None or lease.holder != self._identity:
                self._until = timedelta()
            self._held = lease
            return timedelta()
        else:
            self._until = began + LEASE_DURATION
        return max(timedelta(), self._left(began + RENEW_EVERY))

    def _tell(self, what: str, level: int = logging.INFO) -> None:
        """Log it, once."""
        if what != self._told:
            self._told = what
            logger.log(level, "%s", what)

    def _renewal(self) -> dict[str, Any]:
        """What each renewal says: how long it lasts too, which somebody may have edited."""
        return {"leaseDurationSeconds": int(LEASE_DURATION.total_seconds()), "renewTime": self._now()}

    def _now(self) -> str:
        return format_micro_time(self._clock.now())

    async def _read(self, within: timedelta) -> Lease | None:
        try:
            return await self._call(within, "GET", self._path())
        except NotFoundError:
            return None

    async def _create(self, spec: Mapping[str, Any], within: timedelta) -> Lease:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._namespace, "name": self._name},
            "spec": spec,
        }
        return await self._call(within, "POST", self._path().rpartition("/")[0], body)

    async def _patch(self, lease: Lease, spec: Mapping[str, Any], within: timedelta) -> Lease:
        """Change it, unless it has been changed since."""
        body = {"metadata": {"resourceVersion": lease.version}, "spec": spec}
        return await self._call(within, "PATCH", self._path(), body, MERGE_PATCH)

    async def _call(
        self,
        within: timedelta,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Lease:
        """Make a call, and once more each time that no answer has come for a while; the first answer counts.

        That is safe: a change carries the version that it changes, so at most one of them is made. The others are
        refused, and who is refused looks what stands there.
        """
        ends, tries, answered = self._clock.elapsed() + within, list[asyncio.Task[Lease]](), asyncio.Event()
        try:
            while (left := self._left(ends)) > timedelta():
                call = self._api.call(method, path, _read_lease, body=body, content_type=content_type, waits=False)
                tries.append(asyncio.create_task(call))
                tries[-1].add_done_callback(lambda _: answered.set())
                await self._clock.wait(answered, min(left, ONCE_MORE).total_seconds())
                answered.clear()
                if (task := _answer(tries)) is not None:
                    return task.result()
        finally:
            for task in tries:
                if not task.cancel() and not task.cancelled():
                    task.exception()  # it was told, or isn't worth it
        raise KubeUnavailableError(f"{method} {path}: no answer within {in_words(within)}; tried again by itself.")

    def _path(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{self._name}"


def _answer(tries: Sequence[asyncio.Task[Lease]]) -> asyncio.Task[Lease] | None:
    """The one whose answer counts: what the API server said, or that all have failed; None where one may still come."""
    ended = [task for task in tries if task.done()]
    said = [task for task in ended if not isinstance(task.exception(), KubeUnavailableError)]
    if said:
        return said[0]
    return tries[-1] if len(ended) == len(tries) else None


def _read_lease(answer: dict[str, Any]) -> Lease:
    spec = answer.get("spec", {})
    return Lease(
        version=answer["metadata"]["resourceVersion"],
        holder=spec.get("holderIdentity") or "",
        lasts=timedelta(seconds=spec.get("leaseDurationSeconds") or 0),
        transitions=spec.get("leaseTransitions") or 0,
    )
