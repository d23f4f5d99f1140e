"""The numbers by which predictions of a quantity are judged."""

from __future__ import annotations

import numpy as np
import pandas as pd


def regression_scores(true, predicted) -> dict[str, float]:
    """Judge predictions of a quantity.

    Parameters
    ----------
    true, predicted : array-like of float, shape (n,)

    Returns
    -------
    dict of str to float
        ``mae``, ``mse``, ``rmse``, ``pearson``, ``spearman`` (missing for constant predictions),
        ``slope`` and ``intercept`` of the true values by least squares on the predicted (1 and 0
        where predictions are calibrated), ``bias`` (mean of predicted less true).
    """
    true, predicted = np.asarray(true, float), np.asarray(predicted, float)
    error = predicted - true
    mse = float(np.mean(error**2))
    scores = {"mae": float(np.mean(np.abs(error))), "mse": mse, "rmse": mse**0.5}
    varies = len(true) > 1 and np.ptp(predicted) > 0 and np.ptp(true) > 0
    pearson = spearman = slope = intercept = float("nan")
    if varies:
        pearson = float(np.corrcoef(true, predicted)[0, 1])
        ranks = [pd.Series(values).rank().to_numpy() for values in (true, predicted)]
        spearman = float(np.corrcoef(*ranks)[0, 1])
        slope = float(np.cov(true, predicted)[0, 1] / np.var(predicted, ddof=1))
        intercept = float(true.mean() - slope * predicted.mean())
    return scores | {
        "pearson": pearson,
        "spearman": spearman,
        "slope": slope,
        "intercept": intercept,
        "bias": float(error.mean()),
    }


def scores_by_part(predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Judge each part of a table of predictions; see :func:`regression_scores`."""
    return {
        str(part): regression_scores(rows["true"], rows["predicted"])
        for part, rows in predictions.groupby("part", sort=False)
    }


def constant_baselines(predictions: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Judge the two predictors that look at no image: the training part's median and mean."""
    train = predictions.loc[predictions["part"] == "train", "true"]
    constants = {"constant_median": train.median(), "constant_mean": train.mean()}
    return {
        name: scores_by_part(predictions.assign(predicted=value))
        for name, value in constants.items()
    }
