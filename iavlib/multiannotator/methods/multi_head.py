"""MH-UNet: one U-Net with a last layer for each annotator, a peer of AVAP (Guo et al. 2022).

The consensus is the mean of what the heads say.
"""

from __future__ import annotations

from collections.abc import Mapping
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


class MultiHead(nn.Module):
    """A U-Net with logits of every annotator."""

    def __init__(self, backbone: nn.Module, annotators: int, classes: int):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(
            nn.Conv2d(backbone.features, classes, 1) for _ in range(annotators)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, R, C, H, W)."""
        features = self.backbone(images)
        return torch.stack([head(features) for head in self.heads], 1)


@register("mh-unet", "MH-UNet")
class MultiHeadUNet(Method):
    """The method of the module's description: settings of its U-Net, and ``dice``.

    ``dice`` weighs the Dice loss beside the cross-entropy.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "dice": 1.0}

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        return MultiHead(self.backbone(problem), problem.n_annotators, problem.n_classes)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the mean over the label maps that there are."""
        maps = network(batch["images"]).float().softmax(2)
        unlikely, given = label_likelihood(maps, batch["labels"])
        apart = overlap_loss(maps, batch["labels"])[given.any(0)].mean()
        return unlikely.sum() / given.sum() + self.settings["dice"] * apart

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give each annotator's map, and their mean."""
        maps = network(images).softmax(2)
        return Outputs(maps.mean(1), maps)
