"""The screens of `status`: a table of many AssetTokens, and all about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from asset_token_operator.kubectl.state import State, TokenState
from asset_token_operator.kubectl.words import bar, duration, life_left, relative
from asset_token_operator.times import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

BAD: Final = frozenset({State.STALLED, State.EXPIRED, State.FAILING})
QUIET: Final = frozenset({State.USABLE})
BAR_WIDTH: Final = 10
GAP: Final = 2
SHORT: Final = ("NAME", "STATE", "LIFE", "EXPIRES", "RENEWS", "STATUS")
WIDE: Final = ("ENVIRONMENT", "SECRET", "CREDENTIALS", "REVISION", "MESSAGE")
WRAPPED: Final = frozenset({"MESSAGE"})
LONGEST: Final = 30
"""Columns that what wraps has at least, if it is as long."""


def colour(state: State) -> str:
    """How a state looks."""
    if state in BAD:
        return "bold red"
    return "green" if state in QUIET else "yellow"


def table(states: Sequence[TokenState], now: datetime, width: int, *, namespaces: bool, wide: bool) -> Table:
    """Many AssetTokens, one a line.

    Nothing is ever cut, as whoever reads a name or a reason may need it. In a narrow terminal the bar of life is left
    out; where that isn't enough lines are longer than the terminal is wide, as kubectl's are.
    """
    rows = [_row(state, now) for state in states]
    titles = [*(("NAMESPACE",) if namespaces else ()), *SHORT, *(WIDE if wide else ())]
    whole = {title: max([len(title), *(len(row[title]) for row in rows)]) for title in titles}
    lengths = whole | {title: min(LONGEST, whole[title]) for title in WRAPPED & whole.keys()}
    if _needed(titles, lengths) > width:
        titles.remove("LIFE")
    goes_on = _needed(titles, lengths) > width
    shown = Table(box=None, pad_edge=False, header_style="", collapse_padding=True, padding=(0, GAP, 0, 0))
    for title in titles:
        wraps = title in WRAPPED and not goes_on
        shown.add_column(title, no_wrap=not wraps, overflow="fold", min_width=lengths[title])
    for row in rows:
        shown.add_row(*(row[title] for title in titles))
    shown.width = _needed(titles, whole) if goes_on else None
    return shown


def _needed(titles: Sequence[str], lengths: Mapping[str, int]) -> int:
    return sum(lengths[title] + GAP for title in titles) - GAP


def _row(state: TokenState, now: datetime) -> dict[str, str | Text]:
    return {
        "NAMESPACE": state.key.namespace,
        "NAME": state.key.name,
        "STATE": Text(state.state.value, style=colour(state.state)),
        "LIFE": life(state, now, BAR_WIDTH),
        "EXPIRES": relative(state.expires, now),
        "RENEWS": relative(state.renews, now),
        "STATUS": state.status() or "-",
        "ENVIRONMENT": state.environment,
        "SECRET": state.secret,
        "CREDENTIALS": state.credentials,
        "REVISION": str(state.revision),
        "MESSAGE": state.message or "-",
    }


def life(state: TokenState, now: datetime, width: int) -> Text:
    """What is left of a token's life, as a bar."""
    left = life_left(state.issued, state.expires, now)
    if left is None:
        return Text("-")
    return Text(bar(left, width), style="red" if left <= 0 else colour(state.state))


def one(state: TokenState, facts: Sequence[tuple[str, str]], now: datetime, width: int) -> Table:
    """All about one AssetToken.

    Args:
        state: How it fares.
        facts: What else is known, as name and value.
        now: The present moment.
        width: The terminal's columns.
    """
    shown = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    shown.add_row("AssetToken", Text(str(state.key), style="bold"))
    shown.add_row("Usable", Text(_usable(state), style=colour(state.state)))
    shown.add_row("Status", state.status() or "-")
    if state.expires is not None:
        shown.add_row("Expires", _moment(state.expires, now))
    left = life_left(state.issued, state.expires, now)
    if left is not None and state.issued is not None and state.expires is not None:
        width_of_bar = max(10, min(40, width - 50))
        told = f"  {left:.0%} of {duration(state.expires - state.issued)} left"
        shown.add_row("Life", life(state, now, width_of_bar) + Text(told))
    shown.add_row("Renews", _renews(state, now))
    if state.message or state.reason:
        shown.add_row("Trouble", Text(" ".join(filter(None, [_reason(state), state.message])), style="yellow"))
    if state.helps:
        shown.add_row("What helps", state.helps.replace("`", ""))
    if state.failed_attempts:
        when = "" if state.last_failure is None else f", the last {relative(state.last_failure, now)}"
        shown.add_row("Failed", f"{state.failed_attempts} in a row{when}")
    for name, value in facts:
        shown.add_row(name, value)
    return shown


def _usable(state: TokenState) -> str:
    word = "yes" if state.usable else "no"
    return word if state.state is State.USABLE else f"{word} ({state.state.value})"


def _reason(state: TokenState) -> str:
    return f"{state.reason}:" if state.reason else ""


def _moment(moment: datetime, now: datetime) -> str:
    return f"{format_time(moment)} ({relative(moment, now)})"


def _renews(state: TokenState, now: datetime) -> str:
    asked = "; a renewal was asked for" if state.pending_request else ""
    if state.renews is None:
        return ("not while it is suspended" if state.state is State.SUSPENDED else "-") + asked
    return _moment(state.renews, now) + asked
