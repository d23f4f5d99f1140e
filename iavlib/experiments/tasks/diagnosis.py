"""Tasks ``diagnosis`` and ``multitask``: malignant or not, alone or with annotators' agreement.

Both learn the label by the same code. ``multitask`` learns the mean pairwise Dice of each image
beside it, with a second head on the same features. Either may start from another experiment's
network (fine-tuning): heads are kept, and a head that is not learnt is left as it is.

What an experiment of diagnosis may set beside the fields of a recipe; nothing needs PyTorch.

Where the published code and the paper's text differ, or what was published is not what one would
do, each is a value of a setting here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from iavlib.agreement.tables import image_level
from iavlib.core.errors import DataError, ExperimentError, ModelError, TrainingError
from iavlib.data.catalogue import dataset_names, find_dataset
from iavlib.data.cohort import Cohort, target, target_names
from iavlib.data.official_splits import check_subsets
from iavlib.experiments.config import AUTO, FINETUNE, PROBE, Experiment, TaskSettings
from iavlib.experiments.scores import diagnosis_baselines, diagnosis_by_part
from iavlib.experiments.subsets import assign_parts
from iavlib.experiments.tasks.iaa import check_weights
from iavlib.experiments.tasks.task import Log, Outcome, Task, check_finite
from iavlib.models.backbones import find_backbone
from iavlib.models.weights import find_weights
from iavlib.training.recipe import Recipe

DIAGNOSIS, MULTITASK = "diagnosis", "multitask"
PUBLISHED = ("paper", "paper_finetune")
#: Mean and standard deviation of the channels, as the published code has them.
NORMALISATIONS = {
    "imapp": ((0.7079, 0.5688, 0.5130), (0.1304, 0.1248, 0.1429)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


class DiagnosisSettings(TaskSettings):
    """Settings of the tasks ``diagnosis`` and ``multitask``; None: as the recipe has it.

    Attributes
    ----------
    alpha : float, optional
        Weight of the classification, from 0 to 1, where two losses are summed.
    tta : {1, 2, 4, 8}
        Views (rotated and mirrored) over which predictions are averaged. Published: 1; else 4.
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
        Stages of the backbone that are trained, see
        :func:`iavlib.training.optimisation.train_last_stages`.
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

    @property
    def rest(self) -> str:
        """The same as ``indeterminate``, in the words of :func:`iavlib.data.target`."""
        return "negative" if self.indeterminate == "benign" else "out"

    def with_defaults(self, experiment: Experiment) -> DiagnosisSettings:
        """Fill in the defaults of the recipe."""
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
    """Return the recipe: selection by balanced accuracy and the published number of passes.

    Raises
    ------
    ExperimentError
        If a field of the recipe does not go with the settings.
    """
    defaults: dict[str, Any] = {"select": ["balanced_accuracy", "max"]}
    passes = published_facts(experiment.cohort, "passes")
    if experiment.recipe.name == "paper_finetune" and passes:
        defaults["num_aug"] = passes
    if experiment.settings.trainable != "all":
        defaults["freeze_batchnorm"] = True
        _refuse(
            experiment.recipe.settings.get("freeze_batchnorm") is False,
            "recipe.freeze_batchnorm = False",
            "lets statistics of stages move that are not trained",
            "leave it out, or train all stages",
        )
    return experiment.training_recipe(**defaults)


def published_facts(cohort: str, name: str):
    """Return what a dataset's description holds of the published code; None for other cohorts."""
    return getattr(find_dataset(cohort), name) if cohort in dataset_names() else None


def _check(experiment: Experiment) -> None:
    """Refuse what contradicts itself, before anything is read."""
    settings, both = experiment.settings, experiment.task == MULTITASK
    learned, probe = settings.combine == "uncertainty", experiment.recipe.name == PROBE
    needs_alpha = both and not learned
    _refuse(
        needs_alpha != (settings.alpha is not None),
        f"settings.alpha = {settings.alpha!r}",
        f"must be {'from 0 to 1 for two losses summed' if needs_alpha else 'left out here'}",
        "correct alpha",
    )
    _refuse(
        settings.control == "shuffled_iaa" and not both,
        "settings.control = 'shuffled_iaa'",
        "permutes what the diagnosis alone does not use",
        "use it with the task multitask",
    )
    _refuse(
        settings.control == "iaa_input" and (both or experiment.init_from is not None),
        "settings.control = 'iaa_input'",
        "is for a diagnosis that starts from no other experiment",
        "use the task diagnosis, without init_from",
    )
    _refuse(
        both and probe,
        "task multitask with a probe",
        "has nothing to share: the features are frozen",
        "use the task diagnosis for a probe",
    )
    published = settings.weights_from == "published" and experiment.cohort != AUTO
    known = ", ".join(n for n in dataset_names() if published_facts(n, "class_weights"))
    _refuse(
        probe and bool(experiment.recipe.settings),
        f"recipe.{next(iter(experiment.recipe.settings), '')}",
        "a probe of the diagnosis has no such setting",
        "leave it out",
    )
    _refuse(
        published and not published_facts(experiment.cohort, "class_weights"),
        "settings.weights_from = 'published'",
        f"there are published weights for {known}, not for {experiment.cohort}",
        "use 'train'",
    )


def _refuse(wrong: bool, where: str, problem: str, hint: str) -> None:
    if wrong:
        raise ExperimentError(where, problem, hint)


def targets(cohort: Cohort, rest: str = "out", require_agreement: bool = True) -> pd.DataFrame:
    """List the images that have a file and a label.

    Parameters
    ----------
    cohort : Cohort
    rest : {"out", "negative"}
        As for :func:`iavlib.data.target`.
    require_agreement : bool
        As in :class:`DiagnosisSettings`.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``target`` (1 for malignant, or melanoma), ``path``, ``iaa`` (mean
        pairwise Dice; missing for images with one mask), ``malignancy``, ``n_masks``, ``cluster``.

    Raises
    ------
    DataError
        If there is none, or a mean Dice lies outside [0, 1].
    """
    every = cohort.images.index
    label = target(cohort, rest)
    table = pd.DataFrame(
        {
            "target": label.reindex(every),
            "path": cohort.images["path"],
            "iaa": _agreement(cohort),
            "malignancy": cohort.images["malignancy"],
            "n_masks": cohort.masks["image_id"].value_counts().reindex(every, fill_value=0),
            "cluster": cohort.clusters(),
        },
        index=every,
    ).rename_axis("image_id")
    outside = table.index[table["iaa"].notna() & ~table["iaa"].between(0, 1)]
    if len(outside):
        what = f"mean Dice outside [0, 1]: {', '.join(outside[:5])}"
        raise DataError(f"cohort {cohort.name!r}", what, "measure it anew")
    found = table[table["target"].notna() & table["path"].notna()]
    if require_agreement and found["iaa"].notna().any():
        found = found[found["iaa"].notna()]
    if found.empty:
        raise DataError(
            f"cohort {cohort.name!r}",
            f"no image has both a label and a file ({len(label):,} have a label, "
            f"{table['path'].notna().sum():,} a file)",
            "get its images ('iav data status' says how), or use the cohort phantom",
        )
    return found.astype({"target": int})


def _agreement(cohort: Cohort) -> pd.Series:
    if cohort.pairs.empty:
        return pd.Series(float("nan"), index=cohort.images.index)
    return image_level(cohort.pairs)["dice_mean"].reindex(cohort.images.index)


def complete(experiment: Experiment) -> Experiment:
    """Choose the weights at hand, and refuse what cannot be run."""
    try:
        backbone = find_backbone(experiment.backbone)
        if experiment.weights == AUTO:
            experiment = experiment.replace(weights=find_weights(backbone))
        check_weights(experiment.weights)
        _check(experiment)
        if experiment.recipe.name != PROBE:
            make_recipe(experiment)
    except (ModelError, TrainingError, LookupError) as error:
        raise ExperimentError(
            "experiment", str(error).rstrip("."), "correct the specification"
        ) from error
    _check_start(experiment)
    return experiment


def _check_start(experiment: Experiment) -> None:
    begun = experiment.parent
    if begun is None:
        return
    problem = ""
    if begun.task not in (DIAGNOSIS, MULTITASK) or begun.recipe.name == PROBE:
        problem = "leaves no network with a head of diagnosis"
    elif experiment.task == MULTITASK and begun.task == DIAGNOSIS:
        problem = "has no head of agreement, which multitask goes on with"
    elif getattr(begun.settings, "control", "") == "iaa_input":
        problem = "is a control whose network takes more than an image"
    elif experiment.recipe.name == PROBE:
        problem = "is no start for a probe, which takes weights of a backbone"
    if problem:
        hint = "start from a trained experiment of diagnosis or multitask"
        raise ExperimentError(f"init_from = {begun.name}", problem, hint)


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Log) -> Outcome:
    """Learn on the training part, choose by the validation part, predict every image.

    ``predictions`` has ``true`` (0 or 1), ``predicted`` (probability of 1), ``true_iaa`` and
    ``predicted_iaa`` (where a network has that head). ``metrics`` are as of
    :func:`iavlib.experiments.scores.diagnosis_by_part`.
    """
    settings = experiment.settings
    table = targets(cohort, settings.rest, settings.require_agreement)
    _tell_images(cohort, table, settings.rest, log)
    used = _with_labels(cohort, table)
    subsets = assign_parts(used, experiment)
    # the group asked for is never torn; lesions without patients may be, except by published parts
    check_subsets(used, subsets, allow_leaks=not _keeps_lesions(experiment))
    if not (subsets == "val").any():
        raise ExperimentError("split", "has no validation part", "give three fractions, or kfold")
    if experiment.recipe.name == PROBE:
        from iavlib.experiments.tasks.diagnosis_network import fit_diagnosis_probe as learn
    else:
        from iavlib.experiments.tasks.diagnosis_network import train_diagnosis as learn
    learnt = learn(experiment, table, subsets, folder, log)
    check_finite(learnt.predictions["predicted"])
    columns = {"target": "true", "iaa": "true_iaa"}
    predictions = table.loc[subsets.index].drop(columns="path").rename(columns=columns)
    predictions["subset"] = subsets
    predictions = predictions.join(learnt.predictions).reset_index()
    first = ["image_id", "subset", "true", "predicted", "true_iaa"]
    predictions = predictions[[*first, *predictions.columns.difference(first, sort=False)]]
    return Outcome(
        predictions,
        diagnosis_by_part(predictions),
        learnt.history,
        diagnosis_baselines(predictions),
        learnt.weights,
        learnt.settings,
    )


def _keeps_lesions(experiment: Experiment) -> bool:
    split = experiment.split
    return split.leaks != "keep" if split.kind == "official" else split.group == "linked"


def _with_labels(cohort: Cohort, table: pd.DataFrame) -> Cohort:
    """Take the images of a table, in a cohort whose own labels are those of the table."""
    used = cohort.select(table.index)
    images = used.images.assign(target=table["target"].reindex(used.images.index))
    if "melanoma" not in images:
        named = images["target"].map({0: "benign", 1: "malignant"})
        images = images.assign(malignancy=named.astype(images["malignancy"].dtype))
    return replace(used, images=images)


def _tell_images(cohort: Cohort, table: pd.DataFrame, rest: str, log: Log) -> None:
    names, label = target_names(cohort), target(cohort, rest)
    counts = table["target"].value_counts().reindex([0, 1], fill_value=0)
    told = [f"{counts[value]:,} {names[value]}" for value in (0, 1)]
    no_label = len(cohort.images) - len(label)
    no_file = int(cohort.images.loc[label.index, "path"].isna().sum())
    one_mask = len(label) - no_file - len(table)
    left = {"no label": no_label, "no file": no_file, "no measured agreement": one_mask}
    why = [f"{n:,} have {reason}" for reason, n in left.items() if n]
    log(f"{len(table):,} images ({', '.join(told)})" + (f"; {', '.join(why)}" if why else ""))


TASK, MULTITASK_TASK = (
    Task(name, targets, run, complete, DiagnosisSettings) for name in (DIAGNOSIS, MULTITASK)
)
