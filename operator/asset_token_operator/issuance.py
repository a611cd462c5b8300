"""An answer of Asset's becomes an `IssuedToken`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from asset_token_operator.errors import WrongEnvironmentError
from asset_token_operator.manifests import credentials_fingerprint, proof_key, safe_texts, safe_token_id
from asset_token_operator.model import Environment, IssuedToken
from asset_token_operator.reasons import Reason

if TYPE_CHECKING:
    from asset_token_operator.answers import Claims, TokenAnswer
    from asset_token_operator.assess import Assessment
    from asset_token_operator.expiry import Validity
    from asset_token_operator.model import Credentials, Spec

HOSTS: Final = {Environment.PRODUCTION: "api.getasset.com", Environment.SANDBOX: "api.sandbox.getasset.com"}
"""How Asset's own tokens name the environments, wherever the operator reaches them."""


def issued_token(
    assessed: Assessment, reason: Reason, answer: TokenAnswer, credentials: Credentials, validity: Validity
) -> IssuedToken:
    """Make an `IssuedToken` of an answer.

    Args:
        assessed: What the request was made from.
        reason: Why it was made.
        answer: What Asset answered.
        credentials: What it was made with.
        validity: From when to when it works.

    Raises:
        WrongEnvironmentError: The token is of the other environment.
    """
    owner, claims = assessed.seen.owner, answer.claims
    spec, before = owner.spec, assessed.evidence.current
    _refuse_wrong_environment(spec, claims)
    granted = next(
        scopes for scopes in (claims.scopes if claims else None, answer.scopes, spec.scopes) if scopes is not None
    )
    revision = max(before.revision if before else 0, owner.status.revision or 0) + 1
    return IssuedToken(
        access_token=answer.access_token,
        environment=spec.environment,
        issued_at=validity.issued_at,
        expires_at=validity.expires_at,
        scopes=safe_texts(granted),
        token_id=safe_token_id(claims.jti if claims else None, answer.access_token),
        spec_hash=spec.request_hash(),
        credentials_fingerprint=credentials_fingerprint(credentials, answer.access_token),
        business_id=spec.business_id,
        revision=revision,
        reason=reason if reason is not Reason.DOES_NOT_EXIST else _why_there_was_none(revision),
        renew_request=owner.renew_request or (before.renew_request if before else None),
        audience=safe_texts(claims.audience if claims else ()),
        skew=validity.skew,
        not_before=validity.not_before,
        proof_key=proof_key(credentials, answer.access_token),
    )


def _why_there_was_none(revision: int) -> Reason:
    return Reason.FIRST_TOKEN if revision == 1 else Reason.TOKEN_LOST


def _refuse_wrong_environment(spec: Spec, claims: Claims | None) -> None:
    """Refuse a token whose issuer or audience names the other environment's host; an unknown one is no reason."""
    named = {_host(text) for text in (claims.issuer, *claims.audience) if text} if claims else set()
    other = next(host for environment, host in HOSTS.items() if environment is not spec.environment)
    if other in named:
        raise WrongEnvironmentError(
            f"Asset {spec.environment} answered with a token for {other}, the other environment's host: check the"
            f" credentials in Secret {spec.credentials.name}, spec.resources and the operator's"
            f" --{spec.environment}-url."
        )


def _host(claim: str) -> str:
    """The host that a claim names, with a scheme or without."""
    try:
        host = urlsplit(claim if "//" in claim else f"//{claim}").hostname
    except ValueError:
        host = None
    return (host or claim).lower().rstrip(".")
