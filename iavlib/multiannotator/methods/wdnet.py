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
is left out at a time. The variant whose weights depend on the image is not built.
"""

from typing import ClassVar

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
    """A U-Net with logits of every annotator, and one logit of each one's weight."""

    def __init__(self, backbone: nn.Module, annotators: int, classes: int):
        super().__init__(backbone, annotators, classes)
        self.averaging = nn.Parameter(torch.zeros(annotators))

    @property
    def weights(self) -> Tensor:
        """Return the weights (R,), which sum to 1."""
        return (SPEED * self.averaging).softmax(0)


def average_of_others(maps: Tensor, weights: Tensor) -> Tensor:
    """Average the maps of all annotators but one, for each one: (B, R, C, H, W).

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Of two annotators or more.
    weights : torch.Tensor, shape (R,)
    """
    others = weights * (1 - torch.eye(len(weights), device=weights.device))
    return torch.einsum("ri,bichw->brchw", others / others.sum(1, keepdim=True), maps)


@register("wdnet", "WDNet")
class WeightedDoctorNet(MultiHeadUNet):
    """The method of the module's description; settings as those of MH-UNet."""

    stages: ClassVar[tuple[str, ...]] = (HEADS, WEIGHTS)

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        if problem.n_annotators < 2:
            self.refuse("one annotator cannot be weighed against others: give two or more")
        return WeightedHeads(self.backbone(problem), problem.n_annotators, problem.n_classes)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train the weights alone, or all but these."""
        network.requires_grad_(stage == HEADS)
        network.averaging.requires_grad_(stage == WEIGHTS)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of MH-UNet, then that of the module's description."""
        if stage == HEADS:
            return super().loss(network, batch, epoch, stage)
        with evaluating(network), torch.no_grad():
            maps = network(batch["images"]).float().softmax(2)
        return losses.mean_likelihood(average_of_others(maps, network.weights), batch["labels"])

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give each annotator's map, and their weighted mean."""
        maps = network(images).softmax(2)
        return Outputs(torch.einsum("r,brchw->bchw", network.weights, maps), maps)
