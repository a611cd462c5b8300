"""Makes the archives of the kubectl plugin for krew, one a platform, and the manifest that names them.

An archive holds what pip would install: this project's wheel, and the locked dependencies' published wheels.
Of those with machine code there is one for each Python in `PYTHONS`, so nothing is compiled here, and one machine makes
the archives for all platforms. The same sources give the same bytes.
"""

import argparse
import gzip
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TEMPLATE: Final = Path(__file__).with_name("asset-token.yaml")
LAUNCHER: Final = Path(__file__).with_name("launcher.py")
PROGRAMS: Final = ("kubectl-asset_token", "kubectl_complete-asset_token")
PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS: Final[Mapping[str, str]] = {
    "linux_amd64": "manylinux_2_17_x86_64",
    "linux_arm64": "manylinux_2_17_aarch64",
    "darwin_amd64": "macosx_11_0_x86_64",
    "darwin_arm64": "macosx_11_0_arm64",
}
"""Wheels of which platform are taken; those for an older system fit, too."""

PURE: Final = frozenset(
    {
        "annotated-types",
        "click",
        "markdown-it-py",
        "mdurl",
        "pydantic",
        "pygments",
        "pyjwt",
        "rich",
        "typing-extensions",
        "typing-inspection",
    }
)
COMPILED: Final = frozenset({"pydantic-core", "pyyaml"})
LEFT_OUT: Final = re.compile(r"(^|/)(bin|__pycache__|tests)/|/(RECORD|REQUESTED|INSTALLER|direct_url\.json)$|\.pyi$")
"""What nobody runs, and what tells of the machine that made it."""


def main() -> None:
    """Make all of it, in dist/."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m deploy.krew")
    parser.add_argument("--base-url", required=True, help="Where the archives will be, without a slash at the end.")
    parser.add_argument("--homepage", required=True, help="Where the documentation is.")
    given = parser.parse_args()
    folder = ROOT / "dist"
    folder.mkdir(exist_ok=True)
    archives = {platform: archive(platform, folder) for platform in PLATFORMS}
    (folder / TEMPLATE.name).write_text(manifest(archives, given.base_url, given.homepage))


def version() -> str:
    """The project's, as krew writes versions."""
    return f"v{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}"


def archive(platform: str, folder: Path, pythons: Sequence[str] = PYTHONS) -> Path:
    """Make a platform's archive, for these Pythons."""
    path = folder / f"kubectl-asset_token_{version()}_{platform}.tar.gz"
    with tempfile.TemporaryDirectory(prefix="asset-token-krew-") as scratch:
        library = Path(scratch, "lib")
        _install_project(library / "any", Path(scratch, "wheel"))
        _install(library / "any", PURE, platform, pythons[0])
        for python in pythons:
            _install(library / f"cp{python.replace('.', '')}", COMPILED, platform, python)
        for program in PROGRAMS:
            shutil.copy(LAUNCHER, Path(scratch, program))
        shutil.copy(ROOT / "LICENSE", scratch)
        _pack(Path(scratch), [*PROGRAMS, "LICENSE", *_files(library, Path(scratch))], path)
    return path


def manifest(archives: Mapping[str, Path], base_url: str, homepage: str, pythons: Sequence[str] = PYTHONS) -> str:
    """The manifest of these archives."""
    given = {"version": version(), "base_url": base_url.rstrip("/"), "homepage": homepage}
    given["pythons"] = f"{', '.join(pythons[:-1])} or {pythons[-1]}" if len(pythons) > 1 else pythons[0]
    for platform, path in archives.items():
        given[platform] = path.name
        given[f"{platform}_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    _, text = TEMPLATE.read_text().split("\n", 1)
    return Template(text).substitute(given)


def locked(names: frozenset[str]) -> str:
    """The lines of the lock for these packages, with their hashes."""
    entries = re.split(r"^(?=\S)", (ROOT / "requirements" / "run.txt").read_text(), flags=re.MULTILINE)
    found = [entry for entry in entries if entry.partition("==")[0] in names]
    if len(found) != len(names):
        raise LookupError(f"requirements/run.txt lacks one of {', '.join(sorted(names))}")
    return "".join(found)


def _install_project(target: Path, wheels: Path) -> None:
    _pip("wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={wheels}", str(ROOT))
    (wheel,) = wheels.iterdir()
    _pip("install", "--no-deps", "--no-compile", f"--target={target}", str(wheel))
    shutil.rmtree(wheels)


def _install(target: Path, names: frozenset[str], platform: str, python: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(locked(names))
        file.flush()
        _pip(
            "install",
            "--no-deps",
            "--no-compile",
            "--require-hashes",
            "--only-binary=:all:",
            f"--platform={PLATFORMS[platform]}",
            "--implementation=cp",
            f"--python-version={python}",
            f"--target={target}",
            "--upgrade",
            f"--requirement={file.name}",
        )


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, cwd=ROOT)  # noqa: S603 - pip, with what stands above


def _files(library: Path, top: Path) -> Iterator[str]:
    """What of the library belongs into the archive, as paths within it."""
    for path in sorted(library.rglob("*")):
        name = path.relative_to(top).as_posix()
        if path.is_file() and not LEFT_OUT.search(name):
            yield name


def _pack(folder: Path, names: Sequence[str], path: Path) -> None:
    """Pack files, so that nothing but their content and names shows in the result."""
    with (
        path.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in names:
            entry = tar.gettarinfo(folder / name, name)
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            entry.mode = 0o755 if name in PROGRAMS else 0o644
            with (folder / name).open("rb") as content:
                tar.addfile(entry, content)


if __name__ == "__main__":
    main()
