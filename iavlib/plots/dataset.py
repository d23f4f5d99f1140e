"""Figures of what a cohort holds: who drew how much, with what, and how well the masks agree.

Images with the outlines that their annotators drew.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iavlib.data.cohort import Cohort
from iavlib.data.images import read_image, read_mask
from iavlib.plots.style import COLOURS, CYCLE, METRIC_LABELS, notice


def long_tails(masks: pd.DataFrame) -> Figure:
    """Draw the number of masks by annotator, tool and skill, on a logarithmic axis."""
    figure, axes = plt.subplots(
        1, 3, figsize=(9, 3), sharey=True, gridspec_kw={"width_ratios": [4, 1.2, 1]}
    )
    for ax, factor in zip(axes, ("annotator", "tool", "skill"), strict=True):
        counts = masks[factor].value_counts()
        bars = ax.bar(counts.index.astype(str), counts, color=COLOURS["neutral"])
        ax.bar_label(bars, fmt="{:,.0f}", fontsize=7)
        ax.set(xlabel=factor, yscale="log")
        ax.grid(axis="x", visible=False)
        ax.tick_params(axis="x", labelsize=8, rotation=60 if len(counts) > 6 else 0)
    axes[0].set_ylabel("masks")
    return figure


def masks_per_image(masks: pd.DataFrame) -> Figure:
    """Draw how many images have one, two, … masks and how many different annotators."""
    groups = masks.groupby("image_id")["annotator"]
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True)
    for ax, counts, label in (
        (axes[0], groups.size(), "masks of the image"),
        (axes[1], groups.nunique(), "different annotators of the image"),
    ):
        frequency = counts.value_counts().sort_index()
        bars = ax.bar(frequency.index.astype(str), frequency, color=COLOURS["neutral"])
        ax.bar_label(bars, fmt="{:,.0f}", fontsize=8)
        ax.set(xlabel=label, yscale="log")
        ax.grid(axis="x", visible=False)
    axes[0].set_ylabel("images")
    return figure


def annotator_overlap(masks: pd.DataFrame, most: int = 20) -> Figure:
    """Draw which sets of annotators share images (an UpSet plot).

    Parameters
    ----------
    masks : pandas.DataFrame
        Masks table of a cohort.
    most : int
        Number of sets shown, the most frequent first.
    """
    sets = masks.groupby("image_id")["annotator"].agg(lambda names: tuple(sorted(set(names))))
    counts = sets.value_counts()
    shown = counts.head(most)
    totals = masks.groupby("annotator")["image_id"].nunique()
    members = sorted({name for combination in shown.index for name in combination})
    figure, axes = plt.subplots(
        2, 2, figsize=(9, 5), sharex="col", gridspec_kw={"width_ratios": [1, 5]}
    )
    (corner, top), (left, matrix) = axes
    corner.axis("off")
    bars = top.bar(range(len(shown)), shown, color=COLOURS["neutral"])
    top.bar_label(bars, fontsize=7)
    top.set_ylabel("images")
    top.set_title(f"{len(shown)} of {len(counts)} sets, {shown.sum() / counts.sum():.0%} of images")
    _draw_membership(matrix, list(shown.index), members)
    left.barh(range(len(members)), totals[members], color=COLOURS["neutral"])
    left.set(yticks=[], xlabel="images in all", ylim=matrix.get_ylim())
    left.invert_xaxis()
    return figure


def _draw_membership(ax, combinations: list[tuple[str, ...]], members: list[str]) -> None:
    rows = {name: row for row, name in enumerate(members)}
    for column, combination in enumerate(combinations):
        inside = [rows[name] for name in combination]
        ax.scatter([column] * len(members), range(len(members)), s=18, color="#DDDDDD")
        ax.plot([column] * len(inside), sorted(inside), "o-", ms=4.5, color=COLOURS["neutral"])
    ax.set(yticks=range(len(members)), yticklabels=members, xticks=[])
    ax.set(xlabel="set of annotators", ylim=(len(members) - 0.5, -0.5))
    ax.grid(visible=False)


def metric_distributions(pairs: pd.DataFrame, metrics=None) -> Figure:
    """Draw the distribution of agreement over pairs of masks, with mean and median."""
    metrics = metrics or ("dice", "jaccard", "hd_normalized", "hd95_normalized", "assd_normalized")
    figure, axes = plt.subplots(1, len(metrics), figsize=(2.4 * len(metrics), 2.7), sharey=True)
    for ax, metric in zip(np.atleast_1d(axes), metrics, strict=True):
        values = pairs[metric].dropna()
        high = 1 if metric in ("dice", "jaccard") else min(1.0, values.quantile(0.99))
        ax.hist(values.clip(upper=high), bins=np.linspace(0, high, 31), color=COLOURS["neutral"])
        ax.axvline(values.mean(), color=COLOURS["malignant"], label=f"mean {values.mean():.3f}")
        median = values.median()
        ax.axvline(median, color=COLOURS["highlight"], ls="--", label=f"median {median:.3f}")
        ax.set_xlabel(METRIC_LABELS[metric], fontsize=8)
        ax.legend(fontsize=7, loc="upper left" if high == 1 else "upper right")
    np.atleast_1d(axes)[0].set_ylabel("pairs")
    return figure


def completeness(metadata: pd.DataFrame, most: int = 36) -> Figure:
    """Draw the share of images for which each column of the metadata is filled."""
    share = metadata.notna().mean().sort_values(ascending=True).tail(most)
    figure, ax = plt.subplots(figsize=(7, 0.19 * len(share) + 0.8))
    ax.barh(share.index, 100 * share, color=COLOURS["neutral"])
    ax.set(xlabel="images with a value (%)", xlim=(0, 100))
    ax.tick_params(axis="y", labelsize=7)
    ax.grid(axis="y", visible=False)
    ax.margins(y=0.01)
    return figure


# An outline on a screen needs no more points than the picture has pixels.
LONGEST_SIDE = 512


def outlines(cohort: Cohort, image_ids, columns: int = 3, size: float = 3.0) -> Figure:
    """Draw images with one outline a mask, where image and masks are present.

    A squashed copy is stretched back to its published shape, so that published outlines fit; a
    cropped copy has lost its place in the published image and gets no outlines.

    Parameters
    ----------
    cohort : Cohort
    image_ids : sequence of str
        Images whose file is present; without any the figure says so.
    columns : int
        Pictures in a row.
    size : float
        Inches of a picture.
    """
    image_ids = list(image_ids)
    if not image_ids:
        return notice("No image files are present.")
    rows = -(-len(image_ids) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(size * columns, 0.85 * size * rows),
        squeeze=False,
        layout="constrained",
    )
    mean_dice = cohort.pairs.groupby("image_id")["dice"].mean()
    for ax in axes.flat:
        ax.axis("off")
    for ax, image_id in zip(axes.flat, image_ids, strict=False):
        _draw(ax, cohort, image_id)
        agreement = f", Dice {mean_dice[image_id]:.2f}" if image_id in mean_dice else ""
        label = cohort.images.loc[image_id, "malignancy"]
        ax.set_title(f"{image_id}\n{label}{agreement}", fontsize=8)
    return figure


def examples_by_agreement(cohort: Cohort, n: int = 3) -> list[str]:
    """Choose images that can be shown, from the lowest to the highest mean Dice.

    Images whose masks are present come first; the choice is evenly spaced in rank.
    """
    with_masks = set(cohort.masks.loc[cohort.masks["path"].notna(), "image_id"])
    shown = cohort.images[cohort.images["path"].notna() & (cohort.images["geometry"] != "cropped")]
    mean_dice = cohort.pairs.groupby("image_id")["dice"].mean()
    candidates = mean_dice[mean_dice.index.isin(shown.index)].sort_values()
    preferred = candidates[candidates.index.isin(with_masks)]
    candidates = preferred if len(preferred) >= n else candidates
    if candidates.empty:
        return []
    ranks = np.linspace(0, len(candidates) - 1, min(n, len(candidates))).round().astype(int)
    return candidates.index[ranks].tolist()


def _draw(ax, cohort: Cohort, image_id: str) -> None:
    facts = cohort.images.loc[image_id]
    extent = (0, facts["width"], facts["height"], 0)
    ax.imshow(read_image(facts["path"]), extent=extent)
    ax.set_aspect("equal")
    if facts["geometry"] == "cropped":
        return
    masks = cohort.masks[(cohort.masks["image_id"] == image_id) & cohort.masks["path"].notna()]
    handles = []
    for colour, (_, mask) in zip(CYCLE * 3, masks.iterrows(), strict=False):
        _draw_outline(ax, read_mask(mask["path"]), extent, colour)
        label = "/".join(map(str, mask[["annotator", "tool", "skill"]].dropna()))
        handles.append(Line2D([], [], color=colour, label=label))
    if handles:
        box = {"frameon": True, "facecolor": "black", "framealpha": 0.5, "edgecolor": "none"}
        ax.legend(handles=handles, fontsize=6, loc="lower left", labelcolor="white", **box)


def _draw_outline(ax, mask: np.ndarray, extent, colour: str) -> None:
    step = max(1, max(mask.shape) // LONGEST_SIDE)
    small = mask[::step, ::step]
    if small.any() and not small.all():
        width, height = extent[1], extent[2]
        x = (np.arange(small.shape[1]) + 0.5) * width / small.shape[1]
        y = (np.arange(small.shape[0]) + 0.5) * height / small.shape[0]
        ax.contour(x, y, small, levels=[0.5], colors=[colour], linewidths=1.3)
