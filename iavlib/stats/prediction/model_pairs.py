"""Which of several models differ? All pairs, or each against one, across the same blocks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from iavlib.stats.multiplicity import holm
from iavlib.stats.prediction.model_comparison import block_table, ranks_in_blocks

__all__ = ["nemenyi", "paired_differences", "wilcoxon_holm"]


def nemenyi(errors: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    r"""Compare all pairs of models by their mean ranks, after :func:`friedman`.

    Two models differ when their mean ranks are further apart than the critical difference
    :math:`q_\alpha \sqrt{k (k + 1) / (6 b)}`, where :math:`q_\alpha` is the quantile of the
    studentised range of k values with infinite degrees of freedom, over the root of 2.

    Parameters
    ----------
    errors : DataFrame
        One row a block, one column a model.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        One row a pair: ``first``, ``second``, ``rank_difference`` (first minus second, negative
        when the first errs less), ``critical_difference``, ``p`` (of the family) and ``differ``.

    Raises
    ------
    ValueError
        As :func:`friedman`.

    References
    ----------
    Demšar, J. (2006). Statistical comparisons of classifiers over multiple data sets. Journal of
    Machine Learning Research 7, 1-30, sec. 3.2.2.
    """
    ranks = ranks_in_blocks(errors)
    b, k = ranks.shape
    unit = np.sqrt(k * (k + 1) / (6 * b))
    critical = float(stats.studentized_range.ppf(1 - alpha, k, np.inf) / np.sqrt(2) * unit)
    mean = ranks.mean()
    rows = []
    for first, second in combinations(ranks.columns, 2):
        difference = float(mean[first] - mean[second])
        p = float(stats.studentized_range.sf(abs(difference) / unit * np.sqrt(2), k, np.inf))
        rows.append((first, second, difference, critical, min(1.0, p), abs(difference) > critical))
    names = ["first", "second", "rank_difference", "critical_difference", "p", "differ"]
    return pd.DataFrame(rows, columns=names)


def wilcoxon_holm(errors: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Compare all pairs of models by the signed-rank test, corrected by Holm's method.

    Unlike :func:`nemenyi` a pair's result does not depend on which other models were run.

    Parameters
    ----------
    errors : DataFrame
        One row a block, one column a model.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        One row a pair: ``first``, ``second``, ``median_difference`` (first minus second), ``w``,
        ``p``, ``p_holm`` and ``differ``. Blocks where both err alike are left out of the test (p
        is 1 when none is left). With b blocks p cannot fall below 2 / 2^b: .25 for three seeds.

    Raises
    ------
    ValueError
        As :func:`friedman`.
    """
    table = block_table(errors)
    rows = []
    for first, second in combinations(table.columns, 2):
        difference = (table[first] - table[second]).to_numpy()
        w, p = 0.0, 1.0
        if difference.any():
            w, p = map(float, stats.wilcoxon(difference))
        rows.append((first, second, float(np.median(difference)), w, p))
    result = pd.DataFrame(rows, columns=["first", "second", "median_difference", "w", "p"])
    corrected = holm(result["p"], alpha)
    return result.assign(p_holm=corrected["p_holm"], differ=corrected["rejected"])


def paired_differences(
    errors: pd.DataFrame, reference: str | None = None, level: float = 0.95
) -> pd.DataFrame:
    """Subtract models' errors block by block, with t intervals across the blocks.

    Parameters
    ----------
    errors : DataFrame
        One row a block (seed), one column a model.
    reference : str, optional
        Compare every other model with this one; all pairs by default.
    level : float

    Returns
    -------
    DataFrame
        One row a pair: ``first``, ``second``, ``n``, ``difference`` (mean of first minus second),
        ``ci_low``, ``ci_high``, ``sd``, ``dz`` (difference over `sd`; NaN when nothing varies),
        ``p`` (paired t test) and ``wins`` (blocks in which the first errs less). The interval
        speaks of more seeds on the same images; what other images would give it does not know.

    Raises
    ------
    KeyError
        When `reference` is no model.
    ValueError
        As :func:`friedman`.
    """
    table = block_table(errors)
    pairs = list(combinations(table.columns, 2))
    if reference is not None:
        if reference not in table:
            raise KeyError(f"no model {reference!r}; there are {', '.join(map(str, table))}")
        pairs = [(name, reference) for name in table.columns if name != reference]
    rows = []
    for first, second in pairs:
        d = (table[first] - table[second]).to_numpy()
        mean, sd, n = d.mean(), d.std(ddof=1), len(d)
        half = stats.t.ppf((1 + level) / 2, n - 1) * sd / np.sqrt(n)
        varied = sd > 1e-12 * np.abs(table.to_numpy()).max()
        t = np.sqrt(n) * mean / sd if varied else np.nan
        p = 2 * stats.t.sf(abs(t), n - 1) if varied else np.nan
        dz = mean / sd if varied else np.nan
        rows.append(
            (first, second, n, mean, mean - half, mean + half, sd, dz, p, int((d < 0).sum()))
        )
    names = ["first", "second", "n", "difference", "ci_low", "ci_high", "sd", "dz", "p", "wins"]
    return pd.DataFrame(rows, columns=names)
