"""`make docs`: builds the documentation site into build/website/site; a warning or a broken link fails it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from website.checks import broken_links
from website.pages import ROOT, BrokenLinkError
from website.staging import CONFIG, NotInNavigationError, stage

FOLDER: Final = ROOT / "build" / "website"
GENERATOR: Final = Path(sys.executable).with_name("zensical")


def main() -> None:
    """Build it."""
    try:
        stage(FOLDER)
    except (BrokenLinkError, NotInNavigationError) as error:
        sys.exit(str(error))
    built = subprocess.run(
        [GENERATOR, "build", "--clean", "--strict", "--config-file", CONFIG.name], cwd=FOLDER, check=False
    )
    if built.returncode:
        sys.exit(built.returncode)
    if broken := broken_links(FOLDER / "site"):
        sys.exit("Links that lead nowhere:\n" + "\n".join(broken))
    sys.stdout.write(f"Open {FOLDER / 'site' / 'index.html'}\n")


if __name__ == "__main__":
    main()
