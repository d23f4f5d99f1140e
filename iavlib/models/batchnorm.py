"""Batch norms that were folded into convolutions, given back their statistics.

Networks made for phones are often published with batch norm merged into the convolution before
it. As weights of a network with batch norms, those norms then have mean 0, variance 1 and the
merged bias: right in evaluation, but in training mode each batch is normalised as it was never
meant to be, and what was learnt is lost within the first step.
"""

from collections.abc import Iterable

import torch
from torch import nn

from iavlib.models.errors import ModelError

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def has_folded_batchnorm(network: nn.Module) -> bool:
    """Tell whether every batch norm over images has mean 0 and variance 1 but some bias.

    A network that starts at random has no bias there, one trained with batch norm has statistics.
    """
    norms = [item for item in network.modules() if isinstance(item, _NORMS)]
    plain = all(
        not item.running_mean.any() and bool((item.running_var == 1).all()) for item in norms
    )
    return bool(norms) and plain and any(bool(item.bias.any()) for item in norms)


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
        Normalised images of the training part, on the network's device; a few hundred suffice.

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
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        variance, mean = variance.double().cpu(), mean.double().cpu()
        total.add_(torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * count)

    return add


@torch.no_grad()
def _reparametrise(norm: nn.Module, count, total, squares) -> None:
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    old = {
        name: getattr(norm, name).double().cpu()
        for name in ("running_mean", "running_var", "weight", "bias")
    }
    # A channel that is always the same keeps a spread it can be divided by.
    variance = torch.where(variance > 1e-8, variance, old["running_var"])
    factor = old["weight"] / (old["running_var"] + norm.eps).sqrt()
    norm.weight.copy_(factor * (variance + norm.eps).sqrt())
    norm.bias.copy_(old["bias"] + factor * (mean - old["running_mean"]))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
