"""What an answer of the API server means: bytes in, an object or a `KubeError` out.

It is a module of its own, without a network, as a webhook, or whatever stands in front, may answer anything: what an
error says is in our words, and of a refusal's body only known words, names and fields are told.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.admission import find_denial, find_silent_webhook, is_not_allowed
from asset_token_operator.answers import read_object
from asset_token_operator.errors import (
    AGAIN,
    AdmissionDeniedError,
    ConflictError,
    KubeRefusedError,
    KubeUnavailableError,
    NotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REASONS: Final = frozenset(
    {"AlreadyExists", "BadRequest", "Conflict", "Expired", "Forbidden", "Gone", "Invalid", "MethodNotAllowed"}
    | {"NotAcceptable", "NotFound", "RequestEntityTooLarge", "UnsupportedMediaType"}
)
"""The API server's own words (`metav1.StatusReason`)."""

OWN: Final = "Audit-Id"
"""All answers of API servers have this header. One is no Status: that for a path that isn't known, such as AssetTokens'
where their CRD is missing, is `404 page not found` in plain text, as any ingress may send it."""

MESSAGE: Final = re.compile(
    rb'(?:"kind":"Status","apiVersion":"v1","metadata":\{\},"status":"Failure",)?"message":"(?:[^"\\]|\\["\\])+'
)
LONGEST_BEGINNING: Final = 2**12

FIELD: Final = re.compile(r"[A-Za-z0-9_.\[\]/ -]{1,200}")

TRY_AGAIN: Final = frozenset({401, 408, 429})
"""Besides 5xx: "not now" rather than "never"."""

KINDS: Final[Mapping[int, type[KubeRefusedError]]] = {404: NotFoundError, 409: ConflictError}
"""What a refusal with such a status is."""


def check(what: str, status: int, headers: Mapping[str, str], answer: Mapping[str, Any]) -> None:
    """Raise what a status other than 2xx means.

    Args:
        what: The call, in words.
        status: The HTTP status.
        headers: The answer's.
        answer: What was read of it.

    Raises:
        KubeError: It is no success.
    """
    if status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status < HTTPStatus.BAD_REQUEST:
        raise KubeUnavailableError(
            f"{what}: no answer from the API server, but a redirect; check the server's address in the kubeconfig."
        )
    denial = find_denial(answer)
    if denial is not None:
        raise AdmissionDeniedError(f"{what}: {denial}; {AGAIN}.", HTTPStatus.FORBIDDEN)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in TRY_AGAIN:
        webhook = find_silent_webhook(answer)
        why = "" if webhook is None else f", as admission webhook {webhook} can't be asked"
        raise KubeUnavailableError(f"{what}: the API server answered {status}{why}; {AGAIN}.")
    if answer.get("kind") != "Status" and OWN not in headers:
        raise KubeUnavailableError(
            f"{what}: no answer from the API server, but {status} from something else; check the server's address, and"
            f" what stands in front of it; {AGAIN}."
        )
    raise _refusal(what, status, answer)


def read_beginning(body: bytes) -> dict[str, Any]:
    """Of a Status that is too long, as a webhook says much, how its message begins: that is the API server's own."""
    found = MESSAGE.search(body, 0, LONGEST_BEGINNING)
    return {} if found is None else read_object(b"{" + found[0] + b'"}') or {}


def _refusal(what: str, status: int, answer: Mapping[str, Any]) -> KubeRefusedError:
    """The error that a refusal means. Of its body only known words and fields are told: a webhook writes there too."""
    reason = answer.get("reason") if answer.get("reason") in REASONS else ""
    fields = frozenset(_blamed_fields(answer.get("details")))
    kind = KINDS.get(status, KubeRefusedError)
    blamed = f", because of {', '.join(sorted(fields))}" if fields else ""
    if is_not_allowed(answer):
        blamed = "; check the operator's Role there"
    return kind(f"{what}: the API server refused with {status} {reason}{blamed}; {AGAIN}.", status, fields)


def _blamed_fields(details: object) -> Iterator[str]:
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        field_name = cause.get("field") if isinstance(cause, dict) else None
        if isinstance(field_name, str) and FIELD.fullmatch(field_name):
            yield field_name
