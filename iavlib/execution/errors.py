"""Errors of this package, each with a message that names the place and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ExecutionError(Exception):
    """Base of all errors here; the command line prints it without a traceback."""


class ProjectError(ExecutionError):
    """The project folder, its table of contents or a notebook's name is wrong."""


class NotebookError(ExecutionError):
    """A notebook file cannot be read as a notebook."""


class ParameterError(ExecutionError):
    """A parameter is unknown, or its value does not fit."""


class ManifestError(ExecutionError):
    """A manifest is missing, half-written or does not say what it must."""


class BookError(ExecutionError):
    """The book cannot be assembled or built."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which known names are near a misspelt one.

    Parameters
    ----------
    name : str
        The name that was not found.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str
        A half-sentence for an error message: the near names when there are
        any, else all known names.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(item) for item in near) + "?"
    if not names:
        return "there are none"
    return "known: " + ", ".join(names)
