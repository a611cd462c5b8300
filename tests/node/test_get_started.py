"""The end of a newcomer's way on a cluster with nodes: the Pod of Get started calls Asset with its token."""

from typing import Final

import pytest
import yaml

from tests.node.installation import CA, put_authority
from tests.support.certificates import Certificate
from tests.support.controlplane import ControlPlane
from tests.support.helm import ROOT
from tests.support.image import Image
from tests.support.shop import Shop

EXAMPLES: Final = ROOT / "examples"
POD_SECONDS: Final = 120


@pytest.mark.usefixtures("release")
def test_the_pod_of_get_started_calls_asset_with_the_program_of_use_the_token(
    shop: Shop, image: Image, controlplane: ControlPlane, certificate: Certificate
) -> None:
    """The image is one that is there, and the stand-in's certificate has to be known."""
    put_authority(controlplane, shop.namespace, certificate)
    token, pod = (yaml.safe_load((EXAMPLES / name).read_text()) for name in ("assettoken.yaml", "pod.yaml"))
    for one in (token, pod):
        del one["metadata"]["namespace"]
    pod["spec"] |= {"restartPolicy": "OnFailure"}
    pod["spec"]["volumes"].append({"name": "authority", "configMap": {"name": CA}})
    (container,) = pod["spec"]["containers"]
    container |= {
        "image": image.name,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", (EXAMPLES / "read-token" / "call.py").read_text()],
        "env": [{"name": "SSL_CERT_FILE", "value": "/etc/asset/ca.crt"}],
    }
    container["volumeMounts"].append({"name": "authority", "mountPath": "/etc/asset", "readOnly": True})

    shop.apply(token, pod)
    name = f"pod/{pod['metadata']['name']}"
    shop.kubectl("wait", name, "--for=jsonpath={.status.phase}=Succeeded", f"--timeout={POD_SECONDS}s")

    assert shop.kubectl("logs", name) == '{"ping": "pong"}\n'
