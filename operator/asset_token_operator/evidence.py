"""Which tokens an AssetToken's Secrets hold, as far as they are believed, and what to read before that is known.

Who may write Secrets may write annotations, so what a Secret says counts where it is as it was when the status noted
that all was in order, or where it is proved (docs/adr/0012).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from asset_token_operator.manifests import (
    LARGEST_UNPROVED_REVISION,
    TOKEN_FINGERPRINT,
    credentials_fingerprint,
    holds,
    is_owned,
    proof_key,
    prove,
    stored_token,
)
from asset_token_operator.model import DeletionPolicy, digest
from asset_token_operator.observed import Synced

if TYPE_CHECKING:
    from asset_token_operator.model import Credentials, IssuedToken, SecretState
    from asset_token_operator.observed import Observed


@dataclass(frozen=True)
class Evidence:
    """What the Secrets that were observed tell."""

    seen: Observed

    @cached_property
    def owns_secret(self) -> bool:
        """Whether what stands under the name of its Secret is there, and its own to write."""
        secret = self.seen.secret
        return secret is not None and is_owned(secret, self.seen.owner, self.seen.juniors)

    @property
    def lost_secret(self) -> bool:
        """Whether its Secret was there, by its status, and is gone."""
        return self.seen.secret is None and self.seen.owner.status.secret_name == self.seen.owner.spec.secret.name

    @cached_property
    def stored(self) -> IssuedToken | None:
        """The token that the AssetToken's Secret holds; None where the Secret isn't its own or holds none."""
        return self._read(self.seen.secret) if self.seen.secret is not None and self.owns_secret else None

    @cached_property
    def current(self) -> IssuedToken | None:
        """The token to serve: one for the present spec if there is one, and of those the latest.

        What is known of a token that was issued is believed before what a Secret says of it. Of two that two operators
        had issued at once the greater fingerprint is the latest for both: each has its own clock.
        """
        known: dict[str, IssuedToken] = {}
        for token in (self.seen.last_issued, self.stored, *map(self._read, self.seen.old_secrets)):
            if token is not None:
                known.setdefault(token.fingerprint, token)
        spec_hash = self.seen.owner.spec.request_hash()
        latest = max(
            known.values(),
            key=lambda token: (token.spec_hash == spec_hash, token.revision, token.fingerprint),
            default=None,
        )
        return None if latest is None else self._with_proof_key(latest)

    @cached_property
    def present(self) -> Synced:
        """What a Secret that is in order now is noted with."""
        seen, spec = self.seen, self.seen.owner.spec
        version = seen.secret and (seen.secret.uid, seen.secret.version)
        made_of = (version, seen.endpoints[spec.environment], *sorted(spec.secret.template.items()))
        return Synced(digest(repr(made_of))[:16], digest(repr(seen.credentials_version))[:16])

    def is_proved(self, secret: SecretState) -> bool:
        """Whether it is proved that the operator made a Secret that was read."""
        token = stored_token(secret)
        return token is not None and self._prove(secret, token) is not None

    def can_prove(self, secret: SecretState) -> bool:
        """Whether it can be told at all: by the credentials, or by a token in hand that it says it holds."""
        issued = self.seen.last_issued
        if self.seen.credentials is not None or issued is None or issued.proof_key is None:
            return self.seen.credentials is not None
        return secret.annotations.get(TOKEN_FINGERPRINT) == issued.fingerprint

    def lacks_secret(self) -> bool:
        """Whether the Secret has to be read before it can be known that nothing is to be done.

        The data of one that is the operator's must have been in order when it was what it is now; and its token must be
        at hand where the credentials are others than it was requested with: it takes both to tell whether they say the
        same.
        """
        secret, token = self.seen.secret, self.current
        if secret is not None and secret.data is None and self.owns_secret and not self._is_as_noted():
            return True
        return token is not None and token.access_token is None and self._credentials_changed()

    def lacks_old_secrets(self) -> bool:
        """The same for its Secrets under other names: they may hold its token, or are to be removed."""
        unread = [secret for secret in self.seen.old_secrets if secret.data is None]
        if unread and self.current is None:
            return True
        removes = self.seen.owner.spec.secret.deletion_policy is DeletionPolicy.DELETE
        return removes and any(secret.controller_uid == self.seen.owner.uid for secret in unread)

    def lacks_credentials(self) -> bool:
        """The same for the credentials: what is waited for may be that they change."""
        if self.seen.credentials is not None or self.seen.credentials_version is None:
            return False
        return self.current is None or self._credentials_changed() or self._lacks_proof()

    def has_same_credentials(self) -> bool:
        """Whether it is known that the present token was requested with the credentials that there are now."""
        seen, token = self.seen, self.current
        if token is None or token.access_token is None:
            return False
        if seen.credentials is None:
            return seen.credentials_version is None
        return not are_others(seen.credentials, token)

    def _read(self, secret: SecretState) -> IssuedToken | None:
        """The token that a Secret holds, as far as it is believed that the operator put it there.

        Where it answers the present spec, that says which environment and business it is of.
        """
        seen = self.seen
        is_its_own = secret.key == seen.owner.secret_key
        if is_its_own and seen.last_issued is not None and holds(secret, seen.last_issued):
            return seen.last_issued
        token = stored_token(secret)
        if not is_its_own and secret.data is None:  # one that was read is proved
            return None
        if token is not None and is_its_own and not self._is_as_noted():
            token = self._prove(secret, token)
        if token is None or token.spec_hash != seen.owner.spec.request_hash():
            return token
        return replace(token, environment=seen.owner.spec.environment, business_id=seen.owner.spec.business_id)

    def _is_as_noted(self) -> bool:
        """Whether its Secret is what the operator noted in the status, which nobody else writes, to be in order."""
        return self.seen.synced.data == self.present.data

    def _prove(self, secret: SecretState, token: IssuedToken) -> IssuedToken | None:
        """The token, if it is proved to be the operator's; what nobody can tell yet is left as it stands."""
        seen, issued = self.seen, self.seen.last_issued
        if issued is not None and issued.proof_key is not None and token.fingerprint == issued.fingerprint:
            return prove(secret, seen.owner, token, issued.proof_key)
        if seen.credentials is None:
            is_left = secret.controller_uid == seen.owner.uid and secret.key == seen.owner.secret_key
            return token if is_left and token.revision <= LARGEST_UNPROVED_REVISION else None
        if token.access_token is None:
            return None
        return prove(secret, seen.owner, token, proof_key(seen.credentials, token.access_token))

    def _with_proof_key(self, token: IssuedToken) -> IssuedToken:
        """With what its proof is keyed with: one that was believed without it may be written under another name."""
        credentials = self.seen.credentials
        if token.proof_key is not None or token.access_token is None or credentials is None:
            return token
        if are_others(credentials, token):
            return token
        return replace(token, proof_key=proof_key(credentials, token.access_token))

    def _lacks_proof(self) -> bool:
        """Whether only the credentials can tell if a Secret that was read is the operator's own."""
        secret, issued = self.seen.secret, self.seen.last_issued
        if secret is None:  # it is written under another name than before
            return issued is not None and issued.proof_key is None
        if secret.data is None or self._is_as_noted():
            return False
        return issued is None or not holds(secret, issued)

    def _credentials_changed(self) -> bool:
        seen = self.seen
        return seen.credentials_version is not None and seen.synced.credentials != self.present.credentials


def are_others(credentials: Credentials, token: IssuedToken) -> bool:
    """Whether a token was requested with other credentials; one that isn't at hand was, or not, when it was last."""
    if token.access_token is None:
        return False
    return credentials_fingerprint(credentials, token.access_token) != token.credentials_fingerprint
