"""Some thirty numbers of an image that need no learning: colour, contrast, sharpness, dark area.

A network that predicts agreement no better than these has learnt no more than that some images are
dark, pale or blurred.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

#: Images worked on at a time; one block of 224 pixels takes some 60 MB.
_BLOCK = 32

#: Luminance of ITU-R BT.601, as Pillow's grey images.
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)

#: A pixel with a gradient above this (of grey levels 0 to 1 per pixel) counts as an edge.
_EDGE = 0.05

#: Corner squares have this share of the side; a vignette or the dermatoscope's barrel shows there.
_CORNER = 0.15


def image_statistics(pixels: np.ndarray, index: Sequence | None = None) -> pd.DataFrame:
    """Compute statistics of square RGB images.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, size, size, 3)
        May be a memory map; it is read in blocks. All images in one size, as statistics of edges
        depend on it.
    index : sequence, optional
        Image ids for the index of the table.

    Returns
    -------
    DataFrame, shape (n, 31)
        All finite. Intensities run from 0 to 1:

        - ``red_mean``, ``red_sd`` …: mean and standard deviation of each channel, of the
          luminance (``light_``), of the saturation (``saturation_``, of HSV) and of the two
          opponent colours red - green (``redgreen_``) and (red + green) / 2 - blue
          (``yellowblue_``), and ``colourfulness`` (Hasler and Süsstrunk);
        - ``light_p05``, ``light_p50``, ``light_p95``, ``light_skew``: quantiles of the luminance
          to its 256 levels, and its skewness;
        - ``corner_light``, ``corner_dark_share``, ``corner_minus_centre``: mean luminance of the
          four corner squares, their share of pixels below 0.15, and how much darker than the
          middle they are;
        - ``edge_mean``, ``edge_share``, ``laplace_sd``: mean gradient per pixel, share of pixels
          with a gradient above 0.05, standard deviation of the Laplacian (sharpness);
        - ``dark_share``, ``dark_contrast``, ``dark_separation``, ``dark_spread``,
          ``dark_offset``, ``dark_edge``: of the pixels below Otsu's threshold, the share, the
          difference of mean luminance to the rest, the share of the variance that the threshold
          explains, the root mean squared distance from their centre and its distance from the
          middle (both in sides of the image), and the mean gradient where dark meets light.

    Raises
    ------
    ValueError
        When `pixels` is not such an array or `index` has another length.

    References
    ----------
    Hasler, D. and Süsstrunk, S. (2003). Measuring colourfulness in natural images. SPIE 5007.
    Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Transactions on
    Systems, Man, and Cybernetics 9, 62-66.
    """
    if pixels.ndim != 4 or pixels.shape[3] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"pixels must be uint8 of shape (n, size, size, 3), not {pixels.dtype} {pixels.shape}"
        )
    if min(pixels.shape[1:3]) < 8 or pixels.shape[1] != pixels.shape[2]:
        raise ValueError(f"images must be square, of 8 pixels or more, not {pixels.shape[1:3]}")
    if index is not None and len(index) != len(pixels):
        raise ValueError(f"{len(pixels)} images but {len(index)} labels")
    blocks = [
        _block_statistics(np.asarray(pixels[start : start + _BLOCK]))
        for start in range(0, len(pixels), _BLOCK)
    ]
    if not blocks:
        raise ValueError("pixels is empty")
    table = pd.concat(blocks, ignore_index=True)
    if index is not None:
        table.index = pd.Index(index, name=getattr(index, "name", None) or "image_id")
    return table


def otsu_thresholds(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find Otsu's threshold of each image.

    Parameters
    ----------
    levels : ndarray of uint8, shape (n, height, width)

    Returns
    -------
    thresholds : ndarray of int, shape (n,)
        Pixels up to and with it are dark. The lowest of equally good ones; in an image of one
        level that level.
    separation : ndarray of float, shape (n,)
        Share of the variance between the two classes, 0 in an image of one level.
    """
    n = len(levels)
    flat = levels.reshape(n, -1)
    offset = flat + 256 * np.arange(n)[:, None]
    counts = np.bincount(offset.ravel(), minlength=256 * n).reshape(n, 256) / flat.shape[1]
    level = np.arange(256)
    below, mass = np.cumsum(counts, axis=1), np.cumsum(counts * level, axis=1)
    mean = mass[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean * below - mass) ** 2 / (below * (1 - below))
    # Rounding leaves below at 1 - 1e-16 past the last level, where the quotient means nothing.
    between = np.where((below > 1e-12) & (below < 1 - 1e-12), between, 0)
    variance = (counts * (level - mean) ** 2).sum(axis=1)
    best = between.max(axis=1)
    first = flat.min(axis=1).astype(int)
    thresholds = np.where(best > 0, between.argmax(axis=1), first)
    return thresholds, np.where(variance > 0, best / np.maximum(variance, 1e-300), 0)


def _block_statistics(pixels: np.ndarray) -> pd.DataFrame:
    """All statistics of a block of images."""
    colour = pixels.astype(np.float32) / 255
    light = colour @ _LUMINANCE
    red, green, blue = np.moveaxis(colour, 3, 0)
    highest = colour.max(axis=3)
    saturation = (highest - colour.min(axis=3)) / np.maximum(highest, 1 / 255)  # of black: 0
    opponents = {"redgreen": red - green, "yellowblue": (red + green) / 2 - blue}
    maps = {"red": red, "green": green, "blue": blue, "light": light, "saturation": saturation}
    columns: dict[str, np.ndarray] = {}
    for name, values in (maps | opponents).items():
        columns[f"{name}_mean"] = values.mean(axis=(1, 2), dtype=float)
        columns[f"{name}_sd"] = values.std(axis=(1, 2), dtype=float)
    spread = np.hypot(columns["redgreen_sd"], columns["yellowblue_sd"])
    shift = np.hypot(columns["redgreen_mean"], columns["yellowblue_mean"])
    columns["colourfulness"] = spread + 0.3 * shift
    levels = np.clip(np.rint(light * 255), 0, 255).astype(np.uint8)
    gradient = np.hypot(*np.gradient(light, axis=(1, 2)))
    columns |= _light_columns(light, levels) | _corner_columns(light)
    columns |= _edge_columns(light, gradient) | _dark_columns(light, levels, gradient)
    return pd.DataFrame(columns)


def _light_columns(light: np.ndarray, levels: np.ndarray) -> dict[str, np.ndarray]:
    flat = levels.reshape(len(levels), -1)
    quantiles = np.quantile(flat, [0.05, 0.5, 0.95], axis=1, method="lower") / 255
    columns = dict(zip(("light_p05", "light_p50", "light_p95"), quantiles, strict=True))
    centred = light - light.mean(axis=(1, 2), keepdims=True)
    deviation = centred.std(axis=(1, 2), dtype=float)
    third = (centred**3).mean(axis=(1, 2), dtype=float)
    # The deviation of a plain image is rounding; its skewness is 0, not what rounding makes of it.
    plain = deviation < 1e-5
    columns["light_skew"] = np.where(plain, 0, third / np.where(plain, 1, deviation) ** 3)
    return columns


def _corner_columns(light: np.ndarray) -> dict[str, np.ndarray]:
    size = light.shape[1]
    side = max(1, round(_CORNER * size))
    first, last = slice(0, side), slice(size - side, size)
    corners = np.stack([light[:, a, b] for a in (first, last) for b in (first, last)], axis=1)
    middle = slice(size // 4, size - size // 4)
    mean = corners.mean(axis=(1, 2, 3), dtype=float)
    return {
        "corner_light": mean,
        "corner_dark_share": (corners < 0.15).mean(axis=(1, 2, 3)),
        "corner_minus_centre": mean - light[:, middle, middle].mean(axis=(1, 2), dtype=float),
    }


def _edge_columns(light: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    inner = light[:, 1:-1, 1:-1]
    laplace = light[:, :-2, 1:-1] + light[:, 2:, 1:-1] + light[:, 1:-1, :-2] + light[:, 1:-1, 2:]
    return {
        "edge_mean": gradient.mean(axis=(1, 2), dtype=float),
        "edge_share": (gradient > _EDGE).mean(axis=(1, 2)),
        "laplace_sd": (laplace - 4 * inner).std(axis=(1, 2), dtype=float),
    }


def _dark_columns(light, levels, gradient) -> dict[str, np.ndarray]:
    """Statistics of the pixels below Otsu's threshold; in a plain image they are all zero."""
    thresholds, separation = otsu_thresholds(levels)
    dark = levels <= thresholds[:, None, None]
    share = dark.mean(axis=(1, 2))
    split = (share > 0) & (share < 1)
    count = np.maximum(dark.sum(axis=(1, 2)), 1)
    rest = np.maximum((~dark).sum(axis=(1, 2)), 1)
    contrast = (light * ~dark).sum(axis=(1, 2)) / rest - (light * dark).sum(axis=(1, 2)) / count
    place = (np.arange(light.shape[1]) + 0.5) / light.shape[1] - 0.5
    by_row, by_column = dark.sum(axis=2), dark.sum(axis=1)
    y, x = by_row @ place / count, by_column @ place / count
    spread = (by_row @ place**2 + by_column @ place**2) / count - x**2 - y**2
    border = np.zeros_like(dark)
    border[:, 1:] |= dark[:, 1:] ^ dark[:, :-1]
    border[:, :, 1:] |= dark[:, :, 1:] ^ dark[:, :, :-1]
    on_border = (gradient * border).sum(axis=(1, 2)) / np.maximum(border.sum(axis=(1, 2)), 1)
    return {
        "dark_share": share,
        "dark_contrast": np.where(split, contrast, 0),
        "dark_separation": separation,
        "dark_spread": np.sqrt(np.maximum(spread, 0)),
        "dark_offset": np.hypot(x, y),
        "dark_edge": on_border,
    }
