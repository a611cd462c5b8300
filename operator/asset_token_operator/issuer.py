"""Gets tokens from Asset: with the credentials of the moment, within the tenant's budget, on Asset's clock.

It keeps what is no single AssetToken's own affair: which credentials Asset doesn't accept, and who holds a slot.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from asset_token_operator.answers import gets_through, read_answer, unavailable_for
from asset_token_operator.attempts import Attempts, failure_of
from asset_token_operator.credentials import CredentialsReader, Identity
from asset_token_operator.errors import (
    AssetError,
    AssetUnavailableError,
    CredentialsNotFoundError,
    InvalidClientError,
    NotLeadingError,
    OperatorError,
)
from asset_token_operator.expiry import read_validity
from asset_token_operator.issuance import issued_token
from asset_token_operator.logs import about
from asset_token_operator.metrics import ISSUED
from asset_token_operator.model import Credentials, Environment, Urgency, digest
from asset_token_operator.narration import ISSUED as ISSUED_FOR
from asset_token_operator.observed import SlotState
from asset_token_operator.reasons import Recovery
from asset_token_operator.slots import Slot, Tenant
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from asset_token_operator.answers import Reply
    from asset_token_operator.assess import Assessment
    from asset_token_operator.asset_clock import AssetClocks
    from asset_token_operator.budget import Budgets
    from asset_token_operator.caches import Caches
    from asset_token_operator.clock import Clock
    from asset_token_operator.decision import RequestToken
    from asset_token_operator.metrics import Metrics
    from asset_token_operator.model import AssetToken, IssuedToken, Key
    from asset_token_operator.observed import Observed
    from asset_token_operator.ports import CredentialsStore, TokenEndpoint
    from asset_token_operator.reasons import Reason

logger = logging.getLogger(__name__)

TIDY_EVERY: Final = timedelta(minutes=1)


class Issuer:
    """Requests tokens.

    Args:
        kube: Where the credentials are.
        asset: Asset.
        budgets: Who may send when.
        caches: Which Secrets there are.
        clock: The clock.
        clocks: What is known of Asset's.
        metrics: Told of each request.
        wake: Called with each AssetToken whose credentials Asset accepts again.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what it is wired to
        self,
        kube: CredentialsStore,
        asset: TokenEndpoint,
        budgets: Budgets,
        caches: Caches,
        clock: Clock,
        clocks: AssetClocks,
        metrics: Metrics,
        wake: Callable[[Key], None],
    ) -> None:
        self._metrics = metrics
        self._wake = wake
        self._asset = asset
        self._budgets = budgets
        self._clock = clock
        self._clocks = clocks
        self._credentials = CredentialsReader(kube, caches)
        self._parked: dict[Identity, Attempts] = {}
        self._accepted: Counter[Identity] = Counter()
        """How often Asset has issued a token for which credentials: other answers may come before it looks at them."""

        self._refused: dict[Key, tuple[Identity, int]] = {}
        """With which credentials an AssetToken was refused last, and how often they had been accepted by then."""

        self._slots: dict[Key, Slot] = {}

    def observe(self, seen: Observed) -> Observed:
        """Add what is known of the AssetToken's credentials, its endpoint and Asset's clock."""
        version, known = self._credentials.version_of(seen.owner), self._credentials.known(seen.owner)
        return self._view(replace(seen, credentials=known, credentials_version=version))

    async def read_credentials(self, seen: Observed) -> Observed:
        """Add what the credentials Secret holds, or why that can't be used.

        Raises:
            KubeUnavailableError: It can't be read now.
        """
        found = seen.credentials or await self._credentials.read(seen.owner)
        seen = replace(seen, credentials_are_live=True)
        if isinstance(found, OperatorError):
            return self._view(replace(seen, credentials_error=found))
        return self._view(replace(seen, credentials=found))

    def _view(self, seen: Observed) -> Observed:
        environment = seen.owner.spec.environment
        endpoint = self._budgets.endpoint(environment)
        parked = seen.credentials and self._parked.get((environment, seen.credentials.identity()))
        return replace(
            seen,
            parked=parked or Attempts(),
            endpoint_down=endpoint.down,
            endpoint_ups=endpoint.ups,
            endpoint_up_since=endpoint.up_since,
            fails_alone=self._budgets.fails_alone(environment, seen.owner.key),
            skews=self._clocks.skews(environment),
        )

    def acquire_slot(self, assessed: Assessment) -> Observed:
        """Ask for a slot to send a request in; where none is free the AssetToken is woken when its turn comes."""
        seen, key = assessed.seen, assessed.seen.owner.key
        if key in self._slots or seen.credentials is None:
            return replace(seen, slot=SlotState.GRANTED)
        tenant, urgency = _tenant(seen.owner, seen.credentials), assessed.urgency
        environment, credentials = seen.owner.spec.environment, seen.credentials.identity()
        slot = Slot(
            key,
            tenant,
            seen.owner.spec.business_id,
            urgency,
            assessed.expires_at,
            credentials=credentials,
            is_accepted=self._accepted[environment, credentials] > 0,
        )
        if urgency >= Urgency.EXPIRING_ALONE and seen.requests.failure is not None:
            slot = replace(slot, failed_at=seen.requests.failure.at)
        if not self._budgets.acquire(slot):
            return replace(seen, slot=SlotState.QUEUED, queued_since=seen.queued_since or assessed.now)
        self._slots[key] = slot
        return replace(seen, slot=SlotState.GRANTED)

    def withdraw(self, key: Key) -> None:
        """The AssetToken needs nothing of Asset now."""
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._budgets.release(slot)
        self._budgets.withdraw(key)

    def forget(self, key: Key) -> None:
        """The AssetToken is gone."""
        self.withdraw(key)
        self._budgets.forget(key)
        self._refused.pop(key, None)
        self._credentials.may_be_unused = True

    async def request(self, assessed: Assessment, decided: RequestToken) -> Observed:
        """Request a token; what came of it is in `last_issued` or in `requests`."""
        seen, key, environment = assessed.seen, assessed.seen.owner.key, assessed.seen.owner.spec.environment
        sent_at, began = self._clock.now(), self._clock.elapsed()
        attempts = seen.requests.begin(seen.request_cause, sent_at)
        seen = replace(seen, slot=SlotState.NOT_ASKED_FOR)
        try:
            if seen.credentials is None:
                error = seen.credentials_error or CredentialsNotFoundError(
                    f"Credentials Secret {seen.owner.spec.credentials.name} can't be read; tried again by itself."
                )
                raise error.with_traceback(None)  # it may be raised again and again
            with self._probing((environment, seen.credentials.identity()), sent_at):
                token = await self._exchange(assessed, seen.credentials, decided.reason, sent_at)
        except OperatorError as error:
            took = self._clock.elapsed() - began
            if isinstance(error, AssetError):
                self._metrics.requested(environment, error.reason, took)
            said = {"outcome": "failed", "reason": error.reason, "seconds": round(took.total_seconds(), 3)}
            logger.warning("%s: no token: %s", key, error, extra=about(key, **said))
            return self._view(replace(seen, requests=self._failed(seen, attempts, error)))
        took = self._clock.elapsed() - began
        self._metrics.requested(environment, ISSUED, took)
        said = {
            "outcome": "issued" if token.revision == 1 else "renewed",
            "reason": token.reason,
            "seconds": round(took.total_seconds(), 3),
            "token_id": token.token_id,
            "expires_at": format_time(token.expires_at),
        }
        text = "%(key)s: %(what)s in %(seconds).3f s, id %(token_id)s, expires %(expires_at)s"
        logger.info(text, {"key": key, "what": ISSUED_FOR[token.reason], **said}, extra=about(key, **said))
        issued = replace(seen, last_issued=token, is_unreported=True, requests=attempts.succeeded())
        return self._view(issued)

    def _failed(self, seen: Observed, attempts: Attempts, error: OperatorError) -> Attempts:
        """The attempt that was begun failed; what asks whether an endpoint is up again counts against no limit."""
        environment = seen.owner.spec.environment
        alone = self._budgets.fails_alone(environment, seen.owner.key)
        if alone and not seen.fails_alone:  # what failed before was the endpoint's
            attempts = attempts.succeeded()
        elif not alone and error.recovery is Recovery.ENDPOINT and (seen.endpoint_down or _is_retry_of_endpoint(seen)):
            attempts = attempts.uncounted()
        failure = failure_of(error, self._clock.now(), self._budgets.endpoint(environment).ups)
        is_parked = seen.credentials is not None and (environment, seen.credentials.identity()) in self._parked
        return attempts.failed(replace(failure, is_shared=is_parked and isinstance(error, InvalidClientError)))

    async def _exchange(
        self, assessed: Assessment, credentials: Credentials, reason: Reason, sent_at: datetime
    ) -> IssuedToken:
        owner, began = assessed.seen.owner, self._clock.elapsed()
        spec = owner.spec
        identity = (spec.environment, credentials.identity())
        skews = self._clocks.skews(spec.environment)  # now, as all that is compared was then: ours may be set meanwhile
        reply = await self._send(owner, credentials)
        received_at = sent_at + (self._clock.elapsed() - began)
        try:
            answer = read_answer(reply, spec)
            validity = read_validity(answer, spec.lifetime, reply.date, sent_at, received_at, skews.known)
        except InvalidClientError as error:
            self._clocks.asset_says(spec.environment, reply.date)
            parked = self._parked.get(identity) or Attempts().begin("", received_at)
            is_first = parked.failure is None or parked.failure.at <= sent_at  # of those that were in flight together
            if not self._is_its_own(owner.key, identity) and is_first:
                self._parked[identity] = parked.failed(failure_of(error, received_at))
            raise
        except AssetError as error:
            if error.recovery is not Recovery.ENDPOINT:  # else it says nothing of the credentials, nor of the time
                self._clocks.asset_says(spec.environment, reply.date)
                self._release(identity, owner.key)
            raise
        self._clocks.token_says(spec.environment, reply.date, validity, sent_at - began)
        self._release(identity, owner.key)
        self._accepted[identity] += 1
        if self._accepted[identity] == 1:
            self._budgets.accept(_tenant(owner, credentials), credentials.identity())
        ends = began + (validity.expires_at - validity.skew - sent_at)
        # Our clock may be another machine's after a restart, so the cluster's is what Asset's is compared with.
        skew = validity.skew - (skews.cluster or timedelta())
        return replace(issued_token(assessed, reason, answer, credentials, validity), ends=ends, skew=skew)

    @contextlib.contextmanager
    def _probing(self, identity: Identity, now: datetime) -> Iterator[None]:
        """Where the credentials are parked this request probes them, and the others wait for what comes of it.

        One that nobody answers is no probe.
        """
        parked = self._parked.get(identity)
        if parked is not None and parked.failure is not None:
            self._parked[identity] = replace(parked.begin("", now), failure=replace(parked.failure, at=now))
        try:
            yield
        except (AssetUnavailableError, NotLeadingError):
            if parked is not None and identity in self._parked:  # else they were accepted meanwhile
                self._parked[identity] = parked
            raise

    def _is_its_own(self, key: Key, identity: Identity) -> bool:
        """Whether a refusal is that AssetToken's own: Asset accepted its credentials for others since its last one."""
        accepted = self._accepted[identity]
        before = self._refused.get(key)
        self._refused[key] = (identity, accepted)
        return before is not None and before[0] == identity and before[1] < accepted

    def _release(self, identity: Identity, by: Key) -> None:
        """Asset doesn't refuse the credentials: where they were parked, all others that use them look again."""
        self._refused.pop(by, None)
        if self._parked.pop(identity, None) is None:
            return
        for token in self._credentials.users(identity):
            if token.key != by:
                self._wake(token.key)

    async def _send(self, owner: AssetToken, credentials: Credentials) -> Reply:
        """Send the request and let the budgets know what came of it."""
        slot = self._slots.pop(owner.key)
        try:
            reply = await self._asset.request_token(owner.spec, credentials)
        except AssetUnavailableError:
            self._budgets.failed(slot)
            raise
        except BaseException:
            self._budgets.release(slot)
            raise
        if reply.rate is not None:
            known = self._clocks.skews(slot.tenant.environment).known or timedelta()
            reply = replace(reply, rate=reply.rate.by_clock(self._clock.now() + known))
        if gets_through(reply):
            self._budgets.answered(slot, reply)
        else:
            self._budgets.failed(slot, unavailable_for(reply))
        return reply

    async def tidy(self) -> None:
        """Forget now and then what nobody uses any more: credentials, tenants and what was parked; until cancelled."""
        while True:
            await self._clock.sleep(TIDY_EVERY.total_seconds())
            if self._credentials.may_be_unused:
                self.forget_unused()

    def forget_unused(self) -> None:
        """Forget the credentials, tenants and what was parked that no AssetToken uses."""
        users = self._credentials.keep_used()
        used = {(token.spec.environment, credentials.identity()) for token, credentials in users}
        self._parked = {identity: parked for identity, parked in self._parked.items() if identity in used}
        self._accepted = Counter({identity: count for identity, count in self._accepted.items() if identity in used})
        self._budgets.keep({_tenant(token, credentials) for token, credentials in users})

    def refused(self, tokens: Iterable[AssetToken]) -> Counter[Environment]:
        """How many credentials Asset refuses of those that these AssetTokens use now."""
        return Counter(environment for environment, _ in self._credentials.used_by(tokens) & self._parked.keys())


def _is_retry_of_endpoint(seen: Observed) -> bool:
    """Whether the same was tried before, and it was the endpoint that failed."""
    failure, cause = seen.requests.failure, seen.requests.cause
    return failure is not None and failure.recovery is Recovery.ENDPOINT and cause == seen.request_cause


def _tenant(token: AssetToken, credentials: Credentials) -> Tenant:
    client = digest(credentials.client_id.get_secret_value())
    return Tenant(token.spec.environment, client, str(token.credentials_key))
