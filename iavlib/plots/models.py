"""Figures that compare models: by interval, by seed, over training size, and by rank."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS, CYCLE

_MAE = "MAE of mean pairwise Dice"
#: Baselines are lines in black and grey, so that no model has their colour.
_LINES = (("--", "black"), (":", "black"), ("-.", "#777777"), ((0, (6, 4)), "#777777"))


def model_forest(
    table: pd.DataFrame,
    baselines: Mapping[str, float] | None = None,
    label: str = _MAE,
) -> Figure:
    """Draw the error of each model with its interval, the least first, beside the baselines.

    Parameters
    ----------
    table : pandas.DataFrame
        Index: the models. Columns ``estimate``, ``ci_low``, ``ci_high``; where there is a boolean
        column ``random``, models from random weights are drawn hollow and named so.
    baselines : mapping of str to float, optional
        Errors that are drawn as lines, such as that of the constant median.
    label : str
        What the estimates are, with their unit.
    """
    ordered = table.sort_values("estimate", kind="stable")
    figure, ax = plt.subplots(figsize=(7, 0.32 * len(ordered) + 1.3))
    rows = np.arange(len(ordered))
    random = ordered.get("random", pd.Series(False, index=ordered.index)).to_numpy(dtype=bool)
    for member, face in ((~random, COLOURS["neutral"]), (random, "white")):
        part = ordered[member]
        spread = [part["estimate"] - part["ci_low"], part["ci_high"] - part["estimate"]]
        style = {"fmt": "o", "color": COLOURS["neutral"], "mfc": face, "capsize": 3, "ms": 5}
        ax.errorbar(part["estimate"], rows[member], xerr=np.array(spread), **style)
    _draw_lines(ax, baselines or {}, vertical=True)
    names = [
        f"{n} (random weights)" if r else n for n, r in zip(ordered.index, random, strict=True)
    ]
    ax.set(yticks=rows, yticklabels=names, xlabel=label)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    if baselines:
        figure.legend(loc="outside upper right", ncols=len(baselines), fontsize=8)
    return figure


def paired_by_seed(errors: pd.DataFrame, label: str = _MAE) -> Figure:
    """Draw the error of each model in each seed; a line joins the runs of one seed.

    Parameters
    ----------
    errors : pandas.DataFrame
        One row a seed, one column a model.
    label : str
        What the errors are, with their unit.
    """
    figure, ax = plt.subplots(figsize=(max(3.2, 0.75 * errors.shape[1] + 1.8), 3.4))
    place = np.arange(errors.shape[1])
    for number, (seed, row) in enumerate(errors.iterrows()):
        colour, marker = CYCLE[number % len(CYCLE)], "os^Dv"[number % 5]
        ax.plot(place, row, color=colour, marker=marker, ms=4, lw=0.9, alpha=0.8, label=f"{seed}")
    mean = errors.mean()
    ax.hlines(mean, place - 0.25, place + 0.25, color="black", lw=2, label="mean", zorder=3)
    ax.set(xticks=place, ylabel=label, xlim=(-0.5, place[-1] + 0.5))
    crowded = errors.shape[1] > 4
    ax.set_xticklabels(
        errors.columns, rotation=40 if crowded else 0, ha="right" if crowded else "center"
    )
    ax.grid(axis="x", visible=False)
    if len(errors) <= 10:
        figure.legend(
            loc="outside right upper",
            title=errors.index.name or "seed",
            fontsize=8,
            title_fontsize=8,
        )
    return figure


def learning_curve(
    table: pd.DataFrame,
    baselines: Mapping[str, float] | None = None,
    label: str = _MAE,
) -> Figure:
    """Draw how the error falls with the number of training images.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a run: ``n_train`` and ``error``; ``model`` where there are several. The mean of
        the runs of one size is joined, the runs themselves are dots.
    baselines : mapping of str to float, optional
        Errors that are drawn as lines.
    label : str
        What the errors are, with their unit.
    """
    figure, ax = plt.subplots(figsize=(6, 3.4))
    models = table["model"] if "model" in table else pd.Series("runs", index=table.index)
    for number, (name, rows) in enumerate(table.groupby(models.to_numpy(), sort=False)):
        colour, marker = CYCLE[number % len(CYCLE)], "os^Dv"[number % 5]
        mean = rows.groupby("n_train")["error"].mean()
        ax.scatter(
            rows["n_train"], rows["error"], s=12, alpha=0.5, color=colour, marker=marker, lw=0
        )
        ax.plot(mean.index, mean, color=colour, marker=marker, ms=5, label=f"{name}, mean")
    _draw_lines(ax, baselines or {}, vertical=False)
    sizes = sorted(table["n_train"].unique())
    ax.set(xscale="log", xlabel="training images", ylabel=label)
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return figure


def critical_difference(ranks: pd.Series, difference: float) -> Figure:
    """Draw mean ranks on a line; a bar joins models that the Nemenyi test does not tell apart.

    Parameters
    ----------
    ranks : pandas.Series
        Mean rank of each model, 1 the best, as :func:`iavlib.stats.friedman` gives them.
    difference : float
        Critical difference, as :func:`iavlib.stats.nemenyi` gives it.
    """
    ordered = ranks.sort_values(kind="stable")
    groups = _alike(ordered.to_numpy(), difference)
    figure, ax = plt.subplots(figsize=(7, 0.3 * (len(ordered) + len(groups)) + 1.2))
    rows = np.arange(len(ordered))
    ax.plot(ordered, rows, "o", color=COLOURS["neutral"], ms=6)
    for rank, row in zip(ordered, rows, strict=True):
        ax.annotate(
            f"{rank:.2f}", (rank, row), (6, 0), textcoords="offset points", va="center", fontsize=8
        )
    for number, (first, last) in enumerate(groups):
        height = len(ordered) - 0.2 + 0.6 * number
        ends = ordered.iloc[[first, last]]
        ax.plot(ends, [height] * 2, color=COLOURS["malignant"], lw=4, solid_capstyle="butt")
        ax.vlines(ends, [first, last], height, color=COLOURS["malignant"], lw=0.5, ls=":")
    ax.set(
        yticks=rows, yticklabels=ordered.index, xlabel="mean rank over the blocks (1 = least error)"
    )
    ax.set_title(
        f"critical difference {difference:.2f}; bars join what it does not tell apart", fontsize=9
    )
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.grid(axis="y", visible=False)
    return figure


def _alike(ranks: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Find the longest runs of sorted ranks that lie within the critical difference."""
    runs: list[tuple[int, int]] = []
    for first in range(len(ranks)):
        last = int(np.flatnonzero(ranks - ranks[first] <= difference).max())
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def _draw_lines(ax: Axes, baselines: Mapping[str, float], vertical: bool) -> None:
    """Draw one dashed line a baseline, with its value in the legend."""
    draw = ax.axvline if vertical else ax.axhline
    for number, (name, value) in enumerate(baselines.items()):
        dashes, colour = _LINES[number % len(_LINES)]
        draw(value, lw=1.2, ls=dashes, color=colour, label=f"{name} {value:.3f}")
