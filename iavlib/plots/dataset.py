"""Figures of what a cohort holds: who drew how much, with what, and how well the masks agree."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS, METRIC_LABELS


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
