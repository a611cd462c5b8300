"""How moments, durations and a token's life are written for people."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from asset_token_operator.durations import in_words
from asset_token_operator.times import parse_time

if TYPE_CHECKING:
    from datetime import datetime

SOON: Final = timedelta(minutes=1)
CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that would steer the terminal."""


def duration(length: timedelta) -> str:
    """A duration as kubectl writes an age, such as `3h12m`."""
    return in_words(length).replace(" ", "")


def relative(moment: datetime | None, now: datetime) -> str:
    """A moment, seen from now."""
    if moment is None:
        return "-"
    return f"in {duration(moment - now)}" if moment > now else f"{duration(now - moment)} ago"


def moment_of(value: object) -> datetime | None:
    """A moment in RFC 3339; None for anything else."""
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def bar(share: float, width: int) -> str:
    """A share from 0 to 1 as a bar."""
    filled = round(min(max(share, 0.0), 1.0) * width)
    return "█" * filled + "░" * (width - filled)


def life_left(issued: datetime | None, expires: datetime | None, now: datetime) -> float | None:
    """The share of its life that a token has left, from 0 to 1; None where that isn't known."""
    if issued is None or expires is None or expires <= issued:
        return None
    return min(max((expires - now) / (expires - issued), 0.0), 1.0)


def listed(names: object) -> str:
    """A list's items, separated by blanks; a dash where there are none."""
    found = [str(name) for name in names] if isinstance(names, list | tuple) else []
    return " ".join(found) or "-"


def clean(value: Any) -> Any:  # noqa: ANN401 - JSON
    """JSON without characters that would steer the terminal of whoever looks at it."""
    match value:
        case str():
            return CONTROLS.sub("\N{REPLACEMENT CHARACTER}", value)
        case list():
            return [clean(item) for item in value]
        case dict():
            return {clean(name): clean(item) for name, item in value.items()}
        case _:
            return value
