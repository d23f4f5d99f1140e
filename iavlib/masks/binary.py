"""From the values of a mask to inside and outside: binary masks, intensities and label maps.

A mask that was saved with loss, resized or predicted holds values between outside and inside; it
is binarised at half its maximum. A label map holds classes, which are not intensities and are never
merged without being asked.
"""

from __future__ import annotations

import numpy as np

from iavlib.core.errors import DataError

#: Share of the maximum above which a pixel is inside.
THRESHOLD = 0.5
#: Largest class of a map of small numbers, and largest number of classes of any map.
MAX_CLASSES = 30
#: Values nearer than this share of the maximum to 0 or to the maximum are noise of compression.
_NEAR = 0.1


def label_values(values: np.ndarray) -> list[int]:
    """Return the classes of a label map, without the background 0; none if it is a mask.

    A map has at least two whole numbers besides 0 that are small (up to :data:`MAX_CLASSES`; 255
    may stand for unlabelled pixels), or each of which fills some square of 3 x 3 pixels, unlike
    the values along a border that was smoothed.

    Parameters
    ----------
    values : numpy.ndarray of number, shape (height, width)
    """
    if values.dtype == bool or not values.size:
        return []
    if values.dtype.kind == "f":
        if not (values == np.floor(values)).all():
            return []
        values = values.astype(np.int64)
    present = _present(values)
    if len(present) < 2 or len(present) > MAX_CLASSES + 1:
        return []
    small = present[present != 255] if present[-1] == 255 else present
    if len(small) > 1 and small[-1] <= MAX_CLASSES:
        return small.tolist()
    top = present[-1]
    middle = present[(present > _NEAR * top) & (present < (1 - _NEAR) * top)]
    if len(middle) and np.isin(middle, _filled(values)).all():
        return [*middle.tolist(), int(top)]
    return []


def _present(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256)[1:]) + 1
    return np.unique(values[values != 0])


def _filled(values: np.ndarray) -> np.ndarray:
    """Return the values that fill a square of 3 x 3 pixels."""
    across = (values[:, 1:-1] == values[:, :-2]) & (values[:, 1:-1] == values[:, 2:])
    rows = values[:, 1:-1]
    down = (rows[1:-1] == rows[:-2]) & (rows[1:-1] == rows[2:])
    flat = down & across[1:-1] & across[:-2] & across[2:]
    return np.unique(rows[1:-1][flat])


def binarise(
    values: np.ndarray, threshold: float | None = None, where: object = "mask"
) -> tuple[np.ndarray, str]:
    """Return a mask of bool, and what was done if there were more than two values.

    Parameters
    ----------
    values : numpy.ndarray of bool or number, shape (height, width)
        Not negative.
    threshold : float, optional
        Share of the maximum, from 0 (all above 0 is inside) to below 1. Unless given, the two
        values of a binary mask are outside and inside, a mask with more is binarised at
        :data:`THRESHOLD` of its maximum (of 1 for fractions up to 1, as of probabilities), and a
        label map is refused.
    where : object
        Named in errors.

    Returns
    -------
    mask : numpy.ndarray of bool, shape (height, width)
    note : str
        Empty unless values between outside and inside were decided by the threshold.

    Raises
    ------
    DataError
        If a value is NaN or negative, or the values are classes and no threshold is given.

    Examples
    --------
    >>> mask, note = binarise(np.array([[0, 3, 128, 255]]))
    >>> mask, note
    (array([[False, False,  True,  True]]), '2 values between 0 and 255 in 50.0% of the pixels')
    """
    if values.dtype == bool or not values.size:
        return values.astype(bool, copy=False), ""
    top, low = values.max(), values.min()
    if values.dtype.kind == "f" and not np.isfinite([top, low]).all():
        problem = f"{np.count_nonzero(~np.isfinite(values))} pixels are NaN or infinite"
        raise DataError(where, problem, "write 0 outside")
    if low < 0:
        problem, hint = f"negative values, down to {low:g}", "write 0 outside, or probabilities"
        raise DataError(where, problem, hint)
    inside = values > 0
    between = np.count_nonzero(inside) - np.count_nonzero(values == top) * bool(top > 0)
    if threshold is None and not between:
        return inside, ""
    if threshold is None and (classes := label_values(values)):
        listed = ", ".join(map(str, classes[:10]))
        problem = f"a label map with the classes {listed}, not one mask"
        hint = "choose a class with label, or give a threshold (0: every class is inside)"
        raise DataError(where, problem, hint)
    fractions = values.dtype.kind == "f" and top <= 1 and between
    cut = (THRESHOLD if threshold is None else threshold) * (1 if fractions else float(top))
    n = len(_present(values)) - 1 if between else 0
    share = between / values.size
    note = f"{n} values between 0 and {top:g} in {share:.1%} of the pixels" if between else ""
    return values > cut, note


def looks_inverted(mask: np.ndarray) -> bool:
    """Return whether inside seems to be the background: most of each border, more than half."""
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    return bool(not mask.all() and mask.mean() > 0.5 and all(e.mean() > 0.5 for e in edges))
