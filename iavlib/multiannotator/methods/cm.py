r"""CM: the truth and every annotator's confusion matrices, learnt together (Zhang et al. 2023).

One U-Net sees the picture. One head gives the probabilities p(x) of the true class in each pixel,
another the confusion matrices A_r(x) of every annotator r, ``A[k, j]`` being the chance that the
annotator says k where the truth is j. Her label is then distributed as A_r(x) p(x), and the loss
over the label maps that there are is

.. math:: \frac{1}{n}\sum_{r} \left[ -\log (A_r p)_{y_r} + \lambda \operatorname{tr} A_r \right],

both terms averaged over pixels. The logarithm is taken of these probabilities as they are; the
released code puts them through a second softmax (``released_loss``), which bounds how sure the
network can be made. The smallest trace that still explains the labels attributes as much of the
disagreement as possible to the annotators; it needs matrices that are diagonally dominant to
begin with, so that the trace is *maximised* in the first ``trace_warmup`` (how many is not
published; the released code has none). Elements of the diagonal that are above
``trace_warmup_target`` are pushed no further: at 1, matrices become identities from which the
second part of a short training does not come back.

What the published description leaves open is settled so: terms are means over the label maps of a
batch, not sums over annotators, so that lambda means the same whoever is missing; ``cm-no-trace``
keeps the warm-up and has lambda 0 afterwards, without which nothing ties classes to their names;
the global form has the trace term too; the oracle knows each annotator's matrix over the training
part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from iavlib.core.errors import MethodError, suggest
from iavlib.models.annotator_heads import (
    FixedConfusion,
    GlobalConfusion,
    LowRankConfusion,
    PixelConfusion,
    apply_confusion,
    mean_trace,
)
from iavlib.multiannotator.confusion import true_confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.method import (
    UNET_SETTINGS,
    Method,
    Outputs,
    Problem,
    label_likelihood,
    register,
)

FORMS = ("pixel", "low-rank", "global", "known")


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
    "cm-released",
    "CM as released",
    released_loss=True,
    trace_warmup=0,
    head_blocks=4,
    trace=0.001,
)
class ConfusionMatrices(Method):
    """The method of the module's description.

    Settings: those of the U-Net; ``form`` (``pixel``, ``low-rank``, ``global`` or ``known``);
    ``rank`` and ``residual`` of the low-rank form; ``head_blocks``, convolutions of each
    annotator's own; ``trace``, lambda; ``trace_warmup``, ``trace_warmup_weight`` and
    ``trace_warmup_target``, how many epochs, how strongly and up to which diagonal the trace is
    maximised first; ``start_diagonal``, where the diagonal starts (anywhere near 1 / classes
    unless given); ``released_loss``.
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
        "start_diagonal": None,
        "released_loss": False,
    }

    def check(self) -> None:
        """Raise :class:`MethodError` where settings make no sense."""
        form = self.settings["form"]
        if form not in FORMS:
            raise MethodError(f"method {self.name!r}: no form {form!r}; {suggest(form, FORMS)}")
        for key in ("trace", "trace_warmup", "trace_warmup_weight", "head_blocks"):
            if self.settings[key] < 0:
                raise MethodError(f"method {self.name!r}: {key} is {self.settings[key]}, below 0")

    def build(self, problem: Problem) -> nn.Module:
        """Make the U-Net and both heads."""
        chosen = self.settings
        backbone = self.backbone(problem)
        size = (problem.n_annotators, problem.n_classes)
        heads = {"blocks": chosen["head_blocks"]}
        if chosen["form"] == "pixel":
            diagonal = chosen["start_diagonal"]
            confusion = PixelConfusion(backbone.features, *size, **heads, diagonal=diagonal)
        elif chosen["form"] == "low-rank":
            rank, residual = chosen["rank"], chosen["residual"]
            confusion = LowRankConfusion(backbone.features, *size, rank, **heads, residual=residual)
        elif chosen["form"] == "global":
            confusion = GlobalConfusion(*size, diagonal=chosen["start_diagonal"])
        else:
            confusion = FixedConfusion(*size)
        return ConfusionNetwork(backbone, problem.n_classes, confusion)

    def start(self, network: nn.Module, data: MultiAnnotatorSet) -> None:
        """Tell an oracle the true matrices of the training part."""
        if self.settings["form"] == "known":
            network.confusion.set(true_confusion(data).overall)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss of the module's description."""
        logits, confusion = network(batch["images"])
        maps = apply_confusion(confusion, logits.float().softmax(1))
        if self.settings["released_loss"]:
            maps = maps.softmax(2)
        unlikely, given = label_likelihood(maps, batch["labels"])
        warming = epoch < self.settings["trace_warmup"]
        weight = -self.settings["trace_warmup_weight"] if warming else self.settings["trace"]
        if not weight:
            return unlikely.sum() / given.sum()
        trace = mean_trace(confusion, self.settings["trace_warmup_target"] if warming else 1.0)
        trace = torch.where(given, trace, torch.zeros_like(trace))
        return (unlikely.sum() + weight * trace.sum()) / given.sum()

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth, each annotator's distribution and the matrices."""
        logits, confusion = network(images)
        consensus = logits.softmax(1)
        return Outputs(consensus, apply_confusion(confusion, consensus), confusion=confusion)

    def known_confusion(self, network: nn.Module) -> np.ndarray | None:
        """Return the matrices of the forms that are the same for all pictures."""
        if self.settings["form"] not in ("global", "known"):
            return None
        with torch.no_grad():
            anything = next(network.parameters()).new_zeros(1)
            return network.confusion(anything)[0, ..., 0, 0].cpu().numpy()
