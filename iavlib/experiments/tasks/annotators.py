"""Learning from several annotators' masks: tasks ``segmentation``, ``comparison``, ``take-give``.

``method`` names one of :data:`iavlib.multiannotator.METHODS`, with its settings; ``settings`` are
those of the data (:mod:`~iavlib.experiments.tasks.annotator_sets`) and of the task.

- ``segmentation`` scores what is predicted of validation and test subset against the truth, each
  annotator and all of them; ``backbone`` is ``unet`` or a network of timm under a U-Net's decoder;
- ``comparison`` scores all methods with the same measures and small networks, and lets one net,
  the same for all, diagnose with their masks. It also knows fusions of the test image's own masks
  (``fuse-mean``, ``fuse-mode``, ``fuse-staple``, ``fuse-spatial-staple``) and ``fuse-diff``, DF-GT
  of the test image, which uses its diagnosis;
- ``take-give`` scores the segmentation and diagnosis of Take and Give.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib.core.errors import ExperimentError, IavError, ModelError, suggest
from iavlib.experiments.config import AUTO, Experiment
from iavlib.experiments.tasks import Log, Outcome, Task, annotator_sets as sets
from iavlib.masks import class_dice, soft_dice
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import FUSIONS as RULES, fuse, majority_labels
from iavlib.multiannotator.methods import METHODS, make_method

SEGMENTATION, COMPARISON, TAKE_GIVE = "segmentation", "comparison", "take-give"
UNET, NONE = "unet", "none"
FUSIONS = ("fuse-mean", "fuse-mode", "fuse-staple", "fuse-spatial-staple")
DIFF, DIFF_FUSED, _FUSION_OF_DIFF = "diff", "fuse-diff", "df-gt"
#: Methods that are given the test image's own masks.
SEE_THE_MASKS = (*FUSIONS, DIFF_FUSED)
#: Recipe of the small networks of DiFF.
_OF_DIFF = {"lr": 3e-3, "batch_size": 16, "warmup_epochs": 0}
#: Tasks without validation select no epoch.
_NO_SELECTION = {"select": None, "patience": None}
_NETWORKS = "networks"
_judges: dict[tuple, Any] = {}


class ComparisonSettings(sets.DiagnosedData):
    """Settings of task ``comparison``.

    Attributes
    ----------
    width : int
        Channels of the finest stage of U-Nets, doubled at each of three.
    encoder : str
        Of DiFF, and of the net that diagnoses with every method's masks.
    diagnosis_epochs : int
        Of that net.
    steps : int
        Of DiFF.
    blocks : str
        Of DiFF, as of :func:`iavlib.models.block_names`.
    """

    width: Annotated[int, Field(ge=1)] = 8
    encoder: str = "small"
    diagnosis_epochs: Annotated[int, Field(ge=1)] = 10
    steps: Annotated[int, Field(ge=1)] = 20
    blocks: int | str = "B1 B2 B3"


class TakeGiveSettings(sets.DiagnosedData):
    """Settings of task ``take-give``, those of the method: see :mod:`iavlib.multiannotator`.

    In version 1 the default was four blocks, which learnt the majority, and the diagnosis net was
    neither trained before nor frozen.
    """

    blocks: int | str = "B1 B2 B3"
    learns: str = "expg"
    steps: Annotated[int, Field(ge=1)] = 20


def compared() -> tuple[str, ...]:
    """Name all methods that can be compared."""
    methods = [name for name in METHODS if name not in (DIFF, _FUSION_OF_DIFF)]
    return (*FUSIONS, *methods, DIFF, DIFF_FUSED)


def method_of(experiment: Experiment):
    """Make the method and the recipe of an experiment.

    Returns
    -------
    method : iavlib.multiannotator.Method or None
        None of a fusion, which learns nothing.
    recipe : iavlib.training.recipe.Recipe

    Raises
    ------
    ExperimentError
        If there is no such method or setting, or a value is impossible.
    """
    from iavlib.training.recipe import get_recipe

    task, chosen, backbone = experiment.task, experiment.settings, experiment.backbone
    name = TAKE_GIVE if task == TAKE_GIVE else experiment.method.name
    known: Any = compared() if task == COMPARISON else METHODS
    if name not in known:
        problem = f"no method {name!r}{' to compare' if task == COMPARISON else ''}"
        raise ExperimentError("method", problem, suggest(name, known))
    recipe = experiment.training_recipe(**({} if task == SEGMENTATION else _NO_SELECTION))
    if name in FUSIONS:
        return None, recipe
    name = _FUSION_OF_DIFF if name == DIFF_FUSED else name
    defaults, settings = METHODS[name].method.defaults, experiment.method.settings
    if METHODS[name].method.needs_diagnosis:
        shared = ("blocks", "learns", "steps", "encoder")
        settings |= {key: getattr(chosen, key) for key in shared if hasattr(chosen, key)}
        settings["blocks"] = str(settings["blocks"])
    if task == COMPARISON and name in (DIFF, _FUSION_OF_DIFF):
        given = experiment.recipe.settings
        same = {key: given[key] for key in ("epochs", "augmentation") if key in given}
        recipe = get_recipe("annotators", **_NO_SELECTION, **_OF_DIFF, **same)
    elif task == COMPARISON and "widths" in defaults:
        settings.setdefault("widths", [chosen.width * 2**stage for stage in range(3)])
    elif task != COMPARISON and backbone != UNET:
        if "encoder" not in defaults:
            problem = f"method {name!r} is not built on it"
            raise ExperimentError(f"backbone = {backbone!r}", problem, f"write backbone: {UNET}")
        settings |= {"encoder": backbone, "weights": experiment.weights}
    try:
        return make_method(name, **settings), recipe
    except IavError as error:
        raise ExperimentError("experiment", str(error), "correct the specification") from error


def complete(experiment: Experiment) -> Experiment:
    """Fix the weights, and refuse what cannot be run."""
    from iavlib.models.unet import try_encoder

    experiment = with_weights(experiment)
    made, _ = method_of(experiment)
    if experiment.task == SEGMENTATION and made.needs_diagnosis:
        hint = f"give task: {COMPARISON} or {TAKE_GIVE}"
        raise ExperimentError(f"method {made.name!r}", "learns from diagnoses", hint)
    if experiment.weights != NONE and experiment.backbone == UNET:
        problem = f"{UNET!r} has none but random ones"
        raise ExperimentError(f"weights = {experiment.weights!r}", problem, "write weights: none")
    encoder = made.settings.get("encoder", UNET) if made else UNET
    if encoder != UNET and "decoder" in made.settings:
        try:
            try_encoder(encoder, tuple(made.settings["decoder"]), made.settings["padding"])
        except ModelError as error:
            hint = f"write backbone: {UNET}"
            raise ExperimentError(f"backbone = {encoder!r}", str(error), hint) from error
    return experiment


def with_weights(experiment: Experiment) -> Experiment:
    """Fix weights that are left open: those available of the backbone, none of small networks."""
    from iavlib.models.assisted import SMALL
    from iavlib.models.weights import find_weights

    if experiment.task == COMPARISON:
        return experiment.replace(weights=NONE)
    if experiment.weights != AUTO:
        return experiment
    try:
        plain = experiment.backbone in (UNET, SMALL)
        return experiment.replace(weights=NONE if plain else find_weights(experiment.backbone))
    except ModelError as error:
        raise ExperimentError("experiment", str(error), "correct the specification") from error


def run(experiment: Experiment, dataset: MultiAnnotatorSet, folder: Path, log: Log) -> Outcome:
    """Learn from the training subset; score the others.

    Of ``segmentation``, ``dice`` is that of a prediction from the image alone, and
    ``dice_with_labels`` that of the prediction combined with the image's own labels, to be compared
    with ``fused_mode`` and the like, which use them too. The settings hold annotators' matrices as
    ``confusion``, ``[annotator][label][truth]``, see
    :func:`iavlib.multiannotator.scores.confusion_facts`; empty where a method learns none.
    """
    from iavlib.multiannotator.fitting import clear_checkpoints, save_method
    from iavlib.multiannotator.scores import fusion_scores

    subsets = sets.subsets_of(dataset, experiment, log)
    fitted, recipe = learn(experiment, subsets, folder, log)
    rows, metrics, baselines, facts = [], {}, {}, {}
    for name, subset in subsets.items():
        if name == "train":
            continue
        table, metrics[name], facts = _scores(fitted, subset, subsets)  # of the last: test
        rows.append(table.assign(subset=name))
        for fusion, scores in fusion_scores(subset).items():
            baselines.setdefault(f"fused_{fusion}", {})[name] = scores
        sizes = {"n_parameters": fitted.n_parameters, "n_training": len(subsets["train"])}
        metrics[name] |= {key: float(size) for key, size in sizes.items()}
    save_method(fitted, folder)
    clear_checkpoints(fitted.method, folder)
    table = pd.concat(rows, ignore_index=True)
    first = ["image_id", "subset", "true", "predicted"]
    device = str(next(fitted.network.parameters()).device)
    settings = recipe.to_dict() | fitted.method.settings | facts
    settings |= {"method": experiment.method.name, "device": device}
    return Outcome(
        table[[*first, *(name for name in table if name not in first)]],
        metrics,
        fitted.history,
        baselines,
        weights_record(fitted.weights, experiment),
        settings | sets.about(dataset, experiment, subsets),
    )


def learn(experiment: Experiment, subsets: Mapping[str, Any], folder: Path, log: Log):
    """Train the method of an experiment.

    Returns
    -------
    fitted : iavlib.multiannotator.FittedMethod
    recipe : iavlib.training.recipe.Recipe
    """
    from iavlib.multiannotator.fitting import fit

    def report(row: Mapping[str, Any]) -> None:
        values = [f"{key} {row[key]:.4g}" for key in ("train_loss", "nll", "dice") if key in row]
        epoch = f"epoch {row['epoch'] + 1} of {recipe.epochs}"
        log(f"{epoch}: {', '.join(values)}, {row['seconds']:.1f} s")

    made, recipe = method_of(experiment)
    train = subsets["train"]
    if made.needs_diagnosis:
        # These learn from all images that are not for testing. Methods of `comparison` that learn
        # from masks alone keep those for validation apart, and select no epoch by them.
        train = replace(train, subsets=None)
    given = (train, recipe, experiment.seed, folder, subsets.get("val"))
    return fit(made, *given, progress=report), recipe


def weights_record(weights, experiment: Experiment) -> dict[str, Any]:
    """Describe the weights that a network started from."""
    if weights is None:
        return {"source": NONE, "detail": f"random, seed {experiment.seed}", "is_random": True}
    names = ("source", "detail", "is_random")
    return {name: getattr(weights, name) for name in names}


def _scores(fitted, dataset, subsets) -> tuple[pd.DataFrame, dict[str, float], dict[str, Any]]:
    """Score a subset: its images, all of them; and the tables behind the scores."""
    from iavlib.multiannotator.scores import PreferenceScorer, Scorer, confusion_facts

    scorer, preferences = Scorer(dataset), PreferenceScorer(dataset)
    for batch in fitted.predict_batches(dataset):
        scorer.add(batch)
        preferences.add(batch)
    rows, scores, matrices = scorer.result()
    more, facts = preferences.result()
    facts = {"confusion": {}, **facts}
    if matrices is not None:
        if dataset.truth is not None:
            fused = fitted.fuse(dataset).argmax(axis=1)
            dice = class_dice(fused, dataset.truth, dataset.n_classes)
            scores["dice_with_labels"] = float(dice.mean())
        facts["confusion"] = confusion_facts(matrices, scorer.own_matrices(), subsets)
    return rows, scores | more, facts


def run_with_diagnosis(
    experiment: Experiment, dataset: MultiAnnotatorSet, folder: Path, log: Log
) -> Outcome:
    """Learn from training and validation subset; score lesions and diagnosis of the test subset.

    Metrics are those of :func:`iavlib.multiannotator.scores.lesion_scores`, and of ``take-give``
    ``soft_dice_learnt`` is that to the masks which the method itself takes for true, where it has
    such: column *self* of DiFF's Table 4 (DF-GT uses the diagnosis of the test image). ``auroc`` is
    that of a net that is given the predicted masks: of Baseline-Dia or, in ``comparison``, of one
    that is the same for all methods.
    """
    from iavlib.multiannotator.scores import lesion_scores, of_masks

    subsets, name = sets.diagnosed_subsets(dataset, experiment, log), experiment.method.name
    test, started = subsets["test"], time.process_time()
    parameters, history, weights, settings, own = 0, pd.DataFrame(), None, {}, None
    if name in FUSIONS:
        prediction = of_masks(fuse(test, name.removeprefix("fuse-"))[:, 1], test)
    else:
        voted = {key: _with_vote(subset) for key, subset in subsets.items()}
        fitted, recipe = learn(experiment, voted, folder / _NETWORKS, log)
        settings, history = recipe.to_dict() | fitted.method.settings, fitted.history
        if name == DIFF_FUSED:
            prediction = of_masks(fitted.fuse(test)[:, 1], test)
        else:
            prediction = fitted.predict(test)
            rule = fitted.method.settings.get("fusion")
            own = fuse(test, rule) if rule in RULES else fitted.fuse(test)
            parameters, weights = fitted.n_parameters, fitted.weights
    seconds = time.process_time() - started
    if experiment.task == COMPARISON:
        settings |= experiment.settings.to_dict()
        diagnosis = _diagnose(experiment, subsets, prediction.consensus[:, 1], log)
        rows, metrics = lesion_scores(prediction, test, diagnosis)
        metrics["method_seconds"] = seconds
    else:
        rows, metrics = lesion_scores(prediction, test, prediction.diagnosis)
    if own is not None:
        rows["soft_dice_learnt"] = soft_dice(np.clip(prediction.consensus[:, 1], 0, 1), own[:, 1])
        metrics["soft_dice_learnt"] = float(rows["soft_dice_learnt"].mean())
    metrics |= {
        "n_parameters": float(parameters),
        "n_images": float(sum(map(len, subsets.values()))),
    }
    shutil.rmtree(folder / _NETWORKS, ignore_errors=True)
    return Outcome(
        rows.assign(subset="test"),
        {"test": metrics},
        history,
        {},
        weights_record(weights, experiment),
        settings
        | sets.about(dataset, experiment, subsets)
        | {"method": name, "sees_the_masks": name in SEE_THE_MASKS},
    )


def _with_vote(dataset: MultiAnnotatorSet) -> MultiAnnotatorSet:
    """Let the vote be the truth where none is known: ``cm-oracle`` is given annotators' errors."""
    if dataset.truth is not None:
        return dataset
    return replace(dataset, truth=majority_labels(dataset), truth_is="majority vote")


def _diagnose(experiment, subsets, masks: np.ndarray, log: Log) -> np.ndarray:
    """Let one net, the same for all methods, diagnose with the masks of the test subset."""
    from iavlib.models.assisted import build_assisted
    from iavlib.multiannotator.assisted_training import diagnose, train
    from iavlib.training.recipe import get_recipe

    training, seed, encoder = subsets["train"], experiment.seed, experiment.settings.encoder
    epochs = experiment.settings.diagnosis_epochs
    key = (training.fingerprint, seed, encoder, epochs)
    if key not in _judges:
        net = build_assisted("cat", encoder, NONE, seed, training.images.shape[1])
        recipe = get_recipe("annotators", **_OF_DIFF, epochs=epochs)
        train(net, training, fuse(training, "mode")[:, 1], recipe, seed)
        log("the net that diagnoses with masks is trained")
        _judges.clear()
        _judges[key] = net
    return diagnose(_judges[key], subsets["test"].images, masks)


#: Version 1 of CM's kept the warm-up, and began with CM in place of networks of the annotators; of
#: DiFF's it learnt as ``take-give`` did, with the activations of the released code.
_VERSIONS = {"cm-no-trace": 2, "cm-two-stage": 2, DIFF: 2, DIFF_FUSED: 2}
_DATA = {"resolve_dataset": sets.choose, "load": sets.load, "versions": _VERSIONS}
SEGMENTATION_TASK = Task(SEGMENTATION, sets.targets, run, complete, sets.AnnotatorData, **_DATA)
TAKE_GIVE_TASK = Task(
    TAKE_GIVE, sets.targets, run_with_diagnosis, complete, TakeGiveSettings, version=2, **_DATA
)
COMPARISON_TASK = Task(
    COMPARISON,
    sets.targets,
    run_with_diagnosis,
    complete,
    ComparisonSettings,
    methods=compared,
    **_DATA,
)
