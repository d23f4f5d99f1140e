"""The surface of a mask: the pixels of it that have a neighbour outside."""

import numpy as np


def as_mask(mask) -> np.ndarray:
    """Return a mask as a two-dimensional array of bool; every value above 0 is inside.

    Parameters
    ----------
    mask : array_like of bool or number, shape (height, width)

    Raises
    ------
    TypeError
        If the values are no numbers.
    ValueError
        If the array has not two dimensions, has no pixel, or holds NaN.
    """
    mask = np.asarray(mask)
    if mask.dtype.kind not in "buif":
        raise TypeError(f"a mask holds bool or numbers, not {mask.dtype}")
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"a mask has shape (height, width), not {mask.shape}")
    if mask.dtype.kind == "f" and np.isnan(mask).any():
        raise ValueError("a mask must not hold NaN")
    return mask if mask.dtype == bool else mask > 0


def mask_surface(mask) -> np.ndarray:
    """Return the surface of a mask.

    Parameters
    ----------
    mask : array_like of bool or number, shape (height, width)

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)
        The mask without its erosion by a cross (4-neighbours). What lies beyond the image counts
        as outside, so that pixels of the mask on the image's border are surface.

    Notes
    -----
    As in medpy: ``mask ^ binary_erosion(mask, connectivity 1)``.
    """
    mask = as_mask(mask)
    outline = mask.copy()
    if min(mask.shape) > 2:
        inner = mask[:-2, 1:-1] & mask[2:, 1:-1]
        inner &= mask[1:-1, :-2]
        inner &= mask[1:-1, 2:]
        np.greater(outline[1:-1, 1:-1], inner, out=outline[1:-1, 1:-1])
    return outline


def bounding_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return rows and columns of the smallest box around a mask; empty slices if it is empty.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (height, width)
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    rows = slice(int(rows[0]), int(rows[-1]) + 1)
    columns = np.flatnonzero(mask[rows].any(axis=0))
    return rows, slice(int(columns[0]), int(columns[-1]) + 1)
