"""Task ``diagnosis-first``: raters' masks fused for the diagnosis, and whom that helps.

One run trains diagnosis nets with the majority's masks, optimises the fused mask (DF-GT) of every
test image *with its diagnosis* on one of them, the ``source``, and lets all nets diagnose with
every mask. Masks that a clinic could have come beside: a network that learnt DF-GT of the training
part draws them from the image alone. ``overrides`` set fields of the recipe, of the data (see
:mod:`~iavlib.experiments.tasks.diagnosed_sets`), and :data:`SETTINGS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.config import AUTO, Experiment
from iavlib.experiments.tasks import diagnosed_sets, labelled_data
from iavlib.experiments.tasks.diagnosed_sets import DiagnosedData, DiagnosedSettings, split_settings
from iavlib.experiments.tasks.segmentation import set_parts
from iavlib.experiments.tasks.task import Log, Outcome, Task

NAME = "diagnosis-first"
#: ``nets`` that judge, the one that masks are optimised on, ``by_rater``: nets that are trained
#: with each rater's masks; ``generators`` of expertness maps, their ``steps``; ``clinic``: the
#: one whose masks of the training part a network learns to draw, or nothing.
SETTINGS: dict[str, Any] = {
    "nets": ("cat", "roi", "att", "seat"),
    "source": "cat",
    "by_rater": (),
    "generators": ("pixel", "robust", "fourier", "expg", "expg-released"),
    "steps": 20,
    "clinic": "expg",
}


class DiagnosisFirstSettings(DiagnosedSettings):
    """Settings of task ``diagnosis-first``, see :data:`SETTINGS`."""

    nets: tuple[str, ...] = SETTINGS["nets"]
    source: str = SETTINGS["source"]
    by_rater: tuple[str, ...] = ()
    generators: tuple[str, ...] = SETTINGS["generators"]
    steps: Annotated[int, Field(ge=1)] = SETTINGS["steps"]
    clinic: str = SETTINGS["clinic"]


#: Fusions that see the raters' masks and nothing else.
PLAIN = ("majority", "mean", "staple", "em")
#: Test images of each class that a rater must have marked to be judged.
FEWEST = 2


def complete(experiment: Experiment) -> Experiment:
    """Fix the weights, and refuse what cannot be run."""
    from iavlib.models.assisted import NETS
    from iavlib.models.weights import find_weights
    from iavlib.multiannotator.expertness import GENERATORS

    _, chosen = split_settings(experiment, SETTINGS)
    check_recipe(experiment, SETTINGS)
    given = [("nets", one, NETS) for one in (*chosen["nets"], *chosen["by_rater"])]
    given += [("generators", one, GENERATORS) for one in chosen["generators"]]
    given += [("clinic", chosen["clinic"], GENERATORS)] if chosen["clinic"] else []
    for field, one, known in given:
        if one not in known:
            told = f"overrides.{field}"
            raise ExperimentError(told, f"there is no {one!r}", suggest(str(one), known))
    if chosen["source"] not in chosen["nets"] or len(chosen["nets"]) < 2 or chosen["steps"] < 1:
        raise ExperimentError(
            "overrides", "source is none of two nets or more, or there are no steps", "correct them"
        )
    return with_weights(experiment, find_weights)


def check_recipe(experiment: Experiment, own: Mapping[str, Any]) -> None:
    """Refuse fields of the recipe that cannot be."""
    from iavlib.core.errors import TrainingError
    from iavlib.training.recipe import get_recipe

    try:
        get_recipe(experiment.recipe.name, **split_settings(experiment, own)[0])
    except TrainingError as error:
        raise ExperimentError("experiment", str(error), "correct the specification") from error


def with_weights(experiment: Experiment, find_weights) -> Experiment:
    """Fix weights that are left open: what is here of the encoder's, none of ``small``."""
    from iavlib.models.assisted import SMALL

    if experiment.weights != AUTO:
        return experiment
    found = "none" if experiment.backbone == SMALL else find_weights(experiment.backbone)
    return experiment.replace(weights=found)


def run(experiment: Experiment, source: DiagnosedData, folder: Path, log: Log) -> Outcome:
    """Do what the module's description says.

    Metrics of the test part: ``auroc_<net>_<mask>`` of each net and mask, ``others_<mask>`` (mean
    over the nets that masks were not optimised on), ``source_<mask>``, ``given_<rater>`` (mean
    over nets given that rater's masks), ``own_<rater>`` (nets trained with them too),
    ``high_<generator>`` (share of fine waves in its weights), ``loss_before`` and
    ``loss_<generator>`` (of the source); ``clinic_majority`` and ``clinic_<generator>`` (mean over
    the other nets, with masks drawn from the image alone), ``dice_...`` of these (soft Dice to the
    mean vote); ``n_images`` of all parts.
    """
    from iavlib.experiments.tasks.diagnosis_panel import Panel

    panel = Panel(experiment, source, folder, log)
    panel.fuse_plainly()
    panel.train_nets()
    panel.judge_plain_masks()
    panel.judge_raters()
    panel.judge_expertness()
    panel.judge_the_clinic()
    panel.clear()
    return panel.outcome()


def recipe_of(experiment: Experiment, own: Mapping[str, Any]):
    """Return the recipe and the settings of a task of DiFF."""
    from iavlib.training.recipe import get_recipe

    of_recipe, chosen = split_settings(experiment, own)
    # No epoch is chosen: there is no part for that.
    return get_recipe(experiment.recipe.name, **{"select": None, "patience": None, **of_recipe}), chosen


def two_subsets(source: DiagnosedData, experiment: Experiment, log: Log) -> dict[str, Any]:
    """Return training and test part; what would be for validation is trained on."""
    subsets = set_parts(source, experiment, log)
    if "val" not in subsets:
        return subsets
    chosen = [*subsets["train"].ids, *subsets["val"].ids]
    there = source.labelled.of_annotators(subsets["train"].annotators)
    return {"train": there.select(chosen), "test": subsets["test"]}


def weights_record(network) -> dict[str, Any]:
    """Log what an encoder started from."""
    used = network.weights
    return {"source": used.source, "detail": used.detail, "is_random": used.is_random}


def about(source: DiagnosedData, experiment: Experiment, subsets) -> dict[str, Any]:
    """Log on what a run was made."""
    labelled = source.labelled
    return {
        "data": labelled_data.settings_of(experiment.overrides),
        "height": labelled.images.shape[1],
        "truth": labelled.truth_is,
        "annotators": list(subsets["test"].annotators),
        "simulated_annotators": labelled.simulated_annotators,
        "n_images": {name: len(subset) for name, subset in subsets.items()},
    }


def area(diagnosis: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve; NaN with fewer than two images of a class."""
    from iavlib.stats.roc import auroc

    counts = np.bincount(np.asarray(diagnosis, int), minlength=2)
    if counts.min() < FEWEST:
        return float("nan")
    return float(auroc(diagnosis, score).value)


def predictions(ids, diagnosis, predicted, **others) -> pd.DataFrame:
    """Put the predictions of the test part together."""
    first = {"image_id": list(ids), "subset": "test", "true": diagnosis, "predicted": predicted}
    return pd.DataFrame({**first, **others})


TASK = Task(
    NAME,
    diagnosed_sets.targets,
    run,
    complete,
    DiagnosisFirstSettings,
    resolve_dataset=diagnosed_sets.choose,
    load=diagnosed_sets.load,
)
