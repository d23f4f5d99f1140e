r"""Why z-normalising each model's errors empties a test of whether the models differ.

A student study of agreement standardised the errors of each network by that network's own mean and
standard deviation before a Kruskal-Wallis test. Afterwards every network has mean 0 and standard
deviation 1, so nothing is left of a difference in size or spread, and the test answers the same
however much the networks differ. What it answers is not chance either:

- for errors that are about normal, such as means of whole runs, the means cannot scatter any more,
  H keeps a share of :math:`1 - 3/\pi`, less than a twentieth, and p crowds towards 1;
- for very skewed errors, such as squared errors of single images, dividing by a deviation that a
  few large errors decide moves the many small errors past each other, and equal networks are
  found to differ far too often, the more so the more images there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from iavlib.stats.prediction.interval_coverage import clopper_pearson
from iavlib.stats.prediction.model_comparison import Errors, kruskal_wallis
from iavlib.stats.samples import finite_values

__all__ = ["ERROR_SHAPES", "kruskal_power", "z_normalise", "z_normalised_kruskal"]

#: Positive errors of mean about 1: names to a draw of a given shape.
ERROR_SHAPES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    # means over many images, one a run: close to normal, with a tenth of their size as spread
    "run means": lambda rng, shape: rng.normal(1.0, 0.1, shape),
    # absolute errors of single images: bounded by 0, most of them small
    "absolute errors": lambda rng, shape: np.abs(rng.normal(size=shape)) * np.sqrt(np.pi / 2),
    "squared errors": lambda rng, shape: rng.chisquare(1, shape),
}


def z_normalise(values: ArrayLike) -> np.ndarray:
    """Subtract the mean and divide by the standard deviation (over n); 0 when nothing varies."""
    array = finite_values(values)
    deviation = array.std()
    centred = array - array.mean()
    if deviation <= 1e-12 * np.abs(array).max():
        return np.zeros_like(array)
    return centred / deviation


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
        As :func:`iavlib.stats.prediction.model_comparison.kruskal_wallis`.
    """
    plain = {name: finite_values(errors[name], f"errors of {name!r}") for name in errors}
    ways = {
        "as measured": plain,
        "z-normalised": {name: z_normalise(values) for name, values in plain.items()},
    }
    return pd.DataFrame({way: _describe(values) for way, values in ways.items()}).T


def kruskal_power(
    differences: Sequence[float] = (0.0, 0.05, 0.1, 0.2),
    n: int = 10,
    n_models: int = 3,
    shape: str = "run means",
    n_simulations: int = 1000,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Simulate how often the test finds a known difference, with and without z-normalisation.

    The errors of the last model are larger than those of the others by a known share.

    Parameters
    ----------
    differences : sequence of float
        That share, for instance 0.1 for errors a tenth larger; 0 gives the false-alarm rate.
    n : int
        Errors (runs or images) a model.
    n_models : int
    shape : str
        Distribution of the errors, one of :data:`ERROR_SHAPES`.
    n_simulations : int
    alpha : float
    seed : int

    Returns
    -------
    DataFrame
        One row a difference and way, indexed by ``difference`` and ``errors`` (``as measured``,
        ``z-normalised``); columns ``rejected`` (share of simulations with p < `alpha`) with
        ``ci_low`` and ``ci_high`` (Clopper-Pearson), and ``h_median``, ``p_median``.

    Raises
    ------
    ValueError
        When the shape is unknown, or there are fewer than two models or errors a model.
    """
    if shape not in ERROR_SHAPES:
        raise ValueError(f"shape must be one of {', '.join(ERROR_SHAPES)}, not {shape!r}")
    if n < 2 or n_models < 2:
        raise ValueError("two models with two errors each are the least that can be compared")
    drawn = ERROR_SHAPES[shape](np.random.default_rng(seed), (n_simulations, n_models, n))
    rows = {}
    for difference in differences:
        errors = drawn.copy()  # one draw for all, so that only the difference changes
        errors[:, -1] *= 1 + difference
        centred = errors - errors.mean(axis=2, keepdims=True)
        ways = {"as measured": errors, "z-normalised": centred / errors.std(axis=2, keepdims=True)}
        for way, values in ways.items():
            h = _kruskal_h(values)
            p = stats.chi2.sf(h, n_models - 1)
            found = int((p < alpha).sum())
            low, high = clopper_pearson(found, n_simulations)
            rows[difference, way] = {
                "rejected": found / n_simulations,
                **{"ci_low": low, "ci_high": high},
                **{"h_median": float(np.median(h)), "p_median": float(np.median(p))},
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(rows, names=["difference", "errors"])
    return table


def _describe(errors: dict[str, np.ndarray]) -> dict[str, float]:
    result = kruskal_wallis(errors)
    means = [values.mean() for values in errors.values()]
    spreads = [values.std() for values in errors.values()]
    return {
        **{"h": result.h, "p": result.p, "epsilon_squared": result.epsilon_squared},
        "mean_range": max(means) - min(means),
        "sd_ratio": max(spreads) / min(spreads) if min(spreads) > 0 else float("nan"),
    }


def _kruskal_h(values: np.ndarray) -> np.ndarray:
    """Kruskal and Wallis' H of many simulations at once, shape (b, k, n); no ties."""
    b, k, n = values.shape
    ranks = stats.rankdata(values.reshape(b, -1), axis=1).reshape(b, k, n)
    total = k * n
    return (
        12 * n / (total * (total + 1)) * ((ranks.mean(axis=2) - (total + 1) / 2) ** 2).sum(axis=1)
    )
