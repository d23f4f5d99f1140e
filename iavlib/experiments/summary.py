"""What many runs say together: means over seeds, and predictions of images not learnt from.

:func:`summarise` is the one table of means; the rest puts the folds of a diagnosis together, so
that each image of a cohort is judged once by a model that had not seen its patient.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from iavlib.core.errors import ExperimentError
from iavlib.experiments.config import PROBE
from iavlib.experiments.runner import read_predictions
from iavlib.experiments.store import FINISHED
from iavlib.experiments.tasks.image import DIAGNOSIS, MULTITASK
from iavlib.stats import (
    CLASSIFICATION_SCORES,
    bootstrap_mean,
    choose_threshold,
    classification_scores,
    mean_interval,
)

#: Of a text where no run has measured what is asked for.
NOT_RUN = "(not run)"
_ANY = (-np.inf, np.inf)


def finished_runs(runs: pd.DataFrame, label: str | None = None) -> pd.DataFrame:
    """Return the rows that are finished, of one label where it is given."""
    done = runs[runs["status"] == FINISHED] if len(runs) else runs
    return done if label is None or not len(done) else done[done["label"] == label]


def by_seed(runs: pd.DataFrame, method: str, measure: str = "dice", less: str = "") -> pd.Series:
    """Return a measure of a method for each seed, less that of another method where one is given.

    Returns
    -------
    pandas.Series
        Indexed by seed; empty where nothing was measured.
    """
    runs = finished_runs(runs)
    if measure not in runs:
        return pd.Series(dtype=float)
    values = runs[runs["method"] == method].set_index("seed")[measure]
    if less:
        values = values - runs[runs["method"] == less].set_index("seed")[measure]
    return values.dropna()


def summarise(
    runs: pd.DataFrame,
    by: str | Sequence[str],
    measures: Sequence[str],
    scale: float | Mapping[str, float] = 1,
    within: tuple[float, float] | Mapping[str, tuple[float, float]] = _ANY,
) -> pd.DataFrame:
    """Average measures over runs that differ in their seeds.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep` or :func:`iavlib.experiments.select`; those that
        are not finished do not count.
    by : str or sequence of str
        Columns that tell models apart.
    measures : sequence of str
        Columns to average; those that no run has are left out.
    scale : float or mapping of str to float
        Factor of all measures, or of those named: 100 for points.
    within : pair of float, or mapping of str to such pairs
        Possible range after scaling, to which intervals are cut.

    Returns
    -------
    pandas.DataFrame
        Index `by`, in the order of the runs. For each measure its mean and ``<measure>_low`` and
        ``<measure>_high``, Student's 95 % interval (missing for one run); ``runs``, ``seeds``,
        and, where the runs state it, ``n_test`` (test images).

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.experiments import summarise
    >>> runs = pd.DataFrame({"method": ["cm", "cm"], "seed": [0, 1], "dice": [0.8, 0.9]})
    >>> summarise(runs.assign(status="finished"), "method", ["dice"], scale=100).round(1)
            dice  dice_low  dice_high  runs  seeds
    method
    cm      85.0      21.5      148.5     2      2
    """
    runs = finished_runs(runs)
    names = [by] if isinstance(by, str) else list(by)
    present = [name for name in measures if name in runs and runs[name].notna().any()]
    rows = {}
    for key, group in runs.groupby(names, sort=False) if len(runs) else ():
        row: dict[str, float] = {}
        for name in present:
            factor = scale.get(name, 1) if isinstance(scale, Mapping) else scale
            possible = within.get(name, _ANY) if isinstance(within, Mapping) else within
            mean = mean_interval(factor * group[name].dropna(), within=possible)
            row |= {name: mean.value, f"{name}_low": mean.low, f"{name}_high": mean.high}
        row |= {"runs": len(group), "seeds": group["seed"].nunique()}
        rows[key] = row | ({"n_test": group["n_test"].max()} if "n_test" in group else {})
    columns = [f"{name}{end}" for name in measures for end in ("", "_low", "_high")]
    table = pd.DataFrame(list(rows.values()), columns=None if rows else [*columns, "runs"])
    return table.set_index(pd.MultiIndex.from_tuples(list(rows), names=names).droplevel([]))


def paired_with_best(
    values: pd.DataFrame, larger_is_better: bool = True, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """Compare each method with the best of them, image by image.

    Parameters
    ----------
    values : pandas.DataFrame
        One row per image, one column per method; images that a method lacks do not count.
    larger_is_better : bool
        Whether the best is the one of the largest mean.
    n_boot, seed : int
        Of the interval, which resamples images.

    Returns
    -------
    pandas.DataFrame
        Index ``method``: ``best`` (the method compared with), ``difference`` to it, ``low`` and
        ``high``, ``p`` (Wilcoxon's signed ranks, not corrected), ``images``. The best was chosen
        on the same images, which favours it.
    """
    wide = values.dropna()
    best = wide.mean().idxmax() if larger_is_better else wide.mean().idxmin()
    rows = {}
    for method in wide:
        gap = wide[method] - wide[best]
        row = {"best": best, "difference": gap.mean(), "images": len(gap)}
        if method != best and len(gap) > 1:
            mean = bootstrap_mean(gap, gap.index, n_boot, seed)
            row |= {"low": mean.low, "high": mean.high}
            row["p"] = float(wilcoxon(gap).pvalue) if gap.any() else 1.0
        rows[method] = row
    columns = ["best", "difference", "low", "high", "p", "images"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")


SINGLE, MULTI = "single", "multitask"
SHUFFLED, GIVEN, LEARNED = "shuffled agreement", "agreement given", "learned weights"
IMAGENET, RANDOM = "ImageNet", "random weights"
#: Labels that begin so are arms of their own: one setting is as published, or as it might be.
SWITCH = "switch: "
#: Columns that distinguish the models of :func:`held_out_predictions`, apart from the fold.
KEYS = ("dataset", "backbone", "seed", "arm", "alpha", "start", "train_share")


def describe_arms(runs: pd.DataFrame) -> pd.DataFrame:
    """Name what is compared of each run of a diagnosis.

    Parameters
    ----------
    runs : pandas.DataFrame
        Runs of the tasks ``diagnosis`` and ``multitask``; unfinished ones are left out.

    Returns
    -------
    pandas.DataFrame
        The same with ``dataset`` (its cohort), ``arm`` (one of the names of this module, a label
        that begins with `SWITCH`, or ``probe``) and ``start`` (``ImageNet``, ``random weights``,
        or the arm of the experiment it starts from). Alpha is 1 of a diagnosis alone.
    """
    needed = ["id", "status", "task", "cohort_name", "label", "recipe", "weights_random", *KEYS]
    needed += ["control", "combine", "init_from_task", "n_train"]
    table = finished_runs(runs)
    table = table.reindex(columns=list(dict.fromkeys([*table, *needed]))).drop_duplicates("id")
    control, learned = table["control"], table["combine"] == "uncertainty"
    choices = {
        "probe": table["recipe"] == PROBE,
        GIVEN: control == "iaa_input",
        SHUFFLED: control == "shuffled_iaa",
        LEARNED: learned,
        MULTI: table["task"] == MULTITASK,
        SINGLE: table["task"] == DIAGNOSIS,
    }
    table["arm"] = np.select(list(choices.values()), list(choices), default="other")
    switched = table["label"].astype(str).str.startswith(SWITCH)
    table["arm"] = table["arm"].where(~switched, table["label"])
    table["dataset"] = table["cohort_name"]
    parent = table["init_from_task"].map({DIAGNOSIS: SINGLE, MULTITASK: MULTI})
    weights = table["weights_random"].map({True: RANDOM, False: IMAGENET})
    table["start"] = parent.where(parent.notna(), weights)
    table["alpha"] = table["alpha"].astype(float).where(table["arm"] != SINGLE, 1.0)
    return table


def held_out_predictions(runs: pd.DataFrame) -> pd.DataFrame:
    """Read what runs predicted on their test images.

    Parameters
    ----------
    runs : pandas.DataFrame
        From :func:`describe_arms`.

    Returns
    -------
    pandas.DataFrame
        One row per run and image: `KEYS`, ``image_id``, ``malignant``, ``probability``, ``called``
        (from one half), ``tuned`` (from the threshold best on the run's validation images),
        ``patient_id`` (the cluster), ``true_iaa``, ``predicted_iaa`` and ``n_train`` (training
        images of the run).
    """
    everything = read_predictions(runs)
    columns = [*KEYS, *("image_id", "malignant", "probability", "called", "tuned", "patient_id")]
    columns += ["true_iaa", "predicted_iaa", "n_train"]
    if everything.empty:
        return pd.DataFrame(columns=columns)
    val = everything[everything["subset"] == "val"]
    thresholds = {
        run: choose_threshold(rows["true"], rows["predicted"]).value
        for run, rows in val.groupby("id")
    }
    tested = everything[everything["subset"] == "test"].drop(columns=["backbone", "seed", "label"])
    tested = tested.join(runs.set_index("id")[[*KEYS, "n_train"]], on="id")
    tested["called"] = tested["predicted"] >= 0.5
    tested["tuned"] = tested["predicted"] >= tested["id"].map(thresholds).fillna(0.5)
    names = {"true": "malignant", "predicted": "probability", "cluster": "patient_id"}
    tested = tested.rename(columns=names).astype({"malignant": bool})
    return tested.reindex(columns=columns).reset_index(drop=True)


def pooled_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Judge each model over the test images of all its folds.

    Parameters
    ----------
    predictions : pandas.DataFrame
        From :func:`held_out_predictions`.

    Returns
    -------
    pandas.DataFrame
        One row per model: `KEYS`, ``n``, ``n_train`` (mean over folds),
        ``tuned_balanced_accuracy``, and the estimates of
        :func:`iavlib.stats.classification_scores` at one half.

    Raises
    ------
    ExperimentError
        If a model judged an image twice, so that runs that differ in more than the fold would be
        put together.
    """
    rows = []
    for key, images in predictions.groupby(list(KEYS), dropna=False, sort=False):
        about = dict(zip(KEYS, key, strict=True))
        if images["image_id"].duplicated().any():
            named = ", ".join(f"{name} {value}" for name, value in about.items())
            raise ExperimentError(
                "runs", f"several judge the same images as {named}", "give each its own settings"
            )
        scores = classification_scores(images["malignant"], images["probability"], n_boot=2)
        tuned = images.groupby("malignant")["tuned"].mean()
        about |= scores["estimate"].to_dict()
        about["tuned_balanced_accuracy"] = (tuned.get(True, 0) + 1 - tuned.get(False, 1)) / 2
        rows.append(about | {"n": len(images), "n_train": round(images["n_train"].mean())})
    others = ["tuned_balanced_accuracy", "n", "n_train"]
    return pd.DataFrame(rows, columns=[*KEYS, *CLASSIFICATION_SCORES, *others])


def mean_over_runs(predictions: pd.DataFrame) -> pd.DataFrame:
    """Average each image's probability over the runs of one arm on one dataset.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``malignant``, ``patient_id``, ``true_iaa``, ``probability``.
    """
    images = predictions.groupby("image_id")
    facts = images[["malignant", "patient_id", "true_iaa"]].first()
    return facts.assign(probability=images["probability"].mean())
