"""Does a number go with malignancy? Two groups compared in every usual way at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from iavlib.stats import effects
from iavlib.stats.resampling import Estimate, Method, cluster_bootstrap
from iavlib.stats.samples import TwoSamples, two_samples

_WEIGHTED = {
    "mean_difference": effects.weighted_mean_difference,
    "cohens_d": effects.weighted_cohens_d,
    "rank_biserial": effects.weighted_rank_biserial,
    "point_biserial": effects.weighted_point_biserial,
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
    n_undefined : int
        Most bootstrap replicates without a value in any one statistic.
    level, method, n_boot
        Settings of the bootstrap.
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
    n_undefined: int
    level: float
    method: str
    n_boot: int

    def to_frame(self) -> pd.DataFrame:
        """Return one row per statistic: estimate, ci_low, ci_high, p, n, n_clusters.

        The index is named `statistic`. Intervals are NaN for the two test statistics, p is NaN for
        the effect sizes that have no test of their own.
        """
        names = [*_WEIGHTED, "mann_whitney", "kolmogorov_smirnov"]
        rows = [getattr(self, name) for name in names]
        return pd.DataFrame(
            {
                "estimate": [row.value for row in rows],
                "ci_low": [row.low for row in rows],
                "ci_high": [row.high for row in rows],
                "p": [row.p for row in rows],
                "n": self.n,
                "n_clusters": self.n_clusters,
            },
            index=pd.Index(names, name="statistic"),
        )


def association(
    values: ArrayLike,
    malignant: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> Association:
    """Compare the values of malignant rows with those of all other rows.

    Parameters
    ----------
    values : array_like of float, shape (n,)
        For instance the mean Dice of each image.
    malignant : array_like of bool, shape (n,)
        True (or 1) for malignant. Rows of unknown or indeterminate malignancy are to be left out
        before, or put where the question wants them.
    clusters : array_like, shape (n,), optional
        What the bootstrap resamples, for instance patients; without it each row by itself.
    n_boot : int
    seed : int or numpy.random.Generator
    level : float
    method : {"percentile", "bca"}
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    Association

    Raises
    ------
    ValueError
        When a group is empty, a value is NaN, a label is missing or not a yes/no, or pandas
        arguments are indexed differently.

    Notes
    -----
    Mann, H. B. and Whitney, D. R. (1947). Annals of Mathematical Statistics 18, 50-60. The effect
    sizes are described in :mod:`iavlib.stats.effects`.
    """
    sample = two_samples(values, malignant, clusters, names=("malignant", "other"))
    boot = cluster_bootstrap(
        lambda weights: _effects(sample, weights), sample.clusters, n_boot, seed, level, method
    )
    p_values = {"point_biserial": _point_biserial_p(sample)}
    estimates = {
        name: Estimate(*map(float, ends), p_values.get(name, float("nan")))
        for name, *ends in zip(_WEIGHTED, boot.estimate, boot.low, boot.high, strict=True)
    }
    mwu = stats.mannwhitneyu(sample.first, sample.second, method="asymptotic")
    ks = stats.ks_2samp(sample.first, sample.second)
    return Association(
        n=len(sample.pooled),
        n_malignant=len(sample.first),
        n_clusters=sample.n_clusters,
        groups=_describe(sample),
        **estimates,
        mann_whitney=Estimate(float(mwu.statistic), p=float(mwu.pvalue)),
        kolmogorov_smirnov=Estimate(float(ks.statistic), p=float(ks.pvalue)),
        n_undefined=int(np.max(boot.n_undefined)),
        level=level,
        method=method,
        n_boot=n_boot,
    )


def _effects(sample: TwoSamples, weights: np.ndarray) -> np.ndarray:
    """All effect sizes for each weight vector, shape (b, 4)."""
    columns = [effect(sample.pooled, sample.group, weights) for effect in _WEIGHTED.values()]
    return np.stack(columns, axis=-1)


def _point_biserial_p(sample: TwoSamples) -> float:
    """P-value of r = 0, NaN where r has no value."""
    r = effects.point_biserial(sample.pooled, sample.group)
    if np.isnan(r) or len(sample.pooled) < 3:
        return float("nan")
    return float(stats.pearsonr(sample.group.astype(float), sample.pooled).pvalue)


def _describe(sample: TwoSamples) -> pd.DataFrame:
    """Size, clusters, mean, standard deviation and median of both groups."""
    rows = {}
    for name, member in (("malignant", sample.group), ("other", ~sample.group)):
        values = sample.pooled[member]
        rows[name] = {
            "n": len(values),
            "n_clusters": len(np.unique(sample.clusters[member])),
            "mean": values.mean(),
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
            "median": np.median(values),
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("group")
    return table.astype({"n": int, "n_clusters": int})
