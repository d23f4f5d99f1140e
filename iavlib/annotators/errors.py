"""What can be wrong with the labels of several annotators, named with the mend."""

from iavlib.data.errors import DataError


class LabelError(DataError):
    """Labels of several annotators are not what they should be.

    Parameters
    ----------
    where : str
        The set, with the image or the annotator at fault.
    problem, mend : str
        As for :class:`iavlib.data.errors.DataError`.
    """
