"""Who refused a write in the API server: a policy, a webhook, a quota or the roles, by its name.

Of a refusal's message only names are told, where the API server itself puts them: what follows is whatever a webhook or
a policy says, and may quote the Secret that was to be written. A webhook also chooses the status, the reason and the
blamed fields of its refusal, so none of these is believed once it is known to be one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = r"([a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?)"
OBJECT: Final = r'[a-z0-9./]{1,253}(?: "[-a-z0-9.]{0,253}")? is forbidden: '

DENIALS: Final = (
    (
        re.compile(rf'admission webhook "{NAME}" denied the request'),
        "admission webhook {} denied it; let it admit what the operator writes",
    ),
    (
        re.compile(rf"(?:{OBJECT})?(\w{{1,20}}AdmissionPolicy) '{NAME}' with binding '{NAME}' denied request"),
        "{} {} denied it (binding {}); let it admit what the operator writes",
    ),
    (
        re.compile(rf"{OBJECT}exceeded quota: {NAME}, requested: "),
        "ResourceQuota {} is used up; raise it, or delete what isn't needed",
    ),
    (
        re.compile(rf"{OBJECT}(?:failed quota: {NAME}: |status unknown for quota: {NAME}, )"),
        "ResourceQuota {} denied it; check what it limits",
    ),
    (
        re.compile(rf"{OBJECT}insufficient quota to consume: "),
        "the cluster admits it only where a ResourceQuota does; add one to the namespace",
    ),
    (
        re.compile(rf"{OBJECT}unable to create new content in namespace {NAME} because it is being terminated"),
        "namespace {} is being deleted",
    ),
)
"""How the API server begins to say that a request was denied which the roles allow, and what to say of it."""

NOT_CALLED: Final = re.compile(rf'Internal error occurred: failed calling webhook "{NAME}": ')
NOT_ALLOWED: Final = re.compile(rf'{OBJECT}User "')


def find_denial(answer: Mapping[str, object]) -> str | None:
    """Who denied a request that the roles allow, in words; None where nobody did, or it isn't known."""
    message = _message(answer)
    for begins, sentence in DENIALS:
        found = begins.match(message)
        if found is not None:
            return sentence.format(*(name for name in found.groups() if name is not None))
    return None


def find_silent_webhook(answer: Mapping[str, object]) -> str | None:
    """The webhook that should have been asked and didn't answer; None where that isn't why."""
    found = NOT_CALLED.match(_message(answer))
    return None if found is None else found[1]


def is_not_allowed(answer: Mapping[str, object]) -> bool:
    """Whether the roles don't allow it."""
    return NOT_ALLOWED.match(_message(answer)) is not None


def _message(answer: Mapping[str, object]) -> str:
    message = answer.get("message")
    return message if isinstance(message, str) else ""
