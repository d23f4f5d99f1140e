"""What a trained network must beat: a ridge regression on some thirty statistics of the pixels.

Colour, contrast, sharpness and dark area need no learning. A network that predicts agreement no
better than these has learnt no more than that some images are dark, pale or blurred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from skimage.filters import threshold_otsu
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from iavlib.stats.samples import check_aligned, cluster_codes, finite_values

#: Images processed at a time; one block of 224 pixels takes some 60 MB.
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
        Pixels up to and including it are dark; in an image of one level that level.
    separation : ndarray of float, shape (n,)
        Share of the variance between the two classes, 0 in an image of one level.
    """
    thresholds = np.array([threshold_otsu(image) for image in levels])
    flat = levels.reshape(len(levels), -1).astype(float)
    dark = flat <= thresholds[:, None]
    share = dark.mean(axis=1)
    gap = flat.mean(axis=1) - (flat * dark).mean(axis=1) / share
    variance = flat.var(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = gap**2 * share / (1 - share)
        return thresholds, np.where(variance > 0, between / variance, 0)


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
    # The deviation of a plain image is rounding; its skewness is 0, not the result of rounding.
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
    bright = np.maximum((~dark).sum(axis=(1, 2)), 1)
    contrast = (light * ~dark).sum(axis=(1, 2)) / bright - (light * dark).sum(axis=(1, 2)) / count
    offset = (np.arange(light.shape[1]) + 0.5) / light.shape[1] - 0.5
    by_row, by_column = dark.sum(axis=2), dark.sum(axis=1)
    y, x = by_row @ offset / count, by_column @ offset / count
    spread = (by_row @ offset**2 + by_column @ offset**2) / count - x**2 - y**2
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


#: Penalties tried for standardised features, weakest first.
RIDGE_PENALTIES = tuple(float(10**power) for power in np.arange(-2, 5.5, 0.5))

_FOLDS = 5


@dataclass(frozen=True, eq=False)
class StatisticsBaseline:
    """A ridge regression on standardised features, fitted by :func:`fit_statistics_baseline`.

    Attributes
    ----------
    penalty : float
        The one chosen.
    errors : Series
        Cross-validated mean absolute error of each penalty tried; empty when one was given.
    features : tuple of str
        Names of the features, in their order.
    model : sklearn.pipeline.Pipeline
    """

    penalty: float
    errors: pd.Series
    features: tuple[str, ...]
    model: Pipeline = field(repr=False)

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """Predict each row, clipped to 0 and 1.

        Raises
        ------
        KeyError
            When a feature is missing.
        ValueError
            When one is not finite.
        """
        return np.clip(self.model.predict(_matrix(features, self.features)), 0, 1)


def fit_statistics_baseline(
    features: pd.DataFrame,
    true: ArrayLike,
    clusters: ArrayLike | None = None,
    penalties: Sequence[float] = RIDGE_PENALTIES,
) -> StatisticsBaseline:
    """Fit a ridge regression on a table of features, its penalty chosen by cross-validation.

    Parameters
    ----------
    features : DataFrame, shape (n, k)
        One row per image of the training split, for instance from :func:`image_statistics`.
    true : array_like of float, shape (n,)
        From 0 to 1.
    clusters : array_like, shape (n,), optional
        Patients, whose rows stay in one fold; without it each row by itself.
    penalties : sequence of float
        The one with the least mean absolute error over five folds (fewer with fewer clusters) is
        taken, the strongest among equals. With a single one nothing is cross-validated.

    Returns
    -------
    StatisticsBaseline

    Raises
    ------
    ValueError
        When rows do not fit each other, a value is not finite, a penalty is not positive, or
        there are fewer than two clusters to choose among several penalties.
    """
    check_aligned(features=features, true=true, clusters=clusters)
    names = tuple(map(str, features.columns))
    matrix, target = _matrix(features, names), finite_values(true, "true values")
    if len(target) != len(matrix):
        raise ValueError(f"{len(matrix)} rows of features but {len(target)} true values")
    if not len(penalties) or min(penalties) <= 0:
        raise ValueError(f"penalties must be positive numbers, one at least, not {penalties}")
    codes, n_clusters = cluster_codes(clusters, len(target))
    errors = pd.Series(dtype=float, name="mae")
    if len(penalties) > 1:
        if n_clusters < 2:
            raise ValueError("one cluster only: give a single penalty, or more patients")
        folds = GroupKFold(min(_FOLDS, n_clusters))
        for penalty in sorted(penalties):
            guess = cross_val_predict(_ridge(penalty), matrix, target, groups=codes, cv=folds)
            errors[penalty] = np.abs(np.clip(guess, 0, 1) - target).mean()
    penalty = float(errors.iloc[::-1].idxmin()) if len(errors) else float(penalties[0])
    return StatisticsBaseline(penalty, errors, names, _ridge(penalty).fit(matrix, target))


def _ridge(penalty: float) -> Pipeline:
    """Standardise on the training rows, then ridge; constant features do no harm."""
    return make_pipeline(StandardScaler(), Ridge(alpha=penalty))


def _matrix(features: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Return the named features as an array; none may be missing or not finite."""
    table = features.rename(columns=str)
    absent = [name for name in names if name not in table]
    if absent:
        raise KeyError(f"no feature {', '.join(absent)} in the table")
    matrix = table[list(names)].to_numpy(dtype=float)
    row, column = next(zip(*np.nonzero(~np.isfinite(matrix)), strict=True), (None, None))
    if row is not None:
        raise ValueError(
            f"feature {names[column]!r} of row {table.index[row]!r} is NaN or infinite: leave the "
            "image out, or correct the feature"
        )
    return matrix
