"""The style of all figures and tables of numbers.

Colours remain distinguishable for colour-blind readers (Okabe and Ito), grids are light; tables
have few digits, and p-values never read as zero.
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
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
MARKERS = ("o", "s", "^", "D", "v")
#: Baselines are black and grey lines, so that no model has their colour.
_LINES = (("--", "black"), (":", "black"), ("-.", "#777777"), ((0, (6, 4)), "#777777"))


def use_style() -> None:
    """Set matplotlib's defaults to the style of the book.

    Importing :mod:`iavlib.plots` does so; call it where another library has reset the style.
    Settings of a personal ``matplotlibrc`` are replaced, so that figures are the same everywhere;
    the backend stays.

    Examples
    --------
    >>> import matplotlib as mpl
    >>> from iavlib import plots
    >>> plots.use_style()
    >>> mpl.rcParams["axes.grid"]
    True
    """
    mpl.rcdefaults()
    plt.style.use(Path(__file__).with_name("style.mplstyle"))
    mpl.rcParams["axes.prop_cycle"] = mpl.cycler(color=CYCLE)


def notice(text: str) -> Figure:
    """Make a figure that states why there is nothing to draw."""
    figure = plt.figure(figsize=(5, 0.6))
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def draw_lines(ax: Axes, values: Mapping[str, float], vertical: bool) -> None:
    """Draw one dashed line per baseline, with its value in the label."""
    draw = ax.axvline if vertical else ax.axhline
    for number, (name, value) in enumerate(values.items()):
        dashes, colour = _LINES[number % len(_LINES)]
        if pd.notna(value):
            draw(value, lw=1.2, ls=dashes, color=colour, label=f"{name} {value:.3f}")


def hide_ticks(axes) -> None:
    """Show pictures without ticks and grid."""
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)


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

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib import plots
    >>> table = pd.DataFrame({"n": [2394], "mean": [0.79243], "p": [4.3e-06]})
    >>> plots.format_table(table).iloc[0].tolist()
    ['2,394', '0.792', '4.3e-06']
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


use_style()
