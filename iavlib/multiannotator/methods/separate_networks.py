"""One network an annotator, each of which sees that annotator's labels alone.

The consensus is the mean of what the networks say. They are trained side by side, in the same
batches, and share nothing: a picture that an annotator did not label leaves hers as it is.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.models.unet import WIDTHS, UNet, stages_for
from iavlib.multiannotator.method import Method, Outputs, Problem, label_likelihood
from iavlib.multiannotator.registry import register


class Separate(nn.Module):
    """A U-Net with logits for each annotator."""

    def __init__(self, channels: int, classes: int, annotators: int, widths):
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(UNet(channels, widths), nn.Conv2d(widths[0], classes, 1))
            for _ in range(annotators)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, R, C, H, W)."""
        return torch.stack([network(images) for network in self.networks], 1)


@register("separate", "One network an annotator")
class SeparateNetworks(Method):
    """The method of the module's description, with setting ``widths``."""

    defaults: ClassVar[Mapping[str, Any]] = {"widths": WIDTHS}

    def build(self, problem: Problem) -> nn.Module:
        """Make all networks."""
        widths = stages_for(problem.height, problem.width, self.settings["widths"])
        return Separate(problem.channels, problem.n_classes, problem.n_annotators, widths)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the sum over annotators of the mean cross-entropy with their labels."""
        unlikely, given = label_likelihood(network(batch["images"]).softmax(2), batch["labels"])
        return (unlikely.sum(0) / given.sum(0).clamp_min(1)).sum()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give each annotator's map, and their mean."""
        maps = network(images).softmax(2)
        return Outputs(maps.mean(1), maps)
