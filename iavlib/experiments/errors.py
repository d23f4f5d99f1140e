"""What can go wrong with an experiment, said with the place and the mend."""

from __future__ import annotations

from iavlib.errors import PlacedError
from iavlib.execution.errors import ExecutionError


class ExperimentError(PlacedError, ExecutionError, ValueError):
    """A specification, a run directory or a list of experiments is not what it should be."""


class ExperimentFailed(ExecutionError, RuntimeError):
    """A run ended with an error; ``failed.json`` in its directory says the same.

    Parameters
    ----------
    name : str
        Task and id.
    reason : str
        The error in a line.
    folder : Path
        The run directory.
    """

    def __init__(self, name: str, reason: str, folder):
        self.name, self.reason, self.folder = name, reason, folder
        super().__init__(f"{name} failed: {reason} (in full: {folder / 'failed.json'})")
