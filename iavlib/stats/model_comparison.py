r"""Do several models differ? The Kruskal-Wallis test, and what z-normalised errors leave of it.

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

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from iavlib.stats.samples import finite_values

#: Positive errors of mean about 1: names to a draw of a given shape.
ERROR_SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    # means over many images, one per run: close to normal, with a tenth of their size as spread
    "run means": lambda rng, shape: rng.normal(1.0, 0.1, shape),
    # absolute errors of single images: bounded by 0, most of them small
    "absolute errors": lambda rng, shape: np.abs(rng.normal(size=shape)) * np.sqrt(np.pi / 2),
    "squared errors": lambda rng, shape: rng.chisquare(1, shape),
}


def z_normalised_kruskal(errors: Mapping[str, ArrayLike] | pd.DataFrame) -> pd.DataFrame:
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
        smallest standard deviation). H is 0 and p 1 when all errors are equal; the effect size
        epsilon squared is :math:`H / (n - 1)`, from 0 to 1. After normalisation the last two
        columns are 0 and 1, whatever the models do.

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
    >>> from iavlib.stats import z_normalised_kruskal
    >>> table = z_normalised_kruskal({"a": [1, 2, 3, 5], "b": [11, 12, 13, 15]})
    >>> table["p"].round(3).tolist()
    [0.021, 1.0]
    """
    plain = {name: finite_values(errors[name], f"errors of {name!r}") for name in errors}
    if len(plain) < 2:
        raise ValueError("give the errors of two models at least")
    scores = {name: np.nan_to_num(stats.zscore(values)) for name, values in plain.items()}
    rows = {}
    for treatment, values in (("as measured", plain), ("z-normalised", scores)):
        pooled, (h, p) = np.concatenate([*values.values()]), (0.0, 1.0)
        if np.ptp(pooled) > 0:
            h, p = map(float, stats.kruskal(*values.values()))
        means, spreads = zip(*((v.mean(), v.std()) for v in values.values()), strict=True)
        ratio = max(spreads) / min(spreads) if min(spreads) > 0 else np.nan
        effect = h / (len(pooled) - 1)
        rows[treatment] = (h, p, effect, max(means) - min(means), ratio)
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
