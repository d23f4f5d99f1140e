"""Overlap of masks: Dice, Jaccard, chance-corrected agreement, and Dice of soft masks.

Both masks empty: the overlap is 1. One empty: 0. Masks are arrays of shape (height, width), in
which values above 0 are inside, or prepared by :func:`iavlib.masks.prepare`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iavlib.masks.surfaces import PreparedMask, as_mask, intersection, prepare_pair

SOFT_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)


def dice(a, b) -> float:
    """Return the Dice coefficient, twice the intersection over the sum of both areas.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = prepare_pair(a, b)
    return dice_of(intersection(a, b), a.area, b.area)


def jaccard(a, b) -> float:
    """Return the Jaccard index (IoU), the intersection over the union.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = prepare_pair(a, b)
    return jaccard_of(intersection(a, b), a.area, b.area)


def dice_of(common: int, area_a: int, area_b: int) -> float:
    """Return Dice from counts of pixels; 1 if both areas are 0."""
    return 2.0 * common / (area_a + area_b) if area_a + area_b else 1.0


def jaccard_of(common: int, area_a: int, area_b: int) -> float:
    """Return the Jaccard index from counts of pixels; 1 if both areas are 0."""
    union = area_a + area_b - common
    return common / union if union else 1.0


def cohens_kappa(a, b) -> float:
    """Return Cohen's kappa of two masks, over all pixels of the image.

    Agreement beyond what two annotators with these areas would reach by chance; unlike Dice it
    counts the background, so that it depends on how much of it the image shows. Where chance
    alone agrees everywhere (both empty, or both full) it is 1.

    Raises
    ------
    ValueError
        If the shapes differ.

    References
    ----------
    J. Cohen: A coefficient of agreement for nominal scales. Educ. Psychol. Meas. 20, 1960.
    """
    a, b = prepare_pair(a, b)
    return kappa_of(intersection(a, b), a, b)


def kappa_of(common: int, a: PreparedMask, b: PreparedMask) -> float:
    """Return Cohen's kappa of prepared masks with ``common`` pixels inside both."""
    pixels = a.shape[0] * a.shape[1]
    by_chance = a.area * b.area + (pixels - a.area) * (pixels - b.area)
    agreed = pixels - a.area - b.area + 2 * common
    if by_chance == pixels**2:
        return 1.0
    return (agreed * pixels - by_chance) / (pixels**2 - by_chance)


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
    votes, n = _votes(masks)
    pixels_with = np.bincount(votes.ravel(), minlength=n + 1)
    inside = np.arange(n + 1)
    agreeing = inside * (inside - 1) + (n - inside) * (n - inside - 1)
    observed = (pixels_with @ agreeing) / (votes.size * n * (n - 1))
    share = (pixels_with @ inside) / (votes.size * n)
    by_chance = share**2 + (1 - share) ** 2
    return 1.0 if share in (0.0, 1.0) else float((observed - by_chance) / (1 - by_chance))


def _votes(masks: Sequence) -> tuple[np.ndarray, int]:
    votes, n = None, 0
    for mask in masks:
        mask = as_mask(mask)
        if votes is None:
            votes = np.zeros(mask.shape, np.int64)
        if mask.shape != votes.shape:
            raise ValueError(
                f"masks of one image must have one shape, not {votes.shape} and {mask.shape}"
            )
        votes += mask
        n += 1
    if n < 2:
        raise ValueError(f"Fleiss' kappa needs at least two masks, not {n}")
    return votes, n


def soft_dice(a, b, thresholds: Sequence[float] = SOFT_THRESHOLDS) -> float:
    """Return the mean, over thresholds, of the Dice of what lies above in two soft masks.

    Parameters
    ----------
    a, b : array_like of float in [0, 1], shape (height, width)
        Probabilities, or shares of annotators.
    thresholds : sequence of float
        A pixel is inside where its value is strictly above the threshold, as in the code of
        PADL, DiFF and D-Persona (MRNet counts the threshold itself as inside).

    Raises
    ------
    ValueError
        If a value is NaN or not within [0, 1] (a logit, or 0/255), if the shapes differ, or if
        there is no threshold.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    for name, values in (("first", a), ("second", b)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"the {name} soft mask has values outside [0, 1]")
    if not len(thresholds):
        raise ValueError("soft Dice needs at least one threshold")
    return float(np.mean([dice(a > threshold, b > threshold) for threshold in thresholds]))
