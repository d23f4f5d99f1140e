"""What can go wrong with an experiment, said with the place and the mend."""

from __future__ import annotations

from iavlib.execution.errors import ExecutionError


class ExperimentError(ExecutionError, ValueError):
    """A specification, a run directory or a list of experiments is not what it should be.

    Parameters
    ----------
    where : str or Path
        The file, field or run at fault.
    problem : str
        What is wrong.
    mend : str
        What the user can do about it.
    """

    def __init__(self, where, problem: str, mend: str):
        self.where, self.problem, self.mend = str(where), problem, mend
        super().__init__(f"{where}: {problem}. To mend it: {mend}.")


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
