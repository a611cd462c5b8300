"""When which tokens will be requested, and whether the tenants' budgets leave room for that: pure.

Renewals are computed by the operator's own `renewal` module, from the same UIDs, so they are those that will be.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.expiry import ASSUMED_LIFETIME
from asset_token_operator.model import Environment, IssuedToken, Reserves, Urgency
from asset_token_operator.renewal import renew_before_fits, renewal_time, wanted_renew_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from asset_token_operator.model import AssetToken

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE: Final = 60
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
        longest_wait: Minutes until the longest queue is served; None where it isn't within the time looked at.
        patience: The least time, in minutes, that a token has left when its renewal comes due.
    """

    tenant: str
    tokens: int
    new: int
    wanted: Sequence[int]
    sent: Sequence[int]
    capacity: int
    longest_wait: int | None
    patience: float

    @property
    def peak(self) -> int:
        """The most that comes due in a minute."""
        return max(self.wanted, default=0)

    @property
    def fits(self) -> bool:
        """Whether all are served before their tokens end."""
        return self.longest_wait is not None and self.longest_wait <= self.patience

    def verdict(self) -> str:
        """The same in words."""
        if self.longest_wait is None:
            return "too much: the queue doesn't end; ask for longer lifetimes, or for fewer tokens"
        if not self.fits:
            return f"too much: some wait {self.longest_wait} min and expire before; raise renewBefore or the lifetime"
        return f"fits; some wait {self.longest_wait} min" if self.longest_wait else "fits"


def forecast(
    tokens: Mapping[str, Iterable[AssetToken]], now: datetime, minutes: int, limit: int, reserve: float
) -> list[Load]:
    """The load of each tenant.

    Args:
        tokens: Each tenant's AssetTokens.
        now: The present moment.
        minutes: How far to look.
        limit: The tenant's requests a minute.
        reserve: The share of it, from 0 to 1, that is left to the tenant's own applications.
    """
    capacity = max(1, limit - Reserves(routine=reserve).of(Urgency.ROUTINE, limit))
    return [_load(tenant, list(theirs), now, minutes, capacity) for tenant, theirs in sorted(tokens.items())]


def horizon(tokens: Iterable[AssetToken], minutes: int) -> int:
    """How many minutes to look ahead: fewer where very many requests come due, whose picture shows early enough."""
    rate = 0.0
    for token in tokens:
        nominal = _token(token.spec.environment, EPOCH, EPOCH + (token.spec.lifetime or ASSUMED_LIFETIME), 1)
        before = wanted_renew_before(nominal, token.spec) if renew_before_fits(nominal, token.spec) else timedelta()
        rate += MINUTE / max((nominal.lifetime - before).total_seconds(), 1.0)
    return max(SHORTEST, min(minutes, int(MOST / rate) if rate else minutes))


def _load(tenant: str, tokens: Sequence[AssetToken], now: datetime, minutes: int, capacity: int) -> Load:
    due: Counter[int] = Counter()
    patience, new = float(minutes), 0
    for token in tokens:
        issued = issued_token(token)
        if issued is None:
            new += 1
        if token.spec.suspend:
            continue
        moments, left = renewals(token, issued, now, now + timedelta(minutes=minutes))
        due.update(moments)
        patience = min(patience, left)
    wanted = [due[minute] for minute in range(minutes)]
    sent, wait = serve(wanted, capacity)
    return Load(tenant, len(tokens), new, wanted, sent, capacity, wait, patience)


def issued_token(token: AssetToken) -> IssuedToken | None:
    """The token that its status tells of; None where there is none."""
    status = token.status
    issued, expires = status.issuance_time, status.expiration_time
    if issued is None or expires is None or expires <= issued:
        return None
    return _token(token.spec.environment, issued, expires, status.revision or 1)


def renewals(token: AssetToken, issued: IssuedToken | None, now: datetime, until: datetime) -> tuple[list[int], float]:
    """The minutes from now in which it will be requested, and the least minutes that it then has left."""
    moments: list[int] = []
    left = (until - now).total_seconds() / MINUTE
    if issued is None:
        moments.append(0)
        issued = _token(token.spec.environment, now, now + (token.spec.lifetime or ASSUMED_LIFETIME), 1)
    while True:
        due = max(renewal_time(issued, token.spec, token.uid), now)
        if due >= until:
            return moments, left
        moments.append(int((due - now).total_seconds() // MINUTE))
        left = min(left, max(0.0, (issued.expires_at - due).total_seconds() / MINUTE))
        issued = replace(
            issued, issued_at=due, expires_at=due + max(issued.lifetime, LEAST), revision=issued.revision + 1
        )


def serve(wanted: Sequence[int], capacity: int) -> tuple[list[int], int | None]:
    """What is sent in each minute, first come first served, and the longest wait in minutes."""
    sent: list[int] = []
    backlog, waits, longest = 0, 0, 0
    for count in wanted:
        backlog += count
        served = min(backlog, capacity)
        backlog -= served
        sent.append(served)
        waits = -(-backlog // capacity)
        longest = max(longest, waits)
    lasts = len(wanted) > 0 and backlog > capacity
    return sent, None if lasts else longest


def _token(environment: Environment, issued: datetime, expires: datetime, revision: int) -> IssuedToken:
    return IssuedToken(None, environment, issued, expires, (), "", "", "", revision, "")


def by_tenant(tokens: Iterable[tuple[str, AssetToken]]) -> dict[str, list[AssetToken]]:
    """AssetTokens by their tenants."""
    found: defaultdict[str, list[AssetToken]] = defaultdict(list)
    for tenant, token in tokens:
        found[tenant].append(token)
    return dict(found)
