"""Errors of this package; each message names the place, the problem and a remedy.

The command line prints any :class:`IavError` in one line, without a traceback.
"""

import difflib
import errno
from collections.abc import Iterable, Sequence


class IavError(Exception):
    """Base of all errors of this package."""


class InputError(IavError):
    """Something is not what it should be, at a place that is named.

    Parameters
    ----------
    where : str or Path
        The file, row, field or option at fault.
    problem : str
        What is wrong, with the first rows concerned.
    hint : str
        What the user can do about it.
    """

    def __init__(self, where, problem: str, hint: str):
        self.where, self.problem, self.hint = str(where), problem, hint
        super().__init__(advise(f"{where}: {problem}", "To fix it", hint))


def end_sentence(text: str) -> str:
    """Add the full stop that a text lacks."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def advise(message: str, lead: str, hint: str) -> str:
    """Complete a message by a hint after `lead`, such as "To fix it: name another file."

    A question, and what :func:`suggest` gives, need no such lead.
    """
    if hint.endswith("?") or hint.startswith(_NAMES):
        return end_sentence(f"{message}; {hint}")
    return f"{end_sentence(message)} {end_sentence(f'{lead}: {hint}')}"


#: How a suggestion begins that is no question.
_NAMES = _KNOWN, _NONE = "known: ", "there are none"


def suggest(name: str, known: Iterable[str]) -> str:
    """Suggest the known names that resemble a misspelt one.

    Parameters
    ----------
    name : str
        The name that does not exist.
    known : iterable of str
        The names that exist.

    Returns
    -------
    str
        A clause for an error message: the similar names if there are any, else all known names.

    Examples
    --------
    >>> suggest("rsnet18", ["resnet18", "vit"])
    "did you mean 'resnet18'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(item) for item in near) + "?"
    return _KNOWN + ", ".join(names) if names else _NONE


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ValueError unless the value of an option is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: use one of {', '.join(map(repr, choices))}")


class ProjectError(IavError):
    """The project folder, its table of contents or a notebook's name is wrong."""


class NotebookError(IavError):
    """A notebook file cannot be read as a notebook."""


class ParameterError(IavError):
    """A parameter is unknown, or its value does not fit."""


class ManifestError(IavError):
    """A manifest is missing, incomplete or lacks a field."""


class ClaimError(IavError):
    """A claim is not valid or unknown, or a value recorded for it does not fit."""


class BookError(IavError):
    """The book cannot be assembled or built."""


class DataError(InputError, ValueError):
    """A table, an image or a mask is not what it should be; `where` is the file or table."""


class FileGone(DataError, FileNotFoundError):
    """A file is missing, or somebody removed it while it was read."""


def refuse(wrong: Sequence, where, problem: str, hint: str) -> None:
    """Raise :class:`DataError` if anything is wrong: how many, the problem, and the first ones."""
    if len(wrong):
        first = ", ".join(map(str, wrong[:3])) + (" …" if len(wrong) > 3 else "")
        raise DataError(where, f"{len(wrong)} {problem}, first {first}", hint)


class DatasetUnavailable(IavError, LookupError):
    """The files of a cohort are not on this machine."""

    def __init__(self, name: str, missing: str, hint: str):
        self.name, self.missing, self.hint = name, missing, hint
        message = f"cohort {name!r} is not available here: {missing}"
        super().__init__(advise(message, "To get it", hint))


class FetchError(IavError, OSError):
    """A download failed; correct files that were there before are still there."""


class ExperimentError(InputError, ValueError):
    """A specification, a run directory or a list of experiments is not what it should be."""


class ExperimentFailed(IavError, RuntimeError):
    """A run ended with an error; ``failed.json`` in its directory describes it.

    Parameters
    ----------
    name : str
        Task and id.
    reason : str
        The error in one line.
    folder : Path
        The run directory.
    """

    def __init__(self, name: str, reason: str, folder):
        self.name, self.reason, self.folder = name, reason, folder
        super().__init__(f"{name} failed: {reason} (in full: {folder / 'failed.json'})")


class ModelError(IavError, ValueError):
    """A network cannot be built as requested, or tensors do not fit it."""


class UnknownBackboneError(ModelError):
    """There is no backbone of this name; the message names similar ones."""


class WeightsUnavailable(ModelError):
    """Weights are neither on this machine nor can be obtained from it."""

    def __init__(self, backbone: str, source: str, reason: str, hint: str):
        self.backbone, self.source, self.reason, self.hint = backbone, source, reason, hint
        message = f"weights {source!r} of backbone {backbone!r} cannot be had: {reason}"
        super().__init__(advise(message, "To get them", hint))


class TrainingError(IavError, ValueError):
    """A recipe, a set of batches or a target is not what training needs."""


class CheckpointError(IavError, RuntimeError):
    """A checkpoint cannot be written, cannot be read, or belongs to another run."""


class CheckpointNotWritten(CheckpointError, OSError):
    """The disk is full, or its folder cannot be written; the run can continue once that is mended.

    It is an :class:`OSError` with its ``errno``: a failure of the machine, not of the run.
    """

    def __str__(self) -> str:
        return str(self.args[1])


class NonFiniteLossError(IavError, RuntimeError):
    """The loss was NaN or infinite; the weights are useless from here on.

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
    """An explanation was requested that does not fit the model or the images."""


class PredictionError(InputError, ValueError):
    """A model, an output folder or a file beside a model is not what is needed.

    A single image that cannot be used is not an error but a row of the result.
    """


class PluginError(ExperimentError):
    """Code from outside this package cannot be imported."""


class MethodError(IavError, ValueError):
    """A method, or one of its settings, does not exist or does not fit."""


class LabelError(DataError):
    """Labels of several annotators are not what they should be; `where` names the set."""


class DiagnosisFirstError(IavError, ValueError):
    """A tensor, a name or a setting does not fit; the message names it and the remedy."""


def explain(error: OSError) -> str | None:
    """Explain in one sentence what the machine refused, with a remedy.

    Parameters
    ----------
    error : OSError
        Raised when a result was written.

    Returns
    -------
    str or None
        None if the disk is not the cause, so that the traceback is of use.
    """
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"{place}the disk is full or your share of it is; free some space and run the same "
            "command again, which continues with what is finished"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return (
            f"{place}{(error.strerror or 'not writable').lower()}; iav writes into book/executed "
            "and _build of the project: make them writable, or work in a copy of it"
        )
    if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP):
        return f"{place}this file system has no file locks; keep the project on another one"
    return None
