"""Pair metrics written as plainly as possible with SciPy: slow, and the yardstick of what is fast.

Conventions are those of IMA++. The surface of a mask is the mask without its erosion by the
4-neighbourhood, with everything outside the image counting as background, so that a mask cut by
the image border has surface there. Distances go from each surface pixel of one mask to the
nearest surface pixel of the other; both directions are pooled.

Both masks empty: overlap 1, distances 0. One empty: overlap 0, distances NaN, normalised
distances 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from scipy import ndimage

Spacing = tuple[float, float]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice coefficient of two masks, shape (height, width): 2 |A and B| / (|A| + |B|)."""
    a, b = _check(a, b)
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else 1.0


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Jaccard index (intersection over union) of two masks, shape (height, width)."""
    a, b = _check(a, b)
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


def surface(mask: np.ndarray) -> np.ndarray:
    """Return the surface pixels of a mask: those that its erosion takes away."""
    mask = np.asarray(mask, bool)
    cross = ndimage.generate_binary_structure(2, 1)
    return mask & ~ndimage.binary_erosion(mask, cross, border_value=0)


def surface_distances(a: np.ndarray, b: np.ndarray, spacing: Spacing = (1, 1)) -> np.ndarray:
    """Distances between the surfaces of two masks, both directions.

    Parameters
    ----------
    a, b : ndarray of bool, shape (height, width)
        Neither empty.
    spacing : pair of float
        Size of a pixel in y and in x.

    Returns
    -------
    ndarray of float
        From each surface pixel of `a` to `b`, then from each of `b` to `a`.
    """
    a, b = _check(a, b)
    surface_a, surface_b = surface(a), surface(b)
    to_a = ndimage.distance_transform_edt(~surface_a, sampling=spacing)
    to_b = ndimage.distance_transform_edt(~surface_b, sampling=spacing)
    return np.concatenate([to_b[surface_a], to_a[surface_b]])


def hd(a: np.ndarray, b: np.ndarray, spacing: Spacing = (1, 1)) -> float:
    """Hausdorff distance: the largest distance between the surfaces."""
    return _distances(a, b, spacing)["hd"]


def hd95(a: np.ndarray, b: np.ndarray, spacing: Spacing = (1, 1)) -> float:
    """95th percentile (linear interpolation) of the pooled surface distances."""
    return _distances(a, b, spacing)["hd95"]


def assd(a: np.ndarray, b: np.ndarray, spacing: Spacing = (1, 1)) -> float:
    """Mean of the pooled surface distances."""
    return _distances(a, b, spacing)["assd"]


def pair_metrics(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Compute every metric of a pair of masks.

    Parameters
    ----------
    a, b : ndarray of bool, shape (height, width)

    Returns
    -------
    dict
        ``dice``, ``jaccard``; ``hd``, ``hd95`` and ``assd`` in pixels; the same with
        ``_normalized``, divided by the diagonal of the image, 1 where a distance does not exist.

    Raises
    ------
    ValueError
        If the masks differ in shape.
    """
    distances = _distances(a, b, (1, 1))
    diagonal = float(np.hypot(*np.shape(a)))
    normalized = {
        f"{name}_normalized": 1.0 if np.isnan(value) else value / diagonal
        for name, value in distances.items()
    }
    return {"dice": dice(a, b), "jaccard": jaccard(a, b), **distances, **normalized}


def all_pairs(masks: Mapping[str, np.ndarray]) -> list[dict]:
    """Compute every metric of every unordered pair of one image's masks.

    Parameters
    ----------
    masks : mapping of str to ndarray of bool, shape (height, width)
        Mask id to mask.

    Returns
    -------
    list of dict
        ``mask_1`` < ``mask_2`` and the metrics of :func:`pair_metrics`.
    """
    return [
        {"mask_1": first, "mask_2": second, **pair_metrics(masks[first], masks[second])}
        for first, second in combinations(sorted(masks), 2)
    ]


def _distances(a: np.ndarray, b: np.ndarray, spacing: Spacing) -> dict[str, float]:
    a, b = _check(a, b)
    if not (a.any() and b.any()):
        value = np.nan if a.any() or b.any() else 0.0
        return {"hd": value, "hd95": value, "assd": value}
    pooled = surface_distances(a, b, spacing)
    return {
        "hd": float(pooled.max()),
        "hd95": float(np.percentile(pooled, 95)),
        "assd": float(pooled.mean()),
    }


def _check(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"masks must be 2-D and of one shape, not {a.shape} and {b.shape}")
    return a.astype(bool), b.astype(bool)
