"""The points of ROC and precision-recall curves, and a band about the first."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.diagnosis.diagnosis_samples import diagnosis_sample
from iavlib.stats.diagnosis.weighted_diagnosis import best_sensitivity
from iavlib.stats.resampling import cluster_bootstrap

__all__ = ["precision_recall_curve", "roc_band", "roc_curve"]


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
