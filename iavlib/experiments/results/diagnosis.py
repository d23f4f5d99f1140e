"""What many runs of diagnosis say together: arms, pairs, and predictions of images not learnt from.

Runs that differ in the fold alone are put together, so that each image of a cohort is judged once
by a model that had not seen its patient.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.results.run_data import RunData
from iavlib.experiments.store import FINISHED
from iavlib.experiments.sweep import read_predictions
from iavlib.experiments.tasks.diagnosis_settings import DIAGNOSIS, MULTITASK
from iavlib.experiments.tasks.settings import PROBE
from iavlib.stats.diagnosis.classification import classification_scores
from iavlib.stats.diagnosis.thresholds import choose_threshold

SINGLE, MULTI = "single", "multitask"
SHUFFLED, GIVEN, LEARNED = "shuffled agreement", "agreement given", "learned weights"
IMAGENET, RANDOM = "ImageNet", "random weights"
#: Labels that begin so are arms of their own: one setting is as published, or as it might be.
SWITCH = "switch: "
#: What a model of :func:`held_out_predictions` is told apart by, but for the fold.
KEYS = ("dataset", "backbone", "seed", "arm", "alpha", "start", "train_share")


def finished_or_stored(own: pd.DataFrame, full: pd.DataFrame) -> pd.DataFrame:
    """Take the runs of the full scale where any are finished on real data, else one's own.

    Parameters
    ----------
    own, full : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep`, and of :func:`iavlib.experiments.read_results` of
        the full scale.

    Returns
    -------
    pandas.DataFrame
        Finished runs only, with ``scale`` (``full`` or ``own``). For each cohort, one of both
        scales.

    Raises
    ------
    ExperimentError
        If none is finished.
    """
    tables = []
    for scale, table in (("full", full), ("own", own)):
        done = table[table["status"] == FINISHED] if len(table) else table
        tables.append(done.assign(scale=scale))
    done, mine = tables
    if len(done):
        done = done[~done["synthetic"].astype(bool) & ~done["weights_random"].astype(bool)]
    if len(mine) and len(done):
        mine = mine[~mine["cohort_name"].isin(done["cohort_name"])]
    kept = [table for table in (done, mine) if len(table)]
    if not kept:
        reasons = "; ".join(sorted(set(own.get("reason", [])) - {""})[:3]) or "none was run"
        raise ExperimentError("experiments", f"none is finished ({reasons})", "see 'iav runs'")
    return describe_arms(pd.concat(kept, ignore_index=True))


def describe_arms(runs: pd.DataFrame) -> pd.DataFrame:
    """Say of each run what is compared.

    Parameters
    ----------
    runs : pandas.DataFrame
        Finished runs of the tasks ``diagnosis`` and ``multitask``.

    Returns
    -------
    pandas.DataFrame
        The same with ``dataset`` (its cohort), ``arm`` (one of the names of this module, a label
        that begins with `SWITCH`, or ``probe``) and ``start`` (``ImageNet``, ``random weights``,
        or the arm of the experiment it starts from). Alpha is 1 of a diagnosis alone.
    """
    table = runs.drop_duplicates("id").copy()
    for name in ("overrides_control", "overrides_combine", "start_task"):
        table[name] = table.get(name)
    control, learned = table["overrides_control"], table["overrides_combine"] == "uncertainty"
    switched = table["label"].astype(str).str.startswith(SWITCH)
    choices = {
        "probe": table["recipe"] == PROBE,
        GIVEN: control == "iaa_input",
        SHUFFLED: control == "shuffled_iaa",
        LEARNED: learned,
        MULTI: table["task"] == MULTITASK,
        SINGLE: table["task"] == DIAGNOSIS,
    }
    table["arm"] = np.select(list(choices.values()), list(choices), default="other")
    table["arm"] = table["arm"].where(~switched, table["label"])
    table["dataset"] = table["cohort_name"]
    begun = table["start_task"].map({DIAGNOSIS: SINGLE, MULTITASK: MULTI})
    weights = table["weights_random"].map({True: RANDOM, False: IMAGENET})
    table["start"] = begun.where(begun.notna(), weights)
    table["alpha"] = table["alpha"].astype(float).where(table["arm"] != SINGLE, 1.0)
    return table


def held_out_predictions(runs: pd.DataFrame) -> pd.DataFrame:
    """Read what runs predicted on their test parts.

    Parameters
    ----------
    runs : pandas.DataFrame
        From :func:`describe_arms`.

    Returns
    -------
    pandas.DataFrame
        One row a run and image: `KEYS`, ``image_id``, ``malignant``, ``probability``, ``called``
        (from one half), ``tuned`` (from the threshold best on the run's validation part),
        ``patient_id`` (the cluster), ``true_iaa``, ``predicted_iaa`` and ``n_train`` (training
        images of the run).
    """
    everything = read_predictions(runs)
    val = everything[everything["part"] == "val"]
    thresholds = {
        run: choose_threshold(rows["true"], rows["predicted"]).value
        for run, rows in val.groupby("id")
    }
    tested = everything[everything["part"] == "test"].drop(columns=["backbone", "seed", "label"])
    about = runs.set_index("id")[[*KEYS, "n_train"]]
    tested = tested.join(about, on="id")
    tested["called"] = tested["predicted"] >= 0.5
    tested["tuned"] = tested["predicted"] >= tested["id"].map(thresholds).fillna(0.5)
    names = {"true": "malignant", "predicted": "probability", "cluster": "patient_id"}
    tested = tested.rename(columns=names).astype({"malignant": bool})
    for name in ("true_iaa", "predicted_iaa"):
        tested[name] = tested.get(name, np.nan)
    shown = ["image_id", "malignant", "probability", "called", "tuned", "patient_id"]
    tested = tested[[*KEYS, *shown, "true_iaa", "predicted_iaa", "n_train"]]
    return tested.reset_index(drop=True)


def pooled_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Judge each model over the test parts of all its folds.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`held_out_predictions`.

    Returns
    -------
    pandas.DataFrame
        One row a model: `KEYS`, ``n``, ``n_train`` (mean over folds), ``tuned_balanced_accuracy``,
        and the estimates of :func:`iavlib.stats.classification_scores` at one half.

    Raises
    ------
    ExperimentError
        If a model judged an image twice, so that runs that differ in more than the fold would be
        put together.
    """
    rows = []
    for key, found in predictions.groupby(list(KEYS), dropna=False, sort=False):
        if found["image_id"].duplicated().any():
            named = ", ".join(f"{k} {v}" for k, v in zip(KEYS, key, strict=True))
            raise ExperimentError(
                "runs", f"several judge the same images as {named}", "give each its own settings"
            )
        table = classification_scores(found["malignant"], found["probability"], n_boot=2)
        tuned = found.groupby("malignant")["tuned"].mean()
        scores = table["estimate"].to_dict() | {
            "tuned_balanced_accuracy": (tuned.get(True, 0) + 1 - tuned.get(False, 1)) / 2,
            "n": len(found),
            "n_train": round(found["n_train"].mean()),
        }
        rows.append(dict(zip(KEYS, key, strict=True)) | scores)
    return pd.DataFrame(rows)


def one_alpha(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Keep one weight of the diagnosis in arms that have any, so that runs can be paired."""
    return table[table["alpha"].isna() | table["arm"].isin([SINGLE]) | (table["alpha"] == alpha)]


def data_of(runs: pd.DataFrame, dataset: str) -> RunData:
    """Say what data the runs on a dataset stand for; random weights make it as good as invented."""
    own = runs[runs["dataset"] == dataset]
    invented = own["synthetic"].astype(bool) | own["weights_random"].astype(bool)
    return RunData(dataset, bool(invented.any()))


def gain_by_agreement(predictions: pd.DataFrame, n_bins: int = 3) -> pd.DataFrame:
    """Compare errors with and without the second head by the true agreement of images.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`held_out_predictions`, of the arms ``single`` and ``multitask``.
    n_bins : int
        Groups of equal size, from low to high agreement.

    Returns
    -------
    pandas.DataFrame
        One row a group: ``lowest`` and ``highest`` agreement, ``n`` images, the share called
        wrongly by each arm, and their difference (negative where the second head helps).
    """
    known = predictions[predictions["true_iaa"].notna()]
    wrong = known.assign(wrong=(known["called"] != known["malignant"]).astype(float))
    table = wrong.pivot_table(index=["image_id", "true_iaa"], columns="arm", values="wrong")
    table = table[[SINGLE, MULTI]].dropna().reset_index()
    if table.empty:
        raise ExperimentError("runs", "no image was judged by both arms", "run both")
    ranks = table["true_iaa"].rank(method="first")
    table["group"] = pd.qcut(ranks, min(n_bins, len(table)), labels=False)
    groups = table.groupby("group")
    found = groups[[SINGLE, MULTI]].mean()
    found.insert(0, "n", groups.size())
    found.insert(0, "highest", groups["true_iaa"].max())
    found.insert(0, "lowest", groups["true_iaa"].min())
    return found.assign(difference=found[MULTI] - found[SINGLE]).reset_index(drop=True)
