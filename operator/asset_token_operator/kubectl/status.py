"""`status`: how AssetTokens fare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from asset_token_operator.kubectl import completion
from asset_token_operator.kubectl.advice import WHAT_HELPS
from asset_token_operator.kubectl.budget_report import budgets, read_metrics
from asset_token_operator.kubectl.cluster import core_path, part
from asset_token_operator.kubectl.pods import users_of
from asset_token_operator.kubectl.problems import Exit, ForbiddenProblem, Problem
from asset_token_operator.kubectl.state import FINE, TokenState, condition, read_state
from asset_token_operator.kubectl.tool import Tool, finish, full_name, options
from asset_token_operator.kubectl.words import listed
from asset_token_operator.model import OPERATOR

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@click.command()
@click.argument("name", required=False, shell_complete=completion.names)
@click.option("--metrics-url", metavar="URL", help="The operator's metrics. Default: through the API server.")
@click.option("--operator-namespace", default=OPERATOR, show_default=True, metavar="NS", help="Where the operator is.")
@options()
def status(name: str | None, metrics_url: str | None, operator_namespace: str, **given: Any) -> None:  # noqa: ANN401
    """Tell how AssetTokens fare: one on a screen, or all in a table, the worst first.

    Ends with 3 where one isn't as it should be.
    """
    tool = Tool(**given)
    if name is None:
        states = tool.states()
        _write_all(tool, states)
    else:
        state = read_state(tool.body(name), tool.now())
        states = [state]
        _write_one(tool, state, metrics_url, operator_namespace)
    finish(Exit.FINE if all(found.state in FINE for found in states) else Exit.TROUBLE)


def _write_all(tool: Tool, states: Sequence[TokenState]) -> None:
    if tool.for_programs:
        tool.write_data({"items": [state.to_json() for state in states]})
    elif tool.output == "name":
        for state in states:
            tool.write(full_name(state.key.name))
    elif not states:
        where = "in any namespace" if tool.scope is None else f"in the namespace {tool.scope!r}"
        click.echo(f"No AssetTokens {where}.", err=True)
    else:
        from asset_token_operator.kubectl.screens import table  # noqa: PLC0415 - rich, which scripts needn't wait for

        wide = tool.output == "wide"
        tool.show(table(states, tool.now(), tool.console.width, namespaces=tool.everywhere, wide=wide))


def _write_one(tool: Tool, state: TokenState, metrics_url: str | None, operator_namespace: str) -> None:
    if tool.output == "name":
        tool.write(full_name(state.key.name))
        return
    pods, missing = _pods(tool, state)
    if tool.for_programs:
        users = None if pods is None else [{"pod": pod, "how": how} for pod, how in pods]
        tool.write_data(state.to_json() | {"pods": users})
        return
    from asset_token_operator.kubectl.screens import one  # noqa: PLC0415

    used = missing if pods is None else "\n".join(f"{pod} {how}" for pod, how in pods) or "no Pod"
    granted = part(state.body, "status").get("grantedScopes")
    facts = [
        ("Secret", state.secret),
        ("Used by", used),
        *_restarts(state),
        ("Credentials", f"{state.credentials} ({state.environment})"),
        ("Scopes", listed(granted)),
        ("Revision", str(state.revision)),
        ("Budget", _budget(tool, state, metrics_url, operator_namespace)),
    ]
    tool.show(one(state, facts, tool.now(), tool.console.width))


def _restarts(state: TokenState) -> Iterator[tuple[str, str]]:
    """Whether workloads that can't read the Secret again run with the present token; nothing where none are named."""
    found = condition(part(state.body, "status"), "RolloutsRestarted")
    if found:
        reason, helps = str(found.get("reason", "")), WHAT_HELPS.get(str(found.get("reason", "")), "")
        yield "Restarts", f"{reason}: {found.get('message', '')}"
        if helps:
            yield "", f"→ {helps.replace('`', '')}"


def _pods(tool: Tool, state: TokenState) -> tuple[list[tuple[str, str]] | None, str]:
    """Who uses the Secret; else which right is missing to tell."""
    try:
        return users_of(state.secret, tool.cluster.all(core_path("pods", state.key.namespace))), ""
    except ForbiddenProblem as problem:
        return None, f"unknown: you lack the right to {problem.right}"


def _budget(tool: Tool, state: TokenState, url: str | None, operator_namespace: str) -> str:
    """The budgets of the AssetToken's environment; else why they aren't known."""
    try:
        text = read_metrics(tool.cluster, url, operator_namespace)
    except ForbiddenProblem as problem:
        return f"unknown: you lack the right to {problem.right} in the namespace {operator_namespace}"
    except Problem as problem:
        return f"unknown: {problem}"
    found = [budget for budget in budgets(text) if budget.environment == state.environment]
    return "\n".join(f"{budget.tenant}: {budget.sentence()}" for budget in found) or "nothing was requested yet"
