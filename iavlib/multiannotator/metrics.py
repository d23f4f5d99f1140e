"""Dice of models with annotators, and reliability of predicted agreement maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from iavlib.multiannotator.dataset import MultiAnnotatorSet

_BINS = 10
#: From which prediction on a pixel counts as disputed though nobody marked it.
DISPUTED = 0.01


def class_dice(predicted: np.ndarray, truth: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the Dice of every class on every image.

    Parameters
    ----------
    predicted, truth : numpy.ndarray of int, shape (n, height, width)
    n_classes : int

    Returns
    -------
    numpy.ndarray of float, shape (n, n_classes)
        1 where neither has the class.
    """
    values = [_binary_dice(predicted == k, truth == k, (0.5,)) for k in range(n_classes)]
    return np.stack(values, axis=1)


def mean_dice(predicted: np.ndarray, truth: np.ndarray, n_classes: int) -> float:
    """Return the Dice averaged over images and classes, the background among them.

    As in the confusion-matrix paper; it raises every figure, since of two classes the background is
    nearly always right.
    """
    return float(class_dice(predicted, truth, n_classes).mean())


def dice_matrix(
    predicted: np.ndarray,
    dataset: MultiAnnotatorSet,
    structure: str | None = None,
    models: Sequence[str] | None = None,
    thresholds: Sequence[float] | None = None,
) -> pd.DataFrame:
    """Return the mean Dice of every model's masks with every annotator's.

    Parameters
    ----------
    predicted : numpy.ndarray, shape (models, n, height, width)
        Of the structure: masks (bool or int, 1 inside) or, with ``thresholds``, probabilities.
    dataset : MultiAnnotatorSet
        The same images; each annotator counts on those that the annotator labelled.
    structure : str, optional
        The set's first by default.
    models : sequence of str, optional
        Their names; those of the annotators by default, where they are as many.
    thresholds : sequence of float, optional
        Of the soft Dice: the mean, over thresholds, of the Dice of what is strictly above.

    Returns
    -------
    pandas.DataFrame
        Index ``model``, columns annotators, and ``mean_vote``: the Dice with the pixels that at
        least half of each image's annotators marked or, with ``thresholds``, the soft Dice with
        the share of them. NaN for an annotator who labelled nothing.

    Raises
    ------
    ValueError
        If the shapes do not fit, or probabilities are given without thresholds.
    """
    structure = structure or next(iter(dataset.structures))
    predicted = np.asarray(predicted)
    size = (len(dataset), *dataset.images.shape[1:3])
    if predicted.ndim != 4 or predicted.shape[1:] != size:
        raise ValueError(f"predictions of shape {predicted.shape}, not (models, {size})")
    if predicted.dtype.kind == "f" and thresholds is None:
        raise ValueError("probabilities need thresholds")
    masks, share = dataset.structure(structure), dataset.mean_map(structure)
    vote = share >= 0.5 if thresholds is None else share
    levels = (0.5,) if thresholds is None else thresholds
    rows = []
    for maps in predicted:
        row = []
        for column, missing in enumerate(dataset.missing.T):
            dice = _binary_dice(maps[~missing], masks[~missing, column] == 1, levels)
            row.append(dice.mean() if len(dice) else np.nan)
        rows.append([*row, _binary_dice(maps, vote, levels).mean()])
    index = pd.Index(list(dataset.annotators if models is None else models), name="model")
    return pd.DataFrame(rows, index=index, columns=[*dataset.annotators, "mean_vote"])


def _binary_dice(maps: np.ndarray, others: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Dice of each image, averaged over levels: shape (n,)."""
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
        One row per bin of predicted shares that holds pixels: ``low``, ``high`` (the bin), ``n``
        (pixels), ``predicted`` and ``observed`` (means within it).
    error : float
        Expected calibration error: the mean over pixels of the distance between the two means of
        their bin.
    """

    table: pd.DataFrame
    error: float


def reliability(
    predicted: np.ndarray, observed: np.ndarray, where: Literal["disputed", "all"] = "disputed"
) -> Reliability:
    """Compare predicted agreement maps with the annotators' own, in ten bins of equal width.

    Parameters
    ----------
    predicted : array_like of float in [0, 1]
        Predicted share of the annotators who mark each pixel. A value on the edge of two bins
        belongs to the upper one.
    observed : array_like of float in [0, 1], same shape
        Share of them who did.
    where : {"disputed", "all"}
        Which pixels count: those that an annotator marked or whose prediction is at least 0.01, or
        all. Counting all makes any map of a small structure well calibrated, by its background.

    Raises
    ------
    ValueError
        If shapes differ, values are NaN or not within [0, 1], or no pixel counts.
    """
    predicted, observed = np.asarray(predicted, float), np.asarray(observed, float)
    if predicted.shape != observed.shape:
        raise ValueError(f"shapes differ: {predicted.shape} and {observed.shape}")
    for name, values in (("predicted", predicted), ("observed", observed)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{name} shares are not all within [0, 1]")
    if where not in ("disputed", "all"):
        raise ValueError(f"where is 'disputed' or 'all', not {where!r}")
    counted = (predicted >= DISPUTED) | (observed > 0) | (where == "all")
    if not counted.any():
        raise ValueError("no pixel counts: nobody marked any, and none is predicted")
    predicted, observed = predicted[counted], observed[counted]
    edges = np.linspace(0, 1, _BINS + 1)
    # Rounding must not take a share such as 0.3 out of the bin that begins there.
    bins = np.searchsorted(edges, predicted + 1e-9, side="right") - 1
    bins = np.clip(bins, 0, _BINS - 1)
    n = np.bincount(bins, minlength=_BINS)
    filled = n > 0
    means = [np.bincount(bins, v, _BINS)[filled] / n[filled] for v in (predicted, observed)]
    columns = {"low": edges[:-1][filled], "high": edges[1:][filled], "n": n[filled]}
    table = pd.DataFrame(columns | dict(zip(("predicted", "observed"), means, strict=True)))
    return Reliability(table, float(np.average(np.abs(means[0] - means[1]), weights=n[filled])))
