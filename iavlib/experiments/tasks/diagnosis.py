"""Tasks ``diagnosis`` and ``multitask``: malignant or not, alone or with annotators' agreement.

Both learn the label by the same code. ``multitask`` learns the mean pairwise Dice of each image
beside it, with a second head on the same features. Either may start from another experiment's
network (fine-tuning): heads are kept, and a head that is not learnt is left as it is.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from iavlib.agreement.image_level import image_level
from iavlib.data.cohort import Cohort
from iavlib.data.errors import DataError
from iavlib.data.parts import check_parts
from iavlib.data.targets import target, target_names
from iavlib.experiments.diagnosis_scores import diagnosis_baselines, diagnosis_by_part
from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.parts import assign_parts
from iavlib.experiments.spec import AUTO, Experiment
from iavlib.experiments.tasks.diagnosis_settings import DIAGNOSIS, MULTITASK, read_settings
from iavlib.experiments.tasks.iaa import check_weights
from iavlib.experiments.tasks.settings import PROBE
from iavlib.experiments.tasks.task import Outcome, Say, Task, check_finite
from iavlib.models.backbones import find_backbone
from iavlib.models.errors import ModelError
from iavlib.models.weights import find_weights
from iavlib.training.errors import TrainingError


def targets(cohort: Cohort, rest: str = "out", images: str = "measured") -> pd.DataFrame:
    """List the images that have a file and a label.

    Parameters
    ----------
    cohort : Cohort
    rest, images
        As in :class:`~iavlib.experiments.tasks.diagnosis_settings.DiagnosisSettings`.

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
    begun = experiment.begun_from
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
        mend = "start from a trained experiment of diagnosis or multitask"
        raise ExperimentError(f"start = {begun.name}", problem, mend)


def run(experiment: Experiment, cohort: Cohort, folder: Path, say: Say) -> Outcome:
    """Learn on the training part, choose by the validation part, predict every image.

    ``predictions`` has ``true`` (0 or 1), ``predicted`` (probability of 1), ``true_iaa`` and
    ``predicted_iaa`` (where a network has that head). ``metrics`` are as of
    :func:`iavlib.experiments.diagnosis_scores.diagnosis_by_part`.
    """
    settings, _ = read_settings(experiment)
    table = targets(cohort, settings.rest, settings.images)
    _tell_images(cohort, table, settings.rest, say)
    used = _with_labels(cohort, table)
    parts = assign_parts(used, experiment)
    # the group asked for is never torn; lesions without patients may be, except by published parts
    check_parts(used, parts, allow_leaks=not _keeps_lesions(experiment))
    if not (parts == "val").any():
        raise ExperimentError("split", "has no validation part", "give three fractions, or kfold")
    if experiment.recipe == PROBE:
        from iavlib.experiments.tasks.diagnosis_probe import fit_diagnosis_probe as learn
    else:
        from iavlib.experiments.tasks.diagnosis_network import train_diagnosis as learn
    learnt = learn(experiment, table, parts, folder, say)
    check_finite(learnt.predictions["predicted"])
    columns = {"target": "true", "iaa": "true_iaa"}
    predictions = table.loc[parts.index].drop(columns="path").rename(columns=columns)
    predictions["part"] = parts
    predictions = predictions.join(learnt.predictions).reset_index()
    first = ["image_id", "part", "true", "predicted", "true_iaa"]
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


def _tell_images(cohort: Cohort, table: pd.DataFrame, rest: str, say: Say) -> None:
    names, label = target_names(cohort), target(cohort, rest)
    counts = table["target"].value_counts().reindex([0, 1], fill_value=0)
    told = [f"{counts[value]:,} {names[value]}" for value in (0, 1)]
    no_label = len(cohort.images) - len(label)
    no_file = int(cohort.images.loc[label.index, "path"].isna().sum())
    one_mask = len(label) - no_file - len(table)
    left = {"no label": no_label, "no file": no_file, "no measured agreement": one_mask}
    why = [f"{n:,} have {reason}" for reason, n in left.items() if n]
    say(f"{len(table):,} images ({', '.join(told)})" + (f"; {', '.join(why)}" if why else ""))


TASKS = tuple(Task(name, targets, run, complete) for name in (DIAGNOSIS, MULTITASK))
