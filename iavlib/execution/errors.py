"""Errors of this package, each with a message that names the place and the mend."""

from __future__ import annotations

import errno


class ExecutionError(Exception):
    """Base of all errors here; the command line prints it without a traceback."""


class ProjectError(ExecutionError):
    """The project folder, its table of contents or a notebook's name is wrong."""


class NotebookError(ExecutionError):
    """A notebook file cannot be read as a notebook."""


class ParameterError(ExecutionError):
    """A parameter is unknown, or its value does not fit."""


class ManifestError(ExecutionError):
    """A manifest is missing, half-written or does not say what it must."""


class BookError(ExecutionError):
    """The book cannot be assembled or built."""


_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOT_WRITABLE = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP}


def explain(error: OSError) -> str | None:
    """Say in one sentence what the machine refused, and the mend.

    Parameters
    ----------
    error : OSError
        What writing a result raised.

    Returns
    -------
    str or None
        None if it is no matter of the disk, so that its traceback is of use.
    """
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in _FULL:
        return (
            f"{place}the disk is full or your share of it is; free some space and run the same "
            "command again, which goes on from what is finished"
        )
    if error.errno in _NOT_WRITABLE:
        return (
            f"{place}{(error.strerror or 'not writable').lower()}; iav writes into book/executed "
            "and _build of the project: make them writable, or work in a copy of it"
        )
    if error.errno in _NO_LOCKS:
        return f"{place}this file system knows no file locks; keep the project on another one"
    return None
