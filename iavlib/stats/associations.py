"""Association of a number with malignancy: effect sizes, and tests between two groups.

Effect sizes are signed "first minus second": positive when the first group tends to be larger. The
weighted forms take many weight vectors at once, which is what makes a cluster bootstrap fast: a
replicate that draws a cluster twice is the same sample with weight two on its rows. They take
their arguments as checked: values (n,), group (n,) of booleans, true for the first group, and
frequency weights (..., n), none negative; each leading index is one replicate. Results have shape
(...), NaN in replicates where a group has no weight.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from iavlib.stats.resampling import Estimate, cluster_bootstrap
from iavlib.stats.samples import Sample, finite_values, two_samples


def weighted_mean_difference(values, group, weights: np.ndarray) -> np.ndarray:
    """Weighted mean of the first group minus that of the second."""
    moments = _moments(values, group, weights)
    return moments.mean_1 - moments.mean_2


def weighted_cohens_d(values, group, weights: np.ndarray) -> np.ndarray:
    """Cohen's d with frequency weights; see :func:`cohens_d`.

    The degrees of freedom are the sum of the weights minus two. NaN where nothing varies.
    """
    m = _moments(values, group, weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.maximum(m.n_1 + m.n_2 - 2, 0)
        deviation = np.sqrt((m.squares_1 + m.squares_2) / degrees)
        defined = (degrees > 0) & (deviation > m.rounding)
        return np.where(defined, (m.mean_1 - m.mean_2) / deviation, np.nan)


def weighted_point_biserial(values, group, weights: np.ndarray) -> np.ndarray:
    """Point-biserial correlation with frequency weights; NaN where nothing varies."""
    m = _moments(values, group, weights)
    n = m.n_1 + m.n_2
    with np.errstate(divide="ignore", invalid="ignore"):
        between = m.n_1 * m.n_2 / n * (m.mean_1 - m.mean_2) ** 2
        deviation = np.sqrt((m.squares_1 + m.squares_2 + between) / n)
        r = (m.mean_1 - m.mean_2) * np.sqrt(m.n_1 * m.n_2) / (n * deviation)
    return np.where(deviation > m.rounding, r, np.nan)


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


@dataclass(frozen=True)
class _Moments:
    """Weight, mean and sum of squared deviations of both groups, for many weight vectors."""

    n_1: np.ndarray
    mean_1: np.ndarray
    squares_1: np.ndarray
    n_2: np.ndarray
    mean_2: np.ndarray
    squares_2: np.ndarray
    rounding: float


def _moments(values: np.ndarray, group: np.ndarray, weights: np.ndarray) -> _Moments:
    """Compute the moments of both groups for each weight vector."""
    weights = np.asarray(weights, dtype=float)
    groups = [_group_moments(values, member, weights) for member in (group, ~group)]
    # The standard deviation below which values of this size count as constant.
    rounding = max(1e-7 * np.ptp(values), 1e-12 * np.abs(values).max())
    return _Moments(*groups[0], *groups[1], rounding)


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
