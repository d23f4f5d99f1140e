"""Pictures: outlines, maps over images, predicted beside given labels, a network's diagram."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch

from iavlib.plots.style import COLOURS, CYCLE, hide_ticks, notice

#: An outline on a screen needs no more points than the picture has pixels.
_MAX_SIDE = 512


def _outline(ax: Axes, mask: np.ndarray, colour: str, extent=None) -> None:
    """Draw the outline of a mask (values above one half), unless it is empty or full."""
    step = max(1, max(mask.shape) // _MAX_SIDE)
    small = np.asarray(mask)[::step, ::step] > 0.5
    if small.any() and not small.all():
        _, width, height, _ = extent or (0, mask.shape[1], mask.shape[0], 0)
        origin = 0 if extent else -0.5
        x, y = ((np.arange(n) + 0.5) / n for n in small.shape[::-1])
        points = width * x + origin, height * y + origin
        ax.contour(*points, small, levels=[0.5], colors=[colour], linewidths=1.2)


def outlines(pictures: Sequence[Mapping], columns: int = 3, size: float = 3.0) -> Figure:
    """Draw images with one outline per mask.

    Parameters
    ----------
    pictures : sequence of mapping
        Each with ``image`` (array of shape (height, width, 3)), ``masks`` (label to array of shape
        (height, width), of any resolution), ``title``, and optionally ``size``, the width and
        height in pixels to which image and masks are stretched.
    columns : int
        Pictures per row.
    size : float
        Inches per picture.

    Returns
    -------
    Figure
        One that states that no image file is present, without any.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib import plots
    >>> mask = np.eye(8)
    >>> picture = {"image": np.zeros((8, 8, 3)), "masks": {"A1": mask}, "title": "ISIC_1"}
    >>> plots.outlines([picture], columns=1).axes[0].get_title()
    'ISIC_1'
    """
    if not pictures:
        return notice("No image files are present.")
    rows = -(-len(pictures) // columns)
    inches = (size * columns, 0.85 * size * rows)
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False)
    for ax in axes.flat:
        ax.axis("off")
    for ax, picture in zip(axes.flat, pictures, strict=False):
        width, height = picture.get("size", picture["image"].shape[1::-1])
        extent = (0, width, height, 0)
        ax.imshow(picture["image"], extent=extent)
        ax.set_title(picture["title"], fontsize=8)
        handles = []
        for colour, (label, mask) in zip(CYCLE * 3, picture["masks"].items(), strict=False):
            _outline(ax, mask, colour, extent)
            handles.append(Line2D([], [], color=colour, label=label))
        if handles:
            box = {"frameon": True, "facecolor": "black", "framealpha": 0.5, "edgecolor": "none"}
            ax.legend(handles=handles, fontsize=6, loc="lower left", labelcolor="white", **box)
    return figure


def overlays(examples: Sequence, size: float = 2.3) -> Figure:
    """Draw images with annotators' outlines, and each map over the image with its regions.

    Parameters
    ----------
    examples : sequence of object
        One row each, with attributes ``image_id``, ``predicted`` (number), ``picture`` (array of
        shape (height, width, 3)), ``masks`` (arrays of shape (height, width)), ``maps`` (title to
        array from 0 to 1), ``lesion`` (consensus mask) and ``disagreement`` (mask or None). The
        first column shows the image and what each annotator outlined; in the others a map lies
        over the image, with the consensus (white) and, hatched, the pixels over which annotators
        differ. Maps are scaled image by image.
    size : float
        Inches per picture.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> import numpy as np
    >>> from iavlib import plots
    >>> mask, picture = np.eye(8), np.zeros((8, 8, 3))
    >>> example = SimpleNamespace(image_id="ISIC_1", predicted=0.8, picture=picture, masks=[mask])
    >>> example.maps, example.lesion, example.disagreement = {"Grad-CAM": mask}, mask, None
    >>> [ax.get_title() for ax in plots.overlays([example]).axes][1]
    'Grad-CAM'
    """
    if not examples:
        return notice("No network to explain is on this machine.")
    titles = list(examples[0].maps)
    inches = (size * (len(titles) + 1), 1.08 * size * len(examples))
    figure, axes = plt.subplots(len(examples), len(titles) + 1, figsize=inches, squeeze=False)
    for row, example in zip(axes, examples, strict=True):
        for ax in row:
            ax.imshow(example.picture)
        for colour, mask in zip(CYCLE * 3, example.masks, strict=False):
            _outline(row[0], mask, colour)
        caption = f"{example.image_id}, predicted {example.predicted:.2f}"
        row[0].set_title(f"outlines\n{caption}" if row is axes[0] else caption, fontsize=8)
        for ax, title in zip(row[1:], titles, strict=True):
            heat, differ = example.maps[title], example.disagreement
            ax.imshow(heat, cmap="magma", vmin=0, vmax=1, alpha=0.25 + 0.5 * heat)
            _outline(ax, example.lesion, "white")
            if differ is not None and differ.any():
                ax.contourf(differ, levels=[0.5, 1.5], colors="none", hatches=["////"])
            if not heat.any():
                ax.text(0.5, 0.5, "empty", transform=ax.transAxes, ha="center", color="white")
    for ax, title in zip(axes[0, 1:], titles, strict=True):
        ax.set_title(title, fontsize=8)
    hide_ticks(axes.flat)
    return figure


def annotator_maps(
    images: np.ndarray,
    predicted: np.ndarray,
    given: np.ndarray,
    names: Sequence[str],
    scores: Sequence[Callable] = (),
) -> Figure:
    """Draw what is predicted for each annotator, with the outline that this annotator gave.

    Parameters
    ----------
    images : ndarray, shape (n, height, width) or (n, height, width, channels)
    predicted : ndarray, shape (n, k, height, width)
        Probability of the structure for each annotator, from 0 to 1; the last may be that of all.
    given : ndarray, shape (n, k, height, width)
        Masks, or shares of annotators, from 0 to 1; NaN where an annotator gave no label.
    names : sequence of str
        Titles of the k maps.
    scores : sequence of callable
        Functions of a predicted and a given map, whose values are written into the corner, for
        instance soft and hard Dice.

    Examples
    --------
    >>> import numpy as np
    >>> from iavlib import plots
    >>> mask = np.eye(8)[None, None]
    >>> figure = plots.annotator_maps(np.zeros((1, 8, 8)), mask, mask, ["A1"])
    >>> [ax.get_title() for ax in figure.axes]
    ['picture', 'A1']
    """
    size = (1.35 * (len(names) + 1), 1.5 * len(images))
    figure, axes = plt.subplots(len(images), len(names) + 1, figsize=size, squeeze=False)
    for row, image, maps, labels in zip(axes, images, predicted, given, strict=True):
        row[0].imshow(image.squeeze(), cmap="gray")
        for ax, shown, label in zip(row[1:], maps.clip(0, 1), labels, strict=True):
            ax.imshow(shown, vmin=0, vmax=1, cmap="gray")
            text, style = "no label", {"color": "red"}
            if not np.isnan(label).any():
                _outline(ax, label, CYCLE[1])
                text = " ".join(f"{score(shown, label):.2f}" for score in scores)
                style = {"bbox": {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1}}
            if text:
                ax.text(0.03, 0.97, text, transform=ax.transAxes, va="top", size=6, **style)
    for ax, title in zip(axes[0], ("picture", *names), strict=True):
        ax.set_title(title, fontsize=8)
    hide_ticks(axes.flat)
    return figure


_BOXES = {
    "picture": (0.0, 0.5, "picture"),
    "unet": (1.35, 0.5, "U-Net\n32-64-128-256"),
    "truth": (2.9, 0.9, "truth\np(x)"),
    "confusion": (2.9, 0.1, "confusion\nmatrices A_r(x)"),
    "annotator": (4.45, 0.5, "annotator r\nA_r(x) p(x)"),
    "label": (5.9, 0.5, "label y_r"),
}
_ARROWS = (
    ("picture", "unet", ""),
    ("unet", "truth", ""),
    ("unet", "confusion", ""),
    ("truth", "annotator", ""),
    ("confusion", "annotator", ""),
    ("annotator", "label", "-log"),
)
_WIDTH, _HEIGHT = 1.0, 0.36


def confusion_architecture() -> Figure:
    """Draw how a network turns a picture into the truth and each annotator's label.

    Examples
    --------
    >>> from iavlib import plots
    >>> len(plots.confusion_architecture().axes[0].patches)
    6
    """
    figure, ax = plt.subplots(figsize=(8, 2.4))
    style = {"boxstyle": "round,pad=0.03", "edgecolor": COLOURS["neutral"], "facecolor": "white"}
    centred = {"ha": "center", "va": "center"}
    for x, y, text in _BOXES.values():
        ax.add_patch(FancyBboxPatch((x, y - _HEIGHT / 2), _WIDTH, _HEIGHT, **style))
        ax.text(x + _WIDTH / 2, y, text, fontsize=9, **centred)
    for start, end, text in _ARROWS:
        tail, head = _BOXES[start], _BOXES[end]
        tip, foot = (head[0] - 0.04, head[1]), (tail[0] + _WIDTH + 0.04, tail[1])
        ax.annotate("", tip, foot, arrowprops={"arrowstyle": "->", "color": COLOURS["neutral"]})
        ax.text((tip[0] + foot[0]) / 2, tip[1] + 0.06, text, ha="center", fontsize=9)
    note = "trace of A: maximised first,\nthen minimised"
    ax.text(_BOXES["confusion"][0] + _WIDTH / 2, -0.3, note, fontsize=8, **centred)
    ax.set(xlim=(-0.1, 7.0), ylim=(-0.45, 1.2))
    ax.axis("off")
    return figure
