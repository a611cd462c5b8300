"""What there is to be said of a token: pure, so that the same is said of one in a Secret, in a file or in a pipe."""

from __future__ import annotations

import hmac
import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from asset_token_operator.answers import B64TOKEN, LONGEST_BODY, read_claims
from asset_token_operator.expiry import LATEST_MOMENT
from asset_token_operator.kubectl.cluster import decode, metadata, part, parts
from asset_token_operator.kubectl.problems import Problem, cause
from asset_token_operator.kubectl.words import clean, moment_of, relative
from asset_token_operator.manifests import ENVIRONMENT, EXPIRATION_TIME, OWNER, TOKEN_FINGERPRINT
from asset_token_operator.model import MANAGED_BY_LABEL, OPERATOR, SECRET_TYPE, token_fingerprint
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from asset_token_operator.answers import Claims

SHOWN_FINGERPRINT: Final = 16


@dataclass(frozen=True, slots=True)
class Sample:
    """A token, and the Secret that it was in, if it was.

    Attributes:
        token: None where there is none.
        secret: The Secret's manifest.
    """

    token: SecretStr | None
    secret: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a token.

    Attributes:
        fits: Whether it is as it should be; None where there is nothing to hold it against.
    """

    about: str
    value: str
    fits: bool | None = None


def read_input(filename: str) -> Sample:
    """Read a token, a Secret's manifest or an answer of Asset from a file, or from stdin (`-`).

    Raises:
        Problem: There is none in it.
    """
    try:
        if filename == "-":
            text = sys.stdin.read(LONGEST_BODY)
        else:
            with Path(filename).open(encoding="utf-8") as file:
                text = file.read(LONGEST_BODY)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise Problem(
            f"{filename} can't be read ({cause(error, 'it makes no sense')}): check the file's name."
        ) from None
    text = text.strip().removeprefix("\ufeff").removeprefix("Bearer ").strip()
    if B64TOKEN.fullmatch(text):
        return Sample(SecretStr(text))
    found = _manifest(text)
    if isinstance(found, dict) and found.get("kind") == "Secret":
        return from_secret(found)
    token = found.get("access_token") if isinstance(found, dict) else None
    if isinstance(token, str) and B64TOKEN.fullmatch(token):
        return Sample(SecretStr(token))
    raise Problem(f"{filename} holds no token, no Secret and no answer of Asset: give one of these.")


def _manifest(text: str) -> object:
    import yaml  # noqa: PLC0415 - most inputs are none

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def from_secret(secret: Mapping[str, Any]) -> Sample:
    """What a Secret holds."""
    data, plain = secret.get("data"), secret.get("stringData")
    found = decode(data.get("access_token")) if isinstance(data, dict) and "access_token" in data else None
    if found is None and isinstance(plain, dict) and isinstance(plain.get("access_token"), str):
        found = plain["access_token"]
    return Sample(SecretStr(found) if found else None, secret)


def report(sample: Sample, body: Mapping[str, Any] | None, now: datetime) -> list[Finding]:
    """All that there is to be said.

    Args:
        sample: The token.
        body: The AssetToken that it is held against, or None.
        now: The present moment.
    """
    found = [] if sample.secret is None else list(_of_secret(sample.secret, body))
    if sample.token is None:
        return [*found, Finding("Token", "the Secret holds none", fits=False)]
    claims = read_claims(sample.token.get_secret_value())
    found += _of_token(sample, claims, now)
    spec = {} if body is None else part(body, "spec")
    if claims is not None:
        found += _of_claims(claims, spec)
    elif body is not None:
        status = part(body, "status")
        granted = tuple(str(scope) for scope in status.get("grantedScopes") or ())
        found += _wanted("Scopes", granted, spec.get("scopes"))
    return [Finding(finding.about, clean(finding.value), finding.fits) for finding in found]


def _of_secret(secret: Mapping[str, Any], body: Mapping[str, Any] | None) -> Iterator[Finding]:
    meta = metadata(secret)
    yield Finding("Secret", f"{meta.get('namespace', '-')}/{meta.get('name', '-')}")
    kind = secret.get("type")
    yield Finding("Type", str(kind), fits=kind == SECRET_TYPE)
    keys = sorted({*part(secret, "data"), *part(secret, "stringData")})
    yield Finding("Keys", " ".join(keys) or "none")
    owners = parts(meta, "ownerReferences")
    names = " ".join(f"{owner.get('kind')}/{owner.get('name')}" for owner in owners) or "none"
    manager = part(meta, "labels").get(MANAGED_BY_LABEL, "nobody")
    if body is None:
        yield Finding("Owners", f"{names}, managed by {manager}")
        return
    ours = {owner.get("uid") for owner in owners} & {metadata(body).get("uid")}
    said = part(meta, "annotations").get(OWNER) == metadata(body).get("name")
    fits = bool(ours) or (not owners and said and manager == OPERATOR)
    yield Finding("Owners", f"{names}, managed by {manager}", fits=fits)


def _of_token(sample: Sample, claims: Claims | None, now: datetime) -> Iterator[Finding]:
    if sample.token is None:
        return
    yield Finding("Token", "a JWT (read, not verified)" if claims is not None else "opaque: it says nothing of itself")
    fingerprint = token_fingerprint(sample.token)
    said = part(metadata(sample.secret or {}), "annotations")
    noted = said.get(TOKEN_FINGERPRINT)
    same = None if noted is None else hmac.compare_digest(str(noted).encode(), fingerprint.encode())
    yield Finding("Fingerprint", f"sha256:{fingerprint[:SHOWN_FINGERPRINT]}", fits=same)
    claimed = None if claims is None else _moment(claims.exp)
    noted_expiry = moment_of(said.get(EXPIRATION_TIME))
    for about, moment in (("Expires", claimed), ("Expires (noted)", noted_expiry)):
        if moment is not None:
            yield Finding(about, f"{format_time(moment)} ({relative(moment, now)})", fits=moment > now)
    if claimed is None and noted_expiry is None:
        yield Finding("Expires", "it doesn't say")
    if said.get(ENVIRONMENT):
        yield Finding("Environment", str(said[ENVIRONMENT]))


def _moment(seconds: object) -> datetime | None:
    """A moment in unix seconds, if it is one that anyone meant."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < LATEST_MOMENT:
        return None
    return datetime.fromtimestamp(int(seconds), UTC)


def _of_claims(claims: Claims, spec: Mapping[str, Any]) -> Iterator[Finding]:
    if claims.issuer:
        yield Finding("Issuer", claims.issuer)
    if claims.jti:
        yield Finding("Token ID", claims.jti)
    yield from _wanted("Scopes", claims.scopes or (), spec.get("scopes"))
    yield from _wanted("Audience", claims.audience, spec.get("resources"))


def _wanted(about: str, has: tuple[str, ...], wanted: object) -> Iterator[Finding]:
    """What the token has, held against what was asked for."""
    shown = " ".join(has) or "none said"
    if not isinstance(wanted, list) or not wanted:
        yield Finding(about, shown)
        return
    missing = sorted({str(name) for name in wanted} - set(has))
    yield Finding(about, f"{shown}; missing: {' '.join(missing)}" if missing else shown, fits=not missing)
