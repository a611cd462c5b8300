"""Which namespaces are served, and why one isn't: each by itself, so that one that can't be followed holds up no other.

A scope is a namespace, or `EVERYWHERE`. It is served once all its AssetTokens and all its Secrets are known. What was
known once is still served while it can't be followed any more, as its tokens expire all the same; but where the cluster
says that there are no such things as AssetTokens, nothing is touched until it does again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import KubeError, NotFoundError
from asset_token_operator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


logger = logging.getLogger(__name__)

EVERYWHERE: Final = ""
"""The scope of all namespaces."""

NO_CRD: Final = "no CRD"
REFUSED: Final = "refused"
UNREACHABLE: Final = "unreachable"
CHECK_CLUSTER: Final = " Check that it can be reached from here, and outside of a cluster KUBECONFIG."
CHECK_NAMESPACE: Final = " Check that the namespace exists, too."

BEING_LISTED: Final = "being listed; the API server hasn't answered yet"


@dataclass(slots=True)
class Following:
    """How it goes with following one kind of object in a scope.

    Attributes:
        known: Whether all of them that there were at the start have been seen.
        problem: Why they can't be followed now, in words; None where they are.
        cause: What is behind it: what has one cause is told once.
        failures: How often it has failed for that in a row.
        told: Whether that was told, of this or of something else with the same cause.
    """

    known: bool = False
    problem: str | None = BEING_LISTED
    cause: str | None = None
    failures: int = 0
    told: bool = False

    def is_worth_a_word(self) -> bool:
        """Whether it isn't only for a moment, as watches break, and rights that are changed are refused."""
        routine = self.known or (self.cause or "").startswith(REFUSED)
        return self.failures > 1 or self.cause == NO_CRD or not routine


class Scopes:
    """The scopes, and how it goes with each.

    Args:
        namespaces: The namespaces that are followed; none means all.
        served: Called with each scope when it is served for the first time, or again.
        followed: Called with each scope when it can be followed again, so that whoever failed meanwhile may try again.
    """

    def __init__(
        self,
        namespaces: Sequence[str],
        served: Callable[[str], None] = lambda _: None,
        followed: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.names: Sequence[str] = tuple(namespaces) or (EVERYWHERE,)
        self._served = served
        self._followed = followed
        self._asset_tokens = {scope: Following() for scope in self.names}
        self._secrets = {scope: Following() for scope in self.names}

    def of(self, namespace: str) -> str:
        """The scope that a namespace is in."""
        return EVERYWHERE if EVERYWHERE in self._asset_tokens else namespace

    def serves(self, scope: str) -> bool:
        """Whether what is in it may be acted on."""
        return self._asset_tokens[scope].known and self._secrets[scope].known

    def is_followed(self, scope: str) -> bool:
        """Whether it is served, and nothing keeps it from seeing what changes."""
        return self.problem(scope) is None

    def is_ready(self) -> bool:
        """Whether any scope is served."""
        return any(self.serves(scope) for scope in self.names)

    def problem(self, scope: str) -> str | None:
        """Why it isn't followed, in words; None where it is."""
        both = (self._asset_tokens[scope], self._secrets[scope])
        said = [one.problem for one in sorted(both, key=lambda one: one.cause is None) if one.problem is not None]
        return said[0] if said else None

    def problems(self) -> Iterator[str]:
        """A line for each scope that isn't followed."""
        for scope in self.names:
            problem = self.problem(scope)
            if problem is not None:
                yield f"{name_of(scope)}: {problem}"

    def asset_tokens_known(self, scope: str) -> None:
        """All its AssetTokens have been seen, and they are followed."""
        self._know(scope, self._asset_tokens[scope])

    def secrets_known(self, scope: str) -> None:
        """The same for its Secrets."""
        self._know(scope, self._secrets[scope])

    def asset_tokens_lost(self, scope: str, error: KubeError) -> None:
        """They can't be followed now; where they aren't found, the cluster has no such things as AssetTokens."""
        self._lose(scope, self._asset_tokens[scope], "AssetTokens", error)
        if isinstance(error, NotFoundError):
            self._asset_tokens[scope].known = False

    def secrets_lost(self, scope: str, error: KubeError) -> None:
        """The same for its Secrets."""
        self._lose(scope, self._secrets[scope], "Secrets", error)

    def _know(self, scope: str, following: Following) -> None:
        was, told, cause = self.serves(scope), following.told, following.cause
        was_lost = following.cause is not None
        following.known, following.problem = True, None
        following.cause, following.failures, following.told = None, 0, False
        if told and not self._is_told(cause):
            logger.info("%s: followed again", name_of(scope))
        if self.serves(scope) and not was:
            self._served(scope)
        if was_lost:
            self._followed(scope)

    def _lose(self, scope: str, following: Following, what: str, error: KubeError) -> None:
        cause = _cause(scope, error)
        if following.cause != cause:
            following.failures, following.told = 0, False
        following.problem, following.cause = str(error), cause
        following.failures += 1
        if not following.told and following.is_worth_a_word():
            if not self._is_told(cause):
                logger.warning("%s: %s can't be followed: %s%s", name_of(scope), what, error, self._helps(scope, cause))
            following.told = True

    def _helps(self, scope: str, cause: str) -> str:
        """What to check where it never worked."""
        if cause == UNREACHABLE:
            is_new = not any(one.known for one in (*self._asset_tokens.values(), *self._secrets.values()))
            return CHECK_CLUSTER if is_new else ""
        is_new = not self._asset_tokens[scope].known and not self._secrets[scope].known
        return CHECK_NAMESPACE if scope and cause.startswith(REFUSED) and is_new else ""

    def _is_told(self, cause: str | None) -> bool:
        """Whether that was told of anything."""
        return any(one.told and one.cause == cause for one in (*self._asset_tokens.values(), *self._secrets.values()))


def _cause(scope: str, error: KubeError) -> str:
    """What is behind a problem: rights are lacking in a scope, all else is the whole cluster's."""
    if isinstance(error, NotFoundError):
        return NO_CRD
    return UNREACHABLE if error.reason is Reason.CLUSTER_UNAVAILABLE else f"{REFUSED} in {scope}"


def name_of(scope: str) -> str:
    """The scope in words."""
    return f"namespace {scope}" if scope else "all namespaces"
