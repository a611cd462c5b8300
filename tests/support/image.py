"""The operator's image, built from the Dockerfile by buildah: with no container engine, and a registry only if wished.

Images are kept in a store of our own in the user's cache, so that nothing here is taken for a published one. Where the
base image isn't pulled, a stand-in is made of Debian's packages under its name, and only in that store.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.gobuild import BuildError, Report, cache, lock

ROOT: Final = Path(__file__).parents[2]
REPOSITORY: Final = "localhost/asset-token-operator"
VIRTUAL_ENVIRONMENT: Final = "opt/operator"
BUILD_SECONDS: Final = 900
TAIL_LINES: Final = 15
MEGABYTE: Final = 1_000_000
PIP_SETTINGS: Final = ("index-url", "extra-index-url", "proxy", "timeout", "retries")

# What python:3.13-slim is made of, as far as the Dockerfile uses it: the same release of Debian and of Python.
STAND_IN: Final = """\
FROM scratch
ADD base.tar /
LABEL stand-in="made of Debian's packages"
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
"""
MMDEBSTRAP: Final = (
    "mmdebstrap",
    "--quiet",
    "--variant=apt",
    "--include=ca-certificates,python3,python3-venv",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--customize-hook=ln -s /usr/bin/python3 "$1/usr/local/bin/python"',
    "trixie",
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store, and its archive.

    Attributes:
        name: With its tag.
        archive: An `oci-archive` of it.
        seconds: How long its build took.
    """

    name: str
    archive: Path
    seconds: float

    @property
    def tag(self) -> str:
        """What stands behind the colon."""
        return self.name.rpartition(":")[2]


class ImageStore:
    """Where images are built and kept; it needs root.

    Args:
        report: Is given a line before what takes long.
    """

    def __init__(self, report: Report = print) -> None:
        self._report = report
        self._folder = cache() / "images"
        self._folder.mkdir(parents=True, exist_ok=True)

    def operator(self, folder: Path, *, pull: bool = False) -> Image:
        """Build the operator's image from this checkout.

        Args:
            folder: Gets the archive.
            pull: Pull the base image, instead of making a stand-in for it.

        Raises:
            BuildError: A step failed.
        """
        with self._alone():
            self._run("rm", "--all")  # what a killed session left
            self._provide_base(pull)
            image = self._operator(folder)
            self._run("rmi", "--prune")  # the one that had the name before
            return image

    def of_program(self, program: Path, command: Sequence[str], name: str, folder: Path) -> Image:
        """Build an image of one program, which must be linked statically, and nothing else."""
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="asset-token-image-") as context:
            shutil.copy(program, context)
            recipe = Path(context, "Dockerfile")
            recipe.write_text(f"FROM scratch\nCOPY {program.name} /bin/\nENTRYPOINT {json.dumps(list(command))}\n")
            self._build(recipe, Path(context), name)
        return Image(name, self._archive(name, folder), time.monotonic() - began)

    @contextmanager
    def files(self, image: str) -> Iterator[Path]:
        """Show the files of an image, within this context."""
        with self._alone():
            container = self._run("from", "--pull-never", image)
            try:
                yield Path(self._run("mount", container))
            finally:
                self._run("rm", container)

    def configuration(self, image: str) -> str:
        """The image's OCI configuration, as JSON."""
        return self._run("inspect", "--type=image", "--format={{.Config}}", image)

    def base(self) -> str:
        """The name of the base image, from the Dockerfile."""
        stages: list[str] = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        return stages[-1]

    def is_stand_in(self) -> bool:
        """Tell whether the base image in the store was made here."""
        return "stand-in" in self.configuration(self.base())

    def _alone(self) -> AbstractContextManager[None]:
        """Keep another session from building, and so from taking a name, within this context."""
        return lock(self._folder / "lock", self._report)

    def _operator(self, folder: Path) -> Image:
        began = time.monotonic()
        version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        name = f"{REPOSITORY}:{version}"
        self._report(f"building {name}")
        arguments = (f"--build-arg=VERSION={version}", f"--build-arg=REVISION={_revision()}")
        with self._pip_settings() as volumes:
            self._build(ROOT / "Dockerfile", ROOT, name, *arguments, *volumes)
        return Image(name, self._archive(name, folder), time.monotonic() - began)

    def _provide_base(self, pull: bool) -> None:  # noqa: FBT001 - passed on
        known = self._run("images", "--format={{.Name}}:{{.Tag}}", "--filter=dangling=false").split()
        if pull:
            self._run("pull", self.base())
        elif self.base() not in known:
            self._report(f"making a stand-in for {self.base()} of Debian's packages: about a minute, once")
            with tempfile.TemporaryDirectory(prefix="asset-token-base-") as context:
                _call(*MMDEBSTRAP, f"{context}/base.tar")
                recipe = Path(context, "Dockerfile")
                recipe.write_text(STAND_IN)
                self._build(recipe, Path(context), self.base())

    @contextmanager
    def _pip_settings(self) -> Iterator[list[str]]:
        """Give pip this machine's settings and authorities, mounted, so that no layer has them."""
        authorities = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
        told = _call(sys.executable, "-m", "pip", "config", "list")
        settings = dict(re.findall(rf"^\S+?\.({'|'.join(PIP_SETTINGS)})='(.*)'$", told, re.MULTILINE))
        with tempfile.TemporaryDirectory(prefix="asset-token-pip-") as folder:
            if authorities:
                settings["cert"] = "/root/authorities.pem"
                Path(folder, "authorities.pem").write_bytes(Path(authorities).read_bytes())
            configuration = Path(folder, ".config", "pip", "pip.conf")
            configuration.parent.mkdir(parents=True)
            lines = [f"{name} = {value}" for name, value in settings.items()]
            configuration.write_text("\n".join(["[global]", *lines, ""]))
            # In place of root's home, as that is a folder which the base has: one made for a mount stays in the image.
            yield [f"--volume={folder}:/root:ro"]

    def _build(self, recipe: Path, context: Path, name: str, *arguments: str) -> None:
        self._run("build", "--pull-never", f"--file={recipe}", f"--tag={name}", *arguments, str(context))

    def _archive(self, name: str, folder: Path) -> Path:
        archive = folder / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
        archive.unlink(missing_ok=True)
        self._run("push", name, f"oci-archive:{archive}:{name}")
        return archive

    def _run(self, *arguments: str) -> str:
        store = (f"--root={self._folder / 'store'}", f"--runroot={self._folder / 'run'}")
        return _call("buildah", *store, *arguments).strip()


def megabytes(tree: Path) -> float:
    """What the files below a folder, or a file, weigh."""
    files = [tree, *tree.rglob("*")] if tree.is_dir() else [tree]
    inodes = {(found.st_dev, found.st_ino): found.st_size for found in map(Path.lstat, files)}
    return sum(inodes.values()) / MEGABYTE


def _revision() -> str:
    return _call("git", "-C", str(ROOT), "rev-parse", "HEAD").strip()


def _call(*command: str) -> str:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
        env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
    )
    if done.returncode:
        told = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
        raise BuildError(f"{' '.join(command[:6])} … failed:\n{told}")
    return done.stdout
