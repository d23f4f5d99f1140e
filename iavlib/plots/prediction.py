"""Figures of predicted numbers beside the true ones: how close, how spread, for whom, how sure.

Figures that compare models: by interval, by seed, over training size, and by rank.

How much disagreement the first images of an order hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde

from iavlib.plots.style import COLOURS, CYCLE
from iavlib.stats.triage import triage_curve

_MALIGNANCY = ("benign", "malignant", "indeterminate", "unknown")
_MARKERS = {"benign": "o", "malignant": "^", "indeterminate": "s", "unknown": "s"}
_LABEL = "mean pairwise Dice"
#: Room beyond 0 and 1, so that values at the ends are seen.
_PAD = 0.02


def predicted_against_true(predictions: pd.DataFrame, label: str = _LABEL) -> Figure:
    """Draw predicted against true values, with the distribution of each at the margins.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``true`` and ``predicted``, and ``malignancy`` where it is to be shown.
    label : str
        What is predicted, with its unit.
    """
    figure, axes = plt.subplots(
        *(2, 2),
        figsize=(5.4, 5.4),
        gridspec_kw={"width_ratios": [4, 1], "height_ratios": [1, 4]},
        sharex="col",
        sharey="row",
    )
    (top, corner), (main, right) = axes
    corner.axis("off")
    low, high = _range(predictions)
    main.plot([low, high], [low, high], color="black", lw=0.8, label="predicted = true")
    for name, rows in _by_malignancy(predictions):
        colour, marker = COLOURS.get(name, COLOURS["neutral"]), _MARKERS.get(name, "o")
        main.scatter(
            *(rows["predicted"], rows["true"]), s=9, alpha=0.5, lw=0, color=colour, marker=marker
        )
        if name:
            main.scatter([], [], s=24, color=colour, marker=marker, label=f"{name} ({len(rows):,})")
    if np.ptp(predictions["predicted"]) > 0:
        slope, intercept = np.polyfit(predictions["predicted"], predictions["true"], 1)
        ends = np.array([predictions["predicted"].min(), predictions["predicted"].max()])
        text = f"least squares, slope {slope:.2f}"
        main.plot(
            ends, intercept + slope * ends, color=COLOURS["highlight"], ls="--", lw=1.8, label=text
        )
    main.set(xlabel=f"predicted {label}", ylabel=f"true {label}", xlim=(low, high))
    main.set(ylim=(low, high))
    main.legend(fontsize=7, loc="upper left")
    bins = np.linspace(low, high, 41)
    top.hist(predictions["predicted"], bins, color=COLOURS["neutral"])
    right.hist(predictions["true"], bins, orientation="horizontal", color=COLOURS["neutral"])
    top.set_ylabel("images")
    right.set_xlabel("images")
    top.tick_params(labelbottom=False)
    return figure


def residuals(predictions: pd.DataFrame, label: str = _LABEL, bins: int = 8) -> Figure:
    """Draw the error of each prediction against the prediction, with its mean along the way.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``true`` and ``predicted``.
    label : str
        What is predicted, with its unit.
    bins : int
        Groups of equally many images, of which mean and 10 to 90 % range are drawn.
    """
    error = predictions["predicted"] - predictions["true"]
    figure, (ax, side) = plt.subplots(
        1, 2, figsize=(7, 3.4), sharey=True, gridspec_kw={"width_ratios": [4, 1]}
    )
    ax.scatter(predictions["predicted"], error, s=9, alpha=0.4, lw=0, color=COLOURS["neutral"])
    groups = pd.qcut(predictions["predicted"].rank(method="first"), min(bins, len(error)))
    table = pd.DataFrame({"x": predictions["predicted"], "error": error}).groupby(
        groups.to_numpy(), observed=True
    )
    centre, mean = table["x"].mean(), table["error"].mean()
    low, high = (table["error"].quantile(q) for q in (0.1, 0.9))
    ax.fill_between(centre, low, high, color=COLOURS["malignant"], alpha=0.15, label="10 to 90 %")
    ax.plot(centre, mean, "o-", color=COLOURS["malignant"], ms=4, label="mean error")
    ax.axhline(0, color="black", lw=0.8)
    ax.set(xlabel=f"predicted {label}", ylabel="predicted - true")
    ax.legend(fontsize=8, loc="upper right")
    side.hist(error, bins=40, orientation="horizontal", color=COLOURS["neutral"])
    side.axhline(0, color="black", lw=0.8)
    side.set_xlabel("images")
    return figure


def prediction_densities(predictions: pd.DataFrame, label: str = _LABEL) -> Figure:
    """Draw how truth and prediction are distributed for benign and for malignant lesions.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``true``, ``predicted`` and ``malignancy``.
    label : str
        What is predicted, with its unit.
    """
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3), sharey=True)
    low, high = _range(predictions)
    grid = np.linspace(low + _PAD, high - _PAD, 300)
    for ax, column in zip(axes, ("true", "predicted"), strict=True):
        for name, line in (("benign", "-"), ("malignant", "--")):
            values = predictions.loc[predictions["malignancy"].eq(name), column]
            if values.nunique() < 3:
                continue
            density = _density(values, grid)
            text = f"{name}: n {len(values):,}, mean {values.mean():.3f}"
            ax.plot(grid, density, color=COLOURS[name], ls=line, label=text)
            ax.fill_between(grid, density, color=COLOURS[name], alpha=0.12, lw=0)
            ax.axvline(values.mean(), color=COLOURS[name], ls=":", lw=1)
        ax.set(title=column, xlabel=f"{column} {label}", xlim=(low, high))
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=7, loc="upper left")
    axes[0].set_ylabel("density")
    return figure


def coverage_and_width(tables: dict[str, pd.DataFrame], nominal: float) -> Figure:
    """Draw how often intervals hold the truth in each subgroup, and how wide they are.

    Parameters
    ----------
    tables : dict of str to pandas.DataFrame
        Kind of interval to what :func:`iavlib.stats.regression` gives for it.
    nominal : float
        Coverage aimed at, between 0 and 1.
    """
    groups = list(dict.fromkeys(group for table in tables.values() for group in table.index))
    height = 0.28 * len(groups) * len(tables) + 1.3
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, height), sharey=True)
    step = 0.7 / len(tables)
    for number, (kind, table) in enumerate(tables.items()):
        rows = np.array([groups.index(group) for group in table.index], dtype=float)
        rows += (number - (len(tables) - 1) / 2) * step
        style = {
            "color": CYCLE[number % len(CYCLE)],
            "marker": "os^Dv"[number % 5],
            "ms": 5,
            "ls": "none",
        }
        spread = [table["coverage"] - table["ci_low"], table["ci_high"] - table["coverage"]]
        left.errorbar(
            100 * table["coverage"],
            rows,
            xerr=100 * np.array(spread),
            capsize=3,
            label=kind,
            **style,
        )
        right.plot(table["width_mean"], rows, **style)
    left.axvline(100 * nominal, color="black", lw=0.8, ls="--")
    sizes = next(iter(tables.values()))["n"].reindex(groups)
    labels = [f"{group} (n {n:,.0f})" for group, n in sizes.items()]
    left.set(yticks=range(len(groups)), yticklabels=labels, xlabel="intervals with the truth (%)")
    left.set_title(f"coverage; aimed at {100 * nominal:.0f} %", fontsize=10)
    left.invert_yaxis()
    right.set(xlabel="mean width of the interval", xlim=(0, None))
    right.set_title("width", fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(tables), fontsize=8)
    for ax in (left, right):
        ax.grid(axis="y", visible=False)
    return figure




def _by_malignancy(predictions: pd.DataFrame) -> Sequence[tuple[str, pd.DataFrame]]:
    """Give the rows of each malignancy, or all rows under no name."""
    if "malignancy" not in predictions:
        return [("", predictions)]
    groups = predictions["malignancy"].astype(object).fillna("unknown")
    return [(name, predictions[groups == name]) for name in _MALIGNANCY if (groups == name).any()]


def _range(predictions: pd.DataFrame) -> tuple[float, float]:
    """Give common limits of both axes: 0 and 1, or further where values lie outside."""
    values = predictions[["true", "predicted"]].to_numpy()
    low, high = min(0.0, values.min()), max(1.0, values.max())
    return low - _PAD, high + _PAD


def _density(values: pd.Series, grid: np.ndarray) -> np.ndarray:
    """Smooth a histogram over a grid; what the kernel puts beyond its ends is folded back."""
    kernel = gaussian_kde(values)
    return kernel(grid) + kernel(2 * grid[0] - grid) + kernel(2 * grid[-1] - grid)


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
        subset = ordered[member]
        spread = [subset["estimate"] - subset["ci_low"], subset["ci_high"] - subset["estimate"]]
        style = {"fmt": "o", "color": COLOURS["neutral"], "mfc": face, "capsize": 3, "ms": 5}
        ax.errorbar(subset["estimate"], rows[member], xerr=np.array(spread), **style)
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






def _draw_lines(ax: Axes, baselines: Mapping[str, float], vertical: bool) -> None:
    """Draw one dashed line a baseline, with its value in the legend."""
    draw = ax.axvline if vertical else ax.axhline
    for number, (name, value) in enumerate(baselines.items()):
        dashes, colour = _LINES[number % len(_LINES)]
        draw(value, lw=1.2, ls=dashes, color=colour, label=f"{name} {value:.3f}")


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
