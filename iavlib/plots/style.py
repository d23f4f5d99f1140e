"""One look for every figure: colours that colour-blind readers tell apart, light grids.

Tables as a reader wants them: few digits, p-values that do not read as zero.
"""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

COLOURS = {
    "benign": "#0072B2",
    "malignant": "#D55E00",
    "indeterminate": "#999999",
    "unknown": "#CCCCCC",
    "neutral": "#44546A",
    "highlight": "#009E73",
}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
METRIC_LABELS = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "hd": "Hausdorff distance (pixels)",
    "hd95": "HD95 (pixels)",
    "assd": "ASSD (pixels)",
    "hd_normalized": "Hausdorff distance / diagonal",
    "hd95_normalized": "HD95 / diagonal",
    "assd_normalized": "ASSD / diagonal",
}


def use_style() -> None:
    """Set matplotlib's defaults to the book's style; importing :mod:`iavlib.plots` does it."""
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E6E6",
            "font.size": 10,
            "axes.titlesize": 11,
            "legend.frameon": False,
            "axes.prop_cycle": mpl.cycler(color=CYCLE),
        }
    )


def notice(text: str) -> Figure:
    """Make a figure that says why there is nothing to draw."""
    figure = plt.figure(figsize=(5, 0.6))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def format_table(frame: pd.DataFrame, digits: int = 3) -> pd.DataFrame:
    """Format a table of numbers for a page.

    Parameters
    ----------
    frame : pandas.DataFrame
    digits : int
        Decimals of numbers; p-values (columns named ``p`` or starting with ``p_``, and rows of
        that name) get two significant digits instead, counts none.

    Returns
    -------
    pandas.DataFrame of str
        Same index and columns; missing values are empty.
    """
    formatted = {
        column: [
            _text(value, column if _is_p(column) else row, digits) for row, value in values.items()
        ]
        for column, values in frame.items()
    }
    return pd.DataFrame(formatted, index=frame.index)


def _is_p(name) -> bool:
    return isinstance(name, str) and (name == "p" or name.startswith("p_"))


def _text(value, name, digits: int) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, str | bool):
        return str(value)
    if _is_p(name):
        return f"{value:.2g}"
    if float(value).is_integer() and (abs(value) >= 2 or isinstance(value, int)):
        return f"{int(value):,}"
    return f"{value:.{digits}f}"
