"""One network that learns from one label map per image: the annotators' labels, fused before.

``mean-labels`` learns from the share of annotators who chose each class, ``mode-labels`` from the
class most of them chose, ``staple`` and ``spatial-staple`` from the probabilities of these
(:mod:`iavlib.multiannotator.fusion`), and ``every-label`` from each label as if it were the truth.
Where all annotators label all images, the last equals the first: the cross-entropy with every
label sums to that with their mean. Where they do not, an image of many labels weighs more.

The two forms of STAPLE also estimate how annotators err: their matrices over the training subset,
times the network's probabilities, are each annotator's map. The others do not model annotators.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from iavlib.models.annotator_heads import FixedConfusion, apply_confusion
from iavlib.multiannotator import losses
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.fusion import FUSIONS, fuse, fused_confusion
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.cm import ConfusionNetwork

EVERY = "every"


@register("mean-labels", "Mean labels", fusion="mean")
@register("mode-labels", "Mode labels", fusion="mode")
@register("every-label", "Every label", fusion=EVERY)
@register("staple", "STAPLE", fusion="staple")
@register("spatial-staple", "Spatial STAPLE", fusion="spatial-staple")
class FusedLabels(Method):
    """The method of the module's description.

    Settings: those of the U-Net; ``fusion``; ``dice``, the weight of a Dice loss beside the
    cross-entropy, which the methods compared with AVAP have too.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "fusion": "mode", "dice": 0.0}

    def check(self) -> None:
        """Raise :class:`MethodError` where there is no such fusion."""
        self.require("fusion", [*FUSIONS, EVERY])
        self._with_confusion = "staple" in self.settings["fusion"]
        self._fused: tuple[str, np.ndarray] | None = None

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        confusion = FixedConfusion(problem.n_annotators, problem.n_classes)
        return ConfusionNetwork(self.backbone(problem), problem.n_classes, confusion)

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Store how annotators err if the fused labels are right."""
        if self._with_confusion:
            network.confusion.set(fused_confusion(data, self._fuse(data)))

    def targets(self, data: MultiAnnotatorSet, stage: str, network) -> dict[str, np.ndarray]:
        """Return the fused labels; of ``every-label`` all labels."""
        if self.settings["fusion"] == EVERY:
            return {"labels": data.labels}
        return {"target": self._fuse(data)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the loss, the mean over images, or over labels of ``every-label``."""
        (logits, _), weight = network(batch["images"]), self.settings["dice"]
        probabilities = logits.float().softmax(1)
        if self.settings["fusion"] != EVERY:
            target = batch["target"]
            loss = losses.soft_cross_entropy(logits, target).mean()
            return loss + weight * losses.dice_loss(probabilities, target) if weight else loss
        maps = probabilities[:, None].expand(-1, batch["labels"].shape[1], -1, -1, -1)
        each, given = losses.label_likelihood(maps, batch["labels"])
        loss = each.sum() / given.sum()
        return loss + weight * losses.overlap_loss(maps, batch["labels"]).mean() if weight else loss

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the truth and, after STAPLE, each annotator by the matrix."""
        logits, confusion = network(images)
        consensus = logits.softmax(1)
        if not self._with_confusion:
            return Outputs(consensus)
        return Outputs(consensus, apply_confusion(confusion, consensus), confusion=confusion)

    def _fuse(self, data: MultiAnnotatorSet) -> np.ndarray:
        """Fuse once for :meth:`start` and :meth:`targets`."""
        if self._fused is None or self._fused[0] != data.fingerprint:
            self._fused = (data.fingerprint, fuse(data, self.settings["fusion"]))
        return self._fused[1]
