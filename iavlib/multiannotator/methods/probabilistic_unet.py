"""The Probabilistic U-Net: label maps drawn at random, as annotators' are (Kohl et al. 2018).

In each step it sees one of a picture's labels, drawn at random, and does not learn whose it is.
The loss is, a pixel, the cross-entropy of a reconstruction by a code from the posterior plus
``beta`` times the divergence of the posterior from the prior; both are sums over the picture,
divided by its pixels. The consensus is the mean of the draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.core.errors import MethodError
from iavlib.models.unet import WIDTHS, ProbabilisticUNet, stages_for
from iavlib.multiannotator.method import Method, Outputs, Problem, label_likelihood, register


@register("prob-unet", "Probabilistic U-Net")
class Probabilistic(Method):
    """The method of the module's description.

    Settings: ``widths``; ``latent``, numbers of a code; ``beta``, 5 and 6 as in the experiments of
    Zhang et al.; ``blocks``, convolutions that join code and features.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "widths": WIDTHS,
        "latent": 6,
        "beta": 5.0,
        "blocks": 2,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        if self.settings["latent"] < 1 or self.settings["beta"] < 0 or self.settings["blocks"] < 0:
            raise MethodError(f"method {self.name!r}: latent from 1, beta and blocks from 0")

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        widths = stages_for(problem.height, problem.width, self.settings["widths"])
        latent, blocks = self.settings["latent"], self.settings["blocks"]
        return ProbabilisticUNet(problem.channels, problem.n_classes, widths, latent, blocks)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the negative evidence bound a pixel, of one label a picture."""
        labels = draw_labels(batch["labels"])
        logits, divergence = network.reconstruct(batch["images"], labels[:, 0].long())
        unlikely, _ = label_likelihood(logits.float().softmax(1)[:, None], labels)
        pixels = labels.shape[-2] * labels.shape[-1]
        return unlikely.mean() + self.settings["beta"] * divergence.mean() / pixels

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give draws and their mean."""
        drawn = network.sample(images, n_samples, generator)
        return Outputs(drawn.mean(1), samples=drawn.argmax(2))


def draw_labels(labels: Tensor) -> Tensor:
    """Draw one of each picture's label maps: (B, 1, H, W) of (B, R, H, W).

    Draws come from PyTorch's global generator of the CPU.
    """
    places = torch.arange(len(labels), device=labels.device)
    return labels[places, draw_annotators(labels)].unsqueeze(1)


def draw_annotators(labels: Tensor) -> Tensor:
    """Draw one of those who labelled each picture: int64, (B,), of labels (B, R, H, W).

    Draws come from PyTorch's global generator of the CPU.
    """
    given = labels[:, :, 0, 0] >= 0
    drawn = torch.rand(given.shape).to(labels.device)
    return torch.where(given, drawn, torch.full_like(drawn, -1.0)).argmax(1)
