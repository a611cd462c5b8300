"""Which Pods use a Secret, and how: a mounted one is updated in place, an environment variable is not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asset_token_operator.kubectl.cluster import metadata, part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def users_of(secret: str, pods: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The Pods that use the Secret, with how each does."""
    found = []
    for pod in pods:
        ways = sorted(set(_ways(secret, part(pod, "spec"))))
        if ways:
            found.append((str(metadata(pod).get("name", "")), ", ".join(ways)))
    return sorted(found)


def _ways(secret: str, spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        if (volume.get("secret") or {}).get("secretName") == secret:
            yield "mounts it"
        for source in (volume.get("projected") or {}).get("sources") or ():
            if (source.get("secret") or {}).get("name") == secret:
                yield "mounts it"
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            variables = container.get("env") or ()
            references = [((entry.get("valueFrom") or {}).get("secretKeyRef") or {}) for entry in variables]
            references += [(entry.get("secretRef") or {}) for entry in container.get("envFrom") or ()]
            if any(reference.get("name") == secret for reference in references):
                yield "has it as a variable, which a renewal doesn't change"
