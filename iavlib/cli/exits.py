"""How commands end: errors that a user can mend as one line, and with a status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from iavlib.core.errors import ExecutionError, explain

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


@contextmanager
def clear_errors(interrupted: str, *also: type[Exception]) -> Iterator[None]:
    """Turn errors of the user's and of the machine's into a line and an exit status.

    Parameters
    ----------
    interrupted : str
        What to say after Ctrl-C.
    *also : type
        Errors of the user's beside :class:`iavlib.core.errors.ExecutionError`.
    """
    try:
        yield
    except (ExecutionError, *also) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(WRONG_INPUT) from error
    except OSError as error:
        explained = explain(error)
        if explained is None:
            raise
        typer.secho(f"error: {explained}", fg="red", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        typer.secho(f"\ninterrupted; {interrupted}", err=True)
        raise typer.Exit(INTERRUPTED) from None
