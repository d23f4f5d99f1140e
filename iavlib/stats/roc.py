r"""The ROC curve, the area under it with DeLong's variance, and the test between two models.

The AUROC is the share of pairs (a malignant and a benign row) in which the malignant one scores
higher, a tie counting half. The *placement* of a malignant row is the share of benign rows below
it, that of a benign row the share of malignant rows above it; the mean of either is the area, and
DeLong's covariance of several areas is that of the placements. They are computed from mid-ranks,
without forming any pair.

Rows of one patient are not independent: centred placements are summed by cluster first, and the
covariance of a patient's malignant and benign rows is included (Obuchowski). With every row its own
cluster both variances are equal.

References
----------
DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or
more correlated receiver operating characteristic curves. Biometrics 44, 837-845.
Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53,
567-578.
Sun, X. and Xu, W. (2014). Fast implementation of DeLong's algorithm. IEEE Signal Processing
Letters 21, 1389-1393: placements from mid-ranks.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from iavlib.stats.samples import Sample, check_level, two_samples

#: Standard errors below this are rounding errors of zero.
_ZERO = 1e-12


@dataclass(frozen=True)
class Auroc:
    """An area under the curve with DeLong's standard error and interval.

    Attributes
    ----------
    value, se, low, high : float
        `se` is 0 and the interval a point where the classes are separated without error, which
        does not hold for other rows.
    n_malignant, n_benign, n_clusters : int
    """

    value: float
    se: float
    low: float
    high: float
    n_malignant: int
    n_benign: int
    n_clusters: int


@dataclass(frozen=True)
class AurocDifference:
    """Two areas compared.

    Attributes
    ----------
    first, second : float
        The two areas.
    difference, se, low, high : float
        First minus second.
    z, p : float
        Two-sided test of no difference. Where nothing varies p is 1 for equal areas and NaN
        otherwise.
    correlation : float
        Of the two areas.
    """

    first: float
    second: float
    difference: float
    se: float
    low: float
    high: float
    z: float
    p: float
    correlation: float


def placement_areas(sample: Sample, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute areas (k,) and their covariance (k, k) from scores (k, n).

    `sample` has the labels and clusters; its own values are not used.

    Raises
    ------
    ValueError
        When all rows of a class lie in one cluster.
    """
    m, n = int(sample.group.sum()), int((~sample.group).sum())
    above, below = scores[:, sample.group], scores[:, ~sample.group]
    ranks = rankdata(scores, axis=1)
    of_malignant = (ranks[:, sample.group] - rankdata(above, axis=1)) / n
    of_benign = 1 - (ranks[:, ~sample.group] - rankdata(below, axis=1)) / m
    areas = of_malignant.mean(axis=1)
    first, n_first = _cluster_sums(of_malignant - areas[:, None], sample, malignant=True)
    second, n_second = _cluster_sums(of_benign - areas[:, None], sample, malignant=False)
    total = sample.n_clusters
    covariance = n_first / (n_first - 1) * first @ first.T / m**2
    covariance += n_second / (n_second - 1) * second @ second.T / n**2
    mixed = total / (total - 1) * first @ second.T / (m * n)
    return areas, covariance + mixed + mixed.T


def _cluster_sums(
    placements: np.ndarray, sample: Sample, malignant: bool
) -> tuple[np.ndarray, int]:
    """Sum centred placements by cluster, shape (k, clusters); count the clusters of the class."""
    codes = sample.clusters[sample.group == malignant]
    n_clusters = len(np.unique(codes))
    if n_clusters < 2:
        name = "malignant" if malignant else "benign"
        raise ValueError(
            f"all {name} rows lie in one row or cluster: at least two are needed to estimate how "
            "the area varies"
        )
    sums = [np.bincount(codes, row, minlength=sample.n_clusters) for row in placements]
    return np.stack(sums), n_clusters


def roc_curve(malignant: ArrayLike, score: ArrayLike) -> pd.DataFrame:
    """Compute sensitivity and specificity at every distinct score.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)

    Returns
    -------
    DataFrame
        One row per threshold, from above all scores (infinity, where nothing is called malignant)
        down to the lowest: ``threshold``, ``sensitivity``, ``specificity``. The straight line
        between neighbours has the AUROC below it in which ties count half.

    Raises
    ------
    OneClassError
        When a class is missing.

    Examples
    --------
    >>> from iavlib.stats import roc_curve
    >>> roc_curve([True, False, True], [0.9, 0.5, 0.3])["sensitivity"].tolist()
    [0.0, 0.5, 0.5, 1.0]
    """
    from sklearn import metrics

    sample = two_samples(score, malignant)
    false_alarms, sensitivity, threshold = metrics.roc_curve(
        sample.group, sample.value, drop_intermediate=False
    )
    rates = {"sensitivity": sensitivity, "specificity": 1 - false_alarms}
    return pd.DataFrame({"threshold": threshold, **rates})


def auroc(
    malignant: ArrayLike, score: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95
) -> Auroc:
    """Compute the area under the ROC curve with its interval.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)
        Any number that is larger for what is more likely malignant.
    clusters : array_like, shape (n,), optional
        Patients; without it rows count as independent.
    level : float
        Coverage of the interval.

    Returns
    -------
    Auroc
        From 0 to 1, with a normal interval, cut at 0 and 1.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When a class lies in a single row or cluster, lengths or indexes differ, or a score is
        missing.

    Examples
    --------
    >>> from iavlib.stats import auroc
    >>> round(auroc([True, False, True, False, True], [0.9, 0.8, 0.7, 0.2, 0.6]).value, 3)
    0.667
    """
    check_level(level)
    sample = two_samples(score, malignant, clusters)
    areas, covariance = placement_areas(sample, sample.value[None, :])
    value, se = float(areas[0]), float(np.sqrt(covariance[0, 0]))
    half = float(norm.ppf((1 + level) / 2)) * se
    n_malignant, n_benign = len(sample.first), len(sample.second)
    limits = max(0.0, value - half), min(1.0, value + half)
    return Auroc(value, se, *limits, n_malignant, n_benign, sample.n_clusters)


def compare_aurocs(
    malignant: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
) -> AurocDifference:
    """Compare two models on the same rows.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    first, second : array_like of float, shape (n,)
        Scores of the two models.
    clusters, level
        See :func:`auroc`.

    Returns
    -------
    AurocDifference
        Its interval covers other patients with these two trained models, not other seeds.

    Raises
    ------
    OneClassError, ValueError
        As :func:`auroc`.

    Examples
    --------
    >>> from iavlib.stats import compare_aurocs
    >>> malignant = [True, False, True, False, True, False]
    >>> result = compare_aurocs(malignant, [6, 5, 4, 3, 2, 1], [6, 1, 5, 2, 4, 3])
    >>> round(result.difference, 3), round(result.p, 3)
    (-0.333, 0.221)
    """
    check_level(level)
    one, two = (two_samples(s, malignant, clusters, first=first) for s in (first, second))
    (a, b), covariance = placement_areas(one, np.stack([one.value, two.value]))
    difference = float(a - b)
    product = float(np.sqrt(covariance[0, 0] * covariance[1, 1]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    se = float(np.sqrt(max(variance, 0)))
    half = float(norm.ppf((1 + level) / 2) * se)
    z = difference / se if se > _ZERO else float("nan")
    p = float(2 * norm.sf(abs(z))) if se > _ZERO else 1.0 if difference == 0 else float("nan")
    correlation = float(covariance[0, 1]) / product if product > _ZERO else float("nan")
    limits = difference - half, difference + half
    return AurocDifference(float(a), float(b), difference, se, *limits, z, p, correlation)
