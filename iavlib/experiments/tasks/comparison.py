"""Task ``comparison``: every method for several raters on the same images, by the same measures.

``method`` is one of :data:`iavlib.multiannotator.METHODS`, whoever adds it; a fusion of the test
image's own masks (``fuse-mean``, ``fuse-mode``, ``fuse-staple``, ``fuse-spatial-staple``);
``diff``, Take and Give that learnt DF-GT and sees the image alone; or ``fuse-diff``, DF-GT of the
test image, which uses its diagnosis. ``overrides`` set fields of the recipe, of the data (see
:mod:`~iavlib.experiments.tasks.diagnosed_sets`), :data:`SETTINGS`, and settings of the method.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.config import Experiment
from iavlib.experiments.tasks import diagnosed_sets, segmentation, take_give
from iavlib.experiments.tasks.diagnosed_sets import (
    DIAGNOSED_SETTINGS,
    DiagnosedData,
    DiagnosedSettings,
    diagnoses,
)
from iavlib.experiments.tasks.diagnosis_first import about, two_subsets
from iavlib.experiments.tasks.labelled_data import DATA_SETTINGS, DataSettings
from iavlib.experiments.tasks.task import Log, Outcome, Task

NAME = "comparison"
FUSE = "fuse-"
FUSIONS = ("fuse-mean", "fuse-mode", "fuse-staple", "fuse-spatial-staple")
DIFF, DIFF_FUSED = "diff", "fuse-diff"
#: Methods that are given the test image's own masks.
SEE_THE_MASKS = (*FUSIONS, DIFF_FUSED)
NONE = "none"
#: ``width``: channels of the finest stage of U-Nets, doubled at each of three; ``encoder`` of DiFF
#: and of the net that diagnoses with every method's masks, and its ``diagnosis_epochs``; ``steps``
#: and ``blocks`` of DiFF.
SETTINGS: dict[str, Any] = {
    "width": 8,
    "encoder": "small",
    "diagnosis_epochs": 10,
    "steps": 20,
    "blocks": 4,
}
#: What the small networks of DiFF are trained with.
_OF_DIFF = {"lr": 3e-3, "batch_size": 16, "warmup_epochs": 0}
_STAGES = 3


class ComparisonSettings(DiagnosedSettings):
    """Settings of task ``comparison``, see :data:`SETTINGS`."""

    width: Annotated[int, Field(ge=1)] = SETTINGS["width"]
    encoder: str = SETTINGS["encoder"]
    diagnosis_epochs: Annotated[int, Field(ge=1)] = SETTINGS["diagnosis_epochs"]
    steps: Annotated[int, Field(ge=1)] = SETTINGS["steps"]
    blocks: Annotated[int, Field(ge=0, le=4)] = SETTINGS["blocks"]


def compared() -> tuple[str, ...]:
    """Name all methods that can be compared."""
    from iavlib.multiannotator.method import method_names  # needs PyTorch, which a list does not

    return (*FUSIONS, *method_names(), DIFF, DIFF_FUSED)


def complete(experiment: Experiment) -> Experiment:
    """Fix the weights, and refuse what cannot be run."""
    from iavlib.multiannotator.method import method_names

    if experiment.method.name not in compared():
        known = suggest(experiment.method.name, compared())
        raise ExperimentError("method", f"no method {experiment.method.name!r} to compare", known)
    if experiment.method.name in method_names():
        return experiment.replace(weights=segmentation.complete(of_method(experiment)).weights)
    common, rest = _settings(experiment)
    if rest:
        name = next(iter(rest))
        known = [*SETTINGS, *DATA_SETTINGS, *DIAGNOSED_SETTINGS]
        raise ExperimentError(f"overrides.{name}", "is no setting", suggest(name, known))
    if min(common[name] for name in ("width", "diagnosis_epochs", "steps")) < 1:
        raise ExperimentError("overrides", "width, epochs or steps below 1", "give 1 or more")
    return experiment.replace(weights=NONE)


def _settings(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell apart this task's settings and those of the recipe, and what is neither."""

    from iavlib.training.recipe import Recipe

    of_recipe = set(Recipe.model_fields)
    known = {*SETTINGS, *DATA_SETTINGS, *DIAGNOSED_SETTINGS, *of_recipe}
    rest = {name: value for name, value in experiment.overrides.items() if name not in known}
    common = {name: experiment.overrides.get(name, value) for name, value in SETTINGS.items()}
    return common | diagnosed_sets.settings_of(experiment.overrides), rest


def of_method(experiment: Experiment) -> Experiment:
    """Return the experiment as task ``segmentation`` takes it.

    A method that has no setting ``widths`` keeps the networks it has, and a backbone it is not
    built on gives way to the first that it is.
    """
    from iavlib.multiannotator.method import METHODS

    entry = METHODS[experiment.method.name]
    data = {
        name: value
        for name, value in experiment.settings.given().items()
        if name in DataSettings.model_fields
    }
    method = {"name": experiment.method.name, **experiment.method.settings}
    if "widths" in entry.method.defaults and "widths" not in method:
        width = experiment.settings.width
        method["widths"] = [width * 2**stage for stage in range(_STAGES)]
    backbones = getattr(entry.method, "backbones", (segmentation.BACKBONE,))
    backbones = backbones if isinstance(backbones, tuple | list) else (segmentation.BACKBONE,)
    backbone = experiment.backbone if experiment.backbone in backbones else backbones[0]
    return experiment.replace(
        task=segmentation.NAME, settings=data, method=method, backbone=backbone
    )


def run(experiment: Experiment, source: DiagnosedData, folder: Path, log: Log) -> Outcome:
    """Learn from the training part; judge the test part by :mod:`iavlib.multiannotator.scores`."""
    from iavlib.multiannotator.scores import judge_prediction

    chosen, _ = _settings(experiment)
    subsets = two_subsets(source, experiment, log)  # no method chooses an epoch
    known = diagnoses(source, subsets, chosen["diagnosis"], experiment.seed)
    started = time.process_time()
    prediction, parameters, history = _predict(experiment, chosen, subsets, known, folder, log)
    seconds = time.process_time() - started
    scores = _diagnose(experiment, chosen, source, prediction, log)
    rows, metrics = judge_prediction(prediction, subsets["test"], known["test"], scores)
    metrics |= {"n_parameters": float(parameters), "method_seconds": seconds}
    metrics["n_images"] = float(sum(map(len, subsets.values())))
    shutil.rmtree(folder / "networks", ignore_errors=True)
    return Outcome(
        rows.assign(subset="test"),
        {"test": metrics},
        history,
        {},
        {"source": NONE, "detail": f"random, seed {experiment.seed}", "is_random": True},
        {**chosen, **about(source, experiment, subsets), "method": experiment.method.name}
        | {"sees_the_masks": experiment.method.name in SEE_THE_MASKS},
    )


def _predict(experiment, chosen, subsets, known, folder: Path, log: Log):
    """Return what the method says of the test part, its parameters, and its history."""
    import pandas as pd

    from iavlib.multiannotator.fusion import fuse
    from iavlib.multiannotator.scores import of_masks

    name, test = experiment.method.name, subsets["test"]
    if name in FUSIONS:
        return of_masks(fuse(test, name.removeprefix(FUSE))[:, 1], test), 0, pd.DataFrame()
    if name in (DIFF, DIFF_FUSED):
        return _diff(experiment, chosen, subsets, known, folder)
    place = folder / "networks" / "method"
    known_parts = {subset: with_vote(one) for subset, one in subsets.items()}
    fitted, _ = segmentation.learn(of_method(experiment), known_parts, place, log)
    return fitted.predict(test), fitted.n_parameters, fitted.history


def with_vote(labelled):
    """Let the vote be the truth where none is known: ``cm-oracle`` is told raters' errors."""
    from iavlib.multiannotator.cohort_sets import majority_labels

    if labelled.truth is not None:
        return labelled
    return replace(labelled, truth=majority_labels(labelled), truth_is="majority vote")


def _diff(experiment, chosen, subsets, known, folder: Path):
    """Fuse the test part for its diagnoses, or draw what was learnt of such fusions."""
    import pandas as pd

    from iavlib.models.take_give import TakeGive
    from iavlib.multiannotator.assisted_training import segment, train
    from iavlib.multiannotator.scores import of_masks

    recipe = _recipe(experiment.overrides)
    given = {**chosen, "learns": "expg"}
    masks = take_give.masks_to_learn(experiment, given, recipe, subsets, known, folder)
    if experiment.method.name == DIFF_FUSED:
        return of_masks(masks["test"], subsets["test"]), 0, pd.DataFrame()
    size, seed = subsets["test"].images.shape[1], experiment.seed
    made = TakeGive(chosen["encoder"], NONE, chosen["blocks"], seed, size)
    place = folder / "networks" / "take-give"
    history = train(made, subsets["train"], masks["train"], known["train"], recipe, seed, place)
    drawn, _ = segment(made, subsets["test"].images)
    parameters = sum(one.numel() for one in made.parameters())
    return of_masks(drawn, subsets["test"]), parameters, history


_judges: dict[str, Any] = {"key": None, "net": None}


def _diagnose(experiment, chosen, source: DiagnosedData, prediction, log: Log):
    """Let one net, the same for all methods, diagnose with the masks of the test part."""
    from iavlib.models.assisted import build_assisted
    from iavlib.multiannotator.assisted_training import diagnose, train
    from iavlib.multiannotator.fusion import fuse

    subsets = two_subsets(source, experiment, lambda _: None)
    key = repr((source.fingerprint, experiment.seed, sorted(chosen.items()), len(subsets["train"])))
    if _judges["key"] != key:
        known = diagnoses(source, subsets, chosen["diagnosis"], experiment.seed)
        seed, training = experiment.seed, subsets["train"]
        net = build_assisted("cat", chosen["encoder"], NONE, seed, training.images.shape[1])
        masks = fuse(training, "mode")[:, 1]
        recipe = _recipe({"epochs": chosen["diagnosis_epochs"]})
        train(net, training, masks, known["train"], recipe, seed)
        log("the net that diagnoses with masks is trained")
        _judges.update(key=key, net=net)
    test = subsets["test"]
    return diagnose(_judges["net"], test.images, prediction.consensus[:, 1])


def _recipe(overrides: Mapping[str, Any]):
    from iavlib.training.recipe import get_recipe

    epochs = {name: overrides[name] for name in ("epochs", "augmentation") if name in overrides}
    return get_recipe("annotators", **{**_OF_DIFF, **epochs})


TASK = Task(
    NAME,
    diagnosed_sets.targets,
    run,
    complete,
    ComparisonSettings,
    resolve_dataset=diagnosed_sets.choose,
    load=diagnosed_sets.load,
    methods=compared,
)
