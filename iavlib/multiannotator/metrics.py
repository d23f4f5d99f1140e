"""How well a method has learnt the truth and the annotators.

Confusion matrices are ``A[label, truth]``: columns are true classes and sum to 1.

Is a predicted agreement map right about how many annotators mark a pixel?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.core.errors import LabelError
from iavlib.multiannotator.confusion import confusion_counts, error_rates
from iavlib.multiannotator.dataset import MISSING, MultiAnnotatorSet

#: How far a column's sum may be from 1, for matrices computed in single precision.
SUM_TOLERANCE = 1e-3


def class_dice(predicted: np.ndarray, truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the Dice of every class on every picture.

    Parameters
    ----------
    predicted : numpy.ndarray
        Labels, int of shape (n, height, width), or probabilities, float of shape (n, classes,
        height, width), whose Dice is the soft one: twice the sum of the product over the sum of
        both.
    truth : numpy.ndarray of int, shape (n, height, width)
    n_classes : int

    Returns
    -------
    numpy.ndarray of float, shape (n, n_classes)
        1 where neither has the class.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    soft = predicted.dtype.kind == "f"
    expected = (len(truth), n_classes, *truth.shape[1:]) if soft else truth.shape
    if predicted.shape != expected:
        raise ValueError(f"predictions of shape {predicted.shape}, not {expected}")
    dice = np.empty((len(truth), n_classes))
    for one in range(n_classes):
        given = predicted[:, one] if soft else predicted == one
        true = truth == one
        common = (given * true).sum(axis=(1, 2))
        areas = given.sum(axis=(1, 2), dtype=float) + true.sum(axis=(1, 2))
        dice[:, one] = np.where(areas > 0, 2 * common / np.where(areas > 0, areas, 1), 1.0)
    return dice


def mean_dice(
    predicted: np.ndarray, truth: np.ndarray, n_classes: int, background: bool = True
) -> float:
    """Return the Dice averaged over classes and pictures, as in the confusion-matrix paper.

    Parameters
    ----------
    predicted, truth, n_classes
        As for :func:`class_dice`.
    background : bool
        Whether the background is one of the classes averaged over. The released code counts it,
        which lifts every figure: of two classes, the one is nearly always right.
    """
    return float(class_dice(predicted, truth, n_classes)[:, 0 if background else 1 :].mean())


def confusion_error(estimated: np.ndarray, true: np.ndarray) -> float:
    """Return the root mean square error of confusion matrices.

    Parameters
    ----------
    estimated, true : array_like, shape (..., classes, classes)
        ``[label, truth]``, one a column of the same annotator (and picture). Columns that are NaN
        in ``true`` are left out.

    Raises
    ------
    ValueError
        If shapes differ, or columns of either do not sum to 1: a transposed matrix would be
        compared in silence.
    """
    estimated, true = np.asarray(estimated, float), np.asarray(true, float)
    if estimated.shape != true.shape or estimated.shape[-1] != estimated.shape[-2]:
        raise ValueError(f"matrices of shapes {estimated.shape} and {true.shape}")
    known = np.isfinite(true).all(axis=-2)
    for name, matrices in (("estimated", estimated), ("true", true)):
        sums = matrices.sum(axis=-2)[known]
        if not (np.abs(sums - 1) <= SUM_TOLERANCE).all():
            worst = sums[np.argmax(np.abs(sums - 1))] if np.isfinite(sums).all() else np.nan
            raise ValueError(
                f"columns of the {name} matrices do not sum to 1 but to {worst:.4g}, for instance: "
                "they are to be [label, truth]"
            )
    if not known.any():
        raise ValueError("no true matrix has a column that is known")
    squared = ((estimated - true) ** 2).mean(axis=-2)[known]
    return float(np.sqrt(squared.mean()))


def confusion_error_released(
    estimated: np.ndarray, labelled: MultiAnnotatorSet, annotators: Sequence[str] | None = None
) -> float:
    """Return the error of confusion matrices as the released code computes it.

    The sum over annotators (three of four, in the released code) of the mean squared difference
    between ``estimated``, columns summing to 1 and ``[label, truth]``, and the joint shares of
    pixels ``[truth, label]``, which sum to 1 over all cells: transposed and scaled otherwise, so
    that a perfect estimate is not 0. No root is taken. For comparison only.

    Parameters
    ----------
    estimated : numpy.ndarray, shape (annotators, classes, classes)
        In the order of the set's annotators.
    labelled : MultiAnnotatorSet
        With a truth.
    annotators : sequence of str, optional
        Who is summed over; all unless given.

    Raises
    ------
    LabelError
        If the set has no truth, or no such annotator.
    """
    if labelled.truth is None:
        raise LabelError(labelled.name, "it has no truth", "compare on a set that has one")
    total = 0.0
    for name in labelled.annotators if annotators is None else annotators:
        place = labelled.annotator_index(name)
        counts = confusion_counts(
            labelled.truth, labelled.labels[:, place], labelled.n_classes
        ).sum(axis=0)
        joint = counts.T / max(counts.sum(), 1)
        total += float(((np.asarray(estimated)[place] - joint) ** 2).mean())
    return total


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


def rank_annotators(estimated: np.ndarray, true: np.ndarray, annotators: Sequence[str]) -> Ranking:
    """Rank annotators by their incompetence as learnt, beside the true ranking.

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
    """Correlate learnt with true error rates across annotators.

    Returns
    -------
    dict of str to float
        Pearson's r of ``false_positive_rate`` and ``false_negative_rate``, see
        :func:`iavlib.multiannotator.confusion.error_rates`; NaN, which passes no threshold, where
        either does not differ between annotators, as with an identity for everybody.
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


def dice_matrix(
    predicted: np.ndarray,
    labelled: MultiAnnotatorSet,
    structure: str | None = None,
    models: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return the mean Dice of every model's masks with every annotator's.

    Parameters
    ----------
    predicted : numpy.ndarray, shape (models, n, height, width)
        Of the structure: masks (bool or int, 1 inside) or, with ``thresholds``, probabilities.
    labelled : MultiAnnotatorSet
        The same pictures; each annotator counts on those that she labelled.
    structure : str, optional
        The set's first unless given.
    models : sequence of str, optional
        Their names; those of the annotators unless given, where they are as many.
    thresholds : sequence of float, optional
        Of the soft Dice: the mean, over thresholds, of the Dice of what is strictly above.

    Returns
    -------
    pandas.DataFrame
        Index ``model``, columns annotators, and ``mean_vote``: the Dice with the pixels that at
        least half of each picture's annotators marked or, with ``thresholds``, the soft Dice with
        the share of them. NaN for an annotator who labelled nothing.

    Raises
    ------
    ValueError
        If the shapes do not fit, or probabilities are given without thresholds.
    """
    structure = structure or next(iter(labelled.structures))
    predicted = np.asarray(predicted)
    size = (len(labelled), *labelled.images.shape[1:3])
    if predicted.ndim != 4 or predicted.shape[1:] != size:
        raise ValueError(f"predictions of shape {predicted.shape}, not (models, {size})")
    if predicted.dtype.kind == "f" and thresholds is None:
        raise ValueError("probabilities need thresholds, or be compared with one")
    models = labelled.annotators if models is None else models
    masks, share = labelled.structure(structure), labelled.mean_map(structure)
    levels = (0.5,) if thresholds is None else thresholds
    rows = []
    for maps in predicted:
        row = []
        for place in range(masks.shape[1]):
            drew = masks[:, place, 0, 0] != MISSING
            dice = _binary_dice(maps[drew], masks[drew, place] == 1, levels)
            row.append(dice.mean() if drew.any() else np.nan)
        vote = share >= 0.5 if thresholds is None else share
        rows.append([*row, _binary_dice(maps, vote, levels).mean()])
    index = pd.Index(list(models), name="model")
    return pd.DataFrame(rows, index=index, columns=[*labelled.annotators, "mean_vote"])


def _binary_dice(maps: np.ndarray, others: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Dice of each picture, averaged over levels: shape (n,)."""
    total = np.zeros(len(maps))
    for level in levels:
        a, b = maps > level, others > level
        areas = a.sum(axis=(1, 2)) + b.sum(axis=(1, 2))
        common = (a & b).sum(axis=(1, 2))
        total += np.where(areas > 0, 2 * common / np.maximum(areas, 1), 1.0)
    return total / len(levels)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed share of annotators.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a bin of predicted shares that holds pixels: ``low``, ``high`` (the bin), ``n``
        (pixels), ``predicted`` and ``observed`` (means within it).
    error : float
        Expected calibration error: the mean over pixels of the distance between the two means of
        their bin.
    largest : float
        The largest of those distances.
    """

    table: pd.DataFrame
    error: float
    largest: float


def reliability(
    predicted: np.ndarray,
    observed: np.ndarray,
    bins: int | Sequence[float] = 10,
    where: Literal["disputed", "all"] = "disputed",
    threshold: float = 0.01,
) -> Reliability:
    """Compare predicted agreement maps with the annotators' own.

    Parameters
    ----------
    predicted : array_like of float in [0, 1]
        Predicted share of the annotators who mark each pixel.
    observed : array_like of float in [0, 1], same shape
        Share of them who did.
    bins : int or sequence of float
        Bins of one width, or their edges from 0 to 1. A value on an edge belongs to the bin
        above; 1 to the last.
    where : {"disputed", "all"}
        Which pixels count: those where prediction or annotators are not certainly outside, or
        all. Counting all makes any map of a small structure well calibrated, by its background.
    threshold : float
        From which prediction a pixel counts as disputed though nobody marked it.

    Raises
    ------
    ValueError
        If shapes differ, values are NaN or not within [0, 1], edges do not rise from 0 to 1, or
        no pixel counts.
    """
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    if predicted.shape != observed.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {observed.shape}")
    for name, values in (("predicted", predicted), ("observed", observed)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} shares are not all within [0, 1]")
    if where not in ("disputed", "all"):
        raise ValueError(f"where is 'disputed' or 'all', not {where!r}")
    edges = np.linspace(0, 1, bins + 1) if isinstance(bins, int) else np.asarray(bins, float)
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or (np.diff(edges) <= 0).any():
        raise ValueError("edges of bins must rise from 0 to 1")
    counted = np.ones(predicted.shape, bool)
    if where == "disputed":
        counted = (predicted >= threshold) | (observed > 0)
    if not counted.any():
        raise ValueError("no pixel counts: nobody marked any, and none is predicted")
    return _binned(predicted[counted], observed[counted], edges)


def _binned(predicted: np.ndarray, observed: np.ndarray, edges: np.ndarray) -> Reliability:
    # Rounding must not take a share such as 0.3 out of the bin that begins there.
    places = np.searchsorted(edges, predicted + 1e-9, side="right") - 1
    places = np.clip(places, 0, len(edges) - 2)
    n = np.bincount(places, minlength=len(edges) - 1)
    filled = n > 0
    means = [
        np.bincount(places, values, len(edges) - 1)[filled] / n[filled]
        for values in (predicted, observed)
    ]
    table = pd.DataFrame(
        {
            "low": edges[:-1][filled],
            "high": edges[1:][filled],
            "n": n[filled],
            "predicted": means[0],
            "observed": means[1],
        }
    )
    away = np.abs(means[0] - means[1])
    return Reliability(table, float(np.average(away, weights=n[filled])), float(away.max()))
