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
has no trace term at all, neither warm-up nor lambda, so that nothing ties classes to their names;
the global form has the trace term too; the oracle is given each annotator's matrix over the
training subset.

``cm-two-stage`` follows section 2.5 of Zhang et al. (2023): a network of the annotators is trained
first, by plain cross-entropy between its map m_r(x) of each annotator and that annotator's label.
It is then frozen, and a second U-Net is trained with cross-entropy towards the product of experts

.. math:: q_j(x) \propto \prod_r m_r(x)_j,

an annotator who is certain outweighing several who are not.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.models import annotator_heads as heads
from iavlib.multiannotator import losses
from iavlib.multiannotator.confusion import true_confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.per_annotator import MultiHead, MultiHeadUNet
from iavlib.training.batches import normalise

FORMS = ("pixel", "low-rank", "global", "known")
ANNOTATORS, TRUTH = "annotators", "truth"
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
@register("cm-no-trace", "CM without trace", trace=0.0, trace_warmup=0)
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
    """The network of the annotators and that of the truth."""

    def __init__(self, first: MultiHead, backbone: nn.Module, problem: Problem):
        super().__init__()
        self.first, self.backbone = first, backbone
        self.truth = nn.Conv2d(backbone.features, problem.n_classes, 1)
        self.register_buffer("mean", torch.tensor(problem.mean))
        self.register_buffer("std", torch.tensor(problem.std))

    def forward(self, images: Tensor) -> Tensor:
        """Give logits of the truth (B, C, H, W), of the second stage."""
        return self.truth(self.backbone(images))


@register("cm-two-stage", "CM, two stages")
class ProductOfExperts(MultiHeadUNet):
    """A network of the annotators, then one of the truth that they imply."""

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "dice": 0.0}
    stages: ClassVar[tuple[str, ...]] = (ANNOTATORS, TRUTH)

    def build(self, problem: Problem) -> nn.Module:
        """Make both networks."""
        return TwoNetworks(super().build(problem), self.backbone(problem), problem)

    def begin(self, network: nn.Module, stage: str) -> None:
        """Train one of the networks, and leave the other as it is."""
        network.requires_grad_(stage == TRUTH)
        network.first.requires_grad_(stage == ANNOTATORS)

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return label maps, then the truth that the first network implies."""
        if stage == ANNOTATORS:
            return {"labels": data.labels}
        return {"target": implied_truth(network, data)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the cross-entropy with the labels, then with the implied truth."""
        if stage == ANNOTATORS:
            return super().loss(network.first, batch, epoch, stage)
        return losses.soft_cross_entropy(network(batch["images"]), batch["target"]).mean()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth of the second stage, annotators by the first."""
        return Outputs(network(images).softmax(1), network.first(images).softmax(2))


def implied_truth(network: TwoNetworks, data: MultiAnnotatorSet) -> np.ndarray:
    """Return q of the module's description: float32, shape (n, classes, height, width)."""
    truth: list[np.ndarray] = []
    for first in range(0, len(data), _BATCH):
        pixels = torch.from_numpy(np.ascontiguousarray(data.images[first : first + _BATCH]))
        with torch.inference_mode():
            images = normalise(pixels.to(network.mean.device), network.mean, network.std)
            logs = network.first(images).float().log_softmax(2).sum(1)
        truth.append(logs.softmax(1).cpu().numpy())
    return np.concatenate(truth)
