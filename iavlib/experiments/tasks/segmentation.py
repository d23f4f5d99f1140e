"""Task ``segmentation``: what several annotators marked, learnt by any method for them.

``method`` names one of :data:`iavlib.multiannotator.METHODS`. ``overrides`` set fields of the
recipe, settings of the method, and of the data ``labels`` (``dense``, or ``single``: one
annotator's label of each training picture), ``level`` (annotation noise of simulated annotators),
``annotators`` (how many simulated ones, or whose labels), ``truth`` and ``at_least`` (as for
:func:`iavlib.multiannotator.cohort_sets`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.config import AUTO, Experiment
from iavlib.experiments.tasks import labelled_data
from iavlib.experiments.tasks.labelled_data import DATA_SETTINGS, DataSettings, LabelledData
from iavlib.experiments.tasks.task import Log, Outcome, Task

NAME = "segmentation"
#: The network that methods are built on unless they take an encoder of timm.
BACKBONE = "unet"
NONE = "none"
#: Settings of methods that fields of the experiment say.
_OF_EXPERIMENT = {"encoder": "backbone", "weights": "weights"}


def split_settings(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell apart what ``overrides`` set of the recipe and of the method.

    Raises
    ------
    ExperimentError
        If the method is unknown, or a setting belongs to none; near names are suggested.
    """
    from iavlib.multiannotator.method import METHODS
    from iavlib.training.recipe import Recipe

    if experiment.method.name not in METHODS:
        raise ExperimentError(
            "method", f"no method {experiment.method.name!r}", suggest(experiment.method.name, METHODS)
        )
    defaults = METHODS[experiment.method.name].method.defaults
    of_method = [name for name in defaults if name not in _OF_EXPERIMENT]
    of_recipe = set(Recipe.model_fields) - {"name"}
    if both := of_recipe & set(of_method):
        raise ExperimentError(
            f"method {experiment.method.name!r}", f"{both} are settings of recipes", "rename them"
        )
    recipe, method = {}, {}
    if experiment.backbone != BACKBONE and "encoder" in defaults:
        method = {name: getattr(experiment, field) for name, field in _OF_EXPERIMENT.items()}
    for name, value in experiment.overrides.items():
        if name in of_method:
            method[name] = value
        elif name in of_recipe:
            recipe[name] = value
        elif name not in DATA_SETTINGS:
            known = [*of_method, *of_recipe, *DATA_SETTINGS]
            raise ExperimentError(f"overrides.{name}", "is no setting", suggest(name, known))
    return recipe, method


def complete(experiment: Experiment) -> Experiment:
    """Fix the weights, and refuse what cannot be run."""
    from iavlib.core.errors import MethodError, ModelError, TrainingError
    from iavlib.models.weights import find_weights
    from iavlib.multiannotator.method import METHODS, make_method
    from iavlib.training.recipe import get_recipe

    known = METHODS[experiment.method.name].method.defaults if experiment.method.name in METHODS else {}
    if experiment.backbone != BACKBONE and known and "encoder" not in known:
        raise ExperimentError(
            f"backbone = {experiment.backbone!r}",
            f"method {experiment.method.name!r} is not built on it",
            f"write backbone: {BACKBONE}",
        )
    try:
        if experiment.weights == AUTO:
            plain = experiment.backbone == BACKBONE
            chosen = NONE if plain else find_weights(experiment.backbone)
            experiment = experiment.replace(weights=chosen)
        recipe, method = split_settings(experiment)
        made = make_method(experiment.method.name, **method)
        get_recipe(experiment.recipe.name, **recipe)
    except (MethodError, ModelError, TrainingError) as error:
        raise ExperimentError("experiment", str(error), "correct the specification") from error
    if experiment.weights != NONE and experiment.backbone == BACKBONE:
        told = f"{BACKBONE!r} has none but random ones"
        raise ExperimentError(f"weights = {experiment.weights!r}", told, "write weights: none")
    _try_encoder(made.settings)
    return experiment


def _try_encoder(settings: Mapping[str, Any]) -> None:
    """Refuse an encoder that no U-Net stands on, before anything is trained."""
    if settings.get("encoder", BACKBONE) == BACKBONE:
        return
    from iavlib.core.errors import ModelError
    from iavlib.models.unet import try_encoder

    try:
        try_encoder(settings["encoder"], tuple(settings["decoder"]), settings["padding"])
    except ModelError as error:
        place = f"backbone = {settings['encoder']!r}"
        raise ExperimentError(place, str(error), f"write backbone: {BACKBONE}") from error


def targets(source: LabelledData) -> pd.DataFrame:
    """List the pictures of a set: index ``image_id``, ``target`` (share marked by anybody)."""
    marked = (source.labelled.labels > 0).any(axis=1).mean(axis=(1, 2))
    return pd.DataFrame({"target": marked}, index=source.labelled.ids)


def run(experiment: Experiment, source: LabelledData, folder: Path, log: Log) -> Outcome:
    """Learn from the training part; judge validation and test part.

    ``dice_with_labels`` is that of the prediction combined with the picture's own labels, to be
    compared with ``fused_mode`` and the like, which see them too; ``dice`` is that of a prediction
    from the picture alone. The settings tell each annotator's matrices as ``confusion``,
    ``[annotator][label][truth]``, see :func:`iavlib.multiannotator.scores.confusion_facts`; empty
    where a method learns none.
    """
    from iavlib.multiannotator.fitting import clear_checkpoints, save_method
    from iavlib.multiannotator.scores import fusion_scores

    subsets = set_parts(source, experiment, log)
    fitted, recipe = learn(experiment, subsets, folder, log)
    method = fitted.method
    rows, metrics, baselines, facts = [], {}, {}, {}
    for subset, labelled in subsets.items():
        if subset != "train":
            found, metrics[subset], facts = _judge(fitted, labelled, subsets)  # of the last: test
            rows.append(found.assign(subset=subset))
            for fusion, scores in fusion_scores(labelled).items():
                baselines.setdefault(f"fused_{fusion}", {})[subset] = scores
            sizes = {"n_parameters": fitted.n_parameters, "n_training": len(subsets["train"])}
            metrics[subset] |= {name: float(size) for name, size in sizes.items()}
    save_method(fitted, folder)
    clear_checkpoints(method, folder)
    table = pd.concat(rows, ignore_index=True)
    first = ["image_id", "subset", "true", "predicted"]
    annotators = list(fitted.problem.annotators)
    return Outcome(
        table[[*first, *(name for name in table if name not in first)]],
        metrics,
        fitted.history,
        baselines,
        _weights(fitted, experiment),
        recipe.to_dict()
        | method.settings
        | _about(source, experiment)
        | {"annotators": annotators}
        | facts
        | {"device": str(next(fitted.network.parameters()).device)},
    )


def learn(experiment: Experiment, subsets: Mapping[str, Any], folder: Path, log: Log):
    """Train the method of an experiment.

    Parameters
    ----------
    experiment : Experiment
    subsets : mapping of str to MultiAnnotatorSet
        Of :func:`set_parts`.
    folder : Path
        For checkpoints.
    log : callable

    Returns
    -------
    fitted : iavlib.multiannotator.FittedMethod
    recipe : iavlib.training.recipe.Recipe
    """
    from iavlib.multiannotator.fitting import fit
    from iavlib.multiannotator.method import make_method
    from iavlib.training.recipe import get_recipe

    fields_of_recipe, settings = split_settings(experiment)
    recipe = get_recipe(experiment.recipe.name, **fields_of_recipe)
    fitted = fit(
        make_method(experiment.method.name, **settings),
        subsets["train"],
        recipe,
        experiment.seed,
        folder,
        subsets.get("val"),
        progress=lambda row: log(_describe_epoch(row, recipe.epochs)),
    )
    return fitted, recipe


def set_parts(source: LabelledData, experiment: Experiment, log: Log) -> dict[str, Any]:
    """Split a set, leave out whom nothing can be learnt of, and take the share asked for.

    Raises
    ------
    ExperimentError
        If there is no part for training or testing.
    """
    labelled = _without_unseen(source.labelled, log)
    for note in labelled.notes:
        log(note)
    there = [name for name in ("train", "val", "test") if name in set(labelled.subsets)]
    if "train" not in there or "test" not in there:
        raise ExperimentError(
            f"set {source.name!r}",
            f"has {len(labelled)} pictures and no part for training or testing",
            "give it more pictures, or other fractions",
        )
    subsets = {name: labelled.subset(name) for name in there}
    if experiment.train_share < 1:
        from iavlib.data.splits import share_of_clusters

        train = subsets["train"]
        clusters = pd.Series(train.clusters, index=train.ids)
        chosen = share_of_clusters(clusters, experiment.train_share, experiment.seed)
        subsets["train"] = train.select(chosen)
    return subsets


def _without_unseen(labelled, log: Log):
    """Leave out annotators who labelled nothing of the training part, and say so."""
    if "train" not in set(labelled.subsets):
        return labelled
    unseen = labelled.subset("train").unseen
    if not unseen:
        return labelled
    kept = [name for name in labelled.annotators if name not in unseen]
    found = labelled.of_annotators(kept)
    told = f"left out: {', '.join(unseen)}, who labelled no training picture"
    log(f"{told} ({len(labelled) - len(found)} pictures have no other label)")
    return found


def _weights(fitted, experiment: Experiment) -> dict[str, Any]:
    """Log what the network started from."""
    if fitted.weights is None:
        return {"source": NONE, "detail": f"random, seed {experiment.seed}", "is_random": True}
    return {"source": fitted.weights.source, "detail": fitted.weights.detail, "is_random": False}


def _judge(fitted, labelled, subsets) -> tuple[pd.DataFrame, dict[str, float], dict[str, Any]]:
    """Score a part: its pictures, all of them; and the facts behind the scores."""
    from iavlib.multiannotator.metrics import mean_dice
    from iavlib.multiannotator.scores import PreferenceScorer, Scorer, confusion_facts

    scorer, preferences = Scorer(labelled), PreferenceScorer(labelled)
    for lot in fitted.predict_parts(labelled):
        scorer.add(lot)
        preferences.add(lot)
    rows, scores, matrices = scorer.result()
    more, facts = preferences.result()
    if matrices is None:
        return rows, scores | more, {"confusion": {}} | facts
    if labelled.truth is not None:
        fused = fitted.fuse(labelled).argmax(axis=1)
        scores["dice_with_labels"] = mean_dice(fused, labelled.truth, labelled.n_classes)
    confusion = confusion_facts(matrices, scorer.own_matrices(), subsets)
    return rows, scores | more, {"confusion": confusion} | facts


def _about(source: LabelledData, experiment: Experiment) -> dict[str, Any]:
    labelled = source.labelled
    return {
        "method": experiment.method.name,
        "data": labelled_data.settings_of(experiment.overrides),
        "classes": labelled.n_classes,
        "height": labelled.images.shape[1],
        "width": labelled.images.shape[2],
        "truth": labelled.truth_is,
        "simulated_annotators": labelled.simulated_annotators,
    }


def _describe_epoch(row: Mapping[str, Any], epochs: int) -> str:
    told = [f"{key} {row[key]:.4g}" for key in ("train_loss", "nll", "dice") if key in row]
    return f"epoch {row['epoch'] + 1} of {epochs}: {', '.join(told)}, {row['seconds']:.1f} s"


TASK = Task(
    NAME,
    targets,
    run,
    complete,
    DataSettings,
    resolve_dataset=labelled_data.choose,
    load=labelled_data.load,
)
