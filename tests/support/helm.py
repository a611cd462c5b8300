"""Helm, without anything of its user's: what it says of the chart, and what it makes of it."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.cluster import Json

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deploy" / "chart"
RELEASE: Final = "asset-token-operator"
IMAGE: Final[Json] = {"image": {"repository": RELEASE}}
"""What has to be said to install the chart: there is no published image."""

SECONDS: Final = 180  # with --wait, until Pods run


class HelmError(Exception):
    """Helm failed; the message has what it wrote to stderr."""


class Helm:
    """Runs helm.

    Args:
        program: Its path.
        folder: Where it may keep files.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        names = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")
        self._environment = os.environ | dict.fromkeys(names, str(folder))

    def run(self, *args: str, values: Json | None = None, kubeconfig: Path | None = None) -> tuple[str, str]:
        """Run a command, against no cluster where none is given; return what it wrote to stdout and stderr.

        Raises:
            HelmError: It failed.
        """
        given = () if values is None else ("--values=-",)
        done = subprocess.run(
            [str(self._program), *args, *given],
            input=None if values is None else json.dumps(values),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=self._environment | {"KUBECONFIG": str(kubeconfig or os.devnull)},
        )
        if done.returncode:
            raise HelmError(f"helm {' '.join(args)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout, done.stderr

    def template(self, values: Json | None = None, release: str = RELEASE, namespace: str = RELEASE) -> list[Json]:
        """Render the chart: the objects, its hooks among them; the image's name is given where the values don't."""
        documents = (yaml.safe_load(text) for text in self.render(values, release, namespace))
        return [document for document in documents if document]

    def render(self, values: Json | None = None, release: str = RELEASE, namespace: str = RELEASE) -> list[str]:
        """The same as text."""
        given = merged(IMAGE, values or {})
        rendered, _ = self.run("template", release, str(CHART), f"--namespace={namespace}", values=given)
        return rendered.split("\n---\n")


def merged(one: Json, other: Json) -> Json:
    """Both, key by key; where both have a value, the other's."""
    both = one | other
    for key in one.keys() & other.keys():
        if isinstance(one[key], dict) and isinstance(other[key], dict):
            both[key] = merged(one[key], other[key])
    return both


def find(objects: list[Json], kind: str, name: str = RELEASE) -> Json:
    """The one object of that kind and name."""
    (found,) = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    return found


def kinds(objects: list[Json]) -> set[str]:
    """Which kinds there are."""
    return {item["kind"] for item in objects}


def container(deployment: Json) -> Any:
    """The only container of a Deployment."""
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return found
