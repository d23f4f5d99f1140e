"""The same question asked of several samples, answered in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.associations import association
from iavlib.stats.effects import holm
from iavlib.stats.factors import within_between
from iavlib.stats.resampling import Estimate, cluster_bootstrap


def cluster_mean(
    values: ArrayLike,
    clusters: ArrayLike,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
) -> Estimate:
    """Average values, with an interval that resamples clusters.

    Parameters
    ----------
    values : array_like of float, shape (n,)
    clusters : array_like, shape (n,)
        What the bootstrap resamples, for instance patients.
    n_boot, seed, level
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Raises
    ------
    ValueError
        When a value is NaN, or there is a single cluster.
    """
    values = np.asarray(values, dtype=float)
    missing = int(np.isnan(values).sum())
    if missing:
        raise ValueError(f"{missing} of {len(values)} values are NaN; drop or fill them first")

    def mean(weights: np.ndarray) -> np.ndarray:
        return weights @ values / weights.sum(axis=1)

    result = cluster_bootstrap(mean, clusters, n_boot, seed, level)
    return Estimate(float(result.estimate), float(result.low), float(result.high))


def compare_associations(
    samples: Mapping[str, tuple[pd.DataFrame, str]],
    n_boot: int = 2000,
    seed: int = 0,
    smallest: int = 2,
) -> pd.DataFrame:
    """Compare malignant and other rows in each of several samples.

    Parameters
    ----------
    samples : mapping of str to (pandas.DataFrame, str)
        Label of the sample to its table (with ``malignant`` and ``cluster``) and the column
        compared.
    n_boot, seed
        See :func:`iavlib.stats.associations.association`.
    smallest : int
        Samples with fewer malignant, or fewer other, rows are left out.

    Returns
    -------
    pandas.DataFrame
        Index: the labels of the samples that are large enough. Columns ``n``, ``n_malignant``,
        ``mean_other``, ``mean_malignant``,
        ``cohens_d`` with ``ci_low`` and ``ci_high`` (clusters resampled), ``point_biserial`` with
        ``p_point_biserial``, ``p`` (Mann-Whitney) and ``p_holm`` (of ``p``, over the samples).
    """
    rows = {}
    for label, (table, column) in samples.items():
        n_malignant = int(table["malignant"].sum())
        if min(n_malignant, len(table) - n_malignant) < smallest:
            continue
        result = association(
            table[column], table["malignant"], table["cluster"], n_boot=n_boot, seed=seed
        )
        rows[label] = {
            "n": result.n,
            "n_malignant": result.n_malignant,
            "mean_other": result.groups.loc["other", "mean"],
            "mean_malignant": result.groups.loc["malignant", "mean"],
            "cohens_d": result.cohens_d.value,
            "ci_low": result.cohens_d.low,
            "ci_high": result.cohens_d.high,
            "point_biserial": result.point_biserial.value,
            "p_point_biserial": result.point_biserial.p,
            "p": result.mann_whitney.p,
        }
    if not rows:
        raise ValueError(f"no sample has {smallest} malignant and {smallest} other rows")
    frame = pd.DataFrame.from_dict(rows, orient="index")
    return frame.assign(p_holm=holm(frame["p"])["p_holm"])


def compare_within_between(
    pairs: pd.DataFrame,
    factors: Sequence[str],
    metric: str = "dice",
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare pairs within and between the levels of several factors.

    Parameters
    ----------
    pairs : pandas.DataFrame
    factors : sequence of str
        Recorded for every mask. A factor whose pairs are all within, or all between, is left out.
    metric : str
    n_boot, seed
        See :func:`iavlib.stats.factors.within_between`.

    Returns
    -------
    pandas.DataFrame
        One row a factor, as :meth:`WithinBetween.to_frame`, with ``p_holm``; perhaps no row.
    """
    rows = {}
    for factor in factors:
        if (pairs[f"{factor}_1"] == pairs[f"{factor}_2"]).nunique() == 2:
            result = within_between(pairs, factor, metric, n_boot=n_boot, seed=seed)
            rows[factor] = result.to_frame().iloc[0].drop(["factor", "metric"])
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).T.rename_axis("factor")
    return table.assign(p_holm=holm(table["p"].astype(float))["p_holm"])
