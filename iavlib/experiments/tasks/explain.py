"""Task ``explain``: what a trained network looks at, measured on images that it has not seen.

``start`` is the experiment whose network is explained (``iaa``, ``diagnosis`` or ``multitask``);
``cohort`` tells which images, with masks, and may be another than the one it was trained on.
Images that were in its training or validation part, or whose patient was, are left out. Nothing is
learnt. ``overrides`` are those of :class:`ExplainSettings`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pandas as pd
from pydantic import Field

from iavlib.agreement.tables import image_level
from iavlib.core.errors import DataError, ExperimentError
from iavlib.data.cohort import Cohort, target
from iavlib.experiments.config import PROBE, Experiment, TaskSettings
from iavlib.experiments.store import PREDICTIONS, read_prediction_file
from iavlib.experiments.tasks.image import DIAGNOSIS, IAA, MULTITASK
from iavlib.experiments.tasks.task import Log, Outcome, Task

NAME = "explain"
_STARTS = (IAA, DIAGNOSIS, MULTITASK)


class ExplainSettings(TaskSettings):
    """Settings of task ``explain``.

    Attributes
    ----------
    methods : str
        ``all`` of :data:`iavlib.explain.METHODS`, ``cam`` for class activation maps alone, or one
        by its name.
    stride : int, optional
        See :func:`iavlib.explain.find_layer`.
    band : float
        Half width of the border band, as a share of the image's side.
    steps : int
        Of integrated gradients.
    curve_steps : int
        Points of insertion and deletion curves; 0 for none.
    cascade : int
        Images on which weights are randomised stage by stage; 0 for none.
    max_images : int
        Explain the first images by id only; 0 for all.
    control : {"none", "random_weights"}
        ``random_weights`` explains an untrained network of the same kind.
    """

    VERSION_1: ClassVar = {"max_images": ("most", {})}

    methods: str = "all"
    stride: Annotated[int, Field(ge=1)] | None = None
    band: Annotated[float, Field(ge=0)] = 0.05
    steps: Annotated[int, Field(ge=1)] = 16
    curve_steps: Annotated[int, Field(ge=0)] = 8
    cascade: Annotated[int, Field(ge=0)] = 8
    max_images: Annotated[int, Field(ge=0)] = 0
    control: Literal["none", "random_weights"] = "none"


def complete(experiment: Experiment) -> Experiment:
    """Refuse what cannot be run."""
    begun = experiment.parent
    problem = "names no experiment whose network is to be explained"
    if begun is not None:
        problem = ""
        if begun.task not in _STARTS or begun.recipe.name == PROBE:
            problem = f"({begun.task}, {begun.recipe.name}) leaves no network"
        elif begun.settings.control == "iaa_input":
            problem = "is a control whose network takes more than an image"
    if problem:
        hint = f"start from a trained experiment of {', '.join(_STARTS)}"
        raise ExperimentError("init_from", problem, hint)
    return experiment


def targets(cohort: Cohort) -> pd.DataFrame:
    """List the images over which a mask lies.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``target`` (mean pairwise Dice; missing for images with one mask),
        ``label`` (1 malignant, 0 benign, or missing), ``path``, ``malignancy``, ``n_masks``,
        ``cluster``.

    Raises
    ------
    DataError
        If there is none.
    """
    from iavlib.explain.localisation import usable_images

    ids = usable_images(cohort)
    if not len(ids):
        raise DataError(
            f"cohort {cohort.name!r}",
            "no image has both a file and a mask that lies over it",
            "get masks and images ('iav data status' says how), or use the cohort phantom",
        )
    here = cohort.masks[cohort.masks["path"].notna()]
    agreement = pd.Series(dtype=float)
    if len(cohort.pairs):
        agreement = image_level(cohort.pairs)["dice_mean"]
    return pd.DataFrame(
        {
            "target": agreement.reindex(ids),
            "label": target(cohort).reindex(ids),
            "path": cohort.images.loc[ids, "path"],
            "malignancy": cohort.images.loc[ids, "malignancy"],
            "n_masks": here["image_id"].value_counts().reindex(ids, fill_value=0),
            "cluster": cohort.clusters()[ids],
        },
        index=ids,
    )


def unseen(table: pd.DataFrame, begun: Path) -> pd.DataFrame:
    """Keep the images that a run neither learnt from nor chose by, nor other images of a patient.

    Parameters
    ----------
    table : pandas.DataFrame
        As of :func:`targets`.
    begun : Path
        Directory of the run.

    Raises
    ------
    ExperimentError
        If none is left.
    """
    known = read_prediction_file(begun / PREDICTIONS)
    seen = known[known["subset"] != "test"]
    left = table[~table.index.isin(seen["image_id"]) & ~table["cluster"].isin(seen["cluster"])]
    if left.empty:
        told = f"its network has seen all {len(table):,} images, or their patients"
        raise ExperimentError(
            f"init_from = {begun}", told, "give other images, or a larger test part"
        )
    return left


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Log) -> Outcome:
    """Explain the images that the network has not seen.

    ``predictions`` has a row an image, target and method: ``true`` and ``predicted`` (mean Dice,
    or class and probability), the measures of :func:`iavlib.explain.measure`, ``others_<region>``
    (share of the other images' mean map), ``kept`` (share of absolute attribution that points in
    the target's direction), ``total`` (mean with its sign), ``opposite`` (rank correlation with
    the map of the opposite direction) and, where asked, ``deletion`` and ``insertion``
    (areas under the curves) with ``random_deletion`` and ``random_insertion``. Settings hold
    ``agreement`` of methods and the ``cascade``.
    """
    from iavlib.experiments.tasks.explaining import explain_images

    begun = experiment.parent
    settings = experiment.settings
    source = folder.parents[1] / begun.task / begun.id
    table = targets(cohort)
    left = unseen(table, source)
    if settings.max_images:
        left = left.sort_index().head(settings.max_images)
    log(f"{len(left):,} of {len(table):,} images with masks were not seen by {begun.name}")
    rows, found, weights = explain_images(settings, experiment.seed, cohort, left, source, log)
    return Outcome(
        rows,
        {"test": found.pop("metrics")},
        weights=weights,
        settings=settings.to_dict() | found | {"explained": begun.name},
    )


TASK = Task(NAME, targets, run, complete, ExplainSettings)
