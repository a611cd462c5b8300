"""Fixtures that give a test a shop: a namespace, a stand-in for Asset's API and an operator that serves both."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.conftest import DEPLOY
from tests.support.asset_api import AssetApi
from tests.support.cluster import Cluster
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, CLIENT_SECRET, Shop


@pytest.fixture
def asset() -> Iterator[AssetApi]:
    with AssetApi() as api:
        api.register(CLIENT_ID, CLIENT_SECRET)
        yield api


@pytest.fixture
def shop(controlplane: Cluster, crds: None, namespace: str, asset: AssetApi) -> Shop:
    """A namespace with credentials, and no operator yet."""
    shop = Shop(controlplane, namespace, asset)
    shop.put_credentials()
    return shop


@pytest.fixture
def operator_for(tmp_path: Path, asset: AssetApi) -> Iterator[Callable[..., OperatorProcess]]:
    """Makes operators, with the shipped role in the shop's namespace and nothing else; they are ended at the end.

    They have another kubeconfig where one is given, serve all namespaces if `everywhere`, and are started if `started`.
    """
    with ExitStack() as stack:

        def make(
            shop: Shop,
            *arguments: str,
            kubeconfig: Path | None = None,
            everywhere: bool = False,
            started: bool = True,
        ) -> OperatorProcess:
            folder = tmp_path / shop.namespace
            folder.mkdir()
            scope = () if everywhere else (f"--namespace={shop.namespace}",)
            urls = (f"--sandbox-url={asset.url}", "--production-url=http://127.0.0.1:9")
            rights = kubeconfig or with_shipped_role(shop.cluster, shop.namespace)
            process = OperatorProcess(rights, folder, (*scope, *urls, *arguments))
            stack.push(process)
            if started:
                process.start()
            return process

        yield make


@pytest.fixture
def operator(shop: Shop, operator_for: Callable[..., OperatorProcess]) -> OperatorProcess:
    """An operator that serves the shop's namespace and logs all that it can."""
    return operator_for(shop, "--log-level=debug")


def with_shipped_role(cluster: Cluster, namespace: str) -> Path:
    """A kubeconfig of a ServiceAccount that has the rules of the shipped roles in this namespace."""
    files = [DEPLOY / "base" / name for name in ("rbac.yaml", "leader-election.yaml")]
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    rules = [rule for document in documents for rule in document.get("rules", ())]
    name = "operator"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    cluster.api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
    cluster.api.create(f"{rbac}/roles", {"metadata": {"name": name}, "rules": rules})
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    cluster.api.create(
        f"{rbac}/rolebindings", {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    )
    return cluster.kubeconfig_for(namespace, name)
