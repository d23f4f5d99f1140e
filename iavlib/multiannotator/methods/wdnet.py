r"""WDNet: one head per annotator, and learnt weights of their predictions (Guan et al. 2018).

First a U-Net with a last layer for each annotator learns each one's labels, as MH-UNet does. Then,
these frozen, logits a of the annotators are learnt, whose softmax w averages their predictions
p_r; every label is predicted from the heads of all *other* annotators,

.. math:: \frac{1}{n}\sum_{r} -\log \frac{\sum_{i \ne r} w_i\, p_i(y_r)}{\sum_{i \ne r} w_i},

so that a head that repeats its annotator's habits gains nothing by it, and an annotator whom
nobody confirms loses weight. The consensus is the average with all weights.

Built from the abstract, from summaries of the method (heads first, then frozen; averaging logits;
labels of the image as targets) and, of how targets and predictions are kept apart, from memory:
the paper's text could not be read. There the target is the mean of those who labelled the image,
predicted by those who did not; where everybody labels all images nobody would be left, hence one
is left out at a time. ``per_image`` makes the weights depend on the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from iavlib.multiannotator import losses
from iavlib.multiannotator.method import Outputs, Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.per_annotator import MultiHead, MultiHeadUNet
from iavlib.training.predict import evaluating

HEADS, WEIGHTS = "heads", "weights"
#: Averaging logits move so many times as fast as other parameters: they have far to go from 0.
SPEED = 10.0


class WeightedHeads(MultiHead):
    """A U-Net with logits of every annotator, and logits of their weights."""

    def __init__(self, backbone: nn.Module, annotators: int, classes: int, per_image: bool):
        super().__init__(backbone, annotators, classes)
        self.per_image, inputs = per_image, backbone.features if per_image else 1
        self.averaging = nn.Linear(inputs, annotators, bias=per_image)
        for one in self.averaging.parameters():
            nn.init.zeros_(one)

    def weighted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give each annotator's probabilities (B, R, C, H, W) and weights (B, R)."""
        features = self.backbone(images)
        maps = torch.stack([head(features) for head in self.heads], 1).softmax(2)
        pooled = features.mean((2, 3)) if self.per_image else features.new_ones(len(features), 1)
        return maps, (SPEED * self.averaging(pooled)).softmax(1)


def average_of_others(maps: Tensor, weights: Tensor) -> Tensor:
    """Average the maps of all annotators but one, for each one: (B, R, C, H, W).

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Of two annotators or more.
    weights : torch.Tensor, shape (B, R)
    """
    others = weights[:, None] * (1 - torch.eye(weights.shape[1], device=weights.device))
    others = others / others.sum(2, keepdim=True)
    return torch.einsum("bri,bichw->brchw", others, maps)


@register("wdnet", "WDNet")
class WeightedDoctorNet(MultiHeadUNet):
    """The method of the module's description.

    Settings: those of MH-UNet; ``per_image``, whether weights depend on the image.
    """

    stages: ClassVar[tuple[str, ...]] = (HEADS, WEIGHTS)
    defaults: ClassVar[Mapping[str, Any]] = {**MultiHeadUNet.defaults, "per_image": False}

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        if problem.n_annotators < 2:
            self.refuse("one annotator cannot be weighed against others: give two or more")
        given = (problem.n_annotators, problem.n_classes, self.settings["per_image"])
        return WeightedHeads(self.backbone(problem), *given)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train the weights alone, or all but these."""
        network.requires_grad_(stage == HEADS)
        network.averaging.requires_grad_(stage == WEIGHTS)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of MH-UNet, then that of the module's description."""
        if stage == HEADS:
            return super().loss(network, batch, epoch, stage)
        with evaluating(network):
            maps, weights = network.weighted(batch["images"])
        each, given = losses.label_likelihood(average_of_others(maps, weights), batch["labels"])
        return each.sum() / given.sum()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give each annotator's map, and their weighted mean."""
        maps, weights = network.weighted(images)
        return Outputs((weights[..., None, None, None] * maps).sum(1), maps)
