r"""CM in two stages: learnt annotators first, then a network for the truth that their labels imply.

The first stage is CM. It gives, for every training picture, what the network expects of the truth,
p(x), and how each annotator r errs, A_r(x). With the labels y_r that the picture has, the truth
is then

.. math:: q_j(x) \propto p_j(x) \prod_r A_r(x)_{y_r(x), j},

a product of experts: the network and each annotator. The second stage trains a new U-Net with
cross-entropy towards q, which predicts from the picture alone.

The facts at hand about section 2.5 of Zhang et al. (2023) name a two-stage product of experts and
no more; the formula above is Bayes' rule under the method's own model, and settled here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.models.confusion import apply_confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import posterior_classes
from iavlib.multiannotator.method import Outputs, Problem, register, soft_cross_entropy
from iavlib.multiannotator.methods.cm import ConfusionMatrices
from iavlib.training.batches import normalise

CONFUSION, TRUTH = "confusion", "truth"
_BATCH = 32


class TwoNetworks(nn.Module):
    """The network of the first stage and that of the second."""

    def __init__(self, first: nn.Module, backbone: nn.Module, classes: int, problem: Problem):
        super().__init__()
        self.first, self.backbone = first, backbone
        self.truth = nn.Conv2d(backbone.features, classes, 1)
        self.register_buffer("mean", torch.tensor(problem.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(problem.std)[:, None, None])


@register("cm-two-stage", "CM, two stages")
class ProductOfExperts(ConfusionMatrices):
    """The method of the module's description; settings as those of CM."""

    stages: ClassVar[tuple[str, ...]] = (CONFUSION, TRUTH)
    defaults: ClassVar[Mapping[str, Any]] = ConfusionMatrices.defaults

    def build(self, problem: Problem) -> nn.Module:
        """Make both networks."""
        backbone = self.backbone(problem)
        return TwoNetworks(super().build(problem), backbone, problem.n_classes, problem)

    def start(self, network: nn.Module, data: MultiAnnotatorSet) -> None:
        """Tell an oracle the true matrices."""
        super().start(network.first, data)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train one of the networks, and leave the other as it is."""
        network.requires_grad_(stage == TRUTH)
        network.first.requires_grad_(stage == CONFUSION)

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return label maps, then the truth they imply by what the first stage learnt."""
        if stage == CONFUSION:
            return {"labels": data.labels}
        return {"target": implied_truth(network, data)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of CM, then the cross-entropy towards the implied truth."""
        if stage == CONFUSION:
            return super().loss(network.first, batch, epoch, stage)
        logits = network.truth(network.backbone(batch["images"]))
        return soft_cross_entropy(logits, batch["target"]).mean()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth of the second stage, annotators by the matrices of the first."""
        consensus = network.truth(network.backbone(images)).softmax(1)
        _, confusion = network.first(images)
        return Outputs(consensus, apply_confusion(confusion, consensus), confusion=confusion)

    def known_confusion(self, network: nn.Module) -> np.ndarray | None:
        """Return those of the first stage."""
        return super().known_confusion(network.first)


def implied_truth(network: TwoNetworks, data: MultiAnnotatorSet) -> np.ndarray:
    """Return q of the module's description: float32, shape (n, classes, height, width)."""
    device, found = network.mean.device, []
    for first in range(0, len(data), _BATCH):
        pixels = torch.from_numpy(np.ascontiguousarray(data.images[first : first + _BATCH]))
        with torch.inference_mode():
            images = normalise(pixels.to(device), network.mean.flatten(), network.std.flatten())
            logits, confusion = network.first(images)
            prior = logits.softmax(1).float().cpu().numpy()
            matrices = confusion.float().cpu().numpy()
        some = data.labels[first : first + _BATCH]
        found += map(posterior_classes, prior, matrices, some)
    return np.stack(found).astype(np.float32)
