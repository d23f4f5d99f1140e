"""Maps of every annotator, learnt from that annotator's labels alone; the consensus is their mean.

``mh-unet``, MH-UNet, is one U-Net with a last layer for each annotator, compared with AVAP by Guo
et al. (2022). ``separate`` is one network per annotator: they are trained side by side, in the same
batches, and share nothing, so that an image that an annotator did not label leaves that network
as it is.
"""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.multiannotator import losses
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register


class MultiHead(nn.Module):
    """A U-Net with logits of every annotator."""

    def __init__(self, backbone: nn.Module, annotators: int, classes: int):
        super().__init__()
        self.backbone = backbone
        heads = (nn.Conv2d(backbone.features, classes, 1) for _ in range(annotators))
        self.heads = nn.ModuleList(heads)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, R, C, H, W)."""
        features = self.backbone(images)
        return torch.stack([head(features) for head in self.heads], 1)


class Separate(nn.Module):
    """A U-Net with logits for each annotator."""

    def __init__(self, backbones: Iterable[nn.Module], classes: int):
        super().__init__()
        networks = (nn.Sequential(one, nn.Conv2d(one.features, classes, 1)) for one in backbones)
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, R, C, H, W)."""
        return torch.stack([network(images) for network in self.networks], 1)


@register("mh-unet", "MH-UNet")
class MultiHeadUNet(Method):
    """One U-Net with a last layer for each annotator.

    Settings: those of the U-Net; ``dice``, the weight of the Dice loss beside the cross-entropy.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "dice": 1.0}

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        return MultiHead(self.backbone(problem), problem.n_annotators, problem.n_classes)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the mean over the label maps of the batch."""
        maps = network(batch["images"]).float().softmax(2)
        each, given = losses.label_likelihood(maps, batch["labels"])
        overlap = losses.overlap_loss(maps, batch["labels"])[given.any(0)].mean()
        return each.sum() / given.sum() + self.settings["dice"] * overlap

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give each annotator's map, and their mean."""
        maps = network(images).softmax(2)
        return Outputs(maps.mean(1), maps)


@register("separate", "One network per annotator")
class SeparateNetworks(MultiHeadUNet):
    """One U-Net for each annotator; settings as those of MH-UNet."""

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "dice": 0.0}

    def build(self, problem: Problem) -> nn.Module:
        """Make all networks."""
        return Separate((self.backbone(problem) for _ in problem.annotators), problem.n_classes)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the sum over annotators of the mean loss with their labels."""
        maps = network(batch["images"]).softmax(2)
        each, given = losses.label_likelihood(maps, batch["labels"])
        overlap = losses.overlap_loss(maps, batch["labels"])
        return (each.sum(0) / given.sum(0).clamp_min(1) + self.settings["dice"] * overlap).sum()
