"""Encoders that show their maps at four depths, and let each be changed on its way deeper."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from iavlib.diagnosis_first.errors import DiagnosisFirstError
from iavlib.models import build_network
from iavlib.models.unet import Encoder
from iavlib.models.weights import Weights

#: The encoder that needs no timm: the way down of a small U-Net.
SMALL = "small"
SMALL_WIDTHS = (8, 16, 32, 48)
LEVELS = 4
Change = Callable[[int, Tensor], Tensor]


class Pyramid(nn.Module):
    """From images with values from 0 to 1 to maps at four depths, finest first.

    Parameters
    ----------
    body : torch.nn.Module
        With ``forward_features``, or called itself.
    modules : sequence of str
        Its four parts whose outputs are the maps.
    channels, strides : sequence of int
        Of the maps.
    weights : Weights
        What the body holds, and how its input is normalised.
    """

    def __init__(self, body: nn.Module, modules, channels, strides, weights: Weights):
        super().__init__()
        self.body, self.modules_shown = body, tuple(modules)
        self.channels, self.strides = tuple(channels), tuple(strides)
        self.weights = weights
        self.register_buffer("mean", torch.tensor(weights.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(weights.std)[:, None, None])

    def forward(self, images: Tensor, change: Change | None = None) -> list[Tensor]:
        """Give the maps; `change` takes a level from 0 and a map, and what it returns goes on."""
        maps: list[Tensor] = []

        def keep(_module, _inputs, output: Tensor) -> Tensor:
            output = output if change is None else change(len(maps), output)
            maps.append(output)
            return output

        # Hooks live as long as one call, so that copies of the network are like it.
        shown = [self.body.get_submodule(name) for name in self.modules_shown]
        handles = [part.register_forward_hook(keep) for part in shown]
        try:
            run = getattr(self.body, "forward_features", self.body)
            run((images - self.mean) / self.std)
        finally:
            for handle in handles:
                handle.remove()
        return maps


def build_encoder(name: str, weights: str = "none", seed: int = 0, size: int = 64) -> Pyramid:
    """Build an encoder.

    Parameters
    ----------
    name : str
        ``small``, or a convolutional network of :func:`iavlib.models.find_backbone`, such as
        ``mobilenetv2_100`` (the paper: ResNet-50).
    weights : str
        As for :func:`iavlib.models.build_network`; ``none`` of ``small``.
    seed : int
    size : int
        Side of the images in pixels, a multiple of 8 for ``small``.

    Raises
    ------
    DiagnosisFirstError
        If the network has no four maps, or the images are too small for it.
    """
    if name == SMALL:
        return _small(weights, seed, size)
    network = build_network(name, {}, weights, seed, size)
    shown = getattr(network.backbone, "feature_info", None) or []
    shown = [one for one in shown if one["reduction"] >= LEVELS][-LEVELS:]
    strides = [one["reduction"] for one in shown]
    if strides != [4, 8, 16, 32]:
        told = f"encoder {name!r} shows maps at strides {strides}, not 4, 8, 16 and 32"
        raise DiagnosisFirstError(f"{told}: give a convolutional network of four stages, or small")
    if size < strides[-1]:
        raise DiagnosisFirstError(f"encoder {name!r}: give images from {strides[-1]} pixels")
    channels = [one["num_chs"] for one in shown]
    names = [one["module"] for one in shown]
    return Pyramid(network.backbone, names, channels, strides, _normalised(network.weights))


def _small(weights: str, seed: int, size: int) -> Pyramid:
    if weights not in ("none", "auto"):
        raise DiagnosisFirstError(f"encoder 'small' has no weights {weights!r}: give none")
    if size % 2 ** (LEVELS - 1) or size < 2 ** (LEVELS + 1):
        raise DiagnosisFirstError(f"encoder 'small': {size} is no multiple of 8 from 32 on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = Encoder(3, SMALL_WIDTHS)
    record = Weights("none", f"random, seed {seed}", (0.5,) * 3, (0.25,) * 3, size)
    names = [f"stages.{level}" for level in range(LEVELS)]
    return Pyramid(body, names, SMALL_WIDTHS, [2**level for level in range(LEVELS)], record)


def _normalised(weights: Weights) -> Weights:
    """Give random weights, which ask for nothing, inputs around 0."""
    return weights.with_normalisation((0.5,) * 3, (0.25,) * 3) if weights.is_random else weights
