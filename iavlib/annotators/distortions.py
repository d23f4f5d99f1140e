"""What simulated annotators do to a label map: grow, shrink, break, swap; wholly or in part.

The operations are our own, with distance transforms instead of repeated dilations: the same as a
cross at one and two pixels, and round beyond.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from iavlib.annotators.errors import LabelError

OVER, UNDER = 2.0, 1.0
GAPS, GAP_WIDTH, WRONG_GROWTH = 2, 5.0, 1.5
#: A step against rounding: pixels at exactly the radius count as within it.
ROUNDING = 1e-6


def between(
    truth: np.ndarray, full: np.ndarray, level: float, generator: np.random.Generator
) -> np.ndarray:
    """Make a share of the changes between two label maps, nearest to the true border first.

    Parameters
    ----------
    truth, full : numpy.ndarray of int, shape (height, width)
    level : float
        In [0, 1]; the number of changed pixels is the nearest whole number to this share.
    generator : numpy.random.Generator
        Pixels at one distance change in patches, by a smooth random field.

    Returns
    -------
    numpy.ndarray, shape (height, width)
    """
    rows, columns = np.nonzero(truth != full)
    n = round(level * len(rows))
    result = truth.copy()
    if n == len(rows):
        return full
    if n:
        field = ndimage.gaussian_filter(generator.standard_normal(truth.shape), 1.5)
        order = np.lexsort((field[rows, columns], border_distance(truth)[rows, columns]))[:n]
        result[rows[order], columns[order]] = full[rows[order], columns[order]]
    return result


def border_distance(labels: np.ndarray) -> np.ndarray:
    """Return each pixel's distance, in pixels, to the nearest one of another class.

    Rounded to 6 digits; 0 throughout where there is only one class. What lies beyond the picture
    is of no class.
    """
    distance = np.zeros(labels.shape)
    classes = np.unique(labels)
    for one in classes if len(classes) > 1 else ():
        region = labels == one
        distance[region] = ndimage.distance_transform_edt(region)[region]
    return distance.round(6)


def grown(labels: np.ndarray, radius: float) -> np.ndarray:
    """Let the foreground grow into the background by a radius, each class where it is nearest."""
    background = labels == 0
    if background.all():
        return labels.copy()
    distance, nearest = ndimage.distance_transform_edt(background, return_indices=True)
    return np.where(distance <= radius + ROUNDING, labels[tuple(nearest)], 0).astype(labels.dtype)


def shrunk(labels: np.ndarray, radius: float) -> np.ndarray:
    """Take a radius off each class's border to the others; it becomes background."""
    if (labels == labels.flat[0]).all():
        return labels.copy()
    return np.where(border_distance(labels) > radius + ROUNDING, labels, 0).astype(labels.dtype)


def fractured(
    labels: np.ndarray, n: int, width: float, generator: np.random.Generator
) -> np.ndarray:
    """Break each piece of the foreground at random pixels, across the shortest way to its border.

    Parameters
    ----------
    labels : numpy.ndarray of int, shape (height, width)
    n : int
        Gaps in each connected piece (8 neighbours) that has as many pixels.
    width : float
        Of each gap, in pixels.
    generator : numpy.random.Generator
    """
    inside = labels > 0
    if not inside.any() or inside.all():
        return labels.copy()
    nearest = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    pieces, n_pieces = ndimage.label(inside, np.ones((3, 3)))
    gap = np.zeros(labels.shape, bool)
    for piece in range(1, n_pieces + 1):
        pixels = np.argwhere(pieces == piece)
        for middle in pixels[generator.choice(len(pixels), min(n, len(pixels)), replace=False)]:
            gap |= _gap(inside, middle, nearest[:, middle[0], middle[1]] - middle, width)
    return np.where(gap, 0, labels).astype(labels.dtype)


def _gap(inside: np.ndarray, middle: np.ndarray, across: np.ndarray, width: float) -> np.ndarray:
    """Return a bar through a pixel, along a direction and back, until either end leaves."""
    across = across / np.hypot(*across)
    rows, columns = np.indices(inside.shape) - middle[:, None, None]
    along = rows * across[0] + columns * across[1]
    aside = np.abs(columns * across[0] - rows * across[1])
    before, after = (_reach(inside, middle, sign * across) for sign in (-1, 1))
    return (-before - 0.5 <= along) & (along <= after + 0.5) & (aside <= width / 2)


def _reach(inside: np.ndarray, start: np.ndarray, step: np.ndarray) -> int:
    """Count the steps that can be taken before leaving the region or the picture."""
    n = 0
    while True:
        row, column = np.rint(start + n * step).astype(int)
        within = 0 <= row < inside.shape[0] and 0 <= column < inside.shape[1]
        if not (within and inside[row, column]):
            return n
        n += 1


def _good(labels, n_classes, unit, generator, core):
    return labels.copy()


def _over(labels, n_classes, unit, generator, core):
    return grown(labels, OVER * unit)


def _under(labels, n_classes, unit, generator, core):
    return shrunk(labels if core is None else np.where(core, labels, 0), UNDER * unit)


def _wrong(labels, n_classes, unit, generator, core):
    broken = fractured(labels, GAPS, GAP_WIDTH * unit, generator)
    return grown(broken, WRONG_GROWTH * unit)


def _blank(labels, n_classes, unit, generator, core):
    return np.zeros_like(labels)


def _swap(labels, n_classes, unit, generator, core):
    if n_classes < 3:
        raise LabelError(
            "simulated annotator of kind 'swap'",
            "there is one foreground class, and nothing to take it for",
            "declare at least three classes, background included",
        )
    return np.where(labels > 0, labels % (n_classes - 1) + 1, 0).astype(labels.dtype)


KINDS: dict[str, Callable] = {
    "good": _good,
    "over": _over,
    "under": _under,
    "wrong": _wrong,
    "blank": _blank,
    "swap": _swap,
}
