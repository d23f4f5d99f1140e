r"""Do several models differ? Tests across runs or seeds, with effect sizes and pairs.

A table of errors has one row per *block* (a seed, a fold, a run) and one column per model.
Kruskal-Wallis treats all values as independent; Friedman ranks the models within each block, which
runs on the same split and seed call for. Both only show that some model differs; the pairwise tests
(:func:`nemenyi`, :func:`wilcoxon_holm`) show which.

A student study of agreement standardised the errors of each network by that network's own mean and
standard deviation before a Kruskal-Wallis test. Afterwards every network has mean 0 and standard
deviation 1, so nothing is left of a difference in size or spread, and the result is the same
however much the networks differ. It is not what chance would give either:

- for errors that are about normal, such as means of whole runs, the means cannot scatter any more,
  H keeps a share of :math:`1 - 3/\pi`, less than a twentieth, and p is close to 1;
- for very skewed errors, such as squared errors of single images, dividing by a deviation that a
  few large errors determine moves the many small errors past each other, and equal networks are
  declared different far too often, the more so the more images there are.

:func:`z_normalised_kruskal` computes both tests, :func:`kruskal_power` simulates them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from iavlib.stats.associations import holm
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

    Examples
    --------
    >>> from iavlib.stats import kruskal_wallis
    >>> result = kruskal_wallis({"a": [0.1, 0.2, 0.3], "b": [0.4, 0.5, 0.6]})
    >>> round(result.h, 3), round(result.p, 4)
    (3.857, 0.0495)
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
        One row per block (seed, fold), one column per model; no value missing.

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

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import friedman
    >>> errors = pd.DataFrame({"a": [0.1, 0.2, 0.1], "b": [0.2, 0.3, 0.3], "c": [0.3, 0.4, 0.2]})
    >>> result = friedman(errors)
    >>> round(result.chi_square, 3), result.mean_ranks.round(2).to_dict()
    (4.667, {'a': 1.0, 'b': 2.33, 'c': 2.67})
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


def block_table(errors: pd.DataFrame) -> pd.DataFrame:
    """Check a table of errors, one row per block and one column per model.

    Raises
    ------
    ValueError
        When there are fewer than two blocks or models, a name comes twice or an error is missing
        or infinite; the message names the block and the model.
    """
    if not isinstance(errors, pd.DataFrame) or min(errors.shape) < 2:
        raise ValueError("give a table with one row per block and one column per model, 2 or more")
    table = errors.astype(float)
    missing = ~np.isfinite(table.to_numpy())
    if missing.any():
        block, model = np.argwhere(missing)[0]
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
        One row per block, one column per model.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        One row per pair: ``first``, ``second``, ``rank_difference`` (first minus second, negative
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
    table = pd.DataFrame(list(combinations(ranks.columns, 2)), columns=["first", "second"])
    difference = mean[table["first"]].to_numpy() - mean[table["second"]].to_numpy()
    p = stats.studentized_range.sf(np.abs(difference) / unit * np.sqrt(2), k, np.inf)
    return table.assign(
        rank_difference=difference,
        critical_difference=critical,
        p=np.minimum(p, 1),
        differ=np.abs(difference) > critical,
    )


def wilcoxon_holm(errors: pd.DataFrame, alpha: float = 0.05) -> pd.DataFrame:
    """Compare all pairs of models by the signed-rank test, corrected by Holm's method.

    Unlike :func:`nemenyi` a pair's result does not depend on which other models were run.

    Parameters
    ----------
    errors : DataFrame
        One row per block, one column per model.
    alpha : float
        Family-wise error rate.

    Returns
    -------
    DataFrame
        One row per pair: ``first``, ``second``, ``median_difference`` (first minus second), ``w``,
        ``p``, ``p_holm`` and ``differ``. Blocks where both err alike are left out of the test (p
        is 1 when none is left). With b blocks p cannot fall below 2 / 2^b: .25 for three seeds.

    Raises
    ------
    ValueError
        As :func:`friedman`.

    Examples
    --------
    >>> import pandas as pd
    >>> from iavlib.stats import wilcoxon_holm
    >>> errors = pd.DataFrame({"a": [0.1, 0.2, 0.1], "b": [0.2, 0.4, 0.4]})
    >>> wilcoxon_holm(errors)["p"].tolist()
    [0.25]
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


#: Positive errors of mean about 1: names to a draw of a given shape.
ERROR_SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    # means over many images, one per run: close to normal, with a tenth of their size as spread
    "run means": lambda rng, shape: rng.normal(1.0, 0.1, shape),
    # absolute errors of single images: bounded by 0, most of them small
    "absolute errors": lambda rng, shape: np.abs(rng.normal(size=shape)) * np.sqrt(np.pi / 2),
    "squared errors": lambda rng, shape: rng.chisquare(1, shape),
}


def z_normalised_kruskal(errors: Errors) -> pd.DataFrame:
    """Run Kruskal-Wallis on errors as they are and after z-normalising each model's.

    Parameters
    ----------
    errors : DataFrame or mapping of str to array_like
        Errors of each model.

    Returns
    -------
    DataFrame
        Rows ``as measured`` and ``z-normalised``; columns ``h``, ``p``, ``epsilon_squared``,
        ``mean_range`` and ``sd_ratio`` (largest minus smallest mean of the models, largest over
        smallest standard deviation). After normalisation the last two are 0 and 1, whatever the
        models do.

    Raises
    ------
    ValueError
        As :func:`kruskal_wallis`.

    Examples
    --------
    >>> from iavlib.stats import z_normalised_kruskal
    >>> table = z_normalised_kruskal({"a": [1, 2, 3, 5], "b": [11, 12, 13, 15]})
    >>> table["p"].round(3).tolist()
    [0.021, 1.0]
    """
    plain = {name: finite_values(errors[name], f"errors of {name!r}") for name in errors}
    scores = {name: np.nan_to_num(stats.zscore(values)) for name, values in plain.items()}
    rows = {}
    for treatment, values in (("as measured", plain), ("z-normalised", scores)):
        result = kruskal_wallis(values)
        means, spreads = zip(*((v.mean(), v.std()) for v in values.values()), strict=True)
        ratio = max(spreads) / min(spreads) if min(spreads) > 0 else np.nan
        effect = result.epsilon_squared
        rows[treatment] = (result.h, result.p, effect, max(means) - min(means), ratio)
    columns = ["h", "p", "epsilon_squared", "mean_range", "sd_ratio"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def kruskal_power(
    differences: Sequence[float] = (0.0, 0.05, 0.1, 0.2),
    n: int = 10,
    n_models: int = 3,
    shape: str = "run means",
    n_simulations: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate how often the test detects a known difference, with and without z-normalisation.

    The errors of the last model are larger than those of the others by a known share.

    Parameters
    ----------
    differences : sequence of float
        That share, for instance 0.1 for errors a tenth larger; 0 gives the false-alarm rate.
    n : int
        Errors (runs or images) per model.
    n_models : int
    shape : str
        Distribution of the errors, one of :data:`ERROR_SHAPES`.
    n_simulations : int
    alpha : float
    seed : int

    Returns
    -------
    DataFrame
        One row per difference and treatment, indexed by ``difference`` and ``errors`` (``as
        measured``,
        ``z-normalised``); columns ``rejected`` (share of simulations with p < `alpha`) with
        ``ci_low`` and ``ci_high`` (Clopper-Pearson), and ``h_median``, ``p_median``.

    Raises
    ------
    ValueError
        When the shape is unknown, or there are fewer than two models or errors per model.

    Examples
    --------
    >>> from iavlib.stats import kruskal_power
    >>> table = kruskal_power([0.2], n_simulations=50)
    >>> table["rejected"].tolist()
    [0.98, 0.0]
    """
    if shape not in ERROR_SHAPES:
        raise ValueError(f"shape must be one of {', '.join(ERROR_SHAPES)}, not {shape!r}")
    if n < 2 or n_models < 2:
        raise ValueError("at least two models with two errors each are needed")
    drawn = ERROR_SHAPES[shape](np.random.default_rng(seed), (n_simulations, n_models, n))
    rows = {}
    for difference in differences:
        errors = drawn.copy()  # the same draw for all, so that only the difference changes
        errors[:, -1] *= 1 + difference
        scores = stats.zscore(errors, axis=2)
        for treatment, values in (("as measured", errors), ("z-normalised", scores)):
            h, p = stats.kruskal(*values.transpose(1, 0, 2), axis=1)
            rejected = int((p < alpha).sum())
            low, high = proportion_confint(rejected, n_simulations, method="beta")
            share = rejected / n_simulations
            rows[difference, treatment] = (share, low, high, np.median(h), np.median(p))
    columns = ["rejected", "ci_low", "ci_high", "h_median", "p_median"]
    index = pd.MultiIndex.from_tuples(rows, names=["difference", "errors"])
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)
