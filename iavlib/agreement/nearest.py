"""Exact distances from pixels to the nearest pixel of a surface, without a distance map.

One table a surface holds, for every pixel of its box, the distance to the nearest surface pixel
*of the same column*. The nearest surface pixel of all is then a search along one row of that
table: over columns ``x``, the least ``(x - column)² + table[row, x]²``. The search looks at
sixteen columns at once and skips sixteen that cannot hold a nearer one, so that it mostly ends
after two looks. Everything is whole numbers; no distance is ever rounded.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BLOCK = 16  # columns looked at together
CHUNK = 16_384  # pixels searched for together: their intermediate results stay in the cache
BAND = 128  # rows finished together while the table is made
NARROW = 32_000  # up to this, squares of coordinates and their sums fit 32 bits


class NearestSurface:
    """Answers how far pixels are from a surface.

    Parameters
    ----------
    rows, columns : numpy.ndarray of int, shape (n,)
        The surface pixels in raster order (by row, then column), from 0 within their box.
    box : tuple of int
        Height and width of the box.
    frame : tuple of int
        Height and width of the image. Pixels asked for lie within it.
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
            Coordinates relative to the box; outside of it they are negative or beyond.

        Returns
        -------
        numpy.ndarray of int, shape (n,)
        """
        result = np.empty(len(rows), self.whole)
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            result[part] = self._search(rows[part], columns[part])
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

    def _improve(self, open_: "_Open", step: int, gap: np.ndarray) -> None:
        """Look into the blocks ``step`` away that may hold a nearer surface pixel."""
        at = open_.at + step
        least = self.least.take(at, mode="clip").astype(self.whole)
        least += open_.off
        worth = np.flatnonzero(least**2 + gap**2 < open_.best)
        if len(worth):
            column = open_.column[worth] - step * BLOCK
            found = self._look(at[worth], column, open_.off[worth])
            open_.best[worth] = np.minimum(open_.best[worth], found)

    def _look(self, at, column, off):
        """Return the least squared distance to the surface pixels nearest in a block's columns."""
        vertical = self.table.take(at, axis=0).T.astype(self.whole, order="C")
        vertical += off
        vertical *= vertical
        across = column - self.within
        across *= across
        vertical += across
        return vertical.min(axis=0)


@dataclass
class _Open:
    """Pixels whose nearest surface pixel may still lie in blocks not looked at."""

    place: np.ndarray  # where their result belongs
    at: np.ndarray  # the block of their own column, in the table
    column: np.ndarray  # their column within that block
    off: np.ndarray  # rows they lie above or below the box
    to_left: np.ndarray  # blocks there are to the left, and to the right
    to_right: np.ndarray
    best: np.ndarray | None = None  # least squared distance so far

    def gaps(self, step: int, beyond: int) -> tuple[np.ndarray, np.ndarray]:
        """Return how many columns away the blocks ``step`` to the right and to the left begin."""
        right = BLOCK * step - self.column
        left = BLOCK * (step - 1) + 1 + self.column
        right[self.to_right < step] = beyond
        left[self.to_left < step] = beyond
        return right, left

    def only(self, keep: np.ndarray) -> "_Open":
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
        Least value in columns without a surface pixel.
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
    """Return the least value of each row of ``table``, whose width is a power of two."""
    values = table.ravel()
    while len(values) > len(table):
        values = np.minimum(values[::2], values[1::2])
    return values
