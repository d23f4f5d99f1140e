"""Arrays and labels checked at the door, before any statistic sees them.

Every public function of :mod:`iavlib.stats` passes its arguments through here, so that a missing
value, an empty group or two tables in different row order stop the work with a message instead of
changing a number.

Means, covariances and ranks of rows with frequency weights, many weight vectors at once.

All take weights of shape (b, n), none negative: replicate `b` is the sample in which row `i` is
there `weights[b, i]` times. They are the inside of bootstrapped statistics, and take their
arguments as checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class TwoSamples:
    """Checked values of two groups, with the cluster each row belongs to.

    Attributes
    ----------
    pooled : ndarray of float, shape (n,)
        Values of both groups.
    group : ndarray of bool, shape (n,)
        True for the first group.
    clusters : ndarray of int, shape (n,)
        Codes from 0 to ``n_clusters - 1``.
    n_clusters : int
    """

    pooled: np.ndarray
    group: np.ndarray
    clusters: np.ndarray
    n_clusters: int

    @property
    def first(self) -> np.ndarray:
        """Values of the first group."""
        return self.pooled[self.group]

    @property
    def second(self) -> np.ndarray:
        """Values of the second group."""
        return self.pooled[~self.group]


def two_samples(
    values: ArrayLike,
    group: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    names: tuple[str, str] = ("first", "second"),
) -> TwoSamples:
    """Check one numeric column, a yes/no label and optional clusters, row by row.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    group : array_like of bool, shape (n,)
        True (or 1) for the first group, False (or 0) for the second.
    clusters : array_like, shape (n,), optional
        Cluster label of each row; without it every row is a cluster of its own.
    names : tuple of str
        What to call the two groups in messages.

    Returns
    -------
    TwoSamples

    Raises
    ------
    ValueError
        When lengths differ, when pandas objects carry different indexes, when a value is not
        finite, when a label is neither true nor false, or when one group is empty.
    """
    check_aligned(values=values, group=group, clusters=clusters)
    checked = finite_values(values)
    flags = boolean_labels(group)
    if len(flags) != len(checked):
        raise ValueError(f"{len(checked)} values but {len(flags)} group labels")
    for flag, name in zip((True, False), names, strict=True):
        if not np.any(flags == flag):
            raise ValueError(
                f"the group '{name}' is empty: all {len(flags)} rows belong to the other group, "
                "so there is nothing to compare"
            )
    codes, n_clusters = cluster_codes(clusters, len(checked))
    return TwoSamples(checked, flags, codes, n_clusters)


def finite_values(values: ArrayLike, name: str = "values") -> np.ndarray:
    """Return `values` as a one-dimensional float array, or say which are not finite.

    Raises
    ------
    ValueError
        When the array is empty, not one-dimensional, or holds NaN or infinity.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}")
    if array.size == 0:
        raise ValueError(f"{name} is empty")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(
            f"{bad.size} of {array.size} {name} are NaN or infinite (first at row "
            f"{_label(values, bad[0])}): drop these rows together with their labels, or use a "
            "metric that is defined for empty masks, such as a normalised distance"
        )
    return array


def boolean_labels(group: ArrayLike) -> np.ndarray:
    """Return `group` as booleans; only true/false and 1/0 are accepted.

    Raises
    ------
    ValueError
        When a label is missing or is anything else, for instance a word.
    """
    labels = pd.Series(np.asarray(group, dtype=object)).rename("group")
    missing = int(labels.isna().sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(labels)} group labels are missing: drop these rows or decide "
            "which group they belong to"
        )
    known = labels.isin([True, False])
    if not known.all():
        example = labels[~known].iloc[0]
        raise ValueError(
            f"group labels must be true or false, not {example!r}: compare first, for instance "
            "images['malignancy'].eq('malignant')"
        )
    return labels.astype(bool).to_numpy()


def cluster_codes(clusters: ArrayLike | None, n: int) -> tuple[np.ndarray, int]:
    """Number the clusters 0, 1, ... in order of appearance.

    Parameters
    ----------
    clusters : array_like or None
        Labels of any kind; None makes every row its own cluster.
    n : int
        Number of rows expected.

    Returns
    -------
    codes : ndarray of int, shape (n,)
    n_clusters : int

    Raises
    ------
    ValueError
        When the length is wrong or a label is missing. A missing label is never a shared cluster
        and never a dropped row: the caller names it.
    """
    if clusters is None:
        return np.arange(n), n
    if len(clusters) != n:
        raise ValueError(f"{n} rows but {len(clusters)} cluster labels")
    codes, uniques = pd.factorize(np.asarray(clusters, dtype=object), use_na_sentinel=True)
    missing = int((codes < 0).sum())
    if missing:
        raise ValueError(
            f"{missing} of {n} cluster labels are missing: give each such row a label of its "
            "own, for instance its image id"
        )
    return codes, len(uniques)


def group_members(groups: ArrayLike | None, n: int) -> dict[object, np.ndarray]:
    """Tell which rows belong to each subgroup, and which to all.

    Parameters
    ----------
    groups : array_like or None
        Label of each row; None makes no subgroups.
    n : int
        Number of rows expected.

    Returns
    -------
    dict
        Label to a boolean array: the labels sorted, ``missing`` where a row has none, so that no
        row is lost, and ``all`` last.

    Raises
    ------
    ValueError
        When the length is wrong.
    """
    members: dict[object, np.ndarray] = {}
    if groups is not None:
        labels = pd.Series(list(groups), dtype=object)
        if len(labels) != n:
            raise ValueError(f"{n} rows but {len(labels)} group labels")
        known = sorted(labels.dropna().unique(), key=lambda label: (str(type(label)), label))
        members |= {label: (labels == label).to_numpy() for label in known}
        if labels.isna().any():
            members["missing"] = labels.isna().to_numpy()
    return {**members, "all": np.ones(n, dtype=bool)}


def labels_of(frame: pd.DataFrame, labels: str | ArrayLike | None) -> ArrayLike | None:
    """Look up `labels` in `frame` when it is a column name, else check that it fits its rows.

    Raises
    ------
    KeyError
        When the column does not exist.
    ValueError
        When a Series has another index than the table.
    """
    if isinstance(labels, str):
        if labels not in frame.columns:
            raise KeyError(f"no column '{labels}' in the table; it has {', '.join(frame.columns)}")
        return frame[labels]
    check_aligned(table=frame, labels=labels)
    return labels


def check_aligned(**named) -> None:
    """Raise when two pandas objects do not share one index in one order.

    Matching rows by position although they are in different order is how an association gets lost
    without anything failing; arrays have no index and are taken as they come.
    """
    indexed = {k: v.index for k, v in named.items() if isinstance(v, (pd.Series, pd.DataFrame))}
    if len(indexed) < 2:
        return
    first, *others = indexed.items()
    for name, index in others:
        if not index.equals(first[1]):
            raise ValueError(
                f"'{first[0]}' and '{name}' have different indexes ({len(first[1])} and "
                f"{len(index)} rows): align them first, for instance {name}.reindex({first[0]}"
                ".index), so that rows are matched by label and not by position"
            )


def _label(values: ArrayLike, position: int):
    """Give the index label of a row, or its position when there is no index."""
    return values.index[position] if isinstance(values, pd.Series) else int(position)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of values (n,) or of several columns of them (n, k), for each replicate."""
    return weights @ values / weights.sum(axis=-1)


def weighted_second_moments(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Weighted variances and covariance; `x` and `y` are (1, n), or (b, n) as the weights."""
    total = weights.sum(axis=-1, keepdims=True)
    dx = x - (weights * x).sum(axis=-1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=-1, keepdims=True) / total
    total = total[..., 0]
    return tuple((weights * a * b).sum(axis=-1) / total for a, b in ((dx, dx), (dy, dy), (dx, dy)))


def weighted_correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation of each replicate; NaN where one of both is constant."""
    var_x, var_y, both = weighted_second_moments(x, y, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.clip(both / np.sqrt(var_x * var_y), -1, 1)
    return np.where(varies(var_x, x) & varies(var_y, y), r, np.nan)


def varies(variance: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Tell variances from what rounding leaves of constant values."""
    return variance > (1e-12 * max(float(np.abs(values).max()), 1e-300)) ** 2


def weighted_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean ranks of rows that are there as often as their weight, shape (b, n)."""
    _, inverse = np.unique(values, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(inverse[order]) > 0])
    at_value = np.add.reduceat(weights[:, order], starts, axis=1)
    below = np.cumsum(at_value, axis=1) - at_value
    return (below + (at_value + 1) / 2)[:, inverse]
