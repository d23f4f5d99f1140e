"""The Dice coefficient of arrays, binary, soft or by class, and Fleiss' kappa of several masks.

Both masks empty: Dice is 1. One empty: 0. Every other Dice of the library is computed here; that of
two single masks, :func:`iavlib.masks.dice`, is one of the metrics of :mod:`iavlib.masks.metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iavlib.masks.surfaces import as_mask

SOFT_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def dice_from_counts(common, area_a, area_b):
    """Return Dice from numbers of pixels (or sums of probabilities); 1 where both areas are 0.

    Parameters
    ----------
    common, area_a, area_b : array_like of number
        Of the intersection and of both masks; they broadcast.
    """
    areas = np.add(area_a, area_b)
    return np.where(areas > 0, 2 * common / np.where(areas > 0, areas, 1), 1.0)


def array_dice(a, b) -> np.ndarray:
    """Return the Dice of stacks of masks or probability maps.

    Parameters
    ----------
    a, b : array_like of bool or of float in [0, 1], shape (..., height, width)
        They broadcast. The Dice of probabilities is the soft one: twice the sum of the product
        over the sum of both.

    Returns
    -------
    numpy.ndarray of float, shape (...)
    """
    a, b = np.asarray(a), np.asarray(b)
    areas = [x.sum(axis=(-2, -1), dtype=float if x.dtype.kind == "f" else None) for x in (a, b)]
    return dice_from_counts((a * b).sum(axis=(-2, -1)), *areas)


def class_dice(predicted, truth, n_classes: int) -> np.ndarray:
    """Return the Dice of every class on every image.

    Parameters
    ----------
    predicted : array_like
        Labels, int of shape (n, height, width), or probabilities, float of shape (n, n_classes,
        height, width), whose Dice is the soft one.
    truth : array_like of int, shape (n, height, width)
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
    by_class = (predicted[:, k] if soft else predicted == k for k in range(n_classes))
    return np.stack([array_dice(p, truth == k) for k, p in enumerate(by_class)], axis=1)


def soft_dice(a, b, thresholds: Sequence[float] = SOFT_THRESHOLDS):
    """Return the mean, over thresholds, of the Dice of what lies above in two soft masks.

    Parameters
    ----------
    a, b : array_like of float in [0, 1], shape (..., height, width)
        Probabilities, or shares of annotators.
    thresholds : sequence of float
        A pixel is inside where its value is strictly above the threshold, as in the code of
        PADL, DiFF and D-Persona (MRNet counts the threshold itself as inside).

    Returns
    -------
    float, or numpy.ndarray of float of shape (...)

    Raises
    ------
    ValueError
        If a value is NaN or not within [0, 1] (a logit, or 0/255), if the shapes differ, or if
        there is no threshold.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"masks of one image must have one shape, not {a.shape} and {b.shape}")
    for name, values in (("first", a), ("second", b)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"the {name} soft mask has values outside [0, 1]")
    if not len(thresholds):
        raise ValueError("soft Dice needs at least one threshold")
    dice = np.mean([array_dice(a > t, b > t) for t in thresholds], axis=0)
    return float(dice) if dice.ndim == 0 else dice


def fleiss_kappa(masks: Sequence) -> float:
    """Return Fleiss' kappa of two or more masks of one image, over all its pixels.

    Parameters
    ----------
    masks : sequence of array_like, or array of shape (n, height, width)

    Returns
    -------
    float
        1 where all masks are empty, or all full.

    Raises
    ------
    ValueError
        If there are fewer than two masks or their shapes differ.

    References
    ----------
    J. L. Fleiss: Measuring nominal scale agreement among many raters. Psychol. Bull. 76, 1971.
    """
    masks = [as_mask(mask) for mask in masks]
    n = len(masks)
    if n < 2:
        raise ValueError(f"Fleiss' kappa needs at least two masks, not {n}")
    if len({mask.shape for mask in masks}) > 1:
        shapes = " and ".join(map(str, sorted({mask.shape for mask in masks})))
        raise ValueError(f"masks of one image must have one shape, not {shapes}")
    votes = np.sum(masks, axis=0, dtype=np.int64)
    pixels_with, inside = np.bincount(votes.ravel(), minlength=n + 1), np.arange(n + 1)
    agreeing = inside * (inside - 1) + (n - inside) * (n - inside - 1)
    observed = (pixels_with @ agreeing) / (votes.size * n * (n - 1))
    share = (pixels_with @ inside) / (votes.size * n)
    by_chance = share**2 + (1 - share) ** 2
    return 1.0 if share in (0.0, 1.0) else float((observed - by_chance) / (1 - by_chance))
