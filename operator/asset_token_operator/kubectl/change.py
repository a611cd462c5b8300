"""`renew`, `suspend` and `resume`: what changes AssetTokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import click

from asset_token_operator.kubectl import completion
from asset_token_operator.kubectl.cluster import metadata, part, tokens_path
from asset_token_operator.kubectl.problems import Exit, Problem
from asset_token_operator.kubectl.state import QUIET, condition, read_state
from asset_token_operator.kubectl.tool import Tool, finish, options
from asset_token_operator.kubectl.words import moment_of, relative
from asset_token_operator.model import RENEW_ANNOTATION, Key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from asset_token_operator.kubectl.cluster import Json

LOOK_SECONDS: Final = 0.5
SEE: Final = "kubectl asset-token status says why."

everything_option = click.option("--all", "everything", is_flag=True, help="All of the namespace, or with -A of all.")


@click.command()
@click.argument("names", nargs=-1, shell_complete=completion.names)
@everything_option
@click.option("--wait", "waits", is_flag=True, help="Wait until they are renewed, or can't be.")
@click.option("--timeout", default=60, show_default=True, type=click.IntRange(1, 86_400), metavar="SECONDS")
@options(formats=())
def renew(names: tuple[str, ...], everything: bool, waits: bool, timeout: int, **given: Any) -> None:  # noqa: ANN401, FBT001
    """Have tokens renewed now, within their tenant's budget."""
    tool = Tool(**given)
    now = tool.now()
    value = str(int(now.timestamp()))
    keys = []
    for body in tool.chosen(names, everything=everything):
        key = key_of(body)
        tool.cluster.patch(tokens_path(*key), {"metadata": {"annotations": {RENEW_ANNOTATION: value}}})
        suspended = part(body, "spec").get("suspend") is True
        tool.write(f"{key}: " + ("will be renewed once it is resumed" if suspended else "renewal asked for"))
        if not suspended:
            keys.append(key)
    if waits:
        finish(_wait(tool, keys, value, now, timeout))


@click.command()
@click.argument("names", nargs=-1, shell_complete=completion.names)
@everything_option
@options(formats=())
def suspend(names: tuple[str, ...], everything: bool, **given: Any) -> None:  # noqa: ANN401, FBT001
    """Have nothing requested until resumed; Secrets stay, and are kept in order."""
    _set_suspend(Tool(**given), names, everything=everything, wanted=True)


@click.command()
@click.argument("names", nargs=-1, shell_complete=completion.names)
@everything_option
@options(formats=())
def resume(names: tuple[str, ...], everything: bool, **given: Any) -> None:  # noqa: ANN401, FBT001
    """Have tokens requested and renewed again."""
    _set_suspend(Tool(**given), names, everything=everything, wanted=False)


def key_of(body: Json) -> Key:
    """Where an AssetToken stands."""
    return Key(str(metadata(body).get("namespace")), str(metadata(body).get("name")))


def _set_suspend(tool: Tool, names: Sequence[str], *, everything: bool, wanted: bool) -> None:
    for body in tool.chosen(names, everything=everything):
        key, word = key_of(body), "suspended" if wanted else "resumed"
        if (part(body, "spec").get("suspend") is True) is wanted:
            tool.write(f"{key}: was {word} already" if wanted else f"{key}: wasn't suspended")
            continue
        tool.cluster.patch(tokens_path(*key), {"spec": {"suspend": wanted}})
        tool.write(f"{key}: {word}")


def _wait(tool: Tool, keys: Sequence[Key], value: str, since: datetime, timeout: int) -> Exit:
    """Wait until each is renewed or has failed since; how it went.

    The operator tells once a minute that something goes on to fail, so what failed before may fail unseen: then the
    reason that stands there is told at the end.
    """
    code, waiting = Exit.FINE, dict.fromkeys(keys, "")
    deadline = tool.clock.elapsed().total_seconds() + timeout
    while waiting:
        for key in list(waiting):
            body = tool.cluster.get(tokens_path(*key))
            ended, waiting[key] = _outcome(body, value, since, tool.now())
            if ended is None:
                continue
            tool.write(f"{key}: {ended}")
            code = Exit.TROUBLE if waiting.pop(key) else code
        if waiting and tool.clock.elapsed().total_seconds() >= deadline:
            return _give_up(tool, waiting, timeout)
        if waiting:
            time.sleep(LOOK_SECONDS)
    return code


def _outcome(body: Json, value: str, since: datetime, now: datetime) -> tuple[str | None, str]:
    """How it ended, None where it hasn't; and why it fails, empty where it doesn't."""
    status = part(body, "status")
    if status.get("lastHandledRenewRequest") == value:
        return f"renewed, expires {relative(moment_of(status.get('expirationTime')), now)}", ""
    issuing = condition(status, "Issuing")
    if str(issuing.get("reason", "")) in QUIET:
        return None, ""
    why = f"{issuing.get('reason')}: {issuing.get('message', '')}"
    failed = read_state(body, now).last_failure
    has_failed = failed is not None and failed.timestamp() >= int(since.timestamp())
    return f"failed: {why}" if has_failed else None, why


def _give_up(tool: Tool, waiting: Mapping[Key, str], timeout: int) -> Exit:
    """Tell why they weren't renewed in time.

    Raises:
        Problem: Nothing says why.
    """
    for key, why in waiting.items():
        if why:
            tool.write(f"{key}: not renewed within {timeout} s: {why}")
    unknown = [str(key) for key, why in waiting.items() if not why]
    if unknown:
        raise Problem(f"Not renewed within {timeout} s: {', '.join(unknown)}. {SEE}")
    return Exit.TROUBLE
