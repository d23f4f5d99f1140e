"""Each mask against the consensus of the image's other annotators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from iavlib.core.errors import DataError
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import read_stack
from iavlib.masks.overlap import array_dice
from iavlib.masks.stack import mask_stack
from iavlib.masks.surfaces import bounding_box, mask_surface

#: Votes are summed in single precision here.
TIE_SHARE = 1e-5

MEASURES = (
    *("log_area_ratio", "boundary_shift", "boundary_shift_normalized"),
    *("sensitivity", "specificity", "dice", "self_dice"),
)
COLUMNS = ("image_id", "mask_id", "annotator", "n_others", *MEASURES, "problem", "hint")


@dataclass(frozen=True)
class _Job:
    """One image's masks, as sent to another process."""

    image_id: str
    paths: dict[str, str | None]
    annotators: tuple[str, ...]


def annotator_measures(
    cohort: Cohort,
    processes: int | None = None,
    *,
    progress: bool | Callable[[int, int], None] = False,
) -> pd.DataFrame:
    """Measure every mask of a cohort against the consensus of its image's other annotators.

    Parameters
    ----------
    cohort : Cohort
    processes : int, optional
        One per core unless given, fewer for few images. Each holds the masks of one image.
    progress : bool or callable
        True prints a line every ten seconds; a callable is called with images done and total.

    Returns
    -------
    pandas.DataFrame
        One row per mask, of images with at least two masks: ``image_id``, ``mask_id``,
        ``annotator``, ``n_others`` (other annotators of the image), the measures of
        :func:`leave_one_out`, and, where an image's masks could not be used, ``problem`` and
        ``hint`` (in all its rows, the measures missing).
    """
    annotators = cohort.masks["annotator"]
    paths = cohort.masks["path"].astype(object).where(cohort.masks["path"].notna(), None)
    jobs = [
        _Job(str(image_id), group.to_dict(), tuple(annotators[group.index]))
        for image_id, group in paths.groupby(cohort.masks["image_id"], sort=False)
        if len(group) > 1
    ]
    results = run_in_order(measure_image, jobs, processes, _problems, progress, "images measured")
    rows = [row for of_image in results for row in of_image]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    text = ["image_id", "mask_id", "annotator", "problem", "hint"]
    return table.astype(dict.fromkeys(MEASURES, float) | dict.fromkeys(text, "str"))


def measure_image(job: _Job) -> list[dict]:
    """Measure one image's masks; a failure becomes rows that report it."""
    try:
        measures = leave_one_out(read_stack(job.paths), job.annotators)
    except DataError as error:
        return _problems(job, error)
    return [row | measure for row, measure in zip(_rows(job), measures, strict=True)]


def leave_one_out(masks, annotators: Sequence[str]) -> list[dict]:
    """Measure each mask of an image against the majority vote of the other annotators.

    Every other annotator has one vote, shared among the annotator's masks of this image. A pixel
    with exactly half of the votes belongs to the consensus by one half: with either rule for ties
    the consensus of two others would be their union or their intersection, and everybody would seem
    to draw too small or too large.

    Parameters
    ----------
    masks : sequence of array_like, each of shape (height, width)
        0 outside, one positive value inside.
    annotators : sequence of str
        Who drew each.

    Returns
    -------
    list of dict
        For each mask ``n_others`` (other annotators) and, NaN where there is no other annotator:
        ``log_area_ratio``, natural logarithm of its area over the consensus's (NaN if either is
        0); ``boundary_shift``, in pixels, see :func:`boundary_shift`, the mean over the two rules
        for ties, and ``boundary_shift_normalized``, divided by the image's diagonal;
        ``sensitivity`` and ``specificity``, over all pixels; ``dice``; and ``self_dice``, mean
        Dice with the same annotator's other masks, NaN where there are none.

    Raises
    ------
    DataError
        If the masks are not binary, two-dimensional and of one shape.
    ValueError
        If there is not one annotator per mask.
    """
    stack = mask_stack(masks)
    if len(annotators) != len(stack):
        raise ValueError(f"{len(annotators)} annotators for {len(stack)} masks")
    size, diagonal = stack[0].size, float(np.hypot(*stack.shape[1:]))
    stack = _crop(stack)
    who = np.array(list(annotators))
    votes = {
        name: stack[who == name].mean(axis=0, dtype=np.float32)
        for name in dict.fromkeys(annotators)
    }
    total = sum(votes.values())
    rows = []
    for number, (mask, name) in enumerate(zip(stack, annotators, strict=True)):
        row = dict.fromkeys(MEASURES, np.nan) | {"n_others": len(votes) - 1}
        own = np.flatnonzero(who == name)
        if len(own) > 1:
            row["self_dice"] = float(np.mean(array_dice(mask, stack[own[own != number]])))
        if len(votes) > 1:
            share = (total - votes[name]) / (len(votes) - 1)
            row |= _overlap(mask, share, size) | _shift(mask, share, diagonal)
        rows.append(row)
    return rows


def boundary_shift(mask, reference) -> float:
    """Return how far, in pixels, a mask's boundary lies outside of that of another.

    From each boundary pixel of either mask the distance to the nearest boundary pixel of the
    other, positive where `mask` reaches further than `reference` and negative where it falls
    short; the mean of all of them. A disc grown by r pixels has a shift of about r, and exchanging
    the masks changes the sign and nothing else.

    Parameters
    ----------
    mask, reference : array_like, shape (height, width)
        0 outside, one positive value inside.

    Returns
    -------
    float
        NaN if either is empty.

    Raises
    ------
    DataError
        If the masks are not binary, two-dimensional and of one shape.
    """
    mask, reference = _crop(mask_stack([mask, reference]))
    if not (mask.any() and reference.any()):
        return float("nan")
    own, other = np.argwhere(mask_surface(mask)), np.argwhere(mask_surface(reference))
    to_other = KDTree(other).query(own)[0]
    to_own = KDTree(own).query(other)[0]
    outside = np.where(reference[tuple(own.T)], -1, 1)
    covered = np.where(mask[tuple(other.T)], 1, -1)
    return float((to_other @ outside + to_own @ covered) / (len(own) + len(other)))


def _rows(job: _Job) -> list[dict]:
    others = len(set(job.annotators)) - 1
    shared = {"image_id": job.image_id, "n_others": others}
    return [
        shared | {"mask_id": mask_id, "annotator": annotator}
        for mask_id, annotator in zip(job.paths, job.annotators, strict=True)
    ]


def _problems(job: _Job, error: DataError) -> list[dict]:
    failure = {"problem": f"{error.where}: {error.problem}", "hint": error.hint}
    return [row | failure for row in _rows(job)]


def _overlap(mask: np.ndarray, share: np.ndarray, size: int) -> dict[str, float]:
    """Compare with the consensus, tied pixels counting one half."""
    weight = np.where(np.abs(share - 0.5) < TIE_SHARE, 0.5, share > 0.5)
    area, consensus = float(np.count_nonzero(mask)), float(weight.sum())
    hits = float(weight[mask].sum())
    outside = size - consensus
    both = area > 0 and consensus > 0
    return {
        "log_area_ratio": float(np.log(area / consensus)) if both else np.nan,
        "sensitivity": hits / consensus if consensus else np.nan,
        "specificity": (outside - area + hits) / outside if outside else np.nan,
        "dice": 2 * hits / (area + consensus) if area + consensus else 1.0,
    }


def _shift(mask: np.ndarray, share: np.ndarray, diagonal: float) -> dict[str, float]:
    larger, smaller = share > 0.5 - TIE_SHARE, share > 0.5 + TIE_SHARE
    shift = boundary_shift(mask, larger)
    if not np.array_equal(larger, smaller):
        shift = (shift + boundary_shift(mask, smaller)) / 2
    return {"boundary_shift": shift, "boundary_shift_normalized": shift / diagonal}


def _crop(stack: np.ndarray) -> np.ndarray:
    """Crop to the box around all masks; outside of it nothing differs."""
    union = stack.any(axis=0)
    return stack[:, *bounding_box(union)] if union.any() else stack[:, :1, :1]
