"""What errors of every part have in common: they name the place, the problem and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PlacedError(Exception):
    """Something is not what it should be, at a place that is named.

    Parameters
    ----------
    where : str or Path
        The file, the row, the field or the option at fault.
    problem : str
        What is wrong, with the first rows concerned.
    mend : str
        What the user can do about it.
    """

    def __init__(self, where, problem: str, mend: str):
        self.where, self.problem, self.mend = str(where), problem, mend
        super().__init__(f"{where}: {problem}. To mend it: {mend}.")


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
