"""Do several models differ? Tests across runs or seeds, with effect sizes and pairs told apart.

A table of errors has one row a *block* (a seed, a fold, a run) and one column a model. Kruskal-
Wallis takes all values as independent; Friedman ranks the models within each block, which is what
runs on the same split and seed call for. Both only say that some model differs;
:mod:`iavlib.stats.model_comparison` says which.

Which of several models differ? All pairs, or each against one, across the same blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from iavlib.stats.effects import holm
from iavlib.stats.samples import finite_values

Errors = Mapping[str, ArrayLike] | pd.DataFrame


@dataclass(frozen=True)
class KruskalWallis:
    r"""Outcome of :func:`kruskal_wallis`.

    Attributes
    ----------
    h, p : float
        Statistic corrected for ties, and its p-value from chi-square with `degrees`.
    degrees, n, n_models : int
    epsilon_squared : float
        Effect size :math:`H / (n - 1)`, from 0 to 1.
    """

    h: float
    p: float
    degrees: int
    n: int
    n_models: int
    epsilon_squared: float


@dataclass(frozen=True)
class Friedman:
    r"""Outcome of :func:`friedman`.

    Attributes
    ----------
    chi_square, p : float
        Statistic corrected for ties, and its p-value from chi-square with `n_models` - 1.
    kendall_w : float
        Effect size :math:`\chi^2 / (b (k - 1))`: 1 when all blocks rank the models alike.
    f, p_f : float
        Iman and Davenport's less cautious form, F with k - 1 and (k - 1)(b - 1); infinite with
        p 0 when all blocks agree.
    mean_ranks : Series
        Of each model; 1 is the least error.
    n_blocks, n_models : int
    """

    chi_square: float
    p: float
    kendall_w: float
    f: float
    p_f: float
    mean_ranks: pd.Series
    n_blocks: int
    n_models: int


def kruskal_wallis(errors: Errors) -> KruskalWallis:
    """Test whether the errors of several models come from one distribution.

    Parameters
    ----------
    errors : DataFrame or mapping of str to array_like
        Errors of each model; numbers may differ.

    Returns
    -------
    KruskalWallis
        H 0 and p 1 when all errors are equal.

    Raises
    ------
    ValueError
        When there are fewer than two models or an error is not finite.

    References
    ----------
    Kruskal, W. H. and Wallis, W. A. (1952). Journal of the American Statistical Association 47,
    583-621. Tomczak, M. and Tomczak, E. (2014). Trends in Sport Sciences 1, 19-25: epsilon
    squared.
    """
    samples = [finite_values(errors[name], f"errors of {name!r}") for name in errors]
    if len(samples) < 2:
        raise ValueError("give the errors of two models at least")
    n = sum(map(len, samples))
    h, p = 0.0, 1.0
    if np.ptp(np.concatenate(samples)) > 0:
        h, p = map(float, stats.kruskal(*samples))
    return KruskalWallis(h, p, len(samples) - 1, n, len(samples), h / (n - 1))


def friedman(errors: pd.DataFrame) -> Friedman:
    """Test whether models differ, ranking them within each block.

    Parameters
    ----------
    errors : DataFrame
        One row a block (seed, fold), one column a model; no value missing.

    Returns
    -------
    Friedman
        With two models too, where it is the sign test's large-sample form. Statistics are 0 and
        p-values 1 when every block has a tie of all.

    Raises
    ------
    ValueError
        When there are fewer than two models or blocks, or a value is missing.

    References
    ----------
    Friedman, M. (1937). Journal of the American Statistical Association 32, 675-701.
    Iman, R. L. and Davenport, J. M. (1980). Communications in Statistics A9, 571-595.
    Kendall, M. G. and Babington Smith, B. (1939). Annals of Mathematical Statistics 10, 275-287.
    """
    ranks = ranks_in_blocks(errors)
    b, k = ranks.shape
    between = b * ((ranks.mean() - (k + 1) / 2) ** 2).sum()
    within = ((ranks - (k + 1) / 2) ** 2).to_numpy().sum() / (b * (k - 1))
    chi_square = float(between / within) if within > 0 else 0.0
    w = chi_square / (b * (k - 1))
    rest = b * (k - 1) - chi_square
    f = (b - 1) * chi_square / rest if rest > 1e-9 else float("inf")
    return Friedman(
        chi_square=chi_square,
        p=float(stats.chi2.sf(chi_square, k - 1)),
        kendall_w=w,
        f=f,
        p_f=float(stats.f.sf(f, k - 1, (k - 1) * (b - 1))),
        mean_ranks=ranks.mean().rename("mean_rank"),
        n_blocks=b,
        n_models=k,
    )


def shapiro_by_model(errors: Errors) -> pd.DataFrame:
    """Test the errors of each model for normality.

    Parameters
    ----------
    errors : DataFrame or mapping of str to array_like

    Returns
    -------
    DataFrame
        Index ``model``; columns ``n``, ``w``, ``p`` and ``p_holm``. NaN without three different
        values; p above .05 in a few runs is no proof of normality.

    Raises
    ------
    ValueError
        When an error is not finite.

    References
    ----------
    Shapiro, S. S. and Wilk, M. B. (1965). Biometrika 52, 591-611.
    """
    rows = {}
    for name in errors:
        values = finite_values(errors[name], f"errors of {name!r}")
        testable = len(values) >= 3 and np.ptp(values) > 0
        w, p = map(float, stats.shapiro(values)) if testable else (np.nan, np.nan)
        rows[name] = {"n": len(values), "w": w, "p": p}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    tested = table["p"].dropna()
    corrected = holm(tested)["p_holm"] if len(tested) else tested
    return table.assign(p_holm=corrected.reindex(table.index)).astype({"n": int})


def block_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Check a table of errors, one row a block and one column a model.

    Raises
    ------
    ValueError
        When there are fewer than two blocks or models, a name comes twice or an error is missing
        or infinite; the message names the block and the model.
    """
    if not isinstance(errors, pd.DataFrame) or min(errors.shape) < 2:
        raise ValueError("give a table with one row a block and one column a model, two of each")
    table = errors.astype(float)
    missing = table.isna() | np.isinf(table)
    if missing.to_numpy().any():
        block, model = next(zip(*np.nonzero(missing.to_numpy()), strict=True))
        raise ValueError(
            f"block {table.index[block]!r} has no error of {table.columns[model]!r}: run it, or "
            "leave the block out for all models"
        )
    if not table.columns.is_unique:
        raise ValueError("two columns have one name: name each model once")
    return table


def ranks_in_blocks(errors: pd.DataFrame) -> pd.DataFrame:
    """Rank the models within each block; 1 is the least error, ties share their mean rank."""
    return block_table(errors).rank(axis=1)


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
