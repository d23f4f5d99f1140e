"""Figures of explanations: maps over images, where attribution lies, whether it can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iavlib.plots.style import COLOURS, CYCLE, notice

_HEAT = "magma"
_CONSENSUS = "white"


def overlays(examples: Sequence, size: float = 2.3) -> Figure:
    """Draw images with annotators' outlines, and each map over the image with its regions.

    Parameters
    ----------
    examples : sequence of iavlib.experiments.results.explanation.Example
        A row each. The first column shows the image and what each annotator outlined; in the
        others a map lies over the image, with the consensus (white) and, hatched, the pixels
        over which annotators differ. Maps are scaled image by image.
    size : float
        Inches of a picture.
    """
    if not examples:
        return notice("No network to explain is on this machine.")
    titles = list(examples[0].maps)
    rows, columns = len(examples), len(titles) + 1
    figure, axes = plt.subplots(
        rows, columns, figsize=(size * columns, 1.08 * size * rows), squeeze=False
    )
    for row, example in zip(axes, examples, strict=True):
        _draw_outlines(row[0], example)
        for ax, title in zip(row[1:], titles, strict=True):
            _draw_map(ax, example, title)
    axes[0, 0].set_title(f"outlines\n{_caption(examples[0])}", fontsize=8)
    for row, example in zip(axes[1:], examples[1:], strict=True):
        row[0].set_title(_caption(example), fontsize=8)
    for ax, title in zip(axes[0, 1:], titles, strict=True):
        ax.set_title(title, fontsize=8)
    return figure


def _caption(example) -> str:
    return f"{example.image_id}, predicted {example.predicted:.2f}"


def _draw_outlines(ax, example) -> None:
    ax.imshow(example.picture)
    ax.axis("off")
    for colour, mask in zip(CYCLE * 3, example.masks, strict=False):
        _outline(ax, mask, colour)


def _draw_map(ax, example, title: str) -> None:
    heat = example.maps[title]
    ax.imshow(example.picture)
    ax.imshow(heat, cmap=_HEAT, vmin=0, vmax=1, alpha=0.25 + 0.5 * heat)
    ax.axis("off")
    _outline(ax, example.lesion, _CONSENSUS)
    differ = example.disagreement
    if differ is not None and differ.any():
        ax.contourf(differ, levels=[0.5, 1.5], colors="none", hatches=["////"])
    if not heat.any():
        ax.text(0.5, 0.5, "empty", transform=ax.transAxes, ha="center", color="white")


def _outline(ax, mask: np.ndarray, colour: str) -> None:
    if mask.any() and not mask.all():
        ax.contour(mask, levels=[0.5], colors=[colour], linewidths=1.2)


def attribution_forest(ratios: pd.DataFrame, regions: Sequence[str]) -> Figure:
    """Draw ratios of attribution to chance with their intervals, a panel a region.

    Parameters
    ----------
    ratios : pandas.DataFrame
        Index with the levels ``method`` and ``region`` (and others, which name a row with the
        method); ``ratio``, ``ci_low``, ``ci_high``.
    regions : sequence of str
        Panels; those that are not in the table are left out.
    """
    known = ratios.index.get_level_values("region") if len(ratios) else ()
    regions = [name for name in regions if name in set(known)]
    if not regions:
        return notice("No explained image has such a region.")
    tables = {name: ratios.xs(name, level="region").dropna(subset="ratio") for name in regions}
    labels = list(dict.fromkeys(_row_name(key) for one in tables.values() for key in one.index))
    figure, axes = plt.subplots(
        1,
        len(regions),
        figsize=(2.6 + 2.4 * len(regions), 1 + 0.26 * len(labels)),
        sharey=True,
        squeeze=False,
    )
    for ax, (name, table) in zip(axes[0], tables.items(), strict=True):
        places = [labels.index(_row_name(key)) for key in table.index]
        below, above = table["ratio"] - table["ci_low"], table["ci_high"] - table["ratio"]
        bars = np.nan_to_num(np.array([below, above]).clip(0))
        ax.errorbar(table["ratio"], places, xerr=bars, fmt="o", color=COLOURS["neutral"], ms=4)
        ax.axvline(1, color=COLOURS["malignant"], linewidth=1)
        ax.set_title(name)
        ax.set_xlabel("attribution / chance")
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].invert_yaxis()
    return figure


def _row_name(key) -> str:
    return ", ".join(key) if isinstance(key, tuple) else str(key)


def cascade_lines(cascade: pd.DataFrame, limit: float) -> Figure:
    """Draw how much of a map is left while a network's weights are destroyed stage by stage.

    Parameters
    ----------
    cascade : pandas.DataFrame
        ``stage``, ``method``, ``spearman``, ``ssim``, in the order of destruction.
    limit : float
        Drawn as a line: below it a method passes.
    """
    if not len(cascade):
        return notice("No run has destroyed weights.")
    stages = list(dict.fromkeys(cascade["stage"]))
    measures = {"spearman": "rank correlation", "ssim": "structural similarity"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for ax, (measure, label) in zip(axes, measures.items(), strict=True):
        for method, group in cascade.groupby("method", sort=False):
            places = [stages.index(stage) for stage in group["stage"]]
            ax.plot(places, group[measure], marker="o", ms=3, label=method)
        ax.axhline(limit, color="#888888", linewidth=1, linestyle="--")
        ax.set_xticks(range(len(stages)), stages, rotation=45, ha="right", fontsize=8)
        ax.set_ylabel(f"{label} with the map before")
    axes[1].legend(fontsize=7)
    return figure


def agreement_matrix(table: pd.DataFrame) -> Figure:
    """Draw mean rank correlations between methods as a matrix with its numbers."""
    if not len(table):
        return notice("No run compares methods.")
    figure, ax = plt.subplots(figsize=(1.8 + 0.6 * len(table), 1.2 + 0.55 * len(table)))
    picture = ax.imshow(table.to_numpy(float), cmap="RdBu", vmin=-1, vmax=1)
    ax.set_xticks(range(len(table)), table.columns, rotation=45, ha="right", fontsize=8)
    ax.set_yticks(range(len(table)), table.index, fontsize=8)
    ax.grid(False)
    for (row, column), value in np.ndenumerate(table.to_numpy(float)):
        shown = "" if np.isnan(value) else f"{value:.2f}"
        colour = "white" if abs(value) > 0.6 else "black"
        ax.text(column, row, shown, ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(picture, ax=ax, label="rank correlation", shrink=0.8)
    return figure


def gain_bars(table: pd.DataFrame, gains: Sequence[str]) -> Figure:
    """Draw gains over random maps with their intervals, one colour a gain.

    Parameters
    ----------
    table : pandas.DataFrame
        Index ``target``, ``method``; each gain with ``_low`` and ``_high``.
    gains : sequence of str
    """
    if not len(table):
        return notice("No run has curves of deletion and insertion.")
    labels = [_row_name(key) for key in table.index]
    figure, ax = plt.subplots(figsize=(7, 1 + 0.32 * len(labels)))
    handles = []
    for shift, (gain, colour) in enumerate(zip(gains, CYCLE, strict=False)):
        places = np.arange(len(labels)) + 0.25 * (shift - (len(gains) - 1) / 2)
        ends = [table[gain] - table[f"{gain}_low"], table[f"{gain}_high"] - table[gain]]
        bars = np.nan_to_num(np.array(ends).clip(0))
        ax.errorbar(table[gain], places, xerr=bars, fmt="o", color=colour, ms=4)
        handles.append(Line2D([], [], color=colour, marker="o", label=gain.replace("_", " ")))
    ax.axvline(0, color="#888888", linewidth=1)
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set_xlabel("better than a random map by (units of the score)")
    ax.legend(handles=handles, fontsize=8)
    return figure
