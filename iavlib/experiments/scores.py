"""The numbers by which predictions of a quantity are judged."""

from __future__ import annotations

import pandas as pd

from iavlib.stats.prediction.regression_errors import point_errors


def scores_by_part(predictions: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Judge each part of a table of predictions; see :func:`iavlib.stats.point_errors`."""
    return {
        str(part): point_errors(rows["true"], rows["predicted"])
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
