"""What is known of one AssetToken at a moment: facts only, as caches, memory and the issuer have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from asset_token_operator.attempts import NO_ATTEMPTS, Attempts
from asset_token_operator.expiry import rounded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asset_token_operator.errors import OperatorError
    from asset_token_operator.model import AssetToken, Credentials, Environment, IssuedToken, Rival, SecretState


class Synced(NamedTuple):
    """With what it was last seen that a Secret's data is in order; each part differs where that is another.

    Attributes:
        data: The Secret, in which version, and what its data is made of besides the token.
        credentials: The credentials Secret, and in which version.
    """

    data: str = ""
    credentials: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Synced:
        """Read it as status has it; anything else is no such thing."""
        data, _, credentials = (text or "").partition("-")
        return cls(data, credentials)

    def __str__(self) -> str:
        return f"{self.data}-{self.credentials}"


NEVER: Final = Synced()
"""It wasn't seen to be in order yet."""


class SlotState(Enum):
    """Whether a request may be sent now, as far as the tenant's budget goes."""

    NOT_ASKED_FOR = auto()
    GRANTED = auto()
    QUEUED = auto()
    """Not yet: the AssetToken is woken when it may."""


@dataclass(frozen=True, slots=True)
class Skews:
    """How far Asset's clock is ahead of ours, by all that tells.

    Attributes:
        proved: By an answer with a token; None where there was none yet.
        said: By any answer, of those with a token where there was one.
        cluster: How far the API server's clock is ahead of ours; None where it wasn't heard.
        set_back: How far ours was set back since the operator started.
        booted_at: What ours would have said when this machine started to run.
    """

    proved: timedelta | None = None
    said: timedelta | None = None
    cluster: timedelta | None = None
    set_back: timedelta = timedelta()
    booted_at: datetime | None = None

    @property
    def known(self) -> timedelta | None:
        """The best that is known: by Asset, or else by the API server."""
        return self.cluster if self.said is None else self.said

    def of(self, token: IssuedToken) -> timedelta:
        """The same where a token's times are concerned: what this machine has timed goes before what clocks say.

        One that was issued before is believed to end as soon as any says: as it was noted, by the API server's clock,
        or as Asset says now. Without that clock it isn't known whether ours is still what it was.
        """
        if token.ends is not None and self.booted_at is not None:
            return rounded(token.expires_at - (self.booted_at + token.ends))
        if self.proved is not None and self.cluster is None:
            return self.proved
        then = token.skew + (self.set_back if self.cluster is None else self.cluster)
        return then if self.said is None else max(then, self.said)


@dataclass(frozen=True)
class Observed:
    """All that is known; what follows from it is `assess.Assessment`.

    Attributes:
        owner: The AssetToken.
        owner_is_live: Whether it was asked in this run if that is still there.
        endpoints: The base URL of each environment.
        secret: What stands under the name of its Secret, whoever wrote it; by its metadata only, or whole.
        secret_is_live: Whether that was read in this run.
        old_secrets: Its own Secrets under other names, from before `secret.name` changed: by metadata, or read and
            proved.
        old_secrets_are_live: Whether those were read in this run.
        last_issued: The latest token that is known to have been issued, also if no Secret has it (any more).
        is_unreported: Whether a token was issued that no status tells of.
        requests: Attempts to get a token.
        writes: Attempts to write the Secret.
        senior: The name of an older AssetToken that names the same Secret.
        juniors: Younger AssetTokens that do.
        synced: With what it was last seen that the Secret's data is in order.
        credentials: What the credentials Secret holds; None where it can't be read, or hasn't been.
        credentials_error: Why they can't be used, where they were read and can't be.
        credentials_are_live: Whether they were asked for in this run.
        credentials_version: Which one that is, and in which version; None where there is none.
        parked: Attempts of all AssetTokens with these credentials, while Asset doesn't accept them.
        endpoint_down: Whether Asset's endpoint is taken for down; then its probes replace each token's back-off.
        endpoint_ups: How often it has answered again after failures.
        endpoint_up_since: When it did last.
        fails_alone: Whether its requests fail while others are answered.
        skews: How far Asset's clock is ahead of ours.
        slot: Whether a request may be sent now.
        queued_since: Since when a slot in the tenant's budget is waited for.
    """

    owner: AssetToken
    endpoints: Mapping[Environment, str]
    owner_is_live: bool = False
    secret: SecretState | None = None
    secret_is_live: bool = False
    old_secrets: tuple[SecretState, ...] = ()
    old_secrets_are_live: bool = False
    last_issued: IssuedToken | None = None
    is_unreported: bool = False
    requests: Attempts = NO_ATTEMPTS
    writes: Attempts = NO_ATTEMPTS
    senior: str | None = None
    juniors: frozenset[Rival] = frozenset()
    synced: Synced = NEVER
    credentials: Credentials | None = field(default=None, repr=False)
    credentials_error: OperatorError | None = None
    credentials_are_live: bool = False
    credentials_version: str | None = None
    parked: Attempts = NO_ATTEMPTS
    endpoint_down: bool = False
    endpoint_ups: int = 0
    endpoint_up_since: datetime | None = None
    fails_alone: bool = False
    skews: Skews = Skews()
    slot: SlotState = SlotState.NOT_ASKED_FOR
    queued_since: datetime | None = None

    @cached_property
    def request_cause(self) -> str:
        """What a request would be made for: changed credentials, spec or renew request are a new cause."""
        credentials = self.credentials.identity() if self.credentials else None
        return f"{self.owner.spec.request_hash()}/{credentials}/{self.owner.renew_request}"
