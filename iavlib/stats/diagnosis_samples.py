"""Labels and probabilities of a diagnosis, checked at the door.

Measures of a diagnosis with frequency weights, many weight vectors at once.

All take checked labels (n,), scores (n,) and weights (b, n), none negative: replicate `b` is the
sample in which row `i` is there `weights[b, i]` times. All return shape (b,), NaN where a class
that the measure needs has no weight. A row is called malignant when its score is **at least** the
threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iavlib.stats.effects import weighted_rank_biserial
from iavlib.stats.samples import boolean_labels, check_aligned, cluster_codes, finite_values


class OneClassError(ValueError):
    """Only one class is present, so nothing can be said of telling two classes apart."""


@dataclass(frozen=True)
class DiagnosisSample:
    """Checked labels and scores of the same rows, with the cluster of each row.

    Attributes
    ----------
    malignant : ndarray of bool, shape (n,)
    score : ndarray of float, shape (n,)
    clusters : ndarray of int, shape (n,)
        Codes from 0 to ``n_clusters - 1``.
    n_clusters : int
    """

    malignant: np.ndarray
    score: np.ndarray
    clusters: np.ndarray
    n_clusters: int

    def __len__(self) -> int:
        return len(self.score)

    @property
    def n_malignant(self) -> int:
        """Number of malignant rows."""
        return int(self.malignant.sum())

    @property
    def n_benign(self) -> int:
        """Number of the other rows."""
        return len(self) - self.n_malignant


def diagnosis_sample(
    malignant: ArrayLike,
    score: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    probability: bool = True,
    both: bool = True,
    **others,
) -> DiagnosisSample:
    """Check labels, scores and optional clusters, row by row.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
        True (or 1) for malignant, False (or 0) for the rest.
    score : array_like of float, shape (n,)
        Larger means more likely malignant.
    clusters : array_like, shape (n,), optional
        Cluster label of each row; without it every row is a cluster of its own.
    probability : bool
        Whether scores must lie from 0 to 1.
    both : bool
        Whether both classes must be there.
    **others
        Further columns of the same rows, whose index must agree.

    Returns
    -------
    DiagnosisSample

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When lengths or indexes differ, a label is neither true nor false, a score is missing or
        no probability, or a cluster label is missing.
    """
    check_aligned(malignant=malignant, score=score, clusters=clusters, **others)
    values = probabilities(score) if probability else finite_values(score, "scores")
    labels = boolean_labels(malignant)
    if len(labels) != len(values):
        raise ValueError(f"{len(values)} scores but {len(labels)} labels")
    if both and labels.all() | ~labels.any():
        present, absent = ("malignant", "benign") if labels.all() else ("benign", "malignant")
        raise OneClassError(
            f"all {len(labels)} rows are {present} and none is {absent}: take a part with both "
            "classes (a split stratified by class keeps them), or leave this one out"
        )
    codes, n_clusters = cluster_codes(clusters, len(values))
    return DiagnosisSample(labels, values, codes, n_clusters)


def probabilities(values: ArrayLike, name: str = "probabilities") -> np.ndarray:
    """Return `values` as floats from 0 to 1, or say which are not.

    Raises
    ------
    ValueError
        When a value is missing or outside; logits are the usual reason.
    """
    checked = finite_values(values, name)
    outside = np.flatnonzero((checked < 0) | (checked > 1))
    if outside.size:
        raise ValueError(
            f"{outside.size} of {checked.size} {name} lie outside 0 to 1 (first at row "
            f"{outside[0]}: {checked[outside[0]]:g}): if they are logits, take the softmax first"
        )
    return checked


#: Rates this close to the one asked for count as reaching it, so that rounding does not decide.
_ROUNDING = 1e-9


def weighted_rates(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, threshold: float
) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, F1, sensitivity and specificity at a threshold.

    F1 is 0 when malignant rows exist and none is found.
    """
    called = score >= threshold
    true_positive, positive = weights @ (called & malignant), weights @ malignant
    true_negative, negative = weights @ (~called & ~malignant), weights @ ~malignant
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity = true_positive / positive
        specificity = true_negative / negative
        f1 = 2 * true_positive / (positive + weights @ called)
        accuracy = (true_positive + true_negative) / (positive + negative)
    return {
        "accuracy": accuracy,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": np.where(positive > 0, f1, np.nan),
        "sensitivity": sensitivity,
        "specificity": specificity,
    }


def weighted_auroc(malignant: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Probability that a malignant row scores above a benign one; a tie counts half."""
    return (weighted_rank_biserial(score, malignant, weights) + 1) / 2


def weighted_average_precision(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Sum of precision times step in recall, over all distinct scores from the top."""
    found, alarms, positive, _ = _from_the_top(malignant, score, weights)
    steps = np.diff(found, axis=-1, prepend=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(found + alarms > 0, found / (found + alarms), 0)
        return (steps * precision).sum(axis=-1) / positive


def best_sensitivity(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, specificity: float
) -> np.ndarray:
    """Highest sensitivity of any threshold whose specificity is at least the one asked for.

    Thresholds are the scores themselves and one above all; nothing is interpolated.
    """
    found, alarms, positive, negative = _from_the_top(malignant, score, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = 1 - alarms / negative[:, None] >= specificity - _ROUNDING
        best = np.where(allowed, found, 0).max(axis=-1) / positive
    return np.where(negative > 0, best, np.nan)


def best_specificity(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, sensitivity: float
) -> np.ndarray:
    """Highest specificity of any threshold whose sensitivity is at least the one asked for."""
    found, alarms, positive, negative = _from_the_top(malignant, score, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        allowed = found / positive[:, None] >= sensitivity - _ROUNDING
        best = 1 - np.where(allowed, alarms, negative[:, None]).min(axis=-1) / negative
    return np.where(positive > 0, best, np.nan)


def weighted_brier(malignant: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean squared difference of probability and label (0 or 1)."""
    return weights @ (score - malignant) ** 2 / weights.sum(axis=-1)


def weighted_ece(
    malignant: np.ndarray, score: np.ndarray, weights: np.ndarray, bins: np.ndarray
) -> np.ndarray:
    """Expected calibration error, given the bin (0, 1, ...) of each row.

    The share of rows in a bin times the distance of mean probability and share of malignant rows
    there, summed over bins.
    """
    member = np.eye(bins.max() + 1)[bins]
    gaps = weights @ (member * (score - malignant)[:, None])
    return np.abs(gaps).sum(axis=-1) / weights.sum(axis=-1)


def _from_the_top(malignant: np.ndarray, score: np.ndarray, weights: np.ndarray) -> tuple:
    """Weight of true and of false alarms at each distinct score, and of both classes."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    by_rank = np.asarray(weights, dtype=float)[:, order]
    of = malignant[order]
    found = np.cumsum(np.add.reduceat(by_rank * of, starts, axis=1), axis=1)
    alarms = np.cumsum(np.add.reduceat(by_rank * ~of, starts, axis=1), axis=1)
    return found, alarms, found[:, -1], alarms[:, -1]
