"""Figures of learning from several annotators: the network, its matrices, who errs how.

Figures of annotators' preferences: whose prediction fits whom, and is the vote calibrated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from iavlib.masks import dice, soft_dice
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.prediction import Prediction
from iavlib.plots.style import COLOURS, CYCLE, notice

_BOXES = {
    "picture": (0.0, 0.5, "picture"),
    "unet": (1.35, 0.5, "U-Net\n32-64-128-256"),
    "truth": (2.9, 0.9, "truth\np(x)"),
    "confusion": (2.9, 0.1, "confusion\nmatrices A_r(x)"),
    "said": (4.45, 0.5, "annotator r\nA_r(x) p(x)"),
    "label": (5.9, 0.5, "label y_r"),
}
_ARROWS = (
    ("picture", "unet", ""),
    ("unet", "truth", ""),
    ("unet", "confusion", ""),
    ("truth", "said", ""),
    ("confusion", "said", ""),
    ("said", "label", "-log"),
)
_WIDTH, _HEIGHT = 1.0, 0.36


def confusion_architecture() -> Figure:
    """Draw how a picture becomes the truth and each annotator's label."""
    figure, ax = plt.subplots(figsize=(8, 2.4))
    for x, y, text in _BOXES.values():
        box = FancyBboxPatch(
            (x, y - _HEIGHT / 2),
            _WIDTH,
            _HEIGHT,
            boxstyle="round,pad=0.03",
            edgecolor=COLOURS["neutral"],
            facecolor="white",
        )
        ax.add_patch(box)
        ax.text(x + _WIDTH / 2, y, text, ha="center", va="center", fontsize=9)
    for start, end, text in _ARROWS:
        tail, head = _BOXES[start], _BOXES[end]
        tip, foot = (head[0] - 0.04, head[1]), (tail[0] + _WIDTH + 0.04, tail[1])
        ax.annotate("", tip, foot, arrowprops={"arrowstyle": "->", "color": COLOURS["neutral"]})
        ax.text((tip[0] + foot[0]) / 2, tip[1] + 0.06, text, ha="center", fontsize=9)
    note = "trace of A: maximised first,\nthen minimised"
    ax.text(_BOXES["confusion"][0] + _WIDTH / 2, -0.3, note, ha="center", va="center", fontsize=8)
    ax.set(xlim=(-0.1, 7.0), ylim=(-0.45, 1.2))
    ax.axis("off")
    return figure


def confusion_pictures(
    learnt: np.ndarray, true: np.ndarray | None, annotators: Sequence[str], largest: int = 6
) -> Figure:
    """Draw confusion matrices as learnt and, below, as they are.

    Parameters
    ----------
    learnt, true : numpy.ndarray, shape (annotators, classes, classes)
        ``[label, truth]``; `true` may be None.
    annotators : sequence of str
    largest : int
        How many annotators are drawn at most, the first ones.
    """
    rows = {"learnt": learnt} | ({} if true is None else {"true": true})
    names = list(annotators)[:largest]
    size = (1.5 * len(names) + 1.2, 1.7 * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(names), figsize=size, squeeze=False)
    for (kind, matrices), line in zip(rows.items(), axes, strict=True):
        for place, (name, ax) in enumerate(zip(names, line, strict=True)):
            image = ax.imshow(matrices[place], vmin=0, vmax=1, cmap="cividis")
            for (given, truth), value in np.ndenumerate(matrices[place]):
                colour = "white" if value < 0.5 else "black"
                text = "" if np.isnan(value) else f"{value:.2f}"
                ax.text(truth, given, text, ha="center", va="center", color=colour, fontsize=8)
            classes = range(len(matrices[place]))
            ax.set(xticks=classes, yticks=classes, title=name if kind == "learnt" else "")
            ax.grid(visible=False)
        line[0].set_ylabel(f"{kind}\nlabel")
    for ax in axes[-1]:
        ax.set_xlabel("true class")
    figure.colorbar(image, ax=axes, label="share", shrink=0.8)
    return figure


def rates_learnt_against_true(learnt: pd.DataFrame, true: pd.DataFrame) -> Figure:
    """Draw learnt against true error rates of annotators, with a line of equality.

    Parameters
    ----------
    learnt, true : pandas.DataFrame
        Of :func:`iavlib.multiannotator.error_rates`, with one index.
    """
    figure, axes = plt.subplots(1, len(true.columns), figsize=(4 * len(true.columns), 3.6))
    for rate, ax in zip(true, np.atleast_1d(axes), strict=True):
        ax.plot([0, 1], [0, 1], color=COLOURS["unknown"])
        ax.scatter(true[rate], learnt[rate], color=COLOURS["benign"])
        for name in true.index:
            place = (true.loc[name, rate], learnt.loc[name, rate])
            ax.annotate(str(name), place, xytext=(4, 3), textcoords="offset points", fontsize=8)
        words = rate.replace("_", "-", 1).replace("_", " ")
        ax.set(xlabel=f"true {words}", ylabel=f"learnt {words}")
    return figure


def curves(
    table: pd.DataFrame,
    x: str,
    by: str,
    measures: Mapping[str, str],
    x_label: str,
    log: bool = False,
) -> Figure:
    """Draw measures along a setting, one line a model, with the spread of seeds.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a run.
    x, by : str
        Columns of the setting and of the model.
    measures : mapping of str to str
        Column to the label of its axis; one panel each.
    x_label : str
    log : bool
        Whether the setting is drawn on a logarithmic axis.
    """
    if table.empty:
        return notice("No finished run to draw.")
    figure, axes = plt.subplots(1, len(measures), figsize=(4.2 * len(measures), 3.4))
    for (measure, label), ax in zip(measures.items(), np.atleast_1d(axes), strict=True):
        for model, rows in table.dropna(subset=[measure]).groupby(by, sort=False):
            values = rows.groupby(x)[measure].agg(["mean", "std"]).sort_index()
            ax.errorbar(
                values.index, values["mean"], values["std"].fillna(0), marker="o", label=model
            )
        ax.set(xlabel=x_label, ylabel=label)
        if log:
            ax.set_xscale("log")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8)
    return figure


def dice_matrices(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw whose prediction (row) agrees how much with whom (column), a panel each.

    Parameters
    ----------
    matrices : mapping of str to pandas.DataFrame
        Title to Dice, as :func:`iavlib.experiments.results.preference.read_matrix`. The best of
        each row is framed.
    """
    if not matrices:
        return notice("No finished run to draw.")
    columns = min(len(matrices), 2)
    lines = -(-len(matrices) // columns)
    widest = max(table.shape[1] for table in matrices.values())
    height = 0.45 * max(len(table) for table in matrices.values()) + 1.6
    size = (max(0.55 * widest + 1.6, 3.6) * columns, height * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.axis("off")
    for (title, table), ax in zip(matrices.items(), axes.flat, strict=False):
        values = table.to_numpy(float)
        ax.imshow(values, vmin=0, vmax=1, cmap="cividis")
        for (row, column), value in np.ndenumerate(values):
            text = "" if np.isnan(value) else f"{value:.2f}"
            colour = "white" if value < 0.5 else "black"
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=7)
        _frame_best(ax, values[:, :-1])
        ax.set_xticks(range(len(table.columns)), table.columns, rotation=60, fontsize=7)
        ax.set_yticks(range(len(table)), table.index, fontsize=7)
        ax.set(title=title, xlabel="annotator", ylabel="predicted as")
        ax.grid(visible=False)
    return figure


def _frame_best(ax, values: np.ndarray) -> None:
    for row, line in enumerate(values):
        if np.isfinite(line).any():
            place = (np.nanargmax(line) - 0.5, row - 0.5)
            ax.add_patch(plt.Rectangle(place, 1, 1, fill=False, ec=COLOURS["malignant"], lw=2))


def annotator_pictures(
    found: Prediction, labelled: MultiAnnotatorSet, n: int = 3, structure: str = ""
) -> Figure:
    """Draw what is predicted of each annotator, her own outline, and the calibrated map.

    Parameters
    ----------
    found : Prediction
        Of a method that tells annotators apart.
    labelled : MultiAnnotatorSet
        The same pictures.
    n : int
        Pictures drawn: those that most annotators labelled, first ones first.
    structure : str
        The first unless given. In the corner stand soft and hard Dice.
    """
    structure = structure or next(iter(labelled.structures))
    classes = list(labelled.structures[structure])
    masks, share = labelled.structure(structure), labelled.mean_map(structure)
    order = np.argsort(labelled.missing.sum(axis=1), kind="stable")[:n]
    columns = ["picture", *found.annotators, "all"]
    size = (1.35 * len(columns), 1.5 * len(order))
    figure, axes = plt.subplots(len(order), len(columns), figsize=size, squeeze=False)
    for number, line in zip(order, axes, strict=True):
        line[0].imshow(labelled.images[number].squeeze(), cmap="gray")
        for place, ax in enumerate(line[1:-1]):
            given = None if labelled.missing[number, place] else masks[number, place] == 1
            _panel(ax, found.maps[number, place, classes].sum(axis=0), given)
        _panel(line[-1], found.consensus[number, classes].sum(axis=0), share[number])
    for ax, title in zip(axes[0], columns, strict=True):
        ax.set_title(title, fontsize=8)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return figure


def _panel(ax, predicted: np.ndarray, given: np.ndarray | None) -> None:
    """Draw a map with an annotator's outline (or that of half of them), and both Dice."""
    predicted = predicted.clip(0, 1)
    ax.imshow(predicted, vmin=0, vmax=1, cmap="gray")
    if given is None:
        ax.text(0.03, 0.97, "no label", transform=ax.transAxes, va="top", size=6, color="red")
        return
    if 0 < (given > 0.5).mean() < 1:
        ax.contour(given, [0.5], colors=[CYCLE[1]], linewidths=1)
    told = (
        f"{soft_dice(predicted, given.astype(float)):.2f} {dice(predicted > 0.5, given > 0.5):.2f}"
    )
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1}
    ax.text(0.03, 0.97, told, transform=ax.transAxes, va="top", size=6, bbox=box)


def agreement_reliability(curves: Mapping[str, Sequence[pd.DataFrame]]) -> Figure:
    """Draw which share of annotators marks pixels of each predicted share.

    Parameters
    ----------
    curves : mapping of str to sequence of pandas.DataFrame
        Name of a map to the tables of its runs (``predicted``, ``observed``, ``n``), one line a
        run.
    """
    if not curves:
        return notice("No finished run to draw.")
    figure, ax = plt.subplots(figsize=(4.2, 3.8))
    ax.plot([0, 1], [0, 1], color=COLOURS["unknown"])
    markers = dict(zip(curves, "os^Dv", strict=False))
    for (name, tables), colour in zip(curves.items(), CYCLE, strict=False):
        for place, table in enumerate(tables):
            label = name if place == 0 else None
            style = {"marker": markers[name], "ms": 4, "lw": 1, "color": colour}
            ax.plot(table["predicted"], table["observed"], label=label, **style)
    ax.set(xlabel="predicted share of annotators", ylabel="observed share of annotators")
    ax.legend()
    return figure
