"""The numbers by which predictions of a quantity are judged.

The numbers by which predictions of a diagnosis are judged.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from iavlib.stats.classification import (
    CLASSIFICATION_SCORES,
    choose_threshold,
    classification_scores,
)
from iavlib.stats.regression import point_errors


def scores_by_part(predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Judge each part of a table of predictions; see :func:`iavlib.stats.point_errors`."""
    return {
        str(subset): point_errors(rows["true"], rows["predicted"])
        for subset, rows in predictions.groupby("subset", sort=False)
    }


def constant_baselines(predictions: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Judge the two predictors that look at no image: the training part's median and mean."""
    train = predictions.loc[predictions["subset"] == "train", "true"]
    constants = {"constant_median": train.median(), "constant_mean": train.mean()}
    return {
        name: scores_by_part(predictions.assign(predicted=value))
        for name, value in constants.items()
    }


#: Scores that depend on where malignant begins.
_AT_A_THRESHOLD = ("balanced_accuracy", "f1", "sensitivity", "specificity", "accuracy")
_OF_AGREEMENT = ("mae", "pearson", "spearman")


def diagnosis_by_part(predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Judge each part of a table of predictions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``subset``, ``true`` (0 or 1), ``predicted`` (probability of 1), ``true_iaa`` and, of
        networks with that head, ``predicted_iaa``.

    Returns
    -------
    dict
        Part to scores: those of
        :func:`iavlib.stats.classification.classification_scores` at a threshold of
        one half; ``threshold``, the one with the best balanced accuracy on the validation part,
        and ``tuned_<score>`` there; ``iaa_mae``, ``iaa_pearson`` and
        ``iaa_spearman`` over images whose agreement is known.
    """
    val = predictions[predictions["subset"] == "val"]
    threshold = choose_threshold(val["true"], val["predicted"]).value if len(val) else 0.5
    return {
        str(subset): _judge(rows, threshold)
        for subset, rows in predictions.groupby("subset", sort=False)
    }


def diagnosis_baselines(predictions: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Judge what looks at no image: the training part's share of class 1, and median agreement."""
    train = predictions[predictions["subset"] == "train"]
    constant = predictions.assign(predicted=train["true"].mean())
    if "predicted_iaa" in predictions:
        constant["predicted_iaa"] = train["true_iaa"].median()
    subsets = constant.groupby("subset", sort=False)
    return {"constant": {str(subset): _judge(rows, 0.5) for subset, rows in subsets}}


def _judge(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
    scores = _point_scores(rows, 0.5)
    tuned = _point_scores(rows, threshold)
    scores["threshold"] = float(threshold)
    scores |= {f"tuned_{name}": tuned[name] for name in _AT_A_THRESHOLD}
    return scores | _agreement_scores(rows)


def _point_scores(rows: pd.DataFrame, threshold: float) -> dict[str, float]:
    """Give the estimates alone; intervals are drawn where they are shown."""
    table = classification_scores(rows["true"], rows["predicted"], threshold, n_boot=2)
    return {name: float(table.loc[name, "estimate"]) for name in CLASSIFICATION_SCORES}


def _agreement_scores(rows: pd.DataFrame) -> dict[str, float]:
    if "predicted_iaa" not in rows:
        return {}
    known = rows[np.isfinite(rows["true_iaa"]) & np.isfinite(rows["predicted_iaa"])]
    if known.empty:
        return {}
    scores = point_errors(known["true_iaa"], known["predicted_iaa"])
    return {f"iaa_{name}": scores[name] for name in _OF_AGREEMENT}
