"""Who may send a request to Asset now, and who is next.

Asset allows each tenant so many requests a minute, over all of its API, and the tenant's own applications spend from
the same budget. So whoever wants to request a token asks here first. Nobody waits in here: who can't be served at once
is put into the tenant's queue, by urgency and then by expiry, and is woken with a slot kept for it when its turn
comes; a waiting token therefore never holds a worker, and one tenant's queue never holds up another's.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import defaultdict, deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from asset_token_operator.account import DEFAULT_LIMIT, WINDOW, Account, BudgetState
from asset_token_operator.durations import in_words
from asset_token_operator.endpoint import Endpoint
from asset_token_operator.renewal import PROBE_EVERY
from asset_token_operator.rests import MARGIN, NEVER, Rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from asset_token_operator.answers import Reply
    from asset_token_operator.clock import Clock
    from asset_token_operator.model import Environment, Key, Reserves
    from asset_token_operator.slots import Business, Slot, Tenant

logger = logging.getLogger(__name__)

RATE_LIMITED: Final = "Asset %s: the rate limit of the credentials in Secret %s is used up; they pause for %s"

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

SLOT_KEPT: Final = timedelta(seconds=30)
"""How long a slot is kept for a token that was woken and doesn't come."""

LOOK_AGAIN: Final = timedelta(seconds=2)
"""The longest wait between two looks at the clock."""


class Budgets:
    """The budgets of all tenants, and the queues for them.

    Args:
        wake: Called with a token that has a slot.
        clock: The wall clock.
        reserves: What is left to the tenants' own applications.
    """

    def __init__(self, wake: Callable[[Key], None], clock: Clock, reserves: Reserves) -> None:
        self._wake = wake
        self._clock = clock
        self._reserves = reserves
        self._accounts: defaultdict[Tenant, Account] = defaultdict(Account)
        self._businesses: defaultdict[Business, deque[datetime]] = defaultdict(deque)
        self._endpoints: defaultdict[Environment, Endpoint] = defaultdict(Endpoint)
        self._queued: dict[Key, Slot] = {}
        self._kept: dict[Key, tuple[Slot, datetime]] = {}
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
            queued = len(account.queue.waiting)
            yield BudgetState(tenant, account.limit, 0 if paused else remaining, paused, queued, account.pauses)

    def acquire(self, slot: Slot) -> bool:
        """Take a slot, if one is free or was kept; else wait for one in the queue, to be woken then.

        Who takes one gives it back, by `answered`, `failed` or `withdraw`.
        """
        now, wall = self._now(), self._clock.now()
        ahead = timedelta(seconds=round((now - wall).total_seconds(), 2))  # the same each time, unless a clock is set
        expires_at = slot.expires_at + ahead if slot.expires_at > EPOCH else NEVER
        slot = replace(slot, expires_at=expires_at, failed_at=slot.failed_at and min(now, slot.failed_at + ahead))
        for endpoint in self._endpoints.values():
            endpoint.ask(slot)
        kept, _ = self._kept.pop(slot.key, (None, now))
        if kept is not None and kept.tenant == slot.tenant:
            return True
        if kept is not None:
            self.release(kept)
        account, queued = self._accounts[slot.tenant], self._queued.get(slot.key)
        self.withdraw(slot.key)
        if not slot.is_accepted:
            slot = account.queue.with_turn(slot, queued)
        if self._free_at(slot, now) <= now and self._is_next(slot):
            self._send(slot, now)
            return True
        account.queue.add(slot)
        self._queued[slot.key] = slot
        self._look_at(account)
        return False

    def _look_at(self, account: Account) -> None:
        """Something has changed by which one who waits there may be served."""
        account.idle_until = None
        self._changed.set()

    def _is_next(self, slot: Slot) -> bool:
        """Whether nobody waits who goes before."""
        endpoint = self._endpoints[slot.tenant.environment]
        if endpoint.down:
            return all(endpoint.turn(slot) < endpoint.turn(other) for other in self._waiting(slot.tenant.environment))
        account = self._accounts[slot.tenant]
        first = next(iter(account.queue.waiting), None)
        return first is None or (account.suspects.keys().isdisjoint(slot.limited()) and slot.rank() < first.rank())

    def _waiting(self, environment: Environment) -> list[Slot]:
        """Who waits for a slot at that endpoint."""
        return [slot for slot in self._queued.values() if slot.tenant.environment == environment]

    def withdraw(self, key: Key) -> None:
        """The token needs no slot any more, or not the one that it has."""
        queued = self._queued.pop(key, None)
        if queued is not None:
            account = self._accounts[queued.tenant]
            account.queue.remove(queued)
            account.idle_until = None
        kept, _ = self._kept.pop(key, (None, None))
        if kept is not None:
            self.release(kept)

    def release(self, slot: Slot) -> None:
        """The slot that was taken is free again."""
        account = self._accounts[slot.tenant]
        account.in_flight.pop(slot.key, None)
        self._look_at(account)

    def answered(self, slot: Slot, reply: Reply) -> None:
        """Asset answered, whatever it was, so its endpoint is up."""
        now, wall = self._now(), self._clock.now()
        account = self._accounts[slot.tenant]
        sent_at = account.in_flight.get(slot.key)
        self.release(slot)
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            lasts = account.refuse(slot, _asked_rest(reply), sent_at, now)
            if lasts is not None:
                tenant = slot.tenant
                logger.warning(RATE_LIMITED, tenant.environment, tenant.name, in_words(lasts))
        else:
            account.answered(slot, sent_at)
            account.learn(reply.rate, sent_at, now) if reply.rate else account.assume(now)
        environment = slot.tenant.environment
        endpoint = self._endpoints[environment]
        look_again: set[Key] = set()
        if endpoint.down:
            logger.warning("Asset %s answers again", environment)
            look_again = {waiting.key for waiting in self._waiting(environment)}
        for key in sorted(endpoint.answer(slot, now, wall) | look_again):
            self._wake(key)

    def failed(self, slot: Slot, retry_after: timedelta | None = None) -> None:
        """There was no answer, or one that says that the endpoint doesn't work, and maybe when to ask again."""
        self.release(slot)
        now, endpoint = self._now(), self._endpoints[slot.tenant.environment]
        endpoint.fail(slot, now, None if retry_after is None else Rest(now, retry_after))
        if endpoint.goes_down():
            every = in_words(PROBE_EVERY)
            logger.warning("Asset %s doesn't answer; one request every %s asks again", slot.tenant.environment, every)
            endpoint.down, endpoint.probed_at = True, now
            for key in endpoint.failed:
                self._wake(key)

    def accept(self, tenant: Tenant, credentials: str) -> None:
        """Asset has issued a token for these credentials: who waits with them has to wait for no turn any more."""
        account = self._accounts[tenant]
        for slot in [slot for slot in account.queue.waiting if slot.turn and slot.credentials == credentials]:
            account.queue.remove(slot)
            self._queued[slot.key] = accepted = replace(slot, is_accepted=True, turn=0)
            account.queue.add(accepted)
        self._look_at(account)

    def fails_alone(self, environment: Environment, key: Key) -> bool:
        """Whether an AssetToken's requests fail while others are answered."""
        return key in self._endpoints[environment].alone

    def keep(self, used: AbstractSet[Tenant]) -> None:
        """Forget all other tenants that have nothing under way, and of these what was refused long ago."""
        now = self._now()
        for tenant, account in list(self._accounts.items()):
            account.forget_refusals(now)
            if tenant not in used and not account.queue.waiting and not account.in_flight:
                del self._accounts[tenant]
        for business in [business for business in self._businesses if business[0] not in self._accounts]:
            del self._businesses[business]

    def forget(self, key: Key) -> None:
        """The AssetToken is gone."""
        self.withdraw(key)
        for endpoint in self._endpoints.values():
            endpoint.forget(key)

    async def serve(self) -> None:
        """Give slots to those who wait, until cancelled."""
        while True:
            self._changed.clear()
            now = self._now()
            again = min(self._serve(now), now + LOOK_AGAIN)
            await self._clock.wait(self._changed, (again - now).total_seconds())

    def _serve(self, now: datetime) -> datetime:
        """Give all slots that are free now; when to look again."""
        while self._kept and (first := next(iter(self._kept.values())))[1] <= now:  # they were let go in this order
            self.withdraw(first[0].key)
        again = now + LOOK_AGAIN
        down = {environment: endpoint for environment, endpoint in self._endpoints.items() if endpoint.down}
        for environment, endpoint in down.items():
            again = min(again, self._probe(environment, endpoint, now))
        waiting = [account for account in self._accounts.values() if account.queue.waiting]
        if down:
            waiting = [account for account in waiting if account.queue.waiting[0].tenant.environment not in down]
        changed = [account for account in waiting if account.idle_until is None or account.idle_until <= now]
        for account in sorted(changed, key=lambda account: account.queue.waiting[0].rank()):
            account.idle_until = self._serve_queue(account, now)
        return min([again, *(account.idle_until for account in waiting if account.idle_until is not None)])

    def _probe(self, environment: Environment, endpoint: Endpoint, now: datetime) -> datetime:
        """Let one ask an endpoint that is down whether it is up again, if it is time, in turn."""
        if endpoint.probed_at is not None and endpoint.probed_at + PROBE_EVERY > now:
            return endpoint.probed_at + PROBE_EVERY
        waiting = [(slot, self._free_at(slot, now)) for slot in self._waiting(environment)]
        first = min((slot for slot, free_at in waiting if free_at <= now), key=endpoint.turn, default=None)
        if first is None:
            return min((free_at for _, free_at in waiting), default=now + LOOK_AGAIN)
        self._let_go(first, now)
        return now + LOOK_AGAIN

    def _serve_queue(self, account: Account, now: datetime) -> datetime:
        again, waiting, place = now + LOOK_AGAIN, account.in_turn(), 0
        while place < len(waiting):
            slot = waiting[place]
            place += 1
            free_at = self._tenant_free_at(slot, now)
            if free_at > now:
                again = min(again, free_at)
                if not account.suspects:  # else each has a time of its own
                    place = bisect.bisect_right(waiting, slot.kind(now), place, key=lambda other: other.kind(now))
                continue
            free_at = self._business_free_at(slot, now)
            if free_at > now:
                again = min(again, free_at)
                continue
            self._let_go(slot, now)
        return again

    def _let_go(self, slot: Slot, now: datetime) -> None:
        """Give the slot to who waits for it."""
        self.withdraw(slot.key)
        self._send(slot, now)
        self._kept[slot.key] = (slot, now + SLOT_KEPT)
        self._wake(slot.key)

    def _free_at(self, slot: Slot, now: datetime) -> datetime:
        return max(self._tenant_free_at(slot, now), self._business_free_at(slot, now))

    def _tenant_free_at(self, slot: Slot, now: datetime) -> datetime:
        free_at = self._accounts[slot.tenant].free_at(slot, self._reserves, now)
        return max(free_at, self._endpoints[slot.tenant.environment].free_at(slot, now))

    def _business_free_at(self, slot: Slot, now: datetime) -> datetime:
        """Asset names no budget of a business, so our own requests are counted, over the last window."""
        free_at = self._accounts[slot.tenant].own_free_at(slot)
        if slot.business_id is None:
            return free_at
        sent = self._businesses[slot.tenant, slot.business_id]
        while sent and sent[0] + WINDOW + MARGIN <= now:
            sent.popleft()
        most = DEFAULT_LIMIT - self._reserves.of(slot.priority, DEFAULT_LIMIT)
        return max(free_at, sent[-most] + WINDOW + MARGIN) if len(sent) >= most else free_at

    def _send(self, slot: Slot, now: datetime) -> None:
        self._accounts[slot.tenant].send(slot, now)
        self._endpoints[slot.tenant.environment].probed_at = now
        if slot.business_id is not None:
            self._businesses[slot.tenant, slot.business_id].append(now)


def _asked_rest(reply: Reply) -> timedelta | None:
    """How long a 429 asks to rest, if it does."""
    if reply.retry_after is not None:
        return reply.retry_after
    resets_in = timedelta() if reply.rate is None else reply.rate.resets_in
    return resets_in + MARGIN if resets_in > timedelta() else None  # a past one says nothing
