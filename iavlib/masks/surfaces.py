"""From arrays to masks; prepared masks: box, surface, exact surface distances, connected regions.

The surface of a mask are its pixels with a neighbour outside. Distances to the nearest pixel of a
surface are exact, without a distance map: one table per surface holds, for every pixel of its box,
the distance to the nearest surface pixel *of the same column*. The nearest surface pixel of all is
then found along one row of that table: over columns ``x``, the minimum of
``(x - column)² + table[row, x]²``. The search examines sixteen columns at once and skips sixteen
that cannot hold a nearer one, so that it mostly ends after two steps. All numbers are integers; no
distance is ever rounded.

A mask that was saved with loss, resized or predicted holds values between outside and inside; it is
binarised at half its maximum. A label map holds classes, which are not intensities and are never
merged without being asked.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import ndimage

from iavlib.core.errors import DataError

BLOCK = 16  # columns examined together
CHUNK = 16_384  # pixels searched for together: their intermediate results stay in the cache
BAND = 128  # rows finished together while the table is made
NARROW = 32_000  # up to this, squares of coordinates and their sums fit 32 bits


class NearestSurface:
    """Distances of pixels to a surface.

    Parameters
    ----------
    rows, columns : numpy.ndarray of int, shape (n,)
        The surface pixels in raster order (by row, then column), from 0 within their box.
    box : tuple of int
        Height and width of the box.
    frame : tuple of int
        Height and width of the image, which contains all queried pixels.
    """

    def __init__(self, rows, columns, box: tuple[int, int], frame: tuple[int, int]):
        self.height, self.width = box
        self.far = math.ceil(math.hypot(*frame)) + 1
        narrow = self.far + max(frame) <= NARROW
        self.whole = np.int32 if narrow else np.int64
        self.blocks = -(-self.width // BLOCK)
        shape = (self.height, self.blocks * BLOCK)
        table = column_distances(rows, columns, shape, self.far, np.int16 if narrow else np.int32)
        self.table = table.reshape(-1, BLOCK)
        self.least = _least(self.table)
        self.beyond = 1 << (15 if narrow else 30)  # more columns than there can be
        self.within = np.arange(BLOCK, dtype=self.whole)[:, None]

    def squared(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the squared distance of each pixel to the surface, in pixels.

        Parameters
        ----------
        rows, columns : numpy.ndarray of int, shape (n,)
            Coordinates relative to the box; negative or larger than the box outside of it.

        Returns
        -------
        numpy.ndarray of int, shape (n,)
        """
        result = np.empty(len(rows), self.whole)
        for start in range(0, len(rows), CHUNK):
            block = slice(start, start + CHUNK)
            result[block] = self._search(rows[block], columns[block])
        return result

    def _search(self, rows, columns):
        inside = np.clip(rows, 0, self.height - 1)
        block = np.clip(columns, 0, self.width - 1) // BLOCK
        open_ = _Open(
            place=np.arange(len(rows)),
            at=inside.astype(np.intp) * self.blocks + block,
            column=(columns - block * BLOCK).astype(self.whole),
            off=np.abs(rows - inside).astype(self.whole),
            to_left=block.astype(self.whole),
            to_right=(self.blocks - 1 - block).astype(self.whole),
        )
        best = self._look(open_.at, open_.column, open_.off)
        open_.best = np.minimum(best, self.far**2, out=best)
        result, step = best.copy(), 0
        while len(open_.place):
            step += 1
            right, left = open_.gaps(step, self.beyond)
            keep = np.flatnonzero(np.minimum(right, left) ** 2 < open_.best)
            if len(keep) < len(open_.place):
                result[open_.place] = open_.best
                open_, right, left = open_.only(keep), right[keep], left[keep]
            self._improve(open_, step, right)
            self._improve(open_, -step, left)
        return result

    def _improve(self, open_: _Open, step: int, gap: np.ndarray) -> None:
        """Examine the blocks ``step`` away that may hold a nearer surface pixel."""
        at = open_.at + step
        least = self.least.take(at, mode="clip").astype(self.whole)
        least += open_.off
        worth = np.flatnonzero(least**2 + gap**2 < open_.best)
        if len(worth):
            column = open_.column[worth] - step * BLOCK
            found = self._look(at[worth], column, open_.off[worth])
            open_.best[worth] = np.minimum(open_.best[worth], found)

    def _look(self, at, column, off):
        """Return the smallest squared distance to the nearest surface pixels in a block."""
        vertical = self.table.take(at, axis=0).T.astype(self.whole, order="C")
        vertical += off
        vertical *= vertical
        across = column - self.within
        across *= across
        vertical += across
        return vertical.min(axis=0)


@dataclass
class _Open:
    """Pixels whose nearest surface pixel may be in a block that was not examined."""

    place: np.ndarray  # index of their result
    at: np.ndarray  # the block of their own column, in the table
    column: np.ndarray  # their column within that block
    off: np.ndarray  # rows above or below the box
    to_left: np.ndarray  # number of blocks to the left, and to the right
    to_right: np.ndarray
    best: np.ndarray | None = None  # smallest squared distance so far

    def gaps(self, step: int, beyond: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the distance in columns to the blocks ``step`` to the right and to the left."""
        right = BLOCK * step - self.column
        left = BLOCK * (step - 1) + 1 + self.column
        right[self.to_right < step] = beyond
        left[self.to_left < step] = beyond
        return right, left

    def only(self, keep: np.ndarray) -> _Open:
        """Return those at the positions ``keep``."""
        return _Open(**{name: values.take(keep) for name, values in vars(self).items()})


def column_distances(rows, columns, shape, far: int, dtype) -> np.ndarray:
    """Return each pixel's distance to the nearest surface pixel of its column.

    Parameters
    ----------
    rows, columns : numpy.ndarray of int, shape (n,)
        The surface pixels in raster order.
    shape : tuple of int
        Height and width of the table.
    far : int
        Smallest value in columns without a surface pixel.
    dtype : type
        Signed integers that hold ``shape[0] + far``.

    Returns
    -------
    numpy.ndarray, shape ``shape``
    """
    table = np.full(shape, -far, dtype)
    table[rows, columns] = rows  # becomes: the last row with a surface pixel, down to this one
    for above, row in pairwise(table):
        np.maximum(row, above, out=row)
    nothing = shape[0] - 1 + far
    below = np.full(shape[1], nothing, dtype)
    for start in reversed(range(0, shape[0], BAND)):
        stop = min(start + BAND, shape[0])
        first, last = np.searchsorted(rows, (start, stop))
        band = np.full((stop - start + 1, shape[1]), nothing, dtype)
        band[rows[first:last] - start, columns[first:last]] = rows[first:last]
        band[-1] = below
        for under, row in pairwise(band[::-1]):
            np.minimum(row, under, out=row)
        below = band[0].copy()
        index = np.arange(start, stop, dtype=dtype)[:, None]
        up, down = table[start:stop], band[:-1]
        np.subtract(index, up, out=up)
        np.subtract(down, index, out=down)
        np.minimum(up, down, out=up)
    return table


def _least(table: np.ndarray) -> np.ndarray:
    """Return the minimum of each row of ``table``, whose width is a power of two."""
    values = table.ravel()
    while len(values) > len(table):
        values = np.minimum(values[::2], values[1::2])
    return values


#: Share of the maximum above which a pixel is inside.
THRESHOLD = 0.5
#: Largest class of a map of small numbers, and largest number of classes of any map.
MAX_CLASSES = 30
#: Values nearer than this share of the maximum to 0 or to the maximum are noise of compression.
_NEAR = 0.1
_BAND_PIXELS = 1 << 20


def label_values(values: np.ndarray) -> list[int]:
    """Return the classes of a label map, without the background 0; none if it is a mask.

    A map has at least two whole numbers besides 0 that are small (up to :data:`MAX_CLASSES`; 255
    may stand for unlabelled pixels), or each of which fills some square of 3 x 3 pixels, unlike
    the values along a border that was smoothed; or more numbers, from 1 on without a gap, nine in
    ten of which do.

    Parameters
    ----------
    values : numpy.ndarray of number, shape (height, width)
    """
    if values.dtype == bool or not values.size:
        return []
    if np.count_nonzero(values) == np.count_nonzero(values == values.max()) or values.min() < 0:
        return []  # the usual case, and the fastest to see; or no classes
    if values.dtype.kind == "f":
        if not (values == np.floor(values)).all():
            return []
        values = values.astype(np.int64)
    present = _present(values)
    if len(present) < 2:
        return []
    if len(present) == present[-1] > MAX_CLASSES:  # numbered objects fill more than a border
        return present.tolist() if np.isin(present, _filled(values)).mean() > 0.9 else []
    if len(present) > MAX_CLASSES + 1:
        return []
    small = present[present != 255] if present[-1] == 255 else present
    if len(small) > 1 and small[-1] <= MAX_CLASSES:
        return small.tolist()
    top = present[-1]
    middle = present[(present > _NEAR * top) & (present < (1 - _NEAR) * top)]
    if len(middle) and np.isin(middle, _filled(values)).all():
        return [*middle.tolist(), int(top)]
    return []


def row_bands(values: np.ndarray) -> list[np.ndarray]:
    """Return views of some rows each, about a million pixels: what they need is freed between."""
    return np.array_split(values, -(-values.size // _BAND_PIXELS) or 1)


def count_codes(codes: np.ndarray, n: int) -> np.ndarray:
    """Count the pixels of each code below ``n``, with little memory.

    Parameters
    ----------
    codes : numpy.ndarray of unsigned int, shape (height, width)
    n : int
    """
    return sum(np.bincount(band.ravel(), minlength=n) for band in row_bands(codes))


def look_up(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return ``table[codes]``, with little memory beside the result."""
    found = np.empty(codes.shape, table.dtype)
    for result, band in zip(row_bands(found), row_bands(codes), strict=True):
        result[...] = table[band]
    return found


def _present(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return np.flatnonzero(count_codes(values, 256)[1:]) + 1
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
    edges = (mask[0], mask[-1], mask[:, 0], mask[:, -1])  # looked at first: they are few
    return all(e.mean() > 0.5 for e in edges) and mask.size / 2 < np.count_nonzero(mask) < mask.size


def as_mask(mask) -> np.ndarray:
    """Return a mask as a two-dimensional array of bool.

    Values between outside and inside are binarised at half the maximum, with a warning; see
    :func:`iavlib.masks.surfaces.binarise`.

    Parameters
    ----------
    mask : array_like of bool or number, shape (height, width)

    Raises
    ------
    TypeError
        If the values are not numbers.
    ValueError
        If the array is not two-dimensional, has no pixel, holds NaN or negative values, or is a
        label map of several classes.
    """
    mask = np.asarray(mask)
    if mask.dtype.kind not in "buif":
        raise TypeError(f"a mask holds bool or numbers, not {mask.dtype}")
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"a mask has shape (height, width), not {mask.shape}")
    inside, note = binarise(mask)
    if note:
        warnings.warn(f"not a binary mask: {note}; binarised at half its maximum", stacklevel=3)
    return inside


def mask_surface(mask) -> np.ndarray:
    """Return the surface of a mask.

    Parameters
    ----------
    mask : array_like of bool or number, shape (height, width)

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)
        The mask without its erosion by a cross (4-neighbours). Pixels beyond the image count
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


@dataclass(frozen=True, eq=False)
class PreparedMask:
    """A mask cropped to its box, with derived quantities that are computed at most once.

    Every function of two masks takes arrays or prepared masks; :func:`prepare` makes one. The
    full array is not kept.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image.
    top, left : int
        First row and column of the box; 0 for an empty mask.
    crop : numpy.ndarray of bool
        The mask within its box, the smallest around it; of shape (0, 0) for an empty mask.
    area : int
        Number of pixels inside.
    """

    shape: tuple[int, int]
    top: int
    left: int
    crop: np.ndarray = field(repr=False)
    area: int

    @property
    def empty(self) -> bool:
        """True if no pixel is inside."""
        return not self.area

    @property
    def full(self) -> bool:
        """True if every pixel of the image is inside."""
        return self.area == self.shape[0] * self.shape[1]

    @cached_property
    def surface(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows and columns (from 0 within the box) of the surface pixels, in raster order."""
        pixels = np.flatnonzero(mask_surface(self.crop)) if self.area else np.empty(0, int)
        rows, columns = np.divmod(pixels, max(self.crop.shape[1], 1))
        return rows.astype(np.int32), columns.astype(np.int32)

    @cached_property
    def nearest(self) -> NearestSurface:
        """Distances of any pixels of the image to this mask's surface."""
        return NearestSurface(*self.surface, self.crop.shape, self.shape)

    def points(self, spacing: tuple[float, float]) -> np.ndarray:
        """Return the surface pixels' coordinates, shape (n, 2), in units of ``spacing``."""
        rows, columns = self.surface
        return np.column_stack([rows + self.top, columns + self.left]) * np.asarray(spacing)


def prepare(mask) -> PreparedMask:
    """Prepare a mask for comparisons.

    Parameters
    ----------
    mask : array_like of bool or number, shape (height, width), or PreparedMask
        See :func:`iavlib.masks.surfaces.binarise`.

    Returns
    -------
    PreparedMask
        The argument itself if it is one already.

    Raises
    ------
    TypeError, ValueError
        As :func:`iavlib.masks.surfaces.as_mask`.
    """
    if isinstance(mask, PreparedMask):
        return mask
    mask = as_mask(mask)
    rows, columns = bounding_box(mask)
    crop = mask[rows, columns].copy()
    return PreparedMask(mask.shape, rows.start, columns.start, crop, int(np.count_nonzero(crop)))


def prepare_pair(a, b) -> tuple[PreparedMask, PreparedMask]:
    """Prepare two masks of one image.

    Raises
    ------
    ValueError
        If their shapes differ.
    """
    a, b = prepare(a), prepare(b)
    if a.shape != b.shape:
        raise ValueError(f"masks of one image must have one shape, not {a.shape} and {b.shape}")
    return a, b


def intersection(a: PreparedMask, b: PreparedMask) -> int:
    """Return how many pixels are inside both masks."""
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom = min(a.top + a.crop.shape[0], b.top + b.crop.shape[0])
    right = min(a.left + a.crop.shape[1], b.left + b.crop.shape[1])
    if bottom <= top or right <= left:
        return 0
    windows = [
        mask.crop[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left]
        for mask in (a, b)
    ]
    return int(np.count_nonzero(windows[0] & windows[1]))


def region_sizes(mask: np.ndarray, corners: bool = True) -> np.ndarray:
    """Return how many pixels each connected region has.

    Parameters
    ----------
    mask : numpy.ndarray of bool, shape (height, width)
    corners : bool
        Whether pixels that touch at a corner are connected (8-connected regions) or only those
        that share an edge (4-connected).

    Returns
    -------
    numpy.ndarray of int, shape (n,)
        In the raster order of the first pixel of each region.
    """
    labels, n = ndimage.label(mask, np.ones((3, 3)) if corners else None)
    return count_codes(labels, n + 1)[1:]
