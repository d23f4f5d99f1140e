"""Losses of a regression, each with the point prediction that goes with it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.models.heads import quantile_levels
from iavlib.training.errors import TrainingError

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
