"""Masks of one image, checked and stacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iavlib.core.errors import DataError


def mask_stack(masks, names: Sequence[str] | None = None, min_masks: int = 1) -> np.ndarray:
    """Check the masks of one image and stack them.

    Parameters
    ----------
    masks : sequence of array_like, or array_like of shape (n, height, width)
        Each of shape (height, width), with 0 outside and one other, positive value inside: bool,
        0/1, 0/255 and their like.
    names : sequence of str, optional
        What to call the masks in messages; their position, from 1, unless given.
    min_masks : int
        Smallest number of masks.

    Returns
    -------
    numpy.ndarray of bool, shape (n, height, width)

    Raises
    ------
    DataError
        Naming the mask: there are too few, shapes differ, one is not two-dimensional, has no
        pixels, holds NaN, a negative number or more than one value besides 0.
    """
    arrays = [np.asarray(mask) for mask in masks]
    if len(arrays) < min_masks:
        raise DataError(
            "masks of one image",
            f"there are {len(arrays)}, at least {min_masks} are needed",
            "leave out images with fewer masks",
        )
    labels = [f"mask {n}" for n in range(1, len(arrays) + 1)] if names is None else list(names)
    if len(labels) != len(arrays):
        raise ValueError(f"{len(labels)} names for {len(arrays)} masks")
    checked = [_binary(array, label) for array, label in zip(arrays, labels, strict=True)]
    for array, label in zip(checked[1:], labels[1:], strict=True):
        if array.shape != checked[0].shape:
            raise DataError(
                label,
                f"{_size(array)} pixels, but {labels[0]} of the same image has {_size(checked[0])}",
                "replace the one that has not the image's size; do not resample masks to compare",
            )
    return np.stack(checked)


def _binary(array: np.ndarray, label: str) -> np.ndarray:
    if array.ndim != 2 or not array.size:
        raise DataError(
            label,
            f"an array of shape {array.shape}, not (height, width)",
            "give one two-dimensional mask per annotator",
        )
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf":
        raise DataError(label, f"values of type {array.dtype}", "give bool or numbers")
    highest, lowest = array.max(), array.min()
    if array.dtype.kind == "f" and not np.isfinite([highest, lowest]).all():
        bad = int((~np.isfinite(array)).sum())
        raise DataError(label, f"{bad} pixels are NaN or infinite", "write 0 where unmarked")
    inside = array > 0
    if lowest < 0 or np.count_nonzero(inside) != np.count_nonzero(array == highest) * (highest > 0):
        raise DataError(
            label,
            f"not binary: values from {lowest} to {highest}, more than one of them besides 0",
            "threshold it, for instance 'mask > 0' or 'probability > 0.5'",
        )
    return inside


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"
