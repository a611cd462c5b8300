"""Somebody who may create and update Secrets and AssetTokens in one namespace, and who may do nothing else.

They can't even read: what is public of metadata (names, UIDs, labels, annotations, versions) is told to them by the
test, as events, metrics, owner references and whoever may list metadata tell it.
"""

import base64
import json
import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final, Self

import httpx
from pydantic import SecretStr

from asset_token_operator.manifests import (
    CREDENTIALS_FINGERPRINT,
    ENVIRONMENT,
    EXPIRATION_TIME,
    GRANTED_SCOPES,
    ISSUANCE_REASON,
    ISSUANCE_TIME,
    OWNER,
    PROOF,
    REVISION,
    SPEC_HASH,
    TOKEN_FINGERPRINT,
    TOKEN_ID,
)
from asset_token_operator.model import GROUP, KIND, MANAGED_BY_LABEL, OPERATOR, SECRET_TYPE, VERSION, token_fingerprint
from asset_token_operator.parsing import parse_asset_token
from tests.support.cluster import ANSWER_SECONDS, Api, ApiError, Json
from tests.support.shop import Shop

NAME: Final = "intruder"
TOKEN: Final = "the-token-of-who-attacks"
RULES: Final = [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update"]},
    {"apiGroups": [GROUP], "resources": ["assettokens"], "verbs": ["create", "update"]},
]


class Intruder:
    """A ServiceAccount with these rights in the shop's namespace; a context manager.

    Attributes:
        api: What it may do.
    """

    api: Api

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def __enter__(self) -> Self:
        shop, namespace = self._shop, self._shop.namespace
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        subject = {"kind": "ServiceAccount", "name": NAME, "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
        shop.cluster.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": NAME}})
        shop.cluster.api.create(f"{rbac}/roles", {"metadata": {"name": NAME}, "rules": RULES})
        shop.cluster.api.create(
            f"{rbac}/rolebindings", {"metadata": {"name": NAME}, "roleRef": role, "subjects": [subject]}
        )
        config = json.loads(shop.cluster.kubeconfig_for(namespace, NAME).read_text())
        authority = base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
        with ExitStack() as stack:
            client = httpx.Client(
                base_url=shop.cluster.server,
                verify=ssl.create_default_context(cadata=authority),
                headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
                timeout=ANSWER_SECONDS,
                trust_env=False,
            )
            self.api = Api(stack.enter_context(client))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def put_secret(self, name: str, metadata: Json | None = None, data: Mapping[str, str] | None = None) -> None:
        """Create a Secret of the operator's type, or overwrite one."""
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in (data or {}).items()}
        body = {"type": SECRET_TYPE, "metadata": {**(metadata or {}), "name": name}, "data": encoded}
        try:
            self.api.create(self._shop.path("secrets"), body)
        except ApiError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            self.api.replace(self._shop.path(f"secrets/{name}"), body)

    def forge(self, of: str, name: str, said: Mapping[str, str] | None = None, *, controlled: bool = True) -> None:
        """Make a Secret that says all that can be known of an AssetToken's own, with a token of theirs.

        Args:
            of: The AssetToken.
            name: The Secret's name.
            said: Annotations that differ.
            controlled: Whether the AssetToken is its controller.
        """
        self.put_secret(name, self.forged(of, said, controlled=controlled), {"access_token": TOKEN})

    def forged(self, of: str, said: Mapping[str, str] | None = None, *, controlled: bool = True) -> Json:
        """The metadata of such a Secret."""
        owner = self._shop.token(of)["metadata"]
        genuine = self._genuine(of)
        annotations = {
            OWNER: of,
            ENVIRONMENT: "sandbox",
            ISSUANCE_REASON: "Renewing",
            GRANTED_SCOPES: "ledger:read",
            TOKEN_ID: "1",
            SPEC_HASH: parse_asset_token(self._shop.token(of)).spec.request_hash(),
            **genuine,
            TOKEN_FINGERPRINT: token_fingerprint(SecretStr(TOKEN)),
            CREDENTIALS_FINGERPRINT: "0" * 64,
            ISSUANCE_TIME: "2035-01-01T00:00:00Z",
            EXPIRATION_TIME: "2035-01-02T00:00:00Z",
            REVISION: "7",
            PROOF: "0" * 64,
            **(said or {}),
        }
        metadata: Json = {"labels": {MANAGED_BY_LABEL: OPERATOR}, "annotations": annotations}
        return metadata | ({"ownerReferences": [owner_reference(owner)]} if controlled else {})

    def _genuine(self, of: str) -> dict[str, str]:
        """What the annotations of its present Secret say, which whoever may read metadata knows."""
        secret = self._shop.secret(self._shop.token(of)["spec"].get("secret", {}).get("name", of)) or {"metadata": {}}
        annotations: dict[str, str] = secret["metadata"].get("annotations", {})
        return annotations


def owner_reference(owner: Mapping[str, Any]) -> Json:
    """That an AssetToken with this metadata is the controller."""
    reference = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "name": owner["name"], "uid": owner["uid"]}
    return reference | {"controller": True}
