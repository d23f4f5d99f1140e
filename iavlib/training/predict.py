"""What a network says of images, without training it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.training.batches import ImageBatches
from iavlib.training.hardware import autocast, choose_device


def predict(
    network: nn.Module,
    batches: ImageBatches,
    device: str | torch.device = "auto",
    batch_size: int = 64,
    precision: str = "fp32",
) -> dict[str, np.ndarray]:
    """Compute a network's raw outputs for all images.

    Parameters
    ----------
    network : torch.nn.Module
        From images to a dictionary of tensors, as :class:`iavlib.models.Network`. It is moved to
        the device and evaluates (dropout off, stored BatchNorm statistics); afterwards it is in
        the mode in which it came.
    batches : ImageBatches
    device : str or torch.device
        "auto" is where the images are.
    batch_size : int
    precision : {"fp32", "bf16", "fp16"}

    Returns
    -------
    dict of str to numpy.ndarray of float32, shape (n, ...)
        In the order of ``batches.ids``.
    """
    return run_over(network, network, batches, device, batch_size, precision)


def run_over(
    network: nn.Module,
    function: Callable[[Tensor], dict[str, Tensor]],
    batches: ImageBatches,
    device: str | torch.device = "auto",
    batch_size: int = 64,
    precision: str = "fp32",
) -> dict[str, np.ndarray]:
    """Call a function of an evaluating network on all images; see :func:`predict`."""
    device = batches.device if device == "auto" else choose_device(device)
    network.to(device, memory_format=torch.channels_last)
    order = np.arange(len(batches))
    plan = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    found: dict[str, list[Tensor]] = {}
    with evaluating(network), torch.inference_mode(), autocast(precision, device):
        for batch in batches.stream(plan):
            for name, values in function(batch["images"].to(device)).items():
                found.setdefault(name, []).append(values.float())
    return {name: torch.cat(values).cpu().numpy() for name, values in found.items()}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Let a network evaluate, and put each of its parts back into its mode afterwards."""
    modes = [(subset, subset.training) for subset in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for subset, mode in modes:
            subset.training = mode
