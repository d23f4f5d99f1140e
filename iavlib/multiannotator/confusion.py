"""Confusion matrices of annotators against a truth.

A matrix ``A`` has ``A[k, j]`` = share of the pixels of true class j that the annotator gives to
class k: **columns are true classes** and sum to 1. The column of a class that does not occur is
NaN, not 0: nothing is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from iavlib.core.errors import LabelError
from iavlib.multiannotator.dataset import MISSING, MultiAnnotatorSet


@dataclass(frozen=True, eq=False)
class TrueConfusion:
    """How the annotators of a set confuse the classes.

    Attributes
    ----------
    annotators : tuple of str
    overall : numpy.ndarray of float, shape (annotators, classes, classes)
        Over all pixels that each annotator labelled.
    by_image : numpy.ndarray of float, shape (n, annotators, classes, classes)
        Over each picture; NaN where the annotator did not label it.
    """

    annotators: tuple[str, ...]
    overall: np.ndarray
    by_image: np.ndarray


def true_confusion(labelled: MultiAnnotatorSet) -> TrueConfusion:
    """Measure every annotator's confusion matrices against the set's truth.

    Raises
    ------
    LabelError
        If the set has no truth.
    """
    if labelled.truth is None:
        raise LabelError(
            labelled.name, "it has no truth", "choose one, such as truth='majority', on making it"
        )
    counts = confusion_counts(labelled.truth[:, None], labelled.labels, labelled.n_classes)
    return TrueConfusion(labelled.annotators, normalised(counts.sum(axis=0)), normalised(counts))


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
    leading = truth.shape[:-2]
    pairs = labels.reshape(-1, labels.shape[-2] * labels.shape[-1]).astype(np.int64) * n_classes
    truth = truth.reshape(pairs.shape)
    cells = n_classes**2
    counts = np.empty((len(pairs), cells), np.int64)
    for row, (codes, true) in enumerate(zip(pairs, truth, strict=True)):
        known = (codes >= 0) & (true >= 0)
        counts[row] = np.bincount((codes + true)[known], minlength=cells)
    return counts.reshape(*leading, n_classes, n_classes)


def normalised(counts: np.ndarray) -> np.ndarray:
    """Divide each column of counts ``[label, truth]`` by its sum; NaN where that is 0."""
    totals = counts.sum(axis=-2, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)


def pixel_confusion(truth: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return what one label map tells of the confusion matrix at each pixel.

    At a pixel of true class j the label is the column j, one 1 and otherwise 0; the other columns
    are not observed there and NaN, as is everything where the label is missing.

    Parameters
    ----------
    truth, labels : numpy.ndarray of int, shape (height, width)

    Returns
    -------
    numpy.ndarray of float, shape (height, width, n_classes, n_classes)
    """
    matrix = np.full((*truth.shape, n_classes, n_classes), np.nan)
    rows, columns = np.nonzero((labels != MISSING) & (truth != MISSING))
    true = truth[rows, columns]
    matrix[rows, columns, :, true] = 0.0
    matrix[rows, columns, labels[rows, columns], true] = 1.0
    return matrix


def error_rates(confusion: np.ndarray, annotators) -> pd.DataFrame:
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
    index = pd.Index(list(annotators), name="annotator")
    missed = confusion[:, 0, 1:]
    seen = np.isfinite(missed)
    rate = np.where(seen, missed, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return pd.DataFrame(
        {
            "false_positive_rate": confusion[:, 1:, 0].sum(axis=1),
            "false_negative_rate": np.where(seen.any(axis=1), rate, np.nan),
        },
        index=index,
    )
