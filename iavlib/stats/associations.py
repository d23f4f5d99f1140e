r"""Association of a number with malignancy: effect sizes, and tests between two groups.

Effect sizes are signed "first minus second": positive when the first group tends to be larger. The
weighted forms take many weight vectors at once, which is what makes a cluster bootstrap fast: a
replicate that draws a cluster twice is the same sample with weight two on its rows. They take
their arguments as checked: values (n,), group (n,) of booleans, true for the first group, and
frequency weights (..., n), none negative; each leading index is one replicate. Results have shape
(...), NaN in replicates where a group has no weight.

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
from scipy import stats
from statsmodels.stats.multitest import multipletests

from iavlib.stats.resampling import Estimate, block_sizes, cluster_bootstrap
from iavlib.stats.samples import (
    Sample,
    boolean_labels,
    check_aligned,
    cluster_codes,
    finite_values,
    two_samples,
)


def weighted_mean_difference(values, group, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the first group minus that of the second."""
    (_, mean_1, _), (_, mean_2, _), _ = _moments(values, group, weights)
    return mean_1 - mean_2


def weighted_cohens_d(values, group, weights: np.ndarray) -> np.ndarray:
    """Cohen's d with frequency weights; see :func:`cohens_d`.

    The degrees of freedom are the sum of the weights minus two. NaN where nothing varies.
    """
    (n_1, mean_1, squares_1), (n_2, mean_2, squares_2), rounding = _moments(values, group, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.maximum(n_1 + n_2 - 2, 0)
        deviation = np.sqrt((squares_1 + squares_2) / degrees)
        defined = (degrees > 0) & (deviation > rounding)
        return np.where(defined, (mean_1 - mean_2) / deviation, np.nan)


def weighted_point_biserial(values, group, weights: np.ndarray) -> np.ndarray:
    """Point-biserial correlation with frequency weights; NaN where nothing varies."""
    (n_1, mean_1, squares_1), (n_2, mean_2, squares_2), rounding = _moments(values, group, weights)
    n, difference = n_1 + n_2, mean_1 - mean_2
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt((squares_1 + squares_2 + n_1 * n_2 / n * difference**2) / n)
        r = difference * np.sqrt(n_1 * n_2) / (n * deviation)
    return np.where(deviation > rounding, r, np.nan)


def weighted_rank_biserial(values, group, weights: np.ndarray) -> np.ndarray:
    """Rank-biserial correlation with frequency weights; see :func:`rank_biserial`.

    Rows are sorted once. At each distinct value the first group's weight meets the second group's
    weight below it in full and its weight at the same value by half; the sum is Mann-Whitney's U.
    """
    order = np.argsort(values, kind="stable")
    ordered, is_first = values[order], group[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sorted_weights = np.asarray(weights, dtype=float)[..., order]
    first = np.add.reduceat(sorted_weights * is_first, starts, axis=-1)
    second = np.add.reduceat(sorted_weights * ~is_first, starts, axis=-1)
    below = np.cumsum(second, axis=-1) - second / 2
    u = np.sum(first * below, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return 2 * u / (first.sum(axis=-1) * second.sum(axis=-1)) - 1


def _moments(values: np.ndarray, group: np.ndarray, weights: np.ndarray) -> tuple:
    """Weight, mean and squared deviations of both groups, and what counts as rounding."""
    weights = np.asarray(weights, dtype=float)
    first, second = (_group_moments(values, member, weights) for member in (group, ~group))
    # The standard deviation below which values of this size count as constant.
    return first, second, max(1e-7 * np.ptp(values), 1e-12 * np.abs(values).max())


def _group_moments(values, member, weights):
    """Sum of weights, weighted mean and weighted sum of squares about it, of one group."""
    # Centred on the group's plain mean first: sums of squares of raw values lose digits when the
    # mean is large beside the spread.
    centre = values[member].mean()
    deviations = np.where(member, values - centre, 0.0)
    total = weights @ member.astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (weights @ deviations) / total
        squares = weights @ deviations**2 - total * shift**2
    return total, centre + shift, np.maximum(squares, 0)


def _plain(effect, first: ArrayLike, second: ArrayLike) -> float:
    """Compute a weighted effect size of two groups of plain values."""
    groups = [
        finite_values(first, "values of the first group"),
        finite_values(second, "values of the second group"),
    ]
    pooled = np.concatenate(groups)
    return float(effect(pooled, np.arange(len(pooled)) < len(groups[0]), np.ones(len(pooled))))


def cohens_d(first: ArrayLike, second: ArrayLike) -> float:
    r"""Cohen's d, the difference of two means in units of the pooled standard deviation.

    .. math::
        d = \frac{\bar x_1 - \bar x_2}{s}, \qquad
        s = \sqrt{\frac{(n_1 - 1) s_1^2 + (n_2 - 1) s_2^2}{n_1 + n_2 - 2}}

    with variances over n - 1.

    Parameters
    ----------
    first, second : array_like of float

    Returns
    -------
    float
        Without unit. NaN when there are fewer than three values or nothing varies within the
        groups (a pooled standard deviation below 1e-7 of the range of the values counts as
        rounding).

    Raises
    ------
    ValueError
        When a group is empty or holds NaN.

    References
    ----------
    Cohen, J. (1988). Statistical Power Analysis for the Behavioral Sciences, 2nd ed., ch. 2.

    Examples
    --------
    >>> from iavlib.stats import cohens_d
    >>> round(cohens_d([1, 2, 3], [3, 5, 7]), 3)
    -1.897
    """
    return _plain(weighted_cohens_d, first, second)


def cohens_d_of_squared_variances(first: ArrayLike, second: ArrayLike) -> float:
    r"""Effect size as the released IMA++ code computes it, which is not Cohen's d.

    Its denominator pools the *squares* of the variances, :math:`s_1^4` and :math:`s_2^4`. For
    values between 0 and 1, whose variances are small, the result is several times Cohen's d. It
    exists only so that the difference can be measured.

    Parameters, result and errors as :func:`cohens_d`.

    Examples
    --------
    >>> from iavlib.stats import cohens_d_of_squared_variances
    >>> round(cohens_d_of_squared_variances([0.1, 0.2, 0.3], [0.3, 0.5, 0.7]), 2)
    -10.29
    """
    x, y = finite_values(first), finite_values(second)
    if min(len(x), len(y)) < 2:
        return float("nan")
    squares = (len(x) - 1) * x.var(ddof=1) ** 2 + (len(y) - 1) * y.var(ddof=1) ** 2
    deviation = np.sqrt(squares / (len(x) + len(y) - 2))
    return float((x.mean() - y.mean()) / deviation) if deviation > 0 else float("nan")


def rank_biserial(first: ArrayLike, second: ArrayLike) -> float:
    r"""Rank-biserial correlation, the effect size of the Mann-Whitney test.

    The share of pairs (one value of each group) in which the first group is larger, minus the
    share in which it is smaller: :math:`2 U_1 / (n_1 n_2) - 1`. A tied pair counts half to each.
    It equals Cliff's delta.

    Parameters
    ----------
    first, second : array_like of float

    Returns
    -------
    float
        Between -1 and 1; positive when the first group tends to be larger.

    Raises
    ------
    ValueError
        When a group is empty or holds NaN.

    References
    ----------
    Cureton, E. E. (1956). Rank-biserial correlation. Psychometrika 21, 287-290.
    """
    return _plain(weighted_rank_biserial, first, second)


def holm(p_values: pd.Series, alpha: float = 0.05) -> pd.DataFrame:
    """Holm's step-down correction of a labelled family of p-values.

    Controls the probability of any false rejection in the family, whatever the dependence between
    the tests.

    Parameters
    ----------
    p_values : Series of float
        Uncorrected p-values; the index names the tests.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        Index as given, in the order given; columns `p`, `p_holm` (at most 1) and `rejected`
        (`p_holm` <= `alpha`).

    Raises
    ------
    ValueError
        When there is no p-value, or one is missing or outside 0 to 1.

    References
    ----------
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal
    of Statistics 6, 65-70.
    """
    outside = p_values[~p_values.between(0, 1)]
    if len(outside) or p_values.empty:
        raise ValueError(
            f"{len(outside)} of {len(p_values)} p-values are missing or outside 0 to 1, for "
            f"instance {outside.head(1).to_dict()}: leave out tests that were not run"
        )
    rejected, corrected, _, _ = multipletests(p_values.to_numpy(float), alpha, method="holm")
    columns = {"p": p_values.astype(float), "p_holm": corrected, "rejected": rejected}
    return pd.DataFrame(columns, index=p_values.index)


_EFFECTS = {
    "mean_difference": weighted_mean_difference,
    "cohens_d": weighted_cohens_d,
    "rank_biserial": weighted_rank_biserial,
    "point_biserial": weighted_point_biserial,
}


@dataclass(frozen=True, eq=False)
class Association:
    """How the values of malignant rows differ from those of the other rows.

    All signs are malignant minus other. The p-values (Mann-Whitney, Kolmogorov-Smirnov, r) take
    the rows as independent, as the papers do; the intervals do not, they resample clusters.

    Attributes
    ----------
    n, n_malignant, n_clusters : int
    groups : DataFrame
        Index `malignant`, `other`; columns `n`, `n_clusters`, `mean`, `sd` (over n - 1), `median`.
    mean_difference, cohens_d, rank_biserial : Estimate
        With cluster-bootstrap intervals.
    point_biserial : Estimate
        With cluster-bootstrap interval and the p-value of the t test of r = 0.
    mann_whitney : Estimate
        Value: U of the malignant rows. Two-sided normal approximation with tie and continuity
        correction.
    kolmogorov_smirnov : Estimate
        Value: D, the largest distance of the two empirical distributions; two-sided, exact for
        samples up to 10,000.
    """

    n: int
    n_malignant: int
    n_clusters: int
    groups: pd.DataFrame
    mean_difference: Estimate
    cohens_d: Estimate
    rank_biserial: Estimate
    point_biserial: Estimate
    mann_whitney: Estimate
    kolmogorov_smirnov: Estimate

    def to_frame(self) -> pd.DataFrame:
        """Return one row per statistic: estimate, ci_low, ci_high, p, n, n_clusters.

        The index is named `statistic`. Intervals are NaN for the two test statistics, p is NaN for
        the effect sizes that have no test of their own.
        """
        rows = {
            k: (v.value, v.low, v.high, v.p)
            for k, v in vars(self).items()
            if isinstance(v, Estimate)
        }
        table = pd.DataFrame.from_dict(
            rows, orient="index", columns=["estimate", "ci_low", "ci_high", "p"]
        )
        return table.assign(n=self.n, n_clusters=self.n_clusters).rename_axis("statistic")


def association(
    values: ArrayLike,
    malignant: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> Association:
    """Compare the values of malignant rows with those of all other rows.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        For instance the mean Dice of each image.
    malignant : array_like of bool, shape (n,)
        True (or 1) for malignant. Rows of unknown or indeterminate malignancy must be left out or
        assigned to a group before.
    clusters : array_like, shape (n,), optional
        What the bootstrap resamples, for instance patients; without it each row by itself.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`; intervals have 95 %.

    Returns
    -------
    Association

    Raises
    ------
    OneClassError
        When a group is empty.
    ValueError
        When a value is NaN, a label is missing or not a yes/no, or pandas arguments are indexed
        differently.

    References
    ----------
    Mann, H. B. and Whitney, D. R. (1947). Annals of Mathematical Statistics 18, 50-60.

    Examples
    --------
    >>> from iavlib.stats import association
    >>> dice = [0.9, 0.8, 0.85, 0.95, 0.7, 0.6, 0.75, 0.65]
    >>> malignant = [False] * 4 + [True] * 4
    >>> result = association(dice, malignant, n_boot=200)
    >>> round(result.mean_difference.value, 2), result.rank_biserial.value
    (-0.2, -1.0)
    >>> list(result.to_frame().columns)
    ['estimate', 'ci_low', 'ci_high', 'p', 'n', 'n_clusters']
    """
    sample = two_samples(values, malignant, clusters, names=("malignant", "other"))

    def effects(weights: np.ndarray) -> np.ndarray:
        columns = [effect(sample.value, sample.group, weights) for effect in _EFFECTS.values()]
        return np.stack(columns, axis=-1)

    boot = cluster_bootstrap(effects, sample.clusters, n_boot, seed)
    estimates = {
        name: Estimate(*map(float, limits))
        for name, *limits in zip(_EFFECTS, boot.estimate, boot.low, boot.high, strict=True)
    }
    r = estimates["point_biserial"]
    if np.isfinite(r.value) and len(sample) > 2:
        p = float(stats.pearsonr(sample.group.astype(float), sample.value).pvalue)
        estimates["point_biserial"] = Estimate(r.value, r.low, r.high, p)
    mwu = stats.mannwhitneyu(sample.first, sample.second, method="asymptotic")
    ks = stats.ks_2samp(sample.first, sample.second)
    return Association(
        **sample.counts,
        groups=_describe(sample),
        **estimates,
        mann_whitney=Estimate(float(mwu.statistic), p=float(mwu.pvalue)),
        kolmogorov_smirnov=Estimate(float(ks.statistic), p=float(ks.pvalue)),
    )


def _describe(sample: Sample) -> pd.DataFrame:
    """Size, clusters, mean, standard deviation and median of both groups."""
    group = np.where(sample.group, "malignant", "other")
    rows = pd.DataFrame({"group": group, "value": sample.value, "cluster": sample.clusters})
    groups = rows.groupby("group")
    value = groups["value"].agg(["mean", "std", "median"]).rename(columns={"std": "sd"})
    sizes = {"n": groups.size(), "n_clusters": groups["cluster"].nunique()}
    return pd.concat([pd.DataFrame(sizes), value], axis=1)


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
        :mod:`iavlib.stats.associations`.
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
