"""What is known of Asset's clock in each environment, by the token service's own answers.

All is kept as what a clock would have said when this machine started to run, so that setting ours changes nothing.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from asset_token_operator.expiry import HALF_A_SECOND, LARGEST_SKEW, SMALLEST_SKEW, rounded
from asset_token_operator.observed import Skews

if TYPE_CHECKING:
    from datetime import datetime

    from asset_token_operator.clock import Clock
    from asset_token_operator.expiry import Validity
    from asset_token_operator.model import Environment

logger = logging.getLogger(__name__)


class AssetClocks:
    """How far Asset's clocks, and the API server's, are ahead of ours.

    Args:
        clock: Ours.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ours = self.booted_at()
        self._cluster: datetime | None = None
        self._asset: dict[Environment, datetime] = {}
        self._proved: set[Environment] = set()
        """Where an answer with a token has told: after that nothing less does."""

        self._odd: set[tuple[Environment, str]] = set()

    def skews(self, environment: Environment) -> Skews:
        """All that tells how far Asset's clock is ahead of ours.

        Of ours, where it was set back, nobody can tell whether it was right before or is right now. Tokens are renewed
        early rather than late, so one that was set forward was not set.
        """
        ahead, booted_at = self.skew(environment), self.booted_at()
        set_back = max(rounded(self._ours - booted_at), timedelta())
        return Skews(ahead if environment in self._proved else None, ahead, self.cluster_skew(), set_back, booted_at)

    def booted_at(self) -> datetime:
        """What our clock, as it is now, would have said when this machine started to run."""
        return self._clock.now() - self._clock.elapsed()

    def skew(self, environment: Environment) -> timedelta | None:
        """How far Asset's clock is ahead of ours now, also if ours was set since; None where it hasn't been seen."""
        return self._ahead(self._asset.get(environment))

    def cluster_skew(self) -> timedelta | None:
        """How far the API server's clock is ahead of ours; None where it wasn't heard."""
        return self._ahead(self._cluster)

    def cluster_says(self, date: datetime) -> None:
        """The API server answered with that `Date`."""
        self._cluster = date + HALF_A_SECOND - self._clock.elapsed()

    def asset_says(self, environment: Environment, date: datetime | None) -> None:
        """The token service answered without a token; its `Date` is believed until an answer with one tells better.

        Where the API server's clock says something else the one is believed that is nearer to ours.
        """
        now = self._clock.now()
        if date is None or environment in self._proved or abs(date - now) >= LARGEST_SKEW:
            return
        began = date + HALF_A_SECOND - self._clock.elapsed()
        cluster = self._cluster
        if cluster is not None and abs(cluster - began) >= SMALLEST_SKEW:
            ours = self.booted_at()
            if abs(cluster - ours) < abs(began - ours):
                self._tell(environment, "Date")
                return
        self._asset[environment] = began

    def token_says(
        self, environment: Environment, date: datetime | None, validity: Validity, booted_at: datetime
    ) -> None:
        """An answer with a token told of Asset's clock; one without a `Date` may come from a cache.

        Args:
            environment: Whose answer it was.
            date: Its `Date`.
            validity: What it tells.
            booted_at: The same as `booted_at` when the request was sent: ours may have been set since.
        """
        if date is not None:
            self._proved.add(environment)
            self._asset[environment] = booted_at + validity.skew
        if validity.odd is not None:
            self._tell(environment, validity.odd)

    def _tell(self, environment: Environment, odd: str) -> None:
        """Say once that a witness of Asset's clock isn't believed."""
        if (environment, odd) not in self._odd:
            self._odd.add((environment, odd))
            logger.warning(
                "Asset %s: what its answers say in %s is not believed, as other clocks disagree; check this machine's",
                environment,
                odd,
            )

    def _ahead(self, began: datetime | None) -> timedelta | None:
        return None if began is None else rounded(began - self.booted_at())
