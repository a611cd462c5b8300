"""The values that the chart is tried with: each of its values is set in one at least."""

import itertools
from collections.abc import Iterator
from typing import Final

from tests.support.cluster import Json
from tests.support.helm import merged

SCRAPERS: Final = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
PROXY: Final = {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.1/32"]}}
DNS: Final = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
AWAY: Final = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"team": "ledger"}}}
]}}  # fmt: skip

VARIANTS: Final[dict[str, Json]] = {
    "as it is": {},
    "an image by its tag": {"image": {"repository": "example.com/tools/operator", "tag": "1.2.3"}},
    "an image by its digest": {"image": {"digest": f"sha256:{'ab' * 32}", "pullPolicy": "Always"}},
    "a registry with a password": {
        "image": {"registry": "registry.example.com:5000/mirror"},
        "imagePullSecrets": [{"name": "registry-credentials"}],
    },
    "OpenShift": {"openshift": True},
    "the cluster says which uid": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": 2000}},
    "other security": {
        "podSecurityContext": {"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}, "runAsNonRoot": True},
        "securityContext": {
            "readOnlyRootFilesystem": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    },
    "some AssetTokens": {"watchSelector": "team in (ledger, invoices),stage!=test"},
    "another ServiceAccount": {"serviceAccount": {"name": "tokens", "annotations": {"example.com/role": "a"}}},
    "a ServiceAccount that is there": {"serviceAccount": {"create": False, "name": "asset-token-operator"}},
    "another Lease": {"leaderElection": {"leaseName": "tokens"}},
    "no election": {"leaderElection": {"enabled": False}, "replicas": 1},
    "more arguments": {"extraArgs": ["--production-url=https://asset.example.com"]},
    "a volume": {
        "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more", "readOnly": True}],
    },
    "labels on all": {"commonLabels": {"team": "ledger", "example.com/cost": "1"}},
    "other names": {
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.10"]},
        "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["api.getasset.com"]}],
    },
    "an end of its own": {"terminationGracePeriodSeconds": 60, "revisionHistoryLimit": 0},
    "another name": {"fullnameOverride": "tokens"},
    "the CRD is there already": {"crds": {"install": False}},
    "one namespace": {"watchNamespaces": ["default"]},
    "two namespaces": {"watchNamespaces": ["default", "kube-public"]},
    "workloads are restarted": {"rolloutRestart": {"enabled": True}},
    "no roles for users": {"userRoles": {"create": False}},
    "one replica": {"replicas": 1},
    "other endpoints": {"sandboxUrl": "https://sandbox.example.com/a", "productionUrl": "https://asset.example.com"},
    "other reserves": {"renewalReserve": 50, "issueReserve": 0},
    "a CA of their own": {"caBundle": {"configMapName": "company-ca", "key": "bundle.pem"}},
    "a proxy": {
        "extraEnv": [
            {"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": {"name": "proxy", "key": "url"}}},
            {"name": "NO_PROXY", "value": "10.0.0.1,.svc"},
        ],
        "networkPolicy": {"proxy": {"ports": [3128], "to": [PROXY]}, "asset": {"to": [PROXY]}},
    },
    "logs for people": {"log": {"format": "text", "level": "debug"}},
    "no series for each token": {"metrics": {"tokens": False}},
    "the Prometheus operator": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "1m"},
            "prometheusRule": {
                "enabled": True,
                "labels": {"release": "prometheus"},
                "runbookUrl": "https://git.example.com/docs/runbooks.md",
            },
        }
    },
    "Grafana": {"metrics": {"dashboard": {"enabled": True, "labels": {"grafana_dashboard": "yes"}}}},
    "other resources": {
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "2Gi"}}
    },
    "no resources": {"resources": {"requests": None, "limits": None}},
    "no NetworkPolicy": {"networkPolicy": {"enabled": False}},
    "a narrow NetworkPolicy": {
        "networkPolicy": {
            "metrics": {"from": [SCRAPERS]},
            "dns": {"ports": [53, 5353], "to": [DNS]},
            "apiServer": {"ports": [16443], "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]},
            "asset": {"ports": [443, 8443]},
        }
    },
    "some nodes only": {
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "operators", "effect": "NoSchedule"}],
        "affinity": AWAY,
    },
    "more metadata": {
        "deploymentAnnotations": {"example.com/b": "2"},
        "podAnnotations": {"example.com/a": "1"},
        "podLabels": {"team": "ledger"},
    },
    "a part of another chart": {"global": {"registry": "example.com"}},
}
"""What the API server is asked about, one by one."""

SWITCHES: Final = (
    (
        "one namespace",
        "no roles for users",
        "a CA of their own",
        "no series for each token",
        "the Prometheus operator",
        "no NetworkPolicy",
        "other reserves",
    ),
    (
        "OpenShift",
        "no election",
        "another ServiceAccount",
        "a volume",
        "other names",
        "some AssetTokens",
        "labels on all",
    ),
)
"""What decides which objects, arguments and parts of a Pod there are."""

POPULAR: Final = (*SWITCHES[1], "another Lease", "other security", "more arguments", "more metadata")
"""What popular charts have, too: all combinations are thousands."""


def combinations(*, thorough: bool = False) -> Iterator[Json]:
    """Every combination of the switches of a group, and every pair of all.

    Args:
        thorough: Also every combination of what popular charts have, which takes minutes.
    """
    every = tuple(itertools.chain(*SWITCHES))
    groups = (*SWITCHES, POPULAR) if thorough else SWITCHES
    chosen = [names for group in groups for count in range(len(group) + 1) for names in _some(group, count)]
    for names in dict.fromkeys((*chosen, *_some(every, 2))):
        values: Json = {"crds": {"install": False}}
        for name in names:
            values = merged(values, VARIANTS[name])
        yield values


def _some(names: tuple[str, ...], count: int) -> Iterator[tuple[str, ...]]:
    return itertools.combinations(names, count)


def leaves(values: Json, path: str = "") -> set[str]:
    """The paths of all values that aren't made of others."""
    paths: set[str] = set()
    for key, value in values.items():
        paths |= leaves(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}"}
    return paths
