"""Kubeconfig files: several are one, and a context of it says which cluster is meant and who we are there.

They are read as kubectl reads them, for the operator and its kubectl plugin alike. The Kubernetes client has a loader,
too, which takes another context where several files name one, and no empty file; and importing it takes longer than all
that the plugin does.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}
"""What names a file."""


class KubeconfigError(ValueError):
    """A kubeconfig can't be used. The message is a sentence that says what to do, and quotes nothing secret."""


@dataclass(frozen=True, slots=True)
class Context:
    """A cluster, who we are there, and in which namespace.

    Attributes:
        name: What it is called.
        cluster: What is said of the cluster.
        user: What is said of us.
        namespace: The namespace.
    """

    name: str
    cluster: Mapping[str, Any]
    user: Mapping[str, Any] = field(repr=False)
    namespace: str


@dataclass(frozen=True, slots=True)
class Config:
    """What one or several kubeconfigs say, by name; of what is named twice the first counts."""

    contexts: Mapping[str, Mapping[str, Any]]
    clusters: Mapping[str, Mapping[str, Any]]
    users: Mapping[str, Mapping[str, Any]] = field(repr=False)
    current: str | None

    def choose(self, name: str | None, how: str) -> Context:
        """A context with all that it names.

        Args:
            name: Which; None for the present one.
            how: How people choose one.

        Raises:
            KubeconfigError: There is none, or it is incomplete.
        """
        name = name or self.current
        if not name:
            raise KubeconfigError(f"The kubeconfig has no current context: choose one with {how}.")
        context = self.contexts.get(name)
        if context is None:
            known = listed(sorted(self.contexts)) or "none"
            raise KubeconfigError(f"The kubeconfig has no context {name!r}: choose one of these with {how}: {known}.")
        cluster = self.clusters.get(str(context.get("cluster")))
        if cluster is None or not isinstance(cluster.get("server"), str):
            raise KubeconfigError(f"The context {name!r} names no cluster with a server: correct it in the kubeconfig.")
        user = self.users.get(str(context["user"])) if context.get("user") else {}
        if user is None:
            raise KubeconfigError(f"The context {name!r} names a user that isn't there: correct it in the kubeconfig.")
        namespace = context.get("namespace")
        return Context(name, cluster, user, namespace if isinstance(namespace, str) and namespace else "default")


def paths_of(kubeconfig: str | None = None) -> list[Path]:
    """The file given, else those of `KUBECONFIG`, else the user's."""
    if kubeconfig is not None:
        return [Path(kubeconfig)]
    named = [Path(path) for path in os.environ.get("KUBECONFIG", "").split(os.pathsep) if path]
    return named or [Path(os.environ.get("HOME", "/")) / ".kube" / "config"]


def read(paths: Iterable[Path]) -> Config:
    """Those that are there, merged as kubectl merges them.

    Raises:
        KubeconfigError: One of them can't be read, or is none.
    """
    found: dict[str, dict[str, Mapping[str, Any]]] = {"context": {}, "cluster": {}, "user": {}}
    current: str | None = None
    for path in paths:
        if not path.is_file():
            continue
        file = _read(path)
        named = file.get("current-context")
        current = current or (named if isinstance(named, str) else None) or None
        for kind, entries in found.items():
            listed = file.get(f"{kind}s")
            for entry in listed if isinstance(listed, list) else ():
                settings = entry.get(kind) if isinstance(entry, dict) else None
                if isinstance(settings, dict) and str(entry.get("name")) not in entries:
                    _locate(settings, FILES.get(kind, ()), path.absolute().parent)
                    entries[str(entry.get("name"))] = settings
    return Config(found["context"], found["cluster"], found["user"], current)


def listed(names: Iterable[object]) -> str:
    """Names, one after the other."""
    return ", ".join(str(name) for name in names)


def _locate(settings: dict[str, Any], names: Iterable[str], folder: Path) -> None:
    """Paths are relative to the file that they stand in, and so is a login program that isn't looked for in `PATH`."""
    for name in names:
        if isinstance(settings.get(name), str) and settings[name]:
            settings[name] = str(folder / settings[name])
    plugin = settings.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command")):
        plugin["command"] = str(folder / str(plugin["command"]))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        config = _parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        from asset_token_operator.causes import cause_of  # noqa: PLC0415 - only what fails needs it

        why = cause_of(error, "it is no kubeconfig")
        raise KubeconfigError(f"The kubeconfig {path} can't be read ({why}): correct it.") from None
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise KubeconfigError(f"The kubeconfig {path} is none: correct it, or set KUBECONFIG to another.")
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
