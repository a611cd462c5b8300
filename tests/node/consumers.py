"""Pods that use tokens as those in examples/ do, and how soon each of them had a renewed one."""

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
from tests.support.cluster import Json, WaitTimeoutError, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.helm import ROOT
from tests.support.image import Image
from tests.support.shop import Shop

EXAMPLES: Final = ROOT / "examples"
PROGRAM: Final = Path(__file__).with_name("reader.py")
AUTHORITY: Final = {"name": "authority", "configMap": {"name": CA}}
SECRET_NAMES: Final = r"\bledger-\w+-token\b"


@dataclass(frozen=True)
class Way:
    """A way for a Pod to have a token.

    Attributes:
        files: The examples that have the Pod or Deployment, and what an AssetToken has to ask for.
        kind: How our program reads the token.
        place: Where it is.
    """

    files: tuple[str, ...]
    kind: str
    place: str


WAYS: Final = {
    "a volume": Way(("pod.yaml",), "file", "/var/run/secrets/asset/access_token"),
    "a projected volume": Way(("deployment.yaml",), "header", "/var/run/secrets/asset/authorization"),
    "a .env file": Way(("pod.yaml", "dotenv.yaml"), "sourced", "/var/run/secrets/asset/.env"),
    "environment variables": Way(("restart.yaml",), "variables", "ASSET_ACCESS_TOKEN access_token"),
}


@dataclass(frozen=True)
class Reader:
    """A Pod, or a Deployment of one, that reads the token of an AssetToken as an example does.

    Attributes:
        seconds: From one request to the next.
    """

    way: str
    token: str
    seconds: float

    @property
    def name(self) -> str:
        """What its object, and its requests' user agent, are called."""
        return f"{self.token}-{self.way.replace(' ', '-').replace('.', '')}"

    def asked_for(self) -> Json:
        """What the example's AssetToken asks for, beside the token itself."""
        asked: Json = {}
        for spec in (found["spec"] for found in self._objects() if found["kind"] == "AssetToken"):
            if template := spec.get("secret", {}).get("template"):
                asked["secret"] = {"template": template}
            if restart := spec.get("rolloutRestart"):
                (target,) = restart["targets"]
                asked["rolloutRestart"] = {"targets": [target | {"name": self.name}]}
        return asked

    def workload(self, image: Image, url: str) -> Json:
        """The example's Pod or Deployment, with our program."""
        (workload,) = [found for found in self._objects() if found["kind"] != "AssetToken"]
        workload["metadata"] = {"name": self.name}
        pod = workload["spec"]
        if workload["kind"] == "Deployment":
            workload["spec"] |= {"replicas": 1, "selector": {"matchLabels": {"app": self.name}}}
            workload["spec"]["template"]["metadata"]["labels"] = {"app": self.name}
            pod = workload["spec"]["template"]["spec"]
        pod |= {"terminationGracePeriodSeconds": 0, "volumes": [*pod.get("volumes", ()), AUTHORITY]}
        (container,) = pod["containers"]
        container |= self._program(image, url)
        if WAYS[self.way].kind == "variables":
            container["envFrom"] = [{"secretRef": {"name": self.token}}]
        container["volumeMounts"] = [
            *container.get("volumeMounts", ()),
            {"name": "authority", "mountPath": "/etc/asset"},
        ]
        return workload

    def _program(self, image: Image, url: str) -> Json:
        way = WAYS[self.way]
        arguments = (self.name, url, str(self.seconds), way.kind, way.place)
        command = ["python", "-c", PROGRAM.read_text(), *arguments]
        return {
            "image": image.name,
            "imagePullPolicy": "Never",
            "command": command,
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }

    def _objects(self) -> list[Json]:
        """The objects of the examples; each Secret of theirs is the one of our AssetToken, which has its name."""
        texts = (re.sub(SECRET_NAMES, self.token, (EXAMPLES / file).read_text()) for file in WAYS[self.way].files)
        return [found for text in texts for found in yaml.safe_load_all(text)]


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

        try:
            wait_until(lambda: not missing(), timeout, "each Pod tries its token")
        except WaitTimeoutError:
            pods = self._shop.kubectl("get", "pods") + self._shop.kubectl("get", "events")
            raise WaitTimeoutError(f"never tried: {missing()}\n{pods}") from None

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
