"""promtool and Prometheus, from the PATH or else from Debian's package, unpacked into the user's cache."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

PACKAGE: Final = "prometheus"


class NoPromtoolError(Exception):
    """It can't be had; the message says why."""


def promtool() -> Path:
    """Find it, or get it.

    Raises:
        NoPromtoolError: It is nowhere, and there is no apt that could get it.
    """
    return _program("promtool")


def prometheus() -> Path:
    """The same for the server.

    Raises:
        NoPromtoolError: It is nowhere, and there is no apt that could get it.
    """
    return _program("prometheus")


def _program(name: str) -> Path:
    on_path = shutil.which(name)
    if on_path:
        return Path(on_path)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = root / "asset-token-operator" / name
    if not kept.exists():
        _unpack(kept)
    return kept


def _unpack(kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prometheus-") as name:
        folder = Path(name)
        if not _downloaded(folder):
            _run("apt-get", "update", "--quiet", cwd=folder)
            _run("apt-get", "download", PACKAGE, cwd=folder)
        (package,) = folder.glob("*.deb")
        _run("dpkg-deb", "--extract", package.name, "unpacked", cwd=folder)
        found = shutil.copy(folder / "unpacked/usr/bin" / kept.name, f"{kept}.{os.getpid()}")
        Path(found).replace(kept)  # at once, as another run may look for it


def _downloaded(folder: Path) -> bool:
    try:
        _run("apt-get", "download", PACKAGE, cwd=folder)
    except NoPromtoolError:
        return False  # the lists of packages may be old
    return True


def _run(*command: str, cwd: Path) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, timeout=200)
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"Prometheus is not on the PATH, and {command[0]} can't get it ({type(error).__name__})"
        raise NoPromtoolError(reason) from error
