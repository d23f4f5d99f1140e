"""The points of ROC and precision-recall curves, and a band about the first.

Placements: each row's part in the area under the ROC curve, and the covariance that follows.

The placement of a malignant row is the share of benign rows below it, that of a benign row the
share of malignant rows above it, a tie counting half; the mean of either is the area. DeLong's
covariance of several areas is that of the placements. They come from mid-ranks, so that no pair
is ever formed.

Rows of one patient are not independent: centred placements are summed by cluster first, and what a
patient's malignant and benign rows have in common is counted (Obuchowski). With every row its own
cluster both are the same.

References
----------
DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or
more correlated receiver operating characteristic curves. Biometrics 44, 837-845.
Obuchowski, N. A. (1997). Nonparametric analysis of clustered ROC curve data. Biometrics 53,
567-578.
Sun, X. and Xu, W. (2014). Fast implementation of DeLong's algorithm. IEEE Signal Processing
Letters 21, 1389-1393: placements from mid-ranks.

The area under the ROC curve, its variance, and tests between curves.

The AUROC is the share of pairs (a malignant and a benign row) in which the malignant one scores
higher, a tie counting half. Its variance is DeLong's or, where patients repeat, Obuchowski's: see
:mod:`iavlib.stats.roc`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import chi2, norm, rankdata

from iavlib.stats.diagnosis_samples import DiagnosisSample, best_sensitivity, diagnosis_sample
from iavlib.stats.resampling import cluster_bootstrap
from iavlib.stats.samples import check_aligned


def placement_areas(sample: DiagnosisSample, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute areas (k,) and their covariance (k, k) from scores (k, n).

    `sample` has the labels and clusters; its own score is not used.

    Raises
    ------
    ValueError
        When all rows of a class lie in one cluster.
    """
    m, n = sample.n_malignant, sample.n_benign
    above, below = scores[:, sample.malignant], scores[:, ~sample.malignant]
    ranks = rankdata(scores, axis=1)
    of_malignant = (ranks[:, sample.malignant] - rankdata(above, axis=1)) / n
    of_benign = 1 - (ranks[:, ~sample.malignant] - rankdata(below, axis=1)) / m
    areas = of_malignant.mean(axis=1)
    first, n_first = _cluster_sums(of_malignant - areas[:, None], sample, malignant=True)
    second, n_second = _cluster_sums(of_benign - areas[:, None], sample, malignant=False)
    total = sample.n_clusters
    covariance = n_first / (n_first - 1) * first @ first.T / m**2
    covariance += n_second / (n_second - 1) * second @ second.T / n**2
    mixed = total / (total - 1) * first @ second.T / (m * n)
    return areas, covariance + mixed + mixed.T


def _cluster_sums(
    placements: np.ndarray, sample: DiagnosisSample, malignant: bool
) -> tuple[np.ndarray, int]:
    """Sum centred placements by cluster, shape (k, clusters); count the clusters of the class."""
    codes = sample.clusters[sample.malignant == malignant]
    n_clusters = len(np.unique(codes))
    if n_clusters < 2:
        name = "malignant" if malignant else "benign"
        raise ValueError(
            f"all {name} rows lie in one row or cluster: two at least are needed to see how the "
            "area varies"
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
        One row a threshold, from above all scores (infinity, where nothing is called malignant)
        down to the lowest: ``threshold``, ``sensitivity``, ``specificity``. The straight line
        between neighbours has the AUROC below it in which ties count half.

    Raises
    ------
    OneClassError
        When a class is missing.
    """
    thresholds, found, alarms = _steps(malignant, score)
    return pd.DataFrame(
        {
            "threshold": thresholds,
            "sensitivity": found / found[-1],
            "specificity": 1 - alarms / alarms[-1],
        }
    )


def precision_recall_curve(malignant: ArrayLike, score: ArrayLike) -> pd.DataFrame:
    """Compute precision and recall at every distinct score.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)

    Returns
    -------
    DataFrame
        One row a threshold, from the highest score down: ``threshold``, ``recall``,
        ``precision``. To be drawn in steps: the line between two points is not attainable.

    Raises
    ------
    OneClassError
        When a class is missing.
    """
    thresholds, found, alarms = (column[1:] for column in _steps(malignant, score))
    precision = found / (found + alarms)
    return pd.DataFrame(
        {"threshold": thresholds, "recall": found / found[-1], "precision": precision}
    )


def roc_band(
    malignant: ArrayLike,
    score: ArrayLike,
    clusters: ArrayLike | None = None,
    points: int = 51,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Bootstrap the sensitivity at each of many specificities.

    DeLong's variance is that of the area; it gives no band about the curve, so that this one
    comes from drawing patients again.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    score : array_like of float, shape (n,)
    clusters : array_like, shape (n,), optional
        Patients.
    points : int
        Specificities, evenly from 0 to 1.
    n_boot, seed, level
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    DataFrame
        ``specificity``, ``sensitivity`` (the highest at such a specificity or more), ``ci_low``,
        ``ci_high``: percentiles at each specificity by itself, not of the curve as a whole.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When there is a single cluster.
    """
    sample = diagnosis_sample(malignant, score, clusters, probability=False)
    grid = np.linspace(0, 1, points)

    def sensitivities(weights: np.ndarray) -> np.ndarray:
        rows = sample.malignant, sample.score, weights
        return np.stack([best_sensitivity(*rows, at) for at in grid], axis=1)

    boot = cluster_bootstrap(sensitivities, sample.clusters, n_boot, seed, level)
    return pd.DataFrame(
        {
            "specificity": grid,
            "sensitivity": boot.estimate,
            "ci_low": boot.low,
            "ci_high": boot.high,
        }
    )


def _steps(malignant: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds from above all scores downwards, malignant and benign rows at or above each."""
    sample = diagnosis_sample(malignant, score, probability=False)
    values, which = np.unique(-sample.score, return_inverse=True)
    found = np.cumsum(np.bincount(which, sample.malignant, len(values)))
    alarms = np.cumsum(np.bincount(which, ~sample.malignant, len(values)))
    return np.r_[np.inf, -values], np.r_[0.0, found], np.r_[0.0, alarms]


#: Standard errors below this are what rounding leaves of zero.
_ZERO = 1e-12


@dataclass(frozen=True)
class Auroc:
    """An area under the curve with DeLong's standard error and interval.

    Attributes
    ----------
    value, se, low, high : float
        `se` is 0 and the interval a point where the classes are told apart without a mistake,
        which says nothing of other rows.
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
        Of the two areas; 0 when they come from different rows.
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


def auroc(
    malignant: ArrayLike,
    score: ArrayLike,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    scale: Literal["area", "logit"] = "area",
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
    scale : {"area", "logit"}
        Where the normal interval is taken: on the area itself, cut off at 0 and 1, or on its log
        odds, which covers better near 1 and in small samples (NaN at 0 and 1).

    Returns
    -------
    Auroc

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When a class lies in a single row or cluster, lengths or indexes differ, or a score is
        missing.
    """
    sample = diagnosis_sample(malignant, score, clusters, probability=False)
    areas, covariance = placement_areas(sample, sample.score[None, :])
    value, se = float(areas[0]), float(np.sqrt(covariance[0, 0]))
    low, high = _interval(value, se, level, scale)
    counts = sample.n_malignant, sample.n_benign, sample.n_clusters
    return Auroc(value, se, low, high, *counts)


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
    clusters, level
        See :func:`auroc`.

    Returns
    -------
    AurocDifference
        It speaks of other patients with these two trained models, not of other seeds.

    Raises
    ------
    OneClassError, ValueError
        As :func:`auroc`.
    """
    areas, covariance = _of_models(malignant, {"first": first, "second": second}, clusters)
    return _difference(areas, covariance, level)


def compare_independent_aurocs(first: Auroc, second: Auroc, level: float = 0.95) -> AurocDifference:
    """Compare the areas of two models on different rows of different patients.

    Parameters
    ----------
    first, second : Auroc
        From :func:`auroc`.
    level : float

    Returns
    -------
    AurocDifference
    """
    areas = np.array([first.value, second.value])
    return _difference(areas, np.diag([first.se**2, second.se**2]), level)


def auroc_covariance(
    malignant: ArrayLike,
    scores: Mapping[str, ArrayLike] | pd.DataFrame,
    clusters: ArrayLike | None = None,
) -> tuple[pd.Series, pd.DataFrame]:
    """Compute the areas of several models on the same rows, and their covariance matrix.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    scores : DataFrame or mapping of str to array_like
        Scores of each model.
    clusters : array_like, shape (n,), optional

    Returns
    -------
    areas : Series
    covariance : DataFrame

    Raises
    ------
    OneClassError, ValueError
        As :func:`auroc`.
    """
    areas, covariance = _of_models(malignant, scores, clusters)
    names = pd.Index(list(scores), name="model")
    return pd.Series(areas, names, name="auroc"), pd.DataFrame(covariance, names, names)


def equal_aurocs(areas: pd.Series, covariance: pd.DataFrame) -> tuple[float, int, float]:
    """Test whether several models on the same rows have the same area.

    Parameters
    ----------
    areas, covariance
        From :func:`auroc_covariance`.

    Returns
    -------
    chi_square : float
    degrees : int
        Of freedom: the number of linearly independent differences.
    p : float
    """
    contrast = np.eye(len(areas))[1:] - np.eye(len(areas))[:1]
    differences = contrast @ areas.to_numpy()
    spread = contrast @ covariance.to_numpy() @ contrast.T
    degrees = int(np.linalg.matrix_rank(spread, tol=_ZERO))
    statistic = float(differences @ np.linalg.pinv(spread, rcond=1e-10) @ differences)
    return statistic, degrees, float(chi2.sf(statistic, degrees)) if degrees else 1.0


def _of_models(malignant, scores, clusters) -> tuple[np.ndarray, np.ndarray]:
    """Check the scores of several models, each against the labels, and compute their areas."""
    columns = {f"scores of {name}": scores[name] for name in scores}
    check_aligned(malignant=malignant, **columns)
    samples = [
        diagnosis_sample(malignant, scores[name], clusters, probability=False) for name in scores
    ]
    return placement_areas(samples[0], np.stack([sample.score for sample in samples]))


def _interval(value: float, se: float, level: float, scale: str) -> tuple[float, float]:
    """Normal interval of an area on one of both scales."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")
    z = norm.ppf((1 + level) / 2)
    if scale == "area":
        return max(0.0, float(value - z * se)), min(1.0, float(value + z * se))
    if scale != "logit":
        raise ValueError(f"scale must be 'area' or 'logit', not {scale!r}")
    if not 0 < value < 1:
        return float("nan"), float("nan")
    centre, half = np.log(value / (1 - value)), z * se / (value * (1 - value))
    return tuple(float(expit(end)) for end in (centre - half, centre + half))


def _difference(areas: np.ndarray, covariance: np.ndarray, level: float) -> AurocDifference:
    """Lay out the comparison of the first two areas."""
    difference = float(areas[0] - areas[1])
    product = float(np.sqrt(covariance[0, 0] * covariance[1, 1]))
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    se = float(np.sqrt(max(variance, 0)))
    half = float(norm.ppf((1 + level) / 2) * se)
    z = difference / se if se > _ZERO else float("nan")
    p = float(2 * norm.sf(abs(z))) if se > _ZERO else 1.0 if difference == 0 else float("nan")
    return AurocDifference(
        first=float(areas[0]),
        second=float(areas[1]),
        difference=difference,
        se=se,
        low=difference - half,
        high=difference + half,
        z=z,
        p=p,
        correlation=float(covariance[0, 1]) / product if product > _ZERO else float("nan"),
    )
