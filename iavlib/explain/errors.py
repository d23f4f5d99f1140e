"""The one error of this package."""


class ExplainError(ValueError):
    """What is to be explained does not fit: it names the place, the problem and the mend.

    Parameters
    ----------
    where, problem, mend : str
    """

    def __init__(self, where, problem: str, mend: str):
        self.where, self.problem, self.mend = where, problem, mend
        super().__init__(f"{where}: {problem}; {mend}")
