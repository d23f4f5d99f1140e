"""Small pictures for a report: the photograph, what is hot laid over it, outlines of masks."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from contourpy import contour_generator
from PIL import Image

from iavlib.explain import displayed
from iavlib.plots.style import CYCLE

#: The longer side of a picture, in pixels.
SIDE = 320
_QUALITY = 80
#: From nothing to most: the photograph shows through where there is nothing.
_LEVELS = np.linspace(0, 1, 5)
_RED, _GREEN, _BLUE = (40, 126, 200, 245, 255), (20, 40, 65, 145, 245), (90, 130, 90, 40, 120)
_OPACITY = (0.0, 0.25, 0.55, 0.65, 0.7)


def small(photograph: Image.Image, side: int = SIDE) -> Image.Image:
    """Scale a photograph so that its longer side is `side` pixels, keeping its shape."""
    scale = side / max(photograph.size)
    size = [max(1, round(length * scale)) for length in photograph.size]
    return photograph.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def heated(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Lay a map over a picture.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB.
    heat : numpy.ndarray of float, shape (h, w)
        Not negative. It covers the whole picture, whatever its shape, and is scaled by its own
        range: the colours of two pictures cannot be compared.
    """
    own = displayed(np.asarray(heat, np.float32)[None])[0]
    own = np.asarray(Image.fromarray(own).resize(picture.size, Image.Resampling.BILINEAR))
    colour = np.stack([np.interp(own, _LEVELS, one) for one in (_RED, _GREEN, _BLUE)], axis=2)
    share = np.interp(own, _LEVELS, _OPACITY)[..., None]
    mixed = (1 - share) * np.asarray(picture, float) + share * colour
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    """Encode a picture; what the camera wrote about itself is left out."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    """Make the address of a JPEG that holds the picture itself."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()


def outline_paths(masks: Sequence[np.ndarray], size: tuple[int, int]) -> list[tuple[str, str]]:
    """Trace masks as they lie on a picture.

    Parameters
    ----------
    masks : sequence of numpy.ndarray of bool, shape (h, w)
        Of any size; each covers the whole picture.
    size : pair of int
        Width and height of the picture in pixels.

    Returns
    -------
    list of (str, str)
        Of each mask its colour and the path of its outlines in SVG, in pixels of the picture;
        empty for an empty mask.
    """
    return [(CYCLE[i % len(CYCLE)], _path(mask, size)) for i, mask in enumerate(masks)]


def _path(mask: np.ndarray, size: tuple[int, int]) -> str:
    shown = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    inside = np.pad(np.asarray(shown, float) / 255, 1)  # closed at the border of the picture too
    lines = contour_generator(z=inside).lines(0.5)
    pieces = []
    for line in lines:
        points = (f"{x - 0.5:.1f} {y - 0.5:.1f}" for x, y in line)
        pieces.append("M" + "L".join(points) + "Z")
    return "".join(pieces)
