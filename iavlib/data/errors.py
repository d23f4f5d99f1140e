"""What can be wrong with data, said in a way that names the file, the row and the mend."""


class DataError(ValueError):
    """A table, an image or a mask is not what it should be.

    Parameters
    ----------
    where : str or path
        The file (or table) at fault.
    problem : str
        What is wrong, with the first rows concerned.
    mend : str
        What the user can do about it.
    """

    def __init__(self, where, problem: str, mend: str):
        self.where, self.problem, self.mend = str(where), problem, mend
        super().__init__(f"{where}: {problem}. To mend it: {mend}.")


class DatasetUnavailable(LookupError):
    """A cohort was asked for whose files are not on this machine."""

    def __init__(self, name: str, missing: str, mend: str):
        self.name, self.missing, self.mend = name, missing, mend
        super().__init__(f"cohort {name!r} is not available here: {missing}. To get it: {mend}.")


class FetchError(OSError):
    """A download did not succeed; whatever good file was there before is still there."""
