"""What stops a prediction, said with the place and the mend."""

from __future__ import annotations

from iavlib.execution.errors import ExecutionError


class PredictionError(ExecutionError, ValueError):
    """A model, an output folder or what lies beside a model is not what is needed.

    A single image that cannot be used is no error but a row of the result.

    Parameters
    ----------
    where : str or Path
        The file, folder or option at fault.
    problem : str
        What is wrong.
    mend : str
        What the user can do about it.
    """

    def __init__(self, where, problem: str, mend: str):
        self.where, self.problem, self.mend = str(where), problem, mend
        super().__init__(f"{where}: {problem}. To mend it: {mend}.")
