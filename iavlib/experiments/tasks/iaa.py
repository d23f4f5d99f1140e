"""Task ``iaa``: how much annotators agree on an image, told from the image alone.

The target is the mean Dice over all pairs of annotators' masks of the image, as in the paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib.agreement.tables import image_level
from iavlib.core.errors import DataError, ExperimentError, ModelError, TrainingError
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import AUTO, FINETUNE, PROBE, Experiment, TaskSettings
from iavlib.experiments.subsets import assign_parts
from iavlib.experiments.tasks.task import Log, Outcome, Task, check_finite
from iavlib.models.backbones import find_backbone
from iavlib.models.weights import SOURCES, find_weights
from iavlib.training.recipe import Recipe

if TYPE_CHECKING:
    from iavlib.experiments.tasks.image import Learnt
    from iavlib.training.image_cache import ImageCache

NAME = "iaa"
_NAMED = 5
# recipes that reproduce others' work start as that did
_HEAD_INIT = {"paper": "zero", "student": "zero", FINETUNE: "ridge"}


class RegressionSettings(TaskSettings):
    """Settings of task ``iaa``; those that are None depend on the recipe.

    Attributes
    ----------
    tta : {1, 2, 4, 8}
        Views over which predictions are averaged: 4 of ``finetune``, else 1.
    head_init : {"zero", "median", "ridge"}
        Where predictions begin: as drawn, at the median of the training subset, or at the ridge
        regression on the untouched features (linear heads only).
    normalise : {"weights", "train"}
        Images by mean and deviation that go with the weights, or those of the training subset.
    quantiles : int
        Of a head of that kind.
    control : {"none", "shuffled_iaa"}
        ``shuffled_iaa`` permutes the agreement of the training images by the seed, so that nothing
        can be learnt from it.
    """

    VERSION_1: ClassVar = {"head_init": ("start", {})}

    tta: Literal[1, 2, 4, 8] | None = None
    head_init: Literal["zero", "median", "ridge"] | None = None
    normalise: Literal["weights", "train"] | None = None
    quantiles: Annotated[int, Field(ge=1)] = 5
    control: Literal["none", "shuffled_iaa"] = "none"

    def with_defaults(self, experiment: Experiment) -> RegressionSettings:
        """Fill in the defaults of the recipe."""
        recipe = experiment.recipe.name
        defaults = {
            "tta": 4 if recipe == FINETUNE else 1,
            "head_init": _HEAD_INIT.get(recipe, "median"),
            "normalise": "train" if recipe == "paper" else "weights",
        }
        return self.filled(defaults)


def targets(cohort: Cohort) -> pd.DataFrame:
    """List the images that have a file and a target.

    Parameters
    ----------
    cohort : Cohort

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``target`` (mean pairwise Dice), ``path``, ``malignancy``, ``n_masks``
        and ``cluster`` (the patient).

    Raises
    ------
    DataError
        If there is none, or a target lies outside [0, 1].
    """
    agreement = image_level(cohort.pairs)["dice_mean"].reindex(cohort.images.index)
    n_masks = cohort.masks["image_id"].value_counts().reindex(cohort.images.index, fill_value=0)
    table = pd.DataFrame(
        {
            "target": agreement,
            "path": cohort.images["path"],
            "malignancy": cohort.images["malignancy"],
            "n_masks": n_masks,
            "cluster": cohort.clusters(),
        }
    ).rename_axis("image_id")
    table = table[table["target"].notna() & table["path"].notna()]
    if table.empty:
        raise DataError(
            f"cohort {cohort.name!r}",
            f"no image has both a file and two masks ({agreement.notna().sum():,} have masks, "
            f"{cohort.images['path'].notna().sum():,} a file)",
            "get its images ('iav data status' says how), or use the cohort phantom",
        )
    outside = table.index[~table["target"].between(0, 1)]
    if len(outside):
        named = ", ".join(outside[:_NAMED])
        raise DataError(
            f"cohort {cohort.name!r}", f"mean Dice outside [0, 1]: {named}", "measure it anew"
        )
    return table


def complete(experiment: Experiment) -> Experiment:
    """Choose the weights at hand, and refuse what cannot be run."""
    try:
        backbone = find_backbone(experiment.backbone)
        if experiment.weights == AUTO:
            experiment = experiment.replace(weights=find_weights(backbone))
        check_weights(experiment.weights)
        settings = experiment.settings.with_defaults(experiment)
        if experiment.recipe.name != PROBE and settings.head_init == "ridge":
            _check_ridge(experiment.training_recipe())
    except (ModelError, TrainingError, LookupError) as error:
        raise ExperimentError(
            "experiment", str(error).rstrip("."), "correct the specification"
        ) from error
    return experiment


def _check_ridge(recipe: Recipe) -> None:
    """Refuse to start at a ridge regression what is no linear head of the target itself."""
    if recipe.head != "linear" or recipe.label_transform != "none":
        raise ExperimentError(
            "settings.head_init = 'ridge'",
            f"does not fit a head of kind {recipe.head!r} with label_transform "
            f"{recipe.label_transform!r}",
            "set head: linear and label_transform: none, or head_init: median",
        )


def check_weights(weights: str) -> None:
    """Refuse weights that are neither a source nor a file."""
    if weights in SOURCES or Path(weights).is_file():
        return
    raise ExperimentError(
        f"weights = {weights!r}", "is no file", f"give a path, or one of {', '.join(SOURCES)}"
    )


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Log) -> Outcome:
    """Learn on the training part, choose by the validation part, predict every image.

    ``metrics`` holds beside the errors ``reduction``: by what share the mean absolute error is
    below that of the training part's median.
    """
    from iavlib.experiments.tasks.image import judge

    table = targets(cohort)
    left_out = len(cohort.images) - len(table)
    if left_out:
        log(f"{left_out:,} of {len(cohort.images):,} images have no file or fewer than two masks")
    subsets = assign_parts(cohort.select(table.index), experiment)
    learnt, cache = _learn(experiment, table, subsets, folder, log)
    check_finite(learnt.predictions["predicted"])
    known = table.loc[subsets.index].rename(columns={"target": "true"}).assign(subset=subsets)
    columns = ["subset", "true", *learnt.predictions.columns, "malignancy", "n_masks", "cluster"]
    predictions = known.join(learnt.predictions)[columns].reset_index()
    metrics, baselines = judge(predictions, cache)
    return Outcome(predictions, metrics, learnt.history, baselines, learnt.weights, learnt.settings)


def _learn(
    experiment: Experiment, table: pd.DataFrame, subsets: pd.Series, folder: Path, log: Log
) -> tuple[Learnt, ImageCache]:
    """Train what the recipe says; images that a share leaves out are in the cache all the same."""
    target = table.loc[subsets.index, "target"].rename(NAME)
    if experiment.settings.control == "shuffled_iaa":
        target = _exchanged(target, subsets, experiment.seed)
    clusters = table.loc[subsets.index, "cluster"]
    if experiment.recipe.name == PROBE:
        from iavlib.experiments.tasks.image import probe_images

        return probe_images(experiment, target, subsets, table["path"], clusters)
    from iavlib.experiments.tasks.image import train_network

    return train_network(experiment, target, subsets, table["path"], clusters, folder, log)


def _exchanged(target: pd.Series, subsets: pd.Series, seed: int) -> pd.Series:
    """Deal the targets of training images out anew among them."""
    train = subsets.index[subsets == "train"]
    dealt = np.random.default_rng(seed).permutation(target[train].to_numpy())
    return target.where(subsets != "train", pd.Series(dealt, index=train).reindex(target.index))


TASK = Task(NAME, targets, run, complete, RegressionSettings)
