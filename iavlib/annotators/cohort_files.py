"""Reading one picture of a cohort with its annotators' masks, all of one size in the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.annotators.errors import LabelError
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_size, read_image, read_mask


@dataclass(frozen=True)
class LabelValues:
    """Which grey value of a mask file means which class.

    Attributes
    ----------
    greys : tuple of int
        Of the classes 1, 2 …; empty where every value above 0 is the one class.
    structures : mapping of str to tuple of int
        Classes that make up each structure.
    """

    greys: tuple[int, ...]
    structures: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, cohort: Cohort) -> "LabelValues":
        """Read them from the cohort's table ``classes``; without one, masks are binary.

        The table's index names the classes; ``grey`` is their value in mask files, and
        ``structures`` names, separated by spaces, what each is part of.
        """
        table = cohort.extras.get("classes", pd.DataFrame({"grey": [], "structures": []}))
        structures: dict[str, list[int]] = {}
        for number, names in enumerate(table["structures"], start=1):
            for name in names.split():
                structures.setdefault(name, []).append(number)
        greys = tuple(int(grey) for grey in table["grey"])
        return cls(greys, {name: tuple(classes) for name, classes in structures.items()})

    @property
    def n_classes(self) -> int:
        """Number of classes, with the background."""
        return max(len(self.greys), 1) + 1


def read_picture(path: str, size: tuple[int, int]) -> np.ndarray:
    """Read an image and squash it to a size (height, width), averaging: uint8, (h, w, 3)."""
    height, width = size
    picture = Image.fromarray(read_image(path))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def read_labels(path: str, size: tuple[int, int], values: LabelValues) -> np.ndarray:
    """Read a mask and squash it to a size by nearest neighbour.

    Returns
    -------
    numpy.ndarray of int8, shape (height, width)

    Raises
    ------
    DataError
        If the file is no mask.
    LabelError
        If it holds values that stand for no class.
    """
    height, width = size
    labels = read_mask(path).astype(np.int8) if not values.greys else _classes(path, values)
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def check_sizes(image_id: str, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise where the masks of one picture differ in size.

    Raises
    ------
    LabelError
        Naming the first two files that differ.
    """
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            told = " and ".join(f"{n} {sizes[n][0]}x{sizes[n][1]}" for n in (first, name))
            raise LabelError(
                f"picture {image_id!r}",
                f"its masks have different sizes: {told}",
                "replace the one that has not the picture's size",
            )


def fits(picture: tuple[int, int], mask: tuple[int, int], geometry: str) -> bool:
    """Tell whether masks lie over a picture once both are squashed to one size.

    Parameters
    ----------
    picture, mask : tuple of int
        Width and height of the files.
    geometry : {"original", "squashed", "cropped"}
        How the picture's file relates to the published pixels. A squashed one shows all of them;
        any other must have the size of its masks, or their shape to within a pixel.
    """
    if geometry == "squashed" or picture == mask:
        return True
    if geometry == "cropped":
        return False
    return abs(picture[0] * mask[1] - picture[1] * mask[0]) <= max(*picture, *mask)


def mask_sizes(paths: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Read the width and height of mask files, by the file's name."""
    return {Path(path).name: image_size(path) for path in paths.values()}


def _classes(path: str, values: LabelValues) -> np.ndarray:
    # A file with several classes: its greys count as they are, so only plain grey files do.
    grey = read_image(path)[..., 0]
    labels = np.zeros(grey.shape, np.int8)
    for number, value in enumerate(values.greys, start=1):
        labels[grey == value] = number
    if unknown := sorted(set(np.unique(grey[labels == 0]).tolist()) - {0}):
        raise LabelError(
            path,
            f"values {unknown[:5]} stand for no class; declared are {[0, *values.greys]}",
            "write one of these values in each pixel, without smoothing or JPEG",
        )
    return labels
