"""Whether Asset can be reached from within a Pod: the program that `doctor --in-cluster` runs in the operator's image.

It is started with the operator's own arguments and variables, so that it looks with its URLs, CAs and proxies. What it
finds goes into the file that Kubernetes puts into the Pod's status, so nobody needs the right to read logs.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from threading import Thread
from typing import Final

import click

from asset_token_operator.clock import SystemClock
from asset_token_operator.config import PRODUCTION_URL, SANDBOX_URL
from asset_token_operator.kubectl.checkup import Check
from asset_token_operator.kubectl.reach import POD, asset

LOOK_SECONDS: Final = 20
"""For an environment in all: a DNS that doesn't answer takes its time, and can't be hurried."""

LONGEST: Final = 300
"""Kubernetes keeps 4 KiB of all that is found."""


@click.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("environments")
@click.option("--sandbox-url", envvar="ASSET_TOKEN_OPERATOR_SANDBOX_URL", default=SANDBOX_URL)
@click.option("--production-url", envvar="ASSET_TOKEN_OPERATOR_PRODUCTION_URL", default=PRODUCTION_URL)
@click.option("--ca-file", envvar="ASSET_TOKEN_OPERATOR_CA_FILE")
def main(file: Path, environments: str, sandbox_url: str, production_url: str, ca_file: str | None) -> None:
    """Look at these environments, and write what is found to FILE."""
    urls = {"sandbox": sandbox_url, "production": production_url}
    found = [
        check for environment in environments.split(",") for check in look(environment, urls[environment], ca_file)
    ]
    shown = [replace(check, found=check.found[:LONGEST], helps=check.helps[:LONGEST]) for check in found]
    file.write_text(json.dumps([asdict(check) for check in shown], ensure_ascii=False), encoding="utf-8")
    os._exit(0)  # whoever still hangs isn't waited for


def look(environment: str, url: str, ca_file: str | None) -> list[Check]:
    """What is found of an environment, in time."""
    found: list[Check] = []
    place = replace(POD, ca_file=ca_file)
    looking = Thread(target=lambda: found.extend(asset(environment, url, SystemClock().now, place)), daemon=True)
    looking.start()
    looking.join(LOOK_SECONDS)
    late = Check(place.about.format(environment), False, f"{url} gave no answer within {LOOK_SECONDS} s", place.dns)
    return list(found) or [late]


if __name__ == "__main__":
    main()
