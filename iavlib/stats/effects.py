"""Effect sizes of a difference between two groups, plain and weighted.

All are signed "first minus second": positive when the first group tends to be larger. The weighted
forms take many weight vectors at once, which is what makes a cluster bootstrap fast: a replicate
that draws a cluster twice is the same sample with weight two on its rows. With all weights one they
equal the plain forms; with whole-number weights they equal the plain forms of the repeated rows.

Correction of p-values that stand together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import rankdata
from statsmodels.stats.multitest import multipletests

from iavlib.stats.samples import TwoSamples, finite_values, two_samples


def cohens_d(first: ArrayLike, second: ArrayLike) -> float:
    r"""Cohen's d, the difference of two means in units of the pooled standard deviation.

    .. math::
        d = \frac{\bar x_1 - \bar x_2}{s}, \qquad
        s = \sqrt{\frac{(n_1 - 1) s_1^2 + (n_2 - 1) s_2^2}{n_1 + n_2 - 2}}

    with variances over n - 1.

    Parameters
    ----------
    first, second : array_like of float

    Returns
    -------
    float
        NaN when there are fewer than three values or nothing varies within the groups (a pooled
        standard deviation below 1e-7 of the range of the values counts as rounding).

    Raises
    ------
    ValueError
        When a group is empty or holds NaN.

    References
    ----------
    Cohen, J. (1988). Statistical Power Analysis for the Behavioral Sciences, 2nd ed., ch. 2.
    """
    x, y = _two_groups(first, second)
    degrees = len(x) + len(y) - 2
    if degrees < 1:
        return float("nan")
    squares = np.sum((x - x.mean()) ** 2) + np.sum((y - y.mean()) ** 2)
    deviation = np.sqrt(squares / degrees)
    if deviation <= _rounding(np.concatenate([x, y])):
        return float("nan")
    return float((x.mean() - y.mean()) / deviation)


def cohens_d_of_squared_variances(first: ArrayLike, second: ArrayLike) -> float:
    r"""Effect size as the released IMA++ code computes it, which is not Cohen's d.

    Its denominator pools the *squares* of the variances, :math:`s_1^4` and :math:`s_2^4`. For
    values between 0 and 1, whose variances are small, the result is several times Cohen's d. It
    is here so that the difference can be measured, and for nothing else.

    Parameters, result and errors as :func:`cohens_d`.
    """
    x, y = _two_groups(first, second)
    if min(len(x), len(y)) < 2:
        return float("nan")
    squares = (len(x) - 1) * x.var(ddof=1) ** 2 + (len(y) - 1) * y.var(ddof=1) ** 2
    deviation = np.sqrt(squares / (len(x) + len(y) - 2))
    return float((x.mean() - y.mean()) / deviation) if deviation > 0 else float("nan")


def rank_biserial(first: ArrayLike, second: ArrayLike) -> float:
    r"""Rank-biserial correlation, the effect size of the Mann-Whitney test.

    The share of pairs (one value of each group) in which the first group is larger, minus the
    share in which it is smaller: :math:`2 U_1 / (n_1 n_2) - 1`. A tied pair counts half to each,
    that is nothing. It equals Cliff's delta.

    Parameters
    ----------
    first, second : array_like of float

    Returns
    -------
    float
        Between -1 and 1; positive when the first group tends to be larger.

    Raises
    ------
    ValueError
        When a group is empty or holds NaN.

    References
    ----------
    Cureton, E. E. (1956). Rank-biserial correlation. Psychometrika 21, 287-290.
    """
    x, y = _two_groups(first, second)
    ranks = rankdata(np.concatenate([x, y]))
    u = ranks[: len(x)].sum() - len(x) * (len(x) + 1) / 2
    return float(2 * u / (len(x) * len(y)) - 1)


def point_biserial(values: ArrayLike, group: ArrayLike) -> float:
    """Point-biserial correlation: Pearson's r of a yes/no label (1 and 0) with the values.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    group : array_like of bool, shape (n,)

    Returns
    -------
    float
        Positive when rows labelled true have larger values; NaN when all values are equal.

    Raises
    ------
    ValueError
        As :func:`iavlib.stats.samples.two_samples`.
    """
    sample = two_samples(values, group)
    if np.std(sample.pooled) <= _rounding(sample.pooled):
        return float("nan")
    return float(np.corrcoef(sample.pooled, sample.group.astype(float))[0, 1])


def weighted_mean_difference(values, group, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the first group minus that of the second.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    group : array_like of bool, shape (n,)
        True for the first group.
    weights : ndarray, shape (..., n)
        Frequency weights, none negative; each leading index is one replicate.

    Returns
    -------
    ndarray, shape (...)
        NaN in replicates where a group has no weight.
    """
    moments = _moments(two_samples(values, group), weights)
    return moments.mean_1 - moments.mean_2


def weighted_cohens_d(values, group, weights: np.ndarray) -> np.ndarray:
    """Cohen's d with frequency weights; see :func:`cohens_d`.

    Parameters and shape of the result as :func:`weighted_mean_difference`. The degrees of freedom
    are the sum of the weights minus two. NaN where a group has no weight or nothing varies.
    """
    moments = _moments(two_samples(values, group), weights)
    squares = moments.squares_1 + moments.squares_2
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(squares / np.maximum(moments.n_1 + moments.n_2 - 2, 0))
        d = (moments.mean_1 - moments.mean_2) / deviation
    return np.where(deviation > moments.rounding, d, np.nan)


def weighted_point_biserial(values, group, weights: np.ndarray) -> np.ndarray:
    """Point-biserial correlation with frequency weights; see :func:`point_biserial`.

    Parameters and shape of the result as :func:`weighted_mean_difference`. NaN where a group has
    no weight or nothing varies.
    """
    m = _moments(two_samples(values, group), weights)
    n = m.n_1 + m.n_2
    with np.errstate(divide="ignore", invalid="ignore"):
        between = m.n_1 * m.n_2 / n * (m.mean_1 - m.mean_2) ** 2
        deviation = np.sqrt((m.squares_1 + m.squares_2 + between) / n)
        r = (m.mean_1 - m.mean_2) * np.sqrt(m.n_1 * m.n_2) / (n * deviation)
    return np.where(deviation > m.rounding, r, np.nan)


def weighted_rank_biserial(values, group, weights: np.ndarray) -> np.ndarray:
    """Rank-biserial correlation with frequency weights; see :func:`rank_biserial`.

    Rows are sorted once. At each distinct value the first group's weight meets the second group's
    weight below it in full and its weight at the same value by half; the sum is Mann-Whitney's U.

    Parameters and shape of the result as :func:`weighted_mean_difference`. NaN where a group has
    no weight.
    """
    sample = two_samples(values, group)
    order = np.argsort(sample.pooled, kind="stable")
    ordered = sample.pooled[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sorted_weights = np.asarray(weights, dtype=float)[..., order]
    is_first = sample.group[order]
    first = np.add.reduceat(sorted_weights * is_first, starts, axis=-1)
    second = np.add.reduceat(sorted_weights * ~is_first, starts, axis=-1)
    below = np.cumsum(second, axis=-1) - second / 2
    u = np.sum(first * below, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * u / (first.sum(axis=-1) * second.sum(axis=-1)) - 1


@dataclass(frozen=True)
class _Moments:
    """Weight, mean and sum of squared deviations of both groups, for many weight vectors."""

    n_1: np.ndarray
    mean_1: np.ndarray
    squares_1: np.ndarray
    n_2: np.ndarray
    mean_2: np.ndarray
    squares_2: np.ndarray
    rounding: float


def _moments(sample: TwoSamples, weights: np.ndarray) -> _Moments:
    """Compute the moments of both groups for each weight vector."""
    weights = np.asarray(weights, dtype=float)
    first = _group_moments(sample.pooled, sample.group, weights)
    second = _group_moments(sample.pooled, ~sample.group, weights)
    return _Moments(*first, *second, rounding=_rounding(sample.pooled))


def _group_moments(values, member, weights):
    """Sum of weights, weighted mean and weighted sum of squares about it, of one group."""
    # Centred on the group's plain mean first: sums of squares of raw values lose digits when the
    # mean is large beside the spread.
    centre = values[member].mean()
    deviations = np.where(member, values - centre, 0.0)
    total = weights @ member.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (weights @ deviations) / total
        squares = weights @ deviations**2 - total * shift**2
    return total, centre + shift, np.maximum(squares, 0)


def _rounding(values: np.ndarray) -> float:
    """Give the standard deviation below which values of this size count as constant."""
    return max(1e-7 * np.ptp(values), 1e-12 * np.abs(values).max())


def _two_groups(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check both groups, each under its own name in messages."""
    return (
        finite_values(first, "values of the first group"),
        finite_values(second, "values of the second group"),
    )


def holm(p_values: pd.Series, alpha: float = 0.05) -> pd.DataFrame:
    """Holm's step-down correction of a labelled family of p-values.

    Controls the probability of any false rejection in the family, whatever the dependence between
    the tests.

    Parameters
    ----------
    p_values : Series of float
        Uncorrected p-values; the index names the tests.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        Index as given, in the order given; columns `p`, `p_holm` (at most 1) and `rejected`
        (`p_holm` <= `alpha`).

    Raises
    ------
    TypeError
        When `p_values` has no labels.
    ValueError
        When it is empty, has NaN or values outside 0 to 1, or names a test twice.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.
    """
    if not isinstance(p_values, pd.Series):
        raise TypeError("p_values must be a pandas Series whose index names the tests")
    if p_values.empty:
        raise ValueError("p_values is empty: there is no test to correct")
    outside = p_values[~p_values.between(0, 1)]
    if len(outside):
        raise ValueError(
            f"{len(outside)} p-values are missing or outside 0 to 1, for instance "
            f"{outside.index[0]!r} = {outside.iloc[0]}: leave out tests that were not run"
        )
    if not p_values.index.is_unique:
        twice = p_values.index[p_values.index.duplicated()][0]
        raise ValueError(f"the test {twice!r} is named twice: give each test its own label")
    rejected, corrected, _, _ = multipletests(p_values.to_numpy(float), alpha, method="holm")
    return pd.DataFrame(
        {"p": p_values.astype(float), "p_holm": corrected, "rejected": rejected},
        index=p_values.index,
    )
