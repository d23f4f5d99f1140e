"""What errors of every part have in common: they name the place, the problem and the mend.

Errors of this package, each with a message that names the place and the mend.

What can be wrong with data, said in a way that names the file, the row and the mend.

What can go wrong with an experiment, said with the place and the mend.

What can be wrong with a network, its heads or its weights, and the mend.

What can stop a training run, said in a way that names the place and the mend.

The one error of this package.

What stops a prediction, said with the place and the mend.

What can be wrong with a method for several annotators, or with what it is given.

What can be wrong with the labels of several annotators, named with the mend.

What can be wrong with diagnosis-first networks, or with what they are given.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence


class InputError(Exception):
    """Something is not what it should be, at a place that is named.

    Parameters
    ----------
    where : str or Path
        The file, the row, the field or the option at fault.
    problem : str
        What is wrong, with the first rows concerned.
    hint : str
        What the user can do about it.
    """

    def __init__(self, where, problem: str, hint: str):
        self.where, self.problem, self.hint = str(where), problem, hint
        super().__init__(f"{where}: {problem}. To fix it: {hint}.")


def suggest(name: str, known: Iterable[str]) -> str:
    """Say which known names are near a misspelt one.

    Parameters
    ----------
    name : str
        The name that was not found.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str
        A half-sentence for an error message: the near names when there are
        any, else all known names.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(item) for item in near) + "?"
    if not names:
        return "there are none"
    return "known: " + ", ".join(names)


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


class ClaimError(ExecutionError):
    """A claim is badly written, unknown, or recorded with a value that cannot be one."""


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


class DataError(InputError, ValueError):
    """A table, an image or a mask is not what it should be; `where` is the file or table."""


class DatasetUnavailable(LookupError):
    """A cohort was asked for whose files are not on this machine."""

    def __init__(self, name: str, missing: str, hint: str):
        self.name, self.missing, self.hint = name, missing, hint
        super().__init__(f"cohort {name!r} is not available here: {missing}. To get it: {hint}.")


class FetchError(OSError):
    """A download did not succeed; whatever good file was there before is still there."""


class ExperimentError(InputError, ExecutionError, ValueError):
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


class ModelError(ValueError):
    """A network was asked for that cannot be built, or tensors do not fit it."""


class UnknownBackboneError(ModelError):
    """No backbone of this name; the message names the near ones."""


class WeightsUnavailable(ModelError):
    """Weights were asked for that are neither on this machine nor to be had from it."""

    def __init__(self, backbone: str, source: str, reason: str, hint: str):
        self.backbone, self.source, self.reason, self.hint = backbone, source, reason, hint
        super().__init__(
            f"weights {source!r} of backbone {backbone!r} cannot be had: {reason}. "
            f"To get them: {hint}."
        )


class TrainingError(ValueError):
    """A recipe, a set of batches or a target is not what training needs."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, cannot be read, or belongs to another run."""


class NonFiniteLossError(RuntimeError):
    """The loss was NaN or infinite; the weights are of no use from here on.

    Attributes
    ----------
    ids : list of str
        Ids of the images of that batch.
    epoch, step : int
        Counted from 0.
    """

    def __init__(self, value: float, ids: Sequence[str], epoch: int, step: int):
        self.ids, self.epoch, self.step = [str(name) for name in ids], epoch, step
        super().__init__(
            f"the loss is {value} in epoch {epoch}, step {step}, whose batch held "
            f"{len(self.ids)} images: {', '.join(self.ids)}. Look at these images and their "
            "targets; if they are in order, lower lr, or use precision fp32 or bf16."
        )


class ExplainError(InputError, ValueError):
    """What is to be explained does not fit."""


class PredictionError(InputError, ExecutionError, ValueError):
    """A model, an output folder or what lies beside a model is not what is needed.

    A single image that cannot be used is no error but a row of the result.
    """


class MethodError(ValueError):
    """A method, one of its settings, or what it is asked for is not there or does not fit."""


class LabelError(DataError):
    """Labels of several annotators are not what they should be.

    Parameters
    ----------
    where : str
        The set, with the image or the annotator at fault.
    problem, hint : str
        As for :class:`iavlib.core.errors.DataError`.
    """


class DiagnosisFirstError(ValueError):
    """A tensor, a name or a setting does not fit; the message says which and what to give."""
