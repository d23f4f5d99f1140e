"""Figures of learning from several annotators: the network, its matrices, who errs how."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from iavlib.plots.style import COLOURS, notice

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
        Of :func:`iavlib.annotators.error_rates`, with one index.
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
