"""Reads kubeconfig files, and makes one of several, as kubectl does."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asset_token_operator.kubectl.problems import Problem, cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Config:
    """What one or several kubeconfigs say, by name; of what is named twice the first counts."""

    contexts: Mapping[str, Mapping[str, Any]]
    clusters: Mapping[str, Mapping[str, Any]]
    users: Mapping[str, Mapping[str, Any]] = field(repr=False)
    current: str | None


def merge(files: Iterable[Mapping[str, Any]]) -> Config:
    """Read them as kubectl merges them."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {"context": {}, "cluster": {}, "user": {}}
    current: str | None = None
    for file in files:
        named = file.get("current-context")
        current = current or (named if isinstance(named, str) else None) or None
        for kind, entries in found.items():
            listed = file.get(f"{kind}s")
            for entry in listed if isinstance(listed, list) else ():
                if isinstance(entry, dict) and isinstance(entry.get(kind), dict):
                    entries.setdefault(str(entry.get("name")), entry[kind])
    return Config(found["context"], found["cluster"], found["user"], current)


def paths_of(kubeconfig: str | None) -> list[Path]:
    """The file given, else those of `KUBECONFIG`, else the user's."""
    if kubeconfig is not None:
        return [Path(kubeconfig)]
    named = [Path(path) for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return named or [Path(os.environ.get("HOME", "/")) / ".kube" / "config"]


def listed(names: Iterable[object]) -> str:
    """Names, one after the other."""
    return ", ".join(str(name) for name in names)


def read(path: Path) -> Mapping[str, Any]:
    """A file, in which paths are relative to where it is.

    Raises:
        Problem: It can't be read, or is none.
    """
    try:
        config = _parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Problem(
            f"The kubeconfig {path} can't be read ({cause(error, 'it is no kubeconfig')}): correct it."
        ) from None
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise Problem(f"The kubeconfig {path} is none: correct it, or set KUBECONFIG to another.")
    for kind, fields in (("cluster", ("certificate-authority",)), ("user", ("client-certificate", "client-key"))):
        listed = config.get(f"{kind}s")
        for entry in listed if isinstance(listed, list) else ():
            settings = entry.get(kind) if isinstance(entry, dict) else None
            if isinstance(settings, dict):
                for name in (*fields, "tokenFile"):
                    if isinstance(settings.get(name), str) and settings[name]:
                        settings[name] = str(path.parent / settings[name])
    return config


def _parse(text: str) -> Any:  # noqa: ANN401 - whatever is in there
    """What a file says.

    Raises:
        ValueError: It is neither JSON nor YAML.
    """
    with suppress(ValueError):
        return json.loads(text)
    import yaml  # noqa: PLC0415 - kubeconfigs may be JSON, which is faster

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except yaml.YAMLError:
        raise ValueError("no YAML") from None


def context_names(kubeconfig: str | None) -> list[str]:
    """The contexts to choose from.

    Raises:
        Problem: A kubeconfig can't be read.
    """
    return sorted(merge(read(path) for path in paths_of(kubeconfig) if path.is_file()).contexts)
