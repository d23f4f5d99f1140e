"""Reading image and mask files as arrays."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from iavlib.core.errors import DataError
from iavlib.data.schemas import IMAGE_SUFFIXES
from iavlib.masks.overlap import mask_stack

MAX_PIXELS = 10_000 * 10_000
#: Smallest side of a photograph that can show a lesion.
MIN_SIDE = 32

_GREY = ("1", "L", "I", "I;16", "I;16B", "F")
_COLOUR = ("LA", "RGB", "RGBA")
# raised by Pillow on truncated or damaged files
_UNREADABLE = (OSError, EOFError, IndexError, SyntaxError, TypeError, ValueError)
_UNREADABLE += (struct.error, zlib.error)
_ONE_CHANNEL = "save the mask with one channel, 0 outside and 255 inside"


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read an image as RGB.

    Parameters
    ----------
    path : str or pathlib.Path
    max_pixels : int
        A larger image is refused by its header, before memory is allocated.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        If the file is missing, no readable image, larger than ``max_pixels``, or has more than
        8 bits per channel.
    """
    with _open(path, max_pixels) as image:
        _check_depth(path, image)
        return np.asarray(image.convert("RGB"))


def read_mask(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a mask; every pixel above 0 belongs to the lesion, as in IMA++.

    Files of one bit, 0/1, 0/255, 16 bits, floating point, a palette, or several channels that
    are equal (any transparency must be fully opaque) read alike. A palette counts by its
    colours: black is outside, and at most one other colour may be in use unless all are greys.

    Parameters
    ----------
    path : str or pathlib.Path
    max_pixels : int
        A larger mask is refused by its header, before memory is allocated. Pillow has a limit of
        its own, ``PIL.Image.MAX_IMAGE_PIXELS``, about twice the one here.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Raises
    ------
    DataError
        If the file is missing, not a readable image, larger than ``max_pixels``, or not a mask:
        channels that differ, several colours, transparency, several pages, values that are NaN.
    """
    with _open(path, max_pixels) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(path, f"{image.n_frames} pages", "save one mask per file")
        image.load()
        if image.mode == "P":
            return _from_palette(path, image)
        if image.mode in _COLOUR:
            return _from_channels(path, image)
        if image.mode not in _GREY:
            raise DataError(path, f"colour mode {image.mode} is no mask", _ONE_CHANNEL)
        values = np.asarray(image)
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise DataError(path, f"{np.isnan(values).sum()} pixels are NaN", "write 0 outside")
        return values > 0


def read_photograph(path: str | Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read a photograph from any source, upright, as RGB of 8 bits.

    Stricter than :func:`read_image`, which reads the files of a known dataset: several frames, a
    side below :data:`MIN_SIDE` and printing colours (CMYK) are refused. Grey images are accepted,
    transparency is dropped, and the EXIF orientation is applied.

    Parameters
    ----------
    path : str or pathlib.Path
    max_pixels : int
        A larger image is refused by its header, before memory is allocated.

    Returns
    -------
    PIL.Image.Image
        In memory, of mode RGB.

    Raises
    ------
    DataError
        If the file is missing, no regular file, no readable image, or one of those refused.
    """
    if not os.path.isfile(path):
        # reading from a pipe of that name would never end
        problem = "no regular file" if os.path.lexists(path) else "the file is missing"
        raise DataError(path, problem, "put an image there or leave it out")
    with _open(path, max_pixels) as image:
        _check_photograph(path, image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)  # in place, to save the memory of a copy
        return image if image.mode == "RGB" else image.convert("RGB")


def _check_photograph(path, image: Image.Image) -> None:
    frames, mode, (width, height) = getattr(image, "n_frames", 1), image.mode, image.size
    if frames > 1 and image.format != "MPO":  # cameras put previews behind the photograph
        raise DataError(path, f"{frames} frames or pages", "save the intended one alone")
    if min(width, height) < MIN_SIDE:
        problem = f"{width} x {height} pixels are too few to show a lesion"
        raise DataError(path, problem, f"give a photograph of at least {MIN_SIDE} pixels per side")
    _check_depth(path, image)
    if mode not in ("1", "L", "P", "PA", *_COLOUR):
        hint = "convert it to RGB by its colour profile and save it again"
        raise DataError(path, f"colours of mode {mode}, not red, green and blue", hint)


def _check_depth(path, image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):  # Pillow would cut its values off at 255
        problem = f"a grey image of more than 8 bits (mode {image.mode})"
        raise DataError(path, problem, "save it with 8 bits per channel")


def image_size(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Read the width and height of an image or mask file without decoding it.

    Raises
    ------
    DataError
        If the file is missing, no readable image, or larger than ``max_pixels``.
    """
    with _open(path, max_pixels) as image:
        return image.size


def _from_palette(path, image: Image.Image) -> np.ndarray:
    indices = np.asarray(image)
    palette = np.zeros((256, 3), np.uint8)
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colours)] = colours
    used = palette[np.flatnonzero(np.bincount(indices.ravel(), minlength=256))]
    lit = np.unique(used[used.any(axis=1)], axis=0)
    if len(lit) > 1 and (lit != lit[:, :1]).any():
        raise DataError(path, f"a palette of {len(lit)} colours besides black", _ONE_CHANNEL)
    return palette.any(axis=1)[indices]


def _from_channels(path, image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if image.mode.endswith("A"):
        if (values[..., -1] != 255).any():
            raise DataError(path, "a mask with transparent pixels", _ONE_CHANNEL)
        values = values[..., :-1]
    first = values[..., 0]
    differ = (values[..., 1:] != first[..., None]).any(axis=-1)
    if differ.any():
        row, column = (int(place[0]) for place in np.nonzero(differ))
        n = np.count_nonzero(differ)
        problem = f"a picture, not a mask: its channels differ in {n:,} pixels"
        raise DataError(path, f"{problem}, first in row {row}, column {column}", _ONE_CHANNEL)
    return first > 0


@contextmanager
def _open(path: str | Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image of acceptable size; failures become a :class:`DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened as image:
            _check_header(path, image, max_pixels)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(path, "the file is missing", "put it there or correct the path") from None
    except Image.DecompressionBombError:  # raised before the size is known
        problem = f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels, too many for any image"
        raise DataError(path, problem, "replace it, or scale it down") from None
    except _UNREADABLE as error:
        raise DataError(path, f"no readable image ({error})", "replace or remove it") from None


def _check_header(path, image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        problem = f"{width:,} x {height:,} pixels are more than the limit of {max_pixels:,}"
        hint = "scale it down, or raise max_pixels if it is meant to be that large"
        raise DataError(path, problem, hint)
    stored = str(image.tile[0][3]) if image.tile else ""
    if image.mode in _COLOUR and ";16" in stored:
        raise DataError(path, "several channels of 16 bits", "save it with 8 bits per channel")


def image_paths(folder: Path) -> list[Path]:
    """List the image files of a folder by name; none where there is no such folder."""
    names = sorted(e.path for e in os.scandir(folder) if e.is_file()) if folder.is_dir() else []
    return [path for path in map(Path, names) if path.suffix.lower() in IMAGE_SUFFIXES]


def mask_paths(masks: pd.DataFrame) -> dict[str, dict[str, str | None]]:
    """Return the mask files of each image with at least two masks.

    Parameters
    ----------
    masks : pandas.DataFrame
        As ``Cohort.masks``.

    Returns
    -------
    dict
        Image id to (mask id to path, None where there is no file), in order of first appearance.
    """
    images: dict[str, dict[str, str | None]] = {}
    for image_id, mask_id, path in zip(masks["image_id"], masks.index, masks["path"], strict=True):
        there = pd.notna(path) and path != ""
        images.setdefault(str(image_id), {})[str(mask_id)] = str(path) if there else None
    return {image_id: paths for image_id, paths in images.items() if len(paths) > 1}


def read_stack(paths: dict[str, str | None], min_masks: int = 1) -> np.ndarray:
    """Read the mask files of one image and stack them.

    Parameters
    ----------
    paths : dict
        Mask id to path; None where there is no file.
    min_masks : int
        Smallest number of masks.

    Returns
    -------
    numpy.ndarray of bool, shape (n, height, width)

    Raises
    ------
    DataError
        Naming the mask and the file.
    """
    return mask_stack([read_file(*item) for item in paths.items()], list(paths), min_masks)


def read_file(mask_id: str, path: str | None) -> np.ndarray:
    """Read one mask file; any failure becomes a :class:`DataError`."""
    if path is None:
        raise DataError(mask_id, "there is no file", "put the file beside the others")
    try:
        return read_mask(path)
    except DataError:
        raise
    except Exception as error:  # a decoder may raise anything for a damaged file
        problem = f"no readable mask ({type(error).__name__}: {error})"
        raise DataError(path, problem, "replace or remove it") from error
