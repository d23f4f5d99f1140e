"""The command line: modules here read options, call the library and print, nothing else."""

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from iavlib.core.errors import IavError, explain

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130
_STOPPED = {129: "stopped by SIGHUP", INTERRUPTED: "interrupted", 143: "stopped by SIGTERM"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("-n", "--dry-run", help="Only list what would be done.")]


class Commands(TyperGroup):
    """Commands whose errors, if user or machine caused them, are one line and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except IavError as error:
            fail(str(error), WRONG_INPUT, error)
        except OSError as error:
            explained = explain(error)
            if explained is None:
                raise
            fail(explained, FAILED, error)
        except (KeyboardInterrupt, SystemExit) as stop:  # by Ctrl-C, or a signal (end_orderly)
            status = getattr(stop, "code", INTERRUPTED)
            if status not in _STOPPED:
                raise
            text = f"{_STOPPED[status]}; what is finished is kept; run it again for the rest"
            typer.echo(f"\n{text}", err=True)
            raise typer.Exit(status) from None


def fail(message: str, status: int = FAILED, cause: Exception | None = None) -> None:
    """Print an error and end with a status."""
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(status) from cause


def print_json(content: Any) -> None:
    """Print what JSON can hold."""
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def parse_pairs(option: str, texts: Iterable[str] | None) -> dict[str, str]:
    """Split the values of an option, each ``name=value``, at the first equals sign.

    Raises
    ------
    IavError
        If an equals sign or the name is missing, or a name is given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (word.strip() for word in text.partition("="))
        if not equals or not name:
            raise IavError(f"{option} {text}: write it as name=value")
        if name in pairs:
            raise IavError(f"{option} {name} is given twice; keep one")
        pairs[name] = value
    return pairs
