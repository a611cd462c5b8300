"""What a user's Pod sees of a token in a volume, as docs/using-the-token.md advises."""

import pytest

from tests.node.figures import Figures
from tests.support.cluster import Json, wait_until
from tests.support.image import Image
from tests.support.shop import Shop

UPDATE_SECONDS = 30
POD_SECONDS = 60


def consumer(image: Image) -> Json:
    """A Pod that has the token in a volume; any image will do."""
    container = {
        "name": "app",
        "image": image.name,
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "token", "mountPath": "/token", "readOnly": True}],
    }
    volumes = [{"name": "token", "secret": {"secretName": "ledger-writer"}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": spec}


@pytest.mark.usefixtures("release")
def test_a_pod_started_before_its_token_gets_it_and_then_the_renewed_one(
    shop: Shop, image: Image, figures: Figures
) -> None:
    def mounted() -> str:
        return shop.kubectl("exec", "app", "--", "cat", "/token/access_token")

    shop.apply(consumer(image))
    shop.put("ledger-writer")
    shop.kubectl("wait", "pod/app", "--for=condition=Ready", f"--timeout={POD_SECONDS}s")
    first = mounted()
    assert first == shop.data("ledger-writer")["access_token"]

    shop.kubectl("annotate", "assettoken/ledger-writer", "auth.getasset.com/renew-requested-at=now")
    shop.wait_for_revision("ledger-writer", 2)
    with figures.seconds("from a renewal until a Pod's volume shows it (kubelet with syncFrequency 5s)"):
        wait_until(lambda: mounted() != first, UPDATE_SECONDS, "the volume shows another token")

    assert mounted() == shop.data("ledger-writer")["access_token"]
