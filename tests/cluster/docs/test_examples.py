"""examples/: each manifest is one that the API server takes, and each AssetToken becomes a token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.operator_process import OperatorProcess
from tests.support.shop import Shop

EXAMPLES: Final = Path(__file__).parents[3] / "examples"
MANIFESTS: Final = sorted(EXAMPLES.glob("*.yaml"))


def objects(path: Path) -> list[dict[str, Any]]:
    """A manifest's objects, without the namespace that they may name."""
    found = list(yaml.safe_load_all(path.read_text()))
    for one in found:
        assert one["metadata"].pop("namespace", "shop") == "shop"
    return found


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_the_api_server_takes_it_without_a_warning(shop: Shop, path: Path) -> None:
    manifest = yaml.safe_dump_all(objects(path))
    options = ("--server-side", "--dry-run=server", "--warnings-as-errors", "--validate=strict")
    shop.kubectl("apply", *options, "--filename=-", input=manifest)


def test_every_asset_token_becomes_a_token(shop: Shop, operator_for: Callable[..., OperatorProcess]) -> None:
    operator_for(shop)
    wanted = [one for path in MANIFESTS for one in objects(path) if one["kind"] == "AssetToken"]
    shop.apply(*wanted)

    for one in wanted:
        token = shop.wait_until_ready(one["metadata"]["name"])
        secret = shop.secret(one["spec"].get("secret", {}).get("name", one["metadata"]["name"]))
        assert secret is not None
        assert token["status"]["secretName"] == secret["metadata"]["name"]
        for condition in token["status"]["conditions"]:
            assert condition["reason"] not in ("ScopesMissing", "AudienceMismatch")
        annotations = one["spec"].get("secret", {}).get("annotations", {})
        assert annotations.items() <= secret["metadata"]["annotations"].items()
    assert len(wanted) > 4


def test_what_mounts_a_secret_mounts_one_that_an_asset_token_writes() -> None:
    every = [one for path in MANIFESTS for one in objects(path)]
    tokens = {one["spec"].get("secret", {}).get("name") for one in every if one["kind"] == "AssetToken"}
    text = "\n".join(path.read_text() for path in MANIFESTS)
    named = {line.split("secretName:")[1].strip() for line in text.splitlines() if "secretName:" in line}
    assert named
    assert named <= tokens
