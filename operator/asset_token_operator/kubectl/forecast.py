"""When which tokens will be requested, and whether the tenants' budgets leave room for that: pure.

Renewals are computed by the operator's own `renewal` module, from the same UIDs, so they are those that will be
(tests/simulation/test_forecast.py holds them against what the whole operator then does).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from asset_token_operator.expiry import ASSUMED_LIFETIME
from asset_token_operator.model import Environment, IssuedToken, Urgency
from asset_token_operator.renewal import renew_before_fits, renewal_time, wanted_renew_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from asset_token_operator.model import AssetToken, Reserves

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)
MOST: Final = 100_000
"""Requests that are computed, about."""

SHORTEST: Final = 10
LEAST: Final = timedelta(seconds=60)
"""No lifetime is shorter."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one tenant's AssetTokens will ask for.

    Attributes:
        tokens: How many AssetTokens there are, of which `new` have no token yet.
        wanted: Requests that come due in each minute from now.
        sent: Requests that are sent in each minute, where the budget holds back what is too much.
        capacity: How many requests a minute renewals may use.
        longest_wait: Minutes that the longest waits; None where the queue doesn't end.
        late: How many tokens expire before their renewal is sent.
    """

    tenant: str
    tokens: int
    new: int
    wanted: Sequence[int]
    sent: Sequence[int]
    capacity: int
    longest_wait: int | None
    late: int

    @property
    def peak(self) -> int:
        """The most that comes due in a minute."""
        return max(self.wanted, default=0)

    @property
    def fits(self) -> bool:
        """Whether all are served before their tokens end."""
        return self.longest_wait is not None and not self.late

    def verdict(self) -> str:
        """The same in words."""
        if self.longest_wait is None:
            return "too much: the queue doesn't end; ask for longer lifetimes, or for fewer tokens"
        if self.late:
            return f"too much: {self.late} expire before they are renewed; raise renewBefore or the lifetime"
        return f"fits; some wait {self.longest_wait} min" if self.longest_wait else "fits"


def forecast(
    tokens: Mapping[str, Iterable[AssetToken]], now: datetime, minutes: int, limit: int, reserves: Reserves
) -> list[Load]:
    """The load of each tenant.

    Args:
        tokens: Each tenant's AssetTokens.
        now: The present moment.
        minutes: How far to look.
        limit: The tenant's requests a minute.
        reserves: What of it is left to the tenant's own applications.
    """
    return [_load(tenant, list(theirs), now, minutes, limit, reserves) for tenant, theirs in sorted(tokens.items())]


def horizon(tokens: Iterable[AssetToken], minutes: int) -> int:
    """How many minutes to look ahead: fewer where very many requests come due, whose picture shows early enough."""
    rate = 0.0
    for token in tokens:
        nominal = _token(token.spec.environment, EPOCH, EPOCH + (token.spec.lifetime or ASSUMED_LIFETIME), 1)
        before = wanted_renew_before(nominal, token.spec) if renew_before_fits(nominal, token.spec) else timedelta()
        rate += MINUTE / max(nominal.lifetime - before, timedelta(seconds=1))
    return max(SHORTEST, min(minutes, int(MOST / rate) if rate else minutes))


def _load(  # noqa: PLR0913, PLR0917 - the forecast's, for one of them
    tenant: str, tokens: Sequence[AssetToken], now: datetime, minutes: int, limit: int, reserves: Reserves
) -> Load:
    queue = Queue(now, limit, reserves)
    known = [(token, issued_token(token)) for token in tokens]
    active = [(token, issued) for token, issued in known if not token.spec.suspend]
    requests = list(_requests(active, queue, now + timedelta(minutes=minutes)))
    wanted, sent = Counter(due for due, _, _ in requests), Counter(served for _, served, _ in requests)
    waiting = sum(count for minute, count in sent.items() if minute >= minutes)
    longest = max((served - due for due, served, _ in requests), default=0)
    return Load(
        tenant,
        len(tokens),
        sum(issued is None for _, issued in known),
        [wanted[minute] for minute in range(minutes)],
        [sent[minute] for minute in range(minutes)],
        queue.routine,
        None if waiting > queue.routine else longest,
        sum(is_late for _, _, is_late in requests),
    )


def issued_token(token: AssetToken) -> IssuedToken | None:
    """The token that its status tells of; None where there is none."""
    status = token.status
    issued, expires = status.issuance_time, status.expiration_time
    if issued is None or expires is None or expires <= issued:
        return None
    return _token(token.spec.environment, issued, expires, status.revision or 1)


class Queue:
    """When a tenant's requests are sent: first issues as fast as the budget allows, renewals evenly spaced.

    Attributes:
        routine: How many requests a minute renewals may use.
        first: The same for first issues.
    """

    def __init__(self, now: datetime, limit: int, reserves: Reserves) -> None:
        self.routine = max(1, limit - reserves.of(Urgency.ROUTINE, limit))
        self.first = max(1, limit - reserves.of(Urgency.MISSING, limit))
        self.now = now
        self._spacing = MINUTE / self.routine
        self._free = now
        self._used: Counter[int] = Counter()

    def issue(self) -> datetime:
        """When the next first issue is sent."""
        return self._take(self.now, self.first)

    def renew(self, due: datetime) -> datetime:
        """When a renewal is sent that comes due then; they are asked for in the order in which they come due."""
        served = self._take(max(due, self._free), self.routine)
        self._free = served + self._spacing
        return served

    def minute(self, moment: datetime) -> int:
        """In which minute from now a moment is."""
        return (moment - self.now) // MINUTE

    def _take(self, moment: datetime, share: int) -> datetime:
        """The first moment from then on in whose minute so many haven't been sent yet."""
        minute = self.minute(moment)
        if self._used[minute] >= share:
            while self._used[minute] >= share:
                minute += 1
            moment = self.now + minute * MINUTE
        self._used[minute] += 1
        return moment


def _requests(
    tokens: Sequence[tuple[AssetToken, IssuedToken | None]], queue: Queue, until: datetime
) -> Iterator[tuple[int, int, bool]]:
    """In which minutes requests come due and are sent, and whether the token has expired by then.

    A token that waits is issued later, and renewed the later for it.
    """
    coming: list[tuple[datetime, int, AssetToken, IssuedToken]] = []

    def goes_on(number: int, token: AssetToken, issued: IssuedToken, now: datetime) -> None:
        due = max(renewal_time(issued, token.spec, token.uid), now)
        if due < until:
            heappush(coming, (due, number, token, issued))

    for number, (token, found) in enumerate(tokens):
        issued = found
        if issued is None:
            served = queue.issue()
            yield 0, queue.minute(served), False
            lasts = token.spec.lifetime or ASSUMED_LIFETIME
            issued = _token(token.spec.environment, served, served + lasts, 1)
        goes_on(number, token, issued, queue.now)
    while coming:
        due, number, token, issued = heappop(coming)
        served = queue.renew(due)
        yield queue.minute(due), queue.minute(served), served >= issued.expires_at > due
        expires = served + max(issued.lifetime, LEAST)
        goes_on(number, token, _token(issued.environment, served, expires, issued.revision + 1), served)


def _token(environment: Environment, issued: datetime, expires: datetime, revision: int) -> IssuedToken:
    return IssuedToken(None, environment, issued, expires, (), "", "", "", revision, "")


def by_tenant(tokens: Iterable[tuple[str, AssetToken]]) -> dict[str, list[AssetToken]]:
    """AssetTokens by their tenants."""
    found: defaultdict[str, list[AssetToken]] = defaultdict(list)
    for tenant, token in tokens:
        found[tenant].append(token)
    return dict(found)
