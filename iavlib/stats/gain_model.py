r"""The mean gain in a mixed model in which datasets and backbones are both samples of many.

For the pair with seed k of dataset d and backbone b,

.. math::
    g_{dbk} = \mu + u_d + v_b + w_{db} + e_{dbk}

with independent normal terms. Datasets and backbones are crossed: a backbone that gains on one
dataset may gain on all. The model's :math:`\mu` is the claim, "the gain averaged over datasets and
backbones", and its standard error counts how few there are of either.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

__all__ = ["GainModel", "gain_model"]

#: A component below this share of the total counts as estimated as zero.
_ZERO_SHARE = 1e-4


@dataclass(frozen=True, eq=False)
class GainModel:
    """The mean gain, and where gains vary.

    Attributes
    ----------
    estimate, se, ci_low, ci_high, p : float
        Of the mean gain; interval and test from Student's t with `degrees`.
    degrees : float
        Of freedom, after Satterthwaite from the parts that each component has in the variance of
        the mean. Approximate, and small when most of the variance lies between few datasets.
    components : DataFrame
        Index ``component`` (dataset, backbone, cell, seed); columns ``variance``, ``sd``,
        ``share``, ``levels`` and ``note``: empty, "estimated as zero", or why the component was
        left out. ``seed`` is what differs between the pairs of a cell.
    model : str
        What was fitted, in words; it names what was fallen back on.
    converged : bool
    warnings : tuple of str
        Everything the fit complained about.
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
    warnings: tuple[str, ...]


def gain_model(gains: pd.DataFrame, level: float = 0.95) -> GainModel:
    """Estimate the mean gain over datasets, backbones and seeds (restricted likelihood).

    A component that the table cannot tell from another is left out and named: with one dataset
    the result speaks of that dataset alone, with one pair a cell it cannot tell seeds from cells.
    With none left the mean over pairs remains, with its t interval.

    Parameters
    ----------
    gains : DataFrame
        From :func:`iavlib.stats.multitask_gain.paired_gains`.
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
    scale = float(y.std())
    if codes:
        mean, se, variances, converged, complaints = _fit(y / scale, codes)
    else:
        mean, variances = float((y / scale).mean()), [float((y / scale).var(ddof=1))]
        se, converged, complaints = float(np.sqrt(variances[0] / len(y))), True, ()
    components = _components(codes, np.array(variances) * scale**2, left_out, gains)
    degrees = _degrees(components, codes, len(y))
    estimate, se = mean * scale, se * scale
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
        warnings=complaints,
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


def _fit(y: np.ndarray, codes: dict[str, np.ndarray]) -> tuple:
    """Mean, its standard error, the variances (seed last), convergence and complaints."""
    indicators = [np.eye(c.max() + 1)[c] for c in codes.values()]
    labels = [[[f"{name}{i}" for i in range(c.max() + 1)]] for name, c in codes.items()]
    components = VCSpec(list(codes), labels, [[m] for m in indicators])
    # Crossed components span all rows, so that for statsmodels all rows are one group.
    model = MixedLM(y, np.ones((len(y), 1)), groups=np.zeros(len(y)), exog_vc=components)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = model.fit(reml=True, gtol=1e-6)
    complaints = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    variances = [*(float(v) for v in fit.vcomp), float(fit.scale)]
    se = _standard_error(indicators, variances)
    return float(fit.fe_params[0]), se, variances, bool(fit.converged), complaints


def _standard_error(indicators: list[np.ndarray], variances: list[float]) -> float:
    """Standard error of the generalised least-squares mean; sound also at variances of zero."""
    n = len(indicators[0])
    covariance = variances[-1] * np.eye(n)
    for z, variance in zip(indicators, variances, strict=False):
        covariance = covariance + max(variance, 0) * z @ z.T
    return float(1 / np.sqrt(np.linalg.solve(covariance, np.ones(n)).sum()))


def _components(codes, variances: np.ndarray, left_out: dict, gains: pd.DataFrame) -> pd.DataFrame:
    """Lay out the variance components, those left out included."""
    variances = np.maximum(variances, 0)
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
