"""The Probabilistic U-Net: label maps drawn at random, as annotators' are (Kohl et al. 2018).

In each step it sees one of an image's labels, drawn at random, and does not learn whose it is.
The loss is, per pixel, the cross-entropy of a reconstruction by a code from the posterior plus
``beta`` times the divergence of the posterior from the prior; both are sums over the image,
divided by its pixels. The consensus is the mean of the draws.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.models.unet import WIDTHS, ProbabilisticUNet, stages_for
from iavlib.multiannotator import losses
from iavlib.multiannotator.method import Method, Outputs, Problem
from iavlib.multiannotator.methods import register


@register("prob-unet", "Probabilistic U-Net")
class Probabilistic(Method):
    """The method of the module's description.

    Settings: ``widths``; ``latent``, dimensions of a code; ``beta``, 5 and 6 as in the experiments
    of Zhang et al.; ``blocks``, convolutions that join code and features.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        "widths": WIDTHS,
        "latent": 6,
        "beta": 5.0,
        "blocks": 2,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        self.require_minimum(1, "latent")
        self.require_minimum(0, "beta", "blocks")

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        widths = stages_for(problem.height, problem.width, self.settings["widths"])
        latent, blocks = self.settings["latent"], self.settings["blocks"]
        return ProbabilisticUNet(problem.channels, problem.n_classes, widths, latent, blocks)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the negative evidence lower bound per pixel, of one label per image."""
        labels, _ = draw_labels(batch["labels"])
        logits, divergence = network.reconstruct(batch["images"], labels[:, 0].long())
        each, _ = losses.label_likelihood(logits.float().softmax(1)[:, None], labels)
        pixels = labels.shape[-2] * labels.shape[-1]
        return each.mean() + self.settings["beta"] * divergence.mean() / pixels

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give draws and their mean."""
        drawn = network.sample(images, n_samples, generator)
        return Outputs(drawn.mean(1), samples=drawn.argmax(2))


def draw_labels(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Draw one annotator per image, at random among those who labelled it.

    Draws come from PyTorch's global generator of the CPU.

    Parameters
    ----------
    labels : torch.Tensor of int, shape (B, R, H, W)

    Returns
    -------
    drawn : torch.Tensor of int, shape (B, 1, H, W)
    annotators : torch.Tensor of int64, shape (B,)
    """
    given = labels[:, :, 0, 0] >= 0
    chances = torch.rand(given.shape).to(labels.device)
    annotators = torch.where(given, chances, torch.full_like(chances, -1.0)).argmax(1)
    rows = torch.arange(len(labels), device=labels.device)
    return labels[rows, annotators].unsqueeze(1), annotators
