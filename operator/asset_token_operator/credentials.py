"""What the credentials Secrets hold: each is read once for each of its versions, and forgotten when nobody uses it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from asset_token_operator.errors import (
    CredentialsInvalidError,
    CredentialsNotFoundError,
    KubeRefusedError,
    OperatorError,
)
from asset_token_operator.model import Credentials, CredentialsRef, Environment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asset_token_operator.caches import Caches
    from asset_token_operator.model import AssetToken
    from asset_token_operator.ports import CredentialsStore

Where: TypeAlias = tuple[str, CredentialsRef]
"""In which namespace credentials are, and under which names."""

Identity: TypeAlias = tuple[Environment, str]
"""What tells credentials from others: an environment, and `Credentials.identity`."""


@dataclass(frozen=True, slots=True)
class Read:
    """What was found when a credentials Secret of that version was read."""

    version: str | None
    found: Credentials | OperatorError

    def identity(self) -> str | None:
        """What tells the credentials from others; None where they can't be used."""
        return self.found.identity() if isinstance(self.found, Credentials) else None


class CredentialsReader:
    """Reads credentials Secrets.

    Args:
        kube: Where they are.
        caches: Which of them there are, and in which versions.
    """

    def __init__(self, kube: CredentialsStore, caches: Caches) -> None:
        self._kube = kube
        self._caches = caches
        self._read: dict[Where, Read] = {}
        self._reading: defaultdict[Where, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.may_be_unused = False
        """Whether some were read, or changed, since `keep_used`."""

    def version_of(self, owner: AssetToken) -> str | None:
        """Which credentials Secret there is, and in which version; None where there is none."""
        secret = self._caches.secret(owner.credentials_key)
        return None if secret is None else f"{secret.uid}/{secret.version}"

    def known(self, owner: AssetToken) -> Credentials | None:
        """The credentials, where they were read in the present version and can be used."""
        read = self._read.get(_where(owner))
        if read is None or read.version != self.version_of(owner) or isinstance(read.found, OperatorError):
            return None
        return read.found

    async def read(self, owner: AssetToken) -> Credentials | OperatorError:
        """What the credentials Secret holds, or why that can't be used.

        Raises:
            KubeUnavailableError: It can't be read now.
        """
        where = _where(owner)
        async with self._reading[where]:  # those who share them read them once
            version = self.version_of(owner)
            known = self._read.pop(where, None)
            if known is None or known.version != version:
                self.may_be_unused = True
                try:
                    known = Read(version, await self._kube.read_credentials(*where))
                except CredentialsInvalidError as error:
                    known = Read(version, error.with_traceback(None))  # whose frames hold the Secret
                except (CredentialsNotFoundError, KubeRefusedError) as error:
                    return error  # a right may be granted, without that the Secret changes
            if version is not None:
                self._read[where] = known
            return known.found

    def users(self, identity: Identity) -> list[AssetToken]:
        """The AssetTokens that use these credentials."""
        environment, credentials = identity
        places = {where for where, read in self._read.items() if read.identity() == credentials}
        tokens = self._caches.asset_tokens()
        return [token for token in tokens if token.spec.environment is environment and _where(token) in places]

    def used_by(self, tokens: Iterable[AssetToken]) -> set[Identity]:
        """The credentials that these AssetTokens use, as far as they are known."""
        used = {(token.spec.environment, _where(token)) for token in tokens}
        read = ((environment, self._read[where].identity()) for environment, where in used if where in self._read)
        return {(environment, identity) for environment, identity in read if identity is not None}

    def keep_used(self) -> list[tuple[AssetToken, Credentials]]:
        """Forget what no AssetToken uses; the others with the credentials that they use."""
        self.may_be_unused = False
        kept: dict[Where, Read] = {}
        users = []
        for token in self._caches.asset_tokens():
            read = self._read.get(_where(token))
            if read is not None and self._caches.secret(token.credentials_key) is not None:
                kept[_where(token)] = read
                if isinstance(read.found, Credentials):
                    users.append((token, read.found))
        self._read = kept
        for where in [where for where, lock in self._reading.items() if where not in kept and not lock.locked()]:
            del self._reading[where]
        return users


def _where(owner: AssetToken) -> Where:
    return owner.key.namespace, owner.spec.credentials
