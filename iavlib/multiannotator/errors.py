"""What can be wrong with a method for several annotators, or with what it is given."""

import difflib
from collections.abc import Iterable


class MethodError(ValueError):
    """A method, one of its settings, or what it is asked for is not there or does not fit."""


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which names are near a misspelt one, or all there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3)
    if near:
        return "did you mean " + " or ".join(map(repr, near)) + "?"
    return "known: " + (", ".join(known) or "none")
