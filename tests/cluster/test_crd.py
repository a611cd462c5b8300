"""What the API server accepts as an AssetToken, what it refuses and in which words, and what kubectl shows."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from asset_token_operator.manifests import STANDARD_KEYS
from asset_token_operator.template import LONGEST_VALUES
from tests.support.cluster import Cluster, Json, KubectlError, wait_until

CRD: Final = Path(__file__).parents[2] / "crds" / "auth.getasset.com_assettokens.yaml"

MINIMAL: Final = """
apiVersion: auth.getasset.com/v1alpha1
kind: AssetToken
metadata:
  name: ledger-writer
spec:
  environment: sandbox
  credentialsSecretRef:
    name: asset-credentials
"""

FULL: Final = """
apiVersion: auth.getasset.com/v1alpha1
kind: AssetToken
metadata:
  name: ledger-writer
spec:
  environment: sandbox
  credentialsSecretRef:
    name: asset-credentials
    clientIdKey: client_id
    clientSecretKey: client_secret
  businessId: biz_GA6EG2qFxA97NZHtxeLPUy
  scopes: [ledger:create, ledger:read]
  resources: [https://api.sandbox.getasset.com/mcp]
  lifetime: 1h
  renewBefore: 15m
  suspend: false
  rolloutRestart:
    targets:
      - {kind: Deployment, name: ledger-worker}
      - {kind: StatefulSet, name: ledger-store}
    minInterval: 15m
  secret:
    name: ledger-writer-token
    labels: {example.com/team: ledger}
    annotations: {reloader.stakater.com/match: "true"}
    deletionPolicy: Delete
    template:
      .env: |
        ASSET_ACCESS_TOKEN=${access_token}
        PRICE=$$1
"""

STATUS: Final = """
observedGeneration: 1
summary: Ready
conditions:
  - type: Ready
    status: "True"
    observedGeneration: 1
    lastTransitionTime: "2999-05-01T17:39:28Z"
    reason: SecretSynced
    message: The token is in the Secret.
secretName: ledger-writer-token
binding: {name: ledger-writer-token}
issuanceTime: "2999-05-01T17:39:28Z"
expirationTime: "2999-05-01T18:39:28Z"
renewalTime: "2999-05-01T18:24:28Z"
grantedScopes: [ledger:create, ledger:read]
tokenId: 0b9d7c0e-5a86-4b0d-9d4c-5f0c4a3d5a11
failedAttempts: 0
lastFailureTime: "2999-05-01T17:39:20Z"
lastHandledRenewRequest: "1777657168"
syncedHash: 0123456789abcdef-fedcba9876543210
revision: 2
history:
  - {time: "2999-05-01T17:39:20Z", reason: ServerError, outcome: Failed, message: Asset answered 503.}
  - {time: "2999-05-01T17:39:28Z", reason: Renewing, outcome: Issued, expirationTime: "2999-05-01T18:39:28Z"}
"""

ALL_NAMES: Final = " ".join(f"${{{name}}}" for name in LONGEST_VALUES)
TIME: Final = "2999-05-01T17:39:28Z"
LABEL_KEY: Final = "example.com/team"
LONGEST_KEY: Final = f"{'p' * 253}/{'n' * 63}"

TOO_LONG: Final = "Too long: may not be "  # its end differs between versions of Kubernetes
NOT_A_BUSINESS: Final = (
    'not a business ID: use letters, digits, "_" and "-" only, such as biz_GA6EG2qFxA97NZHtxeLPUy, or remove '
    "businessId for a token of the whole tenant"
)
NOT_A_SCOPE: Final = (
    "not a scope: use printable ASCII characters without spaces, double quotes or backslashes (RFC 6749 section 3.3), "
    "and give each scope an item of its own"
)
NOT_A_RESOURCE: Final = (
    "not an absolute URI: write it with its scheme and host and without spaces, such as "
    "https://api.sandbox.getasset.com/mcp"
)
FRAGMENT: Final = 'a resource has no fragment (RFC 8707 section 2): remove the "#" and what follows it'
NOT_A_LIFETIME: Final = (
    "not a lifetime: write 60s to 8760h in whole hours, minutes and seconds, such as 1h, 90m or 1h30m"
)
NOT_A_RENEW_BEFORE: Final = (
    "not a renewBefore: write at least 1s in whole hours, minutes and seconds, such as 15m or 1h30m"
)
RENEW_BEFORE_TOO_LONG: Final = (
    "renewBefore must be less than the lifetime (1h when lifetime is left out): lower renewBefore or raise lifetime"
)
NOT_A_PERCENTAGE: Final = (
    "not a share of the lifetime: write a whole number of percent from 1 to 99, such as 25 to renew when a quarter of "
    "it is left"
)
BOTH_FORMS: Final = (
    "renewBefore and renewBeforePercentage say the same thing in two ways: keep one of them and remove the other"
)
SAME_KEY: Final = (
    "clientIdKey and clientSecretKey must be different keys: the client ID and the client secret are two values"
)
NOT_A_DATA_KEY: Final = (
    'not a key of a Secret\'s data: use letters, digits, "-", "_" and ".", not starting with "..", such as client_id'
)
CREDENTIALS_SECRET: Final = (
    "the token must not be written into the credentials Secret: set spec.secret.name (default: the AssetToken's own "
    "name) to a name other than spec.credentialsSecretRef.name"
)
NOT_A_SECRET_NAME: Final = (
    'not a Secret\'s name: use lower-case letters, digits, "-" and ".", with a letter or digit at both ends, such as '
)
KEY_FORM: Final = (
    'use up to 63 letters, digits, "-", "_" and ".", with a letter or digit at both ends, after an optional DNS name '
    'and "/", such as example.com/team'
)
OWN_LABELS: Final = (
    "auth.getasset.com/... and app.kubernetes.io/managed-by are the operator's own labels: remove them or use keys "
    "with another prefix"
)
OWN_ANNOTATIONS: Final = (
    "auth.getasset.com/... and kubectl.kubernetes.io/last-applied-configuration are not for users: remove them or use "
    "keys with another prefix"
)
NOT_A_TEMPLATE: Final = (
    "not a template: use only ${access_token}, ${token_type}, ${authorization}, ${base_url}, ${environment}, "
    "${business_id}, ${scopes}, ${expires_at} and ${expires_at_unix}, with braces, and write $$ for a $ that shall stay"
)
NOT_A_TEMPLATE_KEY: Final = (
    'not a key of a Secret\'s data: use up to 253 letters, digits, "-", "_" and ".", not starting with "..", such as '
    ".env"
)
STANDARD_KEY: Final = (
    "every token's Secret has access_token, token_type, authorization, expires_at, base_url and environment already: "
    "use another key, such as .env"
)
NOT_A_MIN_INTERVAL: Final = (
    "not a minInterval: write 1s to 8760h in whole hours, minutes and seconds, such as 15m or 1h"
)
NOT_A_WORKLOAD: Final = (
    'not a workload\'s name: use lower-case letters, digits, "-" and ".", with a letter or digit at both ends, such as '
    "ledger-worker"
)
NO_TARGETS: Final = "no targets: set at least one workload to restart, or remove rolloutRestart"
NOT_A_LABEL_VALUE: Final = (
    'not a label\'s value: use letters, digits, "-", "_" and ".", with a letter or digit at both ends, or leave it '
    "empty"
)


def manifest(spec: str) -> str:
    """Change the minimal manifest's spec by a fragment of YAML; a field without a value is left out."""
    document: Json = yaml.safe_load(MINIMAL)
    changed = document["spec"] | yaml.safe_load(spec)
    document["spec"] = {field: value for field, value in changed.items() if value is not None}
    return json.dumps(document)


def numbered(count: int, length: int, prefix: str = "") -> str:
    """A YAML list of `count` different words of `length` characters."""
    return json.dumps([f"{prefix}{number:0{length - len(prefix)}}" for number in range(count)])


def metadata(kind: str, count: int, value: str) -> str:
    """Give `spec.secret` as YAML with many labels or annotations."""
    return json.dumps({"secret": {kind: {f"key-{number}": value for number in range(count)}}})


def template(texts: dict[str, str]) -> str:
    """Give `spec.secret` as YAML with such a template."""
    return json.dumps({"secret": {"template": texts}}, ensure_ascii=False)


def targets(*names: str) -> str:
    """Give Deployments as YAML."""
    return json.dumps([{"kind": "Deployment", "name": name} for name in names])


def restart(text: str) -> str:
    """Give `spec.rolloutRestart` as YAML, with a change of an example."""
    example: Json = {"targets": [{"kind": "Deployment", "name": "ledger-worker"}], "minInterval": "15m"}
    return json.dumps({"rolloutRestart": example | yaml.safe_load(text)})


def complaints(error: KubectlError) -> list[str]:
    """List what kubectl reported, one sentence each, without the API server's note that it looked no further."""
    _, _, text = str(error).partition(" is invalid: ")
    lines = [line.removeprefix("* ") for line in text.strip().splitlines()]
    return [line for line in lines if "some validation rules were not checked" not in line]


def refused(cluster: Cluster, *args: str, input: str | None = None) -> str:  # noqa: A002 - as the cluster's kubectl
    """Run kubectl, which must fail over a single mistake, and return what it says about it."""
    with pytest.raises(KubectlError) as caught:
        cluster.kubectl(*args, input=input)
    (complaint,) = complaints(caught.value) or [str(caught.value)]
    return complaint


def create(cluster: Cluster, namespace: str, text: str, *args: str) -> Json:
    """Create the object of a manifest with kubectl and return what the API server made of it."""
    created: Json = json.loads(
        cluster.kubectl("create", f"--namespace={namespace}", "--filename=-", "--output=json", *args, input=text)
    )
    return created


def set_status(status: Json) -> list[str]:
    """Say how kubectl sets the example's status."""
    patch = json.dumps({"status": status})
    return ["patch", "astok/ledger-writer", "--subresource=status", "--type=merge", f"--patch={patch}"]


def spec_defaults() -> Json:
    """Every default of the spec."""
    return {
        "credentialsSecretRef": {"clientIdKey": "client_id", "clientSecretKey": "client_secret"},
        "suspend": False,
        "secret": {"deletionPolicy": "Delete"},
    }


def merged(below: Json, above: Json) -> Json:
    """Lay one object over another, field by field."""
    return below | {
        field: merged(below[field], value) if isinstance(value, dict) and isinstance(below.get(field), dict) else value
        for field, value in above.items()
    }


@pytest.fixture(scope="module")
def untouched(controlplane: Cluster) -> Iterator[str]:
    """The name of a namespace for dry runs only, which leave nothing behind."""
    name = controlplane.create_namespace()
    yield name
    controlplane.delete_namespace(name)


@pytest.mark.usefixtures("crds")
class TestAccepted:
    def test_the_full_example_comes_back_as_it_was_sent(self, controlplane: Cluster, namespace: str) -> None:
        created = create(controlplane, namespace, FULL)

        assert created["spec"] == yaml.safe_load(FULL)["spec"]

    def test_the_minimal_example_comes_back_with_the_defaults(self, controlplane: Cluster, namespace: str) -> None:
        created = create(controlplane, namespace, MINIMAL)

        assert created["spec"] == yaml.safe_load("""
            environment: sandbox
            credentialsSecretRef:
              name: asset-credentials
              clientIdKey: client_id
              clientSecretKey: client_secret
            suspend: false
            secret:
              deletionPolicy: Delete
        """)

    @pytest.mark.parametrize(
        "spec",
        [
            pytest.param("environment: production", id="production"),
            pytest.param("lifetime: 60s", id="lifetime at its least"),
            pytest.param("lifetime: 8760h", id="lifetime at its most"),
            pytest.param("lifetime: 31536000s", id="lifetime at its most, in seconds"),
            pytest.param("lifetime: 1h30m", id="lifetime of hours and minutes"),
            pytest.param("lifetime: 1h0m30s", id="lifetime of all units"),
            pytest.param("lifetime: 90m", id="lifetime of more minutes than an hour has"),
            pytest.param("renewBefore: 1s", id="renewBefore at its least"),
            pytest.param("renewBefore: 59m59s", id="renewBefore just less than the default lifetime"),
            pytest.param("{lifetime: 2h, renewBefore: 119m}", id="renewBefore just less than the lifetime"),
            pytest.param("renewBeforePercentage: 1", id="percentage at its least"),
            pytest.param("renewBeforePercentage: 99", id="percentage at its most"),
            pytest.param("scopes: []", id="no scopes"),
            pytest.param(f"scopes: {numbered(64, 128)}", id="as many scopes of the greatest length as may be"),
            pytest.param(r"""scopes: ["!#$%&'()*+,-./09:;<=>?@AZ[]^_`az{|}~"]""", id="every kind of scope character"),
            pytest.param(
                f"resources: {numbered(16, 2048, 'https://api.sandbox.getasset.com/')}",
                id="as many resources of the greatest length as may be",
            ),
            pytest.param("resources: ['https://api.sandbox.getasset.com/mcp']", id="the MCP server as resource"),
            pytest.param("resources: ['https://[::1]:8443/a%20b?c=d&e=f']", id="a resource with all a URI may have"),
            pytest.param("resources: ['urn:example:thing']", id="a resource with no host"),
            pytest.param(f"businessId: {'b' * 128}", id="business ID at its longest"),
            pytest.param("businessId: '-_Az09'", id="every kind of business ID character"),
            pytest.param("credentialsSecretRef: {name: a.b-c.9, clientIdKey: .ID, clientSecretKey: a_b-c}", id="names"),
            pytest.param(
                f"credentialsSecretRef: {{name: {'n' * 253}, clientIdKey: {'i' * 253}, clientSecretKey: {'s' * 253}}}",
                id="names at their longest",
            ),
            pytest.param(f"secret: {{name: {'n' * 253}}}", id="Secret name at its longest"),
            pytest.param(
                "{credentialsSecretRef: {name: ledger-writer}, secret: {name: other}}",
                id="credentials Secret named like the AssetToken",
            ),
            pytest.param("secret: {labels: {app: '', a.b/C_d.e-f: Ab_c.d-E}}", id="labels"),
            pytest.param(f"secret: {{labels: {{? {LONGEST_KEY} : {'v' * 63}}}}}", id="label at its longest"),
            pytest.param(metadata("labels", 32, "v" * 63), id="as many labels of the greatest length as may be"),
            pytest.param(f"secret: {{annotations: {{? {LONGEST_KEY} : ''}}}}", id="annotation key at its longest"),
            pytest.param("secret: {labels: {my.auth.getasset.com/x: y}}", id="a label below the operator's domain"),
            pytest.param("secret: {labels: {auth.getasset.com: y}}", id="a label named as the operator's prefix"),
            pytest.param("secret: {annotations: {app.kubernetes.io/managed-by: Helm}}", id="managed-by annotation"),
            pytest.param(
                metadata("annotations", 32, "v" * 4096), id="as many annotations of the greatest length as may be"
            ),
            pytest.param("secret: {deletionPolicy: Retain}", id="Retain"),
            pytest.param("secret: {template: {}}", id="an empty template"),
            pytest.param("secret: {template: {a: ''}}", id="an empty text"),
            pytest.param(template({".env": ALL_NAMES}), id="all that is filled in"),
            pytest.param(template({"a": "$$ $$$${x} } {\n\t\u0000é€"}), id="a text with all kinds of characters"),
            pytest.param(template({"a": "$$" * 8192}), id="a text of dollars only, at its longest"),
            pytest.param(
                template({f"{'k' * 250}-{number:02}": "é" * 16384 for number in range(32)}),
                id="as many templates of the greatest length as may be",
            ),
            pytest.param("suspend: true", id="suspended"),
            pytest.param(restart("minInterval: 1s"), id="minInterval at its least"),
            pytest.param(restart("minInterval: 8760h"), id="minInterval at its most"),
            pytest.param(
                restart(f"targets: {targets(*(f'{number:0253}' for number in range(16)))}"),
                id="as many targets of the longest name as may be",
            ),
            pytest.param(
                restart("targets: [{kind: Deployment, name: a}, {kind: DaemonSet, name: a}]"),
                id="targets of one name and two kinds",
            ),
        ],
    )
    def test_what_is_just_right(self, controlplane: Cluster, untouched: str, spec: str) -> None:
        text = manifest(spec)

        created = create(controlplane, untouched, text, "--dry-run=server")

        assert created["spec"] == merged(spec_defaults(), yaml.safe_load(text)["spec"])


@pytest.mark.usefixtures("crds")
class TestRefused:
    @pytest.mark.parametrize(
        ("spec", "field", "sentence"),
        [
            pytest.param(
                "environment: prod",
                "spec.environment",
                'supported values: "production", "sandbox"',
                id="unknown environment",
            ),
            pytest.param("environment:", "spec.environment", "Required value", id="missing environment"),
            pytest.param(
                "credentialsSecretRef:", "spec.credentialsSecretRef", "Required value", id="missing credentials"
            ),
            pytest.param(
                "credentialsSecretRef: {}",
                "spec.credentialsSecretRef.name",
                "Required value",
                id="missing name of the credentials",
            ),
            pytest.param(
                "credentialsSecretRef: {name: Asset_Credentials}",
                "spec.credentialsSecretRef.name",
                NOT_A_SECRET_NAME + "asset-credentials",
                id="credentials name is not a Secret's",
            ),
            pytest.param(
                f"credentialsSecretRef: {{name: {'n' * 254}}}",
                "spec.credentialsSecretRef.name",
                TOO_LONG,
                id="credentials name too long",
            ),
            pytest.param(
                "credentialsSecretRef: {name: c, clientIdKey: client id}",
                "spec.credentialsSecretRef.clientIdKey",
                NOT_A_DATA_KEY,
                id="key with a space",
            ),
            pytest.param(
                "credentialsSecretRef: {name: c, clientIdKey: ''}",
                "spec.credentialsSecretRef.clientIdKey",
                NOT_A_DATA_KEY,
                id="empty key",
            ),
            pytest.param(
                "credentialsSecretRef: {name: c, clientSecretKey: ..data}",
                "spec.credentialsSecretRef.clientSecretKey",
                NOT_A_DATA_KEY.replace("client_id", "client_secret"),
                id="key that a Secret can't have",
            ),
            pytest.param(
                f"credentialsSecretRef: {{name: c, clientIdKey: {'i' * 254}}}",
                "spec.credentialsSecretRef.clientIdKey",
                TOO_LONG,
                id="key of the client ID too long",
            ),
            pytest.param(
                f"credentialsSecretRef: {{name: c, clientSecretKey: {'s' * 254}}}",
                "spec.credentialsSecretRef.clientSecretKey",
                TOO_LONG,
                id="key of the client secret too long",
            ),
            pytest.param(
                "credentialsSecretRef: {name: c, clientIdKey: token, clientSecretKey: token}",
                "spec.credentialsSecretRef.clientIdKey",
                SAME_KEY,
                id="same key twice",
            ),
            pytest.param(
                "credentialsSecretRef: {name: c, clientIdKey: client_secret}",
                "spec.credentialsSecretRef.clientIdKey",
                SAME_KEY,
                id="same key twice, once by default",
            ),
            pytest.param("businessId: ''", "spec.businessId", NOT_A_BUSINESS, id="empty business ID"),
            pytest.param("businessId: biz/1", "spec.businessId", NOT_A_BUSINESS, id="business ID with a slash"),
            pytest.param(r'businessId: "biz_1\n"', "spec.businessId", NOT_A_BUSINESS, id="business ID with a newline"),
            pytest.param(
                f"businessId: {'b' * 129}",
                "spec.businessId",
                TOO_LONG,
                id="business ID too long",
            ),
            pytest.param("scopes: ['ledger:create ledger:read']", "spec.scopes[0]", NOT_A_SCOPE, id="two in one scope"),
            pytest.param("scopes: ['']", "spec.scopes[0]", NOT_A_SCOPE, id="empty scope"),
            pytest.param("scopes: [a, 'say\"']", "spec.scopes[1]", NOT_A_SCOPE, id="scope with a quote"),
            pytest.param(r"scopes: ['a\b']", "spec.scopes[0]", NOT_A_SCOPE, id="scope with a backslash"),
            pytest.param("scopes: [é]", "spec.scopes[0]", NOT_A_SCOPE, id="scope that isn't ASCII"),
            pytest.param("scopes: [a, a]", "spec.scopes[1]", 'Duplicate value: "a"', id="duplicate scope"),
            pytest.param(
                f"scopes: {numbered(65, 8)}",
                "spec.scopes",
                "Too many: 65: must have at most 64 items",
                id="too many scopes",
            ),
            pytest.param(
                f"scopes: {numbered(1, 129)}",
                "spec.scopes[0]",
                TOO_LONG,
                id="scope too long",
            ),
            pytest.param("resources: ['https://a.b/c#d']", "spec.resources[0]", FRAGMENT, id="resource with fragment"),
            pytest.param("resources: ['https://a.b/c#']", "spec.resources[0]", FRAGMENT, id="empty fragment"),
            pytest.param("resources: [/mcp]", "spec.resources[0]", NOT_A_RESOURCE, id="relative resource"),
            pytest.param(
                "resources: [api.getasset.com/mcp]", "spec.resources[0]", NOT_A_RESOURCE, id="resource with no scheme"
            ),
            pytest.param("resources: ['https:/a.b/c']", "spec.resources[0]", NOT_A_RESOURCE, id="no host: one slash"),
            pytest.param("resources: ['https:///c']", "spec.resources[0]", NOT_A_RESOURCE, id="no host: three slashes"),
            pytest.param("resources: ['']", "spec.resources[0]", NOT_A_RESOURCE, id="empty resource"),
            pytest.param(
                "resources: ['https://a.b/c d']", "spec.resources[0]", NOT_A_RESOURCE, id="resource with a space"
            ),
            pytest.param(
                "resources: ['https://a.b/%zz']", "spec.resources[0]", NOT_A_RESOURCE, id="resource badly escaped"
            ),
            pytest.param(
                "resources: ['urn:a', 'urn:a']", "spec.resources[1]", 'Duplicate value: "urn:a"', id="twice a resource"
            ),
            pytest.param(
                f"resources: {numbered(17, 8, 'urn:a:')}",
                "spec.resources",
                "Too many: 17: must have at most 16 items",
                id="too many resources",
            ),
            pytest.param(
                f"resources: {numbered(1, 2049, 'urn:a:')}",
                "spec.resources[0]",
                TOO_LONG,
                id="resource too long",
            ),
            pytest.param("lifetime: '0'", "spec.lifetime", NOT_A_LIFETIME, id="lifetime 0"),
            pytest.param("lifetime: 0s", "spec.lifetime", NOT_A_LIFETIME, id="lifetime 0s"),
            pytest.param("lifetime: 59s", "spec.lifetime", NOT_A_LIFETIME, id="lifetime just too short"),
            pytest.param("lifetime: 8760h1s", "spec.lifetime", NOT_A_LIFETIME, id="lifetime just too long"),
            pytest.param("lifetime: 99999999999h", "spec.lifetime", NOT_A_LIFETIME, id="lifetime beyond all numbers"),
            pytest.param("lifetime: 1 day", "spec.lifetime", NOT_A_LIFETIME, id="lifetime in words"),
            pytest.param("lifetime: 1w", "spec.lifetime", NOT_A_LIFETIME, id="lifetime in weeks"),
            pytest.param("lifetime: 1.5h", "spec.lifetime", NOT_A_LIFETIME, id="lifetime with a fraction"),
            pytest.param("lifetime: 30m1h", "spec.lifetime", NOT_A_LIFETIME, id="lifetime in the wrong order"),
            pytest.param("lifetime: PT1H", "spec.lifetime", NOT_A_LIFETIME, id="lifetime in ISO 8601"),
            pytest.param("lifetime: ''", "spec.lifetime", NOT_A_LIFETIME, id="empty lifetime"),
            pytest.param("lifetime: -1h", "spec.lifetime", NOT_A_LIFETIME, id="negative lifetime"),
            pytest.param("lifetime: '3600'", "spec.lifetime", NOT_A_LIFETIME, id="lifetime with no unit"),
            pytest.param(
                "lifetime: 3600",
                "spec.lifetime",
                'spec.lifetime in body must be of type string: "integer"',
                id="lifetime as a number",
            ),
            pytest.param("renewBefore: 0s", "spec.renewBefore", NOT_A_RENEW_BEFORE, id="renewBefore 0s"),
            pytest.param("renewBefore: soon", "spec.renewBefore", NOT_A_RENEW_BEFORE, id="renewBefore in words"),
            pytest.param("renewBefore: ''", "spec.renewBefore", NOT_A_RENEW_BEFORE, id="empty renewBefore"),
            pytest.param(
                "renewBefore: 1h", "spec.renewBefore", RENEW_BEFORE_TOO_LONG, id="renewBefore = the default lifetime"
            ),
            pytest.param(
                "{lifetime: 10m, renewBefore: 10m}",
                "spec.renewBefore",
                RENEW_BEFORE_TOO_LONG,
                id="renewBefore = the lifetime",
            ),
            pytest.param(
                "{lifetime: 10m, renewBefore: 0h11m}",
                "spec.renewBefore",
                RENEW_BEFORE_TOO_LONG,
                id="renewBefore > the lifetime",
            ),
            pytest.param(
                "{renewBefore: 15m, renewBeforePercentage: 25}",
                "spec.renewBeforePercentage",
                BOTH_FORMS,
                id="both forms of renewBefore",
            ),
            pytest.param("renewBeforePercentage: 0", "spec.renewBeforePercentage", NOT_A_PERCENTAGE, id="percentage 0"),
            pytest.param(
                "renewBeforePercentage: 100", "spec.renewBeforePercentage", NOT_A_PERCENTAGE, id="percentage 100"
            ),
            pytest.param(
                "secret: {name: asset-credentials}",
                "spec.secret.name",
                CREDENTIALS_SECRET,
                id="into the credentials Secret",
            ),
            pytest.param(
                "credentialsSecretRef: {name: ledger-writer}",
                "spec.secret.name",
                CREDENTIALS_SECRET,
                id="into the credentials Secret, by default",
            ),
            pytest.param(
                "secret: {name: Ledger-Writer}",
                "spec.secret.name",
                NOT_A_SECRET_NAME + "ledger-writer-token",
                id="upper-case Secret name",
            ),
            pytest.param(
                "secret: {name: ''}",
                "spec.secret.name",
                NOT_A_SECRET_NAME + "ledger-writer-token",
                id="empty Secret name",
            ),
            pytest.param(f"secret: {{name: {'n' * 254}}}", "spec.secret.name", TOO_LONG, id="Secret name too long"),
            pytest.param(
                "secret: {labels: {auth.getasset.com/owner: me}}",
                "spec.secret.labels",
                OWN_LABELS,
                id="reserved label",
            ),
            pytest.param(
                "secret: {labels: {app.kubernetes.io/managed-by: me}}",
                "spec.secret.labels",
                OWN_LABELS,
                id="managed-by label",
            ),
            pytest.param(
                "secret: {labels: {-team: a}}", "spec.secret.labels", f"not a label's key: {KEY_FORM}", id="label key"
            ),
            pytest.param(
                "secret: {labels: {a/b/c: a}}",
                "spec.secret.labels",
                f"not a label's key: {KEY_FORM}",
                id="label key with two slashes",
            ),
            pytest.param(
                f"secret: {{labels: {{? p{LONGEST_KEY} : ''}}}}",
                "spec.secret.labels",
                f"not a label's key: {KEY_FORM}",
                id="label key with too long a prefix",
            ),
            pytest.param(
                f"secret: {{labels: {{{LABEL_KEY}: a b}}}}",
                f"spec.secret.labels[{LABEL_KEY}]",
                NOT_A_LABEL_VALUE,
                id="bad label value",
            ),
            pytest.param(
                f"secret: {{labels: {{{LABEL_KEY}: {'v' * 64}}}}}",
                f"spec.secret.labels.{LABEL_KEY}",
                TOO_LONG,
                id="label value too long",
            ),
            pytest.param(
                "secret: {annotations: {auth.getasset.com/revision: '9'}}",
                "spec.secret.annotations",
                OWN_ANNOTATIONS,
                id="reserved annotation",
            ),
            pytest.param(
                "secret: {annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}}",
                "spec.secret.annotations",
                OWN_ANNOTATIONS,
                id="kubectl's annotation",
            ),
            pytest.param(
                "secret: {annotations: {a b: c}}",
                "spec.secret.annotations",
                f"not an annotation's key: {KEY_FORM}",
                id="bad annotation key",
            ),
            pytest.param(
                metadata("annotations", 1, "v" * 4097),
                "spec.secret.annotations.key-0",
                TOO_LONG,
                id="annotation too long",
            ),
            pytest.param(
                metadata("labels", 33, ""),
                "spec.secret.labels",
                "Too many: 33: must have at most 32 items",
                id="too many labels",
            ),
            pytest.param(
                metadata("annotations", 33, ""),
                "spec.secret.annotations",
                "Too many: 33: must have at most 32 items",
                id="too many annotations",
            ),
            *(
                pytest.param(
                    template({".env": text}), "spec.secret.template[.env]", NOT_A_TEMPLATE, id=f"template: {problem}"
                )
                for problem, text in {
                    "an unknown name": "A=${acess_token}",
                    "a name in capitals": "${ACCESS_TOKEN}",
                    "a name without braces": "$access_token",
                    "a stray $": "costs 5$",
                    "a $ before a known name that is escaped": "$$${access_token",
                    "an odd number of $": "$$$",
                    "an empty name": "${}",
                    "a name with a blank": "${access_token }",
                    "logic": "${access_token:-none}",
                    "a $ at the end of a line": "$\n",
                }.items()
            ),
            *(
                pytest.param(
                    template({key: ""}), "spec.secret.template", STANDARD_KEY, id=f"template: standard key {key}"
                )
                for key in STANDARD_KEYS
            ),
            *(
                pytest.param(template({key: ""}), "spec.secret.template", NOT_A_TEMPLATE_KEY, id=f"template: {problem}")
                for problem, key in {
                    "an empty key": "",
                    "a key with a slash": "a/b",
                    "a key that is a folder": ".",
                    "a key that starts with two dots": "..data",
                    "a key with a line break": "a\n",
                    "a key that is too long": "k" * 254,
                }.items()
            ),
            pytest.param(
                template({".env": "x" * 16385}), "spec.secret.template..env", TOO_LONG, id="template: text too long"
            ),
            pytest.param(
                template({f"k{number}": "" for number in range(33)}),
                "spec.secret.template",
                "Too many: 33: must have at most 32 items",
                id="too many templates",
            ),
            pytest.param("rolloutRestart: {}", "spec.rolloutRestart.targets", "Required value", id="missing targets"),
            pytest.param(restart("targets: []"), "spec.rolloutRestart.targets", NO_TARGETS, id="no targets"),
            pytest.param(
                restart(f"targets: {targets(*(f'n{number}' for number in range(17)))}"),
                "spec.rolloutRestart.targets",
                "Too many: 17: must have at most 16 items",
                id="too many targets",
            ),
            pytest.param(
                restart(f"targets: {targets('a', 'a')}"),
                "spec.rolloutRestart.targets[1]",
                "Duplicate value",
                id="a target twice",
            ),
            pytest.param(
                restart("targets: [{kind: CronJob, name: a}]"),
                "spec.rolloutRestart.targets[0].kind",
                'supported values: "Deployment", "StatefulSet", "DaemonSet"',
                id="a kind that can't be restarted",
            ),
            pytest.param(
                restart("targets: [{kind: Deployment}]"),
                "spec.rolloutRestart.targets[0].name",
                "Required value",
                id="a target without a name",
            ),
            *(
                pytest.param(
                    restart(f"targets: {targets(name)}"),
                    "spec.rolloutRestart.targets[0].name",
                    NOT_A_WORKLOAD,
                    id=f"a target named {name!r}",
                )
                for name in ("", "A", "a/b", "-a")
            ),
            pytest.param(
                restart(f"targets: {targets('n' * 254)}"),
                "spec.rolloutRestart.targets[0].name",
                TOO_LONG,
                id="a target's name too long",
            ),
            *(
                pytest.param(
                    restart(f"minInterval: {text}"),
                    "spec.rolloutRestart.minInterval",
                    NOT_A_MIN_INTERVAL,
                    id=f"minInterval {text}",
                )
                for text in ("0s", "''", "1 day", "8761h", "'90'", "1.5h")
            ),
            pytest.param(
                "secret: {deletionPolicy: Orphan}",
                "spec.secret.deletionPolicy",
                'supported values: "Delete", "Retain"',
                id="unknown deletionPolicy",
            ),
        ],
    )
    def test_one_mistake_is_one_sentence(
        self, controlplane: Cluster, untouched: str, spec: str, field: str, sentence: str
    ) -> None:
        arguments = ["create", f"--namespace={untouched}", "--filename=-", "--dry-run=server"]

        complaint = refused(controlplane, *arguments, input=manifest(spec))

        assert complaint.startswith(f"{field}: ")
        assert sentence in complaint

    @pytest.mark.parametrize(
        ("spec", "field"),
        [
            pytest.param("scope: [ledger:read]", "spec.scope", id="misspelt"),
            pytest.param("secret: {templates: {}}", "spec.secret.templates", id="below another"),
        ],
    )
    def test_an_unknown_field(self, controlplane: Cluster, untouched: str, spec: str, field: str) -> None:
        arguments = ["create", f"--namespace={untouched}", "--filename=-", "--dry-run=server"]

        complaint = refused(controlplane, *arguments, input=manifest(spec))

        assert complaint.endswith(f'strict decoding error: unknown field "{field}"')

    def test_a_manifest_with_no_spec(self, controlplane: Cluster, namespace: str) -> None:
        text = MINIMAL.partition("spec:")[0]

        complaint = refused(controlplane, "create", f"--namespace={namespace}", "--filename=-", input=text)

        assert complaint == "spec: Required value"


@pytest.mark.usefixtures("crds")
class TestStatus:
    def test_a_new_object_is_not_current(self, controlplane: Cluster, namespace: str) -> None:
        created = create(controlplane, namespace, MINIMAL)

        assert created["status"] == {"observedGeneration": -1}

    def test_a_lost_status_is_not_current(self, controlplane: Cluster, namespace: str) -> None:
        create(controlplane, namespace, MINIMAL)
        controlplane.kubectl(*set_status(yaml.safe_load(STATUS)), f"--namespace={namespace}")

        controlplane.kubectl(
            "patch",
            "astok/ledger-writer",
            f"--namespace={namespace}",
            "--subresource=status",
            "--type=json",
            '--patch=[{"op": "remove", "path": "/status"}]',
        )

        path = f"/apis/auth.getasset.com/v1alpha1/namespaces/{namespace}/assettokens/ledger-writer"
        assert controlplane.api.get(path)["status"] == {"observedGeneration": -1}

    def test_a_user_cannot_set_it_beside_the_spec(self, controlplane: Cluster, namespace: str) -> None:
        created = create(controlplane, namespace, MINIMAL + "status: {revision: 7}")

        assert created["status"] == {"observedGeneration": -1}

    def test_every_field_is_kept(self, controlplane: Cluster, namespace: str) -> None:
        create(controlplane, namespace, MINIMAL)
        status = yaml.safe_load(STATUS)
        assert status.keys() == schema()["properties"]["status"]["properties"].keys()

        controlplane.kubectl(*set_status(status), f"--namespace={namespace}")

        path = f"/apis/auth.getasset.com/v1alpha1/namespaces/{namespace}/assettokens/ledger-writer"
        assert controlplane.api.get(path)["status"] == status

    def test_values_that_are_too_long_are_refused(self, controlplane: Cluster, namespace: str) -> None:
        create(controlplane, namespace, MINIMAL)
        entry = {"time": TIME, "reason": "Renewing", "outcome": "Issued"}
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": TIME, "reason": "R", "message": ""}
        status = {
            "observedGeneration": -2,
            "summary": "All is well",
            "conditions": [condition | {"type": f"Ready{number}"} for number in range(9)],
            "secretName": "n" * 254,
            "binding": {"name": "n" * 254},
            "expirationTime": "tomorrow",
            "grantedScopes": ["s" * 1025, *["s"] * 256],
            "tokenId": "t" * 257,
            "failedAttempts": -1,
            "lastHandledRenewRequest": "r" * 257,
            "syncedHash": "0" * 64 + "-",
            "revision": 0,
            "history": [
                *[entry] * 8,
                entry | {"reason": "R" * 65},
                entry | {"outcome": "Lost"},
                entry | {"message": "m" * 1025},
            ],
        }

        with pytest.raises(KubectlError) as caught:
            controlplane.kubectl(*set_status(status), f"--namespace={namespace}")

        fields = {complaint.partition(": ")[0] for complaint in complaints(caught.value)}
        assert fields >= {
            "status.observedGeneration",
            "status.summary",
            "status.conditions",
            "status.secretName",
            "status.binding.name",
            "status.expirationTime",
            "status.grantedScopes",
            "status.grantedScopes[0]",
            "status.tokenId",
            "status.failedAttempts",
            "status.lastHandledRenewRequest",
            "status.syncedHash",
            "status.revision",
            "status.history",
            "status.history[8].reason",
            "status.history[9].outcome",
            "status.history[10].message",
        }


@pytest.mark.usefixtures("crds")
class TestKubectl:
    @pytest.mark.parametrize("name", ["assettokens", "assettoken", "astok", "asset", "AssetToken"])
    def test_finds_the_object_by_every_name(self, controlplane: Cluster, namespace: str, name: str) -> None:
        create(controlplane, namespace, MINIMAL)

        found = controlplane.kubectl("get", name, f"--namespace={namespace}", "--output=name")

        assert found.split() == ["assettoken.auth.getasset.com/ledger-writer"]

    def test_shows_what_a_user_looks_for(self, controlplane: Cluster, namespace: str) -> None:
        create(controlplane, namespace, FULL)
        controlplane.kubectl(*set_status(yaml.safe_load(STATUS)), f"--namespace={namespace}")

        header, row = controlplane.kubectl("get", "astok", f"--namespace={namespace}", "--output=wide").splitlines()

        shown = dict(zip(*(re.split(" {2,}", line.strip()) for line in (header, row)), strict=True))
        assert re.fullmatch(r"\d+m?s", shown.pop("AGE"))
        assert shown == {
            "NAME": "ledger-writer",
            "READY": "True",
            "STATUS": "Ready",
            "ENVIRONMENT": "sandbox",
            "SECRET": "ledger-writer-token",
            "EXPIRES": "2999-05-01T18:39:28Z",
            "RENEWS": "2999-05-01T18:24:28Z",
            "BUSINESS": "biz_GA6EG2qFxA97NZHtxeLPUy",
            "MESSAGE": "The token is in the Secret.",
        }

    def test_keeps_the_rest_for_the_wide_output(self, controlplane: Cluster, namespace: str) -> None:
        create(controlplane, namespace, MINIMAL)

        header, row = controlplane.kubectl("get", "astok", f"--namespace={namespace}").splitlines()

        assert header.split() == ["NAME", "READY", "STATUS", "ENVIRONMENT", "SECRET", "EXPIRES", "RENEWS", "AGE"]
        assert row.split()[:2] == ["ledger-writer", "sandbox"]

    def test_explains_every_field(self, controlplane: Cluster) -> None:
        def explained() -> list[str]:
            text = controlplane.kubectl("explain", "assettoken.spec", "--recursive", check=False)
            return re.findall(r"^ +(\w+)\t", text, flags=re.MULTILINE)

        # The API server publishes its OpenAPI document a moment after it serves the resource.
        fields = wait_until(explained, 30, "kubectl can explain an AssetToken")

        assert fields == [
            "businessId",
            "credentialsSecretRef",
            "clientIdKey",
            "clientSecretKey",
            "name",
            "environment",
            "lifetime",
            "renewBefore",
            "renewBeforePercentage",
            "resources",
            "rolloutRestart",
            "minInterval",
            "targets",
            "kind",
            "name",
            "scopes",
            "secret",
            "annotations",
            "deletionPolicy",
            "labels",
            "name",
            "template",
            "suspend",
        ]

    def test_explains_a_field_with_its_default_and_an_example(self, controlplane: Cluster) -> None:
        def explained() -> str:
            return " ".join(controlplane.kubectl("explain", "assettoken.spec.renewBefore", check=False).split())

        text = wait_until(explained, 30, "kubectl can explain renewBefore")

        assert "such as 15m: at least 1s, and less than the lifetime (1h when left out)." in text
        assert "Default: a third of the lifetime." in text

    def test_applies_the_crd_without_a_warning(self, controlplane: Cluster) -> None:
        controlplane.kubectl(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=tests",
            "--warnings-as-errors",
            "--dry-run=server",
            f"--filename={CRD}",
        )


def schema() -> Json:
    """The schema as the file has it."""
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    found: Json = version["schema"]["openAPIV3Schema"]
    return found


def fields_of(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Walk through a schema: every field, item and map value with its path."""
    for name, field in node.get("properties", {}).items():
        if (path, name) != ("", "metadata"):
            yield f"{path}.{name}", field
            yield from fields_of(field, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield f"{path}{suffix}", node[key]
            yield from fields_of(node[key], f"{path}{suffix}")


FIELDS: Final = [
    pytest.param(path, field, id=path) for path, field in fields_of(schema()) if path.startswith((".spec", ".status"))
]


class TestSchema:
    @pytest.mark.parametrize(("path", "field"), FIELDS)
    def test_everything_has_a_maximum(self, path: str, field: Json) -> None:
        match field:
            case {"type": "string"}:
                of_upstream = path == ".status.conditions[].lastTransitionTime"  # whose format bounds it
                assert field.keys() & {"enum", "maxLength"} or of_upstream
            case {"type": "array"}:
                assert field.keys() >= {"maxItems", "x-kubernetes-list-type"}
            case {"type": "object"}:
                assert ("maxProperties" in field) == ("additionalProperties" in field)
                assert ("properties" in field) != ("additionalProperties" in field)
            case _:
                assert field["type"] in {"boolean", "integer"}

    @pytest.mark.parametrize(("path", "field"), FIELDS)
    def test_everything_is_described_in_a_few_sentences(self, path: str, field: Json) -> None:
        description = field.get("description", "")

        if not path.endswith(("scopes[]", "resources[]", "Scopes[]", "{}")):
            assert description.endswith(".")
        assert len(description) <= 320
        assert not re.search("refresh|rotat", description, flags=re.IGNORECASE)

    @pytest.mark.parametrize(("path", "field"), FIELDS)
    def test_users_meet_sentences_and_no_regular_expressions(self, path: str, field: Json) -> None:
        if path.startswith(".spec"):
            assert not field.keys() & {"pattern", "minLength", "minimum", "maximum"}
        for rule in field.get("x-kubernetes-validations", []):
            assert re.search(r": (use|write|set|keep|remove|lower|the) ", rule["message"])

    def test_rules_use_only_functions_of_kubernetes_1_29(self) -> None:
        rules = [
            rule
            for _, field in [("", schema()), *fields_of(schema())]
            for rule in field.get("x-kubernetes-validations", [])
        ]
        text = "\n".join(rule["rule"] for rule in rules)
        without_strings = re.sub(r"'(?:\\.|[^'\\])*'", "''", text)

        assert all(rule.keys() <= {"rule", "message", "fieldPath"} for rule in rules)
        assert set(re.findall(r"(\w+)\(", without_strings)) == {
            *("all", "exists", "has"),  # macros
            *("contains", "duration", "matches", "startsWith"),  # CEL's own
            "indexOf",  # CEL's strings, version 0
            *("getHost", "getScheme", "isURL", "url"),  # Kubernetes' URLs, since 1.23
        }
