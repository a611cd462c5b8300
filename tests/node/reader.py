"""Runs in a Pod, and does what a user's program does: reads its token anew for each request, and uses it at once.

    python -c "$(cat reader.py)" NAME URL SECONDS KIND PLACE

Whatever goes wrong with the token ends it, so that the container's restart shows it. What the API answers is nothing to
it, as the API notes that itself; where it doesn't answer, which is the node's network, it is asked again. It needs
nothing but Python.
"""

import http.client
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

SOURCE_AND_PRINT = '. "$0" && printf %s "$ASSET_ACCESS_TOKEN"'


def sourced(path: str) -> str:
    """Read the token as a shell does that sources the file."""
    return subprocess.run(["sh", "-c", SOURCE_AND_PRINT, path], check=True, capture_output=True, text=True).stdout


def variables(names: str) -> str:
    """Read the token that all of these variables have."""
    (token,) = {os.environ[name] for name in names.split()}
    return token


KINDS = {
    "file": lambda path: Path(path).read_text(),
    "header": lambda path: Path(path).read_text().removeprefix("Bearer "),
    "sourced": sourced,
    "variables": variables,
}


def main(name: str, url: str, seconds: str, kind: str, place: str) -> None:
    """Read and use the token for ever, that many seconds apart."""
    address = urlsplit(url)
    trusted = ssl.create_default_context(cafile="/etc/asset/ca.crt")
    api = http.client.HTTPSConnection(address.hostname or "", address.port, context=trusted, timeout=5)
    while True:
        token = KINDS[kind](place)
        try:
            api.request("GET", "/v0/ping", headers={"Authorization": f"Bearer {token}", "User-Agent": name})
            api.getresponse().read()
        except (OSError, http.client.HTTPException):
            api.close()
        time.sleep(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
