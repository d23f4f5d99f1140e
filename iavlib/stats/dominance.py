r"""First-order stochastic dominance of one sample over another, tested by permuting labels.

A sample dominates another to first order when its distribution function lies nowhere above the
other's: at every value x the dominating sample has no larger share of values up to x. For agreement
and malignancy the question is whether the agreement of non-malignant lesions dominates that of
malignant ones, :math:`F_\mathrm{other}(x) \le F_\mathrm{malignant}(x)` for all x.

When all rows of a patient share a label, permuting rows would treat them as independently labelled
and make chance differences look rarer than they are. Labels are therefore permuted in the units in
which they were given:

- Clusters whose rows all carry one label exchange labels with one another. Cluster sizes stay with
  the clusters, so the number of rows per group varies between permutations. The test assumes that
  the number of rows of a cluster is independent of its label.
- A cluster that mixes labels (a patient with a benign and a malignant lesion) keeps its mixture;
  its labels are shuffled among its own units. A *unit* is the smallest thing that has one label,
  for instance an image when rows are pairs of masks of an image; without units each row is one.

Both moves leave the distribution of the data unchanged when label and value are independent, which
is what makes the p-value valid.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.resampling import block_sizes
from iavlib.stats.samples import boolean_labels, check_aligned, cluster_codes, two_samples

#: Statistics this close count as tied, so that rounding does not decide a p-value.
_TIE = 1e-12


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
        self, labels: ArrayLike, clusters: ArrayLike | None = None, units: ArrayLike | None = None
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
        for size in block_sizes(n, len(self._unit)):
            by_cluster = np.zeros((size, self.n_clusters), dtype=bool)
            by_cluster[:, self._pure] = _shuffles(self._pure_label, size, rng)
            by_unit = by_cluster[:, self._unit_cluster]
            for cluster in self._mixed:
                members = np.flatnonzero(self._unit_cluster == cluster)
                by_unit[:, members] = _shuffles(self._unit_label[members], size, rng)
            yield by_unit[:, self._unit]


def _constant(of_rows: np.ndarray, unit: np.ndarray, n_units: int, what: str) -> np.ndarray:
    """Reduce a row attribute to units, each of which must have a single value."""
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
    """Give `n` independent shuffles of `labels`, one per row."""
    return rng.permuted(np.tile(labels, (n, 1)), axis=1)


@dataclass(frozen=True, eq=False)
class Dominance:
    r"""Outcome of :func:`first_order_dominance`.

    With :math:`D(x) = F_\mathrm{malignant}(x) - F_\mathrm{other}(x)`, dominance of the other rows
    means D is nowhere negative.

    Attributes
    ----------
    n_malignant, n_other, n_clusters : int
    gap, gap_at : float
        Largest D and the value where it is reached: how far dominance goes.
    violation, violation_at : float
        Largest -D (zero when there is none) and where: how far dominance is broken. `violation_at`
        is NaN when it holds.
    p_gap : float
        Share of label permutations with a gap at least as large. Small: the malignant rows do
        *not* dominate the other rows.
    p_violation : float
        Share of label permutations with a violation at least as large. Small: the other rows do
        *not* dominate the malignant rows; large: the violation seen is no more than chance makes.
    violation_share : float
        Area where D is negative over the area of abs(D): 0 for strict dominance, 1 for the reverse.
    curves : DataFrame
        At each distinct value: `value`, `malignant`, `other` (both distribution functions,
        P(X <= value)) and `difference` (D).
    n_permutations : int
    """

    n_malignant: int
    n_other: int
    n_clusters: int
    gap: float
    gap_at: float
    p_gap: float
    violation: float
    violation_at: float
    p_violation: float
    violation_share: float
    n_permutations: int
    curves: pd.DataFrame = field(repr=False)

    @property
    def strict(self) -> bool:
        """Whether the sample itself shows dominance without any violation."""
        return self.violation == 0

    def decision(self, alpha: float = 0.05) -> str:
        """Return which of four answers both tests give together at level `alpha`.

        "other dominates" when only the reverse dominance is rejected, "malignant dominates" when
        only dominance of the other rows is, "curves cross" when both are and "no difference shown"
        when neither is.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
        answers = {
            (True, False): "other dominates",
            (False, True): "malignant dominates",
            (True, True): "curves cross",
            (False, False): "no difference shown",
        }
        return answers[self.p_gap <= alpha, self.p_violation <= alpha]

    def violations(self) -> pd.DataFrame:
        """Return the ranges of values where dominance is broken.

        Columns `low` and `high` (D is negative from `low` up to, not including, `high`) and
        `largest` (of -D within the range); empty when dominance is strict.
        """
        broken = (self.curves["difference"] < -_TIE).to_numpy()
        edges = np.diff(np.r_[0, broken.astype(int), 0])
        starts, limits = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        value, difference = self.curves["value"].to_numpy(), self.curves["difference"].to_numpy()
        largest = [-difference[a:b].min() for a, b in zip(starts, limits, strict=True)]
        # Both functions are 1 at the last value, so a broken range always ends before it.
        return pd.DataFrame({"low": value[starts], "high": value[limits], "largest": largest})

    def to_frame(self) -> pd.DataFrame:
        """Return everything but the curves as a table of one row."""
        names = [name for name in self.__dataclass_fields__ if name != "curves"]
        return pd.DataFrame([{name: getattr(self, name) for name in names}])


def first_order_dominance(
    values: ArrayLike,
    malignant: ArrayLike,
    clusters: ArrayLike | None = None,
    units: ArrayLike | None = None,
    n_permutations: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Dominance:
    """Ask whether the values of non-malignant rows dominate those of malignant rows.

    Two one-sided Kolmogorov-Smirnov tests, one in each direction. The hypothesis that the other
    rows dominate is tested by the largest violation of it, the hypothesis that the malignant rows
    dominate by the largest gap (which violates that one). Each p-value comes from permuting
    labels, that is under equal distributions. That is the case of "dominates" in which a violation
    arises most easily, so the test keeps its level against every other case. No statistic of both
    together is formed: a violation divided by the gap would mix the two questions and has no
    simple null distribution; `violation_share` describes it without testing.

    Dominance is supported when the reverse is rejected (small `p_gap`) and the violation is no
    more than chance makes (large `p_violation`). A large p-value alone does not prove dominance.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    malignant : array_like of bool, shape (n,)
        True for the group expected to have the lower values.
    clusters, units : array_like, shape (n,), optional
        Clusters (patients) and units that carry one label (images) for the permutation; see
        :mod:`iavlib.stats.dominance`.
    n_permutations : int
    seed : int or numpy.random.Generator

    Returns
    -------
    Dominance

    Raises
    ------
    ValueError
        As :func:`iavlib.stats.associations.association`; also when a unit carries both labels.

    References
    ----------
    Barrett, G. F. and Donald, S. G. (2003). Consistent tests for stochastic dominance.
    Econometrica 71, 71-104: hypothesis and statistic.
    Angelov, A. G. et al. (2019). Four-decision tests for stochastic dominance. Journal of
    Mathematical Psychology 93, 102281: both directions together.
    Leshno, M. and Levy, H. (2002). Preferred by "all" and preferred by "most" decision makers.
    Management Science 48, 1074-1085: the share of the area.

    Examples
    --------
    >>> from iavlib.stats import first_order_dominance
    >>> dice = [0.9, 0.8, 0.85, 0.95, 0.7, 0.6, 0.75, 0.65]
    >>> result = first_order_dominance(dice, [False] * 4 + [True] * 4, n_permutations=200)
    >>> result.strict, result.gap, result.decision()
    (True, 1.0, 'other dominates')
    """
    check_aligned(values=values, malignant=malignant, clusters=clusters, units=units)
    sample = two_samples(values, malignant, clusters, names=("malignant", "other"))
    design = ClusterLabels(sample.group, sample.clusters if clusters is not None else None, units)
    order = np.argsort(sample.value, kind="stable")
    ordered = sample.value[order]
    lasts = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])
    below_malignant, below_other = _distributions(design.labels[None, :], order, lasts)
    difference = (below_malignant - below_other)[0]
    grid = ordered[lasts]
    highest, lowest = int(np.argmax(difference)), int(np.argmin(difference))
    gap, violation = float(difference[highest]), max(0.0, -float(difference[lowest]))
    p_gap, p_violation = _p_values(design, order, lasts, gap, violation, n_permutations, seed)
    return Dominance(
        n_malignant=len(sample.first),
        n_other=len(sample.second),
        n_clusters=design.n_clusters,
        gap=gap,
        gap_at=float(grid[highest]),
        p_gap=p_gap,
        violation=violation,
        violation_at=float(grid[lowest]) if violation > 0 else float("nan"),
        p_violation=p_violation,
        violation_share=_violation_share(grid, difference),
        n_permutations=n_permutations,
        curves=pd.DataFrame(
            {
                "value": grid,
                "malignant": below_malignant[0],
                "other": below_other[0],
                "difference": difference,
            }
        ),
    )


def _distributions(labels, order, lasts) -> tuple[np.ndarray, np.ndarray]:
    """Both distribution functions at the distinct values, for each row of labels (b, n)."""
    up_to = np.cumsum(labels[:, order], axis=1)[:, lasts]
    n_true = up_to[:, -1:]
    n = labels.shape[1]
    return up_to / n_true, ((lasts + 1) - up_to) / (n - n_true)


def _p_values(design, order, lasts, gap, violation, n_permutations, seed) -> tuple[float, float]:
    """Share of permutations with a gap, and with a violation, at least as large as seen."""
    as_wide = as_broken = 0
    for labels in design.permutations(n_permutations, np.random.default_rng(seed)):
        first, second = _distributions(labels, order, lasts)
        difference = first - second
        as_wide += int((difference.max(axis=1) >= gap - _TIE).sum())
        as_broken += int((-difference.min(axis=1) >= violation - _TIE).sum())
    return (1 + as_wide) / (1 + n_permutations), (1 + as_broken) / (1 + n_permutations)


def _violation_share(grid: np.ndarray, difference: np.ndarray) -> float:
    """Area of the negative part of the step function over its whole area; NaN when both are 0."""
    widths = np.diff(grid)
    area = float(np.sum(np.abs(difference[:-1]) * widths))
    negative = float(np.sum(np.maximum(-difference[:-1], 0) * widths))
    return negative / area if area > 0 else float("nan")
