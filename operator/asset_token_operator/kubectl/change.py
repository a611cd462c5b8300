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
    from collections.abc import Sequence
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
    """Wait until each is renewed or has failed since; how it went."""
    code, open_keys = Exit.FINE, list(keys)
    deadline = tool.clock.elapsed().total_seconds() + timeout
    while open_keys:
        for key in list(open_keys):
            body = tool.cluster.get(tokens_path(*key))
            status = part(body, "status")
            state = read_state(body, tool.now())
            issuing = condition(status, "Issuing")
            failed = state.last_failure is not None and state.last_failure.timestamp() >= int(since.timestamp())
            if status.get("lastHandledRenewRequest") == value:
                expires = moment_of(status.get("expirationTime"))
                tool.write(f"{key}: renewed, expires {relative(expires, tool.now())}")
            elif failed and str(issuing.get("reason", "")) not in QUIET:
                tool.write(f"{key}: failed: {issuing.get('reason')}: {issuing.get('message', '')}")
                code = Exit.TROUBLE
            else:
                continue
            open_keys.remove(key)
        if open_keys and tool.clock.elapsed().total_seconds() >= deadline:
            waiting = ", ".join(map(str, open_keys))
            raise Problem(f"Not renewed within {timeout} s: {waiting}. {SEE}")
        if open_keys:
            time.sleep(LOOK_SECONDS)
    return code
