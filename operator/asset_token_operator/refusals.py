"""What Asset's refusals mean, in sentences that name the environment, the Secret and what to do.

It is a module of its own as these are read by people: every word of them is ours, and none the body's.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from asset_token_operator.errors import (
    AssetError,
    AssetUnavailableError,
    InvalidClientError,
    InvalidScopeError,
    RateLimitedError,
    RequestRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asset_token_operator.model import Spec

REFUSED_CREDENTIALS: Final = (
    "Asset {environment} refused the credentials in Secret {secret} ({said}): check {client_id} and {client_secret},"
    " and that they are {environment}'s; each environment has its own."
)
NO_CLIENT_OF_ASSET: Final = (
    "Asset {environment} lets nobody request tokens with the credentials in Secret {secret} ({said}): check them in the"
    " Asset Dashboard, or use others."
)
REFUSED_SCOPES: Final = (
    "Asset {environment} doesn't grant all scopes that were requested to the credentials in Secret {secret} ({said}):"
    " correct spec.scopes, or have them allowed for these credentials. Requested: {scopes}."
)
REFUSED_RESOURCES: Final = (
    "Asset {environment} doesn't issue tokens for all resources to the credentials in Secret {secret} ({said}): correct"
    " spec.resources. Requested: {resources}."
)
MALFORMED: Final = (
    "Asset {environment} found the request malformed ({said}): check spec.businessId, spec.resources and spec.lifetime."
)
FORBIDDEN: Final = (
    "Asset {environment} forbids the request ({said}): check spec.businessId, and what the credentials in Secret"
    " {secret} may do."
)
NO_ENDPOINT: Final = (
    "There is no token endpoint at the operator's address of Asset {environment} ({said}): check --{environment}-url;"
    " tried again by itself."
)
TOO_SLOW: Final = "The request reached Asset {environment} too slowly ({said}); tried again by itself."
LIMITED: Final = (
    "The rate limit of the credentials in Secret {secret} at Asset {environment} is used up ({said}), perhaps by other"
    " programs that use them; tried again by itself."
)
REFUSED: Final = (
    "Asset {environment} refused the request ({said}): check the spec and the credentials in Secret {secret}."
)

REFUSALS: Final[Mapping[str, tuple[type[AssetError], str]]] = {
    "invalid_client": (InvalidClientError, REFUSED_CREDENTIALS),
    "invalid_grant": (InvalidClientError, REFUSED_CREDENTIALS),
    "unauthorized_client": (InvalidClientError, NO_CLIENT_OF_ASSET),
    "invalid_scope": (InvalidScopeError, REFUSED_SCOPES),
    "invalid_target": (RequestRefusedError, REFUSED_RESOURCES),
    "invalid_request": (RequestRefusedError, MALFORMED),
}
"""What the error codes of RFC 6749, section 5.2, and RFC 8707, section 2, mean, and what to do."""

STATUSES: Final[Mapping[int, tuple[type[AssetError], str]]] = {
    HTTPStatus.UNAUTHORIZED: (InvalidClientError, REFUSED_CREDENTIALS),
    HTTPStatus.FORBIDDEN: (RequestRefusedError, FORBIDDEN),
    HTTPStatus.NOT_FOUND: (AssetUnavailableError, NO_ENDPOINT),
    HTTPStatus.REQUEST_TIMEOUT: (AssetUnavailableError, TOO_SLOW),
    HTTPStatus.UNPROCESSABLE_ENTITY: (RequestRefusedError, MALFORMED),
    HTTPStatus.TOO_MANY_REQUESTS: (RateLimitedError, LIMITED),
}
"""What a status means where the body has no such code."""

OTHERWISE: Final = (RequestRefusedError, REFUSED)
"""What any other means."""

MOST_NAMED: Final = 8
"""Of scopes, or resources, in a sentence."""


def refusal(meaning: tuple[type[AssetError], str], said: str, spec: Spec) -> AssetError:
    """The error that a refusal means.

    Args:
        meaning: Its kind, and the sentence.
        said: The status, and the code where there is one.
        spec: What was requested.
    """
    kind, sentence = meaning
    named = {
        "environment": spec.environment,
        "secret": spec.credentials.name,
        "client_id": spec.credentials.client_id_key,
        "client_secret": spec.credentials.client_secret_key,
        "scopes": _listed(spec.scopes),
        "resources": _listed(spec.resources),
    }
    return kind(sentence.format(said=said, **named))


def _listed(texts: Sequence[str]) -> str:
    """The first few of them."""
    more = len(texts) - MOST_NAMED
    named = ", ".join(sorted(texts)[:MOST_NAMED]) or "none"
    return f"{named} and {more} more" if more > 0 else named
