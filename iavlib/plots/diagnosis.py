"""Figures of how well malignant is told from benign.

Figures of what a second task, its weight and more images change.

Figures of masks fused for the diagnosis, and of all methods side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter
from scipy.stats import t as student

from iavlib.plots.style import COLOURS, CYCLE, notice
from iavlib.stats import cell_gains
from iavlib.stats.roc import Auroc

SCORE_LABELS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


def roc(
    curves: Mapping[str, pd.DataFrame],
    areas: Mapping[str, Auroc],
    bands: Mapping[str, pd.DataFrame] | None = None,
    points: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draw ROC curves, with the area and DeLong's interval of each in the legend.

    Parameters
    ----------
    curves : mapping of str to pandas.DataFrame
        Model to its curve from :func:`iavlib.stats.roc.roc_curve`.
    areas : mapping of str to Auroc
        From :func:`iavlib.stats.roc.auroc`.
    bands : mapping of str to pandas.DataFrame, optional
        From :func:`iavlib.stats.roc.roc_band`, of some of the models.
    points : mapping of str to tuple of float, optional
        Sensitivity and specificity at a model's threshold, drawn as a dot.
    """
    figure, ax = plt.subplots(figsize=(5.2, 4.6))
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        area = areas[name]
        label = f"{name}: {area.value:.3f} ({area.low:.3f} to {area.high:.3f})"
        ax.plot(1 - curve["specificity"], curve["sensitivity"], color=colour, lw=1.8, label=label)
        if bands and name in bands:
            band = bands[name]
            ends = band["ci_low"], band["ci_high"]
            ax.fill_between(1 - band["specificity"], *ends, color=colour, alpha=0.15, lw=0)
        if points and name in points:
            sensitivity, specificity = points[name]
            dot = {"color": colour, "ms": 8, "mec": "white", "zorder": 4}
            ax.plot(1 - specificity, sensitivity, "o", **dot)
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set(xlabel="1 - specificity", ylabel="sensitivity")
    ax.legend(loc="lower right", fontsize=8, title="AUROC (95 % interval)", title_fontsize=8)
    return figure




def reliability(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw observed against predicted shares of malignant rows, and how many rows stand behind.

    Parameters
    ----------
    curves : mapping of str to pandas.DataFrame
        Model to its table from :func:`iavlib.stats.calibration.reliability_curve`.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(5.2, 5.4), sharex=True, gridspec_kw={"height_ratios": [3, 1]}
    )
    top.plot([0, 1], [0, 1], color="black", lw=0.8, ls=":")
    n_models = len(curves)
    for i, ((name, curve), colour) in enumerate(
        zip(curves.items(), _colours(n_models), strict=True)
    ):
        filled = curve[curve["n"] > 0]
        ends = filled["observed"] - filled["ci_low"], filled["ci_high"] - filled["observed"]
        # Beside each other where models have points at the same place.
        x = filled["predicted"] + 0.008 * (i - (n_models - 1) / 2)
        style = {"fmt": "o-", "color": colour, "capsize": 2, "ms": 5, "lw": 1.2, "elinewidth": 1}
        top.errorbar(x, filled["observed"], yerr=np.abs(ends), label=name, **style)
        width = (curve["high"] - curve["low"]) / n_models
        left = curve["low"] + i * width
        bottom.bar(left, curve["n"], width, align="edge", color=colour, ec="white", lw=0.4)
        if n_models == 1:
            for start, step, n in zip(left, width, curve["n"], strict=True):
                bottom.annotate(f"{n:,}", (start + step / 2, n), ha="center", va="bottom", size=7)
    top.set(ylabel="share malignant (Wilson 95 %)", ylim=(-0.02, 1.02), xlim=(-0.01, 1.01))
    bottom.set(xlabel="predicted probability of malignancy", ylabel="images")
    bottom.margins(y=0.25)
    top.legend(loc="upper left", fontsize=9)
    return figure


def subgroup_forest(table: pd.DataFrame, score: str = "auroc") -> Figure:
    """Draw a score in each subgroup with its interval, and say where there are too few rows.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`iavlib.stats.subgroups.scores_by_group`.
    score : str
        One of its scores.
    """
    figure, ax = plt.subplots(figsize=(7.6, 0.3 * len(table) + 0.9))
    rows = _rows_apart(table.index.get_level_values("factor"))
    whole = table[score].iloc[0]
    measured = table[score].notna().to_numpy()
    subset = table[measured]
    if measured[0]:
        ax.axvline(whole, color=COLOURS["neutral"], lw=0.8, ls="--")
    spread = np.vstack(
        [subset[score] - subset[f"{score}_low"], subset[f"{score}_high"] - subset[score]]
    )
    style = {"fmt": "o", "color": COLOURS["neutral"], "capsize": 3, "ms": 5}
    ax.errorbar(subset[score], rows[measured], xerr=np.abs(spread), **style)
    if len(subset):  # else every row says why there is nothing to draw
        low = np.nanmin([*subset[f"{score}_low"], whole - 0.1])
        high = np.nanmax([*subset[f"{score}_high"], whole])
        ax.set_xlim(max(low - 0.02, -0.01), min(high + 0.02, 1.01))
    for row, note in zip(rows[~measured], table["note"][~measured], strict=True):
        ax.annotate(
            note,
            (0.02, row),
            xycoords=ax.get_yaxis_transform(),
            va="center",
            size=8,
            color="#777777",
            style="italic",
        )
    ax.set(yticks=rows, yticklabels=_subgroup_labels(table), xlabel=SCORE_LABELS.get(score, score))
    ax.set_title("subgroup  (malignant of all)", fontsize=8, loc="left", x=-0.02, ha="right")
    ax.tick_params(axis="y", labelsize=8)
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return figure


def _subgroup_labels(table: pd.DataFrame) -> list[str]:
    return [
        f"{'all' if factor == 'all' else f'{factor}: {level}'}  ({row.n_malignant:,} of {row.n:,})"
        for (factor, level), row in zip(table.index, table.itertuples(), strict=True)
    ]


def _rows_apart(factors: pd.Index) -> np.ndarray:
    """Heights of rows, half a row apart where the factor changes."""
    changes = np.r_[0, (factors[1:] != factors[:-1]).astype(float)]
    return np.arange(len(factors)) + 0.5 * np.cumsum(changes)


def _colours(n: int) -> list[str]:
    return [CYCLE[i % len(CYCLE)] for i in range(n)]


_SINGLE, _MULTI = CYCLE[0], CYCLE[1]


def paired_runs(gains: pd.DataFrame, label: str = "balanced accuracy") -> Figure:
    """Draw each pair of runs as a line from single task to multi-task, one panel a dataset.

    Parameters
    ----------
    gains : pandas.DataFrame
        From :func:`iavlib.stats.gains.paired_gains`.
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
        subset = gains[gains["dataset"] == dataset]
        backbones = sorted(subset["backbone"].unique())
        for i, backbone in enumerate(backbones):
            _draw_pairs(ax, i, subset[subset["backbone"] == backbone])
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
        From :func:`iavlib.stats.gains.paired_gains`.
    averages : pandas.DataFrame
        From :func:`iavlib.stats.gains.average_gain`, or any other with an
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
        colour, subset = CYCLE[i % len(CYCLE)], runs[runs["backbone"] == backbone]
        aside = subset.assign(x=subset["alpha"] + 0.008 * (i - (len(backbones) - 1) / 2))
        ax.plot(aside["x"], aside[score], "o", color=colour, ms=3, alpha=0.4)
        _line_with_intervals(ax, _summary(aside, "x", score), colour, backbone)
        alone = subset.loc[subset["alpha"] == 1, score]
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
    subsets = dict(list(runs.groupby("dataset"))) if "dataset" in runs else {"": runs}
    figure, axes = plt.subplots(
        1, len(subsets), figsize=(1 + 4 * len(subsets), 3.6), sharey=True, squeeze=False
    )
    names = list(dict.fromkeys(runs[by]))
    for ax, (title, subset) in zip(axes.flat, subsets.items(), strict=True):
        for i, (name, colour) in enumerate(zip(names, CYCLE, strict=False)):
            # A few per cent aside, so that intervals at the same size can be told apart.
            aside = subset[subset[by] == name].assign(
                x=lambda t, i=i: t["n_train"] * 1.03 ** (i - 1)
            )
            ax.plot(aside["x"], aside[score], "o", color=colour, ms=3, alpha=0.4)
            _line_with_intervals(ax, _summary(aside, "x", score), colour, str(name))
        ax.set_xscale("log")
        ax.set_xticks(sorted(subset["n_train"].unique()))
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
        Of :func:`iavlib.experiments.results.segmentation.comparison_table`.
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
