"""What a process has used, as Linux tells it in /proc, and what the API server has counted."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
"""How /proc counts CPU: so many a second."""

PROC: Final = Path("/proc")
_USER_TICKS: Final = 11  # fields of /proc/PID/stat after the command's name, from 0
_SYSTEM_TICKS: Final = 12

WRITE: Final = re.compile(
    r'^apiserver_request_total\{.*resource="(?:secrets|assettokens|events)"'
    r'.*verb="(?:APPLY|PATCH|POST|PUT)".*\} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Memory:
    """A process' memory, in bytes: what it has now, and the most it ever had."""

    resident: int
    peak: int


def parse_cpu_seconds(stat: str) -> float:
    """The CPU that a process has used, of the text of /proc/PID/stat; a command's name may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])) / TICKS


def parse_memory(status: str) -> Memory:
    """Its memory, of the text of /proc/PID/status."""
    values = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return Memory(*(int(values[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")))


def parse_busy_seconds(stat: str) -> float:
    """The CPU that has been used by anybody, of the text of /proc/stat; another machine's share of ours, too."""
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = map(int, stat.split()[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / TICKS


def busy_seconds() -> float:
    """The CPU that has been used by anybody since the machine's start."""
    return parse_busy_seconds((PROC / "stat").read_text())


def cpu_seconds(pid: int) -> float:
    """The CPU that a process has used, to 10 ms."""
    return parse_cpu_seconds((PROC / str(pid) / "stat").read_text())


def memory(pid: int) -> Memory:
    """Its memory."""
    return parse_memory((PROC / str(pid) / "status").read_text())


def cpu_of(pids: Mapping[str, int | None]) -> dict[str, float]:
    """The CPU that each has used, by name; 0 for one that doesn't run."""
    return {name: 0.0 if pid is None else cpu_seconds(pid) for name, pid in pids.items()}


def count_writes(metrics: str) -> int:
    """How many Secrets, AssetTokens and events were asked to be created or changed, by the API server's metrics."""
    return int(sum(float(value) for value in WRITE.findall(metrics)))
