"""Agreement of two sets of masks of one image, such as a model's samples and the annotators'.

A set is a sequence of masks, or an array of shape (n, height, width); values above 0 are inside.
Both masks empty: the IoU is 1. One empty: 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iavlib.masks.surfaces import as_mask

RELEASED_EPSILON = 1e-6


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
    samples, references = _packed(samples, references)
    across = 1 - _iou(samples, references).mean()
    within = [1 - _iou(packed, packed).mean() for packed in (samples, references)]
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


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of every mask of one set with every mask of the other."""
    common = np.array([[_ones(a & b) for b in second] for a in first])
    areas = np.add.outer([_ones(a) for a in first], [_ones(b) for b in second])
    union = areas - common
    return np.where(union > 0, common / np.maximum(union, 1), 1.0)


def _ones(packed: np.ndarray) -> int:
    return int(np.bitwise_count(packed).sum(dtype=np.int64))


def _packed(*sets: Sequence) -> list[np.ndarray]:
    """Pack each mask's pixels into bits: arrays of shape (n masks, bytes)."""
    shapes, packed = set(), []
    for masks in sets:
        masks = [as_mask(mask) for mask in masks]
        if not masks:
            raise ValueError("a set must hold at least one mask")
        shapes |= {mask.shape for mask in masks}
        if len(shapes) > 1:
            raise ValueError(f"masks of one image must have one shape, not {sorted(shapes)}")
        packed.append(np.array([np.packbits(mask) for mask in masks]))
    return packed
