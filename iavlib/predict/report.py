"""The report: one HTML file that opens from the disk and loads nothing from anywhere.

Small pictures for a report: the photograph, what is hot laid over it, outlines of masks.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from contourpy import contour_generator
from PIL import Image

from iavlib.explain.cam import LOWERS, MALIGNANT, RAISES, displayed

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
    from iavlib.plots.style import CYCLE  # loads matplotlib, whose cache must lie in the output

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


STATEMENT = (
    "Research software, no medical device. Nothing on this page is a diagnosis or fit to base "
    "one, or any decision about a person, on. It has not been tested on the patients, cameras and "
    "skin types of any clinic."
)
#: Columns of the table by which it can be sorted: key, heading.
_COLUMNS = (
    ("name", "Image"),
    ("dice", "Predicted Dice"),
    ("probability", "Malignancy probability"),
    ("familiarity", "Like the training images (p)"),
)
#: Only this page's own style and script, and pictures that it holds itself.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_DIALOG = (
    '<dialog aria-label="One image"><div class="content"></div>'
    '<p><button class="close" autofocus>Close</button></p></dialog>'
)

_SPEAKS = {LOWERS: "lowers agreement", RAISES: "raises agreement", MALIGNANT: "looks malignant"}

Row = Mapping[str, Any]


class PictureStore(AbstractContextManager):
    """Pictures of rows on the disk until the page is written, so that memory does not grow.

    Parameters
    ----------
    path : Path
        A file of its own, removed at the end.
    """

    def __init__(self, path: Path):
        self._path, self._places = path, {}
        self._file = path.open("w+b")

    def __exit__(self, *_) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def keep(self, number: int, content: str) -> None:
        """Keep the HTML with the pictures of a row."""
        encoded = content.encode()
        place = self._file.seek(0, os.SEEK_END)
        self._file.write(encoded)
        self._places[number] = (place, len(encoded))

    def read(self, number: int) -> str:
        """Give what was kept of a row; nothing where nothing was."""
        place, length = self._places.get(number, (0, 0))
        self._file.seek(place)
        return self._file.read(length).decode()


def picture_cells(
    name: str,
    photograph: bytes,
    size: tuple[int, int],
    heats: Mapping[str, bytes],
    outlines: Sequence[tuple[str, str, str]],
    nothing: Sequence[str] = (),
) -> str:
    """Write a row's thumbnail, and what is seen when the row is clicked.

    Parameters
    ----------
    name : str
        Of the image.
    photograph : bytes
        A JPEG.
    size : pair of int
        Its width and height.
    heats : mapping of str to bytes
        What is explained, such as "lowers agreement", to a JPEG of that size.
    outlines : sequence of (str, str, str)
        Annotator, colour and path in SVG.
    nothing : sequence of str
        What was to be explained and has an empty map.
    """
    shown = html.escape(name)
    layers, boxes = [], []
    for number, (what, content) in enumerate(heats.items()):
        checked = "checked" if number == 0 else ""
        layers.append(
            f'<img class="heat heat{number}" alt="Where the network looks: {html.escape(what)}" '
            f'src="{data_uri(content)}">'
        )
        boxes.append(
            f'<label><input type="checkbox" value="heat{number}" data-group="heat" {checked}> '
            f"heat map: {html.escape(what)}</label>"
        )
    boxes += [f"<p>No heat map: nothing here {_SPEAKS[what]}.</p>" for what in nothing]
    if outlines:
        layers.append(_drawing(size, outlines))
        boxes.append(
            '<label><input type="checkbox" value="outlines" checked> outlines: '
            + ", ".join(
                f'<span style="color:{colour}">{html.escape(who)}</span>'
                for who, colour, _ in outlines
            )
            + "</label>"
        )
    source = data_uri(photograph)
    return (
        f'<img alt="{shown}" src="{source}"><template><h2 class="name">{shown}</h2>'
        f'<div class="stage"><img alt="{shown}" src="{source}">{"".join(layers)}</div>'
        f"<div>{''.join(boxes)}</div></template>"
    )


def _drawing(size: tuple[int, int], outlines: Sequence[tuple[str, str, str]]) -> str:
    paths = "".join(
        f'<path stroke="{colour}" d="{path}"><title>{html.escape(who)}</title></path>'
        for who, colour, path in outlines
    )
    view = f'viewBox="0 0 {size[0]} {size[1]}" preserveAspectRatio="none"'
    return f'<svg class="outlines" role="img" aria-label="outlines of masks" {view}>{paths}</svg>'


def write_report(
    path: Path,
    rows: Sequence[Row],
    pictures: PictureStore,
    about: Mapping[str, Any],
    embedded: int,
) -> None:
    """Write the page, the least predicted agreement first and failures last.

    Parameters
    ----------
    path : Path
    rows : sequence of mapping
        As of ``predictions.csv``.
    pictures : PictureStore
        By the number of the row.
    about : mapping
        See :func:`iavlib.predict.run.predict_images`.
    embedded : int
        Rows that get their pictures; a page with many thousands opens in no browser.
    """
    order = sorted(range(len(rows)), key=lambda number: _rank(rows[number]))
    key = "dice" if about["agreement"] else "probability"
    direction = "ascending" if about["agreement"] else "descending"
    heads = "".join(
        f'<th scope="col" data-key="{name}"'
        + (f' aria-sort="{direction}"' if name == key else "")
        + f"><button>{heading}</button></th>"
        for name, heading in _COLUMNS
    )
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>Predicted agreement</title><style>{_resource('report.css')}</style></head>"
            f"<body>{_introduction(about, len(rows), embedded)}"
            '<div class="scroll"><table id="images"><thead><tr><th scope="col">Picture</th>'
            f'{heads}<th scope="col">Notes</th></tr></thead><tbody>\n'
        )
        for place, number in enumerate(order):
            file.write(_row(rows[number], pictures.read(number) if place < embedded else ""))
        script = _resource("report.js")
        file.write(f"</tbody></table></div>{_DIALOG}<script>{script}</script></body></html>\n")


def _rank(row: Row) -> tuple:
    """Failures last; the least agreement, or without it the greatest probability, first."""
    if row["status"] == "failed":
        return (2, 0.0)
    if row["predicted_dice"] is not None:
        return (0, row["predicted_dice"])
    return (1, -row["malignancy_probability"])


def _row(row: Row, pictures: str) -> str:
    name = html.escape(row["image"])
    if row["status"] == "failed":
        told = html.escape(f"{row['problem']}; {row['hint']}")
        empty = "<td></td>" * 3
        return (
            f'<tr class="failed" data-name="{name}"><td></td><td class="name">{name}</td>'
            f"{empty}<td>not predicted: {told}</td></tr>\n"
        )
    dice = _number(row["predicted_dice"])
    if dice and row["dice_low"] is not None:
        dice += f" ({row['dice_low']:.2f} to {row['dice_high']:.2f})"
    familiar = _number(row["distance_p"])
    if row["out_of_distribution"] == "yes":
        familiar = f'<span class="ood">out of distribution ({familiar})</span>'
    data = {"name": row["image"], "dice": row["predicted_dice"]}
    data |= {"probability": row["malignancy_probability"], "familiarity": row["distance_p"]}
    attributes = "".join(
        f' data-{key}="{html.escape(str(value))}"'
        for key, value in data.items()
        if value is not None
    )
    opens = ' tabindex="0"' if pictures else ""
    cells = (dice, _number(row["malignancy_probability"]), familiar or "unknown")
    return (
        f'<tr{attributes}{opens}><td>{pictures}</td><td class="name">{name}</td>'
        + "".join(f"<td>{cell}</td>" for cell in cells)
        + f"<td>{html.escape(row['notes'])}</td></tr>\n"
    )


def _introduction(about: Mapping[str, Any], n: int, embedded: int) -> str:
    failed = about["failed"]
    told = [f"{n - failed:,} images predicted, {failed:,} not."]
    if about["agreement"]:
        told.append(
            "Predicted Dice is how well two people's outlines of the lesion are expected to "
            "agree (mean pairwise Dice). The table is sorted by predicted disagreement, the "
            "greatest first; click a heading to sort by it, click an image for its heat map "
            "and outlines."
        )
    if n > embedded:
        told.append(f"The first {embedded:,} have their pictures here.")
    warnings = "".join(f"<p><strong>{html.escape(w)}</strong></p>" for w in about["warnings"])
    facts = "".join(f"<li>{html.escape(fact)}</li>" for fact in about["facts"])
    return (
        f"<h1>Predicted agreement of annotators</h1>"
        f'<div class="warn" role="note"><p><strong>{STATEMENT}</strong></p>{warnings}</div>'
        f"<p>{' '.join(told)}</p><details><summary>How these numbers were made</summary>"
        f"<ul>{facts}</ul></details>"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _resource(name: str) -> str:
    return files("iavlib.predict").joinpath(name).read_text(encoding="utf-8")
