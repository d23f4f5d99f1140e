"""What an experiment may set beside the fields of a recipe; nothing here needs PyTorch.

One experiment: everything that decides its result, and the id made from that.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from iavlib.core.errors import ExperimentError, suggest
from iavlib.data.official_splits import LEAKS
from iavlib.data.splits import STRATIFY

ID_DIGITS = 12
#: Stands for what :func:`iavlib.experiments.runner` chooses by what is on this machine.
AUTO = "auto"
#: Every kind of split with its settings and their defaults.
SPLITS: dict[str, dict[str, Any]] = {
    "holdout": {"fractions": [0.7, 0.1, 0.2]},
    "kfold": {"folds": 5, "fold": 0, "val": 0.125},
    "official": {"fractions": [0.7, 0.1, 0.2], "leaks": "leave out"},
}
_ALL_SPLITS = {"kind": "holdout", "seed": 0, "group": "patient", "stratify": list(STRATIFY)}
#: Of these, what makes no difference to published parts.
_NOT_OFFICIAL = ("group", "stratify")
#: What an experiment that starts from another has like it, unless that is said.
_SHARED = ("backbone", "weights", "size", "seed")
#: Where data lie and how a run is called do not change what comes out.
_TEXTS = ("task", "cohort", "data", "files", "backbone", "weights", "recipe", "method", "label")
_NOT_HASHED = ("cohort_options", "label")
# YAML takes 1e-4 for a text; nobody means one
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


@dataclass(frozen=True)
class Experiment:
    """A specification; two that are equal give the same result.

    Parameters
    ----------
    task : str
        A name of :data:`iavlib.experiments.TASKS`.
    cohort : str
        Name for :func:`iavlib.data.load`; ``"auto"`` until resolved.
    cohort_options : mapping
        Keywords for it (``path``, ``n_images``, ``seed``, ``size``). They count by the data they
        lead to, so that a folder may be moved.
    data, files : str
        Fingerprint of the cohort's tables, and of the sizes of its image files (empty for
        invented ones); filled in by :func:`iavlib.experiments.runner`.
    backbone, weights : str
        As for :func:`iavlib.models.build_network`; weights ``"auto"`` until resolved.
    recipe : str
        ``"probe"`` (a head on frozen features), or the name of a training recipe.
    overrides : mapping
        What differs from the recipe.
    size : int, optional
        Side of the square images in pixels; the backbone's own by default.
    split : mapping
        ``kind`` (``holdout`` with ``fractions``; ``kfold`` with ``folds``, ``fold`` and ``val``,
        the share of the other folds kept for validation), ``seed``, ``group`` (what is not torn
        apart) and ``stratify``; ``official`` (see :func:`iavlib.data.official_split`) with
        ``fractions``, ``leaks`` and ``seed``.
    seed : int
        Of the network, the order of batches, augmentation, and the choice by `train_share`.
    train_share : float
        Share of the training patients that is used, in (0, 1].
    method : str
        How a task that knows several methods learns.
    alpha : float, optional
        Weight of classification in tasks that learn two things.
    start : mapping or str
        Another experiment whose network is where this one begins (fine-tuning): its fields, of
        which ``backbone``, ``weights``, ``size`` and ``seed`` are as here unless given, or
        ``task/id`` of its run until resolved. Its id counts, so that another start is another
        experiment. Nothing begins from `weights`.
    version : int
        Of the task; it changes when the same settings come to mean something else.
    label : str
        How it is called in tables; no part of what it is.

    Raises
    ------
    ExperimentError
        If a value does not fit.
    """

    task: str = "iaa"
    cohort: str = AUTO
    cohort_options: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""
    files: str = ""
    backbone: str = "resnet18"
    weights: str = AUTO
    recipe: str = "paper"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    split: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    train_share: float = 1.0
    method: str = ""
    alpha: float | None = None
    start: Mapping[str, Any] | str = field(default_factory=dict)
    version: int = 1
    label: str = field(default="", compare=False)

    def __post_init__(self):
        for name in _TEXTS:
            value = getattr(self, name)
            _demand(isinstance(value, str), name, value, "a text")
        for name in ("cohort_options", "overrides", "split"):
            _demand(
                isinstance(getattr(self, name), Mapping), name, getattr(self, name), "a mapping"
            )
            object.__setattr__(self, name, _plain(getattr(self, name), name))
        for name, default in (("seed", 0), ("version", 1), ("size", None)):
            self._set_number(name, default, int)
        for name, default in (("train_share", 1.0), ("alpha", None)):
            self._set_number(name, default, float)
        _demand(0 < self.train_share <= 1, "train_share", self.train_share, "in (0, 1]")
        _demand(self.size is None or self.size > 0, "size", self.size, "positive")
        _demand(self.seed >= 0, "seed", self.seed, "0 or more")
        object.__setattr__(self, "split", _complete_split(self.split))
        object.__setattr__(self, "start", self._complete_start())

    def _complete_start(self) -> Mapping[str, Any] | str:
        if not self.start or isinstance(self.start, str):
            return self.start or {}
        _demand(isinstance(self.start, Mapping), "start", self.start, "a mapping, or task/id")
        shared = {name: getattr(self, name) for name in _SHARED}
        begun = from_mapping(shared | dict(self.start), "start").to_json()
        return {name: value for name, value in begun.items() if name != "label"}

    def _set_number(self, name: str, default: Any, kind: type) -> None:
        value = _plain(getattr(self, name), name)
        if value is None and default is None:
            return
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        whole = fits and (kind is float or value == int(value))
        _demand(whole, name, value, "a whole number" if kind is int else "a number")
        object.__setattr__(self, name, kind(value))

    def __hash__(self) -> int:
        return hash(self.canonical())

    def canonical(self) -> str:
        """Write what decides the result as JSON, the same for every order and spelling.

        Fields that have their default are left out, so that a field added later changes no id.
        """
        told = {
            name: value
            for name, value in asdict(self).items()
            if name not in _NOT_HASHED and (name == "task" or value != _DEFAULTS[name])
        }
        begun = self.init_from
        if begun is not None:
            told["start"] = begun.name if begun.is_resolved else begun.canonical()
        return json.dumps(_as_integers(told), sort_keys=True, separators=(",", ":"))

    @property
    def init_from(self) -> Experiment | None:
        """The experiment that this one starts from, if any; not while only its name is known."""
        if not self.start or isinstance(self.start, str):
            return None
        return from_mapping(self.start, "start")

    @property
    def is_resolved(self) -> bool:
        """Whether data and weights are fixed, and where it starts."""
        if isinstance(self.start, str) or (self.start and not self.init_from.is_resolved):
            return False
        return bool(self.data) and AUTO not in (self.cohort, self.weights)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits, the name of its run directory.

        Raises
        ------
        ExperimentError
            If it is not resolved: on other data the same settings are another experiment.
        """
        if not self.is_resolved:
            raise ExperimentError(
                "experiment", "its data and weights are open", "give resolve(experiment)"
            )
        return hashlib.sha256(self.canonical().encode()).hexdigest()[:ID_DIGITS]

    @property
    def name(self) -> str:
        """Task and id."""
        return f"{self.task}/{self.id}"

    def to_json(self) -> dict[str, Any]:
        """Give every field, ready for JSON."""
        return asdict(self)

    def question(self) -> str:
        """Write what is asked whatever the data and weights: :meth:`canonical` without these."""
        return self._anywhere().canonical()

    def _anywhere(self) -> Experiment:
        open_ones = {"data": "", "files": "", "cohort": AUTO, "weights": AUTO}
        if self.init_from is not None:
            open_ones["start"] = self.init_from._anywhere().to_json()
        return replace(self, **open_ones)

    def answers(self, wanted: Experiment) -> bool:
        """Tell whether it is what is wanted, on whatever data.

        Where `wanted` leaves cohort or weights open, any will do.
        """
        same = {"data": wanted.data, "files": wanted.files}
        same |= {"cohort": AUTO} if wanted.cohort == AUTO else {}
        same |= {"weights": AUTO} if wanted.weights == AUTO else {}
        mine, others = self.init_from, wanted.init_from
        if mine is not None and others is not None:
            if not mine.answers(others):
                return False
            same["start"] = wanted.start
        return replace(self, **same).canonical() == wanted.canonical()


FIELDS = tuple(item.name for item in fields(Experiment))


def from_mapping(values: Any, where: Any = "experiment") -> Experiment:
    """Make an experiment of what a file holds.

    Parameters
    ----------
    values : mapping
        Fields of :class:`Experiment`; those that are not given have their defaults.
    where : str or Path
        How to name the place in an error.

    Raises
    ------
    ExperimentError
        If there is no such field (near names are suggested) or a value does not fit.
    """
    check_fields(values, where)
    try:
        return Experiment(**values)
    except ExperimentError as error:
        raise ExperimentError(f"{where}: {error.where}", error.problem, error.hint) from error


def check_fields(values: Any, where: Any) -> None:
    """Refuse what is not a mapping of fields of :class:`Experiment`."""
    if not isinstance(values, Mapping):
        raise ExperimentError(where, "is not a mapping", "write field: value, one a line")
    for name in values:
        if name not in FIELDS:
            raise ExperimentError(where, f"no field {name!r}", f"{suggest(str(name), FIELDS)}")


def _complete_split(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("kind", _ALL_SPLITS["kind"])
    if kind not in SPLITS:
        raise ExperimentError("split", f"no kind {kind!r}", suggest(str(kind), SPLITS))
    known = _ALL_SPLITS | SPLITS[kind]
    if kind == "official":
        known = {name: value for name, value in known.items() if name not in _NOT_OFFICIAL}
    for name in given:
        if name not in known:
            raise ExperimentError(f"split of kind {kind}", f"no {name!r}", suggest(name, known))
    split = known | dict(given)
    if kind == "official":
        leaks = split["leaks"]
        _demand(leaks in LEAKS, "split: leaks", leaks, f"one of {', '.join(LEAKS)}")
    if kind == "kfold":
        folds, fold = split["folds"], split["fold"]
        _demand(isinstance(folds, int) and folds >= 2, "split: folds", folds, "2 or more")
        _demand(isinstance(fold, int) and 0 <= fold < folds, "split: fold", fold, "0 to folds - 1")
        val = split["val"]
        _demand(isinstance(val, int | float) and 0 < val < 1, "split: val", val, "in (0, 1)")
    return split


def _demand(fits: bool, name: str, value: Any, wanted: str) -> None:
    if not fits:
        raise ExperimentError(f"{name} = {value!r}", f"must be {wanted}", f"correct {name}")


def _plain(value: Any, place: str) -> Any:
    """Bring a value to what JSON holds, or refuse it."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{place}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, place) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # of NumPy
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ExperimentError(f"{place} = {value}", "is not finite", "give a number or nothing")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ExperimentError(
        f"{place} = {value!r}", "is no text, number, list or mapping", "write it in these"
    )


def _as_integers(value: Any) -> Any:
    """Write 1.0 as 1, so that both spellings are one experiment."""
    if isinstance(value, Mapping):
        return {k: _as_integers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_as_integers(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


_DEFAULTS: dict[str, Any] = asdict(Experiment())


PROBE = "probe"
PROBE_HEADS = ("ridge", "svr", "network")
FINETUNE = "finetune"
# recipes that reproduce others' work start as that did
_START = {"paper": "zero", "student": "zero", FINETUNE: "ridge"}
#: Setting to the values it can have; None is any whole number.
OURS: dict[str, tuple[Any, ...] | None] = {
    "tta": (1, 2, 4, 8),
    "start": ("zero", "median", "ridge"),
    "normalise": ("weights", "train"),
    "quantiles": None,
    "control": ("none", "shuffled_iaa"),
}


def split_settings(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell apart what ``overrides`` set of a recipe and what they set of a task.

    Returns
    -------
    dict
        ``tta`` (views averaged for a prediction: 1, 2, 4 or 8), ``start`` (where predictions begin:
        ``zero``, ``median`` of the training part, or ``ridge``: a linear head as ridge regression
        on the untouched features gives it), ``normalise`` (images by what goes with the
        ``weights``, or by mean and deviation of the ``train`` part), ``quantiles`` (of a head
        of that kind) and ``control`` (``shuffled_iaa`` exchanges the agreement of training images
        by the seed, so that nothing can be learnt of it), all of them.
    dict
        The other overrides.

    Raises
    ------
    ExperimentError
        If a value is none of those possible.
    """
    chosen = {
        "tta": 4 if experiment.recipe == FINETUNE else 1,
        "start": _START.get(experiment.recipe, "median"),
        "normalise": "train" if experiment.recipe == "paper" else "weights",
        "quantiles": 5,
        "control": "none",
    }
    chosen |= {name: value for name, value in experiment.overrides.items() if name in OURS}
    for name, value in chosen.items():
        known = OURS[name]
        if known is not None and value not in known:
            raise ExperimentError(
                f"overrides.{name} = {value!r}", "is not possible", suggest_values(value, known)
            )
    fields = {name: value for name, value in experiment.overrides.items() if name not in OURS}
    return chosen, fields


def check_probe(fields: dict[str, Any]) -> None:
    """Refuse overrides that no probe has."""
    for name, value in fields.items():
        if name != "head":
            raise ExperimentError(
                f"overrides.{name}", "is nothing that a probe has", "it has head, tta, normalise"
            )
        if value not in PROBE_HEADS:
            known = ", ".join(PROBE_HEADS)
            raise ExperimentError(f"overrides.head = {value!r}", "is no head", f"known: {known}")


def check_start(start: str, head: str, label_transform: str) -> None:
    """Refuse to start at a ridge regression what is no linear head of the target itself."""
    if start == "ridge" and (head != "linear" or label_transform != "none"):
        raise ExperimentError(
            "overrides.start = 'ridge'",
            f"does not fit a head of kind {head!r} with label_transform {label_transform!r}",
            "set head: linear and label_transform: none, or start: median",
        )


def suggest_values(value: Any, known: tuple[Any, ...]) -> str:
    """Say which values are possible, the nearest first where there is one."""
    return suggest(str(value), map(str, known))
