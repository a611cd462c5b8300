"""The values that the chart is tried with: each of its values is set in one at least."""

import itertools
from collections.abc import Iterator
from typing import Final

from tests.support.cluster import Json

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
    "a registry with a password": {"imagePullSecrets": [{"name": "registry-credentials"}]},
    "another name": {"fullnameOverride": "tokens"},
    "the CRD is there already": {"crds": {"install": False}},
    "one namespace": {"watchNamespaces": ["default"]},
    "two namespaces": {"watchNamespaces": ["default", "kube-public"]},
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
            "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
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
    "more metadata on Pods": {"podAnnotations": {"example.com/a": "1"}, "podLabels": {"team": "ledger"}},
    "a part of another chart": {"global": {"registry": "example.com"}},
}
"""What the API server is asked about, one by one."""

SWITCHES: Final = (
    "one namespace",
    "no roles for users",
    "a CA of their own",
    "no series for each token",
    "the Prometheus operator",
    "no NetworkPolicy",
    "other reserves",
)
"""What decides which objects and arguments there are."""


def combinations() -> Iterator[Json]:
    """Every combination of the switches."""
    for count in range(len(SWITCHES) + 1):
        for names in itertools.combinations(SWITCHES, count):
            values: Json = {"crds": {"install": False}}
            for name in names:
                values = merged(values, VARIANTS[name])
            yield values


def merged(one: Json, other: Json) -> Json:
    """Both, key by key; where both have a value, the other's."""
    both = one | other
    for key in one.keys() & other.keys():
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            both[key] = merged(one[key], other[key])
    return both


def leaves(values: Json, path: str = "") -> set[str]:
    """The paths of all values that aren't made of others."""
    paths: set[str] = set()
    for key, value in values.items():
        paths |= leaves(value, f"{path}{key}.") if isinstance(value, dict) and value else {f"{path}{key}"}
    return paths
