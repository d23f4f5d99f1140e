"""Agreement within and between annotators, tools and skills.

A pair of masks has an unordered pair of factor levels: "T1-T3" is "T3-T1". Labels are put in
natural order, so that A10 comes after A9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from iavlib.stats.associations import holm, weighted_mean_difference
from iavlib.stats.resampling import Estimate, bootstrap_mean, cluster_bootstrap
from iavlib.stats.samples import cluster_codes, finite_values, labels_of


@dataclass(frozen=True, eq=False)
class FactorMatrix:
    """Mean agreement of every pair of factor levels.

    Attributes
    ----------
    cells : DataFrame
        One row per pair of levels that occurs, index `pair` ("T1-T3"), in natural order; columns
        `first`, `second`, `within` (same level twice), `mean`, `n` (mask pairs), `n_clusters`,
        `ci_low`, `ci_high`.
    matrix : DataFrame
        Symmetric table of the means, levels in natural order; NaN where a pair never occurs.
    counts : DataFrame of int
        Symmetric table of the number of mask pairs.
    """

    cells: pd.DataFrame
    matrix: pd.DataFrame
    counts: pd.DataFrame


@dataclass(frozen=True)
class WithinBetween:
    """Agreement of mask pairs that share a factor level against those that do not.

    Attributes
    ----------
    factor, metric : str
    n_within, n_between, n_clusters : int
    mean_within, mean_between, sd_within, sd_between : float
    difference : Estimate
        Within minus between, with cluster-bootstrap interval.
    mann_whitney : Estimate
        U of the pairs within, and the two-sided p-value that takes pairs as independent.
    """

    factor: str
    metric: str
    n_within: int
    n_between: int
    n_clusters: int
    mean_within: float
    mean_between: float
    sd_within: float
    sd_between: float
    difference: Estimate
    mann_whitney: Estimate

    def to_frame(self) -> pd.DataFrame:
        """Return a table of one row; `difference`, `ci_low`, `ci_high`, `u`, `p` at its end."""
        row = {k: v for k, v in vars(self).items() if not isinstance(v, Estimate)}
        row |= {
            "difference": self.difference.value,
            "ci_low": self.difference.low,
            "ci_high": self.difference.high,
            "u": self.mann_whitney.value,
            "p": self.mann_whitney.p,
        }
        return pd.DataFrame([row])


def natural_key(label: str) -> tuple:
    """Sorting key that reads digits as numbers: A9 comes before A10."""
    chunks = re.split(r"(\d+)", str(label))
    numbered = tuple((int(c), "") if c.isdigit() else (-1, c) for c in chunks if c)
    # The label itself settles ties such as A1 and A01, so that the order never depends on chance.
    return numbered, str(label)


def recorded_factors(pairs: pd.DataFrame, factors=("annotator", "tool", "skill")) -> list[str]:
    """Return the factors that are known for every mask of the pairs and are not always the same.

    Parameters
    ----------
    pairs : DataFrame
        One row per pair of masks, with columns ``<factor>_1`` and ``<factor>_2``.
    factors : sequence of str

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import recorded_factors
    >>> pairs = pd.DataFrame({"tool_1": ["T1", "T1"], "tool_2": ["T1", "T2"]})
    >>> recorded_factors(pairs, ["tool"])
    ['tool']
    """
    recorded = []
    for factor in factors:
        levels = pairs[[f"{factor}_1", f"{factor}_2"]]
        if levels.notna().all(axis=None) and pd.unique(levels.to_numpy().ravel()).size > 1:
            recorded.append(factor)
    return recorded


def factor_pair(pairs: pd.DataFrame, factor: str) -> pd.Series:
    """Name the unordered pair of factor levels of each mask pair.

    Parameters
    ----------
    pairs : DataFrame
        With columns ``<factor>_1`` and ``<factor>_2``.
    factor : str
        For instance annotator, tool or skill.

    Returns
    -------
    Series of str
        Index of `pairs`, name ``<factor>_pair``, values like "T1-T3", smaller label first.

    Raises
    ------
    KeyError
        When a column does not exist.
    ValueError
        When a level is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import factor_pair
    >>> factor_pair(pd.DataFrame({"tool_1": ["T2"], "tool_2": ["T1"]}), "tool").tolist()
    ['T1-T2']
    """
    first, second = _levels(pairs, factor)
    labels = [f"{a}-{b}" for a, b in zip(first, second, strict=True)]
    return pd.Series(labels, index=pairs.index, name=f"{factor}_pair", dtype="str")


def factor_matrix(
    pairs: pd.DataFrame,
    factor: str,
    metric: str = "dice",
    clusters: str | ArrayLike = "image_id",
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    min_clusters: int = 5,
) -> FactorMatrix:
    """Average a metric over the mask pairs of each unordered pair of factor levels.

    Parameters
    ----------
    pairs : DataFrame
        With columns ``<factor>_1``, ``<factor>_2`` and `metric`.
    factor, metric : str
    clusters : str or array_like
        Column name or labels; what the bootstrap of each cell resamples.
    n_boot, seed
        See :func:`iavlib.stats.resampling.cluster_bootstrap`; intervals have 95 %.
    min_clusters : int
        Cells with fewer clusters get no interval (NaN): from so few it would be far too short.

    Returns
    -------
    FactorMatrix
        The diagonal is agreement within a level, the rest agreement between levels.

    Raises
    ------
    KeyError
        When a column does not exist.
    ValueError
        When the metric is NaN somewhere, a level or a cluster label is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import factor_matrix
    >>> pairs = pd.DataFrame({"tool_1": ["T1", "T2", "T1"], "tool_2": ["T1", "T2", "T2"]})
    >>> pairs = pairs.assign(dice=[0.9, 0.8, 0.7], image_id=["a", "b", "c"])
    >>> print(factor_matrix(pairs, "tool").matrix.loc["T1", "T2"])
    0.7
    """
    first, second = _levels(pairs, factor)
    values = finite_values(_column(pairs, metric), f"values of {metric}")
    codes, _ = cluster_codes(labels_of(pairs, clusters), len(pairs))
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"first": first, "second": second, "value": values, "cluster": codes})
    rows = []
    for (a, b), cell in table.groupby(["first", "second"], sort=False):
        n_clusters = cell["cluster"].nunique()
        mean = Estimate(cell["value"].mean())
        if n_clusters >= max(min_clusters, 2):
            mean = bootstrap_mean(cell["value"], cell["cluster"], n_boot, rng)
        rows.append((f"{a}-{b}", a, b, a == b, mean.value, len(cell), n_clusters, *mean.interval))
    rows.sort(key=lambda row: (natural_key(row[1]), natural_key(row[2])))
    columns = ["pair", "first", "second", "within", "mean", "n", "n_clusters", "ci_low", "ci_high"]
    cells = pd.DataFrame(rows, columns=columns).set_index("pair")
    levels = sorted({*first, *second}, key=natural_key)
    return FactorMatrix(
        cells=cells,
        matrix=_symmetric(cells, "mean", levels, factor),
        counts=_symmetric(cells, "n", levels, factor).fillna(0).astype(int),
    )


def within_between(
    pairs: pd.DataFrame,
    factor: str,
    metric: str = "dice",
    clusters: str | ArrayLike = "image_id",
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
) -> WithinBetween:
    """Compare mask pairs that share a factor level with those that do not.

    Parameters
    ----------
    pairs, factor, metric, clusters, n_boot, seed
        As :func:`factor_matrix`.

    Returns
    -------
    WithinBetween

    Raises
    ------
    KeyError
        When a column does not exist.
    ValueError
        When all pairs are within or all between, the metric is NaN somewhere, or a level or a
        cluster label is missing.
    """
    first, second = _levels(pairs, factor)
    within = np.array(first) == np.array(second)
    if within.all() or not within.any():
        missing = "between" if within.all() else "within"
        raise ValueError(f"no mask pair lies {missing} levels of '{factor}': nothing to compare")
    values = finite_values(_column(pairs, metric), f"values of {metric}")
    codes, n_clusters = cluster_codes(labels_of(pairs, clusters), len(pairs))
    boot = cluster_bootstrap(
        lambda weights: weighted_mean_difference(values, within, weights),
        codes,
        n_boot,
        seed,
    )
    inside, across = values[within], values[~within]
    mwu = stats.mannwhitneyu(inside, across, method="asymptotic")
    return WithinBetween(
        factor=factor,
        metric=metric,
        n_within=len(inside),
        n_between=len(across),
        n_clusters=n_clusters,
        mean_within=float(inside.mean()),
        mean_between=float(across.mean()),
        sd_within=_sd(inside),
        sd_between=_sd(across),
        difference=boot.to_estimate(),
        mann_whitney=Estimate(float(mwu.statistic), p=float(mwu.pvalue)),
    )


def _levels(pairs: pd.DataFrame, factor: str) -> tuple[list, list]:
    """Give both factor levels of each pair, the naturally smaller one first."""
    columns = [_column(pairs, f"{factor}_{side}") for side in (1, 2)]
    for column in columns:
        if column.isna().any():
            raise ValueError(
                f"{int(column.isna().sum())} of {len(column)} rows have no {column.name}: name "
                "the level or drop these rows"
            )
    levels = sorted(pd.unique(pd.concat(columns)), key=natural_key)
    rank = {level: i for i, level in enumerate(levels)}
    ordered = [sorted(pair, key=rank.__getitem__) for pair in zip(*columns, strict=True)]
    return [a for a, _ in ordered], [b for _, b in ordered]


def _column(pairs: pd.DataFrame, name: str) -> pd.Series:
    """Give a column, or list those present."""
    if name not in pairs.columns:
        raise KeyError(f"no column '{name}' in the pairs; they have {', '.join(pairs.columns)}")
    return pairs[name]


def _symmetric(cells: pd.DataFrame, column: str, levels: list, factor: str) -> pd.DataFrame:
    """Spread a column of the cells over a symmetric table of levels."""
    table = pd.DataFrame(np.nan, index=levels, columns=levels, dtype=float)
    for first, second, value in zip(cells["first"], cells["second"], cells[column], strict=True):
        table.loc[first, second] = table.loc[second, first] = value
    return table.rename_axis(index=factor, columns=factor)


def _sd(values: np.ndarray) -> float:
    """Standard deviation over n - 1, NaN of a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def compare_within_between(
    pairs: pd.DataFrame,
    factors: Sequence[str],
    n_boot: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the Dice of pairs within and between the levels of several factors.

    Parameters
    ----------
    pairs : DataFrame
    factors : sequence of str
        Recorded for every mask. A factor whose pairs are all within, or all between, is left out.
    n_boot, seed
        See :func:`within_between`.

    Returns
    -------
    DataFrame
        One row per factor, as :meth:`WithinBetween.to_frame`, with ``p_holm``; possibly no row.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import compare_within_between
    >>> pairs = pd.DataFrame({"tool_1": ["T1", "T2", "T1"], "tool_2": ["T1", "T2", "T2"]})
    >>> pairs = pairs.assign(dice=[0.9, 0.8, 0.7], image_id=["a", "b", "c"])
    >>> table = compare_within_between(pairs, ["tool"], n_boot=50)
    >>> print(round(table.loc["tool", "difference"], 2))
    0.15
    """
    rows = {}
    for factor in factors:
        if (pairs[f"{factor}_1"] == pairs[f"{factor}_2"]).nunique() == 2:
            result = within_between(pairs, factor, n_boot=n_boot, seed=seed)
            rows[factor] = result.to_frame().iloc[0].drop(["factor", "metric"])
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows).T.rename_axis("factor")
    return table.assign(p_holm=holm(table["p"].astype(float))["p_holm"])
