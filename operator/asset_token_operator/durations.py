"""How durations are written for people, in messages and in the plugin's columns.

It is a module of its own so that no sentence has Python's `0:30:00`, and all write a duration alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import timedelta

UNITS: Final = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def in_words(length: timedelta) -> str:
    """A duration in its two largest units, such as `4 s`, `30m` or `1h 30m`; its sign is the sentence's to tell."""
    seconds = abs(int(length.total_seconds()))
    counts: list[tuple[int, str]] = []
    for unit, size in UNITS:
        count, seconds = divmod(seconds, size)
        if count or counts:
            counts.append((count, unit))
    match counts[:2]:
        case [(count, "s")]:
            return f"{count} s"
        case largest:
            return " ".join(f"{count}{unit}" for count, unit in largest if count) or "0 s"
