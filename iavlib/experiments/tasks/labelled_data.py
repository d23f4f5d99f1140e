"""Sets of several annotators' labels by name, for task ``segmentation``.

``digits`` and ``digits-classes`` are digits with simulated annotators of one and of two foreground
classes. Every cohort of :func:`iavlib.data.load` is a set by its own name, with the annotators it
has, and with ``-simulated`` appended one with simulated annotators on the first mask of each
picture. A split of kind ``official`` is the cohort's published one (of ``riga``). ``auto`` is a
folder where a path is given, else the lesions with two annotators where they are, else the phantom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib import data
from iavlib.core.errors import DataError, ExperimentError, suggest
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import AUTO, Experiment, Split, TaskSettings
from iavlib.multiannotator.cohort_sets import from_cohort, simulated_on
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.simulation import MULTI_CLASS_ANNOTATORS, PAPER_ANNOTATORS, crowd, digits

SIMULATED = "-simulated"
_REAL = "isic_two_annotators"
#: What ``overrides`` may say of the data, with its default.
DATA_SETTINGS: dict[str, Any] = {
    "labels": "dense",
    "level": 1.0,
    "annotators": 0,
    "truth": "",
    "at_least": 1,
}
LABELS = ("dense", "single")
#: Sets that are drawn here, with what ``cohort_options`` may say of them and its default.
DIGITS: dict[str, dict[str, Any]] = {
    "digits": {"n": [400, 100, 200], "seed": 0, "source": "auto", "background_noise": 0.0},
    "digits-classes": {"n": [400, 100, 200], "seed": 0, "source": "auto", "background_noise": 0.0},
}
#: How :func:`iavlib.multiannotator.cohort_sets` calls the split that goes with a cohort.
PUBLISHED = "published"


class DataSettings(TaskSettings):
    """Settings of the data of tasks for several annotators.

    Attributes
    ----------
    labels : {"dense", "single"}
        All labels of each training image, or one annotator's.
    noise : float
        Annotation noise of simulated annotators.
    annotators : int or list of str
        How many simulated annotators (2 or more), which kinds of them, or whose labels; 0 for all.
    truth, min_masks : str and int
        As for :func:`iavlib.multiannotator.cohort_sets.from_cohort`.
    """

    VERSION_1: ClassVar = {"noise": ("level", {}), "min_masks": ("at_least", {})}

    labels: Literal["dense", "single"] = "dense"
    noise: float = 1.0
    annotators: Annotated[int, Field(ge=0)] | tuple[str, ...] = 0
    truth: str = ""
    min_masks: Annotated[int, Field(ge=0)] = 1


_CLASSES = {"groups": ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), "tiles": 2}
_PIXELS = 64
_last: dict[str, Any] = {"key": None, "data": None}


@dataclass(frozen=True, eq=False)
class LabelledData:
    """A set with what a run notes of its data.

    Attributes
    ----------
    labelled : MultiAnnotatorSet
    citation : str
    """

    labelled: MultiAnnotatorSet
    citation: str

    @property
    def name(self) -> str:
        """Name of the set."""
        return self.labelled.name

    @property
    def synthetic(self) -> bool:
        """Whether its pictures are invented."""
        return self.labelled.synthetic

    @property
    def images(self) -> pd.Index:
        """Ids of its pictures."""
        return self.labelled.ids

    @property
    def masks(self) -> pd.DataFrame:
        """One row a label map: ``image_id`` and ``annotator``."""
        rows, columns = np.nonzero(~self.labelled.missing)
        names = np.asarray(self.labelled.annotators, dtype=object)[columns]
        return pd.DataFrame({"image_id": self.labelled.ids[rows], "annotator": names})

    @property
    def simulated_annotators(self) -> bool:
        """Whether a program drew the labels."""
        return self.labelled.simulated_annotators

    @property
    def fingerprint(self) -> str:
        """Digest of pictures, labels and parts."""
        return self.labelled.fingerprint


def choose(experiment: Experiment) -> tuple[str, dict[str, Any]]:
    """Log which set an experiment works on, and which of its options have an effect.

    Raises
    ------
    ExperimentError
        If there is no such set or option.
    """
    name, options = experiment.cohort, dict(experiment.cohort_options)
    if name in DIGITS:
        known = DIGITS[name]
        if wrong := [key for key in options if key not in known]:
            raise ExperimentError(f"set {name!r}", f"no {wrong[0]!r}", suggest(wrong[0], known))
        return name, options
    if name == AUTO:
        name = "folder" if options.get("path") else _REAL
        name = name if name == "folder" or name in data.available() else "phantom"
    simulated = name.endswith(SIMULATED)
    base = name.removesuffix(SIMULATED)
    if base not in data.dataset_names():
        names = data.dataset_names()
        known = [*DIGITS, *names, *(name + SIMULATED for name in names)]
        raise ExperimentError("cohort", f"no set {name!r}", suggest(name, known))
    try:
        _, own = data.choose(base, **options)
    except (KeyError, TypeError) as error:
        raise ExperimentError("cohort", str(error.args[0]), "name one of these") from error
    return base + SIMULATED * simulated, own


def load(experiment: Experiment) -> LabelledData:
    """Load the set of an experiment, split into parts; the last one is kept.

    Raises
    ------
    ExperimentError
        If a name, an option or a setting is wrong.
    DataError, DatasetUnavailable
        If files are wrong or absent.
    """
    name, options = choose(experiment)
    wishes = settings_of(experiment.overrides)
    _check(name, wishes, experiment.split)
    seed, fractions = experiment.split.seed, getattr(experiment.split, "fractions", None)
    kind = experiment.split.kind
    key = repr((name, sorted(options.items()), wishes, experiment.size, kind, seed, fractions))
    if name not in DIGITS:
        key += data.fingerprint(name.removesuffix(SIMULATED), **options)
    if _last["key"] != key:
        if name in DIGITS:
            made = _digits(name, options, wishes, experiment.size)
        else:
            cohort = data.load(name.removesuffix(SIMULATED), **options)
            made = of_cohort(name, cohort, wishes, experiment)
        _last.update(key=key, data=made)
    return _last["data"]


def settings_of(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what overrides say of the data, completed by defaults."""
    given = {key: value for key, value in overrides.items() if key in DATA_SETTINGS}
    return DATA_SETTINGS | given


def _check(name: str, wishes: Mapping[str, Any], split: Split) -> None:
    if split.kind not in ("holdout", "official"):
        raise ExperimentError("split", "sets are split once", "give kind: holdout")
    if split.kind == "official" and name in DIGITS:
        raise ExperimentError("split", f"set {name!r} has no official one", "give kind: holdout")
    if wishes["labels"] not in LABELS:
        raise ExperimentError(
            f"overrides.labels = {wishes['labels']!r}", "is not possible", f"give {LABELS}"
        )
    many = wishes["annotators"]
    if isinstance(many, bool) or not isinstance(many, int | list) or (many in (1,)):
        raise ExperimentError(
            f"overrides.annotators = {many!r}",
            "is no number of simulated annotators from 2, and no list of kinds or names",
            "give a number, or a list of names",
        )


def _digits(name: str, options, wishes, size: int | None) -> LabelledData:
    chosen = DIGITS[name] | options
    kinds = PAPER_ANNOTATORS
    if name == "digits-classes":
        chosen |= _CLASSES
        kinds = MULTI_CLASS_ANNOTATORS
    made = digits(
        n=tuple(chosen.pop("n")),
        annotators=_simulated(wishes, kinds, chosen["seed"]),
        level=wishes["level"],
        size=size or 28 * chosen.get("tiles", 1),
        **chosen,
    )
    return LabelledData(_thinned(made, wishes, chosen["seed"]), "MNIST (LeCun et al. 1998)")


def of_cohort(name: str, cohort: Cohort, wishes, experiment: Experiment) -> LabelledData:
    """Make the set of a name from its cohort, or from part of that.

    Raises
    ------
    ExperimentError
        If the cohort does not fit what is wished.
    """
    size, split = experiment.size or _PIXELS, experiment.split
    official = split.kind == "official"
    common = {"fractions": PUBLISHED if official else tuple(split.fractions)}
    common["seed"] = split.seed
    try:
        if name.endswith(SIMULATED):
            kinds = _simulated(wishes, PAPER_ANNOTATORS, split.seed)
            truth = wishes["truth"] or "first"
            made = simulated_on(cohort, size, kinds, wishes["level"], truth, **common)
        else:
            names, truth = wishes["annotators"] or None, wishes["truth"] or None
            made = from_cohort(cohort, size, names, truth, wishes["at_least"], **common)
    except DataError as error:
        raise ExperimentError(f"set {name!r}", error.problem, error.hint) from error
    return LabelledData(_thinned(made, wishes, split.seed), cohort.citation)


def _simulated(wishes, kinds, seed: int):
    many = wishes["annotators"]
    if isinstance(many, list):
        return tuple(many)
    return crowd(many, seed) if many else kinds


def _thinned(made: MultiAnnotatorSet, wishes, seed: int) -> MultiAnnotatorSet:
    """Keep one label of each training picture, where that is asked; the others judge."""
    if wishes["labels"] == "dense":
        return made
    from dataclasses import replace

    single = made.one_label_per_image(seed).labels
    training = (made.subsets == "train")[:, None, None, None]
    return replace(made, labels=single * training + made.labels * ~training)
