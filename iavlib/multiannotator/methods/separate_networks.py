"""One network an annotator, each of which sees that annotator's labels alone.

The consensus is the mean of what the networks say. They are trained side by side, in the same
batches, and share nothing: a picture that an annotator did not label leaves hers as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.multiannotator.method import (
    UNET_SETTINGS,
    Method,
    Outputs,
    Problem,
    label_likelihood,
    overlap_loss,
    register,
)


class Separate(nn.Module):
    """A U-Net with logits for each annotator."""

    def __init__(self, backbones: Iterable[nn.Module], classes: int):
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(one, nn.Conv2d(one.features, classes, 1)) for one in backbones
        )

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, R, C, H, W)."""
        return torch.stack([network(images) for network in self.networks], 1)


@register("separate", "One network an annotator")
class SeparateNetworks(Method):
    """The method of the module's description: settings of its U-Nets, and ``dice``.

    ``dice`` weighs a Dice loss beside the cross-entropy; AVAP's peers have both.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "dice": 0.0}

    def build(self, problem: Problem) -> nn.Module:
        """Make all networks."""
        backbones = (self.backbone(problem) for _ in problem.annotators)
        return Separate(backbones, problem.n_classes)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the sum over annotators of the mean loss with their labels."""
        maps = network(batch["images"]).softmax(2)
        unlikely, given = label_likelihood(maps, batch["labels"])
        loss = (unlikely.sum(0) / given.sum(0).clamp_min(1)).sum()
        if not self.settings["dice"]:
            return loss
        return loss + self.settings["dice"] * overlap_loss(maps, batch["labels"]).sum()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give each annotator's map, and their mean."""
        maps = network(images).softmax(2)
        return Outputs(maps.mean(1), maps)
