"""Figures of annotators' preferences: whose prediction fits whom, and is the vote calibrated."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iavlib.agreement import dice, soft_dice
from iavlib.annotators import MultiAnnotatorSet
from iavlib.multiannotator.prediction import Prediction
from iavlib.plots.style import COLOURS, CYCLE, notice


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
