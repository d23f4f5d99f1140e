"""Heads, which turn a vector of features into a prediction; and folded batch norms, restored.

Networks made for phones are often published with batch norm merged into the convolution before
it. As weights of a network with batch norms, those norms then have mean 0, variance 1 and the
merged bias: right in evaluation, but in training mode each batch is normalised as it was never
meant to be, and what was learned is lost within the first step.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import nn

from iavlib.core.errors import ModelError

HEAD_KINDS = ("paper", "linear", "beta", "quantile")
CONCENTRATION = 4.0  # of the Beta distribution that a new head predicts
_EDGE = 1e-4  # keeps both parameters of a Beta distribution above zero


@dataclass(frozen=True)
class HeadSpec:
    """Kind, size and start of a head.

    Attributes
    ----------
    kind : {"paper", "linear", "beta", "quantile"}
        ``paper``: linear to ``hidden``, batch norm, ReLU, dropout, linear, as in the paper;
        unbounded. ``linear``: dropout and one linear layer. ``beta``: the two parameters of a Beta
        distribution over [0, 1]. ``quantile``: quantiles in [0, 1] that never cross, at
        :func:`quantile_levels`.
    outputs : int
        Outputs of ``paper`` and ``linear`` (one for regression, one per class for
        classification), or number of quantiles (odd, so that the median is among them).
    hidden : int
        Width of the hidden layer; 0 leaves it out of ``beta`` and ``quantile``.
    dropout : float
        Share of hidden units, or of features where there are none, dropped while training.
    start : float or None
        Initial prediction before any training, such as the median of the training split.
        None is 0 (``paper``, ``linear``) or the middle of [0, 1].
    """

    kind: str
    outputs: int = 1
    hidden: int = 256
    dropout: float = 0.5
    start: float | None = None

    def __post_init__(self):
        kind = self.kind
        inside = self.start is None or kind not in _OUTPUTS or 0 < self.start < 1
        for fits, problem in (
            (kind in HEAD_KINDS, f"known are {', '.join(HEAD_KINDS)}"),
            (self.outputs > 0 and self.hidden >= (kind == "paper"), "sizes must be positive"),
            (0 <= self.dropout < 1, f"dropout {self.dropout} is not in [0, 1)"),
            (kind != "beta" or self.outputs == 1, "it predicts one distribution, not several"),
            (kind != "quantile" or self.outputs % 2, "outputs must be odd, to hold the median"),
            (inside, f"start {self.start} is not between 0 and 1"),
        ):
            if not fits:
                raise ModelError(f"head kind {kind!r}: {problem}")

    @property
    def width(self) -> int:
        """Numbers in a row of the raw output: two for a Beta distribution, else ``outputs``."""
        return 2 if self.kind == "beta" else self.outputs


def quantile_levels(outputs: int) -> np.ndarray:
    """Return the levels of a quantile head: evenly from .05 to .95, the median for one."""
    return np.array([0.5]) if outputs == 1 else np.linspace(0.05, 0.95, outputs)


class BetaOutput(nn.Module):
    """Two numbers to the parameters of a Beta distribution, through its mean and concentration."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 2): alpha and beta, both positive."""
        x = x.float()  # in half precision a mean of 0.9999 is 1
        mean = _EDGE + (1 - 2 * _EDGE) * torch.sigmoid(x[:, 0])
        concentration = nn.functional.softplus(x[:, 1]) + 0.1
        return torch.stack([mean * concentration, (1 - mean) * concentration], dim=1)


class QuantileOutput(nn.Module):
    """Q + 1 numbers to Q quantiles in [0, 1]: shares of the interval, summed up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, Q), not decreasing along a row."""
        return torch.softmax(x.float(), dim=1).cumsum(dim=1)[:, :-1].clamp(0, 1)


_OUTPUTS = {"beta": BetaOutput, "quantile": QuantileOutput}  # for the kinds of bounded heads


def build_head(spec: HeadSpec, features: int) -> nn.Module:
    """Return a new head.

    Linear layers start as in the paper: weights Kaiming-normal (fan in, ReLU), biases 0. The last
    layer of a head with an initial prediction (``beta``, ``quantile``, or ``start``) has
    small weights instead (standard deviation .001) and the bias that yields ``start``.

    Parameters
    ----------
    spec : HeadSpec
    features : int
        Length of the feature vector.

    Returns
    -------
    torch.nn.Module
        From (B, features) to (B, ``spec.width``).
    """
    outputs = {"beta": 2, "quantile": spec.outputs + 1}.get(spec.kind, spec.outputs)
    layers: list[nn.Module] = []
    if spec.kind != "linear" and spec.hidden:
        layers = [nn.Linear(features, spec.hidden), nn.BatchNorm1d(spec.hidden), nn.ReLU()]
        features = spec.hidden
    layers += [nn.Dropout(spec.dropout), nn.Linear(features, outputs)]
    head = nn.Sequential(*layers)
    for layer in (item for item in layers if isinstance(item, nn.Linear)):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    if spec.kind != "paper" or spec.start is not None:
        nn.init.normal_(layers[-1].weight, std=0.001)
        with torch.no_grad():
            layers[-1].bias.copy_(torch.as_tensor(_start_bias(spec), dtype=torch.float32))
    if spec.kind in _OUTPUTS:
        head.append(_OUTPUTS[spec.kind]())
    return head


def _start_bias(spec: HeadSpec) -> np.ndarray:
    """Return the bias with which a head predicts ``start`` for every image."""
    if spec.kind in ("paper", "linear"):
        return np.full(spec.outputs, spec.start or 0.0)
    start = 0.5 if spec.start is None else spec.start
    if spec.kind == "beta":
        mean = (start - _EDGE) / (1 - 2 * _EDGE)
        return np.array([np.log(mean / (1 - mean)), np.log(np.expm1(CONCENTRATION - 0.1))])
    levels = quantile_levels(spec.outputs)
    # Even on either side of the median, which is at `start`.
    quantiles = np.where(levels <= 0.5, 2 * levels * start, start + (2 * levels - 1) * (1 - start))
    return np.log(np.diff(np.concatenate([[0.0], quantiles, [1.0]])))


def predicted_mean(head_kind: str, raw):
    """Return the point prediction of a regression head.

    Parameters
    ----------
    head_kind : str
        Kind of :class:`HeadSpec`.
    raw : torch.Tensor or numpy.ndarray of shape (B, width)
        Output of the head.

    Returns
    -------
    torch.Tensor or numpy.ndarray of shape (B,)
        The output itself (``paper``, ``linear``; not clamped), the mean of the Beta
        distribution, or the median quantile.

    Raises
    ------
    ModelError
        If the head has other outputs than a regression of this kind, such as those of classes.
    """
    width = raw.shape[1] if head_kind == "quantile" else {"beta": 2}.get(head_kind, 1)
    if raw.ndim != 2 or raw.shape[1] != width:
        problem = f"a {head_kind!r} regression head gives rows of {width}, not {tuple(raw.shape)}"
        raise ModelError(f"{problem}; a classification head has no mean")
    if head_kind == "beta":
        return raw[:, 0] / (raw[:, 0] + raw[:, 1])
    return raw[:, raw.shape[1] // 2]


def predicted_quantiles(head_kind: str, raw, levels) -> np.ndarray:
    """Return quantiles of the distribution that a ``beta`` or ``quantile`` head predicts.

    Parameters
    ----------
    head_kind : {"beta", "quantile"}
    raw : torch.Tensor or numpy.ndarray of shape (B, width)
        Output of the head.
    levels : sequence of float
        Between 0 and 1.

    Returns
    -------
    numpy.ndarray of shape (B, number of levels)
        Interpolated linearly between the levels of a quantile head, to 0 and 1 at the ends.

    Raises
    ------
    ModelError
        If the head gives a point only, or a level is not in [0, 1].
    """
    if head_kind not in _OUTPUTS:
        raise ModelError(f"a {head_kind!r} head predicts a point and no distribution")
    levels = np.asarray(levels, dtype=float)
    if ((levels < 0) | (levels > 1)).any():
        raise ModelError(f"levels of quantiles must lie in [0, 1], not {levels.tolist()}")
    raw = raw.detach().cpu().double().numpy() if isinstance(raw, torch.Tensor) else np.asarray(raw)
    if head_kind == "beta":
        return stats.beta.ppf(levels[None, :], raw[:, :1], raw[:, 1:])
    known = np.concatenate([[0.0], quantile_levels(raw.shape[1]), [1.0]])
    rows = [np.interp(levels, known, np.concatenate([[0.0], row, [1.0]])) for row in raw]
    return np.array(rows).reshape(len(raw), len(levels))


_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def has_folded_batchnorm(network: nn.Module) -> bool:
    """Return whether every batch norm over images has mean 0 and variance 1 but some bias.

    A network that starts at random has no bias there, one trained with batch norm has statistics.
    """
    norms = [item for item in network.modules() if isinstance(item, _NORMS)]
    plain = (not norm.running_mean.any() and (norm.running_var == 1).all() for norm in norms)
    return bool(norms) and all(map(bool, plain)) and any(bool(norm.bias.any()) for norm in norms)


def restore_batchnorm(network: nn.Module, batches: Iterable[torch.Tensor]) -> int:
    """Set running statistics from images, and scale and bias so that the network stays the same.

    The mean and variance of what enters each batch norm are measured in evaluation mode. With
    them as running statistics, scale and bias are chosen so that the output in evaluation mode
    does not change; in training mode it is then close to it.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place; left in the mode it was in.
    batches : iterable of torch.Tensor of shape (B, 3, S, S)
        Normalised images of the training split, on the network's device; a few hundred suffice.

    Returns
    -------
    int
        Number of batch norms.

    Raises
    ------
    ModelError
        If there are no images.
    """
    norms = [item for item in network.modules() if isinstance(item, _NORMS)]
    sums = {item: torch.zeros(3, item.num_features, dtype=torch.float64) for item in norms}
    handles = [item.register_forward_pre_hook(_adder(sums[item])) for item in norms]
    training, images = network.training, 0
    try:
        with torch.no_grad():
            for batch in batches:
                network.eval()(batch)
                images += len(batch)
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
    if not images:
        raise ModelError("batch norms cannot be restored without images")
    for norm in norms:
        _reparametrise(norm, *sums[norm])
    return len(norms)


def _adder(total: torch.Tensor):
    """Return a hook that adds up count, sum and sum of squares of each channel."""

    def add(_, inputs):
        x = inputs[0].detach().float()
        count = x.numel() / x.shape[1]
        moments = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        variance, mean = (each.double().cpu() for each in moments)
        total.add_(torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * count)

    return add


@torch.no_grad()
def _reparametrise(norm: nn.Module, count, total, squares) -> None:
    names = ("running_mean", "running_var", "weight", "bias")
    old_mean, old_variance, weight, bias = (getattr(norm, name).double().cpu() for name in names)
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    # A channel that is always the same keeps a spread it can be divided by.
    variance = torch.where(variance > 1e-8, variance, old_variance)
    factor = weight / (old_variance + norm.eps).sqrt()
    norm.weight.copy_(factor * (variance + norm.eps).sqrt())
    norm.bias.copy_(bias + factor * (mean - old_mean))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
