"""Tasks ``diagnosis`` and ``multitask``: malignant or not, alone or with annotators' agreement.

Both learn the label by the same code. ``multitask`` learns the mean pairwise Dice of each image
beside it, with a second head on the same features. Either may start from another experiment's
network (fine-tuning): heads are kept, and a head that is not learnt is left as it is.

What an experiment of diagnosis may set beside the fields of a recipe; nothing needs PyTorch.

Where the published code and the paper's text differ, or what was published is not what one would
do, each is a value of a setting here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd

from iavlib.agreement.tables import image_level
from iavlib.core.errors import DataError, ExperimentError, ModelError, TrainingError, suggest
from iavlib.data.catalogue import dataset_names, find_dataset
from iavlib.data.cohort import Cohort, target, target_names
from iavlib.data.official_splits import check_subsets
from iavlib.experiments.config import AUTO, FINETUNE, PROBE, Experiment
from iavlib.experiments.scores import diagnosis_baselines, diagnosis_by_part
from iavlib.experiments.subsets import assign_parts
from iavlib.experiments.tasks.iaa import check_weights
from iavlib.experiments.tasks.task import Outcome, Say, Task, check_finite
from iavlib.models.backbones import find_backbone
from iavlib.models.weights import find_weights

DIAGNOSIS, MULTITASK = "diagnosis", "multitask"
PUBLISHED = ("paper", "paper_finetune")
#: Mean and standard deviation of the channels, as the published code has them.
NORMALISATIONS = {
    "imapp": ((0.7079, 0.5688, 0.5130), (0.1304, 0.1248, 0.1429)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_VALUES: dict[str, tuple[Any, ...]] = {
    "tta": (1, 2, 4, 8),
    "normalise": ("weights", "train", "published", *NORMALISATIONS),
    "class_loss": ("focal", "focal_textbook", "cross_entropy"),
    "weights_from": ("train", "published", "none"),
    "combine": ("alpha", "uncertainty"),
    "control": ("none", "shuffled_iaa", "iaa_input"),
    "indeterminate": ("out", "benign"),
    "images": ("measured", "all"),
    "head_start": ("zero", "fit"),
    "mimic_moving_statistics": (False, True),
}


@dataclass(frozen=True)
class DiagnosisSettings:
    """The settings of one experiment.

    Attributes
    ----------
    tta : {1, 2, 4, 8}
        Views (turned and mirrored) over which predictions are averaged. Published: 1.
    normalise : str
        By which mean and deviation images are normalised: those of the ``weights`` (of the network
        that it starts from), of the ``train`` part, the published constants of IMA++ (``imapp``)
        or of ``imagenet``; ``published`` takes those of IMA++ on IMA++ and phantom and those of
        ImageNet on all others, also where training on IMA++ went before.
    class_loss : {"focal", "focal_textbook", "cross_entropy"}
        ``focal`` has the class weight inside the exponent, as published.
    weights_from : {"train", "published", "none"}
        Class weights N / (2 N_c) of the training part, or the published constants.
    combine : {"alpha", "uncertainty"}
        Two losses are summed as the paper does, with ``alpha`` of the experiment, or weighted by
        learned uncertainties (ours).
    control : {"none", "shuffled_iaa", "iaa_input"}
        ``shuffled_iaa``: the agreement of training images is exchanged between them, by the seed:
        what a multi-task model still gains then, it does not gain from agreement.
        ``iaa_input``: the true agreement is given with the features. It is an upper bound that
        cannot be deployed, as it takes several annotators' masks of each new image.
    indeterminate : {"out", "benign"}
        What becomes of images that are neither benign nor malignant. The published evaluation of
        the regression counts them as benign, the published diagnosis leaves them out.
    images : {"measured", "all"}
        Only images whose agreement is known, in a cohort that has any such (so that models with
        and without it learn from the same images), or all that have a label.
    trainable : {"all", "last"} or int
        Stages of the backbone that are trained, see
        :func:`iavlib.training.optimisation.train_last_stages`.
    head_start : {"zero", "fit"}
        Heads begin as drawn, or where a fit to frozen features ends (linear heads only).
    mimic_moving_statistics : bool
        Whether BatchNorm statistics of the frozen regression head move in fine-tuning, as
        published, though its parameters do not.
    """

    tta: int
    normalise: str
    class_loss: str
    weights_from: str
    combine: str
    control: str
    indeterminate: str
    images: str
    trainable: str | int
    head_start: str
    mimic_moving_statistics: bool

    @property
    def rest(self) -> str:
        """The same as ``indeterminate``, in the words of :func:`iavlib.data.target`."""
        return "negative" if self.indeterminate == "benign" else "out"

    def to_json(self) -> dict[str, Any]:
        """Give all, for the record."""
        return asdict(self)


_NAMES = tuple(item.name for item in fields(DiagnosisSettings))


def read_settings(experiment: Experiment) -> tuple[DiagnosisSettings, dict[str, Any]]:
    """Tell apart what ``overrides`` set here and what they set of the recipe.

    Returns
    -------
    DiagnosisSettings
    dict
        Fields of the recipe that differ from it: selection by balanced accuracy, the published
        number of passes, and what ``overrides`` say.

    Raises
    ------
    ExperimentError
        If a value is not possible, or does not go with the rest of the experiment.
    """
    published = experiment.recipe in PUBLISHED
    given = dict(experiment.overrides)
    linear = given.get("head", "linear" if experiment.recipe == FINETUNE else "") == "linear"
    start = "fit" if linear and not experiment.start else "zero"
    chosen = {
        "tta": 1 if published else 4,
        "normalise": "published" if published else "weights",
        "class_loss": "focal" if published else "cross_entropy",
        "weights_from": "train",
        "combine": "alpha",
        "control": "none",
        "indeterminate": "out",
        "images": "measured",
        "trainable": "all",
        "head_start": start,
        "mimic_moving_statistics": False,
    }
    chosen |= {name: given.pop(name) for name in _NAMES if name in given}
    for name, known in _VALUES.items():
        if chosen[name] not in known:
            hint = suggest(str(chosen[name]), map(str, known))
            raise ExperimentError(f"overrides.{name} = {chosen[name]!r}", "is not possible", hint)
    settings = DiagnosisSettings(**chosen)
    _check(experiment, settings)
    recipe_fields = given if experiment.recipe == PROBE else _recipe_fields(experiment, given)
    if settings.trainable != "all":
        recipe_fields = {"freeze_batchnorm": True} | recipe_fields
        _refuse(
            not recipe_fields["freeze_batchnorm"],
            "overrides.freeze_batchnorm = False",
            "lets statistics of stages move that are not trained",
            "leave it out, or train all stages",
        )
    return settings, recipe_fields


def published_facts(cohort: str, name: str):
    """Return what a dataset's description holds of the published code; None for other cohorts."""
    return getattr(find_dataset(cohort), name) if cohort in dataset_names() else None


def _recipe_fields(experiment: Experiment, given: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"select": ["balanced_accuracy", "max"]}
    passes = published_facts(experiment.cohort, "passes")
    if experiment.recipe == "paper_finetune" and passes:
        own["num_aug"] = passes
    return own | given


def _check(experiment: Experiment, settings: DiagnosisSettings) -> None:
    """Refuse what contradicts itself, before anything is read."""
    both, alpha = experiment.task == MULTITASK, experiment.alpha
    learned = settings.combine == "uncertainty"
    fits_alpha = alpha is None if not both or learned else alpha is not None and 0 <= alpha <= 1
    wanted = "from 0 to 1 for two losses summed" if both and not learned else "left out here"
    _refuse(not fits_alpha, f"alpha = {alpha!r}", f"must be {wanted}", "correct alpha")
    _refuse(
        settings.control == "shuffled_iaa" and not both,
        "overrides.control = 'shuffled_iaa'",
        "exchanges what the diagnosis alone does not use",
        "use it with the task multitask",
    )
    _refuse(
        settings.control == "iaa_input" and (both or bool(experiment.start)),
        "overrides.control = 'iaa_input'",
        "is for a diagnosis that starts from no other experiment",
        "use the task diagnosis, without start",
    )
    _refuse(
        both and experiment.recipe == PROBE,
        "task multitask with a probe",
        "has nothing to share: the features are frozen",
        "use the task diagnosis for a probe",
    )
    published = settings.weights_from == "published"
    constants = published and not published_facts(experiment.cohort, "class_weights")
    known = ", ".join(n for n in dataset_names() if published_facts(n, "class_weights"))
    _refuse(
        constants and experiment.cohort != "auto",
        "overrides.weights_from = 'published'",
        f"there are published weights for {known}, not for {experiment.cohort}",
        "use 'train'",
    )
    trainable = settings.trainable
    whole = isinstance(trainable, int) and not isinstance(trainable, bool) and trainable >= 0
    _refuse(
        not whole and trainable not in ("all", "last"),
        f"overrides.trainable = {trainable!r}",
        "is not possible",
        "give 'all', 'last' or a number of stages",
    )


def _refuse(wrong: bool, where: str, problem: str, hint: str) -> None:
    if wrong:
        raise ExperimentError(where, problem, hint)


def targets(cohort: Cohort, rest: str = "out", images: str = "measured") -> pd.DataFrame:
    """List the images that have a file and a label.

    Parameters
    ----------
    cohort : Cohort
    rest, images
        As in :class:`~iavlib.experiments.tasks.diagnosis.DiagnosisSettings`.

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
    if images == "measured" and found["iaa"].notna().any():
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
            experiment = replace(experiment, weights=find_weights(backbone))
        check_weights(experiment.weights)
        _, fields = read_settings(experiment)
        if experiment.recipe == PROBE:
            _check_probe(experiment, fields)
        else:
            from iavlib.training.recipe import get_recipe

            get_recipe(experiment.recipe, **fields)
    except (ModelError, TrainingError, LookupError) as error:
        raise ExperimentError(
            "experiment", str(error).rstrip("."), "correct the specification"
        ) from error
    _check_start(experiment)
    return experiment


def _check_probe(experiment: Experiment, fields) -> None:
    if fields:
        raise ExperimentError(
            f"overrides.{next(iter(fields))}", "a probe has no such setting", "leave it out"
        )


def _check_start(experiment: Experiment) -> None:
    begun = experiment.init_from
    if begun is None:
        return
    problem = ""
    if begun.task not in (DIAGNOSIS, MULTITASK) or begun.recipe == PROBE:
        problem = "leaves no network with a head of diagnosis"
    elif experiment.task == MULTITASK and begun.task == DIAGNOSIS:
        problem = "has no head of agreement, which multitask goes on with"
    elif begun.overrides.get("control") == "iaa_input":
        problem = "is a control whose network takes more than an image"
    elif experiment.recipe == PROBE:
        problem = "is no start for a probe, which takes weights of a backbone"
    if problem:
        hint = "start from a trained experiment of diagnosis or multitask"
        raise ExperimentError(f"start = {begun.name}", problem, hint)


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Say) -> Outcome:
    """Learn on the training part, choose by the validation part, predict every image.

    ``predictions`` has ``true`` (0 or 1), ``predicted`` (probability of 1), ``true_iaa`` and
    ``predicted_iaa`` (where a network has that head). ``metrics`` are as of
    :func:`iavlib.experiments.scores.diagnosis_by_part`.
    """
    settings, _ = read_settings(experiment)
    table = targets(cohort, settings.rest, settings.images)
    _tell_images(cohort, table, settings.rest, log)
    used = _with_labels(cohort, table)
    subsets = assign_parts(used, experiment)
    # the group asked for is never torn; lesions without patients may be, except by published parts
    check_subsets(used, subsets, allow_leaks=not _keeps_lesions(experiment))
    if not (subsets == "val").any():
        raise ExperimentError("split", "has no validation part", "give three fractions, or kfold")
    if experiment.recipe == PROBE:
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
    if split["kind"] == "official":
        return split["leaks"] != "keep"
    return split["group"] == "linked"


def _with_labels(cohort: Cohort, table: pd.DataFrame) -> Cohort:
    """Take the images of a table, in a cohort whose own labels are those of the table."""
    used = cohort.select(table.index)
    images = used.images.assign(target=table["target"].reindex(used.images.index))
    if "melanoma" not in images:
        named = images["target"].map({0: "benign", 1: "malignant"})
        images = images.assign(malignancy=named.astype(images["malignancy"].dtype))
    return replace(used, images=images)


def _tell_images(cohort: Cohort, table: pd.DataFrame, rest: str, log: Say) -> None:
    names, label = target_names(cohort), target(cohort, rest)
    counts = table["target"].value_counts().reindex([0, 1], fill_value=0)
    told = [f"{counts[value]:,} {names[value]}" for value in (0, 1)]
    no_label = len(cohort.images) - len(label)
    no_file = int(cohort.images.loc[label.index, "path"].isna().sum())
    one_mask = len(label) - no_file - len(table)
    left = {"no label": no_label, "no file": no_file, "no measured agreement": one_mask}
    why = [f"{n:,} have {reason}" for reason, n in left.items() if n]
    log(f"{len(table):,} images ({', '.join(told)})" + (f"; {', '.join(why)}" if why else ""))


TASKS = tuple(Task(name, targets, run, complete) for name in (DIAGNOSIS, MULTITASK))
