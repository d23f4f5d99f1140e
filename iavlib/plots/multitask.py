"""Figures of what a second task, its weight and more images change."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from scipy.stats import t as student

from iavlib.plots.style import COLOURS, CYCLE
from iavlib.stats.diagnosis.multitask_gain import cell_gains

_SINGLE, _MULTI = CYCLE[0], CYCLE[1]


def paired_runs(gains: pd.DataFrame, label: str = "balanced accuracy") -> Figure:
    """Draw each pair of runs as a line from single task to multi-task, one panel a dataset.

    Parameters
    ----------
    gains : pandas.DataFrame
        From :func:`iavlib.stats.diagnosis.multitask_gain.paired_gains`.
    label : str
        What is scored.
    """
    datasets = sorted(gains["dataset"].unique())
    most = gains.groupby("dataset")["backbone"].nunique().max()
    width = len(datasets) * (0.6 + 0.95 * most) + 0.8
    figure, axes = plt.subplots(
        1, len(datasets), figsize=(max(width, 3.4), 3.4), sharey=True, squeeze=False
    )
    for ax, dataset in zip(axes.flat, datasets, strict=True):
        part = gains[gains["dataset"] == dataset]
        backbones = sorted(part["backbone"].unique())
        for i, backbone in enumerate(backbones):
            _draw_pairs(ax, i, part[part["backbone"] == backbone])
        ax.set(title=dataset, xticks=range(len(backbones)), xticklabels=backbones)
        ax.set_xlim(-0.6, len(backbones) - 0.4)
        ax.tick_params(axis="x", labelsize=8)
        ax.grid(axis="x", visible=False)
    first = axes.flat[0]
    first.set_ylabel(label)
    for name, colour in (("single task", _SINGLE), ("multi-task", _MULTI)):
        first.plot([], [], "o", color=colour, label=name)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure


def _draw_pairs(ax: Axes, place: int, pairs: pd.DataFrame) -> None:
    left, right = place - 0.2, place + 0.2
    for pair in pairs.itertuples():
        colour = COLOURS["highlight"] if pair.gain > 0 else "#CC79A7"
        ax.plot([left, right], [pair.control, pair.treatment], color=colour, lw=1, alpha=0.8)
    for x, column, colour in ((left, "control", _SINGLE), (right, "treatment", _MULTI)):
        ax.plot(np.full(len(pairs), x), pairs[column], "o", color=colour, ms=4)
        # The mean beside the points, so that it hides none of them.
        shift = -0.1 if column == "control" else 0.1
        ax.plot(x + shift, pairs[column].mean(), "_", color=colour, ms=12, mew=2)


def gain_forest(
    gains: pd.DataFrame, averages: pd.DataFrame, reported: float | None = None
) -> Figure:
    """Draw the gain of each dataset and backbone, and below them the average in several ways.

    Parameters
    ----------
    gains : pandas.DataFrame
        From :func:`iavlib.stats.diagnosis.multitask_gain.paired_gains`.
    averages : pandas.DataFrame
        From :func:`iavlib.stats.diagnosis.gain_intervals.average_gain`, or any other with an
        index that says what each row is. Columns ``estimate``, ``ci_low``, ``ci_high``; without
        an interval the point alone is drawn.
    reported : float, optional
        The gain that was claimed, drawn as a line.
    """
    cells = cell_gains(gains)
    datasets = cells.index.get_level_values("dataset")
    gaps = np.cumsum(np.r_[0, (datasets[1:] != datasets[:-1]).astype(float)]) / 2
    rows = np.arange(len(cells)) + gaps
    below = rows[-1] + 1.8 + np.arange(len(averages))
    labels = [f"{d}, {b}  (n {n})" for (d, b), n in cells["n"].items()]
    figure, ax = plt.subplots(figsize=(7.4, 0.28 * (below[-1] + 1) + 0.9))
    ax.plot(
        100 * gains["gain"],
        rows[cells.index.get_indexer(_keys(gains))],
        "|",
        ms=7,
        color="#AAAAAA",
        label="a seed",
    )
    _intervals(ax, cells.rename(columns={"gain": "estimate"}), rows, COLOURS["neutral"], "o")
    _intervals(ax, averages, below, CYCLE[1], "D")
    ax.axvline(0, color="black", lw=0.8)
    if reported is not None:
        ax.axvline(100 * reported, color=COLOURS["highlight"], ls="--", lw=1.2, label="reported")
    ax.axhline(rows[-1] + 0.9, color="#BBBBBB", lw=0.8)
    drawn = averages.index.name == "drawn_again"
    means = [f"average (drawn again: {name})" if drawn else name for name in averages.index]
    ax.set(yticks=[*rows, *below], yticklabels=[*labels, *means])
    ax.set_xlabel("gain in balanced accuracy (points), 95 % interval")
    ax.tick_params(axis="y", labelsize=8)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.legend(fontsize=8, loc="best")
    return figure


def _keys(gains: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(gains[["dataset", "backbone"]])


def _intervals(ax: Axes, table: pd.DataFrame, rows: np.ndarray, colour: str, marker: str) -> None:
    """Draw estimates as points and, where there are any, intervals; in points of a hundred."""
    ends = table[["ci_low", "ci_high"]].to_numpy(dtype=float) * 100
    ax.hlines(rows, ends[:, 0], ends[:, 1], color=colour, lw=1.5)
    ax.plot(100 * table["estimate"].to_numpy(dtype=float), rows, marker, color=colour, ms=5)


def alpha_ablation(
    runs: pd.DataFrame, score: str = "balanced_accuracy", label: str = "balanced accuracy"
) -> Figure:
    """Draw the score over the weight of the diagnosis, one line a backbone.

    Parameters
    ----------
    runs : pandas.DataFrame
        One row a run: ``alpha``, ``backbone``, ``seed`` and `score`. Alpha 1 is diagnosis alone
        and is drawn as a horizontal line as well.
    score, label : str
        Column, and what to call it.
    """
    figure, ax = plt.subplots(figsize=(6, 3.8))
    backbones = sorted(runs["backbone"].unique())
    for i, backbone in enumerate(backbones):
        colour, part = CYCLE[i % len(CYCLE)], runs[runs["backbone"] == backbone]
        aside = part.assign(x=part["alpha"] + 0.008 * (i - (len(backbones) - 1) / 2))
        ax.plot(aside["x"], aside[score], "o", color=colour, ms=3, alpha=0.4)
        _line_with_intervals(ax, _summary(aside, "x", score), colour, backbone)
        alone = part.loc[part["alpha"] == 1, score]
        if len(alone):
            ax.axhline(alone.mean(), color=colour, lw=0.9, ls="--")
    if (runs["alpha"] == 1).any():
        ax.plot([], [], color="black", lw=0.9, ls="--", label="diagnosis alone")
    ax.set(xlabel=r"weight of the diagnosis, $\alpha$", ylabel=label)
    ax.set_xticks(sorted(runs["alpha"].unique()))
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
    return figure


def training_size_curves(
    runs: pd.DataFrame,
    score: str = "balanced_accuracy",
    label: str = "balanced accuracy",
    by: str = "start",
) -> Figure:
    """Draw the score over the number of training images, one line a way to start.

    Parameters
    ----------
    runs : pandas.DataFrame
        One row a run: ``n_train``, ``seed``, `by` and `score`, and ``dataset`` where there are
        several, which makes one panel each.
    score, label : str
        Column, and what to call it.
    by : str
        Column of what is compared, for instance the weights that training starts from.
    """
    parts = dict(list(runs.groupby("dataset"))) if "dataset" in runs else {"": runs}
    figure, axes = plt.subplots(
        1, len(parts), figsize=(1 + 4 * len(parts), 3.6), sharey=True, squeeze=False
    )
    names = list(dict.fromkeys(runs[by]))
    for ax, (title, part) in zip(axes.flat, parts.items(), strict=True):
        for i, (name, colour) in enumerate(zip(names, CYCLE, strict=False)):
            # A few per cent aside, so that intervals at the same size can be told apart.
            aside = part[part[by] == name].assign(x=lambda t, i=i: t["n_train"] * 1.03 ** (i - 1))
            ax.plot(aside["x"], aside[score], "o", color=colour, ms=3, alpha=0.4)
            _line_with_intervals(ax, _summary(aside, "x", score), colour, str(name))
        ax.set_xscale("log")
        ax.set_xticks(sorted(part["n_train"].unique()))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(axis="x", which="minor", length=0)
        ax.set(title=title, xlabel="training images")
    axes.flat[0].set_ylabel(label)
    axes.flat[0].legend(fontsize=8)
    return figure


def _summary(runs: pd.DataFrame, over: str, score: str) -> pd.DataFrame:
    """Mean over seeds at each value, with its t interval (NaN for one seed)."""
    table = runs.groupby(over)[score].agg(["mean", "std", "size"])
    half = student.ppf(0.975, np.maximum(table["size"] - 1, 1)) * table["std"]
    return table.assign(half=half / np.sqrt(table["size"]))


def _line_with_intervals(ax: Axes, summary: pd.DataFrame, colour: str, label: str) -> None:
    half = summary["half"].fillna(0)
    style = {"color": colour, "capsize": 2, "lw": 1.5, "label": label}
    ax.errorbar(summary.index, summary["mean"], yerr=half, **style)
