"""Images with the outlines that their annotators drew."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iavlib.data import Cohort
from iavlib.data.images import read_image, read_mask
from iavlib.plots.style import CYCLE, notice

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
