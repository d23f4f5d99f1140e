r"""The mean gain in a mixed model in which datasets and backbones are both samples of many.

For the pair with seed k of dataset d and backbone b,

.. math::
    g_{dbk} = \mu + u_d + v_b + w_{db} + e_{dbk}

with independent normal terms. Datasets and backbones are crossed: a backbone that gains on one
dataset may gain on all. The model's :math:`\mu` is the claim, "the gain averaged over datasets and
backbones", and its standard error counts how few there are of either.

With three backbones and five datasets a variance is often estimated as zero, an end at which
statsmodels' search does not converge; the likelihood is therefore maximised here, within bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import t as student

__all__ = ["GainModel", "gain_model"]

#: A component below this share of the total counts as estimated as zero.
_ZERO_SHARE = 1e-4

#: A variance is searched up to this many times that of the seeds.
_LARGEST_RATIO = 1e4


@dataclass(frozen=True, eq=False)
class GainModel:
    """The mean gain, and where gains vary.

    Attributes
    ----------
    estimate, se, ci_low, ci_high, p : float
        Of the mean gain; interval and test from Student's t with `degrees`.
    degrees : float
        Of freedom, after Satterthwaite from the parts that each component has in the variance of
        the mean. Approximate, and small when most of the variance lies between few datasets: of
        300 simulated tables with five datasets, three backbones and three seeds the 95 % interval
        held the true gain in 93 to 98 %, and in 88 % where backbones made nearly all of it.
    components : DataFrame
        Index ``component`` (dataset, backbone, cell, seed); columns ``variance``, ``sd``,
        ``share``, ``levels`` and ``note``: empty, "estimated as zero", or why the component was
        left out. ``seed`` is what differs between the pairs of a cell.
    model : str
        What was fitted, in words; it names what was fallen back on.
    converged : bool
        Whether the search for the largest likelihood reached its tolerance.
    """

    estimate: float
    se: float
    ci_low: float
    ci_high: float
    p: float
    degrees: float
    components: pd.DataFrame
    model: str
    converged: bool


def gain_model(gains: pd.DataFrame, level: float = 0.95) -> GainModel:
    """Estimate the mean gain over datasets, backbones and seeds (restricted likelihood).

    A component that the table cannot tell from another is left out and named: with one dataset
    the result speaks of that dataset alone, with one pair a cell it cannot tell seeds from cells.
    With none left the mean over pairs remains, with its t interval.

    Parameters
    ----------
    gains : DataFrame
        From :func:`iavlib.stats.diagnosis.multitask_gain.paired_gains`.
    level : float

    Returns
    -------
    GainModel

    Raises
    ------
    ValueError
        When there are fewer than two pairs, or all gains are equal.

    References
    ----------
    Baayen, R. H., Davidson, D. J. and Bates, D. M. (2008). Mixed-effects modeling with crossed
    random effects for subjects and items. Journal of Memory and Language 59, 390-412.
    Satterthwaite, F. E. (1946). An approximate distribution of estimates of variance components.
    Biometrics Bulletin 2, 110-114.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, for instance 0.95, not {level}")
    y = gains["gain"].to_numpy(dtype=float)
    if len(y) < 2 or np.ptp(y) < 1e-12:
        raise ValueError(f"{len(y)} pairs whose gains do not differ: nothing to model")
    codes, left_out = _identified(gains)
    estimate, se, variances, converged = _fit(y, codes)
    components = _components(codes, variances, left_out, gains)
    degrees = _degrees(components, codes, len(y))
    half = float(student.ppf((1 + level) / 2, degrees) * se)
    return GainModel(
        estimate=estimate,
        se=se,
        ci_low=estimate - half,
        ci_high=estimate + half,
        p=float(2 * student.sf(abs(estimate / se), degrees)),
        degrees=degrees,
        components=components,
        model=_describe(codes, left_out),
        converged=converged,
    )


def _identified(gains: pd.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Codes of the components that the table can estimate, and why others cannot be."""
    dataset = pd.factorize(gains["dataset"], sort=True)[0]
    backbone = pd.factorize(gains["backbone"], sort=True)[0]
    cell = pd.factorize(pd.Series(zip(dataset, backbone, strict=True)))[0]
    candidates = {"dataset": dataset, "backbone": backbone, "cell": cell}
    kept, left_out = {}, {}
    for name, codes in candidates.items():
        twin = next((k for k, c in kept.items() if _same_partition(c, codes)), None)
        if codes.max() == 0:
            left_out[name] = f"left out: one {name} only"
        elif codes.max() + 1 == len(codes):
            left_out[name] = f"left out: one pair a {name}, so not to be told from seeds"
        elif twin:
            left_out[name] = f"left out: not to be told from {twin}"
        else:
            kept[name] = codes
    return kept, left_out


def _same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    joint = len(set(zip(first, second, strict=True)))
    return joint == first.max() + 1 == second.max() + 1


def _fit(y: np.ndarray, codes: dict[str, np.ndarray]) -> tuple[float, float, np.ndarray, bool]:
    """Mean, its standard error, the variances (seed last) and whether the search converged.

    The restricted likelihood is searched over the ratios of each variance to that of the seeds,
    which may be zero; the rest follows from them.
    """
    blocks = [np.equal.outer(c, c).astype(float) for c in codes.values()]
    ratios, converged = _largest_likelihood(y, blocks) if blocks else (np.empty(0), True)
    inverse, weight = _inverse(ratios, len(y), blocks)
    mean = float(inverse.sum(axis=0) @ y / weight)
    residual = y - mean
    scale = float(residual @ inverse @ residual / (len(y) - 1))
    variances = np.r_[ratios, 1.0] * scale
    return mean, float(np.sqrt(scale / weight)), variances, converged


def _largest_likelihood(y: np.ndarray, blocks: list) -> tuple[np.ndarray, bool]:
    """Search from several starts; converged when the gradient is nothing, or points outside."""
    searches = [
        minimize(
            _deviance,
            np.full(len(blocks), start),
            args=(y, blocks),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, _LARGEST_RATIO)] * len(blocks),
            options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500},
        )
        for start in (0.1, 1.0, 10.0)
    ]
    best = min(searches, key=lambda search: search.fun)
    downhill = np.clip(best.x - best.jac, 0, _LARGEST_RATIO) - best.x
    return best.x, bool((np.abs(downhill) < 1e-3 * (1 + best.x)).all())


def _deviance(ratios: np.ndarray, y: np.ndarray, blocks: list) -> tuple[float, np.ndarray]:
    """Minus twice the restricted log-likelihood, up to a constant, and its gradient."""
    inverse, weight = _inverse(ratios, len(y), blocks)
    ones = inverse.sum(axis=0)
    projection = inverse - np.outer(ones, ones) / weight
    py = projection @ y
    squares, n = float(y @ py), len(y)
    value = (n - 1) * np.log(squares) - np.linalg.slogdet(inverse)[1] + np.log(weight)
    gradient = [(projection * z).sum() - (n - 1) * (py @ z @ py) / squares for z in blocks]
    return float(value), np.array(gradient)


def _inverse(ratios: np.ndarray, n: int, blocks: list) -> tuple[np.ndarray, float]:
    """Inverse of the rows' covariance in units of the seeds' variance, and the sum of it."""
    covariance = np.eye(n) + sum(r * z for r, z in zip(ratios, blocks, strict=True))
    inverse = np.linalg.inv(covariance)
    return inverse, float(inverse.sum())


def _components(codes, variances: np.ndarray, left_out: dict, gains: pd.DataFrame) -> pd.DataFrame:
    """Lay out the variance components, those left out included."""
    total = variances.sum()
    rows = {}
    for name, variance in zip((*codes, "seed"), variances, strict=True):
        share = variance / total
        levels = codes[name].max() + 1 if name in codes else len(gains)
        note = "estimated as zero" if share < _ZERO_SHARE else ""
        rows[name] = (variance, np.sqrt(variance), share, int(levels), note)
    for name, why in left_out.items():
        keys = ["dataset", "backbone"] if name == "cell" else [name]
        rows[name] = (np.nan, np.nan, np.nan, len(gains[keys].drop_duplicates()), why)
    columns = ["variance", "sd", "share", "levels", "note"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    order = ["dataset", "backbone", "cell", "seed"]
    return table.reindex(order).rename_axis("component")


def _degrees(components: pd.DataFrame, codes: dict[str, np.ndarray], n: int) -> float:
    """Degrees of freedom of the mean, from each component's part in its variance."""
    free = {name: codes[name].max() for name in codes if name != "cell"}
    cells = codes["cell"].max() + 1 if "cell" in codes else None
    if cells is not None:
        free["cell"] = max(cells - 1 - sum(free.values()), 1)
    free["seed"] = max(n - 1 - sum(free.values()), 1)
    levels = {name: codes[name].max() + 1 for name in codes} | {"seed": n}
    parts = {name: components.loc[name, "variance"] / levels[name] for name in free}
    total = sum(parts.values())
    return float(total**2 / sum(parts[name] ** 2 / free[name] for name in free))


def _describe(codes: dict, left_out: dict) -> str:
    """Say in words what was fitted."""
    if not codes:
        return "mean over pairs with its t interval (" + "; ".join(left_out.values()) + ")"
    text = "mixed model with random " + ", ".join(codes)
    reasons = [f"{name} {why}" for name, why in left_out.items()]
    return f"{text} ({'; '.join(reasons)})" if reasons else text
