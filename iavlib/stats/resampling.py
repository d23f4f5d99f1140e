"""Bootstrap intervals that resample whole clusters.

Rows of one patient (or of one image) resemble each other, so they are not so many independent
observations. The cluster bootstrap draws *clusters* with replacement, as many as there are, and
keeps or repeats all rows of a drawn cluster. An image without a patient is a cluster of its own; no
row is ever left out of the sample that is resampled.

A replicate is handed to the statistic as a vector of row weights (how often the row's cluster was
drawn), many replicates at a time. A statistic that cannot be written with weights goes through
:func:`cluster_bootstrap_rows`, which repeats the rows of the table instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from iavlib.stats.samples import cluster_codes, labels_of

Method = Literal["percentile", "bca"]

#: Replicates held in memory at a time; at 3,000 rows one block of weights is 6 MB.
_BLOCK = 256

#: Above this share of replicates without a value no interval is given.
_MOST_UNDEFINED = 0.1


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and, where there is a test, its p-value.

    Attributes
    ----------
    value, low, high, p : float
        NaN where it does not exist.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper limit."""
        return self.low, self.high


def mean_interval(
    values: ArrayLike,
    level: float = 0.95,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Average a few independent values, such as one score per seed, with Student's t interval.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        In any unit; the result has the same.
    level : float
        Coverage of the interval, between 0 and 1.
    within : pair of float
        Possible range of the mean, for instance (0, 1) for Dice; the interval is cut there.

    Returns
    -------
    Estimate
        Mean, limits, and the two-sided p-value of the t test against a mean of 0. The limits are
        NaN for fewer than two values, the p-value is also NaN where the values do not differ.

    References
    ----------
    Student (1908). The probable error of a mean. Biometrika 6, 1-25.

    Examples
    --------
    >>> from iavlib.stats import mean_interval
    >>> estimate = mean_interval([0.81, 0.84, 0.86])
    >>> round(estimate.value, 3), round(estimate.low, 3), round(estimate.high, 3)
    (0.837, 0.774, 0.899)
    """
    values = np.asarray(list(values), dtype=float)
    n = len(values)
    if n < 2:
        return Estimate(float(values[0]) if n else float("nan"))
    mean, se = float(values.mean()), float(values.std(ddof=1) / np.sqrt(n))
    half = float(t.ppf((1 + level) / 2, n - 1)) * se
    p = float(2 * t.sf(abs(mean) / se, n - 1)) if se > 1e-12 * np.abs(values).max() else np.nan
    return Estimate(mean, max(mean - half, within[0]), min(mean + half, within[1]), p)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic with its cluster-bootstrap interval.

    Attributes
    ----------
    estimate, low, high, se : float or ndarray, shape (k,)
        The statistic on the sample itself, the ends of its interval and the standard deviation of
        its replicates; arrays when the statistic has k values.
    n_undefined : int or ndarray of int, shape (k,)
        Replicates in which the statistic had no value, for instance because no cluster of one
        group was drawn. They are left out of the interval; above a tenth of all, the interval is
        NaN.
    level : float
        Coverage aimed at.
    method : {"percentile", "bca"}
    n_boot, n_clusters : int
    replicates : ndarray, shape (n_boot,) or (n_boot, k)
    """

    estimate: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    se: float | np.ndarray
    n_undefined: int | np.ndarray
    level: float
    method: str
    n_boot: int
    n_clusters: int
    replicates: np.ndarray = field(repr=False)


def cluster_bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: ArrayLike,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Bootstrap:
    """Bootstrap a weighted statistic over clusters.

    Parameters
    ----------
    statistic : callable
        Takes frequency weights of shape (b, n), one replicate a row, and returns the statistic in
        shape (b,) or (b, k); NaN where it has no value. See
        :func:`iavlib.stats.effects.weighted_cohens_d` and its neighbours.
    clusters : array_like, shape (n,)
        Cluster label of each row.
    n_boot : int
        Replicates.
    seed : int or numpy.random.Generator
    level : float
        Coverage of the interval, between 0 and 1.
    method : {"percentile", "bca"}
        Percentiles of the replicates, or percentiles corrected for bias and for a standard error
        that changes with the value (BCa; acceleration from leaving out one cluster at a time).
        BCa costs one more evaluation per cluster.

    Returns
    -------
    Bootstrap

    Raises
    ------
    ValueError
        When there is a single cluster, a missing label, or an unknown `method`, or when `level`
        or `n_boot` make no sense.

    References
    ----------
    Davison, A. C. and Hinkley, D. V. (1997). Bootstrap Methods and Their Application, sec. 3.8.
    Efron, B. and Tibshirani, R. J. (1993). An Introduction to the Bootstrap, ch. 14.
    """
    _check_settings(n_boot, level, method)
    codes, n_clusters = cluster_codes(clusters, len(clusters))
    if n_clusters < 2:
        raise ValueError("one cluster only: its variation between clusters cannot be estimated")
    estimate = np.asarray(statistic(np.ones((1, len(codes)))), dtype=float)[0]
    blocks = cluster_weights(codes, n_clusters, n_boot, np.random.default_rng(seed))
    replicates = np.concatenate([np.asarray(statistic(block), dtype=float) for block in blocks])
    table = replicates.reshape(n_boot, -1)
    tails = np.tile([(1 - level) / 2, (1 + level) / 2], (table.shape[1], 1))
    if method == "bca":
        left_out = [
            np.asarray(statistic(b), dtype=float) for b in _leave_one_out(codes, n_clusters)
        ]
        jackknife = np.concatenate(left_out).reshape(n_clusters, -1)
        tails = _bca_tails(tails, np.atleast_1d(estimate), table, jackknife)
    low, high, se, undefined = _interval(table, tails)
    shape = estimate.shape
    return Bootstrap(
        estimate=estimate[()],
        low=low.reshape(shape)[()],
        high=high.reshape(shape)[()],
        se=se.reshape(shape)[()],
        n_undefined=undefined.reshape(shape)[()],
        level=level,
        method=method,
        n_boot=n_boot,
        n_clusters=n_clusters,
        replicates=replicates,
    )


def cluster_bootstrap_rows(
    frame: pd.DataFrame,
    statistic: Callable[[pd.DataFrame], float | np.ndarray],
    clusters: str | ArrayLike,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Bootstrap:
    """Bootstrap any function of a table over clusters, one replicate at a time.

    The slow way, for statistics that have no weighted form. With the same seed it draws the same
    clusters as :func:`cluster_bootstrap`.

    Parameters
    ----------
    frame : DataFrame
    statistic : callable
        Takes a table with the columns of `frame` and returns a number or a one-dimensional array.
        Rows of a cluster drawn twice are there twice, under the same index label.
    clusters : str or array_like
        Name of the column with the cluster labels, or the labels themselves.
    n_boot, seed, level, method
        As :func:`cluster_bootstrap`.

    Returns
    -------
    Bootstrap
    """

    def repeated_rows(weights: np.ndarray) -> np.ndarray:
        rows = (np.repeat(np.arange(len(frame)), row.astype(int)) for row in weights)
        return np.stack([np.asarray(statistic(frame.iloc[r]), dtype=float) for r in rows])

    labels = labels_of(frame, clusters)
    return cluster_bootstrap(repeated_rows, labels, n_boot, seed, level, method)


def cluster_weights(
    codes: np.ndarray, n_clusters: int, n_boot: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield row weights of bootstrap replicates, a block of replicates at a time.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Cluster of each row, 0 to ``n_clusters - 1``.
    n_clusters, n_boot : int
    rng : numpy.random.Generator

    Yields
    ------
    ndarray of float, shape (b, n)
        How often each row's cluster was drawn; the draws of a replicate sum to `n_clusters`.
    """
    for start in range(0, n_boot, _BLOCK):
        size = min(_BLOCK, n_boot - start)
        drawn = rng.integers(0, n_clusters, size=(size, n_clusters))
        # One bincount for the whole block: each replicate counts in its own range of numbers.
        drawn += np.arange(size)[:, None] * n_clusters
        counts = np.bincount(drawn.ravel(), minlength=size * n_clusters)
        yield counts.reshape(size, n_clusters)[:, codes].astype(float)


def _leave_one_out(codes: np.ndarray, n_clusters: int) -> Iterator[np.ndarray]:
    """Yield row weights that leave out one cluster at a time, in blocks."""
    for start in range(0, n_clusters, _BLOCK):
        left_out = np.arange(start, min(start + _BLOCK, n_clusters))
        yield (codes[None, :] != left_out[:, None]).astype(float)


def _bca_tails(tails, estimate, replicates, jackknife) -> np.ndarray:
    """Shift the tail probabilities for bias and acceleration (Efron & Tibshirani, eq. 14.10)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        below = np.nanmean(replicates < estimate, axis=0)
        bias = norm.ppf(below + np.nanmean(replicates == estimate, axis=0) / 2)
        influence = np.nanmean(jackknife, axis=0) - jackknife
        skew = np.nansum(influence**3, axis=0)
        acceleration = skew / (6 * np.nansum(influence**2, axis=0) ** 1.5)
        z = bias[:, None] + norm.ppf(tails)
        return norm.cdf(bias[:, None] + z / (1 - acceleration[:, None] * z))


def _interval(replicates: np.ndarray, tails: np.ndarray) -> tuple[np.ndarray, ...]:
    """Ends of the interval, standard error and undefined replicates of each column."""
    columns = []
    for column, tail in zip(replicates.T, tails, strict=True):
        defined = column[np.isfinite(column)]
        undefined = len(column) - len(defined)
        if undefined > _MOST_UNDEFINED * len(column) or not np.isfinite(tail).all():
            columns.append((np.nan, np.nan, np.nan, undefined))
        else:
            low, high = np.quantile(defined, tail)
            columns.append((low, high, defined.std(ddof=1), undefined))
    low, high, se, undefined = map(np.array, zip(*columns, strict=True))
    return low, high, se, undefined


def _check_settings(n_boot: int, level: float, method: str) -> None:
    """Raise when the settings of a bootstrap make no sense."""
    if n_boot < 2:
        raise ValueError(f"n_boot must be at least 2, not {n_boot}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")
    if method not in ("percentile", "bca"):
        raise ValueError(f"method must be 'percentile' or 'bca', not {method!r}")
