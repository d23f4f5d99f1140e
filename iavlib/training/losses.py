"""Losses of regression heads, of a two-class diagnosis, and of both together.

Raw outputs and logits have shape (n, k); labels are whole numbers from 0, where label 1 of two is
malignant. All are computed in single precision at least, also where autocast made outputs half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import TrainingError
from iavlib.models.heads import predicted_mean, quantile_levels

#: Targets are kept this far inside (0, 1) where a density is taken there.
EDGE = 1e-3


@dataclass(frozen=True)
class Loss:
    """A loss of a regression head.

    Attributes
    ----------
    name : str
    each : callable
        From raw output, shape (n, k), and target, shape (n,), to the loss of each image, (n,).
    kind : str
        Kind of head that the loss is for, see :class:`iavlib.models.HeadSpec`; gives the point
        prediction.
    bounded : bool
        Whether targets must lie from 0 to 1.
    """

    name: str
    each: Callable[[Tensor, Tensor], Tensor]
    kind: str = "paper"
    bounded: bool = False

    def __call__(self, raw: Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of a batch, in single precision also under autocast."""
        return self.each(raw.float(), target.float()).mean()

    def point(self, raw: Tensor) -> Tensor:
        """Return the prediction of each image, shape (n,), from raw output, shape (n, k)."""
        return predicted_mean(self.kind, raw)


def smooth_l1(raw: Tensor, target: Tensor) -> Tensor:
    """Squared within an error of 1, absolute beyond it (beta 1, as in the paper)."""
    return F.smooth_l1_loss(_single(raw), target, reduction="none")


def mse(raw: Tensor, target: Tensor) -> Tensor:
    """Squared error."""
    return (_single(raw) - target).square()


def mae(raw: Tensor, target: Tensor) -> Tensor:
    """Absolute error."""
    return (_single(raw) - target).abs()


def beta_nll(raw: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of targets in [0, 1] under Beta(a, b), where ``raw`` is (n, 2)."""
    a, b = raw.unbind(1)
    inside = target.clamp(EDGE, 1 - EDGE)
    norm = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    return norm - (a - 1) * inside.log() - (b - 1) * (-inside).log1p()


def pinball(raw: Tensor, target: Tensor) -> Tensor:
    """Mean pinball loss of quantiles, where ``raw`` is (n, k) at :func:`quantile_levels` of k."""
    levels = torch.tensor(quantile_levels(raw.shape[1]), dtype=raw.dtype, device=raw.device)
    error = target[:, None] - raw
    return torch.maximum(levels * error, (levels - 1) * error).mean(1)


def _single(raw: Tensor) -> Tensor:
    if raw.shape[1] != 1:
        raise TrainingError(f"this loss takes one output per image, not {tuple(raw.shape)}")
    return raw[:, 0]


LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        Loss("smooth_l1", smooth_l1),
        Loss("mse", mse),
        Loss("mae", mae),
        Loss("beta_nll", beta_nll, "beta", bounded=True),
        Loss("pinball", pinball, "quantile"),
    )
}


def get_loss(name: str) -> Loss:
    """Return a loss of a regression by name.

    Raises
    ------
    TrainingError
        If there is none.
    """
    if name not in LOSSES:
        raise TrainingError(f"there is no loss {name!r}; known: {', '.join(LOSSES)}")
    return LOSSES[name]


def class_weights(labels: np.ndarray, n_classes: int | None = None) -> np.ndarray:
    """Compute the weight N / (K N_c) of each of K classes, from the labels of the training split.

    With two classes this is the N / (2 N_c) of the paper.

    Raises
    ------
    TrainingError
        If a class has no image.
    """
    counts = np.bincount(np.asarray(labels, int), minlength=n_classes or 0)
    if (counts == 0).any():
        absent = ", ".join(map(str, np.flatnonzero(counts == 0)))
        raise TrainingError(f"the training split has no image of class {absent}: it has no weight")
    return counts.sum() / (len(counts) * counts)


def focal_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, gamma: float = 2.0, published: bool = True
) -> Tensor:
    """Mean focal loss of a batch.

    Parameters
    ----------
    logits : torch.Tensor, shape (n, K)
    labels : torch.Tensor of int64, shape (n,)
    weights : torch.Tensor, shape (K,)
        One per class.
    gamma : float
        0 leaves out the modulation; otherwise at least 1, since below that the gradient is
        infinite where a row is certain.
    published : bool
        With the class weight inside the exponent, as in the paper's code; else outside, as in Lin
        et al. (2017).
    """
    entropy, weight = F.cross_entropy(logits, labels, reduction="none"), weights[labels]
    certain = -torch.expm1(-(weight * entropy if published else entropy))  # 1 - probability
    modulated = certain.pow(gamma)
    each = modulated * (weight * entropy) if published else weight * modulated * entropy
    return each.mean()


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with class weights, divided by the weights of the batch's rows."""
    return F.cross_entropy(logits, labels, weight=weights)


#: Losses of a diagnosis by name: from logits, labels and class weights to a scalar.
CLASSIFICATION_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "focal": focal_loss,
    "focal_textbook": partial(focal_loss, published=False),
    "cross_entropy": cross_entropy,
}


def classification_loss(name: str, weights: Sequence[float]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss of a diagnosis, from logits (n, K) and labels (n,) to a scalar.

    Parameters
    ----------
    name : str
        Of :data:`CLASSIFICATION_LOSSES`.
    weights : sequence of float, shape (K,)
        One per class, such as those of :func:`class_weights`.

    Raises
    ------
    TrainingError
        If there is no such loss, or a weight is not positive.
    """
    if name not in CLASSIFICATION_LOSSES:
        known = ", ".join(CLASSIFICATION_LOSSES)
        raise TrainingError(f"there is no loss {name!r} of a diagnosis; known: {known}")
    weights = tuple(map(float, weights))
    if not all(0 < weight < float("inf") for weight in weights):
        raise TrainingError(f"weights must be one positive number per class, not {weights}")

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return CLASSIFICATION_LOSSES[name](logits, labels, logits.new_tensor(weights))

    return loss


def multitask_sum(diagnosis: Tensor, regression: Tensor, alpha: float) -> Tensor:
    """Return the paper's sum of two losses, ``alpha * diagnosis + (1 - alpha) * regression``.

    At the ends of alpha (0: regression alone, 1: diagnosis alone) the other loss is left out
    altogether, so that one that is not finite does no harm.
    """
    if alpha in (0, 1):
        return diagnosis if alpha else regression
    return alpha * diagnosis + (1 - alpha) * regression


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
    1); :meth:`weights` reports the factors.

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
        If the weighting is not derived for the loss of the regression.
    """

    def __init__(self, regression: str = "smooth_l1"):
        super().__init__()
        factors = {"smooth_l1": 1.0, "mse": 0.5}
        if regression not in factors:
            known = " and ".join(factors)
            raise TrainingError(f"uncertainty weighting is derived for {known}, not {regression!r}")
        self.factor = factors[regression]
        self.log_variances = nn.Parameter(torch.zeros(2))

    def forward(self, diagnosis: Tensor, regression: Tensor) -> Tensor:
        """Add the losses of a batch."""
        s = self.log_variances
        return ((-s).exp() * torch.stack([diagnosis, self.factor * regression]) + s / 2).sum()

    def weights(self) -> tuple[float, float]:
        """Return the current factors of diagnosis and regression loss."""
        factors = (-self.log_variances.detach()).exp()
        return float(factors[0]), self.factor * float(factors[1])
