"""The command line of `kubectl asset-token`: which verbs there are. Each is imported when it is used."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import click

from asset_token_operator.kubectl.problems import Exit, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

PACKAGE: Final = "asset_token_operator.kubectl"
GARBAGE: Final = 200_000
"""New objects until garbage is looked for: what the API server lists is none, and a look at all of it takes long."""

UNEXPECTED: Final = "The answer makes no sense to this version ({}): upgrade kubectl-asset_token, or report it."

VERBS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "status": ("status", "Tell how AssetTokens fare: one on a screen, or all by trouble."),
        "inspect": ("inspection", "Hold a Secret's token against its AssetToken's spec, without showing it."),
        "history": ("history", "List the latest requests and how they ended."),
        "events": ("history", "List the events about an AssetToken."),
        "watch": ("live", "Follow how AssetTokens fare, until interrupted."),
        "plan": ("plan", "Show the coming renewals against each tenant's budget."),
        "doctor": ("doctor", "Look whether all is as it should be, and say what to do."),
        "create": ("creation", "Create an AssetToken, or write its manifest."),
        "renew": ("change", "Have tokens renewed now."),
        "suspend": ("change", "Have nothing requested until resumed."),
        "resume": ("change", "Have tokens requested and renewed again."),
    }
)
"""Each verb's module and what it does."""


class Verbs(click.Group):
    """A group that imports a verb when it is used, so that none waits for the others' imports."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All verbs, in the order of the help."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """A verb by its name."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"{PACKAGE}.{VERBS[cmd_name][0]}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The verbs in the help, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, text) for name, (_, text) in VERBS.items()])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="asset-token-operator", prog_name="kubectl-asset_token")
def cli() -> None:
    """Ask how AssetTokens fare, and have them renewed, with your own rights.

    Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 done, but what was looked at isn't as it should be, 4 a right is
    missing, 5 not found.
    """


def main() -> None:
    """The entry point: whatever goes wrong is a sentence, and never a traceback."""
    gc.set_threshold(GARBAGE)
    try:
        for argument in sys.argv:
            argument.encode()
        code = cli.main(prog_name="kubectl asset-token", standalone_mode=False)
    except Problem as problem:
        click.echo(f"error: {problem}", err=True)
        code = problem.code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stderr.close()
        code = Exit.FINE
    except UnicodeEncodeError:
        click.echo("error: An argument or a file is no text in UTF-8: give it in UTF-8.", err=True)
        code = Exit.USAGE
    except Exception as error:  # noqa: BLE001 - what nobody thought of is no reason for a page of code
        click.echo(f"error: {UNEXPECTED.format(type(error).__name__)}", err=True)
        code = Exit.UNEXPECTED
    sys.exit(code if isinstance(code, int) else Exit.FINE)


if __name__ == "__main__":
    main()
