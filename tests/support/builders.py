"""Values for tests: each builder makes one that is in order, and takes what a test wants to be different."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import SecretStr

from asset_token_operator.answers import Reply, TokenAnswer, read_reply
from asset_token_operator.manifests import credentials_fingerprint, proof_key, secret_manifest
from asset_token_operator.model import (
    AssetToken,
    Credentials,
    CredentialsRef,
    DeletionPolicy,
    Environment,
    IssuedToken,
    Key,
    SecretSpec,
    SecretState,
    Spec,
)
from asset_token_operator.observed import Observed, SlotState
from asset_token_operator.parsing import parse_secret
from asset_token_operator.status import parse_status

NOW: Final = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ENDPOINTS: Final = {
    Environment.SANDBOX: "https://api.sandbox.getasset.com",
    Environment.PRODUCTION: "https://api.getasset.com",
}
CREDENTIALS: Final = Credentials(SecretStr("client"), SecretStr("canary-client-secret"))


def a_spec(**changes: Any) -> Spec:
    fields: dict[str, Any] = {
        "environment": Environment.SANDBOX,
        "credentials": CredentialsRef("asset-credentials"),
        "secret": SecretSpec("ledger-writer-token"),
        "scopes": ("ledger:read",),
    }
    return Spec(**(fields | changes))


def an_asset_token(spec: Spec | None = None, **changes: Any) -> AssetToken:
    fields: dict[str, Any] = {
        "key": Key("shop", "ledger-writer"),
        "uid": "11111111-1111-1111-1111-111111111111",
        "generation": 1,
        "created": NOW - timedelta(days=1),
        "spec": spec or a_spec(),
        "version": 100,
    }
    if isinstance(changes.get("status"), dict):
        changes["status"] = parse_status(changes["status"])
    return AssetToken(**(fields | changes))


def an_issued_token(spec: Spec | None = None, **changes: Any) -> IssuedToken:
    """A token of an hour that was issued now."""
    spec = spec or a_spec()
    access_token = changes.get("access_token", SecretStr("canary-access-token"))
    fields: dict[str, Any] = {
        "access_token": access_token,
        "environment": spec.environment,
        "issued_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
        "scopes": spec.scopes,
        "token_id": "token-1",
        "spec_hash": spec.request_hash(),
        "credentials_fingerprint": credentials_fingerprint(CREDENTIALS, access_token),
        "revision": 1,
        "reason": "FirstToken",
        "proof_key": proof_key(CREDENTIALS, access_token),
    }
    return IssuedToken(**(fields | changes))


def an_answer(**changes: Any) -> TokenAnswer:
    """What Asset answers where it says no more than it must: an opaque token."""
    fields: dict[str, Any] = {
        "access_token": SecretStr("canary-access-token"),
        "expires_in": None,
        "scopes": None,
        "claims": None,
    }
    return TokenAnswer(**(fields | changes))


def a_reply(status: int = 200, body: Any = None, **headers: str) -> Reply:
    """An answer as it comes: a JSON body, and headers whose `_` stand for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_reply(status, named, json.dumps({} if body is None else body).encode())


def a_refusal(status: int, code: str | None = None, **headers: str) -> Reply:
    """An answer that refuses the request, with an error code where OAuth2 has one."""
    return a_reply(status, {} if code is None else {"error": code}, **headers)


def a_jwt(payload: Any, header: Any = None) -> str:
    """A JWT that says this of itself, also what no JWT may say. Its signature is none: nobody here checks it."""
    segments = (json.dumps(header or {"alg": "RS256", "typ": "JWT"}), json.dumps(payload), "signature")
    return ".".join(base64.urlsafe_b64encode(segment.encode()).decode().rstrip("=") for segment in segments)


def a_secret(
    owner: AssetToken | None = None, token: IssuedToken | None = None, name: str | None = None, **changes: Any
) -> SecretState:
    """The Secret as the API server has it after the operator wrote the token there.

    Args:
        owner: Its AssetToken.
        token: What it holds.
        name: Its name, if it isn't the one that its AssetToken names.
        changes: Fields of the `SecretState` that differ.
    """
    owner = owner or an_asset_token()
    if name is not None:
        owner = replace(owner, spec=replace(owner.spec, secret=replace(owner.spec.secret, name=name)))
    manifest = secret_manifest(owner, token or an_issued_token(owner.spec), ENDPOINTS)
    written = parse_secret(as_stored(manifest))
    fields = {field: getattr(written, field) for field in SecretState.__dataclass_fields__}
    return SecretState(**(fields | changes))


def text_of(token: IssuedToken) -> str:
    """The token itself, of one that is at hand."""
    assert token.access_token is not None
    return token.access_token.get_secret_value()


def data_of(secret: SecretState) -> dict[str, str]:
    """The data of a Secret that is known whole."""
    assert secret.data is not None
    return dict(secret.data)


def as_stored(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of an applied manifest."""
    metadata = manifest["metadata"]
    managed = {
        "manager": "asset-token-operator",
        "operation": "Apply",
        "fieldsV1": {
            "f:metadata": {
                "f:labels": {f"f:{name}": {} for name in metadata["labels"]} | {".": {}},
                "f:annotations": {f"f:{name}": {} for name in metadata["annotations"]},
            },
            "f:data": {f"f:{name}": {} for name in manifest["data"]},
        },
    }
    known = {"uid": "22222222-2222-2222-2222-222222222222", "resourceVersion": "200", "managedFields": [managed]}
    return {**manifest, "metadata": metadata | known}


def retained(spec: Spec | None = None) -> Spec:
    """The same spec with a Secret that outlives its AssetToken."""
    spec = spec or a_spec()
    return a_spec(secret=SecretSpec(spec.secret.name, deletion_policy=DeletionPolicy.RETAIN))


def observed(owner: AssetToken | None = None, **changes: Any) -> Observed:
    """What is observed of an AssetToken that has no Secret yet, where all has been read and a request may be sent."""
    fields: dict[str, Any] = {
        "owner": owner or an_asset_token(),
        "endpoints": ENDPOINTS,
        "secret_is_live": True,
        "old_secrets_are_live": True,
        "credentials_are_live": True,
        "slot": SlotState.GRANTED,
    }
    return Observed(**(fields | changes))
