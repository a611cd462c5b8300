"""What the log says of a token that was issued and of a Secret that was written: what it was for, in words."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from asset_token_operator.model import DeletionPolicy
from asset_token_operator.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asset_token_operator.assess import Assessment

ISSUED: Final[Mapping[str, str]] = {
    Reason.FIRST_TOKEN: "the first token was issued",
    Reason.TOKEN_LOST: "another token was issued, as the Secret held none any more",
    Reason.SPEC_CHANGED: "a token was issued for the changed spec",
    Reason.EXPIRED: "a token was issued after the last one had expired",
    Reason.RENEWING: "the token was renewed",
    Reason.RENEW_REQUESTED: "the token was renewed, as the annotation asks for it",
    Reason.CREDENTIALS_CHANGED: "the token was renewed with the changed credentials",
}
"""By why it was requested."""


class Written(StrEnum):
    """What a Secret was written for."""

    NEW_TOKEN = "wrote"  # noqa: S105 - a word
    MOVED = "moved"
    GONE = "wrote again"
    TAKEN_OVER = "took over"
    TAKEN_UP = "took up"
    SPEC_CHANGED = "changed"
    DRIFT = "repaired"


WRITTEN: Final[Mapping[Written, str]] = {
    Written.NEW_TOKEN: "wrote Secret {secret}",
    Written.MOVED: "moved the token from Secret {old} to Secret {secret}",
    Written.GONE: "wrote Secret {secret} again, which was gone",
    Written.TAKEN_OVER: "took over Secret {secret}, which was another AssetToken's",
    Written.TAKEN_UP: "took up Secret {secret} again, which nothing owned any more",
    Written.SPEC_CHANGED: "changed Secret {secret}, as the spec was changed",
    Written.DRIFT: "repaired Secret {secret}, which something had changed",
}


def why_written(assessed: Assessment) -> Written:
    """What the Secret has just been written for."""
    seen, owner, secret = assessed.seen, assessed.seen.owner, assessed.seen.secret
    if seen.is_unreported:
        return Written.NEW_TOKEN
    if secret is None:
        return Written.MOVED if seen.old_secrets else Written.GONE
    if secret.controller_uid not in (None, owner.uid):
        return Written.TAKEN_OVER
    if owner.status.observed_generation not in (-1, owner.generation):
        return Written.SPEC_CHANGED
    is_kept = owner.spec.secret.deletion_policy is DeletionPolicy.RETAIN
    return Written.DRIFT if secret.controller_uid == owner.uid or is_kept else Written.TAKEN_UP


def tell_written(written: Written, assessed: Assessment) -> str:
    """The same in a sentence."""
    old = next((old.key.name for old in assessed.seen.old_secrets), "")
    return WRITTEN[written].format(secret=assessed.seen.owner.secret_key.name, old=old)
