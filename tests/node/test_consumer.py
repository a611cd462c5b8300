"""What users' Pods see of tokens that are renewed, in each way that examples/ shows.

`make e2e-node` has a kubelet that is prompt and tokens of a minute. `make e2e-kubelet` leaves the kubelet its default
settings, for as long as that takes: the docs have its figures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.node.consumers import WAYS, Observer, Reader
from tests.node.figures import Figures
from tests.node.installation import Release, put_authority
from tests.support.asset_api import AssetApi
from tests.support.asset_rules import RateLimit
from tests.support.certificates import Certificate
from tests.support.cluster import Json, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.image import Image
from tests.support.node import PROMPT, Node
from tests.support.shop import Shop

RENEWALS = 5
START_SECONDS = 120
REFUSED_SECONDS = 10
VOLUMES = {"a volume", "a projected volume"}


@dataclass(frozen=True)
class Trial:
    """Tokens and how they are read.

    Attributes:
        spec: What all AssetTokens ask for.
        window: How long before its expiry a token is renewed, in seconds.
        interval: How long it takes to the next renewal at most.
        tokens: How many AssetTokens there are; a Pod for each way of having a volume reads each.
        pause: From one request of a Pod to its next.
        kubelet: Settings that the kubelet has.
    """

    spec: Json
    window: int
    interval: int
    tokens: int
    pause: float
    kubelet: Json

    def readers(self) -> list[Reader]:
        """Volumes of all tokens, and what costs more of the first."""
        names = [f"token-{number}" for number in range(1, self.tokens + 1)]
        volumes = [Reader(way, name, self.pause) for way in VOLUMES for name in names]
        return volumes + [Reader(way, names[0], self.pause) for way in WAYS.keys() - VOLUMES]


SHORT = Trial({"lifetime": "1m", "renewBeforePercentage": 70}, 42, 18, tokens=3, pause=0.2, kubelet=PROMPT)
DEFAULT = Trial({"lifetime": "5m"}, 100, 200, tokens=10, pause=1, kubelet={"syncFrequency": "1m0s"})
"""Half of the least lifetime that the docs name, so that the renewal window is just longer than the kubelet needs."""


@pytest.fixture
def trial(*, node: Node, default_kubelet: bool) -> Trial:
    """What is tried, once it is certain that the kubelet is as it says."""
    trial = DEFAULT if default_kubelet else SHORT
    settings = node.kubelet_settings()
    assert settings["configMapAndSecretChangeDetectionStrategy"] == "Watch"
    assert settings.items() >= trial.kubelet.items()
    return trial


@pytest.fixture
def readers(
    *, trial: Trial, controlplane: ControlPlane, shop: Shop, image: Image, asset: AssetApi, certificate: Certificate
) -> list[Reader]:
    """Pods that wait for their tokens; what they request is nobody's budget."""
    asset.rate_limit = RateLimit("off")
    put_authority(controlplane, shop.namespace, certificate)
    readers = trial.readers()
    shop.apply(*(reader.workload(image, asset.url) for reader in readers))
    return readers


@pytest.fixture
def observer(shop: Shop, controlplane: ControlPlane) -> Observer:
    return Observer(shop, controlplane)


def ends(shop: Shop) -> list[Json]:
    """How the program of each container that was started again had ended, with what it wrote last."""
    pods = shop.cluster.api.get(shop.path("pods"))["items"]
    statuses = [status for pod in pods for status in pod["status"].get("containerStatuses", ())]
    return [status["lastState"] for status in statuses if status["restartCount"] > 0]


def report(figures: Figures, observer: Observer, readers: list[Reader]) -> None:
    for way in WAYS:
        delays = [delay for reader in readers if reader.way == way for delay in observer.delays(reader, RENEWALS)]
        figures.add_percentiles(f"from a Secret's write until a Pod uses the token, {way}", delays, "s")


@pytest.fixture
def restarting(releases: Callable[..., Release]) -> None:
    """The chart, installed with the right to restart what AssetTokens name."""
    releases().install(rolloutRestart={"enabled": True})


def put_tokens(shop: Shop, trial: Trial, readers: list[Reader]) -> set[str]:
    """Apply the readers' AssetTokens, each for a business that is called as it is; their names."""
    specs: dict[str, Json] = {}
    for reader in readers:
        specs.setdefault(reader.token, {"businessId": reader.token}).update(trial.spec | reader.asked_for())
    for spec in specs.values():
        if "rolloutRestart" in spec:
            spec["rolloutRestart"]["minInterval"] = "1s"  # these tokens don't live for long
    shop.apply(*(shop.manifest(name, **spec) for name, spec in specs.items()))
    return set(specs)


@pytest.mark.usefixtures("restarting")
def test_no_token_that_a_pod_reads_is_refused_while_tokens_are_renewed(
    *, trial: Trial, readers: list[Reader], observer: Observer, shop: Shop, asset: AssetApi, figures: Figures
) -> None:
    names = put_tokens(shop, trial, readers)
    observer.wait_for_readers(readers, 1, START_SECONDS)
    observer.wait_for_readers(readers, RENEWALS + 1, RENEWALS * trial.interval + START_SECONDS)

    figures.add(f"requests of Pods over {RENEWALS} renewals of each of {len(names)} tokens", len(asset.tried), "")
    figures.add("of them refused for their token", len(observer.refused()), "")
    report(figures, observer, readers)
    assert observer.refused() == []
    assert ends(shop) == []
    for reader in readers:
        delays = observer.delays(reader, RENEWALS)
        assert min(delays) >= 0
        assert max(delays) < trial.window

    for seen in asset.requests:
        asset.revoke(seen.token or "")
    everyone = {reader.name for reader in readers}
    wait_until(
        lambda: {tried.user_agent for tried in observer.refused()} == everyone,
        REFUSED_SECONDS,
        "each Pod's use of a revoked token is seen",
    )
