"""Checks of arrays and labels, before any statistic sees them.

Every public function of :mod:`iavlib.stats` passes its arguments through here, so that a missing
value, an empty group or two tables in different row order raise an error instead of changing a
number.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


class OneClassError(ValueError):
    """Only one class or group is present, so there is nothing to compare."""


@dataclass(frozen=True)
class Sample:
    """Checked values with a yes/no label and a cluster for each row.

    Attributes
    ----------
    value : ndarray of float, shape (n,)
    group : ndarray of bool, shape (n,)
        True for the first group (malignant).
    clusters : ndarray of int, shape (n,)
        Codes from 0 to ``n_clusters - 1``.
    n_clusters : int
    """

    value: np.ndarray
    group: np.ndarray
    clusters: np.ndarray
    n_clusters: int

    def __len__(self) -> int:
        return len(self.value)

    @property
    def first(self) -> np.ndarray:
        """Values of the first group."""
        return self.value[self.group]

    @property
    def second(self) -> np.ndarray:
        """Values of the second group."""
        return self.value[~self.group]

    @property
    def counts(self) -> dict[str, int]:
        """Rows, malignant rows and clusters, as columns of a result."""
        n_malignant = int(self.group.sum())
        return {"n": len(self), "n_malignant": n_malignant, "n_clusters": self.n_clusters}


def two_samples(
    values: ArrayLike,
    group: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    names: tuple[str, str] = ("malignant", "benign"),
    probability: bool = False,
    **others,
) -> Sample:
    """Check one numeric column, a yes/no label and optional clusters, row by row.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    group : array_like of bool, shape (n,)
        True (or 1) for the first group, False (or 0) for the second.
    clusters : array_like, shape (n,), optional
        Cluster label of each row; without it every row is a cluster of its own.
    names : tuple of str
        Names of the two groups in messages.
    probability : bool
        Whether values must lie from 0 to 1.
    **others
        Further columns of the same rows, whose index must agree.

    Returns
    -------
    Sample

    Raises
    ------
    OneClassError
        When a group is empty.
    ValueError
        When lengths differ, when pandas objects carry different indexes, when a value is not
        finite or not a probability, when a label is neither true nor false, or when a cluster
        label is missing.
    """
    check_aligned(values=values, group=group, clusters=clusters, **others)
    checked = probabilities(values) if probability else finite_values(values)
    flags = boolean_labels(group)
    if len(flags) != len(checked):
        raise ValueError(f"{len(checked)} values but {len(flags)} group labels")
    if flags.all() | ~flags.any():
        present, absent = names if flags.all() else names[::-1]
        raise OneClassError(
            f"all {len(flags)} rows are {present} and none is {absent}: take rows with both (a "
            "split stratified by class keeps them), or leave this comparison out"
        )
    codes, n_clusters = cluster_codes(clusters, len(checked))
    return Sample(checked, flags, codes, n_clusters)


def check_level(level: float) -> None:
    """Refuse a coverage that is not between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")


def probabilities(values: ArrayLike, name: str = "probabilities") -> np.ndarray:
    """Return `values` as floats from 0 to 1.

    Raises
    ------
    ValueError
        When a value is missing or outside; logits are the usual reason.
    """
    checked = finite_values(values, name)
    outside = np.flatnonzero((checked < 0) | (checked > 1))
    if outside.size:
        raise ValueError(
            f"{outside.size} of {checked.size} {name} lie outside 0 to 1 (first at row "
            f"{outside[0]}: {checked[outside[0]]:g}): if they are logits, take the softmax first"
        )
    return checked


def finite_values(values: ArrayLike, name: str = "values") -> np.ndarray:
    """Return `values` as a one-dimensional float array.

    Raises
    ------
    ValueError
        When the array is empty, not one-dimensional, or holds NaN or infinity.
    """
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have one dimension and a row, not shape {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        row = values.index[bad[0]] if isinstance(values, pd.Series) else int(bad[0])
        raise ValueError(
            f"{bad.size} of {array.size} {name} are NaN or infinite (first at row {row}): drop "
            "these rows together with their labels, or use a metric that is defined for empty "
            "masks, such as a normalised distance"
        )
    return array


def boolean_labels(group: ArrayLike) -> np.ndarray:
    """Return `group` as booleans; only true/false and 1/0 are accepted.

    Raises
    ------
    ValueError
        When a label is missing or is anything else, for instance a word.
    """
    labels = pd.Series(np.asarray(group, dtype=object))
    missing = int(labels.isna().sum())
    if missing:
        raise ValueError(
            f"{missing} of {len(labels)} group labels are missing: drop these rows or decide "
            "which group they belong to"
        )
    boolean = labels.isin([True, False])
    if not boolean.all():
        raise ValueError(
            f"group labels must be true or false, not {labels[~boolean].iloc[0]!r}: compare "
            "first, for instance images['malignancy'].eq('malignant')"
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
        and never a dropped row: the caller decides.
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
    """Find the rows of each subgroup, and of all.

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
        names = sorted(labels.dropna().unique(), key=lambda label: (str(type(label)), label))
        members |= {label: (labels == label).to_numpy() for label in names}
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
    without any error; arrays have no index and are taken as they come.
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


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of values (n,) for each weight vector of (b, n)."""
    return weights @ values / weights.sum(axis=-1)
