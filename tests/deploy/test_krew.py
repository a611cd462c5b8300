"""The kubectl plugin is installed by krew itself, from the archive and the manifest that `make krew` makes."""

import os
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final

import pytest
import yaml

from asset_token_operator.kubectl.cli import VERBS
from deploy.krew.__main__ import LEFT_OUT, PLATFORMS, PYTHONS, ROOT, TEMPLATE, archive, manifest, version

URL: Final = "https://downloads.example.com/v1"
MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
HERE: Final = f"{sys.platform}_{MACHINES.get(platform.machine(), 'other')}"
THIS_PYTHON: Final = f"{sys.version_info[0]}.{sys.version_info[1]}"
SECONDS: Final = 120


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This platform's archive, for this Python."""
    if HERE not in PLATFORMS:
        pytest.skip(f"krew's archives are for {', '.join(PLATFORMS)}, and this is {HERE}")
    return archive(HERE, tmp_path_factory.mktemp("krew"), [THIS_PYTHON])


@pytest.fixture(scope="module")
def written(packed: Path) -> Path:
    """The manifest; the archives for other platforms are stood in for by this one's."""
    path = packed.with_name("asset-token.yaml")
    path.write_text(manifest(dict.fromkeys(PLATFORMS, packed), URL, "https://example.com"))
    return path


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nowhere", "KREW_NO_UPGRADE_CHECK": "1"} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_krew_takes_the_manifest(krew: dict[str, Path], written: Path) -> None:
    done = run(krew["validate-krew-manifest"], f"-manifest={written}", "-skip-install")
    assert done.returncode == 0, done.stderr
    assert "no overlapping spec.platform[].selector" in done.stderr


def test_krew_installs_the_archive_and_every_verb_runs_from_it(
    krew: dict[str, Path], packed: Path, written: Path, tmp_path: Path
) -> None:
    there = str(tmp_path / "krew")
    done = run(krew["krew"], "install", f"--manifest={written}", f"--archive={packed}", KREW_ROOT=there)
    assert done.returncode == 0, done.stderr
    assert "Installed plugin: asset-token" in done.stderr
    program = Path(there, "bin", "kubectl-asset_token")
    store = Path(there, "store", "asset-token", version())
    assert {path.name for path in store.iterdir()} >= {"LICENSE", "kubectl_complete-asset_token"}
    alone = (sys.executable, "-I", "-S")  # nothing but Python's own library and what stands beside
    assert run(*alone, program, "--version").stdout == f"kubectl-asset_token, version {version()[1:]}\n"
    for verb in VERBS:
        shown = run(*alone, program, verb, "--help")
        assert (shown.returncode, f"kubectl asset-token {verb}" in shown.stdout) == (0, True), shown.stderr
    token = tmp_path / "token"
    token.write_text("eyJhbGciOiJub25lIn0.eyJqdGkiOiJ0b2tfMSJ9.c2ln")
    assert "tok_1" in run(*alone, program, "inspect", "-f", token).stdout
    more = tmp_path / "more.yaml"
    made = run(
        *alone, program, "create", "x", "--environment=sandbox", "--credentials=c", "--dry-run=client", "-o", "yaml"
    )
    more.write_text(made.stdout)
    assert "fits" in run(*alone, program, "plan", "--offline", "-f", more).stdout
    completed = run(*alone, store / "kubectl_complete-asset_token", "sta")
    assert completed.stdout.startswith("status\t")


def test_another_python_is_told_which_are_meant(packed: Path, tmp_path: Path) -> None:
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path, filter="data")
    (tmp_path / "lib" / f"cp{THIS_PYTHON.replace('.', '')}").rename(tmp_path / "lib" / "cp399")
    done = run(sys.executable, tmp_path / "kubectl-asset_token")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("kubectl asset-token needs one of Python 3.99 as python3; this is 3.")


def test_the_same_sources_give_the_same_bytes_and_nothing_of_this_machine(packed: Path, tmp_path: Path) -> None:
    assert archive(HERE, tmp_path, [THIS_PYTHON]).read_bytes() == packed.read_bytes()
    with tarfile.open(packed) as tar:
        entries = tar.getmembers()
    assert {(entry.uid, entry.gid, entry.mtime, entry.uname) for entry in entries} == {(0, 0, 0, "")}
    assert [entry.name for entry in entries if LEFT_OUT.search(entry.name) or ".." in entry.name] == []


def test_the_template_is_filled_whole() -> None:
    text = TEMPLATE.read_text()
    found = yaml.safe_load(re.sub(r"\$\{\w+\}", "x", text.replace("$${", "")))
    assert found["metadata"]["name"] == "asset-token"
    assert {tuple(one["selector"]["matchLabels"].values()) for one in found["spec"]["platforms"]} == {
        tuple(name.split("_")) for name in PLATFORMS
    }
    assert "example" not in text
    assert PYTHONS[0] == re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]  # type: ignore[index]
