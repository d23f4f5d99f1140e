r"""How well probabilities tell malignant from benign: every usual measure, with its interval.

Every interval resamples clusters (patients) by :func:`iavlib.stats.resampling.cluster_bootstrap`.
A model calls a row malignant when its probability is **at least** the threshold; the threshold
comes from elsewhere, .5 or a validation part (:mod:`iavlib.stats.diagnosis.thresholds`), never
from the rows measured here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.diagnosis import weighted_diagnosis as weighted
from iavlib.stats.diagnosis.calibration import Binning, bin_rows
from iavlib.stats.diagnosis.diagnosis_samples import (
    DiagnosisSample,
    diagnosis_sample,
    probabilities,
)
from iavlib.stats.resampling import Method, cluster_bootstrap

__all__ = ["CLASSIFICATION_SCORES", "classification_scores", "compare_scores"]

#: Rows of :func:`classification_scores`, in order.
CLASSIFICATION_SCORES = (
    "balanced_accuracy",
    "auroc",
    "average_precision",
    "f1",
    "sensitivity",
    "specificity",
    "accuracy",
    "sensitivity_at_90_specificity",
    "specificity_at_90_sensitivity",
    "brier",
    "ece",
)


def classification_scores(
    malignant: ArrayLike,
    probability: ArrayLike,
    threshold: float = 0.5,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
    n_bins: int = 10,
    binning: Binning = "width",
) -> pd.DataFrame:
    r"""Measure a diagnosis in every usual way at once.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
        Of malignancy, from 0 to 1.
    threshold : float
        A row is called malignant when its probability is at least this.
    clusters : array_like, shape (n,), optional
        What the bootstrap resamples, for instance patients; without it each row by itself.
    n_boot, seed, level, method
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.
    n_bins, binning
        Of the calibration error; see :func:`iavlib.stats.diagnosis.calibration.reliability_curve`.

    Returns
    -------
    DataFrame
        Index ``statistic``; columns ``estimate``, ``ci_low``, ``ci_high``, ``n``,
        ``n_malignant`` and ``n_clusters``. Rows:

        - ``balanced_accuracy`` (mean of sensitivity and specificity), ``f1`` (of the malignant
          class), ``sensitivity``, ``specificity``, ``accuracy``: at the threshold;
        - ``auroc``: ties count half; ``average_precision``: not interpolated. Its value for
          guessing is the share of malignant rows;
        - ``sensitivity_at_90_specificity``: the highest of any threshold that gives these very
          rows a specificity of at least .9, and the reverse. It is a point of the ROC curve and
          so a little hopeful; a threshold fixed on a validation part is not;
        - ``brier``: mean squared difference of probability and label;
        - ``ece``: expected calibration error. It is never negative and grows with fewer rows
          in a bin even for perfect probabilities, so that its bootstrap interval lies too high.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When lengths or indexes differ, a probability lies outside 0 to 1, or there is a single
        cluster.

    References
    ----------
    Davis, J. and Goadrich, M. (2006). The relationship between precision-recall and ROC curves.
    ICML. Naeini, M. P. et al. (2015). Obtaining well calibrated probabilities using Bayesian
    binning. AAAI: the calibration error.
    """
    sample = diagnosis_sample(malignant, probability, clusters)
    bins = bin_rows(sample.score, n_bins, binning)
    statistic = partial(_all_scores, sample.malignant, sample.score, threshold, bins)
    return _table(statistic, sample, (n_boot, seed, level, method))


def compare_scores(
    malignant: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    thresholds: tuple[float, float] = (0.5, 0.5),
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
    n_bins: int = 10,
    binning: Binning = "width",
) -> pd.DataFrame:
    """Compare two models on the same rows, measure by measure.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    first, second : array_like of float, shape (n,)
        Probabilities of malignancy.
    thresholds : tuple of float
        Of the first and of the second model.
    clusters, n_boot, seed, level, method, n_bins, binning
        See :func:`classification_scores`.

    Returns
    -------
    DataFrame
        As :func:`classification_scores`, of each measure of `first` minus that of `second`; both
        are measured in each replicate, so that what makes a row hard for both does not widen the
        interval. For ``brier`` and ``ece`` a negative difference is the better one. The interval
        speaks of other patients, with these two trained models; not of other seeds.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        As :func:`classification_scores`.
    """
    sample = diagnosis_sample(malignant, first, clusters, second=second)
    other = probabilities(second)
    if len(other) != len(sample):
        raise ValueError(f"{len(sample)} first probabilities but {len(other)} second ones")

    def difference(weights: np.ndarray) -> np.ndarray:
        of_first, of_second = (
            _all_scores(sample.malignant, p, t, bin_rows(p, n_bins, binning), weights)
            for p, t in zip((sample.score, other), thresholds, strict=True)
        )
        return of_first - of_second

    return _table(difference, sample, (n_boot, seed, level, method))


def _table(statistic: Callable, sample: DiagnosisSample, settings: tuple) -> pd.DataFrame:
    """Bootstrap a statistic of all scores and lay it out."""
    n_boot, seed, level, method = settings
    boot = cluster_bootstrap(statistic, sample.clusters, n_boot, seed, level, method)
    return pd.DataFrame(
        {
            "estimate": boot.estimate,
            "ci_low": boot.low,
            "ci_high": boot.high,
            "n": len(sample),
            "n_malignant": sample.n_malignant,
            "n_clusters": sample.n_clusters,
        },
        index=pd.Index(CLASSIFICATION_SCORES, name="statistic"),
    )


def _all_scores(
    malignant: np.ndarray,
    probability: np.ndarray,
    threshold: float,
    bins: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """All `CLASSIFICATION_SCORES` for each weight vector, shape (b, 11)."""
    rows = (malignant, probability, weights)
    scores = weighted.weighted_rates(*rows, threshold) | {
        "auroc": weighted.weighted_auroc(*rows),
        "average_precision": weighted.weighted_average_precision(*rows),
        "sensitivity_at_90_specificity": weighted.best_sensitivity(*rows, 0.9),
        "specificity_at_90_sensitivity": weighted.best_specificity(*rows, 0.9),
        "brier": weighted.weighted_brier(*rows),
        "ece": weighted.weighted_ece(*rows, bins),
    }
    return np.stack([scores[name] for name in CLASSIFICATION_SCORES], axis=-1)
