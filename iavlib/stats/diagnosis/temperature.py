"""Temperature scaling: one number, fitted on a validation part, that makes probabilities honest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit

from iavlib.stats.diagnosis.calibration import logit
from iavlib.stats.diagnosis.diagnosis_samples import diagnosis_sample, probabilities

__all__ = ["Temperature", "fit_temperature"]

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
