"""`make demo`: AssetTokens become Secrets and renew themselves, on a real API server, before your eyes.

Everything that is started here is ended and removed again at the end, also after Ctrl-C.
"""

import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import click

from tests.support.asset_api import AssetApi
from tests.support.cluster import Cluster, ExistingCluster, wait_until
from tests.support.controlplane import ControlPlane
from tests.support.gobuild import kubectl
from tests.support.operator_process import OperatorProcess
from tests.support.shop import CLIENT_ID, Shop

HERE: Final = Path(__file__).parent
CRDS: Final = HERE.parent / "crds"
RENEWED_SECONDS: Final = 60
CLIENT_SECRET: Final = "the-client-secret"  # noqa: S105 - the stand-in's


@click.command()
@click.option("--existing-cluster", is_flag=True, help="Use the cluster of $KUBECONFIG instead of starting one.")
def main(*, existing_cluster: bool) -> None:
    """Show the operator at work."""
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        say("Starting etcd, kube-apiserver and kube-controller-manager (built from source the first time: ~5 minutes)")
        cluster: Cluster = stack.enter_context(ExistingCluster(kubectl(say)) if existing_cluster else ControlPlane())
        answers = time.monotonic()
        shop = open_shop(stack, cluster)
        say(f"The first token is in its Secret {first_token(shop) - answers:.1f} s after the control plane answered.")
        show(shop, "get", "astok", "--output=wide")
        cure(shop)
        watch_renewal(shop)
        show(shop, "describe", "astok/ledger-writer")
        show(shop, "describe", "secret/ledger-writer-token")
        say("Deleting the AssetTokens: their Secrets go with them.")
        show(shop, "delete", "astok", "--all")
        wait_until(lambda: shop.secret("ledger-writer-token") is None, RENEWED_SECONDS, "the Secret is collected")
        show(shop, "get", "secrets")
    say("Everything that was started has been ended and removed.")


def open_shop(stack: ExitStack, cluster: Cluster) -> Shop:
    """Install the CRD, start the stand-in API and the operator, apply credentials and AssetTokens."""
    cluster.apply_crds(CRDS)
    asset = stack.enter_context(AssetApi())
    asset.register(CLIENT_ID, CLIENT_SECRET)
    namespace = cluster.create_namespace("demo")
    stack.callback(cluster.delete_namespace, namespace)
    shop = Shop(cluster, namespace, asset)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asset-token-demo-")))
    say(f"asset-token-operator run --namespace={namespace} --sandbox-url={asset.url}")
    arguments = (f"--namespace={namespace}", f"--sandbox-url={asset.url}")
    stack.enter_context(OperatorProcess(cluster.kubeconfig, folder, arguments))
    shop.put_credentials(CLIENT_SECRET)
    show(shop, "apply", f"--filename={HERE / 'assettokens.yaml'}")
    return shop


def first_token(shop: Shop) -> float:
    """Wait for a Secret with a token, and give the moment."""
    wait_until(lambda: shop.data("ledger-writer-token"), RENEWED_SECONDS, "the first token")
    return time.monotonic()


def cure(shop: Shop) -> None:
    """Show why `no-credentials` has no token, and that its credentials Secret is all that it needs."""
    shop.wait_for_condition("no-credentials", "Ready", "False", "CredentialsNotFound", RENEWED_SECONDS)
    say("no-credentials has no token. Its Ready condition says why, and what to do:")
    message = "{.status.conditions[?(@.type=='Ready')].message}{'\\n'}"
    show(shop, "get", "astok/no-credentials", f"--output=jsonpath={message}")
    say("Creating that Secret is the cure: the token is requested within seconds.")
    client = (f"--from-literal=client_id={CLIENT_ID}", f"--from-literal=client_secret={CLIENT_SECRET}")
    show(shop, "create", "secret", "generic", "not-there-yet", *client)
    show(shop, "wait", "--for=condition=Ready", "astok/no-credentials", f"--timeout={RENEWED_SECONDS}s")
    show(shop, "get", "astok")


def watch_renewal(shop: Shop) -> None:
    """Show what `kubectl get -w` shows until both tokens have been renewed."""
    command = shop.cluster.command(f"--namespace={shop.namespace}", "get", "astok", "--watch")
    say("kubectl get astok --watch   (until both are renewed, in about 20 s)")
    watching = subprocess.Popen(command)
    try:
        for name in ("ledger-writer", "invoices"):
            shop.wait_for_revision(name, 2, RENEWED_SECONDS)
    finally:
        watching.terminate()
        watching.wait()


def show(shop: Shop, *arguments: str) -> None:
    """Run a kubectl command as a user would, with its output on the terminal."""
    say(f"kubectl {' '.join(arguments)}")
    subprocess.run(shop.cluster.command(f"--namespace={shop.namespace}", *arguments), check=True)


def say(text: str) -> None:
    """Tell the user what comes."""
    click.secho(f"\n▶ {text}", bold=True)


if __name__ == "__main__":
    main()
