"""Figures of predicted numbers beside the true ones: how close, how spread, for whom, how sure."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import gaussian_kde

from iavlib.plots.style import COLOURS, CYCLE

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
        Kind of interval to what :func:`iavlib.stats.prediction.interval_coverage` gives for it.
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


def prediction_intervals(predictions: pd.DataFrame, label: str = _LABEL) -> Figure:
    """Draw every interval with its truth, from the lowest prediction to the highest.

    Parameters
    ----------
    predictions : pandas.DataFrame
        ``true``, ``predicted``, ``lower`` and ``upper``.
    label : str
        What is predicted, with its unit.
    """
    table = predictions.sort_values("predicted", kind="stable")
    place = np.arange(1, len(table) + 1)
    held = table["true"].between(table["lower"], table["upper"]).to_numpy()
    figure, ax = plt.subplots(figsize=(7, 3.4))
    ax.vlines(place, table["lower"], table["upper"], color="#B8CCE4", lw=1.2, label="interval")
    ax.plot(place, table["predicted"], color=COLOURS["neutral"], lw=1.2, label="predicted")
    truths = ((held, "highlight", "o", "inside"), (~held, "malignant", "x", "outside"))
    for member, colour, marker, name in truths:
        text = f"truth {name} ({member.sum():,})"
        points = (place[member], table["true"].to_numpy()[member])
        ax.scatter(
            *points, s=11, marker=marker, color=COLOURS[colour], lw=0.8, label=text, zorder=3
        )
    ax.set(xlabel="images, by predicted value", ylabel=label, xlim=(0, len(table) + 1))
    ax.grid(axis="x", visible=False)
    figure.legend(loc="outside upper center", ncols=4, fontsize=8)
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
