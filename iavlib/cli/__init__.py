"""The command line: modules here read options, call the library and print, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import typer

from iavlib.core.errors import IavError, explain

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


@contextmanager
def clear_errors(if_interrupted: str = "finished results are kept") -> Iterator[None]:
    """Turn errors that the user or the machine caused into one line and an exit status.

    Parameters
    ----------
    if_interrupted : str
        What to print after Ctrl-C.
    """
    try:
        yield
    except IavError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(WRONG_INPUT) from error
    except OSError as error:
        explained = explain(error)
        if explained is None:
            raise
        typer.secho(f"error: {explained}", fg="red", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        typer.secho(f"\ninterrupted; {if_interrupted}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def parse_pairs(option: str, texts: Iterable[str]) -> dict[str, str]:
    """Split the values of an option, each ``name=value``, at the first equals sign.

    Raises
    ------
    IavError
        If an equals sign or the name is missing, or a name is given twice.
    """
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = (word.strip() for word in text.partition("="))
        if not equals or not name:
            raise IavError(f"{option} {text}: write it as name=value")
        if name in pairs:
            raise IavError(f"{option} {name} is given twice; keep one")
        pairs[name] = value
    return pairs
