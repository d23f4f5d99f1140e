"""The one error of this package."""

from iavlib.errors import PlacedError


class ExplainError(PlacedError, ValueError):
    """What is to be explained does not fit."""
