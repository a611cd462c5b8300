"""Pods that use tokens in the ways that docs/pods.md shows, and how soon each of them had a renewed one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import yaml

from tests.node.installation import CA
from tests.support.asset_api import AssetApi, Tried
from tests.support.audit import AuditEvent
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.helm import ROOT
from tests.support.image import Image
from tests.support.shop import Shop

GUIDE: Final = ROOT / "docs" / "pods.md"
PROGRAM: Final = Path(__file__).with_name("reader.py")
AUTHORITY: Final = {"name": "authority", "configMap": {"name": CA}}
NAME: Final = "ledger-writer"
"""The AssetToken of all examples."""
WORKER: Final = "ledger-worker"
"""The Pod or Deployment of all examples."""

SOURCES: Final = {
    "A volume": ("file", "/var/run/asset/access_token"),
    "A projected volume": ("file", "/etc/worker/asset/access_token"),
    "A .env file": ("sourced", "/var/run/asset/.env"),
    "Environment variables": ("variable", "access_token"),
}
"""How the program of an example reads its token, by the example's heading."""


def examples() -> dict[str, str]:
    """The manifests below each heading of the guide that has some."""
    sections = re.split(r"^## ", GUIDE.read_text(), flags=re.MULTILINE)
    found = {section.partition("\n")[0]: re.search(r"```yaml\n(.*?)```", section, re.DOTALL) for section in sections}
    return {heading: block[1] for heading, block in found.items() if block}


@dataclass(frozen=True)
class Reader:
    """A Pod, or a Deployment of one, that reads a token of that name as an example does.

    Attributes:
        seconds: From one request to the next.
    """

    heading: str
    token: str
    seconds: float

    @property
    def name(self) -> str:
        """What its object, and its requests' user agent, are called."""
        return f"{self.token}-{self.heading.lower().replace(' ', '-').replace('.', '')}"

    def asked_for(self) -> Json:
        """What the example's AssetToken asks for, beside the token itself."""
        (spec,) = [found["spec"] for found in self._objects() if found["kind"] == "AssetToken"] or [{}]
        return {field: spec[field] for field in ("secret", "rolloutRestart") if field in spec}

    def workload(self, image: Image, url: str) -> Json:
        """The example's Pod or Deployment, with our program."""
        (workload,) = [found for found in self._objects() if found["kind"] != "AssetToken"]
        pod = workload["spec"].get("template", workload)["spec"]
        pod |= {"terminationGracePeriodSeconds": 0, "volumes": [*pod.get("volumes", ()), AUTHORITY]}
        (container,) = pod["containers"]
        arguments = (self.name, url, str(self.seconds), *SOURCES[self.heading])
        container |= {
            "image": image.name,
            "imagePullPolicy": "Never",
            "command": ["python", "-c", PROGRAM.read_text(), *arguments],
            "volumeMounts": [*container.get("volumeMounts", ()), {"name": "authority", "mountPath": "/etc/asset"}],
        }
        return workload

    def _objects(self) -> list[Json]:
        text = examples()[self.heading].replace(NAME, self.token).replace(WORKER, self.name)
        return list(yaml.safe_load_all(text))


class Observer:
    """What is seen of tokens at the API server, which is told of each write, and at the stand-in, where each is tried.

    An AssetToken is told by its business, which is called as it is.
    """

    def __init__(self, shop: Shop, controlplane: ControlPlane) -> None:
        self._shop = shop
        self._asset: AssetApi = shop.asset
        self._controlplane = controlplane

    def wait_for_readers(self, readers: Sequence[Reader], number: int, timeout: float) -> None:
        """Wait until each AssetToken's n-th token is issued, and then until each reader has tried it."""
        tokens = {reader.token for reader in readers}
        self._asset.wait_for(lambda _: all(len(self.issued(token)) >= number for token in tokens), timeout)
        wanted = {(reader.name, self.issued(reader.token)[number - 1]) for reader in readers}

        def missing() -> set[tuple[str, str]]:
            return wanted - {(tried.user_agent, tried.jti or "") for tried in self._asset.tried}

        wait_until(lambda: not missing(), timeout, f"each reads token {number}: not yet {missing()}")

    def issued(self, token: str) -> list[str]:
        """The `jti` of each token that was issued for the AssetToken, in order."""
        return [seen.jti or "" for seen in self._asset.requests if (seen.business_id, seen.status) == (token, 200)]

    def refused(self) -> list[Tried]:
        """What the stand-in refused."""
        return [tried for tried in self._asset.tried if tried.verdict != "valid"]

    def delays(self, reader: Reader, renewals: int) -> list[float]:
        """How long after the write of each renewed token the reader first tried it, in seconds."""
        jtis = self.issued(reader.token)[: renewals + 1]
        written = dict(zip(jtis, self._writes(reader.token), strict=False))
        first: dict[str | None, float] = {}
        for tried in self._asset.tried:
            if tried.user_agent == reader.name:
                first.setdefault(tried.jti, tried.at)
        return [first[jti] - written[jti] for jti in islice(jtis, 1, None)]

    def _writes(self, secret: str) -> list[float]:
        """When the Secret was written; each time with another token, as a test that changes nothing else may say."""

        def is_write(event: AuditEvent) -> bool:
            return (event.resource, event.name, event.verb) == ("secrets", secret, "patch") and event.code in {200, 201}

        return [event.at.timestamp() for event in self._controlplane.audit(self._shop.namespace) if is_write(event)]
