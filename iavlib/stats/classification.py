"""How well probabilities tell malignant from benign: every usual measure, with its interval.

Every interval resamples clusters (patients) by :func:`iavlib.stats.resampling.cluster_bootstrap`.
A model calls a row malignant when its probability is **at least** the threshold; the threshold
comes from elsewhere, .5 or a validation part (:mod:`iavlib.stats.classification`), never
from the rows measured here.

The threshold above which a probability counts as malignant, chosen on a validation part.

Between two neighbouring scores every threshold calls the same rows malignant, so the candidates
are the middles between neighbours, one below all scores and one above all. The middle is what
generalises best when nothing else is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats import diagnosis_samples as weighted
from iavlib.stats.calibration import Binning, bin_rows
from iavlib.stats.diagnosis_samples import DiagnosisSample, diagnosis_sample, probabilities
from iavlib.stats.resampling import Method, cluster_bootstrap

Rule = Literal["balanced_accuracy", "specificity", "sensitivity"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it did on the rows that chose it.

    Attributes
    ----------
    value : float
        A row is called malignant when its probability is at least this.
    rule : str
    target : float or None
        The rate asked for, of the rules that fix one.
    sensitivity, specificity, balanced_accuracy : float
        On the rows that chose it: hopeful, and no result.
    n, n_malignant : int
    n_tied : int
        Candidates that were as good, this one included.
    """

    value: float
    rule: str
    target: float | None
    sensitivity: float
    specificity: float
    balanced_accuracy: float
    n: int
    n_malignant: int
    n_tied: int


def choose_threshold(
    malignant: ArrayLike,
    probability: ArrayLike,
    rule: Rule = "balanced_accuracy",
    target: float | None = None,
) -> Threshold:
    """Choose a threshold on the rows of a validation part.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
    rule : {"balanced_accuracy", "specificity", "sensitivity"}
        The highest balanced accuracy, which is also the highest Youden index (twice balanced
        accuracy minus 1); the highest sensitivity with a specificity of at least `target`; the
        highest specificity with a sensitivity of at least `target`.
    target : float, optional
        Between 0 and 1, for the last two rules; .9 unless given.

    Returns
    -------
    Threshold
        Of candidates that tie in balanced accuracy, that nearest to .5, because no row speaks for
        moving it further; of two equally near, the lower one, which misses fewer malignancies.
        The other two rules have no ties: of candidates alike in the rate asked for, the best in
        the other rate is taken.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When the rule is unknown, or the target makes no sense.

    References
    ----------
    Youden, W. J. (1950). Index for rating diagnostic tests. Cancer 3, 32-35.
    """
    sample = diagnosis_sample(malignant, probability)
    cuts, sensitivity, specificity = _candidates(sample.malignant, sample.score)
    balanced = (sensitivity + specificity) / 2
    target = _check_rule(rule, target)
    if rule == "balanced_accuracy":
        tied = np.flatnonzero(balanced >= balanced.max() - _ROUNDING)
    else:
        rates = {
            "specificity": (specificity, sensitivity),
            "sensitivity": (sensitivity, specificity),
        }
        asked, wanted = rates[rule]
        allowed = np.where(asked >= target - _ROUNDING, wanted, -1.0)
        best = allowed >= allowed.max() - _ROUNDING
        tied = np.flatnonzero(best & (asked >= asked[best].max() - _ROUNDING))
    chosen = min(tied, key=lambda i: (round(abs(cuts[i] - 0.5), 12), cuts[i]))
    return Threshold(
        value=float(cuts[chosen]),
        rule=rule,
        target=target,
        sensitivity=float(sensitivity[chosen]),
        specificity=float(specificity[chosen]),
        balanced_accuracy=float(balanced[chosen]),
        n=len(sample),
        n_malignant=sample.n_malignant,
        n_tied=len(tied),
    )


def _candidates(malignant: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
    """Thresholds from low to high, with sensitivity and specificity of each."""
    values, which = np.unique(score, return_inverse=True)
    above = (values[-1] + 1) / 2 if values[-1] < 1 else np.nextafter(1, 2)
    cuts = np.r_[values[0] / 2, (values[1:] + values[:-1]) / 2, above]
    # A middle may round down to its lower neighbour, which would then be called malignant.
    cuts[1:-1] = np.where(cuts[1:-1] > values[:-1], cuts[1:-1], values[1:])
    positive = np.bincount(which, malignant, len(values))
    negative = np.bincount(which, ~malignant, len(values))
    missed = np.r_[0, np.cumsum(positive)]
    spared = np.r_[0, np.cumsum(negative)]
    return cuts, 1 - missed / missed[-1], spared / spared[-1]


def _check_rule(rule: str, target: float | None) -> float | None:
    """Check rule and target; give the target's default."""
    if rule not in ("balanced_accuracy", "specificity", "sensitivity"):
        raise ValueError(
            f"rule must be balanced_accuracy, specificity or sensitivity, not {rule!r} (the "
            "Youden index is largest where balanced_accuracy is)"
        )
    if rule == "balanced_accuracy":
        if target is not None:
            raise ValueError("balanced_accuracy takes no target: it fixes no rate")
        return None
    target = 0.9 if target is None else target
    if not 0 < target <= 1:
        raise ValueError(f"target must lie between 0 and 1, for instance 0.9, not {target}")
    return float(target)


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
        Of the calibration error; see :func:`iavlib.stats.calibration.reliability_curve`.

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
