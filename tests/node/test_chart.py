"""The chart on a real node: Pods of the built image issue tokens, and helm's every step leaves what it must."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.node.figures import Figures
from tests.node.installation import Release
from tests.support.asset_api import AssetApi
from tests.support.cluster import wait_until
from tests.support.controlplane import ControlPlane
from tests.support.helm import RELEASE, ROOT
from tests.support.shop import Shop

TAKE_OVER_SECONDS = 20
END_SECONDS = 60
RENEWAL_SECONDS = 60
EARLIER = ROOT / "tests" / "deploy" / "earlier"
TOKENS = ("ledger-writer", "invoices", "reports")


@pytest.fixture
def tokens(release: Release, shop: Shop) -> dict[str, tuple[str, str]]:
    """The UIDs of some AssetTokens that are ready, and of their Secrets."""
    for name in TOKENS:
        shop.put(name)
    for name in TOKENS:
        shop.wait_until_ready(name)
    return uids(shop)


def uids(shop: Shop) -> dict[str, tuple[str, str]]:
    secrets: dict[str, Any] = {name: shop.secret(name) for name in TOKENS}
    return {name: (shop.token(name)["metadata"]["uid"], secrets[name]["metadata"]["uid"]) for name in TOKENS}


def kilobytes(status: str, name: str) -> int:
    """Read a line of `/proc/…/status`."""
    (found,) = re.findall(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found)


def test_a_pod_issues_a_token_over_tls(release: Release, shop: Shop, asset: AssetApi, figures: Figures) -> None:
    with figures.seconds("from kubectl apply of an AssetToken to Ready, by a Pod"):
        shop.put("ledger-writer")
        shop.wait_until_ready("ledger-writer")

    assert asset.accepts(shop.data("ledger-writer")["access_token"], scope="ledger:read")
    assert asset.count() == 1


def test_helm_test_succeeds(release: Release, figures: Figures) -> None:
    with figures.seconds("helm test"):
        assert "Succeeded" in release.test()


def test_pods_run_with_no_rights_on_the_node_and_do_not_restart(release: Release, figures: Figures) -> None:
    pods = release.pods.all()

    assert len(pods) == 2
    for pod in pods:
        look = "cat /proc/1/status; touch /anywhere 2>&1 || true"
        seen = release.pods.kubectl("exec", pod["metadata"]["name"], "--", "sh", "-c", look)
        assert "Uid:\t65532\t65532\t65532\t65532" in seen
        assert "CapBnd:\t0000000000000000" in seen
        assert "NoNewPrivs:\t1" in seen
        assert "Seccomp:\t2" in seen
        assert "Read-only file system" in seen
        figures.add("memory of an operator with nothing to do (VmRSS)", kilobytes(seen, "VmRSS") / 1000, "MB")
    assert release.pods.restarts() == 0


def test_a_pod_with_a_role_for_one_namespace_serves_that_one(
    release: Release, shop: Shop, controlplane: ControlPlane
) -> None:
    before = release.pods.names()

    release.upgrade(watchNamespaces=[shop.namespace])
    release.pods.wait_for_others(before)
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")

    assert controlplane.api.find(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{RELEASE}") is None


def test_an_upgrade_requests_nothing(
    release: Release, shop: Shop, asset: AssetApi, tokens: dict[str, tuple[str, str]], figures: Figures
) -> None:
    before = release.pods.names()

    with figures.seconds("helm upgrade --wait, until the old Pods are gone"):
        release.upgrade(log={"format": "json", "level": "debug"})
        release.pods.wait_for_others(before)
    shop.wait_until_served("another")
    figures.add(f"token requests by the upgrade, of {len(TOKENS)} tokens", asset.arrived - len(TOKENS) - 1, "")

    assert asset.arrived == len(TOKENS) + 1
    assert uids(shop) == tokens


@pytest.mark.parametrize("name", [RELEASE, "tokens"])
def test_an_upgrade_of_the_earlier_chart_with_its_values_requests_nothing(
    releases: Callable[..., Release], shop: Shop, asset: AssetApi, figures: Figures, name: str
) -> None:
    """The earlier chart had one Lease for all releases: another's Pods don't wait for those that lead by that one."""
    release = releases(name)
    now, release.pods.lease = release.pods.lease, RELEASE
    release.install(EARLIER)
    for each in TOKENS:
        shop.put(each)
    for each in TOKENS:
        shop.wait_until_ready(each)
    before = release.pods.names()

    with figures.seconds("helm upgrade --reuse-values of the earlier chart, until the old Pods are gone"):
        release.pods.lease = now
        release.reuse()
        release.pods.wait_for_others(before)
    shop.wait_until_served("another")

    assert asset.arrived == len(TOKENS) + 1


def test_two_releases_in_a_namespace_serve_each_its_own(
    releases: Callable[..., Release], shop: Shop, asset: AssetApi, figures: Figures
) -> None:
    """Tokens that live for a minute, so that each is renewed while the other's operator is at work, too."""
    teams = ("ledger", "invoices")
    for team in teams:
        releases(team).install(watchSelector=f"team={team}", crds={"install": team == "ledger"})
    for team in teams:
        manifest = shop.manifest(team, lifetime="1m")
        manifest["metadata"]["labels"] = {"team": team}
        shop.apply(manifest)

    with figures.seconds("two releases in a namespace, until each has renewed a token of a minute"):
        for team in teams:
            shop.wait_for_revision(team, 2, RENEWAL_SECONDS)

    for team in teams:
        assert shop.token(team)["status"]["revision"] == 2
    assert asset.arrived == 2 * len(teams)


def test_a_restart_of_all_pods_requests_nothing(
    release: Release, shop: Shop, asset: AssetApi, tokens: dict[str, tuple[str, str]], figures: Figures
) -> None:
    before = release.pods.names()

    with figures.seconds("all Pods deleted, until others are ready"):
        release.pods.kubectl("delete", "pods", "--all")
        release.pods.wait_for_others(before)
    shop.wait_until_served("another")
    figures.add(f"token requests by the restart, of {len(TOKENS)} tokens", asset.arrived - len(TOKENS) - 1, "")

    assert asset.arrived == len(TOKENS) + 1


def test_the_other_pod_takes_over_from_one_that_is_deleted(release: Release, shop: Shop, figures: Figures) -> None:
    leader = release.pods.leader()

    with figures.seconds("from the leading Pod's deletion until the other leads"):
        release.pods.kubectl("delete", "pod", leader, "--wait=false")
        wait_until(lambda: release.pods.leader() not in {"", leader}, TAKE_OVER_SECONDS, "the other Pod leads")

    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")


def test_uninstalling_leaves_asset_tokens_and_secrets(
    release: Release, shop: Shop, asset: AssetApi, tokens: dict[str, tuple[str, str]], figures: Figures
) -> None:
    with figures.seconds("helm uninstall, until the Pods are gone"):
        release.helm("uninstall", RELEASE, "--wait")
        wait_until(lambda: not release.pods.names(), END_SECONDS, "the Pods are gone")

    assert uids(shop) == tokens
    assert all(asset.accepts(shop.data(name)["access_token"]) for name in TOKENS)


def test_a_log_line_of_a_pod_says_the_outcome_and_no_token(release: Release, shop: Shop) -> None:
    shop.put("ledger-writer")
    shop.wait_until_ready("ledger-writer")

    logs = release.pods.kubectl("logs", release.pods.leader())

    objects = [json.loads(line).get("object") for line in logs.splitlines()]
    assert {"kind": "AssetToken", "namespace": shop.namespace, "name": "ledger-writer"} in objects
    assert shop.data("ledger-writer")["access_token"] not in logs
