"""How much disagreement the first images of an order hold."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from iavlib.plots.style import CYCLE
from iavlib.stats import triage_curve

_STYLES = ("-", "--", "-.", (0, (3, 1, 1, 1)))


def triage_curves(loss: ArrayLike, scores: pd.DataFrame, label: str = "1 - Dice") -> Figure:
    """Draw the share of the total loss found over the share of images looked at.

    Parameters
    ----------
    loss : array_like of float, shape (n,)
        What there is to find in each image; see :func:`iavlib.stats.triage_curve`.
    scores : pandas.DataFrame, shape (n, m)
        One column an order; the greatest score is looked at first.
    label : str
        What the loss is.
    """
    figure, ax = plt.subplots(figsize=(5.6, 4.2))
    for number, name in enumerate(scores):
        curve = triage_curve(loss, scores[name])
        style = _STYLES[number % len(_STYLES)]
        colour = CYCLE[number % len(CYCLE)]
        ax.plot(curve["examined"], curve["found"], ls=style, color=colour, label=str(name))
    best = triage_curve(loss, loss)
    ax.plot(best["examined"], best["found"], color="#777777", lw=1, label="best possible")
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":", label="random order")
    ax.set(xlabel=f"images looked at (of {len(scores):,})", ylabel=f"found of all {label}")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlim=(0, 1), ylim=(0, 1.01))
    ax.legend(loc="lower right", fontsize=8)
    return figure
