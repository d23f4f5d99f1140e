"""Masks that are hard for programs that measure distances between outlines."""

import numpy as np
from PIL import Image
from scipy import ndimage

SHAPE = (20, 30)
SHAPES = ((1, 1), (1, 9), (9, 1), (2, 2), (3, 40), (17, 16), (33, 48), (40, 31), (64, 65))


def _disc(height, width, rng):
    y, x = np.mgrid[:height, :width]
    centre = rng.uniform(0, [height, width])
    radius = rng.uniform(0.5, max(height, width) / 2)
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def _ring(height, width, rng):
    disc = _disc(height, width, rng)
    return disc & ~ndimage.binary_erosion(disc, iterations=int(rng.integers(1, 4)))


def _box(height, width, rng):
    mask = np.zeros((height, width), bool)
    top, bottom = np.sort(rng.integers(0, height, 2))
    left, right = np.sort(rng.integers(0, width, 2))
    mask[top : bottom + 1, left : right + 1] = True
    return mask


def _border(height, width, rng):
    mask = _box(height, width, rng)
    mask[rng.choice([0, -1])] = True
    mask[:, rng.choice([0, -1])] = True
    return mask


def _one_pixel(height, width, rng):
    mask = np.zeros((height, width), bool)
    mask[rng.integers(height), rng.integers(width)] = True
    return mask


def _line(height, width, rng):
    mask = np.zeros((height, width), bool)
    if rng.random() < 0.5:
        mask[rng.integers(height)] = True
    else:
        mask[:, rng.integers(width)] = True
    return mask


def _several(height, width, rng):
    return _box(height, width, rng) | _one_pixel(height, width, rng) | _ring(height, width, rng)


def _noise(height, width, rng):
    mask = rng.random((height, width)) < rng.uniform(0.02, 0.98)
    return mask if mask.any() else _one_pixel(height, width, rng)


def _ragged(height, width, rng):
    rough = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0.3, 3))
    mask = rough > np.quantile(rough, rng.uniform(0.2, 0.9))
    return mask if mask.any() else _one_pixel(height, width, rng)


def _full(height, width, rng):
    return np.ones((height, width), bool)


def _corner(height, width, rng):
    mask = np.zeros((height, width), bool)
    mask[rng.choice([0, -1]), rng.choice([0, -1])] = True
    return mask


def _checkerboard(height, width, rng):
    return (np.add.outer(np.arange(height), np.arange(width)) + rng.integers(2)) % 2 == 0


KINDS = (
    _disc,
    _ring,
    _box,
    _border,
    _one_pixel,
    _line,
    _several,
    _noise,
    _ragged,
    _full,
    _corner,
    _checkerboard,
)


def draw(shape: tuple[int, int], rng: np.random.Generator, kind: int | None = None) -> np.ndarray:
    """Draw a mask that is not empty."""
    kind = int(rng.integers(len(KINDS))) if kind is None else kind
    mask = KINDS[kind](*shape, rng)
    return mask if mask.any() else _one_pixel(*shape, rng)


def related(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a mask near another: shifted, grown, shrunk (nested) or the same."""
    change = rng.integers(4)
    if change == 0:
        found = np.roll(mask, tuple(rng.integers(-3, 4, 2)), (0, 1))
    elif change == 1:
        found = ndimage.binary_dilation(mask, iterations=int(rng.integers(1, 4)))
    elif change == 2:
        found = ndimage.binary_erosion(mask, iterations=int(rng.integers(1, 3)))
    else:
        found = mask.copy()
    return found if found.any() else mask.copy()


def save(mask, path):
    """Write a mask as a file of 0 and 255."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
