"""Photographs with the outlines of their annotators, each of which can be switched off.

The pictures work without a script: in JupyterLab, in the book, and in a file that is opened alone.
"""

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from iavlib.data.images import jpeg, outline_path
from iavlib.plots.style import CYCLE

#: Longer side of a photograph, in pixels.
_SIDE = 360
_STYLE = """
.iav-outlines{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:1rem}
.iav-outlines figure{margin:0}
.iav-outlines svg{width:100%;height:auto;border-radius:.4rem}
.iav-outlines path{fill:none;stroke-width:2;filter:drop-shadow(0 0 1px #000)}
.iav-outlines label{display:block;margin:0}
.iav-outlines i{display:inline-block;width:1em;height:.3em}
"""


class Outlines:
    """Pictures with a box per annotator that shows or hides the outline; see :func:`outlines`."""

    def __init__(self, pictures: Sequence[Mapping[str, Any]], caption: str) -> None:
        self.pictures, self.caption = list(pictures), caption.strip()
        if not self.caption:
            raise ValueError("pictures need a caption: give caption=")

    def _repr_html_(self) -> str:
        most = max((len(picture["masks"]) for picture in self.pictures), default=0)
        hidden = (
            f".iav-outlines figure:not(:has(.b{n}:checked)) .o{n}{{display:none}}"
            for n in range(most)
        )
        shown = "".join(map(_picture, self.pictures)) or "<p>No image files are present.</p>"
        return (
            f'<figure class="iav-figure"><style>{_STYLE}{"".join(hidden)}</style>'
            f'<div class="iav-outlines">{shown}</div>'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"Pictures: {self.caption}"


def _picture(picture: Mapping[str, Any]) -> str:
    width, height = picture.get("size", picture["image"].shape[1::-1])
    size = tuple(max(1, round(_SIDE * side / max(width, height))) for side in (width, height))
    photograph = Image.fromarray(picture["image"]).resize(size, Image.Resampling.LANCZOS)
    source = base64.b64encode(jpeg(photograph)).decode()
    lines, boxes = [], []
    for n, (name, mask) in enumerate(picture["masks"].items()):
        path, colour, name = outline_path(mask, size), CYCLE[n % len(CYCLE)], html.escape(name)
        lines.append(
            f'<path class="o{n}" d="{path}" stroke="{colour}"><title>{name}</title></path>'
        )
        boxes.append(
            f'<label><input type="checkbox" class="b{n}" checked> '
            f'<i style="background:{colour}"></i> {name}</label>'
        )
    first, *rest = html.escape(picture["title"]).split("\n")
    title = "<br>".join([f"<strong>{first}</strong>", *rest])
    return (
        f'<figure><svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{first} with '
        f'{len(lines)} outlines"><image href="data:image/jpeg;base64,{source}" width="{size[0]}" '
        f'height="{size[1]}"/>{"".join(lines)}</svg><div>{title}{"".join(boxes)}</div></figure>'
    )


def outlines(pictures: Sequence[Mapping[str, Any]], caption: str) -> Outlines:
    """Show photographs with one outline per mask, which a box below the picture shows or hides.

    :func:`iavlib.plots.outlines` draws the same as a figure that can be saved.

    Parameters
    ----------
    pictures : sequence of mapping
        As :func:`iavlib.data.cohort.pictures` returns them: ``image`` (uint8 array of shape
        (height, width, 3)), ``masks`` (label to array of shape (height, width), of any resolution),
        ``title``, and optionally ``size``, width and height to which both are stretched.
    caption : str
        What is shown, in a sentence or two; plain text.

    Returns
    -------
    Outlines
        As the last value of a cell, or given to ``display``, it shows itself. Without any picture
        it says that no image file is present.

    Raises
    ------
    ValueError
        If the caption is empty.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib import book
    >>> mask = np.zeros((8, 8), bool)
    >>> mask[2:6, 2:6] = True
    >>> picture = {"image": np.zeros((8, 8, 3), np.uint8), "masks": {"A1": mask}, "title": "ISIC_1"}
    >>> book.outlines([picture], "A square lesion.")
    Pictures: A square lesion.
    """
    return Outlines(pictures, caption)
