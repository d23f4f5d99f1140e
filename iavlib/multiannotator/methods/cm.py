r"""CM: the truth and every annotator's confusion matrices, learnt together (Zhang et al. 2023).

One U-Net sees the image. One head gives the probabilities p(x) of the true class in each pixel,
another the confusion matrices A_r(x) of every annotator r, ``A[k, j]`` being the probability that
the annotator chooses k where the truth is j. The annotator's label is then distributed as
A_r(x) p(x), and the loss over the label maps of a batch is

.. math:: \frac{1}{n}\sum_{r} \left[ -\log (A_r p)_{y_r} + \lambda \operatorname{tr} A_r \right],

both terms averaged over pixels. The logarithm is taken of these probabilities as they are; the
released code applies a second softmax to them (``released_loss``), which bounds how certain the
network can become. The smallest trace that still explains the labels attributes as much of the
disagreement as possible to the annotators; it needs matrices that are diagonally dominant at
first, so that the trace is *maximised* in the first ``trace_warmup`` epochs (how many is not
published; the released code has none). Elements of the diagonal that are above
``trace_warmup_target`` are pushed no further: at 1, matrices become identities, from which the
rest of a short training does not return.

What the published description leaves open is settled so: terms are means over the label maps of a
batch, not sums over annotators, so that lambda means the same whoever is missing; ``cm-no-trace``
keeps the warm-up and has lambda 0 afterwards, without which nothing ties classes to their names;
the global form has the trace term too; the oracle is given each annotator's matrix over the
training subset.

``cm-two-stage`` trains a second network towards the truth that the labels imply. With the
prediction p(x) of the first stage, which is CM, and the labels y_r of a training image, that is

.. math:: q_j(x) \propto p_j(x) \prod_r A_r(x)_{y_r(x), j},

a product of experts: the network and each annotator. The second stage trains a new U-Net with
cross-entropy towards q, which predicts from the image alone. Section 2.5 of Zhang et al. (2023)
trains a network of the annotators by plain cross-entropy first, freezes it, and then forms a
product of experts; here the first stage is CM itself, with its trace term and its truth, and the
product is Bayes' rule under that model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.models import annotator_heads as heads
from iavlib.multiannotator import losses
from iavlib.multiannotator.confusion import true_confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import posterior_classes
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register
from iavlib.training.batches import normalise

FORMS = ("pixel", "low-rank", "global", "known")
CONFUSION, TRUTH = "confusion", "truth"
_BATCH = 32


class ConfusionNetwork(nn.Module):
    """A U-Net with two heads: logits of the truth, confusion matrices of annotators."""

    def __init__(self, backbone: nn.Module, classes: int, confusion: nn.Module):
        super().__init__()
        self.backbone, self.confusion = backbone, confusion
        self.truth = nn.Conv2d(backbone.features, classes, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits (B, C, H, W) and matrices (B, R, C, C, H, W) or (B, R, C, C, 1, 1)."""
        features = self.backbone(images)
        return self.truth(features), self.confusion(features)


@register("cm", "CM")
@register("cm-low-rank", "CM, low rank", form="low-rank")
@register("cm-global", "CM, global", form="global")
@register("cm-no-trace", "CM without trace", trace=0.0)
@register("cm-oracle", "CM, matrices known", form="known", trace=0.0, trace_warmup=0)
@register(
    "cm-released", "CM as released", released_loss=True, trace_warmup=0, head_blocks=4, trace=0.001
)
class ConfusionMatrices(Method):
    """The method of the module's description.

    Settings: those of the U-Net; ``form`` (``pixel``, ``low-rank``, ``global`` or ``known``);
    ``rank`` and ``residual`` of the low-rank form; ``head_blocks``, convolutions of each
    annotator's own; ``trace``, lambda; ``trace_warmup``, ``trace_warmup_weight`` and
    ``trace_warmup_target``, how many epochs, how strongly and up to which diagonal the trace is
    maximised first;
    ``released_loss``.
    """

    defaults: ClassVar[Mapping[str, Any]] = {
        **UNET_SETTINGS,
        "form": "pixel",
        "rank": 1,
        "residual": True,
        "head_blocks": 0,
        "trace": 0.01,
        "trace_warmup": 5,
        "trace_warmup_weight": 1.0,
        "trace_warmup_target": 0.8,
        "released_loss": False,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        self.require("form", FORMS)
        self.require_minimum(0, "trace", "trace_warmup", "trace_warmup_weight", "head_blocks")

    def build(self, problem: Problem) -> nn.Module:
        """Make the U-Net and both heads."""
        chosen, size = self.settings, (problem.n_annotators, problem.n_classes)
        backbone = self.backbone(problem)
        features, blocks = backbone.features, chosen["head_blocks"]
        if chosen["form"] == "pixel":
            confusion = heads.PixelConfusion(features, *size, blocks)
        elif chosen["form"] == "low-rank":
            options = {"rank": chosen["rank"], "residual": chosen["residual"]}
            confusion = heads.LowRankConfusion(features, *size, blocks=blocks, **options)
        else:
            kind = heads.GlobalConfusion if chosen["form"] == "global" else heads.FixedConfusion
            confusion = kind(*size)
        return ConfusionNetwork(backbone, problem.n_classes, confusion)

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Give an oracle the true matrices of the training subset."""
        if self.settings["form"] == "known":
            network.confusion.set(true_confusion(data).overall)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of the module's description."""
        logits, confusion = network(batch["images"])
        maps = heads.apply_confusion(confusion, logits.float().softmax(1))
        if self.settings["released_loss"]:
            maps = maps.softmax(2)
        each, given = losses.label_likelihood(maps, batch["labels"])
        warming = epoch < self.settings["trace_warmup"]
        weight = -self.settings["trace_warmup_weight"] if warming else self.settings["trace"]
        if not weight:
            return each.sum() / given.sum()
        limit = self.settings["trace_warmup_target"] if warming else 1.0
        trace = heads.mean_trace(confusion, limit)
        trace = torch.where(given, trace, torch.zeros_like(trace))
        return (each.sum() + weight * trace.sum()) / given.sum()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth, each annotator's distribution and the matrices."""
        logits, confusion = network(images)
        consensus = logits.softmax(1)
        return Outputs(consensus, heads.apply_confusion(confusion, consensus), confusion=confusion)


class TwoNetworks(nn.Module):
    """The network of the first stage and that of the second."""

    def __init__(self, first: nn.Module, backbone: nn.Module, problem: Problem):
        super().__init__()
        self.first, self.backbone = first, backbone
        self.truth = nn.Conv2d(backbone.features, problem.n_classes, 1)
        self.register_buffer("mean", torch.tensor(problem.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(problem.std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """Give logits of the truth (B, C, H, W), of the second stage."""
        return self.truth(self.backbone(images))


@register("cm-two-stage", "CM, two stages")
class ProductOfExperts(ConfusionMatrices):
    """CM, then a network for the truth that labels imply; settings as those of CM."""

    stages: ClassVar[tuple[str, ...]] = (CONFUSION, TRUTH)

    def build(self, problem: Problem) -> nn.Module:
        """Make both networks."""
        backbone = self.backbone(problem)
        return TwoNetworks(super().build(problem), backbone, problem)

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Give an oracle the true matrices."""
        super().start(network.first, data, recipe)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train one of the networks, and leave the other as it is."""
        network.requires_grad_(stage == TRUTH)
        network.first.requires_grad_(stage == CONFUSION)

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return label maps, then the truth they imply by the first stage."""
        if stage == CONFUSION:
            return {"labels": data.labels}
        return {"target": implied_truth(network, data)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of CM, then the cross-entropy towards the implied truth."""
        if stage == CONFUSION:
            return super().loss(network.first, batch, epoch, stage)
        return losses.soft_cross_entropy(network(batch["images"]), batch["target"]).mean()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth of the second stage, annotators by the matrices of the first."""
        consensus = network(images).softmax(1)
        _, confusion = network.first(images)
        return Outputs(consensus, heads.apply_confusion(confusion, consensus), confusion=confusion)


def implied_truth(network: TwoNetworks, data: MultiAnnotatorSet) -> np.ndarray:
    """Return q of the module's description: float32, shape (n, classes, height, width)."""
    truth: list[np.ndarray] = []
    mean, std = network.mean.flatten(), network.std.flatten()
    for first in range(0, len(data), _BATCH):
        pixels = torch.from_numpy(np.ascontiguousarray(data.images[first : first + _BATCH]))
        with torch.inference_mode():
            logits, confusion = network.first(normalise(pixels.to(mean.device), mean, std))
        prior = logits.softmax(1).float().cpu().numpy()
        matrices = confusion.float().cpu().numpy()
        truth += map(posterior_classes, prior, matrices, data.labels[first : first + _BATCH])
    return np.stack(truth).astype(np.float32)
