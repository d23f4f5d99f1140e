"""Reading image and mask files as arrays."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from iavlib.data.errors import DataError


def read_image(path: str | Path) -> np.ndarray:
    """Read an image as RGB.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)

    Raises
    ------
    DataError
        If the file is missing or no readable image.
    """
    with _open(path) as image:
        return np.asarray(image.convert("RGB"))


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask; every pixel above 0 belongs to the lesion, as in IMA++.

    Returns
    -------
    numpy.ndarray of bool, shape (height, width)

    Raises
    ------
    DataError
        If the file is missing or no readable image.
    """
    with _open(path) as image:
        grey = image if image.mode in ("1", "L", "I", "I;16", "F") else image.convert("L")
        return np.asarray(grey) > 0


def image_size(path: str | Path) -> tuple[int, int]:
    """Read the width and height of an image or mask file without decoding it.

    Raises
    ------
    DataError
        If the file is missing or no readable image.
    """
    with _open(path, decode=False) as image:
        return image.size


def _open(path: str | Path, decode: bool = True) -> Image.Image:
    try:
        image = Image.open(path)
        if decode:
            image.load()
    except FileNotFoundError:
        raise DataError(path, "the file is missing", "put it there or correct the path") from None
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(path, f"no readable image ({error})", "replace or remove it") from None
    return image
