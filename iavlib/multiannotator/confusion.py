"""Confusion matrices of annotators against a truth, and how well they are estimated.

A matrix ``A`` has ``A[k, j]`` = share of the pixels of true class j that the annotator gives to
class k: **columns are true classes** and sum to 1. The column of a class that does not occur is
NaN, not 0: nothing is known of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.core.errors import LabelError
from iavlib.multiannotator.dataset import MultiAnnotatorSet

#: How far a column's sum may be from 1, for matrices computed in single precision.
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class TrueConfusion:
    """How the annotators of a set confuse the classes.

    Attributes
    ----------
    annotators : tuple of str
    overall : numpy.ndarray of float, shape (annotators, classes, classes)
        Over all pixels that each annotator labelled.
    by_image : numpy.ndarray of float, shape (n, annotators, classes, classes)
        Over each image; NaN where the annotator did not label it.
    """

    annotators: tuple[str, ...]
    overall: np.ndarray
    by_image: np.ndarray


def true_confusion(dataset: MultiAnnotatorSet) -> TrueConfusion:
    """Measure every annotator's confusion matrices against the set's truth.

    Raises
    ------
    LabelError
        If the set has no truth.
    """
    counts = dataset_counts(dataset)
    return TrueConfusion(dataset.annotators, normalised(counts.sum(axis=0)), normalised(counts))


def dataset_counts(dataset: MultiAnnotatorSet) -> np.ndarray:
    """Count pixels by true class and given label: (n, annotators, classes, classes).

    Raises
    ------
    LabelError
        If the set has no truth.
    """
    if dataset.truth is None:
        hint = "choose one, such as truth='majority', when the set is made"
        raise LabelError(dataset.name, "it has no truth", hint)
    return confusion_counts(dataset.truth[:, None], dataset.labels, dataset.n_classes)


def confusion_counts(truth: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Count pixels by true class and given label.

    Parameters
    ----------
    truth, labels : numpy.ndarray of int, shape (..., height, width)
        Leading axes are broadcast; a pixel of -1 in either is left out.
    n_classes : int

    Returns
    -------
    numpy.ndarray of int, shape (..., n_classes, n_classes)
        ``[label, truth]``.
    """
    truth, labels = np.broadcast_arrays(truth, labels)
    leading, pixels = truth.shape[:-2], truth.shape[-2] * truth.shape[-1]
    codes = labels.reshape(-1, pixels).astype(np.int64) * n_classes
    counts = np.empty((len(codes), n_classes**2), np.int64)
    for row, (code, true) in enumerate(zip(codes, truth.reshape(codes.shape), strict=True)):
        known = (code >= 0) & (true >= 0)
        counts[row] = np.bincount((code + true)[known], minlength=n_classes**2)
    return counts.reshape(*leading, n_classes, n_classes)


def normalised(counts: np.ndarray) -> np.ndarray:
    """Divide each column of counts ``[label, truth]`` by its sum; NaN where that is 0."""
    totals = counts.sum(axis=-2, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def error_rates(confusion: np.ndarray, annotators: Sequence[str]) -> pd.DataFrame:
    """Return false-positive and false-negative rates of confusion matrices.

    Parameters
    ----------
    confusion : numpy.ndarray, shape (annotators, classes, classes)
        Columns are true classes.
    annotators : sequence of str

    Returns
    -------
    pandas.DataFrame
        Index ``annotator``: ``false_positive_rate`` (share of true background given to any
        foreground class) and ``false_negative_rate`` (share of true foreground, its classes
        weighted alike, given to background).
    """
    confusion = np.asarray(confusion, float)
    missed = confusion[:, 0, 1:]
    seen = np.isfinite(missed)
    rate = np.where(seen, missed, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    rates = {
        "false_positive_rate": confusion[:, 1:, 0].sum(axis=1),
        "false_negative_rate": np.where(seen.any(axis=1), rate, np.nan),
    }
    return pd.DataFrame(rates, index=pd.Index(list(annotators), name="annotator"))


def confusion_error(estimated: np.ndarray, true: np.ndarray) -> float:
    """Return the root mean square error of confusion matrices.

    Parameters
    ----------
    estimated, true : array_like, shape (..., classes, classes)
        ``[label, truth]``, of the same annotators (and images). Columns that are NaN in ``true``
        are left out.

    Raises
    ------
    ValueError
        If shapes differ, or columns of either do not sum to 1: a transposed matrix would be
        compared without notice.
    """
    estimated, true = np.asarray(estimated, float), np.asarray(true, float)
    if estimated.shape != true.shape or estimated.shape[-1] != estimated.shape[-2]:
        raise ValueError(f"matrices of shapes {estimated.shape} and {true.shape}")
    known = np.isfinite(true).all(axis=-2)
    for name, matrices in (("estimated", estimated), ("true", true)):
        sums = matrices.sum(axis=-2)[known]
        if not (np.abs(sums - 1) <= SUM_TOLERANCE).all():
            worst = sums[np.argmax(np.abs(sums - 1))] if np.isfinite(sums).all() else np.nan
            problem = f"columns of the {name} matrices do not sum to 1 but to {worst:.4g}"
            raise ValueError(f"{problem}, for instance: they are to be [label, truth]")
    if not known.any():
        raise ValueError("no true matrix has a column that is known")
    return float(np.sqrt(((estimated - true) ** 2).mean(axis=-2)[known].mean()))


def incompetence(confusion: np.ndarray) -> np.ndarray:
    """Return each annotator's incompetence, from 0 (always right) to 1 (never).

    The mean, over true classes, of the share of pixels labelled wrongly: half the absolute
    difference between a column and that of the identity, summed. Classes count alike, however
    rare; unknown columns (NaN) are left out.

    Parameters
    ----------
    confusion : numpy.ndarray, shape (..., classes, classes)
    """
    right = np.diagonal(np.asarray(confusion, float), axis1=-2, axis2=-1)
    known = np.isfinite(right)
    wrong = np.where(known, 1 - np.where(known, right, 0), 0).sum(axis=-1)
    return np.where(known.any(axis=-1), wrong / np.maximum(known.sum(axis=-1), 1), np.nan)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Annotators from the most to the least competent.

    Attributes
    ----------
    table : pandas.DataFrame
        Index ``annotator``, in the order of the estimate: ``incompetence`` and ``rank`` (from 1,
        ties share the mean) as estimated, ``true_incompetence`` and ``true_rank``.
    spearman : float
        Rank correlation of estimate and truth; NaN with fewer than two annotators, or where
        either does not differ between them: an identity for everybody ranks nobody.
    """

    table: pd.DataFrame
    spearman: float


def rank_by_competence(
    estimated: np.ndarray, true: np.ndarray, annotators: Sequence[str]
) -> Ranking:
    """Rank annotators by their estimated incompetence, beside the true ranking.

    Parameters
    ----------
    estimated, true : numpy.ndarray, shape (annotators, classes, classes)
    annotators : sequence of str
    """
    table = pd.DataFrame(
        {"incompetence": incompetence(estimated), "true_incompetence": incompetence(true)},
        index=pd.Index(list(annotators), name="annotator"),
    )
    table.insert(1, "rank", table["incompetence"].rank())
    table["true_rank"] = table["true_incompetence"].rank()
    spearman = _correlation(table["incompetence"], table["true_incompetence"], stats.spearmanr)
    return Ranking(table.sort_values("incompetence", kind="stable"), spearman)


def rate_correlations(
    estimated: np.ndarray, true: np.ndarray, annotators: Sequence[str]
) -> dict[str, float]:
    """Correlate estimated with true error rates across annotators.

    Returns
    -------
    dict of str to float
        Pearson's r of ``false_positive_rate`` and ``false_negative_rate``, see
        :func:`error_rates`; NaN, which passes no threshold, where either does not differ between
        annotators, as with an identity for everybody.
    """
    learnt, known = error_rates(estimated, annotators), error_rates(true, annotators)
    return {name: _correlation(learnt[name], known[name], stats.pearsonr) for name in known}


def _correlation(first: pd.Series, second: pd.Series, method) -> float:
    both = first.notna() & second.notna()
    first, second = first[both].to_numpy(), second[both].to_numpy()
    # Rounding alone must not rank annotators that are alike.
    if len(first) < 2 or np.ptp(first) < 1e-9 or np.ptp(second) < 1e-9:
        return float("nan")
    return float(method(first, second).statistic)
