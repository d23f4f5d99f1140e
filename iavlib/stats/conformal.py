r"""Prediction intervals with guaranteed coverage, and the coverage that intervals reach.

Split-conformal prediction takes rows that the model was not fitted on (the calibration split),
measures its errors on them, and widens every later prediction by a quantile of these errors. When
calibration and test rows are exchangeable, an interval at level :math:`1 - \alpha` contains the
truth with at least that probability, for any model and any sample size. The guarantee is on average
over images: it holds within subgroups only when each is calibrated by itself (Mondrian), and it
does not hold on data of another origin. Images of one patient on both sides, or a model that was
chosen on the calibration split, weaken it.

Intervals of equal width are too narrow where predictions are uncertain and too wide elsewhere. How
uncertain they are can be known beforehand, from the prediction itself: :func:`mondrian_intervals`
calibrates each range of predictions by itself, :func:`quantile_intervals` calibrates quantiles that
are lines in the prediction (CQR).

References
----------
Vovk, V., Gammerman, A. and Shafer, G. (2005). Algorithmic Learning in a Random World.
Lei, J. et al. (2018). Distribution-free predictive inference for regression. Journal of the
American Statistical Association 113, 1094-1111.
Romano, Y., Patterson, E. and Candès, E. (2019). Conformalized quantile regression. NeurIPS 32.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.linear_model import QuantileRegressor
from statsmodels.stats.proportion import proportion_confint

from iavlib.stats.samples import check_aligned, cluster_codes, finite_values, group_members

Bounds = tuple[float, float] | None

#: Agreement lies between 0 and 1, so an interval may end there without losing the truth.
UNIT: tuple[float, float] = (0.0, 1.0)

#: Group of all rows when nothing is calibrated by itself.
_ALL = "all"


def conformal_rank(n: int, alpha: float) -> int:
    r"""Rank of the calibration score to take, :math:`\lceil (n + 1)(1 - \alpha) \rceil`.

    Parameters
    ----------
    n : int
        Calibration rows.
    alpha : float
        Share of truths that may lie outside.

    Returns
    -------
    int
        From 1; ``n + 1`` when there are too few rows for this level.

    Raises
    ------
    ValueError
        When `alpha` is not between 0 and 1 or `n` is negative.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, for instance 0.1, not {alpha}")
    if n < 0:
        raise ValueError(f"n must not be negative, as {n} is")
    # Counted from the other side with slack for rounding: (9 + 1) * (1 - 0.1) may differ from 9.
    return int(n + 1 - np.floor((n + 1) * alpha + 1e-9))


def conformal_quantile(scores: ArrayLike, alpha: float) -> float:
    """Return the score of rank :func:`conformal_rank`; infinite when there are too few."""
    values = np.asarray(scores, dtype=float)
    if np.isnan(values).any():
        raise ValueError(f"{int(np.isnan(values).sum())} of {values.size} scores are NaN")
    rank = conformal_rank(values.size, alpha)
    return float(np.partition(values, rank - 1)[rank - 1]) if rank <= values.size else float("inf")


@dataclass(frozen=True)
class Conformal:
    """Calibrated intervals, ready for new predictions.

    Attributes
    ----------
    alpha : float
    kind : {"residual", "quantile"}
        Whether intervals widen a point prediction or a predicted interval.
    margins : mapping
        Group to what is added on both sides; the one key ``all`` without groups. Infinite for a
        group with too few calibration rows; negative for quantiles that were too wide.
    sizes : mapping
        Group to number of calibration rows.
    bounds : pair of float or None
        Intervals end there.
    """

    alpha: float
    kind: str
    margins: Mapping[object, float]
    sizes: Mapping[object, int]
    bounds: Bounds = UNIT

    def intervals(
        self, lower: ArrayLike, upper: ArrayLike | None = None, groups: ArrayLike | None = None
    ) -> pd.DataFrame:
        """Compute the interval of each new prediction.

        Parameters
        ----------
        lower : array_like of float, shape (n,)
            Point predictions, or the lower predicted quantiles.
        upper : array_like of float, shape (n,), optional
            Upper predicted quantiles; only and always for these.
        groups : array_like, shape (n,), optional
            Group of each row, where calibration had groups. A group that was not calibrated gets
            the widest interval.

        Returns
        -------
        DataFrame
            ``lower`` and ``upper``, with the index of the predictions. Where a negative margin
            inverts an interval, both limits are its midpoint, which covers no less.

        Raises
        ------
        ValueError
            When quantiles or groups are missing or superfluous, or a value is not finite.
        """
        if (upper is None) == (self.kind == "quantile"):
            raise ValueError(f"calibrated on {self.kind}s: give {_EXPECTED[self.kind]}")
        check_aligned(lower=lower, upper=upper, groups=groups)
        index = lower.index if isinstance(lower, pd.Series) else None
        low = finite_values(lower, "predictions")
        high = low if upper is None else finite_values(upper, "predictions")
        margin = self._margin_of(groups, len(low))
        low, high = low - margin, high + margin
        with np.errstate(invalid="ignore"):
            middle = np.where(low > high, (low + high) / 2, np.nan)
        low, high = np.where(low > high, middle, low), np.where(low > high, middle, high)
        if self.bounds is not None:
            low, high = np.clip(low, *self.bounds), np.clip(high, *self.bounds)
        return pd.DataFrame({"lower": low, "upper": high}, index=index)

    def _margin_of(self, groups: ArrayLike | None, n: int) -> np.ndarray:
        if (groups is None) != (set(self.margins) == {_ALL}):
            calibrated = "without groups" if groups is not None else "by group"
            raise ValueError(f"calibrated {calibrated}: give groups here as there")
        if groups is None:
            return np.full(n, self.margins[_ALL])
        labels = np.asarray(groups, dtype=object)
        if len(labels) != n:
            raise ValueError(f"{n} predictions but {len(labels)} group labels")
        return np.array([self.margins.get(label, np.inf) for label in labels], dtype=float)


_EXPECTED = {"residual": "one prediction per row", "quantile": "lower and upper quantiles"}


def split_conformal(
    true: ArrayLike,
    predicted: ArrayLike,
    alpha: float = 0.1,
    groups: ArrayLike | None = None,
    bounds: Bounds = UNIT,
) -> Conformal:
    """Calibrate intervals of equal width on the absolute residuals.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
        Of the calibration split, which the model has not seen.
    alpha : float
        Share of truths that may lie outside, for instance 0.1 for 90 % intervals.
    groups : array_like, shape (n,), optional
        With it each group is calibrated by itself (Mondrian), so that the guarantee holds in
        each. The group of a new image must be known before its truth.
    bounds : pair of float or None
        Range of the truth; intervals are clipped to it, and one from too few rows is all of it.

    Returns
    -------
    Conformal

    Raises
    ------
    ValueError
        When rows do not fit each other, a value is not finite or a truth lies outside `bounds`.
    """
    truth, guess = _truth(true, bounds), finite_values(predicted, "predicted values")
    check_aligned(true=true, predicted=predicted, groups=groups)
    return _calibrate(np.abs(_differences(truth, guess)), "residual", alpha, groups, bounds)


def conformalized_quantiles(
    true: ArrayLike,
    lower: ArrayLike,
    upper: ArrayLike,
    alpha: float = 0.1,
    bounds: Bounds = UNIT,
) -> Conformal:
    r"""Calibrate predicted quantiles, so that intervals widen where the model is uncertain (CQR).

    The score of a row is how far the truth lies outside its predicted interval, negative inside:
    :math:`\max(l - y, y - u)`.

    Parameters
    ----------
    true, lower, upper : array_like of float, shape (n,)
        Of the calibration split; the quantiles are best predicted at `alpha` / 2 and
        1 - `alpha` / 2, but need not be.
    alpha, bounds
        See :func:`split_conformal`.

    Returns
    -------
    Conformal

    Raises
    ------
    ValueError
        As :func:`split_conformal`.
    """
    truth = _truth(true, bounds)
    low, high = finite_values(lower, "lower quantiles"), finite_values(upper, "upper quantiles")
    check_aligned(true=true, lower=lower, upper=upper)
    scores = np.maximum(-_differences(truth, low), _differences(truth, high))
    return _calibrate(scores, "quantile", alpha, None, bounds)


@dataclass(frozen=True)
class AdaptiveConformal:
    """Intervals whose width depends on the prediction.

    Attributes
    ----------
    conformal : Conformal
    edges : tuple of float
        Predictions at which a new group begins (Mondrian); empty for a single group.
    lines : tuple of (float, float)
        Intercept and slope of the lower and of the upper quantile over the prediction (CQR).
    """

    conformal: Conformal
    edges: tuple[float, ...] = ()
    lines: tuple[tuple[float, float], ...] = ()

    def intervals(self, predicted: ArrayLike) -> pd.DataFrame:
        """Compute the interval of each new prediction; see :meth:`Conformal.intervals`."""
        if self.lines:
            checked = finite_values(predicted, "predictions")
            index = predicted.index if isinstance(predicted, pd.Series) else None
            low, high = (pd.Series(_line(line, checked), index) for line in self.lines)
            return self.conformal.intervals(low, high)
        groups = _groups_of(predicted, self.edges) if self.edges else None
        return self.conformal.intervals(predicted, groups=groups)


def min_calibration(alpha: float) -> int:
    """Count the rows below which every interval at a level would be infinite."""
    return int(np.ceil(1 / alpha - 1 - 1e-9))


def mondrian_intervals(
    true: ArrayLike,
    predicted: ArrayLike,
    alpha: float = 0.1,
    bounds: Bounds = UNIT,
    n_groups: int = 5,
) -> AdaptiveConformal:
    """Calibrate each range of predictions by itself, on its absolute residuals.

    Parameters
    ----------
    true, predicted, alpha, bounds
        See :func:`split_conformal`.
    n_groups : int
        Groups of equally many rows, from the lowest predictions to the highest; fewer when a group
        would have less than twice the rows that the level needs at least.

    Returns
    -------
    AdaptiveConformal
        Its coverage holds in each range of predictions, approximately since the calibration rows
        also decide where a range ends.

    Raises
    ------
    ValueError
        As :func:`split_conformal`.

    References
    ----------
    Boström, H. and Johansson, U. (2020). Mondrian conformal regressors. COPA, PMLR 128, 114-133.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib.stats import mondrian_intervals
    >>> predicted = np.linspace(0.2, 0.9, 200)
    >>> noise = np.random.default_rng(0).normal(size=200)
    >>> true = np.clip(predicted + (1 - predicted) * noise / 4, 0, 1)
    >>> widths = mondrian_intervals(true, predicted).intervals([0.3, 0.85]).diff(axis=1)["upper"]
    >>> bool(widths[0] > widths[1])
    True
    """
    guess = finite_values(predicted, "predicted values")
    n_groups = max(1, min(n_groups, len(guess) // (2 * min_calibration(alpha))))
    edges = np.unique(np.quantile(guess, np.arange(1, n_groups) / n_groups))
    edges = tuple(float(edge) for edge in edges if edge > guess.min())  # else a group is empty
    groups = _groups_of(guess, edges) if edges else None
    return AdaptiveConformal(split_conformal(true, guess, alpha, groups, bounds), edges=edges)


def quantile_intervals(
    true: ArrayLike, predicted: ArrayLike, alpha: float = 0.1, bounds: Bounds = UNIT, seed: int = 0
) -> AdaptiveConformal:
    """Fit quantiles of the truth as lines in the prediction, and calibrate them (CQR).

    Parameters
    ----------
    true, predicted, alpha, bounds
        See :func:`split_conformal`. The lines, at `alpha` / 2 and 1 - `alpha` / 2, are fitted on
        half of the rows and calibrated on the others.
    seed : int
        Of the division into halves.

    Returns
    -------
    AdaptiveConformal

    Raises
    ------
    ValueError
        As :func:`split_conformal`, or when there are fewer than two rows.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib.stats import quantile_intervals
    >>> predicted = np.linspace(0.2, 0.9, 200)
    >>> noise = np.random.default_rng(0).normal(size=200)
    >>> true = np.clip(predicted + (1 - predicted) * noise / 4, 0, 1)
    >>> widths = quantile_intervals(true, predicted).intervals([0.3, 0.85]).diff(axis=1)["upper"]
    >>> bool(widths[0] > widths[1])
    True
    """
    truth, guess = _truth(true, bounds), finite_values(predicted, "predicted values")
    _differences(truth, guess)  # refuses other lengths
    if len(truth) < 2:
        raise ValueError("one row only: quantiles are fitted on some rows, calibrated on others")
    order = np.random.default_rng(seed).permutation(len(truth))
    fit, rest = order[: len(order) // 2], order[len(order) // 2 :]
    lines = []
    for quantile in (alpha / 2, 1 - alpha / 2):
        model = QuantileRegressor(quantile=quantile, alpha=0, solver="highs")
        model.fit(guess[fit, None], truth[fit])
        lines.append((float(model.intercept_), float(model.coef_[0])))
    low, high = (_line(line, guess[rest]) for line in lines)
    conformal = conformalized_quantiles(truth[rest], low, high, alpha, bounds)
    return AdaptiveConformal(conformal, lines=tuple(lines))


def _groups_of(predicted: ArrayLike, edges: tuple[float, ...]) -> np.ndarray:
    return np.searchsorted(edges, np.asarray(predicted, dtype=float), side="right")


def _line(line: tuple[float, float], predicted: np.ndarray) -> np.ndarray:
    return line[0] + line[1] * predicted


#: Ways of calibrating intervals from point predictions alone.
INTERVALS: dict[str, Callable[..., Conformal | AdaptiveConformal]] = {
    "equal": split_conformal,
    "mondrian": mondrian_intervals,
    "cqr": quantile_intervals,
}


def out_of_fold_intervals(
    true: ArrayLike,
    predicted: ArrayLike,
    folds: ArrayLike,
    alpha: float = 0.1,
    bounds: Bounds = UNIT,
    kind: str = "equal",
) -> pd.DataFrame:
    """Compute an interval for every out-of-fold prediction from the residuals of the other folds.

    For cross-validated predictions without a calibration split. The models of the folds differ
    slightly and each saw most of the others' rows, so coverage is near its level without the exact
    guarantee of :func:`split_conformal`.

    Parameters
    ----------
    true, predicted : array_like of float, shape (n,)
    folds : array_like, shape (n,)
        Fold in which each row was predicted.
    alpha, bounds
        See :func:`split_conformal`.
    kind : {"equal", "mondrian", "cqr"}
        Of equal width (:func:`split_conformal`), or adapted to the prediction
        (:func:`mondrian_intervals`, :func:`quantile_intervals`).

    Returns
    -------
    DataFrame
        ``lower`` and ``upper``, in the order of the rows.

    Raises
    ------
    ValueError
        As :func:`split_conformal`, or when there is a single fold, or no such `kind`.
    """
    if kind not in INTERVALS:
        raise ValueError(f"kind must be one of {', '.join(INTERVALS)}, not {kind!r}")
    check_aligned(true=true, predicted=predicted, folds=folds)
    truth, guess = _truth(true, bounds), finite_values(predicted, "predicted values")
    codes, n_folds = cluster_codes(folds, len(truth))
    if n_folds < 2:
        raise ValueError("one fold only: there are no other rows to calibrate on")
    limits = np.empty((len(truth), 2))
    for fold in range(n_folds):
        inside = codes == fold
        fitted = INTERVALS[kind](truth[~inside], guess[~inside], alpha, bounds=bounds)
        limits[inside] = fitted.intervals(guess[inside]).to_numpy()
    index = predicted.index if isinstance(predicted, pd.Series) else None
    return pd.DataFrame(limits, columns=["lower", "upper"], index=index)


def _calibrate(scores, kind, alpha, groups, bounds) -> Conformal:
    """Compute the quantile of the scores, of each group by itself where there are groups."""
    labels = np.full(len(scores), _ALL, dtype=object)
    if groups is not None:
        labels = np.asarray(groups, dtype=object)
        cluster_codes(labels, len(scores))  # refuses missing labels
        if set(labels) == {_ALL}:
            raise ValueError(f"groups holds the one label {_ALL!r}: leave groups out")
    subsets = {label: scores[labels == label] for label in dict.fromkeys(labels)}
    margins = {label: conformal_quantile(subset, alpha) for label, subset in subsets.items()}
    sizes = {label: len(subset) for label, subset in subsets.items()}
    return Conformal(alpha, kind, margins, sizes, bounds)


def _truth(true: ArrayLike, bounds: Bounds) -> np.ndarray:
    truth = finite_values(true, "true values")
    if bounds is not None and (truth.min() < bounds[0] or truth.max() > bounds[1]):
        raise ValueError(
            f"true values run from {truth.min():.4g} to {truth.max():.4g}, outside "
            f"{bounds[0]:g} to {bounds[1]:g}: clipped intervals would miss them; give bounds=None"
        )
    return truth


def _differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} true values but {len(second)} predicted ones")
    return first - second


#: A truth at the very end of an interval lies in it, despite rounding.
_ROUNDING = 1e-12


def interval_coverage(
    true: ArrayLike, lower: ArrayLike, upper: ArrayLike, groups: ArrayLike | None = None
) -> pd.DataFrame:
    """Count how often intervals contain the truth, overall and by subgroup.

    Parameters
    ----------
    true, lower, upper : array_like of float, shape (n,)
    groups : array_like, shape (n,), optional
        Label of each row; a missing one makes the group ``missing``.

    Returns
    -------
    DataFrame
        Index ``group``: the labels, sorted, then ``missing`` and ``all``. Columns ``n``,
        ``covered``, ``coverage`` with ``ci_low`` and ``ci_high`` (95 %, Clopper and Pearson, which
        takes rows as independent), ``below`` and ``above`` (shares of truths that lie below, above
        their interval), ``width_mean`` and ``width_median``.

    Raises
    ------
    ValueError
        When lengths or indexes differ, a truth is not finite, or an end is NaN or above the
        other; limits may be infinite.

    Examples
    --------
    >>> from iavlib.stats import interval_coverage
    >>> table = interval_coverage([0.5, 0.7, 0.9], [0.4, 0.6, 0.6], [0.6, 0.8, 0.8])
    >>> table.loc["all", ["n", "covered", "above"]].round(2).tolist()
    [3.0, 2.0, 0.33]
    """
    check_aligned(true=true, lower=lower, upper=upper, groups=groups)
    truth = finite_values(true, "true values")
    low, high = np.asarray(lower, dtype=float), np.asarray(upper, dtype=float)
    if not len(truth) == len(low) == len(high):
        raise ValueError(f"{len(truth)} true values, {len(low)} lower and {len(high)} upper limits")
    wrong = ~(low <= high)  # so that a NaN is wrong too
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"row {first} has no interval: its limits are {low[first]}, {high[first]}")
    rows = {
        label: _coverage(truth[member], low[member], high[member])
        for label, member in group_members(groups, len(truth)).items()
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return table.astype({"n": int, "covered": int})


def _coverage(true: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, float]:
    below, above = true < low - _ROUNDING, true > high + _ROUNDING
    covered = int(len(true) - below.sum() - above.sum())
    ci_low, ci_high = proportion_confint(covered, len(true), method="beta")
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
