"""How the operator reaches the API server changes while it runs: its CA, and the bearer token."""

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.cluster.survival.signs import (
    END_SECONDS,
    PATIENCE_SECONDS,
    harm_secret,
    wait_until_all_is_served,
    wait_until_repaired,
)
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.operator_process import OBSERVED, OperatorProcess
from tests.support.shop import Shop

NEW_CA_SECONDS: Final = 40

pytestmark = pytest.mark.timeout(240)


@pytest.mark.parametrize(
    ("inline", "election"),
    [
        pytest.param(False, (), id="in-a-file"),
        pytest.param(False, ("--leader-elect",), id="in-a-file-elected"),
        pytest.param(True, (), id="in-the-kubeconfig"),
    ],
)
def test_an_api_server_with_a_new_ca_is_trusted_once_the_kubeconfig_says_so(
    shop: Shop,
    controlplane: ControlPlane,
    kubeconfig: Path,
    tmp_path: Path,
    operator_for: Callable[..., OperatorProcess],
    *,
    election: tuple[str, ...],
    inline: bool,
) -> None:
    authority = tmp_path / "ca.crt"
    if not inline:
        _replace(authority, controlplane.certificate.read_text())
        _edit(kubeconfig, "cluster", {"server": controlplane.server, "certificate-authority": str(authority)})
    operator = operator_for(shop, *OBSERVED, *election, kubeconfig=kubeconfig)
    shop.put("before")
    shop.wait_until_ready("before", PATIENCE_SECONDS)

    controlplane.renew_certificate()
    shop.create("after")
    wait_until(operator.complaints, PATIENCE_SECONDS, "it says that it doesn't trust the API server")
    assert len(shop.asset.requests) == 1
    if inline:
        renewed = json.loads(controlplane.kubectl("config", "view", "--raw", "--flatten", "--output=json"))
        _edit(kubeconfig, "cluster", renewed["clusters"][0]["cluster"])
    else:
        _replace(authority, controlplane.certificate.read_text())

    shop.wait_until_ready("after", NEW_CA_SECONDS)
    wait_until_all_is_served(operator, NEW_CA_SECONDS)
    harm_secret(shop, "before")
    wait_until_repaired(shop, "before", NEW_CA_SECONDS)
    assert len(shop.asset.requests) == 1 + 1
    assert operator.terminate(within=END_SECONDS) == 0


@pytest.mark.parametrize(
    ("in_a_file", "election"),
    [
        pytest.param(False, ("--leader-elect",), id="in-the-kubeconfig-elected"),
        pytest.param(True, (), id="in-a-file"),
    ],
)
def test_a_bearer_token_that_is_revoked_is_replaced_by_the_one_that_the_kubeconfig_has_now(
    shop: Shop,
    stoppable: ControlPlane,
    kubeconfig: Path,
    tmp_path: Path,
    operator_for: Callable[..., OperatorProcess],
    *,
    election: tuple[str, ...],
    in_a_file: bool,
) -> None:
    file = tmp_path / "token"

    def use(token: str) -> None:
        _replace(file, token)
        _edit(kubeconfig, "user", {"tokenFile": str(file)} if in_a_file else {"token": token})

    old = _bound_token(shop, "old")
    use(old)
    operator = operator_for(shop, *OBSERVED, *election, kubeconfig=kubeconfig)
    shop.put("before")
    shop.wait_until_ready("before", PATIENCE_SECONDS)

    shop.kubectl("delete", "secret/old")
    wait_until(lambda: _status_with(stoppable, old) == 401, 60, "the old token is refused")
    use(_bound_token(shop, "new"))
    stoppable.stop_apiserver()  # a watch goes on with a token that was good when it began
    stoppable.start_apiserver()

    shop.create("after")
    shop.wait_until_ready("after", 30)
    wait_until_all_is_served(operator, 30)
    harm_secret(shop, "before")
    wait_until_repaired(shop, "before", 30)
    assert len(shop.asset.requests) == 1 + 1


def _edit(kubeconfig: Path, what: str, value: Json) -> None:
    """Replace the cluster or the user of a kubeconfig."""
    config = json.loads(kubeconfig.read_text())
    config[f"{what}s"][0][what] = value
    _replace(kubeconfig, json.dumps(config))


def _replace(path: Path, text: str) -> None:
    """Replace a file at one blow, as the kubelet does."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(path)


def _bound_token(shop: Shop, name: str) -> str:
    """A token of the operator's ServiceAccount that ends with a Secret."""
    shop.put_secret(name, {})
    return shop.kubectl(
        "create", "token", "operator", "--bound-object-kind=Secret", f"--bound-object-name={name}"
    ).strip()


def _status_with(controlplane: ControlPlane, token: str) -> int:
    """How the API server answers who has that token."""
    headers = {"Authorization": f"Bearer {token}"}
    verify = ssl.create_default_context(cafile=controlplane.certificate)
    return httpx.get(f"{controlplane.server}/version", headers=headers, verify=verify, trust_env=False).status_code
