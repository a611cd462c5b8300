"""A Secret as the kubelet shows it in a Pod: files that are links into a folder, which is replaced as a whole."""

import base64
import json
from pathlib import Path
from typing import Final

DATA: Final = "..data"


class Volume:
    """A folder such as a Secret volume's mount point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._versions = 0
        folder.mkdir()

    def show(self, data: dict[str, str]) -> None:
        """Show these values, in one step, as the kubelet does."""
        self._versions += 1
        version = self.folder / f"..version_{self._versions}"
        version.mkdir()
        for key, value in data.items():
            (version / key).write_text(value)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / DATA)
        for key in data:
            file = self.folder / key
            if not file.is_symlink():
                file.symlink_to(f"{DATA}/{key}")

    def show_secret(self, secret: str) -> None:
        """Show what a Secret holds, given as kubectl's JSON."""
        data = json.loads(secret)["data"]
        self.show({key: base64.b64decode(value).decode() for key, value in data.items()})
