"""What notebooks show beside tables and text: the data banner, the summary box, captioned figures.

Everything is an ordinary IPython display, so that JupyterLab and the book show the same.
"""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure as MplFigure

#: Class that marks the banner of synthetic data; the book's build looks for it.
SYNTHETIC_CLASS = "iav-synthetic"


@dataclass(frozen=True, repr=False)
class Banner:
    """A notice of the data a page is computed on, shown as HTML or as text.

    Parameters
    ----------
    name : str
        Name of the cohort.
    synthetic : bool
        Whether its images are invented.
    n_images, n_masks : int
        How many of each it holds.
    citation : str
        How to cite it.
    stored : str
        What the results shown were computed from, where they are stored ones.
    """

    name: str
    synthetic: bool
    n_images: int
    n_masks: int
    citation: str
    stored: str = ""

    @property
    def title(self) -> str:
        """First line of the notice."""
        if self.stored:
            return "Stored results; live parts on synthetic data"
        return "Computed on synthetic data" if self.synthetic else f"Data: {self.name}"

    @property
    def text(self) -> str:
        """Text of the notice below its title."""
        size = f"{self.n_images:,} images, {self.n_masks:,} annotator masks"
        if self.stored:
            return (
                f"The results on this page were computed from {self.stored}. These data are not on "
                f"this machine: what is computed live, and marked as such, uses an invented cohort "
                f"({self.name}, {size}) and gives no information on real lesions."
            )
        if self.synthetic:
            return (
                f"{self.name}: {size}, all invented. What is computed on them shows that the "
                "analysis works and gives no information on real lesions or real annotators. "
                "Results labelled stored name the data that they are of."
            )
        return f"{size}. {self.citation}"

    def _repr_html_(self) -> str:
        kind, size, colour = "note", "1em", "#3b82c4"
        if self.synthetic:
            size = "1em" if self.stored else "1.3em"
            kind, colour = f"warning {SYNTHETIC_CLASS}", "#f0ad4e"
        # the style is for JupyterLab, which does not know the book's classes
        style = f"font-size:{size};border-left:.4rem solid {colour};padding:.2rem .8rem"
        return (
            f'<div class="admonition {kind} iav-banner" role="note" style="{style}">'
            f'<p class="admonition-title"><strong>{html.escape(self.title)}</strong></p>'
            f"<p>{html.escape(self.text)}</p></div>"
        )

    def __repr__(self) -> str:
        return f"{self.title.upper() if self.synthetic else self.title}. {self.text}"


def banner(cohort: Any, stored: Any = None) -> Banner:
    """Show which data a page is computed on; in large type when they are synthetic.

    Parameters
    ----------
    cohort : Cohort
        The data of the notebook.
    stored : StoredTables, optional
        Stored results of real data (:func:`iavlib.book.stored_tables`) that the page shows, as its
        own data are synthetic.

    Returns
    -------
    Banner
        The value of the last line of the cell that loads the data.
    """
    n_images, n_masks = len(cohort.images), len(cohort.masks)
    source = ""
    if stored:
        size = f"{stored.n_images:,} images, {stored.n_masks:,} annotator masks"
        source = f"{stored.cohort} ({size}; {stored.label})"
    return Banner(cohort.name, cohort.synthetic, n_images, n_masks, cohort.citation, source)


class InShort:
    """A box at the top of a page for its findings, filled by the cell that computes the last one.

    Make it in a cell of its own below the title (its value shows the box), and call :meth:`fill`
    at the end: JupyterLab, papermill and the book then all show the text at the top.

    Examples
    --------
    >>> from iavlib import book
    >>> in_short = book.InShort()
    >>> in_short
    In short: this box is filled when the last cells have run.
    >>> in_short.fill("- Two masks of the same lesion have a mean Dice of 0.78.")
    >>> in_short
    In short
    - Two masks of the same lesion have a mean Dice of 0.78.
    """

    _EMPTY = "In short: this box is filled when the last cells have run."

    def __init__(self) -> None:
        self.text = ""
        self._handle: Any = None

    def fill(self, text: str) -> None:
        """Write the findings into the box.

        Parameters
        ----------
        text : str
            Markdown, one line or list item per finding.
        """
        self.text = text
        if self._handle is not None:
            self._handle.update(self._content())

    def _content(self) -> Any:
        from IPython.display import Markdown

        if not self.text:
            return Markdown(f"*{self._EMPTY}*")
        # blank lines inside the element let Markdown format its content, here and in JupyterLab
        style = "border-left:.4rem solid #0072B2;padding:.2rem .8rem"
        return Markdown(
            f'<div class="admonition tip iav-in-short" role="note" style="{style}">\n'
            f'<p class="admonition-title"><strong>In short</strong></p>\n\n{self.text}\n\n</div>'
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self._handle = display(self._content(), display_id=True)

    def __repr__(self) -> str:
        return f"In short\n{self.text}" if self.text else self._EMPTY


#: A vector drawing larger than this is shown as pixels, which are then smaller.
_LARGEST_SVG = 50_000


class Figure:
    """A drawing with its caption and a description for those who cannot see it; see :func:`figure`.

    Parameters
    ----------
    image : bytes
        Content of the picture.
    mime : str
        Its kind, ``image/svg+xml`` or ``image/webp``.
    width : float
        Width of display in CSS pixels.
    caption, alt : str
        Text below it, and text instead of it.
    """

    def __init__(self, image: bytes, mime: str, width: float, caption: str, alt: str) -> None:
        self.image, self.mime, self.width = image, mime, width
        self.caption, self.alt = caption, alt

    def _repr_html_(self) -> str:
        alt = html.escape(self.alt, quote=True)
        style = f"width:{self.width:.0f}px;max-width:100%;height:auto;background:#fff"
        if self.image.startswith(b"<svg"):  # what shows texts at its points is part of the page
            drawing = self.image.decode().replace(
                "<svg", f'<svg role="img" aria-label="{alt}" style="{style}"', 1
            )
        else:
            data = base64.b64encode(self.image).decode()
            drawing = f'<img src="data:{self.mime};base64,{data}" alt="{alt}" style="{style}">'
        return (
            f'<figure class="iav-figure">{drawing}'
            f'<figcaption style="font-size:.9em;max-width:46rem">'
            f"{html.escape(self.caption)}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"Figure: {self.caption}"


def figure(drawing: MplFigure, caption: str, alt: str) -> Figure:
    """Show a matplotlib figure with its caption, alike in JupyterLab and in the book.

    The picture is made here and does not depend on matplotlib's backend; `drawing` is closed.

    Parameters
    ----------
    drawing : matplotlib.figure.Figure or matplotlib.axes.Axes
        What to show.
    caption : str
        What is drawn, with units, in a sentence or two; plain text.
    alt : str
        What one sees, for readers with a screen reader; plain text that is true on any data.

    Returns
    -------
    Figure
        As the last value of a cell, or given to ``display``, it shows itself. Drawings are SVG;
        those with many points or with photographs, which would be large, are WebP. Points of a
        collection with an attribute ``hover``, a text per point, show it under the pointer, as
        those of :func:`iavlib.plots.predicted_against_true`.

    Raises
    ------
    ValueError
        If the caption or the description is empty.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from iavlib import book
    >>> drawing, ax = plt.subplots()
    >>> _ = ax.plot([0, 1], [0, 1])
    >>> book.figure(drawing, "A line from zero to one.", "A rising straight line.")
    Figure: A line from zero to one.
    """
    import matplotlib as mpl
    import matplotlib.pyplot as plt
    from PIL import Image

    if not caption.strip() or not alt.strip():
        raise ValueError("a figure needs a caption and a description: give caption= and alt=")
    drawing = getattr(drawing, "figure", drawing)
    width = drawing.get_size_inches()[0] * 96
    settings = {"svg.hashsalt": "iavlib", "svg.fonttype": "path"}
    options: dict[str, Any] = {"bbox_inches": "tight", "facecolor": "white"}
    stream, mime = io.BytesIO(), "image/svg+xml"
    pointed = drawing.findobj(lambda artist: hasattr(artist, "hover"))
    for number, artist in enumerate(pointed):
        artist.set_gid(f"hover-{number}")
    with mpl.rc_context(settings):  # the same drawing gives the same bytes
        drawing.savefig(stream, format="svg", metadata={"Date": None}, **options)
    if pointed:
        picture = _with_texts(stream.getvalue(), [artist.hover for artist in pointed])
        stream = io.BytesIO(picture)
    elif len(stream.getvalue()) > _LARGEST_SVG:
        drawn, streams, mime = io.BytesIO(), [io.BytesIO(), io.BytesIO()], "image/webp"
        drawing.savefig(drawn, format="png", dpi=170, pil_kwargs={"compress_level": 1}, **options)
        # Of photographs the first is smaller by far, of drawings the second.
        for stream, encoding in zip(streams, ({"quality": 88}, {"lossless": True}), strict=True):
            Image.open(drawn).convert("RGB").save(stream, "WEBP", **encoding)
        stream = min(streams, key=lambda one: len(one.getvalue()))
    plt.close(drawing)
    return Figure(stream.getvalue(), mime, width, caption.strip(), alt.strip())


def _with_texts(picture: bytes, texts: Sequence[Sequence[str]]) -> bytes:
    """Give each point of the groups ``hover-0``, ``hover-1``, … its text, for use in a page."""
    svg = "{http://www.w3.org/2000/svg}"
    ElementTree.register_namespace("", svg[1:-1])
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(picture)
    for number, of_points in enumerate(texts):
        group = root.find(f".//{svg}g[@id='hover-{number}']")
        if group is None:
            continue  # what is invisible is not drawn
        # many points are uses of one path; few are paths of their own
        points = list(group.iter(f"{svg}use")) or list(group.iter(f"{svg}path"))
        for point, text in zip(points, of_points, strict=True):
            ElementTree.SubElement(point, f"{svg}title").text = text
    content = ElementTree.tostring(root, encoding="unicode")
    own = f"f{crc32(picture):08x}-"  # ids are those of the whole page
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}", content).encode()
