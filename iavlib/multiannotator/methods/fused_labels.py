"""One network that learns from one label map a picture: the annotators' labels, fused before.

``mean-labels`` learns from the share of annotators who chose each class, ``mode-labels`` from the
class most of them chose, ``staple`` and ``spatial-staple`` from the probabilities that these give
(:mod:`iavlib.multiannotator.fusion`), and ``every-label`` from each label as if it were the truth.
Where all annotators label all pictures, the last is the same as the first: the cross-entropy with
every label sums to that with their mean. Where they do not, a picture of many labels weighs more.

The two forms of STAPLE also say how annotators err: their matrices over the training part, times
the network's probabilities, are each annotator's map. The others do not tell annotators apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from iavlib.core.errors import MethodError, suggest
from iavlib.models.annotator_heads import FixedConfusion, apply_confusion
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import FUSIONS, fuse, fused_confusion
from iavlib.multiannotator.method import (
    UNET_SETTINGS,
    Method,
    Outputs,
    Problem,
    dice_loss,
    label_likelihood,
    overlap_loss,
    register,
    soft_cross_entropy,
)

EVERY = "every"
WITH_CONFUSION = ("staple", "spatial-staple")


class OneNetwork(nn.Module):
    """A U-Net with logits of the truth; matrices of annotators stand beside it."""

    def __init__(self, backbone: nn.Module, annotators: int, classes: int):
        super().__init__()
        self.backbone, self.confusion = backbone, FixedConfusion(annotators, classes)
        self.truth = nn.Conv2d(backbone.features, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, C, H, W)."""
        return self.truth(self.backbone(images))


@register("mean-labels", "Mean labels", fusion="mean")
@register("mode-labels", "Mode labels", fusion="mode")
@register("every-label", "Every label", fusion=EVERY)
@register("staple", "STAPLE", fusion="staple")
@register("spatial-staple", "Spatial STAPLE", fusion="spatial-staple")
class FusedLabels(Method):
    """The method of the module's description: settings of its U-Net, ``fusion`` and ``dice``.

    ``dice`` weighs a Dice loss beside the cross-entropy; AVAP's peers have both.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "fusion": "mode", "dice": 0.0}

    def check(self) -> None:
        """Raise :class:`MethodError` where there is no such fusion."""
        how = self.settings["fusion"]
        if how != EVERY and how not in FUSIONS:
            known = suggest(how, [*FUSIONS, EVERY])
            raise MethodError(f"method {self.name!r}: there is no fusion {how!r}; {known}")
        self._fused: tuple[str, np.ndarray] | None = None

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        return OneNetwork(self.backbone(problem), problem.n_annotators, problem.n_classes)

    def start(self, network: nn.Module, data: MultiAnnotatorSet) -> None:
        """Note how annotators err if the fused labels are right."""
        if self.settings["fusion"] in WITH_CONFUSION:
            network.confusion.set(fused_confusion(data, self._fuse(data)))

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return the fused labels; for ``every-label`` those that there are."""
        if self.settings["fusion"] == EVERY:
            return {"labels": data.labels}
        return {"target": self._fuse(data)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss, the mean over pictures, or over labels of ``every-label``."""
        logits, weight = network(batch["images"]), self.settings["dice"]
        found = logits.float().softmax(1)
        if self.settings["fusion"] != EVERY:
            loss = soft_cross_entropy(logits, batch["target"]).mean()
            return loss + weight * dice_loss(found, batch["target"]) if weight else loss
        maps = found[:, None].expand(-1, batch["labels"].shape[1], -1, -1, -1)
        unlikely, given = label_likelihood(maps, batch["labels"])
        loss = unlikely.sum() / given.sum()
        return loss + weight * overlap_loss(maps, batch["labels"]).mean() if weight else loss

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth and, after STAPLE, each annotator by her matrix."""
        consensus = network(images).softmax(1)
        if self.settings["fusion"] not in WITH_CONFUSION:
            return Outputs(consensus)
        confusion = network.confusion(images)
        return Outputs(consensus, apply_confusion(confusion, consensus), confusion=confusion)

    def known_confusion(self, network: nn.Module) -> np.ndarray | None:
        """Return STAPLE's matrices over the training part."""
        known = self.settings["fusion"] in WITH_CONFUSION
        return network.confusion.matrices.cpu().numpy() if known else None

    def _fuse(self, data: MultiAnnotatorSet) -> np.ndarray:
        """Fuse once for :meth:`start` and :meth:`targets`."""
        if self._fused is None or self._fused[0] != data.fingerprint:
            self._fused = (data.fingerprint, fuse(data, self.settings["fusion"]))
        return self._fused[1]
