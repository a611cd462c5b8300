"""A model of Asset's token endpoint, of one environment: its clock, its limits, and what it does when it fails.

What leaves it are a status, headers and bytes, which the operator's own `answers.read_reply` reads.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from asset_token_operator.answers import read_reply
from asset_token_operator.asset_client import TIMEOUT_SECONDS
from asset_token_operator.errors import AssetUnavailableError
from asset_token_operator.token_request import token_form
from tests.simulation.virtual_time import BEGINNING, Machine, present, seconds
from tests.support.asset_rules import Ledger, RateLimit

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from asset_token_operator.answers import Reply
    from asset_token_operator.model import Credentials, Environment, Spec
    from tests.support.asset_rules import Budget

CANARY: Final = "canary"
"""In everything that is secret: a client's secret, and each token's signature."""

JSON: Final = "application/json"
DEFAULT_LIFETIME: Final = 3600

FAILURES: Final[Mapping[str, tuple[int, str, bytes]]] = {
    "500": (500, JSON, b'{"detail": "Internal Server Error"}'),
    "503": (503, "text/plain", b"no healthy upstream"),
    "404": (404, JSON, b'{"detail": "Not Found"}'),
    "403 HTML": (403, "text/html", b"<html><h1>403 Forbidden</h1></html>"),
    "200 HTML": (200, "text/html", b"<html><h1>Down for maintenance</h1></html>"),
    "302": (302, "text/html", b""),
    "429": (429, JSON, b'{"detail": "Too Many Requests"}'),
    "401": (401, JSON, b'{"error": "invalid_client"}'),
    "403": (403, JSON, b'{"detail": "Forbidden"}'),
    "422": (422, JSON, b'{"detail": []}'),
    "truncated": (200, JSON, b'{"access_token": "ey'),
    "no token": (200, JSON, b'{"token_type": "Bearer"}'),
}
"""What it answers in place of a token."""

HANGS: Final = "no answer"
REFUSES: Final = "connection refused"

OUTAGES: Final = ("503", "500", "403 HTML", "200 HTML", "302", HANGS, REFUSES)
BROKEN: Final = ("truncated", "no token")
REFUSALS: Final = ("401", "403", "422")


@dataclass(frozen=True)
class Failure:
    """How requests fail, and whose: all, or those of a client, a business or an AssetToken."""

    how: str
    client: str | None = None
    business: str | None = None
    name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def concerns(self, request: TokenRequest) -> bool:
        wanted = ((self.client, request.client), (self.business, request.business), (self.name, request.name))
        return all(mine in (None, theirs) for mine, theirs in wanted)


class TokenRequest(NamedTuple):
    """A request as it came.

    Attributes:
        name: For which AssetToken, which Asset itself doesn't know.
    """

    at: float
    operator: str
    name: str
    client: str
    secret: str
    business: str | None
    lifetime: float


class Issued(NamedTuple):
    """A token, with its times on Asset's clock, in seconds from the beginning."""

    name: str
    begins: float
    ends: float
    at: float


@dataclass
class Clocks:
    """How far Asset's clock is ahead, and what it says beyond that.

    Attributes:
        ahead: Its clock.
        date: Its `Date`, compared with its clock.
        issued_at: A token's `iat`, the same.
        not_before: A token's `nbf`, the same; None for none.
    """

    ahead: timedelta = timedelta()
    date: timedelta = timedelta()
    issued_at: timedelta = timedelta()
    not_before: timedelta | None = None


class Asset:
    """The endpoint.

    Args:
        saw: Called with each request, and what came of it.
    """

    def __init__(self, saw: Callable[[TokenRequest, str], None], rule: RateLimit | None = None) -> None:
        self.clocks = Clocks()
        self.rule = rule or RateLimit()
        self.failures: list[Failure] = []
        self.once: list[Failure] = []
        """Each of these happens once."""

        self.says: list[Mapping[str, str]] = []
        """Each of these is said once in place of what is left."""

        self.requests: list[TokenRequest] = []

        self.accepted: dict[str, set[str]] = {}
        self.issued: dict[str, Issued] = {}
        self.latency = 0.05
        self.is_silent = False
        self._ledger = Ledger()
        self._numbers = 0
        self._saw = saw

    def clock(self) -> datetime:
        """What its clock shows."""
        return present() + self.clocks.ahead

    def validity(self, token: str) -> tuple[float, float] | None:
        """From when to when it accepts a token, in seconds from the beginning; None for none of its own."""
        found = self.issued.get(token)
        ahead = self.clocks.ahead.total_seconds()
        return None if found is None else (found.begins - ahead, found.ends - ahead)

    def spend(self, client: str, requests: int = 1, business: str | None = None) -> int:
        """Another program of the client's makes that many requests; how many were within the limits."""
        charged = (self._ledger.charge(self.rule, client, business, self._unix()) for _ in range(requests))
        return sum(budget.allowed for budget in charged)

    def answer(self, request: TokenRequest) -> tuple[int, dict[str, str], bytes] | str:
        """What it answers; `HANGS` or `REFUSES` where it doesn't."""
        self.requests.append(request)
        failure = next((failure for failure in (*self.once, *self.failures) if failure.concerns(request)), None)
        if failure is not None and failure in self.once:
            self.once.remove(failure)
        if failure is not None and failure.how in (HANGS, REFUSES):
            self._saw(request, failure.how)
            return failure.how
        headers = self._headers()
        if failure is not None and failure.how in OUTAGES and failure.business is None and failure.name is None:
            budget = None  # what stands in front counts nothing
        else:
            budget = self._ledger.charge(self.rule, request.client, request.business, self._unix())
            headers |= self._rate_headers(budget)
        if failure is not None:
            return self._fail(request, failure, headers)
        if budget is not None and not budget.allowed:
            retry_after = self.rule.said_retry_after(budget, self._unix(), self.clocks.ahead.total_seconds())
            said = {} if retry_after is None else {"retry-after": retry_after}
            return self._fail(request, Failure("429", headers=said), headers)
        if request.secret not in self.accepted.get(request.client, ()):
            return self._fail(request, Failure("401"), headers)
        self._saw(request, "issued")
        return 200, headers, self._issue(request)

    def _fail(
        self, request: TokenRequest, failure: Failure, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        self._saw(request, failure.how)
        status, media_type, body = FAILURES[failure.how]
        return status, headers | {"content-type": media_type} | dict(failure.headers), body

    def _issue(self, request: TokenRequest) -> bytes:
        self._numbers += 1
        now = int(self.clock().timestamp())
        lifetime = int(request.lifetime)
        clocks = self.clocks
        claims: dict[str, object] = {
            "iat": now + int(clocks.issued_at.total_seconds()),
            "exp": now + lifetime,
            "jti": f"token-{self._numbers}",
        }
        begins = now
        if clocks.not_before is not None:
            claims["nbf"] = begins = now + int(clocks.not_before.total_seconds())
        token = f"{_segment({'alg': 'RS256', 'typ': 'JWT'})}.{_segment(claims)}.{CANARY}{self._numbers:010d}"
        start = BEGINNING.timestamp()
        self.issued[token] = Issued(request.name, begins - start, now + lifetime - start, seconds())
        body = {"access_token": token, "token_type": "Bearer", "expires_in": lifetime}
        return json.dumps(body).encode()

    def _headers(self) -> dict[str, str]:
        date = (self.clock() + self.clocks.date).replace(microsecond=0)
        return {"date": format_datetime(date, usegmt=True), "content-type": JSON}

    def _rate_headers(self, budget: Budget) -> dict[str, str]:
        if self.is_silent:
            return {}
        if self.says:
            return dict(self.says.pop(0))
        reset = budget.reset + (self.clocks.ahead + self.clocks.date).total_seconds()
        return {
            "x-ratelimit-limit": str(budget.limit),
            "x-ratelimit-remaining": str(budget.remaining),
            "x-ratelimit-reset": str(math.ceil(reset)),
        }

    @staticmethod
    def _unix() -> float:
        """By a clock that is right: what is counted is counted by how much time has passed."""
        return present().timestamp()


class AssetConnection:
    """How one operator reaches Asset; it has the methods of `AssetClient`."""

    def __init__(
        self,
        assets: Mapping[Environment, Asset],
        machine: Machine,
        time_left: Callable[[], timedelta],
        chance: random.Random,
    ) -> None:
        self._assets = assets
        self._machine = machine
        self._time_left = time_left
        self._chance = chance

    async def request_token(self, spec: Spec, credentials: Credentials) -> Reply:
        """Request a token.

        Raises:
            AssetUnavailableError: There was no answer.
        """
        time = min(TIMEOUT_SECONDS, self._time_left().total_seconds())
        try:
            async with asyncio.timeout(time):
                return await self._post(spec, credentials)
        except TimeoutError:
            raise AssetUnavailableError(f"Asset did not answer within {time:.0f} s.") from None

    async def _post(self, spec: Spec, credentials: Credentials) -> Reply:
        asset, form = self._assets[spec.environment], token_form(spec, credentials)
        await self._travel(asset)
        self._time_left()
        answer = asset.answer(
            TokenRequest(
                at=seconds(),
                operator=self._machine.name,
                name=spec.secret.name,
                client=str(form["client_id"]),
                secret=str(form["client_secret"]),
                business=spec.business_id,
                lifetime=float(str(form.get("expires_in", DEFAULT_LIFETIME))),
            )
        )
        if answer == HANGS:
            await asyncio.sleep(2 * TIMEOUT_SECONDS)
        if isinstance(answer, str):
            raise AssetUnavailableError("Asset could not be reached: it can't be connected to.")
        await self._travel(asset)
        return read_reply(*answer)

    async def _travel(self, asset: Asset) -> None:
        await self._machine.awake()
        await asyncio.sleep(asset.latency * self._chance.uniform(0.5, 1.5))
        await self._machine.awake()


def _segment(claims: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
