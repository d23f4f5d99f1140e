r"""Triage: which images to review first, compared with a random and with the best possible order.

Images are reviewed in an order, and each has a loss, such as the disagreement of its annotators,
:math:`1 - \mathrm{Dice}`. The curve of the share of the total loss found among the first :math:`k`
of :math:`n` images, over :math:`k / n`, is a straight line for a random order and Lorenz's curve of
the losses for the best one. The area between the curve and the line summarises the order without a
choice of :math:`k`. Images with equal scores are in random order: the curve is straight between
them.

References
----------
Lorenz, M. O. (1905). Methods of measuring the concentration of wealth. Publications of the American
Statistical Association 9, 209-219.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.resampling import cluster_bootstrap
from iavlib.stats.samples import check_aligned, cluster_codes, finite_values

#: Name of the order by the losses themselves, which is not known beforehand.
BEST = "best possible"


def triage_curve(loss: ArrayLike, score: ArrayLike) -> pd.DataFrame:
    """Compute the share of the total loss found among the first images, for each number of them.

    Parameters
    ----------
    loss : array_like of float, shape (n,)
        Not negative, for instance 1 - Dice.
    score : array_like of float, shape (n,)
        The greatest is reviewed first.

    Returns
    -------
    DataFrame
        From 0 images to all: ``k`` (images), ``examined`` (their share) and ``found`` (share of the
        total loss). Of images with one score only the last has a row.

    Raises
    ------
    ValueError
        When rows do not fit each other, a value is not finite, or the losses are negative or all 0.

    Examples
    --------
    >>> from iavlib.stats import triage_curve
    >>> triage_curve([0.1, 0.3, 0.6], [1, 2, 3])["found"].round(2).tolist()
    [0.0, 0.6, 0.9, 1.0]
    """
    check_aligned(loss=loss, score=score)
    ranks = _Order(finite_values(score, "scores"))
    values = _losses(loss, len(ranks.rows))
    examined, found = ranks.curves(np.ones((1, len(values))), values)
    k = np.rint(examined[0] * len(values)).astype(int)
    return pd.DataFrame({"k": k, "examined": examined[0], "found": found[0]})


def triage_gains(
    loss: ArrayLike,
    scores: pd.DataFrame,
    clusters: ArrayLike | None = None,
    shares: Sequence[float] = (0.1, 0.2),
    reference: str | None = None,
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare orders of the same images by the area that their curves gain over a random order.

    Parameters
    ----------
    loss : array_like of float, shape (n,)
        See :func:`triage_curve`.
    scores : DataFrame, shape (n, m)
        One column per order; the greatest score is reviewed first.
    clusters : array_like, shape (n,), optional
        Patients, which the bootstrap draws; without it each row by itself.
    shares : sequence of float
        Shares of the images after which the share found is reported.
    reference : str, optional
        A column of `scores` with which the others are compared.
    n_boot, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row per column of `scores`, and :data:`BEST`: ``area_gained`` (area between curve and
        the straight line of chance, from -0.5 to 0.5), ``of_possible`` (its share of the best
        order's), ``found_10`` and so on for each of `shares` (share of the total loss), and with
        a reference ``more_than_reference`` (difference of areas); each with ``_low`` and
        ``_high``, the limits of its 95 % interval over patients, paired for differences.

    Raises
    ------
    ValueError
        As :func:`triage_curve`, or when a share is not between 0 and 1.
    KeyError
        When `reference` is no column.
    """
    check_aligned(loss=loss, scores=scores, clusters=clusters)
    values = _losses(loss, len(scores))
    if any(not 0 < share < 1 for share in shares):
        raise ValueError(f"shares must lie between 0 and 1, not {list(shares)}")
    named = {str(name): finite_values(scores[name], f"scores {name!r}") for name in scores}
    if reference is not None and reference not in named:
        raise KeyError(f"no order {reference!r}; there are {', '.join(named)}")
    orders = {name: _Order(score) for name, score in {**named, BEST: values}.items()}
    codes, _ = cluster_codes(clusters, len(values))

    def statistic(weights: np.ndarray) -> np.ndarray:
        rows = [_summary(order, weights, values, shares) for order in orders.values()]
        table = np.stack(rows, axis=1)  # replicates, orders, numbers
        area = table[:, :, :1]
        best = area[:, -1:]
        areas = [area, np.divide(area, best, out=np.full_like(area, np.nan), where=best != 0)]
        if reference is not None:
            at = list(orders).index(reference)
            areas.append(area - area[:, at : at + 1])
        return np.concatenate([*areas, table[:, :, 1:]], axis=2).reshape(len(weights), -1)

    drawn = cluster_bootstrap(statistic, codes, n_boot, seed)
    columns = ["area_gained", "of_possible"]
    columns += ["more_than_reference"] if reference is not None else []
    columns += [f"found_{100 * share:g}" for share in shares]
    return _table(drawn, list(orders), columns)


class _Order:
    """Rows from the greatest score to the least, in blocks of equal scores."""

    def __init__(self, score: np.ndarray):
        self.rows = np.argsort(-score, kind="stable")
        ordered = score[self.rows]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])

    def curves(self, weights: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute shares examined and found of each replicate, both (b, blocks + 1)."""
        weights = weights[:, self.rows]
        start = np.zeros((len(weights), 1))
        limits = []
        for amount in (weights, weights * loss[self.rows]):
            blocks = np.add.reduceat(amount, self.starts, axis=1)
            total = np.concatenate([start, blocks.cumsum(1)], axis=1)
            with np.errstate(invalid="ignore"):
                limits.append(total / total[:, -1:])
        return limits[0], limits[1]


def _summary(order: _Order, weights, loss, shares) -> np.ndarray:
    """Compute area gained, and loss found after each share, of each replicate: (b, 1 + shares)."""
    examined, found = order.curves(weights, loss)
    area = (np.diff(examined) * (found[:, 1:] + found[:, :-1]) / 2).sum(1) - 0.5
    at = [np.interp(shares, *curve) for curve in zip(examined, found, strict=True)]
    return np.column_stack([area, np.array(at).reshape(len(weights), len(shares))])


def _table(drawn, names: list[str], columns: list[str]) -> pd.DataFrame:
    """Arrange estimates and limits of intervals, one row per order."""
    shape = (len(names), len(columns))
    estimates = {"": drawn.estimate, "_low": drawn.low, "_high": drawn.high}
    tables = [
        pd.DataFrame(np.reshape(estimate, shape), index=names, columns=columns).add_suffix(suffix)
        for suffix, estimate in estimates.items()
    ]
    wide = pd.concat(tables, axis=1).rename_axis("order")
    return wide[[column + suffix for column in columns for suffix in estimates]]


def _losses(loss: ArrayLike, n_scores: int) -> np.ndarray:
    values = finite_values(loss, "losses")
    if len(values) != n_scores:
        raise ValueError(f"{len(values)} losses but {n_scores} scores")
    if (values < 0).any() or not values.any():
        raise ValueError("losses must not be negative, and one at least must be above 0")
    return values
