"""What is known of the cluster: AssetTokens, and the metadata of Secrets, each found by whatever concerns it.

The rim fills it and everybody asks it. Of two states of an object the later one is kept, whoever saw it: a watch, or
the answer to a write of our own. No Secret's data is ever in here.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, TypeAlias, TypeVar

from asset_token_operator.manifests import OWNER, owner_name
from asset_token_operator.model import Key, Rival
from asset_token_operator.versions import ASSET_TOKENS, SECRETS, Versions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from asset_token_operator.model import AssetToken, SecretState

Looked = TypeVar("Looked")

Rank: TypeAlias = "tuple[datetime, str]"
"""Of two AssetTokens that name one Secret the one that is lower here has it: when it was created, and its name."""


MOST_NAMES: Final = 256
"""Labels, annotations and what else the operator is said to have put into a Secret; it puts 120 there at most."""

MOST_CHARACTERS: Final = 32 * 1024
"""Characters of these. The operator's own are some 2,000; a spec may ask for more, of which nobody is known."""

LONGEST_NAME: Final = 253
LONGEST_UID: Final = 64


class Index(Generic[Looked]):
    """Which keys are found by something."""

    def __init__(self) -> None:
        self._found: defaultdict[Looked, dict[Key, None]] = defaultdict(dict)

    def add(self, by: Looked, key: Key) -> None:
        """The key is found by that from now on."""
        self._found[by][key] = None

    def discard(self, by: Looked, key: Key) -> None:
        """The key is not found by that any more."""
        found = self._found.get(by)
        if found is not None:
            found.pop(key, None)
            if not found:
                del self._found[by]

    def get(self, by: Looked) -> Collection[Key]:
        """The keys that are found by that, the earliest first."""
        return tuple(self._found.get(by, ()))


class Caches:
    """AssetTokens and Secrets as they were seen last."""

    def __init__(self) -> None:
        self.versions = Versions()
        """What was seen of resource versions."""
        self._asset_tokens: dict[Key, AssetToken] = {}
        self._by_secret: defaultdict[Key, list[Rank]] = defaultdict(list)
        """For each Secret the AssetTokens that name it, the oldest, who has it, first."""
        self._by_credentials: Index[Key] = Index()
        self._secrets: dict[Key, SecretState] = {}
        self._secrets_by_owner: Index[Key] = Index()

    def asset_token(self, key: Key) -> AssetToken | None:
        """The AssetToken of that name; None where there is none."""
        return self._asset_tokens.get(key)

    def asset_tokens(self) -> Collection[AssetToken]:
        """All AssetTokens."""
        return self._asset_tokens.values()

    def secret(self, key: Key) -> SecretState | None:
        """The metadata of the Secret of that name; None where there is none."""
        return self._secrets.get(key)

    def secrets(self) -> Mapping[Key, SecretState]:
        """All Secrets."""
        return self._secrets

    def rivals(self, token: AssetToken) -> tuple[str | None, frozenset[Rival]]:
        """The oldest AssetToken that names the same Secret, if it is another; else those that have to yield to it."""
        ranks = self._by_secret.get(token.secret_key, ())
        if ranks and ranks[0] != _rank(token):
            return ranks[0][1], frozenset()
        others = (self._asset_tokens[_at(token.secret_key, rank)] for rank in ranks[1:])
        return None, frozenset(Rival(other.uid, other.key.name) for other in others)

    def secrets_of(self, owner: Key) -> Iterator[SecretState]:
        """The Secrets that say that they are of that AssetToken."""
        for key in self._secrets_by_owner.get(owner):
            yield self._secrets[key]

    def saw_asset_token(self, token: AssetToken) -> Collection[Key]:
        """An AssetToken was seen; those whom that concerns, none where it is no news."""
        self.versions.saw(ASSET_TOKENS, token.version)
        before = self._asset_tokens.get(token.key)
        if before is not None and before.version >= token.version:
            return ()
        self._asset_tokens[token.key] = token
        concerned = {token.key: None}
        if before is None or _claim(before) != _claim(token):
            concerned |= self._forget_asset_token(before) | self._claim_secret(token)
        self._by_credentials.add(token.credentials_key, token.key)
        return concerned

    def wrote_asset_token(self, token: AssetToken) -> None:
        """The operator changed an AssetToken itself: what the watch will say of it is no news."""
        before = self._asset_tokens.get(token.key)
        if before is not None and before.uid == token.uid:
            self.saw_asset_token(token)

    def asset_token_gone(self, key: Key, version: int) -> Collection[Key]:
        """An AssetToken was gone when its cluster had that version; those whom that concerns."""
        before = self._asset_tokens.get(key)
        if before is None or before.version > version:
            return ()
        del self._asset_tokens[key]
        return {key: None} | self._forget_asset_token(before)

    def saw_secret(self, secret: SecretState) -> Collection[Key]:
        """A Secret's metadata was seen; the AssetTokens that it concerns, none where it is no news."""
        self.versions.saw(SECRETS, secret.version)
        before = self._secrets.get(secret.key)
        if before is not None and before.version >= secret.version:
            return ()
        if secret.type is None and before is not None and before.uid == secret.uid:  # the type can't be changed
            secret = replace(secret, type=before.type)
        return self._put_secret(trimmed(secret))

    def learn_type(self, secret: SecretState) -> None:
        """A Secret was read whole: its type, which metadata doesn't tell, never changes."""
        before = self._secrets.get(secret.key)
        if before is not None and before.uid == secret.uid and before.type is None:
            self._put_secret(replace(before, type=secret.type))

    def secret_gone(self, key: Key, version: int) -> Collection[Key]:
        """A Secret was gone when its cluster had that version; the AssetTokens that it concerns."""
        before = self._secrets.get(key)
        if before is None or before.version > version:
            return ()
        del self._secrets[key]
        return self._forget_secret(before)

    def forget_versions_of_asset_tokens(self) -> None:
        """Versions have gone back: whatever is told next of an AssetToken is the latest."""
        self._asset_tokens = {key: replace(token, version=0) for key, token in self._asset_tokens.items()}

    def forget_versions_of_secrets(self, concerns: Callable[[Key], bool]) -> None:
        """The same of these Secrets."""
        for key in filter(concerns, self._secrets):
            self._secrets[key] = replace(self._secrets[key], version=0)

    def _claim_secret(self, token: AssetToken) -> dict[Key, None]:
        """It names its Secret from now on; the others that this concerns: whoever has to yield to it."""
        ranks, rank = self._by_secret[token.secret_key], _rank(token)
        bisect.insort(ranks, rank)
        is_first = ranks[0] == rank
        if len(ranks) > 1 and (is_first or self._has_secret(token)):
            return {_at(token.secret_key, ranks[is_first]): None}
        return {}

    def _forget_asset_token(self, token: AssetToken | None) -> dict[Key, None]:
        """It names its Secret no more; the others that this concerns: whoever has it now.

        All others still have to yield, and those that have yielded to this one needn't be told at once to whom now.
        """
        if token is None:
            return {}
        self._by_credentials.discard(token.credentials_key, token.key)
        ranks, rank = self._by_secret[token.secret_key], _rank(token)
        at = bisect.bisect_left(ranks, rank)
        del ranks[at]
        if not ranks:
            del self._by_secret[token.secret_key]
            return {}
        return {_at(token.secret_key, ranks[0]): None} if at == 0 or self._has_secret(token) else {}

    def _has_secret(self, token: AssetToken) -> bool:
        """Whether what stands under the name of its Secret is its own, so that it is its elder's too."""
        secret = self._secrets.get(token.secret_key)
        return secret is not None and (secret.controller_uid == token.uid or owner_of(secret) == token.key)

    def _put_secret(self, secret: SecretState) -> dict[Key, None]:
        concerned = self._forget_secret(self._secrets.get(secret.key))
        self._secrets[secret.key] = secret
        owner = owner_of(secret)
        if owner is not None:
            self._secrets_by_owner.add(owner, secret.key)
        return concerned | self._concerned(secret)

    def _forget_secret(self, secret: SecretState | None) -> dict[Key, None]:
        if secret is None:
            return {}
        owner = owner_of(secret)
        if owner is not None:
            self._secrets_by_owner.discard(owner, secret.key)
        return self._concerned(secret)

    def _concerned(self, secret: SecretState) -> dict[Key, None]:
        """Whose token goes there (of several the oldest), whose credentials are in it, and of whom it says it is."""
        owner, ranks = owner_of(secret), self._by_secret.get(secret.key)
        first = () if ranks is None else (_at(secret.key, ranks[0]),)  # the others have to yield, whatever it is
        keys = (*first, *self._by_credentials.get(secret.key))
        return dict.fromkeys(keys if owner is None else (*keys, owner))


def owner_of(secret: SecretState) -> Key | None:
    """The AssetToken that a Secret says it is of; None where it isn't one of the operator's."""
    name = owner_name(secret)
    return None if name is None else Key(secret.key.namespace, name)


def trimmed(secret: SecretState) -> SecretState:
    """The metadata as it is, or where that is more than any of the operator's has, only whose it is.

    Whoever may create Secrets can make each a megabyte of names that look like ours, and all are kept. Before anything
    is done one is read whole anyway.
    """
    uid = secret.controller_uid and secret.controller_uid[:LONGEST_UID]  # of one that is longer it stays nobody's
    texts = (secret.labels, secret.annotations)
    if sum(map(len, (*texts, secret.applied))) <= MOST_NAMES and _characters(texts) <= MOST_CHARACTERS:
        return replace(secret, controller_uid=uid) if uid != secret.controller_uid else secret
    owner = secret.annotations.get(OWNER, "")
    annotations = {OWNER: owner} if 0 < len(owner) <= LONGEST_NAME else {}
    return replace(secret, controller_uid=uid, labels={}, annotations=annotations, applied=frozenset())


def _characters(texts: Iterable[Mapping[str, str]]) -> int:
    return sum(len(name) + len(text) for each in texts for name, text in each.items())


def _rank(token: AssetToken) -> Rank:
    return (token.created, token.key.name)


def _at(secret: Key, rank: Rank) -> Key:
    """The AssetToken of that rank."""
    return Key(secret.namespace, rank[1])


def _claim(token: AssetToken) -> tuple[object, ...]:
    """What decides which Secret is whose, and whose credentials count: while it stays, nobody else is concerned."""
    return (token.uid, token.secret_key, token.credentials_key, _rank(token))
