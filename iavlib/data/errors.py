"""What can be wrong with data, said in a way that names the file, the row and the mend."""

from iavlib.errors import PlacedError


class DataError(PlacedError, ValueError):
    """A table, an image or a mask is not what it should be; `where` is the file or table."""


class DatasetUnavailable(LookupError):
    """A cohort was asked for whose files are not on this machine."""

    def __init__(self, name: str, missing: str, mend: str):
        self.name, self.missing, self.mend = name, missing, mend
        super().__init__(f"cohort {name!r} is not available here: {missing}. To get it: {mend}.")


class FetchError(OSError):
    """A download did not succeed; whatever good file was there before is still there."""
