"""Sets of several raters' labels whose images have a diagnosis, for the tasks of DiFF.

Names are those of :mod:`iavlib.experiments.tasks.labelled_data` but for the digits. Of
``overrides``, ``images`` says how many images are taken (0: all that there are; otherwise as many
of both classes as there are, drawn by the seed of the split), and ``diagnosis`` whether the
diagnoses are ``true`` or ``permuted``, within each part of the split: what then still predicts
them has seen them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib.core.errors import ExperimentError, suggest
from iavlib.data.cohort import target
from iavlib.experiments.config import Experiment
from iavlib.experiments.tasks import labelled_data
from iavlib.experiments.tasks.labelled_data import (
    DATA_SETTINGS,
    DIGITS,
    SIMULATED,
    DataSettings,
    LabelledData,
)

TRUE, PERMUTED = "true", "permuted"
#: What ``overrides`` may say beside the labelled set, with its default.
DIAGNOSED_SETTINGS: dict[str, Any] = {"images": 0, "diagnosis": TRUE}


class DiagnosedSettings(DataSettings):
    """Settings of the data of tasks that use the diagnosis of each image too.

    Attributes
    ----------
    images : int
        How many images are taken, of both classes alike; 0 for all.
    diagnosis : {"true", "permuted"}
        The diagnoses, or a permutation of them within each subset (a test for leaks).
    """

    images: Annotated[int, Field(ge=0)] = 0
    diagnosis: Literal["true", "permuted"] = "true"


_last: dict[str, Any] = {"key": None, "data": None}


@dataclass(frozen=True, eq=False)
class DiagnosedData(LabelledData):
    """A set with the diagnosis of each image.

    Attributes
    ----------
    diagnosis : pandas.Series of int
        0 or 1, by image, in the set's order.
    """

    diagnosis: pd.Series

    @property
    def fingerprint(self) -> str:
        """Digest of pictures, labels, parts and diagnoses."""
        told = f"{self.labelled.fingerprint}{self.diagnosis.tolist()}"
        return hashlib.sha256(told.encode()).hexdigest()[:12]


def choose(experiment: Experiment) -> tuple[str, dict[str, Any]]:
    """Log which set an experiment works on; see :func:`labelled_data.choose`."""
    name, options = labelled_data.choose(experiment)
    if name in DIGITS:
        raise ExperimentError(f"set {name!r}", "has no diagnoses", "name a cohort of lesions")
    return name, options


def load(experiment: Experiment) -> DiagnosedData:
    """Load the set of an experiment; the last one is kept.

    Raises
    ------
    ExperimentError
        If a setting is wrong, or fewer than two images of a class are there.
    """
    from iavlib.experiments.runner import load_cohort

    name, options = choose(experiment)
    wishes = labelled_data.settings_of(experiment.overrides)
    many = settings_of(experiment.overrides)["images"]
    cohort = load_cohort(name.removesuffix(SIMULATED), **options)
    split = experiment.split
    key = repr((name, cohort.fingerprint, wishes, many, experiment.size, split))
    if _last["key"] != key:
        diagnosed = _with_files(cohort)
        kept = _balanced(diagnosed, many, experiment.split.seed, name)
        made = labelled_data.of_cohort(name, cohort.select(kept.index), wishes, experiment)
        diagnosis = kept.loc[made.labelled.ids]
        _last.update(key=key, data=DiagnosedData(made.labelled, made.citation, diagnosis))
    return _last["data"]


def settings_of(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return what overrides say of images and diagnoses, completed by defaults.

    Raises
    ------
    ExperimentError
        If a value is not possible.
    """
    found = {name: overrides.get(name, default) for name, default in DIAGNOSED_SETTINGS.items()}
    many, which = found["images"], found["diagnosis"]
    if isinstance(many, bool) or not isinstance(many, int) or many < 0:
        raise ExperimentError(f"overrides.images = {many!r}", "is no number", "give 0 or more")
    if which not in (TRUE, PERMUTED):
        told = f"overrides.diagnosis = {which!r}"
        raise ExperimentError(told, "is not possible", f"give {TRUE} or {PERMUTED}")
    return found


def split_settings(
    experiment: Experiment, own: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell apart what ``overrides`` set of the recipe and of a task.

    Parameters
    ----------
    experiment : Experiment
    own : mapping
        Settings of the task with their defaults.

    Returns
    -------
    dict
        Fields of the recipe that are set.
    dict
        All settings of the task, the data's among them.

    Raises
    ------
    ExperimentError
        If there is no such setting, or a value is of another kind than the default.
    """
    from iavlib.training.recipe import Recipe

    of_recipe = set(Recipe.model_fields) - {"name"}
    chosen = dict(own) | settings_of(experiment.overrides)
    recipe = {}
    for name, value in experiment.overrides.items():
        if name in own:
            _check_kind(name, value, own[name])
            chosen[name] = value
        elif name in of_recipe:
            recipe[name] = value
        elif name not in DATA_SETTINGS and name not in DIAGNOSED_SETTINGS:
            known = [*own, *of_recipe, *DATA_SETTINGS, *DIAGNOSED_SETTINGS]
            raise ExperimentError(f"overrides.{name}", "is no setting", suggest(name, known))
    return recipe, chosen


def _check_kind(name: str, value: Any, default: Any) -> None:
    kinds = {int: "a whole number", str: "a name", list: "a list of names"}
    kind = list if isinstance(default, tuple) else type(default)
    if not isinstance(value, kind) or isinstance(value, bool):
        told = f"overrides.{name} = {value!r}"
        raise ExperimentError(told, f"must be {kinds[kind]}", f"correct {name}")


def diagnoses(source: DiagnosedData, subsets: Mapping[str, Any], which: str, seed: int):
    """Return the diagnoses of each part's images, or a permutation of them within the part.

    Returns
    -------
    dict of str to numpy.ndarray
        Part to values 0 and 1.

    Raises
    ------
    ExperimentError
        If a part has one class only.
    """
    generator, found = np.random.default_rng(seed), {}
    for name, subset in subsets.items():
        values = source.diagnosis.loc[subset.ids].to_numpy()
        if name != "val" and len(set(values.tolist())) < 2:
            told = f"part {name!r} of set {source.name!r}"
            raise ExperimentError(
                told, "has one class only", "give it more images, or another split"
            )
        found[name] = generator.permutation(values) if which == PERMUTED else values
    return found


def targets(source: DiagnosedData) -> pd.DataFrame:
    """List the images of a set with their diagnoses, as ``target``."""
    return source.diagnosis.rename("target").to_frame()


def _with_files(cohort) -> pd.Series:
    """Return the diagnoses of images whose file and at least one mask are here."""
    marked = cohort.masks.loc[cohort.masks["path"].notna(), "image_id"].unique()
    shown = cohort.images.index[cohort.images["path"].notna()]
    diagnosed = target(cohort)
    return diagnosed[diagnosed.index.isin(marked) & diagnosed.index.isin(shown)]


def _balanced(diagnosed: pd.Series, many: int, seed: int, name: str) -> pd.Series:
    counts = diagnosed.value_counts()
    if len(counts) < 2 or counts.min() < 2:
        told = f"has {counts.to_dict()} images with file, mask and diagnosis"
        raise ExperimentError(f"set {name!r}", told, "put more files beside its tables")
    if not many or many >= len(diagnosed):
        return diagnosed
    drawn = diagnosed.sample(frac=1, random_state=np.random.default_rng(seed))
    fewer = min(many // 2, counts.min())
    takes = {counts.idxmin(): fewer, counts.idxmax(): many - fewer}
    kept = pd.concat([drawn[drawn == one].head(n) for one, n in takes.items()])
    return diagnosed[diagnosed.index.isin(kept.index)]
