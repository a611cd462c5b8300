"""What Argo CD makes of an AssetToken, by the Lua that it runs itself."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Json
from tests.support.helm import ROOT

KEY = "resource.customizations.health.auth.getasset.com_AssetToken"
READY = {"type": "Ready", "status": "True", "message": "The token is in the Secret."}
EXPIRED = {"type": "Ready", "status": "False", "message": "The token has expired."}
FAILING = {"type": "Issuing", "status": "True", "message": "Asset answered 503."}
STALLED = {"type": "Stalled", "status": "True", "message": "Asset refuses the credentials."}


def as_lua(value: Any) -> str:
    """Write a value of JSON as Lua does."""
    match value:
        case dict():
            return "{" + ", ".join(f"[{as_lua(key)}] = {as_lua(item)}" for key, item in value.items()) + "}"
        case list():
            return "{" + ", ".join(map(as_lua, value)) + "}"
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case _:
            return repr(value)


def health(glua: Path, folder: Path, asset_token: Json) -> tuple[str, str]:
    """The health and message that the check gives."""
    check = yaml.safe_load((ROOT / "deploy" / "argocd" / "argocd-cm.yaml").read_text())["data"][KEY]
    script = folder / "check.lua"
    script.write_text(
        f"obj = {as_lua(asset_token)}\nlocal check = function()\n{check}\nend\n"
        "local health = check()\nprint(health.status)\nprint(health.message)\n"
    )
    done = subprocess.run([str(glua), str(script)], capture_output=True, text=True, timeout=20, check=True)
    status, message = done.stdout.splitlines()
    return status, message


def asset_token(*conditions: Json, observed: int = 2, **spec: Any) -> Json:
    status = {"observedGeneration": observed, "conditions": list(conditions)}
    return {"metadata": {"generation": 2}, "spec": spec, "status": status}


@pytest.mark.parametrize(
    ("given", "expected", "message"),
    [
        pytest.param(asset_token(READY), "Healthy", READY["message"], id="ready"),
        pytest.param(asset_token(READY, FAILING), "Healthy", READY["message"], id="ready while a renewal fails"),
        pytest.param(asset_token(READY, STALLED), "Degraded", STALLED["message"], id="ready and stalled"),
        pytest.param(asset_token(EXPIRED, STALLED), "Degraded", STALLED["message"], id="stalled"),
        pytest.param(asset_token(STALLED, suspend=True), "Degraded", STALLED["message"], id="stalled and suspended"),
        pytest.param(
            asset_token(READY | {"type": "Stalled", "status": "False"}, READY), "Healthy", READY["message"],
            id="stalled no more",
        ),
        pytest.param(asset_token(EXPIRED, FAILING), "Progressing", EXPIRED["message"], id="tried again"),
        pytest.param(asset_token(FAILING), "Progressing", "Waiting for the first token", id="no Ready"),
        pytest.param(
            asset_token(READY, observed=1), "Progressing", "The operator has not seen this spec yet", id="changed"
        ),
        pytest.param(
            asset_token(STALLED, observed=1), "Progressing", "The operator has not seen this spec yet", id="corrected"
        ),
        pytest.param(
            asset_token(observed=-1), "Progressing", "The operator has not seen this spec yet", id="just created"
        ),
        pytest.param(
            {"metadata": {"generation": 1}, "spec": {}}, "Progressing", "The operator has not seen this spec yet",
            id="no status",
        ),
        pytest.param(
            asset_token(READY, suspend=True), "Suspended", "spec.suspend is true: no token is requested", id="suspended"
        ),
        pytest.param(asset_token(READY, suspend=False), "Healthy", READY["message"], id="not suspended"),
    ],
)  # fmt: skip
def test_argo_cd_sees(glua: Path, tmp_path: Path, given: Json, expected: str, message: str) -> None:
    assert health(glua, tmp_path, given) == (expected, message)
