"""The report of ``iav predict``: one HTML file that opens from the disk without network access."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from iavlib.core.files import data_uri, load_template
from iavlib.explain.attribution import displayed

STATEMENT = (
    "Research software, no medical device. Nothing on this page is a diagnosis, and no decision "
    "about a person may be based on it. It has not been tested on the patients, cameras and skin "
    "types of any clinic."
)
#: The longer side of a picture in the report, in pixels.
SIDE = 320
#: Colours of a heat map at these levels; the photograph is visible where there is no heat.
_LEVELS = np.linspace(0, 1, 5)
_RGB = (40, 126, 200, 245, 255), (20, 40, 65, 145, 245), (90, 130, 90, 40, 120)
_OPACITY = (0.0, 0.25, 0.55, 0.65, 0.7)

Row = Mapping[str, Any]


def thumbnail(photograph: Image.Image) -> Image.Image:
    """Scale a photograph so that its longer side is :data:`SIDE`, keeping its aspect ratio."""
    scale = SIDE / max(photograph.size)
    size = [max(1, round(length * scale)) for length in photograph.size]
    return photograph.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def overlay_heat(picture: Image.Image, heat: np.ndarray) -> Image.Image:
    """Draw a heat map on a picture.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB.
    heat : numpy.ndarray of float, shape (h, w)
        Not negative, of any shape; it covers the whole picture. It is scaled by its own range,
        so that the colours of two pictures cannot be compared.
    """
    scaled = displayed(np.asarray(heat, np.float32)[None])[0]
    scaled = np.asarray(Image.fromarray(scaled).resize(picture.size, Image.Resampling.BILINEAR))
    colour = np.stack([np.interp(scaled, _LEVELS, channel) for channel in _RGB], axis=2)
    opacity = np.interp(scaled, _LEVELS, _OPACITY)[..., None]
    mixed = (1 - opacity) * np.asarray(picture, float) + opacity * colour
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def picture_cell(
    name: str,
    photograph: bytes,
    size: tuple[int, int],
    heats: Mapping[str, bytes],
    outlines: Sequence[tuple[str, str]],
    empty: Sequence[str] = (),
) -> str:
    """Render the thumbnail of an image, and the dialog that opens when its row is clicked.

    Parameters
    ----------
    name : str
        Name of the image.
    photograph : bytes
        A JPEG.
    size : pair of int
        Its width and height.
    heats : mapping of str to bytes
        Target of an explanation, such as "lowers agreement", to a JPEG of that size.
    outlines : sequence of (str, str)
        Annotator and SVG path of each mask.
    empty : sequence of str
        Targets whose heat map is empty.
    """
    from iavlib.plots.style import CYCLE  # loads matplotlib, whose cache must lie in the output

    drawn = [
        (annotator, CYCLE[i % len(CYCLE)], path) for i, (annotator, path) in enumerate(outlines)
    ]
    macros = load_template("iavlib.predict", "picture.html", data_uri=data_uri).module
    return str(macros.cell(name, data_uri(photograph), size, heats, drawn, empty))


def summarise(rows: Sequence[Row], about: Mapping[str, Any]) -> list[str]:
    """Sum up predictions in lines: how many, of what kind, and why the others are missing."""
    texts = ([row[name] for row in rows if row[name]] for name in ("problem", "notes"))
    problems, notes = (Counter(some).most_common() for some in texts)
    template = load_template("iavlib.predict", "summary.txt")
    return template.render(rows=rows, about=about, problems=problems, notes=notes).splitlines()


def write_report(
    path: Path, rows: Sequence[Row], pictures: Path, about: Mapping[str, Any], embedded: int
) -> None:
    """Write the report, sorted by lowest predicted agreement, with failures last.

    Parameters
    ----------
    path : Path
        The file to write.
    rows : sequence of mapping
        As of ``predictions.csv``.
    pictures : Path
        Folder with the results of :func:`picture_cell`, named by the number of the row.
    about : mapping
        As of ``about.json``.
    embedded : int
        Number of rows with pictures; browsers cannot open a page with many thousands.
    """
    order = sorted(range(len(rows)), key=lambda number: _rank(rows[number]))

    def read_cell(place: int, number: int) -> str:
        file = pictures / f"{number}.html"
        return file.read_text("utf-8") if place < embedded and file.is_file() else ""

    template = load_template("iavlib.predict", "report.html")
    page = template.stream(
        rows=((rows[number], read_cell(place, number)) for place, number in enumerate(order)),
        n=len(rows),
        about=about,
        statement=STATEMENT,
        embedded=embedded,
    )
    with path.open("w", encoding="utf-8", newline="\n") as file:
        page.dump(file)


def _rank(row: Row) -> tuple:
    """Failures last; the least agreement, or without it the greatest probability, first."""
    dice, probability = row["predicted_dice"], row["malignancy_probability"]
    return (row["status"] == "failed", dice is None, dice or 0.0, -(probability or 0.0))
