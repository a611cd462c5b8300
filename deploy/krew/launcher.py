#!/usr/bin/env python3
"""Starts the program after which this file is named, of kubectl asset-token, with the packages beside it."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent  # krew makes a link to this file
COMPILED = HERE / "lib" / f"cp{sys.version_info[0]}{sys.version_info[1]}"

if not COMPILED.is_dir():
    known = ", ".join(sorted(folder.name.replace("cp3", "3.") for folder in (HERE / "lib").glob("cp3*")))
    sys.exit(f"kubectl asset-token needs one of Python {known} as python3; this is {sys.version.split()[0]}.")
sys.path[:0] = [str(HERE / "lib" / "any"), str(COMPILED)]

if Path(__file__).name.startswith("kubectl_complete"):
    from asset_token_operator.kubectl.completion import main
else:
    from asset_token_operator.kubectl.cli import main
main()
