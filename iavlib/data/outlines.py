"""Disc and cup from outlines that were drawn into a copy of the picture.

RIGA publishes no masks: each ophthalmologist's file is the fundus picture with two closed lines in
it. The lines are where the copy differs from the picture; what they enclose are cup and rim.
"""

import numpy as np
from scipy import ndimage

from iavlib.data.errors import DataError

RIM, CUP = 128, 255
#: A pixel belongs to a line where it differs by this share of the largest difference …
LINE_SHARE = 0.4
#: … which must be at least so many grey levels: compression alone differs by less.
LINE_CONTRAST = 40
#: Gaps in a line are closed, of up to about twice this many pixels, and no further than needed:
#: closing fills a narrow rim as well.
CLOSING = 3
#: An enclosed area below this share of the disc is a loop of the pen, not the cup.
SMALLEST_CUP = 0.02
_MEND = "draw two closed lines that do not touch, or leave the file away"


def labels_from_outlines(picture: np.ndarray, drawn: np.ndarray, where="outlines") -> np.ndarray:
    """Read the rim and the cup of an optic disc off the lines drawn around disc and cup.

    Half of each line's width belongs to either side. Of the areas that the lines enclose, the cup
    is the one that holds the point deepest in the disc.

    Parameters
    ----------
    picture, drawn : numpy.ndarray of uint8, shape (height, width, 3)
        Without and with the lines.
    where : str or path
        What to name in errors.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width)
        128 in the rim (disc without cup), 255 in the cup, otherwise 0.

    Raises
    ------
    DataError
        If sizes differ, no line is found, or the lines do not enclose a disc with a cup in it.
    """
    if picture.shape != drawn.shape:
        told = f"{drawn.shape[1]}x{drawn.shape[0]} pixels, the picture has "
        told += f"{picture.shape[1]}x{picture.shape[0]}"
        raise DataError(where, told, "replace the one that was resized")
    line = _line(picture, drawn, where)
    rows, columns = ndimage.find_objects(line.astype(np.uint8))[0]
    margin = 2 * CLOSING + 1
    box = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in (rows, columns))
    labels = np.zeros(line.shape, np.uint8)
    labels[box] = _areas(np.pad(line[box], margin), where)[margin:-margin, margin:-margin]
    return labels


def _line(picture: np.ndarray, drawn: np.ndarray, where) -> np.ndarray:
    difference = np.abs(picture.astype(np.int16) - drawn).max(axis=2)
    if difference.max() < LINE_CONTRAST:
        told = f"nothing drawn: it differs from the picture by {difference.max()} grey levels"
        raise DataError(where, f"{told} at most", _MEND)
    return difference >= LINE_SHARE * difference.max()


def _areas(line: np.ndarray, where) -> np.ndarray:
    """Tell rim and cup apart in a box around the lines, with a margin of background."""
    for closing in range(CLOSING + 1):
        disc, pieces, areas = _enclosed(line, closing)
        if np.count_nonzero(areas) >= 2:
            break
    else:
        told = f"the lines enclose {np.count_nonzero(areas)} areas, not a rim and a cup"
        raise DataError(where, told, _MEND)
    depth = ndimage.distance_transform_edt(disc)
    deepest = np.where(areas[pieces] > 0, depth, 0).argmax()
    cup = pieces == pieces.flat[deepest]
    # Half a line's width, from the mean distance of its pixels to its edge, a quarter of it.
    half = max(2 * (ndimage.distance_transform_edt(line)[line].mean() - 0.5), 0.5)
    inside = depth > half
    within_cup = inside & (ndimage.distance_transform_edt(~cup) <= half)
    return np.where(within_cup, CUP, np.where(inside, RIM, 0)).astype(np.uint8)


def _enclosed(line: np.ndarray, closing: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Close gaps; return what the lines enclose, its pieces by number, and their areas.

    Loops of the pen have area 0.
    """
    if closing:
        line = ndimage.binary_closing(line, np.ones((3, 3)), iterations=closing)
    disc = ndimage.binary_fill_holes(line)
    pieces, n = ndimage.label(disc & ~line)
    areas = np.bincount(pieces.ravel(), minlength=n + 1)
    areas[0] = 0
    areas[areas < SMALLEST_CUP * disc.sum()] = 0
    return disc, pieces, areas
