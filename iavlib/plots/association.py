"""Figures of whether agreement goes with malignancy."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS, METRIC_LABELS, notice
from iavlib.stats.dominance import Dominance
from iavlib.stats.factors import FactorMatrix


def by_malignancy(tables: dict[str, pd.DataFrame], metric: str = "dice") -> Figure:
    """Draw the distribution of a metric for benign and malignant lesions.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Title to table with ``malignant`` and the metric, one panel each.
    metric : str
    """
    figure, axes = plt.subplots(1, len(tables), figsize=(4.4 * len(tables), 3), squeeze=False)
    bins = np.linspace(0, 1, 31)
    for ax, (title, table) in zip(axes.flat, tables.items(), strict=True):
        for name, malignant in (("benign", False), ("malignant", True)):
            values = table.loc[table["malignant"] == malignant, metric]
            ax.hist(values, bins, density=True, histtype="step", lw=1.8, color=COLOURS[name])
            ax.axvline(values.mean(), color=COLOURS[name], ls="--", lw=1)
            label = f"{name}: n {len(values):,}, mean {values.mean():.3f}"
            ax.plot([], [], color=COLOURS[name], label=label)
        ax.set(title=title, xlabel=METRIC_LABELS[metric], ylabel="density")
        ax.legend(loc="upper left", fontsize=8)
    return figure


def dominance_curves(result: Dominance, label: str = "Dice") -> Figure:
    """Draw both distribution functions and their difference, and mark where dominance fails."""
    curves = result.curves
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(6, 4.4), sharex=True, gridspec_kw={"height_ratios": [2, 1]}
    )
    for name, column in (("benign", "other"), ("malignant", "malignant")):
        top.step(curves["value"], curves[column], where="post", color=COLOURS[name], label=name)
    top.set_ylabel(f"share of lesions with {label} up to x", fontsize=9)
    top.legend(loc="upper left")
    difference = curves["difference"]
    bottom.step(curves["value"], difference, where="post", color=COLOURS["neutral"])
    for sign, colour, text in (
        (1, COLOURS["highlight"], "malignant lower: for dominance"),
        (-1, "#CC79A7", "malignant higher: against it"),
    ):
        subset = np.clip(sign * difference, 0, None) * sign
        bottom.fill_between(curves["value"], 0, subset, step="post", color=colour, label=text)
    bottom.axhline(0, color="black", lw=0.8)
    bottom.set(xlabel=label, ylabel="difference")
    bottom.legend(fontsize=8, loc="upper left")
    return figure


def factor_heatmaps(matrices: dict[str, FactorMatrix], label: str = "mean Dice") -> Figure:
    """Draw mean agreement for every pair of levels of each factor, with the number of pairs.

    Without any factor the figure says that none was recorded.
    """
    if not matrices:
        return notice("No tools and skill levels are recorded.")
    sizes = [max(2, len(m.matrix)) for m in matrices.values()]
    figure, axes = plt.subplots(
        1,
        len(sizes),
        figsize=(1.5 + 0.62 * sum(max(s, 3) for s in sizes), 0.5 + 0.42 * max(*sizes, 6)),
        gridspec_kw={"width_ratios": [max(s, 3) for s in sizes]},
        squeeze=False,
    )
    means = np.concatenate([m.matrix.to_numpy().ravel() for m in matrices.values()])
    low, high = np.nanmin(means), np.nanmax(means)
    for ax, (factor, result) in zip(axes.flat, matrices.items(), strict=True):
        upper = np.triu(np.ones(result.matrix.shape, bool), k=1)
        text = _cell_text(result)
        options = {"annot_kws": {"fontsize": 7}, "linewidths": 0.5, "cbar": False}
        sns.heatmap(
            result.matrix.mask(upper), annot=text, fmt="", ax=ax, vmin=low, vmax=high, **options
        )
        ax.set(title=f"{label} by {factor}")
        ax.tick_params(rotation=0, labelsize=8)
        ax.grid(visible=False)
    return figure


def _cell_text(result: FactorMatrix) -> np.ndarray:
    means, counts = result.matrix.to_numpy(), result.counts.to_numpy()
    text = [
        "" if np.isnan(mean) else f"{mean:.2f}\n{count:,}"
        for mean, count in zip(means.ravel(), counts.ravel(), strict=True)
    ]
    return np.array(text, dtype=object).reshape(means.shape)


def forest(table: pd.DataFrame, label: str) -> Figure:
    """Draw estimates with their intervals, one row each, from top to bottom as in the table.

    Parameters
    ----------
    table : pandas.DataFrame
        Index: what each row is. Columns ``estimate``, ``ci_low``, ``ci_high``.
    label : str
        What the estimates are, with their unit.
    """
    figure, ax = plt.subplots(figsize=(7, 0.34 * len(table) + 0.9))
    rows = np.arange(len(table))
    spread = np.vstack([table["estimate"] - table["ci_low"], table["ci_high"] - table["estimate"]])
    ax.errorbar(
        table["estimate"], rows, xerr=spread, fmt="o", color=COLOURS["neutral"], capsize=3, ms=5
    )
    ax.axvline(0, color="black", lw=0.8)
    ax.set(yticks=rows, yticklabels=table.index, xlabel=label)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return figure
