"""Figures of masks fused for the diagnosis, and of all methods side by side."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iavlib.plots.style import COLOURS, CYCLE, notice

_MARKS = ("o", "s", "^", "D")


def intervals(
    table: pd.DataFrame, columns: Mapping[str, str], x_label: str, zero: float | None = None
) -> Figure:
    """Draw means with their intervals, one row an entry of the index, one colour a column.

    Parameters
    ----------
    table : pandas.DataFrame
        With columns ``<name>``, ``<name>_low`` and ``<name>_high`` of each name.
    columns : mapping of str to str
        Name to its words in the legend; those without any value are left out.
    x_label : str
    zero : float, optional
        Where a vertical line is drawn.
    """
    shown = {name: words for name, words in columns.items() if name in table}
    shown = {name: words for name, words in shown.items() if table[name].notna().any()}
    if table.empty or not shown:
        return notice("No finished run to draw.")
    figure, ax = plt.subplots(figsize=(7, 0.34 * len(table) * max(1, len(shown) / 2) + 1.3))
    if zero is not None:
        ax.axvline(zero, color=COLOURS["unknown"])
    for number, (name, words) in enumerate(shown.items()):
        places = np.arange(len(table)) + 0.22 * (number - (len(shown) - 1) / 2)
        mean = table[name].to_numpy(float)
        ends = [abs(table[f"{name}_{end}"].to_numpy(float) - mean) for end in ("low", "high")]
        style = {"fmt": _MARKS[number % len(_MARKS)], "color": CYCLE[number], "capsize": 2}
        ax.errorbar(mean, places, xerr=np.nan_to_num(ends), label=words, **style)
    ax.set(xlabel=x_label, yticks=range(len(table)))
    ax.set_yticklabels([" ".join(map(str, np.atleast_1d(name))) for name in table.index])
    ax.invert_yaxis()
    if len(shown) > 1:
        figure.legend(loc="outside upper center", ncols=len(shown), fontsize=8)
    return figure


def expertness_pictures(
    image: np.ndarray, masks: Mapping[str, np.ndarray], names: Sequence[str] | None = None
) -> Figure:
    """Draw an image and, beside it, masks or weights from 0 to 1.

    Parameters
    ----------
    image : numpy.ndarray of uint8, shape (height, width, 3)
    masks : mapping of str to numpy.ndarray, shape (height, width)
        Title to mask.
    names : sequence of str, optional
        Which of them, in this order; all unless given.
    """
    chosen = list(masks if names is None else names)
    figure, axes = plt.subplots(1, len(chosen) + 1, figsize=(1.5 * len(chosen) + 1.8, 1.9))
    axes[0].imshow(image)
    axes[0].set_title("image", fontsize=9)
    for name, ax in zip(chosen, axes[1:], strict=True):
        shown = ax.imshow(masks[name], vmin=0, vmax=1, cmap="cividis")
        ax.set_title(name, fontsize=9)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    figure.colorbar(shown, ax=axes, shrink=0.8)
    return figure


def methods_compared(
    table: pd.DataFrame, measures: Mapping[str, str], better: Mapping[str, bool]
) -> Figure:
    """Draw every method's measures, a panel each, in one row a cohort.

    Parameters
    ----------
    table : pandas.DataFrame
        Of :func:`iavlib.experiments.results.comparison.comparison_table`.
    measures : mapping of str to str
        Column to the label of its axis.
    better : mapping of str to bool
        Whether more of it is better, told by an arrow.
    """
    if table.empty:
        return notice("No finished run to draw.")
    cohorts = list(dict.fromkeys(table.index.get_level_values(0)))
    longest = max(len(table.loc[one]) for one in cohorts)
    size = (2.4 * len(measures) + 1.8, (0.19 * longest + 0.9) * len(cohorts))
    figure, axes = plt.subplots(len(cohorts), len(measures), figsize=size, squeeze=False)
    for cohort, line in zip(cohorts, axes, strict=True):
        some = table.loc[cohort]
        for (name, words), ax in zip(measures.items(), line, strict=True):
            arrow = "→ better" if better.get(name, True) else "← better"
            _panel(ax, some, name, list(dict.fromkeys(table["sees"])))
            ax.set_xlabel(f"{words} ({arrow})", fontsize=8)
        line[0].set_yticks(range(len(some)), some.index, fontsize=7)
        line[0].set_title(cohort, loc="left", fontsize=9)
        for ax in line[1:]:
            ax.set_yticks(range(len(some)), [])
    _legend(figure, list(dict.fromkeys(table["sees"])))
    return figure


def _legend(figure: Figure, kinds: list[str]) -> None:
    """Say which mark stands for what a method sees."""
    marks = [
        Line2D([], [], ls="", marker=_MARKS[place], color=CYCLE[place], label=kind)
        for place, kind in enumerate(kinds)
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(kinds), fontsize=8)


def _panel(ax, some: pd.DataFrame, name: str, kinds: list[str]) -> None:
    """Draw one measure of one cohort; colours tell what the methods see."""
    for place, (_, row) in enumerate(some.iterrows()):
        colour = CYCLE[kinds.index(row["sees"])]
        mean = row.get(name, np.nan)
        ends = [[abs(row.get(f"{name}_{end}", np.nan) - mean)] for end in ("low", "high")]
        mark = _MARKS[kinds.index(row["sees"])]
        ax.errorbar(mean, place, xerr=np.nan_to_num(ends), fmt=mark, color=colour, markersize=4)
    ax.invert_yaxis()
    ax.tick_params(labelsize=7)
