"""Characteristics of each annotator: bias, consistency, sensitivity, specificity, rank, findings.

All rests on :func:`iavlib.agreement.annotator_measures`: the truth is unknown, so every annotator
is measured against the consensus of the others. A measure against the others therefore describes
the others as much as the annotator: somebody who always shares images with an annotator who draws
large seems to draw small. The *biases* and *spreads* below correct for that by solving for all
annotators at once; the other quantities do not. And different annotators drew different images: a
ranking orders what was seen on them, not skill.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.sparse.csgraph import connected_components

from iavlib.agreement.against_others import MEASURES

if TYPE_CHECKING:
    from iavlib.stats.resampling import Bootstrap

#: Quantity to the measure it is made of, how, and what is best in a ranking.
QUANTITIES = {
    "log_area_ratio": ("log_area_ratio", "mean", "zero"),
    "log_area_bias": ("log_area_ratio", "bias", "zero"),
    "log_area_spread": ("log_area_ratio", "spread", "low"),
    "boundary_shift": ("boundary_shift_normalized", "mean", "zero"),
    "boundary_bias": ("boundary_shift_normalized", "bias", "zero"),
    "boundary_spread": ("boundary_shift_normalized", "spread", "low"),
    "sensitivity": ("sensitivity", "mean", "high"),
    "specificity": ("specificity", "mean", "high"),
    "dice": ("dice", "mean", "high"),
    "self_dice": ("self_dice", "mean", "high"),
}
_Statistic = Callable[[np.ndarray], np.ndarray]


def annotator_summary(
    measures: pd.DataFrame,
    clusters: pd.Series | None = None,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    r"""Summarise each annotator, with intervals that resample clusters.

    Parameters
    ----------
    measures : pandas.DataFrame
        From :func:`iavlib.agreement.against_others.annotator_measures`.
    clusters : pandas.Series, optional
        Cluster (patient) of each image, indexed by ``image_id``, from ``cohort.clusters()``; each
        image by itself unless given.
    n_boot, seed, level
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    pandas.DataFrame
        One row per annotator and quantity: ``annotator``, ``quantity``, ``value``, ``low``,
        ``high``, ``n_masks`` (with this measure), ``group``. Quantities: mean ``log_area_ratio``,
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
        If no mask could be measured, there is a single cluster, or an image has no cluster.
    """
    table = _Table(measures, clusters)
    result = table.bootstrap(list(QUANTITIES), n_boot, seed, level)
    index = pd.MultiIndex.from_product([QUANTITIES, table.annotators])
    subsets = (result.estimate, result.low, result.high, table.counts(list(QUANTITIES)))
    frame = pd.DataFrame(dict(zip(("value", "low", "high", "n_masks"), subsets, strict=True)))
    frame.insert(0, "annotator", index.get_level_values(1))
    frame.insert(1, "quantity", index.get_level_values(0))
    frame["group"] = np.tile(table.groups(), len(QUANTITIES))
    return frame.sort_values("annotator", kind="stable", ignore_index=True)


def rank_annotators(
    measures: pd.DataFrame,
    by: str = "dice",
    clusters: pd.Series | None = None,
    min_masks: int = 10,
    n_boot: int = 1000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Rank annotators by one quantity, with the uncertainty of each rank.

    In every replicate of the cluster bootstrap the annotators are ranked anew; the interval of a
    rank spans what happened to it. Annotators drew different images beside different others:
    a rank is a description of these images, not a measurement of skill.

    Parameters
    ----------
    measures, clusters, n_boot, seed, level
        See :func:`annotator_summary`.
    by : str
        A quantity of :data:`QUANTITIES`. High is best for Dice, sensitivity and specificity, low
        for a spread, near 0 for a ratio, shift or bias.
    min_masks : int
        Annotators with fewer masks are left out.

    Returns
    -------
    pandas.DataFrame
        Index ``annotator``, best first: ``value``, ``low``, ``high``, ``rank`` (1 is best; equal
        ones share the better rank), ``rank_low``, ``rank_high``, ``n_masks``.

    Raises
    ------
    ValueError
        If there is no such quantity, or fewer than two annotators have enough masks.
    """
    if by not in QUANTITIES:
        raise ValueError(f"by must be one of {', '.join(QUANTITIES)}, not {by!r}")
    table = _Table(measures, clusters)
    counts = table.counts([by])
    judged = counts >= min_masks
    if judged.sum() < 2:
        raise ValueError(
            f"{int(judged.sum())} annotators have {min_masks} masks with a {by} or more, a ranking "
            "needs two: lower min_masks"
        )
    result = table.bootstrap([by], n_boot, seed, level)
    better = {"high": lambda v: v, "low": np.negative, "zero": lambda v: -np.abs(v)}
    score = better[QUANTITIES[by][2]]
    ranks = _ranks(score(result.replicates[:, judged]))
    tails = np.nanquantile(ranks, [(1 - level) / 2, (1 + level) / 2], axis=0)
    frame = pd.DataFrame(
        {
            "value": result.estimate[judged],
            "low": result.low[judged],
            "high": result.high[judged],
            "rank": _ranks(score(result.estimate[judged])[None])[0].astype(int),
            "rank_low": tails[0],
            "rank_high": tails[1],
            "n_masks": counts[judged],
        },
        index=pd.Index(np.array(table.annotators)[judged], name="annotator"),
    )
    return frame.sort_values("rank", kind="stable")


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

    def bootstrap(self, quantities: list[str], n_boot, seed, level) -> Bootstrap:
        """Bootstrap quantities of all annotators at once, on the same draws."""
        # Imported here, because it takes a second that every started process would wait for.
        from iavlib.stats.resampling import cluster_bootstrap

        statistics = [self._statistic(quantity) for quantity in quantities]

        def concatenated(weights: np.ndarray) -> np.ndarray:
            return np.concatenate([statistic(weights) for statistic in statistics], axis=1)

        return cluster_bootstrap(concatenated, self.clusters, n_boot, seed, level)

    def counts(self, quantities: list[str]) -> np.ndarray:
        """Count, for each quantity and annotator, the masks that have its measure."""
        there = [self.measures[QUANTITIES[q][0]].notna().to_numpy() for q in quantities]
        return np.concatenate([self.own[rows].sum(axis=0) for rows in there])

    def groups(self) -> np.ndarray:
        """Number the groups of annotators whom common images connect."""
        together = self.own.T.astype(float) @ self.others
        return connected_components(together > 0, directed=False)[1]

    def _statistic(self, quantity: str) -> _Statistic:
        measure, kind, _ = QUANTITIES[quantity]
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


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Rank each row, highest first from 1; NaN has no rank and takes none."""
    above = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
    return np.where(np.isnan(scores), np.nan, above + 1)


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
        f"{name}: median Dice {row.median_dice:.3f} in {row.n_pairs} pairs with others, "
        f"robust z {row.z:.1f}"
        for name, row in zip(low.index, low.itertuples(), strict=True)
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
    sides = [
        between[[f"annotator_{s}", "dice"]].set_axis(["annotator", "dice"], axis=1) for s in "12"
    ]
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
