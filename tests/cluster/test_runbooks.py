"""The commands of the runbooks work, on a cluster with AssetTokens that have and haven't a token."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

RUNBOOKS: Final = Path(__file__).parents[2] / "docs" / "runbooks.md"
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```$", RUNBOOKS.read_text(), re.MULTILINE | re.DOTALL)
COMMANDS: Final = [line for block in BLOCKS for line in block.replace("\\\n", "").splitlines()]
NEEDS_PODS: Final = re.compile(r"kubectl (logs|exec)|deployment|--raw|kubectl get pods|lease asset|curl|asset-token ")
"""What can be tried only where the operator runs as Pods, or with the internet."""


def test_the_blocks_are_shell() -> None:
    for block in BLOCKS:
        subprocess.run(["bash", "-n", "-c", block], check=True)


@pytest.fixture
def seen(shop: Shop, operator: OperatorProcess) -> Shop:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")
    shop.put("payouts", credentialsSecretRef={"name": "not-there"})
    shop.wait_for_condition("payouts", "Ready", "False", "CredentialsNotFound")
    return shop


def test_every_command_that_needs_no_pods_works(seen: Shop, tmp_path: Path) -> None:
    (tmp_path / "client_id").write_text("id")
    (tmp_path / "client_secret").write_text("canary-client-secret")
    binary, kubeconfig, *_ = seen.cluster.command()
    environment = {
        "PATH": f"{Path(binary).parent}:{os.environ['PATH']}",
        "KUBECONFIG": kubeconfig.removeprefix("--kubeconfig="),
        "HOME": str(tmp_path),
        "NS": seen.namespace,
        "NAME": "ledger-writer",
        "OPERATOR_NS": seen.namespace,
    }
    tried = [line for line in COMMANDS if line.startswith("kubectl") and not NEEDS_PODS.search(line)]
    assert len(tried) > 10
    for line in tried:
        command = line.split(" | grep")[0] if "can-i" not in line else f"{line} || test $? = 1"  # it says no by that
        run = ["bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(run, check=False, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, "error" in done.stderr.lower()) == (0, False), f"{line}: {done.stderr}"
