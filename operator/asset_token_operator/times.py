"""Durations and moments as Kubernetes writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

DURATION: Final = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `1h30m` (hours, minutes and seconds, as the CRD admits them).

    Raises:
        ValueError: It isn't one.
    """
    match = DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 1h30m or 90s")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any duration") from None


def format_time(moment: datetime) -> str:
    """Write a moment as Kubernetes does: RFC 3339, whole seconds, UTC."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def format_micro_time(moment: datetime) -> str:
    """The same in microseconds (`metav1.MicroTime`), as events and Leases have it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """Read a moment in RFC 3339; one without an offset is taken as UTC.

    Raises:
        ValueError: It isn't one.
    """
    moment = datetime.fromisoformat(text)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the moment lies beyond the calendar") from None


def whole_seconds(moment: datetime) -> datetime:
    """Cut the fraction, since Kubernetes' times have none and a comparison must not see one."""
    return moment.replace(microsecond=0)
