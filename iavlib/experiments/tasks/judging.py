"""How good predictions are, beside those of predictors that have learnt next to nothing."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from iavlib.data.home import cache_home
from iavlib.experiments.scores import constant_baselines, scores_by_part
from iavlib.files import write_text
from iavlib.locks import only_one
from iavlib.stats.prediction.baselines import fit_statistics_baseline
from iavlib.stats.prediction.image_statistics import image_statistics
from iavlib.training.image_cache import ImageCache

#: Part of the name of what is kept: raise it when the same pixels would give other statistics.
VERSION = 1


Scores = dict[str, dict[str, float]]


def judge(predictions: pd.DataFrame, cache: ImageCache) -> tuple[Scores, dict[str, Scores]]:
    """Judge predictions by part, and the baselines on the same images.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``part``, ``true``, ``predicted`` and ``cluster``.
    cache : ImageCache
        The pixels of these images.

    Returns
    -------
    dict
        Part to metrics: those of :func:`iavlib.stats.point_errors`, and ``reduction``, by what
        share the mean absolute error is below that of the training part's median.
    dict
        The same (without ``reduction``) of ``constant_median``, ``constant_mean`` and
        ``image_statistics``.
    """
    baselines = constant_baselines(predictions)
    baselines["image_statistics"] = statistics_scores(predictions, cache)
    metrics = scores_by_part(predictions)
    for part, scores in metrics.items():
        median = baselines["constant_median"][part]["mae"]
        scores["reduction"] = 1 - scores["mae"] / median if median > 0 else float("nan")
    return metrics, baselines


def statistics_scores(predictions: pd.DataFrame, cache: ImageCache) -> Scores:
    """Judge a ridge on statistics of the images, fitted on the training part.

    Parameters
    ----------
    predictions : pandas.DataFrame
        Columns ``image_id``, ``part``, ``true`` and ``cluster``.
    cache : ImageCache
        The pixels of these images.

    Returns
    -------
    dict of str to dict
        Part to metrics.
    """
    table = predictions.set_index("image_id")
    features = cached_statistics(cache).loc[table.index]
    train = table["part"] == "train"
    model = fit_statistics_baseline(
        features[train], table.loc[train, "true"], table.loc[train, "cluster"]
    )
    return scores_by_part(table.assign(predicted=model.predict(features)))


def cached_statistics(cache: ImageCache) -> pd.DataFrame:
    """Compute statistics of cached images once, and keep them beside other caches."""
    path = cache_home() / "statistics" / f"{cache.key}.{VERSION}.csv"
    found = _read(path, cache)
    if found is not None:
        return found
    with only_one(path.with_suffix(".lock"), f"statistics of {len(cache):,} images"):
        found = _read(path, cache)
        if found is None:
            table = image_statistics(cache.pixels, cache.ids)
            write_text(path, table.to_csv())
            found = _read(path, cache)
    return found


def _read(path: Path, cache: ImageCache) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype={"image_id": str}).set_index("image_id")
    return table if len(table) == len(cache) else None
