"""Tasks ``iaa``, ``diagnosis`` and ``multitask``: one network from an image to one or two heads.

``iaa`` predicts the mean Dice over all pairs of annotators' masks of an image, as in the paper;
``diagnosis`` classifies lesions as malignant or benign; ``multitask`` does both with two heads on
the same features. The latter two may start from another experiment's network (fine-tuning): heads
are kept, and a head that is not trained is left as it is. With recipe ``probe`` a head is fitted to
frozen features.

Where the published code and the paper's text differ, or what was published is not what one would
do, each is a value of a setting here. Nothing in this module needs PyTorch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from iavlib.core.errors import DataError, ExperimentError, ModelError, TrainingError
from iavlib.data.catalogue import dataset_names, find_dataset
from iavlib.data.cohort import Cohort, target, target_names
from iavlib.data.images import read_mask
from iavlib.data.official_splits import check_subsets
from iavlib.experiments.config import AUTO, FINETUNE, PROBE, Experiment, TaskSettings
from iavlib.experiments.scores import agreement_scores, diagnosis_scores
from iavlib.experiments.tasks import Log, Outcome, Task, assign_subsets, check_finite
from iavlib.masks import fleiss_kappa
from iavlib.models.backbones import find_backbone
from iavlib.models.weights import SOURCES, find_weights
from iavlib.training.recipe import Recipe

IAA, DIAGNOSIS, MULTITASK = "iaa", "diagnosis", "multitask"
PUBLISHED = ("paper", "paper_finetune")
_HINT = "get its images ('iav data status' describes how), or use the cohort phantom"


class RegressionSettings(TaskSettings):
    """Settings of task ``iaa``; defaults of those that are None depend on the recipe.

    Attributes
    ----------
    tta : {1, 2, 4, 8}
        Views (rotated and mirrored) over which predictions are averaged: 4 of ``finetune``, else 1.
    head_init : {"zero", "median", "fit"}
        The head begins as drawn, at the median of the training subset, or where a ridge regression
        on frozen features ends (linear heads only).
    normalise : {"weights", "train"}
        Images by mean and deviation that go with the weights, or those of the training subset.
    quantiles : int
        Outputs of a head of that kind.
    trainable : {"all", "last"} or int
        Stages of the backbone that are trained, see
        :func:`iavlib.training.optimisation.train_last_stages`.
    control : {"none", "shuffled_iaa"}
        ``shuffled_iaa``: the agreement of training images is permuted among them, by the seed.
    target : {"dice", "n_annotators", "fleiss_kappa"}
        What is predicted: the mean Dice of the image's pairs; how many annotators marked it;
        Fleiss' kappa of their masks. The last two are the outlook of the student report.
    """

    VERSION_1: ClassVar = {"head_init": ("start", {"fit": "ridge"})}

    target: Literal["dice", "n_annotators", "fleiss_kappa"] = "dice"
    tta: Literal[1, 2, 4, 8] | None = None
    head_init: Literal["zero", "median", "fit"] | None = None
    normalise: Literal["weights", "train"] | None = None
    quantiles: Annotated[int, Field(ge=1)] = 5
    trainable: Literal["all", "last"] | Annotated[int, Field(ge=0)] = "all"
    control: Literal["none", "shuffled_iaa"] = "none"

    def with_defaults(self, experiment: Experiment) -> RegressionSettings:
        """Fill in the defaults: recipes that reproduce others' work start as that did."""
        recipe = experiment.recipe.name
        inits = {"paper": "zero", "student": "zero", FINETUNE: "fit"}
        defaults = {
            "tta": 4 if recipe == FINETUNE else 1,
            "head_init": inits.get(recipe, "median"),
            "normalise": "train" if recipe == "paper" else "weights",
        }
        return self.filled(defaults)


class DiagnosisSettings(TaskSettings):
    """Settings of ``diagnosis`` and ``multitask``; defaults of those that are None depend on more.

    Attributes
    ----------
    alpha : float, optional
        Weight of the classification, from 0 to 1, where two losses are summed.
    tta : {1, 2, 4, 8}
        As of ``iaa``. Published: 1; else 4.
    normalise : str
        By which mean and deviation images are normalised: those of the ``weights`` (of the network
        that it starts from), of the ``train`` subset, the published constants of IMA++ (``imapp``)
        or of ``imagenet``; ``published`` takes those of IMA++ on IMA++ and phantom and those of
        ImageNet on all others, also where training on IMA++ went before.
    class_loss : {"focal", "focal_textbook", "cross_entropy"}
        ``focal`` has the class weight inside the exponent, as published.
    weights_from : {"train", "published", "none"}
        Class weights N / (2 N_c) of the training subset, or the published constants.
    combine : {"alpha", "uncertainty"}
        Two losses are summed as the paper does, with ``alpha``, or weighted by learned
        uncertainties (ours).
    control : {"none", "shuffled_iaa", "iaa_input"}
        ``shuffled_iaa``: the agreement of training images is permuted among them, by the seed:
        what a multi-task model still gains then, it does not gain from agreement.
        ``iaa_input``: the true agreement is given with the features. It is an upper bound that
        cannot be deployed, as it takes several annotators' masks of each new image.
    indeterminate : {"drop", "benign"}
        What becomes of images that are neither benign nor malignant. The published evaluation of
        the regression counts them as benign, the published diagnosis leaves them out.
    require_agreement : bool
        Only images whose agreement is known, in a cohort that has any such (so that models with
        and without it learn from the same images), or all that have a label.
    trainable : {"all", "last"} or int
        As of ``iaa``.
    head_init : {"zero", "fit"}
        Heads begin as drawn, or where a fit to frozen features ends (linear heads only, the
        default there).
    mimic_moving_statistics : bool
        Whether BatchNorm statistics of the frozen regression head move in fine-tuning, as
        published, though its parameters do not.
    """

    VERSION_1: ClassVar = {
        "head_init": ("head_start", {}),
        "indeterminate": ("indeterminate", {"drop": "out"}),
        "require_agreement": ("images", {True: "measured", False: "all"}),
    }

    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    tta: Literal[1, 2, 4, 8] | None = None
    normalise: Literal["weights", "train", "published", "imapp", "imagenet"] | None = None
    class_loss: Literal["focal", "focal_textbook", "cross_entropy"] | None = None
    weights_from: Literal["train", "published", "none"] = "train"
    combine: Literal["alpha", "uncertainty"] = "alpha"
    control: Literal["none", "shuffled_iaa", "iaa_input"] = "none"
    indeterminate: Literal["drop", "benign"] = "drop"
    require_agreement: bool = True
    trainable: Literal["all", "last"] | Annotated[int, Field(ge=0)] = "all"
    head_init: Literal["zero", "fit"] | None = None
    mimic_moving_statistics: bool = False

    def with_defaults(self, experiment: Experiment) -> DiagnosisSettings:
        """Fill in the defaults of the recipe, and of a head that is to be fitted."""
        recipe = experiment.recipe
        published = recipe.name in PUBLISHED
        head = recipe.settings.get("head", "linear" if recipe.name == FINETUNE else "")
        defaults = {
            "tta": 1 if published else 4,
            "normalise": "published" if published else "weights",
            "class_loss": "focal" if published else "cross_entropy",
            "head_init": "fit" if head == "linear" and not experiment.init_from else "zero",
        }
        return self.filled(defaults)


def make_recipe(experiment: Experiment) -> Recipe:
    """Return the recipe of an experiment, with the task's defaults.

    A diagnosis keeps the epoch of the best balanced accuracy, and fine-tuning as published passes
    over the images of a dataset as often as the published code does.

    Raises
    ------
    ExperimentError
        If a field of the recipe does not go with the settings.
    """
    defaults: dict[str, Any] = {}
    if experiment.task != IAA:
        defaults["select"] = ["balanced_accuracy", "max"]
        passes = published_facts(experiment.cohort, "passes")
        if experiment.recipe.name == "paper_finetune" and passes:
            defaults["num_aug"] = passes
    if experiment.settings.trainable != "all":
        defaults["freeze_batchnorm"] = True
        if experiment.recipe.settings.get("freeze_batchnorm") is False:
            raise ExperimentError(
                "recipe.freeze_batchnorm = False",
                "lets statistics of stages move that are not trained",
                "leave it out, or train all stages",
            )
    return experiment.training_recipe(**defaults)


def published_facts(cohort: str, name: str):
    """Return what a dataset's description holds of the published code; None for other cohorts."""
    return getattr(find_dataset(cohort), name) if cohort in dataset_names() else None


def agreement_targets(cohort: Cohort, of: str = "dice") -> pd.DataFrame:
    """List the images that have a file and a known agreement.

    Parameters
    ----------
    cohort : Cohort
    of : str
        As ``target`` of :class:`RegressionSettings`. Fleiss' kappa is measured on mask files, with
        one mask of each annotator; images whose files are absent or differ in size are left out.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``target``, ``path``, ``malignancy``, ``n_masks`` and ``cluster`` (the
        patient).

    Raises
    ------
    DataError
        If there is none, or a mean Dice lies outside [0, 1].
    """
    table = image_table(cohort).rename(columns={"iaa": "target"})
    once = cohort.masks.drop_duplicates(["image_id", "annotator"])
    if of == "n_annotators":
        table["target"] = once["image_id"].value_counts().astype(float)
    elif of == "fleiss_kappa":
        files = once.dropna(subset=["path"]).groupby("image_id")["path"]
        table["target"] = files.agg(_kappa_of_files).reindex(table.index).astype(float)
    n_masks = f"{table['target'].notna().sum():,} have masks"
    return _usable(cohort, table, "a file and two masks", n_masks)


def _kappa_of_files(paths: pd.Series) -> float:
    masks = [read_mask(path) for path in paths]
    comparable = len(masks) > 1 and len({mask.shape for mask in masks}) == 1
    return fleiss_kappa(masks) if comparable else float("nan")


def diagnosis_targets(
    cohort: Cohort, indeterminate: str = "drop", require_agreement: bool = True
) -> pd.DataFrame:
    """List the images that have a file and a label.

    Parameters
    ----------
    cohort : Cohort
    indeterminate, require_agreement
        As in :class:`DiagnosisSettings`.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``target`` (1 for malignant, or melanoma), ``iaa`` (mean pairwise Dice;
        missing for images with one mask), ``path``, ``malignancy``, ``n_masks``, ``cluster``.

    Raises
    ------
    DataError
        If there is none, or a mean Dice lies outside [0, 1].
    """
    label = target(cohort, indeterminate)
    table = image_table(cohort)
    table.insert(0, "target", label.reindex(table.index))
    table = _usable(cohort, table, "a label and a file", f"{len(label):,} have a label")
    if require_agreement and table["iaa"].notna().any():
        table = table[table["iaa"].notna()]
    return table.astype({"target": int})


def _usable(cohort: Cohort, table: pd.DataFrame, needs: str, have: str) -> pd.DataFrame:
    """Keep the images with a target and a file, and refuse a cohort without any."""
    usable = table[table["target"].notna() & table["path"].notna()]
    if usable.empty:
        n_files = table["path"].notna().sum()
        problem = f"no image has both {needs} ({have}, {n_files:,} a file)"
        raise DataError(f"cohort {cohort.name!r}", problem, _HINT)
    return usable


def image_table(cohort: Cohort) -> pd.DataFrame:
    """List all images: ``iaa`` (mean Dice), ``path``, ``malignancy``, ``n_masks``, ``cluster``.

    The agreement is missing for images with one mask; the cluster is the patient.

    Raises
    ------
    DataError
        If a mean Dice lies outside [0, 1].
    """
    images = cohort.images
    agreement = cohort.pairs.groupby("image_id")["dice"].mean().reindex(images.index).astype(float)
    outside = agreement.index[agreement.notna() & ~agreement.between(0, 1)]
    if len(outside):
        problem = f"mean Dice outside [0, 1]: {', '.join(outside[:5])}"
        raise DataError(f"cohort {cohort.name!r}", problem, "measure it again")
    n_masks = cohort.masks["image_id"].value_counts().reindex(images.index, fill_value=0)
    table = images[["path", "malignancy"]].assign(n_masks=n_masks, cluster=cohort.clusters())
    table.insert(0, "iaa", agreement)
    return table.rename_axis("image_id")


def resolve(experiment: Experiment) -> Experiment:
    """Choose the weights that are available, and refuse what cannot be run."""
    try:
        backbone = find_backbone(experiment.backbone)
        if experiment.weights == AUTO:
            experiment = experiment.replace(weights=find_weights(backbone))
        if experiment.weights not in SOURCES and not Path(experiment.weights).is_file():
            where, hint = f"weights = {experiment.weights!r}", f"one of {', '.join(SOURCES)}"
            raise ExperimentError(where, "is no file", f"give a path, or {hint}")
        recipe = None if experiment.recipe.name == PROBE else make_recipe(experiment)
    except (ModelError, TrainingError, LookupError) as error:
        problem = str(error).rstrip(".")
        raise ExperimentError("experiment", problem, "correct the specification") from error
    for is_wrong, *message in _contradictions(experiment, recipe):
        if is_wrong:
            raise ExperimentError(*message)
    return experiment


def _contradictions(experiment: Experiment, recipe: Recipe | None):
    """Generate what contradicts itself: whether it applies, where, the problem, and the hint."""
    settings = experiment.settings.with_defaults(experiment)
    parent, probe = experiment.parent, recipe is None
    if experiment.task == IAA:
        linear = probe or (recipe.head, recipe.label_transform) == ("linear", "none")
        where, problem = "settings.head_init = 'fit'", "fits linear heads of the target itself only"
        hint = "set head: linear and label_transform: none, or head_init: median"
        yield settings.head_init == "fit" and not linear, where, problem, hint
        bounded = not probe and (recipe.label_transform != "none" or recipe.head == "beta")
        where = f"settings.target = {settings.target!r}"
        problem, hint = "is not from 0 to 1, as this head expects", "set another head"
        yield settings.target != "dice" and bounded, where, problem, hint
        problem, hint = "is not for the task iaa", "leave it out, or use multitask"
        yield parent is not None, "init_from", problem, hint
        return
    both, control = experiment.task == MULTITASK, settings.control
    needs_alpha = both and settings.combine == "alpha"
    where = f"settings.alpha = {settings.alpha!r}"
    needed = "from 0 to 1 for two losses summed" if needs_alpha else "left out here"
    is_wrong = needs_alpha != (settings.alpha is not None)
    yield is_wrong, where, f"must be {needed}", "correct alpha"
    where, problem = f"settings.control = {control!r}", "permutes what the diagnosis does not use"
    hint = "use it with the task multitask"
    yield control == "shuffled_iaa" and not both, where, problem, hint
    problem = "is for a diagnosis that starts from no other experiment"
    hint = "use the task diagnosis, without init_from"
    yield control == "iaa_input" and (both or parent is not None), where, problem, hint
    where, problem = "task multitask with a probe", "has nothing to share: the features are frozen"
    yield both and probe, where, problem, "use the task diagnosis for a probe"
    where = f"recipe.{next(iter(experiment.recipe.settings), '')}"
    problem = "a probe of the diagnosis has no such setting"
    yield probe and bool(experiment.recipe.settings), where, problem, "leave it out"
    known = [name for name in dataset_names() if published_facts(name, "class_weights")]
    where = "settings.weights_from = 'published'"
    problem = f"there are published weights for {', '.join(known)}, not for {experiment.cohort}"
    has_none = experiment.cohort not in (AUTO, *known)
    yield settings.weights_from == "published" and has_none, where, problem, "use 'train'"
    if parent is None:
        return
    where, hint = f"init_from = {parent.name}", "start from a trained experiment of these tasks"
    no_network = parent.task not in (DIAGNOSIS, MULTITASK) or parent.recipe.name == PROBE
    yield no_network, where, "leaves no network with a head of diagnosis", hint
    no_head = both and parent.task == DIAGNOSIS
    yield no_head, where, "has no head of agreement, which multitask trains further", hint
    takes_more = getattr(parent.settings, "control", "") == "iaa_input"
    yield takes_more, where, "is a control whose network takes more than an image", hint
    yield probe, where, "is no start for a probe, which takes weights of a backbone", hint


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Log) -> Outcome:
    """Learn on the training subset, choose by the validation subset, predict every image.

    ``predictions`` has ``true`` and ``predicted``: mean Dice (with ``lower`` and ``upper`` where
    the head has a distribution) of ``iaa``; 0 or 1 and the probability of 1 of a diagnosis, with
    ``true_iaa`` and ``predicted_iaa`` (where the network has that head). ``metrics`` are those of
    :func:`~iavlib.experiments.scores.agreement_scores` or
    :func:`~iavlib.experiments.scores.diagnosis_scores`.
    """
    from iavlib.experiments.tasks.image_training import fit_probe_head, train_network

    probe, is_iaa = experiment.recipe.name == PROBE, experiment.task == IAA
    if is_iaa:
        table = agreement_targets(cohort, experiment.settings.target)
        n_images = len(cohort.images)
        if n_images > len(table):
            left_out = f"{n_images - len(table):,} of {n_images:,} images"
            log(f"{left_out} have no file or fewer than two masks")
        subsets = assign_subsets(cohort.select(table.index), experiment)
    else:
        settings = experiment.settings
        table = diagnosis_targets(cohort, settings.indeterminate, settings.require_agreement)
        _log_images(cohort, table, settings.indeterminate, log)
        subsets = _assign_labelled(cohort, table, experiment)
    if not (subsets == "val").any() and not (probe and is_iaa):
        raise ExperimentError("split", "has no validation subset", "give three fractions, or kfold")
    learn = fit_probe_head if probe else train_network
    outcome, cache = learn(experiment, table, subsets, folder, log)
    check_finite(outcome.predictions["predicted"])
    columns = {"target": "true", "iaa": "true_iaa"}
    predictions = table.loc[subsets.index].drop(columns="path").rename(columns=columns)
    predictions = predictions.assign(subset=subsets).join(outcome.predictions).reset_index()
    first = ["image_id", "subset", "true", "predicted", "true_iaa", "lower", "upper"]
    first = [name for name in first if name in predictions]
    predictions = predictions[[*first, *predictions.columns.difference(first, sort=False)]]
    if is_iaa:
        metrics, baselines = agreement_scores(predictions, cache)
    else:
        metrics, baselines = diagnosis_scores(predictions)
    return replace(outcome, predictions=predictions, metrics=metrics, baselines=baselines)


def _assign_labelled(cohort: Cohort, table: pd.DataFrame, experiment: Experiment) -> pd.Series:
    """Split images whose own labels are those of the table, and check what must stay together."""
    used = cohort.select(table.index)
    images = used.images.assign(target=table["target"].reindex(used.images.index))
    if "melanoma" not in images:
        named = images["target"].map({0: "benign", 1: "malignant"})
        images = images.assign(malignancy=named.astype(images["malignancy"].dtype))
    used, split = replace(used, images=images), experiment.split
    subsets = assign_subsets(used, experiment)
    # the group asked for is never split; lesions without patients may be, except by published parts
    keeps = split.leaks != "keep" if split.kind == "official" else split.group == "linked"
    check_subsets(used, subsets, allow_leaks=not keeps)
    return subsets


def _log_images(cohort: Cohort, table: pd.DataFrame, indeterminate: str, log: Log) -> None:
    names, label = target_names(cohort), target(cohort, indeterminate)
    no_file = int(cohort.images.loc[label.index, "path"].isna().sum())
    left_out = {
        "no label": len(cohort.images) - len(label),
        "no file": no_file,
        "no measured agreement": len(label) - no_file - len(table),
    }
    why = "".join(f"; {n:,} have {reason}" for reason, n in left_out.items() if n)
    classes = ", ".join(f"{(table['target'] == value).sum():,} {names[value]}" for value in (0, 1))
    log(f"{len(table):,} images ({classes}){why}")


IAA_TASK = Task(IAA, agreement_targets, run, resolve, RegressionSettings)
DIAGNOSIS_TASK, MULTITASK_TASK = (
    Task(name, diagnosis_targets, run, resolve, DiagnosisSettings)
    for name in (DIAGNOSIS, MULTITASK)
)
