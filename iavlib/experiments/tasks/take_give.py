"""Task ``take-give``: segmentation and diagnosis side by side, with connected blocks or without.

``overrides`` set fields of the recipe, of the data (see
:mod:`~iavlib.experiments.tasks.diagnosed_sets`), and :data:`SETTINGS`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib.core.errors import ExperimentError
from iavlib.experiments.config import Experiment
from iavlib.experiments.tasks import diagnosed_sets
from iavlib.experiments.tasks.diagnosed_sets import (
    DiagnosedData,
    DiagnosedSettings,
    diagnoses,
    split_settings,
)
from iavlib.experiments.tasks.diagnosis_first import (
    about,
    area,
    check_recipe,
    predictions,
    recipe_of,
    two_subsets,
    weights_record,
    with_weights,
)
from iavlib.experiments.tasks.task import Log, Outcome, Task

NAME = "take-give"
MAJORITY, MEAN = "majority", "mean"
#: ``blocks`` connected, 0 (Baseline-Seg and Baseline-Dia) to 4; ``learns``: the masks of the
#: training part, ``majority``, ``mean``, or a generator of DF-GT with its ``steps``.
SETTINGS: dict[str, Any] = {"blocks": 4, "learns": MAJORITY, "steps": 20}


class TakeGiveSettings(DiagnosedSettings):
    """Settings of task ``take-give``, see :data:`SETTINGS`."""

    blocks: Annotated[int, Field(ge=0, le=4)] = SETTINGS["blocks"]
    learns: str = SETTINGS["learns"]
    steps: Annotated[int, Field(ge=1)] = SETTINGS["steps"]


def complete(experiment: Experiment) -> Experiment:
    """Fix the weights, and refuse what cannot be run."""
    from iavlib.models.weights import find_weights
    from iavlib.multiannotator.expertness import GENERATORS

    _, chosen = split_settings(experiment, SETTINGS)
    check_recipe(experiment, SETTINGS)
    known = (MAJORITY, MEAN, *GENERATORS)
    if chosen["learns"] not in known:
        told = f"overrides.learns = {chosen['learns']!r}"
        raise ExperimentError(told, "is not possible", f"give one of {', '.join(known)}")
    if not 0 <= chosen["blocks"] <= 4 or chosen["steps"] < 1:
        raise ExperimentError("overrides", "blocks or steps are impossible", "give 0 to 4 blocks")
    return with_weights(experiment, find_weights)


def run(experiment: Experiment, source: DiagnosedData, folder: Path, log: Log) -> Outcome:
    """Learn from the training part; judge the test part from its images alone.

    Metrics: ``soft_dice`` to the raters' mean vote, ``soft_dice_learnt`` to masks made as those
    learnt from (of DF-GT these know the diagnosis of the test image), ``dice_<rater>``,
    ``dice_truth`` where it is known, and ``auroc`` of the network's own diagnosis.
    """
    from iavlib.models.take_give import TakeGive
    from iavlib.multiannotator.assisted_training import segment, train

    recipe, chosen = recipe_of(experiment, SETTINGS)
    subsets = two_subsets(source, experiment, log)
    known = diagnoses(source, subsets, chosen["diagnosis"], experiment.seed)
    masks = masks_to_learn(experiment, chosen, recipe, subsets, known, folder)
    size = subsets["test"].images.shape[1]
    given = (experiment.backbone, experiment.weights, chosen["blocks"], experiment.seed, size)
    made = TakeGive(*given)
    place = folder / "networks" / "take-give"
    history = train(
        made, subsets["train"], masks["train"], known["train"], recipe, experiment.seed, place
    )
    log(f"loss {history['train_loss'].iloc[-1]:.3f}")
    drawn, diagnosis = segment(made, subsets["test"].images)
    rows, metrics = _judge(drawn, diagnosis, subsets["test"], masks["test"], known["test"])
    metrics["n_parameters"] = float(sum(one.numel() for one in made.parameters()))
    metrics["n_images"] = float(sum(map(len, subsets.values())))
    shutil.rmtree(folder / "networks", ignore_errors=True)
    return Outcome(
        rows,
        {"test": metrics},
        history,
        {},
        weights_record(made.backbone["diagnosis"]),
        recipe.to_dict() | chosen | about(source, experiment, subsets),
    )


def masks_to_learn(experiment, chosen, recipe, subsets, known, folder: Path):
    """Return the masks of each part that are learnt from, or would be: part to (n, H, W)."""
    from iavlib.models.assisted import build_assisted
    from iavlib.multiannotator.assisted_training import train
    from iavlib.multiannotator.expertness import optimise_expertness
    from iavlib.multiannotator.fusion import fuse

    how = {MAJORITY: "mode", MEAN: "mean"}.get(chosen["learns"])
    if how:
        return {name: fuse(subset, how)[:, 1] for name, subset in subsets.items()}
    training, seed = subsets["train"], experiment.seed
    size = training.images.shape[1]
    # the released code's net that judges masks: image and mask joined, of the majority
    net = build_assisted("cat", encoder_of(experiment, chosen), experiment.weights, seed, size)
    voted = fuse(training, "mode")[:, 1]
    train(net, training, voted, known["train"], recipe, seed, folder / "networks" / "cat")
    return {
        name: optimise_expertness(
            net, subset.images, subset.labels, known[name], chosen["learns"], chosen["steps"], seed
        ).fused
        for name, subset in subsets.items()
    }


def encoder_of(experiment: Experiment, chosen) -> str:
    """Return the encoder of diagnosis nets: the backbone, unless a setting names another."""
    return chosen.get("encoder") or experiment.backbone


def _judge(drawn, diagnosis, test, learnt, known) -> tuple[pd.DataFrame, dict[str, float]]:
    from iavlib.masks import dice, soft_dice

    mean = test.mean_map()
    columns = {
        "soft_dice": [soft_dice(*pair) for pair in zip(drawn, mean, strict=True)],
        "soft_dice_learnt": [soft_dice(*pair) for pair in zip(drawn, learnt, strict=True)],
    }
    for place, name in enumerate(test.annotators):
        pairs = zip(drawn > 0.5, test.labels[:, place], ~test.missing[:, place], strict=True)
        columns[f"dice_{name}"] = [dice(a, b > 0) if here else np.nan for a, b, here in pairs]
    if test.truth is not None:
        pairs = zip(drawn > 0.5, test.truth > 0, strict=True)
        columns["dice_truth"] = [dice(*pair) for pair in pairs]
    rows = predictions(test.ids, known, diagnosis, **columns)
    metrics = {name: float(rows[name].mean()) for name in columns}
    return rows, metrics | {"auroc": area(known, diagnosis)}


TASK = Task(
    NAME,
    diagnosed_sets.targets,
    run,
    complete,
    TakeGiveSettings,
    resolve_dataset=diagnosed_sets.choose,
    load=diagnosed_sets.load,
)
