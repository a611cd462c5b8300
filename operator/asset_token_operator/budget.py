"""Who may send a request to Asset now, and who is next.

Asset allows each tenant so many requests a minute, over all of its API, and the tenant's own applications spend from
the same budget. So whoever wants to request a token asks here first. Nobody waits in here: who can't be served at once
is put into the tenant's queue, by urgency and then by expiry, and is woken with a place kept for it when its turn
comes; a waiting token therefore never holds a worker, and one tenant's queue never holds up another's.

What Asset says of a budget (`x-ratelimit-*`) is believed, and no more than that is spent: until a tenant's first
answer, and after each reset, one request goes first to learn what is left.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.model import Environment, Key, Reserves, Urgency

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asset_token_operator.answers import RateHeaders, Reply
    from asset_token_operator.clock import Clock

logger = logging.getLogger(__name__)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

DEFAULT_LIMIT: Final = 300
WINDOW: Final = timedelta(seconds=60)
MARGIN: Final = timedelta(seconds=1)
"""Asset names whole seconds, so a reset may come up to one later than it seems."""

PROBE_PATIENCE: Final = timedelta(seconds=2)
"""How long the one request that learns what is left may hang before another is sent beside it."""

PLACE_KEPT: Final = timedelta(seconds=30)
"""How long a place is kept for a token that was woken and doesn't come."""

FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(seconds=60)
"""How long a tenant rests after a 429 that doesn't say."""

DOWN_AFTER: Final = 3
"""Failures of so many tokens in a row, with no answer in between, mean that the endpoint is down."""

PROBE_EVERY: Final = timedelta(seconds=4)
"""How often an endpoint that is down is asked whether it is up again."""

LOOK_AGAIN: Final = timedelta(seconds=2)
"""The longest wait between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose budget it is: an OAuth client in one environment. `client` is a fingerprint of its client_id."""

    environment: Environment
    client: str

    def short(self) -> str:
        """The client's fingerprint as logs and metrics show it."""
        return self.client[:8]

    def __str__(self) -> str:
        return f"{self.environment}/{self.short()}"


@dataclass(frozen=True, slots=True)
class Place:
    """A place that is asked for, or held.

    Attributes:
        key: The AssetToken.
        expires_at: When its present token expires; of equal urgency the nearest goes first.
    """

    key: Key
    tenant: Tenant
    business_id: str | None
    urgency: Urgency
    expires_at: datetime

    def rank(self) -> tuple[Urgency, datetime, Key]:
        """Its order in the tenant's queue."""
        return (self.urgency, self.expires_at, self.key)


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A tenant's budget as metrics show it.

    Attributes:
        remaining: What is left of this window: nothing after a 429, all where it has to be learned first.
        pauses: How often it has paused.
    """

    tenant: Tenant
    limit: int
    remaining: int
    paused: bool
    queued: int
    pauses: int


@dataclass(slots=True)
class Account:
    """What is known of one tenant's budget.

    Attributes:
        resets_at: When the present window ends, on our clock; None where it must be learned first what is left.
        epoch: The same as Asset named it, to tell one window from the next.
        said: What was left by each answer of this window, the most first.
        ours: How many of our requests count, or may count, in this window.
        sent: When our latest requests were sent.
        others_per_second: How fast the tenant's own applications spend, as far as it can be seen.
        last_routine: When the latest routine renewal was sent; they are evenly spaced.
        refusals: How many 429 there were in a row.
        pauses: How often it has rested after a 429.
        in_flight: Who has been sent, or has a place kept, and since when.
        queue: Who waits, in order.
    """

    limit: int = DEFAULT_LIMIT
    resets_at: datetime | None = None
    epoch: int = 0
    said: list[int] = field(default_factory=list)
    ours: int = 0
    sent: deque[datetime] = field(default_factory=deque)
    others_per_second: float = 0.0
    last_routine: datetime | None = None
    paused_until: datetime | None = None
    refusals: int = 0
    pauses: int = 0
    in_flight: dict[Key, datetime] = field(default_factory=dict)
    queue: list[Place] = field(default_factory=list)

    def remaining(self) -> int:
        """What is left by Asset's word, when all that is in flight has been counted.

        Answers overtake each other: one that says less may be of a later request, or of one that others came before.
        Those that said more were counted earlier, so each answer tells how much all others had spent by then.
        """
        return min(left + 1 + earlier for earlier, left in enumerate(self.said)) - self.ours

    def free_at(self, urgency: Urgency, reserves: Reserves, now: datetime) -> datetime:
        """When one of that urgency may be sent, as far as can be told now; a moment that has passed means now."""
        if self.paused_until is not None and self.is_paused(now):
            return self.paused_until
        if self.resets_at is None or self.resets_at <= now:
            self.resets_at = None
            return max(self.in_flight.values()) + PROBE_PATIENCE if self.in_flight else now
        reserve = reserves.of(urgency, self.limit)
        spare = self.remaining() - reserve
        if urgency >= Urgency.OVERDUE:
            spare -= math.ceil(self.others_per_second * (self.resets_at - now).total_seconds())
        if spare < 1:
            return self.resets_at
        if urgency is Urgency.ROUTINE and self.last_routine is not None:
            return self.last_routine + WINDOW / max(1, self.limit - reserve)
        return now

    def is_paused(self, now: datetime) -> bool:
        """Whether it rests after a 429."""
        return self.paused_until is not None and self.paused_until > now

    def send(self, place: Place, now: datetime) -> None:
        """One more is sent."""
        self.in_flight[place.key] = now
        self.sent.append(now)
        while self.sent[0] <= now - 2 * WINDOW:
            self.sent.popleft()
        self.ours += 1
        if place.urgency is Urgency.ROUTINE:
            self.last_routine = now

    def learn(self, headers: RateHeaders, now: datetime) -> None:
        """Believe what an answer says; one of an earlier window that comes late says nothing of this one."""
        if self.resets_at is not None and headers.reset < self.epoch:
            return
        self.limit = headers.limit
        if self.resets_at is None or headers.reset > self.epoch:
            self.epoch, self.resets_at = headers.reset, now + headers.resets_in + MARGIN
            self.said, self.ours = [], 1 + len(self.in_flight)
        bisect.insort(self.said, headers.remaining, key=lambda left: -left)
        began = self.resets_at - MARGIN - WINDOW
        ours = sum(moment >= began for moment in self.sent) - len(self.in_flight)
        others = max(0, self.limit - headers.remaining - max(0, ours))
        self.others_per_second = others / max(5.0, (now - began).total_seconds())

    def assume(self, now: datetime) -> None:
        """An answer says nothing of the budget: count for ourselves, by the documented limit."""
        if self.resets_at is None:
            self.resets_at = now + WINDOW + MARGIN
            self.said, self.ours = [self.limit - 1], 1 + len(self.in_flight)

    def pause(self, until: datetime | None, now: datetime) -> datetime:
        """A 429: rest until Asset says, or longer each time; those in flight together are one time."""
        if not self.is_paused(now):
            self.refusals += 1
            self.pauses += 1
        unsaid = now + min(FIRST_PAUSE * float(2 ** min(self.refusals - 1, 8)), LONGEST_PAUSE)
        if until is not None and self.refusals > 1:  # what was said before was too short
            until = max(until, unsaid)
        self.paused_until = max(until or unsaid, now + MARGIN)
        self.resets_at = None
        return self.paused_until


@dataclass(slots=True)
class Endpoint:
    """Whether an environment's endpoint answers.

    Attributes:
        failed: The tokens whose requests failed since the latest answer, each with the number of its latest failure.
        failed_tenants: The same of their tenants.
        down: Whether it is taken for down.
        probed_at: When it was asked last whether it is up again.
        up_since: When it answered again after failures, on the wall clock.
    """

    failed: dict[Key, int] = field(default_factory=dict)
    failed_tenants: dict[Tenant, int] = field(default_factory=dict)
    down: bool = False
    probed_at: datetime | None = None
    up_since: datetime | None = None

    def fail(self, place: Place) -> None:
        """A request failed: its tenant, and in it the AssetToken, is the last to probe again."""
        latest = next(reversed(self.failed_tenants.values()), 0)
        self.failed_tenants.pop(place.tenant, None)  # the latest is the last
        self.failed_tenants[place.tenant] = self.failed[place.key] = latest + 1

    def turn(self, place: Place) -> tuple[int, int, tuple[Urgency, datetime, Key]]:
        """The order in which probes go: by turns, so that one whose requests always fail is not all that is asked."""
        return (self.failed_tenants.get(place.tenant, 0), self.failed.get(place.key, 0), place.rank())

    def free_at(self, now: datetime) -> datetime:
        """When it may be asked: now, or when the next probe is due."""
        return self.probed_at + PROBE_EVERY if self.down and self.probed_at is not None else now


class Budgets:
    """The budgets of all tenants, and the queues for them.

    Args:
        wake: Called with a token that has a place.
        clock: The wall clock.
        reserves: What is left to the tenants' own applications.
    """

    def __init__(self, wake: Callable[[Key], None], clock: Clock, reserves: Reserves) -> None:
        self._wake = wake
        self._clock = clock
        self._reserves = reserves
        self._accounts: defaultdict[Tenant, Account] = defaultdict(Account)
        self._businesses: defaultdict[tuple[Tenant, str], deque[datetime]] = defaultdict(deque)
        self._endpoints: defaultdict[Environment, Endpoint] = defaultdict(Endpoint)
        self._queued: dict[Key, Place] = {}
        self._kept: dict[Key, tuple[Place, datetime]] = {}
        self._changed = asyncio.Event()

    def _now(self) -> datetime:
        """Everything in here lasts so and so long from now, so the clock that can't be set tells the time."""
        return EPOCH + self._clock.elapsed()

    def endpoint(self, environment: Environment) -> Endpoint:
        """What is known of an environment's endpoint."""
        return self._endpoints[environment]

    def states(self) -> Iterator[BudgetState]:
        """Each tenant's budget."""
        now = self._now()
        for tenant, account in self._accounts.items():
            paused = account.is_paused(now)
            known = account.resets_at is not None and account.resets_at > now
            remaining = max(0, account.remaining()) if known else account.limit
            queued = len(account.queue)
            yield BudgetState(tenant, account.limit, 0 if paused else remaining, paused, queued, account.pauses)

    def take(self, place: Place) -> bool:
        """Take a place, if one is free or was kept; else wait for one in the queue, to be woken then.

        Who takes one gives it back, by `answered`, `failed` or `leave`.
        """
        now = self._now()
        kept, _ = self._kept.pop(place.key, (None, now))
        if kept is not None and kept.tenant == place.tenant:
            return True
        if kept is not None:
            self.give_back(kept)
        self.leave(place.key)
        account = self._accounts[place.tenant]
        if self._free_at(place, now) <= now and self._is_next(place):
            self._send(place, now)
            return True
        bisect.insort(account.queue, place, key=Place.rank)
        self._queued[place.key] = place
        self._changed.set()
        return False

    def _is_next(self, place: Place) -> bool:
        """Whether nobody waits who goes before."""
        endpoint = self._endpoints[place.tenant.environment]
        if endpoint.down:
            return all(endpoint.turn(place) < endpoint.turn(other) for other in self._waiting(place.tenant.environment))
        first = next(iter(self._accounts[place.tenant].queue), None)
        return first is None or place.rank() < first.rank()

    def _waiting(self, environment: Environment) -> list[Place]:
        """Who waits for a place at that endpoint."""
        return [place for place in self._queued.values() if place.tenant.environment == environment]

    def leave(self, key: Key) -> None:
        """The token needs no place any more, or not the one that it has."""
        queued = self._queued.pop(key, None)
        if queued is not None:
            queue = self._accounts[queued.tenant].queue
            del queue[bisect.bisect_left(queue, queued.rank(), key=Place.rank)]
        kept, _ = self._kept.pop(key, (None, None))
        if kept is not None:
            self.give_back(kept)

    def give_back(self, place: Place) -> None:
        """The place that was taken is free again."""
        self._accounts[place.tenant].in_flight.pop(place.key, None)
        self._changed.set()

    def answered(self, place: Place, reply: Reply) -> None:
        """Asset answered, whatever it was, so its endpoint is up."""
        self.give_back(place)
        now = self._now()
        account = self._accounts[place.tenant]
        if reply.status == 429:  # noqa: PLR2004 - the status says it
            resets_in = reply.rate.resets_in if reply.rate else timedelta()
            reset_at = now + resets_in + MARGIN if resets_in > timedelta() else None  # a past one says nothing
            wall = self._clock.now()
            retry_at = reply.retry_at(wall)
            was_paused = account.is_paused(now)
            until = account.pause(reset_at if retry_at is None else now + (retry_at - wall), now)
            if not was_paused:
                logger.warning("%s: Asset's rate limit is used up, paused for %s", place.tenant, until - now)
        else:
            account.refusals = 0
            account.learn(reply.rate, now) if reply.rate else account.assume(now)
        environment = place.tenant.environment
        endpoint = self._endpoints[environment]
        if endpoint.down:
            logger.warning("%s: the endpoint answers again", environment)
        if endpoint.failed:
            endpoint.up_since = self._clock.now()
            for key in endpoint.failed.keys() | {waiting.key for waiting in self._waiting(environment)}:
                self._wake(key)
        endpoint.down, endpoint.failed, endpoint.failed_tenants = False, {}, {}

    def failed(self, place: Place) -> None:
        """There was no answer, or one that says that the endpoint doesn't work."""
        self.give_back(place)
        endpoint = self._endpoints[place.tenant.environment]
        endpoint.fail(place)
        if not endpoint.down and len(endpoint.failed) >= DOWN_AFTER:
            logger.warning("%s: the endpoint is down; one request asks every %s", place.tenant.environment, PROBE_EVERY)
            endpoint.down, endpoint.probed_at = True, self._now()
            for key in endpoint.failed:
                self._wake(key)

    async def serve(self) -> None:
        """Give places to those who wait, until cancelled."""
        while True:
            self._changed.clear()
            now = self._now()
            again = min(self._serve(now), now + LOOK_AGAIN)
            await self._clock.wait(self._changed, (again - now).total_seconds())

    def _serve(self, now: datetime) -> datetime:
        """Give all places that are free now; when to look again."""
        for place, until in list(self._kept.values()):
            if until <= now:
                self.leave(place.key)
        again = now + LOOK_AGAIN
        for environment, endpoint in self._endpoints.items():
            if endpoint.down:
                again = min(again, self._probe(environment, endpoint, now))
        waiting = [account for account in self._accounts.values() if account.queue]
        for account in sorted(waiting, key=lambda account: account.queue[0].rank()):
            if not self._endpoints[account.queue[0].tenant.environment].down:
                again = min(again, self._serve_queue(account, now))
        return again

    def _probe(self, environment: Environment, endpoint: Endpoint, now: datetime) -> datetime:
        """Let one ask an endpoint that is down whether it is up again, if it is time, in turn."""
        if endpoint.free_at(now) > now:
            return endpoint.free_at(now)
        waiting = [(place, self._free_at(place, now)) for place in self._waiting(environment)]
        first = min((place for place, free_at in waiting if free_at <= now), key=endpoint.turn, default=None)
        if first is None:
            return min((free_at for _, free_at in waiting), default=now + LOOK_AGAIN)
        self._let_go(first, now)
        return now + LOOK_AGAIN

    def _serve_queue(self, account: Account, now: datetime) -> datetime:
        again = now + LOOK_AGAIN
        for place in list(account.queue):
            free_at = self._tenant_free_at(place, now)
            if free_at > now:
                return min(again, free_at)
            free_at = self._business_free_at(place, now)
            if free_at > now:
                again = min(again, free_at)
                continue
            self._let_go(place, now)
        return again

    def _let_go(self, place: Place, now: datetime) -> None:
        """Give the place to who waits for it."""
        self.leave(place.key)
        self._send(place, now)
        self._kept[place.key] = (place, now + PLACE_KEPT)
        self._wake(place.key)

    def _free_at(self, place: Place, now: datetime) -> datetime:
        return max(self._tenant_free_at(place, now), self._business_free_at(place, now))

    def _tenant_free_at(self, place: Place, now: datetime) -> datetime:
        free_at = self._accounts[place.tenant].free_at(place.urgency, self._reserves, now)
        return max(free_at, self._endpoints[place.tenant.environment].free_at(now))

    def _business_free_at(self, place: Place, now: datetime) -> datetime:
        """Asset names no budget of a business, so our own requests are counted, over the last window."""
        if place.business_id is None:
            return now
        sent = self._businesses[place.tenant, place.business_id]
        while sent and sent[0] + WINDOW + MARGIN <= now:
            sent.popleft()
        most = DEFAULT_LIMIT - self._reserves.of(place.urgency, DEFAULT_LIMIT)
        return sent[-most] + WINDOW + MARGIN if len(sent) >= most else now

    def _send(self, place: Place, now: datetime) -> None:
        self._accounts[place.tenant].send(place, now)
        self._endpoints[place.tenant.environment].probed_at = now
        if place.business_id is not None:
            self._businesses[place.tenant, place.business_id].append(now)
