"""Do probabilities mean what they say? Reliability curves, calibration error and line.

Of all rows to which a model gives a probability near .3, three in ten should be malignant. The
*reliability curve* sets the observed share against the mean probability, bin by bin; the
*calibration line* describes the same by two numbers without bins.

Temperature scaling: one number, fitted on a validation part, that makes probabilities honest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit
from statsmodels.stats.proportion import proportion_confint

from iavlib.stats.diagnosis_samples import diagnosis_sample, probabilities, weighted_ece
from iavlib.stats.resampling import Method, cluster_bootstrap

Binning = Literal["width", "count"]

#: Probabilities are kept this far inside (0, 1) where their logit is taken.
EDGE = 1e-7

_STEPS = 50


def reliability_curve(
    malignant: ArrayLike,
    probability: ArrayLike,
    n_bins: int = 10,
    binning: Binning = "width",
    level: float = 0.95,
) -> pd.DataFrame:
    """Set the observed share of malignant rows against the probability given, bin by bin.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
        One class alone is allowed.
    probability : array_like of float, shape (n,)
    n_bins : int
    binning : {"width", "count"}
        Bins of equal width from 0 to 1, closed below (the last one on both sides); or about as
        many rows in each, where rows of equal probability stay together, so that there may be
        fewer bins.
    level : float

    Returns
    -------
    DataFrame
        One row a bin: ``low``, ``high`` (its ends), ``n``, ``n_malignant``, ``predicted`` (mean
        probability), ``observed`` (share malignant), ``ci_low`` and ``ci_high`` (Wilson's
        interval of the share, which takes rows as independent). Empty bins have n 0 and NaN.

    Raises
    ------
    ValueError
        When a probability lies outside 0 to 1, or a setting makes no sense.

    References
    ----------
    Wilson, E. B. (1927). Journal of the American Statistical Association 22, 209-212.
    """
    sample = diagnosis_sample(malignant, probability, both=False)
    bins = bin_rows(sample.score, n_bins, binning)
    count = n_bins if binning == "width" else int(bins.max()) + 1
    n = np.bincount(bins, minlength=count)
    found = np.bincount(bins, sample.malignant, count)
    total = np.bincount(bins, sample.score, count)
    if binning == "width":
        low, high = np.arange(count) / n_bins, np.arange(1, count + 1) / n_bins
    else:
        low = np.array([sample.score[bins == b].min() for b in range(count)])
        high = np.array([sample.score[bins == b].max() for b in range(count)])
    filled = np.where(n > 0, n, 1)
    ci_low, ci_high = proportion_confint(found, filled, 1 - level, method="wilson")
    shares = {
        "predicted": total / filled,
        "observed": found / filled,
        "ci_low": np.maximum(ci_low, 0),
        "ci_high": np.minimum(ci_high, 1),
    }
    table = pd.DataFrame({"low": low, "high": high, "n": n, "n_malignant": found.astype(int)})
    return table.assign(**{name: np.where(n > 0, v, np.nan) for name, v in shares.items()})


def expected_calibration_error(
    malignant: ArrayLike,
    probability: ArrayLike,
    n_bins: int = 10,
    binning: Binning = "width",
) -> float:
    """Mean distance of share and probability over bins, weighted by the rows in each.

    Parameters as :func:`reliability_curve`. The value depends on the bins and is biased upwards
    with few rows in one, so that only values of the same bins on the same rows compare.

    References
    ----------
    Naeini, M. P. et al. (2015). Obtaining well calibrated probabilities using Bayesian binning.
    AAAI.
    """
    sample = diagnosis_sample(malignant, probability, both=False)
    bins = bin_rows(sample.score, n_bins, binning)
    rows = sample.malignant, sample.score, np.ones((1, len(sample)))
    return float(weighted_ece(*rows, bins)[0])


def bin_rows(score: np.ndarray, n_bins: int = 10, binning: Binning = "width") -> np.ndarray:
    """Number the bin of each probability; see :func:`reliability_curve`."""
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, not {n_bins}")
    if binning == "width":
        # Against the ends as they are printed: .3 / .1 is a little less than 3.
        ends = np.arange(1, n_bins) / n_bins
        return np.searchsorted(ends, score, side="right")
    if binning == "count":
        ends = np.unique(np.quantile(score, np.arange(1, n_bins) / n_bins))
        return np.unique(np.searchsorted(ends, score, side="left"), return_inverse=True)[1]
    raise ValueError(f"binning must be 'width' or 'count', not {binning!r}")


def calibration_line(
    malignant: ArrayLike,
    probability: ArrayLike,
    clusters: ArrayLike | None = None,
    n_boot: int = 2000,
    seed: int | np.random.Generator = 0,
    level: float = 0.95,
    method: Method = "percentile",
) -> pd.DataFrame:
    r"""Fit the line on which the log odds of malignancy depend on those predicted.

    .. math::
        \mathrm{logit}\, P(y = 1) = a + b\, \mathrm{logit}\, p

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
        Kept 1e-7 inside 0 and 1.
    clusters, n_boot, seed, level, method
        See :func:`iavlib.stats.resampling.cluster_bootstrap`.

    Returns
    -------
    DataFrame
        Index ``statistic``; columns ``estimate``, ``ci_low``, ``ci_high``, ``n``, ``n_malignant``
        and ``n_clusters``. Rows:

        - ``in_the_large``: a with b fixed at 1; above 0 where malignancy is more frequent than
          predicted;
        - ``slope``: b; below 1 where probabilities are too extreme. NaN where they are constant,
          or tell the classes apart without a mistake, when no finite slope is best;
        - ``excess``: mean probability minus share malignant.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When a probability lies outside 0 to 1, lengths or indexes differ, or there is a single
        cluster.

    References
    ----------
    Cox, D. R. (1958). Two further applications of a model for binary regression. Biometrika 45,
    562-565. Van Calster, B. et al. (2019). Calibration: the Achilles heel of predictive analytics.
    BMC Medicine 17, 230.
    """
    sample = diagnosis_sample(malignant, probability, clusters)
    statistic = partial(_line, sample.malignant, sample.score)
    boot = cluster_bootstrap(statistic, sample.clusters, n_boot, seed, level, method)
    return pd.DataFrame(
        {
            "estimate": boot.estimate,
            "ci_low": boot.low,
            "ci_high": boot.high,
            "n": len(sample),
            "n_malignant": sample.n_malignant,
            "n_clusters": sample.n_clusters,
        },
        index=pd.Index(["in_the_large", "slope", "excess"], name="statistic"),
    )


def logit(probability: np.ndarray) -> np.ndarray:
    """Log odds of probabilities, kept `EDGE` inside 0 and 1."""
    inside = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(inside) - np.log1p(-inside)


def _line(malignant: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Intercept in the large, slope and excess for each weight vector, shape (b, 3)."""
    x = logit(score)
    excess = weights @ (score - malignant) / weights.sum(axis=1)
    large = _logistic(malignant, np.zeros_like(x), x, weights)[:, 0]
    slope = _logistic(malignant, x, np.zeros_like(x), weights)[:, 1]
    return np.stack([large, slope, excess], axis=1)


def _logistic(
    malignant: np.ndarray, x: np.ndarray, offset: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Intercept and slope of logistic regressions by Newton's method, NaN where it diverges.

    A constant `x` leaves out the slope.
    """
    centre, spread = x.mean(), x.std()
    varies = spread > 1e-9
    z = (x - centre) / spread if varies else np.zeros_like(x)
    beta = np.zeros((len(weights), 2))
    step = np.full_like(beta, np.inf)
    for _ in range(_STEPS):
        p = expit(offset + beta[:, :1] + beta[:, 1:] * z)
        gradient = np.stack([((malignant - p) * weights) @ v for v in (np.ones_like(z), z)], 1)
        curve = weights * p * (1 - p)
        a, b, c = curve.sum(1), curve @ z, curve @ z**2
        with np.errstate(divide="ignore", invalid="ignore"):
            if varies:
                solved = [c * gradient[:, 0] - b * gradient[:, 1]]
                solved += [a * gradient[:, 1] - b * gradient[:, 0]]
                step = np.stack(solved, 1) / (a * c - b**2)[:, None]
            else:
                step = np.stack([gradient[:, 0] / a, np.zeros_like(a)], 1)
        # Far from the optimum the curvature is nearly 0 and a full step leaps past it.
        step = np.clip(step, -2, 2)
        beta = beta + step
        if np.nanmax(np.abs(step), initial=0) < 1e-9:
            break
    slope = beta[:, 1] / spread if varies else np.full(len(beta), np.nan)
    intercept = beta[:, 0] - (slope * centre if varies else 0)
    found = (np.abs(step) < 1e-6).all(axis=1)[:, None]
    return np.where(found, np.stack([intercept, slope], 1), np.nan)


#: Search range of the temperature.
LOWEST, HIGHEST = 0.01, 100.0


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature.

    Attributes
    ----------
    value : float
        Above 1 where the model was too sure of itself.
    loss_before, loss_after : float
        Mean negative log-likelihood of the rows that fitted it, without and with it.
    n, n_malignant : int
    at_bound : bool
        Whether the best value lies at the end of the range searched, .01 to 100: there the rows
        that fitted it do not determine it (at the lower end they are told apart without a
        mistake, at the upper end the model knows nothing).
    """

    value: float
    loss_before: float
    loss_after: float
    n: int
    n_malignant: int
    at_bound: bool

    def apply(self, probability: ArrayLike) -> np.ndarray:
        """Return probabilities with their log odds divided by the temperature.

        Order, AUROC and the calls at .5 stay as they are.
        """
        return expit(logit(probabilities(probability)) / self.value)


def fit_temperature(malignant: ArrayLike, probability: ArrayLike) -> Temperature:
    r"""Fit the temperature T that makes the labels of a validation part most likely.

    With two classes :math:`\mathrm{softmax}(z / T)` is :math:`\sigma(\mathrm{logit}(p) / T)`, so
    that probabilities are all it takes. It mends probabilities that are too extreme or too timid
    about .5, not a wrong share of malignant rows.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
        Kept 1e-7 inside 0 and 1.

    Returns
    -------
    Temperature

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When a probability lies outside 0 to 1 or lengths or indexes differ.

    References
    ----------
    Guo, C. et al. (2017). On calibration of modern neural networks. ICML.
    """
    sample = diagnosis_sample(malignant, probability)
    # The log odds of the label that came true: the loss is log(1 + exp(-margin / T)).
    margin = np.where(sample.malignant, 1, -1) * logit(sample.score)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margin / np.exp(log_temperature)).mean())

    ends = np.log(LOWEST), np.log(HIGHEST)
    best = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-9})
    # The loss is convex in 1 / T, so one minimum is the minimum.
    nearest = min((best.x, *ends), key=loss)
    return Temperature(
        value=float(np.exp(nearest)),
        loss_before=loss(0.0),
        loss_after=loss(nearest),
        n=len(sample),
        n_malignant=sample.n_malignant,
        at_bound=bool(min(abs(nearest - end) for end in ends) < 1e-3),
    )
