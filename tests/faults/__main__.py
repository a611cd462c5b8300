"""`make chaos`: what can go wrong goes wrong, on a real API server, and a table tells whether every bound was held."""

import os
import sys
import time
from pathlib import Path
from typing import Final

import click

from tests.faults.findings import Finding, markdown, table
from tests.faults.scenarios import SCENARIOS, run
from tests.faults.stage import Stage
from tests.support.controlplane import ControlPlane
from tests.support.gobuild import BuildError, binaries

CRDS: Final = Path(__file__).parents[2] / "crds"


@click.command()
@click.option("--short", is_flag=True, help="The form that CI runs: shorter, and side by side.")
@click.option("--only", "names", multiple=True, type=click.Choice(list(SCENARIOS)), help="Only this one; repeatable.")
@click.option("--seed", default=1, show_default=True, help="Of all that is random.")
@click.option(
    "--table", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the findings there, as Markdown."
)
def main(*, short: bool, names: tuple[str, ...], seed: int, file: Path | None) -> None:
    """Run the fault scenarios; the exit code is 1 where a bound isn't held."""
    found: dict[str, list[Finding]] = {}
    began = time.monotonic()

    def say(text: str) -> None:
        click.echo(f"{time.monotonic() - began:5.0f} s  {text}")

    try:
        programs = binaries(say)
    except BuildError as error:
        click.echo(f"The fault suite is skipped, as there is no control plane: {error}")
        sys.exit("CI" in os.environ)
    with ControlPlane(programs) as controlplane:
        controlplane.apply_crds(CRDS)
        found.update(run(Stage(controlplane, short=short, seed=seed), names or tuple(SCENARIOS), say))
    findings = [finding for name in SCENARIOS for finding in found.get(name, ())]
    click.echo(f"\n{table(findings)}")
    if file:
        form = "short form, which judges no seconds" if short else "full form"
        file.write_text(f"Seed {seed}, in the {form}:\n\n{markdown(findings)}\n")
    judged = [finding for finding in findings if not (short and finding.timed)]
    if len(judged) < len(findings):
        click.echo("\nThe seconds are told, not judged: scenarios ran side by side.")
    sys.exit(any(finding.held is False for finding in judged))


if __name__ == "__main__":
    main()
