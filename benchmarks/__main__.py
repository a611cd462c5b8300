"""`make bench`: what the operator costs in time, CPU, memory and calls, over the number of AssetTokens."""

import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from benchmarks import plots
from benchmarks.figures import Measurement
from benchmarks.machine import facts
from benchmarks.plans import OPT_IN, SCENARIOS, Pass, passes
from benchmarks.reference import WRITES
from benchmarks.results import Results, between_markers, markdown
from benchmarks.scenarios import Bench
from benchmarks.terminal import Terminal
from tests.support.gobuild import BuildError, binaries

DOCS: Final = Path(__file__).parents[1] / "docs"
SETTINGS: Final = ("latency", "reference_writes", "peer_command", "peer_setup", "peer_selector")
FILE: Final = click.Path(dir_okay=False, path_type=Path)


def _counts(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",")) if text else ()
    except ValueError:
        raise click.BadParameter("numbers, separated by commas") from None


@click.command()
@click.option("--only", "names", multiple=True, type=click.Choice(SCENARIOS), help="Only this scenario; repeatable.")
@click.option("--count", "counts", callback=_counts, metavar="N[,N…]", help="How many AssetTokens, in turn.")
@click.option("--quick", is_flag=True, help="Only up to 1,000 AssetTokens.")
@click.option("--rounds", default=1, show_default=True, help="Repeat so often, and tell medians.")
@click.option("--latency", default=0.05, show_default=True, help="Seconds until the token endpoint answers.")
@click.option("--reference-writes", default="create", show_default=True, type=click.Choice(list(WRITES)))
@click.option("--peer-command", default="", help="Measure another operator beside it in bring-up: what starts it.")
@click.option("--peer-setup", default="", help="What is run to its end before that.")
@click.option("--peer-selector", default="", help="Which labels the Secrets have that the other operator writes.")
@click.option("--json", "file", type=FILE, help="Write all figures there, after each pass.")
@click.option("--from", "earlier", multiple=True, type=FILE, help="Measure nothing; tell what was written there.")
@click.option("--docs", is_flag=True, help="Write figures and plots into docs/.")
def main(**options: Any) -> None:  # noqa: ANN401 - what click read
    """Measure the operator."""
    if options["peer_command"] and not options["peer_selector"]:
        raise click.UsageError("--peer-command needs --peer-selector")
    terminal = Terminal()
    results = _joined(options["earlier"]) if options["earlier"] else _measured(terminal, options)
    terminal.show(results.told())
    if options["docs"]:
        _write_docs(results)
    sys.exit(any(one.failure for one in results.measurements))


def _joined(files: tuple[Path, ...]) -> Results:
    """The measurements of several runs; the facts of the first."""
    runs = [Results.read(file) for file in files]
    return Results(runs[0].machine, runs[0].settings, [one for run in runs for one in run.measurements])


def _measured(terminal: Terminal, options: dict[str, Any]) -> Results:
    """Measure, and keep what is found as it is found; a Ctrl-C ends it early."""
    try:
        programs = binaries(terminal.say)
    except BuildError as error:
        raise click.ClickException(f"there is no control plane: {error}") from None
    settings = {name: options[name] for name in SETTINGS}
    bench = Bench(programs, progress=terminal.done, **settings)
    wanted = options["names"] or tuple(name for name in SCENARIOS if name not in OPT_IN)
    results = Results(facts(), settings | {"rounds": options["rounds"]})
    todo = {
        each.name: each for each in passes(bench, wanted, options["counts"], options["rounds"], quick=options["quick"])
    }
    with suppress(KeyboardInterrupt), terminal.passes(list(todo)) as names:
        for name in names:
            _run(todo[name], results, options["file"], terminal)
    return results


def _run(one: Pass, results: Results, file: Path | None, terminal: Terminal) -> None:
    """Run a pass; one that breaks off doesn't keep the others from being run."""
    try:
        for found in one.run():
            results.measurements.append(found)
            if file:
                results.write(file)
    except Exception as error:  # noqa: BLE001 - whatever it was, the others go on
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {str(error)[:200]} ({where.name}:{where.lineno})"
        results.measurements.append(Measurement(one.scenario, "operator", one.name, one.count, {}, None, said))
        terminal.say(f"{one.name} broke off: {said}")
    if file:
        results.write(file)


def _write_docs(results: Results) -> None:
    document = DOCS / "performance.md"
    drawn = plots.draw(results.told(), DOCS / "performance")
    images = "\n".join(f"![{path.stem}](performance/{path.name})" for path in drawn)
    document.write_text(between_markers(document.read_text(), f"{markdown(results)}\n\n{images}".rstrip()))


if __name__ == "__main__":
    main()
