"""Scores of predictions of agreement and of a diagnosis, and of baselines on the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from iavlib import stats
from iavlib.core.files import only_one, write_text
from iavlib.core.project import cache_home

if TYPE_CHECKING:
    from iavlib.training.image_cache import ImageCache

Scores = dict[str, dict[str, float]]
#: Scores that depend on the threshold from which an image is called malignant.
_AT_A_THRESHOLD = ("balanced_accuracy", "f1", "sensitivity", "specificity", "accuracy")
#: Part of the name of a cached file: raise it when the same pixels would give other statistics.
_VERSION = 1


def scores_by_subset(predictions: pd.DataFrame) -> Scores:
    """Judge each subset of a table of predictions; see :func:`iavlib.stats.point_errors`."""
    return {
        str(subset): stats.point_errors(rows["true"], rows["predicted"])
        for subset, rows in predictions.groupby("subset", sort=False)
    }


def constant_baselines(predictions: pd.DataFrame) -> dict[str, Scores]:
    """Judge the two predictors that use no image: the training subset's median and mean."""
    train = predictions.loc[predictions["subset"] == "train", "true"]
    constants = {"constant_median": train.median(), "constant_mean": train.mean()}
    return {
        name: scores_by_subset(predictions.assign(predicted=value))
        for name, value in constants.items()
    }


def agreement_scores(
    predictions: pd.DataFrame, cache: ImageCache
) -> tuple[Scores, dict[str, Scores]]:
    """Judge predictions of agreement by subset, and the baselines on the same images.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``subset``, ``true``, ``predicted`` and ``cluster``.
    cache : ImageCache
        The pixels of these images.

    Returns
    -------
    dict
        Subset to metrics: those of :func:`iavlib.stats.point_errors`, and ``reduction``, the
        share by which the mean absolute error is below that of the training subset's median.
    dict
        The same (without ``reduction``) of ``constant_median``, ``constant_mean`` and
        ``image_statistics`` (a ridge regression on statistics of the images).
    """
    table = predictions.set_index("image_id")
    features = cached_statistics(cache).loc[table.index]
    train = table["subset"] == "train"
    model = stats.fit_statistics_baseline(
        features[train], table.loc[train, "true"], table.loc[train, "cluster"]
    )
    baselines = constant_baselines(predictions)
    by_statistics = table.assign(predicted=model.predict(features))
    baselines["image_statistics"] = scores_by_subset(by_statistics)
    metrics = scores_by_subset(predictions)
    for subset, scores in metrics.items():
        median = baselines["constant_median"][subset]["mae"]
        scores["reduction"] = 1 - scores["mae"] / median if median > 0 else float("nan")
    return metrics, baselines


def cached_statistics(cache: ImageCache) -> pd.DataFrame:
    """Compute statistics of cached images once, and keep them in the cache folder."""
    path = cache_home() / "statistics" / f"{cache.key}.{_VERSION}.csv"
    with only_one(path.with_suffix(".lock"), f"statistics of {len(cache):,} images"):
        if not path.is_file():
            write_text(path, stats.image_statistics(cache.pixels, cache.ids).to_csv())
        return pd.read_csv(path, dtype={"image_id": str}).set_index("image_id")


def diagnosis_scores(predictions: pd.DataFrame) -> tuple[Scores, dict[str, Scores]]:
    """Judge predictions of a diagnosis by subset, and a baseline without images.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``subset``, ``true`` (0 or 1), ``predicted`` (probability of 1), ``true_iaa`` and, of
        networks with that head, ``predicted_iaa``.

    Returns
    -------
    dict
        Subset to scores: those of :func:`iavlib.stats.classification_scores` at a threshold of
        one half; ``threshold``, the one with the best balanced accuracy on the validation subset,
        and ``tuned_<score>`` there; ``iaa_mae``, ``iaa_pearson`` and ``iaa_spearman`` over images
        whose agreement is known.
    dict
        ``constant`` to the same, of the training subset's share of class 1 and median agreement.
    """
    val = predictions[predictions["subset"] == "val"]
    threshold = stats.choose_threshold(val["true"], val["predicted"]).value if len(val) else 0.5
    train = predictions[predictions["subset"] == "train"]
    constant = predictions.assign(predicted=train["true"].mean())
    if "predicted_iaa" in predictions:
        constant["predicted_iaa"] = train["true_iaa"].median()
    both = [
        {str(name): _judge(rows, at) for name, rows in table.groupby("subset", sort=False)}
        for table, at in ((predictions, threshold), (constant, 0.5))
    ]
    return both[0], {"constant": both[1]}


def _judge(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
    scores, tuned = _point_scores(rows, 0.5), _point_scores(rows, threshold)
    scores["threshold"] = float(threshold)
    scores |= {f"tuned_{name}": tuned[name] for name in _AT_A_THRESHOLD}
    if "predicted_iaa" in rows:
        known = rows[np.isfinite(rows["true_iaa"]) & np.isfinite(rows["predicted_iaa"])]
        if len(known):
            errors = stats.point_errors(known["true_iaa"], known["predicted_iaa"])
            scores |= {f"iaa_{name}": errors[name] for name in ("mae", "pearson", "spearman")}
    return scores


def _point_scores(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Return the estimates alone; intervals are computed where they are shown."""
    table = stats.classification_scores(rows["true"], rows["predicted"], threshold, n_boot=2)
    return {name: float(table.loc[name, "estimate"]) for name in stats.CLASSIFICATION_SCORES}
