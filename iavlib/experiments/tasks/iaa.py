"""Task ``iaa``: how much annotators agree on an image, told from the image alone.

The target is the mean Dice over all pairs of annotators' masks of the image, as in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from iavlib.agreement.tables import image_level
from iavlib.core.errors import DataError, ExperimentError, ModelError, TrainingError
from iavlib.data.cohort import Cohort
from iavlib.experiments.config import (
    AUTO,
    PROBE,
    Experiment,
    check_probe,
    check_start,
    split_settings,
)
from iavlib.experiments.subsets import assign_parts
from iavlib.experiments.tasks.task import Outcome, Say, Task, check_finite
from iavlib.models.backbones import find_backbone
from iavlib.models.weights import SOURCES, find_weights
from iavlib.training.recipe import get_recipe

if TYPE_CHECKING:
    from iavlib.experiments.tasks.image import Learnt
    from iavlib.training.image_cache import ImageCache

NAME = "iaa"
_NAMED = 5


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
            experiment = replace(experiment, weights=find_weights(backbone))
        check_weights(experiment.weights)
        chosen, fields = split_settings(experiment)
        if experiment.recipe == PROBE:
            check_probe(fields)
        else:
            recipe = get_recipe(experiment.recipe, **fields)
            check_start(chosen["start"], recipe.head, recipe.label_transform)
    except (ModelError, TrainingError, LookupError) as error:
        raise ExperimentError(
            "experiment", str(error).rstrip("."), "correct the specification"
        ) from error
    return experiment


def check_weights(weights: str) -> None:
    """Refuse weights that are neither a source nor a file."""
    if weights in SOURCES or Path(weights).is_file():
        return
    raise ExperimentError(
        f"weights = {weights!r}", "is no file", f"give a path, or one of {', '.join(SOURCES)}"
    )


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Say) -> Outcome:
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
    experiment: Experiment, table: pd.DataFrame, subsets: pd.Series, folder: Path, log: Say
) -> tuple[Learnt, ImageCache]:
    """Train what the recipe says; images that a share leaves out are in the cache all the same."""
    target = table.loc[subsets.index, "target"].rename(NAME)
    if split_settings(experiment)[0]["control"] == "shuffled_iaa":
        target = _exchanged(target, subsets, experiment.seed)
    clusters = table.loc[subsets.index, "cluster"]
    if experiment.recipe == PROBE:
        from iavlib.experiments.tasks.image import probe_images

        return probe_images(experiment, target, subsets, table["path"], clusters)
    from iavlib.experiments.tasks.image import train_network

    return train_network(experiment, target, subsets, table["path"], clusters, folder, log)


def _exchanged(target: pd.Series, subsets: pd.Series, seed: int) -> pd.Series:
    """Deal the targets of training images out anew among them."""
    train = subsets.index[subsets == "train"]
    dealt = np.random.default_rng(seed).permutation(target[train].to_numpy())
    return target.where(subsets != "train", pd.Series(dealt, index=train).reindex(target.index))


TASK = Task(NAME, targets, run, complete)
