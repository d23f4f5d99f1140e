"""What a mask must be asked once, however many masks it is compared with."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.spatial import KDTree

from iavlib.agreement.nearest import NearestSurface
from iavlib.agreement.surface import as_mask, bounding_box, mask_surface


@dataclass(frozen=True, eq=False)
class PreparedMask:
    """A mask cut to its box, with what comparisons need computed at most once.

    Every function of two masks takes arrays or prepared masks; :func:`prepare` makes one. The
    full array is not kept.

    Attributes
    ----------
    shape : tuple of int
        Height and width of the image.
    top, left : int
        Where the box begins; 0 for an empty mask.
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
        """What tells the distance of any pixel of the image to this mask's surface."""
        return NearestSurface(*self.surface, self.crop.shape, self.shape)

    @cached_property
    def _trees(self) -> dict[tuple[float, float], KDTree]:
        return {}

    def tree(self, spacing: tuple[float, float]) -> KDTree:
        """Return a k-d tree of the surface pixels in units of ``spacing``, from 0 in the image."""
        if spacing not in self._trees:
            self._trees[spacing] = KDTree(self.points(spacing))
        return self._trees[spacing]

    def points(self, spacing: tuple[float, float]) -> np.ndarray:
        """Return the surface pixels' coordinates, shape (n, 2), in units of ``spacing``."""
        rows, columns = self.surface
        return np.column_stack([rows + self.top, columns + self.left]) * np.asarray(spacing)


def prepare(mask) -> PreparedMask:
    """Prepare a mask for comparisons.

    Parameters
    ----------
    mask : array_like of bool or number, shape (height, width), or PreparedMask
        Values above 0 are inside.

    Returns
    -------
    PreparedMask
        The argument itself if it is one already.

    Raises
    ------
    TypeError, ValueError
        As :func:`iavlib.agreement.surface.as_mask`.
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
    parts = [
        mask.crop[top - mask.top : bottom - mask.top, left - mask.left : right - mask.left]
        for mask in (a, b)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))
