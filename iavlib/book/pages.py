"""What a notebook shows on its page about itself: the data banner, and numbers for its prose."""

from __future__ import annotations

import html
import math
import numbers
from typing import Any

#: Class that marks the banner of synthetic data; the book's build looks for it.
SYNTHETIC_CLASS = "iav-synthetic"
_GLUE_PREFIX = "application/papermill.record/"


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
    """

    def __init__(self, name: str, synthetic: bool, n_images: int, n_masks: int, citation: str):
        self.name = name
        self.synthetic = synthetic
        self.size = f"{n_images:,} images, {n_masks:,} annotator masks"
        self.citation = citation

    @property
    def title(self) -> str:
        """First line of the notice."""
        return "Computed on synthetic data" if self.synthetic else f"Data: {self.name}"

    @property
    def text(self) -> str:
        """What the notice says below its title."""
        if self.synthetic:
            return (
                f"{self.name}: {self.size}, all invented. The numbers on this page show that the "
                "analysis works; they say nothing about real lesions or real annotators."
            )
        return f"{self.size}. {self.citation}"

    def _repr_html_(self) -> str:
        kind, size, colour = (
            (f"warning {SYNTHETIC_CLASS}", "1.3em", "#f0ad4e")
            if self.synthetic
            else ("note", "1em", "#3b82c4")
        )
        # the style is for JupyterLab, which does not know the book's classes
        style = f"font-size:{size};border-left:.4rem solid {colour};padding:.2rem .8rem"
        return (
            f'<div class="admonition {kind} iav-banner" role="note" style="{style}">'
            f'<p class="admonition-title"><strong>{html.escape(self.title)}</strong></p>'
            f"<p>{html.escape(self.text)}</p></div>"
        )

    def __repr__(self) -> str:
        return f"{self.title.upper() if self.synthetic else self.title}. {self.text}"


def banner(cohort: Any) -> Banner:
    """Say what data a page is computed on; in large when the data are synthetic.

    Parameters
    ----------
    cohort : Cohort
        The data of the notebook.

    Returns
    -------
    Banner
        Make it the last line of the cell that loads the data.
    """
    return Banner(
        name=cohort.name,
        synthetic=cohort.synthetic,
        n_images=len(cohort.images),
        n_masks=len(cohort.masks),
        citation=cohort.citation,
    )


def glue(name: str, value: Any) -> None:
    """Keep a number or text under a name, for the prose of the book's pages.

    MyST's ``{glue:text}`` role shows it: ``{glue:text}`name:.3f``` in the same
    notebook, ``{glue:text}`../notebooks/01_x.ipynb::name:.3f``` on another page.
    Unlike ``myst_nb.glue`` it needs nothing but IPython, and numbers of NumPy
    are kept as plain ones (their text, ``np.float64(0.78)``, cannot be formatted).

    Parameters
    ----------
    name : str
        Name to refer to it by.
    value : float, int or str
        What to show.

    Raises
    ------
    TypeError
        If `value` is of another kind.
    ValueError
        If it is a number that is not finite.
    """
    from IPython.display import display

    if isinstance(value, numbers.Integral):
        text = repr(int(value))
    elif isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise ValueError(f"glue({name!r}): {value} is not finite; say in words what happened")
        text = repr(float(value))
    elif isinstance(value, str):
        text = repr(value)
    else:
        raise TypeError(f"glue({name!r}): give a number or text, not {type(value).__name__}")
    metadata = {"scrapbook": {"name": name, "mime_prefix": _GLUE_PREFIX}}
    display({_GLUE_PREFIX + "text/plain": text}, raw=True, metadata=metadata)
