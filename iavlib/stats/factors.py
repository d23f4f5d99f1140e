"""Agreement within and between annotators, tools and skills.

A pair of masks has an unordered pair of factor levels: "T1-T3" is "T3-T1". Labels are put in
natural order, so that A10 comes after A9.
"""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from iavlib.stats.resampling import Estimate, bootstrap_mean
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
    """

    cells: pd.DataFrame

    @property
    def matrix(self) -> pd.DataFrame:
        """Symmetric table of the means, levels in natural order; NaN where a pair never occurs."""
        return self._symmetric("mean")

    @property
    def counts(self) -> pd.DataFrame:
        """Symmetric table of the number of mask pairs."""
        return self._symmetric("n").fillna(0).astype(int)

    def _symmetric(self, column: str) -> pd.DataFrame:
        ends = self.cells["first"], self.cells["second"]
        levels = sorted({*ends[0], *ends[1]}, key=natural_key)
        table = pd.DataFrame(np.nan, index=levels, columns=levels, dtype=float)
        for first, second, value in zip(*ends, self.cells[column], strict=True):
            table.loc[first, second] = table.loc[second, first] = value
        return table


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
    return FactorMatrix(cells)


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
