"""Calls Asset's API with the token in a mounted Secret: reads the file for each request, and once more after a 401.

ASSET_TOKEN_DIR is where the Secret is mounted.
"""

import os
import time
import urllib.error
import urllib.request
from pathlib import Path

# begin: read
TOKEN = Path(os.environ.get("ASSET_TOKEN_DIR", "/var/run/secrets/asset"))


def call(path: str) -> bytes:
    url = (TOKEN / "base_url").read_text() + path
    for waits in (0, 5, 30, 60):  # a renewed token may reach a mounted file over a minute late
        time.sleep(waits)
        authorization = (TOKEN / "authorization").read_text()
        request = urllib.request.Request(url, headers={"Authorization": authorization})
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
    raise PermissionError("Asset refuses the token: look at the AssetToken's conditions")


# end: read


if __name__ == "__main__":
    print(call("/v0/ping").decode())
