"""The checks of `doctor`: each tells what it found, and what to do.

A check never raises: what can't be looked at for want of a right is told as that, and isn't a failure.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.answers import read_date
from asset_token_operator.kubectl.cluster import core_path, decode, metadata, part, parts
from asset_token_operator.kubectl.problems import ForbiddenProblem, NotFoundProblem, Problem
from asset_token_operator.kubectl.state import FINE, TokenState
from asset_token_operator.kubectl.words import duration, moment_of
from asset_token_operator.model import GROUP, PLURAL, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from asset_token_operator.kubectl.cluster import Cluster

LEAST_VERSION: Final = (1, 29)
LARGEST_SKEW: Final = timedelta(seconds=5)
SHOWN: Final = 5
REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

NEEDED: Final[Mapping[str, frozenset[str]]] = {
    "spec": frozenset(
        {
            "environment",
            "credentialsSecretRef",
            "businessId",
            "scopes",
            "resources",
            "rolloutRestart",
            "lifetime",
            "renewBefore",
            "renewBeforePercentage",
            "suspend",
            "secret",
        }
    ),
    "status": frozenset(
        {
            "observedGeneration",
            "summary",
            "conditions",
            "secretName",
            "issuanceTime",
            "expirationTime",
            "renewalTime",
            "grantedScopes",
            "failedAttempts",
            "lastFailureTime",
            "lastHandledRenewRequest",
            "revision",
            "history",
        }
    ),
}
"""The fields that this version speaks of."""

RIGHTS: Final = (
    ("list", GROUP, PLURAL, "every verb", "view"),
    ("patch", GROUP, PLURAL, "renew, suspend and resume", "edit"),
    ("create", GROUP, PLURAL, "create", "edit"),
    ("list", "", "pods", "status, to say who uses the Secret", "view"),
    ("list", "", "events", "events", "view"),
    ("get", "", "secrets", "inspect, and doctor's look at the credentials", "edit"),
)
"""What a verb needs, and the usual role that has it."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found.

    Attributes:
        fine: Whether it is as it should be; None where that can't be told, or needn't be.
        helps: What to do; empty where nothing is to be done.
    """

    about: str
    fine: bool | None
    found: str
    helps: str = ""


def guarded(about: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A check whose problems are findings."""
    try:
        yield from check()
    except ForbiddenProblem as problem:
        yield Check(about, None, f"you lack the right to {problem.right}", "ask for it, or have an administrator look")
    except Problem as problem:
        yield Check(about, False, str(problem))


def api_server(cluster: Cluster, now: Callable[[], datetime]) -> Iterator[Check]:
    """Its version, and whether its clock and ours agree."""
    before = now()
    answer = cluster.get("/version")
    after = now()
    shown = str(answer.get("gitVersion", "?"))
    numbers = [int(part) for part in re.findall(r"\d+", f"{answer.get('major')}.{answer.get('minor')}")[:2]]
    new_enough = tuple(numbers) >= LEAST_VERSION
    helps = "" if new_enough else "upgrade it to Kubernetes 1.29 or newer"
    yield Check("API server", new_enough, f"Kubernetes {shown} at {cluster.server}", helps)
    yield clock("Clock", cluster.date, before, after, "the API server's")


def clock(  # noqa: PLR0913, PLR0917 - two clocks, and two looks at ours
    about: str, date: str | None, before: datetime, after: datetime, whose: str, ours: str = "this machine's"
) -> Check:
    """Whether another clock, which tells whole seconds, agrees with ours."""
    moment = read_date(date)
    if moment is None:
        return Check(about, None, f"{whose} isn't said")
    ahead = max(before - moment - timedelta(seconds=1), moment - after, timedelta())
    if ahead <= LARGEST_SKEW:
        return Check(about, True, f"{ours} and {whose} agree")
    way = "behind" if moment > after else "ahead of"
    return Check(about, False, f"{ours} is {duration(ahead)} {way} {whose}", f"set {ours} clock by NTP")


def definitions(cluster: Cluster) -> Iterator[Check]:
    """Whether the cluster knows AssetTokens, as this version does."""
    try:
        found = cluster.get(f"/apis/{GROUP}/{VERSION}")
    except NotFoundProblem:
        yield Check("CRD", False, f"the cluster doesn't know {GROUP}/{VERSION}", "install the operator, or apply crds/")
        return
    names = {resource.get("name") for resource in parts(found, "resources")}
    if PLURAL not in names or f"{PLURAL}/status" not in names:
        yield Check("CRD", False, f"{GROUP}/{VERSION} has no {PLURAL} with a status", "apply this version's crds/")
        return
    missing = sorted(_missing_fields(cluster))
    if missing:
        yield Check("CRD", False, f"it lacks {', '.join(missing)}", "apply this version's crds/, which upgrades it")
    else:
        yield Check("CRD", True, f"{PLURAL}.{GROUP} {VERSION} has all fields that this version speaks of")


def _missing_fields(cluster: Cluster) -> Iterator[str]:
    schemas = part(part(cluster.get(f"/openapi/v3/apis/{GROUP}/{VERSION}"), "components"), "schemas")
    schema: Mapping[str, Any] = next((schema for name, schema in schemas.items() if name.endswith(".AssetToken")), {})
    for name, needed in NEEDED.items():
        there = part(part(part(schema, "properties"), name), "properties")
        yield from (f"{name}.{field}" for field in needed - set(there))


def rights(cluster: Cluster, namespace: str | None) -> Iterator[Check]:
    """Which of the rights that the verbs need the user has."""
    where = "all namespaces" if namespace is None else f"the namespace {namespace}"
    missing = missing_rights(cluster, namespace, [right[:3] for right in RIGHTS])
    for verb, group, resource, what, role in RIGHTS:
        if (verb, group, resource) in missing:
            needed = False if resource == PLURAL and verb == "list" else None
            found = f"you may not {verb} {resource} in {where}, which {what} needs"
            yield Check("Rights", needed, found, f"ask for the role {role} there")
    if not missing:
        yield Check("Rights", True, f"you have all that the verbs need in {where}")


def missing_rights(
    cluster: Cluster, namespace: str | None, rights: Sequence[tuple[str, str, str]]
) -> list[tuple[str, str, str]]:
    """Those of the rights (verb, group, resource) that the user lacks."""
    missing = []
    for verb, group, resource in rights:
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": namespace or ""}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        answer = cluster.create(REVIEWS, body | {"spec": {"resourceAttributes": attributes}})
        if part(answer, "status").get("allowed") is not True:
            missing.append((verb, group, resource))
    return missing


def operator(cluster: Cluster, namespace: str, lease: str, now: datetime) -> Iterator[Check]:
    """Whether an operator is up, and leads."""
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}"
    try:
        spec = part(cluster.get(path), "spec")
    except NotFoundProblem:
        yield Check(
            "Operator",
            False,
            f"there is no Lease {lease} in the namespace {namespace}",
            "install it there, or name its place with --operator-namespace and --lease-name"
            " (one that runs without --leader-elect has no Lease)",
        )
        return
    renewed, holder = moment_of(spec.get("renewTime")), spec.get("holderIdentity")
    lasts = timedelta(seconds=spec.get("leaseDurationSeconds") or 15)
    if not holder:
        yield Check("Operator", False, "nobody leads", f"see whether its Pods run: kubectl get pods -n {namespace}")
    elif renewed is None or renewed + lasts + LARGEST_SKEW < now:
        since = "ever" if renewed is None else f"for {duration(now - renewed)}"
        found = f"{holder} hasn't renewed its Lease {since}"
        yield Check("Operator", False, found, f"see why its Pods don't run: kubectl get pods -n {namespace}")
    else:
        yield Check("Operator", True, f"{holder} leads")


def credentials(cluster: Cluster, bodies: Sequence[Mapping[str, Any]]) -> Iterator[Check]:
    """Whether the credentials are there and have the right form. Nothing of them is told."""
    wanted: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for body in bodies:
        reference = part(part(body, "spec"), "credentialsSecretRef")
        where = (str(metadata(body).get("namespace")), str(reference.get("name")))
        wanted[where] |= {reference.get("clientIdKey", "client_id"), reference.get("clientSecretKey", "client_secret")}
    bad = 0
    for (namespace, name), keys in sorted(wanted.items()):
        try:
            data = part(cluster.get(core_path("secrets", namespace, name)), "data")
        except NotFoundProblem:
            bad += 1
            yield Check("Credentials", False, f"there is no Secret {namespace}/{name}", "create it")
            continue
        for key in sorted(keys):
            wrong = _wrong(data.get(key))
            if wrong:
                bad += 1
                yield Check("Credentials", False, f"the key {key} of {namespace}/{name} {wrong}", "correct it")
    if wanted and not bad:
        yield Check("Credentials", True, f"looked at {len(wanted)}: a client ID and a client secret in each")


def _wrong(value: object) -> str:
    """What is wrong with a key's value; empty where nothing is."""
    if value is None:
        return "is missing"
    text = decode(value)
    if text is None:
        return "is no text"
    text = text.strip("\ufeff \t\r\n")
    if not text:
        return "is empty"
    return "has line breaks or control characters in it" if not text.isprintable() else ""


def conflicts(bodies: Sequence[Mapping[str, Any]], states: Sequence[TokenState]) -> Iterator[Check]:
    """Whether AssetTokens get in each other's way, or another's Secret in theirs."""
    names = Counter((state.key.namespace, state.secret) for state in states)
    shared = sorted(where for where, count in names.items() if count > 1)
    for namespace, name in shared[:SHOWN]:
        rivals = [state.key.name for state in states if (state.key.namespace, state.secret) == (namespace, name)]
        found = f"{', '.join(sorted(rivals))} name the same Secret {namespace}/{name}"
        yield Check("Secrets", False, found, "give all but one another secret.name")
    foreign = [s for s in states if s.reason == "SecretConflict" and (s.key.namespace, s.secret) not in shared]
    for state in foreign[:SHOWN]:
        yield Check("Secrets", False, f"{state.key}: {state.message}", state.helps.replace("`", ""))
    if bodies and not shared and not foreign:
        yield Check("Secrets", True, "no AssetToken is in another's way")


def tokens(states: Sequence[TokenState]) -> Iterator[Check]:
    """Which AssetTokens are in trouble."""
    trouble = [state for state in sorted(states, key=TokenState.rank) if state.state not in FINE]
    for state in trouble[:SHOWN]:
        told = " ".join(filter(None, [f"{state.reason}:" if state.reason else "", state.message]))
        yield Check("AssetTokens", False, f"{state.key}: {state.state}. {told}".strip(), state.helps.replace("`", ""))
    if len(trouble) > SHOWN:
        yield Check("AssetTokens", False, f"and {len(trouble) - SHOWN} more", "kubectl asset-token status lists them")
    if not trouble:
        yield Check("AssetTokens", True, f"{len(states)} AssetTokens, none in trouble" if states else "there are none")
