"""What the figures were measured on: without it they say little."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.support.gobuild import CONTROLPLANE

PACKAGES: Final = ("asset-token-operator", "kopf", "kubernetes", "aiohttp", "httpx")
ROOT: Final = Path(__file__).parents[1]


def facts() -> dict[str, str]:
    """The machine, the programs and their versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "Kubernetes": CONTROLPLANE.version,
        **{package: version(package) for package in PACKAGES},
        "commit": _commit(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """The commit that is checked out; with a plus where something was changed."""
    try:
        described = ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=8", "--exclude=*"]
        return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
