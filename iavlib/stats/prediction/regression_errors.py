r"""How wrong predicted numbers are: errors, correlations and calibration, with their intervals.

Every interval resamples clusters (patients) by :func:`iavlib.stats.resampling.cluster_bootstrap`.
The statistics are written with frequency weights, so that thousands of replicates cost little: a
replicate that draws a cluster twice is the same sample with weight two on its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.association import Estimate
from iavlib.stats.resampling import Bootstrap, Method, cluster_bootstrap
from iavlib.stats.samples import check_aligned, cluster_codes, finite_values, group_members
from iavlib.stats.weighted_moments import (
    varies,
    weighted_correlation,
    weighted_mean,
    weighted_ranks,
    weighted_second_moments,
)

__all__ = [
    "ERROR_STATISTICS",
    "compare_errors",
    "errors_by_group",
    "point_errors",
    "regression_errors",
    "relative_reduction",
]

#: Statistics of :func:`regression_errors`, in the order of its rows.
ERROR_STATISTICS = (
    "mae",
    "mse",
    "rmse",
    "bias",
    "pearson",
    "spearman",
    "slope",
    "intercept",
    "r2",
)


@dataclass(frozen=True)
class _Predictions:
    """Checked true and predicted values, with the cluster of each row."""

    true: np.ndarray
    predicted: np.ndarray
    clusters: np.ndarray
    n_clusters: int


def regression_errors(
    true: ArrayLike,
    predicted: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> pd.DataFrame:
    r"""Measure how far predictions are from the truth, in every usual way at once.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
        For instance the mean Dice of each image and what a model said of it.
    clusters : array_like, shape (n,), optional
        What the bootstrap resamples, for instance patients; without it each row by itself.
    n_boot, seed, level, method
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    DataFrame
        Index ``statistic``; columns ``estimate``, ``ci_low``, ``ci_high``, ``n`` and
        ``n_clusters``. Rows:

        - ``mae``, ``mse``, ``rmse``: mean absolute, mean squared, root mean squared error;
        - ``bias``: mean of predicted minus true;
        - ``pearson``, ``spearman``: correlation of predicted with true (ties share their mean
          rank);
        - ``slope``, ``intercept``: calibration, the least-squares line of *true on predicted*. A
          slope below 1 means that the predictions are spread too widely, above 1 too narrowly;
          1 and 0 are perfect;
        - ``r2``: 1 - sum of squared errors / sum of squares of the true values about their mean.
          It is negative for predictions worse than that mean, and not the square of ``pearson``.

        Correlations and slope are NaN where predictions are constant.

    Raises
    ------
    ValueError
        When lengths or indexes differ, a value is not finite, or there is a single cluster.

    References
    ----------
    Mincer, J. and Zarnowitz, V. (1969). The evaluation of economic forecasts. NBER: regression of
    the realised on the predicted value as calibration.
    """
    rows = _checked(true, predicted, clusters)
    return _error_table(rows, (n_boot, seed, level, method))


def point_errors(true: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Compute what :func:`regression_errors` does, without intervals.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)

    Returns
    -------
    dict of str to float
        The rows of :func:`regression_errors` with their estimates.

    Raises
    ------
    ValueError
        When lengths differ or a value is not finite.
    """
    rows = _checked(true, predicted, None)
    values = _all_errors(rows.true, rows.predicted, np.ones((1, len(rows.true))))[0]
    return dict(zip(ERROR_STATISTICS, map(float, values), strict=True))


def compare_errors(
    true: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Estimate:
    """Compare the mean absolute errors of two predictors on the same rows, pair by pair.

    Parameters
    ----------
    true, first, second : array_like of float, shape (n,)
    clusters, n_boot, seed, level, method
        See :func:`regression_errors`.

    Returns
    -------
    Estimate
        MAE of `first` minus MAE of `second`, negative when `first` is better. The difference is
        bootstrapped as one number, so what makes both err alike (a hard image) does not widen its
        interval.

    Raises
    ------
    ValueError
        As :func:`regression_errors`.
    """
    rows = _checked(true, first, clusters, second=second)
    other = _checked(true, second, clusters)
    difference = np.abs(rows.predicted - rows.true) - np.abs(other.predicted - other.true)
    boot = _bootstrap(lambda w: weighted_mean(difference, w), rows, (n_boot, seed, level, method))
    return Estimate(float(boot.estimate), float(boot.low), float(boot.high))


def relative_reduction(
    true: ArrayLike,
    predicted: ArrayLike,
    baseline: ArrayLike | float,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Estimate:
    r"""Say by which share a predictor's mean absolute error is below that of a baseline.

    .. math:: 1 - \mathrm{MAE}(\text{predicted}) / \mathrm{MAE}(\text{baseline})

    Data sets differ in how much their agreement varies, so that equal MAE on two of them is not
    equal skill; the reduction against each data set's own constant median can be compared.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
    baseline : float or array_like of float, shape (n,)
        What the baseline predicts: one number, such as the median of the training part, or one a
        row, as with a median of its own for each fold. It is held fixed in the bootstrap.
    clusters, n_boot, seed, level, method
        See :func:`regression_errors`.

    Returns
    -------
    Estimate
        1 for perfect predictions, 0 for no gain, negative when the baseline is better; NaN when
        the baseline makes no error.

    Raises
    ------
    ValueError
        As :func:`regression_errors`.
    """
    rows = _checked(true, predicted, clusters, baseline=baseline)
    each = [baseline] * len(rows.true) if np.ndim(baseline) == 0 else baseline
    fixed = _checked(true, each, clusters).predicted
    error, reference = np.abs(rows.predicted - rows.true), np.abs(fixed - rows.true)

    def reduction(weights: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            share = 1 - weighted_mean(error, weights) / weighted_mean(reference, weights)
        return np.where(np.isfinite(share), share, np.nan)

    boot = _bootstrap(reduction, rows, (n_boot, seed, level, method))
    return Estimate(float(boot.estimate), float(boot.low), float(boot.high))


def errors_by_group(
    true: ArrayLike,
    predicted: ArrayLike,
    groups: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Measure errors in each subgroup, such as each malignancy or number of masks.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
    groups : array_like, shape (n,)
        Label of each row; a missing one makes the group ``missing``, so that no row is lost.
    clusters, n_boot, seed, level
        See :func:`regression_errors`.

    Returns
    -------
    DataFrame
        Index ``group``: the labels, sorted, then ``missing`` and ``all``. Columns ``n``,
        ``n_clusters``, ``mae`` with ``mae_low`` and ``mae_high``, so too ``bias`` and
        ``pearson``, and ``true_mean``. Intervals are NaN in a group of a single cluster.

    Raises
    ------
    ValueError
        As :func:`regression_errors`.

    See Also
    --------
    iavlib.stats.association.association : of the absolute errors, to test two groups.
    """
    rows = _checked(true, predicted, clusters, groups=groups)
    members = group_members(groups, len(rows.true))
    settings = (n_boot, seed, level, "percentile")
    table = {label: _group_row(rows, member, settings) for label, member in members.items()}
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("group")
    return frame.astype({"n": int, "n_clusters": int})


def _error_table(rows: _Predictions, settings: tuple) -> pd.DataFrame:
    """All statistics with their intervals, as :func:`regression_errors` describes."""
    boot = _bootstrap(lambda w: _all_errors(rows.true, rows.predicted, w), rows, settings)
    return pd.DataFrame(
        {
            "estimate": boot.estimate,
            "ci_low": boot.low,
            "ci_high": boot.high,
            "n": len(rows.true),
            "n_clusters": rows.n_clusters,
        },
        index=pd.Index(ERROR_STATISTICS, name="statistic"),
    )


def _group_row(rows: _Predictions, member: np.ndarray, settings: tuple) -> dict[str, float]:
    """Errors of one subgroup; intervals only where there are two clusters to draw from."""
    codes, n_clusters = cluster_codes(rows.clusters[member], int(member.sum()))
    part = _Predictions(rows.true[member], rows.predicted[member], codes, n_clusters)
    if n_clusters > 1:
        table = _error_table(part, settings)
    else:
        alone = _all_errors(part.true, part.predicted, np.ones((1, len(part.true))))[0]
        table = pd.DataFrame({"estimate": alone}, index=list(ERROR_STATISTICS))
        table = table.assign(ci_low=np.nan, ci_high=np.nan)
    row = {"n": len(part.true), "n_clusters": n_clusters}
    for name in ("mae", "bias", "pearson"):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), table.loc[name], strict=False))
    return row | {"true_mean": part.true.mean()}


def _checked(true, predicted, clusters, **others) -> _Predictions:
    """Check rows at the door: alignment, lengths, finite values."""
    check_aligned(true=true, predicted=predicted, clusters=clusters, **others)
    truth = finite_values(true, "true values")
    guess = finite_values(predicted, "predicted values")
    if len(truth) != len(guess):
        raise ValueError(f"{len(truth)} true values but {len(guess)} predicted ones")
    codes, n_clusters = cluster_codes(clusters, len(truth))
    return _Predictions(truth, guess, codes, n_clusters)


def _bootstrap(statistic: Callable, rows: _Predictions, settings: tuple) -> Bootstrap:
    n_boot, seed, level, method = settings
    return cluster_bootstrap(statistic, rows.clusters, n_boot, seed, level, method)


def _all_errors(true: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """All `ERROR_STATISTICS` for each weight vector (b, n), shape (b, 9)."""
    error = predicted - true
    mae, bias, mse = (weighted_mean(values, weights) for values in (np.abs(error), error, error**2))
    x, y = predicted[None, :], true[None, :]
    mean_x, mean_y = weighted_mean(predicted, weights), weighted_mean(true, weights)
    var_x, var_y, both = weighted_second_moments(x, y, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = np.where(varies(var_x, predicted), both / var_x, np.nan)
        r2 = np.where(varies(var_y, true), 1 - mse / var_y, np.nan)
    pearson = weighted_correlation(x, y, weights)
    spearman = weighted_correlation(
        weighted_ranks(predicted, weights), weighted_ranks(true, weights), weights
    )
    intercept = mean_y - slope * mean_x
    columns = [mae, mse, np.sqrt(mse), bias, pearson, spearman, slope, intercept, r2]
    return np.stack(columns, axis=-1)
