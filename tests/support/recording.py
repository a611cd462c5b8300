"""A shop in which everything has its fixed place and time, for pictures of the kubectl plugin.

`make kubectl-docs` writes docs/kubectl.md and its pictures anew.
"""

import base64
import io
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml
from rich.console import Console
from rich.text import Text

from asset_token_operator.manifests import (
    ENVIRONMENT,
    EXPIRATION_TIME,
    OWNER,
    TOKEN_FINGERPRINT,
)
from asset_token_operator.model import MANAGED_BY_LABEL, OPERATOR, SECRET_TYPE, digest
from asset_token_operator.times import format_time, parse_time
from tests.support.cluster import Json
from tests.support.plugin import Plugin
from tests.support.shop import Shop

SHOWN_NOW: Final = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
FAILED: Final = "Asset sandbox failed (503); tried again by itself."
REFUSED: Final = (
    "Asset sandbox doesn't grant all scopes that were requested to the credentials in Secret asset-credentials"
    " (400 invalid_scope): correct spec.scopes, or have them allowed for these credentials."
    " Requested: ledger:create ledger:read."
)


@dataclass
class Recording:
    """The shop, the plugin whose clock stands still, one whose clock goes on, and the moment at which it stands."""

    shop: Shop
    plugin: Plugin
    plugin_in_time: Plugin
    now: datetime

    def after(self, **length: int) -> str:
        """A moment as Kubernetes writes it."""
        return format_time(self.now + timedelta(**length))

    def neutral(self, output: str) -> str:
        """What was written, as if it had been at the moment and in the place that the documents show."""
        text = MOMENT.sub(lambda found: format_time(SHOWN_NOW + (parse_time(found[0]) - self.now)), output)
        text = text.replace(self.shop.namespace, "shop").replace(f"{self.plugin.folder}/", "")
        text = re.sub(r"v1\.\d+\.\d+ at https://[\w.:-]+", "v1.36.3 at https://127.0.0.1:6443", text)
        return re.sub(r"sha256:[0-9a-f]{16}", f"sha256:{digest('shown')[:16]}", text)


def record(shop: Shop, folder: Path) -> Recording:
    """Fill a shop, without an operator, whose place is taken by what it would have written."""
    now = datetime.fromtimestamp(int(time.time()), UTC)
    prelude = (
        "from datetime import UTC, datetime\nfrom asset_token_operator.clock import SystemClock\n"
        f"SystemClock.now = lambda self: datetime.fromtimestamp({int(now.timestamp())}, UTC)"
    )
    where = (f"--namespace={shop.namespace}",)
    still = Plugin(folder, shop.cluster.kubeconfig, where, prelude=prelude)
    recording = Recording(shop, still, Plugin(folder / "in-time", shop.cluster.kubeconfig, where), now)
    _put_tokens(recording)
    _put_surroundings(recording)
    (folder / "more.yaml").write_text(yaml.safe_dump(shop.manifest("more")))
    return recording


def picture(recording: Recording, output: str, columns: int) -> str:
    """A screen as SVG, with its colours."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for line in recording.neutral(output).rstrip().split("\n"):
        text = Text.from_ansi(line.rstrip())
        for part in text.divide(range(columns, len(text), columns)):  # a terminal goes on in the next line
            console.print(part, no_wrap=True, overflow="ignore", crop=False)
    drawn = console.export_svg(title="kubectl asset-token", unique_id="screen")
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def _put_tokens(recording: Recording) -> None:
    shop = recording.shop
    issued: Json = {"issuanceTime": recording.after(minutes=-12), "expirationTime": recording.after(minutes=48)}
    good = {
        **issued,
        "renewalTime": recording.after(minutes=26),
        "revision": 3,
        "grantedScopes": ["ledger:create", "ledger:read"],
        "history": [
            {"time": recording.after(minutes=-90), "reason": "FirstToken", "outcome": "Issued"}
            | {"expirationTime": recording.after(minutes=-30)},
            {"time": recording.after(minutes=-51), "reason": "AssetUnavailable", "outcome": "Failed"}
            | {"message": FAILED},
            {"time": recording.after(minutes=-12), "reason": "Renewing", "outcome": "Issued"}
            | {"expirationTime": recording.after(minutes=48)},
        ],
    }
    synced = ("SecretSynced", "The token is up to date.")
    _put(recording, "ledger-writer", good, ready=True, issuing=synced, secret={"name": "ledger-writer-token"})
    late = issued | {"renewalTime": recording.after(minutes=-2), "revision": 7, "failedAttempts": 2}
    late["lastFailureTime"] = recording.after(seconds=-40)
    _put(recording, "payouts", late, ready=True, issuing=("AssetUnavailable", FAILED))
    failed = {"failedAttempts": 4, "lastFailureTime": recording.after(minutes=-3)}
    _put(recording, "invoices", failed, ready=False, issuing=("InvalidScope", REFUSED), stalled=True)
    assert len(shop.tokens()) == 3


def _put(
    recording: Recording,
    name: str,
    status: Json,
    *,
    ready: bool,
    issuing: tuple[str, str],
    stalled: bool = False,
    **changes: Any,
) -> None:
    shop = recording.shop
    shop.create(name, scopes=["ledger:create", "ledger:read"], **changes)
    reason = "SecretSynced" if ready else issuing[0]
    conditions = [("Ready", ready, reason, "Whether the Secret holds a token."), ("Issuing", not ready, *issuing)]
    conditions += [("Stalled", True, *issuing)] if stalled else []
    rendered = [
        {"type": kind, "status": str(holds), "reason": why, "message": said}
        | {"lastTransitionTime": recording.after(minutes=-12), "observedGeneration": 1}
        for kind, holds, why, said in conditions
    ]
    summary = "Ready" if issuing[0] == "SecretSynced" else issuing[0]
    body = {"status": status | {"summary": summary, "observedGeneration": 1, "conditions": rendered}}
    shop.cluster.api.patch(f"{shop.path(f'assettokens/{name}')}/status", body)


def _put_surroundings(recording: Recording) -> None:
    shop, api = recording.shop, recording.shop.cluster.api
    owner = shop.token("ledger-writer")["metadata"]
    expires = recording.now + timedelta(minutes=48)
    token = _jwt(
        {
            "iss": "https://api.sandbox.getasset.com",
            "aud": "https://api.sandbox.getasset.com",
            "exp": int(expires.timestamp()),
            "jti": "tok_7Hq2",
            "scope": "ledger:create ledger:read",
        }
    )
    data = {"access_token": token, "token_type": "Bearer", "authorization": f"Bearer {token}"}
    data |= {"expires_at": format_time(expires), "base_url": "https://api.sandbox.getasset.com"}
    annotations = {OWNER: "ledger-writer", TOKEN_FINGERPRINT: digest(token), ENVIRONMENT: "sandbox"}
    reference: Json = {"apiVersion": "auth.getasset.com/v1alpha1", "kind": "AssetToken", "controller": True}
    metadata = {
        "name": "ledger-writer-token",
        "labels": {MANAGED_BY_LABEL: OPERATOR},
        "annotations": annotations | {EXPIRATION_TIME: format_time(expires)},
        "ownerReferences": [reference | {"name": "ledger-writer", "uid": owner["uid"]}],
    }
    body = {"metadata": metadata, "type": SECRET_TYPE, "stringData": data | {"environment": "sandbox"}}
    api.create(shop.path("secrets"), body)
    volumes = [{"name": "token", "secret": {"secretName": "ledger-writer-token"}}]
    spec = {"volumes": volumes, "containers": [{"name": "worker", "image": "worker"}]}
    api.create(shop.path("pods"), {"metadata": {"name": "ledger-worker"}, "spec": spec})
    involved = {"apiVersion": "auth.getasset.com/v1alpha1", "kind": "AssetToken", "name": "ledger-writer"}
    involved |= {"namespace": shop.namespace, "uid": owner["uid"]}
    event: Json = {"metadata": {"name": "ledger-writer.1"}, "involvedObject": involved, "type": "Normal"}
    event |= {
        "reason": "Issued",
        "message": "The first token was issued.",
        "lastTimestamp": recording.after(minutes=-90),
        "count": 1,
    }
    api.create(shop.path("events"), event)
    lease: Json = {"holderIdentity": "asset-token-operator-6c9f", "leaseDurationSeconds": 3600}
    lease["renewTime"] = recording.after(seconds=-1).replace("Z", ".000000Z")
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{shop.namespace}/leases"
    api.create(leases, {"metadata": {"name": OPERATOR}, "spec": lease})


def _jwt(claims: Json) -> str:
    """A JWT as Asset's look; nobody verifies it here."""
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in [*parts, b"signature"]]
    return ".".join(encoded)
