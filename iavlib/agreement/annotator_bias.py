"""Characteristics of each annotator: bias, consistency, sensitivity, specificity, findings.

All rests on :func:`annotator_measures`: the truth is unknown, so every annotator is measured
against the consensus of the image's others. A measure against the others therefore describes the
others as much as the annotator: somebody who always shares images with an annotator who draws
large seems to draw small. The *biases* and *spreads* below correct for that by solving for all
annotators at once; the other quantities do not. And different annotators drew different images: an
order of annotators describes what was seen on them, not skill.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from iavlib.core.errors import DataError
from iavlib.core.processes import run_in_order
from iavlib.data.cohort import Cohort
from iavlib.data.images import mask_paths, read_mask, read_stack
from iavlib.masks.metrics import surface_distances
from iavlib.masks.overlap import array_dice, mask_stack
from iavlib.masks.surfaces import PreparedMask, bounding_box, prepare

if TYPE_CHECKING:
    from iavlib.stats.resampling import Bootstrap

#: Votes are summed in single precision here.
TIE_SHARE = 1e-5

MEASURES = (
    *("log_area_ratio", "boundary_shift", "boundary_shift_normalized"),
    *("sensitivity", "specificity", "dice", "self_dice"),
)
_ABOUT = ("image_id", "mask_id", "annotator", "area", "n_others")


def annotator_measures(cohort: Cohort, processes: int | None = None) -> pd.DataFrame:
    """Measure every mask of a cohort against the consensus of its image's other annotators.

    Parameters
    ----------
    cohort : Cohort
    processes : int, optional
        One per core unless given, fewer for few images. Each holds the masks of one image.

    Returns
    -------
    pandas.DataFrame
        One row per mask, of images with at least two masks: ``image_id``, ``mask_id``,
        ``annotator``, ``area`` (pixels), ``n_others`` (other annotators), the measures of
        :func:`leave_one_out`, and, where an image's masks could not be used, ``problem`` and
        ``hint`` (in all its rows, the measures missing).
    """
    annotators = cohort.masks["annotator"]
    of_image = mask_paths(cohort.masks)
    tasks = [(i, paths, tuple(annotators[list(paths)])) for i, paths in of_image.items()]
    return measures_table(run_in_order(measure_image, tasks, processes, _unusable))


def measures_table(results: list[list[dict]]) -> pd.DataFrame:
    """Arrange the results of :func:`measure_image` as a table."""
    table = pd.DataFrame(
        [row for rows in results for row in rows], columns=[*_ABOUT, *MEASURES, "problem", "hint"]
    )
    text = ["image_id", "mask_id", "annotator", "problem", "hint"]
    return table.astype(dict.fromkeys(("area", *MEASURES), float) | dict.fromkeys(text, "str"))


def measure_image(task: tuple, read: Callable = read_mask) -> list[dict]:
    """Measure the masks of one image (its id, mask files and annotators).

    A failure becomes rows that report it.
    """
    try:
        measures = leave_one_out(read_stack(task[1], read=read), task[2])
    except DataError as error:
        return _unusable(task, error)
    return [row | measure for row, measure in zip(_rows(*task), measures, strict=True)]


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
        For each mask ``n_others`` (other annotators), ``area`` (pixels) and, NaN where there is no
        other annotator: ``log_area_ratio``, natural logarithm of its area over the consensus's
        (NaN if either is 0); ``boundary_shift``, in pixels, see :func:`boundary_shift`, the mean
        over the two rules for ties, and ``boundary_shift_normalized``, divided by the image's
        diagonal; ``sensitivity`` and ``specificity``, over all pixels; ``dice``; and
        ``self_dice``, mean Dice with the same annotator's other masks, NaN where there are none.

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
    votes, total = {}, np.zeros(stack.shape[1:], np.float32)
    for name in dict.fromkeys(annotators):
        own = stack[who == name]
        votes[name] = own.mean(axis=0, dtype=np.float32) if len(own) > 1 else own[0]
        total += votes[name]
    rows = []
    for number, (mask, name) in enumerate(zip(stack, annotators, strict=True)):
        row = dict.fromkeys(MEASURES, np.nan) | {"n_others": len(votes) - 1}
        row["area"] = int(np.count_nonzero(mask))
        own = np.flatnonzero(who == name)
        if len(own) > 1:
            row["self_dice"] = float(np.mean(array_dice(mask, stack[own[own != number]])))
        if len(votes) > 1:
            share = (total - votes[name]) / (len(votes) - 1)
            ties = share > 0.5 - TIE_SHARE, share > 0.5 + TIE_SHARE  # with and without them
            consensus = ties[:1] if np.array_equal(*ties) else ties
            drawn = prepare(mask)
            shift = float(np.mean([_shift(mask, one, drawn, prepare(one)) for one in consensus]))
            row |= _overlap(mask, *ties, size)
            row |= {"boundary_shift": shift, "boundary_shift_normalized": shift / diagonal}
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
    mask, reference = mask_stack([mask, reference])
    return _shift(mask, reference, prepare(mask), prepare(reference))


def _shift(mask, reference, drawn: PreparedMask, other: PreparedMask) -> float:
    if drawn.empty or other.empty:
        return float("nan")
    to_other, to_own = surface_distances(drawn, other)
    own, its = (tuple(one.points((1, 1)).astype(int).T) for one in (drawn, other))
    shift = to_other @ np.where(reference[own], -1, 1) + to_own @ np.where(mask[its], 1, -1)
    return float(shift / (len(to_other) + len(to_own)))


def _rows(image_id: str, paths: dict, annotators: tuple[str, ...]) -> list[dict]:
    shared = {"image_id": image_id, "n_others": len(set(annotators)) - 1}
    drawn = zip(paths, annotators, strict=True)
    return [shared | {"mask_id": mask_id, "annotator": who} for mask_id, who in drawn]


def _unusable(task: tuple, error: DataError) -> list[dict]:
    failure = {"problem": f"{error.where}: {error.problem}", "hint": error.hint}
    return [row | failure for row in _rows(*task)]


def _overlap(mask: np.ndarray, larger: np.ndarray, smaller: np.ndarray, size: int) -> dict:
    """Compare with the consensus, tied pixels counting one half."""
    area = float(np.count_nonzero(mask))
    consensus = (np.count_nonzero(larger) + np.count_nonzero(smaller)) / 2
    hits = (np.count_nonzero(larger & mask) + np.count_nonzero(smaller & mask)) / 2
    outside = size - consensus
    both = area > 0 and consensus > 0
    return {
        "log_area_ratio": float(np.log(area / consensus)) if both else np.nan,
        "sensitivity": hits / consensus if consensus else np.nan,
        "specificity": (outside - area + hits) / outside if outside else np.nan,
        "dice": 2 * hits / (area + consensus) if area + consensus else 1.0,
    }


def _crop(stack: np.ndarray) -> np.ndarray:
    """Crop to the box around all masks; outside of it nothing differs."""
    union = stack.any(axis=0)
    return stack[:, *bounding_box(union)] if union.any() else stack[:, :1, :1]


#: Quantity to the measure it is made of, and how.
QUANTITIES = {
    "log_area_ratio": ("log_area_ratio", "mean"),
    "log_area_bias": ("log_area_ratio", "bias"),
    "log_area_spread": ("log_area_ratio", "spread"),
    "boundary_shift": ("boundary_shift_normalized", "mean"),
    "boundary_bias": ("boundary_shift_normalized", "bias"),
    "boundary_spread": ("boundary_shift_normalized", "spread"),
    "sensitivity": ("sensitivity", "mean"),
    "specificity": ("specificity", "mean"),
    "dice": ("dice", "mean"),
    "self_dice": ("self_dice", "mean"),
}
#: Why there are no intervals.
ONE_CLUSTER = "one image, or images of one patient: resampling shows no variation"
_Statistic = Callable[[np.ndarray], np.ndarray]


def annotator_summary(
    measures: pd.DataFrame,
    clusters: pd.Series | None = None,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    r"""Summarise each annotator, with intervals that resample clusters.

    Parameters
    ----------
    measures : pandas.DataFrame
        From :func:`annotator_measures`.
    clusters : pandas.Series, optional
        Cluster (patient) of each image, indexed by ``image_id``, from ``cohort.clusters()``; each
        image by itself unless given.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    pandas.DataFrame
        One row per annotator and quantity: ``annotator``, ``quantity``, ``value``, ``low``,
        ``high``, ``n_masks`` (with this measure), ``group``, ``reason`` (why there is no interval,
        empty where there is one). Quantities: mean ``log_area_ratio``,
        ``boundary_shift`` (fraction of the image's diagonal), ``sensitivity``, ``specificity``,
        ``dice``, ``self_dice``; and what is solved for by least squares over all masks:
        ``log_area_bias`` and ``boundary_bias``, :math:`b` in :math:`y = b_j - \bar b + e`, with y
        the measure of a mask of annotator j and :math:`\bar b` the mean over the image's m other
        annotators; ``log_area_spread`` and ``boundary_spread``, :math:`\sigma` in
        :math:`e^2 = \sigma_j^2 + \sum_k \sigma_k^2 / m^2` (0 where the variance comes out below 0).
        Biases sum to 0 within each ``group`` of annotators whom common images connect and cannot
        be compared between groups. Two annotators who share images with nobody else get the same
        spread: which of them varies cannot be determined. NaN where an annotator has no such
        measure, or too few for an interval.

    Raises
    ------
    ValueError
        If no mask could be measured, or an image has no cluster.
    """
    table = _Table(measures, clusters)
    result = table.bootstrap(n_boot, seed)
    index = pd.MultiIndex.from_product([QUANTITIES, table.annotators])
    subsets = (result.estimate, result.low, result.high, table.counts())
    frame = pd.DataFrame(dict(zip(("value", "low", "high", "n_masks"), subsets, strict=True)))
    frame.insert(0, "annotator", index.get_level_values(1))
    frame.insert(1, "quantity", index.get_level_values(0))
    frame["group"] = np.tile(table.groups(), len(QUANTITIES))
    given = [np.isfinite(frame["low"]), frame["n_masks"] == 0, result.n_clusters < 2]
    reasons = ["", "not measured on any mask", ONE_CLUSTER]
    frame["reason"] = np.select(given, reasons, "too few masks")
    return frame.sort_values("annotator", kind="stable", ignore_index=True)


class _Table:
    """Measures as arrays: one row per mask, one column per annotator."""

    def __init__(self, measures: pd.DataFrame, clusters: pd.Series | None):
        used = measures[measures[list(MEASURES)].notna().any(axis=1)]
        if used.empty:
            raise ValueError("no mask could be measured: see the column 'problem' of the measures")
        self.measures = used
        self.clusters = used["image_id"]
        if clusters is not None:
            self.clusters = used["image_id"].map(clusters)
            lost = used["image_id"][self.clusters.isna()]
            if len(lost):
                raise ValueError(f"{lost.nunique()} images have no cluster, first {lost.iloc[0]}")
        present = pd.crosstab(used["image_id"], used["annotator"]).gt(0)
        self.annotators = present.columns.tolist()
        self.own = used["annotator"].to_numpy()[:, None] == np.array(self.annotators)
        self.others = present.loc[used["image_id"]].to_numpy() & ~self.own

    def bootstrap(self, n_boot, seed) -> Bootstrap:
        """Bootstrap quantities of all annotators at once, on the same draws."""
        # Imported here, because it takes a second that every started process would wait for.
        from iavlib.stats.resampling import cluster_bootstrap

        statistics = [self._statistic(quantity) for quantity in QUANTITIES]

        def concatenated(weights: np.ndarray) -> np.ndarray:
            return np.concatenate([statistic(weights) for statistic in statistics], axis=1)

        return cluster_bootstrap(concatenated, self.clusters, n_boot, seed)

    def counts(self) -> np.ndarray:
        """Count, for each quantity and annotator, the masks that have its measure."""
        there = [self.measures[name].notna().to_numpy() for name, _ in QUANTITIES.values()]
        return np.concatenate([self.own[rows].sum(axis=0) for rows in there])

    def groups(self) -> np.ndarray:
        """Number the groups of annotators whom common images connect."""
        from scipy.sparse.csgraph import connected_components  # not in processes that measure

        together = self.own.T.astype(float) @ self.others
        return connected_components(together > 0, directed=False)[1]

    def _statistic(self, quantity: str) -> _Statistic:
        measure, kind = QUANTITIES[quantity]
        values = self.measures[measure].to_numpy(float)
        there = np.isfinite(values)
        own, values = self.own[there].astype(float), values[there]
        others = self.others[there].astype(float)
        others /= np.maximum(others.sum(axis=1, keepdims=True), 1)
        solve = {"mean": _mean, "bias": _bias, "spread": _spread}[kind]
        return lambda weights: solve(weights[:, there], values, own, others)


def _mean(weights: np.ndarray, values: np.ndarray, own: np.ndarray, _others) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (weights * values) @ own / (weights @ own)


def _bias(weights: np.ndarray, values: np.ndarray, own: np.ndarray, others: np.ndarray):
    """Solve for the biases: a measure is the annotator's less the mean of the others'.

    Adding a constant to all biases of a group changes no equation; the smallest norm is the
    solution that sums to 0.
    """
    return _solve(weights, np.broadcast_to(values, weights.shape), own - others, own)


def _spread(weights: np.ndarray, values: np.ndarray, own: np.ndarray, others: np.ndarray):
    """Solve for the variances: a squared residual is the annotator's plus those of the mean."""
    bias = np.nan_to_num(_bias(weights, values, own, others))
    residual = values - bias @ (own - others).T
    variance = _solve(weights, residual**2, own + others**2, own)
    return np.where(weights @ own > 1, np.sqrt(np.maximum(variance, 0)), np.nan)


def _solve(weights, targets, design, own) -> np.ndarray:
    """Weighted least squares of smallest norm, for each replicate (row of weights and targets)."""
    n, k = design.shape
    products = (design[:, :, None] * design[:, None, :]).reshape(n, k * k)
    equations = (weights @ products).reshape(-1, k, k)
    right = (weights * targets) @ design
    solved = np.linalg.pinv(equations, rcond=1e-9, hermitian=True) @ right[:, :, None]
    return np.where(weights @ own > 0, solved[:, :, 0], np.nan)


def area_agreement(measures: pd.DataFrame) -> pd.DataFrame:
    """Compare the areas that annotators marked: ICC(2,1), bias and limits of agreement.

    Parameters
    ----------
    measures : pandas.DataFrame
        One row per mask: ``image_id``, ``annotator`` and ``area``, in any unit. Of repeated
        drawings by one annotator the first counts.

    Returns
    -------
    pandas.DataFrame
        One row for all annotators, if there are more than two (``annotator1`` and ``annotator2``
        empty), and one per two who share images: ``n_images`` that all of them drew, ``icc`` with
        ``icc_low`` and ``icc_high``; of two annotators ``bias`` (mean of the first's area minus
        the second's) with its limits of agreement ``bias_low`` and ``bias_high``, and ``ratio``,
        ``ratio_low``, ``ratio_high``: the same for the logarithms, as ratio of the areas, without
        empty masks. ``reason`` states why there is no ICC.
    """
    from iavlib.stats.reliability import intraclass_correlation, limits_of_agreement

    drawn = measures.drop_duplicates(["image_id", "annotator"])
    wide = drawn.pivot(index="image_id", columns="annotator", values="area")
    names, rows = list(wide), []
    for who in [*([names] if len(names) != 2 else []), *map(list, combinations(names, 2))]:
        common = wide[who].dropna()
        few = "fewer than two images drawn by all" if len(common) < 2 else "all areas are equal"
        row = {"annotator1": "", "annotator2": "", "n_images": len(common)}
        found = {"icc": intraclass_correlation(common)}
        if len(who) == 2:
            row |= {"annotator1": who[0], "annotator2": who[1]}
            logs = np.log(common[(common > 0).all(axis=1)])
            found["bias"] = limits_of_agreement(*common.to_numpy().T)
            found["ratio"] = limits_of_agreement(*logs.to_numpy().T)
        for name, of in found.items():
            limits = (np.exp if name == "ratio" else np.array)([of.value, *of.interval])
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), limits, strict=True))
        rows.append(row | {"reason": few if np.isnan(row["icc"]) else ""})
    columns = [f"{name}{end}" for name in ("icc", "bias", "ratio") for end in ("", "_low", "_high")]
    table = pd.DataFrame(rows, columns=["annotator1", "annotator2", "n_images", *columns, "reason"])
    return table[table["n_images"].gt(0) | table["annotator1"].eq("")]


COLUMNS = ("image_id", "mask_id", "issue", "severity", "detail", "hint")
NEAR_DUPLICATE = "Near-duplicate annotators"
OUTLIER = "Annotator disagrees with the others"
_HINTS = {
    NEAR_DUPLICATE: "ask whether one copied or corrected the other's masks; if so, count them once",
    OUTLIER: "look at these masks: the task understood otherwise, another tool, or harder images",
}


def near_duplicate_annotators(
    pairs: pd.DataFrame, dice: float = 0.99, share: float = 0.5, min_pairs: int = 5
) -> pd.DataFrame:
    """Find annotators whose masks are nearly the same on many images.

    Parameters
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``.
    dice : float
        Smallest Dice of two nearly equal masks.
    share : float
        Smallest share of such pairs among the common pairs of near-duplicates.
    min_pairs : int
        Annotators with fewer common pairs are not compared.

    Returns
    -------
    pandas.DataFrame
        One row per two annotators: ``image_id`` and ``mask_id`` (missing), ``issue``, ``severity``
        (high), ``detail``, ``hint``.
    """
    between = pairs[pairs["annotator_1"] != pairs["annotator_2"]]
    names = between[["annotator_1", "annotator_2"]].astype("str").to_numpy()
    first, second = np.sort(names, axis=1).T if len(names) else ([], [])
    alike = pd.DataFrame({"first": first, "second": second, "alike": between["dice"] >= dice})
    table = alike.groupby(["first", "second"])["alike"].agg(["sum", "size"])
    table = table[(table["size"] >= min_pairs) & (table["sum"] >= share * table["size"])]
    details = [
        f"{a} and {b}: Dice of {dice} or more in {n} of {of} pairs"
        for (a, b), n, of in zip(table.index, table["sum"], table["size"], strict=True)
    ]
    return _findings(NEAR_DUPLICATE, "high", details)


def outlying_annotators(
    pairs: pd.DataFrame, threshold: float = 3.5, min_pairs: int = 10
) -> pd.DataFrame:
    """Find annotators who agree less with the others than is usual.

    Parameters
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``.
    threshold : float
        Robust z below minus this is an outlier (Iglewicz and Hoaglin recommend 3.5).
    min_pairs : int
        Annotators with fewer pairs are not judged, nor do they count for the usual.

    Returns
    -------
    pandas.DataFrame
        One row per annotator: ``image_id`` and ``mask_id`` (missing), ``issue``, ``severity``
        (medium), ``detail``, ``hint``.
    """
    table = agreement_with_others(pairs, min_pairs)
    low = table[table["z"] < -threshold]
    details = [
        f"{row.Index}: median Dice {row.median_dice:.3f} in {row.n_pairs} pairs with others, "
        f"robust z {row.z:.1f}"
        for row in low.itertuples()
    ]
    return _findings(OUTLIER, "medium", details)


def agreement_with_others(pairs: pd.DataFrame, min_pairs: int = 10) -> pd.DataFrame:
    r"""Measure how much each annotator agrees with the others, and how unusual that is.

    Parameters
    ----------
    pairs : pandas.DataFrame
        As ``Cohort.pairs``. Pairs of masks of one annotator are left out.
    min_pairs : int
        Annotators with fewer pairs get no z.

    Returns
    -------
    pandas.DataFrame
        Index ``annotator``; ``n_pairs``, ``median_dice``, and the robust ``z`` of the median among
        the annotators with enough pairs: distance to their median over 1.4826 times the median
        absolute distance (over 1.2533 times the mean absolute distance where that is 0). Missing
        with fewer than four annotators to compare, or none that differ.

    References
    ----------
    Iglewicz, B. and Hoaglin, D. C. (1993). How to Detect and Handle Outliers. ASQC.
    """
    between = pairs[pairs["annotator_1"] != pairs["annotator_2"]]
    names = ["annotator", "dice"]
    sides = [between[[f"annotator_{s}", "dice"]].set_axis(names, axis=1) for s in "12"]
    groups = pd.concat(sides).groupby("annotator")["dice"]
    table = pd.DataFrame({"n_pairs": groups.size(), "median_dice": groups.median()})
    judged = table.loc[table["n_pairs"] >= min_pairs, "median_dice"]
    away = judged - judged.median()
    scale = 1.4826 * away.abs().median() or 1.2533 * away.abs().mean()
    enough = len(judged) >= 4 and scale > 0
    return table.assign(z=away / scale if enough else np.nan)


def _findings(issue: str, severity: str, details: list[str]) -> pd.DataFrame:
    rows = [(None, None, issue, severity, detail, _HINTS[issue]) for detail in details]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype("str")
