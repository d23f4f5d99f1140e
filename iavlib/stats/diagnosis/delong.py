r"""The area under the ROC curve, its variance, and tests between curves.

The AUROC is the share of pairs (a malignant and a benign row) in which the malignant one scores
higher, a tie counting half. Its variance is DeLong's or, where patients repeat, Obuchowski's: see
:mod:`iavlib.stats.diagnosis.placements`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit
from scipy.stats import chi2, norm

from iavlib.stats.diagnosis.diagnosis_samples import diagnosis_sample
from iavlib.stats.diagnosis.placements import placement_areas
from iavlib.stats.samples import check_aligned

__all__ = [
    "Auroc",
    "AurocDifference",
    "auroc",
    "auroc_covariance",
    "compare_aurocs",
    "compare_independent_aurocs",
    "equal_aurocs",
]

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
