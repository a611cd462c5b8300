"""The Secret: what it shall look like, whether it does, and what it says about the token in it.

The Secret alone carries what must survive a restart: its annotations say what it holds, so status may be lost and a
new operator still requests nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from asset_token_operator import template
from asset_token_operator.answers import read_claims
from asset_token_operator.expiry import LARGEST_SKEW, LONGEST_LIFETIME, claimed_expiry
from asset_token_operator.model import (
    GROUP,
    KIND,
    LONGEST_RENEW_REQUEST,
    MANAGED_BY_LABEL,
    OPERATOR,
    SECRET_TYPE,
    VERSION,
    DeletionPolicy,
    Environment,
    IssuedToken,
    token_fingerprint,
)
from asset_token_operator.times import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from asset_token_operator.model import AssetToken, Credentials, Key, Rival, SecretState

TOKEN_TYPE: Final = "Bearer"  # noqa: S105 - the only type there is

OWNER: Final = f"{GROUP}/owner"
ENVIRONMENT: Final = f"{GROUP}/environment"
BUSINESS: Final = f"{GROUP}/business-id"
ISSUANCE_TIME: Final = f"{GROUP}/issuance-time"
ISSUANCE_REASON: Final = f"{GROUP}/issuance-reason"
EXPIRATION_TIME: Final = f"{GROUP}/expiration-time"
GRANTED_SCOPES: Final = f"{GROUP}/granted-scopes"
AUDIENCE: Final = f"{GROUP}/audience"
CLOCK_SKEW: Final = f"{GROUP}/clock-skew-seconds"
TOKEN_ID: Final = f"{GROUP}/token-id"
TOKEN_FINGERPRINT: Final = f"{GROUP}/token-fingerprint"
CREDENTIALS_FINGERPRINT: Final = f"{GROUP}/credentials-fingerprint"
SPEC_HASH: Final = f"{GROUP}/spec-hash"
REVISION: Final = f"{GROUP}/revision"
RENEW_REQUEST: Final = f"{GROUP}/served-renew-request"
PROOF: Final = f"{GROUP}/proof"

STANDARD_KEYS: Final = ("access_token", "token_type", "authorization", "expires_at", "base_url", "environment")
"""What every Secret holds; `spec.secret.template` adds to them."""

OUR_TYPES: Final = (SECRET_TYPE, None)
"""A type that isn't known may be ours: before anything is done the Secret is read whole."""

LARGEST_REVISION: Final = 10**9
"""More tokens than that no AssetToken has had."""

LARGEST_UNPROVED_REVISION: Final = 10**8
"""So that whoever claims one leaves enough to the tokens that follow."""

CALENDAR: Final = (datetime(1970, 1, 2, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))
"""Between these no time that is compared with a token's lies beyond the calendar, whatever clocks are ahead."""

REASON: Final = re.compile(r"[A-Za-z]{1,64}")
PRINTABLE: Final = re.compile(r"[ -~]{1,256}")
SAFE_TEXT: Final = re.compile(r"[!-~]{1,256}")
MOST_TEXTS: Final = 256
LONGEST_HASH: Final = 64
BUSINESS_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""What goes into templates, whoever wrote the annotation."""


@lru_cache(maxsize=256)
def credentials_fingerprint(credentials: Credentials, access_token: SecretStr) -> str:
    """Tells whether credentials are still those that a token was requested with.

    It is keyed with the token, which metadata doesn't show: who may read only metadata can't try guesses against it.
    """
    message = f"{credentials.client_id.get_secret_value()}\0{credentials.client_secret.get_secret_value()}"
    return hmac.digest(access_token.get_secret_value().encode(), message.encode(), hashlib.sha256).hex()


def proof_key(credentials: Credentials, access_token: SecretStr) -> bytes:
    """What proves a Secret's annotations: only who knows the token and what it was requested with can make it.

    Neither is in metadata, so who may read only that can't try guesses of the credentials against a proof, and who may
    write Secrets, but knows no credentials of the namespace, can't make the operator believe one (docs/adr/0012).
    """
    texts = (credentials.client_id, credentials.client_secret, access_token)
    return hashlib.sha256("\0".join(text.get_secret_value() for text in texts).encode()).digest()


def proof(owner_uid: str, name: Key, token: IssuedToken) -> str | None:
    """The proof that the Secret of that name, and no copy of it, says what the operator wrote there.

    Where the credentials aren't known it is what the Secret has noted.
    """
    if token.proof_key is None:
        return token.proof
    skew, moments = int(token.skew.total_seconds()), (token.issued_at, token.expires_at)
    facts = [owner_uid, *name, token.spec_hash, token.revision, skew, *(format_time(moment) for moment in moments)]
    return hmac.digest(token.proof_key, json.dumps(facts).encode(), hashlib.sha256).hex()


def prove(secret: SecretState, owner: AssetToken, token: IssuedToken, key: bytes) -> IssuedToken | None:
    """The token that a Secret was found to hold, if it is proved that the operator put it there; else None."""
    known = replace(token, proof_key=key)
    expected = proof(owner.uid, secret.key, known)
    if (
        expected is None
        or token.proof is None
        or not hmac.compare_digest(expected.encode(), token.proof.encode(errors="replace"))
    ):
        return None
    return known


def safe_texts(texts: Iterable[str]) -> tuple[str, ...]:
    """Whoever says so: what isn't printable ASCII without spaces, or fits no status, is left out."""
    safe = {text for text in texts if SAFE_TEXT.fullmatch(text)}
    return tuple(sorted(safe)[:MOST_TEXTS])


def safe_token_id(jti: str | None, access_token: SecretStr) -> str:
    """The JWT's `jti` where it is short and printable, else the token's fingerprint."""
    return jti if jti and PRINTABLE.fullmatch(jti) else f"sha256:{token_fingerprint(access_token)[:32]}"


def secret_manifest(owner: AssetToken, token: IssuedToken, endpoints: Mapping[Environment, str]) -> dict[str, Any]:
    """The Secret that shall hold the token; without its data where the token is known by metadata only."""
    metadata: dict[str, Any] = {
        "namespace": owner.key.namespace,
        "name": owner.spec.secret.name,
        "labels": {**owner.spec.secret.labels, MANAGED_BY_LABEL: OPERATOR},
        "annotations": {**owner.spec.secret.annotations, **_annotations(owner, token)},
    }
    if owner.spec.secret.deletion_policy is DeletionPolicy.DELETE:
        metadata["ownerReferences"] = [
            {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": owner.key.name, "uid": owner.uid}
            | {"controller": True}
        ]
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": SECRET_TYPE}
    if token.access_token is None:
        return manifest
    values = _values(token, token.access_token.get_secret_value(), endpoints)
    further = template.render(owner.spec.secret.template, STANDARD_KEYS, values)
    data = {name: values[name] for name in STANDARD_KEYS} | further
    return manifest | {"data": {name: _encode(value) for name, value in data.items()}}


def _values(token: IssuedToken, access_token: str, endpoints: Mapping[Environment, str]) -> dict[str, str]:
    """What the Secret's keys hold, and templates are filled in with."""
    return {
        "access_token": access_token,
        "token_type": TOKEN_TYPE,
        "authorization": f"{TOKEN_TYPE} {access_token}",
        "expires_at": format_time(token.expires_at),
        "expires_at_unix": str(int(token.expires_at.timestamp())),
        "base_url": endpoints[token.environment],
        "environment": token.environment.value,
        "business_id": token.business_id or "",
        "scopes": template.plain_scopes(token.scopes),
    }


def template_problem(owner: AssetToken) -> str | None:
    """What is wrong with `spec.secret.template`, in a sentence that says what to do; None where nothing is."""
    return template.find_problem(owner.spec.secret.template, STANDARD_KEYS)


def _annotations(owner: AssetToken, token: IssuedToken) -> dict[str, str]:
    annotations = {
        OWNER: owner.key.name,
        ENVIRONMENT: token.environment.value,
        ISSUANCE_TIME: format_time(token.issued_at),
        ISSUANCE_REASON: token.reason,
        EXPIRATION_TIME: format_time(token.expires_at),
        GRANTED_SCOPES: " ".join(token.scopes),
        TOKEN_ID: token.token_id,
        TOKEN_FINGERPRINT: token.fingerprint,
        CREDENTIALS_FINGERPRINT: token.credentials_fingerprint,
        SPEC_HASH: token.spec_hash,
        REVISION: str(token.revision),
        # Also where there is nothing to say: an apply takes away only what the operator wrote, not what others added.
        AUDIENCE: " ".join(token.audience),
        CLOCK_SKEW: str(int(token.skew.total_seconds())),
        RENEW_REQUEST: token.renew_request or "",
    }
    if owner.spec.secret.template:  # nothing else asks for it
        annotations[BUSINESS] = token.business_id or ""
    proved = proof(owner.uid, owner.secret_key, token)
    if proved is not None:
        annotations[PROOF] = proved
    return annotations


def stored_token(secret: SecretState) -> IssuedToken | None:
    """The token that the Secret holds; None where it holds none or its annotations speak of another.

    Annotations are not believed against the token: a JWT's own `exp` wins, as it did when it was issued. Where only the
    metadata is known they are all that can be told, and whether the token is there is for the caller to know.
    """
    said = secret.annotations
    try:
        access_token = None if secret.data is None else SecretStr(_decode(secret.data["access_token"]))
        fingerprint = said[TOKEN_FINGERPRINT]
        if access_token is not None and not hmac.compare_digest(fingerprint, token_fingerprint(access_token)):
            return None
        revision, reason, token_id = int(said[REVISION]), said[ISSUANCE_REASON], said[TOKEN_ID]
        business, asked = said.get(BUSINESS, ""), said.get(RENEW_REQUEST, "")
        issued_at, skew = parse_time(said[ISSUANCE_TIME]), timedelta(seconds=int(said.get(CLOCK_SKEW, "0")))
        claims = None if access_token is None else read_claims(access_token.get_secret_value())
        expires_at = parse_time(said[EXPIRATION_TIME])
        claimed = claimed_expiry(claims, issued_at)
        if claimed is not None and not issued_at < expires_at <= claimed:  # what else was said made it shorter-lived
            expires_at = claimed
        if not 1 <= revision <= LARGEST_REVISION or not REASON.fullmatch(reason) or not PRINTABLE.fullmatch(token_id):
            return None
        if not _is_possible(issued_at, expires_at):
            return None
        return IssuedToken(
            access_token=access_token,
            environment=Environment(said[ENVIRONMENT]),
            business_id=business if BUSINESS_ID.fullmatch(business) else None,
            issued_at=issued_at,
            expires_at=expires_at,
            scopes=safe_texts(
                said[GRANTED_SCOPES].split() if claims is None or claims.scopes is None else claims.scopes
            ),
            token_id=token_id,
            spec_hash=said[SPEC_HASH][:LONGEST_HASH],
            credentials_fingerprint=said[CREDENTIALS_FINGERPRINT][:LONGEST_HASH],
            revision=revision,
            reason=reason,
            renew_request=asked if 0 < len(asked) <= LONGEST_RENEW_REQUEST else None,
            audience=safe_texts(said.get(AUDIENCE, "").split() if claims is None else claims.audience),
            skew=skew if abs(skew) < LARGEST_SKEW else timedelta(),
            proof=said.get(PROOF),
            fingerprint=fingerprint,
        )
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _is_possible(issued_at: datetime, expires_at: datetime) -> bool:
    """Whether a token may have been valid from then to then."""
    return CALENDAR[0] <= issued_at < expires_at < CALENDAR[1] and expires_at - issued_at <= LONGEST_LIFETIME


def holds(secret: SecretState, token: IssuedToken) -> bool:
    """Whether a Secret that was read whole, or written, holds that token, of which more is known than it can say."""
    if (
        secret.data is None
        or token.access_token is None
        or secret.annotations.get(TOKEN_FINGERPRINT) != token.fingerprint
    ):
        return False
    return secret.data.get("access_token") == _encode(token.access_token.get_secret_value())


def _encode(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _decode(value: str) -> str:
    return base64.b64decode(value, validate=True).decode()


def is_owned(secret: SecretState, owner: AssetToken, yielding: frozenset[Rival] = frozenset()) -> bool:
    """Whether the Secret is this AssetToken's to write.

    It is if the AssetToken controls it or, where nothing does (`Retain`), if it says that it is ours and whose. The
    Secrets of younger AssetTokens that name the same Secret, which are `yielding`, are the older one's too.
    """
    if secret.type not in OUR_TYPES:
        return False
    if secret.controller_uid is not None:
        return secret.controller_uid in {owner.uid, *(rival.uid for rival in yielding)}
    return owner_name(secret) in {owner.key.name, *(rival.name for rival in yielding)}


def is_left_behind(secret: SecretState, owner: AssetToken) -> bool:
    """Whether an AssetToken of the same name had the Secret that is gone now: the garbage collector comes for it."""
    return secret.controller_uid not in (None, owner.uid) and owner_name(secret) == owner.key.name


def owner_name(secret: SecretState) -> str | None:
    """The name of the AssetToken that the Secret says it is of; None where it isn't one of the operator's."""
    return secret.annotations.get(OWNER) if secret.type in OUR_TYPES else None


def differs(secret: SecretState, manifest: Mapping[str, Any]) -> bool:
    """Whether applying the manifest would change the Secret: something in it is missing, altered or left over.

    Data is compared where both have it.
    """
    metadata = manifest["metadata"]
    controller = next((owner["uid"] for owner in metadata.get("ownerReferences", ())), None)
    wanted = {("label", name): value for name, value in metadata["labels"].items()}
    wanted |= {("annotation", name): value for name, value in metadata["annotations"].items()}
    found = {("label", name): value for name, value in secret.labels.items()}
    found |= {("annotation", name): value for name, value in secret.annotations.items()}
    kinds = {"label", "annotation"}
    if secret.data is not None and "data" in manifest:
        kinds.add("data")
        wanted |= {("data", name): value for name, value in manifest["data"].items()}
        found |= {("data", name): value for name, value in secret.data.items()}
    return (
        secret.controller_uid != controller
        or any(found.get(field) != value for field, value in wanted.items())
        or any(field not in wanted for field in secret.applied if field[0] in kinds)
    )
