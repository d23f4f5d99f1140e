"""Losses of a regression, each with the point prediction that goes with it.

Losses of a diagnosis, and ways to add the loss of a second task to it.

Logits have shape (n, K); labels are whole numbers from 0, label 1 of two being malignant. All are
computed in single precision at least, also where autocast has made the logits half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import TrainingError
from iavlib.models.heads import quantile_levels

#: Targets are kept this far inside (0, 1) where a density is taken there.
EDGE = 1e-3


@dataclass(frozen=True)
class Loss:
    """A loss and what it makes of a network's raw output.

    Attributes
    ----------
    name : str
    each : callable
        From raw output, shape (n, k), and target, shape (n,), to the loss of each image, (n,).
    point : callable
        From raw output, shape (n, k), to the prediction of each image, shape (n,).
    bounded : bool
        Whether targets must lie from 0 to 1.
    """

    name: str
    each: Callable[[Tensor, Tensor], Tensor]
    point: Callable[[Tensor], Tensor]
    bounded: bool = False

    def __call__(self, raw: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch, in single precision also under autocast."""
        return self.each(raw.float(), target.float()).mean()


def smooth_l1(raw: Tensor, target: Tensor) -> Tensor:
    """Squared within an error of 1, absolute beyond it (beta 1, as the paper)."""
    return F.smooth_l1_loss(first(raw), target, reduction="none")


def mse(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error."""
    return (first(raw) - target).square()


def mae(raw: Tensor, target: Tensor) -> Tensor:
    """Absolute error."""
    return (first(raw) - target).abs()


def beta_nll(raw: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of targets in [0, 1] under Beta(a, b), where ``raw`` is (n, 2)."""
    a, b = raw.unbind(1)
    inside = target.clamp(EDGE, 1 - EDGE)
    norm = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return norm - (a - 1) * inside.log() - (b - 1) * (-inside).log1p()


def beta_mean(raw: Tensor) -> Tensor:
    """Mean of Beta(a, b), where ``raw`` is (n, 2)."""
    return raw[:, 0] / raw.sum(1)


def pinball(raw: Tensor, target: Tensor) -> Tensor:
    """Mean pinball loss of quantiles, where ``raw`` is (n, k) at :func:`quantile_levels` of k."""
    levels = torch.tensor(quantile_levels(raw.shape[1]), dtype=raw.dtype, device=raw.device)
    error = target[:, None] - raw
    return torch.maximum(levels * error, (levels - 1) * error).mean(1)


def middle(raw: Tensor) -> Tensor:
    """Median of an odd number of quantiles, the mean of the middle two of an even one."""
    k = raw.shape[1]
    return (raw[:, (k - 1) // 2] + raw[:, k // 2]) / 2


def first(raw: Tensor) -> Tensor:
    """Drop the last dimension of an output of one number an image."""
    if raw.ndim == 1:
        return raw
    if raw.shape[1] != 1:
        raise TrainingError(f"this loss takes one output an image, and the head gives {raw.shape}")
    return raw[:, 0]


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("smooth_l1", smooth_l1, first),
        Loss("mse", mse, first),
        Loss("mae", mae, first),
        Loss("beta_nll", beta_nll, beta_mean, bounded=True),
        Loss("pinball", pinball, middle),
    )
}


def get_loss(name: str) -> Loss:
    """Return a loss by name.

    Raises
    ------
    TrainingError
        If there is none.
    """
    if name not in LOSSES:
        raise TrainingError(f"there is no loss {name!r}; known: {', '.join(LOSSES)}")
    return LOSSES[name]


def class_weights(labels: np.ndarray, n_classes: int | None = None) -> np.ndarray:
    """Compute the weight N / (K N_c) of each of K classes, from the labels of the training part.

    With two classes this is the N / (2 N_c) of the paper.

    Raises
    ------
    TrainingError
        If a class has no image.
    """
    counts = np.bincount(np.asarray(labels, int), minlength=n_classes or 0)
    if (counts == 0).any():
        absent = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise TrainingError(f"the training part has no image of class {absent}: it has no weight")
    return counts.sum() / (len(counts) * counts)


def focal_published(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Focal loss of each row with the class weight inside the exponent, as the paper's code."""
    weighted = weights[labels] * _entropy(logits, labels)
    return _modulated(weighted, gamma) * weighted


def focal_textbook(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Focal loss of each row after Lin et al. (2017), the class weight outside."""
    entropy = _entropy(logits, labels)
    return weights[labels] * _modulated(entropy, gamma) * entropy


class FocalLoss(nn.Module):
    """Plain mean of a focal loss over a batch.

    Parameters
    ----------
    weights : sequence of float, shape (K,)
        One a class, such as those of :func:`iavlib.training.losses.class_weights`.
    gamma : float
        0 leaves out the modulation; otherwise at least 1, as below that the gradient is infinite
        where a row is certain.
    form : {"published", "textbook"}

    Raises
    ------
    TrainingError
        When a weight is not positive, or gamma or form make no sense.
    """

    def __init__(
        self,
        weights: Sequence[float],
        gamma: float = 2.0,
        form: Literal["published", "textbook"] = "published",
    ):
        super().__init__()
        if gamma != 0 and not 1 <= gamma < float("inf"):
            raise TrainingError(f"gamma must be 0 or at least 1, for instance 2, not {gamma}")
        if form not in _FOCAL:
            raise TrainingError(f"form must be one of {', '.join(_FOCAL)}, not {form!r}")
        self.gamma, self.form = float(gamma), form
        self.weights = _checked(weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, a scalar."""
        logits = _precise(logits)
        weights = logits.new_tensor(self.weights)
        return _FOCAL[self.form](logits, labels, weights, self.gamma).mean()


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy with class weights, divided by the weights of the batch's rows.

    Parameters
    ----------
    weights : sequence of float, shape (K,), optional
        Without them the plain mean.

    Raises
    ------
    TrainingError
        When a weight is not positive.
    """

    def __init__(self, weights: Sequence[float] | None = None):
        super().__init__()
        self.weights = None if weights is None else _checked(weights)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of a batch, a scalar."""
        logits = _precise(logits)
        weights = None if self.weights is None else logits.new_tensor(self.weights)
        return F.cross_entropy(logits, labels, weight=weights)


class MultitaskSum(nn.Module):
    """The paper's sum of two losses, ``alpha * diagnosis + (1 - alpha) * regression``.

    Parameters
    ----------
    alpha : float
        From 0 (regression alone) to 1 (diagnosis alone). At these ends the other loss is left out
        altogether, so that one that is not finite does no harm.

    Raises
    ------
    TrainingError
        When alpha lies outside.
    """

    def __init__(self, alpha: float):
        super().__init__()
        if not 0 <= alpha <= 1:
            raise TrainingError(f"alpha must lie from 0 to 1, not {alpha}")
        self.alpha = float(alpha)

    def forward(self, diagnosis: Tensor, regression: Tensor) -> Tensor:
        """Add the losses of a batch."""
        if self.alpha == 1:
            return diagnosis
        if self.alpha == 0:
            return regression
        return self.alpha * diagnosis + (1 - self.alpha) * regression


class UncertaintyWeighting(nn.Module):
    r"""Two losses weighted by learned uncertainties (Kendall, Gal and Cipolla, 2018).

    With the logarithm s of each task's variance, which is learned with the network,

    .. math::
        e^{-s_D} L_D + \tfrac12 s_D + c\, e^{-s_R} L_R + \tfrac12 s_R

    The classification part is the authors' approximation of a softmax of scaled logits. The
    regression part is the negative log-likelihood of a normal error: c is 1/2 for the squared
    error and 1 for smooth L1, which within an error of 1 is half the squared error already. At
    its best a variance is twice the (scaled) loss, so that the total may be negative.

    Its parameters belong into the optimiser, without weight decay (which would pull variances to
    1); :meth:`weights` says where they are.

    Parameters
    ----------
    regression : {"smooth_l1", "mse"}
        The loss handed in as the second.

    Attributes
    ----------
    log_variances : torch.nn.Parameter, shape (2,)
        Of diagnosis and regression; 0 at first.

    Raises
    ------
    TrainingError
        When the loss of the regression has no such form here.
    """

    def __init__(self, regression: str = "smooth_l1"):
        super().__init__()
        factors = {"smooth_l1": 1.0, "mse": 0.5}
        if regression not in factors:
            raise TrainingError(
                f"the weighting by uncertainty is derived for {' and '.join(factors)}, not "
                f"{regression!r}"
            )
        self.factor = factors[regression]
        self.log_variances = nn.Parameter(torch.zeros(2))

    def forward(self, diagnosis: Tensor, regression: Tensor) -> Tensor:
        """Add the losses of a batch."""
        s = self.log_variances
        losses = torch.stack([diagnosis, self.factor * regression])
        return ((-s).exp() * losses + s / 2).sum()

    def weights(self) -> tuple[float, float]:
        """Factors that diagnosis and regression loss have now, to be reported."""
        factors = (-self.log_variances.detach()).exp()
        return float(factors[0]), self.factor * float(factors[1])


#: Losses of a diagnosis by name, each made from class weights.
CLASSIFICATION_LOSSES = {
    "focal": lambda weights: FocalLoss(weights, form="published"),
    "focal_textbook": lambda weights: FocalLoss(weights, form="textbook"),
    "cross_entropy": WeightedCrossEntropy,
}


def classification_loss(name: str, weights: Sequence[float]) -> nn.Module:
    """Make a loss by name.

    Parameters
    ----------
    name : str
        Of :data:`CLASSIFICATION_LOSSES`.
    weights : sequence of float, shape (K,)

    Raises
    ------
    TrainingError
        When there is none.
    """
    if name not in CLASSIFICATION_LOSSES:
        known = ", ".join(CLASSIFICATION_LOSSES)
        raise TrainingError(f"there is no loss {name!r} of a diagnosis; known: {known}")
    return CLASSIFICATION_LOSSES[name](weights)


_FOCAL = {"published": focal_published, "textbook": focal_textbook}


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _modulated(entropy: Tensor, gamma: float) -> Tensor:
    """(1 - exp(-entropy))^gamma, to full precision where entropy is small."""
    return (-torch.expm1(-entropy)).pow(gamma)


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _checked(weights: Sequence[float]) -> tuple[float, ...]:
    checked = tuple(float(weight) for weight in weights)
    if not checked or not all(0 < weight < float("inf") for weight in checked):
        raise TrainingError(f"weights must be one positive number a class, not {checked}")
    return checked
