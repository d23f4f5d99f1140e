"""Masks of one image as a stack, and overlap of arrays and sets.

Dice (binary, soft, by class), Fleiss' kappa and energy distance. Both masks empty: Dice and IoU
are 1. One empty: 0. The Dice of two single masks, :func:`iavlib.masks.dice`, is one of the metrics
of :mod:`iavlib.masks.metrics` and computed by :func:`dice_from_counts`, as is every other Dice. A
set of masks of one image is a sequence of masks, or an array of shape (n, height, width), in which
values above 0 are inside.
"""

from collections.abc import Sequence

import numpy as np

from iavlib.core.errors import DataError
from iavlib.masks.surfaces import as_mask, binarise

SOFT_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
RELEASED_EPSILON = 1e-6
_PIXELS = 1 << 20  # multiplied together: sums of so many ones are exact in single precision


def dice_from_counts(common, area_a, area_b):
    """Return Dice from numbers of pixels (or sums of probabilities); 1 where both areas are 0.

    Parameters
    ----------
    common, area_a, area_b : array_like of number
        Of the intersection and of both masks; they broadcast.
    """
    areas = np.add(area_a, area_b)
    return np.where(areas > 0, 2 * common / np.where(areas > 0, areas, 1), 1.0)


def array_dice(a, b) -> np.ndarray:
    """Return the Dice of stacks of masks or probability maps.

    Parameters
    ----------
    a, b : array_like of bool or of float in [0, 1], shape (..., height, width)
        They broadcast. The Dice of probabilities is the soft one: twice the sum of the product
        over the sum of both.

    Returns
    -------
    numpy.ndarray of float, shape (...)
    """
    a, b = np.asarray(a), np.asarray(b)
    areas = [x.sum(axis=(-2, -1), dtype=float if x.dtype.kind == "f" else None) for x in (a, b)]
    return dice_from_counts((a * b).sum(axis=(-2, -1)), *areas)


def class_dice(predicted, truth, n_classes: int) -> np.ndarray:
    """Return the Dice of every class on every image.

    Parameters
    ----------
    predicted : array_like
        Labels, int of shape (n, height, width), or probabilities, float of shape (n, n_classes,
        height, width), whose Dice is the soft one.
    truth : array_like of int, shape (n, height, width)
    n_classes : int

    Returns
    -------
    numpy.ndarray of float, shape (n, n_classes)
        1 where neither has the class.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    soft = predicted.dtype.kind == "f"
    expected = (len(truth), n_classes, *truth.shape[1:]) if soft else truth.shape
    if predicted.shape != expected:
        raise ValueError(f"predictions of shape {predicted.shape}, not {expected}")
    by_class = (predicted[:, k] if soft else predicted == k for k in range(n_classes))
    return np.stack([array_dice(p, truth == k) for k, p in enumerate(by_class)], axis=1)


def soft_dice(a, b, thresholds: Sequence[float] = SOFT_THRESHOLDS):
    """Return the mean, over thresholds, of the Dice of what lies above in two soft masks.

    Parameters
    ----------
    a, b : array_like of float in [0, 1], shape (..., height, width)
        Probabilities, or shares of annotators.
    thresholds : sequence of float
        A pixel is inside where its value is strictly above the threshold, as in the code of
        PADL, DiFF and D-Persona (MRNet counts the threshold itself as inside).

    Returns
    -------
    float, or numpy.ndarray of float of shape (...)

    Raises
    ------
    ValueError
        If a value is NaN or not within [0, 1] (a logit, or 0/255), if the shapes differ, or if
        there is no threshold.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"masks of one image must have one shape, not {a.shape} and {b.shape}")
    for name, values in (("first", a), ("second", b)):
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"the {name} soft mask has values outside [0, 1]")
    if not len(thresholds):
        raise ValueError("soft Dice needs at least one threshold")
    dice = np.mean([array_dice(a > t, b > t) for t in thresholds], axis=0)
    return float(dice) if dice.ndim == 0 else dice


def fleiss_kappa(masks: Sequence) -> float:
    """Return Fleiss' kappa of two or more masks of one image, over all its pixels.

    Parameters
    ----------
    masks : sequence of array_like, or array of shape (n, height, width)

    Returns
    -------
    float
        1 where all masks are empty, or all full.

    Raises
    ------
    ValueError
        If there are fewer than two masks or their shapes differ.

    References
    ----------
    J. L. Fleiss: Measuring nominal scale agreement among many raters. Psychol. Bull. 76, 1971.
    """
    masks = _rows(masks)
    n = len(masks)
    if n < 2:
        raise ValueError(f"Fleiss' kappa needs at least two masks, not {n}")
    votes = np.sum(masks, axis=0, dtype=np.int64)
    return fleiss_from_votes(np.bincount(votes, minlength=n + 1))


def fleiss_from_votes(pixels_with: np.ndarray) -> float:
    """Return Fleiss' kappa from the number of pixels that 0, 1, … n masks contain."""
    size, n = int(pixels_with.sum()), len(pixels_with) - 1
    inside = np.arange(n + 1)
    agreeing = inside * (inside - 1) + (n - inside) * (n - inside - 1)
    observed = (pixels_with @ agreeing) / (size * n * (n - 1))
    share = (pixels_with @ inside) / (size * n)
    by_chance = share**2 + (1 - share) ** 2
    return 1.0 if share in (0.0, 1.0) else float((observed - by_chance) / (1 - by_chance))


def krippendorff_alpha(votes: Sequence[np.ndarray]) -> float:
    """Return Krippendorff's alpha (nominal) of the pixels of several images together.

    Parameters
    ----------
    votes : sequence of numpy.ndarray of int, each of shape (n + 1,)
        For each image, how many pixels are inside 0, 1, … n of its n masks. Images may differ in
        n: an annotator who did not draw an image is a missing value.

    Returns
    -------
    float
        1 where every pixel of every image is outside, or every one is inside.

    References
    ----------
    K. Krippendorff: Content Analysis, 3rd ed., Sage 2013, ch. 12.

    Examples
    --------
    >>> round(krippendorff_alpha([np.array([5, 1, 4])]), 3)  # 10 pixels, 2 masks
    0.808
    """
    differ = total = inside = 0.0
    for pixels_with in votes:
        n = len(pixels_with) - 1
        marked = np.arange(n + 1)
        differ += pixels_with @ (2 * marked * (n - marked) / (n - 1))
        total += n * pixels_with.sum()
        inside += marked @ pixels_with
    by_chance = 2 * inside * (total - inside)
    return float(1 - (total - 1) * differ / by_chance) if by_chance else 1.0


def generalised_energy_distance(samples: Sequence, references: Sequence) -> float:
    """Return the (squared) generalised energy distance between two sets of masks.

    ``2 E[d(S, Y)] - E[d(S, S')] - E[d(Y, Y')]`` with ``d = 1 - IoU``, where expectations are
    means over all ordered pairs, a mask paired with itself included, so that the distance
    between equal sets is 0. It lies within [0, 2].

    Parameters
    ----------
    samples, references : sequence of array_like, shape (height, width)

    Raises
    ------
    ValueError
        If a set is empty or the masks' shapes differ.

    Notes
    -----
    The convention of Kohl et al. (A probabilistic U-Net, 2018) and PHiSeg. D-Persona's second
    form leaves self-pairs out and can be negative; the released code of the confusion-matrix
    method adds Dice similarities with plus signs, which is no distance (:func:`ged_released`).
    """
    masks, n = _rows([*samples, *references]), len(samples)
    if not 0 < n < len(masks):
        raise ValueError("a set must hold at least one mask")
    distance = 1 - _iou(masks)
    across = distance[:n, n:].mean()
    within = distance[:n, :n].mean(), distance[n:, n:].mean()
    return max(0.0, float(2 * across - sum(within)))


def ged_released(samples: Sequence, references: Sequence, n_classes: int = 2) -> float:
    """Return the quantity that the released code of the confusion-matrix method calls GED.

    ``E[D(Y, Y')] + E[D(S, S')] + 2 E[D(S, Y)]`` with D the Dice **similarity**, the mean over
    classes with the background among them. Every sign is a plus, so that it is no distance: it
    is 4 where everything agrees and falls as samples and annotators differ, in whatever way.
    Values above 2, as in the paper's Table 5 (3.23 and 3.14 on BraTS), cannot come from a
    generalised energy distance. For comparison with that table only.

    Parameters
    ----------
    samples, references : sequence of array_like of int, shape (height, width)
        Label maps, at least two in each set: a map is not paired with itself.
    n_classes : int
        With the background.

    Raises
    ------
    ValueError
        If a set has fewer than two maps, their shapes differ, or a label is not below
        ``n_classes``.

    Notes
    -----
    The released code adds 1e-6 to numerator and denominator, so that a class that neither map has
    counts as agreement, and reports the last image of a set; here the caller averages. It also
    adds 1 to the labels in place, so that repeated calls there differ.
    """
    stacks = [np.asarray(maps) for maps in (samples, references)]
    if any(stack.ndim != 3 or len(stack) < 2 for stack in stacks):
        raise ValueError("each set must hold at least two label maps of one shape")
    if stacks[0].shape[1:] != stacks[1].shape[1:]:
        raise ValueError(f"shapes differ: {stacks[0].shape[1:]} and {stacks[1].shape[1:]}")
    if any(stack.min() < 0 or stack.max() >= n_classes for stack in stacks):
        raise ValueError(f"labels must be from 0 to {n_classes - 1}")
    across = _class_dice(*stacks, n_classes).mean()
    within = 0.0
    for stack in stacks:
        table = _class_dice(stack, stack, n_classes)
        within += table[~np.eye(len(table), dtype=bool)].mean()
    return float(within + 2 * across)


def _class_dice(first: np.ndarray, second: np.ndarray, n_classes: int) -> np.ndarray:
    """Dice of every map of one stack with every one of another, averaged over classes."""
    total = np.zeros((len(first), len(second)))
    for k in range(n_classes):
        a = (first == k).reshape(len(first), -1).astype(float)
        b = (second == k).reshape(len(second), -1).astype(float)
        areas = np.add.outer(a.sum(axis=1), b.sum(axis=1))
        total += (2 * a @ b.T + RELEASED_EPSILON) / (areas + RELEASED_EPSILON)
    return total / n_classes


def _iou(masks: np.ndarray) -> np.ndarray:
    """Return the IoU of every mask (a row of pixels) with every one, in blocks of pixels."""
    common = np.zeros((len(masks), len(masks)))
    for start in range(0, masks.shape[1], _PIXELS):
        block = masks[:, start : start + _PIXELS].astype(np.float32)
        common += block @ block.T
    areas = np.diag(common)
    union = np.add.outer(areas, areas) - common
    return np.where(union > 0, common / np.maximum(union, 1), 1.0)


def _rows(masks: Sequence) -> np.ndarray:
    """Return the masks of one image as rows of pixels: bool of shape (n, pixels)."""
    masks = [as_mask(mask) for mask in masks]
    shapes = sorted({mask.shape for mask in masks})
    if len(shapes) > 1:
        raise ValueError(
            f"masks of one image must have one shape, not {' and '.join(map(str, shapes))}"
        )
    return np.reshape(masks, (len(masks), -1))


def mask_stack(masks, names: Sequence[str] | None = None, min_masks: int = 1) -> np.ndarray:
    """Check the masks of one image and stack them.

    Parameters
    ----------
    masks : sequence of array_like, or array_like of shape (n, height, width)
        Each of shape (height, width), with 0 outside and one other, positive value inside: bool,
        0/1, 0/255 and their like.
    names : sequence of str, optional
        What to call the masks in messages; their position, from 1, unless given.
    min_masks : int
        Smallest number of masks.

    Returns
    -------
    numpy.ndarray of bool, shape (n, height, width)

    Raises
    ------
    DataError
        Naming the mask: there are too few, shapes differ, one is not two-dimensional, has no
        pixels, holds NaN, a negative number or more than one value besides 0.
    """
    arrays = [np.asarray(mask) for mask in masks]
    shared = masks if isinstance(masks, np.ndarray) and masks.dtype == bool else None
    if len(arrays) < min_masks:
        problem = f"there are {len(arrays)}, at least {min_masks} are needed"
        raise DataError("masks of one image", problem, "leave out images with fewer masks")
    labels = [f"mask {n}" for n in range(1, len(arrays) + 1)] if names is None else list(names)
    if len(labels) != len(arrays):
        raise ValueError(f"{len(labels)} names for {len(arrays)} masks")
    checked = [_binary(array, label) for array, label in zip(arrays, labels, strict=True)]
    for array, label in zip(checked[1:], labels[1:], strict=True):
        if array.shape != checked[0].shape:
            sizes = [f"{a.shape[1]}x{a.shape[0]}" for a in (array, checked[0])]
            problem = f"{sizes[0]} pixels, but {labels[0]} of the same image has {sizes[1]}"
            hint = "replace the one that has not the image's size; do not resample masks to compare"
            raise DataError(label, problem, hint)
    return np.stack(checked) if shared is None else shared


def _binary(array: np.ndarray, label: str) -> np.ndarray:
    if array.ndim != 2 or not array.size:
        problem = f"an array of shape {array.shape}, not (height, width)"
        raise DataError(label, problem, "give one two-dimensional mask per annotator")
    if array.dtype.kind not in "buif":
        raise DataError(label, f"values of type {array.dtype}", "give bool or numbers")
    mask, note = binarise(array, None, label)
    if note:
        hint = "threshold it, for instance 'mask > 127' or 'probability > 0.5'"
        raise DataError(label, f"not binary: {note}", hint)
    return mask
