"""Finds the sentences that the package says, by its source, and where each is said.

Each string that reads like a sentence is one, but for documentation and help, and what `NOT_SAID` names. Where it is
said is told by what it is given to: an error has a reason, a logger a level. Where that can't be told it is an error,
so who writes a new one is asked.
"""

from __future__ import annotations

import ast
import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asset_token_operator import errors
from asset_token_operator.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "operator" / "asset_token_operator"

ASSET_TOKEN: Final = "What an AssetToken says"
LOG: Final = "What the log says"
COMMAND_LINE: Final = "What the command line says"
PROBES: Final = "What the probes say"
CAUSES: Final = "Causes"
PLUGIN: Final = "What `kubectl asset-token` says when something is wrong"


class Said(NamedTuple):
    """Where a sentence is said, and by which reason or level."""

    place: str
    kind: str = ""


@dataclass(frozen=True, order=True)
class Message:
    """A sentence, and where it is said."""

    said: Said
    text: str


BY_MODULE: Final = {
    "__main__": Said(COMMAND_LINE),
    "causes": Said(CAUSES),
    "config": Said(COMMAND_LINE),
    "kubeconfig": Said(COMMAND_LINE),
    "kubeconfig_files": Said(COMMAND_LINE),
    "proxies": Said(COMMAND_LINE),
    "rest_config": Said(COMMAND_LINE),
}
"""Where all sentences of a module are said."""

OTHERWISE: Final = {
    "admission": Said(ASSET_TOKEN, "DeniedByPolicy"),
    "refusals": Said(ASSET_TOKEN, "RequestRefused"),
    "api_answers": Said(ASSET_TOKEN, "ClusterUnavailable"),
    "api_server": Said(ASSET_TOKEN, "ClusterUnavailable"),
    "assembly": Said(PROBES),
    "decision": Said(ASSET_TOKEN, "SecretConflict"),
    "errors": Said(ASSET_TOKEN, "SecretConflict"),
    "kube": Said(ASSET_TOKEN, "CredentialsInvalid"),
    "leadership": Said(LOG, "info"),
    "logs": Said(LOG, "debug"),
    "model": Said(LOG, "error"),
    "narration": Said(LOG, "info"),
    "parsing": Said(LOG, "error"),
    "report": Said(ASSET_TOKEN, "DoesNotExist"),
    "scopes": Said(LOG, "warning"),
    "startup": Said(LOG, "info"),
    "template": Said(ASSET_TOKEN, "TemplateInvalid"),
    "times": Said(LOG, "error"),
}
"""Where those of a module are said whose place in it doesn't tell."""

BY_CALL: Final = {
    "ListenError": Said(COMMAND_LINE),
    "Response": Said(PROBES),
    "cause_of": Said(CAUSES),
    "critical": Said(LOG, "critical"),
    "debug": Said(LOG, "debug"),
    "error": Said(LOG, "error"),
    "info": Said(LOG, "info"),
    "log": Said(LOG, "info"),
    "warning": Said(LOG, "warning"),
}
"""Where what is given to a function is said."""

WITH_REASON: Final = frozenset({"Condition", "Event", "Finding", "Hindrance", "_not_issuing"})
"""To these a reason is given beside the sentence."""

LOGGING: Final = frozenset({"_tell", "critical", "debug", "error", "info", "log", "warning"})

NOT_SAID: Final = frozenset(
    {
        "Keeps a valid Asset API token in a Secret for every AssetToken.",
        "is longer than any credential",  # as a part of another, and so are the next two
        "is not UTF-8 text",
        "no content type",
        "kubectl config use-context",  # as a part of another, and so is the next one
        "tried again by itself",
        "not the URL of a server",  # an error's text, which is never told, and so is the next one
        "the session was replaced while a connection was waited for",
    }
)
HELP: Final = frozenset({"help", "metavar", "epilog", "description"})
NO_SENTENCES: Final = frozenset(
    {"Counter", "CounterMetricFamily", "GaugeMetricFamily", "Histogram", "Info", "_per_token", "compile", "fullmatch"}
)
SEEN_THROUGH: Final = frozenset({"_listed", "cause_of", "format_time", "in_words", "join", "name_of", "sorted", "str"})

FEWEST_WORDS: Final = 3
WORD: Final = re.compile(r"[(]?[A-Za-z][A-Za-z'-]*[),.:;?]*")


class Module:
    """A module of the package, with what its strings are used for."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.is_plugins = path.parent.name == "kubectl"
        dotted = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        self._values: dict[str, Any] = {} if self.name == "__main__" else vars(importlib.import_module(dotted))
        self._tree = ast.parse(path.read_text())
        self._parents = {child: node for node in ast.walk(self._tree) for child in ast.iter_child_nodes(node)}

    def messages(self) -> Iterator[Message]:
        """All that it says.

        Raises:
            ValueError: Of one it isn't known where it is said.
        """
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and self._is_text(node):
                text = self._filled(node)
                if text not in NOT_SAID and self._is_sentence(node, text) and not self._is_only_a_part(node):
                    for said in self._said(node):
                        yield Message(said, text)

    def shows_python(self) -> list[str]:
        """Where a string is filled with the name of a class or function."""
        found = (node for node in ast.walk(self._tree) if isinstance(node, ast.Attribute) and node.attr == "__name__")
        calls = (outer for node in found for outer in self._above(node) if isinstance(outer, ast.Call | ast.JoinedStr))
        return [ast.unparse(call) for call in calls]

    def _above(self, node: ast.AST) -> Iterator[ast.AST]:
        """What encloses it, the nearest first."""
        while node in self._parents:
            node = self._parents[node]
            yield node

    def _is_text(self, node: ast.Constant | ast.JoinedStr) -> bool:
        """Whether it is a whole string, and neither documentation nor help."""
        if isinstance(node, ast.Constant) and not isinstance(node.value, str):
            return False
        if isinstance(self._parents[node], ast.JoinedStr | ast.FormattedValue | ast.Expr):
            return False
        above = list(self._above(node))
        is_help = any(isinstance(outer, ast.keyword) and outer.arg in HELP for outer in above)
        return not is_help and not any(isinstance(outer, ast.Call) and called(outer) in NO_SENTENCES for outer in above)

    def _is_sentence(self, node: ast.AST, text: str) -> bool:
        """Whether it has words as people write them: a few, or where it is a line of the log or a cause, any."""
        words = [word for word in re.sub(r"<[^>]*>", "", text).split() if WORD.fullmatch(word)]
        outer = self._parents[node]
        logs = LOGGING if self.name == "leadership" else LOGGING - {"_tell"}
        is_line = isinstance(outer, ast.Call) and called(outer) in logs and node in outer.args[:2]
        return len(words) >= (1 if is_line else 2 if self.name in {"causes", "narration"} else FEWEST_WORDS)

    def _is_only_a_part(self, node: ast.AST) -> bool:
        """Whether it is a constant that is filled into others, and is seen there."""
        uses = self._uses_of_constant(node)
        return bool(uses) and all(isinstance(self._parents[use], ast.FormattedValue) for use in uses)

    def _uses_of_constant(self, node: ast.AST) -> list[ast.Name]:
        """Where a variable is used that has it; of a function's variable only what follows next."""
        assigned = next((outer for outer in self._above(node) if isinstance(outer, ast.AnnAssign | ast.Assign)), None)
        if assigned is None:
            return []
        target = assigned.target if isinstance(assigned, ast.AnnAssign) else assigned.targets[0]
        scope = next(
            outer
            for outer in self._above(assigned)
            if isinstance(outer, ast.FunctionDef | ast.Module | ast.AsyncFunctionDef)
        )
        uses = [
            name
            for name in ast.walk(scope)
            if isinstance(name, ast.Name)
            and isinstance(target, ast.Name)
            and name.id == target.id
            and name is not target
        ]
        if isinstance(scope, ast.Module):
            return uses
        later = (use for use in uses if use.lineno > assigned.lineno)
        return sorted(later, key=lambda use: use.lineno)[:1]

    def _users(self, node: ast.AST) -> Iterator[ast.AST]:
        """What uses it: what encloses it, or a variable that has it."""
        yield from self._above(node)
        for use in self._uses_of_constant(node):
            yield from self._above(use)

    def _filled(self, node: ast.Constant | ast.JoinedStr) -> str:
        """Its text, with `<name>` for what is filled in."""
        if isinstance(node, ast.JoinedStr):
            return "".join(self._part(part) for part in node.values).strip()
        text = re.sub(r"\{(\w*)\}", r"<\1>", str(node.value)).replace("<>", "<name>")
        text = re.sub(r"%\((\w+)\)[.\d]*[a-z]", r"<\1>", text)
        calls = (user for user in self._users(node) if isinstance(user, ast.Call) and called(user) in BY_CALL)
        call = next(calls, None)
        names = iter([] if call is None else [self._shown(argument) for argument in call.args[1:]])
        return re.sub(r"%s", lambda _: f"<{next(names, '…')}>", text).strip()

    def _part(self, part: ast.expr) -> str:
        if isinstance(part, ast.Constant):
            return str(part.value)
        value = part.value if isinstance(part, ast.FormattedValue) else part
        constant = self._values.get(value.id) if isinstance(value, ast.Name) and value.id.isupper() else None
        return str(constant) if isinstance(constant, str | int) else f"<{self._shown(value)}>"

    def _shown(self, node: ast.expr) -> str:
        """What is filled in, in a word."""
        name = "…"
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                pass
            case ast.Call(args=[first, *_]) if called(node) in SEEN_THROUGH:
                return self._shown(first)
            case ast.Call():
                name = called(node)
            case ast.Subscript(value=inner) | ast.BoolOp(values=[inner, *_]) | ast.IfExp(body=inner):
                return self._shown(inner)
            case ast.Constant(value=value):
                return str(value)
            case _:
                pass
        return name.strip("_").replace("_", " ").lower()

    def _said(self, node: ast.AST) -> list[Said]:
        """Where it is said."""
        if self.is_plugins:
            return [Said(PLUGIN)] if self._is_plugins_problem(node) else []
        if self.name in BY_MODULE:
            return [BY_MODULE[self.name]]
        found = [said for user in self._users(node) if (said := said_by(user)) is not None]
        if found:
            is_constant = isinstance(self._parents[node], ast.AnnAssign)
            return sorted(set(found)) if is_constant else found[:1]
        if self.name in OTHERWISE:
            return [OTHERWISE[self.name]]
        raise ValueError(f"{self.name}.py: it isn't known where this is said: {ast.unparse(node)}")

    def _is_plugins_problem(self, node: ast.AST) -> bool:
        names = {called(outer) for outer in self._above(node) if isinstance(outer, ast.Call)}
        return any(name.endswith("Problem") or name == "Check" for name in names)


def said_by(user: ast.AST) -> Said | None:
    """Where a call says what it is given, or a pair of an error and its sentence; None where that can't be told."""
    if isinstance(user, ast.Tuple):
        kinds = [reason_of(part.id) for part in user.elts if isinstance(part, ast.Name)]
        kinds += [reason_given(part) for part in user.elts if isinstance(part, ast.Attribute)]
        return next((Said(ASSET_TOKEN, kind) for kind in kinds if kind), None)
    if not isinstance(user, ast.Call):
        return None
    name = called(user)
    if name == "_tell" and any(isinstance(part, ast.Attribute) and part.attr == "WARNING" for part in user.args):
        return Said(LOG, "warning")
    kind = reason_of(name) or (reason_given(user) if name in WITH_REASON else "")
    return Said(ASSET_TOKEN, kind) if kind else BY_CALL.get(name)


def called(call: ast.Call) -> str:
    """The name of what is called."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""


def reason_of(name: str) -> str:
    """The reason of an error of that name; empty where it has none."""
    kind = getattr(errors, name, None)
    is_error = isinstance(kind, type) and issubclass(kind, OperatorError)
    return str(getattr(kind, "reason", "")) if is_error else ""


def reason_given(given: ast.expr) -> str:
    """The reason that is given to a call: a `Reason`, or a word."""
    for part in ast.walk(given):
        match part:
            case ast.Attribute(value=ast.Name(id="Reason"), attr=name):
                return "".join(word.capitalize() for word in name.split("_"))
            case _:
                pass
    arguments = given.args if isinstance(given, ast.Call) else []
    words = [part.value for part in arguments if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return next((word for word in words[1:] if word.isalpha()), "")
