"""Permutation tests that move labels between clusters instead of between rows.

When all rows of a patient share a label, permuting rows would pretend that they got it one by one
and make chance differences look rarer than they are. Here the labels move in the units in which
they were given:

- Clusters whose rows all carry one label exchange labels with one another. Cluster sizes stay with
  the clusters, so the number of rows per group varies between permutations. The test takes it that
  the number of rows of a cluster has nothing to do with its label.
- A cluster that mixes labels (a patient with a benign and a malignant lesion) keeps its mixture;
  its labels are shuffled among its own units. A *unit* is the smallest thing that has one label,
  for instance an image when rows are pairs of masks of an image; without units each row is one.

Both moves leave the distribution of the data as it is when label and value have nothing to do with
each other, which is what makes the p-value valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from iavlib.stats.samples import boolean_labels, check_aligned, cluster_codes, finite_values

__all__ = [
    "ClusterLabels",
    "PermutationTest",
    "cluster_permutation_test",
    "mean_difference_of",
    "rank_biserial_of",
]

Alternative = Literal["two-sided", "greater", "less"]

_BLOCK = 256

#: Statistics this close count as tied, so that rounding does not decide a p-value.
_TIE = 1e-12


@dataclass(frozen=True, eq=False)
class PermutationTest:
    """Outcome of a cluster permutation test.

    Attributes
    ----------
    statistic : float
        Value at the labels observed.
    p : float
        (1 + permutations at least as extreme) / (1 + permutations), so never zero.
    alternative : str
    n_permutations, n_clusters, n_mixed : int
        `n_mixed` clusters carry both labels.
    null : ndarray, shape (n_permutations,)
        The statistic at the permuted labels.
    """

    statistic: float
    p: float
    alternative: str
    n_permutations: int
    n_clusters: int
    n_mixed: int
    null: np.ndarray = field(repr=False)


class ClusterLabels:
    """Labels of clustered rows, ready to be permuted as the module describes.

    Parameters
    ----------
    labels : array_like of bool, shape (n,)
    clusters : array_like, shape (n,), optional
        Cluster label of each row; without it each unit is a cluster of its own.
    units : array_like, shape (n,), optional
        Unit of each row; without it each row is a unit of its own.

    Attributes
    ----------
    labels : ndarray of bool, shape (n,)
    n_clusters, n_mixed : int

    Raises
    ------
    ValueError
        When a unit carries both labels or lies in two clusters, or when no permutation could
        change anything.
    """

    def __init__(
        self,
        labels: ArrayLike,
        clusters: ArrayLike | None = None,
        units: ArrayLike | None = None,
    ):
        check_aligned(labels=labels, clusters=clusters, units=units)
        self.labels = boolean_labels(labels)
        self._unit, n_units = cluster_codes(units, len(self.labels))
        row_cluster = self._unit if clusters is None else clusters
        cluster, self.n_clusters = cluster_codes(row_cluster, len(self.labels))
        self._unit_label = _constant(self.labels, self._unit, n_units, "labels")
        self._unit_cluster = _constant(cluster, self._unit, n_units, "clusters")
        true_units = np.bincount(self._unit_cluster, self._unit_label, self.n_clusters)
        all_units = np.bincount(self._unit_cluster, minlength=self.n_clusters)
        mixed = (true_units > 0) & (true_units < all_units)
        self._mixed = np.flatnonzero(mixed)
        self._pure = np.flatnonzero(~mixed)
        self._pure_label = true_units[self._pure] > 0
        self.n_mixed = len(self._mixed)
        if not self.n_mixed and self._pure_label.all() | ~self._pure_label.any():
            raise ValueError("all clusters carry one and the same label: nothing to permute")

    def permutations(self, n: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield blocks of permuted labels, shape (b, rows), `n` permutations in all."""
        for start in range(0, n, _BLOCK):
            size = min(_BLOCK, n - start)
            by_cluster = np.zeros((size, self.n_clusters), dtype=bool)
            by_cluster[:, self._pure] = _shuffles(self._pure_label, size, rng)
            by_unit = by_cluster[:, self._unit_cluster]
            for cluster in self._mixed:
                members = np.flatnonzero(self._unit_cluster == cluster)
                by_unit[:, members] = _shuffles(self._unit_label[members], size, rng)
            yield by_unit[:, self._unit]


def cluster_permutation_test(
    statistic: Callable[[np.ndarray], np.ndarray],
    labels: ArrayLike,
    clusters: ArrayLike | None = None,
    units: ArrayLike | None = None,
    n_permutations: int = 2000,
    seed: int | np.random.Generator = 0,
    alternative: Alternative = "two-sided",
) -> PermutationTest:
    """Test whether labels have anything to do with values, moving labels between clusters.

    Parameters
    ----------
    statistic : callable
        Takes labels of shape (b, n) and returns the statistic in shape (b,), for instance
        :func:`rank_biserial_of` or :func:`mean_difference_of` of the values.
    labels : array_like of bool, shape (n,)
    clusters, units : array_like, shape (n,), optional
        See the module's text.
    n_permutations : int
    seed : int or numpy.random.Generator
    alternative : {"two-sided", "greater", "less"}
        Two-sided compares absolute values, so the statistic should be centred on zero.

    Returns
    -------
    PermutationTest

    Raises
    ------
    ValueError
        As :class:`ClusterLabels`; or when `alternative` is none of the three.

    References
    ----------
    Phipson, B. and Smyth, G. K. (2010). Permutation p-values should never be zero. Statistical
    Applications in Genetics and Molecular Biology 9(1), article 39.
    Winkler, A. M. et al. (2015). Multi-level block permutation. NeuroImage 123, 253-268.
    """
    extreme = {
        "two-sided": lambda null, seen: np.abs(null) >= np.abs(seen) - _TIE,
        "greater": lambda null, seen: null >= seen - _TIE,
        "less": lambda null, seen: null <= seen + _TIE,
    }
    if alternative not in extreme:
        raise ValueError(f"alternative must be one of {', '.join(extreme)}, not {alternative!r}")
    design = ClusterLabels(labels, clusters, units)
    seen = float(np.asarray(statistic(design.labels[None, :]))[0])
    blocks = design.permutations(n_permutations, np.random.default_rng(seed))
    null = np.concatenate([statistic(block) for block in blocks])
    p = (1 + int(extreme[alternative](null, seen).sum())) / (1 + n_permutations)
    return PermutationTest(
        seen, p, alternative, n_permutations, design.n_clusters, design.n_mixed, null
    )


def mean_difference_of(values: ArrayLike) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of labels (b, n): mean of the rows labelled true minus that of the rest."""
    checked = finite_values(values)

    def statistic(labels: np.ndarray) -> np.ndarray:
        n_true = labels.sum(axis=1)
        in_true = labels @ checked
        return in_true / n_true - (checked.sum() - in_true) / (len(checked) - n_true)

    return statistic


def rank_biserial_of(values: ArrayLike) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of labels (b, n): rank-biserial correlation, true rows first."""
    ranks = rankdata(finite_values(values))

    def statistic(labels: np.ndarray) -> np.ndarray:
        n_true = labels.sum(axis=1)
        u = labels @ ranks - n_true * (n_true + 1) / 2
        return 2 * u / (n_true * (len(ranks) - n_true)) - 1

    return statistic


def _constant(of_rows: np.ndarray, unit: np.ndarray, n_units: int, what: str) -> np.ndarray:
    """Reduce a row attribute to units, or say that a unit has more than one."""
    of_units = np.zeros(n_units, dtype=of_rows.dtype)
    of_units[unit] = of_rows
    torn = np.unique(unit[of_units[unit] != of_rows])
    if torn.size:
        raise ValueError(
            f"{torn.size} of {n_units} units have rows with different {what}: a unit has one "
            "label and lies in one cluster; use a smaller unit"
        )
    return of_units


def _shuffles(labels: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Give `n` independent shuffles of `labels`, one a row."""
    return rng.permuted(np.tile(labels, (n, 1)), axis=1)
