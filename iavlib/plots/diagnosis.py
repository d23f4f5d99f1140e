"""Figures of how well malignant is told from benign."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS, CYCLE
from iavlib.stats.diagnosis.delong import Auroc

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
        Model to its curve from :func:`iavlib.stats.diagnosis.roc.roc_curve`.
    areas : mapping of str to Auroc
        From :func:`iavlib.stats.diagnosis.delong.auroc`.
    bands : mapping of str to pandas.DataFrame, optional
        From :func:`iavlib.stats.diagnosis.roc.roc_band`, of some of the models.
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


def precision_recall(
    curves: Mapping[str, pd.DataFrame], averages: Mapping[str, float], share: float
) -> Figure:
    """Draw precision against recall, in steps, beside what guessing gives.

    Parameters
    ----------
    curves : mapping of str to pandas.DataFrame
        Model to its curve from :func:`iavlib.stats.diagnosis.roc.precision_recall_curve`.
    averages : mapping of str to float
        Average precision of each.
    share : float
        Of malignant rows: the precision of guessing.
    """
    figure, ax = plt.subplots(figsize=(5.2, 4))
    for (name, curve), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        recall = np.r_[0, curve["recall"]]
        precision = np.r_[curve["precision"].iloc[0], curve["precision"]]
        label = f"{name}: {averages[name]:.3f}"
        # A step's height is the precision at its right end, as average precision counts it.
        ax.step(recall, precision, where="pre", color=colour, lw=1.8, label=label)
    ax.axhline(share, color="black", lw=0.8, ls=":", label=f"guessing: {share:.3f}")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    ax.set(xlabel="recall (sensitivity)", ylabel="precision")
    ax.legend(fontsize=8, title="average precision", title_fontsize=8)
    return figure


def reliability(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw observed against predicted shares of malignant rows, and how many rows stand behind.

    Parameters
    ----------
    curves : mapping of str to pandas.DataFrame
        Model to its table from :func:`iavlib.stats.diagnosis.calibration.reliability_curve`.
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
        From :func:`iavlib.stats.diagnosis.subgroups.scores_by_group`.
    score : str
        One of its scores.
    """
    figure, ax = plt.subplots(figsize=(7.6, 0.3 * len(table) + 0.9))
    rows = _rows_apart(table.index.get_level_values("factor"))
    whole = table[score].iloc[0]
    measured = table[score].notna().to_numpy()
    part = table[measured]
    if measured[0]:
        ax.axvline(whole, color=COLOURS["neutral"], lw=0.8, ls="--")
    spread = np.vstack([part[score] - part[f"{score}_low"], part[f"{score}_high"] - part[score]])
    style = {"fmt": "o", "color": COLOURS["neutral"], "capsize": 3, "ms": 5}
    ax.errorbar(part[score], rows[measured], xerr=np.abs(spread), **style)
    if len(part):  # else every row says why there is nothing to draw
        low = np.nanmin([*part[f"{score}_low"], whole - 0.1])
        high = np.nanmax([*part[f"{score}_high"], whole])
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
