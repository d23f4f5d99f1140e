"""Labels and probabilities of a diagnosis, checked at the door."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from iavlib.stats.samples import boolean_labels, check_aligned, cluster_codes, finite_values

__all__ = ["DiagnosisSample", "OneClassError", "diagnosis_sample", "probabilities"]


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
