"""What `helm test` runs: AssetTokens are served, and an operator holds the Lease and keeps renewing it.

Its argument is the Lease's name; empty where there is no election.

It runs in the operator's image with the operator's rights, which are enough to see both.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CRD = "/apis/auth.getasset.com/v1alpha1"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}"
PATIENCE_SECONDS = 90

Get = Callable[[str], dict[str, Any]]


def main() -> None:
    """Look again and again until all is well, and say what was wrong when it never was."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    get = client(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    (name,) = sys.argv[1:]
    lease = LEASE.format((ACCOUNT / "namespace").read_text(), name) if name else ""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while problem := find_problem(get, lease):
        if time.monotonic() > deadline:
            sys.exit(problem)
        time.sleep(1)
    sys.stdout.write("AssetTokens are served, and an operator is at work.\n" if lease else "AssetTokens are served.\n")


def client(server: str) -> Get:
    """GET as this Pod's ServiceAccount."""
    headers = {"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"}
    context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")

    def get(path: str) -> dict[str, Any]:
        request = urllib.request.Request(server + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    return get


def find_problem(get: Get, lease: str, pause: Callable[[float], object] = time.sleep) -> str:
    """Say what isn't as it should be; nothing where all is well.

    Args:
        get: GET of the API server.
        lease: The Lease's path; empty where there is none.
        pause: Waits for so many seconds.
    """
    try:
        if "assettokens" not in (resource["name"] for resource in get(CRD)["resources"]):
            return "The API server doesn't serve AssetTokens."
        if lease:
            return find_problem_with_lease(get, lease, pause)
    except urllib.error.HTTPError as error:
        return f"GET {error.url} answered {error.code}."
    except OSError as error:
        return f"The API server can't be reached: {error}"
    return ""


def find_problem_with_lease(get: Get, lease: str, pause: Callable[[float], object]) -> str:
    """Say that nobody holds it, or that its holder doesn't renew it; nothing where somebody does."""
    before = get(lease)["spec"]
    if not before.get("holderIdentity"):
        return "No operator holds the Lease."
    pause(5)  # it is renewed every two seconds
    if get(lease)["spec"].get("renewTime") == before.get("renewTime"):
        return f"{before['holderIdentity']} holds the Lease and doesn't renew it."
    return ""


if __name__ == "__main__":
    main()
