"""The kubectl plugin as users have it: found by kubectl, in a terminal or in a pipe."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from tests.support import gobuild
from tests.support.cluster import ANSWER_SECONDS, Cluster, wait_until
from tests.support.terminal import Ended, run_in_terminal

ROLES: Final = Path(__file__).parents[2] / "deploy" / "base" / "user-roles.yaml"
COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Plugin:
    """`kubectl asset-token`, for somebody with a kubeconfig.

    Attributes:
        folder: For the executable that kubectl finds.
        arguments: What each command line has besides its own.
        variables: What its environment has besides the test's.
        prelude: What is run before it, in its own process.
    """

    folder: Path
    kubeconfig: Path
    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    prelude: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        for name, module in (("kubectl-asset_token", "cli"), ("kubectl_complete-asset_token", "completion")):
            script = self.folder / name
            imports = f"from asset_token_operator.kubectl.{module} import main"
            script.write_text(f"#!{sys.executable}\n{self.prelude}\n{imports}\n\nmain()\n")
            script.chmod(0o755)
        paths = os.pathsep.join(str(path) for path in sys.path if path)
        self._environment = os.environ | {
            "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": paths,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBERC": "off",
            **self.variables,
        }

    def screen(self, *arguments: str, columns: int = 120, interrupt_at: str | None = None) -> Ended:
        """What a user sees in a terminal, without the colours."""
        ended = self.coloured_screen(*arguments, columns=columns, interrupt_at=interrupt_at)
        return Ended(ended.code, COLOURS.sub("", ended.output))

    def coloured_screen(self, *arguments: str, columns: int, interrupt_at: str | None = None) -> Ended:
        """The same with the colours."""
        command = [str(gobuild.kubectl()), "asset-token", *arguments, *self.arguments]
        return run_in_terminal(command, self._environment, columns, interrupt_at)

    def started(self, *arguments: str) -> subprocess.Popen[bytes]:
        """What a script has started."""
        command = [sys.executable, str(self.folder / "kubectl-asset_token"), *arguments, *self.arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, env=self._environment, stdin=quiet, stdout=quiet, stderr=quiet)

    def completions(self, *words: str) -> list[str]:
        """What kubectl offers a shell for the last word, without the descriptions."""
        command = [str(gobuild.kubectl()), "__complete", "asset-token", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60, check=True)
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    def piped(self, *arguments: str, input: str = "") -> subprocess.CompletedProcess[str]:  # noqa: A002 - as subprocess
        """What a script gets."""
        command = [sys.executable, str(self.folder / "kubectl-asset_token"), *arguments, *self.arguments]
        return subprocess.run(
            command, input=input, env=self._environment, capture_output=True, text=True, timeout=60, check=False
        )


def kubeconfig_with_role(cluster: Cluster, namespace: str, role: str) -> Path:
    """A kubeconfig of somebody who has one of the usual roles in a namespace, with what is shipped added to it."""
    api, rbac = cluster.api, "/apis/rbac.authorization.k8s.io/v1"
    for document in yaml.safe_load_all(ROLES.read_text()):
        if api.find(f"{rbac}/clusterroles/{document['metadata']['name']}") is None:
            api.create(f"{rbac}/clusterroles", document)

    def is_added() -> bool:
        rules = api.get(f"{rbac}/clusterroles/{role}").get("rules") or ()
        return any("assettokens" in rule.get("resources", ()) for rule in rules)

    wait_until(is_added, ANSWER_SECONDS, f"the role {role} has what is shipped")
    user = f"{role}er"
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": user}})
    subject = {"kind": "ServiceAccount", "name": user, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    body = {"metadata": {"name": user}, "roleRef": reference, "subjects": [subject]}
    api.create(f"{rbac}/namespaces/{namespace}/rolebindings", body)
    return cluster.kubeconfig_for(namespace, user)
