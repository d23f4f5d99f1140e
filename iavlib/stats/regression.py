r"""Why z-normalising each model's errors empties a test of whether the models differ.

A student study of agreement standardised the errors of each network by that network's own mean and
standard deviation before a Kruskal-Wallis test. Afterwards every network has mean 0 and standard
deviation 1, so nothing is left of a difference in size or spread, and the test answers the same
however much the networks differ. What it answers is not chance either:

- for errors that are about normal, such as means of whole runs, the means cannot scatter any more,
  H keeps a share of :math:`1 - 3/\pi`, less than a twentieth, and p crowds towards 1;
- for very skewed errors, such as squared errors of single images, dividing by a deviation that a
  few large errors decide moves the many small errors past each other, and equal networks are
  found to differ far too often, the more so the more images there are.

How wrong predicted numbers are: errors, correlations and calibration, with their intervals.

Every interval resamples clusters (patients) by :func:`iavlib.stats.resampling.cluster_bootstrap`.
The statistics are written with frequency weights, so that thousands of replicates cost little: a
replicate that draws a cluster twice is the same sample with weight two on its rows.

What any model must beat: a constant, and a few statistics of the pixels.

A baseline is fitted on the training part alone, as a model is. The regularisation of the ridge is
chosen inside that part, by folds that divide no patient's images.

How often intervals hold the truth, and how wide they are for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.stats import beta

from iavlib.stats.model_comparison import Errors, kruskal_wallis
from iavlib.stats.resampling import Bootstrap, Estimate, Method, cluster_bootstrap
from iavlib.stats.samples import (
    check_aligned,
    cluster_codes,
    finite_values,
    group_members,
    varies,
    weighted_correlation,
    weighted_mean,
    weighted_ranks,
    weighted_second_moments,
)

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
    iavlib.stats.associations.association : of the absolute errors, to test two groups.
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
    subset = _Predictions(rows.true[member], rows.predicted[member], codes, n_clusters)
    if n_clusters > 1:
        table = _error_table(subset, settings)
    else:
        alone = _all_errors(subset.true, subset.predicted, np.ones((1, len(subset.true))))[0]
        table = pd.DataFrame({"estimate": alone}, index=list(ERROR_STATISTICS))
        table = table.assign(ci_low=np.nan, ci_high=np.nan)
    row = {"n": len(subset.true), "n_clusters": n_clusters}
    for name in ("mae", "bias", "pearson"):
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), table.loc[name], strict=False))
    return row | {"true_mean": subset.true.mean()}


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


if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


Constant = Literal["median", "mean"]

#: Penalties tried for standardised features, weakest first.
RIDGE_PENALTIES = tuple(float(10**power) for power in np.arange(-2, 5.5, 0.5))

_CONSTANTS: dict[str, Callable] = {"median": np.median, "mean": np.mean}


def constant_baseline(true: ArrayLike, kind: Constant = "median") -> float:
    """Fit the best constant prediction on a training part.

    Parameters
    ----------
    true : array_like of float, shape (n,)
        True values of the training part.
    kind : {"median", "mean"}
        The median has the least mean absolute error of all constants, the mean the least mean
        squared error.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        When `kind` is neither, or a value is not finite.
    """
    if kind not in _CONSTANTS:
        raise ValueError(f"kind must be 'median' or 'mean', not {kind!r}")
    return float(_CONSTANTS[kind](finite_values(true, "true values")))


@dataclass(frozen=True, eq=False)
class StatisticsBaseline:
    """A ridge regression on standardised features, as :func:`fit_statistics_baseline` made it.

    Attributes
    ----------
    penalty : float
        The one chosen.
    errors : Series
        Cross-validated mean absolute error of each penalty tried; empty when one was given.
    features : tuple of str
        Names of the features, in their order.
    """

    penalty: float
    errors: pd.Series
    features: tuple[str, ...]
    bounds: tuple[float, float] | None
    model: Pipeline = field(repr=False)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Predict each row, clipped to the bounds that were set when fitting.

        Raises
        ------
        KeyError
            When a feature is missing.
        ValueError
            When one is not finite.
        """
        raw = self.model.predict(_matrix(features, self.features))
        return raw if self.bounds is None else np.clip(raw, *self.bounds)

    @property
    def coefficients(self) -> pd.Series:
        """Change of the prediction for one standard deviation of each feature."""
        return pd.Series(self.model[-1].coef_, index=list(self.features), name="coefficient")


def fit_statistics_baseline(
    features: pd.DataFrame,
    true: ArrayLike,
    clusters: ArrayLike | None = None,
    penalties: Sequence[float] = RIDGE_PENALTIES,
    folds: int = 5,
    bounds: tuple[float, float] | None = (0.0, 1.0),
) -> StatisticsBaseline:
    """Fit a ridge regression on a table of features, its penalty chosen within.

    Parameters
    ----------
    features : DataFrame, shape (n, k)
        One row an image of the training part, for instance
        :func:`iavlib.stats.image_baselines.image_statistics`.
    true : array_like of float, shape (n,)
    clusters : array_like, shape (n,), optional
        Patients, whose rows stay in one fold; without it each row by itself.
    penalties : sequence of float
        The one with the least mean absolute error over the folds is taken, the strongest among
        equals. With a single one nothing is cross-validated.
    folds : int
        At most; fewer where there are fewer clusters.
    bounds : pair of float, optional
        Predictions are clipped to them.

    Returns
    -------
    StatisticsBaseline

    Raises
    ------
    ValueError
        When rows do not fit each other, a value is not finite, a penalty is not positive, or
        there are fewer than two clusters to choose among several penalties.
    """
    check_aligned(features=features, true=true, clusters=clusters)
    names = tuple(map(str, features.columns))
    matrix = _matrix(features, names)
    target = finite_values(true, "true values")
    if len(target) != len(matrix):
        raise ValueError(f"{len(matrix)} rows of features but {len(target)} true values")
    if not len(penalties) or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive numbers, one at least, not {penalties}")
    codes, n_clusters = cluster_codes(clusters, len(target))
    errors = pd.Series(dtype=float, name="mae")
    if len(penalties) > 1:
        if n_clusters < 2:
            raise ValueError("one cluster only: give a single penalty, or more patients")
        errors = _penalty_errors(matrix, target, codes, penalties, min(folds, n_clusters), bounds)
        penalty = float(errors.iloc[::-1].idxmin())
    else:
        penalty = float(penalties[0])
    model = _ridge(penalty).fit(matrix, target)
    return StatisticsBaseline(penalty, errors, names, bounds, model)


def out_of_fold(
    predict: Callable[[np.ndarray, np.ndarray], ArrayLike | float], folds: ArrayLike
) -> np.ndarray:
    """Predict every row by what was fitted on the rows of the other folds.

    Parameters
    ----------
    predict : callable
        Takes the positions of the training rows and of the rows to be predicted; returns the
        predictions of the latter, or one number for all.
    folds : array_like, shape (n,)
        Fold of each row.

    Returns
    -------
    ndarray of float, shape (n,)

    Raises
    ------
    ValueError
        When there is a single fold, or a row has none.
    """
    codes, n_folds = cluster_codes(folds, len(folds))
    if n_folds < 2:
        raise ValueError("one fold only: nothing is left to fit on")
    predicted = np.empty(len(codes))
    for fold in range(n_folds):
        inside = codes == fold
        predicted[inside] = predict(np.flatnonzero(~inside), np.flatnonzero(inside))
    return predicted


def out_of_fold_constant(
    true: ArrayLike, folds: ArrayLike, kind: Constant = "median"
) -> np.ndarray:
    """Predict every row by the constant of the other folds; see :func:`constant_baseline`."""
    check_aligned(true=true, folds=folds)
    target = finite_values(true, "true values")
    return out_of_fold(lambda train, _: constant_baseline(target[train], kind), folds)


def out_of_fold_statistics(
    features: pd.DataFrame,
    true: ArrayLike,
    folds: ArrayLike,
    clusters: ArrayLike | None = None,
    **settings,
) -> np.ndarray:
    """Predict every row by the ridge of the other folds; see :func:`fit_statistics_baseline`."""
    check_aligned(features=features, true=true, folds=folds, clusters=clusters)
    target = finite_values(true, "true values")
    codes, _ = cluster_codes(clusters, len(target))

    def predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        model = fit_statistics_baseline(
            features.iloc[train], target[train], codes[train], **settings
        )
        return model.predict(features.iloc[test])

    return out_of_fold(predict, folds)


def _penalty_errors(matrix, target, codes, penalties, folds, bounds) -> pd.Series:
    """Mean absolute error of each penalty over folds that divide no cluster."""
    from sklearn.model_selection import GroupKFold

    subsets = list(GroupKFold(folds).split(matrix, target, codes))
    errors = {}
    for penalty in sorted(penalties):
        absolute = np.empty(len(target))
        for train, test in subsets:
            guess = _ridge(penalty).fit(matrix[train], target[train]).predict(matrix[test])
            guess = guess if bounds is None else np.clip(guess, *bounds)
            absolute[test] = np.abs(guess - target[test])
        errors[penalty] = absolute.mean()
    return pd.Series(errors, name="mae").rename_axis("penalty")


def _ridge(penalty: float) -> Pipeline:
    """Standardise on the training rows, then ridge; constant features do no harm."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=penalty))


def _matrix(features: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Give the named features as an array, or say which is missing or not finite."""
    table = features.rename(columns=str)
    absent = [name for name in names if name not in table]
    if absent:
        raise KeyError(f"no feature {', '.join(absent)} in the table")
    matrix = table[list(names)].to_numpy(dtype=float)
    row, column = next(zip(*np.nonzero(~np.isfinite(matrix)), strict=True), (None, None))
    if row is not None:
        raise ValueError(
            f"feature {names[column]!r} of row {table.index[row]!r} is NaN or infinite: leave the "
            "image out, or mend the feature"
        )
    return matrix


#: A truth at the very end of an interval lies in it, whatever rounding did to the end.
_ROUNDING = 1e-12


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Give the exact binomial interval of a share.

    Parameters
    ----------
    successes, n : int
    level : float

    Returns
    -------
    tuple of float
        Covers the true share with at least `level`, as its tails hold at most half the rest each.

    Raises
    ------
    ValueError
        When `successes` is not among 0 to `n`, `n` is not positive, or `level` makes no sense.

    References
    ----------
    Clopper, C. and Pearson, E. S. (1934). The use of confidence or fiducial limits illustrated in
    the case of the binomial. Biometrika 26, 404-413.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else beta.ppf(tail, successes, n - successes + 1)
    high = 1.0 if successes == n else beta.ppf(1 - tail, successes + 1, n - successes)
    return float(low), float(high)


def interval_coverage(
    true: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    groups: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Count how often intervals hold the truth, overall and by subgroup.

    Parameters
    ----------
    true, lower, upper : array_like of float, shape (n,)
    groups : array_like, shape (n,), optional
        Label of each row; a missing one makes the group ``missing``.
    level : float
        Of the Clopper-Pearson interval of the coverage, which takes rows as independent.

    Returns
    -------
    DataFrame
        Index ``group``: the labels, sorted, then ``missing`` and ``all``. Columns ``n``,
        ``covered``, ``coverage`` with ``ci_low`` and ``ci_high``, ``below`` and ``above`` (shares
        of truths that lie below, above their interval), ``width_mean`` and ``width_median``.

    Raises
    ------
    ValueError
        When lengths or indexes differ, a truth is not finite, or an end is NaN or above the
        other; ends may be infinite.
    """
    check_aligned(true=true, lower=lower, upper=upper, groups=groups)
    truth = finite_values(true, "true values")
    low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    if not len(truth) == len(low) == len(high):
        raise ValueError(f"{len(truth)} true values, {len(low)} lower and {len(high)} upper ends")
    wrong = ~(low <= high)  # so that a NaN is wrong too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"row {first} has no interval: its ends are {low[first]}, {high[first]}")
    rows = {
        label: _row(truth[member], low[member], high[member], level)
        for label, member in group_members(groups, len(truth)).items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return table.astype({"n": int, "covered": int})


def _row(true: np.ndarray, low: np.ndarray, high: np.ndarray, level: float) -> dict[str, float]:
    below, above = true < low - _ROUNDING, true > high + _ROUNDING
    covered = int(len(true) - below.sum() - above.sum())
    ci_low, ci_high = clopper_pearson(covered, len(true), level)
    return {
        "n": len(true),
        "covered": covered,
        "coverage": covered / len(true),
        "ci_low": ci_low,
        "ci_high": ci_high,
        "below": below.mean(),
        "above": above.mean(),
        "width_mean": (high - low).mean(),
        "width_median": np.median(high - low),
    }


#: Positive errors of mean about 1: names to a draw of a given shape.
ERROR_SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    # means over many images, one a run: close to normal, with a tenth of their size as spread
    "run means": lambda rng, shape: rng.normal(1.0, 0.1, shape),
    # absolute errors of single images: bounded by 0, most of them small
    "absolute errors": lambda rng, shape: np.abs(rng.normal(size=shape)) * np.sqrt(np.pi / 2),
    "squared errors": lambda rng, shape: rng.chisquare(1, shape),
}


def z_normalise(values: ArrayLike) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation (over n); 0 when nothing varies."""
    array = finite_values(values)
    deviation = array.std()
    centred = array - array.mean()
    if deviation <= 1e-12 * np.abs(array).max():
        return np.zeros_like(array)
    return centred / deviation


def z_normalised_kruskal(errors: Errors) -> pd.DataFrame:
    """Run Kruskal-Wallis on errors as they are and after z-normalising each model's.

    Parameters
    ----------
    errors : DataFrame or mapping of str to array_like
        Errors of each model.

    Returns
    -------
    DataFrame
        Rows ``as measured`` and ``z-normalised``; columns ``h``, ``p``, ``epsilon_squared``,
        ``mean_range`` and ``sd_ratio`` (largest minus smallest mean of the models, largest over
        smallest standard deviation). After normalisation the last two are 0 and 1, whatever the
        models do.

    Raises
    ------
    ValueError
        As :func:`iavlib.stats.model_comparison.kruskal_wallis`.
    """
    plain = {name: finite_values(errors[name], f"errors of {name!r}") for name in errors}
    ways = {
        "as measured": plain,
        "z-normalised": {name: z_normalise(values) for name, values in plain.items()},
    }
    return pd.DataFrame({way: _describe(values) for way, values in ways.items()}).T


def kruskal_power(
    differences: Sequence[float] = (0.0, 0.05, 0.1, 0.2),
    n: int = 10,
    n_models: int = 3,
    shape: str = "run means",
    n_simulations: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate how often the test finds a known difference, with and without z-normalisation.

    The errors of the last model are larger than those of the others by a known share.

    Parameters
    ----------
    differences : sequence of float
        That share, for instance 0.1 for errors a tenth larger; 0 gives the false-alarm rate.
    n : int
        Errors (runs or images) a model.
    n_models : int
    shape : str
        Distribution of the errors, one of :data:`ERROR_SHAPES`.
    n_simulations : int
    alpha : float
    seed : int

    Returns
    -------
    DataFrame
        One row a difference and way, indexed by ``difference`` and ``errors`` (``as measured``,
        ``z-normalised``); columns ``rejected`` (share of simulations with p < `alpha`) with
        ``ci_low`` and ``ci_high`` (Clopper-Pearson), and ``h_median``, ``p_median``.

    Raises
    ------
    ValueError
        When the shape is unknown, or there are fewer than two models or errors a model.
    """
    if shape not in ERROR_SHAPES:
        raise ValueError(f"shape must be one of {', '.join(ERROR_SHAPES)}, not {shape!r}")
    if n < 2 or n_models < 2:
        raise ValueError("two models with two errors each are the least that can be compared")
    drawn = ERROR_SHAPES[shape](np.random.default_rng(seed), (n_simulations, n_models, n))
    rows = {}
    for difference in differences:
        errors = drawn.copy()  # one draw for all, so that only the difference changes
        errors[:, -1] *= 1 + difference
        centred = errors - errors.mean(axis=2, keepdims=True)
        ways = {"as measured": errors, "z-normalised": centred / errors.std(axis=2, keepdims=True)}
        for way, values in ways.items():
            h = _kruskal_h(values)
            p = stats.chi2.sf(h, n_models - 1)
            found = int((p < alpha).sum())
            low, high = clopper_pearson(found, n_simulations)
            rows[difference, way] = {
                "rejected": found / n_simulations,
                **{"ci_low": low, "ci_high": high},
                **{"h_median": float(np.median(h)), "p_median": float(np.median(p))},
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["difference", "errors"])
    return table


def _describe(errors: dict[str, np.ndarray]) -> dict[str, float]:
    result = kruskal_wallis(errors)
    means = [values.mean() for values in errors.values()]
    spreads = [values.std() for values in errors.values()]
    return {
        **{"h": result.h, "p": result.p, "epsilon_squared": result.epsilon_squared},
        "mean_range": max(means) - min(means),
        "sd_ratio": max(spreads) / min(spreads) if min(spreads) > 0 else float("nan"),
    }


def _kruskal_h(values: np.ndarray) -> np.ndarray:
    """Kruskal and Wallis' H of many simulations at once, shape (b, k, n); no ties."""
    b, k, n = values.shape
    ranks = stats.rankdata(values.reshape(b, -1), axis=1).reshape(b, k, n)
    total = k * n
    return (
        12 * n / (total * (total + 1)) * ((ranks.mean(axis=2) - (total + 1) / 2) ** 2).sum(axis=1)
    )
