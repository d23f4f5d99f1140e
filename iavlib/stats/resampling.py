"""Confidence intervals: the cluster bootstrap, and Student's t for a few independent values.

Rows of one patient (or of one image) resemble each other, so they are not that many independent
observations. The cluster bootstrap draws *clusters* with replacement, as many as there are, and
keeps or repeats all rows of a drawn cluster. An image without a patient is a cluster of its own; no
row is ever left out of the sample that is resampled.

A replicate is passed to the statistic as a vector of row weights (how often the row's cluster was
drawn), many replicates at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t

from iavlib.stats.samples import check_level, cluster_codes, finite_values, weighted_mean

#: Replicates held in memory at a time, fewer where their weights would take more bytes than this;
#: statistics need several arrays of that size.
_BLOCK, _BLOCK_BYTES = 256, 64_000_000

#: No interval is given when the statistic is undefined in more than this share of replicates.
MAX_UNDEFINED = 0.1


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


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic with its cluster-bootstrap interval.

    Attributes
    ----------
    estimate, low, high, se : float or ndarray, shape (k,)
        The statistic on the sample itself, the limits of its percentile interval and the standard
        deviation of its replicates; arrays when the statistic has k values.
    n_undefined : int or ndarray of int, shape (k,)
        Replicates in which the statistic had no value, for instance because no cluster of one
        group was drawn. They are left out of the interval; above a tenth of all replicates the
        interval is NaN.
    level : float
        Nominal coverage.
    n_clusters : int
    replicates : ndarray, shape (n_boot,) or (n_boot, k)
    """

    estimate: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray
    se: float | np.ndarray
    n_undefined: int | np.ndarray
    level: float
    n_clusters: int
    replicates: np.ndarray = field(repr=False)

    def to_estimate(self) -> Estimate:
        """Return the one value of a scalar statistic with its interval."""
        return Estimate(float(self.estimate), float(self.low), float(self.high))

    def to_frame(self, names: Sequence[str], **columns) -> pd.DataFrame:
        """Return one row per value: `estimate`, `ci_low`, `ci_high` and constant `columns`."""
        limits = {"estimate": self.estimate, "ci_low": self.low, "ci_high": self.high}
        return pd.DataFrame({**limits, **columns}, index=pd.Index(names, name="statistic"))


def cluster_bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: ArrayLike,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> Bootstrap:
    """Bootstrap a weighted statistic over clusters (percentile interval).

    Parameters
    ----------
    statistic : callable
        Takes frequency weights of shape (b, n), one replicate per row, and returns the statistic
        in shape (b,) or (b, k); NaN where it has no value. The ``weighted_…`` functions of
        :mod:`iavlib.stats` take such weights.
    clusters : array_like, shape (n,)
        Cluster label of each row.
    n_boot : int
        Number of replicates.
    seed : int or numpy.random.Generator
    level : float
        Coverage of the interval, between 0 and 1.

    Returns
    -------
    Bootstrap
        Of a single cluster without interval.

    Raises
    ------
    ValueError
        When there is a missing label, or when `level` or `n_boot` is out of range.

    References
    ----------
    Davison, A. C. and Hinkley, D. V. (1997). Bootstrap Methods and Their Application, sec. 3.8.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib.stats import cluster_bootstrap
    >>> dice = np.array([0.9, 0.8, 0.7, 0.95, 0.6, 0.85])
    >>> patient = ["a", "a", "b", "c", "d", "d"]
    >>> result = cluster_bootstrap(lambda w: w @ dice / w.sum(axis=1), patient, n_boot=500)
    >>> round(float(result.estimate), 2), result.n_clusters
    (0.8, 4)
    """
    check_level(level)
    codes, n_clusters = cluster_codes(clusters, len(clusters))
    estimate = np.asarray(statistic(np.ones((1, len(codes)))), dtype=float)[0]
    blocks = cluster_weights(codes, n_clusters, n_boot, np.random.default_rng(seed))
    replicates = np.concatenate([np.asarray(statistic(block), dtype=float) for block in blocks])
    if n_clusters < 2:  # every replicate is the sample: its variation cannot be estimated
        replicates = np.full_like(replicates, np.nan)
    columns = [percentiles(column, level) for column in replicates.reshape(n_boot, -1).T]
    low, high, se, undefined = (np.reshape(c, estimate.shape)[()] for c in np.transpose(columns))
    return Bootstrap(
        estimate[()], low, high, se, undefined.astype(int), level, n_clusters, replicates
    )


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
    for size in block_sizes(n_boot, len(codes)):
        drawn = rng.integers(0, n_clusters, size=(size, n_clusters))
        # One bincount for the whole block: each replicate counts in its own range of numbers.
        drawn += np.arange(size)[:, None] * n_clusters
        counts = np.bincount(drawn.ravel(), minlength=size * n_clusters)
        yield counts.reshape(size, n_clusters)[:, codes].astype(float)


def block_sizes(n_boot: int, n_rows: int = 0) -> list[int]:
    """Divide replicates of `n_rows` weights each into blocks that fit into memory."""
    if n_boot < 2:
        raise ValueError(f"n_boot must be at least 2, not {n_boot}")
    block = int(np.clip(_BLOCK_BYTES // (8 * max(n_rows, 1)), 1, _BLOCK))
    return [min(block, n_boot - start) for start in range(0, n_boot, block)]


def percentiles(replicates: np.ndarray, level: float) -> tuple[float, float, float, int]:
    """Give lower and upper limit, standard error and number of undefined replicates (n_boot,)."""
    defined = replicates[np.isfinite(replicates)]
    undefined = len(replicates) - len(defined)
    if undefined > MAX_UNDEFINED * len(replicates):
        return np.nan, np.nan, np.nan, undefined
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return low, high, defined.std(ddof=1), undefined


def bootstrap_mean(
    values: ArrayLike, clusters: ArrayLike, n_boot: int = 2000, seed: int | np.random.Generator = 0
) -> Estimate:
    """Average values, with a 95 % interval that resamples clusters.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        In any unit; the result has the same.
    clusters : array_like, shape (n,)
        What the bootstrap resamples, for instance patients.
    n_boot, seed
        See :func:`cluster_bootstrap`.

    Returns
    -------
    Estimate

    Raises
    ------
    ValueError
        When a value is NaN.

    Examples
    --------
    >>> from iavlib.stats import bootstrap_mean
    >>> round(bootstrap_mean([0.9, 0.8, 0.7, 0.9], ["a", "a", "b", "c"]).value, 3)
    0.825
    """
    checked = finite_values(values)
    return cluster_bootstrap(
        lambda weights: weighted_mean(checked, weights), clusters, n_boot, seed
    ).to_estimate()


def mean_interval(
    values: ArrayLike, level: float = 0.95, within: tuple[float, float] = (-np.inf, np.inf)
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
